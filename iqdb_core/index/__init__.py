"""Signatures in memory, ranked by likeness. `ImageIndex` is the whole interface."""

from iqdb_core.index.image_index import ImageIndex
from iqdb_core.index.options import IndexOptions
from iqdb_core.index.stats import IndexStats
from iqdb_core.index.warm_up import load_for_queries, warm_up

__all__ = ["ImageIndex", "IndexOptions", "IndexStats", "load_for_queries", "warm_up"]
