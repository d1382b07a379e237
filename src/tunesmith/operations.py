"""Operations of HTTP APIs and tools: find requests in Python and curl, match them to an operation, bind them.

Nothing is sent. What code says is worked out as far as its literals go: strings joined and formatted, names that
hold them, dicts and lists. Everything else is a hole, which fits wherever a value may stand.

What is not covered: the flow of values through functions and objects other than clients, other HTTP libraries than
httpx, requests and aiohttp, how lists and objects are written into a query, and what a server would answer.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urljoin

# Stands for what is not known: a variable's value, or that piece of a string.
HOLE = "\x00"

Place = Literal["path", "query", "header", "cookie"]
CredentialKind = Literal["bearer", "basic", "header", "query", "cookie"]
BodyKind = Literal["none", "json", "form", "raw"]

METHODS = ("get", "post", "put", "patch", "delete", "head", "options", "trace")
# Set by the client, by the body or by the credentials: a declared parameter of such a name is none to give.
_SET_BY_ITSELF = frozenset(
    ("accept", "content-type", "authorization", "content-length", "host", "user-agent")
)


@dataclass(frozen=True, slots=True)
class OperationParameter:
    """A parameter outside the body; `schema` and `example` are JSON, `example` "" where there is none.

    `spreads` says that its value is an object whose keys become parameters of their own.
    """

    name: str
    place: Place
    required: bool = False
    schema: str = "{}"
    example: str = ""
    spreads: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """A form that a body may have: its media type, its JSON Schema, and an example as JSON ("" for none)."""

    media: str
    schema: str = "{}"
    example: str = ""

    @property
    def kind(self) -> BodyKind:
        """How a client is given such a body."""
        if re.search(r"[/+]json\b|^\*/\*$", self.media):
            return "json"
        return "form" if self.media in ("application/x-www-form-urlencoded", "multipart/form-data") else "raw"


@dataclass(frozen=True, slots=True)
class Credential:
    """What proves who asks: a bearer token, name and password, or a key of this name at this place."""

    kind: CredentialKind
    name: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path of an API.

    `api` is the API's name as people say it. `servers` are absolute addresses, or paths where the host is not known;
    both they and `path` may hold `{names}`. `security` are alternatives: one of them must be met, and of each all
    credentials; an empty one asks for nothing.
    """

    api: str
    method: str
    path: str
    servers: tuple[str, ...] = ()
    parameters: tuple[OperationParameter, ...] = ()
    contents: tuple[Content, ...] = ()
    body_required: bool = False
    security: tuple[tuple[Credential, ...], ...] = ()

    def content(self, kind: BodyKind) -> Content | None:
        """Return the first form of the body of this kind."""
        return next((content for content in self.contents if content.kind == kind), None)


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool under the name that it is called by; `schema` is the JSON Schema of its arguments, as JSON."""

    server: str
    name: str
    schema: str = "{}"


@dataclass(frozen=True, slots=True)
class Request:
    """What code would send, as far as it can be read; `open` names the parts that may hold more than is seen.

    `url` is without its query. `body` is JSON for a JSON body or a form, text for a raw one. `authorised` says
    that a client was given `auth`: "basic" for a name and a password, "any" for something else. `defect` says why
    its client would raise instead of sending it.
    """

    method: str
    url: str
    query: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    cookies: tuple[str, ...] = ()
    body_kind: BodyKind = "none"
    body: str = ""
    authorised: Literal["", "basic", "any"] = ""
    open: frozenset[str] = frozenset()
    defect: str | None = None

    @property
    def shown(self) -> str:
        """The request as people write it, holes as `{}`."""
        return f"{self.method.upper()} {self.url}".replace(HOLE, "{}")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool's name and the arguments as JSON."""

    name: str
    arguments: str


# --- from a request to an operation


