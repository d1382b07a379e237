"""A project's contenders behind the OpenAI API: listed, asked as they were measured, streamed, refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from openai import BadRequestError, NotFoundError

from tunesmith.errors import UsageError
from tunesmith.project import Project
from tunesmith.serving.options import Options, options_from
from tunesmith.serving.server import open_services

from .running import Running, serving

QUESTION = "keep a number within bounds"
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]


class Toolbox(Protocol):
    """What the fixture `toolbox` gives."""

    project: Project


@pytest.fixture(scope="module")
def server(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Iterator[Running]:
    """A server of the finished project, and of a model that is called as a contender would be."""
    options = Options(models={"tiny": tiny, "few_shot": "tiny"}, project=str(toolbox.project.path))
    with serving(tmp_path_factory.mktemp("contending") / "home", options) as running:
        yield running


def test_contenders_are_listed_beside_models(server: Running, toolbox: Toolbox) -> None:
    """Those that are measured; one that is not can be asked about by its name all the same."""
    names = [one.id for one in server.client.models.list()]
    assert set(names) == {"tiny", "few_shot", *toolbox.project.config.contenders}
    assert len(names) == len(set(names))
    assert server.client.models.retrieve("nearest_shots+bm25").owned_by == "tunesmith"
    with pytest.raises(NotFoundError):
        server.client.models.retrieve("nearest_shots+unheard")


@pytest.mark.parametrize("name", ["base", "tuned+tuned_retrieval", "nearest_shots+bm25", "classifier"])
def test_a_contender_answers_as_it_was_measured(server: Running, toolbox: Toolbox, name: str) -> None:
    """With the project's system message and settings; what was retrieved stands beside the answer."""
    found = server.client.chat.completions.create(model=name, messages=ASKED)
    here = toolbox.project.ask(QUESTION, name).answer
    extra = found.model_extra or {}

    assert found.model == name
    assert found.choices[0].message.content == here.text
    assert found.choices[0].finish_reason == here.finish
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (
        here.prompt_tokens,
        here.completion_tokens,
    )
    assert tuple(extra["tunesmith"]["retrieved"]) == here.retrieved
    assert extra["tunesmith"]["confidence"] == here.confidence


def test_a_request_may_say_how(server: Running) -> None:
    """Its own system message takes the place of the project's, its own number of tokens counts."""
    usual = server.client.chat.completions.create(model="base", messages=ASKED, max_tokens=3)
    own = server.client.chat.completions.create(
        model="base", messages=[{"role": "system", "content": "S"}, *ASKED], max_tokens=3
    )
    assert usual.usage is not None
    assert own.usage is not None
    assert usual.usage.completion_tokens <= 3
    assert own.usage.prompt_tokens < usual.usage.prompt_tokens


def test_streams_say_the_same(server: Running) -> None:
    """Piece by piece; whole, with its tokens, where those are asked for."""
    whole = server.client.chat.completions.create(model="retrieval", messages=ASKED)
    pieces = list(server.client.chat.completions.create(model="retrieval", messages=ASKED, stream=True))
    counted = list(
        server.client.chat.completions.create(
            model="retrieval", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
    )
    for chunks in (pieces, counted):
        said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(said) == whole.choices[0].message.content
    assert len(pieces) > 3
    assert counted[-1].usage == whole.usage


def test_a_models_own_name_goes_before(server: Running) -> None:
    """A model that the server was started with under a contender's name answers for itself."""
    found = server.client.chat.completions.create(model="few_shot", messages=ASKED, max_tokens=2)
    assert "tunesmith" not in (found.model_extra or {})


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_only_an_engine_can_do_is_refused(server: Running, more: dict[str, Any], param: str) -> None:
    """With the field's name; a stream too is refused before it begins."""
    for stream in (False, True):
        with pytest.raises(BadRequestError) as caught:
            server.client.chat.completions.create(model="base", messages=ASKED, stream=stream, **more)
        assert caught.value.param == param


def test_a_contender_that_cannot_be_made_is_told(server: Running) -> None:
    """In the project's words: json without a schema's file, whole and as a stream."""
    for stream in (False, True):
        with pytest.raises(BadRequestError, match="json_schema"):
            server.client.chat.completions.create(model="base+json", messages=ASKED, stream=stream)


def test_other_doors_say_where_contenders_answer(server: Running) -> None:
    """They answer chats alone."""
    with pytest.raises(BadRequestError, match="answers chats"):
        server.client.responses.create(model="tuned", input=QUESTION)
    with pytest.raises(BadRequestError, match="answers chats"):
        server.client.completions.create(model="tuned", prompt=QUESTION)


def test_a_project_is_looked_at_when_the_server_starts(tmp_path: Path, toolbox: Toolbox) -> None:
    """A folder that is none is refused; the command line's words make the option."""
    with (
        pytest.raises(UsageError, match="There is no"),
        open_services(tmp_path / "home", replace(Options(), project=str(tmp_path))),
    ):
        pass
    assert options_from([], [], project="shop").project == "shop"
    assert options_from([], []).project is None
