"""Several processes write to one SQLite file: each gets its turn, and nobody waits for ever."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreInvalid, StoreUnavailable
from iqdb_core.store import StoreTimeouts, open_store
from iqdb_core.store.databases import sqlite_engine
from iqdb_core.store.databases.writer_turn import WriterTurn
from tests.fixtures import programs
from tests.fixtures.stores import put, stands_alone
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

LONG_S = 60.0
TIRELESS = """
    import sys
    from iqdb_core.store import open_store
    from tests.fixtures.stores import put

    store = open_store(sys.argv[1])
    first = int(sys.argv[2])
    for turn in range(1, 10**9):
        store.apply([put(first + n, turn, n) for n in range(20)])
"""


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_who_waits_comes_before_who_wants_again(path: Path) -> None:
    eager, patient = WriterTurn(path, LONG_S), WriterTurn(path, LONG_S)
    order: list[str] = []

    def wait_for_a_turn() -> None:
        with patient.taken():
            order.append("patient")

    for _ in range(5):
        order.clear()
        waiting = threading.Thread(target=wait_for_a_turn)
        with eager.taken():
            waiting.start()
            wait_until(lambda: is_locked(path.with_name(f".{path.name}.next")), LONG_S)
        for _ in range(20):
            with eager.taken():
                order.append("eager")
        waiting.join(LONG_S)
        assert order[0] == "patient"
    eager.close()
    patient.close()


def test_a_writer_among_tireless_ones_gets_its_turns(path: Path) -> None:
    with closing(open_store(str(path), timeouts=StoreTimeouts(lock_s=LONG_S))) as store:
        tireless = [programs.start(TIRELESS, path, first) for first in (1000, 2000)]
        try:
            wait_until(lambda: store.head_seq() > 200, LONG_S)
            for revision in range(1, 25):
                assert not store.apply([put(1, revision, 1)])[0].is_stale
        finally:
            for process in tireless:
                programs.end(process)


def test_a_turn_is_waited_for_until_the_time_is_up(path: Path) -> None:
    holder, waiter = WriterTurn(path, 30.0), WriterTurn(path, 0.05)
    with holder.taken(), pytest.raises(StoreUnavailable, match="other writers"), waiter.taken():
        pytest.fail("two had the turn at once")
    with waiter.taken():
        pass
    holder.close()
    waiter.close()
    assert list(path.parent.iterdir()) == []


def test_threads_of_one_store_wait_no_longer_than_told(path: Path) -> None:
    turn = WriterTurn(path, 0.05)
    with turn.taken():
        failures: list[StoreUnavailable] = []

        def want() -> None:
            try:
                with turn.taken():
                    pass
            except StoreUnavailable as failure:
                failures.append(failure)

        thread = threading.Thread(target=want)
        thread.start()
        thread.join(LONG_S)
    assert len(failures) == 1
    turn.close()


def test_never_two_at_once_however_often_files_come_and_go(path: Path) -> None:
    inside, worst, turns = [0], [0], [0]

    def work() -> None:
        for _ in range(40):
            turn = WriterTurn(path, LONG_S)
            with turn.taken():
                inside[0] += 1
                worst[0] = max(worst[0], inside[0])
                turns[0] += 1
                time.sleep(0)
                inside[0] -= 1
            turn.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (worst, turns) == ([1], [240])


def test_the_end_of_a_store_does_not_wait_for_a_long_turn(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_engine, "SHORT_WAIT_S", 0.05)
    store = open_store(str(path), timeouts=StoreTimeouts(lock_s=LONG_S))
    store.apply([put(1, 1)])
    other = WriterTurn(path, LONG_S)
    before = time.monotonic()
    with other.taken():
        with pytest.raises(StoreUnavailable, match=r"for 0\.05 s"):
            store._backend._engines._checkpointer._checkpoint()
        store.close()
    assert time.monotonic() - before < LONG_S / 2
    other.close()
    assert stands_alone(path)


def test_stores_that_are_closed_at_the_same_moment_are_closed_one_by_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each finds the file open by the other, and none checkpoints the WAL."""
    monkeypatch.setattr(sqlite_engine, "SHORT_WAIT_S", LONG_S)
    first, second = open_store(str(path)), open_store(str(path))
    first.apply([put(1, 1)])
    others_turn = threading.Thread(target=second.close)
    close_writer = first._backend._engines._close_writer

    def closed_meanwhile() -> None:
        others_turn.start()
        wait_until(lambda: is_locked(path.with_name(f".{path.name}.next")), LONG_S)
        close_writer()

    monkeypatch.setattr(first._backend._engines, "_close_writer", closed_meanwhile)
    first.close()
    others_turn.join(LONG_S)
    assert stands_alone(path)


