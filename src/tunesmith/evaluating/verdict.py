"""The verdict in plain words: what to do, resting on paired differences and the cost of each contender."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunesmith.errors import DatasetError
from tunesmith.evaluating.names import RETRIEVERS, adapter_of, is_tuned, retriever_of
from tunesmith.evaluating.scores import Summarised, Summary, WordsSummary, columns
from tunesmith.evaluating.statistics import Estimate, Metric, Paired, detectable_difference, paired_difference
from tunesmith.evaluating.texts import FOUND
from tunesmith.records import Score

# The set in users' own words first: only there does a score tell how the assistant will do.
SETS = ("asked", "unseen", "seen")
ANSWER_FLOORS = ("constant", "majority", "nearest", "nearest_embedded")
RETRIEVER_FLOORS = ("first_hit", "tuned_first_hit")

_HALLUCINATED_TOO_OFTEN = 0.05
_ABSTAINS_TOO_OFTEN = 0.1

_TUNE_THE_ENCODER = "Tune the encoder, keep the model"
_RETRIEVAL_IS_ENOUGH = "Do not fine-tune, retrieval is enough"

_FLOORS = {
    "constant": "one constant answer",
    "majority": "the most frequent training answer",
    "nearest": "copying the nearest training question's answer (BM25)",
    "nearest_embedded": "copying the nearest training question's answer (embeddings)",
    "first_hit": "the retriever's first hit alone",
    "tuned_first_hit": "the tuned retriever's first hit alone",
}
_PARTS = {
    "few_shot": "few-shot examples",
    "nearest_shots": "the nearest examples",
    "bm25": "retrieval by words",
    "faiss": "retrieval by vectors",
    "retrieval": "retrieval",
    "pinecone": "retrieval at Pinecone",
    "tuned_retrieval": "tuned retrieval",
    "reranked": "reranked passages",
    "citations": "citations",
    "tools": "tools",
    "constrained": "calls constrained to the catalogue",
    "json": "answers held to a JSON schema",
}
_MEASURES = {
    "exact": "exact calls",
    "f1": "token F1",
    "exact_match": "exact matches",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
    "similarity": "semantic similarity",
    "found": "right passages found",
    "accuracy": "accuracy",
    "judged": "answers judged right",
    "judge_error": "not graded by the judge",
}
_SET_PHRASES = {
    "asked": "questions in users' own words",
    "unseen": "questions about entries that training never mentions",
    "seen": "new phrasings of training questions",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in a sentence with its figures, and why.

    `best` scores most on `set`; `cheapest` is the cheapest contender that cannot be told apart from it. `change` says
    what could change the answer, and what of that was measured.
    """

    sentence: str
    best: str
    cheapest: str
    set: str
    why: tuple[str, ...]
    change: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Evidence:
    """The figures of one set: contenders in order of cost, floors and ceilings by name, all comparisons."""

    set: str
    contenders: tuple[Summarised, ...]
    floors: dict[str, Summarised]
    ceilings: dict[str, Summarised]
    paired: tuple[Paired, ...]

    @property
    def metric(self) -> Metric:
        """What the verdict rests on."""
        return self.contenders[0].metric

    def against(self, a: str, b: str) -> Paired:
        """Return how far `a` is above `b` by the metric; raises DatasetError where that was not compared."""
        for one in self.paired:
            if (one.set, one.metric) == (self.set, self.metric) and {one.a, one.b} == {a, b}:
                return one if one.a == a else one.flipped()
        raise DatasetError(
            f"{a} and {b} were not compared on {self.set} ({self.metric})",
            hint="Make the comparisons with `compare(scores, floors)` from the same scores.",
        )


def cost_order(contender: str) -> tuple[int, ...]:
    """Return a key that sorts contenders from cheap to dear, all a matter of what must be made and run.

    A classifier asks no language model. Training one costs most, then calling tools, which asks it more than once,
    then tuning the encoder, then keeping an index and reranking its passages, then longer prompts, then a grammar:
    classifier < base < few_shot < nearest_shots < bm25 < faiss < retrieval < pinecone < tuned_retrieval < tools <
    tuned < combinations.
    """
    parts = contender.split("+")
    searches = max((place for place, part in enumerate(RETRIEVERS, 1) if part in parts), default=0)
    dear_to_cheap = (
        *(is_tuned(contender), "tools" in parts, "tuned_retrieval" in parts),
        *("reranked" in parts, searches, "citations" in parts),
        *("nearest_shots" in parts, "few_shot" in parts),
    )
    held = "constrained" in parts or "json" in parts
    return ("classifier" not in parts, *map(int, dear_to_cheap), int(held), len(parts))


