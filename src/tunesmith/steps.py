"""Each stage of the pipeline, from its artefacts and settings to the files it leaves; no thought of its own."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifacts import SCRATCH, Artifact, disk_full_named, write_text_atomic
from tunesmith.catalogue import Catalogue
from tunesmith.config import Config
from tunesmith.contenders import Workshop
from tunesmith.errors import AddressError, ConfigError, ModelError, SourceError, UsageError
from tunesmith.progress import Progress
from tunesmith.records import (
    Chunk,
    Conversation,
    Document,
    Example,
    Message,
    Score,
    Topic,
    Written,
    fingerprint,
    read_jsonl,
    write_jsonl,
)
from tunesmith.records import to_json as to_line

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from tunesmith.chunking.choices import Chosen
    from tunesmith.collecting.web import Snapshot
    from tunesmith.evaluating.plots import CurvePoint
    from tunesmith.generating.asking import Asker, Purse
    from tunesmith.generating.generate import Material
    from tunesmith.generating.prompts import Prompts
    from tunesmith.generating.replies import Replies
    from tunesmith.models.address import Place
    from tunesmith.models.base import ChatModel, Retriever
    from tunesmith.models.embedding import LocalEncoder
    from tunesmith.models.known import Known
    from tunesmith.models.tools import Toolbox
    from tunesmith.retrieving.index import Index
    from tunesmith.retrieving.passages import Places
    from tunesmith.retrieving.reranking import Relevance
    from tunesmith.reviewing.ledger import Ledger
    from tunesmith.reviewing.sample import Order
    from tunesmith.reviewing.session import Candidate
    from tunesmith.training.encoder import Entries, Pair

SETS = ("seen", "unseen", "asked")
Sets = Mapping[str, Sequence[Example]]


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


# --- what a stage's result hangs on besides its inputs


def nothing(config: Config) -> tuple[str, ...]:
    """Return that a stage hangs on no outside file."""
    return ()


def source_digests(config: Config) -> tuple[str, ...]:
    """Return the digests of the sources' bytes."""
    from tunesmith.collecting.collect import digest_sources

    return tuple(source.digest for source in digest_sources(config.sources, config.folder, config.collect))


def pieces_asked_about(config: Config) -> tuple[str, ...]:
    """Return that a teacher, if there is one, is asked about pieces of documents."""
    return () if config.teacher is None else ("chunk",)


def chunk_digests(config: Config) -> tuple[str, ...]:
    """Return the digests of the encoder's folder, and of the model's whose tokens count, of those that are one."""
    counted = _counted_by(config)
    return (
        *encoder_digest(config),
        *(() if counted == config.encoder.base else _folder_digest(config, counted)),
    )


def fetch_sources(config: Config, say: Callable[[str], None], *, again: bool = False) -> dict[str, Snapshot]:
    """Fetch what of the sources is on the web and was not fetched yet, or all of it `again`; by address."""
    from tunesmith.collecting.collect import fetch

    with disk_full_named(config.folder):
        return fetch(config.sources, config.folder, config.collect, again=again, say=say)


def question_digests(config: Config) -> tuple[str, ...]:
    """Return the digests of the files of written questions, prompts and topics, and of the models' folders, if any."""
    models = [address for address in (config.teacher, config.judge) if address is not None]
    files = [*config.written, *([] if config.choices is None else [config.choices])]
    return (
        *(_file_digest(config, name) for name in files),
        *(digest for address in models for digest in _folder_digest(config, address)),
        *(() if config.prompts is None else (fingerprint(dict(prompts_of(config).texts)),)),
    )


def prompts_of(config: Config) -> Prompts:
    """Return the prompts of the project's folder of them, or the usual ones."""
    from tunesmith.generating.prompts import load_prompts

    return load_prompts(None if config.prompts is None else config.folder / config.prompts)


def asked_digest(config: Config) -> tuple[str, ...]:
    """Return the digest of the file of asked questions, if there is one."""
    return () if config.asked is None else (_file_digest(config, config.asked),)


def people_digests(config: Config) -> tuple[str, ...]:
    """Return the digests of what people add to the examples: asked questions, benchmarks, reviewers' decisions."""
    decided = ledger_of(config).digest
    files = (*asked_digest(config), *(_file_digest(config, name) for name in config.benchmarks))
    return files if decided is None else (*files, decided)


