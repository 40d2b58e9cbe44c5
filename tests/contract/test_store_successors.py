"""What is put in the place of a store that is open: served when it can be, and nothing is lost by trying."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreUnavailable
from iqdb_core.store import StoreTimeouts, open_store, opening
from tests.fixtures.stores import (
    ADD,
    READ,
    IqdbFile,
    assert_sound,
    fold_log,
    live_images,
    log_of,
    program,
    put,
    remove_logs,
    signature,
    stands_alone,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iqdb_core.model import Signature
    from iqdb_core.store import SignatureStore

pytestmark = pytest.mark.usefixtures("log_stays")

BEFORE = {k: signature(k + 1) for k in range(20)}
AFTER = {k: signature(k + 1) for k in range(100, 130)}


@pytest.fixture
def store(path: Path) -> Iterator[SignatureStore]:
    with closing(open_store(str(path))) as store:
        store.apply([put(k, k + 1) for k in BEFORE])
        yield store


@pytest.fixture
def new(path: Path) -> Path:
    """Another store, closed."""
    new = path.with_name("new.sqlite")
    with closing(open_store(str(new))) as other:
        other.apply([put(k, k + 1) for k in AFTER])
    return new


def open_numbers() -> set[int]:
    """Return the inodes that this process has open."""
    found = set()
    for entry in Path("/dev/fd").iterdir():
        with suppress(OSError):  # the listing's own
            found.add(os.fstat(int(entry.name)).st_ino)
    return found


def refused_uses(store: SignatureStore, match: str) -> None:
    for use in (store.live_count, lambda: store.apply([put(7, 10**6)]), lambda: store.get(7)):
        with pytest.raises(StoreUnavailable, match=match):
            use()


def lead(link: Path, target: Path) -> None:
    """Let a link lead elsewhere from one moment to the next."""
    other = link.with_name("other link")
    other.symlink_to(target)
    other.rename(link)


def test_the_log_of_a_file_behind_a_link_is_folded(path: Path) -> None:
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    with closing(open_store(str(link))) as store:
        store.apply([put(k, k + 1) for k in BEFORE])
        assert log_of(path).stat().st_size > 0
        assert fold_log(store)
        assert log_of(path).stat().st_size == 0
        copy = path.with_name("copy.sqlite")
        shutil.copyfile(link, copy)
        assert IqdbFile(copy).live() == BEFORE


def test_who_writes_by_a_link_takes_turns_with_who_writes_by_the_name(path: Path) -> None:
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    with closing(open_store(str(path))) as store, closing(open_store(str(link))) as linked:
        store.apply([put(1, 1)])
        linked.apply([put(2, 2)])
        assert not list(path.parent.glob(".link.sqlite.*"))
        assert list(path.parent.glob(f".{path.name}.*"))


def test_a_link_that_leads_elsewhere_is_followed(store: SignatureStore, path: Path, new: Path) -> None:
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    with closing(open_store(str(link))) as linked:
        assert live_images(linked) == BEFORE
        lead(link, new)
        assert log_of(path).stat().st_size > 0, "of the file that the link led to, and no reason to refuse"
        assert live_images(linked) == AFTER
        linked.apply([put(7, 10**6, 7)])
    assert live_images(store) == BEFORE
    assert IqdbFile(new).live() == AFTER | {7: signature(7)}


def test_a_file_that_moved_on_behind_its_link_is_served_with_its_log(path: Path) -> None:
    """Its log has another name now; what was in the old one when the file moved was folded before."""
    with closing(open_store(str(path))) as store:
        store.apply([put(1, 1)])
        assert fold_log(store)
        moved = path.with_name("moved.sqlite")
        path.rename(moved)
        path.symlink_to(moved)
        store.apply([put(2, 2)])
        assert log_of(moved).stat().st_size > 0
        assert not log_of(path).exists()
        assert fold_log(store)
        assert IqdbFile(moved).live() == {1: signature(1), 2: signature(2)}


def test_a_link_that_comes_back_finds_the_file_whole(path: Path, new: Path) -> None:
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    with closing(open_store(str(link))) as store:
        store.apply([put(1, 1)])
        for target, images in ((new, AFTER), (path, {1: signature(1)})):
            lead(link, target)
            assert live_images(store) == images
        assert not log_of(new).exists(), "nobody has it open"
        store.apply([put(2, 2)])
    assert IqdbFile(path).live() == {1: signature(1), 2: signature(2)}


def test_the_folder_that_a_link_led_to_may_be_removed(tmp_path: Path, new: Path) -> None:
    """As releases are put in place: each in a folder of its own."""
    first, current = tmp_path / "first", tmp_path / "current"
    first.mkdir()
    current.symlink_to(first)
    with closing(open_store(str(current / new.name))) as store:
        store.apply([put(1, 1)])
        lead(current, new.parent)
        shutil.rmtree(first)
        store.apply([put(2, 10**6, 2)])
        assert live_images(store) == AFTER | {2: signature(2)}


def test_who_still_reads_the_file_before_closes_it_then(store: SignatureStore, path: Path, new: Path) -> None:
    assert fold_log(store)
    number = path.stat().st_ino
    with store._backend.reading() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM images").all()
        new.rename(path)
        assert live_images(store) == AFTER
        assert number in open_numbers()
    store.live_count()
    assert number not in open_numbers()


@pytest.mark.skipif(sys.platform != "linux", reason="inodes can be kept on Linux only")
def test_a_file_that_is_gone_lends_its_number_to_none(store: SignatureStore, path: Path, new: Path) -> None:
    """A file system may give it to the next file at once; it would pass for the one that is gone."""
    number = path.stat().st_ino
    path.unlink()
    for _ in range(5):  # until no connection is open any more
        refused_uses(store, "not there any more")
    assert number in open_numbers()
    new.rename(path)
    refused_uses(store, "lies beside it")
    log_of(path).unlink()
    assert live_images(store) == AFTER
    assert number not in open_numbers(), "what a large file took is free again"


def test_nobody_is_told_to_remove_a_log_that_came_with_its_file(
    store: SignatureStore, path: Path, new: Path
) -> None:
    assert fold_log(store)
    with closing(open_store(str(new))) as other:
        other.apply([put(7, 10**6, 7)])
        for name, place in ((new, path), (log_of(new), log_of(path))):
            copy = place.with_name("copy")
            shutil.copyfile(name, copy)
            copy.rename(place)
    refused_uses(
        store,
        "if it came with the file, or other programs have the file open, start the server again; if not",
    )
    store.close()
    assert log_of(path).exists()
    with closing(open_store(str(path))) as again:
        assert live_images(again) == AFTER | {7: signature(7)}


def test_what_is_written_into_a_file_just_replaced_is_not_acknowledged(
    store: SignatureStore, path: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fold_log(store)
    backend = store._backend
    set_counter = backend.set_counter

    def replaced(*arguments: object) -> None:
        set_counter(*arguments)  # type: ignore[arg-type]
        new.rename(path)

    monkeypatch.setattr(backend, "set_counter", replaced)
    with pytest.raises(StoreUnavailable, match="moved while it was written"):
        store.apply([put(7, 10**6, 7)])
    monkeypatch.undo()
    remove_logs(path)
    store.apply([put(8, 10**6, 8)])
    assert live_images(store) == AFTER | {8: signature(8)}


def test_a_file_that_goes_while_it_is_taken_over_is_not_made_anew(
    store: SignatureStore, path: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fold_log(store)
    make_current = opening.make_current

    def gone(*arguments: object) -> None:
        path.rename(new)
        make_current(*arguments)  # type: ignore[arg-type]

    new.rename(path)
    monkeypatch.setattr(opening, "make_current", gone)
    with pytest.raises(StoreUnavailable):
        store.live_count()
    monkeypatch.undo()
    assert not path.exists()
    refused_uses(store, "not there any more")
    assert not path.exists()
    new.rename(path)
    assert live_images(store) == AFTER


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE iqdb_store SET head_seq = NULL",
        "UPDATE iqdb_store SET head_seq = 9223372036854775807",
        "UPDATE iqdb_store SET live_count = 'many'",
        "UPDATE iqdb_store SET max_revision = 'new'",
        "DROP TABLE iqdb_lineage",
        "DELETE FROM iqdb_store",
    ],
)
def test_a_store_whose_rows_make_no_sense_ends_nobody(
    store: SignatureStore, path: Path, new: Path, damage: str
) -> None:
    assert fold_log(store)
    with closing(sqlite3.connect(new)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '')")
    IqdbFile(new).run(damage)
    good = path.with_name("good.sqlite")
    shutil.copyfile(path, good)
    new.rename(path)
    for use in (store.live_count, lambda: store.changes_since(0, 100), lambda: store.apply([put(7, 10**6)])):
        with pytest.raises(StoreUnavailable):
            use()
    good.rename(path)
    assert live_images(store) == BEFORE


def test_a_file_that_is_refused_is_read_again_when_it_has_changed(
    store: SignatureStore, path: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fold_log(store)
    reads: list[Path] = []
    check_images: Callable[..., bool] = opening.schema.check_images

    def counted(*arguments: object) -> bool:
        reads.append(path)
        return check_images(*arguments)

    monkeypatch.setattr(opening.schema, "check_images", counted)
    content = new.read_bytes()
    path.with_name("half").write_bytes(content[: len(content) // 2 // 4096 * 4096])
    path.with_name("half").rename(path)
    for _ in range(5):
        refused_uses(store, "another file was put here, and is not served")
    assert len(reads) <= 1
    path.write_bytes(content)
    assert live_images(store) == AFTER
    store.close()
    assert stands_alone(path)


@pytest.fixture
def larger(new: Path) -> dict[int, Signature]:
    """What is in the other store, which takes more pages than the one before."""
    with closing(open_store(str(new))) as other:
        other.apply([put(k, k + 1) for k in range(200, 400)])
        return live_images(other)


def test_who_still_has_the_file_before_open_spoils_nothing_of_the_new_one(
    store: SignatureStore, path: Path, new: Path, larger: dict[int, Signature]
) -> None:
    """All who have a file open share what they know of its log, by its name, and so how many pages it has."""
    assert fold_log(store)
    with program(path, READ):
        new.rename(path)
        assert live_images(store) == larger
        store.apply([put(7, 10**6, 7)])
        assert store.check().findings == []


def test_who_still_has_the_file_before_open_spoils_no_start(
    store: SignatureStore, path: Path, new: Path, larger: dict[int, Signature]
) -> None:
    with program(path, READ):
        assert fold_log(store)
        store.close()
        assert log_of(path).exists(), "somebody has it open"
        new.rename(path)
        with closing(open_store(str(path))) as started:
            assert live_images(started) == larger
    assert IqdbFile(path).live() == larger


def test_who_opened_the_new_file_with_the_log_of_the_one_before_keeps_it(
    store: SignatureStore, path: Path, new: Path
) -> None:
    """Two logs of one file are written into each other's pages."""
    store.apply([put(k, k + 1) for k in range(500, 700)])  # else SQLite sees that not all pages are there
    assert fold_log(store)
    new.rename(path)
    with program(path, "PRAGMA journal_mode = WAL", READ):
        refused_uses(
            store, "replaced, and another program opened it with the log of the file before: stop all"
        )
    with program(path, "PRAGMA journal_mode = WAL", ADD):
        refused_uses(store, "lies beside it")
    assert set(live_images(store)) == {*AFTER, 10_000}


