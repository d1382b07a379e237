"""Each stage of the pipeline, from its artefacts and settings to the files it leaves; no thought of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifacts import SCRATCH, Artifact, disk_full_named, write_text_atomic
from tunesmith.cache_keys import counted_by, folder_digest, in_words_of, ledger_of, prompts_of
from tunesmith.catalogue import Catalogue
from tunesmith.config import Config
from tunesmith.errors import SourceError
from tunesmith.finished import (
    ARITHMETIC,
    HOSTED_WAY,
    PASSAGES,
    SETS,
    VALID_ROWS,
    Mixed,
    answers_of,
    base_of,
    calls_of,
    catalogue_of,
    chosen_topics,
    conversations_of,
    documents_of,
    encoder_of,
    entries_of,
    examples_of,
    labels_in,
    noted_arithmetic,
    pairs_of,
    places_of,
    plain_index,
    system_of,
)
from tunesmith.progress import Progress
from tunesmith.records import (
    Chunk,
    Example,
    Score,
    Written,
    read_jsonl,
    write_jsonl,
)
from tunesmith.records import to_json as to_line

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from tunesmith.collecting.web import Snapshot
    from tunesmith.evaluating.plots import CurvePoint
    from tunesmith.generating.asking import Asker, Purse
    from tunesmith.generating.generate import Material
    from tunesmith.generating.replies import Replies
    from tunesmith.reviewing.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage works with: the finished artefacts it needs, and the draft folder it fills."""

    config: Config
    inputs: Mapping[str, Artifact]
    draft: Path
    progress: Progress
    say: Callable[[str], None]

    @property
    def scratch(self) -> Path:
        """The draft's folder for checkpoints and journals: it outlives a kill and is no part of the artefact."""
        folder = self.draft / SCRATCH
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def fetch_sources(config: Config, say: Callable[[str], None], *, again: bool = False) -> dict[str, Snapshot]:
    """Fetch what of the sources is on the web and was not fetched yet, or all of it `again`; by address."""
    from tunesmith.collecting.collect import fetch

    with disk_full_named(config.folder):
        return fetch(config.sources, config.folder, config.collect, again=again, say=say)


# --- the stages


def collect(work: Work) -> dict[str, int]:
    """Read the sources into documents and a catalogue."""
    from tunesmith.collecting.collect import collect as collect_sources

    found = collect_sources(
        work.config.sources, base=work.config.folder, web=work.config.collect, say=work.say
    )
    catalogue = found.catalogue or Catalogue(package="", version="", entries=())
    write_jsonl(work.draft / "sources.jsonl", found.sources)
    write_jsonl(work.draft / "documents.jsonl", found.documents)
    write_jsonl(work.draft / "rejections.jsonl", found.rejections)
    work.draft.joinpath("catalogue.json").write_text(catalogue.to_json(), encoding="utf-8")
    write_json(work.draft / "left_out.json", found.left_out)
    return {
        "documents": len(found.documents),
        "entries": len(catalogue.entries),
        "left out": sum(found.left_out.values()),
    }


def chunk(work: Work) -> dict[str, int]:
    """Cut documents into chunks and find topics among them."""
    from tunesmith.chunking.chunk import chunk as cut
    from tunesmith.chunking.topics import find_topics

    chunks = cut(documents_of(work.inputs), work.config.chunk, count=_counting(work))
    # The beginning of a chunk says what it is about; reading all of it would take four times as long.
    encoder = encoder_of(work.config, work.say, max_length=48)
    chunks, topics = find_topics(chunks, encoder, work.config.topics)
    write_jsonl(work.draft / "chunks.jsonl", chunks)
    write_jsonl(work.draft / "topics.jsonl", topics)
    return {"chunks": len(chunks), "topics": len(topics)}


def _counting(work: Work) -> Callable[[Sequence[str]], Sequence[int]]:
    from tunesmith.models.address import model_folder
    from tunesmith.models.counting import counts_of

    return counts_of(model_folder(work.config.model_address(counted_by(work.config)), say=work.say))