# Before the name of the contender that was shown a right entry with every question.
ORACLE = "oracle:"


def describe(name: str) -> str:
    """Return a contender's, floor's or ceiling's name in plain words."""
    if name in _FLOORS:
        return _FLOORS[name]
    if ceiling := re.fullmatch(r"(tuned_)?hit_in_(\d+)", name):
        return f"the right one is among the {'tuned ' if ceiling[1] else ''}retriever's first {ceiling[2]}"
    if name.startswith(ORACLE):
        return f"{describe(name.removeprefix(ORACLE))}, a right entry always shown first"
    parts = name.split("+")
    if name == "classifier":
        return "a classifier on embeddings"
    adapter = adapter_of(name)
    if adapter is not None:
        model = f"the model with the adapter {adapter}"
    else:
        model = "the tuned model" if "tuned" in parts else "the base model"
    extras = [_PARTS.get(part, part) for part in parts if part not in ("base", "tuned", adapter)]
    if not extras:
        return model
    *head, last = extras
    return f"{model} with {', '.join(head)} and {last}" if head else f"{model} with {last}"


def describe_set(name: str, metric: Metric = "exact") -> str:
    """Return in plain words what a test set's questions are, of a set that is measured by `metric`."""
    if name == "unseen" and metric != "exact":
        return "questions about passages that training never mentions"
    return _SET_PHRASES.get(name, f"questions of the set {name}")


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal: "65.4 %"."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """Return a difference of shares as signed percentage points: "+41.2"."""
    rounded = round(100 * difference, 1) + 0.0  # turns -0.0 into 0.0
    return f"{rounded:+.1f}".replace("-", "−")


def compare(
    scores: Sequence[Score], floors: Sequence[Score] = (), metric: Metric = "exact"
) -> tuple[Paired, ...]:
    """Compare on each set every two contenders, and each contender with each floor, on the same questions.

    By `metric` throughout, the dearer contender as `a`, and the tuned retriever's first hit against the plain
    one's, and both against the floors made of training answers; of calls also how many were hallucinated, for each
    contender against the cheapest. Raises DatasetError where two were not asked the same questions.
    """
    by_column, floor_columns = columns(scores), columns(floors)
    found: list[Paired] = []
    for name in dict.fromkeys(set_name for _, set_name in by_column):
        dearest_last = sorted((key[0] for key in by_column if key[1] == name), key=cost_order)
        asked = [by_column[contender, name] for contender in dearest_last]
        copied = [column for key, column in floor_columns.items() if key[1] == name]
        for place, column in enumerate(asked):
            found += [paired_difference(column, other, metric) for other in (*asked[:place], *copied)]
        if metric == "exact":
            found += [paired_difference(column, asked[0], "hallucinated") for column in asked[1:]]
        plain, tuned = (floor_columns.get((floor, name)) for floor in RETRIEVER_FLOORS)
        if plain and tuned:
            found.append(paired_difference(tuned, plain, metric))
        copies = [floor_columns[floor, name] for floor in ANSWER_FLOORS if (floor, name) in floor_columns]
        for hit in filter(None, (plain, tuned)):
            found += [paired_difference(hit, copy, metric) for copy in copies]
    return tuple(found)


def decide(
    summaries: Sequence[Summarised],
    paired: Sequence[Paired],
    *,
    floors: Sequence[Summarised] = (),
    ceilings: Sequence[Summarised] = (),
) -> Decision:
    """Say what to do, from the summaries and from the comparisons that `compare` made of the same scores.

    The verdict rests on the summaries' metric on `asked`, else on `unseen`, else on `seen`, and then warns. A
    contender is within noise of the best if the paired interval, widened for how many contenders the best was
    picked from, includes zero, which is not a proof that they are equal: the reasons say what difference the
    test would have found. benchmarks/verdict_ties.py counts how often this is wrong. Raises DatasetError without any
    summary.
    """
    evidence = _gather(summaries, paired, floors, ceilings)
    best = max(
        evidence.contenders, key=lambda one: one.main.value
    )  # the cheaper of two equals: they are sorted
    cheapest = next(one for one in evidence.contenders if not _clearly_above(evidence, best, one))
    advice = _advice(evidence, best, cheapest)
    warning = "" if evidence.set == "asked" else " " + _warning(evidence)
    return Decision(
        sentence=advice + warning,
        best=best.contender,
        cheapest=cheapest.contender,
        set=evidence.set,
        why=tuple(_reasons(evidence, best, cheapest)),
        change=tuple(_changes(evidence, best)),
    )


def _gather(
    summaries: Sequence[Summarised],
    paired: Sequence[Paired],
    floors: Sequence[Summarised],
    ceilings: Sequence[Summarised],
) -> _Evidence:
    present = [one.set for one in summaries]
    if not present:
        raise DatasetError("there is nothing to decide on", hint="Evaluate at least one contender.")
    main = next((name for name in SETS if name in present), present[0])
    return _Evidence(
        set=main,
        contenders=tuple(
            sorted((one for one in summaries if one.set == main), key=lambda one: cost_order(one.contender))
        ),
        floors={one.contender: one for one in floors if one.set == main},
        ceilings={one.contender: one for one in ceilings if one.set == main},
        paired=tuple(paired),
    )


def _clearly_above(evidence: _Evidence, one: Summarised, other: Summarised) -> bool:
    if one is other:
        return False
    return evidence.against(one.contender, other.contender).above_among(_rivals(evidence, one, other))


def _rivals(evidence: _Evidence, one: Summarised, other: Summarised) -> int:
    """Return from how many `one` was picked: those dearer than `other`, or all against a floor; a floor is but one."""
    if one not in evidence.contenders:
        return 1
    if other not in evidence.contenders:
        return len(evidence.contenders)
    return max(1, len(evidence.contenders) - evidence.contenders.index(other) - 1)


def _advice(evidence: _Evidence, best: Summarised, cheapest: Summarised) -> str:
    floor = _unbeaten_floor(evidence, best)
    if floor is not None or best.main.value == 0:
        return _hit_alone(evidence, best) or _use_none(evidence, best, floor)
    return _hit_advice(evidence, best, cheapest) or _contender_advice(evidence, best, cheapest)


def _hit_advice(evidence: _Evidence, best: Summarised, cheapest: Summarised) -> str | None:
    """Return what to do where a retriever's first hit needs no language model behind it, else None."""
    parts = cheapest.contender.split("+")
    trains_model, trains_encoder = is_tuned(cheapest.contender), "tuned_retrieval" in parts
    plain, tuned = (evidence.floors.get(name) for name in RETRIEVER_FLOORS)
    tuning_helps = plain is not None and tuned is not None and _clearly_above(evidence, tuned, plain)
    # The cheaper retriever first: where its first hit does, nothing need be trained.
    if plain and not tuning_helps and _hit_suffices(evidence, best, plain, trains_model or trains_encoder):
        return _hit_is_enough(evidence, best, plain, _RETRIEVAL_IS_ENOUGH)
    if tuned and _hit_suffices(evidence, best, tuned, trains_model):
        return _hit_is_enough(evidence, best, tuned, _TUNE_THE_ENCODER)
    return None