class Routes:
    """Operations by method and path; the literal piece of a path is preferred to the parameter."""

    def __init__(self, operations: Iterable[tuple[str, Operation]]) -> None:
        self._routes = [
            _Route(entry_id, operation, server)
            for entry_id, operation in operations
            for server in operation.servers or ("",)
        ]
        self._by_method: dict[str, list[_Route]] = {}
        for route in self._routes:
            self._by_method.setdefault(route.operation.method, []).append(route)
        self._hosts = [re.compile(host, re.IGNORECASE) for host in {route.host for route in self._routes}]

    def find(self, request: Request) -> tuple[str, ...] | None:
        """Return the ids of the operations that a request may mean, the best matches; None if it asks another server.

        None of them: the server is the API's, or may be, and has no such operation.
        """
        host, path = _split_host(request.url)
        if not self._serves(host) or not request.url.strip(HOLE):
            return None
        return _best(self._by_method.get(request.method, []), host, path)

    def nearest(self, request: Request, count: int = 3) -> tuple[str, ...]:
        """Return the operations of the same path, then those whose method and path are spelled most alike."""
        host, path = _split_host(request.url)
        wanted = f"{request.method.upper()} {path}"
        names = {f"{one.operation.method.upper()} {one.operation.path}": one.id for one in self._routes}
        alike = [names[name] for name in difflib.get_close_matches(wanted, names, n=count)]
        return tuple(dict.fromkeys((*_best(self._routes, host, path), *alike)))[:count]

    def _serves(self, host: str | None) -> bool:
        return bool(self._hosts) and (host is None or any(one.fullmatch(host) for one in self._hosts))


def _best(routes: Sequence[_Route], host: str | None, path: str) -> tuple[str, ...]:
    """Return the ids of the routes that match best; a last parameter holds slashes only where nothing else matches."""
    for tail in ("[^/]+", ".+"):
        found = [(rank, route.id) for route in routes if (rank := route.match(host, path, tail)) is not None]
        if found:
            best = min(rank for rank, _ in found)
            return tuple(dict.fromkeys(entry_id for rank, entry_id in found if rank == best))
    return ()


# A last parameter whose values have slashes: others would let /users/{name} take in whatever begins with /users/.
_HOLDS_SLASHES = re.compile(
    r"\{(?:\+\w+|\w*path|(?:\w*[_-])?(?:ref|uri|url|key|prefix|proxy|basehead)|\w+[+*])\}$", re.I
)


class _Route:
    """One operation at one server."""

    def __init__(self, entry_id: str, operation: Operation, server: str) -> None:
        self.id, self.operation = entry_id, operation
        host, base = _split_host(server)
        # No host is known of the API: any may be its.
        self.host = _pattern(host) if host else ".*"
        self._host = re.compile(self.host, re.IGNORECASE)
        path = re.split(r"[?#]", operation.path)[0]
        self._base = _pattern(base.rstrip("/"))
        self._path = _pattern(path.rstrip("/"))
        self._rank = tuple("{" in piece for piece in path.strip("/").split("/"))
        self._ends_open = _HOLDS_SLASHES.search(path.rstrip("/")) is not None

    def match(self, host: str | None, path: str, tail: str) -> tuple[bool, ...] | None:
        """Return how good a match is, smaller for more literal pieces, None for none."""
        if tail != "[^/]+" and not self._ends_open:
            return None
        if host is not None and not self._host.fullmatch(host):
            return None
        pattern = self._path if tail == "[^/]+" else self._path.removesuffix("[^/]+") + tail
        # Behind a host that is not known, the server's own path may be part of what is not seen.
        base = f"(?:{self._base})?" if host is None else self._base
        return self._rank if _compiled(base + pattern).fullmatch(path.rstrip("/")) else None


@lru_cache(maxsize=2**15)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _pattern(template: str) -> str:
    pieces = re.split(r"\{[^{}]*\}", template)
    return "[^/]+".join(re.escape(piece) for piece in pieces)


def _split_host(url: str) -> tuple[str | None, str]:
    """Return an address's host, None if it is not known, and its path."""
    found = re.match(r"[A-Za-z][\w+.-]*://([^/]*)(.*)", url, re.DOTALL)
    if found:
        # A host with a hole in it can be any.
        return (None if HOLE in found[1] else found[1].rpartition("@")[2], found[2])
    if url.startswith(HOLE):
        return None, url[url.find("/") :] if "/" in url else ""
    return None, url


# --- binding


def bind_request(operation: Operation, request: Request) -> str | None:
    """Return why a request that matches the operation's path is not one of it, None if it is.

    Required parameters, the body and one of the alternative credentials must be there; a query parameter must be
    known; a body's literals must be valid, whatever its holes hold.
    """
    placeholder = re.search(r"\{[^}]*\}?", request.url)
    if placeholder:
        return f"the address still holds {placeholder[0]}"
    if request.defect is not None:
        return request.defect
    reasons = (_missing(operation, request), _unknown_query(operation, request), _body(operation, request))
    return next(filter(None, reasons), None) or _credentials(operation, request)


