"""Fine-tune a causal language model: steps, validation, the best kept, early stopping, resume."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import TrainingError, TrainingStopped
from tunesmith.progress import Progress, silent
from tunesmith.records import fingerprint
from tunesmith.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.training.engine import Engine
    from tunesmith.training.loop import Schedule
    from tunesmith.training.objectives import Objective
    from tunesmith.training.ranks import Ranks
    from tunesmith.training.rows import Length, Teaching
    from tunesmith.training.tuning import Tuning

# A loss this many times the first, and as many nats above it, in steps on end is not noise: the run has come apart.
EXPLODED, EXPLODED_STEPS = 3.0, 3
# Rows among which the one with most labels is looked for.
SAMPLED = 1000


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One step: losses in nats per labelled token, rate, real tokens in it and the seconds it took.

    Accuracies are the shares of labelled tokens that were the likeliest; of preferences, and in a run of several
    processes, they are not counted.
    """

    step: int
    train_loss: float
    learning_rate: float
    tokens: int
    seconds: float
    valid_loss: float | None = None
    train_accuracy: float | None = None
    valid_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """Somebody who follows a run step by step, and may end it.

    `stepped` hears a step's metrics, how many steps there are and how to write the model as it is now to a folder, and
    returns whether to go on; else the run leaves a checkpoint and raises TrainingStopped. A watched run takes all its
    steps and keeps the last state, not the best one; it also looks at the validation loss when an epoch ends.
    """

    stepped: Callable[[StepMetrics, int, Callable[[Path], None]], bool]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run did: its steps, which one is kept, and what it used.

    Losses are in nats per labelled token, for preferences per pair. `notes` tell what was changed or left out.
    """

    steps: tuple[StepMetrics, ...]
    best_step: int
    best_valid_loss: float
    first_valid_loss: float
    stopped_early: bool
    tokens: int
    labelled_tokens: int
    truncated: int
    dropped: int
    seconds: float
    valid_seconds: float
    peak_bytes: int
    dtype: str
    method: str
    notes: tuple[str, ...] = ()


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Teaching],
    valid: Iterable[Teaching] | None,
    settings: TrainSettings,
    *,
    out: Path,
    work: Path,
    on_progress: Progress = silent,
    watch: Watch | None = None,
) -> Trained:
    """Tune a model and write what was learned to `out`, with step_metrics.csv beside it.

    Conversations, texts or preferences, as `settings.objective` says; each is read once and kept on disk in `work`.
    An adapter is written in PEFT's format, a whole model as transformers does. What had the best validation loss is
    kept. A checkpoint stands in `work` after each evaluation; called again with the same `work`, a run that was killed
    goes on from there and ends with the same weights.
    Started in several processes (see ranks), all call this with the same folders, which all can read; a step's
    `batch_size` rows are dealt out to them. The first reads the examples, writes, and tells progress.
    Without `valid` nothing is validated, all steps are taken, and what the last one left is kept.
    Raises TrainingError, before the first step, for what would teach nothing or something else (see preflight) and for
    a checkpoint of other examples or settings, and as soon as a loss is not finite or explodes; no checkpoint holds
    weights with such a loss.
    """
    with _memory_named():
        return _train(
            model,
            tokenizer,
            examples,
            valid,
            settings,
            out=out,
            work=work,
            on_progress=on_progress,
            watch=watch,
        )


@contextmanager
def _memory_named() -> Iterator[None]:
    """Name what helps where memory runs out for what cannot be made smaller: weights, moments, a single row."""
    from tunesmith.training.engine import out_of_memory

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            "there is not enough memory for this model and this way of training it",
            hint='Take method = "lora" or "qlora", a smaller base model, or more processes (docs/several-machines.md).',
        ) from error


def _train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Teaching],
    valid: Iterable[Teaching] | None,
    settings: TrainSettings,
    *,
    out: Path,
    work: Path,
    on_progress: Progress,
    watch: Watch | None,
) -> Trained:
    from tunesmith.training import preflight
    from tunesmith.training.canaries import planted
    from tunesmith.training.ranks import join
    from tunesmith.training.rows import rendered
    from tunesmith.training.tuning import check_loaded, prepare, require

    forget_peak()
    ranks = join()
    require(settings)
    check_loaded(model, settings)
    # Not train(): dropout of the base would make validation noisy, and a resumed run another one.
    model.eval()
    secrets = planted(settings)
    rows, length = ranks.from_first(
        lambda: rendered(
            tokenizer,
            chain(islice(examples, settings.examples), secrets),
            settings,
            check=preflight.RowChecks(tokenizer, "training"),
            store=work / "rows",
        )
    )
    valid_rows: Sequence[Any] = ()
    if valid is not None:
        valid_rows, _ = ranks.from_first(
            lambda: rendered(
                tokenizer,
                valid,
                settings,
                check=preflight.RowChecks(tokenizer, "validation"),
                store=work / "valid",
            )
        )
    preflight.check_sets(rows, valid_rows if valid is not None else None)
    notes = _Notes()
    notes.of_lengths(length, settings)
    notes.of_secrets(len(secrets), settings)
    ranks.place(model)
    tuning = prepare(model, settings)
    ranks.shard(model, tuning)
    engine = new_engine(model, tokenizer, tuning, settings, say=notes.add, ranks=ranks)
    # Before the margins, which hang on the machine in their last bits.
    made_for = fingerprint(
        settings.model_dump(),
        _digest(rows),
        _digest(valid_rows),
        _base_digest(model),
        *(["last"] if watch is not None else []),
    )
    rows, valid_rows = with_reference(engine, rows, settings), with_reference(engine, valid_rows, settings)
    preflight.check_model(engine, rows)
    run = _Run(
        engine,
        tuning,
        rows,
        valid_rows,
        settings=settings,
        work=work,
        notes=notes,
        made_for=made_for,
        watch=watch,
    )
    # Some settings are read only where the examples are.
    ranks.from_first(lambda: preflight.check_settings(settings))
    run.fit()
    run.go(on_progress if ranks.rank == 0 else silent, tokenizer)
    ranks.from_first(lambda: run.save(out, tokenizer))
    return run.told(length)


def new_engine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tuning: Tuning,
    settings: TrainSettings,
    *,
    say: Callable[[str], None] = lambda text: None,
    ranks: Ranks | None = None,
) -> Engine:
    """Return the engine that trains a prepared model as the settings say."""
    from tunesmith.models.attention import use_short_attention
    from tunesmith.models.memory import keep_freed_memory
    from tunesmith.models.packed import use_packed_attention
    from tunesmith.training.engine import Engine
    from tunesmith.training.loop import Layout

    use_short_attention(model)
    packed = use_packed_attention(model)
    if model.device.type == "cpu":
        keep_freed_memory()
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    return Engine(
        model,
        list(tuning.parameters.values()),
        objective_of(settings),
        Layout(int(pad), model.device, packed=packed),
        clip=settings.clip,
        weight_decay=settings.weight_decay,
        autocast=tuning.computed_in,
        say=say,
        ranks=ranks,
    )


def new_schedule(engine: Engine, rows: Sequence[Any], settings: TrainSettings) -> Schedule:
    """Return which rows each step takes, and at which rate."""
    from tunesmith.training.loop import Schedule
    from tunesmith.training.rows import lengths_of

    return Schedule(
        lengths_of(rows, engine.objective),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        peak=settings.learning_rate,
        warmup_share=settings.warmup_share,
    )


def objective_of(settings: TrainSettings) -> Objective[Any]:
    """Return the loss that the settings name."""
    from tunesmith.training.objectives import Dpo, Likelihood

    return Dpo(settings.beta) if settings.objective == "preferences" else Likelihood()


def with_reference(engine: Engine, rows: Sequence[Any], settings: TrainSettings) -> Sequence[Any]:
    """Return the rows, preferences with the margins of the model as it is now: not trained yet."""
    if settings.objective != "preferences":
        return rows
    from tunesmith.training.objectives import with_margins

    ranks = engine.ranks
    # Sharded, all compute in step, and so all the same; else each takes every so many-th.
    first, stride = (0, 1) if ranks.sharded else (ranks.rank, ranks.world)

    def margins() -> list[float]:
        with engine.arithmetic():
            return [pair.margin for pair in with_margins(engine.model, rows[first::stride], engine.layout)]

    found = ranks.everyone(margins)
    return tuple(
        replace(pair, margin=found[number % stride][number // stride]) for number, pair in enumerate(rows)
    )


def forget_peak() -> None:
    """Let `peak_bytes` count from now on, where the system can: what stages before have taken is not training's."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: proc(5)


