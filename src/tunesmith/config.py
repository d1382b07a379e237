"""tunesmith.toml in, Config out: one table per stage; unknown keys refused with the nearest name.

A table holds two kinds of keys. What to work on (sources, question files, a teacher's address) is read here.
How to work is the stage's own Settings class, which lives beside the stage's code and is only composed here.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from tunesmith.chunking.chunk import ChunkSettings
from tunesmith.chunking.topics import TopicSettings
from tunesmith.collecting.web import OPENAPI, WebSettings
from tunesmith.curating.curate import CurateSettings
from tunesmith.errors import AddressError, ConfigError, UsageError
from tunesmith.evaluating.costs import ReportSettings
from tunesmith.evaluating.curve import CurveSettings
from tunesmith.evaluating.evaluate import EvaluateSettings
from tunesmith.evaluating.names import PARTS, USUAL, check_adapter, check_name, with_adapters
from tunesmith.evaluating.risks.record import RisksSettings
from tunesmith.generating.generate import GenerateSettings
from tunesmith.models.address import is_remote
from tunesmith.models.tools import ToolSettings
from tunesmith.retrieving.index import RetrieveSettings
from tunesmith.training.encoder import EncoderSettings
from tunesmith.training.hosted import UNREAD
from tunesmith.training.settings import TrainSettings

FILE_NAME: Final = "tunesmith.toml"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProjectTable(_Table):
    """What the project is called."""

    name: str = Field(min_length=1)


class CollectTable(_Table):
    """What the project knows: addresses of sources, paths among them relative to the project's folder."""

    sources: tuple[str, ...] = Field(min_length=1)


class ChunkTable(_Table):
    """The model in whose tokens a chunk's length is counted; None: the encoder."""

    tokens_of: str | None = None


class TopicsTable(_Table):
    """The file in which a person has named, weighted, dropped or joined topics."""

    choices: str | None = None


class GenerateTable(_Table):
    """Where examples come from, besides the rules: files of written ones, models' addresses, a folder of prompts.

    How many questions are asked at once changes no result.
    """

    written: tuple[str, ...] = ()
    teacher: str | None = None
    judge: str | None = None
    prompts: str | None = None
    concurrency: int = Field(default=8, ge=1, le=512)


class CurateTable(_Table):
    """The file of test questions in users' own words, and those of benchmarks that training must not see."""

    asked: str | None = None
    benchmarks: tuple[str, ...] = ()


