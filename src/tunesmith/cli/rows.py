"""A checked file, what its rows teach, and a run on it, as people read them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich.text import Text

from tunesmith.cli.ports import MAX_LENGTH
from tunesmith.cli.show import duration, size

if TYPE_CHECKING:
    from tunesmith.checking.block import Found
    from tunesmith.checking.check import Quality
    from tunesmith.checking.dedupe import Deduplicated
    from tunesmith.checking.mend import Mended
    from tunesmith.curating.bias import Bias
    from tunesmith.files import FileRun
    from tunesmith.training.example_files import Fault
    from tunesmith.training.inspect import Inspection, Mask, Span, Spread
    from tunesmith.training.openai_chat import Bill

_SHOWN = 20
_STYLES = {"read": "dim", "learned": "green", "end": "bold reverse green"}
_CALLED = {"answers": "chats", "preferences": "preference pairs", "text": "texts"}


def inspection_view(found: Inspection, quality: Quality | None = None) -> Text:
    """Return counts and tokens, what the rules found, and below them what is faulty, each with its way out."""
    words = [] if quality is None else [*_spread("turns", quality.turns), *_found(quality)]
    spread = _spread("tokens", found.lengths)
    return Text("\n").join([*_counts(found), *spread, *words, *_faults(found.faults), _judgement(found)])


def _counts(found: Inspection) -> Iterator[Text]:
    share = f" ({found.labelled / found.tokens:.0%})".replace("%", " %") if found.tokens else ""
    yield Text(f"{found.rows:,} {_CALLED[found.objective]} in {found.path}", style="bold")
    yield Text(f"tokens: {found.tokens:,}, of them learned: {found.labelled:,}{share}")
    longest = ", ".join(f"{row.tokens:,} (line {row.line:,})" for row in found.longest)
    if longest:
        yield Text(f"longest: {longest}")
    if found.objective == "text":
        yield Text(f"texts are cut into pieces of at most {found.max_length:,} tokens")
    else:
        yield Text(f"longer than {found.max_length:,} tokens: {found.over:,}")


def _faults(faults: Sequence[Fault]) -> Iterator[Text]:
    if faults:
        yield Text()
    for fault in faults[:_SHOWN]:
        yield Text.assemble((f"line {fault.line:,}", "bold"), f"  {fault.rule}: {fault.found}")
        if fault.way_out is not None:
            yield Text.assemble(("  → ", "bold"), fault.way_out)
    if len(faults) > _SHOWN:
        yield Text(f"and {len(faults) - _SHOWN:,} more: --json lists them all", style="dim")


def _judgement(found: Inspection) -> Text:
    if found.faulty:
        return Text.assemble(
            ("\n✗ not ready: ", "red"), f"{found.faulty:,} of {found.rows:,} rows are faulty"
        )
    if not found.rows:
        return Text.assemble(("\n✗ not ready: ", "red"), "there is no row")
    return Text.assemble(("\n✓ ready: ", "green"), "each row teaches what it says")


def _spread(name: str, spread: Spread | None) -> Iterator[Text]:
    if spread is None:
        return
    yield Text(
        f"{name} of a row: half at most {spread.median:,}, 95 % at most {spread.p95:,}, {spread.largest:,} the most"
    )
    most = max(count for _, count in spread.bins)
    for edge, count in spread.bins:
        bar = "█" * round(_WIDEST * count / most) if count else ""
        yield Text(f"  ≤ {edge:>7,} {count:>11,} {bar}", style="dim")


_WIDEST = 40


def _found(quality: Quality) -> Iterator[Text]:
    if not quality.by_rule:
        yield Text("the rules find nothing wrong with its words")
        return
    counts = ", ".join(
        f"{rule} {count:,}" for rule, count in sorted(quality.by_rule.items(), key=_most_first)
    )
    yield Text(f"\nthe rules find: {counts}", style="bold")
    shown = list(_each_rule(quality))
    for each in shown[:_SHOWN]:
        finding = each.finding
        place = "" if finding.turn is None else f", turn {finding.turn + 1}"
        mark = "  (--fix mends it)" if finding.mendable else ""
        yield Text.assemble((f"line {each.line:,}{place}", "bold"), f"  {finding.rule}: {finding.found}")
        yield Text.assemble(("  → ", "bold"), finding.way_out, (mark, "dim"))
    more = sum(quality.by_rule.values()) - min(len(shown), _SHOWN)
    if more > 0:
        yield Text(f"and {more:,} more: --json lists the first {len(quality.findings):,}", style="dim")
    yield Text()


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _each_rule(quality: Quality) -> Iterator[Found]:
    """Yield the findings, of each rule one in turn: a thousand of one must not hide the only one of another."""
    by_rule: dict[str, list[Found]] = {}
    for found in quality.findings:
        by_rule.setdefault(found.finding.rule, []).append(found)
    for round_ in zip_longest(*by_rule.values()):
        yield from (found for found in round_ if found is not None)


def bias_view(bias: Bias) -> Text:
    """Return how groups are spoken of, a line each, and the first pairs whose answers hang on the group."""
    lines = [f"\ngroups of people in {bias.rows:,} rows (English words, by lists; shown, not mended):"]
    for each in bias.spoken:
        seen = f", lines {', '.join(map(str, each.lines))}" if each.lines else ""
        harsh, kind = (f"{100 * count / each.rows:.0f} %" for count in (each.harsh, each.kind))
        lines.append(
            f"  {each.group:<24} {each.rows:>8,} rows, harsh words near {harsh:>5}, kind ones {kind:>5}{seen}"
        )
    if not bias.spoken:
        lines.append("  none is named")
    if bias.pairs:
        lines.append(
            f"asked the same about different groups, and answered otherwise: {len(bias.pairs):,} pair(s)"
        )
        lines += [
            f"  lines {p.line}, {p.other}: {p.question!r} / {p.other_question!r}" for p in bias.pairs[:5]
        ]
    return Text("\n".join(lines))


def mended_view(mended: Mended) -> Text:
    """Return what became of a file that was mended."""
    return Text(
        f"wrote {mended.rows:,} rows to {mended.out}: {mended.changed:,} changed, {mended.left_out:,} left out as "
        f"repeated; each change is in {mended.diff}"
    )


def dedupe_view(found: Deduplicated) -> Text:
    """Return what became of a file's repeated rows."""
    kinds = f"{found.same:,} the same, {found.near:,} nearly, {found.meaning:,} in meaning"
    return Text(
        f"kept {found.kept:,} of {found.rows:,} rows in {found.out}; left out: {kinds}; each with the row that it "
        f"repeats in {found.pairs}"
    )


