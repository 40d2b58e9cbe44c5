"""The instruments of one process: requests and stages, counted as they happen.

Dashboards and alerts in `deploy/` depend on the names; a test checks that they agree. Costs some microseconds
per request. Made by the composition roots.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api.metrics.stages import Stage
from iqdb_core.jobs.model import BUCKETS_S

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Instruments:
    """Counters and histograms of one process, and the registry that renders them."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._started_s = monotonic()
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        info = Gauge("iqdb_info", "The version that runs; always 1.", ["version"], registry=self.registry)
        info.labels(version).set(1)
        self._requests = Counter(
            "iqdb_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._request_s = Histogram(
            "iqdb_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._stage_s = Histogram(
            "iqdb_stage_seconds",
            "What requests spend their time on.",
            ["stage"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        # Looking up a metric by its labels costs more than counting, so each is kept.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._stages = {stage: self._stage_s.labels(stage.value) for stage in Stage}

    @property
    def uptime_s(self) -> float:
        """Seconds since the process began to serve."""
        return monotonic() - self._started_s

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (method, route, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._requests.labels(method, route, str(status))
        histogram = self._histograms.get(route)
        if histogram is None:
            histogram = self._histograms[route] = self._request_s.labels(route)
        counter.inc()
        histogram.observe(seconds)

    def observe(self, stage: Stage, seconds: float) -> None:
        """Count one run of a stage; from any thread."""
        self._stages[stage].observe(seconds)

    def add(self, collector: Collector) -> None:
        """Add a collector, which is read at each request of `/metrics`."""
        self.registry.register(collector)

    def render(self) -> bytes:
        """Return all metrics as text for Prometheus; may wait for the queue, so not on the event loop."""
        return generate_latest(self.registry)
