"""Every contender gets the same questions, and a kill costs one batch at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from tunesmith.catalogue import Catalogue
from tunesmith.errors import DamagedArtifact, DatasetError, ModelError
from tunesmith.evaluating.evaluate import EvaluateSettings, evaluate, latencies
from tunesmith.models.base import Sampling
from tunesmith.models.fake import FakeModel
from tunesmith.records import Answer, Conversation, Example, Message, Score, read_jsonl

_BRIDGES = "```python\nimport networkx as nx\n\nnx.bridges(G)\n```"
SETTINGS = EvaluateSettings(batch_size=2)
Sets = dict[str, list[Example]]


MakeExample = Callable[..., Example]


@pytest.fixture
def sets(example: MakeExample) -> Sets:
    """Three questions as users ask them, one like a training question."""
    asked = [example(number, "bridges") for number in range(3)]
    return {"asked": asked, "seen": [example(7, "center")]}


class Counting:
    """A model that keeps the questions it was asked, and fails at the one it is told to."""

    def __init__(self, fail_at: str | None = None) -> None:
        self.name = "counting"
        self.asked: list[str] = []
        self.sampled: list[Sampling] = []
        self.fail_at = fail_at

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Answer `bridges` to everything."""
        self.sampled.append(sampling)
        self.asked += [conversation[-1].content for conversation in conversations]
        if self.fail_at in self.asked:
            raise ModelError("the connection broke")
        return [Answer(_BRIDGES)] * len(conversations)

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Not needed here."""
        raise AssertionError("nothing is streamed here")


def test_waiting_times_are_of_answers_thought_out_anew(sets: Sets) -> None:
    """The first few questions are asked one at a time, and no model may answer with what it remembers."""
    model = Counting()
    taken = latencies(
        model, sets["asked"], system="Answer.", settings=EvaluateSettings(timed=2, max_tokens=7)
    )
    assert len(taken) == 2
    assert model.asked == [one.question for one in sets["asked"][:2]]
    assert model.sampled == [Sampling(max_tokens=7, anew=True)] * 2


def test_every_contender_answers_every_question(sets: Sets, catalogue: Catalogue) -> None:
    """Scores come contender by contender, set by set, question by question, with the model's own answer."""
    models = {
        "base": FakeModel(lambda _: "No idea."),
        "tuned": FakeModel(lambda _: _BRIDGES),
    }
    found = evaluate(models, sets, catalogue, system="Answer.", settings=SETTINGS)
    assert [(one.contender, one.set, one.example, one.verdict) for one in found] == [
        ("base", "asked", "e0", "no_call"),
        ("base", "asked", "e1", "no_call"),
        ("base", "asked", "e2", "no_call"),
        ("base", "seen", "e7", "no_call"),
        ("tuned", "asked", "e0", "exact"),
        ("tuned", "asked", "e1", "exact"),
        ("tuned", "asked", "e2", "exact"),
        ("tuned", "seen", "e7", "valid"),
    ]
    assert found[0].answer.text == "No idea."


def test_the_model_sees_the_system_message_and_the_question_only(sets: Sets, catalogue: Catalogue) -> None:
    """The conversation holds no answer, no entry and no other question."""
    seen: list[Conversation] = []

    def listen(conversation: Conversation) -> str:
        seen.append(conversation)
        return ""

    model = FakeModel(listen)
    evaluate({"base": model}, {"seen": sets["seen"]}, catalogue, system="Be brief.", settings=SETTINGS)
    assert seen == [(Message("system", "Be brief."), Message("user", "question 7"))]


def test_settings_reach_the_model(sets: Sets, catalogue: Catalogue) -> None:
    """`max_tokens` and `stop` cut the answers."""
    model = FakeModel(lambda _: "one two three four")
    short = EvaluateSettings(max_tokens=2)
    stopped = EvaluateSettings(stop=("three",))
    first = evaluate({"m": model}, sets, catalogue, system="", settings=short)[0].answer
    second = evaluate({"m": model}, sets, catalogue, system="", settings=stopped)[0].answer
    assert (first.text, first.finish) == ("one two", "length")
    assert second.text == "one two three"