def _hit_alone(evidence: _Evidence, best: Summarised) -> str | None:
    """Return what to do where no contender beats the floors and a retriever's first hit beats both, else None."""
    plain, tuned = (evidence.floors.get(name) for name in RETRIEVER_FLOORS)
    tuning_helps = plain is not None and tuned is not None and _clearly_above(evidence, tuned, plain)
    ways = ((plain, _RETRIEVAL_IS_ENOUGH), (tuned, _TUNE_THE_ENCODER))
    copies = [evidence.floors[name] for name in ANSWER_FLOORS if name in evidence.floors]
    for hit, advice in reversed(ways) if tuning_helps else ways:
        if hit and all(_clearly_above(evidence, hit, other) for other in (best, *copies)):
            return _hit_is_enough(evidence, best, hit, advice)
    return None


def _contender_advice(evidence: _Evidence, best: Summarised, cheapest: Summarised) -> str:
    parts = cheapest.contender.split("+")
    if is_tuned(cheapest.contender):
        return _fine_tune(evidence, best)
    if "tuned_retrieval" in parts:
        return _enough(evidence, best, cheapest, _TUNE_THE_ENCODER)
    if "classifier" in parts:
        return _enough(evidence, best, cheapest, "Do not fine-tune, a classifier on embeddings is enough")
    if "tools" in parts:
        return _enough(evidence, best, cheapest, "Do not fine-tune, tools are enough")
    if retriever_of(cheapest.contender) is not None:
        return _enough(evidence, best, cheapest, _RETRIEVAL_IS_ENOUGH)
    return _enough(evidence, best, cheapest, "Do not fine-tune, prompting is enough")


