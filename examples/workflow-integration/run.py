"""Questions about a road network to a result: who writes the program that is run, a table and a verdict.

    python run.py [--test 40]

An answer is right if its program runs in the sandbox, on the roads, and prints what the right function gives.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tunesmith import Catalogue, build_index, load_chat, load_encoder
from tunesmith.catalogue import find_code
from tunesmith.collecting.python_package import read_package
from tunesmith.errors import TunesmithError
from tunesmith.evaluating.contest import contest
from tunesmith.generating.derive import derive_answers
from tunesmith.generating.running import first_that_runs, run_script, write_script
from tunesmith.generating.script import Script, checked_call, read_value, template_scripts
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.wrappers import retrieving
from tunesmith.records import Message

HERE = Path(__file__).parent
SYSTEM = (
    "You write Python with networkx. `G` is a networkx graph of towns and roads. Answer with one ```python block that "
    "prints the answer to the question."
)
Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Return the rows of a file beside this one."""
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def same(printed: str, wanted: str) -> bool:
    """Tell whether a program printed the result, in any order where order means nothing."""
    try:
        one, other = ast.literal_eval(printed.strip()), ast.literal_eval(wanted)
    except (SyntaxError, ValueError):
        return printed.strip() == wanted
    if isinstance(other, list):
        return isinstance(one, list | set | tuple) and sorted(map(str, one)) == sorted(map(str, other))
    if isinstance(other, dict) and isinstance(one, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key]) for key in other)
    return near(one, other)


def near(one: object, other: object) -> bool:
    """Tell whether two values are equal, numbers but for the order in which they were summed."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return type(one) is type(other) and one == other


def by_model(model: ChatModel, rows: Sequence[Row], catalogue: Catalogue) -> list[str]:
    """Return what the programs print that a language model writes from the question alone."""
    asked = [(Message("system", SYSTEM), Message("user", row["question"])) for row in rows]
    printed = []
    for answer in model.reply(asked, Sampling(max_tokens=128, stop=("```\n\n",))):
        code = f"import networkx as nx\nG = nx.Graph({read_value(HERE / 'roads.json')})\n{find_code(answer.text)}"
        printed.append(run_script(Script(code, "", "", ()), catalogue).printed)
    return printed


def by_template(entries: Sequence[str], answers: dict[str, str], catalogue: Catalogue) -> list[str]:
    """Return what the template's programs around these entries' calls print, with the user's roads where they fit."""
    return [printed_by(answers.get(entry, ""), catalogue) for entry in entries]


def printed_by(text: str, catalogue: Catalogue) -> str:
    """Return what the template's program around an answer's call prints, nothing if there is none."""
    try:
        judgement = checked_call(text, catalogue)
        given = {judgement.call.positional[0] if judgement.call and judgement.call.positional else "G"}
        data = {name: read_value(HERE / "roads.json") for name in given if name.isidentifier()}
        found = first_that_runs(template_scripts(text, judgement, catalogue, data), catalogue)
    except TunesmithError:
        return ""
    return "" if found is None else found[1].printed


def main() -> None:
    """Ask every contender, and print the table and the verdict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--test", type=int, help="only so many questions")
    parser.add_argument("--second", type=int, default=10, help="so many calls are given to a second model")
    given = parser.parse_args()
    test, package = read("tasks.jsonl")[: given.test], read_package("networkx")
    catalogue = package.catalogue
    answers = {each.entry: each.text for each in derive_answers(package.documents, catalogue).answers}
    base, index = load_chat("smollm2"), build_index(catalogue.entries, load_encoder("minilm"), lexical=False)
    questions = [row["question"] for row in test]
    hits = [found[0].id for found in index.search(questions, 1)]
    contenders: dict[str, Callable[[], list[str]]] = {
        "base writes it": lambda: by_model(base, test, catalogue),
        "first hit + template": lambda: by_template(hits, answers, catalogue),
        "base writes it, shown 3 entries": lambda: by_model(
            retrieving(base, index, count=3), test, catalogue
        ),
        "right call + template (ceiling)": lambda: by_template(
            [row["entry"] for row in test], answers, catalogue
        ),
    }
    right: dict[str, list[bool]] = {}
    for name, write in contenders.items():
        start = time.perf_counter()
        right[name] = [same(printed, row["result"]) for printed, row in zip(write(), test, strict=True)]
        print(f"{name}: {sum(right[name])} right, {time.perf_counter() - start:.0f} s", flush=True)
    ceiling = right.pop("right call + template (ceiling)")
    found = contest(right)
    print(
        f"\n{found.table()}\n\nWith the right call, the template's program is right for {sum(ceiling)} of {len(test)}."
    )
    print(found.verdict, flush=True)
    second(base, test[: given.second], answers, catalogue)


def second(model: ChatModel, rows: Sequence[Row], answers: dict[str, str], catalogue: Catalogue) -> None:
    """Print for how many right calls a second model writes a program that is sound and runs."""
    ended: list[bool] = []
    for row in rows:
        judgement = checked_call(answers[row["entry"]], catalogue)
        try:
            _, result = write_script(model, row["question"], judgement, catalogue, run=True)
        except TunesmithError:
            ended.append(False)
        else:
            ended.append(result is not None and result.error is None)
    print(f"a second model's program around the right call runs for {sum(ended)} of {len(ended)}")


if __name__ == "__main__":
    main()
