"""A fine-tuning job in a process of its own: `python -m tunesmith.serving.job FOLDER validate|train`.

    FOLDER/
    ├── job.json        what was asked for
    ├── train.jsonl     the files, as links to their bytes; valid.jsonl if there is one
    ├── journal.jsonl   what the job has to say, a line each, only ever appended to: the server reads it from there
    ├── work/           the trainer's checkpoint, from which a killed job goes on
    └── lock            held (flock) while a process works here

The server tells it to stop with SIGTERM; it then leaves a checkpoint after the step it is in.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Literal

from tunesmith.errors import (
    DatasetError,
    RowError,
    TrainingError,
    TrainingStopped,
    TunesmithError,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.training.settings import TrainSettings
    from tunesmith.training.train import StepMetrics

Phase = Literal["validate", "train"]

# The trainer's usual rates; a job's multiplier multiplies them.
RATES: Final = {"answers": 5e-4, "preferences": 5e-5}
_MOST_TOKENS: Final = 2048
_CHECKPOINT_STEPS: Final = 25
KEPT_CHECKPOINTS: Final = 3


@dataclass(frozen=True, slots=True)
class Order:
    """What a job is to do: `base` an address, `hyperparameters` as they were asked for, "auto" where they are open.

    `models` is the folder that gets the tuned model and its checkpoints.
    """

    base: str
    objective: Literal["answers", "preferences"]
    hyperparameters: Mapping[str, Any]
    seed: int
    validated: bool
    models: str

    @classmethod
    def read(cls, folder: Path) -> Order:
        """Return the order in a job's folder."""
        return cls(**json.loads((folder / "job.json").read_text(encoding="utf-8")))

    def write(self, folder: Path) -> None:
        """Put the order into a job's folder."""
        from tunesmith.artifacts import write_text_atomic

        write_text_atomic(folder / "job.json", json.dumps(asdict(self)))


class Journal:
    """What a job has said: lines of JSON; a line that a kill has cut is taken away before the next is written."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.jsonl"

    def lines(self, start: int = 0) -> list[dict[str, Any]]:
        """Return the whole lines from the one of this number, counted from 0."""
        try:
            whole = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in whole[start:]]

    def mend(self) -> None:
        """Cut off what a kill has left of a line."""
        if not self.path.is_file():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)

    def say(self, kind: str, **what: Any) -> None:
        """Add a line, whole and on the disk."""
        with self.path.open("ab") as file:
            file.write(json.dumps({"kind": kind} | what).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a job's folder; yields whether nobody else does."""
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield True


def holder(folder: Path) -> int | None:
    """Return the process that works in a job's folder, or None."""
    try:
        file = (folder / "lock").open("r+")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # It writes its number right after it has taken the lock.
            return int(file.read() or 0) or None
    return None


def run(folder: Path, phase: Phase) -> int:
    """Validate the files of a job or train on them; returns the exit code: 0 where all was said in the journal."""
    from tunesmith.artifacts import disk_full_named

    # Who asks the server for something must not wait for who trains.
    os.nice(10)
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop.heard)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held(folder) as alone:
        if not alone:
            return 3
        journal = Journal(folder)
        journal.mend()
        try:
            with disk_full_named(folder, hint="Free some space, and create the job again."):
                (_validate if phase == "validate" else _train)(folder, Order.read(folder), journal, stop)
        except TrainingStopped:
            journal.say("stopped")
        except (DatasetError, RowError) as error:
            journal.say("failed", code="invalid_training_file", message=str(error), param="training_file")
        except TrainingError as error:
            journal.say("failed", code="training_failed", message=str(error), param=None)
        except TunesmithError as error:
            journal.say("failed", code="server_error", message=str(error), param=None)
    return 0


class _Stop:
    """Whether the process was told to stop."""

    def __init__(self) -> None:
        self.told = False

    def heard(self, number: int, frame: FrameType | None) -> None:
        self.told = True


def _validate(folder: Path, order: Order, journal: Journal, stop: _Stop) -> None:
    """Read the files as training would, and say what the open settings come to."""
    from tunesmith.training.inspect import inspect

    tokenizer, settings = _tokenizer(folder, order), _settings(folder, order, rows=1)
    counts = []
    files = [("training_file", folder / "train.jsonl")]
    if order.validated:
        files.append(("validation_file", folder / "valid.jsonl"))
    for param, path in files:
        if stop.told:
            raise TrainingStopped("stopped while its files were validated")
        found = inspect(path, tokenizer, settings)
        faults = [str(fault) for fault in found.faults]
        if not found.ready:
            told = "; ".join(faults[:5]) or "it holds no example"
            more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
            code = f"invalid_{param}"
            journal.say("failed", code=code, message=f"The {param} cannot be used: {told}{more}", param=param)
            return
        counts.append(found)
    train = counts[0]
    resolved = resolve(order, train.rows)
    journal.say("validated", rows=train.rows, tokens=train.tokens, over=train.over, resolved=resolved)


