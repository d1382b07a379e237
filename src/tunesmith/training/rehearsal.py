"""A training run in small, in a process of its own: some of its real parts, timed, and the most memory it took.

In a process of its own, because memory that others have freed stays with a process and would be counted, or used
again and not be counted. `python -m tunesmith.training.rehearsal FOLDER` is that process; `rehearse` starts it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import TrainingError, TunesmithError
from tunesmith.training.rows import RowStore
from tunesmith.training.settings import TrainSettings

if TYPE_CHECKING:
    from tunesmith.training.objectives import Part

# So many steps, and so many rows of validation, are cut into parts to see what the run's parts are like.
LOOKED_AT, ROWS_LOOKED_AT = 64, 256
# So many typical parts are timed: the middle ones when all are put in order and weighed by their tokens.
TIMED = 4
RATE = 1e-6
# What is trained, its gradient, and the two moments of AdamW.
COPIES = 4


@dataclass(frozen=True, slots=True)
class Job:
    """What is rehearsed: a model folder, the settings, how many threads; the rows lie beside it on disk."""

    model: str
    settings: dict[str, Any]
    threads: int


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What each piece of the run takes in seconds, and its memory.

    `start` is all that comes before the first step, `step` one step, `validation` one look at the validation loss,
    `checkpoint` what is written after it, `end` the last writing. Of `peak_bytes`, `kept_bytes` are there all the time:
    libraries and model as they were loaded, what is trained, its gradient and its moments. Of the `shapes` that the
    run's parts have, as far as was looked, `shapes_met` were rehearsed.
    """

    start: float
    step: float
    validation: float
    checkpoint: float
    end: float
    peak_bytes: int
    kept_bytes: int
    shapes: int
    shapes_met: int


def rehearse(job: Job, rows: Sequence[Any], valid: Sequence[Any], work: Path) -> Rehearsed:
    """Rehearse a run in a process of its own; `work` is a folder for its files.

    Raises TrainingError with the words of the rehearsal where it fails.
    """
    _write_rows(rows, work / "rows")
    _write_rows(valid, work / "valid")
    (work / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(work)], capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode < 0:
        raise TrainingError(
            f"the rehearsal of the training was killed (signal {-done.returncode}), most likely for want of memory",
            hint="Lower batch_size or max_length in [train], or take a smaller base model.",
        )
    if done.returncode:
        raise TrainingError(f"the rehearsal of the training failed: {done.stderr.strip()[-2000:]}")
    return Rehearsed(**json.loads((work / "result.json").read_text(encoding="utf-8")))


def _write_rows(rows: Sequence[Any], folder: Path) -> None:
    """Write rows where the other process reads them, the two texts of a pair one after the other."""
    from tunesmith.training.render import Pair

    if not isinstance(rows, RowStore):
        RowStore.write(
            folder,
            (
                text
                for row in rows
                for text in ((row.chosen, row.rejected) if isinstance(row, Pair) else (row,))
            ),
        )
    elif rows.folder != folder:
        RowStore.write(folder, rows)


def _read_rows(folder: Path, settings: TrainSettings) -> Sequence[Any]:
    from tunesmith.training.render import Pair

    store = RowStore(folder)
    if settings.objective != "preferences":
        return store
    return [Pair(store[i], store[i + 1]) for i in range(0, len(store), 2)]


