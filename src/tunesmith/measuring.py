"""The stage `evaluate`: every contender asked every test question, with floors and ceilings beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tunesmith import cache_keys, finished, steps, workshops
from tunesmith.contenders import Workshop
from tunesmith.errors import DatasetError, UsageError
from tunesmith.finished import Sets
from tunesmith.progress import Progress
from tunesmith.records import Example, Passage, Score, write_jsonl
from tunesmith.steps import Work

if TYPE_CHECKING:
    from tunesmith.models.base import ChatModel, Retriever


def evaluate(work: Work) -> dict[str, int]:
    """Ask every contender every test question; score floors and ceilings beside them."""
    config = work.config
    calls, words = (
        finished.test_sets(work.inputs, finished.about_calls),
        finished.test_sets(work.inputs, finished.about_texts),
    )
    if not calls and not words:
        raise DatasetError("there is no test question", hint="Raise the shares held out in [curate].")
    shop = workshops.workshop(work.inputs, config, work.say)
    for adapter in config.adapters:
        shop.adapted(adapter)  # one that does not fit the base is refused before anyone is asked
    callers = finished.contenders_in_calls(work.inputs, config) if calls else ()
    names = finished.contenders_in_words(work.inputs, config) if words else ()
    for kind, sets, there in (("calls", calls, callers), ("answers in words", words, names)):
        if left_out := [name for name in config.contenders if sets and name not in there]:
            work.say(f"not asked for {kind}, for which it is not made: {', '.join(left_out)}")
        if sets and not there:
            raise UsageError(
                f"no contender can be asked for {kind}, and there are questions for that",
                hint="Name base or tuned among [evaluate] contenders.",
            )
    asked = {"calls": (calls, callers), "words": (words, names)}
    total = sum(_size(sets) * len(named) for sets, named in asked.values())
    measured = _Measured()

    if calls:
        measured.add(_evaluate_calls(work, shop, calls, _After(0, total, work.progress)))
    if words:
        after = _After(len(measured.scores), total, work.progress)
        measured.add(_evaluate_words(work, shop, words, names, after))
    steps.write_json(work.draft / finished.LATENCIES, _latencies(work, shop, calls, words))
    for name in ("scores", "floors", "ceilings"):
        write_jsonl(work.draft / f"{name}.jsonl", getattr(measured, name))
    return {
        "contenders": len(config.contenders),
        "questions": _size(calls) + _size(words),
        "answers": len(measured.scores),
    }


def _latencies(work: Work, shop: Workshop, calls: Sets, words: Sets) -> dict[str, tuple[float, ...]]:
    """Return by contender what some questions of the main set take when each is asked alone."""
    from tunesmith.evaluating.evaluate import latencies

    config, catalogue = work.config, finished.catalogue_of(work.inputs)
    sets, names = (
        (calls, finished.contenders_in_calls(work.inputs, config))
        if calls
        else (words, finished.contenders_in_words(work.inputs, config))
    )
    shop = shop if calls else workshops.in_words_workshop(shop, work.inputs, config)
    system = finished.system_of(catalogue) if calls else cache_keys.in_words_of(config)
    main = sets[finished.main_set(sets)][: config.evaluate.timed]
    if main:
        work.say(f"timing each contender on {len(main)} questions, one at a time")
    taken: dict[str, tuple[float, ...]] = {}
    for number, name in enumerate(names):
        model = shop.build(name)
        taken[name] = latencies(model, main, system=system, settings=config.evaluate)
        work.progress((number + 1) * len(main), len(names) * len(main), f"{name}, one question at a time")
    return taken


@dataclass(frozen=True, slots=True)
class _After:
    """One bar for all contenders: progress that goes on after `done` of `total` questions."""

    done: int
    total: int
    progress: Progress

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Tell what is done beyond the others."""
        self.progress(self.done + done, self.total, note)

    def after(self, more: int) -> _After:
        """Return the progress of who comes after `more` further questions."""
        return replace(self, done=self.done + more)


@dataclass(slots=True)
class _Measured:
    """The scores of contenders, floors and ceilings."""

    scores: list[Score] = field(default_factory=list)
    floors: list[Score] = field(default_factory=list)
    ceilings: list[Score] = field(default_factory=list)

    def add(self, other: _Measured) -> None:
        """Add the others' scores."""
        self.scores += other.scores
        self.floors += other.floors
        self.ceilings += other.ceilings


def _size(sets: Sets) -> int:
    return sum(map(len, sets.values()))


def _evaluate_calls(work: Work, shop: Workshop, sets: Sets, told: _After) -> _Measured:
    from tunesmith.evaluating import floors
    from tunesmith.evaluating.evaluate import evaluate as ask_all

    config, catalogue = work.config, finished.catalogue_of(work.inputs)
    made = _Measured()
    names = finished.contenders_in_calls(work.inputs, config)
    for name in names:
        work.say(f"asking {name}")
        made.scores += ask_all(
            {name: workshops.kept(shop.build(name), name, work.inputs, config)},
            sets,
            catalogue,
            system=finished.system_of(catalogue),
            settings=config.evaluate,
            journal=work.scratch / f"answers-{name}.jsonl",
            on_progress=told.after(len(made.scores)),
        )
    train_rows = finished.about_calls(finished.examples_of(work.inputs, "train"))
    # A passage of a document that is found first calls nothing.
    nothing = {passage.id: "" for passage in finished.passages_of(work.inputs)}
    answers = nothing | finished.answers_of(finished.documents_of(work.inputs), catalogue)
    if train_rows:
        made.floors += floors.constant(train_rows, sets, catalogue)
        made.floors += floors.majority(train_rows, sets, catalogue)
        made.floors += floors.nearest(train_rows, sets, catalogue)
    count = config.retrieve.count
    for prefix, retriever in (("", shop.retriever), ("tuned_", shop.tuned_retriever)):
        hits = {
            example: [hit.id for hit in found] for example, found in _hits(retriever, sets, count).items()
        }
        made.floors += floors.first_hit(f"{prefix}first_hit", answers, hits, sets, catalogue)
        made.ceilings += floors.hit_in(f"{prefix}hit_in_{count}", hits, count, sets)

    def again(name: str, model: ChatModel, open_questions: Sets) -> Sequence[Score]:
        return ask_all(
            {name: model},
            open_questions,
            catalogue,
            system=finished.system_of(catalogue),
            settings=config.evaluate,
            journal=work.scratch / "answers-oracle.jsonl",
            on_progress=work.progress,
        )

    made.ceilings += _oracle_scores(work, shop, sets, made.scores, names=names, ask=again)
    return made