def _missing(operation: Operation, request: Request) -> str | None:
    headers = {name for name, _ in request.headers}
    for parameter in operation.parameters:
        if not parameter.required or parameter.place == "path" or parameter.spreads:
            continue
        name = parameter.name
        if parameter.place == "query" and "query" not in request.open:
            if not any(given == name or given.startswith(f"{name}[") for given in request.query):
                return f"the query parameter {name!r} is missing"
        elif parameter.place == "header" and "headers" not in request.open:
            if name.lower() not in headers | _SET_BY_ITSELF:
                return f"the header {name!r} is missing"
        elif parameter.place == "cookie" and not _has_cookie(name, request):
            return f"the cookie {name!r} is missing"
    return None


def _has_cookie(name: str, request: Request) -> bool:
    if request.open & {"cookies", "headers"} or name in request.cookies:
        return True
    sent = dict(request.headers).get("cookie", "")
    return HOLE in sent or re.search(rf"(?:^|;\s*){re.escape(name)}=", sent) is not None


def _unknown_query(operation: Operation, request: Request) -> str | None:
    known = {one.name for one in operation.parameters if one.place == "query"}
    known |= {one.name for way in operation.security for one in way if one.kind == "query"}
    fixed = operation.path.partition("?")[2].partition("#")[0]
    known |= {name for name, _ in parse_qsl(fixed, keep_blank_values=True)}
    if any(one.spreads for one in operation.parameters if one.place == "query"):
        return None
    for name in request.query:
        plain = name.partition("[")[0]
        if HOLE not in name and not {name, plain, f"{plain}[]"} & known:
            near = difflib.get_close_matches(name, known, n=1)
            return f"there is no query parameter {name!r}" + (f"; nearest: {near[0]!r}" if near else "")
    return None


def _body(operation: Operation, request: Request) -> str | None:
    if "body" in request.open:
        return None
    if request.body_kind == "none":
        return "the body is missing" if operation.body_required else None
    if not operation.contents:
        # Clients send an empty body without harm.
        return None if request.body in ("{}", "null", "") else "it takes no body"
    content = operation.content(request.body_kind)
    if content is not None and request.body_kind != "raw":
        check = _json_defect if request.body_kind == "json" else _form_defect
        return check(content, request)
    if request.body_kind == "raw" or operation.content("raw") is not None:
        return _raw_defect(operation, request)
    wanted = operation.contents[0].media
    return f"the body must be {wanted}, not {'JSON' if request.body_kind == 'json' else 'a form'}"


def _json_defect(content: Content, request: Request) -> str | None:
    defect = surely_invalid(content.schema, json.loads(request.body))
    return None if defect is None else f"the body does not fit: {defect}"


def _form_defect(content: Content, request: Request) -> str | None:
    """Check the names of a form; its values are texts and files, whatever the schema says."""
    given = json.loads(request.body)
    schema = json.loads(content.schema)
    if not isinstance(given, dict) or not isinstance(schema, dict):
        return None
    missing = [name for name in schema.get("required", ()) if name not in given]
    return f"the form's {missing[0]!r} is missing" if missing else None


def _raw_defect(operation: Operation, request: Request) -> str | None:
    """Check the text of a body: JSON in it as JSON, anything else not at all."""
    content = operation.content("json")
    if content is None or HOLE in request.body:
        return None
    try:
        value = json.loads(request.body)
    except json.JSONDecodeError:
        return None if operation.content("raw") else "the body is no JSON"
    return _json_defect(content, replace(request, body=json.dumps(value)))


def _credentials(operation: Operation, request: Request) -> str | None:
    if not operation.security:
        return None
    lacking = [[one for one in way if not _has_credential(one, request)] for way in operation.security]
    if not all(lacking):
        return None
    return f"the credentials are missing: {_named(lacking[0][0])}"


def _has_credential(credential: Credential, request: Request) -> bool:
    if request.authorised == "any":
        return True
    if credential.kind == "query":
        return "query" in request.open or credential.name in request.query
    if credential.kind == "cookie":
        return _has_cookie(credential.name, request)
    headers = dict(request.headers)
    if "headers" in request.open or credential.kind == "header":
        return "headers" in request.open or credential.name.lower() in headers
    if credential.kind == "basic" and request.authorised == "basic":
        return True
    sent = headers.get("authorization")
    return sent is not None and (sent.startswith(HOLE) or sent.lower().startswith((credential.kind, HOLE)))


def _named(credential: Credential) -> str:
    match credential.kind:
        case "bearer":
            return "the header Authorization: Bearer TOKEN"
        case "basic":
            return "a name and a password (auth)"
        case "query":
            return f"the query parameter {credential.name!r}"
        case place:
            return f"the {place} {credential.name!r}"