def generate(work: Work) -> dict[str, int]:
    """Make examples from the catalogue, the documents, the written questions and the teacher."""
    from tunesmith.generating.generate import generate as make
    from tunesmith.generating.replies import Replies
    from tunesmith.generating.written import read_written

    config = work.config
    catalogue, documents = catalogue_of(work.inputs), documents_of(work.inputs)
    written = [one for name in config.written for one in read_written(config.folder / name)]
    if config.teacher is None and not written and not catalogue.entries:
        raise SourceError(
            "the sources name nothing that can be called, so no answers can be derived from them",
            hint="Name a model that writes examples from documents: teacher in [generate]; or write some with their "
            "answers: written in [generate]; or add python:PACKAGE, openapi:FILE or mcp:FILE to [collect] sources.",
        )
    replies = Replies(config.folder / ".tunesmith" / REPLIES)
    purse = config.generate.purse()
    teacher = None if config.teacher is None else _asker(config.teacher, work, replies, purse)
    judge = teacher if config.judge is None else _asker(config.judge, work, replies, purse)
    with disk_full_named(config.folder), closing(replies):
        made = make(
            documents,
            catalogue if catalogue.entries else None,
            written=written,
            teacher=teacher,
            material=None if judge is None else _material(work, judge),
            settings=config.generate,
            on_progress=work.progress,
        )
    if purse.price is not None:
        work.say(f"The models' tokens come to {purse.spent:.2f} US dollars, asked anew or kept.")
    for note in made.notes[:5]:
        work.say(note)
    write_jsonl(work.draft / "examples.jsonl", made.examples)
    write_jsonl(work.draft / "rejections.jsonl", made.rejections)
    write_json(work.draft / "tally.json", asdict(made.tally))
    by_kind = Counter(example.origin.partition(":")[0] for example in made.examples)
    return {"examples": len(made.examples), **by_kind, "rejected": sum(made.tally.rejected.values())}


CHECKER = "smollm2"  # by whose surprise the gate support judges: its threshold was set with it
REPLIES = "replies.jsonl"  # what teachers and judges have answered, for all runs of a project


def _asker(address: str, work: Work, replies: Replies, purse: Purse) -> Asker:
    from tunesmith.generating.asking import Asker
    from tunesmith.models.address import load_chat

    model = load_chat(work.config.model_address(address), say=work.say)
    identity = " ".join(folder_digest(work.config, address))
    return Asker(model, replies, purse, work.config.concurrency, identity)


def _material(work: Work, judge: Asker) -> Material:
    from tunesmith.generating.generate import Material
    from tunesmith.models.likelihood import Likelihood

    chosen = chosen_topics(work.inputs, work.config)
    chunks = tuple(
        replace(chunk, topic=chosen.topic_of.get(chunk.topic or "", chunk.topic))
        for chunk in read_jsonl(Chunk, work.inputs["chunk"].file("chunks.jsonl"))
    )
    return Material(
        chunks,
        chosen.weights,
        prompts_of(work.config),
        judge,
        encoder=lambda: encoder_of(work.config, work.say),
        likelihood=lambda: Likelihood.load(CHECKER, say=work.say),
    )