def _file_digest(config: Config, name: str) -> str:
    try:
        return hashlib.sha256((config.folder / name).read_bytes()).hexdigest()
    except OSError as error:
        raise SourceError(
            f"{config.folder / name}, which {config.path.name} names, cannot be read: {error.strerror}",
            hint="Put the file there, or mend its name in tunesmith.toml.",
        ) from error


def encoder_digest(config: Config) -> tuple[str, ...]:
    """Return the digest of the encoder's folder, if its address is one."""
    return _folder_digest(config, config.encoder.base)


def base_digest(config: Config) -> tuple[str, ...]:
    """Return the digest of the language model's folder, if its address is one."""
    return _folder_digest(config, config.train.base)


def contender_digests(config: Config) -> tuple[str, ...]:
    """Return the digests of what contenders hang on outside: models' folders, adapters from elsewhere, the schema."""
    adapters = [_adapter_digest(config, name) for name in sorted(config.adapters)]
    reranker = config.retrieve.reranker
    return (
        *base_digest(config),
        *(() if config.grader is None else _folder_digest(config, config.grader)),
        *adapters,
        *(() if reranker is None else _folder_digest(config, reranker)),
        *(() if config.json_schema is None else (_file_digest(config, config.json_schema),)),
    )


def _adapter_digest(config: Config, name: str) -> str:
    folder = _adapter_folder(config, name)
    files = [folder / file for file in ("adapter_config.json", "adapter_model.safetensors")]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise SourceError(
            f"{folder}, the adapter {name} in {config.path.name}, holds no {' and no '.join(missing)}",
            hint="Name the folder that PEFT's save_pretrained wrote, which Axolotl, TRL and Unsloth call.",
        )
    files += sorted(folder.glob("chat_template.jinja"))  # the adapter is asked with it, where it has one
    return _digest_of_files(
        tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    )


def _adapter_folder(config: Config, name: str) -> Path:
    return Path(_from_project(config, config.adapters[name]).removeprefix("path:"))


def both_digests(config: Config) -> tuple[str, ...]:
    """Return the digests of the encoder's and of the language model's folder, of those that are one."""
    return (*encoder_digest(config), *base_digest(config))


