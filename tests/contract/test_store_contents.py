"""All that a store holds: listed, exported, backed up and checked, on SQLite and Postgres alike."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from iqdb_core.errors import StoreInvalid, StoreUnavailable
from iqdb_core.model import MAX_IMAGE_ID, Write
from iqdb_core.store import open_store
from iqdb_core.store.contents import export as export_module
from iqdb_core.store.databases import sqlite
from iqdb_core.store.schema import IMAGES_SQLITE
from tests.fixtures import programs
from tests.fixtures.stores import (
    IqdbFile,
    all_changes,
    delete,
    fold_log,
    live_images,
    log_of,
    mark_at,
    put,
    signature,
    stands_alone,
)
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from iqdb_core.store import SignatureStore


@pytest.fixture
def filled(store: SignatureStore) -> SignatureStore:
    writes = [Write(k, k + 1, signature(k), f"file {k}" if k % 2 else None) for k in range(20)]
    store.apply([*writes, put(MAX_IMAGE_ID, 100)])
    store.apply([delete(3, 200), delete(99, 201), put(5, 202)])
    return store


def run(store: SignatureStore, statement: str) -> None:
    """Change the database behind the store's back."""
    with store._backend.writing() as connection:
        connection.execute(sa.text(statement))


def test_live_images_are_listed_in_pages(filled: SignatureStore) -> None:
    listed, after = [], -1
    while page := filled.ids_after(after, 6):
        assert len(page) <= 6
        listed += page
        after = page[-1].image_id
    assert [image.image_id for image in listed] == sorted(live_images(filled))
    by_id = {image.image_id: image for image in listed}
    assert by_id[5] == (5, filled.head_seq(), 202, "file 5")
    assert by_id[4].source is None
    assert filled.ids_after(MAX_IMAGE_ID, 5) == filled.ids_after(2**70, 5) == []
    assert len(filled.ids_after(-(2**70), 3)) == 3


def test_what_is_missing_is_told(filled: SignatureStore) -> None:
    assert filled.missing([1, 3, 99, 5, 3, 1000, -1, 2**63, MAX_IMAGE_ID]) == [3, 99, 1000, -1, 2**63]
    assert filled.missing([]) == []
    assert filled.missing([-5]) == [-5]
    assert filled.missing(range(20, 2000)) == list(range(20, 2000))


def test_an_export_is_all_of_one_moment(filled: SignatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "_PAGE", 4)
    expected, sources = live_images(filled), filled.sources_of(range(20))
    exporting = filled.export()
    first = next(exporting)
    filled.apply([delete(k, 1000) for k in range(15)] + [put(50, 1000)])
    exported = [first, *exporting]
    assert [image.image_id for image in exported] == sorted(expected)
    assert {image.image_id: image.signature for image in exported} == expected
    assert {image.image_id: image.source for image in exported if image.source is not None} == sources
    assert [image.image_id for image in filled.export(18)] == [19, 50, MAX_IMAGE_ID]


@pytest.mark.parametrize("post_id", ["CAST(x'ff' AS TEXT)", "'text'", "x'ff'", "9e999", "1.5"])
def test_an_export_ends_behind_what_is_no_id(path: Path, iqdb: IqdbFile, post_id: str) -> None:
    for number in range(3):
        iqdb.add(number, signature(number))
    iqdb.run(f"UPDATE images SET post_id = {post_id} WHERE post_id = 1")  # noqa: S608 - of this test
    with closing(open_store(str(path))) as store:
        exported = [image.image_id for image in islice(store.export(), 10)]
        assert exported == sorted(live_images(store)) == [0, 2]
        assert store.export_iqdb_file(path.with_name("export.sqlite")) == 2
        assert store.backup(path.with_name("backup.sqlite")) == 2


def test_an_export_that_is_given_up_keeps_no_connection(filled: SignatureStore) -> None:
    for _ in range(100):
        exporting = filled.export()
        next(exporting)
        exporting.close()  # type: ignore[attr-defined]
    filled.apply([put(1, 5000)])


def test_an_exported_file_is_iqdbs(filled: SignatureStore, tmp_path: Path) -> None:
    path = tmp_path / "iqdb.sqlite"
    told: list[tuple[int, int]] = []
    assert filled.export_iqdb_file(path, lambda done, total: told.append((done, total))) == 20
    file = IqdbFile(path)
    assert file.live() == live_images(filled)
    assert [row[0] for row in file.run("SELECT name FROM sqlite_master WHERE type = 'table'")] == ["images"]
    assert file.run("SELECT sql FROM sqlite_master WHERE name = 'images'")[0][0] == IMAGES_SQLITE
    assert stands_alone(path)
    assert told[-1] == (20, 20)
    with pytest.raises(StoreInvalid, match="exists already"):
        filled.export_iqdb_file(path)


