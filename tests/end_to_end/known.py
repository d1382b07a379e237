"""Tasks of which it is known what must win: a house format, facts that training never shows, and plain chance."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """A question, its answer, and what in the documents holds it."""

    question: str
    answer: str
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """Documents by name, rows to train on and to ask, and by what the verdict goes."""

    documents: dict[str, str]
    train: Sequence[Row]
    asked: Sequence[Row]
    measure: str


_CODES = {
    "lamp": "K7", "desk": "B2", "chair": "T9", "shelf": "M4", "carpet": "Z1", "mirror": "P6",
    "kettle": "H3", "printer": "W8", "fan": "D5", "clock": "L0", "heater": "R6", "board": "C8",
}  # fmt: skip
_ORDERS = (
    "Please bring {n} {item}s to room {room}.",
    "Room {room} needs {n} {item}s.",
    "Could you send {n} {item}s up to room {room}?",
    "We are short of {n} {item}s in room {room}.",
)
_OTHER_ORDERS = (
    "I would like {n} {item}s, room {room}.",
    "In room {room} they ask for {n} {item}s.",
    "{n} {item}s are wanted in room {room}.",
)
_WAREHOUSE = """# The warehouse

The warehouse stands behind the main building and is open from eight to five. Orders that come before noon are
delivered the same day by two people with a trolley. Heavy things travel in the goods lift, and light ones by hand.

## Returns

What is broken goes back to the maker within four weeks. The porter signs for it, and keeps the slip in a folder.
"""


def house_format(seed: int = 0) -> Task:
    """Return orders that are written down in a form of the house: its codes stand nowhere but in the examples."""
    chance = random.Random(seed)

    def row(forms: Sequence[str]) -> Row:
        item, n, room = chance.choice(list(_CODES)), chance.randint(2, 9), chance.randint(10, 40)
        question = chance.choice(list(forms)).format(n=n, item=item, room=room)
        return Row(question, f"{_CODES[item]}-{n}/{room}")

    train = {one.question: one for one in (row(_ORDERS) for _ in range(260))}
    asked = {one.question: one for one in (row(_OTHER_ORDERS) for _ in range(70))}
    return Task(
        {"warehouse.md": _WAREHOUSE}, list(train.values())[:240], list(asked.values())[:60], "exact_match"
    )


_FIRST = (
    "Brun",
    "Alder",
    "Kes",
    "Mor",
    "Tal",
    "Wil",
    "Hart",
    "Quen",
    "Sund",
    "Vor",
    "Lind",
    "Rok",
    "Ost",
    "Pell",
    "Gran",
    "Dorn",
    "Fenn",
    "Thal",
    "Eber",
    "Juno",
)
_LAST = ("feld", "mouth", "wick", "haven", "by", "stead")
_NAMES = ("Ada", "Bruno", "Carla", "Dario", "Edda", "Falk", "Greta", "Hugo", "Ilse", "Jonas", "Kira", "Lars")
_TRADES = ("Voss", "Brandt", "Lindqvist", "Moreau", "Novak", "Okafor", "Petit", "Reyes", "Sato", "Tamm")
_KNOWN_FOR = (
    "its salt",
    "a bell foundry",
    "blue glass",
    "eel pies",
    "a rope bridge",
    "hops",
    "stone lions",
    "a clock",
)


def absent_facts(seed: int = 0) -> Task:
    """Return questions about towns: those that are asked about stand in the documents, and in no training row."""
    chance = random.Random(seed)
    towns = [first + last for first in _FIRST for last in _LAST]
    chance.shuffle(towns)
    documents, rows = {}, []
    for number, town in enumerate(towns):
        question, answer = (
            (
                f"Who is the mayor of {town}?",
                f"The mayor of {town} is {chance.choice(_NAMES)} {chance.choice(_TRADES)}.",
            ),
            (f"When was {town} founded?", f"{town} was founded in {chance.randint(1100, 1890)}."),
            (f"What is {town} known for?", f"People know {town} for {chance.choice(_KNOWN_FOR)}."),
        )[number % 3]
        documents[f"{town}.md"] = f"# {town}\n\n{answer}\n"
        rows.append(Row(question, answer, answer))
    return Task(documents, rows[:70], rows[70:], "f1")


_COLOURS = ("red", "green", "blue", "yellow")


def chance_alone(seed: int = 0) -> Task:
    """Return questions whose answers hang on nothing that anybody could know."""
    chance = random.Random(seed)
    words = [f"{first.lower()}{last}" for first in (*_FIRST, *_NAMES) for last in (*_LAST, "lo", "rim", "ta")]
    chance.shuffle(words)

    def row(word: str, form: str) -> Row:
        drawn = hashlib.sha256(f"{seed} {word}".encode()).digest()[0] % len(_COLOURS)
        return Row(form.format(word=word), _COLOURS[drawn])

    train = [row(word, "What colour is the {word}?") for word in words[:140]]
    asked = [row(word, "Tell me the colour of the {word}.") for word in words[140:200]]
    return Task({"warehouse.md": _WAREHOUSE}, train, asked, "exact_match")


def write(task: Task, folder: Path, *, epochs: int = 3, more: str = "") -> Path:
    """Write a project for a task: the embedded models, and contenders of each kind."""
    docs, questions = folder / "docs", folder / "questions"
    docs.mkdir(parents=True)
    questions.mkdir()
    for name, text in task.documents.items():
        docs.joinpath(name).write_text(text, encoding="utf-8")
    for name, rows in (("train", task.train), ("asked", task.asked)):
        lines = (
            {"question": row.question, "answer": row.answer} | ({"quote": row.quote} if row.quote else {})
            for row in rows
        )
        questions.joinpath(f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    folder.joinpath("tunesmith.toml").write_text(
        f"""[project]
name = "known"
[collect]
sources = ["docs"]
[generate]
written = ["questions/train.jsonl"]
[curate]
asked = "questions/asked.jsonl"
seen_questions = 0
unseen_questions = 0
near_duplicate = 1.0
leak_words = 20
leak_similarity = 1.0
[retrieve]
count = 3
[encoder]
epochs = 1
[train]
epochs = {epochs}
batch_size = 8
learning_rate = 1e-3
retrieved_share = 0.5
passages = 3
[evaluate]
contenders = ["base", "few_shot", "retrieval", "tuned", "tuned+retrieval"]
max_tokens = 32
batch_size = 32
timed = 0
[risks]
checks = []
[report]
measure = "{task.measure}"
{more}""",
        encoding="utf-8",
    )
    return folder
