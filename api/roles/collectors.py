"""Metrics of an index that are read when `/metrics` is asked.

Collectors of prometheus-client, added by the composition roots of roles that have an index. Those of queue
and query nodes are in `remote_collectors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from iqdb_core.follower import Follower
from iqdb_core.following import FollowerState
from iqdb_core.index import ImageIndex

_FOLLOWING: Final = "How the index follows the store: 1 for the state it is in."


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a metric of one value."""
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
        yield gauge("iqdb_images", "Images that can be found.", stats.images)
        yield gauge("iqdb_dead_images", "Deleted images that still take memory.", stats.dead_images)
        yield gauge("iqdb_segments", "Sealed segments.", stats.segments)
        yield gauge("iqdb_head_rows", "Images in the growing part of the index.", stats.head_rows)
        yield gauge("iqdb_index_bytes", "Memory of the index.", stats.resident_bytes)
        yield gauge("iqdb_applied_seq", "The newest change in the index.", stats.applied_seq)
        yield gauge("iqdb_head_seq", "The newest change in the store, as far as is known.", head)
        yield gauge("iqdb_lag_seq", "Changes that the index has yet to apply.", head - stats.applied_seq)
        if stats.checkpoint_age_s is not None:
            age = "Seconds since the checkpoint was saved."
            yield gauge("iqdb_checkpoint_age_seconds", age, stats.checkpoint_age_s)
        if stats.checkpoint_seq is not None:
            yield gauge("iqdb_checkpoint_seq", "The newest change in the checkpoint.", stats.checkpoint_seq)
        yield gauge(
            "iqdb_maintenance_trouble",
            "1 while merging or saving fails; the log and /status say why.",
            float(stats.maintenance == "failed" or stats.maintenance_error is not None),
        )
        states = [state.value for state in FollowerState]
        yield _one_of("iqdb_follower_state", _FOLLOWING, states, self._follower.state.value)


class WritesCollector(Collector):
    """Whether this process can store writes.

    Parameters
    ----------
    last_error : callable
        Returns why the last commit failed, None if it succeeded.
    """

    def __init__(self, last_error: Callable[[], str | None]) -> None:
        self._last_error = last_error

    def collect(self) -> Iterable[Metric]:
        """Yield the metric."""
        text = "1 while writes cannot be stored; the log and /status say why."
        yield gauge("iqdb_write_trouble", text, float(self._last_error() is not None))
