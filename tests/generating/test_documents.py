"""Examples from documents: what a teacher writes, through every gate, with counts that add up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import ConfigError
from tunesmith.generating.asking import Asker
from tunesmith.generating.documents import ModelGate
from tunesmith.generating.generate import Generated, GenerateSettings, Material, generate
from tunesmith.generating.prompts import default_prompts, load_prompts, write_prompts
from tunesmith.models.fake import FakeModel
from tunesmith.records import Chunk, Conversation, Document, Written

TEXT = (
    "The client waits 5 seconds by default. Pass `timeout` to wait longer. It tries three times before it gives up, "
    "and then it raises `Late`. A second client may share its pool of connections."
)
DOCUMENT = Document("doc", "docs", "Waiting", f"Intro.\n\n{TEXT}", "markdown")
CHUNK = Chunk("doc:8", "doc", 8, 8 + len(TEXT), TEXT, "Waiting", topic="t")
GOOD = {
    "style": "factual",
    "question": "How long does a client wait if I say nothing?",
    "answer": "It waits 5 seconds.",
    "quotes": ["The client waits 5 seconds by default."],
}
FALSE_QUOTE = GOOD | {"question": "And what does it raise?", "quotes": ["it raises an error at once"]}
WRONG_NUMBER = GOOD | {"question": "How often does it try again?", "answer": "It tries 7 times."}


def _unused() -> Any:
    raise AssertionError("no gate asked for it")


def _made(
    *rows: object, gates: tuple[ModelGate, ...] = (), judge: FakeModel | None = None, **replies: str
) -> Generated:
    """Generate from one chunk, with a teacher that writes these rows and answers checks with `replies`."""

    def teach(conversation: Conversation) -> str:
        text = conversation[-1].content
        for words, reply in replies.items():
            if words.replace("_", " ") in text:
                return reply
        return "\n".join(map(json.dumps, rows))

    teacher = Asker(FakeModel(teach, name="teacher"))
    material = Material(
        (CHUNK,), {}, default_prompts(), teacher if judge is None else Asker(judge), _unused, _unused
    )
    settings = GenerateSettings(examples_per_chunk=4, gates=gates)
    return generate((DOCUMENT,), None, teacher=teacher, material=material, settings=settings)


def test_a_good_example_is_kept_with_its_evidence() -> None:
    """The quote's place in the document, who wrote it, in which style, and which gates it passed."""
    [example] = _made(GOOD).examples

    assert (example.question, example.answer, example.origin) == (
        GOOD["question"],
        GOOD["answer"],
        "teacher:teacher",
    )
    [evidence] = example.evidence
    assert (evidence.document, evidence.start) == ("doc", 8)
    assert DOCUMENT.text[evidence.start : evidence.end] == evidence.quote == GOOD["quotes"][0]
    assert example.checks == (
        "style:factual",
        "form",
        "language",
        "quotes",
        "numbers",
        "names",
        "symbols",
        "arguments",
        "code",
    )


def test_everything_that_was_asked_for_is_accounted_for() -> None:
    """Kept, rejected by which gate, or failed: what is missing, and what cannot be read."""
    made = _made(GOOD, FALSE_QUOTE, WRONG_NUMBER)

    assert made.tally.requested == 4
    assert made.tally.accepted == 1
    assert made.tally.rejected == {"gate: quotes": 1, "gate: numbers": 1}
    assert made.tally.failed == 1
    assert made.rejections[0].item == "doc:8"


def test_a_repeated_question_is_asked_once() -> None:
    """Of two the first is kept; more than asked for are told as such."""
    others = [GOOD | {"question": f"How long does client {name} wait?"} for name in "abc"]
    made = _made(GOOD, GOOD, *others)

    assert made.tally.rejected == {"repeats a question": 1, "more than asked for": 1}


def test_a_conversation_keeps_its_turns() -> None:
    """The last question is the example's, what was said before stands before it."""
    turns = [
        {"question": "Does a client wait for a server?", "answer": "It waits 5 seconds."},
        {"question": "And if that is too short?", "answer": "Pass `timeout`."},
    ]
    [example] = _made({"style": "multi-turn", "turns": turns, "quotes": GOOD["quotes"]}).examples

    assert (example.question, example.answer) == (turns[1]["question"], "Pass `timeout`.")
    assert [(message.role, message.content) for message in example.messages] == [
        ("user", turns[0]["question"]),
        ("assistant", turns[0]["answer"]),
    ]


def test_silence_has_the_whole_piece_as_evidence() -> None:
    """What was read for an answer, and holds none."""
    row = GOOD | {"style": "not in the material", "answer": "The documentation does not say.", "quotes": []}
    [example] = _made(row).examples

    assert example.evidence[0].quote == TEXT


