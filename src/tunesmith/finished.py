"""What finished artefacts hold, as later stages and commands read it: examples, documents, indexes, models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifacts import Artifact
from tunesmith.cache_keys import in_words_of
from tunesmith.catalogue import Catalogue
from tunesmith.config import Config
from tunesmith.records import (
    Chunk,
    Conversation,
    Document,
    Example,
    Topic,
    read_jsonl,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from tunesmith.chunking.choices import Chosen
    from tunesmith.models.address import Place
    from tunesmith.models.embedding import LocalEncoder
    from tunesmith.retrieving.index import Index
    from tunesmith.retrieving.passages import Places
    from tunesmith.reviewing.sample import Order
    from tunesmith.reviewing.session import Candidate
    from tunesmith.training.encoder import Entries, Pair

SETS = ("seen", "unseen", "asked")
Sets = Mapping[str, Sequence[Example]]
PASSAGES = "passages.jsonl"
ARITHMETIC = "arithmetic.json"
LATENCIES = "latencies.json"  # of `evaluate`
HOSTED_WAY = "hosted"  # the first word of the row of the estimate that a remote base has in place of LoRA's
VALID_ROWS = 32  # enough to see overfitting; every validation costs a forward pass over them
# Contenders that show or copy training examples.
LEARNERS = frozenset(("few_shot", "nearest_shots", "classifier"))


def chosen_topics(inputs: Mapping[str, Artifact], config: Config) -> Chosen:
    """Return the topics as the project's file of them wants them."""
    from tunesmith.chunking.choices import choose, read_choices

    topics = tuple(read_jsonl(Topic, inputs["chunk"].file("topics.jsonl")))
    return choose(topics, () if config.choices is None else read_choices(config.folder / config.choices))


def passages_of(inputs: Mapping[str, Artifact]) -> tuple[Chunk, ...]:
    """Return the passages of documents that are retrieved beside a catalogue's entries."""
    return tuple(read_jsonl(Chunk, inputs["index"].file(PASSAGES)))


def places_of(inputs: Mapping[str, Artifact]) -> Places:
    """Return what tells where an example's answer stands."""
    from tunesmith.retrieving.passages import Places

    return Places(passages_of(inputs))


def documents_of(inputs: Mapping[str, Artifact]) -> tuple[Document, ...]:
    """Return the collected documents."""
    return tuple(read_jsonl(Document, inputs["collect"].file("documents.jsonl")))


def catalogue_of(inputs: Mapping[str, Artifact]) -> Catalogue:
    """Return what may be called."""
    return _catalogue(inputs["collect"].file("catalogue.json"))


@cache
def _catalogue(path: Path) -> Catalogue:
    return Catalogue.from_json(path.read_text(encoding="utf-8"))


def examples_of(inputs: Mapping[str, Artifact], name: str) -> tuple[Example, ...]:
    """Return one of the curated sets."""
    return tuple(read_jsonl(Example, inputs["curate"].file(f"{name}.jsonl")))


def about_calls(examples: Iterable[Example]) -> tuple[Example, ...]:
    """Return the examples whose answer is a call."""
    return tuple(example for example in examples if example.entry is not None)


def about_texts(examples: Iterable[Example]) -> tuple[Example, ...]:
    """Return the examples whose answer is in words."""
    return tuple(example for example in examples if example.entry is None)


def main_set(sets: Iterable[str]) -> str:
    """Return the set that a verdict rests on."""
    from tunesmith.evaluating.verdict import SETS as BY_WEIGHT

    there = set(sets)
    return next(name for name in BY_WEIGHT if name in there)


def test_sets(
    inputs: Mapping[str, Artifact], kind: Callable[[Iterable[Example]], tuple[Example, ...]]
) -> Sets:
    """Return the test sets' examples of a kind, those that have any."""
    return {name: rows for name in SETS if (rows := kind(examples_of(inputs, name)))}


def contenders_in_calls(inputs: Mapping[str, Artifact], config: Config) -> tuple[str, ...]:
    """Return the contenders that can be asked for calls: all, but without examples of calls none that shows some."""
    unfit = set() if about_calls(examples_of(inputs, "train")) else LEARNERS
    return tuple(name for name in config.contenders if not unfit & set(name.split("+")))


