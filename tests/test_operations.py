"""Requests in Python and curl, calls of tools: found, matched to what a description allows, bound, judged."""

from __future__ import annotations

import ast
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith import records
from tunesmith.catalogue import Catalogue, Entry, calls_in, judge, merge
from tunesmith.operations import (
    HOLE,
    Content,
    Credential,
    Operation,
    OperationParameter,
    Request,
    Routes,
    ToolCall,
    ToolSchema,
    bind_request,
    bind_tool,
    curl_requests,
    invalid,
    requests_in,
    surely_invalid,
    tool_calls,
)

SERVER = "https://api.pets.example/v1"
PET = json.dumps(
    {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 2},
            "age": {"type": "integer", "minimum": 0},
            "owner": {"anyOf": [{"type": "string", "pattern": "^u[0-9]+$"}, {"type": "null"}]},
        },
    }
)
BEARER = ((Credential("bearer"),),)


def _operation(method: str, path: str, **more: object) -> Operation:
    return Operation("Pets", method, path, servers=(SERVER,), **more)  # type: ignore[arg-type]


def _query(name: str, *, required: bool = False) -> OperationParameter:
    return OperationParameter(name, "query", required)


OPERATIONS = {
    "pets.list": _operation("get", "/pets", parameters=(_query("limit"), _query("tag"))),
    "pets.create": _operation(
        "post", "/pets", contents=(Content("application/json", PET),), body_required=True, security=BEARER
    ),
    "pets.get": _operation("get", "/pets/{petId}", parameters=(OperationParameter("petId", "path", True),)),
    "pets.mine": _operation("get", "/pets/mine", security=BEARER),
    "pets.find": _operation("get", "/search", parameters=(_query("q", required=True),)),
    "pets.upload": _operation(
        "post",
        "/pets/{petId}/photo",
        contents=(
            Content(
                "multipart/form-data",
                '{"type": "object", "properties": {"photo": {}}, "required": ["photo"]}',
            ),
        ),
        body_required=True,
    ),
    "pets.file": _operation("get", "/files/{path}"),
}
TOOL = ToolSchema(
    "box",
    "search-code",
    '{"type": "object", "required": ["query"], "properties": {"query": {"type": "string"}}}',
)


def _entries() -> tuple[Entry, ...]:
    return tuple(Entry(path, "operation", operation=one) for path, one in OPERATIONS.items())


@pytest.fixture
def pets() -> Catalogue:
    """Return the catalogue of the API of pets."""
    return Catalogue("pets", "1.0", _entries())


def _python(code: str) -> str:
    return f"Call it.\n\n```python\nimport httpx\nimport requests\n\n{code}\n```"


def _shell(code: str) -> str:
    return f"Run it.\n\n```bash\n{code}\n```"


