"""A judge's verdicts as people read them: wins with bounds, the place's share, agreement with people, the errors."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from tunesmith.evaluating.judging import GradeReport, Judged, Vote
from tunesmith.evaluating.statistics import Estimate
from tunesmith.raters import Kappa

_ERRORS_SHOWN = 3


def judged_view(found: Judged) -> RenderableType:
    """Return what a judge's verdicts on pairs come to."""
    errors = [(one.pair.question, _unread(one.votes)) for one in found.verdicts if one.winner is None]
    return Group(*_judged(found), *_agreement(found.human, found.unjudged), *_errors(errors))


def graded_view(found: GradeReport) -> RenderableType:
    """Return what a judge's grades come to."""
    errors = [(one.graded.question, one.vote) for one in found.verdicts if one.grade is None]
    said = f"{found.n:,} answers: {found.right:,} right, {found.wrong:,} wrong, {found.errors:,} errors"
    lines = [Text(f"judge: {found.judge}", style="dim"), Text(said)]
    if found.share is not None:
        lines.append(Text(f"right: {_share(found.share)}", style="bold"))
    if found.errors:
        lines.append(_bounds(found.least, found.most))
    return Group(*lines, *_agreement(found.human, found.unjudged), *_errors(errors))


def _judged(found: Judged) -> Iterator[Text]:
    yield Text(f"judge: {found.judge}", style="dim")
    yield Text(
        f"{found.n:,} pairs, each in both orders: a won {found.a:,}, b won {found.b:,}, {found.ties:,} ties, "
        f"{found.errors:,} errors"
    )
    if found.win_rate is not None:
        yield Text(f"a wins, ties by half: {_share(found.win_rate)}", style="bold")
    if found.errors:
        yield _bounds(found.least, found.most)
    if found.position_bias is not None:
        yield Text(
            f"the place decided in {100 * found.position_bias:.1f} % (first {found.first_place:,}, second "
            f"{found.second_place:,}); {found.order_dependent:,} ties depend on the order",
            style="yellow" if found.position_bias > 0.2 else "",
        )
    if found.longer is not None:
        yield Text(f"the longer answer won {100 * found.longer:.1f} % of the decided pairs")


def _share(found: Estimate) -> str:
    return f"{100 * found.value:.1f} % (95 %: {100 * found.low:.1f} to {100 * found.high:.1f}, n {found.n:,})"


def _bounds(least: float, most: float) -> Text:
    return Text(f"with the errors either way: {100 * least:.1f} to {100 * most:.1f} %", style="yellow")


def _agreement(found: Kappa | None, unjudged: int) -> Iterator[Text]:
    if found is not None:
        same = f"alike in {found.same:,} of {found.n:,}"
        if found.value is None:
            yield Text(f"with people: {same}; no kappa, since both gave one verdict only")
        else:
            sure = "" if found.low is None else f" (95 %: {found.low:.2f} to {found.high:.2f})"
            yield Text(f"with people: {same}, Cohen's kappa {found.value:.2f}{sure}")
    if unjudged:
        yield Text(f"{unjudged:,} that a person rated were errors of the judge", style="yellow")


def _unread(votes: tuple[Vote, Vote]) -> Vote:
    return next(vote for vote in votes if vote.said is None)


def _errors(errors: list[tuple[str, Vote]]) -> Iterator[Text]:
    if errors:
        yield Text("\nErrors:", style="bold")
    for question, vote in errors[:_ERRORS_SHOWN]:
        yield Text(f"  {question[:100]}\n    {vote.reason}: {vote.reply[:100]!r}")
    if len(errors) > _ERRORS_SHOWN:
        yield Text(f"  and {len(errors) - _ERRORS_SHOWN:,} more; --json has all", style="dim")