def contenders_in_words(inputs: Mapping[str, Artifact], config: Config) -> tuple[str, ...]:
    """Return the contenders that can answer in words: none that only calls, none with a retriever tuned on nothing."""
    tuned_on = read_json(inputs["encoder"].file("run.json"))["pairs"]
    taught = about_texts(examples_of(inputs, "train"))
    unfit = {"constrained", "tools"} | (set() if tuned_on else {"tuned_retrieval"})
    unfit |= set() if taught else LEARNERS
    return tuple(name for name in config.contenders if not unfit & set(name.split("+")))


def candidates_of(inputs: Mapping[str, Artifact], sets: Sequence[str], by: Order) -> tuple[Candidate, ...]:
    """Return the examples of some sets in the order in which they are reviewed, each with what a reviewer sees."""
    from tunesmith.reviewing.sample import ordered, risks
    from tunesmith.reviewing.session import Candidate, excerpts

    set_of = {example.id: name for name in sets for example in examples_of(inputs, name)}
    examples = [example for name in sets for example in examples_of(inputs, name)]
    documents = {document.id: document for document in documents_of(inputs)}
    topics = _topics_of(inputs["chunk"]) if "chunk" in inputs else {}
    labels = {example.id: _topic(example, topics) for example in examples}
    risk_of = risks(examples)
    return tuple(
        Candidate(one, set_of[one.id], risk_of[one.id], labels[one.id], excerpts(one, documents))
        for one in ordered(examples, by, risk_of, lambda example: labels[example.id])
    )


def _topics_of(chunked: Artifact) -> dict[str, list[tuple[Chunk, str]]]:
    """Return by document its chunks that have a topic, each with the topic's label."""
    labels = {topic.id: topic.label for topic in read_jsonl(Topic, chunked.file("topics.jsonl"))}
    found: dict[str, list[tuple[Chunk, str]]] = {}
    for chunk in read_jsonl(Chunk, chunked.file("chunks.jsonl")):
        if chunk.topic is not None:
            found.setdefault(chunk.document, []).append((chunk, labels.get(chunk.topic, chunk.topic)))
    return found


def _topic(example: Example, topics: Mapping[str, Sequence[tuple[Chunk, str]]]) -> str | None:
    """Return the topic of the chunk that an example's evidence begins in, else of its document's first chunk."""
    for piece in example.evidence:
        chunks = topics.get(piece.document, ())
        inside = [label for chunk, label in chunks if chunk.start <= piece.start < chunk.end]
        if chunks:
            return inside[0] if inside else chunks[0][1]
    return None


def fault_of(inputs: Mapping[str, Artifact]) -> Callable[[Example], str | None]:
    """Return what tells which check an example fails, and how."""
    from tunesmith.curating.checks import check

    documents = {document.id: document for document in documents_of(inputs)}
    catalogue = catalogue_of(inputs)

    def fault(example: Example) -> str | None:
        failure = check(example, documents, catalogue)
        return None if failure is None else f"{failure.rule}: {failure.detail}"

    return fault


def conversations_of(inputs: Mapping[str, Artifact], config: Config) -> Mixed:
    """Return what the language model is trained on and validated with."""
    from tunesmith.training.mix import conversations, ranks_of, select

    index = tuned_index(inputs, config)
    valid = select(examples_of(inputs, "valid"), VALID_ROWS, config.train.seed)
    places = places_of(inputs)
    ranks = ranks_of([one for one in valid if places.right(one)], index, config.train.passages, places.right)
    chosen = select(examples_of(inputs, "train"), config.train.examples, config.train.seed)
    system = system_of(catalogue_of(inputs))
    rows, valid_rows = (
        conversations(
            examples,
            index,
            index.passage,
            ranks,
            system=system,
            settings=config.train,
            in_words=in_words_of(config),
            right_of=places.right,
        )
        for examples in (chosen, valid)
    )
    return Mixed(rows, valid_rows, ranks)


@dataclass(frozen=True, slots=True)
class Mixed:
    """Conversations to train on, those to validate with, and where the retriever has the latter's right entries."""

    train: tuple[Conversation, ...]
    valid: tuple[Conversation, ...]
    ranks: tuple[int | None, ...]


def answers_of(documents: Iterable[Document], catalogue: Catalogue) -> dict[str, str]:
    """Return the derived answer of each entry."""
    from tunesmith.generating.derive import derive_answers

    return {answer.entry: answer.text for answer in derive_answers(documents, catalogue).answers}


def calls_of(documents: Iterable[Document], catalogue: Catalogue) -> dict[str, str]:
    """Return the call in the derived answer of each entry."""
    from tunesmith.generating.derive import derive_answers

    return {answer.entry: answer.call for answer in derive_answers(documents, catalogue).answers}


