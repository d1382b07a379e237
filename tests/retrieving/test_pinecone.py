"""Search at Pinecone: its own SDK against a server that keeps the wire format."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.retrieving.conftest import HashingEncoder
from tests.retrieving.pinecone_server import KEY, PineconeServer, running

from tunesmith.catalogue import Entry
from tunesmith.errors import MissingExtra, ModelError, UsageError
from tunesmith.models.base import Retriever
from tunesmith.retrieving.index import Index, build_index
from tunesmith.retrieving.pinecone import PineconeRetriever

QUESTIONS = ["the area of a shape", "edges of it", "add a corner"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PineconeServer]:
    """Run the server, the key and the address of the lookup in the environment."""
    with running() as state:
        monkeypatch.setenv("PINECONE_API_KEY", KEY)
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", state.url)
        yield state


@pytest.fixture
def index(entries: tuple[Entry, ...], encoder: HashingEncoder) -> Index:
    """Return an index of the small package."""
    return build_index(entries, encoder)


def retriever(server: PineconeServer, index: Index, encoder: HashingEncoder) -> PineconeRetriever:
    """Return a retriever that knows the server's address."""
    return PineconeRetriever(index, encoder, index=None, host=server.url, wait=lambda seconds: None)


def test_the_service_finds_what_vectors_find_here(
    server: PineconeServer, index: Index, encoder: HashingEncoder
) -> None:
    """Ids, texts and order are those of FAISS over the same vectors, scores but for rounding."""
    model = retriever(server, index, encoder)
    found, here = model.search(QUESTIONS, 3), index.by("vectors").search(QUESTIONS, 3)

    assert isinstance(model, Retriever)
    assert [[(one.id, one.text) for one in hits] for hits in found] == [
        [(one.id, one.text) for one in hits] for hits in here
    ]
    assert [one.score for one in found[0]] == pytest.approx([one.score for one in here[0]], abs=1e-5)
    assert {one.kind for one in found[0]} == {one.kind for one in here[0]} == {"entry"}
    assert len(model.search(["x"], 50)[0]) == len(index)
    assert model.search([], 3) == []


def test_vectors_are_sent_once_for_a_content(
    server: PineconeServer, index: Index, entries: tuple[Entry, ...], encoder: HashingEncoder
) -> None:
    """A second retriever sends nothing; other content has a namespace of its own."""
    retriever(server, index, encoder).search(["x"], 1)
    again = retriever(server, index, encoder)
    again.search(["x"], 1)
    assert server.asked.count("/vectors/upsert") == 1

    changed = build_index((replace(entries[0], summary="Weigh a shape."), *entries[1:]), encoder)
    other = retriever(server, changed, encoder)
    other.search(["x"], 1)
    assert set(server.namespaces) == {again.namespace, other.namespace}
    assert all(len(vectors) == len(index) for vectors in server.namespaces.values())
    assert again.namespace.startswith("tunesmith-")


def test_many_vectors_are_sent_in_several_requests(server: PineconeServer, encoder: HashingEncoder) -> None:
    """A request has a hundred at most."""
    many = build_index([Entry(f"shapes.f{n}", "function", summary=f"Do {n}.") for n in range(250)], encoder)
    retriever(server, many, encoder).search(["do 7"], 1)
    assert server.asked.count("/vectors/upsert") == 3


def test_an_index_is_looked_up_by_name(server: PineconeServer, index: Index, encoder: HashingEncoder) -> None:
    """Its address comes from Pinecone; a name that is not there is told."""
    named = PineconeRetriever(index, encoder, index="docs", namespace="mine", wait=lambda seconds: None)
    assert named.search(["the area of a shape"], 1)[0][0].id == "shapes.area"
    assert server.asked[0] == "/indexes/docs"
    assert next(iter(server.namespaces)).startswith("mine-")

    with pytest.raises(ModelError, match=r"Pinecone's index other did not do it.*not found"):
        PineconeRetriever(index, encoder, index="other").search(["x"], 1)


def test_it_waits_until_the_service_has_counted(
    server: PineconeServer, index: Index, encoder: HashingEncoder
) -> None:
    """What was sent may be found a little later; after a minute that is an error."""
    waits: list[float] = []
    server.lag = 3
    PineconeRetriever(index, encoder, index=None, host=server.url, wait=waits.append).search(["x"], 1)
    assert waits == [0.5] * 3

    server.namespaces.clear()
    server.lag = 10_000
    slow = PineconeRetriever(index, encoder, index=None, host=server.url, wait=waits.append)
    with pytest.raises(ModelError, match="Pinecone has counted 3 of 4 vectors"):
        slow.search(["x"], 1)
    assert sum(waits) == pytest.approx(1.5 + 60)


def test_errors_have_the_services_words(
    server: PineconeServer,
    index: Index,
    encoder: HashingEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refusal, another dimension and a wrong key name the index and the way out."""
    server.dimension = 3
    with pytest.raises(ModelError, match="dimension does not match") as caught:
        retriever(server, index, encoder).search(["x"], 1)
    assert "of dimension 256" in str(caught.value.hint)
    server.refusal = 403
    with pytest.raises(ModelError, match="the index is paused"):
        retriever(server, index, encoder).search(["x"], 1)
    monkeypatch.setenv("PINECONE_API_KEY", "another")
    with pytest.raises(ModelError, match="Invalid API Key"):
        retriever(server, index, encoder).search(["x"], 1)


def test_what_is_missing_is_named(
    server: PineconeServer,
    index: Index,
    encoder: HashingEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An index, a key, the SDK."""
    with pytest.raises(UsageError, match="no index is named"):
        PineconeRetriever(index, encoder, index=None).search(["x"], 1)
    monkeypatch.delenv("PINECONE_API_KEY")
    with pytest.raises(UsageError, match="PINECONE_API_KEY is not set"):
        retriever(server, index, encoder).search(["x"], 1)
    importlib.import_module("pinecone")
    monkeypatch.setitem(sys.modules, "pinecone", None)
    with pytest.raises(MissingExtra, match="Searching at Pinecone needs the package"):
        retriever(server, index, encoder).search(["x"], 1)
