"""Curating as a whole: five disjoint sets, every loss with its reason, no leak unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from tunesmith.catalogue import Catalogue
from tunesmith.curating.benchmarks import Benchmark
from tunesmith.curating.checks import PASSED
from tunesmith.curating.curate import Curated, CurateSettings, curate
from tunesmith.errors import DatasetError, LeakError
from tunesmith.records import Document, Example, Rejection, Written, fingerprint

Make = Callable[..., Example]
Run = Callable[..., Curated]


def _answer(entry: str) -> str | None:
    return (
        None if entry == "many.f_39" else f"`{entry}` does it.\n\n```python\nimport many\n\n{entry}(x)\n```"
    )


def _asked(question: str, *acceptable: str, line: int = 1) -> Written:
    return Written(question, acceptable, "asked.jsonl", line)


@pytest.fixture
def run(catalogue: Catalogue, documents: tuple[Document, ...]) -> Run:
    """Return a function that curates examples with the package's catalogue and documents."""

    def _run(
        examples: list[Example],
        asked: tuple[Written, ...] = (),
        benchmarks: tuple[Benchmark, ...] = (),
        **settings: object,
    ) -> Curated:
        chosen = CurateSettings.model_validate(settings)
        return curate(
            examples, asked, documents, catalogue, answer_of=_answer, settings=chosen, benchmarks=benchmarks
        )

    return _run


def test_every_example_is_in_one_set_or_rejected(run: Run, rows: list[Example]) -> None:
    """The numbers add up, each kept example carries the checks it passed, and the tests are written ones."""
    made = run(rows, (_asked("is there any remedy for my trouble", "many.f_3"),))

    sets = (made.train, made.valid, made.seen, made.unseen, made.asked)
    ids = [example.id for rows in sets for example in rows]
    assert len(ids) == len(set(ids)) == made.tally.accepted
    assert made.tally.requested == len(rows) + 1
    assert made.tally.rejected == dict(Counter(found.rule for found in made.rejections))
    assert {example.checks for rows in sets for example in rows} == {PASSED}
    assert [found.set for found in made.distances] == ["seen", "unseen", "asked"]


def test_an_asked_question_gets_the_reference_answer(run: Run, rows: list[Example]) -> None:
    """The first acceptable entry answers; all known ones are acceptable; an unknown one is noted."""
    made = run(
        rows, (_asked("is there any remedy for my trouble", "many.f_3", "many.f_4", "many.lost", line=9),)
    )

    (example,) = made.asked
    assert example == Example(
        id=fingerprint("is there any remedy for my trouble", "many.f_3", "written:asked.jsonl:9"),
        question="is there any remedy for my trouble",
        answer=_answer("many.f_3") or "",
        origin="written:asked.jsonl:9",
        entry="many.f_3",
        acceptable=("many.f_3", "many.f_4"),
        checks=PASSED,
    )
    assert len(made.notes) == 1
    assert made.notes[0].startswith("asked.jsonl, line 9: many.lost is not in many 1.0")


@pytest.mark.parametrize(
    ("question", "entry", "rule"),
    [
        ("is there any remedy for me", "many.lost", "unknown entry"),
        ("is there any remedy for me", "many.f_39", "no answer"),
        ("is f_3 what I want", "many.f_3", "names the function"),
    ],
)
def test_an_asked_question_that_cannot_be_used_has_a_reason(
    run: Run, rows: list[Example], question: str, entry: str, rule: str
) -> None:
    """Nothing of the user's file is lost without a word."""
    made = run(rows, (_asked(question, entry),))

    assert made.asked == ()
    assert made.rejections[-1].rule == rule
    assert question in made.rejections[-1].detail


def test_an_asked_question_in_the_training_file_stops_the_run(run: Run, rows: list[Example]) -> None:
    """The file is the user's to mend: the error shows both questions and where they stand."""
    leaking = next(row for row in run(rows).train if row.origin.startswith("written:"))
    asked = (_asked(leaking.question + "?", leaking.entry or ""),)

    with pytest.raises(LeakError) as caught:
        run(rows, asked)
    assert leaking.question in caught.value.message
    assert leaking.origin in caught.value.message


def test_an_accepted_leak_keeps_the_asked_question_and_drops_the_training_row(
    run: Run, rows: list[Example]
) -> None:
    """Who must keep both names the asked example; what trains is left out, with its reason."""
    leaking = next(row for row in run(rows).train if row.origin.startswith("written:"))
    asked = _asked(leaking.question, leaking.entry or "")
    example_id = fingerprint(asked.question, leaking.entry, asked.origin)

    made = run(rows, (asked,), accept_leaks=[example_id])

    assert [row.id for row in made.asked] == [example_id]
    assert leaking.id not in {row.id for row in made.train}
    assert [(found.rule, found.item) for found in made.rejections if found.rule.startswith("leaks")] == [
        ("leaks into asked", leaking.id)
    ]
    assert [(leak.set, leak.test, leak.train) for leak in made.leaks] == [("asked", example_id, leaking.id)]


