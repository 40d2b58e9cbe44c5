"""A file that is moved away from under a store, or replaced: no log is given to a file it is not of."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreUnavailable
from iqdb_core.store import StoreTimeouts, open_store
from iqdb_core.store.databases.sqlite_log import LogFolder
from tests.fixtures.stores import IqdbFile, live_images, put, signature, stands_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from iqdb_core.store import SignatureStore

BEFORE = {k: signature(k + 1) for k in range(100)}


@pytest.fixture(autouse=True)
def log_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the log as the last write left it, however long the test takes."""
    monkeypatch.setattr(LogFolder, "note_write", lambda _self: None)


@pytest.fixture
def store(path: Path) -> Iterator[SignatureStore]:
    with closing(open_store(str(path))) as store:
        store.apply([put(k, k + 1) for k in BEFORE])
        yield store


@pytest.fixture
def backup(store: SignatureStore, path: Path) -> Path:
    """The state BEFORE, from which the store has gone on since."""
    backup = path.with_name("backup.sqlite")
    store.backup(backup)
    store.apply([put(k, 1000 + k) for k in range(50, 300)])
    assert log_of(path).stat().st_size > 0
    return backup


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def remove_logs(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()


def uses(store: SignatureStore) -> list[Callable[[], object]]:
    return [store.ping, lambda: store.apply([put(7, 10**6)]), lambda: store.get(7), store.fold_log]


def test_a_file_put_over_one_with_a_log_is_not_opened(
    store: SignatureStore, backup: Path, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content, log = backup.read_bytes(), log_of(path).read_bytes()
    backup.rename(path)
    for _ in range(6):  # at first there are connections that are still open, then none
        for use in uses(store):
            with pytest.raises(StoreUnavailable, match=r"stop the server, remove iqdb\.sqlite-wal and"):
                use()
    assert (path.read_bytes(), log_of(path).read_bytes()) == (content, log)
    store.close()
    assert (path.read_bytes(), log_of(path).read_bytes()) == (content, log)
    assert any(getattr(record, "action", "") == "log_left" for record in caplog.records)
    remove_logs(path)
    with closing(open_store(str(path))) as again:
        assert live_images(again) == BEFORE
        assert again.check().findings == []


def test_the_log_of_the_file_before_may_be_removed_while_the_store_is_open(
    store: SignatureStore, backup: Path, path: Path
) -> None:
    backup.rename(path)
    with pytest.raises(StoreUnavailable):
        store.ping()
    remove_logs(path)
    assert live_images(store) == BEFORE
    store.apply([put(7, 10**6, 7)])
    store.close()
    assert stands_alone(path)
    assert IqdbFile(path).live() == BEFORE | {7: signature(7)}


def test_the_file_before_may_be_put_back(store: SignatureStore, backup: Path, path: Path) -> None:
    aside, expected = path.with_name("aside"), live_images(store)
    path.rename(aside)
    backup.rename(path)
    for use in uses(store):
        with pytest.raises(StoreUnavailable):
            use()
    aside.rename(path)
    assert live_images(store) == expected
    store.apply([put(7, 10**6, 7)])
    store.close()
    assert IqdbFile(path).live() == expected | {7: signature(7)}


def test_a_file_put_over_one_with_an_empty_log_is_served(
    store: SignatureStore, backup: Path, path: Path
) -> None:
    assert store.fold_log()
    assert log_of(path).stat().st_size == 0
    backup.rename(path)
    assert live_images(store) == BEFORE
    store.apply([put(7, 10**6, 7)])
    assert live_images(store) == BEFORE | {7: signature(7)}
    store.close()
    assert IqdbFile(path).live() == BEFORE | {7: signature(7)}
    assert IqdbFile(path).run("PRAGMA integrity_check") == [("ok",)]


def test_who_is_writing_to_the_file_before_is_waited_for(
    store: SignatureStore, backup: Path, path: Path
) -> None:
    """The log is empty until he commits; then it is one of the file before."""
    with closing(open_store(str(path), timeouts=StoreTimeouts(lock_s=0.1))) as other:
        assert other.fold_log()
        content = backup.read_bytes()
        with store._backend.writing() as connection:
            store._backend.delete_images(connection, [1, 2, 3])
            backup.rename(path)
            for use in (other.ping, lambda: other.apply([put(7, 10**6)])):
                with pytest.raises(StoreUnavailable, match="other writers"):
                    use()
        for each in (store, other):
            with pytest.raises(StoreUnavailable, match="lies beside it"):
                each.ping()
        assert path.read_bytes() == content


def test_a_stop_leaves_the_log_of_a_file_that_was_moved_away(
    store: SignatureStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.rename(path.with_name("away"))
    log = log_of(path).read_bytes()
    assert log
    for use in uses(store):
        with pytest.raises(StoreUnavailable, match="not there any more"):
            use()
    store.close()
    assert not path.exists()
    assert log_of(path).read_bytes() == log
    assert any(getattr(record, "action", "") == "log_left" for record in caplog.records)
    path.with_name("away").rename(path)
    with closing(open_store(str(path))) as again:
        assert live_images(again) == BEFORE
    assert stands_alone(path)


def test_a_stop_right_after_a_file_was_moved_away(store: SignatureStore, path: Path) -> None:
    """All connections are open still; the last one to be closed does not take the log with it."""
    store.ping()
    path.rename(path.with_name("away"))
    store.close()
    assert not path.exists()
    path.with_name("away").rename(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM images").fetchone() == (len(BEFORE),)
    assert IqdbFile(path).live() == BEFORE