@pytest.mark.parametrize(
    ("from_source", "same", "kept", "reason"),
    [
        ("It waits five seconds.", "YES", True, ""),
        ("It waits five seconds.", "no", False, "gate: round trip"),
        ("NOT IN THE TEXT", "YES", False, "gate: round trip"),
        ("It waits five seconds.", "perhaps", False, "failed"),
    ],
)
def test_the_round_trip_asks_again(from_source: str, same: str, kept: bool, reason: str) -> None:
    """The source alone must lead to the same answer; where nobody can tell, the example has failed."""
    made = _made(
        GOOD,
        gates=("round trip",),
        Answer_the_question_from_the_text=from_source,
        from_what_you_know="I DO NOT KNOW",
        Say_only_YES=same,
    )

    assert (made.tally.accepted == 1) == kept
    assert made.tally.rejected.get(reason, 0) == (0 if kept or reason == "failed" else 1)
    assert made.tally.failed == (4 if reason == "failed" else 3)


def test_what_is_known_without_the_source_is_noted() -> None:
    """It teaches nothing new, and is kept."""
    [example] = _made(
        GOOD,
        gates=("round trip",),
        Answer_the_question_from_the_text="Five seconds.",
        from_what_you_know="Five seconds, I think.",
        Say_only_YES="YES",
    ).examples

    assert example.checks[-2:] == ("round trip", "known without the source")


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        ('{"problem": "none", "score": 5}', "kept"),
        ('{"problem": "a wrong number", "score": 2}', "rejected"),
        ('{"problem": "none", "score": "4"}', "kept"),
        ('{"score": 9}', "failed"),
        ("fine", "failed"),
    ],
)
def test_the_judge_sees_the_source_and_gives_a_score(reply: str, state: str) -> None:
    """Its score is kept with the example; without one nothing was judged."""
    seen: list[str] = []

    def judge(conversation: Conversation) -> str:
        seen.append(conversation[-1].content)
        return reply

    made = _made(GOOD, gates=("judge",), judge=FakeModel(judge, name="judge"))

    assert TEXT in seen[0]
    assert made.tally.accepted == (state == "kept")
    assert made.tally.failed == 3 + (state == "failed")
    assert made.tally.rejected == ({"gate: judge": 1} if state == "rejected" else {})
    if state == "kept":
        assert made.examples[0].checks[-1] in ("judge:5", "judge:4")


def test_doctests_are_run_apart() -> None:
    """What promises another output than it has is rejected, what ends well is kept."""
    right = "It waits:\n\n```python\n>>> seconds = min(5, 7)\n>>> seconds\n5\n```"
    raising = right.replace(
        "\n5\n", "\n5\n>>> int('no')\nTraceback (most recent call last):\nValueError: invalid ...\n"
    )
    elsewhere = right.replace(">>> seconds\n5", ">>> import client\n>>> client.wait()\n5")
    endless = right.replace(">>> seconds\n5", ">>> while True: pass\n5")
    for answer, kept in (
        (right, 1),
        (raising, 1),
        (elsewhere, 1),  # what cannot be run here says nothing
        (right.replace("\n5\n", "\n6\n"), 0),
        (endless, 0),
    ):
        made = _made(
            GOOD | {"style": "code", "answer": answer, "question": "How do I say 5 or 7 in code?"},
            gates=("doctest",),
        )
        assert made.tally.accepted == kept, made.rejections


def test_written_answers_need_no_catalogue() -> None:
    """A person's question and answer about documents are an example; one about a call is not without any."""
    written = [Written("Why?", (), "q.jsonl", 1, "So."), Written("How?", ("p.f",), "q.jsonl", 2)]

    made = generate((DOCUMENT,), None, written=written, settings=GenerateSettings())

    assert [(example.question, example.answer) for example in made.examples] == [("Why?", "So.")]
    assert made.tally.rejected == {"unknown entry": 1}


def test_prompts_are_files_to_change(tmp_path: Path) -> None:
    """Changed ones take effect, the others stay; what is there is not written over."""
    assert len(write_prompts(tmp_path)) == 5
    (tmp_path / "judge.md").write_text("Is $answer to $question in $document?", encoding="utf-8")
    assert write_prompts(tmp_path) == ()

    prompts = load_prompts(tmp_path)

    [message] = prompts.fill("judge", document="D", question="Q", answer="A")
    assert message.content == "Is A to Q in D?"
    assert replace(prompts, texts={**prompts.texts, "judge": ""}).texts != default_prompts().texts


def test_faults_of_prompts_are_told_all_at_once(tmp_path: Path) -> None:
    """A field that there is not, one that is missing, a dollar sign, a name that no prompt has."""
    (tmp_path / "judge.md").write_text("$answer $answr $question", encoding="utf-8")
    (tmp_path / "write.md").write_text("5 $ for $document", encoding="utf-8")
    (tmp_path / "jugde.md").write_text("", encoding="utf-8")

    with pytest.raises(ConfigError) as error:
        load_prompts(tmp_path)

    assert error.value.message.splitlines()[1:] == [
        "  jugde.md: no prompt has this name",
        "  write.md: a $ that begins no field",
        "  judge.md: $answr is no field of it; known are $answer, $document, $question",
        "  judge.md: $document is missing",
    ]
