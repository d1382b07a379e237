"""What each stage's cache key hangs on besides its inputs: its settings, and the files outside that it reads."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.config import Config
from tunesmith.errors import SourceError
from tunesmith.records import (
    fingerprint,
)

if TYPE_CHECKING:
    from tunesmith.generating.prompts import Prompts
    from tunesmith.reviewing.ledger import Ledger


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
    counted = counted_by(config)
    return (
        *encoder_digest(config),
        *(() if counted == config.encoder.base else folder_digest(config, counted)),
    )


def question_digests(config: Config) -> tuple[str, ...]:
    """Return the digests of the files of written questions, prompts and topics, and of the models' folders, if any."""
    models = [address for address in (config.teacher, config.judge) if address is not None]
    files = [*config.written, *([] if config.choices is None else [config.choices])]
    return (
        *(file_digest(config, name) for name in files),
        *(digest for address in models for digest in folder_digest(config, address)),
        *(() if config.prompts is None else (fingerprint(dict(prompts_of(config).texts)),)),
    )


def prompts_of(config: Config) -> Prompts:
    """Return the prompts of the project's folder of them, or the usual ones."""
    from tunesmith.generating.prompts import load_prompts

    return load_prompts(None if config.prompts is None else config.folder / config.prompts)


def asked_digest(config: Config) -> tuple[str, ...]:
    """Return the digest of the file of asked questions, if there is one."""
    return () if config.asked is None else (file_digest(config, config.asked),)


def people_digests(config: Config) -> tuple[str, ...]:
    """Return the digests of what people add to the examples: asked questions, benchmarks, reviewers' decisions."""
    decided = ledger_of(config).digest
    files = (*asked_digest(config), *(file_digest(config, name) for name in config.benchmarks))
    return files if decided is None else (*files, decided)


def file_digest(config: Config, name: str) -> str:
    """Return the SHA-256 of a file that the project names; raises SourceError where it cannot be read."""
    try:
        return hashlib.sha256((config.folder / name).read_bytes()).hexdigest()
    except OSError as error:
        raise SourceError(
            f"{config.folder / name}, which {config.path.name} names, cannot be read: {error.strerror}",
            hint="Put the file there, or mend its name in tunesmith.toml.",
        ) from error


def encoder_digest(config: Config) -> tuple[str, ...]:
    """Return the digest of the encoder's folder, if its address is one."""
    return folder_digest(config, config.encoder.base)


def base_digest(config: Config) -> tuple[str, ...]:
    """Return the digest of the language model's folder, if its address is one."""
    return folder_digest(config, config.train.base)


def contender_digests(config: Config) -> tuple[str, ...]:
    """Return the digests of what contenders hang on outside: models' folders, adapters from elsewhere, the schema."""
    adapters = [_adapter_digest(config, name) for name in sorted(config.adapters)]
    reranker = config.retrieve.reranker
    return (
        *base_digest(config),
        *(() if config.grader is None else folder_digest(config, config.grader)),
        *adapters,
        *(() if reranker is None else folder_digest(config, reranker)),
        *(() if config.json_schema is None else (file_digest(config, config.json_schema),)),
    )


def _adapter_digest(config: Config, name: str) -> str:
    folder = adapter_folder(config, name)
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


def adapter_folder(config: Config, name: str) -> Path:
    """Return the folder of an adapter from elsewhere, by the name that the project gives it."""
    return Path(config.model_address(config.adapters[name]).removeprefix("path:"))


def both_digests(config: Config) -> tuple[str, ...]:
    """Return the digests of the encoder's and of the language model's folder, of those that are one."""
    return (*encoder_digest(config), *base_digest(config))


def folder_digest(config: Config, address: str) -> tuple[str, ...]:
    """Return one digest of the files that a model is loaded from, for `path:` and `gguf:`; others stand for it.

    Raises SourceError for a folder without such files, or with one that cannot be read.
    """
    form, _, place = config.model_address(address).partition(":")
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
        "counted by": counted_by(config),
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
        "counted by": counted_by(config),
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


def counted_by(config: Config) -> str:
    """Return whose tokens a chunk's length is counted in: the named model's, else the encoder's."""
    return config.tokens_of or config.encoder.base


def ledger_of(config: Config) -> Ledger:
    """Return what the reviewers of a project decided."""
    from tunesmith.reviewing.decisions import FOLDER, read_decisions
    from tunesmith.reviewing.ledger import ledger

    return ledger(read_decisions(config.folder / FOLDER))


def in_words_of(config: Config) -> str:
    """Return the system prompt of examples about documents."""
    from tunesmith.generating.prompts import text_system_prompt

    return text_system_prompt(config.name)
