"""A judge that favours a place, a fair one and a broken one, each seen for what it is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tunesmith.errors import DatasetError, ModelBusy, ModelRefused
from tunesmith.evaluating.judging import (
    Graded,
    Pair,
    grade_answers,
    judge_pairs,
    read_grade,
    read_winner,
)
from tunesmith.evaluating.pairs import read_rows
from tunesmith.models.base import Sampling
from tunesmith.models.fake import FakeModel
from tunesmith.models.local import LocalModel, load_model, load_tokenizer
from tunesmith.records import Answer, Conversation


def _said(conversation: Conversation, name: str) -> str:
    found = re.search(rf"<{name}>\n(.*?)\n</{name}>", conversation[-1].content, re.DOTALL)
    assert found is not None
    return found[1]


def _fair(conversation: Conversation) -> str:
    """Prefer the answer that is the reference; a tie if both or neither is."""
    reference = _said(conversation, "reference")
    first, second = (_said(conversation, f"answer {letter}") == reference for letter in "AB")
    winner = "tie" if first == second else "A" if first else "B"
    return json.dumps({"reason": "it is the reference", "winner": winner})


PAIRS = (
    Pair("1", "2 + 2?", "4", "5", reference="4", human="a"),
    Pair("2", "2 + 3?", "4", "5", reference="5", human="b"),
    Pair("3", "1 + 1?", "2", "2", reference="2", human="tie"),
    Pair("4", "3 + 3?", "6", "it is 7", reference="6", human="a"),
    Pair("5", "3 + 4?", "7", "it is 7!", reference="7", human="b"),
)


def test_a_fair_judge_is_right_in_either_order() -> None:
    """It has no ties but real ones, no errors, and agrees with people but for one pair."""
    found = judge_pairs(FakeModel(_fair), PAIRS)
    assert [one.winner for one in found.verdicts] == ["a", "b", "tie", "a", "a"]
    assert (found.a, found.b, found.ties, found.errors, found.order_dependent) == (3, 1, 1, 0, 0)
    assert found.position_bias == 0
    assert found.win_rate is not None
    assert found.win_rate.value == found.least == found.most == 0.7
    assert found.win_rate.low < 0.5  # five pairs say little
    assert found.win_rate.high > 0.9
    assert found.human is not None
    assert (found.human.n, found.human.same, found.unjudged) == (5, 4, 0)
    assert found.longer == 0  # of the two decided pairs of unequal length, the shorter won both


def test_a_judge_that_always_takes_the_first_decides_nothing() -> None:
    """All its verdicts depend on the order: ties, and a rate of one half."""
    found = judge_pairs(FakeModel(lambda _: '{"reason": "", "winner": "A"}'), PAIRS)
    assert (found.a, found.b, found.ties, found.order_dependent) == (0, 0, 5, 5)
    assert (found.first_place, found.second_place, found.position_bias) == (5, 0, 1.0)
    assert found.win_rate is not None
    assert found.win_rate.value == 0.5


def test_a_broken_judge_has_errors_and_no_rate() -> None:
    """What cannot be read is counted and shown; the rate is unknown between its bounds."""
    found = judge_pairs(FakeModel(lambda _: "Both have their merits."), PAIRS)
    assert (found.errors, found.win_rate, found.position_bias) == (5, None, None)
    assert (found.least, found.most) == (0.0, 1.0)
    assert (found.human, found.unjudged) == (None, 5)
    assert all(vote.said is None and vote.reply for one in found.verdicts for vote in one.votes)


def test_one_order_that_cannot_be_read_is_an_error_of_the_pair() -> None:
    """Half a judgement is none, and widens the bounds by one pair."""

    def half(conversation: Conversation) -> str:
        broken = "2 + 2?" in conversation[-1].content and _said(conversation, "answer A") == "5"
        return "hm" if broken else _fair(conversation)

    found = judge_pairs(FakeModel(half), PAIRS)
    assert (found.a, found.errors) == (2, 1)
    assert found.most - found.least == pytest.approx(1 / 5)
    assert found.verdicts[0].votes[0].said == "a"
    assert found.verdicts[0].votes[1].said is None


def test_a_tie_in_one_order_depends_on_the_order_too() -> None:
    """It is no bias towards a place, and no verdict either."""
    judge = FakeModel(lambda asked: "A" if _said(asked, "answer A") == "4" else "tie")
    found = judge_pairs(judge, PAIRS[:1])
    assert (found.ties, found.order_dependent, found.first_place, found.second_place) == (1, 1, 0, 0)


class _Refusing:
    """A judge that refuses batches which hold a certain question."""

    name = "refusing"

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Answer fairly, or not at all."""
        assert sampling.schema
        if any("3 + 4?" in one[-1].content for one in conversations):
            raise self.error("a content filter stopped it")
        return [Answer(_fair(one)) for one in conversations]

    def stream(self, conversation: Conversation, sampling: Sampling) -> list[str]:
        """Not asked here."""
        raise AssertionError("nothing is streamed here")


def test_a_refused_question_is_an_error_of_its_pair_alone() -> None:
    """The others are asked one by one and judged; a service that is busy is another matter and passes through."""
    found = judge_pairs(_Refusing(ModelRefused), PAIRS)  # type: ignore[arg-type]
    assert [one.winner for one in found.verdicts] == ["a", "b", "tie", "a", None]
    assert found.verdicts[4].votes[0].reason == "refused: a content filter stopped it"
    with pytest.raises(ModelBusy):
        judge_pairs(_Refusing(ModelBusy), PAIRS)  # type: ignore[arg-type]


