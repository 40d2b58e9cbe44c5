"""What can be wrong with an SQLite file, or in its way: refused by name, and left as it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreInvalid, StoreUnavailable, WrongUsage
from iqdb_core.store import StoreTimeouts, open_store
from tests.fixtures import programs
from tests.fixtures.stores import (
    IQDB_TABLE,
    SMALL_40,
    IqdbFile,
    live_images,
    put,
    stands_alone,
)
from tests.fixtures.stores import signature as made

if TYPE_CHECKING:
    from pathlib import Path


class TestRefusals:
    def refused(self, path: Path | str, match: str) -> None:
        with pytest.raises(StoreInvalid, match=match) as caught:
            open_store(str(path))
        assert str(path).removeprefix("sqlite:///") in str(caught.value)

    @pytest.mark.parametrize("content", [b"not a database", b"GIF89a" * 1000])
    def test_a_file_that_is_no_database(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.refused(path, "is no SQLite database")
        assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]

    def test_what_is_not_a_file(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        for path in (tmp_path, pipe):
            self.refused(path, "cannot be opened: it is not a regular file")

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "away" / "iqdb.sqlite", "there is no directory")
        assert not (tmp_path / "away").exists()

    def test_a_database_of_another_program(self, path: Path) -> None:
        IqdbFile(path).run("CREATE TABLE bookmarks (url TEXT)")
        before = path.read_bytes()
        self.refused(path, "another program")
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "definition",
        [
            "CREATE TABLE images (id INTEGER PRIMARY KEY, url TEXT)",
            IQDB_TABLE.replace("sig BLOB NOT NULL", "sig BLOB NOT NULL, owner TEXT"),
            IQDB_TABLE.replace("sig BLOB", "sig TEXT"),
            IQDB_TABLE.replace("UNIQUE ", ""),
            IQDB_TABLE.replace("id INTEGER PRIMARY KEY NOT NULL", "id INTEGER NOT NULL"),
            "CREATE VIEW images AS SELECT 1 AS id",
        ],
    )
    def test_images_of_another_shape(self, path: Path, definition: str) -> None:
        IqdbFile(path).run(definition)
        before = path.read_bytes()
        self.refused(path, "images that is not IQDB's")
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "definition",
        [
            IQDB_TABLE.replace("PRIMARY KEY NOT NULL", "PRIMARY KEY"),
            IQDB_TABLE.replace("CREATE TABLE images", 'CREATE TABLE "images"').lower(),
            """CREATE TABLE 'images' ( 'id' INTEGER PRIMARY KEY NOT NULL ,
            'post_id' INTEGER UNIQUE NOT NULL , 'avglf1' REAL NOT NULL ,
            'avglf2' REAL NOT NULL , 'avglf3' REAL NOT NULL , 'sig' BLOB NOT NULL )""",
        ],
    )
    def test_iqdbs_table_in_other_words_is_iqdbs(self, path: Path, definition: str) -> None:
        file = IqdbFile(path)
        file.run(definition)
        file.add(7, made(7))
        store = open_store(str(path))
        assert live_images(store) == {7: made(7)}
        store.close()

    def test_a_newer_schema_is_refused_by_name(self, path: Path) -> None:
        open_store(str(path)).close()
        IqdbFile(path).run("UPDATE iqdb_schema_version SET version_num = '0099'")
        before = path.read_bytes()
        self.refused(path, "schema 0099, which is newer")
        assert path.read_bytes() == before

    def test_a_database_in_memory(self) -> None:
        for url in ("sqlite://", "sqlite:///:memory:", ":memory:", ""):
            with pytest.raises(WrongUsage, match="file"):
                open_store(url)

    def test_a_damaged_file(self, path: Path) -> None:
        store = open_store(str(path))
        store.apply([put(k, 1) for k in range(100)])
        store.close()
        damaged = bytearray(path.read_bytes())
        damaged[4096:] = b"\xff" * (len(damaged) - 4096)
        path.write_bytes(damaged)
        self.refused(path, "damaged")

    def test_a_file_that_may_not_be_written(self, path: Path) -> None:
        shutil.copy(SMALL_40, path)
        path.chmod(0o444)
        before = path.read_bytes()
        script = f"""
            from iqdb_core.errors import StoreInvalid
            from iqdb_core.store import open_store
            from tests.fixtures.rights import drop_capabilities
            drop_capabilities()  # to root with them nothing is read-only
            try:
                open_store({str(path)!r})
            except StoreInvalid as refusal:
                print(refusal)
        """
        found = programs.run(script)
        assert found.returncode == 0, found.stderr
        assert "is read-only" in found.stdout
        assert path.read_bytes() == before

    def test_a_log_that_may_not_be_written_is_used_once_it_may(self, path: Path) -> None:
        """As after a restore by root, who then gives it to the user of the server."""
        script = f"""
            import shutil
            from contextlib import closing
            from pathlib import Path
            from iqdb_core.errors import StoreInvalid
            from iqdb_core.store import open_store
            from tests.fixtures.rights import drop_capabilities
            from tests.fixtures.stores import put
            drop_capabilities()  # to root with them nothing is read-only
            restored, log = Path({str(path)!r}), Path({str(path)!r} + "-wal")
            former = restored.with_name("former.sqlite")
            with closing(open_store(str(former))) as store:
                store.apply([put(1, 1)])
                shutil.copy(former, restored)
                shutil.copy(f"{{former}}-wal", log)
            log.chmod(0o444)
            with closing(open_store(str(restored))) as store:
                for _ in range(2):
                    try:
                        store.apply([put(2, 2)])
                    except StoreInvalid as refusal:
                        print(refusal)
                log.chmod(0o644)
                store.apply([put(2, 2)])
                print(store.live_count())
        """
        found = programs.run(script)
        assert found.returncode == 0, found.stderr
        *refusals, live = found.stdout.splitlines()
        assert live == "2"
        assert len(refusals) == 2
        assert all("or its log (-wal, -shm) is read-only" in refusal for refusal in refusals)
        assert stands_alone(path)


class TestLocks:
    def test_a_file_locked_by_another_program(self, path: Path) -> None:
        shutil.copy(SMALL_40, path)
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match="locked"):
                open_store(str(path), timeouts=StoreTimeouts(lock_s=0.1))
        store = open_store(str(path))
        assert store.live_count() == 40
        store.close()

    def test_a_file_that_is_written_while_it_is_opened(self, path: Path) -> None:
        """As by another process that makes tables in it at the same moment: SQLite does not wait here."""
        shutil.copy(SMALL_40, path)
        with ThreadPoolExecutor(1) as pool, closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            opening = pool.submit(open_store, str(path))
            with pytest.raises(TimeoutError):
                opening.result(0.2)
            other.rollback()
            with closing(opening.result(30)) as store:
                assert store.live_count() == 40

    def test_a_lock_while_open_passes(self, path: Path) -> None:
        store = open_store(str(path), timeouts=StoreTimeouts(lock_s=0.1))
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable):
                store.apply([put(7, 100)])
            assert store.live_count() == 0
        store.apply([put(7, 100)])
        assert store.live_count() == 1
        store.close()

    def test_closing_while_another_process_has_it_open(self, path: Path) -> None:
        first, second = open_store(str(path)), open_store(str(path))
        first.apply([put(7, 100)])
        first.close()
        second.apply([put(8, 101)])
        second.close()
        assert stands_alone(path)
        assert IqdbFile(path).live() == {7: made(100), 8: made(101)}