def test_where_the_only_valid_row_leaks_another_is_chosen(run: Run, rows: list[Example]) -> None:
    """Training cannot go without one; where none is wanted, none is chosen."""
    [only] = run(rows, valid_share=1e-9).valid
    asked = _asked(only.question, only.entry or "")
    accepted = [fingerprint(asked.question, only.entry, asked.origin)]

    made = run(rows, (asked,), valid_share=1e-9, accept_leaks=accepted)

    assert len(made.valid) == 1
    assert made.valid[0] not in made.train
    assert only not in (*made.valid, *made.train)
    assert not run(rows, (asked,), valid_share=0, accept_leaks=accepted).valid


def test_a_rules_question_that_leaks_is_left_out_without_stopping(run: Run, rows: list[Example]) -> None:
    """What we made ourselves is ours to mend."""
    leaking = next(row for row in run(rows).train if row.origin.startswith("rule:"))

    made = run(rows, (_asked(leaking.question, leaking.entry or ""),))

    assert leaking.id not in {row.id for row in (*made.train, *made.valid)}
    assert made.tally.rejected["leaks into asked"] == 1


def test_training_rows_that_name_an_unseen_entry_are_left_out(
    run: Run, rows: list[Example], make: Make
) -> None:
    """Train never mentions what unseen asks about."""
    unseen = sorted({row.entry or "" for row in run(rows).unseen})[0]
    seen = next(row.entry or "" for row in run(rows).train)
    naming = make(int(seen.rpartition("_")[2]), f"Should I use `{seen}` or `{unseen}`?", "rule:neighbours")

    made = run([*rows, naming])

    assert [(found.rule, found.item) for found in made.rejections if found.item == naming.id] == [
        ("names an unseen entry", naming.id)
    ]


@pytest.mark.parametrize("changed", [{"near_duplicate": 0.3}, {"leak_similarity": 0.3}, {"leak_words": 3}])
def test_every_setting_changes_what_is_kept(run: Run, rows: list[Example], changed: dict[str, float]) -> None:
    """No threshold is read by nothing."""
    assert run(rows, **changed).train != run(rows).train


def test_too_little_left_after_the_checks_is_an_error(run: Run, rows: list[Example]) -> None:
    """The error counts what is left, not what came in."""
    with pytest.raises(DatasetError, match="4 examples about 1 entries are left"):
        run([row for row in rows if row.entry == "many.f_1" and row.origin != "rule:does"])


def test_what_people_made_of_examples_is_checked_as_everything_else(
    catalogue: Catalogue, documents: tuple[Document, ...], rows: list[Example]
) -> None:
    """Rejected ones go with their reason, edited ones must pass, more checks stay; the numbers add up."""
    gone, broken, seen = rows[0], rows[1], rows[2]

    def review(example: Example) -> Example | Rejection:
        if example.id == gone.id:
            return Rejection("curate", "reviewed out", example.id, "ann: no")
        if example.id == broken.id:
            return replace(example, answer="Sing.", checks=("reviewed",))
        return replace(example, checks=("reviewed",)) if example.id == seen.id else example

    made = curate(rows, (), documents, catalogue, answer_of=_answer, settings=CurateSettings(), review=review)

    failed = {one.item: one for one in made.rejections if one.item in (gone.id, broken.id)}
    assert failed[gone.id] == Rejection("curate", "reviewed out", gone.id, "ann: no")
    assert (failed[broken.id].rule, "reviewed): the answer is not" in failed[broken.id].detail) == (
        "answer form",
        True,
    )
    kept = {one.id: one for rows in (made.train, made.valid, made.seen, made.unseen) for one in rows}
    assert kept[seen.id].checks == (*PASSED, "reviewed")
    assert made.tally.requested == len(rows) == made.tally.accepted + sum(made.tally.rejected.values())


def test_asked_questions_are_reviewed_too(
    catalogue: Catalogue, documents: tuple[Document, ...], rows: list[Example]
) -> None:
    """What is made of an asked question here can be rejected like any other example."""
    made = curate(
        rows,
        (_asked("is there any remedy for my trouble", "many.f_3"),),
        documents,
        catalogue,
        answer_of=_answer,
        settings=CurateSettings(),
        review=lambda example: (
            Rejection("curate", "reviewed out", example.id, "ann: vague")
            if "remedy" in example.question
            else example
        ),
    )
    assert (made.asked, made.rejections[-1].detail) == ((), "ann: vague")


def test_a_benchmarks_row_in_training_stops_the_run_unless_it_is_accepted_by_name(
    run: Run, rows: list[Example]
) -> None:
    """Then the training examples go, and are accounted for."""
    leaking = next(row for row in run(rows).train if len(row.question.split()) >= 8)
    benchmark = Benchmark.of(
        "quiz.jsonl", ["another row of eight words or some more", f"Q: {leaking.question}"]
    )

    with pytest.raises(LeakError) as caught:
        run(rows, benchmarks=(benchmark,))
    assert "quiz.jsonl:2" in caught.value.message
    for name in ("quiz.jsonl", "quiz.jsonl:2"):
        made = run(rows, benchmarks=(benchmark,), accept_leaks=[name])
        assert leaking.id not in {row.id for row in (*made.train, *made.valid)}
        assert made.tally.rejected["leaks into a benchmark"] >= 1
