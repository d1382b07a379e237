"""The call of an operation or of a tool as code: what must be given, and nothing else unless it is asked for.

Values are the description's own examples where it has them and they fit, else made by their schema. A free text
outside the body, a file and what proves who asks are the user's variables.
"""

from __future__ import annotations

import builtins
import json
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.generating.values import fitting_value
from tunesmith.operations import Content, Credential, Operation, OperationParameter, ToolSchema, invalid

_WIDTH = 88
_TAKES_BODY = ("post", "put", "patch")
_SET_BY_ITSELF = frozenset(("accept", "content-type", "authorization"))
_LONGEST_EXAMPLE = 400  # characters of JSON


@dataclass(frozen=True, slots=True)
class _Name:
    """A variable of the user's, or another expression, among values."""

    code: str


def request_code(operation: Operation, *, also: str = "") -> str:
    """Return the httpx call of an operation with all that it requires, and with the parameter `also`.

    Raises ValueError where no value is found that fits.
    """
    content = _content(operation)
    parts: dict[str, Any] = {"params": {}, "headers": {}, "cookies": {}}
    places = {"query": "params", "header": "headers", "cookie": "cookies"}
    for parameter in operation.parameters:
        wanted = parameter.required or parameter.name == also
        if wanted and parameter.place != "path" and parameter.name.lower() not in _SET_BY_ITSELF:
            value = _parameter_value(parameter)
            spread = value if parameter.spreads and isinstance(value, dict) else {parameter.name: value}
            parts[places[parameter.place]] |= spread
    body = _body(operation, content, also)
    parts["headers"] |= body.pop("headers", {})
    for credential in _credentials(operation):
        _prove(credential, parts)
    arguments = {name: value for name, value in parts.items() if value != {}} | body
    return _sent(operation, _url(operation), arguments, bool(body))


def _sent(operation: Operation, url: str, arguments: Mapping[str, Any], has_body: bool) -> str:
    method = operation.method
    takes_body = method in _TAKES_BODY or not has_body
    known = method in ("get", "post", "put", "patch", "delete", "head", "options") and takes_body
    function, first = (f"httpx.{method}", []) if known else ("httpx.request", [_written(method.upper())])
    return _call(function, [*first, url], arguments)


def given_code(operation: Operation, given: Mapping[str, Any]) -> str:
    """Return the httpx call of an operation with the values given, by its parameters' names and `body`, and no others.

    What proves who asks is the user's variable.
    """
    parts: dict[str, Any] = {"params": {}, "headers": {}, "cookies": {}}
    places = {"query": "params", "header": "headers", "cookie": "cookies"}
    for parameter in operation.parameters:
        if (
            parameter.name in given
            and parameter.place != "path"
            and parameter.name.lower() not in _SET_BY_ITSELF
        ):
            value = given[parameter.name]
            spread = value if parameter.spreads and isinstance(value, dict) else {parameter.name: value}
            parts[places[parameter.place]] |= spread
    body = _given_body(operation, given["body"]) if "body" in given and operation.contents else {}
    parts["headers"] |= body.pop("headers", {})
    for credential in _credentials(operation):
        _prove(credential, parts)
    arguments = {name: value for name, value in parts.items() if value != {}} | body
    return _sent(operation, _url(operation, given), arguments, bool(body))


def _given_body(operation: Operation, value: Any) -> dict[str, Any]:
    content = _content(operation)
    assert content is not None
    if content.kind == "raw":
        return {"content": value, "headers": {"Content-Type": content.media}}
    return {"data" if content.kind == "form" else "json": value}


def tool_code(tool: ToolSchema, *, also: str = "") -> str:
    """Return the call of a tool as JSON in one line; raises ValueError where no arguments are found that fit."""
    arguments = _with_field(tool.schema, _only_required(tool.schema), also)
    return json.dumps({"name": tool.name, "arguments": arguments}, ensure_ascii=False)