class EvaluateTable(_Table):
    """Adapters that were trained elsewhere, by name, which contenders are asked, and the file of `json`'s schema."""

    # Before `contenders`, whose names it adds to.
    adapters: dict[str, str] = Field(default_factory=dict)
    contenders: tuple[str, ...] = Field(default=USUAL, min_length=1, validate_default=True)
    json_schema: str | None = None
    grader: str | None = None

    @field_validator("adapters")
    @classmethod
    def _folders(cls, adapters: dict[str, str]) -> dict[str, str]:
        for name, address in adapters.items():
            try:
                check_adapter(name)
            except AddressError as error:
                raise ValueError(str(error)) from error
            if not address.removeprefix("path:") or not address.startswith("path:"):
                raise ValueError(f"{name} = {address!r} is no folder of an adapter: write path:FOLDER")
        return adapters

    @field_validator("contenders")
    @classmethod
    def _names(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        adapters = info.data.get("adapters", {})
        for name in names:
            try:
                check_name(name, adapters)
            except AddressError as error:
                raise ValueError(str(error)) from error
        return with_adapters(names, adapters)


@dataclass(frozen=True, slots=True)
class Config:
    """A project's tunesmith.toml: what it works on, and each stage's settings under the stage's name.

    `sources`, `written`, `asked` and `adapters` are as the user wrote them; paths among them are relative to `folder`.
    `contenders` has those of every adapter.
    """

    path: Path
    name: str
    sources: tuple[str, ...]
    written: tuple[str, ...] = ()
    teacher: str | None = None
    judge: str | None = None
    prompts: str | None = None
    concurrency: int = 8
    choices: str | None = None
    tokens_of: str | None = None
    asked: str | None = None
    benchmarks: tuple[str, ...] = ()
    adapters: Mapping[str, str] = field(default_factory=dict)
    contenders: tuple[str, ...] = USUAL
    grader: str | None = None
    json_schema: str | None = None
    generate: GenerateSettings = field(default_factory=GenerateSettings)
    curate: CurateSettings = field(default_factory=CurateSettings)
    collect: WebSettings = field(default_factory=WebSettings)
    chunk: ChunkSettings = field(default_factory=ChunkSettings)
    topics: TopicSettings = field(default_factory=TopicSettings)
    retrieve: RetrieveSettings = field(default_factory=RetrieveSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    tools: ToolSettings = field(default_factory=ToolSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    curve: CurveSettings = field(default_factory=CurveSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    risks: RisksSettings = field(default_factory=RisksSettings)

    @property
    def folder(self) -> Path:
        """The project's folder, where tunesmith.toml lies."""
        return self.path.parent

    def model_address(self, address: str) -> str:
        """Return a model's address, a relative path in it taken from the project's folder, as sources are."""
        form, _, place = address.partition(":")
        return f"{form}:{self.folder / Path(place).expanduser()}" if form in ("path", "gguf") else address


# Each table's classes, in the pipeline's order: first what config reads itself, then the stage's settings.
_TABLES: Final[dict[str, tuple[type[BaseModel], ...]]] = {
    "project": (ProjectTable,),
    "collect": (CollectTable, WebSettings),
    "chunk": (ChunkTable, ChunkSettings),
    "topics": (TopicsTable, TopicSettings),
    "generate": (GenerateTable, GenerateSettings),
    "curate": (CurateTable, CurateSettings),
    "retrieve": (RetrieveSettings,),
    "encoder": (EncoderSettings,),
    "train": (TrainSettings,),
    "tools": (ToolSettings,),
    "evaluate": (EvaluateTable, EvaluateSettings),
    "curve": (CurveSettings,),
    "report": (ReportSettings,),
    "risks": (RisksSettings,),
}


@dataclass(frozen=True, slots=True)
class _Why:
    """What the template says of a key, and the value it shows where the default cannot be written down."""

    text: str
    example: Any = None


_EXPLAINED: Final[dict[str, dict[str, _Why]]] = {
    "project": {"name": _Why("how reports call it")},
    "collect": {
        "sources": _Why(
            "python:, openapi:, mcp:, a file, folder or glob, https://PAGE, site:https://PAGE; paths start here"
        ),
        "depth": _Why("so many links away from a site's first page"),
        "pages": _Why("at most so many pages of a site"),
        "seconds_apart": _Why("between two requests"),
        "private": _Why("whether pages that only this network reaches may be fetched"),
    },
    "chunk": {
        "max_tokens": _Why("a longer document is cut, where its structure lets it"),
        "tokens_of": _Why("the model whose tokens are counted; left out, the encoder's", "smollm2"),
    },
    "topics": {
        "count": _Why("as many topics; left out, about the square root of half the chunks", 12),
        "seed": _Why("another seed finds other topics"),
        "choices": _Why("your file: names, weights, which to drop or join (tunesmith topics)", "topics.toml"),
    },
    "generate": {
        "written": _Why("questions in users' own words: nothing helps more", ["questions/train.jsonl"]),
        "teacher": _Why("a model that asks more questions", "openai:MODEL@http://localhost:8000/v1"),
        "rules": _Why("the rules that ask questions of their own"),
        "rules_per_entry": _Why("how many of those questions about one entry"),
        "questions_per_entry": _Why("how many the teacher is asked for about one entry"),
        "judge": _Why("who checks what the teacher wrote; left out, the teacher", "openai:MODEL@URL"),
        "prompts": _Why("a folder of your own prompts (tunesmith prompts --out FOLDER)", "prompts"),
        "concurrency": _Why("so many questions to a service at once; fewer while it says it is too many"),
        "examples_per_chunk": _Why("how many the teacher writes about a piece of a document"),
        "budget": _Why("how many of all documents, spread over topics; left out, every piece", 500),
        "styles": _Why("which kinds of examples"),
        "personas": _Why("in whose words"),
        "gates": _Why("what is checked besides the gates that need no model"),
        "judge_threshold": _Why("the least score, of 5, that the judge must give"),
        "usd_per_million": _Why("US dollars for a million tokens read, and written", [0.5, 1.5]),
        "max_cost_usd": _Why("asking stops before this is passed", 5.0),
        "seed": _Why("another seed words them otherwise"),
    },
    "curate": {
        "asked": _Why("test questions, written apart from the others", "questions/asked.jsonl"),
        "unseen_share": _Why("the share of entries that training never sees"),
        "unseen_questions": _Why("test questions about those, at most"),
        "seen_questions": _Why("test questions about entries that training sees, at most"),
        "valid_share": _Why("the share of training examples kept for early stopping"),
        "seed": _Why("another seed holds out other entries"),
        "near_duplicate": _Why("questions sharing this share of their words are one question"),
        "same_meaning": _Why("so are those about one thing whose embeddings are this near", 0.95),
        "leak_similarity": _Why("a training question this like a test question is a leak"),
        "leak_words": _Why("so is one with this many words in a row in common"),
        "accept_leaks": _Why("ids of asked questions, or names of benchmarks, whose leak is known"),
        "leak_meaning": _Why("so is one whose embedding is this near to a test question's", 0.95),
        "benchmarks": _Why("files whose rows training must not see", ["benchmarks/gsm8k_test.jsonl"]),
        "private": _Why("what becomes of private data: report, redact, pseudonymise, reject, off"),
        "private_kinds": _Why("which kinds are looked for"),
        "allow_private": _Why("values that may stay, or patterns of them such as *@our.org"),
    },
    "retrieve": {
        "count": _Why("entries shown to the model with each question"),
        "bank_weight": _Why("how much a known question counts beside its entry's own text"),
        "passage_tokens": _Why("documents are retrieved in pieces of so many tokens"),
        "reranker": _Why("a cross-encoder for `reranked`; left out, the base model", "hf:org/name"),
        "rerank_depth": _Why("how many of the first passages `reranked` puts into order"),
        "pinecone_index": _Why("for `pinecone`: the index's name there, of the encoder's dimension", "docs"),
        "pinecone_host": _Why("its address, in place of the name", "https://docs-abc.svc.pinecone.io"),
        "pinecone_namespace": _Why("the beginning of the namespace; a digest of the content follows"),
    },
    "encoder": {
        "base": _Why("the encoder to start from"),
        "epochs": _Why("passes over the questions; 0 leaves the encoder as it is"),
        "batch_size": _Why("questions that are told apart at a time"),
        "learning_rate": _Why("the largest step, reached after a tenth of the way"),
        "top_layers": _Why("tune only the last layers: faster; left out, all of them", 4),
        "temperature": _Why("smaller tells near entries apart more sharply"),
        "seed": _Why("another seed shuffles otherwise"),
    },
    "train": {
        "base": _Why("the model to start from; openai:MODEL@URL is tuned by its service"),
        "method": _Why("lora, rslora, dora, qlora (frozen weights in 4 bits) or full"),
        "objective": _Why("what is learned: answers, text or preferences"),
        "epochs": _Why("passes over the examples"),
        "examples": _Why("at most so many examples; left out, all of them", 400),
        "batch_size": _Why("examples in a step"),
        "learning_rate": _Why("the largest step"),
        "weight_decay": _Why("how fast unused weights shrink (AdamW)"),
        "rank": _Why("LoRA rank: how much the adapter can hold"),
        "alpha": _Why("LoRA scale: alpha / rank multiplies the update"),
        "beta": _Why("for preferences: how dearly the model pays for leaving where it began"),
        "top_layers": _Why("adapt only the last blocks: faster; left out, all of them", 15),
        "warmup_share": _Why("share of the steps in which the rate rises"),
        "clip": _Why("gradients longer than this are shortened"),
        "retrieved_share": _Why("share of the prompts that show retrieved entries"),
        "doubt": _Why(
            "share of those in which the right entry may stand elsewhere than first, or be missing"
        ),
        "passages": _Why("how many entries those prompts show"),
        "quotes": _Why("whether answers in words begin with what those passages say, word for word (RAFT)"),
        "max_length": _Why("the longest example, in tokens"),
        "too_long": _Why("what becomes of longer ones: refuse, cut or drop"),
        "evaluate_every": _Why("steps between two looks at the validation loss, each with a checkpoint"),
        "patience": _Why("looks without a better loss before training stops"),
        "canaries": _Why("made-up secrets planted among the rows, to measure what is kept of such"),
        "seed": _Why("another seed shuffles otherwise"),
    },
    "tools": {
        "count": _Why("functions that a contender with `tools` may call, found anew for each question"),
        "run": _Why("functions of packages that are safe to run, in the sandbox", ["networkx.is_tree"]),
        "rounds": _Why("how often a call's result goes back to the model"),
    },
    "evaluate": {
        "adapters": _Why("adapters trained elsewhere, each a contender of its name", {"mine": "path:FOLDER"}),
        "contenders": _Why(f"parts joined by +: {', '.join(PARTS)}"),
        "grader": _Why("a model that grades answers in words by those on record", "openai:MODEL@URL"),
        "json_schema": _Why("the file of the JSON schema that `json` holds answers to", "answer.json"),
        "max_tokens": _Why("an answer is cut after so many tokens"),
        "batch_size": _Why("questions asked at a time"),
        "stop": _Why("an answer ends after any of these strings"),
        "timed": _Why("so many questions are asked once more, each alone, for the time a user waits"),
    },
    "curve": {
        "fractions": _Why(
            "train anew on these shares of the examples: would more of them help?", [0.25, 0.5]
        ),
        "seeds": _Why("train anew with these seeds: how much of a score is luck?", [1, 2]),
    },
    "report": {
        "measure": _Why(
            "what the verdict about words rests on: f1, exact_match, rouge_l, chrf, similarity, accuracy (of labels), "
            "judged (by the grader); left out, accuracy where answers are labels, else f1",
            "similarity",
        ),
        "usd_per_hour": _Why("the price of this machine; left out, costs are told in seconds", 0.8),
        "usd_per_million": _Why(
            "where base is a service's: its price of a million tokens read, and written", [0.5, 1.5]
        ),
    },
    "risks": {
        "checks": _Why("which are made; [] makes none"),
        "rows": _Why("training rows that are looked at, and as many held-out ones"),
        "max_tokens": _Why("an answer is cut after so many tokens"),
        "seed": _Why("another seed picks other rows"),
    },
}


@dataclass(frozen=True, slots=True)
class _Problem:
    line: int | None
    text: str

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


def load(path: Path) -> Config:
    """Read a tunesmith.toml; raises ConfigError with all of the file's problems, each with its line."""
    text = _read(path)
    document = _parse(path, text)
    lines = _key_lines(text)
    checks = (_strangers, _misfits, _beyond_reach, _beyond_grammar, _without_means, _unread_prices)
    problems = [problem for check in checks for problem in check(document, lines)]
    if problems:
        raise _refusal(path, problems)
    return _compose(path, document)


def find_project(start: Path) -> Path:
    """Return the nearest folder with a tunesmith.toml, from `start` upwards; raises UsageError."""
    folder = start.absolute()
    for each in (folder, *folder.parents):
        if each.joinpath(FILE_NAME).is_file():
            return each
    raise UsageError(
        f"There is no {FILE_NAME} in {folder}, nor in any folder above it.",
        hint="Make a project with `tunesmith new NAME --from SOURCE`, or name one with --project PATH.",
    )


def template(name: str, sources: Sequence[str]) -> str:
    """Return the tunesmith.toml of a new project: what it works on, and every other key with its default."""
    head = "# What this assistant is made from, and how. Take the # from a line to change its default.\n"
    given: dict[str, Any] = {"name": name, "sources": list(sources)}
    tables = (
        "\n".join([f"[{table}]", *_template_lines(table, given if table in ("project", "collect") else {})])
        for table in _TABLES
    )
    return head + "\n" + "\n\n".join(tables) + "\n"


def _template_lines(table: str, given: Mapping[str, Any]) -> Iterator[str]:
    for key, info in _fields(table).items():
        why = _EXPLAINED.get(table, {}).get(key) or _Why(info.description or "")
        if key in given:
            yield f"{key} = {_toml(given[key])}  # {why.text}"
        elif why.example is not None:
            yield f"# {key} = {_toml(why.example)}  # for example: {why.text}"
        else:
            yield f"# {key} = {_toml(info.get_default(call_default_factory=True))}  # {why.text}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        return str(table.as_string())
    plain = list(value) if isinstance(value, tuple | frozenset) else value
    text: str = tomlkit.item(plain).as_string()
    return text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"There is no file {path}.", hint="Make a project with `tunesmith new NAME --from SOURCE`."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text: byte {error.start} cannot be read.", hint="Save it as UTF-8."
        ) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not TOML: {error}.", hint="Strings stand in quotes, lists in brackets: key = [1, 2]."
        ) from error


def _strangers(document: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[_Problem]:
    """Yield the tables and keys that mean nothing."""
    for table, content in document.items():
        if table not in _TABLES:
            known = f"the tables are {', '.join(_TABLES)}"
            yield _Problem(
                lines.get(table), f"there is no table [{table}]; {_nearest(table, _TABLES, known)}"
            )
        elif not isinstance(content, dict):
            yield _Problem(lines.get(table), f"{table} must be a table: write [{table}] on a line of its own")
        else:
            for key in content.keys() - _fields(table).keys():
                text = f"[{table}] has no key {key!r}; {_right_key(table, key)}"
                yield _Problem(lines.get(f"{table}.{key}"), text)


def _misfits(document: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[_Problem]:
    """Yield the values that are missing, or of a wrong type or size."""
    for table, parts in _TABLES.items():
        content = document.get(table, {})
        if not isinstance(content, dict):
            continue
        for part in parts:
            try:
                _fill(part, content)
            except ValidationError as error:
                yield from (_misfit(table, dict(each), lines) for each in error.errors())


def _beyond_grammar(document: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[_Problem]:
    """Yield the contenders that cannot be, since requests of an HTTP API have no grammar."""
    if not _has_api(document):
        return
    contenders = _value(document, "evaluate", "contenders")
    for name in contenders if isinstance(contenders, list) else ():
        parts = str(name).split("+")
        # A call of a function is JSON, which has one.
        if "constrained" in parts and "tools" not in parts:
            text = f"[evaluate] contenders: {name} cannot be of openapi: sources, which have no grammar; leave it out"
            yield _Problem(lines.get("evaluate.contenders"), text)


def _without_means(document: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[_Problem]:
    """Yield the contenders with a part, and the measure, that need a setting which is not there."""
    retrieve, contenders = _value(document, "retrieve"), _value(document, "evaluate", "contenders")
    given = retrieve.keys() if isinstance(retrieve, Mapping) else set()
    remote = is_remote(str(_value(document, "train", "base") or ""))
    lacking = {
        "json": _value(document, "evaluate", "json_schema") is None and "[evaluate] json_schema",
        "pinecone": not given & {"pinecone_index", "pinecone_host"} and "[retrieve] pinecone_index",
        "reranked": remote and "reranker" not in given and "[retrieve] reranker, as the base is elsewhere",
    }
    for name in contenders if isinstance(contenders, list) else ():
        for part in str(name).split("+"):
            if missing := lacking.get(part):
                text = f"[evaluate] contenders: {name} has {part} and nothing says with what: set {missing}"
                yield _Problem(lines.get("evaluate.contenders"), text)
    if _value(document, "report", "measure") == "judged" and _value(document, "evaluate", "grader") is None:
        text = '[report] measure = "judged" and nothing says by whom: set [evaluate] grader'
        yield _Problem(lines.get("report.measure"), text)


def _unread_prices(document: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[_Problem]:
    """Yield the prices in [report] that no bill of this base reads."""
    report, base = _value(document, "report"), _value(document, "train", "base")
    given = report.keys() if isinstance(report, Mapping) else set()
    if not is_remote(str(base or "")):
        if "usd_per_million" in given:
            text = "[report] usd_per_million: it is not read, as the base is here; set usd_per_hour, or leave it out"
            yield _Problem(lines.get("report.usd_per_million"), text)
    elif "usd_per_hour" in given and "usd_per_million" not in given:
        text = f"[report] usd_per_hour: it is not read, as {base} answers for tokens: set usd_per_million beside it"
        yield _Problem(lines.get("report.usd_per_hour"), text)


def _has_api(document: Mapping[str, Any]) -> bool:
    sources = _value(document, "collect", "sources")
    return isinstance(sources, list) and any(str(source).startswith(OPENAPI) for source in sources)


def _beyond_reach(document: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[_Problem]:
    """Yield what a model cannot be told, or made to do, whose weights a service keeps."""
    train, contenders = _value(document, "train"), _value(document, "evaluate", "contenders")
    if not isinstance(train, dict) or not is_remote(str(train.get("base", ""))):
        return
    base = train["base"]
    for key in sorted(train.keys() & UNREAD):
        text = f"[train] {key}: the service of {base} chooses that itself; leave it out"
        yield _Problem(lines.get(f"train.{key}"), text)
    for name in contenders if isinstance(contenders, list) else ():
        if "constrained" in str(name).split("+"):
            text = f"[evaluate] contenders: {name} needs weights, which the service of {base} keeps; leave it out"
            yield _Problem(lines.get("evaluate.contenders"), text)


def _value(document: Mapping[str, Any], *keys: str) -> Any:
    """Return what stands under keys one below the other, or None."""
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _misfit(table: str, error: Mapping[str, Any], lines: Mapping[str, int]) -> _Problem:
    place = [str(part) for part in error["loc"]]
    line = lines.get(".".join([table, *place[:1]]), lines.get(table))
    if error["type"] == "missing":
        return _Problem(line, f"[{table}] needs a value for {'.'.join(place)!r}")
    said = _SUBJECT.sub("it should", str(error["msg"]).removeprefix("Value error, "))
    if not place:
        return _Problem(line, f"[{table}]: {said}")
    return _Problem(line, f"[{table}] {'.'.join(place)} = {_shown(error['input'])}: {said}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _compose(path: Path, document: Mapping[str, Any]) -> Config:
    """Put together a document that has no problems."""
    values: dict[str, Any] = {}
    for table, parts in _TABLES.items():
        for part in parts:
            filled = _fill(part, document.get(table, {}))
            if issubclass(part, _Table):
                values |= {key: getattr(filled, key) for key in part.model_fields}
            else:
                values[table] = filled
    is_unbound = is_remote(values["train"].base) or _has_api(document)
    if is_unbound and _value(document, "evaluate", "contenders") is None:
        values["contenders"] = tuple(name for name in USUAL if "constrained" not in name)
    return Config(path=path, **values)


def _fill(part: type[BaseModel], content: Mapping[str, Any]) -> BaseModel:
    """Return one class of a table, from its own keys.

    By way of JSON, since pydantic's strict mode there takes a list for a tuple but never "5" for 5.
    """
    own = {key: value for key, value in content.items() if key in part.model_fields}
    return part.model_validate_json(json.dumps(own, default=str), strict=True)


def _fields(table: str) -> dict[str, FieldInfo]:
    return {key: info for part in _TABLES[table] for key, info in part.model_fields.items()}


def _right_key(table: str, key: str) -> str:
    homes = [other for other in _TABLES if other != table and key in _fields(other)]
    known = f"its keys are {', '.join(_fields(table))}"
    if homes and not difflib.get_close_matches(key, _fields(table)):
        return f"it belongs to [{homes[0]}]"
    return _nearest(key, _fields(table), known)


def _nearest(name: str, names: Mapping[str, Any], otherwise: str) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise


def _refusal(path: Path, problems: Sequence[_Problem]) -> ConfigError:
    ordered = sorted(set(problems), key=lambda each: (each.line is None, each.line or 0, each.text))
    if len(ordered) == 1:
        return ConfigError(f"{path}, {ordered[0]}", hint="Mend it and run the command again.")
    listed = "\n".join(f"  {each}" for each in ordered)
    return ConfigError(
        f"{path} has {len(ordered)} problems:\n{listed}", hint="Mend them and run the command again."
    )


_SUBJECT = re.compile(r"^(Input|List|Tuple|String) should")
_HEADER = re.compile(r"^\s*\[\s*([\w.\"' -]+?)\s*\]")
_KEY = re.compile(r"^\s*([\w.\"' -]+?)\s*=\s*(.*)$")


def _key_lines(text: str) -> dict[str, int]:
    """Return the line, from 1, of each "table" and "table.key" of a text that is known to be TOML.

    Lines inside a list or a multi-line string are passed over: a statement goes on until it parses.
    """
    found: dict[str, int] = {}
    table, statement = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if not statement and (header := _HEADER.match(line)):
            table = _bare(header[1])
            found.setdefault(table, number)
        elif not statement and (key := _KEY.match(line)):
            found.setdefault(f"{table}.{_bare(key[1])}".lstrip("."), number)
            statement = "" if _whole(line) else line
        elif statement:
            statement = "" if _whole(f"{statement}\n{line}") else f"{statement}\n{line}"
    return found


def _whole(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _bare(name: str) -> str:
    return re.sub(r"[\"'\s]", "", name)
