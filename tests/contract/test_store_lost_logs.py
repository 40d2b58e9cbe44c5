"""The log of a store that is open is removed: what was in it is not lost, and nobody is written over."""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreUnavailable
from iqdb_core.store import open_store
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
    signature,
    stands_alone,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa

    from iqdb_core.store import SignatureStore

pytestmark = [
    pytest.mark.usefixtures("log_stays"),
    pytest.mark.skipif(sys.platform != "linux", reason="what is removed is known on Linux only"),
]

IMAGES = {k: signature(k + 1) for k in range(20)}


@pytest.fixture
def store(path: Path) -> Iterator[SignatureStore]:
    with closing(open_store(str(path))) as store:
        store.apply([put(k, k + 1) for k in IMAGES])
        yield store


def remove(path: Path, *ends: str) -> None:
    for end in ends:
        path.with_name(f"{path.name}-{end}").unlink()


def lose_writes(store: SignatureStore, path: Path) -> None:
    """Write images 20 to 399 into the log only, and remove it."""
    store.apply([put(k, 1000 + k) for k in range(20, 400)])
    remove(path, "wal", "shm")


@pytest.mark.parametrize("ends", [("wal",), ("shm",), ("wal", "shm")])
def test_what_was_in_it_is_in_the_file(store: SignatureStore, path: Path, ends: tuple[str, ...]) -> None:
    remove(path, *ends)
    store.apply([put(20, 21)])
    assert fold_log(store)
    with program(path, ADD):
        assert set(live_images(store)) == {*range(21)}
    store.apply([put(21, 22)])
    store.close()
    assert stands_alone(path)
    assert_sound(path, {*range(22), 10_000})


def test_what_was_in_one_that_was_moved_is_in_the_file(store: SignatureStore, path: Path) -> None:
    """As when all files are moved away, and only the database is moved back."""
    log_of(path).rename(path.with_name("away-wal"))
    store.apply([put(20, 21)])
    assert fold_log(store)
    assert set(IqdbFile(path).live()) == {*range(21)}


