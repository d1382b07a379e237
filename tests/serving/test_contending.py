"""A project's contenders behind the OpenAI API: listed, asked as they were measured, streamed, refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from openai import BadRequestError, NotFoundError

from tunesmith.errors import UsageError
from tunesmith.models.base import Sampling
from tunesmith.project import Project
from tunesmith.records import Message
from tunesmith.serving.options import Options, options_from
from tunesmith.serving.server import open_services

from .running import Running, serving

QUESTION = "keep a number within bounds"
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]


class Toolbox(Protocol):
    """What the fixture `toolbox` gives."""

    project: Project

    def copy(self, folder: Path) -> Project:
        """Return the project in another folder."""


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


def test_streams_count_as_whole_answers_do(server: Running) -> None:
    """A key's tokens a minute hold for them, and the server's figures have them."""
    limiter = server.services.limiter

    def counted(**more: Any) -> tuple[int, int]:
        before = (limiter.read, limiter.said)
        answer = server.client.chat.completions.create(model="retrieval", messages=ASKED, **more)
        if more:
            list(answer)
        return limiter.read - before[0], limiter.said - before[1]

    whole = counted()
    assert min(whole) > 0
    assert counted(stream=True) == whole
    assert counted(stream=True, stream_options={"include_usage": True}) == whole


def test_a_contender_that_was_trained_meanwhile_is_asked(
    toolbox: Toolbox, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What was asked before training does not hold the others to what was there."""
    project = toolbox.copy(tmp_path / "copy")
    [trained] = [one.path for one in project.store.list() if one.stage == "train"]
    trained.rename(tmp_path / "later")
    options = Options(project=str(project.path))
    with serving(tmp_path_factory.mktemp("meanwhile") / "home", options) as running:
        asking = running.client.chat.completions
        asking.create(model="base", messages=ASKED, max_tokens=2)
        with pytest.raises(BadRequestError, match="train must be run first"):
            asking.create(model="tuned", messages=ASKED, max_tokens=2)
        (tmp_path / "later").rename(trained)
        found = asking.create(model="tuned", messages=ASKED, max_tokens=8)
    here = toolbox.project.contender("tuned")
    [answer] = here.reply(
        [(Message("system", toolbox.project.system), Message("user", QUESTION))], Sampling(max_tokens=8)
    )
    assert found.choices[0].message.content == answer.text


def test_calls_are_held_against_the_projects_catalogue(
    toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where the policy names no other: the server starts, and what exists may be said."""
    folder = tmp_path_factory.mktemp("calls")
    policy = folder / "policy.toml"
    policy.write_text('[output.calls]\naction = "refuse"\n', encoding="utf-8")
    with serving(folder / "home", Options(project=str(toolbox.project.path)), policy=policy) as running:
        found = running.client.chat.completions.create(model="classifier", messages=ASKED)
    assert found.choices[0].finish_reason == "stop"
    assert "toolbox" in (found.choices[0].message.content or "")


def test_what_a_contender_retrieves_is_within_rails(
    toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A refused passage is not shown, and what is said is held against the others, whole and as a stream."""
    first, *others = toolbox.project.ask(QUESTION, "retrieval").answer.retrieved
    assert others
    folder = tmp_path_factory.mktemp("within")
    policy = folder / "policy.toml"
    policy.write_text(
        f'[retrieval.sources]\ndeny = ["{first}"]\n[output.grounding]\naction = "refuse"\nleast = 1\n',
        encoding="utf-8",
    )
    with serving(folder / "home", Options(project=str(toolbox.project.path)), policy=policy) as running:
        asking = running.client.chat.completions
        whole = asking.create(model="retrieval", messages=ASKED)
        *_, last = asking.create(model="retrieval", messages=ASKED, stream=True)
    assert list((whole.model_extra or {})["tunesmith"]["retrieved"]) == others
    for choice in (whole.choices[0], last.choices[0]):
        assert choice.finish_reason == "content_filter"
        rails = [each["rail"] for each in (choice.model_extra or {})["guard"]]
        assert rails == ["retrieval.sources", "output.grounding"]
