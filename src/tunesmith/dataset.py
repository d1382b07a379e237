"""A project's examples as other tools read them, with a statement of what they are made from.

Every form holds the same rows: the sets of the curate stage, each example as the conversation that training sees
without retrieved entries. The statement says which sources, in which versions and under which licences, how many were
asked for, kept and rejected, and why; it is the text of the card of a Hugging Face dataset.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions
from pathlib import Path
from typing import Final, Literal, get_args

from tunesmith import cache_keys, finished
from tunesmith.artifacts import Artifact, disk_full_named
from tunesmith.config import Config
from tunesmith.errors import MissingExtra, UsageError
from tunesmith.records import Example, Rejection, Source, Tally, read_jsonl
from tunesmith.training.formats import Format, from_openai

DatasetForm = Literal[
    "openai",
    "trl",
    "axolotl",
    "llama-factory",
    "sharegpt",
    "alpaca",
    "prompt-completion",
    "parquet",
    "huggingface",
]
FORMS: Final[tuple[DatasetForm, ...]] = get_args(DatasetForm)
SETS: Final = ("train", "valid", *finished.SETS)
STATEMENT: Final = "DATA.md"
# What each form's rows are in; TRL and Axolotl read OpenAI's as they are.
_ROWS: Final[Mapping[DatasetForm, Format]] = {
    "openai": "openai",
    "trl": "openai",
    "axolotl": "openai",
    "llama-factory": "sharegpt",
    "sharegpt": "sharegpt",
    "alpaca": "alpaca",
    "prompt-completion": "prompt-completion",
}
_REASONS_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Written:
    """A dataset that was written: its folder, its form, and the rows of each set."""

    folder: Path
    form: DatasetForm
    rows: Mapping[str, int]


def write_dataset(inputs: Mapping[str, Artifact], config: Config, form: DatasetForm, folder: Path) -> Written:
    """Write the curated sets in a form to a new folder, with DATA.md; raises UsageError for a folder that is there.

    `inputs` are the artefacts up to curate.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already.", hint="Name a new folder with --out.")
    sets = {name: rows for name in SETS if (rows := finished.examples_of(inputs, name))}
    statement = _statement(inputs, config, sets)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with disk_full_named(folder.parent, hint="Free some space and write it again; nothing of it was kept."):
        part.mkdir(parents=True)
        try:
            _write_rows(part, form, sets, inputs, config)
            card = _front_matter(config, sets) + statement if form == "huggingface" else statement
            name = "README.md" if form == "huggingface" else STATEMENT
            part.joinpath(name).write_text(card, encoding="utf-8")
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return Written(folder, form, {name: len(rows) for name, rows in sets.items()})


# --- rows


