"""How time and memory of training grow with the length of the texts, the batch and the number of examples.

    python benchmarks/growth.py [--quick] [--json]

A random Llama in the shape of SmolLM2-135M (`--quick`: a small one), LoRA of rank 16; each point has its own process.

- length: parts of a single text of 64 to 2,048 tokens, half of them labelled; seconds per 1,000 tokens and peak memory
- batch: steps of 1 to 32 texts of 256 tokens, cut into parts as `train` cuts them; the same two figures
- dataset: from 1,000 to 1,000,000 short chats come from a generator, are rendered to disk, an epoch is planned, and its
  first four steps are taken; examples rendered per second, and peak memory. `memory_growth_1e3_to_1e6` is the peak of
  the largest set minus that of the smallest, in GB (2**30 bytes).

Draws growth.svg beside this script, from a full run only.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimate_error import say, write_model
from hardware import as_json, versions_of

from tunesmith.records import Conversation, Message
from tunesmith.training.settings import TrainSettings

if TYPE_CHECKING:
    from tunesmith.training.engine import Engine

HERE = Path(__file__).resolve().parent
GB = 2**30
AXES = ("length", "batch", "dataset")
STEPS = 3


@dataclass(frozen=True, slots=True)
class Point:
    """What is varied, and its value."""

    axis: str
    value: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a point takes: seconds per 1,000 tokens of its steps, peak in GB, examples rendered a second (or 0)."""

    seconds: float
    memory_gb: float
    rendered: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Which model, and which points."""

    size: str
    points: tuple[Point, ...]


def points(axis: str, values: Sequence[int]) -> tuple[Point, ...]:
    """Return the points of an axis."""
    return tuple(Point(axis, value) for value in values)


FULL = Plan(
    "135M",
    points("length", (64, 128, 256, 512, 1024, 2048))
    + points("batch", (1, 2, 4, 8, 16, 32))
    + points("dataset", (10**3, 10**4, 10**5, 10**6)),
)
QUICK = Plan("30M", points("length", (64, 256)) + points("batch", (1, 8)) + points("dataset", (10**3, 10**4)))


def chats(count: int) -> Iterator[Conversation]:
    """Yield short conversations, one after the other."""
    for number in range(count):
        other = number * 7919 % 1000
        question = f"What is {number} plus {other}?"
        yield (Message("user", question), Message("assistant", f"It is {number + other}."))


def new_engine_of(model: Path, settings: TrainSettings) -> tuple[Engine, Any]:
    """Return an engine as `train` makes it, and the model's tokenizer."""
    from tunesmith.models.local import load_model, load_tokenizer
    from tunesmith.training.train import new_engine
    from tunesmith.training.tuning import prepare

    loaded, tokenizer = load_model(model), load_tokenizer(model)
    return new_engine(loaded, tokenizer, prepare(loaded, settings), settings), tokenizer