def _unbeaten_floor(evidence: _Evidence, best: Summarised) -> Summarised | None:
    """Return the highest floor made of training answers that the best contender does not clearly beat."""
    unbeaten = [
        evidence.floors[name]
        for name in ANSWER_FLOORS
        if name in evidence.floors and not _clearly_above(evidence, best, evidence.floors[name])
    ]
    return max(unbeaten, key=lambda one: one.main.value, default=None)


def _hit_suffices(evidence: _Evidence, best: Summarised, hit: Summarised, contender_is_dearer: bool) -> bool:
    """Tell whether a first hit clearly beats all contenders, or costs less and is not clearly beaten."""
    if _clearly_above(evidence, hit, best):
        return True
    return contender_is_dearer and not _clearly_above(evidence, best, hit)


def _use_none(evidence: _Evidence, best: Summarised, floor: Summarised | None) -> str:
    if floor is None:
        return f"Use none of these yet: {describe(best.contender)} {_reaches(evidence, best)}, and none does better."
    return (
        f"Use none of these yet: {describe(floor.contender)} {_reaches(evidence, floor)}, "
        f"and the best contender, {describe(best.contender)}, is not "
        f"clearly above "
        f"it with {_figure(best)} ({_gap(evidence, best, floor)})."
    )


def _hit_is_enough(evidence: _Evidence, best: Summarised, hit: Summarised, advice: str) -> str:
    relation = "clearly above" if _clearly_above(evidence, hit, best) else "not clearly below"
    return (
        f"{advice}: {describe(hit.contender)}, without any language model, {_reaches(evidence, hit)}, "
        f"{relation} {describe(best.contender)} with {_figure(best)} "
        f"({_gap(evidence, hit, best)}).{_for_words(evidence, best)}"
    )


def _for_words(evidence: _Evidence, best: Summarised) -> str:
    """Say which model to take where a first hit will not do, if tuning the language model is clearly needed for it."""
    untuned = [one for one in evidence.contenders if not is_tuned(one.contender)]
    rival = max(untuned, key=lambda one: one.main.value, default=None)
    if rival is None or not _clearly_above(evidence, best, rival):
        return ""
    return (
        f" Where the answer must be in a model's words, take {describe(best.contender)}: the best without a tuned "
        f"language model, {describe(rival.contender)}, has {_figure(rival)}."
    )


def _enough(evidence: _Evidence, best: Summarised, cheapest: Summarised, advice: str) -> str:
    subject = f"{advice}: {describe(cheapest.contender)} {_reaches(evidence, cheapest)}"
    if best is cheapest:
        return f"{subject}, and nothing that was tried does better."
    return (
        f"{subject}, and the highest score, {_figure(best)} by {describe(best.contender)}, is not clearly "
        f"better ({_gap(evidence, best, cheapest)})."
    )


def _fine_tune(evidence: _Evidence, best: Summarised) -> str:
    untrained = [one for one in evidence.contenders if not is_tuned(one.contender)]
    rivals = [*untrained, *(evidence.floors[name] for name in RETRIEVER_FLOORS if name in evidence.floors)]
    subject = f"Fine-tune: {describe(best.contender)} {_reaches(evidence, best)}"
    if not rivals:
        return f"{subject}; nothing untuned was measured, so this does not say what the tuning brought."
    rival = max(rivals, key=lambda one: one.main.value)
    return (
        f"{subject}, clearly more than the best without a tuned language model, {describe(rival.contender)}, "
        f"with {_figure(rival)} ({_gap(evidence, best, rival)})."
    )


