"""Signatures in memory, ranked by likeness. `ImageIndex` is the whole interface."""

from iqdb_core.index.image_index import ImageIndex
from iqdb_core.index.options import IndexOptions
from iqdb_core.index.stats import IndexStats

__all__ = ["ImageIndex", "IndexOptions", "IndexStats"]