def system_of(catalogue: Catalogue) -> str:
    """Return the system prompt that every contender gets."""
    from tunesmith.generating.prompts import system_prompt

    return system_prompt(catalogue)


def labels_in(inputs: Mapping[str, Artifact]) -> tuple[str, ...]:
    """Return the labels of a project whose answers in words are some; none of another project."""
    from tunesmith.evaluating.further import labels_of

    return labels_of(about_texts(examples_of(inputs, "train")))


def measure_of(inputs: Mapping[str, Artifact], config: Config) -> str:
    """Return what the verdict about answers in words rests on."""
    return config.report.measure or ("accuracy" if labels_in(inputs) else "f1")


def system_for(catalogue: Catalogue, config: Config) -> str:
    """Return the system prompt of a project's users: that of calls where there is anything to call."""
    return system_of(catalogue) if catalogue.entries else in_words_of(config)


def encoder_of(config: Config, say: Callable[[str], None], *, max_length: int = 128) -> LocalEncoder:
    """Return the encoder as it was found, reading at most `max_length` tokens of a text."""
    from tunesmith.models.address import load_encoder

    return load_encoder(config.model_address(config.encoder.base), say=say, max_length=max_length)


def base_of(config: Config, say: Callable[[str], None]) -> Path:
    """Return the folder of the language model as it was found."""
    from tunesmith.models.address import model_folder

    return model_folder(config.model_address(config.train.base), say=say)


def plain_index(inputs: Mapping[str, Artifact], config: Config, say: Callable[[str], None]) -> Index:
    """Return the index of the encoder as it was found, joined with BM25."""
    from tunesmith.retrieving.index import Index

    return Index.load(inputs["index"].file("index"), encoder_of(config, say))


def entries_of(index: Index) -> Entries:
    """Return an index's entries as the encoder's tuning takes them."""
    import torch

    from tunesmith.training.encoder import Entries

    return Entries({entry: row for row, entry in enumerate(index.ids)}, torch.from_numpy(index.vectors_E_D))


def pairs_of(examples: Sequence[Example], places: Places) -> list[Pair]:
    """Return the questions to tune the retriever on: people's and teachers', and for the other entries the rules'.

    An entry that no question names would be a wrong answer in every step and a right one in none. Where people have
    asked, rules only repeat the docstring. A question about documents belongs to the passage that answers it; one of
    which that is not known is left out.
    """
    from tunesmith.training.encoder import Pair

    asked = {example.entry for example in examples if not by_rule(example)} - {None}
    return [
        Pair(example.question, example.entry or right[0])
        for example in examples
        if (right := places.right(example)) and (not by_rule(example) or example.entry not in asked)
    ]


def by_rule(example: Example) -> bool:
    """Tell whether a rule asked the question."""
    return example.origin.startswith("rule:")


def tuned_index(inputs: Mapping[str, Artifact], config: Config) -> Index:
    """Return the index of the tuned encoder."""
    from tunesmith.models.embedding import LocalEncoder
    from tunesmith.retrieving.index import Index

    folder = inputs["encoder"].file("encoder")
    return Index.load(inputs["encoder"].file("tuned_index"), LocalEncoder.load(folder, name="tuned encoder"))


def tuned_place(inputs: Mapping[str, Artifact], config: Config, say: Callable[[str], None]) -> Place:
    """Return where the tuned model is."""
    return place_of(inputs["train"].file("adapter"), config, say)


def place_of(folder: Path, config: Config, say: Callable[[str], None]) -> Place:
    """Return where a training's model is: its adapter beside its base, or after full fine-tuning a whole model."""
    from tunesmith.models.adapter import CONFIG
    from tunesmith.models.address import Place

    return Place(base_of(config, say), folder) if (folder / CONFIG).is_file() else Place(folder)


def noted_arithmetic(note: Path) -> torch.dtype:
    """Return what a stage computed in, as it noted."""
    import torch

    dtype: torch.dtype = getattr(torch, read_json(note)["dtype"])
    return dtype


def is_hosted(train: Artifact) -> bool:
    """Tell whether a service tuned the language model."""
    from tunesmith.training.hosted import HOSTED

    return HOSTED in train.manifest.files


def run_of(train: Artifact) -> Any:
    """Return what training left of its run, here or at a service."""
    from tunesmith.training.hosted import HOSTED

    return read_json(train.file(HOSTED if is_hosted(train) else "run.json"))


def read_json(path: Path) -> Any:
    """Return what a file of JSON holds."""
    return json.loads(path.read_text(encoding="utf-8"))
