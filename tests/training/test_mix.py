from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.models.wrappers import with_passages
from tunesmith.records import Conversation, Evidence, Example, Message, Passage
from tunesmith.training.mix import acceptable, conversations, ranks_of, select
from tunesmith.training.settings import TrainSettings

ENTRIES = tuple(f"p.f_{number}" for number in range(12))
SETTINGS = TrainSettings(retrieved_share=0.75, doubt=1.0, passages=4, seed=5)


@dataclass(frozen=True)
class Ordered:
    """A Retriever that finds the same entries, in this order, for every question."""

    ids: tuple[str, ...] = ENTRIES

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return the first `count` entries for each question."""
        return [tuple(passage(entry) for entry in self.ids[:count]) for _ in questions]


def passage(entry: str) -> Passage:
    """Return an entry's passage."""
    return Passage(entry, f"{entry}(x): Do it.", 0.0)


def made(number: int, entry: str | None, *, rule: bool = False, also: tuple[str, ...] = ()) -> Example:
    """Return an example about an entry, by a person or by a rule."""
    return Example(
        id=f"e{number:03}",
        question=f"question {number}?",
        answer=f"answer {number}",
        origin="rule:docstring" if rule else "written:questions.jsonl:1",
        entry=entry,
        acceptable=() if entry is None else (entry, *also),
    )


def shown(example: Example, *passages: str) -> tuple[Message, ...]:
    """Return the conversation that shows these entries, in this order."""
    asked = (Message("system", "Be brief."), Message("user", example.question))
    return (
        *with_passages(asked, [passage(entry) for entry in passages]),
        Message("assistant", example.answer),
    )


examples_of = st.lists(st.tuples(st.sampled_from((*ENTRIES[:4], None)), st.booleans()), max_size=40).map(
    lambda rows: [made(number, entry, rule=rule) for number, (entry, rule) in enumerate(rows)]
)


@given(examples=examples_of, count=st.none() | st.integers(1, 40), seed=st.integers(0, 3))
def test_select_is_even_and_puts_people_first(examples: list[Example], count: int | None, seed: int) -> None:
    """People's questions come before rules'; among either, no entry is two ahead of one that still has some."""
    chosen = select(examples, count, seed)
    assert len(chosen) == min(len(examples), count or len(examples))
    assert len({example.id for example in chosen}) == len(chosen)
    assert set(chosen) <= set(examples)
    ruled = [example.origin.startswith("rule:") for example in chosen]
    assert ruled == sorted(ruled)
    assert sum(not one for one in ruled) == min(
        len(chosen), sum(not example.origin.startswith("rule:") for example in examples)
    )
    people = Counter(example.group for example in examples if not example.origin.startswith("rule:"))
    taken = Counter(example.group for example in chosen if not example.origin.startswith("rule:"))
    unspent = [entry for entry in people if taken[entry] < people[entry]]
    assert all(max(taken.values(), default=0) <= taken[entry] + 1 for entry in unspent)
    # Rules' questions fill up: an entry with fewer of people's gets its own sooner.
    every, got = Counter(e.group for e in examples), Counter(e.group for e in chosen)
    if any(ruled):
        ahead = {example.group for example in chosen if example.origin.startswith("rule:")}
        short = [entry for entry in every if got[entry] < every[entry]]
        assert all(got[first] <= got[entry] + 1 for first in ahead for entry in short)
    assert select(examples[::-1], count, seed) == chosen


def test_the_seed_decides_which_are_selected() -> None:
    """The order in which examples come does not matter; the seed does."""
    examples = [made(number, ENTRIES[number % 3]) for number in range(30)]
    first, again, other = (
        select(rows, 6, seed) for rows, seed in ((examples, 0), (examples, 0), (examples, 1))
    )
    assert first == again != other


def test_ranks_are_those_of_the_first_acceptable_hit() -> None:
    """From 0, any acceptable entry counts, and beyond `count` there is none."""
    examples = [
        made(0, ENTRIES[0]),
        made(1, ENTRIES[2]),
        made(2, ENTRIES[5], also=(ENTRIES[1],)),
        made(3, ENTRIES[3]),
        made(4, None),
    ]
    assert ranks_of(examples, Ordered(), 3) == (0, 2, 1, None, None)


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (0, ["p.f_9", "p.f_0", "p.f_1", "p.f_3"]),
        (2, ["p.f_0", "p.f_1", "p.f_9", "p.f_3"]),
        (3, ["p.f_0", "p.f_1", "p.f_3", "p.f_9"]),
        (None, ["p.f_0", "p.f_1", "p.f_3", "p.f_4"]),
    ],
)
def test_the_right_entry_stands_at_the_drawn_rank(rank: int | None, expected: list[str]) -> None:
    """Among the retriever's own wrong hits in their order, other acceptable ones left out; or not at all."""
    example = made(0, "p.f_9", also=("p.f_2",))
    settings = SETTINGS.model_copy(update={"retrieved_share": 1.0})
    found = conversations([example], Ordered(), passage, [rank], system="Be brief.", settings=settings)
    assert found == (shown(example, *expected),)