def test_a_file_that_comes_back_is_given_no_log_of_one_that_another_process_went_over_to(
    store: SignatureStore, path: Path, new: Path
) -> None:
    """Its own was removed by that process, which may have written since."""
    assert fold_log(store)
    aside = path.with_name("aside")

    def exchange(old: Path, put_here: Path) -> None:
        path.rename(old)
        put_here.rename(path)

    with closing(open_store(str(path))) as other:
        exchange(aside, new)
        other.apply([put(k, 10**6 + k) for k in range(500, 700)])
        refused_uses(store, "a log lies beside it")
        exchange(new, aside)
        refused_uses(store, "moved away and back, and a log lies beside it")
        exchange(aside, new)
        assert set(live_images(other)) == {*AFTER, *range(500, 700)}
        assert fold_log(other)
        exchange(new, aside)
        assert live_images(store) == BEFORE
        store.apply([put(7, 10**6, 7)])
        assert store.check().findings == []
    assert_sound(new, {*AFTER, *range(500, 700)})


def test_a_store_that_saw_nothing_of_it_leaves_the_log_of_the_file_that_was_here_meanwhile(
    store: SignatureStore, path: Path, new: Path
) -> None:
    """Its own was removed, and SQLite removes the one that lies here with its last connection."""
    assert fold_log(store)
    aside = path.with_name("aside")
    with closing(open_store(str(path))) as other:
        path.rename(aside)
        new.rename(path)
        other.apply([put(k, 10**6 + k) for k in range(500, 700)])
        path.rename(new)
        aside.rename(path)
        log = log_of(path).read_bytes()
        refused_uses(store, "moved away and back, and a log lies beside it")
        store.close()
        assert log_of(path).read_bytes() == log
        path.rename(aside)
        new.rename(path)
        assert set(live_images(other)) == {*AFTER, *range(500, 700)}
    assert IqdbFile(aside).live() == BEFORE
    assert IqdbFile(path).run("PRAGMA integrity_check") == [("ok",)]