def _evaluate_words(work: Work, shop: Workshop, sets: Sets, names: Sequence[str], told: _After) -> _Measured:
    from tunesmith.evaluating.evaluate import evaluate_words as ask_all
    from tunesmith.evaluating.word_floors import WordFloors, found

    config, places = work.config, finished.places_of(work.inputs)
    shop = workshops.in_words_workshop(shop, work.inputs, config)
    encoder, system = finished.encoder_of(config, work.say), cache_keys.in_words_of(config)

    def ask(
        name: str, model: ChatModel, of_sets: Sets, journal: str, on_progress: Progress
    ) -> Sequence[Score]:
        asked = ask_all(
            {name: model},
            of_sets,
            system=system,
            settings=config.evaluate,
            encoder=encoder,
            right_of=places.right,
            journal=work.scratch / f"{journal}.jsonl",
            on_progress=on_progress,
        )
        return steps.further_measures(work, asked, journal)

    made = _Measured()
    for name in names:
        work.say(f"asking {name} for answers in words")
        made.scores += ask(
            name,
            workshops.kept(shop.build(name), name, work.inputs, config),
            sets,
            f"words-{name}",
            told.after(len(made.scores)),
        )
    train_rows = finished.about_texts(finished.examples_of(work.inputs, "train"))
    floors = WordFloors(train_rows, encoder, "exact_match" if finished.labels_in(work.inputs) else "f1")
    copied = (*floors.constant(sets), *floors.majority(sets), *floors.nearest(sets)) if train_rows else ()
    quoted: list[Score] = []
    for prefix, retriever in (("", shop.retriever), ("tuned_", shop.tuned_retriever)):
        if prefix and not any("tuned_retrieval" in name for name in names):
            continue
        hits = _hits(retriever, sets, config.retrieve.count)
        quoted += floors.quoted(f"{prefix}first_hit", hits, sets)
        made.ceilings += found(f"{prefix}hit_in_{config.retrieve.count}", hits, sets, places.right)

    def again(name: str, model: ChatModel, open_questions: Sets) -> Sequence[Score]:
        return ask(name, model, open_questions, "words-oracle", work.progress)

    made.floors += steps.further_measures(work, (*copied, *quoted), "words-floors")
    # A perfect retriever can be had only where it is known what it should find.
    known = {name: rows for name, rows in sets.items() if all(map(places.right, rows))}
    made.ceilings += _oracle_scores(work, shop, known, made.scores, names=names, ask=again)
    return made


def _oracle_scores(
    work: Work,
    shop: Workshop,
    sets: Sets,
    scores: Sequence[Score],
    *,
    names: Sequence[str],
    ask: Callable[[str, ChatModel, Sets], Sequence[Score]],
) -> list[Score]:
    """Score the last contender that retrieves with a right passage always shown first; none, if none retrieves.

    Where its own first hit was right it would be asked the very same again: there its answer stands.
    """
    from tunesmith.evaluating.names import retriever_of
    from tunesmith.evaluating.verdict import ORACLE
    from tunesmith.retrieving.oracle import OracleRetriever

    name = next((one for one in reversed(names) if retriever_of(one) is not None), None)
    if name is None or not sets:
        return []
    index = shop.retriever_for(name)
    passage_of, places = (
        finished.plain_index(work.inputs, work.config, work.say).passage,
        finished.places_of(work.inputs),
    )
    examples = [example for rows in sets.values() for example in rows]
    right = {example.question: [passage_of(one) for one in places.right(example)] for example in examples}
    given = {(one.set, one.example): one for one in scores if one.contender == name}

    def led(set_name: str, example: Example) -> bool:
        first = given[set_name, example.id].answer.retrieved[:1]
        return first in {(one,) for one in places.right(example)}

    open_questions = {
        set_name: [one for one in rows if not led(set_name, one)] for set_name, rows in sets.items()
    }
    work.say(f"asking {name} again where its first passage was wrong, with a right one first")
    asked = ask(ORACLE + name, shop.build(name, OracleRetriever(index, right)), open_questions)
    given |= {(one.set, one.example): one for one in asked}
    return [
        replace(given[set_name, one.id], contender=ORACLE + name)
        for set_name, rows in sets.items()
        for one in rows
    ]


def _hits(retriever: Retriever, sets: Sets, count: int) -> dict[str, tuple[Passage, ...]]:
    examples = [example for rows in sets.values() for example in rows]
    found = retriever.search([example.question for example in examples], count)
    return {example.id: hits for example, hits in zip(examples, found, strict=True)}