def test_a_judge_that_is_here_is_held_to_the_form(toolbox_folder: Path) -> None:
    """Even random weights give a verdict each time: there is nothing that cannot be read."""
    folder = toolbox_folder / "models" / "chat"
    judge = LocalModel(load_model(folder), load_tokenizer(folder), name="random")
    found = judge_pairs(judge, [Pair("1", "Q", "one", "two"), Pair("2", "R", "three", "four")])
    assert (found.n, found.errors) == (2, 0)
    assert grade_answers(judge, [Graded("1", "Q", "one", "two")]).errors == 0


def test_the_judge_is_asked_twice_with_all_there_is() -> None:
    """Both orders, the reference and the source if there is one, and nothing of what people said."""
    seen: list[str] = []

    def note(conversation: Conversation) -> str:
        seen.append(conversation[-1].content)
        return "tie"

    judge_pairs(FakeModel(note), [Pair("1", "Q", "one", "", source="S", human="a")])
    assert seen == [
        "<question>\nQ\n</question>\n\n<source>\nS\n</source>\n\n<answer A>\none\n</answer A>\n\n"
        "<answer B>\n\n</answer B>\n\nWhich answer is better?",
        "<question>\nQ\n</question>\n\n<source>\nS\n</source>\n\n<answer A>\n\n</answer A>\n\n"
        "<answer B>\none\n</answer B>\n\nWhich answer is better?",
    ]


@pytest.mark.parametrize(
    ("reply", "winner"),
    [
        ('{"reason": "x", "winner": "B"}', "b"),
        ('```json\n{"winner": "tie", "reason": "{"}\n```', "tie"),
        ("A", "a"),
        ("**B.**", "b"),
        ("[[A]]", "a"),
        ("Answer B", "b"),
        ("I think the first is wrong.\nWinner: B", "b"),
        ("The winner is Answer A.", "a"),
        ("A is better than B", None),
        ('{"winner": "C"}', None),
        ('{"winner": "A"} {"winner": "B"}', None),
        ('{"reason": "the winner: A", "winner": ', None),
        ("", None),
        ("[[A]] or [[B]]", None),
    ],
)
def test_replies_are_read_and_not_guessed_at(reply: str, winner: str | None) -> None:
    """JSON, a letter, or a last line; what leaves a doubt is an error."""
    assert read_winner(reply) == winner


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ('{"reason": "no", "grade": "right"}', "right"),
        ("Incorrect.", "wrong"),
        ("yes", "right"),
        ("Grade: wrong", "wrong"),
        ("not right", None),
    ],
)
def test_grades_are_read_likewise(reply: str, grade: str | None) -> None:
    """In JSON or in one word."""
    assert read_grade(reply) == grade


def test_answers_are_graded_against_the_reference() -> None:
    """Right, wrong and errors add up; agreement is over those that were graded."""

    def grade(conversation: Conversation) -> str:
        answer = _said(conversation, "answer")
        return "?" if answer == "" else "right" if answer == _said(conversation, "reference") else "wrong"

    answers = [
        Graded("1", "q", "4", "4", human="right"),
        Graded("2", "q", "5", "4", human="right"),
        Graded("3", "q", "", "4", human="wrong"),
        Graded("4", "q", "5", "4", human="wrong"),
    ]
    found = grade_answers(FakeModel(grade), answers)
    assert (found.right, found.wrong, found.errors, found.least, found.most) == (1, 2, 1, 0.25, 0.5)
    assert found.share is not None
    assert found.share.value == pytest.approx(1 / 3)
    assert found.human is not None
    assert (found.human.n, found.human.same, found.unjudged) == (3, 2, 1)


def test_nothing_to_judge_is_an_error() -> None:
    """No pairs and no answers have no rate."""
    for call in (judge_pairs, grade_answers):
        with pytest.raises(DatasetError):
            call(FakeModel({}), [])


def _file(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8"
    )
    return path


def test_rows_of_both_kinds_are_read(tmp_path: Path) -> None:
    """Pairs and single answers, a person's verdict in a field of any name, and what is not read is named."""
    found = read_rows(
        _file(tmp_path, {"question": "q", "a": "x", "b": "y", "rated": "Tie", "by": "me"}), "rated"
    )
    assert found.pairs == (Pair("line 1", "q", "x", "y", human="tie"),)
    assert found.not_read == {"by": 1}
    found = read_rows(_file(tmp_path, {"id": 7, "question": "q", "answer": "", "reference": "r"}))
    assert found.answers == (Graded("7", "q", "", "r"),)


def test_all_defects_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    """Each with its line."""
    rows = ("{", {"question": "q", "a": "x"}, {"question": 1, "a": "x", "b": "y", "human": "c"})
    with pytest.raises(DatasetError) as caught:
        read_rows(_file(tmp_path, *rows))
    for said in (
        "line 1: this is no JSON object",
        "line 2: 'b' is missing",
        "line 3: 'question' is no text but 1",
        "line 3: 'human' is 'c'",
    ):
        assert said in caught.value.message
    with pytest.raises(DatasetError, match="no row"):
        read_rows(_file(tmp_path))
    with pytest.raises(DatasetError, match="stands 2 times"):
        read_rows(_file(tmp_path, *[{"id": "x", "question": "q", "a": "x", "b": "y"}] * 2))
    with pytest.raises(DatasetError, match="cannot be read"):
        read_rows(tmp_path / "nowhere.jsonl")