def test_a_right_entry_that_was_found_is_shown_once() -> None:
    """The retriever's own hit on the right entry moves to the drawn rank."""
    example = made(0, "p.f_0")
    settings = SETTINGS.model_copy(update={"retrieved_share": 1.0})
    found = conversations([example], Ordered(), passage, [1], system="Be brief.", settings=settings)
    assert found == (shown(example, "p.f_1", "p.f_0", "p.f_2", "p.f_3"),)


def test_a_share_shows_passages_and_ranks_are_drawn_as_they_came() -> None:
    """Of many examples about the share are shown entries, at ranks in the proportions given; the rest none."""
    examples = [made(number, "p.f_9") for number in range(600)] + [made(600, None)]
    ranks = (0, 0, None)
    found = conversations(examples, Ordered(), passage, ranks, system="Be brief.", settings=SETTINGS)
    forms: dict[str, Callable[[Example], Conversation]] = {
        "plain": shown,
        "first": lambda example: shown(example, "p.f_9", "p.f_0", "p.f_1", "p.f_2"),
        "absent": lambda example: shown(example, "p.f_0", "p.f_1", "p.f_2", "p.f_3"),
    }
    kinds = Counter(
        next(name for name, form in forms.items() if form(example) == conversation)
        for example, conversation in zip(examples, found, strict=True)
    )
    assert kinds["plain"] == pytest.approx(150, abs=40)
    assert kinds["first"] == pytest.approx(300, abs=50)
    assert kinds["absent"] == pytest.approx(150, abs=40)
    # Without an entry there is no right passage to show.
    assert found[-1] == shown(examples[-1])


@pytest.mark.parametrize(("share", "kinds"), [(0.0, {2}), (1.0, {6})])
def test_the_ends_of_the_share(share: float, kinds: set[int]) -> None:
    """None of them or all of them: a prompt with four passages has six lines and a blank one."""
    examples = [made(number, "p.f_9") for number in range(20)]
    settings = SETTINGS.model_copy(update={"retrieved_share": share})
    found = conversations(examples, Ordered(), passage, [0], system="s", settings=settings)
    lines = {sum(bool(line) for message in one[:2] for line in message.content.splitlines()) for one in found}
    assert lines == {kind + (1 if kind > 2 else 0) for kind in kinds}


def test_the_same_seed_gives_the_same_conversations() -> None:
    """Everything hangs on the seed alone."""
    examples = [made(number, "p.f_9") for number in range(40)]
    first, again, other = (
        conversations(
            examples,
            Ordered(),
            passage,
            (0, 1, None),
            system="s",
            settings=SETTINGS.model_copy(update={"seed": seed}),
        )
        for seed in (5, 5, 6)
    )
    assert first == again != other


def test_doubt_is_the_share_in_which_the_right_entry_may_stand_elsewhere() -> None:
    """In the other prompts it stands first; without ranks to draw from it does so in all."""
    examples = [made(number, "p.f_9") for number in range(400)]
    third = [shown(example, "p.f_0", "p.f_1", "p.f_9", "p.f_2") for example in examples]
    first = [shown(example, "p.f_9", "p.f_0", "p.f_1", "p.f_2") for example in examples]

    def found(doubt: float, ranks: Sequence[int | None]) -> list[Conversation]:
        settings = SETTINGS.model_copy(update={"retrieved_share": 1.0, "doubt": doubt})
        return list(conversations(examples, Ordered(), passage, ranks, system="Be brief.", settings=settings))

    assert found(0.0, [2]) == first == found(1.0, [])
    assert found(1.0, [2]) == third
    mixed = found(0.25, [2])
    assert all(one in (a, b) for one, a, b in zip(mixed, first, third, strict=True))
    assert sum(one == b for one, b in zip(mixed, third, strict=True)) == pytest.approx(100, abs=35)


def test_answers_in_words_begin_with_quotes_if_asked() -> None:
    """Of the evidence, what a shown passage says; calls, and prompts without the right passage, have none."""
    evidence = (
        Evidence("s", "d", 0, 7, "Rest 25"),
        Evidence("s", "d", 9, 15, "absent"),
        Evidence("s", "d", 0, 7, "Rest 25"),
    )
    words = replace(made(1, None), evidence=evidence)
    call = made(2, "p.f_1")
    texts = {"d:0": Passage("d:0", "Leave: Rest 25\ndays.", 0.0, "text")}

    def right_of(example: Example) -> tuple[str, ...]:
        return ("d:0",) if example.entry is None else acceptable(example)

    def told(ranks: Sequence[int | None], *, quotes: bool) -> list[str]:
        rows = conversations(
            [words, call],
            Ordered(),
            lambda name: texts.get(name) or passage(name),
            ranks,
            system="S",
            settings=TrainSettings(retrieved_share=1.0, doubt=1.0, passages=3, quotes=quotes),
            right_of=right_of,
        )
        return [row[-1].content for row in rows]

    assert told([0], quotes=True) == ["##begin_quote## Rest 25 ##end_quote##\nanswer 1", "answer 2"]
    assert told([None], quotes=True) == told([0], quotes=False) == ["answer 1", "answer 2"]
