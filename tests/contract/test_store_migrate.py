"""One database moves into another: whole, resumable, in either direction."""

from __future__ import annotations

import shutil
import signal
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreInvalid, StoreUnavailable
from iqdb_core.store import open_store
from iqdb_core.store.migrate import CopyResult, copy_store
from tests.fixtures import programs
from tests.fixtures.stores import SMALL_40, IqdbFile, all_changes, delete, live_images, put, signature

if TYPE_CHECKING:
    from pathlib import Path

    from iqdb_core.model import Signature, Write


def contents(url: str) -> tuple[list[tuple[int, Signature | None]], int, int]:
    """Return the changes without their seqs, the live count and the newest revision."""
    store = open_store(url)
    found = [(image_id, image) for _, image_id, image in all_changes(store)]
    result = found, store.live_count(), store.max_revision()
    store.close()
    return result


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A store with a history: replaced, deleted and never-added images."""
    url = str(tmp_path / "source.sqlite")
    store = open_store(url)
    store.apply([put(k, 100 + k, k % 30) for k in range(300)])
    store.apply([delete(k, 1000 + k) for k in range(0, 300, 7)])
    store.apply([put(k, 2000 + k, k % 20) for k in range(0, 300, 21)] + [delete(10**6, 5000)])
    store.close()
    return url


def test_an_iqdb_file_becomes_a_store_and_stays_as_it_was(store_url: str, tmp_path: Path) -> None:
    path = tmp_path / "original.sqlite"
    shutil.copy(SMALL_40, path)
    path.chmod(0o444)
    before = path.read_bytes()
    told: list[tuple[int, int]] = []
    result = copy_store(
        str(path), store_url, progress=lambda done, total: told.append((done, total)), batch=15
    )
    assert result == CopyResult(live_count=40, copied=40, skipped=0, resumed=False)
    assert told == [(15, 40), (30, 40), (40, 40)]
    assert path.read_bytes() == before
    store = open_store(store_url)
    assert live_images(store) == IqdbFile(path).live()
    assert (store.live_count(), store.head_seq(), store.max_revision()) == (40, 40, 0)
    store.close()


def test_a_store_keeps_its_tombstones_and_revisions(source: str, store_url: str) -> None:
    expected = contents(source)
    result = copy_store(source, store_url, batch=37)
    assert contents(store_url) == expected
    assert (result.live_count, result.copied, result.resumed) == (expected[1], 301, False)
    store = open_store(store_url)
    # Writes accepted before the move arrive after it.
    assert [outcome.is_stale for outcome in store.apply([put(7, 500), put(10**6, 4999), put(21, 1500)])] == [
        True
    ] * 3
    assert not store.apply([put(7, 1008)])[0].is_stale
    store.close()


def test_from_postgres_to_a_file_that_iqdb_opens(source: str, postgres_url: str, tmp_path: Path) -> None:
    copy_store(source, postgres_url)
    target = tmp_path / "target.sqlite"
    copy_store(postgres_url, str(target))
    assert contents(str(target)) == contents(source)
    assert IqdbFile(target).live() == IqdbFile(tmp_path / "source.sqlite").live()


def test_the_copy_is_a_store_of_its_own(source: str, store_url: str) -> None:
    copy_store(source, store_url)
    first, second = open_store(source), open_store(store_url)
    assert first.store_id != second.store_id
    first.close()
    second.close()


def test_rows_that_are_no_signatures_are_skipped_and_counted(store_url: str, tmp_path: Path) -> None:
    file = IqdbFile(tmp_path / "original.sqlite").create()
    for post in range(10):
        file.add(post, signature(post))
    file.add_raw(10, 0.5, 0.0, 0.0, b"short")
    file.add("eleven", signature(11))
    before = file.table_digest()
    assert copy_store(str(file.path), store_url, batch=4) == CopyResult(10, 10, 2, resumed=False)
    assert file.table_digest() == before
    # The same from a store that took the file over.
    open_store(str(file.path)).close()
    again = copy_store(str(file.path), str(tmp_path / "again.sqlite"))
    assert (again.live_count, again.copied) == (10, 10)


def test_a_source_that_was_put_back_since_is_noticed(source: str, store_url: str, tmp_path: Path) -> None:
    """Also where it has as many changes and images as before."""
    shutil.copy(source, tmp_path / "backup.sqlite")
    with closing(open_store(source)) as store:
        store.apply([put(5, 6000, 1), put(400, 6001)])
    copy_store(source, store_url)
    shutil.copy(tmp_path / "backup.sqlite", source)
    with closing(open_store(source)) as store:
        store.apply([put(5, 6000, 2), put(400, 6001)])
    with pytest.raises(StoreInvalid, match="the source was put back to another state"):
        copy_store(source, store_url)


@pytest.mark.parametrize("kind", ["file", "store"])
def test_a_copy_that_was_killed_goes_on(kind: str, source: str, store_url: str, tmp_path: Path) -> None:
    if kind == "file":
        source = str(tmp_path / "original.sqlite")
        shutil.copy(SMALL_40, source)
    script = f"""
        import os, signal
        from iqdb_core.store.migrate import copy_store

        def progress(done, total):
            if done > total // 2:
                os.kill(os.getpid(), signal.SIGKILL)

        copy_store({source!r}, {store_url!r}, progress=progress, batch=9)
    """
    died = programs.run(script)
    assert died.returncode == -signal.SIGKILL
    told: list[tuple[int, int]] = []
    result = copy_store(source, store_url, progress=lambda done, total: told.append((done, total)), batch=9)
    assert result.resumed
    total = told[-1][1]
    assert told[0][0] > total // 2
    assert told[-1] == (total, total)
    assert result.copied < total * 3 / 4
    if kind == "store":
        assert contents(store_url) == contents(source)
    else:
        store = open_store(store_url)
        assert live_images(store) == IqdbFile(tmp_path / "original.sqlite").live()
        store.close()


def test_a_finished_copy_again_brings_only_what_is_new(source: str, store_url: str) -> None:
    copy_store(source, store_url)
    assert copy_store(source, store_url).copied == 0
    store = open_store(source)
    store.apply([put(5, 9000), delete(6, 9001), put(777, 9002)])
    store.close()
    result = copy_store(source, store_url)
    assert (result.copied, result.resumed) == (3, True)
    assert contents(store_url)[1:] == contents(source)[1:]


def test_a_store_in_use_is_copied_to_its_end(source: str, store_url: str) -> None:
    live = open_store(source)
    revision = iter(range(10_000, 20_000))

    def keep_writing(done: int, _total: int) -> None:
        if done < 400:
            live.apply(
                [put(next(revision) % 350, next(revision), 3), delete(next(revision) % 350, next(revision))]
            )

    copy_store(source, store_url, progress=keep_writing, batch=20)
    live.close()
    assert dict(contents(store_url)[0]) == dict(contents(source)[0])


def put_from(image_id: int, source: str) -> Write:
    return replace(put(image_id, 2000 + image_id), source=source)


def test_sources_that_change_while_a_store_is_copied_are_those_of_the_copy(
    store_url: str, tmp_path: Path
) -> None:
    source = str(tmp_path / "source.sqlite")
    live = open_store(source)
    live.apply([replace(put(k, 1 + k), source=f"source {k}") for k in range(20)])

    def change(done: int, _total: int) -> None:
        if done == 10:
            live.apply([delete(3, 1000)])
            live.apply([put(3, 1001)])
            live.apply([put_from(4, ""), put_from(5, "new"), put_from(15, "newer")])

    copy_store(source, store_url, progress=change, batch=10)
    expected = live.sources_of(range(20))
    assert expected == {k: f"source {k}" for k in range(20) if k not in {3, 4}} | {5: "new", 15: "newer"}
    with closing(open_store(store_url)) as copy:
        assert copy.sources_of(range(20)) == expected
    live.apply([put_from(6, ""), put_from(7, "of later"), put_from(19, "")])
    copy_store(source, store_url, batch=7)
    with closing(open_store(store_url)) as copy:
        assert copy.sources_of(range(20)) == live.sources_of(range(20))
    live.close()


def test_an_image_added_again_without_a_source_loses_that_of_a_copy_that_was_interrupted(
    store_url: str, tmp_path: Path
) -> None:
    """The rows themselves say it: a copy that is interrupted again is not left with another's source."""
    source = str(tmp_path / "source.sqlite")
    live = open_store(source)
    live.apply([replace(put(3, 1), source="old")])
    copy_store(source, store_url)
    live.apply([delete(3, 1000)])
    live.apply([put(3, 1001), put(4, 1002)])
    live.close()

    def fail(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_store(source, store_url, progress=fail)
    with closing(open_store(store_url)) as copy:
        assert copy.get(3) == signature(1001)
        assert copy.sources_of([3]) == {}


def test_a_target_with_other_data_is_refused(source: str, store_url: str, tmp_path: Path) -> None:
    store = open_store(store_url)
    store.apply([put(1, 1)])
    store.close()
    with pytest.raises(StoreInvalid, match="holds other data"):
        copy_store(source, store_url)
    assert contents(store_url) == ([(1, signature(1))], 1, 1)
    other = str(tmp_path / "other.sqlite")
    copy_store(store_url, other)
    with pytest.raises(StoreInvalid, match="holds other data"):
        copy_store(source, other)


def test_a_target_written_to_since_is_refused(source: str, store_url: str) -> None:
    copy_store(source, store_url)
    store = open_store(store_url)
    store.apply([put(1, 10**7)])
    store.close()
    with pytest.raises(StoreInvalid, match="holds other data"):
        copy_store(source, store_url)


def test_a_copy_that_lost_rows_is_noticed(postgres_url: str, source: str) -> None:
    copy_store(source, postgres_url)
    store = open_store(postgres_url)
    with store._backend.writing() as connection:
        store._backend.delete_images(connection, [1])
    store.close()
    with pytest.raises(StoreInvalid, match="not complete"):
        copy_store(source, postgres_url)


def test_what_is_no_source(tmp_path: Path) -> None:
    target = str(tmp_path / "target.sqlite")
    with pytest.raises(StoreInvalid, match=r"cannot be opened \(there is no such file\)"):
        copy_store(str(tmp_path / "absent.sqlite"), target)
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(StoreInvalid, match="holds no images"):
        copy_store(str(tmp_path / "empty.sqlite"), target)
    (tmp_path / "text.sqlite").write_text(
        "not a database, though long enough to have a header of a hundred bytes" * 3
    )
    with pytest.raises(StoreInvalid, match="no SQLite database"):
        copy_store(str(tmp_path / "text.sqlite"), target)
    with pytest.raises(StoreInvalid, match="the same database"):
        copy_store(target, f"sqlite:///{target}")
    with pytest.raises(StoreUnavailable):
        copy_store(f"postgresql://nobody@/iqdb?host={tmp_path}", target)
    assert not (tmp_path / "absent.sqlite").exists()
    assert not (tmp_path / "target.sqlite").exists()
