"""What is looked up when somebody asks: the index, the queue, the query nodes.

Each is a collector of prometheus-client; the composition roots add those that their role has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Final

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from api.search.query_node import NodeState, QueryNode
from iqdb_core.errors import QueueUnavailable
from iqdb_core.follower import Follower, FollowerState
from iqdb_core.index import ImageIndex
from iqdb_core.jobs import JobLedger
from iqdb_core.jobs.stages import BUCKETS_S

_FOLLOWING: Final = "How the index follows the store: 1 for the state it is in."


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _one_of(name: str, text: str, states: Iterable[str], current: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state in states:
        family.add_metric([state], float(state == current))
    return family


class IndexCollector(Collector):
    """The index of this process and how far it is behind the store."""

    def __init__(self, index: ImageIndex, follower: Follower) -> None:
        self._index = index
        self._follower = follower

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of the index."""
        stats = self._index.stats()
        head = max(self._follower.head_seen, stats.applied_seq)
        yield _gauge("iqdb_images", "Images that can be found.", stats.images)
        yield _gauge("iqdb_dead_images", "Deleted images that still take memory.", stats.dead_images)
        yield _gauge("iqdb_segments", "Sealed segments.", stats.segments)
        yield _gauge("iqdb_head_rows", "Images in the growing part of the index.", stats.head_rows)
        yield _gauge("iqdb_index_bytes", "Memory of the index.", stats.resident_bytes)
        yield _gauge("iqdb_applied_seq", "The newest change in the index.", stats.applied_seq)
        yield _gauge("iqdb_head_seq", "The newest change in the store, as far as is known.", head)
        yield _gauge("iqdb_lag_seq", "Changes that the index has yet to apply.", head - stats.applied_seq)
        if stats.checkpoint_age_s is not None:
            age = "Seconds since the checkpoint was saved."
            yield _gauge("iqdb_checkpoint_age_seconds", age, stats.checkpoint_age_s)
        if stats.checkpoint_seq is not None:
            yield _gauge("iqdb_checkpoint_seq", "The newest change in the checkpoint.", stats.checkpoint_seq)
        yield _gauge(
            "iqdb_maintenance_trouble",
            "1 while merging or saving fails; the log and /status say why.",
            float(stats.maintenance == "failed" or stats.maintenance_error is not None),
        )
        states = [state.value for state in FollowerState]
        yield _one_of("iqdb_follower_state", _FOLLOWING, states, self._follower.state.value)


class QueueCollector(Collector):
    """The queue that all front ends and workers share."""

    def __init__(self, ledger: JobLedger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of the queue; only that it is away, when it is."""
        try:
            depth = self._ledger.depth()
            lanes = self._ledger.lanes()
            stages = self._ledger.stages()
            workers = self._ledger.workers()
        except QueueUnavailable:
            yield _gauge("iqdb_queue_up", "1 if the queue answers.", 0)
            return
        yield _gauge("iqdb_queue_up", "1 if the queue answers.", 1)
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
        yield _gauge("iqdb_queue_bytes", "Bytes of payloads in the queue.", depth.payload_bytes)
        spent = HistogramMetricFamily(
            "iqdb_worker_stage_seconds", "What workers spend their time on, all together.", labels=["stage"]
        )
        for stage, totals in stages.items():
            bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
            spent.add_metric(
                [stage], list(zip(bounds, accumulate(totals.counts), strict=True)), totals.total_s
            )
        yield spent
        yield _gauge("iqdb_workers", "Workers that gave a sign of life lately.", len(workers))


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
