"""Durable truth in SQL, and the feed of its changes in commit order."""

from iqdb_core.store.address import StoreTimeouts
from iqdb_core.store.contents.check import CheckReport, Finding
from iqdb_core.store.contents.export import ExportedImage
from iqdb_core.store.contents.listing import ListedImage
from iqdb_core.store.opening import open_store, read_store_id
from iqdb_core.store.receiver import Receiver
from iqdb_core.store.signature_store import SignatureStore

__all__ = [
    "CheckReport",
    "ExportedImage",
    "Finding",
    "ListedImage",
    "Receiver",
    "SignatureStore",
    "StoreTimeouts",
    "open_store",
    "read_store_id",
]