def locks_beside(path: Path) -> list[os.stat_result]:
    """Return what the locks of a database are like while somebody has the turn."""
    turn = WriterTurn(path, 1.0)
    with turn.taken():
        found = [lock.lstat() for lock in path.parent.glob(f".{path.name}.*")]
    turn.close()
    return found


@pytest.mark.parametrize("mode", [0o660, 0o600])
def test_who_may_write_to_the_database_may_have_the_turn(path: Path, mode: int) -> None:
    """Whoever was the first to write, and whatever files he makes for others to see."""
    path.touch()
    path.chmod(mode)
    before = os.umask(0o022)
    try:
        assert [stat.S_IMODE(found.st_mode) for found in locks_beside(path)] == [mode] * 2
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")
def test_root_gives_the_locks_to_the_owner_of_the_database(path: Path) -> None:
    path.touch()
    os.chown(path, 65534, 65533)
    assert [(found.st_uid, found.st_gid) for found in locks_beside(path)] == [(65534, 65533)] * 2


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")
def test_root_gives_no_file_away_that_was_linked_here(path: Path) -> None:
    path.touch()
    os.chown(path, 65534, 65533)
    secret = path.with_name("secret")
    secret.touch(0o600)
    lock = path.with_name(f".{path.name}.next")
    lock.hardlink_to(secret)
    locks_beside(path)
    assert (secret.stat().st_uid, stat.S_IMODE(secret.stat().st_mode)) == (0, 0o600)
    lock.unlink(missing_ok=True)
    lock.symlink_to(secret)
    with pytest.raises(StoreUnavailable, match=r"lock file .*\.next beside the database cannot be opened"):
        locks_beside(path)
    assert secret.stat().st_uid == 0


def test_a_lock_that_may_be_neither_written_nor_removed_is_used_and_stays(path: Path) -> None:
    """Another user has just made it; its folder has become read-only, or shared as /tmp is."""
    ending = """
        import sys
        from pathlib import Path
        from iqdb_core.store.databases.writer_turn import WriterTurn
        from tests.fixtures.rights import drop_capabilities

        drop_capabilities()  # to root with them nothing is read-only
        path = Path(sys.argv[1])
        path.with_name(f".{path.name}.next").touch(0o444)
        turn = WriterTurn(path, 10)
        with turn.taken():
            path.parent.chmod(0o555)
        turn.close()
    """
    try:
        found = programs.run(ending, path)
    finally:
        path.parent.chmod(0o755)
    assert found.returncode == 0, found.stderr
    assert {lock.name for lock in path.parent.iterdir()} == {f".{path.name}.next", f".{path.name}.writer"}
    turn = WriterTurn(path, 0.05)
    with turn.taken():
        pass
    turn.close()
    assert list(path.parent.iterdir()) == []


def test_a_killed_writer_leaves_its_turn(path: Path) -> None:
    holding = """
        import signal, sys
        from pathlib import Path
        from iqdb_core.store.databases.writer_turn import WriterTurn

        with WriterTurn(Path(sys.argv[1]), 10).taken():
            print("mine", flush=True)
            signal.pause()
    """
    holder = programs.start(holding, path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "mine\n"
    turn = WriterTurn(path, 0.05)
    with pytest.raises(StoreUnavailable), turn.taken():
        pytest.fail("two had the turn at once")
    programs.end(holder)
    with turn.taken():
        pass
    turn.close()


def test_a_lock_that_cannot_be_unlocked_is_given_up_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network mounts: whoever wrote has written, and others must get their turn."""
    flock = fcntl.flock

    def refusing(fd: int, how: int) -> None:
        if how == fcntl.LOCK_UN:
            raise OSError(errno.ENOLCK, "No locks available")
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", refusing)
    first, second = WriterTurn(path, 0.05), WriterTurn(path, 0.05)
    for turn in (first, second, first):
        with turn.taken():
            assert is_locked(path.with_name(f".{path.name}.writer"))
    first.close()
    second.close()


def test_a_place_for_the_locks_is_needed(tmp_path: Path) -> None:
    turn = WriterTurn(tmp_path / "nowhere" / "iqdb.sqlite", 1.0)
    with pytest.raises((StoreUnavailable, StoreInvalid), match=r"lock file .*\.next beside"), turn.taken():
        pytest.fail("there is no place for a lock")
