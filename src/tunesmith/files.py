"""A file of examples, outside any project: check it, train a model on it, and see what that risks."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.errors import ModelError, RowError, UsageError
from tunesmith.progress import Progress, leads, silent
from tunesmith.project import Silent

if TYPE_CHECKING:
    from numpy import uint32
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from tunesmith.checking.check import Quality
    from tunesmith.checking.dedupe import Deduplicated
    from tunesmith.checking.mend import Mended
    from tunesmith.curating.bias import Bias
    from tunesmith.curating.privacy.examples import Handling
    from tunesmith.evaluating.risks import Material as RiskMaterial
    from tunesmith.evaluating.risks import Risks, RisksSettings, Seen
    from tunesmith.models.shelf import Say
    from tunesmith.pipeline import Show
    from tunesmith.records import Conversation
    from tunesmith.training.example_files import HoldOut
    from tunesmith.training.formats import Converted, Format
    from tunesmith.training.inspect import Inspection, Mask
    from tunesmith.training.openai_chat import Bill
    from tunesmith.training.rows import Teaching
    from tunesmith.training.settings import Objective, TrainSettings
    from tunesmith.training.train import Trained

RUN: Final = "run.json"
WORK: Final = ".work"
LARGE: Final = 256 * 10**6  # bytes of a file in which private data is looked for only if that is asked for


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file holds, what is wrong with it, what the rows asked for teach, and what else was asked for."""

    inspection: Inspection
    masks: tuple[Mask, ...]
    bill: Bill | None = None
    quality: Quality | None = None
    mended: Mended | None = None
    looked_for_private: bool = False
    bias: Bias | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a file: its path, a SHA-256 over all its rows, and how many of them were taken."""

    path: str
    digest: str
    rows: int


@dataclass(frozen=True, slots=True)
class FileRun:
    """A model that was tuned on a file: its folder, settings, rows, and what the run did.

    `held_out` if the validation rows were taken from the training file; `reused` if all this was done before.
    """

    out: Path
    settings: Mapping[str, Any]
    train: Part
    valid: Part
    held_out: bool
    run: Trained
    base_digest: str
    reused: bool = False


def check_file(
    path: Path,
    *,
    base: str = "smollm2",
    objective: Objective | None = None,
    max_length: int = 1024,
    masks: int = 0,
    line: int | None = None,
    price: str | None = None,
    epochs: int = 3,
    fix: Path | None = None,
    private: Handling | None = None,
    allow: Sequence[str] = (),
    against: Sequence[Path] = (),
    bias: bool = False,
    plot: Path | None = None,
    workers: int | None = None,
    ray: str | None = None,
    on_progress: Progress = silent,
    say: Say = lambda text: None,
) -> Checked:
    """Return all faults of a file by line, its tokens and lengths, as training a base on it would find them.

    Besides it says what the curating rules find in its words and between its rows, and writes the file anew, mended
    where that needs no guess, to `fix`, with a diff. Private data is reported, and in the new file redacted or
    pseudonymised, as `private` says (None: reported, and in a file of over 256 MB not looked for, which would take
    twice as long); `allow` are values, or patterns of them, that may stay. `against` are files of benchmarks, whose
    rows must not stand in this one; with `bias` it is told how groups of people are spoken of, and `plot` is a new SVG
    of how long its rows are. `workers` None: as many processes as there are processors; `ray`: by the cluster at this
    address ("auto": RAY_ADDRESS), in which every machine has the file at this path.

    `objective` None: what the first row is. `masks` rows are shown with what each teaches, or the row that begins at
    `line`. `price` names a model of OpenAI's: what training it on so many epochs of sound chats costs is told as well.
    Raises UsageError if there is no such file or line or if what is priced are no chats, and RowError if nothing can be
    learned from that line.
    """
    from tunesmith.checking.bias import listen
    from tunesmith.checking.block import Order
    from tunesmith.checking.check import check
    from tunesmith.checking.mend import mend
    from tunesmith.curating.privacy import PrivacySettings
    from tunesmith.curating.privacy.examples import text_handling
    from tunesmith.training.example_files import objective_in
    from tunesmith.training.inspect import masks as masks_of
    from tunesmith.training.openai_chat import bill_of
    from tunesmith.training.settings import settings_from

    learned_as = objective or objective_in(path)
    if price is not None and learned_as != "answers":
        raise UsageError(
            f"{path} is learned as {learned_as}, and chats alone are priced.", hint="Leave out --price."
        )
    settings = settings_from([f"max_length={max_length}"], base=base, objective=learned_as)
    if plot is not None and plot.exists():
        raise UsageError(f"{plot} is there already.", hint="Name another file with --plot.")
    if plot is not None and not plot.absolute().parent.is_dir():
        raise UsageError(
            f"{plot.absolute().parent} is no folder.", hint="Make it, or name another with --plot."
        )
    wanted = masks or line is not None
    shown = masks_of(path, _tokenizer(base, say), settings, count=masks, line=line) if wanted else ()
    if private in ("redact", "pseudonymise") and fix is None:
        raise UsageError(
            f"--private {private} changes rows, and no file is named.", hint="Name one: --fix OUT"
        )
    privacy = PrivacySettings(allow=tuple(allow))
    if private is None:
        private = "report" if path.is_file() and path.stat().st_size <= LARGE else "off"
    order = Order(path, _base(base, say), settings, None if private == "off" else privacy, tuple(against))
    if ray is not None:
        from tunesmith.scaling.ray_data import check_on_ray

        report = check_on_ray(order, ray, on_progress=on_progress)
    else:
        report = check(order, workers=workers, on_progress=on_progress)
    found = report.inspection
    bill = bill_of(path, price, epochs) if price is not None and found.ready else None
    mended = None
    if fix is not None:
        if report.between is None:
            raise UsageError(f"{path} is plain text, which is not mended.", hint="Leave out --fix.")
        mended = mend(path, fix, report.between, also=text_handling(private, privacy))
    heard = listen(path) if bias else None
    if plot is not None:
        _draw(plot, found, report.quality)
    return Checked(found, shown, bill, report.quality, mended, private != "off", heard)


def _draw(out: Path, found: Inspection, quality: Quality | None) -> None:
    """Write how many tokens and turns rows have as an SVG."""
    from tunesmith.evaluating.plots import spread_plot

    spreads = {"tokens": found.lengths, "turns": None if quality is None else quality.turns}
    drawn = {unit: spread.bins for unit, spread in spreads.items() if spread is not None}
    if not drawn:
        raise UsageError(f"{found.path} has no row that could be drawn.", hint="Leave out --plot.")
    try:
        out.write_text(spread_plot(drawn, width=640, name="check"), encoding="utf-8")
    except OSError as error:
        out.unlink(missing_ok=True)
        raise UsageError(f"{out} cannot be written: {error.strerror}.") from error


def dedupe_file(
    path: Path,
    out: Path,
    *,
    near: float | None = 0.9,
    meaning: float | None = None,
    encoder: str = "minilm",
    ray: str | None = None,
    on_progress: Progress = silent,
    say: Say = lambda text: None,
) -> Deduplicated:
    """Write a file's rows without those that repeat earlier ones, and the pairs beside it.

    `near` is the share of words that two rows have in common, `meaning` the cosine of their embeddings by `encoder`;
    None: not looked for. `ray`: rows are hashed by the cluster at this address ("auto": RAY_ADDRESS), in which every
    machine has the file at this path. Raises UsageError for what cannot be read or written.
    """
    from tunesmith.checking.dedupe import FileTexts, dedupe
    from tunesmith.models.address import load_encoder

    def on_ray(texts: FileTexts, on_progress: Progress) -> NDArray[uint32]:
        from tunesmith.scaling.ray_data import minima_on_ray

        assert ray is not None
        return minima_on_ray(texts, ray, on_progress=on_progress)

    return dedupe(
        path,
        out,
        near=near,
        meaning=meaning,
        encoder=lambda: load_encoder(encoder, say=say),
        minima=None if ray is None else on_ray,
        on_progress=on_progress,
    )


def convert_file(path: Path, out: Path, target: Format) -> Converted:
    """Write a file of chats or preferences in another form, as JSON lines: all rows, or none.

    Read are OpenAI's, ShareGPT's, Alpaca's and TRL's forms, prompt and completion, question and answer, as JSON lines,
    a JSON list or CSV. Raises UsageError for what cannot be read or written, and DatasetError with the lines of the
    rows that the target cannot hold.
    """
    from tunesmith.training.formats import convert

    return convert(path, out, target)


def train_file(
    path: Path,
    out: Path,
    settings: TrainSettings,
    *,
    valid: Path | None = None,
    work: Path | None = None,
    show: Show | None = None,
) -> FileRun:
    """Tune a model on a file of examples and write it, with run.json, to a folder.

    Without `valid`, rows are held out: 5 %, at least one and at most about 500, always the same. Called again, a run
    that was stopped goes on from its last checkpoint in `work` (None: a folder in `out`, which is deleted at the end),
    and a finished one is returned. Rows are read one at a time; preference pairs are kept in memory once rendered.
    Raises UsageError for a remote base and for a folder that holds something else, DatasetError for rows that cannot
    be trained on, with their lines, and what `tunesmith.train` raises.
    """
    from tunesmith.artifacts import Store, disk_full_named, write_text_atomic
    from tunesmith.models.digest import weights_digest

    telling = show or Silent()
    settings = _usable(settings)
    scratch = work or out / WORK
    _refuse_full(out, scratch)
    sides = _sides(path, valid, settings, telling)
    finished = _finished(out, settings, sides, telling)
    if finished is not None:
        return finished
    scratch.mkdir(parents=True, exist_ok=True)
    again = "Free some space and give the same command again: it goes on from its last whole checkpoint."
    with (
        disk_full_named(scratch, hint=again),
        Store(scratch).lock("tunesmith train") if leads() else nullcontext(),
    ):
        run = _tuned(sides, out, scratch, settings, telling)
    done = FileRun(
        out,
        settings.model_dump(),
        sides.train,
        sides.valid,
        sides.hold_out is not None,
        run,
        weights_digest(_base(settings.base, telling.say)),
    )
    if leads():
        noted = {key: value for key, value in asdict(done).items() if key not in ("out", "reused")}
        write_text_atomic(out / RUN, json.dumps(noted, ensure_ascii=False, indent=2))
        if work is None:
            shutil.rmtree(scratch)
    return done


@dataclass(frozen=True, slots=True)
class _Sides:
    """The rows to train on and those to validate with, read anew each time; `hold_out` splits one file for both."""

    train: Part
    valid: Part
    hold_out: HoldOut | None

    def training(self, objective: Objective) -> Iterator[Teaching]:
        """Yield the rows to train on."""
        from tunesmith.training.example_files import examples

        for example in examples(Path(self.train.path), objective):
            if self.hold_out is None or not self.hold_out.keeps(example):
                yield example

    def validation(self, objective: Objective) -> Iterator[Teaching]:
        """Yield the rows to validate with."""
        from tunesmith.training.example_files import examples

        for example in examples(Path(self.valid.path), objective):
            if self.hold_out is None or self.hold_out.keeps(example):
                yield example


def _sides(path: Path, valid: Path | None, settings: TrainSettings, show: Show) -> _Sides:
    """Read the files once: every line that is no example is told, and the rows to hold out are found."""
    from tunesmith.training.example_files import HoldOut, survey

    start = time.perf_counter()
    show.stage_started("read", f"{path} as {settings.objective}")
    found = survey(path, settings.objective)
    if valid is None:
        held = HoldOut(path, found)
        train = Part(str(path), found.digest, found.rows - held.rows)
        sides = _Sides(train, Part(str(path), found.digest, held.rows), held)
    else:
        beside = survey(valid, settings.objective)
        train = Part(str(path), found.digest, found.rows)
        sides = _Sides(train, Part(str(valid), beside.digest, beside.rows), None)
    counts = {"rows to train on": sides.train.rows, "to validate": sides.valid.rows}
    show.stage_done("read", time.perf_counter() - start, False, counts)
    if valid is None:
        show.say(
            f"{sides.valid.rows:,} of {found.rows:,} rows are held out for validation, the same ones each time; "
            "--valid takes others."
        )
    return sides


def _usable(settings: TrainSettings) -> TrainSettings:
    """Return the settings, the base named so that it is found from everywhere; raises UsageError for a remote one."""
    from tunesmith.models.address import is_remote, parse
    from tunesmith.training.tuning import require

    if is_remote(settings.base):
        raise UsageError(
            f"{settings.base} is tuned by its service, and this trains here.",
            hint="In a project, `tunesmith run train` has the service tune it: base in [train] of tunesmith.toml.",
        )
    require(settings)
    found = parse(settings.base)
    if found.kind not in ("path", "gguf"):
        return settings
    whole = replace(found, value=str(Path(found.value).expanduser().resolve()))
    return settings.model_copy(update={"base": str(whole)})


def _refuse_full(out: Path, scratch: Path) -> None:
    begun = scratch.exists() or (out / RUN).is_file()
    if out.is_file() or (not begun and out.exists() and any(out.iterdir())):
        raise UsageError(
            f"{out} holds something else; nothing there was changed.", hint="Name a new folder with --out."
        )


def _finished(out: Path, settings: TrainSettings, sides: _Sides, show: Show) -> FileRun | None:
    """Return the run that a folder holds if it is this one; raises UsageError if it is another."""
    from tunesmith.models.digest import weights_digest
    from tunesmith.training.train import StepMetrics, Trained

    note = out / RUN
    if not note.is_file():
        return None
    kept = json.loads(note.read_text(encoding="utf-8"))
    train, valid = (Part(**kept[name]) for name in ("train", "valid"))
    base = weights_digest(_base(settings.base, show.say))
    before = (kept["settings"], train.digest, train.rows, valid.digest, valid.rows, kept["base_digest"])
    given = (sides.train.digest, sides.train.rows, sides.valid.digest, sides.valid.rows)
    now = (settings.model_dump(), *given, base)
    if before != now:
        raise UsageError(
            f"{out} holds what other settings, other examples or another base made; nothing there was changed.",
            hint=f"Name a new folder with --out, or delete {out}.",
        )
    run = kept["run"]
    steps, notes = tuple(StepMetrics(**step) for step in run["steps"]), tuple(run["notes"])
    trained = Trained(**run | {"steps": steps, "notes": notes})
    return FileRun(out, kept["settings"], train, valid, kept["held_out"], trained, base, reused=True)


def _tuned(sides: _Sides, out: Path, work: Path, settings: TrainSettings, show: Show) -> Trained:
    from tunesmith.models.local import load_model, load_tokenizer
    from tunesmith.steps import arithmetic
    from tunesmith.training.ranks import join
    from tunesmith.training.train import train

    # Before the model is loaded: each of several processes has a GPU of its own.
    ranks = join()
    dtype = ranks.from_first(lambda: arithmetic(work))
    folder = _base(settings.base, show.say)
    objective = settings.objective
    rows = min(sides.train.rows, settings.examples or sides.train.rows) + sides.valid.rows
    telling = _Telling(show, rows)
    telling.begin("prepare", f"load {settings.base}, render the rows, check what a step would do")
    try:
        trained = train(
            load_model(
                folder,
                dtype=dtype,
                four_bit=settings.method == "qlora",
                # What is to be sharded waits where there is room for all of it.
                place="cpu" if ranks.sharded else None,
            ),
            load_tokenizer(folder),
            telling.rendering(sides.training(objective)),
            telling.rendering(sides.validation(objective)),
            settings,
            out=out,
            work=work,
            on_progress=telling.stepping,
        )
    except (ModelError, RowError) as error:
        raise _by_line(sides, folder, settings) or error from error
    telling.end({"steps": len(trained.steps), "best step": trained.best_step, "tokens": trained.tokens})
    for note in trained.notes:
        show.say(note)
    return trained


def _by_line(sides: _Sides, folder: Path, settings: TrainSettings) -> Exception | None:
    """Return the error that names all faulty rows by their lines, if the files have such."""
    from tunesmith.models.local import load_tokenizer
    from tunesmith.training.example_files import faulty
    from tunesmith.training.inspect import inspect

    options = "" if settings.base == "smollm2" else f" --base {shlex.quote(settings.base)}"
    for path in dict.fromkeys((sides.train.path, sides.valid.path)):
        faults = inspect(Path(path), load_tokenizer(folder), settings).faults
        if faults:
            return faulty(Path(path), faults, f"{options} --max-length {settings.max_length}")
    return None


class _Telling:
    """Shows rows as they are rendered, then steps, as two stages."""

    def __init__(self, show: Show, rows: int) -> None:
        self._show, self._rows = show, rows
        self._rendered, self._stage, self._start = 0, "", 0.0

    def begin(self, stage: str, caption: str) -> None:
        """Begin a stage."""
        self._stage, self._start = stage, time.perf_counter()
        self._show.stage_started(stage, caption)

    def end(self, counts: Mapping[str, int]) -> None:
        """End the stage."""
        self._show.stage_done(self._stage, time.perf_counter() - self._start, False, counts)

    def rendering(self, examples: Iterable[Teaching]) -> Iterator[Teaching]:
        """Yield examples, and count them."""
        for example in examples:
            yield example
            self._rendered += 1
            self._show.progress(self._rendered, self._rows)

    def stepping(self, done: int, total: int, note: str = "") -> None:
        """Report a step; before the first, that all is rendered."""
        if self._stage == "prepare":
            self.end({"rows": self._rows})
            self.begin("train", "the model of the best validation loss is kept")
        self._show.progress(done, total, note)


def risks_of(
    base: str,
    tuned: str,
    rows: Path | None = None,
    *,
    held_out: Path | None = None,
    checks: Sequence[str] = (),
    show: Show | None = None,
) -> Risks:
    """Return what the tuning of one model into another risks; both are named by their addresses.

    `rows` is the file of chats that was trained on, and `held_out` one of chats like them that were not; without it
    those that `train_file` held out of `rows` are taken, where the tuned model's run.json says so. `checks` are those
    to make (none: all). Raises UsageError for an unknown check, for rows that are no chats, and for rows without a
    question.
    """
    from tunesmith.evaluating.risks import judge, look
    from tunesmith.evaluating.risks.record import CHECKS, RisksSettings
    from tunesmith.models.address import load_chat
    from tunesmith.risks import subject_of

    telling = show or Silent()
    if held_out is not None and rows is None:
        raise UsageError("--held-out is held against training rows.", hint="Name those with --rows.")
    strangers = [check for check in checks if check not in CHECKS]
    if strangers:
        raise UsageError(f"there is no check {strangers[0]!r}", hint=f"There are {', '.join(CHECKS)}.")
    settings = RisksSettings.model_validate({"checks": tuple(checks) or CHECKS})
    material = _material(tuned, rows, held_out, settings)
    seen: list[dict[Any, tuple[Seen, ...]]] = []
    telling.stage_started("risks", f"{base} before, {tuned} after")
    start, total = time.perf_counter(), 2 * len(settings.checks)
    for name, address in ((material.before, base), (material.after, tuned)):
        model = subject_of(load_chat(address, say=telling.say))
        seen.append({})
        for check in settings.checks:
            seen[-1][check] = look(model, check, material, settings, contender=name)
            telling.progress(sum(map(len, seen)), total, f"{address}: {check}")
        del model  # the second one has its place
    made = judge(seen[0], seen[1], material, settings, names=(base, tuned))
    telling.stage_done("risks", time.perf_counter() - start, False, {"figures": len(made.risks)})
    return made


def _material(tuned: str, rows: Path | None, held_out: Path | None, settings: RisksSettings) -> RiskMaterial:
    from tunesmith.curating.privacy import find_private
    from tunesmith.evaluating.risks import Material
    from tunesmith.evaluating.risks.look import sample
    from tunesmith.training.canaries import canaries
    from tunesmith.training.settings import TrainSettings

    kept = _kept_run(tuned)
    trained = TrainSettings(**kept["settings"]) if kept is not None else None
    members: tuple[Conversation, ...] = ()
    others: tuple[Conversation, ...] = ()
    if rows is not None:
        members, others = _both_sides(rows, kept)
        members = members[: trained.examples] if trained is not None else members
    if held_out is not None:
        others = _chats(held_out)
    # An answer that was trained on was learned, whoever asks for it: its rows are no control.
    answers = {row[-1].content for row in members}
    others = tuple(row for row in others if row[-1].content not in answers)
    return Material(
        members=sample(members, settings),
        others=sample(others, settings),
        trained="\n".join(message.content for row in members for message in row),
        canaries=canaries(trained) if trained is not None else (),
        detect=lambda text: [found.value for found in find_private(text)],
    )


def _kept_run(address: str) -> dict[str, Any] | None:
    """Return what `train_file` noted beside a model at a `path:` address; None if it did not make that."""
    form, _, place = address.partition(":")
    note = Path(place).expanduser() / RUN
    if form != "path" or not note.is_file():
        return None
    found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return found


def _both_sides(
    rows: Path, kept: Mapping[str, Any] | None
) -> tuple[tuple[Conversation, ...], tuple[Conversation, ...]]:
    """Return the rows that were trained on, and those that were held out of the same file."""
    from tunesmith.training.example_files import HoldOut, survey

    every = _chats(rows)
    if kept is None or not kept["held_out"]:
        return every, ()
    found = survey(rows, "answers")
    if found.digest != kept["train"]["digest"]:
        raise UsageError(
            f"{rows} is not the file that the model was trained on: its rows differ.",
            hint="Name that file with --rows, or leave it out.",
        )
    held = HoldOut(rows, found)
    return tuple(row for row in every if not held.keeps(row)), tuple(row for row in every if held.keeps(row))


def _chats(path: Path) -> tuple[Conversation, ...]:
    from tunesmith.training.example_files import examples, objective_in

    objective = objective_in(path)
    found = [row for row in examples(path, objective) if isinstance(row, tuple)]
    if objective != "answers" or any(len(row) < 2 for row in found):
        raise UsageError(
            f"{path} does not hold chats, each with a question and an answer.",
            hint="Name a file of chats, or leave --rows out.",
        )
    return tuple(found)


def _tokenizer(base: str, say: Say) -> PreTrainedTokenizerBase:
    from tunesmith.models.local import load_tokenizer

    return load_tokenizer(_base(base, say))


def _base(base: str, say: Say) -> Path:
    """Return a base's folder; raises AddressError for an encoder and ModelError for an adapter."""
    from tunesmith.models.address import locate, model_folder

    locate(base, say=say)
    return model_folder(base, say=say)
