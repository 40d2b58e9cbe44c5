"""Metrics of the queue and the query nodes that are read when a front end's `/metrics` is asked.

Collectors of prometheus-client. Apart from `collectors`, because only front ends load the clients of Redis
and HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Final

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from api.roles.collectors import gauge
from api.search.query_node import NodeState, QueryNode
from iqdb_core.errors import QueueUnavailable
from iqdb_core.jobs import JobLedger
from iqdb_core.jobs.model import BUCKETS_S

_UP: Final = "1 if the queue answers, and took the last jobs that it was given."


class QueueCollector(Collector):
    """The queue that all front ends and workers share."""

    def __init__(self, ledger: JobLedger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of the queue; if it is unreachable, only that."""
        try:
            depth = self._ledger.depth()
            lanes = self._ledger.lanes()
            stages = self._ledger.stages()
            workers = self._ledger.count_workers()
        except QueueUnavailable:
            yield gauge("iqdb_queue_up", _UP, 0)
            return
        yield gauge("iqdb_queue_up", _UP, float(self._ledger.refusal is None))
        jobs = GaugeMetricFamily(
            "iqdb_queue_jobs", "Jobs by state; those that wait by lane.", labels=["state", "lane"]
        )
        oldest = GaugeMetricFamily(
            "iqdb_queue_oldest_seconds", "Age of the oldest job that waits.", labels=["lane"]
        )
        for lane, (count, oldest_s) in lanes.items():
            jobs.add_metric(["queued", lane], count)
            oldest.add_metric([lane], oldest_s)
        jobs.add_metric(["running", ""], depth.running)
        jobs.add_metric(["failed", ""], depth.failed)
        yield jobs
        yield oldest
        yield gauge("iqdb_queue_bytes", "Bytes of payloads in the queue.", depth.payload_bytes)
        spent = HistogramMetricFamily(
            "iqdb_worker_stage_seconds", "What workers spend their time on, all together.", labels=["stage"]
        )
        for stage, totals in stages.items():
            bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
            spent.add_metric(
                [stage], list(zip(bounds, accumulate(totals.counts), strict=True)), totals.total_s
            )
        yield spent
        yield gauge("iqdb_workers", "Workers that gave a sign of life lately.", workers)


class NodeCollector(Collector):
    """The query nodes as this front end sees them."""

    def __init__(self, nodes: Callable[[], Iterable[QueryNode]]) -> None:
        self._nodes = nodes

    def collect(self) -> Iterable[Metric]:
        """Yield the state of each node."""
        family = GaugeMetricFamily(
            "iqdb_node_state", "How a query node is: 1 for the state it is in.", labels=["node", "state"]
        )
        busy = GaugeMetricFamily("iqdb_node_requests", "Requests under way to a node.", labels=["node"])
        for node in self._nodes():
            for state in NodeState:
                family.add_metric([node.url, state], float(state is node.state))
            busy.add_metric([node.url], node.in_flight)
        yield family
        yield busy
