"""Durable truth in SQL, and the feed of its changes in commit order."""

from iqdb_core.store.address import StoreTimeouts
from iqdb_core.store.opening import open_store
from iqdb_core.store.signature_store import SignatureStore

__all__ = ["SignatureStore", "StoreTimeouts", "open_store"]