@pytest.mark.parametrize(
    ("code", "called"),
    [
        (f'httpx.get("{SERVER}/pets")', "pets.list"),
        (f'requests.get("{SERVER}/pets", params={{"limit": 3}})', "pets.list"),
        (f'httpx.get("{SERVER}/pets?limit=3&tag=cat")', "pets.list"),
        (f'httpx.get("{SERVER}/pets?limit=" + str(limit))', "pets.list"),
        (f'httpx.get("{SERVER}/pets", params=[("tag", "a"), ("tag", "b")])', "pets.list"),
        (f'httpx.get("{SERVER}/pets", params=params)', "pets.list"),
        (f'httpx.request("GET", "{SERVER}/pets/")', "pets.list"),
        (f'httpx.get(f"{SERVER}/pets/{{pet_id}}")', "pets.get"),
        (f'httpx.get("{SERVER}/pets/{{}}".format(pet_id))', "pets.get"),
        (f'httpx.get("{SERVER}/pets/%s" % pet_id)', "pets.get"),
        (f'url = "{SERVER}"\nurl += "/pets/7"\nhttpx.get(url)', "pets.get"),
        (
            f'BASE = "{SERVER}"\n\ndef get(pet_id):\n    return httpx.get(f"{{BASE}}/pets/{{pet_id}}").json()',
            "pets.get",
        ),
        (f'from urllib.parse import urljoin\nhttpx.get(urljoin("{SERVER}/x", "pets"))', "pets.list"),
        ('httpx.get(urljoin(base_url, "/pets/7"))', "pets.get"),
        (f'httpx.get("/".join(["{SERVER}", "pets", str(7)]))', "pets.get"),
        ('httpx.get(f"{base_url}/pets/7")', "pets.get"),
        ('httpx.get(base_url + "/v1/pets/7")', "pets.get"),
        (f'client = httpx.Client(base_url="{SERVER}")\nclient.get("/pets/7")', "pets.get"),
        (f'with httpx.Client(base_url="{SERVER}/") as client:\n    client.get("pets/7")', "pets.get"),
        ('client.get("/pets/7")', "pets.get"),
        ('self.session.get("/pets/7", timeout=3)', "pets.get"),
        (f'httpx.get("{SERVER}/files/a/b.txt")', "pets.file"),
        (f'httpx.get("{SERVER}/search", params=dict(q="x"))', "pets.find"),
        (f'httpx.get("{SERVER}/pets/mine", headers={{"Authorization": f"Bearer {{token}}"}})', "pets.mine"),
        (f'httpx.get("{SERVER}/pets/mine", headers=headers)', "pets.mine"),
        (f'httpx.get("{SERVER}/pets/mine", auth=BearerAuth(token))', "pets.mine"),
        (
            f's = requests.Session()\ns.headers.update({{"Authorization": t}})\ns.get("{SERVER}/pets/mine")',
            "pets.mine",
        ),
        (
            f's = requests.Session()\ns.headers["Authorization"] = "Bearer x"\ns.get("{SERVER}/pets/mine")',
            "pets.mine",
        ),
        (f'httpx.post("{SERVER}/pets", json={{"name": "Rex"}}, headers=headers)', "pets.create"),
        (f'httpx.post("{SERVER}/pets", json={{"name": name, "age": age}}, headers=headers)', "pets.create"),
        (f'httpx.post("{SERVER}/pets", json={{"name": "Rex", "owner": f"{{u}}"}}, headers=h)', "pets.create"),
        (
            f'body = {{}}\nbody["name"] = "Rex"\nhttpx.post("{SERVER}/pets", json=body, headers=h)',
            "pets.create",
        ),
        (f'httpx.post("{SERVER}/pets", json={{**pet, "age": 1}}, headers=h)', "pets.create"),
        (
            f'import json\nhttpx.post("{SERVER}/pets", data=json.dumps({{"name": "Rex"}}), headers=h)',
            "pets.create",
        ),
        (f'httpx.post("{SERVER}/pets", content=\'{{"name": "Rex"}}\', headers=h)', "pets.create"),
        (f'httpx.post("{SERVER}/pets/7/photo", files={{"photo": open("x.jpg", "rb")}})', "pets.upload"),
        (
            "async def go():\n    async with httpx.AsyncClient() as c:\n"
            f'        return await c.get(f"{SERVER}/pets/{{pet}}")',
            "pets.get",
        ),
        (f'from httpx import get as fetch\nfetch("{SERVER}/pets")', "pets.list"),
        (f'httpx.get(url="{SERVER}/pets", **options)', "pets.list"),
    ],
)
def test_requests_in_python_are_matched(pets: Catalogue, code: str, called: str) -> None:
    """However a block puts its request together, it is the operation of its method and path, and binds."""
    judgement = judge(_python(code), (called,), pets)
    assert (judgement.verdict, judgement.called) == ("exact", called), judgement.reason