def _write_rows(
    folder: Path,
    form: DatasetForm,
    sets: Mapping[str, Sequence[Example]],
    inputs: Mapping[str, Artifact],
    config: Config,
) -> None:
    for name, examples in sets.items():
        chats = [_chat(example, inputs, config) for example in examples]
        if form in ("parquet", "huggingface"):
            _write_parquet(folder, form, name, examples, chats)
            continue
        rows = (from_openai({"messages": chat}, _ROWS[form]) for chat in chats)
        if form == "llama-factory":
            text = json.dumps(list(rows), ensure_ascii=False, indent=1)
            folder.joinpath(f"{name}.json").write_text(text, encoding="utf-8")
            continue
        with folder.joinpath(f"{name}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if form == "llama-factory":
        info = {
            f"{config.name}-{name}": {
                "file_name": f"{name}.json",
                "formatting": "sharegpt",
                "columns": {"messages": "conversations", "system": "system"},
            }
            for name in sets
        }
        folder.joinpath("dataset_info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")


def _chat(example: Example, inputs: Mapping[str, Artifact], config: Config) -> list[dict[str, str]]:
    by_call = example.entry is not None
    system = finished.system_of(finished.catalogue_of(inputs)) if by_call else cache_keys.in_words_of(config)
    turns = (
        ("system", system),
        *((message.role, message.content) for message in example.messages),
        ("user", example.question),
        ("assistant", example.answer),
    )
    return [{"role": role, "content": content} for role, content in turns]


def _write_parquet(
    folder: Path,
    form: DatasetForm,
    name: str,
    examples: Sequence[Example],
    chats: Sequence[list[dict[str, str]]],
) -> None:
    """Write a set with what grounds each example; under the names that the hub looks for, if it is for the hub."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "Writing Parquet") from error
    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    turn = pyarrow.struct([("role", text), ("content", text)])
    grounds = pyarrow.struct(
        [("document", text), ("start", pyarrow.int64()), ("end", pyarrow.int64()), ("quote", text)]
    )
    schema = pyarrow.schema(
        [
            ("id", text),
            ("messages", pyarrow.list_(turn)),
            ("entry", text),
            ("acceptable", texts),
            ("origin", text),
            ("checks", texts),
            ("evidence", pyarrow.list_(grounds)),
        ]
    )
    rows = [
        {
            "id": example.id,
            "messages": chat,
            "entry": example.entry,
            "acceptable": list(example.acceptable),
            "origin": example.origin,
            "checks": list(example.checks),
            "evidence": [
                {"document": piece.document, "start": piece.start, "end": piece.end, "quote": piece.quote}
                for piece in example.evidence
            ],
        }
        for example, chat in zip(examples, chats, strict=True)
    ]
    place = (
        folder / "data" / f"{name}-00000-of-00001.parquet"
        if form == "huggingface"
        else folder / f"{name}.parquet"
    )
    place.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), place)


# --- the statement


def _front_matter(config: Config, sets: Mapping[str, Sequence[Example]]) -> str:
    files = [f"      - split: {name}\n        path: data/{name}-*.parquet" for name in sets]
    head = ["---", f"pretty_name: {json.dumps(config.name)}", "task_categories:", "  - text-generation"]
    return "\n".join(
        [*head, "configs:", "  - config_name: default", "    data_files:", *files, "---", "", ""]
    )


def _statement(inputs: Mapping[str, Artifact], config: Config, sets: Mapping[str, Sequence[Example]]) -> str:
    parts = [
        f"# {config.name}: what this data is",
        "Made by [Tunesmith](https://pypi.org/project/tunesmith/) from the sources below; no example is without one.",
        _sources(inputs),
        _counts(sets),
        _tallies(inputs),
        _rejections(inputs),
        _origins(sets),
    ]
    return "\n\n".join(parts) + "\n"


def _sources(inputs: Mapping[str, Artifact]) -> str:
    rows = [
        f"| `{source.address}` | {source.version or ''} | `{source.digest[:12]}` | {_licence(source)} |"
        for source in read_jsonl(Source, inputs["collect"].file("sources.jsonl"))
    ]
    return "\n".join(
        ["## Sources", "", "| source | version | SHA-256 begins | licence |", "|---|---|---|---|", *rows]
    )


def _licence(source: Source) -> str:
    """Return a package's licence as it states it; of files and pages nothing is known."""
    if source.kind != "python":
        return "not stated: look before you pass the data on"
    name = source.address.removeprefix("python:")
    try:
        found = metadata(packages_distributions().get(name, [name])[0])
    except PackageNotFoundError:
        return "part of Python (PSF-2.0)"
    stated = next((str(found[key]) for key in ("License-Expression", "License") if key in found), "")
    classifiers = [
        each.rpartition(" :: ")[2] for each in found.get_all("Classifier") or () if "License" in each
    ]
    return stated.partition("\n")[0].strip() or ", ".join(classifiers) or "not stated"


def _counts(sets: Mapping[str, Sequence[Example]]) -> str:
    meaning = {
        "train": "to train on",
        "valid": "to stop early by",
        "seen": "test: new questions about what training sees",
        "unseen": "test: what training never sees",
        "asked": "test: in users' own words, written apart",
    }
    rows = [f"| {name} | {len(rows):,} | {meaning[name]} |" for name, rows in sets.items()]
    return "\n".join(["## Sets", "", "| set | rows | for |", "|---|---|---|", *rows])


def _tallies(inputs: Mapping[str, Artifact]) -> str:
    rows = []
    for stage in ("generate", "curate"):
        tally = Tally(**json.loads(inputs[stage].file("tally.json").read_text(encoding="utf-8")))
        rejected = sum(tally.rejected.values())
        rows.append(
            f"| {stage} | {tally.requested:,} | {tally.accepted:,} | {rejected:,} | {tally.failed:,} |"
        )
    head = ["| stage | asked for | kept | rejected | failed |", "|---|---|---|---|---|"]
    return "\n".join(["## What was asked for", "", *head, *rows])


def _rejections(inputs: Mapping[str, Artifact]) -> str:
    counts = Counter(
        (rejection.stage, rejection.rule)
        for stage in ("collect", "generate", "curate")
        for rejection in read_jsonl(Rejection, inputs[stage].file("rejections.jsonl"))
    )
    if not counts:
        return "Nothing was rejected."
    rows = [
        f"| {stage} | {rule} | {count:,} |" for (stage, rule), count in counts.most_common(_REASONS_SHOWN)
    ]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(_REASONS_SHOWN))
    more = [f"| | others | {rest:,} |"] if rest else []
    return "\n".join(["### Why", "", "| stage | rule | how many |", "|---|---|---|", *rows, *more])


def _origins(sets: Mapping[str, Sequence[Example]]) -> str:
    counts = Counter(_origin(example) for rows in sets.values() for example in rows)
    rows = [f"| {origin} | {count:,} |" for origin, count in counts.most_common()]
    return "\n".join(["## Who wrote the questions", "", "| origin | rows |", "|---|---|", *rows])


def _origin(example: Example) -> str:
    kind, _, name = example.origin.partition(":")
    return f"people ({name.rpartition(':')[0]})" if kind == "written" else f"{kind} {name}"
