"""What a front end reads of the store: how long a request waits for a database that hangs."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from api.contents.cursor import Cursor
from api.contents.reader import CHUNK_IMAGES, READ_S, ContentsReader
from api.roles.process import GRACE_S
from iqdb_core.errors import StoreUnavailable
from iqdb_core.model import Write
from iqdb_core.store import open_store
from tests.fixtures.stores import signature

if TYPE_CHECKING:
    from pathlib import Path

    from iqdb_core.store import SignatureStore


class HangingStore:
    """A store none of whose reads ends before it is told to."""

    def __init__(self) -> None:
        self.answers = threading.Event()

    def __getattr__(self, _: str) -> Any:
        def read(*_: object) -> list[Any]:
            self.answers.wait(60)
            return []

        return read


def test_closing_ends_abandoned_exports(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "iqdb.sqlite"))
    store.apply([Write(number, 1, signature(number)) for number in range(2 * CHUNK_IMAGES)])

    async def scenario() -> None:
        reader = ContentsReader(lambda: store)
        stalled, ended = reader.export_lines(), reader.export_lines()
        for lines in (stalled, ended):
            assert (await anext(lines)).count(b"\n") == CHUNK_IMAGES
        await ended.aclose()
        reader.close()
        store.apply([Write(0, 2, None)])
        store.close()
        # The last connection folds the log into the file, unless somebody reads yet.
        assert not (tmp_path / "iqdb.sqlite-wal").exists()
        # A part that looks like the whole would be taken for it.
        with pytest.raises((StoreUnavailable, RuntimeError)):
            await anext(stalled)
        await stalled.aclose()

    asyncio.run(scenario())


def test_no_read_of_a_database_that_hangs_outlasts_the_end_of_a_server() -> None:
    async def scenario() -> None:
        store = HangingStore()
        reader = ContentsReader(lambda: cast("SignatureStore", store), read_s=0.05)
        try:
            async with asyncio.timeout(30):
                # More than there are threads.
                for _ in range(3):
                    for read in (
                        reader.ids_after(0, 1),
                        reader.missing([1]),
                        reader.source_of(1),
                        reader.changes(Cursor(0, None), 1, 60),
                    ):
                        with pytest.raises(StoreUnavailable, match="does not answer"):
                            await read
        finally:
            store.answers.set()
            reader.close()

    asyncio.run(scenario())
    assert READ_S < GRACE_S