def _folder_digest(config: Config, address: str) -> tuple[str, ...]:
    """Return one digest of the files that a model is loaded from, for `path:` and `gguf:`; others stand for it.

    Raises SourceError for a folder without such files, or with one that cannot be read.
    """
    form, _, place = _from_project(config, address).partition(":")
    if form not in ("path", "gguf"):
        return ()
    files = sorted(path for pattern in _MODEL_FILES for path in Path(place).glob(pattern))
    files = [Path(place)] if form == "gguf" else files
    if not files:
        raise SourceError(
            f"{place}, which {config.path.name} names, is no folder of a model: it holds no {_MODEL_FILES[0]}",
            hint="Put the model there, or mend its address in tunesmith.toml.",
        )
    try:
        stats = ((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
        return (_digest_of_files(tuple(stats)),)
    except OSError as error:
        raise SourceError(
            f"{error.filename}, of the model that {config.path.name} names, cannot be read: {error.strerror}",
            hint="Make it readable, or mend the model's address in tunesmith.toml.",
        ) from error


_MODEL_FILES = (
    "*.safetensors",
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "lit_model.pth",
    "model_config.yaml",
)
_READ_WHOLE = 2**28  # bytes; of a larger file, samples: every command takes these digests
_SAMPLES, _SAMPLE = 256, 2**16


@cache
def _digest_of_files(files: tuple[tuple[str, int, int], ...]) -> str:
    # The time of change is there for the cache: what counts is names, sizes and bytes.
    whole = hashlib.sha256()
    for name, size, _ in files:
        whole.update(f"{Path(name).name} {size}\n".encode())
        with Path(name).open("rb") as file:
            if size <= _READ_WHOLE:
                whole.update(hashlib.file_digest(file, "sha256").digest())
                continue
            for number in range(_SAMPLES):
                file.seek(number * (size - _SAMPLE) // (_SAMPLES - 1))
                whole.update(file.read(_SAMPLE))
    return whole.hexdigest()


def collect_settings(config: Config) -> dict[str, Any]:
    """Return what collecting is told."""
    from tunesmith.collecting.web import is_web

    web = {"web": config.collect.model_dump()} if any(map(is_web, config.sources)) else {}
    return {"sources": config.sources} | web


def chunk_settings(config: Config) -> dict[str, Any]:
    """Return what chunking and topics are told."""
    return {
        "chunk": config.chunk.model_dump(),
        "topics": config.topics.model_dump(),
        "encoder": config.encoder.base,
        "counted by": _counted_by(config),
    }


def generate_settings(config: Config) -> dict[str, Any]:
    """Return what generating is told."""
    told = {"generate": config.generate.model_dump(), "teacher": config.teacher}
    return told if config.judge is None else told | {"judge": config.judge}


def curate_settings(config: Config) -> dict[str, Any]:
    """Return what curating is told."""
    return config.curate.model_dump()


def index_settings(config: Config) -> dict[str, Any]:
    """Return what indexing is told."""
    return {
        "encoder": config.encoder.base,
        "passage_tokens": config.retrieve.passage_tokens,
        "counted by": _counted_by(config),
    }


def estimate_settings(config: Config) -> dict[str, Any]:
    """Return what both trainings are told, which is what estimating hangs on."""
    return {"encoder": config.encoder.model_dump(), "train": config.train.model_dump()} | _words_settings(
        config
    )


def encoder_settings(config: Config) -> dict[str, Any]:
    """Return what tuning and indexing are told."""
    return {"encoder": config.encoder.model_dump(), "bank_weight": config.retrieve.bank_weight}


def train_settings(config: Config) -> dict[str, Any]:
    """Return what training is told."""
    return config.train.model_dump() | _words_settings(config)


_CALLED = ("python:", "openapi:", "mcp:", "sphinx:")


def _words_settings(config: Config) -> dict[str, Any]:
    """Return the prompt of answers in words, which names the project, where there can be any.

    A model that was trained under one prompt is not to be asked under another.
    """
    files = [*config.written, *([] if config.asked is None else [config.asked])]
    paths = [path for name in files if (path := config.folder / name).is_file()]
    possible = any(not source.startswith(_CALLED) for source in config.sources) or any(
        b'"answer"' in path.read_bytes() for path in paths
    )
    return {"in words": in_words_of(config)} if possible else {}


def evaluate_settings(config: Config) -> dict[str, Any]:
    """Return what evaluating is told."""
    return {
        "evaluate": config.evaluate.model_dump(),
        "contenders": config.contenders,
        "retrieve": config.retrieve.model_dump(),
        "tools": config.tools.model_dump(),
        "grader": config.grader,
        "base": config.train.base,
    }


def report_settings(config: Config) -> dict[str, Any]:
    """Return what the report is told."""
    return {"name": config.name, "report": config.report.model_dump()}


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


def _counted_by(config: Config) -> str:
    """Return whose tokens a chunk's length is counted in: the named model's, else the encoder's."""
    return config.tokens_of or config.encoder.base


def _counting(work: Work) -> Callable[[Sequence[str]], Sequence[int]]:
    from tunesmith.models.address import model_folder
    from tunesmith.models.counting import counts_of

    return counts_of(model_folder(_from_project(work.config, _counted_by(work.config)), say=work.say))


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

    model = load_chat(_from_project(work.config, address), say=work.say)
    identity = " ".join(_folder_digest(work.config, address))
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


def chosen_topics(inputs: Mapping[str, Artifact], config: Config) -> Chosen:
    """Return the topics as the project's file of them wants them."""
    from tunesmith.chunking.choices import choose, read_choices

    topics = tuple(read_jsonl(Topic, inputs["chunk"].file("topics.jsonl")))
    return choose(topics, () if config.choices is None else read_choices(config.folder / config.choices))


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


PASSAGES = "passages.jsonl"


def passages_of(inputs: Mapping[str, Artifact]) -> tuple[Chunk, ...]:
    """Return the passages of documents that are retrieved beside a catalogue's entries."""
    return tuple(read_jsonl(Chunk, inputs["index"].file(PASSAGES)))


def places_of(inputs: Mapping[str, Artifact]) -> Places:
    """Return what tells where an example's answer stands."""
    from tunesmith.retrieving.passages import Places

    return Places(passages_of(inputs))


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


# --- reading artefacts

HOSTED_WAY = "hosted"  # the first word of the row of the estimate that a remote base has in place of LoRA's
VALID_ROWS = 32  # enough to see overfitting; every validation costs a forward pass over them


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


LEARNERS = frozenset(
    ("few_shot", "nearest_shots", "classifier")
)  # contenders that show or copy training examples


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


def ledger_of(config: Config) -> Ledger:
    """Return what the reviewers of a project decided."""
    from tunesmith.reviewing.decisions import FOLDER, read_decisions
    from tunesmith.reviewing.ledger import ledger

    return ledger(read_decisions(config.folder / FOLDER))


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
        judge = load_chat(_from_project(work.config, work.config.grader), say=work.say)
        graded = further.with_grades(marked, examples, judge, work.progress)
        write_text_atomic(kept, "".join(to_line(one) + "\n" for one in graded))
    return list(read_jsonl(Score, kept))


def system_for(catalogue: Catalogue, config: Config) -> str:
    """Return the system prompt of a project's users: that of calls where there is anything to call."""
    return system_of(catalogue) if catalogue.entries else in_words_of(config)


def in_words_of(config: Config) -> str:
    """Return the system prompt of examples about documents."""
    from tunesmith.generating.prompts import text_system_prompt

    return text_system_prompt(config.name)


def encoder_of(config: Config, say: Callable[[str], None], *, max_length: int = 128) -> LocalEncoder:
    """Return the encoder as it was found, reading at most `max_length` tokens of a text."""
    from tunesmith.models.address import load_encoder

    return load_encoder(_from_project(config, config.encoder.base), say=say, max_length=max_length)


def base_of(config: Config, say: Callable[[str], None]) -> Path:
    """Return the folder of the language model as it was found."""
    from tunesmith.models.address import model_folder

    return model_folder(_from_project(config, config.train.base), say=say)


def _from_project(config: Config, address: str) -> str:
    """Return a model's address, a relative path in it taken from the project's folder, as sources are."""
    form, _, place = address.partition(":")
    if form not in ("path", "gguf"):
        return address
    return f"{form}:{config.folder / Path(place).expanduser()}"


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


def workshop(
    inputs: Mapping[str, Artifact], config: Config, say: Callable[[str], None], tuned: Path | None = None
) -> Workshop:
    """Return what every contender can be put together from, in the arithmetic of the training if there was one.

    `tuned` is the folder of a training that takes the place of the project's own.
    """
    from tunesmith.inference.packed import pack
    from tunesmith.models.address import Place, is_remote, load_chat
    from tunesmith.models.constrained import CatalogueGrammar
    from tunesmith.models.local import LocalModel, load_model, load_tokenizer

    base, remote = config.train.base, is_remote(config.train.base)

    def load(adapter: Path | None, name: str) -> ChatModel:
        return loaded(Place(base_of(config, say), adapter), name)

    def loaded(place: Place, name: str) -> ChatModel:
        model = load_model(place.folder, dtype=dtype, adapter=place.adapter)
        pack(model)  # it is only read from now on, and says the same
        return LocalModel(
            model,
            load_tokenizer(place.folder, adapter=place.adapter),
            name=name,
            batch_size=config.evaluate.batch_size,
        )

    def load_adapted(name: str) -> ChatModel:
        try:
            return load(_adapter_folder(config, name), f"{base} {name}")
        except ModelError as error:
            raise ModelError(
                f"the adapter {name} in [evaluate] does not go with {base}: {error.message}",
                hint=error.hint or "Name in [train] the base model that it was trained on.",
            ) from error

    def load_base() -> ChatModel:
        return load_chat(base) if remote else load(None, base)

    def load_tuned() -> ChatModel:
        if remote:
            return load_chat(run_of(inputs["train"])["address"])
        place = tuned_place(inputs, config, say) if tuned is None else place_of(tuned, config, say)
        return loaded(place, f"{base} tuned")

    here = "train" in inputs and not remote
    dtype = _noted_arithmetic(inputs["train"].file(ARITHMETIC)) if here else None
    catalogue = catalogue_of(inputs)
    train_rows = examples_of(inputs, "train")
    shots = _shots(about_calls(train_rows) or train_rows, config)
    shop = Workshop(
        load_base=load_base,
        load_tuned=load_tuned,
        load_retriever=lambda: plain_index(inputs, config, say),
        load_tuned_retriever=lambda: tuned_index(inputs, config),
        load_constraint=lambda model: CatalogueGrammar(catalogue, model.tokenizer).constraint,
        shots=shots,
        passages=config.retrieve.count,
        load_adapted={name: partial(load_adapted, name) for name in config.adapters},
        load_retrievers={
            "bm25": lambda: plain_index(inputs, config, say).by("words"),
            "faiss": lambda: plain_index(inputs, config, say).by("vectors"),
            "pinecone": lambda: pinecone_of(inputs, config, say),
        },
        load_known=lambda: known_of(about_calls(train_rows) or train_rows, config, say),
        load_relevance=lambda: relevance_of(config, lambda: shop.base, say),
        load_schema=lambda: schema_of(config),
        load_toolbox=lambda: tools_of(inputs, config),
        tools=config.tools,
        rerank_depth=config.retrieve.rerank_depth,
    )
    return shop


SHOTS = 3


def kept(model: ChatModel, name: str, inputs: Mapping[str, Artifact], config: Config) -> ChatModel:
    """Return a contender that answers from what it said in an earlier run, if nothing that it hangs on has changed.

    So another contender, or another question, costs no more than its own answers. They come with the seconds that they
    took then.
    """
    from tunesmith.evaluating.names import is_tuned, retriever_of
    from tunesmith.models.address import is_remote
    from tunesmith.models.keeping import keeping

    if is_remote(config.train.base):
        return model  # what answers behind an address may be another tomorrow
    parts = set(name.split("+"))
    hangs_on = {
        "collect": True,
        "index": retriever_of(name) is not None,
        "curate": bool(parts & {"few_shot", "nearest_shots", "classifier"}),
        "encoder": "tuned_retrieval" in parts,
        "train": is_tuned(name),
    }
    identity = fingerprint(
        _ANSWERED,
        name,
        [inputs[stage].id for stage, does in hangs_on.items() if does],
        config.train.base,
        config.train.seed,
        config.encoder.base,
        encoder_digest(config),
        contender_digests(config),
        config.retrieve.model_dump(),
        config.tools.model_dump(),
        read_json(inputs["train"].file(ARITHMETIC)) if ARITHMETIC in inputs["train"].manifest.files else None,
    )
    return keeping(model, config.folder / ".tunesmith" / ANSWERS, identity=identity)


ANSWERS = "answers"  # what contenders have said, for all runs of a project
_ANSWERED = 1  # raised when the same contender would say something else than before


def in_words_workshop(shop: Workshop, inputs: Mapping[str, Artifact], config: Config) -> Workshop:
    """Return a workshop of the same models whose few shots are answered in words."""
    rows = about_texts(examples_of(inputs, "train"))
    return replace(
        shop,
        load_base=lambda: shop.base,
        load_tuned=lambda: shop.tuned,
        load_retriever=lambda: shop.retriever,
        load_tuned_retriever=lambda: shop.tuned_retriever,
        load_adapted={name: partial(shop.adapted, name) for name in shop.load_adapted},
        load_known=lambda: known_of(rows, config, lambda text: None),
        load_relevance=lambda: shop.relevance,
        shots=_shots(rows, config),
    )


def _shots(examples: Sequence[Example], config: Config) -> tuple[Conversation, ...]:
    from tunesmith.training.mix import select

    return tuple(
        (Message("user", one.question), Message("assistant", one.answer))
        for one in select(examples, SHOTS, config.train.seed)
    )


def known_of(examples: Sequence[Example], config: Config, say: Callable[[str], None]) -> Known:
    """Return training examples as known answers: their class is the entry that is called, else the answer."""
    from tunesmith.models.known import Known, KnownAnswer

    answers = tuple(KnownAnswer(one.question, one.answer, one.entry or one.answer) for one in examples)
    return Known(answers, encoder_of(config, say))


def pinecone_of(inputs: Mapping[str, Artifact], config: Config, say: Callable[[str], None]) -> Retriever:
    """Return the retriever whose vectors Pinecone keeps: those of the index of the encoder as it was found."""
    from tunesmith.retrieving.pinecone import PineconeRetriever

    told, encoder = config.retrieve, encoder_of(config, say)
    return PineconeRetriever(
        plain_index(inputs, config, say),
        encoder,
        index=told.pinecone_index,
        host=told.pinecone_host,
        namespace=told.pinecone_namespace,
    )


def tools_of(inputs: Mapping[str, Artifact], config: Config) -> Toolbox:
    """Return the catalogue's entries as functions that a model may call; answers say of each what derived ones do."""
    from tunesmith.generating.calling import CatalogueTools
    from tunesmith.generating.derive import derive_answers

    catalogue = catalogue_of(inputs)
    derived = derive_answers(documents_of(inputs), catalogue).answers
    sentences = {answer.entry: answer.sentence for answer in derived}
    return CatalogueTools(catalogue, sentences, run=config.tools.run)


def relevance_of(config: Config, load_base: Callable[[], ChatModel], say: Callable[[str], None]) -> Relevance:
    """Return what reranks: the cross-encoder that is named, else the language model as it was found.

    Raises AddressError where that is at a service, which tells nobody how likely a question is.
    """
    from tunesmith.models.address import load_cross_encoder
    from tunesmith.models.likelihood import Likelihood
    from tunesmith.models.local import LocalModel
    from tunesmith.retrieving.reranking import QuestionLikelihood

    if config.retrieve.reranker is not None:
        return load_cross_encoder(_from_project(config, config.retrieve.reranker), say=say)
    base = load_base()
    if not isinstance(base, LocalModel):
        raise AddressError(
            f"reranked needs the weights of {base.name}, which a service keeps",
            hint="Name a cross-encoder: [retrieve] reranker.",
        )
    return QuestionLikelihood(Likelihood(base.model, base.tokenizer))


def schema_of(config: Config) -> str:
    """Return the JSON schema in the project's file of it; raises UsageError, SourceError or ConfigError."""
    from tunesmith.operations import validator

    if config.json_schema is None:
        raise UsageError(
            "json holds answers to a JSON schema, and none is named.",
            hint="Name its file in tunesmith.toml: [evaluate] json_schema.",
        )
    _file_digest(config, config.json_schema)
    text = (config.folder / config.json_schema).read_text(encoding="utf-8")
    try:
        schema = json.loads(text)
        validator(text)
    except ValueError as error:
        raise ConfigError(
            f"{config.folder / config.json_schema} is no JSON schema: {error}",
            hint="Mend it (draft 2020-12).",
        ) from error
    return json.dumps(schema, ensure_ascii=False)


def arithmetic(draft: Path) -> torch.dtype:
    """Return what a stage computes in: what is faster here, measured when the stage was begun, and noted there.

    A run that goes on after a kill must not find another answer half-way.
    """
    from tunesmith.models.local import fast_dtype

    note = draft / ARITHMETIC
    if not note.is_file():
        write_text_atomic(note, json.dumps({"dtype": str(fast_dtype()).removeprefix("torch.")}))
    return _noted_arithmetic(note)


def _noted_arithmetic(note: Path) -> torch.dtype:
    import torch

    dtype: torch.dtype = getattr(torch, read_json(note)["dtype"])
    return dtype


ARITHMETIC = "arithmetic.json"
LATENCIES = "latencies.json"  # of `evaluate`


def is_hosted(train: Artifact) -> bool:
    """Tell whether a service tuned the language model."""
    from tunesmith.training.hosted import HOSTED

    return HOSTED in train.manifest.files


def run_of(train: Artifact) -> Any:
    """Return what training left of its run, here or at a service."""
    from tunesmith.training.hosted import HOSTED

    return read_json(train.file(HOSTED if is_hosted(train) else "run.json"))


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


def read_json(path: Path) -> Any:
    """Return what a file of JSON holds."""
    return json.loads(path.read_text(encoding="utf-8"))