def _reasons(evidence: _Evidence, best: Summarised, cheapest: Summarised) -> Iterator[str]:
    if evidence.set != "asked":
        yield _warning(evidence)
    picked = (
        f" It was picked from {len(evidence.contenders)} on these same questions, so expect slightly less elsewhere."
        if len(evidence.contenders) > 1
        else ""
    )
    yield f"Best: {describe(best.contender)}, {_scored(evidence, best)}.{picked}"
    yield from _reason_picked(evidence, best)
    yield from _reason_base(evidence, best)
    if cheapest is not best:
        yield (
            f"Cheapest within noise of the best: {describe(cheapest.contender)}, "
            f"{_interval(cheapest.main)}; the "
            f"best is {_gap(evidence, best, cheapest)} above it."
        )
    yield from _reason_first_hit(evidence)
    yield from _reason_hallucinated(best, cheapest)
    yield from _reason_ungraded(best, cheapest)
    yield from _reason_floors(evidence)
    yield from _reason_ceilings(evidence)
    yield from _reason_power(evidence, best)


def _reason_picked(evidence: _Evidence, best: Summarised) -> Iterator[str]:
    """Name those that the best would be clearly above, had it not been picked from several."""
    others = (*evidence.contenders, *evidence.floors.values())
    spared = [
        describe(other.contender)
        for other in others
        if other is not best
        and evidence.against(best.contender, other.contender).low > 0
        and not _clearly_above(evidence, best, other)
    ]
    if spared:
        yield (
            f"Above {', '.join(spared)} the best is by its interval alone, and not if that is widened for the best of "
            "several, as this verdict does: of equals the luckiest looks better."
        )


def _reason_base(evidence: _Evidence, best: Summarised) -> Iterator[str]:
    base = next((one for one in evidence.contenders if one.contender == "base"), None)
    if base is not None and base is not best:
        yield (
            f"Before anything was done, {describe('base')} {_did(base)} {_interval(base.main)}; the gain is "
            f"{_gap(evidence, best, base)}."
        )


def _reason_first_hit(evidence: _Evidence) -> Iterator[str]:
    """Answer the question that every tuned language model must face: is it more than its retriever?"""
    trained = [one for one in evidence.contenders if is_tuned(one.contender)]
    hit = evidence.floors.get("tuned_first_hit") or evidence.floors.get("first_hit")
    if not trained or hit is None:
        return
    champion = max(trained, key=lambda one: one.main.value)
    paired = evidence.against(champion.contender, hit.contender)
    word = (
        "beats"
        if paired.above_among(len(trained))
        else "loses to"
        if paired.high < 0
        else "does not clearly beat"
    )
    yield (
        f"The tuned language model {word} {describe(hit.contender)}: {percent(champion.main.value)} against "
        f"{_interval(hit.main)}, {_gap(evidence, champion, hit)}."
    )


def _reason_hallucinated(best: Summarised, cheapest: Summarised) -> Iterator[str]:
    for one in (best, cheapest)[: 1 if best is cheapest else 2]:
        if not isinstance(one, Summary):
            yield from _reason_abstained(one)
            continue
        rate = one.hallucinated
        if rate.value > _HALLUCINATED_TOO_OFTEN:
            yield (
                f"Beware: {describe(one.contender)} calls something that does not exist in "
                f"{_interval(rate)} of "
                "its answers; constrain the calls to the catalogue."
            )
        else:
            yield f"Calls that do not exist: {describe(one.contender)}, {_interval(rate)}."


def _reason_abstained(one: WordsSummary) -> Iterator[str]:
    """Say how often it declines to answer: rightly, where there is no answer, and wrongly, where there is."""
    rightly, wrongly = (one.measures.get(f"{how}_abstained") for how in ("rightly", "wrongly"))
    if rightly is not None:
        yield (
            f"Of {rightly.n} questions that cannot be answered, {describe(one.contender)} says so to "
            f"{_interval(rightly)}."
        )
    if wrongly is not None and wrongly.value > _ABSTAINS_TOO_OFTEN:
        yield f"Beware: {describe(one.contender)} declines {_interval(wrongly)} of the questions that have an answer."


