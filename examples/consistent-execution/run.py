"""Free text to a record of a fixed schema: five contenders, a table and a verdict.

python run.py [--test 42] [--train 240] [--out .work]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith import few_shot, load_chat, train_file
from tunesmith.evaluating.contest import contest
from tunesmith.inference.grammar import Grammars
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.local import LocalModel
from tunesmith.operations import invalid
from tunesmith.records import Message
from tunesmith.training.settings import TrainSettings

HERE = Path(__file__).parent
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
FIELDS: Mapping[str, Any] = {
    "machine": {"enum": ["laser", "kiln", "lathe", "cnc", "printer", "press"]},
    "day": {"enum": DAYS},
    "start": {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[03]0$"},
    "hours": {"type": "integer", "minimum": 1, "maximum": 8},
    "people": {"type": "integer", "minimum": 1, "maximum": 6},
}
SCHEMA = {
    "type": "object",
    "properties": FIELDS,
    "required": list(FIELDS),
    "additionalProperties": False,
}
SYSTEM = (
    "Turn the request into JSON with machine (laser, kiln, lathe, cnc, printer, press), day, start (HH:MM), "
    "hours and people."
)


def read(name: str) -> list[dict[str, Any]]:
    """Return the rows of a file beside this one."""
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def record_in(text: str) -> Any:
    """Return the JSON object in an answer, None where there is none that parses."""
    start, end = text.find("{"), text.rfind("}")
    try:
        return json.loads(text[start : end + 1])
    except ValueError:
        return None


def said_by(model: ChatModel, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the record of each answer."""
    asked = [(Message("system", SYSTEM), Message("user", row["text"])) for row in rows]
    return [record_in(answer.text) for answer in model.reply(asked, Sampling(max_tokens=64))]


def held(model: ChatModel) -> LocalModel:
    """Return the model kept to the schema, token by token."""
    assert isinstance(model, LocalModel)
    grammars = Grammars(model.tokenizer)
    return model.constrained(lambda conversation: grammars.of_schema(SCHEMA), f"{model.name}+schema")


def tuned(train: Sequence[Mapping[str, Any]], out: Path, epochs: int = 1) -> ChatModel:
    """Return the model, tuned on the requests; a finished run is found again."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "train.jsonl"
    chats = [
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": row["text"]},
            {"role": "assistant", "content": json.dumps(row["record"])},
        ]
        for row in train
    ]
    file.write_text("".join(json.dumps({"messages": each}) + "\n" for each in chats), encoding="utf-8")
    settings = TrainSettings(
        epochs=epochs, batch_size=4, learning_rate=1e-3, top_layers=15, evaluate_every=30
    )
    train_file(file, out / "model", settings)
    return load_chat(f"path:{out / 'model'}")


def main() -> None:
    """Ask every contender, and print the table and the verdict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--test", type=int, help="only so many test requests")
    parser.add_argument("--train", type=int, help="only so many training requests")
    parser.add_argument("--out", type=Path, default=HERE / ".work")
    given = parser.parse_args()
    train, test = read("train.jsonl")[: given.train], read("test.jsonl")[: given.test]
    written = read("written.jsonl")[: given.train]
    base = load_chat("smollm2")
    shots = [
        (Message("user", row["text"]), Message("assistant", json.dumps(row["record"]))) for row in train[:6]
    ]
    people = [
        (Message("user", row["text"]), Message("assistant", json.dumps(row["record"]))) for row in written[:6]
    ]
    contenders: dict[str, Callable[[], list[Any]]] = {
        "base": lambda: said_by(base, test),
        "few_shot": lambda: said_by(few_shot(base, shots), test),
        "few_shot+schema": lambda: said_by(few_shot(held(base), shots), test),
        "few_shot in people's words+schema": lambda: said_by(few_shot(held(base), people), test),
        "tuned": lambda: said_by(tuned(train, given.out), test),
        "tuned+schema": lambda: said_by(held(tuned(train, given.out)), test),
        "tuned on people's words+schema": lambda: said_by(
            held(tuned(written, given.out / "people", epochs=4)), test
        ),
    }
    right: dict[str, list[bool]] = {}
    for name, ask in contenders.items():
        start = time.perf_counter()
        records = ask()
        right[name] = [row["record"] == each for row, each in zip(test, records, strict=True)]
        valid = sum(invalid(json.dumps(SCHEMA), each) is None for each in records)
        fields = [
            (isinstance(each, dict) and each.get(field) == row["record"][field])
            for row, each in zip(test, records, strict=True)
            for field in FIELDS
        ]
        (given.out / "said").mkdir(parents=True, exist_ok=True)
        (given.out / "said" / f"{name}.jsonl").write_text(
            "\n".join(map(json.dumps, records)), encoding="utf-8"
        )
        share = 100 * sum(fields) / len(fields)
        spent = time.perf_counter() - start
        print(
            f"{name}: {valid} of {len(test)} fit the schema, {share:.0f} % of fields right, {spent:.0f} s",
            flush=True,
        )
    found = contest(right)
    print(f"\n{found.table()}\n\n{found.verdict}")


if __name__ == "__main__":
    main()
