"""Which of six teams a customer's message belongs to: eight contenders, a table and a verdict.

python run.py [--test 48] [--out .work]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tunesmith import few_shot, load_chat, load_encoder, train_file
from tunesmith.evaluating.contest import contest
from tunesmith.inference.grammar import Grammars
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.local import LocalModel
from tunesmith.records import Conversation, Message
from tunesmith.training.settings import TrainSettings

HERE = Path(__file__).parent
LABELS = ("account", "billing", "connection", "delivery", "hardware", "returns")
SYSTEM = f"Sort the customer's message. Answer with one word: {', '.join(LABELS)}."
Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Return the rows of a file beside this one."""
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def turns(row: Row) -> Conversation:
    """Return a row as a question and its answer."""
    return (Message("user", row["text"]), Message("assistant", row["label"]))


def said_by(model: ChatModel, rows: Sequence[Row], shots: Sequence[Conversation] = ()) -> list[str]:
    """Return the first label that each answer names, "" for none; `shots` are turns of its own for each row."""
    before = shots or [()] * len(rows)
    asked = [
        (Message("system", SYSTEM), *turns, Message("user", row["text"]))
        for row, turns in zip(rows, before, strict=True)
    ]
    texts = [answer.text.lower() for answer in model.reply(asked, Sampling(max_tokens=12))]
    found = [[(text.find(label), label) for label in LABELS if label in text] for text in texts]
    return [min(each)[1] if each else "" for each in found]


def held(model: ChatModel) -> LocalModel:
    """Return the model that can say a label and nothing else."""
    assert isinstance(model, LocalModel)
    grammars, rule = Grammars(model.tokenizer), "start: " + " | ".join(f'"{label}"' for label in LABELS)
    return model.constrained(lambda conversation: grammars.of_lark(rule), f"{model.name}+labels")


def neighbours(train: Sequence[Row], test: Sequence[Row], count: int) -> list[list[Row]]:
    """Return the nearest training messages to each test message by the encoder's cosine, the nearest first."""
    encoder = load_encoder("minilm")
    near = encoder.embed([row["text"] for row in test]) @ encoder.embed([row["text"] for row in train]).T
    return [[train[int(number)] for number in row[:count]] for row in (-near).argsort(axis=1)]


def by_regression(train: Sequence[Row], test: Sequence[Row]) -> list[str]:
    """Return the labels of a logistic regression on the encoder's vectors."""
    from sklearn.linear_model import LogisticRegression

    encoder = load_encoder("minilm")
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(encoder.embed([row["text"] for row in train]), [row["label"] for row in train])
    return [str(each) for each in model.predict(encoder.embed([row["text"] for row in test]))]


def tuned(train: Sequence[Row], out: Path) -> ChatModel:
    """Return the model, tuned on the training messages; a finished run is found again."""
    out.mkdir(parents=True, exist_ok=True)
    chats = [
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": row["text"]},
            {"role": "assistant", "content": row["label"]},
        ]
        for row in train
    ]
    file = out / "train.jsonl"
    file.write_text("".join(json.dumps({"messages": each}) + "\n" for each in chats), encoding="utf-8")
    settings = TrainSettings(epochs=4, batch_size=8, learning_rate=5e-4, top_layers=15, evaluate_every=20)
    train_file(file, out / "model", settings)
    return load_chat(f"path:{out / 'model'}")


def main() -> None:
    """Ask every contender, and print the table and the verdict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--test", type=int, help="only so many test messages")
    parser.add_argument("--train", type=int, help="only so many training messages")
    parser.add_argument("--out", type=Path, default=HERE / ".work")
    given = parser.parse_args()
    every, test = read("train.jsonl"), read("test.jsonl")[: given.test]
    train = every[: given.train]
    base = load_chat("smollm2")
    shots = [turns(next(row for row in every if row["label"] == label)) for label in LABELS]
    contenders: dict[str, Callable[[], list[str]]] = {
        "nearest message": lambda: [rows[0]["label"] for rows in neighbours(train, test, 1)],
        "regression on embeddings": lambda: by_regression(train, test),
        "base": lambda: said_by(base, test),
        "few_shot": lambda: said_by(few_shot(base, shots), test),
        "base+labels": lambda: said_by(held(base), test),
        "few_shot+labels": lambda: said_by(few_shot(held(base), shots), test),
        "few_shot of the nearest": lambda: said_by(
            base,
            test,
            [tuple(t for row in rows[::-1] for t in turns(row)) for rows in neighbours(train, test, 6)],
        ),
        "tuned": lambda: said_by(tuned(train, given.out), test),
    }
    right: dict[str, list[bool]] = {}
    for name, ask in contenders.items():
        start = time.perf_counter()
        said = ask()
        right[name] = [row["label"] == each for row, each in zip(test, said, strict=True)]
        (given.out / "said").mkdir(parents=True, exist_ok=True)
        (given.out / "said" / f"{name}.txt").write_text("\n".join(said), encoding="utf-8")
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    constant = {"constant": [row["label"] == LABELS[0] for row in test]}
    found = contest(right, constant)
    print(f"\n{found.table()}\n\n{found.verdict}")


if __name__ == "__main__":
    main()