def _reason_ungraded(best: Summarised, cheapest: Summarised) -> Iterator[str]:
    """Say on how many answers a verdict by a judge's grades has no grade."""
    for one in (best, cheapest)[: 1 if best is cheapest else 2]:
        errors = one.measures.get("judge_error") if isinstance(one, WordsSummary) else None
        if one.metric == "judged" and errors is not None and errors.value > 0:
            yield (
                f"Beware: the judge gave no verdict on {round(errors.value * errors.n)} of {errors.n} answers of "
                f"{describe(one.contender)}, which count as not right."
            )


def _reason_floors(evidence: _Evidence) -> Iterator[str]:
    floors = [evidence.floors[name] for name in ANSWER_FLOORS if name in evidence.floors]
    if floors:
        highest = max(floors, key=lambda one: one.main.value)
        yield f"The highest floor to stand above: {describe(highest.contender)}, {_interval(highest.main)}."


def _reason_ceilings(evidence: _Evidence) -> Iterator[str]:
    for one in evidence.ceilings.values():
        if one.contender.startswith(ORACLE):
            yield f"Ceiling: {describe(one.contender)}, {_scored(evidence, one)}."
            continue
        asked = f"the {one.n} questions whose passage is known" if one.metric == FOUND else "the questions"
        yield f"Ceiling: {describe(one.contender)} for {_interval(one.main)} of {asked}."


def _reason_power(evidence: _Evidence, best: Summarised) -> Iterator[str]:
    others = [one for one in evidence.contenders if one is not best]
    if not others:
        return
    runner_up = max(others, key=lambda one: one.main.value)
    paired = evidence.against(best.contender, runner_up.contender)
    smallest = detectable_difference(paired, rivals=_rivals(evidence, best, runner_up))
    yield (
        f"How sharp the test is: with {best.n} questions, a true difference between contenders like the best "
        f"two must be about {100 * smallest:.1f} points to be found four times in five; smaller ones can "
        f"hide in "
        "the noise."
    )


def _changes(evidence: _Evidence, best: Summarised) -> Iterator[str]:
    """Say what of retrieval and another base could change the answer; more data is the learning curve's to say."""
    oracle = next((one for one in evidence.ceilings.values() if one.contender.startswith(ORACLE)), None)
    if oracle is not None:
        room = oracle.main.low > best.main.high
        yield (
            f"{'Better retrieval could' if room else 'Better retrieval alone is not shown to'} change it: with a right "
            f"one always shown first, {describe(oracle.contender.removeprefix(ORACLE))} "
            f"{'reaches' if room else 'has'} {_interval(oracle.main)}, and the best has {_interval(best.main)}."
        )
    yield (
        "Another base model was not measured here: name one in [train] base, run again, and set the two side by side "
        "with `tunesmith compare`."
    )


def _warning(evidence: _Evidence) -> str:
    return (
        f"There are no questions in users' own words, so this rests on {describe_set(evidence.set, evidence.metric)} "
        f"(the set {evidence.set}) and says little about real use."
    )


def _questions(evidence: _Evidence) -> str:
    return f"{evidence.contenders[0].n} {describe_set(evidence.set, evidence.metric)}"


def _reaches(evidence: _Evidence, one: Summarised) -> str:
    """Say what a contender does by the metric, as the verb of a sentence."""
    if one.metric == "exact":
        return f"answers {_figure(one)} of the {_questions(evidence)} exactly"
    return f"scores {_figure(one)} in {measure_words(one.metric)} on the {_questions(evidence)}"


def _did(one: Summarised) -> str:
    return "answered" if one.metric == "exact" else "scored"


def _scored(evidence: _Evidence, one: Summarised) -> str:
    """Return the figure with its interval and what it is of."""
    if one.metric == "exact":
        return f"{_interval(one.main)} of {_questions(evidence)}"
    return f"{_interval(one.main)} in {measure_words(one.metric)} on {_questions(evidence)}"


def measure_words(metric: Metric) -> str:
    """Return a measure's name in plain words."""
    return _MEASURES.get(metric, metric)


def _figure(one: Summarised) -> str:
    return percent(one.main.value)


def _interval(estimate: Estimate) -> str:
    return f"{percent(estimate.value)} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _gap(evidence: _Evidence, a: Summarised, b: Summarised) -> str:
    paired = evidence.against(a.contender, b.contender)
    return f"{points(paired.difference)} points, interval {points(paired.low)} to {points(paired.high)}"