def curate(work: Work) -> dict[str, int]:
    """Check, deduplicate and split the examples, and set the asked questions beside them."""
    from tunesmith.checking.against import read_benchmark
    from tunesmith.curating.bias import Listening
    from tunesmith.curating.checks import remarks
    from tunesmith.curating.curate import curate as sort_out
    from tunesmith.generating.written import read_written
    from tunesmith.reviewing.apply import reviewed

    config = work.config
    documents, catalogue = documents_of(work.inputs), catalogue_of(work.inputs)
    asked: Sequence[Written] = () if config.asked is None else read_written(config.folder / config.asked)
    answers = answers_of(documents, catalogue)
    examples = tuple(read_jsonl(Example, work.inputs["generate"].file("examples.jsonl")))
    ledger = ledger_of(config)
    found = sort_out(
        examples,
        asked,
        documents,
        catalogue,
        answer_of=answers.get,
        settings=config.curate,
        review=partial(reviewed, ledger=ledger),
        encoder=lambda: encoder_of(config, work.say),
        benchmarks=[read_benchmark(config.folder / name) for name in config.benchmarks],
    )
    for note in found.notes[:5]:
        work.say(note)
    for name in ("train", "valid", *SETS):
        write_jsonl(work.draft / f"{name}.jsonl", getattr(found, name))
    write_jsonl(work.draft / "rejections.jsonl", found.rejections)
    write_jsonl(work.draft / "leaks.jsonl", found.leaks)
    write_json(work.draft / "distances.json", [asdict(one) for one in found.distances])
    write_json(work.draft / "tally.json", asdict(found.tally))
    counts = {name: len(getattr(found, name)) for name in ("train", "valid", *SETS)}
    counts |= {"rejected": sum(found.tally.rejected.values())}
    kept = [example for name in ("train", "valid", *SETS) for example in getattr(found, name)]
    listening = Listening()
    for number, example in enumerate(kept, 1):
        listening.add(number, example.question, example.answer)
    bias = listening.told()
    write_json(work.draft / "bias.json", asdict(bias))
    if bias.pairs:
        work.say(
            f"{len(bias.pairs)} pair(s) ask the same about different groups, answered otherwise: bias.json"
        )
    remarked = remarks(kept, None if config.curate.private == "off" else config.curate.privacy)
    write_jsonl(work.draft / "remarks.jsonl", remarked)
    if remarked:
        rules = Counter(remark.rule for remark in remarked).most_common()
        work.say("Worth a look (remarks.jsonl): " + ", ".join(f"{rule} {count}" for rule, count in rules))
    return counts | _review_counts(kept, ledger, work.say)


def _review_counts(examples: Sequence[Example], ledger: Ledger, say: Callable[[str], None]) -> dict[str, int]:
    """Return how many examples a person saw and how many wait for one, if anybody reviewed; say what waits."""
    from tunesmith.reviewing.apply import waits
    from tunesmith.reviewing.decisions import REVIEWED

    if not ledger.standing:
        return {}
    waiting = sum(waits(example, ledger) for example in examples)
    if waiting:
        say(f"{waiting} example(s) wait for a reviewer: tunesmith review shows them first.")
    return {"reviewed": sum(REVIEWED in example.checks for example in examples), "to settle": waiting}


def index(work: Work) -> dict[str, int]:
    """Index the catalogue, and the documents in passages, with the encoder as it was found."""
    from tunesmith.chunking.chunk import ChunkSettings
    from tunesmith.chunking.chunk import chunk as cut
    from tunesmith.retrieving.index import build_index

    catalogue, documents = catalogue_of(work.inputs), documents_of(work.inputs)
    size = ChunkSettings(max_tokens=work.config.retrieve.passage_tokens)
    # What describes an entry is found as the entry.
    texts = [document for document in documents if document.entry is None]
    passages = [passage for passage in cut(texts, size, count=_counting(work)) if passage.text.strip()]
    if not catalogue.entries and not passages:
        raise SourceError(
            "the sources hold nothing that can be called and no text, so there is nothing to retrieve",
            hint="Add documents, python:PACKAGE, openapi:FILE or mcp:FILE to [collect] sources.",
        )
    calls = calls_of(documents, catalogue)
    built = build_index(catalogue.entries, encoder_of(work.config, work.say), calls=calls, passages=passages)
    built.save(work.draft / "index")
    write_jsonl(work.draft / PASSAGES, passages)
    return {"entries": len(catalogue.entries), "passages": len(passages)}