def test_what_waits_for_its_turn_meanwhile_is_not_acknowledged(
    store: SignatureStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = store._backend._engines._turn
    taken = turn.taken

    @contextmanager
    def removed_meanwhile() -> Iterator[None]:
        with taken():
            remove(path, "wal", "shm")
            yield

    monkeypatch.setattr(turn, "taken", removed_meanwhile)
    with pytest.raises(StoreUnavailable, match=r"the log of .* is being replaced"):
        store.apply([put(20, 21)])
    monkeypatch.undo()
    store.apply([put(20, 21)])
    assert set(live_images(store)) == {*range(21)}


def test_who_opens_the_file_next_is_not_written_over(store: SignatureStore, path: Path) -> None:
    assert fold_log(store)
    remove(path, "wal", "shm")
    with program(path, ADD):
        store.apply([put(20, 21)])
        assert log_of(path).stat().st_size > 0, "both use the log that the program made"
    assert_sound(path, {*range(21), 10_000})


def test_what_is_written_meanwhile_is_not_acknowledged_and_not_lost(
    store: SignatureStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = store._backend
    set_counter = backend.set_counter

    def removed(*arguments: object) -> None:
        set_counter(*arguments)  # type: ignore[arg-type]
        remove(path, "wal", "shm")

    monkeypatch.setattr(backend, "set_counter", removed)
    with pytest.raises(StoreUnavailable, match="moved while it was written"):
        store.apply([put(20, 21)])
    monkeypatch.undo()
    assert set(live_images(store)) == {*range(21)}


def test_a_log_that_another_program_has_made_since_is_not_written_over(
    store: SignatureStore, path: Path
) -> None:
    assert fold_log(store)
    store.apply([put(20, 21)])
    remove(path, "wal", "shm")
    with program(path, ADD):
        assert set(live_images(store)) == {*range(20)}
    assert 10_000 in IqdbFile(path).live()
    assert IqdbFile(path).run("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("is_stopped_first", [False, True])
@pytest.mark.parametrize("is_changed", [False, True])
def test_two_logs_are_not_both_written_into_the_file(
    store: SignatureStore, path: Path, *, is_stopped_first: bool, is_changed: bool
) -> None:
    """The other program wrote without what is in the one that was removed."""
    assert fold_log(store)
    if is_changed:
        path.chmod(0o600)  # this changes only the ctime, as a move does
    lose_writes(store, path)
    with program(path, ADD):
        pass
    if not is_stopped_first:
        assert set(live_images(store)) == {*range(400)}
    store.close()
    assert_sound(path, {*range(400)})


@pytest.mark.parametrize("is_stopped_first", [False, True])
def test_a_log_that_is_made_while_the_removed_one_is_written_is_not_kept(
    store: SignatureStore, path: Path, monkeypatch: pytest.MonkeyPatch, *, is_stopped_first: bool
) -> None:
    """The other program has read the database as it was before."""
    assert fold_log(store)
    lose_writes(store, path)
    connections = store._backend._engines._connections
    checkpoint = connections.checkpoint

    def meanwhile(connection: sa.Connection, **options: bool) -> bool:
        with program(path, ADD):
            pass
        return checkpoint(connection, **options)

    monkeypatch.setattr(connections, "checkpoint", meanwhile)
    if not is_stopped_first:
        assert set(live_images(store)) == {*range(400)}
    store.close()
    assert_sound(path, {*range(400)})


@pytest.mark.parametrize("is_stopped_first", [False, True])
def test_a_removed_log_is_not_written_over_what_was_written_into_the_file_since(
    store: SignatureStore, path: Path, caplog: pytest.LogCaptureFixture, *, is_stopped_first: bool
) -> None:
    """As by a store that was idle: SQLite itself would do so with the last connection."""
    assert fold_log(store)
    lose_writes(store, path)
    with program(path, ADD, "PRAGMA wal_checkpoint(TRUNCATE)"):
        pass
    if not is_stopped_first:
        store.apply([put(7, 10**6, 7)])
        assert "what was only in the removed one is lost" in caplog.text
    store.close()
    assert_sound(path, {*range(20), 10_000})


@pytest.mark.parametrize("is_stopped_first", [False, True])
def test_a_log_that_another_program_has_left_is_kept(
    store: SignatureStore, path: Path, caplog: pytest.LogCaptureFixture, *, is_stopped_first: bool
) -> None:
    """SQLite would remove it, by its name, with the last connection that used the one before."""
    assert fold_log(store)
    remove(path, "wal", "shm")
    with program(path, ADD):
        pass
    assert log_of(path).stat().st_size > 0
    if not is_stopped_first:
        store.apply([put(20, 21)])
    store.close()
    assert_sound(path, {*range(20 if is_stopped_first else 21), 10_000})
    assert stands_alone(path) or is_stopped_first
    told = "a log lies beside it" if is_stopped_first else "another program has made a new one"
    assert told in caplog.text


def test_what_is_lost_because_another_program_has_the_file_open_is_told(
    store: SignatureStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It only reads, so that its own log is empty."""
    assert fold_log(store)
    store.apply([put(20, 21)])
    remove(path, "wal", "shm")
    with program(path, READ):
        assert set(live_images(store)) == {*range(20)}
    assert "what was only in the removed one is lost" in caplog.text


def test_several_stores_find_the_same_new_log(store: SignatureStore, path: Path) -> None:
    with closing(open_store(str(path))) as other:
        remove(path, "wal", "shm")
        with pytest.raises(StoreUnavailable, match="is still in use"):
            store.apply([put(20, 21)])
        other.apply([put(21, 22)])
        store.apply([put(20, 21)])
        assert set(live_images(other)) == set(live_images(store)) == {*range(22)}
    store.close()
    assert stands_alone(path)


def test_who_has_it_open_still_is_waited_for(store: SignatureStore, path: Path) -> None:
    """His is the log that was removed, and he may write into it."""
    with program(path, READ):
        remove(path, "wal", "shm")
        for _ in range(3):
            with pytest.raises(
                StoreUnavailable, match="is still in use: stop all programs that have it open"
            ):
                store.live_count()
        assert not log_of(path).exists()
    assert live_images(store) == IMAGES


def test_a_long_read_is_not_disturbed(store: SignatureStore, path: Path) -> None:
    images = store.export()
    next(images)
    remove(path, "wal", "shm")
    with pytest.raises(StoreUnavailable, match="is still in use"):
        store.apply([put(20, 21)])
    assert len(list(images)) == len(IMAGES) - 1
    store.apply([put(20, 21)])
    assert set(live_images(store)) == {*range(21)}


def test_a_file_that_comes_back_after_one_that_was_refused_has_a_log(
    store: SignatureStore, path: Path
) -> None:
    """Its empty one was removed from beside the other file."""
    assert fold_log(store)
    path.rename(path.with_name("away"))
    path.touch()
    with pytest.raises(StoreUnavailable, match="is not served"):
        store.live_count()
    path.with_name("away").rename(path)
    store.apply([put(20, 21)])
    assert log_of(path).stat().st_size > 0
    assert live_images(store) == IMAGES | {20: signature(21)}


def test_a_stop_saves_what_is_in_it_though_another_store_is_open(store: SignatureStore, path: Path) -> None:
    """The other one could be killed before it notices."""
    with closing(open_store(str(path))):
        store.apply([put(20, 21)])
        remove(path, "wal", "shm")
        store.close()
        assert set(IqdbFile(path).live()) == {*range(21)}


def test_a_stop_right_afterwards_loses_nothing(store: SignatureStore, path: Path) -> None:
    remove(path, "wal", "shm")
    store.close()
    assert stands_alone(path)
    assert IqdbFile(path).live() == IMAGES