def _only_required(schema: str) -> Any:
    """Return no arguments at all where that is valid, else what fits."""
    return {} if invalid(schema, {}) is None else fitting_value(schema, "arguments")


# --- the parts of a request


def _url(operation: Operation, given: Mapping[str, Any] | None = None) -> str:
    server = operation.servers[0] if operation.servers else ""
    if not re.match(r"[A-Za-z][\w+.-]*://", server):
        server = "{base_url}" + server
    known = {one.name: one for one in operation.parameters if one.place == "path"}
    pieces: list[str] = []
    for piece in re.split(r"(\{[^{}]*\})", operation.path):
        name = piece[1:-1] if piece.startswith("{") else None
        if name is None:
            pieces.append(piece)
            continue
        value = _path_value(name, known, given)
        is_plain = isinstance(value, str | int | float) and not isinstance(value, bool)
        # A slash would be read as another piece of the path, and a word may be that of another operation.
        usable = is_plain and re.fullmatch(r"[\w.:@=,+-]+", str(value)) is not None
        pieces.append(str(value) if usable else f"{{{variable(name)}}}")
    server = re.sub(r"\{([^{}]*)\}", lambda found: f"{{{variable(found[1])}}}", server)
    url = server.rstrip("/") + "".join(pieces)
    return f'f"{url}"' if "{" in url else f'"{url}"'


def _path_value(name: str, known: Mapping[str, OperationParameter], given: Mapping[str, Any] | None) -> Any:
    if given is not None and name in given:
        return given[name]
    return _parameter_value(known[name]) if name in known and given is None else _Name(variable(name))


def _parameter_value(parameter: OperationParameter) -> Any:
    schema = json.loads(parameter.schema)
    if parameter.example:
        value = json.loads(parameter.example)
        if invalid(parameter.schema, value) is None:
            return value
    is_free = isinstance(schema, dict) and not schema.keys() & {
        "example",
        "default",
        "enum",
        "const",
        "format",
    }
    is_text = is_free and schema.get("type", "string") == "string"
    if is_text and not schema.keys() & {"oneOf", "anyOf", "allOf", "$ref"}:
        return _Name(variable(parameter.name))
    try:
        return fitting_value(parameter.schema, parameter.name)
    except ValueError:
        return _Name(variable(parameter.name))