def test_a_file_put_in_place_is_written_while_it_is_read(path: Path, new: Path) -> None:
    with closing(open_store(str(path), timeouts=StoreTimeouts(lock_s=0.2))) as store:
        assert fold_log(store)
        new.rename(path)
        with store._backend.reading() as connection:
            connection.exec_driver_sql(READ).all()
            store.apply([put(7, 10**6, 7)])
        assert live_images(store) == AFTER | {7: signature(7)}


def test_what_is_wrong_with_a_file_is_not_said_of_the_next_one(
    store: SignatureStore, path: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fold_log(store)
    check_images: Callable[..., bool] = opening.schema.check_images

    def replaced(*arguments: object) -> bool:
        has_images = check_images(*arguments)
        new.rename(path)
        return has_images

    foreign = path.with_name("foreign")
    IqdbFile(foreign).run("CREATE TABLE posts (id INTEGER PRIMARY KEY)")
    foreign.rename(path)
    monkeypatch.setattr(opening.schema, "check_images", replaced)
    with pytest.raises(StoreUnavailable, match="is being replaced"):
        store.live_count()
    monkeypatch.undo()
    assert live_images(store) == AFTER


def test_a_file_that_is_moved_while_it_is_opened_may_come_back(store: SignatureStore, new: Path) -> None:
    """SQLite calls it read-only then, which would be so for good."""
    with closing(sqlite3.connect(new)) as connection:
        connection.execute("SELECT count(*) FROM images").fetchall()
        new.rename(new.with_name("away"))
        with pytest.raises(StoreUnavailable), store._backend._engines._connections.errors():
            connection.execute("DELETE FROM images")