def estimate(work: Work) -> dict[str, int]:
    """Count the tokens, and measure on some parts of the run what training will take."""
    from tunesmith.models.address import is_remote
    from tunesmith.training.hosted import estimate_hosted
    from tunesmith.training.mix import conversations, select
    from tunesmith.training.plan import Plan, PlanRow, estimate_adapter, estimate_encoder

    config, catalogue = work.config, catalogue_of(work.inputs)
    train, valid = examples_of(work.inputs, "train"), examples_of(work.inputs, "valid")
    plain, places = plain_index(work.inputs, config, work.say), places_of(work.inputs)
    train_rows, valid_rows = (
        conversations(
            select(rows, count, config.train.seed),
            plain,
            plain.passage,
            (0,),
            system=system_of(catalogue),
            settings=config.train,
            in_words=in_words_of(config),
            right_of=places.right,
        )
        for rows, count in ((train, config.train.examples), (valid, VALID_ROWS))
    )
    rows: list[PlanRow] = []
    pairs = pairs_of(train, places)
    if config.encoder.epochs and pairs:
        rows.append(estimate_encoder(encoder_of(config, work.say), pairs, entries_of(plain), config.encoder))
    remote = is_remote(config.train.base)
    if remote:
        hosted = estimate_hosted(train_rows, config.train)
        rows.append(PlanRow(f"{HOSTED_WAY} {config.train.base}", hosted.billed, 0.0, 0, hosted.price))
    else:
        rows += estimate_adapter(base_of(config, work.say), train_rows, valid_rows, config.train)
    notes = (
        f"{len(train_rows)} conversations for the language model, {len(pairs)} questions for the encoder",
        hosted.in_words()
        if remote
        else "Seconds come from steps measured on this machine; "
        "the hosted price counts this model's tokens, not OpenAI's.",
    )
    write_json(work.draft / "plan.json", asdict(Plan(tuple(rows), notes)))
    return {
        "tokens": sum(row.tokens for row in rows if remote or row.price == 0),
        "seconds": round(sum(r.seconds for r in rows)),
    }


def encoder(work: Work) -> dict[str, int]:
    """Tune the retriever's encoder, and build its index."""
    from tunesmith.models.quiet import quiet
    from tunesmith.retrieving.index import build_index
    from tunesmith.training.encoder import tune_encoder

    config, catalogue = work.config, catalogue_of(work.inputs)
    dtype = arithmetic(work.draft)
    plain = plain_index(work.inputs, config, work.say)
    model = encoder_of(config, work.say)
    places = places_of(work.inputs)
    pairs = pairs_of(examples_of(work.inputs, "train"), places)
    if not pairs:
        work.say("No training question says where its answer stands, so the encoder is left as it was found.")
    run = tune_encoder(
        model,
        pairs,
        entries_of(plain),
        pairs_of(examples_of(work.inputs, "valid"), places),
        config.encoder if pairs else config.encoder.model_copy(update={"epochs": 0}),
        work=work.scratch,
        dtype=dtype,
        on_progress=work.progress,
    )
    with quiet():
        model.model.save_pretrained(work.draft / "encoder")
        model.tokenizer.save_pretrained(work.draft / "encoder")
    tuned = build_index(
        catalogue.entries,
        model,
        [(pair.question, pair.entry) for pair in pairs],
        bank_weight=config.retrieve.bank_weight,
        lexical=False,
        keys_E_D=plain.vectors_E_D,
        calls=calls_of(documents_of(work.inputs), catalogue),
        passages=places.passages,
    )
    tuned.save(work.draft / "tuned_index")
    write_json(work.draft / "run.json", asdict(run))
    return {"questions": run.pairs, "epochs": len(run.epochs) - 1, "seconds": round(run.seconds)}


def train(work: Work) -> dict[str, int]:
    """Tune the language model on examples with and without retrieved entries in the prompt, here or at a service."""
    from tunesmith.models.address import is_remote
    from tunesmith.training.tuning import require

    config = work.config
    require(config.train)
    mixed = conversations_of(work.inputs, config)
    write_json(
        work.draft / "ranks.json",
        Counter("absent" if rank is None else str(rank + 1) for rank in mixed.ranks),
    )
    way = _train_hosted if is_remote(config.train.base) else train_here
    return {"examples": len(mixed.train), **way(work, mixed)}