def bind_tool(tool: ToolSchema, call: ToolCall) -> str | None:
    """Return why a tool's arguments are not valid, None if they are."""
    return invalid(tool.schema, json.loads(call.arguments))


# --- JSON Schema


@lru_cache(maxsize=4096)
def validator(schema: str) -> Any:
    """Return the validator of a schema as JSON; ValueError if it is none. It never asks the network."""
    import jsonschema_rs

    try:
        return jsonschema_rs.Draft202012Validator(json.loads(schema), retriever=_refuse)
    except jsonschema_rs.ValidationError as error:
        raise ValueError(error.message) from error


def _refuse(address: str) -> Any:
    raise ValueError(f"{address} lies elsewhere")


# Rules that what is not seen cannot mend: a hole is a value, but never a further name of an object that is seen.
_HOLD_WITH_HOLES = frozenset(
    ("required", "additionalProperties", "unevaluatedProperties", "type", "minProperties", "maxProperties")
)


def invalid(schema: str, value: Any) -> str | None:
    """Return why a value is not valid, None if it is."""
    error = next(validator(schema).iter_errors(value), None)
    return None if error is None else _told(error)


def surely_invalid(schema: str, value: Any) -> str | None:
    """Return why a value that code sends is not valid, None if it is, or if that hangs on what its holes hold."""
    for error in validator(schema).iter_errors(value):
        found = _at(value, list(error.instance_path))
        keyword = next((one for one in reversed(list(error.schema_path)) if isinstance(one, str)), "")
        if not _has_hole(found) or (not isinstance(found, str) and keyword in _HOLD_WITH_HOLES):
            return _told(error)
    return None


def _told(error: Any) -> str:
    where = ".".join(map(str, error.instance_path))
    message = error.message if len(error.message) < 200 else f"{error.message[:197]}..."
    return f"{where}: {message}" if where else str(message)


def _at(value: Any, place: Sequence[str | int]) -> Any:
    for step in place:
        value = value[step]
    return value


def _has_hole(value: Any) -> bool:
    if isinstance(value, str):
        return HOLE in value
    if isinstance(value, dict):
        return any(_has_hole(each) for pair in value.items() for each in pair)
    return isinstance(value, list) and any(map(_has_hole, value))


# --- requests in Python


@dataclass(frozen=True, slots=True)
class _Client:
    """A client that code has made: what it adds to each of its requests, `base` "" for nothing."""

    base: str = ""
    defaults: Request = field(default_factory=lambda: Request("", ""))


_LIBRARIES = ("httpx", "requests", "aiohttp")
_CLIENTS = frozenset(("Client", "AsyncClient", "Session", "ClientSession", "session"))


def requests_in(tree: ast.AST) -> dict[ast.Call, Request]:
    """Return the calls of a block that would send a request, and what each would send.

    A method of an object that is not known counts if it is named like an HTTP method and is given an address.
    """
    reader = _RequestReader()
    reader.visit(tree)
    return reader.requests


