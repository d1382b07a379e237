"""An API's description read: OpenAPI 3.0, 3.1 and Swagger 2 as a catalogue of operations, one document for each.

What an operation needs to be called is kept with it; the document tells readers the rest.

What is not covered: callbacks, webhooks, links, response headers, `discriminator`, XML, and encodings of form fields.
"""

from __future__ import annotations

import json
import keyword
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urljoin

from tunesmith.catalogue import Catalogue, Entry, Parameter
from tunesmith.collecting.docstrings import split_summary
from tunesmith.collecting.formats.refusal import Refusal
from tunesmith.collecting.python_package import PackageRead
from tunesmith.collecting.references import Description, Node
from tunesmith.collecting.schemas import outline, properties_of, schema_json, told_of, type_name
from tunesmith.errors import SourceError
from tunesmith.operations import METHODS, Content, Credential, Operation, OperationParameter
from tunesmith.records import Document, Rejection, Source

_PLACES = ("path", "query", "header", "cookie")
_LONGEST_SLUG = 40
_LONGEST_EXAMPLE = 1200  # characters, in a document
_KEPT_EXAMPLE = 600
_MOST_RESPONSES = 8
_LABEL = re.compile(
    r"\s*[-–:~|(]*\s*\b(?:OpenAPI(?: [\d.]+)?|(?:API )?(?:Documentation|Docs|Reference|Specification|Spec))\)?$",
    re.IGNORECASE,
)
_WAY_OUT = "Needed is a description in OpenAPI 3.0, 3.1 or Swagger 2, as JSON or YAML."


def read_openapi(path: Path, source: Source, *, found_at: str = "") -> PackageRead:
    """Read the description of an API; `found_at` is the address that it was fetched from, if it was.

    An operation that cannot be read is a Rejection, and the others are read. Raises SourceError that names the
    description, and the place in it, where it has no operation that can.
    """
    description = Description(path.resolve())
    try:
        reader = _Reader(description, source, found_at)
        listed, unlisted = reader.read()
    except Refusal as refusal:
        raise SourceError(f"{source.address} cannot be read: {refusal.detail}.", hint=_WAY_OUT) from refusal
    if not listed:
        raise SourceError(_nothing(source.address, reader.rejections), hint=_WAY_OUT)
    return PackageRead(
        source=replace(source, version=reader.version),
        documents=tuple(item.document for item in listed),
        catalogue=Catalogue(
            package=reader.slug,
            version=reader.version,
            entries=tuple(item.entry for item in listed),
            unlisted=tuple(unlisted),
        ),
        left_out={"deprecated": len(unlisted)} if unlisted else {},
        rejections=tuple(reader.rejections),
    )


def _nothing(address: str, rejections: Sequence[Rejection]) -> str:
    told = "\n".join(f"  {each.item}: {each.detail}" for each in rejections[:5])
    return f"{address} has no operation that can be read{f':{chr(10)}{told}' if told else ''}."


def identifier(text: str) -> str:
    """Return a text as one name of Python: "List pets!" to "List_pets"."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    if not name or name[0].isdigit() or keyword.iskeyword(name):
        name = f"{name}_" if keyword.iskeyword(name) else f"n{name}"
    return name


def short_name(title: str) -> str:
    """Return what an API, or a server of tools, is called in ids: its title in small letters, cut between words."""
    words = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_") or "api"
    if len(words) > _LONGEST_SLUG:
        words = words[: _LONGEST_SLUG + 1].rpartition("_")[0] or words[:_LONGEST_SLUG]
    return identifier(words)


@dataclass(frozen=True, slots=True)
class _Listed:
    """An entry and the document it is described by."""

    entry: Entry
    document: Document


@dataclass(frozen=True, slots=True)
class _Given:
    """A parameter as the description has it: where its own words stand, and its schema's node."""

    parameter: OperationParameter
    node: Node
    schema: Node


@dataclass(frozen=True, slots=True)
class _Body:
    """A form of a request's body, and the node of its schema."""

    content: Content
    schema: Node