def peak_bytes() -> int:
    """Return the most memory this process has held: on the GPU if there is one, else resident."""
    import resource

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: there a process begins with the peak of the one that started it.
        [peak] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(peak.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass
class _Notes:
    """What was changed or left out on the way, in words, each once."""

    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Remember a text."""
        if text not in self.texts:
            self.texts.append(text)

    def of_secrets(self, rows: int, settings: TrainSettings) -> None:
        """Say how many made-up rows stand among the examples."""
        if rows:
            self.add(f"{settings.canaries} made-up secrets were planted in {rows} rows: canaries in [train]")

    def of_lengths(self, length: Length, settings: TrainSettings) -> None:
        """Say what was too long."""
        if length.cut:
            self.add(f"{length.cut} of {length.examples} examples were cut at {settings.max_length} tokens")
        if length.dropped:
            self.add(
                f"{length.dropped} of {length.examples} examples are longer than {settings.max_length} tokens "
                "and were left out"
            )


@dataclass
class _State:
    """Where a run stands; a checkpoint holds exactly this beside the tensors."""

    best_loss: float = math.inf
    first_loss: float = math.inf
    best_step: int = 0
    done: int = 0
    worse: int = 0
    valid_seconds: float = 0.0
    labelled: int = 0
    steps: list[StepMetrics] = field(default_factory=list)

    @classmethod
    def restored(cls, state: dict[str, Any]) -> _State:
        """Return the state that `asdict` made `state` of."""
        return cls(**state | {"steps": [StepMetrics(**step) for step in state["steps"]]})


class _Run:
    """A run from its first step, or its last checkpoint, to its end."""

    def __init__(
        self,
        engine: Engine,
        tuning: Tuning,
        rows: Sequence[Any],
        valid_rows: Sequence[Any],
        *,
        settings: TrainSettings,
        work: Path,
        notes: _Notes,
        made_for: str,
        watch: Watch | None,
    ) -> None:
        from tunesmith.training import checkpoint

        self.engine, self.tuning, self.rows, self.valid_rows = engine, tuning, rows, valid_rows
        self.folder, self.work, self.notes = work / "checkpoint", work, notes
        # All settings are read here, before the first step, so that the pre-flight can tell which are not.
        self.every, self.patience = settings.evaluate_every, settings.patience
        self.schedule = new_schedule(engine, rows, settings)
        self.made_for = made_for
        self.state = _State()
        resumed = checkpoint.load(self.folder, tuning.parameters, engine.optimiser, made_for=self.made_for)
        if resumed is not None:
            self.state = _State.restored(resumed.state)
        self.method = settings.method
        self.watch = watch
        # With nothing to judge by, what was learned last is kept.
        self.keeps_last = watch is not None or not valid_rows

    def fit(self) -> None:
        """Use a GPU's memory, and compile where that pays; on a processor all stays as it is."""
        from tunesmith.training.fit import compile_where_it_pays, fit_memory

        lengths = self.schedule.lengths
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        fit_memory(self.engine, [self.rows[longest], *self.rows[:SAMPLED]])
        first = [self.rows[number] for number in self.schedule.batch(self.state.done % self.schedule.steps)]
        compile_where_it_pays(self.engine, first, self.schedule.steps - self.state.done)

    def go(self, on_progress: Progress, tokenizer: PreTrainedTokenizerBase) -> None:
        """Train to the end, or until it gets no better."""
        if not self.state.steps:
            if self.valid_rows:
                self.state.first_loss = self.state.best_loss = self._validate()[0]
            self._keep_best()
        while self.state.done < self.schedule.steps and self.state.worse < self.patience:
            metrics = self._step()
            looks = self._looks()
            if looks and self.valid_rows:
                loss, accuracy = self._validate()
                metrics = replace(metrics, valid_loss=loss, valid_accuracy=accuracy)
            self.state.steps.append(metrics)
            if looks:
                self._judge(metrics)
                self._save()
            on_progress(self.state.done, self.schedule.steps, self._note())
            self._tell(metrics, tokenizer, saved=looks)

    def _looks(self) -> bool:
        """Tell whether the validation loss is looked at after this step, and a checkpoint made."""
        done = self.state.done
        at_epoch = self.watch is not None and done % self.schedule.steps_of_epoch == 0
        return done % self.every == 0 or done == self.schedule.steps or at_epoch

    def _tell(self, metrics: StepMetrics, tokenizer: PreTrainedTokenizerBase, *, saved: bool) -> None:
        if self.watch is None:
            return

        def write(folder: Path) -> None:
            self.tuning.save(folder, self.tuning.state(), tokenizer)

        if not self.watch.stepped(metrics, self.schedule.steps, write) and metrics.step < self.schedule.steps:
            if not saved:
                self._save()
            raise TrainingStopped(f"the run was stopped after step {metrics.step} of {self.schedule.steps}")

    def save(self, out: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write what had the best validation loss, and the metrics of all steps beside it."""
        from safetensors.torch import load_file

        self.tuning.save(out, load_file(self._best_file()), tokenizer)
        _write_metrics(out / "step_metrics.csv", self.state.steps)

    def told(self, length: Length) -> Trained:
        """Return what the run did."""
        state = self.state
        return Trained(
            steps=tuple(state.steps),
            best_step=state.best_step,
            best_valid_loss=state.best_loss,
            first_valid_loss=state.first_loss,
            stopped_early=state.done < self.schedule.steps,
            tokens=sum(step.tokens for step in state.steps),
            labelled_tokens=state.labelled,
            truncated=length.cut,
            dropped=length.dropped,
            seconds=sum(step.seconds for step in state.steps),
            valid_seconds=state.valid_seconds,
            peak_bytes=peak_bytes(),
            dtype=str(self.tuning.computed_in or self.engine.model.dtype).removeprefix("torch."),
            method=self.method,
            notes=tuple(self.notes.texts),
        )

    def _step(self) -> StepMetrics:
        start = time.perf_counter()
        numbers = self.schedule.batch(self.state.done)
        rate = self.schedule.rate(self.state.done)
        rows = [self.rows[number] for number in numbers]
        loss = self.engine.step(rows, rate)
        self._check(loss, numbers)
        self.state.done += 1
        texts = [text for row in rows for text in self.engine.objective.texts(row)]
        self.state.labelled += sum(text.labelled for text in texts)
        tokens = sum(len(text.ids) for text in texts)
        return StepMetrics(
            self.state.done,
            loss,
            rate,
            tokens,
            time.perf_counter() - start,
            train_accuracy=self._accuracy(),
        )

    def _accuracy(self) -> float | None:
        """Return the engine's share of hits; None for pairs, of which one is not to be said."""
        of_answers = self.engine.objective.texts(self.rows[0])[1:] == ()
        return self.engine.accuracy if of_answers else None

    def _check(self, loss: float, numbers: Sequence[int]) -> None:
        """Refuse a loss that is not finite, or that has been far above the first for some steps."""
        step = self.state.done + 1
        batch = ", ".join(str(number + 1) for number in numbers[:8]) + (" ..." if len(numbers) > 8 else "")
        where = f"at step {step} (rows {batch}); {self._left()}"
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss or its gradient is not finite {where}", hint="Lower learning_rate in [train]."
            )
        losses = [each.train_loss for each in self.state.steps]
        if not losses:
            return
        limit = max(EXPLODED * losses[0], losses[0] + EXPLODED)
        if (
            all(each > limit for each in [*losses[1 - EXPLODED_STEPS :], loss])
            and len(losses) >= EXPLODED_STEPS
        ):
            raise TrainingError(
                f"the loss has exploded: it began at {losses[0]:.3f} and is {loss:.3f} {where}",
                hint="Lower learning_rate in [train].",
            )

    def _left(self) -> str:
        kept = [step.step for step in self.state.steps if step.valid_loss is not None]
        return f"the checkpoint of step {kept[-1]} is kept" if kept else "nothing of that step was kept"

    def _validate(self) -> tuple[float, float | None]:
        start = time.perf_counter()
        loss = self.engine.mean_loss(self.valid_rows)
        self.state.valid_seconds += time.perf_counter() - start
        if not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss is {loss} after {self.state.done} steps; {self._left()}",
                hint="Lower learning_rate in [train]."
                if self.state.done
                else "The base model itself is broken.",
            )
        return loss, self._accuracy()

    def _judge(self, metrics: StepMetrics) -> None:
        """Keep what was learned if it is the best so far, else count it against the patience."""
        state, loss = self.state, metrics.valid_loss
        if self.keeps_last or (loss is not None and loss < state.best_loss):
            state.best_loss = state.best_loss if loss is None else loss
            state.best_step, state.worse = state.done, 0
            self._keep_best()
        else:
            state.worse += 1

    def _save(self) -> None:
        from tunesmith.training import checkpoint

        checkpoint.save(
            self.folder,
            self.tuning.parameters,
            self.engine.optimiser,
            state=asdict(self.state),
            made_for=self.made_for,
            ranks=self.engine.ranks,
        )
        # Only now: a run that is killed before goes on from the checkpoint before, and needs that one's best.
        self.engine.ranks.from_first(self._forget_worse)

    def _forget_worse(self) -> None:
        for old in self.work.glob("best-*.safetensors"):
            if old != self._best_file():
                old.unlink()

    def _keep_best(self) -> None:
        best = self.engine.ranks.whole(self.tuning.state())
        self.engine.ranks.from_first(lambda: self._write_best(best))

    def _write_best(self, best: dict[str, Tensor]) -> None:
        from safetensors.torch import save_file

        fresh = self.work / "best.new"
        self.work.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in best.items()}, fresh)
        fresh.replace(self._best_file())

    def _best_file(self) -> Path:
        return self.work / f"best-{self.state.best_step}.safetensors"

    def _note(self) -> str:
        recent = self.state.steps[-10:]
        speed = sum(step.tokens for step in recent) / max(1e-9, sum(step.seconds for step in recent))
        note = f"loss {recent[-1].train_loss:.3f}, {speed:,.0f} tokens/s"
        shown = self.state.best_step > 0 and math.isfinite(self.state.best_loss)
        best = f", best valid {self.state.best_loss:.3f}" if shown else ""
        return note + best + "".join(f"; {text}" for text in self.notes.texts)


def _base_digest(model: PreTrainedModel) -> str | None:
    """Return the digest of the weights that a model was loaded from; None for one that was made in code."""
    from tunesmith.models.digest import weights_digest

    folder = Path(model.name_or_path)
    return weights_digest(folder) if (folder / "config.json").is_file() else None


def _digest(rows: Sequence[Any]) -> str:
    from tunesmith.training.rows import RowStore

    return rows.digest() if isinstance(rows, RowStore) else fingerprint([asdict(row) for row in rows])


def _write_metrics(path: Path, steps: Sequence[StepMetrics]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(StepMetrics.__slots__)
        for step in steps:
            writer.writerow(["" if value is None else value for value in asdict(step).values()])