def resolve(order: Order, rows: int) -> dict[str, Any]:
    """Return the hyperparameters with "auto" filled in, by the number of examples.

    n_epochs: 3, more where that were fewer than 100 examples in all (at most 25), fewer beyond 25,000, as OpenAI's
    cookbook gives its rule. batch_size: a 32nd of the examples, 1 to 16. learning_rate_multiplier: 1, of the usual rate
    (5e-4, for preferences 5e-5). beta: 0.1.
    """
    epochs = 3
    if rows * epochs < 100:
        epochs = min(25, -(-100 // rows))
    elif rows * epochs > 25_000:
        epochs = max(1, 25_000 // rows)
    auto: dict[str, Any] = {
        "n_epochs": epochs,
        "batch_size": max(1, min(16, rows // 32)),
        "learning_rate_multiplier": 1.0,
    }
    if order.objective == "preferences":
        auto["beta"] = 0.1
    given = {key: value for key, value in order.hyperparameters.items() if value not in (None, "auto")}
    return auto | given


def _settings(folder: Path, order: Order, *, rows: int) -> TrainSettings:
    from tunesmith.training.settings import TrainSettings

    chosen = resolve(order, rows)
    of_epoch = -(-rows // chosen["batch_size"])
    given: dict[str, Any] = {
        "base": _base(folder, order),
        "objective": order.objective,
        "epochs": chosen["n_epochs"],
        "batch_size": chosen["batch_size"],
        "learning_rate": RATES[order.objective] * chosen["learning_rate_multiplier"],
        "seed": order.seed,
        # As OpenAI does: what is too long is cut at the model's limit.
        "too_long": "cut",
        "max_length": min(_MOST_TOKENS, _context(folder, order)),
        # Equal stretches of an epoch, each with a checkpoint at its end.
        "evaluate_every": -(-of_epoch // -(-of_epoch // _CHECKPOINT_STEPS)),
    }
    if order.objective == "preferences":
        given["beta"] = chosen["beta"]
    return TrainSettings(**given)


def _train(folder: Path, order: Order, journal: Journal, stop: _Stop) -> None:
    import shutil

    from tunesmith.models.local import load_model, load_tokenizer
    from tunesmith.steps import arithmetic
    from tunesmith.training.example_files import examples
    from tunesmith.training.train import Watch, train

    before = journal.lines()
    [validated] = [line for line in before if line["kind"] == "validated"][-1:]
    settings = _settings(folder, order, rows=validated["rows"])
    said = {line["metrics"]["step"] for line in before if line["kind"] == "step"}
    made = {line["step"] for line in before if line["kind"] == "checkpoint"}
    work, models = folder / "work", Path(order.models)
    work.mkdir(exist_ok=True)
    steps_of_epoch = -(-validated["rows"] // settings.batch_size)

    def stepped(metrics: StepMetrics, total: int, save: Any) -> bool:
        # Steps that are taken again after a kill come out the same and were told before.
        if metrics.step not in said:
            journal.say("step", metrics=asdict(metrics), total=total)
        if metrics.step % steps_of_epoch == 0 and metrics.step not in made:
            _keep(save, models / f"step-{metrics.step}")
            journal.say("checkpoint", step=metrics.step, metrics=asdict(metrics))
        return not stop.told

    base = _folder_of(folder, order)
    final = models / "final"
    trained = train(
        load_model(base, dtype=arithmetic(work)),
        load_tokenizer(base),
        examples(folder / "train.jsonl", order.objective),
        examples(folder / "valid.jsonl", order.objective) if order.validated else None,
        settings,
        out=final.with_name("final.part"),
        work=work,
        watch=Watch(stepped),
    )
    if final.exists():
        shutil.rmtree(final)
    final.with_name("final.part").rename(final)
    journal.say("done", tokens=trained.tokens, steps=len(trained.steps), notes=list(trained.notes))


def _keep(save: Any, folder: Path) -> None:
    """Write a checkpoint's model whole or not at all."""
    import shutil

    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    save(part)
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)


def _tokenizer(folder: Path, order: Order) -> PreTrainedTokenizerBase:
    from tunesmith.models.local import load_tokenizer

    return load_tokenizer(_folder_of(folder, order))


def _context(folder: Path, order: Order) -> int:
    """Return how many tokens the base model reads."""
    from transformers import AutoConfig

    from tunesmith.models.hub import runs_code

    place = _folder_of(folder, order)
    config = AutoConfig.from_pretrained(place, trust_remote_code=runs_code(place))
    names = ("max_position_embeddings", "max_seq_len", "n_positions")
    return next((int(limit) for name in names if (limit := getattr(config, name, None))), _MOST_TOKENS)


def _folder_of(folder: Path, order: Order) -> Path:
    from tunesmith.models.address import model_folder

    return model_folder(_base(folder, order))


def _base(folder: Path, order: Order) -> str:
    """Return the address of the whole model that is trained on; of a tuned one, it and its base summed and kept."""
    from tunesmith.exporting.merge import load_whole, round_weights, stored_dtype, write_merged
    from tunesmith.models.address import locate
    from tunesmith.models.local import load_tokenizer

    place = locate(order.base)
    if place.adapter is None:
        return order.base
    merged = Path(order.models) / "base"
    if not merged.is_dir():
        model, dtype = load_whole(place), stored_dtype(place.folder)
        round_weights(model, dtype)
        _keep(
            lambda part: write_merged(
                model, load_tokenizer(place.folder, adapter=place.adapter), part, dtype
            ),
            merged,
        )
    return f"path:{merged}"


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), "train" if sys.argv[2] == "train" else "validate"))
