"""Who may do what, for every route: without a key, with a revoked one, another scope, another organisation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select

from tunesmith.serving.app import MODULES
from tunesmith.serving.around import OPEN
from tunesmith.serving.keys import caller_of, list_keys, new_key, revoke_key
from tunesmith.serving.tables import Key, Model

from .running import Running, serving

ROUTES = [
    (method, route.path)
    for module in MODULES
    for route in module.router.routes
    if isinstance(route, APIRoute) and route.path not in OPEN
    for method in sorted(route.methods or ())
]
# What each asks for is checked by the scopes' test; these need another scope than a tuner's.
OF_ASKERS = (
    "/v1/chat/",
    "/v1/completions",
    "/v1/responses",
    "/v1/moderations",
    "/v1/evals",
    "/v1/embeddings",
    "/v1/batches",
)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    """A server with keys: an owner's and another organisation's of all scopes, one of each scope, a revoked one."""
    with serving(tmp_path_factory.mktemp("keyed") / "home") as running:
        store = running.services.store
        both = ["inference", "fine-tuning"]
        keys = {
            "owner": new_key(store, organisation="ours", name="", scopes=both),
            "other": new_key(store, organisation="theirs", name="", scopes=both),
            "asker": new_key(store, organisation="ours", name="", scopes=["inference"]),
            "tuner": new_key(store, organisation="ours", name="", scopes=["fine-tuning"]),
            "revoked": new_key(store, organisation="ours", name="", scopes=["admin"]),
        }
        revoke_key(store, keys["revoked"].split("-")[2])
        yield running, keys


def _ask(running: Running, method: str, path: str, key: str | None, ids: str = "nothing") -> httpx.Response:
    url = running.url.removesuffix("/v1") + re.sub(r"\{[^}]+\}", ids, path)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.request(method, url, headers=headers, json={} if method == "POST" else None)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_without_a_good_key(
    keyed: tuple[Running, dict[str, str]], method: str, path: str
) -> None:
    running, keys = keyed
    wrong = keys["owner"][:-1] + ("A" if keys["owner"][-1] != "A" else "B")
    for key in (None, "any", wrong, keys["revoked"]):
        assert _ask(running, method, path, key).status_code == 401, key


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_key_of_another_scope_is_refused(
    keyed: tuple[Running, dict[str, str]], method: str, path: str
) -> None:
    running, keys = keyed
    status = {name: _ask(running, method, path, keys[name]).status_code for name in ("asker", "tuner")}
    if path.startswith("/v1/fine_tuning/jobs") or (method == "DELETE" and path.startswith("/v1/models")):
        assert (status["asker"], status["tuner"] == 403) == (403, False)
    elif path == "/metrics":
        assert set(status.values()) == {403}
    elif path.startswith(OF_ASKERS):
        assert (status["tuner"], status["asker"] == 403) == (403, False)
    else:
        assert 403 not in status.values()


def test_what_one_organisation_has_another_cannot_see(keyed: tuple[Running, dict[str, str]]) -> None:
    running, keys = keyed
    ours, theirs = running.as_key(keys["owner"]), running.as_key(keys["other"])
    file = ours.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    upload = ours.uploads.create(bytes=3, filename="a", mime_type="text/plain", purpose="batch")
    batch = ours.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    train = ours.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    job = ours.fine_tuning.jobs.create(model="smollm2", training_file=train.id)
    with running.services.store.write() as session:
        owner = _organisation(running, keys["owner"])
        session.add(
            Model(organisation=owner, name="ft:a:ours::1", address="path:x", base="a", job=None, created_at=1)
        )
    assert [list(theirs.files.list()), list(theirs.batches.list()), list(theirs.fine_tuning.jobs.list())] == [
        []
    ] * 3
    assert "ft:a:ours::1" in {model.id for model in ours.models.list()}
    assert "ft:a:ours::1" not in {model.id for model in theirs.models.list()}
    seen: list[tuple[str, str, str]] = [
        ("GET", "/v1/files/{id}", file.id),
        ("GET", "/v1/files/{id}/content", file.id),
        ("DELETE", "/v1/files/{id}", file.id),
        ("POST", "/v1/uploads/{id}/cancel", upload.id),
        ("GET", "/v1/batches/{id}", batch.id),
        ("POST", "/v1/batches/{id}/cancel", batch.id),
        ("GET", "/v1/models/{id}", "ft:a:ours::1"),
        ("DELETE", "/v1/models/{id}", "ft:a:ours::1"),
        ("GET", "/v1/fine_tuning/jobs/{id}", job.id),
        ("GET", "/v1/fine_tuning/jobs/{id}/events", job.id),
        ("GET", "/v1/fine_tuning/jobs/{id}/checkpoints", job.id),
        ("POST", "/v1/fine_tuning/jobs/{id}/pause", job.id),
        ("POST", "/v1/fine_tuning/jobs/{id}/resume", job.id),
        ("POST", "/v1/fine_tuning/jobs/{id}/cancel", job.id),
    ]
    for method, path, id in seen:
        here = _ask(running, method, path, keys["other"], id)
        nowhere = _ask(running, method, path, keys["other"], "nope")
        assert here.status_code == nowhere.status_code == 404
        assert here.json()["error"]["message"].replace(id, "nope") == nowhere.json()["error"]["message"]
    assert ours.files.retrieve(file.id).id == file.id


def _organisation(running: Running, key: str) -> str:
    caller = caller_of(running.services.store, key)
    assert caller is not None
    return caller.organisation


def test_a_key_is_kept_as_a_salted_hash(keyed: tuple[Running, dict[str, str]], tmp_path: Path) -> None:
    running, keys = keyed
    secret = keys["owner"].split("-", 3)[3].encode()
    home = running.services.home.root
    with running.services.store.read() as session:
        kept = repr(list(session.execute(select(Key.__table__)))).encode()
    assert kept.count(b"(") >= len(keys)
    files: list[Any] = [path.read_bytes() for path in home.rglob("server.db*")]
    assert all(secret not in content for content in [kept, *files])
    assert len({key.salt for key, _ in list_keys(running.services.store)}) == len(keys)


def test_a_page_in_a_browser_is_not_the_owner(running: Running) -> None:
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
        response = httpx.get(f"{running.url}/models", headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "keys_required")
    assert httpx.get(f"{running.url}/models", headers={"origin": "http://localhost:3000"}).status_code == 200
