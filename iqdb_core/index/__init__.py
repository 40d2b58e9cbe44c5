"""Signatures in memory, ranked by likeness. `ImageIndex` is the whole interface; `compare` needs no index."""

from iqdb_core.index.evidence.pair import compare
from iqdb_core.index.image_index import ImageIndex
from iqdb_core.index.options import IndexOptions
from iqdb_core.index.stats import IndexStats
from iqdb_core.index.warm_up import load_for_queries, warm_up

__all__ = ["ImageIndex", "IndexOptions", "IndexStats", "compare", "load_for_queries", "warm_up"]