def bill_view(bill: Bill) -> Text:
    """Return what training a service's model costs."""
    from tunesmith.training.openai_chat import priced

    count = bill.count
    cut = f", {count.over:,} of them longer than its training reads" if count.over else ""
    lines = [
        f"for {bill.model}: {count.examples:,} examples{cut}, {count.tokens:,} tokens ({count.encoding})",
        f"{bill.epochs} epochs: {bill.tokens:,} tokens, {bill.billed:,} on a bill; {priced(bill.dollars)}",
    ]
    return Text("\n".join(lines))


def after_check(found: Inspection, base: str) -> str:
    """Return what to type next: train, or check again once the faults are mended."""
    file = shlex.quote(str(found.path))
    options = "" if base == "smollm2" else f" --base {shlex.quote(base)}"
    length = "" if found.max_length == MAX_LENGTH else str(found.max_length)
    if not found.ready:
        return f"tunesmith check {file}{options}" + (f" --max-length {length}" if length else "")
    return f"tunesmith train {file}{options} --out FOLDER" + (f" --set max_length={length}" if length else "")


def masks_view(masks: Sequence[Mask], *, coloured: bool) -> Text:
    """Return what rows teach: read words dimmed, learned ones green; without colours ⟦learned⟧ stands in brackets."""
    return Text("\n\n").join([_legend(coloured), *(_mask(mask, coloured) for mask in masks)]) + Text("\n")


def _legend(coloured: bool) -> Text:
    if coloured:
        return Text.assemble(
            ("only read", "dim"),
            "  ",
            ("learned", "green"),
            "  ",
            ("end of turn", _STYLES["end"]),
            "  ",
            _CUT_SAMPLE,
        )
    return Text("⟦learned⟧  ■ end of turn  ✂ too long: cut off from there  · padding; all else is only read")


_CUT_SAMPLE = ("✂ too long: cut off", "strike red")


def _mask(mask: Mask, coloured: bool) -> Text:
    title = f", {mask.title}" if mask.title else ""
    taught = "made less likely" if mask.title == "not preferred" else "learned"
    head = Text(f"line {mask.line}{title}: {mask.tokens:,} tokens, {mask.learned:,} {taught}\n", style="bold")
    body = _coloured(mask.spans) if coloured else Text("".join(_plain(mask.spans)))
    padding = Text(f"\n· {mask.padding} × {mask.pad} as padding, neither read nor learned", style="dim")
    return Text.assemble(head, body, *([padding] if mask.padding else []))


def _coloured(spans: Sequence[Span]) -> Text:
    cut = next((index for index, span in enumerate(spans) if span.cut), len(spans))
    before = [(span.text, _STYLES[span.kind]) for span in spans[:cut]]
    after = [(span.text, "strike red") for span in spans[cut:]]
    return Text.assemble(*before, *([("✂", "bold red")] if after else []), *after)


def _plain(spans: Sequence[Span]) -> Iterator[str]:
    """Yield the words, with signs for what colours would say."""
    inside = cut = False
    for span in spans:
        learned = span.kind != "read"
        if inside and not learned:
            yield "⟧"
        if span.cut and not cut:
            yield "✂"
        if learned and not inside:
            yield "⟦"
        inside, cut = learned, span.cut
        yield f"■{span.text}" if span.kind == "end" else span.text
    if inside:
        yield "⟧"


def run_view(made: FileRun) -> Text:
    """Return what a run came to, and where it lies."""
    run = made.run
    unit = "pair" if made.settings["objective"] == "preferences" else "learned token"
    lines = [
        Text(
            f"validation loss: {run.first_valid_loss:.3f} before, {run.best_valid_loss:.3f} now, nats per {unit}"
        ),
        Text(
            f"steps: {len(run.steps):,}{' (stopped early)' if run.stopped_early else ''}, the best {run.best_step:,}"
        ),
        Text(
            f"took: {duration(run.seconds + run.valid_seconds)}, {size(run.peak_bytes)}, {run.tokens:,} tokens, "
            f"{run.method} in {run.dtype}"
        ),
    ]
    if run.best_step == 0:
        lines.append(
            Text(
                "No step made the validation loss better: what is written is the model as it was. Try a lower "
                "learning_rate, or more examples.",
                style="yellow",
            )
        )
    was = "It was done already and lies in" if made.reused else "Written to"
    return Text("\n").join([*lines, Text(f"{was} {made.out}, with run.json")])


def run_document(made: FileRun) -> dict[str, Any]:
    """Return a run as JSON shows it: all but its single steps, which run.json and step_metrics.csv hold."""
    document = asdict(made)
    document["run"] |= {"steps": len(made.run.steps)}
    return document