@pytest.mark.parametrize(
    ("code", "verdict", "reason"),
    [
        (f'httpx.get("{SERVER}/dogs")', "hallucinated", f"GET {SERVER}/dogs does not exist in pets 1.0"),
        (f'httpx.delete("{SERVER}/pets/7")', "hallucinated", "nearest: pets.get"),
        (f'httpx.get("{SERVER}/pets/7/toys")', "hallucinated", "does not exist"),
        ('httpx.get("https://api.pets.example/v2/pets")', "hallucinated", "does not exist"),
        ('httpx.get(f"{base_url}/dogs/7")', "hallucinated", "GET {}/dogs/7 does not exist"),
        (f'httpx.get("{SERVER}/pets", params={{"limt": 1}})', "wrong_arguments", "'limt'; nearest: 'limit'"),
        (f'httpx.get("{SERVER}/search")', "wrong_arguments", "the query parameter 'q' is missing"),
        (f'httpx.get("{SERVER}/pets/{{petId}}")', "wrong_arguments", "the address still holds {petId}"),
        (f'httpx.get("{SERVER}/pets/mine")', "wrong_arguments", "the credentials are missing"),
        (
            f'httpx.get("{SERVER}/pets/mine", headers={{"Authorization": "Token x"}})',
            "wrong_arguments",
            "Authorization: Bearer TOKEN",
        ),
        (
            f'httpx.get("{SERVER}/pets/mine", auth=("a", "b"))',
            "wrong_arguments",
            "the credentials are missing",
        ),
        (f'httpx.post("{SERVER}/pets", headers=h)', "wrong_arguments", "the body is missing"),
        (
            f'httpx.post("{SERVER}/pets", json={{"age": 3}}, headers=h)',
            "wrong_arguments",
            '"name" is a required',
        ),
        (
            f'httpx.post("{SERVER}/pets", json={{"name": "Rex", "age": "3"}}, headers=h)',
            "wrong_arguments",
            "age: ",
        ),
        (
            f'httpx.post("{SERVER}/pets", json={{"name": n, "weight": w}}, headers=h)',
            "wrong_arguments",
            "weight",
        ),
        (f'httpx.post("{SERVER}/pets", json=[name], headers=h)', "wrong_arguments", 'not of type "object"'),
        (f'httpx.post("{SERVER}/pets", data={{"name": "Rex"}}, headers=h)', "wrong_arguments", "not a form"),
        (
            f'httpx.post("{SERVER}/pets/7/photo", json={{"photo": "x"}})',
            "wrong_arguments",
            "multipart/form-data",
        ),
        (
            f'httpx.post("{SERVER}/pets/7/photo", files={{"image": f}})',
            "wrong_arguments",
            "'photo' is missing",
        ),
        (f'httpx.request("GET", "{SERVER}/pets", json={{"a": 1}})', "wrong_arguments", "it takes no body"),
        (
            f'httpx.post("{SERVER}/pets", content={{"name": "Rex"}}, headers=h)',
            "wrong_arguments",
            "content= takes text or bytes",
        ),
        (f'httpx.post("{SERVER}/pets", content=True, headers=h)', "wrong_arguments", "content= takes text"),
        ('httpx.get("https://elsewhere.example/pets")', "no_call", "calls nothing of pets"),
        ("httpx.get(url)", "no_call", "calls nothing of pets"),
        ('settings = {"/pets": 1}\nsettings.get("/pets")', "no_call", "calls nothing of pets"),
        ('import pets\npets.create(name="Rex")', "no_call", "calls nothing of pets"),
    ],
)
def test_wrong_requests_in_python_say_why(pets: Catalogue, code: str, verdict: str, reason: str) -> None:
    """What no operation of the server is, and what its description forbids, is told by name."""
    judgement = judge(_python(code), ("pets.list",), pets)
    assert judgement.verdict == verdict, judgement.reason
    assert reason in judgement.reason


def test_another_operation_than_asked_is_valid(pets: Catalogue) -> None:
    """A request that binds, of an operation that was not asked for, is valid and not exact."""
    judgement = judge(_python(f'httpx.get("{SERVER}/pets/7")'), ("pets.list",), pets)
    assert (judgement.verdict, judgement.called) == ("valid", "pets.get")


def test_the_literal_path_is_preferred(pets: Catalogue) -> None:
    """/pets/mine is its own operation, not the pet called mine."""
    [call] = calls_in(f'import httpx\nhttpx.get("{SERVER}/pets/mine")', pets)
    assert call.candidates == ("pets.mine",)


