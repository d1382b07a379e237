"""The same question of the same model is answered once, across batches, models that differ and kills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.models.base import Sampling
from tunesmith.models.fake import FakeModel
from tunesmith.models.keeping import keeping
from tunesmith.records import Answer, Conversation, Message

GREEDY = Sampling(max_tokens=5)


def asked(text: str) -> Conversation:
    """A conversation of one question."""
    return (Message("user", text),)


@pytest.fixture
def counted() -> tuple[FakeModel, list[str]]:
    """A model that notes what it is asked."""
    seen: list[str] = []

    def say(conversation: Conversation) -> str:
        seen.append(conversation[-1].content)
        return f"you said {conversation[-1].content}"

    return FakeModel(say), seen


def test_what_was_asked_is_not_asked_again(counted: tuple[FakeModel, list[str]], tmp_path: Path) -> None:
    """In a batch, in a later one, and by another process that reads the folder; order and answers stay the same."""
    model, seen = counted
    kept = keeping(model, tmp_path, identity="m")
    first = kept.reply([asked("a"), asked("b"), asked("a")], GREEDY)
    assert first == model.reply([asked("a"), asked("b"), asked("a")], GREEDY)
    seen.clear()
    assert kept.reply([asked("b"), asked("c")], GREEDY)[0] == first[1]
    assert seen == ["c"]
    again = keeping(model, tmp_path, identity="m")
    assert again.reply([asked("c"), asked("a"), asked("b")], GREEDY)[1:] == first[:2]
    assert seen == ["c"]
    assert again.name == "fake"


@pytest.mark.parametrize(
    "differs",
    [
        Sampling(max_tokens=4),
        Sampling(max_tokens=5, stop=("x",)),
        Sampling(max_tokens=5, schema="{}"),
    ],
)
def test_another_way_of_asking_is_another_question(
    counted: tuple[FakeModel, list[str]], tmp_path: Path, differs: Sampling
) -> None:
    """The limit, stop strings and the schema count; so does who is asked."""
    model, seen = counted
    keeping(model, tmp_path, identity="m").reply([asked("a")], GREEDY)
    keeping(model, tmp_path, identity="m").reply([asked("a")], differs)
    keeping(model, tmp_path, identity="m2").reply([asked("a")], GREEDY)
    assert seen == ["a", "a", "a"]
    keeping(model, tmp_path, identity="m").reply([asked("a")], Sampling(max_tokens=5, seed=7))
    assert len(seen) == 3  # a seed changes nothing where the likeliest is taken


def test_what_is_drawn_by_chance_is_not_kept(counted: tuple[FakeModel, list[str]], tmp_path: Path) -> None:
    """Nor is a stream."""
    model, seen = counted
    kept = keeping(model, tmp_path, identity="m")
    for _ in range(2):
        kept.reply([asked("a")], Sampling(temperature=1.0))
        assert "".join(kept.stream(asked("a"), GREEDY)) == "you said a"
    assert seen == ["a"] * 4
    assert not list(tmp_path.iterdir())


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _broken(path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write('["x", {"text": 1}]\n[1, 2, 3]\n7\n')


@pytest.mark.parametrize("harm", [_cut, _broken])
def test_a_torn_line_is_asked_again(
    counted: tuple[FakeModel, list[str]], tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """What a kill left half is no answer, and does not spoil the next."""
    model, seen = counted
    keeping(model, tmp_path, identity="m").reply([asked("a"), asked("b")], GREEDY)
    [path] = tmp_path.iterdir()
    harm(path)
    seen.clear()
    kept = keeping(model, tmp_path, identity="m")
    assert [one.text for one in kept.reply([asked("a"), asked("b")], GREEDY)] == ["you said a", "you said b"]
    assert seen == (["b"] if harm is _cut else [])
    assert len(keeping(model, tmp_path, identity="m").reply([asked("a"), asked("b")], GREEDY)) == 2
    assert seen == (["b"] if harm is _cut else [])


def test_an_answer_keeps_its_seconds_and_sources(tmp_path: Path) -> None:
    """Latencies are those of the model, and not of the look-up."""

    class Slow:
        name = "slow"

        def reply(self, conversations: list[Conversation], sampling: Sampling) -> list[Answer]:
            return [Answer("x", 1, 2, 3.5, "length", ("p",)) for _ in conversations]

    for _ in range(2):
        kept = keeping(Slow(), tmp_path, identity="m")  # type: ignore[arg-type]  # nobody streams
        assert kept.reply([asked("a")], GREEDY) == [Answer("x", 1, 2, 3.5, "length", ("p",))]
