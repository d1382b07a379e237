"""Check, deduplicate and split examples, set the asked questions beside them, and look for leaks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from tunesmith.catalogue import Catalogue
from tunesmith.curating.benchmarks import Benchmark
from tunesmith.curating.checks import PASSED, Documents, check
from tunesmith.curating.contamination import (
    Distance,
    Leak,
    distance,
    find_leaks,
    leaks_in_meaning,
    named_unseen,
)
from tunesmith.curating.duplicates import Deduplicated, deduplicate, without_same_meaning
from tunesmith.curating.privacy import KINDS, Kind, PrivacySettings
from tunesmith.curating.privacy.examples import Handling, example_handling
from tunesmith.curating.split import Split, SplitSettings, choose_valid, split
from tunesmith.errors import LeakError
from tunesmith.models.base import Encoder
from tunesmith.records import Document, Example, Rejection, Tally, Written, fingerprint, locate

_LEAKS_SHOWN = 5

Review = Callable[[Example], Example | Rejection]


class CurateSettings(SplitSettings):
    """What is too alike, and how much is held out.

    `near_duplicate` and `leak_similarity` are Jaccard similarities of words, `same_meaning` a cosine of embeddings
    (None: not looked for); `leak_words` is how many words in a row may not be shared. `accept_leaks` names asked
    examples, and benchmarks, whose leak is known: they stay, and the training rows that give them away go.
    `leak_meaning` is a cosine, as `same_meaning` is. `private` says what becomes of private data.
    """

    near_duplicate: float = Field(default=0.85, gt=0, le=1)
    same_meaning: float | None = Field(default=None, gt=0, le=1)
    leak_similarity: float = Field(default=0.85, gt=0, le=1)
    leak_words: int = Field(default=8, ge=3)
    accept_leaks: tuple[str, ...] = ()
    leak_meaning: float | None = Field(default=None, gt=0, le=1)
    private: Handling = "report"
    private_kinds: tuple[Kind, ...] = KINDS
    allow_private: tuple[str, ...] = ()

    @property
    def privacy(self) -> PrivacySettings:
        """Which private data is looked for."""
        return PrivacySettings(kinds=self.private_kinds, allow=self.allow_private)


@dataclass(frozen=True, slots=True)
class Curated:
    """Five disjoint sets, everything that is in none of them and why, and what connects them."""

    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    seen: tuple[Example, ...]
    unseen: tuple[Example, ...]
    asked: tuple[Example, ...]
    rejections: tuple[Rejection, ...]
    tally: Tally
    leaks: tuple[Leak, ...]
    distances: tuple[Distance, ...]
    notes: tuple[str, ...]


def as_made(example: Example) -> Example:
    """Return an example as it is: nobody reviewed it."""
    return example


def curate(
    examples: Sequence[Example],
    asked: Sequence[Written],
    documents: Sequence[Document],
    catalogue: Catalogue,
    *,
    answer_of: Callable[[str], str | None],
    settings: CurateSettings,
    review: Review = as_made,
    encoder: Callable[[], Encoder] | None = None,
    benchmarks: Sequence[Benchmark] = (),
) -> Curated:
    """Turn examples into sets that can be trained on and tested with.

    `answer_of` returns the reference answer of an entry id, None where there is none. `review` returns what people
    made of an example: itself, with another text or more checks, or its rejection; the checks hold for that as for
    everything. A training row that gives a seen or unseen question away is left out; one that gives an asked question
    away is for the user to mend: LeakError, unless `accept_leaks` names the asked example. Raises DatasetError when
    too little is left.
    """
    by_id = {document.id: document for document in documents}
    discreet = example_handling(settings.private, settings.privacy, settings.seed)

    def seen(example: Example) -> Example | Rejection:
        found = review(example)
        return discreet(found) if isinstance(found, Example) else found

    checked, failures = _checked(examples, by_id, catalogue, seen)
    unique = deduplicate(checked, settings.near_duplicate)
    if settings.same_meaning is not None and encoder is not None:
        further = without_same_meaning(unique.kept, encoder(), settings.same_meaning)
        unique = Deduplicated(further.kept, (*unique.rejections, *further.rejections))
    parts = split(unique.kept, settings)
    test = _asked(asked, by_id, catalogue, answer_of, seen)
    meaning = None if settings.leak_meaning is None or encoder is None else encoder()
    clean = _without_leaks(parts, test.examples, settings, meaning)
    clean = _with_valid(_without_benchmarks(clean, benchmarks, settings), settings)
    sets = (clean.train, clean.valid, parts.seen, parts.unseen, test.examples)
    rejections = (*failures, *unique.rejections, *parts.rejections, *clean.rejections, *test.rejections)
    tally = Tally(
        requested=len(examples) + len(asked),
        accepted=sum(map(len, sets)),
        rejected=dict(Counter(rejection.rule for rejection in rejections)),
    )
    named = (("seen", parts.seen), ("unseen", parts.unseen), ("asked", test.examples))
    distances = [distance(name, rows, clean.train) for name, rows in named]
    return Curated(
        *sets,
        rejections=rejections,
        tally=tally,
        leaks=clean.leaks,
        distances=tuple(found for found in distances if found is not None),
        notes=(*parts.notes, *test.notes),
    )


def _checked(
    examples: Sequence[Example], documents: Documents, catalogue: Catalogue, review: Review
) -> tuple[list[Example], list[Rejection]]:
    found = [_checked_one(review(example), documents, catalogue) for example in examples]
    return (
        [one for one in found if isinstance(one, Example)],
        [one for one in found if isinstance(one, Rejection)],
    )


def _checked_one(
    example: Example | Rejection, documents: Documents, catalogue: Catalogue
) -> Example | Rejection:
    if isinstance(example, Rejection):
        return example
    failure = check(example, documents, catalogue)
    if failure is None:
        return replace(example, checks=tuple(dict.fromkeys((*PASSED, *example.checks))))
    by = f"{example.origin}, {', '.join(example.checks)}" if example.checks else example.origin
    return Rejection("curate", failure.rule, example.id, f"{example.question!r} ({by}): {failure.detail}")


@dataclass(frozen=True, slots=True)
class _Asked:
    """The asked questions as examples, those that cannot be used, and what to tell about the others."""

    examples: tuple[Example, ...]
    rejections: tuple[Rejection, ...]
    notes: tuple[str, ...]


def _asked(
    asked: Sequence[Written],
    documents: Documents,
    catalogue: Catalogue,
    answer_of: Callable[[str], str | None],
    review: Review,
) -> _Asked:
    made: list[Example] = []
    rejections: list[Rejection] = []
    notes: list[str] = []
    for written in asked:
        example = _asked_example(written, documents, catalogue, answer_of)
        if isinstance(example, Rejection):
            rejections.append(example)
            continue
        made.append(example)
        unknown = [path for path in written.acceptable if catalogue.resolve(path) is None]
        notes += [f"{written.file}, line {written.line}: {_unknown(path, catalogue)}" for path in unknown]
    checked, failures = _checked(made, documents, catalogue, review)
    # Several people may ask nearly the same; only the very same words would count one question twice.
    unique = deduplicate(checked, near_duplicate=1.0)
    return _Asked(unique.kept, (*rejections, *failures, *unique.rejections), tuple(notes))


def _asked_example(
    written: Written,
    documents: Documents,
    catalogue: Catalogue,
    answer_of: Callable[[str], str | None],
) -> Example | Rejection:
    if written.answer:
        evidence = locate(written.quote, documents.values()) if written.quote else None
        if written.quote and evidence is None:
            detail = f"{written.question!r}: no document holds {written.quote!r}"
            return Rejection("curate", "quote not in the sources", written.origin, detail)
        key = fingerprint(written.question, written.answer, written.origin)
        quoted = () if evidence is None else (evidence,)
        return Example(key, written.question, written.answer, written.origin, evidence=quoted)
    first = catalogue.resolve(written.acceptable[0])
    if first is None:
        detail = f"{written.question!r}: {_unknown(written.acceptable[0], catalogue)}"
        return Rejection("curate", "unknown entry", written.origin, detail)
    answer = answer_of(first.id)
    if answer is None:
        return Rejection(
            "curate", "no answer", written.origin, f"{written.question!r}: {first.id} has no answer"
        )
    known = [entry.id for path in written.acceptable if (entry := catalogue.resolve(path)) is not None]
    return Example(
        id=fingerprint(written.question, first.id, written.origin),
        question=written.question,
        answer=answer,
        origin=written.origin,
        entry=first.id,
        acceptable=tuple(dict.fromkeys(known)),
    )


def _unknown(path: str, catalogue: Catalogue) -> str:
    nearest = catalogue.suggest(path, 1)
    hint = f", the nearest is {nearest[0]}" if nearest else ""
    return f"{path} is not in {catalogue.package} {catalogue.version}{hint}"


@dataclass(frozen=True, slots=True)
class _Clean:
    """What may be trained on once nothing gives a test question away."""

    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    rejections: tuple[Rejection, ...]
    leaks: tuple[Leak, ...]


def _without_leaks(
    parts: Split, asked: Sequence[Example], settings: CurateSettings, encoder: Encoder | None
) -> _Clean:
    """Leave out of train and valid what names an unseen entry or gives a test question away."""
    rows = (*parts.train, *parts.valid)
    out: dict[str, Rejection] = {}
    for row in rows:
        named = named_unseen(row, parts.unseen_entries)
        if named is not None:
            detail = f"{row.question!r} ({row.origin}) names {named}"
            out[row.id] = Rejection("curate", "names an unseen entry", row.id, detail)
    pool = [row for row in rows if row.id not in out]
    leaks = tuple(
        leak
        for name, tests in (("asked", asked), ("seen", parts.seen), ("unseen", parts.unseen))
        for leak in find_leaks(
            name, tests, pool, run_length=settings.leak_words, similarity=settings.leak_similarity
        )
    )
    if encoder is not None and settings.leak_meaning is not None:
        tests = (("asked", asked), ("seen", parts.seen), ("unseen", parts.unseen))
        leaks += leaks_in_meaning(tests, pool, encoder, settings.leak_meaning, known=leaks)
    _stop_for_asked(leaks, pool, settings)
    for leak in leaks:
        detail = f"{leak.train_question!r}: {leak.likeness} with {leak.test_question!r}"
        out.setdefault(leak.train, Rejection("curate", f"leaks into {leak.set}", leak.train, detail))
    return _Clean(
        tuple(row for row in parts.train if row.id not in out),
        tuple(row for row in parts.valid if row.id not in out),
        tuple(out.values()),
        leaks,
    )


def _without_benchmarks(clean: _Clean, benchmarks: Sequence[Benchmark], settings: CurateSettings) -> _Clean:
    """Stop for examples that hold a row of a benchmark, unless its name, or FILE:ROW, is accepted: then these go."""
    out: dict[str, Rejection] = {}
    open_hits: list[str] = []
    for row in (*clean.train, *clean.valid):
        for benchmark in benchmarks:
            hit = benchmark.first_hit(f"{row.question}\n{row.answer}")
            if hit is None:
                continue
            told = f"{row.question!r} ({row.origin}) has {hit.shared!r} of {hit.benchmark}:{hit.row}"
            if not {hit.benchmark, f"{hit.benchmark}:{hit.row}"} & set(settings.accept_leaks):
                open_hits.append(f"  {told}")
            out.setdefault(row.id, Rejection("curate", "leaks into a benchmark", row.id, told))
    if open_hits:
        more = f"\n  and {len(open_hits) - _LEAKS_SHOWN} more" if len(open_hits) > _LEAKS_SHOWN else ""
        raise LeakError(
            f"{len(open_hits)} training example(s) hold rows of benchmarks:\n"
            + "\n".join(open_hits[:_LEAKS_SHOWN])
            + more,
            hint="Take the sources of these out; or put the benchmark's name, or FILE:ROW, under curate.accept_leaks: "
            "then the training examples are left out.",
        )
    return _Clean(
        tuple(row for row in clean.train if row.id not in out),
        tuple(row for row in clean.valid if row.id not in out),
        (*clean.rejections, *out.values()),
        clean.leaks,
    )


def _with_valid(clean: _Clean, settings: CurateSettings) -> _Clean:
    """Choose valid rows again where every one of them had to be left out: a small set may have had only one."""
    if clean.valid:
        return clean
    train, valid = choose_valid(clean.train, settings)
    return replace(clean, train=train, valid=valid)


def _stop_for_asked(leaks: Sequence[Leak], rows: Sequence[Example], settings: CurateSettings) -> None:
    """Raise LeakError if a written row gives an asked question away; rows made by us are just left out."""
    origins = {row.id: row.origin for row in rows}
    found: dict[str, list[Leak]] = defaultdict(list)
    for leak in leaks:
        if (
            leak.set == "asked"
            and leak.test not in settings.accept_leaks
            and _is_written(origins[leak.train])
        ):
            found[leak.test].append(leak)
    if not found:
        return
    shown = [
        f"  {test}: {pairs[0].test_question!r}\n    {pairs[0].likeness}: {pairs[0].train_question!r} "
        f"({origins[pairs[0].train]})"
        for test, pairs in list(found.items())[:_LEAKS_SHOWN]
    ]
    more = f"\n  and {len(found) - _LEAKS_SHOWN} more" if len(found) > _LEAKS_SHOWN else ""
    raise LeakError(
        f"{len(found)} asked question(s) stand in the training questions:\n" + "\n".join(shown) + more,
        hint="Take the training questions out of their file. If you must keep both, list the asked ids under "
        "curate.accept_leaks: then the training rows are left out.",
    )


def _is_written(origin: str) -> bool:
    return origin.startswith("written:")