@pytest.mark.parametrize(
    ("command", "called"),
    [
        (f"curl {SERVER}/pets", "pets.list"),
        (f"$ curl -s '{SERVER}/pets?limit=3' | jq .", "pets.list"),
        (f"curl -G {SERVER}/pets -d limit=3 --data-urlencode 'tag=a b'", "pets.list"),
        (f"curl -XGET {SERVER}/pets/$PET_ID", "pets.get"),
        (f"curl {SERVER}/pets/<pet-id>", "pets.get"),
        (f'BASE="{SERVER}"\ncurl "$BASE/pets/7"', "pets.get"),
        ('curl "$BASE/pets/7"', "pets.get"),
        (f'curl -H "Authorization: Bearer $TOKEN" \\\n  {SERVER}/pets/mine', "pets.mine"),
        (
            f"curl -X POST {SERVER}/pets -H 'Authorization: Bearer x' -H 'Content-Type: application/json' "
            '-d \'{"name": "Rex", "age": 3}\'',
            "pets.create",
        ),
        (f'curl --json \'{{"name": "$NAME"}}\' -H "Authorization: Bearer x" {SERVER}/pets', "pets.create"),
        (f"curl -d @pet.json -H 'Authorization: Bearer x' {SERVER}/pets", "pets.create"),
        (f"curl -F photo=@rex.jpg {SERVER}/pets/7/photo", "pets.upload"),
    ],
)
def test_curl_commands_are_matched(pets: Catalogue, command: str, called: str) -> None:
    """A curl command is read as a shell would, variables and placeholders as what is not known."""
    judgement = judge(_shell(command), (called,), pets)
    assert (judgement.verdict, judgement.called) == ("exact", called), judgement.reason


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        (f"curl {SERVER}/dogs", "hallucinated"),
        (f"curl -X DELETE {SERVER}/pets/7", "hallucinated"),
        (f"curl {SERVER}/search", "wrong_arguments"),
        (f"curl -u a:b {SERVER}/pets/mine", "wrong_arguments"),
        (f"curl -H 'Authorization: Bearer x' -d '{{\"age\": 3}}' {SERVER}/pets", "wrong_arguments"),
        (f"curl -H 'Authorization: Bearer x' -d '{{\"name\": ' {SERVER}/pets", "wrong_arguments"),
        ("curl https://elsewhere.example/", "no_call"),
        ("ls -l 'unclosed", "no_call"),
    ],
)
def test_wrong_curl_commands_are_told(pets: Catalogue, command: str, verdict: str) -> None:
    """A curl command is judged like a request in Python."""
    assert judge(_shell(command), (), pets).verdict == verdict


def test_an_answer_without_code_calls_nothing(pets: Catalogue) -> None:
    """Prose alone is no call, of an API either."""
    assert judge("Use the API of pets.", (), pets).verdict == "no_call"


def test_tools_are_called_in_json() -> None:
    """A tool's call is JSON, fenced or alone, and its arguments must be valid under its schema."""
    catalogue = Catalogue("box", "1", (Entry("box.search_code", "tool", operation=TOOL),))
    good = '{"name": "search-code", "arguments": {"query": "x"}}'
    for text in (good, f"So:\n\n```json\n{good}\n```", f"```\n{good}\n```", f"[{good}]"):
        judgement = judge(text, ("box.search_code",), catalogue)
        assert (judgement.verdict, judgement.called) == ("exact", "box.search_code")
    wrong = judge(good.replace("query", "q"), (), catalogue)
    assert (wrong.verdict, wrong.reason) == (
        "wrong_arguments",
        'box.search_code: "query" is a required property',
    )
    absent = judge(good.replace("search-code", "search_codes"), (), catalogue)
    assert (absent.verdict, absent.called) == ("hallucinated", "search_codes")
    assert "nearest: box.search_code" in absent.reason
    assert judge("{broken", (), catalogue).verdict == "no_call"
    assert tool_calls('{"name": "a", "arguments": "b"}') == []


def test_an_api_beside_a_package_leaves_both_as_they_are(pets: Catalogue) -> None:
    """Merged, each kind of call is judged by its own rules, in the order in which they stand."""
    package = Catalogue("shapes", "2", (Entry("shapes.area", "function"),))
    both = merge([package, pets])
    assert both is not None
    assert both.importable == ("shapes",)
    assert judge("```python\nimport shapes\nshapes.area()\n```", ("shapes.area",), both).verdict == "exact"
    block = f'```python\nimport httpx, shapes\nx = shapes.area()\nhttpx.get("{SERVER}/pets/7")\n```'
    assert judge(block, ("pets.get",), both).verdict == "exact"
    assert judge(block.replace("area()", "volume()"), ("pets.get",), both).verdict == "hallucinated"


