"""Replies as one person writes them, with what is true of her today: six contenders, a table and a verdict.

    python run.py [--test 71] [--out .work]

The style is counted over all messages: it begins with "Right,", ends with "Maren", has at most 25 words, no exclamation
mark and no apology. A reply is right if it keeps the style and says what the note says; that is asked of the messages
that a note answers. Whether the other replies make sense is not counted: read them in .work/said.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tunesmith import build_index, few_shot, load_chat, load_encoder, train_file
from tunesmith.evaluating.contest import contest
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.wrappers import retrieving, with_passages
from tunesmith.records import Chunk, Conversation, Message
from tunesmith.retrieving.index import Index
from tunesmith.training.settings import TrainSettings

HERE = Path(__file__).parent
SYSTEM = (
    'You answer the mail of Maren, a boat builder, as she does. Begin with "Right,", use one short sentence, never '
    'apologise, no exclamation marks, and end with "Maren".'
)
Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Return the rows of a file beside this one."""
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def in_style(reply: str) -> bool:
    """Tell whether a reply is as she writes."""
    framed = reply.startswith("Right,") and reply.rstrip(" .").endswith("Maren")
    return framed and len(reply.split()) <= 25 and not re.search(r"!|sorry|apolog", reply, re.IGNORECASE)


def says(reply: str, row: Row) -> bool:
    """Tell whether a reply says what the notes say, if that is asked for."""
    return re.search(row["fact"], reply, re.IGNORECASE) is not None


def index_of(notes: Sequence[Row]) -> Index:
    """Return the index over what is known of her."""
    pieces = [Chunk(note["id"], note["id"], 0, len(note["text"]), note["text"]) for note in notes]
    return build_index([], load_encoder("minilm"), lexical=False, passages=pieces)


def said_by(model: ChatModel, rows: Sequence[Row]) -> list[str]:
    """Return the reply to each message."""
    asked = [(Message("system", SYSTEM), Message("user", row["message"])) for row in rows]
    return [answer.text.strip() for answer in model.reply(asked, Sampling(max_tokens=48))]


def lessons(train: Sequence[Row], notes: Index) -> list[Conversation]:
    """Return the training conversations: all with two notes, the right one first, and without where none is needed."""
    found = notes.search([row["message"] for row in train], 2)
    made: list[Conversation] = []
    for row, hits in zip(train, found, strict=True):
        plain = (Message("system", SYSTEM), Message("user", row["message"]))
        first = [notes.passage(row["note"])] if row["note"] else []
        shown = [*first, *(hit for hit in hits if hit.id != row["note"])][:2]
        reply = Message("assistant", row["reply"])
        made.append((*with_passages(plain, shown), reply))
        if not row["note"]:
            made.append((*plain, reply))
    return made


def tuned(train: Sequence[Row], notes: Index, out: Path) -> ChatModel:
    """Return the model, tuned on her replies; a finished run is found again."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "train.jsonl"
    rows = [
        {"messages": [{"role": each.role, "content": each.content} for each in one]}
        for one in lessons(train, notes)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = TrainSettings(epochs=2, batch_size=4, learning_rate=1e-3, top_layers=15, evaluate_every=20)
    train_file(file, out / "model", settings)
    return load_chat(f"path:{out / 'model'}")


def main() -> None:
    """Ask every contender, and print the table and the verdict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--test", type=int, help="only so many messages")
    parser.add_argument("--train", type=int, help="only so many of her replies")
    parser.add_argument("--out", type=Path, default=HERE / ".work")
    given = parser.parse_args()
    train, test, notes = (
        read("train.jsonl")[: given.train],
        read("test.jsonl")[: given.test],
        read("notes.jsonl"),
    )
    index, base = index_of(notes), load_chat("smollm2")
    shown = [*(row for row in train if row["note"])][:3] + [*(row for row in train if not row["note"])][:3]
    shots = [(Message("user", row["message"]), Message("assistant", row["reply"])) for row in shown]
    noted = [turns[1:] for turns in lessons(shown, index) if "\n\nQuestion: " in turns[1].content]
    contenders: dict[str, Callable[[], ChatModel]] = {
        "base": lambda: base,
        "base+notes": lambda: retrieving(base, index, count=2),
        "few_shot": lambda: few_shot(base, shots),
        "few_shot+notes": lambda: few_shot(retrieving(base, index, count=2), noted),
        "tuned": lambda: tuned(train, index, given.out),
        "tuned+notes": lambda: retrieving(tuned(train, index, given.out), index, count=2),
    }
    right: dict[str, list[bool]] = {}
    asks = [row for row in test if row["fact"]]
    hits = index.search([row["message"] for row in asks], 2)
    shown_right = sum(row["note"] in {hit.id for hit in each} for row, each in zip(asks, hits, strict=True))
    print(f"the right note is among the two shown for {shown_right} of {len(asks)}", flush=True)
    for name, build in contenders.items():
        start = time.perf_counter()
        replies = said_by(build(), test)
        right[name] = [
            in_style(each) and says(each, row) for each, row in zip(replies, test, strict=True) if row["fact"]
        ]
        styled = sum(map(in_style, replies))
        known = sum(says(each, row) for each, row in zip(replies, test, strict=True) if row["fact"])
        (given.out / "said").mkdir(parents=True, exist_ok=True)
        (given.out / "said" / f"{name}.txt").write_text("\n---\n".join(replies), encoding="utf-8")
        spent = time.perf_counter() - start
        print(
            f"{name}: {styled} of {len(test)} in style, {known} of {len(asks)} facts, {spent:.0f} s",
            flush=True,
        )
    found = contest(right)
    print(f"\n{found.table()}\n\n{found.verdict}")


if __name__ == "__main__":
    main()
