"""A JSON or YAML description and the files beside it that its references lead to.

References to other addresses are refused, so that reading a description never asks the network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tunesmith.collecting.formats.refusal import Refusal

_MOST_BYTES = 64 * 2**20
_LONGEST_CHAIN = 50


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a description and where it stands: its file, and its JSON pointer where a reference named it."""

    value: Any
    file: Path
    pointer: str = ""

    def child(self, value: Any) -> Node:
        """Return a value that stands inside this one."""
        return Node(value, self.file)


class Description:
    """A description's files, each parsed once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parsed: dict[Path, Any] = {}

    @property
    def root(self) -> Node:
        """The whole of the first file; raises Refusal where it cannot be read."""
        return Node(self._document(self.path), self.path)

    def resolve(self, node: Node) -> Node:
        """Return what a node means: itself, or what its `$ref` leads to; raises Refusal where that is nothing."""
        for _ in range(_LONGEST_CHAIN):
            reference = node.value.get("$ref") if isinstance(node.value, dict) else None
            if not isinstance(reference, str):
                return node
            node = self._follow(reference, node.file)
        raise Refusal("reference", f"{node.value['$ref']} leads to itself")

    def _follow(self, reference: str, file: Path) -> Node:
        place, _, pointer = reference.partition("#")
        target = file
        if place:
            if re.match(r"[A-Za-z][\w+.-]+:", place) or place.startswith("/"):
                raise Refusal("reference", f"{reference} lies elsewhere; put the file beside the description")
            target = (file.parent / unquote(place)).resolve()
        value = self._document(target)
        for step in filter(None, unquote(pointer).split("/")):
            key = step.replace("~1", "/").replace("~0", "~")
            try:
                value = value[int(key)] if isinstance(value, list) else value[key]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise Refusal("reference", f"{reference} leads to nothing") from error
        return Node(value, target, pointer or "/")

    def _document(self, path: Path) -> Any:
        if path not in self._parsed:
            self._parsed[path] = parse(path)
        return self._parsed[path]


def files_of(path: Path) -> tuple[Path, ...]:
    """Return a description's file and those that its references name, as their text says, without parsing it."""
    found = {path: None}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        for name in _named_files(file):
            target = (file.parent / unquote(name)).resolve()
            if target not in found and target.is_file():
                found[target] = None
                waiting.append(target)
    return tuple(found)


def _named_files(file: Path) -> Iterator[str]:
    try:
        data = file.read_bytes()
    except OSError:
        return
    for match in re.finditer(rb"""\$ref["']?\s*:\s*["']?([^"'#\s,}]+)""", data):
        name = match[1].decode("utf-8", "replace")
        if not re.match(r"[A-Za-z][\w+.-]+:|/", name):
            yield name


def parse(path: Path) -> Any:
    """Return what a file of JSON or YAML holds; raises Refusal where it is neither."""
    import yaml

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise Refusal("too large", f"{path.name} has more than {_MOST_BYTES // 2**20} MiB")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise Refusal("unreadable", f"{path.name}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Refusal("encoding", f"{path.name}: byte {error.start} is not UTF-8") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if path.suffix.lower() == ".json":
            raise Refusal("damaged", f"{path.name} is no JSON: {error}") from error
    except RecursionError as error:
        raise Refusal("damaged", f"{path.name} nests too deep") from error
    try:
        return yaml.load(text, Loader=_loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())[:200]
        raise Refusal("damaged", f"{path.name} is neither JSON nor YAML: {told}") from error


@cache
def _loader() -> Any:
    """Return a loader of YAML 1.2's plain values: `no` and `on` are words, and dates are texts."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        """Loads plain data only."""

    kept: Mapping[str, Any] = base.yaml_implicit_resolvers
    unwanted = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:value")
    Loader.yaml_implicit_resolvers = {
        letter: [pair for pair in pairs if pair[0] not in unwanted] for letter, pairs in kept.items()
    }
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    )
    return Loader
