"""The public API: a project as a whole, and each stage as a function on records.

Names load what they need when they are first used, so that `import tunesmith` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tunesmith.catalogue import Catalogue, judge
    from tunesmith.chunking.chunk import chunk
    from tunesmith.chunking.topics import find_topics
    from tunesmith.collecting.collect import collect
    from tunesmith.curating.curate import curate
    from tunesmith.errors import TunesmithError
    from tunesmith.evaluating.evaluate import evaluate
    from tunesmith.evaluating.scores import summarise
    from tunesmith.evaluating.verdict import compare, decide
    from tunesmith.files import check_file, convert_file, train_file
    from tunesmith.generating.generate import generate
    from tunesmith.generating.written import read_written
    from tunesmith.models.address import load_chat, load_encoder
    from tunesmith.models.wrappers import few_shot, prompted
    from tunesmith.project import Project
    from tunesmith.records import Example
    from tunesmith.retrieving.index import build_index
    from tunesmith.training.encoder import tune_encoder
    from tunesmith.training.train import train

__all__ = [
    "Catalogue",
    "Example",
    "Project",
    "TunesmithError",
    "build_index",
    "check_file",
    "chunk",
    "collect",
    "compare",
    "convert_file",
    "curate",
    "decide",
    "evaluate",
    "few_shot",
    "find_topics",
    "generate",
    "judge",
    "load_chat",
    "load_encoder",
    "prompted",
    "read_written",
    "summarise",
    "train",
    "train_file",
    "tune_encoder",
]

# Not here: models.wrappers.retrieving, since the folder of that name would hide it once it is imported.
_HOMES: Final = {
    "tunesmith.catalogue": ("Catalogue", "judge"),
    "tunesmith.chunking.chunk": ("chunk",),
    "tunesmith.chunking.topics": ("find_topics",),
    "tunesmith.collecting.collect": ("collect",),
    "tunesmith.curating.curate": ("curate",),
    "tunesmith.errors": ("TunesmithError",),
    "tunesmith.evaluating.evaluate": ("evaluate",),
    "tunesmith.evaluating.scores": ("summarise",),
    "tunesmith.evaluating.verdict": ("compare", "decide"),
    "tunesmith.files": ("check_file", "convert_file", "train_file"),
    "tunesmith.generating.generate": ("generate",),
    "tunesmith.generating.written": ("read_written",),
    "tunesmith.models.address": ("load_chat", "load_encoder"),
    "tunesmith.models.wrappers": ("few_shot", "prompted"),
    "tunesmith.project": ("Project",),
    "tunesmith.records": ("Example",),
    "tunesmith.retrieving.index": ("build_index",),
    "tunesmith.training.encoder": ("tune_encoder",),
    "tunesmith.training.train": ("train",),
}

# Hidden from type checkers, for which every unknown name would otherwise be a known one of any type.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(home), name)
        raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