class _RequestReader(ast.NodeVisitor):
    """Walks a block in source order, keeping what each name holds and the requests seen so far."""

    def __init__(self) -> None:
        self.requests: dict[ast.Call, Request] = {}
        # `json` is not among the modules: it is read by its name alone.
        self.modules: dict[str, str] = {name: name for name in _LIBRARIES}
        self.values: dict[str, Any] = {}

    # Statements.

    def visit_Import(self, node: ast.Import) -> None:
        """Note what a library is called."""
        for alias in node.names:
            if alias.name in _LIBRARIES:
                self.modules[alias.asname or alias.name] = alias.name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Note what a function or class of a library is called."""
        if node.module in _LIBRARIES:
            for alias in node.names:
                self.modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def visit_Assign(self, node: ast.Assign) -> None:
        """Read the value, then let the names hold it."""
        self.visit(node.value)
        for target in node.targets:
            self._assign(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Read an annotated assignment as a plain one."""
        if node.value is not None:
            self.visit(node.value)
            self._assign(node.target, node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        """Read the value, then let the name hold it."""
        self.visit(node.value)
        self._assign(node.target, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Read `url += "/pets"` as the joined value."""
        self.visit(node.value)
        if isinstance(node.target, ast.Name):
            joined = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
            self.values[node.target.id] = self._value(joined)
        else:
            self._change(node.target)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        """Let the names hold what is opened, then read the body."""
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, item.context_expr)
        for statement in node.body:
            self.visit(statement)

    visit_AsyncWith = visit_With

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        """Forget what the loop's names held."""
        self._forget(node.target)
        self.generic_visit(node)

    visit_AsyncFor = visit_For

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """Forget what the comprehension's names held."""
        self._forget(node.target)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Forget what names of parameters held."""
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                self.values[argument.arg] = HOLE
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Call(self, node: ast.Call) -> None:
        """Keep the call if it sends a request, then read what is inside it."""
        request = self._request(node)
        if request is not None:
            self.requests[node] = request
        elif isinstance(node.func, ast.Attribute) and node.func.attr in ("update", "append", "extend"):
            self._change(node.func.value)
        self.generic_visit(node)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.values[target.id] = self._value(value)
        elif isinstance(target, ast.Tuple | ast.List):
            self._forget(target)
        else:
            self._change(target, value)

    def _change(self, target: ast.expr, value: ast.expr | None = None) -> None:
        """Take note that what a name holds is changed in a place: known for an item of a dict, else anything."""
        if value is not None and isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            held, key = self.values.get(target.value.id), self._value(target.slice)
            if isinstance(held, dict) and isinstance(key, str):
                self.values[target.value.id] = {**held, key: self._item(value)}
                return
        root = target
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if not isinstance(root, ast.Name):
            return
        held = self.values.get(root.id)
        if isinstance(held, _Client):
            everything = frozenset(("query", "headers", "cookies"))
            changed = replace(held.defaults, authorised="any", open=held.defaults.open | everything)
            self.values[root.id] = replace(held, defaults=changed)
        elif held is not None:
            self.values[root.id] = HOLE

    def _forget(self, target: ast.expr) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self.values[node.id] = HOLE

    # What expressions hold: JSON's values, with holes in and among them, or a client.

    def _value(self, node: ast.expr | None) -> Any:  # noqa: PLR0911 - a case for each kind of expression
        match node:
            case ast.Constant(value=str() | int() | float() | bool() | None as value):
                return value if _is_json(value) else HOLE
            case ast.Constant(value=bytes() as data):
                return data.decode("utf-8", "replace")
            case ast.Name(id=name):
                return self.values.get(name, HOLE)
            case ast.JoinedStr(values=pieces):
                return "".join(_text(self._value(piece)) for piece in pieces)
            case ast.FormattedValue(value=inner):
                return _text(self._value(inner))
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return HOLE if _starred(items) else [self._item(item) for item in items]
            case ast.Dict():
                return self._dict(node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                number = self._value(operand)
                return -number if isinstance(number, int | float) else HOLE
            case ast.BinOp():
                return self._joined(node)
            case ast.BoolOp(values=values):
                return self._value(values[-1])
            case ast.Await(value=inner):
                return self._value(inner)
            case ast.Call():
                return self._called(node)
        return HOLE

    def _item(self, node: ast.expr) -> Any:
        """Return what stands inside a list or a dict; a client there is nothing that JSON holds."""
        held = self._value(node)
        return HOLE if isinstance(held, _Client) else held

    def _dict(self, node: ast.Dict) -> Any:
        made: dict[str, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            name, held = (None if key is None else self._value(key)), self._item(value)
            if key is None and isinstance(held, dict):
                made |= held
            elif isinstance(name, str) and name != HOLE:
                made[name] = held
            elif isinstance(name, int | float):
                made[str(name)] = held
            else:
                return HOLE
        return made

    def _joined(self, node: ast.BinOp) -> Any:
        left, right = self._value(node.left), self._value(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str):
            return left + right
        if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return left + right
        if isinstance(node.op, ast.BitOr) and isinstance(left, dict) and isinstance(right, dict):
            return left | right
        if isinstance(node.op, ast.Mod) and isinstance(left, str):
            return re.sub(r"%[\d.]*[sdrif]", HOLE, left)
        return HOLE

    def _called(self, node: ast.Call) -> Any:
        name = self._path(node.func)
        if name.rpartition(".")[2] in _CLIENTS and name.partition(".")[0] in _LIBRARIES:
            return self._client(node)
        if name == "dict" and not node.args and all(one.arg for one in node.keywords):
            return {str(one.arg): self._item(one.value) for one in node.keywords}
        if name == "json.dumps" and node.args:
            held = self._value(node.args[0])
            return HOLE if isinstance(held, _Client) else json.dumps(held)
        if name in ("str", "httpx.URL") and len(node.args) == 1:
            return _text(self._value(node.args[0]))
        if name.rpartition(".")[2] == "urljoin" and len(node.args) == 2:
            base, path = (_text(self._value(one)) for one in node.args)
            return _below(base, path) if HOLE in base else urljoin(base, path)
        return self._of_text(node) if isinstance(node.func, ast.Attribute) else HOLE

    def _of_text(self, node: ast.Call) -> Any:
        """Return what a method of a text returns."""
        assert isinstance(node.func, ast.Attribute)
        held, method = self._value(node.func.value), node.func.attr
        if not isinstance(held, str):
            return HOLE
        if method in ("encode", "rstrip", "strip"):
            return held
        if method == "format":
            return re.sub(r"\{[^{}]*\}", HOLE, held)
        if method == "join" and len(node.args) == 1:
            pieces = self._value(node.args[0])
            return held.join(map(_text, pieces)) if isinstance(pieces, list) else HOLE
        return HOLE

    def _path(self, node: ast.expr) -> str:
        """Return a dotted name, with a library's own name where the block calls it otherwise."""
        if isinstance(node, ast.Name):
            return self.modules.get(node.id, node.id)
        return f"{self._path(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""

    def _client(self, node: ast.Call) -> _Client:
        given = {one.arg: one.value for one in node.keywords if one.arg}
        base = self._value(given["base_url"]) if "base_url" in given else ""
        if not base and node.args and self._path(node.func).startswith("aiohttp"):
            base = self._value(node.args[0])
        parts = self._parts(node)
        return _Client(base if isinstance(base, str) else HOLE, parts)

    # Which request it is.

    def _request(self, node: ast.Call) -> Request | None:
        function = self._path(node.func)
        library, _, name = function.partition(".")
        if library in _LIBRARIES and name:
            return self._sent(node, name, _Client())
        if not isinstance(node.func, ast.Attribute):
            return None
        owner = self._value(node.func.value)
        if isinstance(owner, _Client):
            return self._sent(node, node.func.attr, owner)
        # An object that the block was given: `client.get("/pets")`, `self.session.get(url)`.
        if owner != HOLE:
            return None
        sent = self._sent(node, node.func.attr, _Client(base=HOLE))
        return sent if sent is not None and re.match(rf"{HOLE}?/|{HOLE}?https?://", sent.url) else None

    def _sent(self, node: ast.Call, name: str, client: _Client) -> Request | None:
        name = name.removesuffix("_async")
        arguments = list(node.args)
        given = {one.arg: one.value for one in node.keywords if one.arg}
        if name in ("request", "stream", "Request", "build_request"):
            method = self._value(arguments.pop(0) if arguments else given.get("method"))
        elif name in METHODS:
            method = name
        else:
            return None
        if not arguments and "url" not in given:
            return None
        url = self._value(arguments[0] if arguments else given["url"])
        if not isinstance(method, str) or not isinstance(url, str):
            return None
        parts = _over(client.defaults, self._parts(node, positional=arguments[1:]))
        return _with_url(replace(parts, method=method.lower()), _below(client.base, url))

    def _parts(self, node: ast.Call, positional: Sequence[ast.expr] = ()) -> Request:
        """Return what a call says beside method and address."""
        given = {one.arg: one.value for one in node.keywords if one.arg}
        # `requests.post(url, data)`, `requests.get(url, params)`; httpx has no such arguments.
        first = "data" if isinstance(node.func, ast.Attribute) and node.func.attr != "get" else "params"
        given |= {first: positional[0]} if positional and first not in given else {}
        made = Request("", "", open=_ALL if any(one.arg is None for one in node.keywords) else frozenset())
        made = self._named_parts(made, given)
        if "auth" in given:
            made = replace(made, authorised=self._authorised(given["auth"]))
        return self._body_part(made, given)

    def _named_parts(self, made: Request, given: Mapping[str, ast.expr]) -> Request:
        for argument, part in (("params", "query"), ("headers", "headers"), ("cookies", "cookies")):
            if argument not in given:
                continue
            held = _pairs(self._value(given[argument]))
            if held is None:
                made = replace(made, open=made.open | {part})
            elif part == "query":
                made = replace(made, query=tuple(name for name, _ in held))
            elif part == "headers":
                made = replace(made, headers=tuple((name.lower(), value) for name, value in held))
            else:
                made = replace(made, cookies=tuple(name for name, _ in held))
        return made

    def _authorised(self, node: ast.expr) -> Literal["", "basic", "any"]:
        if isinstance(node, ast.Tuple):
            return "basic"
        if isinstance(node, ast.Constant) and node.value is None:
            return ""
        is_basic = isinstance(node, ast.Call) and self._path(node.func).endswith("BasicAuth")
        return "basic" if is_basic else "any"

    def _body_part(self, made: Request, given: Mapping[str, ast.expr]) -> Request:
        if "json" in given:
            return _with_body(made, "json", self._value(given["json"]))
        if "content" in given:
            return _with_content(made, self._value(given["content"]))
        if "data" not in given and "files" not in given:
            return made
        data = self._value(given.get("data")) if "data" in given else {}
        files = _pairs(self._value(given["files"])) if "files" in given else []
        if files is None or data == HOLE:
            return replace(made, open=made.open | {"body"})
        if isinstance(data, str):
            return _with_body(made, "raw", data)
        fields = _pairs(data)
        return made if fields is None else _with_body(made, "form", dict((*fields, *files)))


_ALL = frozenset(("query", "headers", "cookies", "body"))


def _starred(items: Sequence[ast.expr]) -> bool:
    return any(isinstance(item, ast.Starred) for item in items)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else HOLE


def _is_json(value: str | float | bool | None) -> bool:
    """Tell whether JSON can write a literal: no half of a character, no endless number and none too long."""
    if isinstance(value, str):
        return value.isascii() or not re.search("[\ud800-\udfff]", value)
    return not isinstance(value, int | float) or abs(value) < 1e300


def _pairs(value: Any) -> list[tuple[str, str]] | None:
    """Return names and values of a dict or of a list of pairs, None if it may hold any."""
    if isinstance(value, dict):
        return [(name, _text(held)) for name, held in value.items() if held is not None]
    if isinstance(value, list) and all(isinstance(one, list) and len(one) >= 2 for one in value):
        return [(_text(one[0]), _text(one[1])) for one in value]
    return None


def _with_content(request: Request, value: Any) -> Request:
    """Return the request with what httpx sends as it is; pieces in a list are taken to be such texts."""
    if isinstance(value, dict | bool | int | float):
        return replace(request, defect="content= takes text or bytes; json= takes values")
    return _with_body(request, "raw", HOLE if isinstance(value, list) else value)


def _with_body(request: Request, kind: BodyKind, value: Any) -> Request:
    if isinstance(value, _Client) or value == HOLE:
        return replace(request, body_kind=kind, open=request.open | {"body"})
    if value is None:
        return request
    return replace(request, body_kind=kind, body=value if kind == "raw" else json.dumps(value))


def _over(below: Request, above: Request) -> Request:
    """Return a request's parts laid over what its client adds to each."""
    return replace(
        above,
        query=(*below.query, *above.query),
        headers=tuple((dict(below.headers) | dict(above.headers)).items()),
        cookies=(*below.cookies, *above.cookies),
        authorised=above.authorised or below.authorised,
        open=above.open | (below.open - {"body"}),
    )


def _below(base: str, url: str) -> str:
    if not base or re.match(r"[A-Za-z][\w+.-]*://", url) or (base == HOLE and url.startswith(HOLE)):
        return url
    return f"{base.rstrip('/')}/{url.lstrip('/')}"


def _with_url(request: Request, url: str) -> Request:
    """Return the request at an address, whose query counts as parameters."""
    address, asked, query = url.partition("#")[0].partition("?")
    if not asked:
        return replace(request, url=address)
    pieces = [piece.partition("=") for piece in query.split("&") if piece]
    # `?{query}`: whatever it holds.
    is_open = any(name == HOLE and not equals for name, equals, _ in pieces)
    names = tuple(unquote(name) for name, _, _ in pieces if name != HOLE)
    return replace(
        request,
        url=address,
        query=(*request.query, *names),
        open=request.open | ({"query"} if is_open else set()),
    )


# --- requests of curl


def curl_requests(text: str) -> list[Request]:
    """Return the requests of the curl commands in a shell's lines; variables and `<placeholders>` are holes."""
    text = re.sub(r"\\\r?\n", " ", text)
    text = re.sub(r"<[A-Za-z][\w .-]*>|\$\([^()]*\)|`[^`]*`", HOLE, text)
    assigned = dict(re.findall(r"""^\s*(?:export\s+)?(\w+)=["']?([^\s"']*)["']?\s*$""", text, re.MULTILINE))
    text = re.sub(r"\$\{?(\w+)\}?", lambda found: assigned.get(found[1], HOLE), text)
    return [request for words in _commands(text) if (request := _curl(words)) is not None]


def _commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command that begins with curl."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|;&\n()")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    words: list[str] = []
    try:
        tokens = list(lexer)
    except ValueError:
        # A quote that is never closed.
        return
    for token in [*tokens, "\n"]:
        if token and set(token) <= set("|;&\n()"):
            if words[:1] == ["$"]:
                words = words[1:]
            if words[:1] == ["curl"]:
                yield words[1:]
            words = []
        else:
            words.append(token)


_CURL_DATA = ("-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--data-urlencode", "--json")
_CURL_TAKES = (
    frozenset(
        (
            *_CURL_DATA,
            "-X",
            "--request",
            "-H",
            "--header",
            "-u",
            "--user",
            "-F",
            "--form",
            "--form-string",
            "-b",
        )
    )
    | frozenset(
        (
            "--cookie",
            "--url",
            "-A",
            "--user-agent",
            "-o",
            "--output",
            "-e",
            "--referer",
            "-x",
            "--proxy",
            "-m",
        )
    )
    | frozenset(
        ("--max-time", "-c", "--cookie-jar", "-w", "--write-out", "--connect-timeout", "--retry", "-E")
    )
)
_CURL_TAKES_LETTERS = frozenset(option[1] for option in _CURL_TAKES if not option.startswith("--"))


def _curl(words: Sequence[str]) -> Request | None:
    options = list(_options(words))
    values: dict[str, list[str]] = {}
    for name, value in options:
        values.setdefault(name, []).append(value)
    urls = values.get("", []) + values.get("--url", [])
    if not urls:
        return None
    data = [(name, value) for name, value in options if name in _CURL_DATA]
    forms = values.get("-F", []) + values.get("--form", []) + values.get("--form-string", [])
    as_query = "-G" in values or "--get" in values
    method = (values.get("-X", []) + values.get("--request", []) or [""])[-1]
    if not method:
        head = "-I" in values or "--head" in values
        method = "head" if head else "post" if (data and not as_query) or forms else "get"
    headers = [one.partition(":") for one in values.get("-H", []) + values.get("--header", [])]
    cookies = "; ".join(values.get("-b", []) + values.get("--cookie", []))
    made = Request(
        method.lower(),
        "",
        headers=(
            *((name.strip().lower(), value.strip()) for name, _, value in headers),
            *((("cookie", cookies),) if cookies else ()),
        ),
        authorised="basic" if values.keys() & {"-u", "--user"} else "",
    )
    url = urls[0]
    if as_query:
        joined = "&".join(value for _, value in data)
        return _with_url(made, f"{url}{'&' if '?' in url else '?'}{joined}" if joined else url)
    if forms:
        made = _with_body(made, "form", {one.partition("=")[0]: HOLE for one in forms})
    elif data:
        made = _curl_body(made, data)
    return _with_url(made, url)


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option of a command with its value ("" for none), and its other words under the name ""."""
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            takes = name in _CURL_TAKES
            yield name, value if equals or not takes or not waiting else waiting.pop(0)
        elif word.startswith("-") and len(word) > 1:
            for position, letter in enumerate(word[1:], 2):
                if letter in _CURL_TAKES_LETTERS:
                    rest = word[position:]
                    yield f"-{letter}", rest or (waiting.pop(0) if waiting else "")
                    break
                yield f"-{letter}", ""
        else:
            yield "", word


def _curl_body(made: Request, data: Sequence[tuple[str, str]]) -> Request:
    joined = "&".join(value for _, value in data)
    if joined.startswith("@") or joined == HOLE:
        return replace(made, body_kind="raw", open=made.open | {"body"})
    value = _json_or_none(joined)
    if value is None and HOLE in joined:
        value = _json_or_none(re.sub(rf'(?<!"){HOLE}(?!")', json.dumps(HOLE), joined))
    if value is not None:
        return _with_body(made, "json", value)
    if re.match(r"\s*[\[{]", joined):
        return _with_body(made, "raw", joined)
    fields = [piece.partition("=") for piece in joined.split("&")]
    return _with_body(made, "form", {unquote(name): value for name, _, value in fields})


def _json_or_none(text: str) -> Any:
    try:
        # A hole is a control character, which a strict reader would refuse.
        return json.loads(text, strict=False)
    except json.JSONDecodeError:
        return None


# --- calls of tools


def tool_calls(text: str) -> list[ToolCall]:
    """Return the calls `{"name": ..., "arguments": {...}}` of a text that is one, or a list of them."""
    value = _json_or_none(text)
    calls = value if isinstance(value, list) else [value]
    return [
        ToolCall(one["name"], json.dumps(one.get("arguments", {})))
        for one in calls
        if isinstance(one, dict)
        and isinstance(one.get("name"), str)
        and isinstance(one.get("arguments", {}), dict)
    ]