def test_a_catalogue_of_operations_survives_its_json(pets: Catalogue) -> None:
    """Operations and tools come back from a catalogue's JSON as they were."""
    both = merge([pets, Catalogue("box", "1", (Entry("box.search_code", "tool", operation=TOOL),))])
    assert both is not None
    assert Catalogue.from_json(both.to_json()) == both
    assert (
        records.from_json(Operation, records.to_json(OPERATIONS["pets.create"])) == OPERATIONS["pets.create"]
    )


def test_credentials_are_alternatives() -> None:
    """One of the ways must be met, all of its parts; a way that asks for nothing lets all pass."""
    key, cookie = Credential("query", "key"), Credential("cookie", "sid")
    operation = _operation("get", "/x", security=((Credential("basic"), key), (cookie,)))
    url = f"{SERVER}/x"
    assert bind_request(operation, Request("get", url, query=("key",), authorised="basic")) is None
    assert bind_request(operation, Request("get", url, headers=(("cookie", "a=1; sid=2"),))) is None
    assert bind_request(operation, Request("get", url, cookies=("sid",))) is None
    missing = bind_request(operation, Request("get", url, authorised="basic"))
    assert missing == "the credentials are missing: the query parameter 'key'"
    free = _operation("get", "/x", security=((key,), ()))
    assert bind_request(free, Request("get", url)) is None


def test_headers_and_cookies_that_are_required_must_be_there() -> None:
    """Required headers and cookies are named where they are missing; those that a client sets are not asked for."""
    header = OperationParameter("X-Trace", "header", True)
    cookie = OperationParameter("sid", "cookie", True)
    accept = OperationParameter("Accept", "header", True)
    operation = _operation("get", "/x", parameters=(header, cookie, accept))
    url = f"{SERVER}/x"
    assert bind_request(operation, Request("get", url)) == "the header 'X-Trace' is missing"
    sent = Request("get", url, headers=(("x-trace", "1"),))
    assert bind_request(operation, sent) == "the cookie 'sid' is missing"
    assert (
        bind_request(operation, Request("get", url, headers=(("x-trace", "1"), ("cookie", "sid=1")))) is None
    )


def test_servers_without_a_host_may_be_anywhere() -> None:
    """Where the description names no host, any may be the API's, and its base path still counts."""
    routes = Routes([("a.list", Operation("A", "get", "/items", servers=("/api",)))])
    assert routes.find(Request("get", "http://localhost:8000/api/items")) == ("a.list",)
    assert routes.find(Request("get", f"{HOLE}/items")) == ("a.list",)
    assert routes.find(Request("get", "http://localhost:8000/items")) == ()


def test_servers_with_variables_match_any_value() -> None:
    """A variable of a server's address stands for any word."""
    routes = Routes([("a.list", Operation("A", "get", "/items", servers=("https://{region}.a.example",)))])
    assert routes.find(Request("get", "https://eu.a.example/items")) == ("a.list",)
    assert routes.find(Request("get", "https://a.example/items")) is None


def test_holes_are_values_and_no_names() -> None:
    """A hole fits any value; what it cannot mend stays an error."""
    assert surely_invalid(PET, {"name": HOLE, "age": HOLE, "owner": HOLE}) is None
    assert surely_invalid(PET, {"name": HOLE, "owner": 3}) is not None
    assert surely_invalid(PET, {"age": HOLE}) == '"name" is a required property'
    assert surely_invalid('{"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}', {"c": HOLE}) is None
    # What a model says has none: there, the same character is one like others.
    assert invalid('{"enum": ["alice"]}', f"mallory{HOLE}") is not None


def test_a_schema_never_asks_the_network() -> None:
    """A reference to another address is no schema, instead of a request."""
    with pytest.raises(ValueError, match="elsewhere"):
        invalid('{"$ref": "https://elsewhere.example/schema.json"}', 1)


