"""What the server counts for Prometheus: requests, tokens, jobs and files, as counts; never a key, an id or a word."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from tunesmith.serving.roster import Roster
from tunesmith.serving.store import Store
from tunesmith.serving.tables import Batch, EvalRun, File, Job

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Seconds: reading takes milliseconds, an answer seconds, an upload minutes.
_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The figures of one server."""

    def __init__(self, store: Store, roster: Roster) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tunesmith_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "tunesmith_request_seconds",
            "Seconds from a request to the end of its answer.",
            ("method", "route"),
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self.registry.register(_State(store, roster))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; the route is its template, so that no id is told. Status 0: it was never answered."""
        # Anybody may send any word as a method, and each would be kept.
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class _State(Collector):
    """What is asked of the engines and the database when the figures are read."""

    def __init__(self, store: Store, roster: Roster) -> None:
        self._store, self._roster = store, roster

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of now."""
        labels = ("model",)
        rows = GaugeMetricFamily("tunesmith_engine_rows", "Answers in the making.", labels=labels)
        waiting = GaugeMetricFamily("tunesmith_engine_waiting", "Requests that wait.", labels=labels)
        tokens = CounterMetricFamily(
            "tunesmith_engine_tokens", "Tokens since the model was loaded.", labels=(*labels, "kind")
        )
        for name, load in self._roster.loads():
            rows.add_metric([name], load.rows)
            waiting.add_metric([name], load.waiting)
            tokens.add_metric([name, "read"], load.read)
            tokens.add_metric([name, "said"], load.said)
        yield from (rows, waiting, tokens)
        for name, table in (("jobs", Job), ("batches", Batch), ("eval_runs", EvalRun)):
            found = GaugeMetricFamily(f"tunesmith_{name}", f"Kept {name} by status.", labels=("status",))
            with self._store.read() as session:
                for status, count in session.execute(
                    select(table.status, func.count()).group_by(table.status)
                ):
                    found.add_metric([status], count)
            yield found
        with self._store.read() as session:
            count, total = session.execute(select(func.count(), func.coalesce(func.sum(File.bytes), 0))).one()
        yield GaugeMetricFamily("tunesmith_files", "Files that are kept.", value=count)
        yield GaugeMetricFamily(
            "tunesmith_files_bytes", "Bytes of the files that are kept.", value=int(total)
        )
