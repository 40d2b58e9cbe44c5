"""Options refuse what cannot work."""

from __future__ import annotations

from typing import Any

import pytest

from iqdb_core.index import IndexOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head_capacity", 0),
        ("head_capacity", 65_537),
        ("merge_fan_out", 1),
        ("max_dead_share", 0.0),
        ("max_dead_share", 1.1),
        ("concurrent_queries", 0),
        ("query_threads", 0),
        ("checkpoint_interval_s", 0.0),
        ("checkpoint_changes", 0),
    ],
)
def test_value_outside_its_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        IndexOptions(**{name: value})