def test_a_backup_is_the_store_as_it_was(filled: SignatureStore, tmp_path: Path) -> None:
    path = tmp_path / "backup.sqlite"
    expected, before = all_changes(filled), filled.max_revision()
    assert filled.backup(path) == len(live_images(filled))
    filled.apply([put(70, 7000)])
    assert stands_alone(path)
    assert IqdbFile(path).live().keys() == {k for _, k, found in expected if found is not None}
    with closing(open_store(str(path))) as copy:
        assert all_changes(copy) == expected
        assert copy.sources_of(range(20)) == filled.sources_of(range(20))
        assert (copy.store_id, copy.max_revision()) == (filled.store_id, before)
        assert mark_at(copy, 10**9) == mark_at(filled, 10**9)
        assert copy.check().findings == []
        assert copy.apply([put(5, 202)])[0].is_stale


def test_a_backup_while_others_write_is_of_one_moment(
    store: SignatureStore, store_url: str, tmp_path: Path
) -> None:
    store.apply([put(k, 1) for k in range(400)])
    is_done = threading.Event()

    def write() -> None:
        with closing(open_store(store_url)) as other:
            for turn in range(2, 10**6):
                other.apply([put(k, turn, turn % 7) for k in range(5)])
                if is_done.is_set():
                    return

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for number in range(3):
            path = tmp_path / f"backup-{number}.sqlite"
            assert store.backup(path) == 400
            with closing(open_store(str(path))) as copy:
                images = live_images(copy)
                assert len(images) == 400
                assert len({images[k].positions for k in range(5)}) == 1, "half of a transaction"
                assert copy.check().found == 0
    finally:
        is_done.set()
        writing.join()


