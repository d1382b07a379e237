"""Ask every contender the same questions, in batches that survive a kill."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith.catalogue import Catalogue
from tunesmith.errors import DamagedArtifact, DatasetError, ModelError
from tunesmith.evaluating.scores import score, score_words
from tunesmith.models.base import ChatModel, Encoder, Sampling
from tunesmith.progress import Progress, silent
from tunesmith.records import Answer, Conversation, Example, Message, Score, from_json, to_json


class EvaluateSettings(BaseModel):
    """How contenders are asked: greedily, up to `max_tokens` new tokens, `batch_size` questions at a time.

    An answer also ends after the first of the strings in `stop`. `timed` questions are asked once more, one at a time:
    what a batch's answer takes is no user's waiting time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Field(default=160, ge=1)
    batch_size: int = Field(default=32, ge=1)
    stop: tuple[str, ...] = ()
    timed: int = Field(default=8, ge=0)


@dataclass(frozen=True, slots=True)
class _Batch:
    """The unit of work: some questions of one set for one contender."""

    contender: str
    set: str
    examples: tuple[Example, ...]


_Key = tuple[str, str, str]  # contender, set, example id


def evaluate(
    contenders: Mapping[str, ChatModel],
    sets: Mapping[str, Sequence[Example]],
    catalogue: Catalogue,
    *,
    system: str,
    settings: EvaluateSettings,
    journal: Path | None = None,
    on_progress: Progress = silent,
) -> tuple[Score, ...]:
    """Ask each contender each set's questions and judge the calls, contender by contender, set by set.

    With a `journal`, each batch is on the disk before the next is asked, and a second call with the same
    journal asks only what is missing; batches are cut at the same places, so that the answers are those of an
    unbroken run, but for the rounding of a constrained answer that would have followed one given before. The
    journal belongs to these contenders, sets and settings: keep it beside the artefact's
    draft.

    Raises DatasetError for a question that stands twice in a set, ModelError for a model that leaves answers
    out, DamagedArtifact for a journal that is broken elsewhere than in its last line; whatever a model raises
    passes through, and what was answered before stays in the journal.
    """

    def judged(batch: _Batch, answers: Sequence[Answer]) -> list[Score]:
        return [
            score(batch.contender, batch.set, example, answer, catalogue)
            for example, answer in zip(batch.examples, answers, strict=True)
        ]

    return _ask_all(contenders, sets, _Way(system, settings, judged), journal, on_progress)


def evaluate_words(
    contenders: Mapping[str, ChatModel],
    sets: Mapping[str, Sequence[Example]],
    *,
    system: str,
    settings: EvaluateSettings,
    encoder: Encoder | None = None,
    right_of: Callable[[Example], Sequence[str]] = lambda example: (),
    journal: Path | None = None,
    on_progress: Progress = silent,
) -> tuple[Score, ...]:
    """Ask as `evaluate` does, and measure the answers in words against the examples' own (texts.MEASURES).

    `encoder` gives the measure similarity; `right_of` gives the ids of the passages that hold an example's answer, for
    the measures of citations.
    """

    def measured(batch: _Batch, answers: Sequence[Answer]) -> list[Score]:
        answered = list(zip(batch.examples, answers, strict=True))
        return score_words(batch.contender, batch.set, answered, encoder, right_of)

    return _ask_all(contenders, sets, _Way(system, settings, measured), journal, on_progress)


@dataclass(frozen=True, slots=True)
class _Way:
    """How questions are put, and what a batch of answers is worth."""

    system: str
    settings: EvaluateSettings
    mark: Callable[[_Batch, Sequence[Answer]], list[Score]]


def _ask_all(
    contenders: Mapping[str, ChatModel],
    sets: Mapping[str, Sequence[Example]],
    way: _Way,
    journal: Path | None,
    on_progress: Progress,
) -> tuple[Score, ...]:
    for name, examples in sets.items():
        _check_unique(name, examples)
    done = _resume(journal)
    batches = list(_batches(contenders, sets, way.settings.batch_size))
    total = sum(len(batch.examples) for batch in batches)
    asked = 0
    for batch in batches:
        if any(key not in done for key in _keys(batch)):
            scores = _ask(batch, contenders[batch.contender], way)
            _append(journal, scores)
            done |= zip(_keys(batch), scores, strict=True)
        asked += len(batch.examples)
        on_progress(asked, total, f"{batch.contender} on {batch.set}")
    return tuple(done[key] for batch in batches for key in _keys(batch))


def latencies(
    model: ChatModel, examples: Sequence[Example], *, system: str, settings: EvaluateSettings
) -> tuple[float, ...]:
    """Return the seconds that each of the first `timed` questions takes when it is asked alone."""
    sampling = Sampling(max_tokens=settings.max_tokens, stop=settings.stop, anew=True)
    taken = []
    for example in examples[: settings.timed]:
        start = time.perf_counter()
        model.reply([_conversation(system, example)], sampling)
        taken.append(time.perf_counter() - start)
    return tuple(taken)


def _check_unique(name: str, examples: Sequence[Example]) -> None:
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise DatasetError(
                f"the question {example.id} stands twice in the set {name!r}: {example.question!r}",
                hint="Curate the examples again; a question that counts twice distorts the score.",
            )
        seen.add(example.id)


def _batches(
    contenders: Mapping[str, ChatModel], sets: Mapping[str, Sequence[Example]], size: int
) -> Iterator[_Batch]:
    for contender in contenders:
        for name, examples in sets.items():
            for start in range(0, len(examples), size):
                yield _Batch(contender, name, tuple(examples[start : start + size]))


def _keys(batch: _Batch) -> list[_Key]:
    return [(batch.contender, batch.set, example.id) for example in batch.examples]


def _ask(batch: _Batch, model: ChatModel, way: _Way) -> list[Score]:
    sampling = Sampling(max_tokens=way.settings.max_tokens, stop=way.settings.stop)
    answers = model.reply([_conversation(way.system, example) for example in batch.examples], sampling)
    _check_complete(batch, answers)
    return way.mark(batch, answers)


def _conversation(system: str, example: Example) -> Conversation:
    return (Message("system", system), *example.messages, Message("user", example.question))


def _check_complete(batch: _Batch, answers: Sequence[Answer]) -> None:
    if len(answers) != len(batch.examples):
        raise ModelError(
            f"{batch.contender} gave {len(answers)} answers to {len(batch.examples)} questions "
            f"of {batch.set}",
            hint="A model must answer each conversation, in order; an empty answer is an answer.",
        )


def _append(journal: Path | None, scores: Sequence[Score]) -> None:
    if journal is None:
        return
    with journal.open("ab") as file:
        file.write("".join(to_json(one) + "\n" for one in scores).encode())
        file.flush()
        os.fsync(file.fileno())


def _resume(journal: Path | None) -> dict[_Key, Score]:
    """Return what the journal holds, and cut off a last line that a kill has torn."""
    if journal is None or not journal.exists():
        return {}
    data = journal.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with journal.open("r+b") as file:
            file.truncate(len(whole))
    scores = [_read(journal, number, line) for number, line in enumerate(whole.splitlines(), 1)]
    return {(one.contender, one.set, one.example): one for one in scores}


def _read(journal: Path, number: int, line: bytes) -> Score:
    try:
        return from_json(Score, line)
    except ValidationError as error:
        raise DamagedArtifact(
            f"{journal.name}, line {number} is not a score: {error.errors()[0]['msg']}",
            hint=f"Delete {journal} to ask its questions again.",
        ) from error