def test_what_a_block_sends_is_read_as_far_as_it_goes() -> None:
    """Parts that are variables are open, all others are known by name."""
    tree = ast.parse(
        'client = httpx.Client(base_url="https://a.example", headers={"X-A": "1"}, params={"p": 1})\n'
        'client.post("/x?q=1", headers={"X-B": token}, cookies=jar, json={"n": [1, name]})'
    )
    [request] = requests_in(tree).values()
    assert request == Request(
        "post",
        "https://a.example/x",
        query=("p", "q"),
        headers=(("x-a", "1"), ("x-b", HOLE)),
        body_kind="json",
        body=json.dumps({"n": [1, HOLE]}),
        open=frozenset({"cookies"}),
    )


def test_curl_is_read_whole() -> None:
    """Method, address, query, headers, login and body of a command, and of two commands both."""
    first, second = curl_requests(
        'curl -sS -u me:x -X put "https://a.example/x?q=1" -H "X-A: 1" -b sid=2 -d a=1 -d b=2; curl -I https://b.example'
    )
    assert first == Request(
        "put",
        "https://a.example/x",
        query=("q",),
        headers=(("x-a", "1"), ("cookie", "sid=2")),
        body_kind="form",
        body=json.dumps({"a": "1", "b": "2"}),
        authorised="basic",
    )
    assert second == Request("head", "https://b.example")


def test_a_tool_is_bound_by_its_schema() -> None:
    """Arguments are valid or not, as the schema says."""
    assert bind_tool(TOOL, ToolCall("search-code", '{"query": "x"}')) is None
    assert bind_tool(TOOL, ToolCall("search-code", '{"query": 1}')) == 'query: 1 is not of type "string"'


_PIECES = (
    f'"{SERVER}/pets"',
    f'f"{SERVER}/pets/{{x}}"',
    *(
        '"/pets"',
        '"\\ud800"',
        "1e999",
        "-1e999",
        f"0x{'f' * 400}",
        "b'a'",
        "1j",
        "...",
        "x",
        "-x",
        "None",
        "True",
    ),
    *(
        "{}",
        "[]",
        '{"name": x}',
        "{**x}",
        "{1: 2}",
        "{x: 1}",
        "[*x]",
        '{"a": httpx.Client()}',
        "httpx.Client()",
    ),
    *(
        "[1, 2]",
        '[("a", 1)]',
        '[["a"]]',
        '("a", "b")',
        "lambda: 1",
        "[y for y in x]",
        "x[0]",
        "x.y",
        '"a" + 1',
        '"%s" % 1',
    ),
    *(
        '"a".format()',
        "json.dumps(x)",
        "json.dumps(httpx.Client())",
        "dict(a=1)",
        "dict(x)",
        "x | {}",
        '{"a": 1} | {}',
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_block_of_code_stops_the_judge(data: st.DataObject) -> None:
    """Whatever values stand wherever a request takes some, the judge comes to a verdict."""
    names = (
        "params",
        "headers",
        "cookies",
        "auth",
        "json",
        "data",
        "content",
        "files",
        "url",
        "base_url",
        "method",
    )
    piece = st.sampled_from(_PIECES)
    given = data.draw(st.dictionaries(st.sampled_from(names), piece, max_size=4))
    first = data.draw(st.lists(piece, max_size=2))
    function = data.draw(
        st.sampled_from(("httpx.get", "requests.post", "httpx.request", "client.put", "x.get"))
    )
    arguments = ", ".join((*first, *(f"{name}={value}" for name, value in given.items())))
    lines = (
        f"client = httpx.Client({data.draw(piece)}, base_url={data.draw(piece)})",
        f"x = {data.draw(piece)}",
    )
    block = "\n".join((*lines, f"x[{data.draw(piece)}] = {data.draw(piece)}", f"{function}({arguments})"))
    verdict = judge(_python(block), (), Catalogue("pets", "1.0", _entries())).verdict
    assert verdict in ("valid", "wrong_arguments", "hallucinated", "no_call")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="curl -XdHGFu@&|;'\"\\$<>{}()=?/:.a1\n", max_size=60))
def test_no_line_of_a_shell_stops_the_judge(text: str) -> None:
    """Whatever stands in a shell's block, the judge comes to a verdict."""
    block = _shell(f"curl {text} {SERVER}/pets")
    verdict = judge(block, (), Catalogue("pets", "1.0", _entries())).verdict
    assert verdict in ("valid", "wrong_arguments", "hallucinated", "no_call")