def test_a_backup_gets_on_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite begins a copy anew at each write of others; a busy server has one between any two steps."""
    monkeypatch.setattr(sqlite, "_PAGES_PER_STEP", 4)
    steps: list[tuple[int, int]] = []
    address = f"sqlite:///{tmp_path / 'store.sqlite'}"
    with closing(open_store(address)) as store, closing(open_store(address)) as other:
        store.apply([put(k, 1) for k in range(400)])

        def write(done: int, total: int) -> None:
            assert done > (steps[-1][0] if steps else 0), "it began anew"
            steps.append((done, total))
            other.apply([put(1000 + len(steps), 1)])

        assert store.backup(tmp_path / "backup.sqlite", write) == 400
    assert len(steps) > 10
    assert steps[-1][0] == steps[-1][1]


def test_a_reading_sees_one_state(store: SignatureStore, store_url: str) -> None:
    store.apply([put(1, 1)])
    with closing(open_store(store_url)) as other, store._backend.snapshot() as connection:
        before = store._backend.counter(connection)
        other.apply([put(2, 2)])
        assert store._backend.counter(connection) == before
        assert len(store._backend.changes(connection, 0, 10)) == 1
    assert store.head_seq() == 2


def test_a_backup_that_fails_leaves_nothing(filled: SignatureStore, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a backup of last week")
    with pytest.raises(StoreInvalid, match="exists already"):
        filled.backup(tmp_path / "there")
    with pytest.raises(StoreInvalid, match="no directory"):
        filled.backup(tmp_path / "nowhere" / "backup.sqlite")

    def fail(*_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreUnavailable, match="No space left"):
        filled.backup(tmp_path / "full.sqlite", fail)
    assert [path.name for path in tmp_path.iterdir() if "store" not in path.name] == ["there"]


def test_a_backup_to_a_full_disk_names_the_backup(tmp_path: Path) -> None:
    script = """
        import resource
        import sys
        from pathlib import Path
        from iqdb_core.errors import StoreUnavailable
        from iqdb_core.store import open_store
        from tests.fixtures.stores import fold_log, put

        store = open_store(sys.argv[1])
        store.apply([put(k, 1) for k in range(400)])
        assert fold_log(store)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, resource.RLIM_INFINITY))
        try:
            store.backup(Path(sys.argv[2]))
        except StoreUnavailable as error:
            print(error)
        store.close()
    """
    told = programs.run(script, tmp_path / "store.sqlite", tmp_path / "full.sqlite")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("full.sqlite cannot be written: ")
    assert "store.sqlite" not in told.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["store.sqlite"]


def test_a_sound_store_has_no_findings(filled: SignatureStore) -> None:
    told: list[tuple[int, int]] = []
    for repair in (False, True):
        report = filled.check(repair=repair, progress=lambda done, total: told.append((done, total)))
        assert (report.images, report.found, report.findings, report.repaired) == (20, 0, [], 0)
    assert told[-1] == (20, 20)


DAMAGE = {
    "an image without its feed row": ("DELETE FROM iqdb_feed WHERE post_id = 5", "feed", 5),
    "a feed row without its image": ("DELETE FROM images WHERE post_id = 5", "feed", 5),
    "an image that was changed": ("UPDATE images SET avglf1 = 0.5 WHERE post_id = 5", "feed", 5),
    "a state that is wrong": ("UPDATE iqdb_feed SET state = 0, row_id = NULL WHERE post_id = 5", "feed", 5),
    "a counter that is behind": ("UPDATE iqdb_store SET head_seq = 3", "counter", None),
    "a revision that is behind": ("UPDATE iqdb_store SET max_revision = 3", "counter", None),
    "a count that is wrong": ("UPDATE iqdb_store SET live_count = live_count + 1", "counter", None),
    "a count below nothing": ("UPDATE iqdb_store SET live_count = -1", "counter", None),
    "a source of nothing": ("INSERT INTO iqdb_sources VALUES (3, 'x')", "source", 3),
    "a mark of the future": ("INSERT INTO iqdb_lineage VALUES (99999, 'x')", "lineage", None),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_does_not_agree_is_found_and_mended(filled: SignatureStore, kind: str) -> None:
    statement, room, image_id = DAMAGE[kind]
    run(filled, statement)
    report = filled.check()
    assert (room, image_id) in [(finding.kind, finding.image_id) for finding in report.findings]
    assert report.found == len(report.findings)
    assert filled.check().found == report.found, "looking changes nothing"
    mended = filled.check(repair=True)
    assert mended.findings == report.findings
    assert mended.repaired == mended.found > 0
    assert filled.check().findings == []
    with filled._backend.reading() as connection:
        rows = connection.execute(sa.text("SELECT post_id FROM images")).scalars().all()
    assert live_images(filled).keys() == set(rows)
    assert filled.live_count() == len(rows)
    filled.apply([put(5, 10**6), delete(6, 10**6)])
    assert filled.check().findings == []


def test_who_would_count_on_from_nonsense_is_told_what_mends_it(filled: SignatureStore) -> None:
    run(filled, "UPDATE iqdb_store SET live_count = -1")
    with pytest.raises(StoreInvalid, match="iqdb check --repair"):
        filled.apply([put(5, 10**6)])
    filled.check(repair=True)
    filled.apply([put(5, 10**6)])


def test_more_than_are_listed_are_counted_as_mended(filled: SignatureStore) -> None:
    filled.apply([put(k, 10**6) for k in range(100, 1300)])
    run(filled, "DELETE FROM iqdb_feed WHERE post_id >= 100")
    mended = filled.check(repair=True)
    assert mended.repaired == mended.found > len(mended.findings) == 1000
    assert filled.check().found == 0


def test_a_row_that_is_no_signature_is_named_and_left_alone(filled: SignatureStore) -> None:
    run(filled, "UPDATE images SET sig = substr(sig, 1, 7) WHERE post_id = 5")
    for _ in range(2):
        report = filled.check(repair=True)
        assert ("image", 5) in [(finding.kind, finding.image_id) for finding in report.findings]
        assert report.repaired == report.found - 1
    assert [finding.kind for finding in filled.check().findings] == ["image"]
    assert 5 not in live_images(filled)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with closing(open_store(str(path))) as store:
        store.apply([put(k, 1, 999 if k == 10 else k % 50) for k in range(3000)])
    raw = bytearray(path.read_bytes())
    page = raw.find(signature(999).positions) // 4096 * 4096
    raw[page : page + 8] = b"\x0d\xff\xff\xff\xff\xff\xff\xff"
    path.write_bytes(raw)
    with closing(open_store(str(path))) as store:
        for repair in (False, True):
            report = store.check(repair=repair)
            assert {finding.kind for finding in report.findings} == {"file"}
            assert "damaged" in report.findings[0].message


def test_a_copy_of_the_file_of_a_store_at_rest_is_complete(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.sqlite", tmp_path / "copied" / "store.sqlite"
    copy.parent.mkdir()
    with closing(open_store(str(path))) as store:
        store.apply([put(k, 1) for k in range(50)])
        assert fold_log(store)
        shutil.copy(path, copy)
        assert IqdbFile(copy).live().keys() == set(range(50))
        store.apply([put(50, 1)])
        pause = threading.Event()
        for _ in range(600):
            shutil.copy(path, copy)
            if len(IqdbFile(copy).live()) == 51:
                break
            pause.wait(0.1)
        else:
            pytest.fail("the log is not folded by itself")


def log_size(path: Path) -> int:
    log = log_of(path)
    return log.stat().st_size if log.exists() else 0


def test_what_another_process_wrote_is_folded_into_the_file_once_it_was_read(tmp_path: Path) -> None:
    """`iqdb add` beside a server: the file is copied, as IQDB's was, and has to hold everything."""
    path = tmp_path / "store.sqlite"
    open_store(str(path)).close()
    with closing(open_store(str(path))) as server:
        with closing(open_store(str(path))) as other:
            other.apply([put(1, 1)])
        assert log_size(path) > 0
        assert len(server.changes_since(0, 10)) == 1
        wait_until(lambda: log_size(path) == 0, 30)


def test_what_a_killed_process_left_in_the_log_is_folded_at_the_next_start(tmp_path: Path) -> None:
    path, crashed = tmp_path / "store.sqlite", tmp_path / "crashed.sqlite"
    with closing(open_store(str(path))) as store:
        store.apply([put(1, 1)])
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{crashed}{suffix}")
    assert log_size(crashed) > 0
    with closing(open_store(str(crashed))) as store:
        wait_until(lambda: log_size(crashed) == 0, 30)
        assert live_images(store).keys() == {1}
        copy = shutil.copy(crashed, tmp_path / "copy.sqlite")
        assert IqdbFile(copy).live() == {1: signature(1)}