def of_texts(model: Path, *, length: int, texts: int) -> Cost:
    """Take steps of some texts that are all as long, the first of them to warm up."""
    from tunesmith.training.render import Rendered
    from tunesmith.training.train import peak_bytes

    engine, _ = new_engine_of(model, TrainSettings())
    row = Rendered(tuple(range(100, 100 + length)), tuple(i >= length // 2 for i in range(length)))
    engine.step([row] * texts, 1e-6)
    start = time.perf_counter()
    for _ in range(STEPS):
        engine.step([row] * texts, 1e-6)
    seconds = time.perf_counter() - start
    return Cost(1000 * seconds / (STEPS * texts * length), peak_bytes() / GB)


def of_dataset(model: Path, *, examples: int) -> Cost:
    """Render examples to disk, plan an epoch, and take the steps that begin it."""
    from tunesmith.training.rows import rendered
    from tunesmith.training.train import new_schedule, peak_bytes

    settings = TrainSettings(batch_size=8)
    engine, tokenizer = new_engine_of(model, settings)
    with tempfile.TemporaryDirectory() as work:
        start = time.perf_counter()
        rows, _ = rendered(tokenizer, chats(examples), settings, store=Path(work))
        rate = examples / (time.perf_counter() - start)
        schedule = new_schedule(engine, rows, settings)
        start, tokens = time.perf_counter(), 0
        for step in range(STEPS + 1):
            numbers = schedule.batch(step)
            engine.step([rows[number] for number in numbers], schedule.rate(step))
            tokens += sum(int(schedule.lengths[number]) for number in numbers)
        seconds = time.perf_counter() - start
        return Cost(1000 * seconds / tokens, peak_bytes() / GB, rate)


def measured(point: Point, model: Path) -> Cost:
    """Return what a point takes, in this process."""
    if point.axis == "length":
        return of_texts(model, length=point.value, texts=1)
    if point.axis == "batch":
        return of_texts(model, length=256, texts=point.value)
    return of_dataset(model, examples=point.value)


def in_a_process(point: Point, model: Path) -> Cost:
    """Return what a point takes in a process of its own."""
    job = json.dumps([asdict(point), str(model)])
    done = subprocess.run(
        [sys.executable, __file__, "--job", job], stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return Cost(**json.loads(done.stdout))


def measure_all(plan: Plan) -> dict[Point, Cost]:
    """Return what each point takes, one after the other."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        write_model(plan.size, Path(place))
        for point in plan.points:
            found[point] = cost = in_a_process(point, Path(place))
            speed = f", {cost.rendered:,.0f} examples/s rendered" if cost.rendered else ""
            say(
                f"{point.axis} {point.value:,}: {cost.seconds:.2f} s per 1,000 tokens, {cost.memory_gb:.2f} GB{speed}"
            )
    return found


def figures_of(found: dict[Point, Cost]) -> dict[str, float]:
    """Return all figures by the names under which they are printed."""
    figures = {}
    for point, cost in found.items():
        name = f"{point.axis}_{point.value}"
        figures[f"memory_gb.{name}"] = cost.memory_gb
        if cost.rendered:
            figures[f"rendered_per_second.{name}"] = cost.rendered
        else:
            figures[f"seconds_per_1000_tokens.{name}"] = cost.seconds
    sizes = [cost.memory_gb for point, cost in found.items() if point.axis == "dataset"]
    largest = max(point.value for point in found if point.axis == "dataset")
    return figures | {f"memory_growth_1e3_to_1e{len(str(largest)) - 1}": sizes[-1] - sizes[0]}


def draw(found: dict[Point, Cost]) -> str:
    """Draw memory above time, axis beside axis, as one SVG; all scales of costs begin at nothing."""
    import altair as alt
    import vl_convert

    highest = math.ceil(max(cost.memory_gb for cost in found.values()))
    columns = []
    for axis in AXES:
        costs = {point.value: cost for point, cost in found.items() if point.axis == axis}
        memory = _panel(axis, {at: cost.memory_gb for at, cost in costs.items()}, "peak memory, GB", highest)
        if axis == "dataset":
            title = "seconds to render 1,000"
            seconds = {at: 1000 / cost.rendered for at, cost in costs.items()}
        else:
            title = "seconds per 1,000 tokens"
            seconds = {at: cost.seconds for at, cost in costs.items()}
        columns.append(alt.vconcat(memory, _panel(axis, seconds, title, 1.2 * max(seconds.values()))))
    whole = alt.hconcat(*columns).configure(font="Arial, sans-serif", background="white")
    return str(vl_convert.vegalite_to_svg(whole.to_dict(validate=False)))


def _panel(axis: str, values: dict[int, float], title: str, highest: float) -> Any:
    """Return one curve over one axis."""
    import altair as alt

    titles = {"length": "tokens in a text", "batch": "texts in a step", "dataset": "examples"}
    scale = alt.Scale(type="log", base=10 if axis == "dataset" else 2)
    ticks = alt.Axis(
        values=list(values), format="~s" if axis == "dataset" else "d", grid=False, labelOverlap=False
    )
    colour = "#0b6e69"
    return (
        alt.Chart(alt.Data(values=[{"at": at, "cost": cost} for at, cost in values.items()]))
        .mark_line(point={"color": colour}, color=colour)
        .encode(
            x=alt.X("at:Q", title=titles[axis], scale=scale, axis=ticks),
            y=alt.Y("cost:Q", title=title, scale=alt.Scale(domain=[0, highest])),
        )
        .properties(width=190, height=130)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How the cost of training grows.")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument(
        "--quick", action="store_true", help="a small model and few points: a look, not a result"
    )
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        point, model = json.loads(arguments.job)
        print(json.dumps(asdict(measured(Point(**point), Path(model)))))
        return
    found = measure_all(QUICK if arguments.quick else FULL)
    if not arguments.quick:
        (HERE / "growth.svg").write_text(draw(found), encoding="utf-8")
    result = as_json(
        "growth", figures_of(found), versions=versions_of(["tunesmith", "torch", "transformers"])
    )
    if arguments.json:
        print(json.dumps(result))
        return
    for key, value in result["figures"].items():
        print(f"{key:40} {value:g}")


if __name__ == "__main__":
    main()