def test_progress_counts_questions(sets: Sets, catalogue: Catalogue) -> None:
    """After each batch one hears how many of all questions are answered, and where one is."""
    heard: list[tuple[int, int, str]] = []
    evaluate(
        {"base": FakeModel(lambda _: "")},
        sets,
        catalogue,
        system="",
        settings=SETTINGS,
        on_progress=lambda done, total, note="": heard.append((done, total, note)),
    )
    assert heard == [(2, 4, "base on asked"), (3, 4, "base on asked"), (4, 4, "base on seen")]


def test_a_broken_run_goes_on_where_it_stopped(sets: Sets, catalogue: Catalogue, tmp_path: Path) -> None:
    """A model's error passes through, what was answered stays, and the next call asks the rest only."""
    journal = tmp_path / "scores.jsonl"
    with pytest.raises(ModelError, match="the connection broke"):
        evaluate(
            {"m": Counting(fail_at="question 2")},
            sets,
            catalogue,
            system="",
            settings=SETTINGS,
            journal=journal,
        )
    assert [one.example for one in read_jsonl(Score, journal)] == ["e0", "e1"]
    again = Counting()
    found = evaluate({"m": again}, sets, catalogue, system="", settings=SETTINGS, journal=journal)
    assert again.asked == ["question 2", "question 7"]
    assert found == evaluate({"m": Counting()}, sets, catalogue, system="", settings=SETTINGS)
    assert tuple(read_jsonl(Score, journal)) == found


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_kill_anywhere_costs_one_batch(sets: Sets, catalogue: Catalogue, tmp_path: Path, cut: int) -> None:
    """A journal torn at any byte gives the unbroken run's scores; only torn batches are asked again."""
    journal = tmp_path / "scores.jsonl"
    whole = evaluate({"m": Counting()}, sets, catalogue, system="", settings=SETTINGS, journal=journal)
    bytes_before = journal.read_bytes()
    second_line = bytes_before.index(b"\n") + 1
    journal.write_bytes(bytes_before[: second_line + cut])
    model = Counting()
    assert evaluate({"m": model}, sets, catalogue, system="", settings=SETTINGS, journal=journal) == whole
    assert model.asked[-2:] == ["question 2", "question 7"]
    assert model.asked[:-2] in ([], ["question 0", "question 1"])
    assert all(one in whole for one in read_jsonl(Score, journal))


def test_a_damaged_journal_is_named(sets: Sets, catalogue: Catalogue, tmp_path: Path) -> None:
    """A whole line that is no score is damage, not a torn end."""
    journal = tmp_path / "scores.jsonl"
    journal.write_text('{"contender": 1}\n{}\n')
    with pytest.raises(DamagedArtifact, match=r"scores\.jsonl, line 1"):
        evaluate({"m": Counting()}, sets, catalogue, system="", settings=SETTINGS, journal=journal)


def test_a_model_that_leaves_answers_out_is_refused(sets: Sets, catalogue: Catalogue) -> None:
    """Fewer answers than questions would shift every later score."""

    class Lazy(Counting):
        def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
            return []

    with pytest.raises(ModelError, match="lazy gave 0 answers to 2 questions of asked"):
        evaluate({"lazy": Lazy()}, sets, catalogue, system="", settings=SETTINGS)


def test_a_question_that_stands_twice_is_refused(sets: Sets, catalogue: Catalogue) -> None:
    """A question that counts twice would distort the score."""
    twice = {"asked": [*sets["asked"], sets["asked"][0]]}
    with pytest.raises(DatasetError, match="e0 stands twice in the set 'asked'"):
        evaluate({"m": Counting()}, twice, catalogue, system="", settings=SETTINGS)


def test_unknown_settings_are_refused() -> None:
    """A misspelt key is an error, and so is a batch of none."""
    with pytest.raises(ValidationError):
        EvaluateSettings(max_token=3)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        EvaluateSettings(batch_size=0)
