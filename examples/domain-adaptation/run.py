"""Questions about a tide mill that never was, so that no model knows it: five contenders, a table and a verdict.

    python run.py [--test 48] [--out .work]

An answer is right if it says the fact, or, where the handbook has none, that it does not say.
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
PIECES = 2
SYSTEM = (
    "You answer questions about the Varnholm tide mill in one short sentence. If you are not told the answer, say: "
    "The handbook does not say."
)
Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Return the rows of a file beside this one."""
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def is_right(answer: str, row: Row) -> bool:
    """Tell whether an answer says the fact; a number must stand there whole."""
    return re.search(rf"\b(?:{row['right']})(?![.,]?\d)", answer, re.IGNORECASE) is not None


def index_of(handbook: Sequence[Row]) -> Index:
    """Return the index over the handbook."""
    pieces = [Chunk(row["id"], row["id"], 0, len(row["text"]), row["text"]) for row in handbook]
    return build_index([], load_encoder("minilm"), passages=pieces)


def said_by(model: ChatModel, rows: Sequence[Row]) -> list[str]:
    """Return the answer to each question."""
    asked = [(Message("system", SYSTEM), Message("user", row["question"])) for row in rows]
    return [answer.text.strip() for answer in model.reply(asked, Sampling(max_tokens=40, stop=("\n",)))]


def lessons(train: Sequence[Row], handbook: Index) -> list[Conversation]:
    """Return the training conversations: each question with pieces, and those about facts without any, too.

    That the right piece stands first or second in turn keeps the model from copying whatever is first.
    """
    made: list[Conversation] = []
    found = handbook.search([row["question"] for row in train], PIECES + 1)
    for number, (row, hits) in enumerate(zip(train, found, strict=True)):
        plain = (Message("system", SYSTEM), Message("user", row["question"]))
        right = [handbook.passage(row["document"])] if row["document"] else []
        shown = [*right, *(hit for hit in hits if hit.id != row["document"])][:PIECES]
        answer = Message("assistant", row["answer"])
        made.append((*with_passages(plain, shown if number % 2 else shown[::-1]), answer))
        if right:
            made.append((*plain, answer))
    return made


def tuned(train: Sequence[Row], handbook: Index, out: Path) -> ChatModel:
    """Return the model, tuned on the training questions; a finished run is found again."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "train.jsonl"
    rows = [
        {"messages": [{"role": each.role, "content": each.content} for each in one]}
        for one in lessons(train, handbook)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = TrainSettings(epochs=2, batch_size=4, learning_rate=1e-3, top_layers=15, evaluate_every=20)
    train_file(file, out / "model", settings)
    return load_chat(f"path:{out / 'model'}")


def main() -> None:
    """Ask every contender, and print the table and the verdict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--test", type=int, help="only so many questions")
    parser.add_argument("--train", type=int, help="only so many training questions")
    parser.add_argument("--out", type=Path, default=HERE / ".work")
    given = parser.parse_args()
    train, test = read("train.jsonl")[: given.train], read("test.jsonl")[: given.test]
    handbook, base = index_of(read("handbook.jsonl")), load_chat("smollm2")
    shots = [
        turns[1:]
        for turns in lessons([*train[:4], *train[-2:]], handbook)
        if "\n\nQuestion: " in turns[1].content
    ]
    contenders: dict[str, Callable[[], ChatModel]] = {
        "base": lambda: base,
        "base+retrieval": lambda: retrieving(base, handbook, count=PIECES),
        "few_shot+retrieval": lambda: few_shot(retrieving(base, handbook, count=PIECES), shots),
        "tuned": lambda: tuned(train, handbook, given.out),
        "tuned+retrieval": lambda: retrieving(tuned(train, handbook, given.out), handbook, count=PIECES),
    }
    hits = handbook.search([row["question"] for row in test], PIECES)
    shown = [row["document"] in {hit.id for hit in each} for row, each in zip(test, hits, strict=True)]
    print(
        f"the right piece is among the {PIECES} shown for {sum(shown)} of {sum(bool(row['document']) for row in test)}"
    )
    right: dict[str, list[bool]] = {}
    for name, build in contenders.items():
        start = time.perf_counter()
        answers = said_by(build(), test)
        right[name] = [is_right(each, row) for each, row in zip(answers, test, strict=True)]
        known = sum(one for one, row in zip(right[name], test, strict=True) if row["document"])
        (given.out / "said").mkdir(parents=True, exist_ok=True)
        (given.out / "said" / f"{name}.txt").write_text("\n".join(answers), encoding="utf-8")
        spent = time.perf_counter() - start
        print(
            f"{name}: {known} facts right, {sum(right[name]) - known} rightly not said, {spent:.0f} s",
            flush=True,
        )
    found = contest(right)
    print(f"\n{found.table()}\n\n{found.verdict}")


if __name__ == "__main__":
    main()
