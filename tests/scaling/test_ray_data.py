"""A cluster of two nodes on this machine finds what one process finds."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.checking.block import Block, Order
from tunesmith.checking.check import check
from tunesmith.checking.dedupe import FileTexts
from tunesmith.chunking.chunk import ChunkSettings, chunk
from tunesmith.collecting.readers import read_file
from tunesmith.curating.near import minima_of
from tunesmith.errors import MissingExtra
from tunesmith.files import check_file, dedupe_file
from tunesmith.scaling import ray_data
from tunesmith.scaling.ray_data import check_on_ray, chunk_on_ray, minima_on_ray
from tunesmith.training.settings import settings_from

WORDS = ["graph", "node", "edge", "Café", "naïve", "path", "weight", "don't", "12", "x=1", "shortest", "tree"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start two nodes of one processor each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20})
    started.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield started
    started.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Write 6,000 chats, some of them the same, one broken, with an empty line."""
    chance = random.Random(5)

    def said(count: int) -> str:
        return " ".join(chance.choices(WORDS, k=count))

    rows = [
        json.dumps(
            {"messages": [{"role": "user", "content": said(6)}, {"role": "assistant", "content": said(30)}]}
        )
        for _ in range(6_000)
    ]
    rows[70], rows[900], rows[300] = rows[3], "{", ""
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_cluster_finds_what_one_machine_finds(
    cluster: Any,
    chats: Path,
    family_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The report, the minima and the chunks are the same, and the check also where a node dies on the way."""
    base = family_folder("smollm2")
    order = Order(chats, base, settings_from(["max_length=160"], base=f"path:{base}", objective="answers"))
    monkeypatch.setattr("tunesmith.checking.check.blocks_of", _small_blocks)
    alone = check(order, workers=1)
    assert alone.quality is not None
    assert alone.quality.by_rule["duplicate"] == 1

    assert check_on_ray(order, cluster.address) == alone
    given = check_file(chats, base=f"path:{base}", max_length=160, ray=cluster.address)
    assert (given.inspection.rows, given.quality) == (alone.inspection.rows, alone.quality)
    monkeypatch.setattr(ray_data, "_TEXTS", 1_000)
    with FileTexts(chats) as texts:
        assert np.array_equal(minima_on_ray(texts, cluster.address), minima_of(list(texts)))
    spread, here = tmp_path / "spread.jsonl", tmp_path / "here.jsonl"
    deduplicated = dedupe_file(chats, spread, ray=cluster.address)
    assert replace(deduplicated, out=here, pairs=here) == replace(dedupe_file(chats, here), pairs=here)
    assert deduplicated.near > 0
    assert spread.read_bytes() == here.read_bytes()

    pages = [tmp_path / f"page{number}.md" for number in range(5)]
    for number, page in enumerate(pages):
        page.write_text(f"# Page {number}\n\n" + "Some words here.\n\n" * 200, encoding="utf-8")
    pages.append(tmp_path / "none.bin")
    settings = ChunkSettings(max_tokens=64)
    made = chunk_on_ray(pages, settings, cluster.address)
    assert made.chunks == chunk(
        [read_file(page, name=str(page), source=str(page)) for page in pages[:5]], settings
    )
    assert [(each.rule, each.item) for each in made.rejections] == [("suffix", str(pages[5]))]

    dying = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    removed: list[int] = []

    def kill_one(done: int, total: int, note: str = "") -> None:
        if not removed:
            removed.append(done)
            cluster.remove_node(dying, allow_graceful=False)

    assert check_on_ray(order, cluster.address, on_progress=kill_one) == alone
    assert removed


def _small_blocks(path: Path) -> Iterator[Block]:
    data, start, line = path.read_bytes(), 0, 1
    while start < len(data):
        end = data.find(b"\n", min(start + 60_000, len(data) - 1)) + 1
        yield Block(start, end, line)
        line += data[start:end].count(b"\n")
        start = end


def test_without_ray_or_a_cluster_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not installed: which extra."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="'ray', which is not installed"):
        chunk_on_ray([tmp_path / "a.md"], ChunkSettings())
