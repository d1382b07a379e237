"""Checking, near duplicates, collecting and chunking by Ray Data: the work of one machine, spread over a cluster.

What a worker does is the function that a process of one machine runs, and parts are joined in the file's order, so
that the results are the same. Files are named by their paths and read where the work is done: every machine needs them
at the same place (a shared file system), and the same version of Tunesmith.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.checking.block import Order
from tunesmith.checking.check import Report, check
from tunesmith.checking.dedupe import FileTexts, words_between
from tunesmith.chunking.chunk import ChunkSettings, chunk
from tunesmith.collecting.readers import try_file
from tunesmith.curating.near import MINIMA, minima_of
from tunesmith.errors import DatasetError, MissingExtra, UsageError
from tunesmith.progress import Progress, silent
from tunesmith.records import Chunk, Document, Rejection

if TYPE_CHECKING:
    from numpy import uint32
    from numpy.typing import NDArray

#: The cluster that the environment names (RAY_ADDRESS), else one on this machine.
AUTO: Final = "auto"
_TEXTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Chunked:
    """What became of files: chunks and rejections, in the files' order."""

    chunks: tuple[Chunk, ...]
    rejections: tuple[Rejection, ...]


def check_on_ray(order: Order, address: str = AUTO, *, on_progress: Progress = silent) -> Report:
    """Check a file as `check` does, by a cluster; raises MissingExtra without ray, UsageError without a cluster."""
    with _connected(address) as workers:
        # Workers start in folders of their own.
        placed = replace(order, path=order.path.resolve(), base=order.base.resolve())
        report = check(placed, workers=workers, pool=_RayPool, on_progress=on_progress)
    return replace(report, inspection=replace(report.inspection, path=order.path))


def chunk_on_ray(files: Sequence[Path], settings: ChunkSettings, address: str = AUTO) -> Chunked:
    """Read files and cut them into chunks, by a cluster; each is named as it is given. Raises as `check_on_ray`."""
    with _connected(address) as workers, _RayPool(workers, _nothing) as pool:
        outcomes = list(pool.map(_Chunking(settings), [(file.resolve(), str(file)) for file in files]))
    return Chunked(
        tuple(each for outcome in outcomes if not isinstance(outcome, Rejection) for each in outcome),
        tuple(outcome for outcome in outcomes if isinstance(outcome, Rejection)),
    )


def minima_on_ray(
    texts: FileTexts, address: str = AUTO, *, seed: int = 0, on_progress: Progress = silent
) -> NDArray[uint32]:
    """Return the minima of a file's rows as `minima_of` does, shape (texts, MINIMA). Raises as `check_on_ray`."""
    import numpy as np

    edges = [*range(0, len(texts), _TEXTS), len(texts)]
    parts = [(texts.starts[first], texts.starts[last]) for first, last in itertools.pairwise(edges)]
    whole = np.empty((len(texts), MINIMA), dtype=np.uint32)
    with _connected(address) as workers, _RayPool(workers, _nothing) as pool:
        for first, found in zip(edges, pool.map(_Minima(texts.path.resolve(), seed), parts), strict=False):
            whole[first : first + len(found)] = found
            on_progress(first + len(found), len(texts), "texts")
    return whole


@dataclass(frozen=True, slots=True)
class _Chunking:
    settings: ChunkSettings

    def __call__(self, file: tuple[Path, str]) -> tuple[Chunk, ...] | Rejection:
        path, name = file
        read: Document | Rejection = try_file(path, name=name, source=name)
        return read if isinstance(read, Rejection) else chunk([read], self.settings)


@dataclass(frozen=True, slots=True)
class _Minima:
    path: Path
    seed: int

    def __call__(self, part: tuple[int, int]) -> NDArray[uint32]:
        return minima_of(words_between(self.path, *part), self.seed)


def _nothing() -> None:
    """Make a worker ready that needs nothing."""


# --- a cluster as a pool of processes


@contextmanager
def _connected(address: str) -> Iterator[int]:
    """Yield how many processors the cluster has; a cluster that was joined before stays joined."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("ray", "ray", "work on several machines") from error
    joined_before = ray.is_initialized()
    if not joined_before:
        named = address if address != AUTO else os.environ.get("RAY_ADDRESS")
        try:
            ray.init(address=named, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"no Ray cluster answers at {address}: {error}",
                hint="Start one: ray start --head, and ray start --address HEAD:6379 on the other machines.",
            ) from error
    try:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        yield max(1, int(resources.get("CPU", 1)))
    finally:
        if not joined_before:
            ray.shutdown()


class _RayPool:
    """A pool of workers as `check` expects one: made ready once, then one item after the other, in order."""

    def __init__(self, workers: int, begin: Callable[..., None], *given: object) -> None:
        self._workers, self._ready = workers, (begin, given)

    def __enter__(self) -> _RayPool:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held: Ray Data ends its workers with each map."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield what the function makes of each item, in their order; work of a machine that is lost is done again."""
        import ray
        from ray.exceptions import RayError

        rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items)]
        if not rows:
            return
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        made = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,  # type: ignore[arg-type]  # a class is called once on each worker
            fn_constructor_args=(pickle.dumps((*self._ready, function)),),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(self._workers, len(rows))),
            num_cpus=1,
        )
        waiting: dict[int, bytes] = {}
        wanted = 0
        try:
            for row in made.iter_rows():
                waiting[row["number"]] = row["made"]
                while wanted in waiting:
                    yield pickle.loads(waiting.pop(wanted))
                    wanted += 1
        except RayError as error:
            raise DatasetError(
                f"the cluster did not finish: {str(error).splitlines()[-1]}",
                hint="Every machine needs the file at the same path, and the same version of Tunesmith.",
            ) from error


class _Worker:
    """What a worker of the cluster runs."""

    def __init__(self, order: bytes) -> None:
        begin, given, self._function = pickle.loads(order)
        begin(*given)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {"number": row["number"], "made": pickle.dumps(self._function(pickle.loads(row["item"])))}