def train_here(work: Work, mixed: Mixed) -> dict[str, int]:
    """Tune the language model here, into the draft's folder `adapter`."""
    from tunesmith.models.local import load_model, load_tokenizer
    from tunesmith.training.train import train as tune

    config = work.config
    folder = base_of(config, work.say)
    run = tune(
        load_model(folder, dtype=arithmetic(work.draft), four_bit=config.train.method == "qlora"),
        load_tokenizer(folder),
        mixed.train,
        mixed.valid,
        config.train,
        out=work.draft / "adapter",
        work=work.scratch,
        on_progress=work.progress,
    )
    write_json(work.draft / "run.json", asdict(run))
    _draw_loss(work.draft / "loss.svg", run.steps)
    return {"steps": len(run.steps), "best step": run.best_step, "tokens": run.tokens}


def _train_hosted(work: Work, mixed: Mixed) -> dict[str, int]:
    from tunesmith.training.hosted import train_hosted

    made = train_hosted(
        mixed.train,
        mixed.valid,
        work.config.train,
        name=work.config.name,
        out=work.draft,
        work=work.scratch,
        on_progress=work.progress,
        say=work.say,
    )
    work.say(f"The tuned model: {made.address}")
    if made.steps:
        _draw_loss(work.draft / "loss.svg", made.steps)
    return {"steps": len(made.steps), "tokens": made.trained_tokens or 0}


# --- beside the stages


def hand_over(
    inputs: Mapping[str, Artifact], config: Config, target: str, out: Path, say: Callable[[str], None]
) -> Path:
    """Write the folder from which another trainer trains what the train stage would."""
    from tunesmith.training.canaries import planted
    from tunesmith.training.handover import hand_over as write_folder

    mixed = conversations_of(inputs, config)
    rows = (*mixed.train, *planted(config.train))
    return write_folder(target, rows, mixed.valid, config.train, base=base_of(config, say), out=out)


def further_measures(work: Work, scores: Sequence[Score], journal: str) -> list[Score]:
    """Return scores of answers in words with what else is measured: labels, code, a grader's grades.

    What the grader said is kept in the draft, by the journal's name.
    """
    from tunesmith.evaluating import further
    from tunesmith.models.address import load_chat

    examples = {one.id: one for name in SETS for one in examples_of(work.inputs, name)}
    marked, labels = list(scores), labels_in(work.inputs)
    if labels:
        marked = further.with_labels(marked, examples, labels)
    catalogue = catalogue_of(work.inputs)
    marked = further.with_code(marked, examples, catalogue if catalogue.entries else None)
    if work.config.grader is None:
        return marked
    kept = work.scratch / f"graded-{journal}.jsonl"
    if not kept.is_file():
        work.say(f"asking the grader about {len(marked):,} answers")
        judge = load_chat(work.config.model_address(work.config.grader), say=work.say)
        graded = further.with_grades(marked, examples, judge, work.progress)
        write_text_atomic(kept, "".join(to_line(one) + "\n" for one in graded))
    return list(read_jsonl(Score, kept))


def arithmetic(draft: Path) -> torch.dtype:
    """Return what a stage computes in: what is faster here, measured when the stage was begun, and noted there.

    A run that goes on after a kill must not find another answer half-way.
    """
    from tunesmith.models.local import fast_dtype

    note = draft / ARITHMETIC
    if not note.is_file():
        write_text_atomic(note, json.dumps({"dtype": str(fast_dtype()).removeprefix("torch.")}))
    return noted_arithmetic(note)


def _draw_loss(path: Path, steps: Sequence[Any]) -> None:
    from tunesmith.evaluating.plots import loss_plot

    points = points_of([asdict(step) for step in steps])
    path.write_text(loss_plot(points, width=720, name="loss"), encoding="utf-8")


def points_of(steps: Iterable[Mapping[str, Any]]) -> tuple[CurvePoint, ...]:
    """Return the steps of a run as a plot takes them; services say nothing of their speed."""
    from tunesmith.evaluating.plots import CurvePoint

    return tuple(
        CurvePoint(
            step["step"],
            step["train_loss"],
            step["valid_loss"],
            step["tokens"] / step["seconds"] if step["seconds"] else None,
        )
        for step in steps
    )


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