class _Reader:
    """Turns the paths of a description into entries and documents, keeping what cannot be read and why."""

    def __init__(self, description: Description, source: Source, found_at: str) -> None:
        self.description = description
        self.source = source
        self.found_at = found_at
        self.rejections: list[Rejection] = []
        self.root = _mapping(description.root, "the description")
        self.is_swagger = "swagger" in self.root.value
        told = str(self.root.value.get("swagger" if self.is_swagger else "openapi", ""))
        if not re.match(r"2\.0$" if self.is_swagger else r"3\.[01](\.|$)", told):
            wrong = (
                f"its version is {told!r}"
                if told
                else "it has neither `openapi` nor `swagger` with a version"
            )
            raise Refusal("version", wrong)
        info = self.root.value.get("info")
        info = info if isinstance(info, dict) else {}
        self.title = " ".join(str(info.get("title") or "API").split())
        self.version = re.sub(r"[\s,]+", "-", str(info.get("version") or "unknown").strip()) or "unknown"
        # As people say it: "Swagger Petstore - OpenAPI 3.0" is the Swagger Petstore.
        self.api = _LABEL.sub("", self.title) or self.title
        self.slug = short_name(self.api)

    def read(self) -> tuple[list[_Listed], list[Entry]]:
        """Return the operations with their documents, and the deprecated ones, in the description's order."""
        listed: list[_Listed] = []
        unlisted: list[Entry] = []
        taken: Counter[str] = Counter()
        paths = self.root.value.get("paths")
        if not isinstance(paths, dict):
            raise Refusal("paths", "it has no `paths`")
        for path, value in paths.items():
            if not str(path).startswith("/"):
                continue
            for method, item, operation in self._operations(str(path), self.root.child(value)):
                name = f"{method.upper()} {path}"
                entry_id = self._id(method, str(path), operation, taken)
                try:
                    one = self._listed(entry_id, method, str(path), item, operation)
                except (Refusal, RecursionError) as problem:
                    rule = problem.rule if isinstance(problem, Refusal) else "depth"
                    self.rejections.append(
                        Rejection("collect", rule, f"{self.source.address} {name}", str(problem))
                    )
                    continue
                if operation.value.get("deprecated") is True:
                    unlisted.append(one.entry)
                else:
                    listed.append(one)
        return _with_neighbours(listed), unlisted

    def _operations(self, path: str, node: Node) -> Iterator[tuple[str, Node, Node]]:
        """Yield method, path item and operation of each method of a path."""
        try:
            item = _mapping(self.description.resolve(node), path)
        except Refusal as refusal:
            self.rejections.append(
                Rejection("collect", refusal.rule, f"{self.source.address} {path}", refusal.detail)
            )
            return
        for method in METHODS:
            if method in item.value:
                operation = item.child(item.value[method])
                if isinstance(operation.value, dict):
                    yield method, item, operation
                else:
                    detail = "an operation is no mapping"
                    where = f"{self.source.address} {method.upper()} {path}"
                    self.rejections.append(Rejection("collect", "operation", where, detail))

    def _id(self, method: str, path: str, operation: Node, taken: Counter[str]) -> str:
        """Return `API.operationId`, its slashes and dots as further dots; of equals the later are numbered."""
        named = operation.value.get("operationId")
        if isinstance(named, str) and re.search(r"\w", named, re.ASCII):
            name = ".".join(
                identifier(part) for part in re.split(r"[./]+", named) if re.search(r"\w", part, re.ASCII)
            )
        else:
            name = identifier(f"{method}_{path.strip('/')}")
        taken[name] += 1
        return f"{self.slug}.{name}" if taken[name] == 1 else f"{self.slug}.{name}_{taken[name]}"

    def _listed(self, entry_id: str, method: str, path: str, item: Node, operation: Node) -> _Listed:
        given = self._parameters(path, item, operation)
        bodies, body_required = self._bodies(item, operation)
        made = Operation(
            api=self.api,
            method=method,
            path=path,
            servers=self._servers(item, operation),
            parameters=tuple(one.parameter for one in given),
            contents=tuple(one.content for one in bodies),
            body_required=body_required,
            security=self._security(operation),
        )
        summary, rest = _words(operation)
        document = Document(
            id=f"{self.source.address}#{entry_id}",
            source=self.source.address,
            title=entry_id,
            text=self._text(entry_id, made, operation, given, bodies),
            kind="api",
            entry=entry_id,
        )
        entry = Entry(
            id=entry_id,
            kind="operation",
            parameters=tuple(self._shown(given, bodies)),
            summary=summary,
            description=rest,
            document=document.id,
            operation=made,
        )
        return _Listed(entry, document)

    # --- what a request is made of

    def _parameters(self, path: str, item: Node, operation: Node) -> list[_Given]:
        """Return the parameters of path and operation, the operation's own in place of the path's."""
        found: dict[tuple[str, str], _Given] = {}
        for holder in (item, operation):
            for value in _list(holder.value.get("parameters")):
                node = _mapping(self.description.resolve(holder.child(value)), f"a parameter of {path}")
                place, name = node.value.get("in"), node.value.get("name")
                if place in _PLACES and isinstance(name, str):
                    found[place, name] = self._parameter(node)
        for name in re.findall(r"\{([^{}]+)\}", path):
            if ("path", name) not in found:
                # Described by the path alone.
                node = operation.child(
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                )
                found["path", name] = self._parameter(node)
        return list(found.values())

    def _parameter(self, node: Node) -> _Given:
        value = node.value
        schema = node.child(value)
        if not self.is_swagger:
            contents = value.get("content")
            first = next(iter(contents.values()), None) if isinstance(contents, dict) else None
            # What is told as a content is written as text.
            fallback = {"type": "string"} if isinstance(first, dict) else {}
            schema = node.child(value.get("schema", fallback))
        else:
            # Swagger's own words beside those of its schema.
            kept = {
                name: one for name, one in value.items() if name not in ("required", "in", "name", "$ref")
            }
            schema = node.child(kept)
        resolved = self.description.resolve(schema)
        is_object = isinstance(resolved.value, dict) and (
            resolved.value.get("type") == "object" or "properties" in resolved.value
        )
        place = value["in"]
        parameter = OperationParameter(
            name=value["name"],
            place=place,
            required=value.get("required") is True or place == "path",
            schema=schema_json(self.description, schema),
            example=self._example(node),
            spreads=is_object
            and place == "query"
            and value.get("style", "form") == "form"
            and value.get("explode", True),
        )
        return _Given(parameter, node, schema)

    def _example(self, node: Node) -> str:
        """Return the first example beside a schema as JSON, "" for none or for a long one."""
        value = node.value
        examples = value.get("examples")
        if "example" in value:
            found = value["example"]
        elif isinstance(examples, dict) and examples:
            first = self.description.resolve(node.child(next(iter(examples.values())))).value
            if not isinstance(first, dict) or "value" not in first:
                return ""
            found = first["value"]
        else:
            return ""
        text = json.dumps(found, ensure_ascii=False)
        return text if len(text) <= _KEPT_EXAMPLE else ""

    def _bodies(self, item: Node, operation: Node) -> tuple[list[_Body], bool]:
        if self.is_swagger:
            return self._swagger_bodies(item, operation)
        value = operation.value.get("requestBody")
        if value is None:
            return [], False
        body = _mapping(self.description.resolve(operation.child(value)), "a request body")
        contents = body.value.get("content")
        found = [
            self._body(str(media), body.child(one))
            for media, one in (contents.items() if isinstance(contents, dict) else ())
            if isinstance(one, dict)
        ]
        return found, body.value.get("required") is True and bool(found)

    def _body(self, media: str, node: Node) -> _Body:
        schema = node.child(node.value.get("schema", {}))
        plain = media.partition(";")[0].strip().lower()
        return _Body(Content(plain, schema_json(self.description, schema), self._example(node)), schema)

    def _swagger_bodies(self, item: Node, operation: Node) -> tuple[list[_Body], bool]:
        """Return Swagger 2's body parameter, or its form's fields as one schema, in each type that it consumes."""
        consumed = operation.value.get("consumes", self.root.value.get("consumes"))
        media = [str(one).partition(";")[0].strip().lower() for one in _list(consumed)]
        fields: dict[str, Any] = {}
        required: list[str] = []
        holders = [
            _mapping(self.description.resolve(holder.child(one)), "a parameter")
            for holder in (item, operation)
            for one in _list(holder.value.get("parameters"))
        ]
        for node in holders:
            if node.value.get("in") == "body":
                schema = node.child(node.value.get("schema", {}))
                text = schema_json(self.description, schema)
                bodies = [_Body(Content(one, text), schema) for one in media or ["application/json"]]
                return bodies, node.value.get("required") is True
            if node.value.get("in") == "formData" and isinstance(node.value.get("name"), str):
                name = node.value["name"]
                fields[name] = {
                    key: one for key, one in node.value.items() if key not in ("required", "in", "name")
                }
                required += [name] if node.value.get("required") is True else []
        if not fields:
            return [], False
        has_file = any(one.get("type") == "file" for one in fields.values())
        form = "multipart/form-data" if has_file else "application/x-www-form-urlencoded"
        form = next((one for one in media if Content(one).kind == "form"), form)
        schema = operation.child({"type": "object", "properties": fields, "required": required})
        return [_Body(Content(form, schema_json(self.description, schema)), schema)], bool(required)

    def _servers(self, item: Node, operation: Node) -> tuple[str, ...]:
        if self.is_swagger:
            base = str(self.root.value.get("basePath") or "").rstrip("/")
            host = self.root.value.get("host")
            schemes = _list(self.root.value.get("schemes")) or ["https"]
            wanted = "https" if "https" in schemes else str(schemes[0])
            return (self._absolute(f"{wanted}://{host}{base}" if host else base),)
        for holder in (operation, item, self.root):
            found = [one for one in _list(holder.value.get("servers")) if isinstance(one, dict)]
            if found:
                return tuple(dict.fromkeys(self._absolute(_with_defaults(one)) for one in found))
        return (self._absolute(""),)

    def _absolute(self, server: str) -> str:
        """Return a server's address in full if it can be known, else its path."""
        # A host that is a variable without a value is one that is not told.
        server = re.sub(r"^\{[^{}]*\}(?=/|$)", "", server.strip())
        if server.startswith("//"):
            server = f"https:{server}"
        if self.found_at:
            server = urljoin(self.found_at, server or "/")
        elif server and "://" not in server:
            server = "/" + server.lstrip("./")
        return server.rstrip("/")

    def _security(self, operation: Node) -> tuple[tuple[Credential, ...], ...]:
        ways = operation.value.get("security", self.root.value.get("security"))
        components = self.root.value.get("components")
        schemes = self.root.value.get("securityDefinitions") if self.is_swagger else None
        if not self.is_swagger and isinstance(components, dict):
            schemes = components.get("securitySchemes")
        known = schemes if isinstance(schemes, dict) else {}
        found: list[tuple[Credential, ...]] = []
        for way in _list(ways):
            if isinstance(way, dict):
                credentials = (self._credential(known.get(name)) for name in way)
                found.append(tuple(one for one in credentials if one is not None))
        return tuple(dict.fromkeys(found))

    def _credential(self, value: Any) -> Credential | None:
        """Return what a security scheme asks for, None for what no request shows (a client's certificate)."""
        scheme = self.description.resolve(self.root.child(value)).value
        if not isinstance(scheme, dict):
            return None
        kind, name = scheme.get("type"), str(scheme.get("name", ""))
        if kind == "apiKey" and scheme.get("in") in ("header", "query", "cookie"):
            return Credential(scheme["in"], name)
        if kind == "basic" or (kind == "http" and str(scheme.get("scheme")).lower() == "basic"):
            return Credential("basic")
        if kind in ("oauth2", "openIdConnect") or (
            kind == "http" and str(scheme.get("scheme")).lower() == "bearer"
        ):
            return Credential("bearer")
        return Credential("header", "Authorization") if kind == "http" else None

    # --- what readers see

    def _shown(self, given: Sequence[_Given], bodies: Sequence[_Body]) -> Iterator[Parameter]:
        """Yield the parameters, then the properties of the body; a name that stands at two places once."""
        seen: set[str] = set()
        for one in given:
            parameter = one.parameter
            if parameter.name not in seen:
                seen.add(parameter.name)
                told = one.node.value.get("description")
                yield self._shown_one(parameter.name, one.schema, parameter.required, told)
        for body in bodies[:1]:
            for name, node, required in properties_of(self.description, body.schema):
                if name not in seen:
                    seen.add(name)
                    yield self._shown_one(name, node, required, None)

    def _shown_one(self, name: str, node: Node, required: bool, told: Any) -> Parameter:
        schema = self.description.resolve(node).value
        if not isinstance(told, str):
            told = schema.get("description") if isinstance(schema, dict) else None
        return Parameter(
            name=name,
            default=None if required else "None",
            annotation=type_name(self.description, node),
            description=first_paragraph(told),
        )

    def _text(
        self,
        entry_id: str,
        made: Operation,
        operation: Node,
        given: Sequence[_Given],
        bodies: Sequence[_Body],
    ) -> str:
        """Return the document of an operation as Markdown."""
        summary, rest = _words(operation)
        parts = [f"# {entry_id}", summary, rest]
        parts.append(f"`{made.method.upper()} {made.servers[0] if made.servers else ''}{made.path}`")
        if given:
            parts += ["## Parameters", self._table(given)]
        for body in bodies[:1]:
            needed = ", required" if made.body_required else ""
            shown = outline(self.description, body.schema) or type_name(self.description, body.schema)
            parts += ["## Body", f"{body.content.media}{needed}", shown]
            if body.content.example:
                parts += ["Example:", f"```json\n{_pretty(body.content.example)}\n```"]
        parts += self._responses(operation)
        if made.security:
            parts += ["## Authentication", _ways(made.security)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _table(self, given: Sequence[_Given]) -> str:
        rows = ["| name | in | type | required | description |", "|---|---|---|---|---|"]
        for one in given:
            told = one.node.value.get("description")
            words = told if isinstance(told, str) else told_of(self.description, one.schema)
            needed = "yes" if one.parameter.required else "no"
            kind = type_name(self.description, one.schema)
            cells = (f"`{one.parameter.name}`", one.parameter.place, kind, needed, words)
            rows.append(f"| {' | '.join(map(_cell, cells))} |")
        return "\n".join(rows)

    def _responses(self, operation: Node) -> Iterator[str]:
        """Yield the responses; what cannot be read of one is left out, since no request hangs on it."""
        responses = operation.value.get("responses")
        if not isinstance(responses, dict) or not responses:
            return
        yield "## Responses"
        for status, value in list(responses.items())[:_MOST_RESPONSES]:
            try:
                yield self._response(str(status), self.description.resolve(operation.child(value)))
            except Refusal:
                yield f"**{status}**"

    def _response(self, status: str, node: Node) -> str:
        response = _mapping(node, f"the response {status}")
        told = response.value.get("description")
        lines = [f"**{status}**: {' '.join(str(told).split())}" if told else f"**{status}**"]
        # What is told of errors is much the same at every operation.
        schema, example = self._answered(response) if status[:1] in ("2", "d") else (None, None)
        if schema is not None:
            lines.append(outline(self.description, schema) or type_name(self.description, schema))
        if (
            example is not None
            and len(text := json.dumps(example, ensure_ascii=False, indent=2)) <= _LONGEST_EXAMPLE
        ):
            lines.append(f"```json\n{text}\n```")
        return "\n\n".join(lines)

    def _answered(self, response: Node) -> tuple[Node | None, Any]:
        if self.is_swagger:
            schema, examples = response.value.get("schema"), response.value.get("examples")
            example = next(iter(examples.values()), None) if isinstance(examples, dict) else None
            return (None if schema is None else response.child(schema)), example
        contents = response.value.get("content")
        first = next(iter(contents.values()), None) if isinstance(contents, dict) else None
        if not isinstance(first, dict):
            return None, None
        text = self._example(response.child(first))
        schema = first.get("schema")
        return (None if schema is None else response.child(schema)), json.loads(text) if text else None


def first_paragraph(told: Any) -> str:
    """Return the first paragraph of a text in one line, "" for what is no text; a heading above it is one."""
    if not isinstance(told, str):
        return ""
    return " ".join(re.split(r"\n\s*\n|(?<![.,;:])\n(?=[A-Z])", told.strip())[0].split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(node: Node, what: str) -> Node:
    if not isinstance(node.value, dict):
        raise Refusal("form", f"{what} is no mapping")
    return node


def _with_defaults(server: Mapping[str, Any]) -> str:
    """Return a server's address with the first values of its variables."""
    variables = server.get("variables")
    known = variables if isinstance(variables, dict) else {}

    def default(found: re.Match[str]) -> str:
        value = known.get(found[1])
        return str(value["default"]) if isinstance(value, dict) and "default" in value else found[0]

    return re.sub(r"\{([^{}]+)\}", default, str(server.get("url") or ""))


def _words(operation: Node) -> tuple[str, str]:
    """Return an operation's summary as one sentence, and what more its description says."""
    summary, description = (operation.value.get(name) for name in ("summary", "description"))
    summary = " ".join(summary.split()) if isinstance(summary, str) else ""
    description = re.sub(r"<[^<>]{1,200}>", " ", description).strip() if isinstance(description, str) else ""
    if summary:
        first, _ = split_summary(summary)
        return first or summary, description
    return split_summary(description)


def _with_neighbours(listed: Sequence[_Listed]) -> list[_Listed]:
    """Let the methods of one path name each other."""
    by_path: dict[str, list[str]] = {}
    for item in listed:
        by_path.setdefault(cast("Operation", item.entry.operation).path, []).append(item.entry.id)
    made = []
    for item in listed:
        others = by_path[cast("Operation", item.entry.operation).path]
        see_also = tuple(one for one in others if one != item.entry.id)
        made.append(_Listed(replace(item.entry, see_also=see_also), item.document))
    return made


def _pretty(text: str) -> str:
    return json.dumps(json.loads(text), ensure_ascii=False, indent=2)


def _ways(security: Sequence[Sequence[Credential]]) -> str:
    names = {"bearer": "a bearer token", "basic": "name and password"}
    ways = (
        " and ".join(names.get(one.kind, f"a key, `{one.name}` in the {one.kind}") for one in way) or "none"
        for way in security
    )
    return "; or ".join(ways)
