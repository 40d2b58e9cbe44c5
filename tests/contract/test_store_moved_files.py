"""A file that is moved away from under a store, or replaced: no log is given to a file it is not of."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from iqdb_core.errors import StoreInvalid, StoreUnavailable
from iqdb_core.store import StoreTimeouts, open_store, schema
from tests.fixtures.stores import (
    IqdbFile,
    all_changes,
    fold_log,
    live_images,
    log_of,
    put,
    remove_logs,
    signature,
    stands_alone,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from iqdb_core.store import SignatureStore

pytestmark = pytest.mark.usefixtures("log_stays")

BEFORE = {k: signature(k + 1) for k in range(100)}


@pytest.fixture(params=["by its name", "by a link"])
def store(path: Path, request: pytest.FixtureRequest) -> Iterator[SignatureStore]:
    name = path
    if request.param == "by a link":
        name = path.with_name("link.sqlite")
        name.symlink_to(path)
    with closing(open_store(str(name))) as store:
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


def uses(store: SignatureStore) -> list[Callable[[], object]]:
    return [
        store.live_count,
        lambda: store.apply([put(7, 10**6)]),
        lambda: store.get(7),
        lambda: fold_log(store),
    ]


def test_a_file_put_over_one_with_a_log_is_not_opened(
    store: SignatureStore, backup: Path, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content, log = backup.read_bytes(), log_of(path).read_bytes()
    backup.rename(path)
    for _ in range(6):  # at first there are connections that are still open, then none
        for use in uses(store):
            with pytest.raises(StoreUnavailable, match=r"stop the server, move iqdb\.sqlite-wal and"):
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
        store.live_count()
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
    assert fold_log(store)
    assert log_of(path).stat().st_size == 0
    backup.rename(path)
    assert live_images(store) == BEFORE
    store.apply([put(7, 10**6, 7)])
    assert live_images(store) == BEFORE | {7: signature(7)}
    store.close()
    assert IqdbFile(path).live() == BEFORE | {7: signature(7)}
    assert IqdbFile(path).run("PRAGMA integrity_check") == [("ok",)]


def put_in_place(new: Path, path: Path, store: SignatureStore) -> None:
    """Replace the file of a store at rest."""
    assert fold_log(store)
    new.rename(path)


def test_what_other_programs_did_to_the_new_file_is_noticed(
    store: SignatureStore, path: Path, backup: Path
) -> None:
    head = len(BEFORE)
    edited = IqdbFile(backup)
    for post_id in (3, 4):
        edited.remove(post_id)
    edited.replace(5, signature(500))
    edited.add(1000, signature(1001))
    expected = {k: v for k, v in BEFORE.items() if k not in {3, 4}} | {
        5: signature(500),
        1000: signature(1001),
    }
    put_in_place(backup, path, store)
    assert live_images(store) == expected
    told = {image_id: found for _, image_id, found in all_changes(store, cursor=head)}
    assert told == {3: None, 4: None, 5: signature(500), 1000: signature(1001)}
    store.apply([put(7, 10**6, 7)])
    assert store.check().findings == []
    store.close()
    assert stands_alone(path)


def test_a_file_of_iqdb_is_taken_over_in_place_of_a_store(store: SignatureStore, path: Path) -> None:
    """Whoever looks first, and however many look at once."""
    file = IqdbFile(path.with_name("new.sqlite")).create()
    for k in range(200, 220):
        file.add(k, signature(k))
    expected = file.live()
    digest = file.table_digest()
    put_in_place(file.path, path, store)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: live_images(store), range(16)))
    assert found == [expected] * 16
    assert (store.live_count(), store.head_seq()) == (20, 20)
    assert store.check().findings == []
    store.close()
    assert IqdbFile(path).table_digest() == digest


def test_the_name_of_the_store_is_that_of_the_file_that_is_there(store: SignatureStore, path: Path) -> None:
    new = path.with_name("new.sqlite")
    with closing(open_store(str(new))) as other:
        name = other.store_id
    assert store.store_id != name
    put_in_place(new, path, store)
    store.changes_since(0, 1)
    assert store.store_id == name


def test_a_write_is_the_first_to_meet_the_new_file(store: SignatureStore, path: Path) -> None:
    file = IqdbFile(path.with_name("new.sqlite")).create()
    file.add(1, signature(1001))
    put_in_place(file.path, path, store)
    store.apply([put(7, 10**6, 7)])
    assert live_images(store) == {1: signature(1001), 7: signature(7)}
    assert [seq for seq, *_ in all_changes(store)] == [1, 2]


def empty(path: Path) -> None:
    path.touch()


def foreign(path: Path) -> None:
    IqdbFile(path).run("CREATE TABLE posts (id INTEGER PRIMARY KEY)")


def half_copied(path: Path) -> None:
    content = path.with_name("backup.sqlite").read_bytes()
    path.write_bytes(content[: len(content) // 2 // 4096 * 4096])


@pytest.mark.parametrize("make", [empty, foreign, half_copied])
def test_a_new_file_that_is_no_store_is_left_alone_until_one_is_there(
    store: SignatureStore, backup: Path, path: Path, make: Callable[[Path], None]
) -> None:
    new = path.with_name("new.sqlite")
    make(new)
    content = new.read_bytes()
    put_in_place(new, path, store)
    for use in (store.live_count, lambda: store.apply([put(7, 10**6)])):
        with pytest.raises(StoreUnavailable, match="another file was put here, and is not served"):
            use()
    assert path.read_bytes() == content
    put_in_place(backup, path, store)
    assert live_images(store) == BEFORE


def write_while_it_is_replaced(
    store: SignatureStore, backup: Path, path: Path, other: SignatureStore
) -> None:
    with store._backend.writing() as connection:
        store._backend.delete_images(connection, [1, 2, 3])
        backup.rename(path)
        for use in (other.live_count, lambda: other.apply([put(7, 10**6)])):
            with pytest.raises(StoreUnavailable, match="other writers"):
                use()


def test_who_is_writing_to_the_file_before_is_waited_for(
    store: SignatureStore, backup: Path, path: Path
) -> None:
    """The log is empty until he commits; then it is one of the file before."""
    with closing(open_store(str(path), timeouts=StoreTimeouts(lock_s=0.1))) as other:
        assert fold_log(other)
        content = backup.read_bytes()
        with pytest.raises(StoreUnavailable, match="moved while it was written"):
            write_while_it_is_replaced(store, backup, path, other)
        for each in (store, other):
            with pytest.raises(StoreUnavailable, match="lies beside it"):
                each.live_count()
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
    with pytest.raises(StoreInvalid, match="not there, but its log is: move the file back"):
        open_store(str(path))
    assert log_of(path).read_bytes() == log
    path.with_name("away").rename(path)
    with closing(open_store(str(path))) as again:
        assert live_images(again) == BEFORE
    assert stands_alone(path)


def test_a_stop_right_after_a_file_was_moved_away(store: SignatureStore, path: Path) -> None:
    """All connections are open still; the last one to be closed does not take the log with it."""
    store.live_count()
    path.rename(path.with_name("away"))
    store.close()
    assert not path.exists()
    path.with_name("away").rename(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM images").fetchone() == (len(BEFORE),)
    assert IqdbFile(path).live() == BEFORE


def test_a_file_that_is_moved_away_during_a_start_does_not_come_back_empty(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would remove its log as well, and with that what a server that was killed had acknowledged."""
    with closing(open_store(str(path))) as store:
        store.apply([put(k, k + 1) for k in BEFORE])
        files = path, log_of(path)
        killed = [file.read_bytes() for file in files]
    for file, content in zip(files, killed, strict=True):
        file.write_bytes(content)
    check_images = schema.check_images

    def moved(connection: sa.Connection, name: str) -> bool:
        found = check_images(connection, name)
        if not path.with_name("away").exists():
            path.rename(path.with_name("away"))
        return found

    monkeypatch.setattr(schema, "check_images", moved)
    with pytest.raises(StoreInvalid, match="cannot be opened"):
        open_store(str(path))
    monkeypatch.undo()
    assert not path.exists()
    path.with_name("away").rename(path)
    assert IqdbFile(path).live() == BEFORE


def test_a_folder_that_is_a_folder_no_more_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with closing(open_store(str(folder / "iqdb.sqlite"))) as store:
        store.apply([put(1, 1)])
        assert fold_log(store)
        folder.rename(tmp_path / "away")
        folder.touch()
        for use in uses(store)[:3]:
            with pytest.raises(StoreUnavailable, match=r"lock file .* cannot be opened|not there any more"):
                use()
        folder.unlink()
        (tmp_path / "away").rename(folder)
        store.apply([put(2, 2)])
        assert live_images(store) == {1: signature(1), 2: signature(2)}
