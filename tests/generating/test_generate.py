"""Generating: three kinds of questions, one kind of answer, and numbers that add up."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from tunesmith.catalogue import Catalogue
from tunesmith.generating.asking import Asker
from tunesmith.generating.generate import Generated, GenerateSettings, OriginCount, generate
from tunesmith.generating.replies import Replies
from tunesmith.models.fake import FakeModel
from tunesmith.records import Conversation, Document, Rejection, Written, fingerprint

NO_RULES = GenerateSettings(rules_per_entry=0)


def _teach(conversation: Conversation) -> str:
    """Ask one good question, one with a false quote, and leave one out."""
    text = conversation[-1].content
    name = text.split("<document>\n")[1].partition("(")[0]
    summary = text.split("\n\n")[2].split("\n")[0]
    return "\n".join(
        json.dumps({"question": question, "quote": quote})
        for question, quote in (
            (f"What may {len(name)} do for me with {summary[-9:]}", summary[:18]),
            (f"Something false about {len(name)} {summary[-9:]}", "these words are not there"),
        )
    )


def test_a_written_question_gets_the_derived_answer(
    catalogue: Catalogue, documents: tuple[Document, ...]
) -> None:
    """The example keeps where the question came from, what else is right, and the answer's evidence."""
    written = Written("How big is it?", ("shapes.area", "shapes.edges"), "train.jsonl", 7)

    (example,) = generate(documents, catalogue, written=[written], settings=NO_RULES).examples

    assert example.id == fingerprint("How big is it?", "shapes.area", "written:train.jsonl:7")
    assert (example.origin, example.entry) == ("written:train.jsonl:7", "shapes.area")
    assert example.acceptable == ("shapes.area", "shapes.edges")
    assert example.answer.startswith(
        "`shapes.area` returns the area of a shape.\n\n```python\nimport shapes as sh"
    )
    assert [(piece.document, piece.quote) for piece in example.evidence] == [
        ("doc#shapes.area", "Return the area of a ``shape"),
        ("doc#shapes.area", '>>> sh.area(s, unit="cm")'),
    ]


def test_a_written_question_about_nothing_known_is_rejected(
    catalogue: Catalogue, documents: tuple[Document, ...]
) -> None:
    """A slip in a name is shown with the nearest name; an unknown alternative is noted and left out."""
    written = [
        Written("How big?", ("shapes.areas",), "train.jsonl", 1),
        Written("How wide?", ("shapes.area", "shapes.width"), "train.jsonl", 2),
    ]

    made = generate(documents, catalogue, written=written, settings=NO_RULES)

    assert made.rejections == (
        Rejection(
            "generate",
            "unknown entry",
            "written:train.jsonl:1",
            "'How big?': shapes.areas is not in shapes 1.2, the nearest is shapes.area",
        ),
    )
    assert [example.acceptable for example in made.examples] == [("shapes.area",)]
    assert len(made.notes) == 1
    assert made.notes[0].startswith("train.jsonl, line 2: shapes.width is not in shapes 1.2")


def test_rules_ask_as_often_as_they_can(catalogue: Catalogue, documents: tuple[Document, ...]) -> None:
    """What the rules cannot ask is rejected, entry by entry, and the numbers add up."""
    made = generate(documents, catalogue, settings=GenerateSettings(rules_per_entry=3))

    assert made.tally.requested == 15
    assert made.tally.accepted == len(made.examples) == sum(found.count for found in made.origins)
    assert made.tally.rejected == {"no rule applies": 15 - len(made.examples)}
    assert {example.origin.partition(":")[0] for example in made.examples} == {"rule"}
    assert len({example.id for example in made.examples}) == len(made.examples)


@pytest.mark.parametrize(
    "changed",
    [{"rules": ("does",)}, {"rules_per_entry": 1}, {"seed": 1}],
)
def test_every_setting_of_the_rules_changes_the_examples(
    catalogue: Catalogue, documents: tuple[Document, ...], changed: dict[str, object]
) -> None:
    """No setting is read by nothing, and equal settings give equal examples."""
    first = generate(documents, catalogue, settings=GenerateSettings())
    settings = GenerateSettings.model_validate(changed)

    assert generate(documents, catalogue, settings=settings).examples != first.examples
    assert generate(documents, catalogue, settings=GenerateSettings()) == first


def test_unknown_settings_are_refused() -> None:
    """A misspelt key or rule is an error, not a default."""
    for wrong in ({"rule": ()}, {"rules": ("dose",)}, {"rules_per_entry": -1}):
        with pytest.raises(ValidationError):
            GenerateSettings.model_validate(wrong)


def test_a_teachers_questions_are_verified_and_counted(
    catalogue: Catalogue, documents: tuple[Document, ...]
) -> None:
    """Good ones are kept with their quote, false quotes rejected, missing ones failed."""
    settings = GenerateSettings(rules_per_entry=0, questions_per_entry=3)

    made = generate(documents, catalogue, teacher=Asker(FakeModel(_teach)), settings=settings)

    assert (made.tally.requested, made.tally.accepted, made.tally.failed) == (15, 5, 5)
    assert made.tally.rejected == {"quote not in the document": 5}
    assert made.origins == (OriginCount("teacher:fake", 5),)
    assert made.examples[0].evidence[0].quote == "Return the area of"


def test_what_a_teacher_writes_too_much_or_unreadably_is_told(
    catalogue: Catalogue, documents: tuple[Document, ...]
) -> None:
    """One question is asked for: the second is rejected by rule, a broken line is noted."""
    teacher = FakeModel(lambda conversation: _teach(conversation) + '\n{"question": "cut o')
    settings = GenerateSettings(rules_per_entry=0, questions_per_entry=1)

    made = generate(
        documents[:1],
        replace(catalogue, entries=catalogue.entries[:1]),
        teacher=Asker(teacher),
        settings=settings,
    )

    assert made.tally.rejected == {"more than asked for": 1}
    assert made.notes == (
        'shapes.area: the teacher wrote a line that cannot be read: \'{"question": "cut o\'',
    )


def test_kept_replies_save_the_teacher_from_being_asked_again(
    catalogue: Catalogue, documents: tuple[Document, ...], tmp_path: Path
) -> None:
    """After a kill in the middle of a line only that entry is asked about again, to the same result."""
    kept = tmp_path / "replies.jsonl"
    asked: list[str] = []

    def teach(conversation: Conversation) -> str:
        asked.append(conversation[-1].content)
        return _teach(conversation)

    def made() -> Generated:
        with closing(Replies(kept)) as replies:
            teacher = Asker(FakeModel(teach), replies)
            return generate(documents, catalogue, teacher=teacher, settings=NO_RULES)

    unbroken = made()
    whole = kept.read_text(encoding="utf-8")
    kept.write_text(whole[:-30], encoding="utf-8")

    assert made() == unbroken
    assert len(asked) == 6


def test_progress_is_told(catalogue: Catalogue, documents: tuple[Document, ...]) -> None:
    """The caller sees how many entries the teacher was asked about."""
    seen: list[tuple[int, int]] = []

    generate(
        documents,
        catalogue,
        teacher=Asker(FakeModel(_teach)),
        settings=NO_RULES,
        on_progress=lambda done, total, note="": seen.append((done, total)),
    )

    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
