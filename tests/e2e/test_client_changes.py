"""The client's view of the feed: pages, cursors, and a mirror that lives through a restore."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import textwrap
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from iqdb_client import AsyncClient, Change, Client, Refused
from iqdb_client.clients import PAGE
from iqdb_core import codec
from tests.fixtures.servers import embedded_server
from tests.fixtures.stores import signature

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENT = Path(__file__).parents[2] / "docs" / "client.md"
HASHES = [codec.to_hash(signature(number)) for number in range(60)]


def exported(client: Client) -> dict[int, str]:
    lines = b"".join(client.export()).splitlines()
    return {image["post_id"]: image["hash"] for image in map(json.loads, lines)}


def documented() -> Callable[[Client, dict[int, str], int | str], int | str]:
    """Return the function that the document shows, which waits for nothing here."""
    text = DOCUMENT.read_text().partition("## A mirror")[2]
    block = re.search(r"^    def follow.*?return page\.next$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {"Refused": Refused}
    exec(textwrap.dedent(block[0]).replace("wait_s=20", "wait_s=0"), names)  # noqa: S102 - what readers copy
    follow: Callable[[Client, dict[int, str], int | str], int | str] = names["follow"]
    return follow


def put_back(copy: Path, database: Path) -> None:
    for ending in ("-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)
    copy.replace(database)


def test_a_mirror_notices_that_the_database_was_put_back(tmp_path: Path) -> None:
    database, copy = tmp_path / "iqdb.sqlite", tmp_path / "copy.sqlite"
    mirror: dict[int, str] = {}
    follow = documented()
    with embedded_server(database) as server, Client(server.url) as client:
        client.add_many(dict(enumerate(HASHES[:20])))
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        client.add_many({100 + number: known for number, known in enumerate(HASHES[20:30])})
        client.delete(3)
        since = follow(client, mirror, 0)
        assert mirror == exported(client)
        assert server.terminate() == 0
    put_back(copy, database)
    with embedded_server(database) as server, Client(server.url) as client:
        client.add_many({200 + number: known for number, known in enumerate(HASHES[30:])})
        for ask in (lambda: client.changes_page(since), lambda: list(client.changes(since))):
            with pytest.raises(Refused) as caught:
                ask()
            assert caught.value.status == 409
        since = follow(client, mirror, since)
        since = follow(client, mirror, since)
        assert mirror == exported(client)
        assert 200 in mirror
        assert 100 not in mirror
        assert client.changes_page(since).changes == ()


def test_changes_have_sources_and_come_page_by_page(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "iqdb.sqlite") as server, Client(server.url) as client:
        wanted = {number: HASHES[number % len(HASHES)] for number in range(PAGE + 5)}
        client.add_many({number: wanted[number] for number in range(7)}, sources={2: "https://example.org/2"})
        client.add_many({number: wanted[number] for number in range(7, PAGE + 5)})
        client.delete(5)
        found = list(client.changes())
        assert {change.post_id: change.hash for change in found} == {**wanted, 5: None}
        assert [change.post_id for change in found if change.source] == [2]
        assert found[2].source == "https://example.org/2"
        assert [change.seq for change in found] == sorted({change.seq for change in found})
        assert list(client.changes(found[3].seq)) == found[4:]
        page = client.changes_page(limit=2)
        assert page.changes == tuple(found[:2])
        assert list(client.changes(page.next)) == found[2:]

        async def ask() -> tuple[list[Change], tuple[Change, ...]]:
            async with AsyncClient(server.url) as made:
                page_after = await made.changes_page(page.next, limit=3)
                return [change async for change in made.changes()], page_after.changes

        assert asyncio.run(ask()) == (found, tuple(found[2:5]))