def variable(name: str) -> str:
    """Return a name as a user's variable: "petId" to "pet_id", "X-Request-ID" to "x_request_id"."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    words = re.sub(r"\W+", "_", words, flags=re.ASCII).strip("_").lower() or "value"
    words = f"n{words}" if words[0].isdigit() else words
    return f"my_{words}" if keyword.iskeyword(words) or hasattr(builtins, words) else words


def _credentials(operation: Operation) -> Sequence[Credential]:
    """Return the alternative that asks for least; none where none is needed."""
    return min(operation.security, key=len, default=())


def _prove(credential: Credential, parts: dict[str, Any]) -> None:
    match credential.kind:
        case "bearer":
            parts["headers"] |= {"Authorization": _Name('f"Bearer {token}"')}
        case "basic":
            parts["auth"] = _Name("(username, password)")
        case "header":
            parts["headers"] |= {credential.name: _Name("api_key")}
        case "query":
            parts["params"] |= {credential.name: _Name("api_key")}
        case "cookie":
            parts["cookies"] |= {credential.name: _Name("api_key")}


def _content(operation: Operation) -> Content | None:
    """Return the form in which the body is sent: JSON if it can be, else a form, else the first."""
    return operation.content("json") or operation.content("form") or next(iter(operation.contents), None)


def _body(operation: Operation, content: Content | None, also: str) -> dict[str, Any]:
    if content is None or not (
        operation.body_required or _has_field(content.schema, also) or _is_told(operation)
    ):
        return {}
    if content.kind == "raw":
        return {"content": _Name("content"), "headers": {"Content-Type": content.media}}
    if content.kind == "form":
        return _form(content, also)
    value = _with_field(content.schema, _body_value(content), also)
    return {"json": value}


def _is_told(operation: Operation) -> bool:
    """Tell whether a body is sent though none is required: to make or change something without saying what is odd."""
    return operation.method in _TAKES_BODY and bool(operation.contents)


def _body_value(content: Content) -> Any:
    if content.example and len(content.example) <= _LONGEST_EXAMPLE:
        value = json.loads(content.example)
        if invalid(content.schema, value) is None:
            return value
    return fitting_value(content.schema, "value")


def _form(content: Content, also: str) -> dict[str, Any]:
    value = _with_field(content.schema, fitting_value(content.schema, "value"), also)
    if not isinstance(value, dict):
        return {"data": _Name("data")}
    files = {name: _Name(variable(name)) for name in value if _is_file(content.schema, name)}
    data = {name: one for name, one in value.items() if name not in files}
    return {name: held for name, held in (("data", data), ("files", files)) if held} or {
        "data": _Name("data")
    }


def _is_file(schema: str, name: str) -> bool:
    found = _field(schema, name)
    inner = found.get("items") if isinstance(found, dict) else None
    return any(isinstance(one, dict) and one.get("format") == "binary" for one in (found, inner))


def _field(schema: str, name: str) -> Any:
    whole = json.loads(schema)
    for part in _parts(whole, whole):
        if name in part.get("properties", {}):
            return part["properties"][name]
    return None


def _parts(schema: Any, whole: Any) -> list[dict[str, Any]]:
    """Return a schema and those whose properties are its own: what it refers to and its `allOf`."""
    found: list[dict[str, Any]] = []
    waiting = [schema]
    while waiting and len(found) < 50:
        part = waiting.pop(0)
        if not isinstance(part, dict):
            continue
        found.append(part)
        waiting += part.get("allOf", [])
        name = str(part.get("$ref", "")).rpartition("/")[2]
        waiting.append(whole.get("$defs", {}).get(name))
    return found


def _has_field(schema: str, name: str) -> bool:
    return bool(name) and _field(schema, name) is not None


def _with_field(schema: str, value: Any, name: str) -> Any:
    """Return an object with one more of its fields; raises ValueError where no value fits."""
    if not _has_field(schema, name) or not isinstance(value, dict) or name in value:
        return value
    whole = json.loads(schema)
    field = _field(schema, name)
    inner = {**field, **{key: whole[key] for key in ("$defs", "definitions") if key in whole}}
    return {**value, name: fitting_value(json.dumps(inner), name)}


# --- as code


def _call(function: str, positional: Sequence[str], arguments: Mapping[str, Any]) -> str:
    words = [*positional, *(f"{name}={_written(value)}" for name, value in arguments.items())]
    line = f"{function}({', '.join(words)})"
    if len(line) <= _WIDTH:
        return line
    lines = [
        *positional,
        *(f"{name}={_wrapped(value, len(name) + 5, '    ')}" for name, value in arguments.items()),
    ]
    return "\n".join([f"{function}(", *(f"    {one}," for one in lines), ")"])


def _wrapped(value: Any, used: int, indent: str) -> str:
    """Return a value as code, broken into lines where it is too long for one."""
    line = _written(value)
    if used + len(indent) + len(line) <= _WIDTH or not isinstance(value, dict | list) or not value:
        return line
    inner = f"{indent}    "
    if isinstance(value, dict):
        rows = [f"{_written(name)}: {_wrapped(one, len(name) + 4, inner)}" for name, one in value.items()]
        return "\n".join(["{", *(f"{inner}{row}," for row in rows), f"{indent}}}"])
    rows = [_wrapped(one, 0, inner) for one in value]
    return "\n".join(["[", *(f"{inner}{row}," for row in rows), f"{indent}]"])


def _written(value: Any) -> str:
    if isinstance(value, _Name):
        return value.code
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(name)}: {_written(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