class _Rehearsal:
    """A run with few parts: what `train` sets up, and what takes its time and memory."""

    def __init__(self, job: Job, work: Path) -> None:
        import torch

        from tunesmith.models.local import load_model, load_tokenizer
        from tunesmith.training.train import new_engine, new_schedule, peak_bytes
        from tunesmith.training.tuning import prepare

        torch.set_num_threads(job.threads)
        self.settings, self.work = TrainSettings(**job.settings), work
        self.tokenizer = load_tokenizer(Path(job.model))
        model = load_model(Path(job.model), four_bit=self.settings.method == "qlora")
        loaded = peak_bytes()
        self.tuning = prepare(model, self.settings)
        trained = sum(each.numel() * each.element_size() for each in self.tuning.parameters.values())
        self.kept_bytes = loaded + COPIES * trained
        self.engine = new_engine(model, self.tokenizer, self.tuning, self.settings)
        self.rows = _read_rows(work / "rows", self.settings)
        self.valid = _read_rows(work / "valid", self.settings)
        self.schedule = new_schedule(self.engine, self.rows, self.settings)
        self.met: set[tuple[int, ...]] = set()

    def perform(self) -> Rehearsed:
        """Do in small, and in its order, what `train` does; the model is spoilt."""
        from tunesmith.training.train import peak_bytes

        start = _seconds(self._prepare)
        looked_at = range(min(LOOKED_AT, self.schedule.steps))
        parts = [part for step in looked_at for part in self._parts(self._rows_of(step))]
        valid = self._parts(self.valid[:ROWS_LOOKED_AT])
        self._validate(max(valid, key=_size))
        self._keep_best()
        largest = _largest(parts)
        for part in largest:
            self._learn(part)
        step = self._timed(parts, self._gradient) / len(looked_at)
        step += _seconds(lambda: self.engine.apply(0.0, RATE))
        validation = self._timed(valid, self._validate) * len(self.valid) / len(self.valid[:ROWS_LOOKED_AT])
        checkpoint = _seconds(self._keep)
        self._learn(largest[0])
        return Rehearsed(
            start=start + self._reference_seconds(),
            step=step,
            validation=validation,
            checkpoint=checkpoint,
            end=_seconds(self._end),
            peak_bytes=peak_bytes(),
            kept_bytes=self.kept_bytes,
            shapes=len({_shape(part) for part in (*parts, *valid)}),
            shapes_met=len(self.met),
        )

    def _prepare(self) -> None:
        from tunesmith.training.fit import fit_memory
        from tunesmith.training.preflight import check_model
        from tunesmith.training.train import SAMPLED

        check_model(self.engine, self.rows)
        lengths = self.schedule.lengths
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        fit_memory(self.engine, [self.rows[longest], *self.rows[:SAMPLED]])

    def _rows_of(self, step: int) -> list[Any]:
        return [self.rows[number] for number in self.schedule.batch(step)]

    def _parts(self, rows: Sequence[Any]) -> list[Part]:
        return self.engine.objective.parts(rows, self.engine.layout)

    def _reference_seconds(self) -> float:
        """Return how long the untrained model takes for the margins of all preferences."""
        from tunesmith.training.train import with_reference

        some = self._rows_of(0)[:4]
        seconds = _seconds(lambda: with_reference(self.engine, some, self.settings))
        return seconds / len(some) * (len(self.rows) + len(self.valid))

    def _timed(self, parts: Sequence[Part], compute: Callable[[Part], None]) -> float:
        """Return how long all parts take, from some typical ones."""
        typical = _typical(parts)
        each = [_seconds(lambda part=part: compute(part)) / _size(part) for part in typical]  # type: ignore[misc]
        return sum(map(_size, parts)) * sum(each) / len(each)

    def _gradient(self, part: Part) -> None:
        self.met.add(_shape(part))
        self.engine.gradient_of([part])

    def _learn(self, part: Part) -> None:
        self._gradient(part)
        self.engine.apply(0.0, RATE)

    def _validate(self, part: Part) -> None:
        import torch

        self.met.add(_shape(part))
        with torch.no_grad(), self.engine.arithmetic():
            float(self.engine.objective.loss(self.engine.model, part))

    def _keep_best(self) -> None:
        from safetensors.torch import save_file

        save_file(self.tuning.state(), self.work / "best.safetensors")

    def _keep(self) -> None:
        """Write what a run writes after each look at the validation loss."""
        from tunesmith.training import checkpoint

        self._keep_best()
        checkpoint.save(
            self.work / "checkpoint", self.tuning.parameters, self.engine.optimiser, state={}, made_for=""
        )

    def _end(self) -> None:
        from safetensors.torch import load_file

        best = load_file(self.work / "best.safetensors", device=str(self.engine.model.device))
        self.tuning.save(self.work / "out", best, self.tokenizer)


def _seconds(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def _size(part: Part) -> int:
    """Return a part's tokens, padding counted: it is computed as well."""
    return part.batch.ids_B_T.numel()


def _shape(part: Part) -> tuple[int, ...]:
    return tuple(part.batch.ids_B_T.shape)


def _largest(parts: Sequence[Part]) -> list[Part]:
    """Return the parts that may need most memory: the largest, the one with most labels, the one with longest rows."""
    keys: tuple[Callable[[Part], int], ...] = (
        _size,
        lambda part: part.batch.labels,
        lambda part: _shape(part)[1],
    )
    found = {id(part): part for part in (max(parts, key=key) for key in keys)}
    return list(found.values())


def _typical(parts: Sequence[Part]) -> list[Part]:
    """Return the middle parts of strata of like width, each of which holds as many tokens."""
    ordered = sorted(parts, key=lambda part: (_shape(part)[1], _size(part)))
    ends = list(accumulate(map(_size, ordered)))
    middles = [(2 * i + 1) * ends[-1] / (2 * TIMED) for i in range(TIMED)]
    return [ordered[bisect_left(ends, middle)] for middle in middles]


def main() -> None:
    """Rehearse what lies in the folder that the command line names; writes result.json there, or says what is wrong."""
    work = Path(sys.argv[1])
    job = Job(**json.loads((work / "job.json").read_text(encoding="utf-8")))
    try:
        result = _Rehearsal(job, work).perform()
    except TunesmithError as error:
        sys.exit(str(error))
    (work / "result.json").write_text(json.dumps(asdict(result)), encoding="utf-8")


if __name__ == "__main__":
    main()
