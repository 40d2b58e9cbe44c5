"""The index of a file of IQDB that a server sees for the first time, built while the file is taken over."""

from __future__ import annotations

import resource
import signal
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
import sqlalchemy as sa

from api.roles import index_ahead
from api.roles.index_ahead import IndexAhead
from api.roles.parts import open_database, open_index
from api.web.loading import Startup, Stopped
from iqdb_core import codec, compiling, forms
from iqdb_core.compiling import Compilation
from iqdb_core.errors import ConfigError, StoreError
from iqdb_core.index import ImageIndex
from iqdb_core.index.disk import checkpoint
from iqdb_core.settings import Settings
from iqdb_core.store import open_store, takeover
from iqdb_core.store.databases import sqlite_takeover
from tests.fixtures import programs
from tests.fixtures.index_rows import cheap_rows, signature_at
from tests.fixtures.servers import embedded_server
from tests.fixtures.stores import IQDB_TABLE, IqdbFile, signature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from iqdb_core.follower import Follower
    from iqdb_core.store import SignatureStore

N_IMAGES = 6_000
GROUP = 1_500


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file as IQDB leaves it."""
    path = tmp_path / "iqdb.sqlite"
    averages, positions = cheap_rows(np.random.default_rng(5), N_IMAGES)
    blobs = [row.astype("<i2").tobytes() for row in positions]
    ids = np.random.default_rng(6).permutation(N_IMAGES).tolist()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(IQDB_TABLE)
        connection.executemany(
            "INSERT INTO images (post_id, avglf1, avglf2, avglf3, sig) VALUES (?, ?, ?, ?, ?)",
            zip(ids, *averages.T.tolist(), blobs, strict=True),
        )
    return path


class Opening:
    """A database and its index opened as a role does, with everything on disk."""

    def __init__(self, path: Path, *, is_kept: bool = True) -> None:
        self.settings = Settings(database_url=str(path))
        self.startup: Startup[Any] = Startup()
        self.compilation = Compilation(("index",), on_compiling=lambda: None, on_fast=lambda _: None)
        self.compilation._is_kept = is_kept
        self.startup.stack.callback(self.compilation.close)
        self.ahead = IndexAhead(self.settings, self.startup, self.compilation)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.startup.stack.close()
        forms.use_preferred()

    def open(self) -> tuple[ImageIndex, Follower]:
        store = open_database(self.settings, self.startup, self.ahead)
        self.applied_ahead = self.ahead._index.applied_seq if self.ahead._index else None
        return self.open_index(store)

    def open_index(self, store: SignatureStore) -> tuple[ImageIndex, Follower]:
        return open_index(
            self.settings, store, self.startup, self.compilation, self.ahead, on_failure=lambda _: None
        )


@pytest.fixture(autouse=True)
def _everything_is_on_disk_and_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(compiling, "are_kept", lambda _: True)
    monkeypatch.setattr(sqlite_takeover, "GROUP", GROUP)
    monkeypatch.setattr(index_ahead, "PLAIN_CHANGES", 100)
    yield
    forms.use_preferred()


def assert_is_whole(path: Path, index: ImageIndex) -> None:
    images = IqdbFile(path).live()
    assert index.image_count == len(images) == N_IMAGES
    for image_id in sorted(images)[::499]:
        assert index.get(image_id) == images[image_id]
        assert index.query(images[image_id], 1)[0].score > 99.9


def files_of(path: Path) -> set[str]:
    return {file.name for file in path.with_name("iqdb.sqlite.index").iterdir()}


def test_the_index_is_whole_when_the_store_is_open(path: Path) -> None:
    before = IqdbFile(path).table_digest()
    with Opening(path) as opening:
        index, follower = opening.open()
        assert opening.applied_ahead is not None, "not by the follower"
        assert (follower.applied_seq, follower.restart_reason) == (N_IMAGES, None)
        assert_is_whole(path, index)
    assert "manifest" in files_of(path), "an orderly end leaves a checkpoint"
    assert IqdbFile(path).table_digest() == before
    with Opening(path) as opening:
        index, _ = opening.open()
        assert opening.ahead._thread is not None, "read before the store was open"
        assert index.stats().checkpoint_refused is None
        assert_is_whole(path, index)


@pytest.fixture
def known(path: Path) -> Path:
    """A file with a checkpoint beside it, as a server leaves it."""
    with Opening(path) as opening:
        opening.open()
    return path


def test_the_checkpoint_is_read_while_the_store_is_compared(
    known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_read, is_compared = threading.Event(), threading.Event()
    read, compare = checkpoint._read_words, takeover.is_in_step

    def reading(*given: Any) -> Any:
        words = read(*given)
        is_read.set()
        assert is_compared.wait(60)
        return words

    def comparing(*given: Any) -> bool:
        assert is_read.wait(60), "nothing was read before it"
        is_compared.set()
        return compare(*given)

    monkeypatch.setattr(checkpoint, "_read_words", reading)
    monkeypatch.setattr(takeover, "is_in_step", comparing)
    with Opening(known) as opening:
        index, follower = opening.open()
        assert is_read.is_set()
        assert index.stats().checkpoint_refused is None
        assert follower.restart_reason is None
        assert_is_whole(known, index)


def test_what_another_program_did_meanwhile_is_in_an_index_that_was_read_before(known: Path) -> None:
    file = IqdbFile(known)
    file.remove(7)
    file.add(N_IMAGES + 1, signature(1))
    with Opening(known) as opening:
        index, follower = opening.open()
        assert follower.applied_seq == N_IMAGES + 2
        assert_is_whole(known, index)
        assert index.query(signature(1), 1)[0].image_id == N_IMAGES + 1


def test_a_store_that_cannot_be_opened_leaves_its_index_as_it_was(
    known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bool:
        raise sqlite3.OperationalError("disk I/O error")

    before = files_of(known)
    with monkeypatch.context() as patch, Opening(known) as opening:
        patch.setattr(takeover, "is_in_step", fail)
        with pytest.raises(StoreError):
            opening.open()
        assert opening.ahead._thread is not None
    assert files_of(known) == before
    with Opening(known) as opening:
        index, _ = opening.open()
        assert index.stats().checkpoint_refused is None
        assert_is_whole(known, index)


def test_a_server_that_is_stopped_while_the_index_is_read_leaves_it(
    known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(known)
    is_stopped = threading.Event()
    read, compare = checkpoint._read_words, takeover.is_in_step
    with Opening(known) as opening:

        def stopping(*given: Any) -> Any:
            opening.startup.stop()
            is_stopped.set()
            return read(*given)

        def comparing(*given: Any) -> bool:
            assert is_stopped.wait(60)
            return compare(*given)

        monkeypatch.setattr(checkpoint, "_read_words", stopping)
        monkeypatch.setattr(takeover, "is_in_step", comparing)
        with pytest.raises(Stopped):
            opening.open()
    assert files_of(known) == before


def test_a_damaged_checkpoint_is_refused_as_ever(known: Path) -> None:
    words = next(known.with_name("iqdb.sqlite.index").glob("*.words"))
    content = bytearray(words.read_bytes())
    content[-1] ^= 1
    words.write_bytes(content)
    with Opening(known) as opening:
        index, _ = opening.open()
        assert "checksum" in str(index.stats().checkpoint_refused)
        assert_is_whole(known, index)


def test_what_has_to_be_compiled_first_is_built_afterwards(path: Path) -> None:
    with Opening(path, is_kept=False) as opening:
        index, _ = opening.open()
        assert opening.applied_ahead is None
        assert_is_whole(path, index)


def test_an_index_in_trouble_is_left_to_the_follower(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[int] = []
    apply = ImageIndex.apply

    def full_once(index: ImageIndex, batch: Any) -> None:
        if threading.current_thread().name != "compilation":  # which warms up with an index of its own
            applied.append(batch.last_seq)
            if len(applied) == 2:
                raise OSError(28, "No space left on device")
        apply(index, batch)

    monkeypatch.setattr(ImageIndex, "apply", full_once)
    with Opening(path) as opening:
        index, follower = opening.open()
        assert applied == [GROUP, 2 * GROUP, N_IMAGES], "the rest in one batch, from the feed"
        assert follower.restart_reason is None
        assert_is_whole(path, index)


def test_a_disk_without_room_for_the_index_is_told_in_one_sentence(path: Path) -> None:
    open_store(str(path)).close()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Opening(path) as opening:
        store = open_database(opening.settings, opening.startup, opening.ahead)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(ConfigError, match=r"sqlite\.index cannot be written: File too large; choose"):
                opening.open_index(store)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_an_index_directory_in_use_is_told_as_before(path: Path) -> None:
    assert_in_use(path)


def test_a_checkpoint_in_use_is_told_as_before(known: Path) -> None:
    assert_in_use(known)


def assert_in_use(path: Path) -> None:
    with ImageIndex.open(path.with_name("iqdb.sqlite.index"), store_id="other"), Opening(path) as opening:
        with pytest.raises(Exception, match="in use by process"):
            opening.open()
        assert opening.applied_ahead is None


def test_a_commit_that_fails_leaves_no_index(path: Path) -> None:
    before = IqdbFile(path).table_digest()

    def fail(_: sa.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    sa.event.listen(sa.Engine, "commit", fail)
    try:
        with Opening(path) as opening, pytest.raises(StoreError):
            opening.open()
    finally:
        sa.event.remove(sa.Engine, "commit", fail)
    assert files_of(path) == {"lock"}
    assert IqdbFile(path).table_digest() == before
    with Opening(path) as opening:
        index, _ = opening.open()
        assert index.stats().checkpoint_refused is None
        assert_is_whole(path, index)


def test_a_server_that_is_stopped_meanwhile_leaves_no_index(path: Path) -> None:
    with Opening(path) as opening:
        step = opening.startup.step

        def stopped(progress: str) -> None:
            if progress.startswith(f"prepared {2 * GROUP:,}"):
                opening.startup.stop()
            step(progress)

        opening.startup.step = stopped  # type: ignore[method-assign]
        with pytest.raises(Stopped):
            opening.open()
    assert files_of(path) == {"lock"}
    assert IqdbFile(path).run("SELECT name FROM sqlite_master WHERE type = 'table'") == [("images",)]


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from api.roles import index_ahead
    from api.roles.index_ahead import IndexAhead
    from api.web.loading import Startup
    from iqdb_core import compiling
    from iqdb_core.compiling import Compilation
    from iqdb_core.settings import Settings
    from iqdb_core.store import open_store
    from iqdb_core.store.databases import sqlite_takeover

    path = Path(sys.argv[1])
    compiling.are_kept = lambda _: True
    sqlite_takeover.GROUP = int(sys.argv[2])
    index_ahead.PLAIN_CHANGES = 100
    compilation = Compilation(("index",), on_compiling=lambda: None, on_fast=lambda _: None)
    compilation.wait("index")
    ahead = IndexAhead(Settings(database_url=str(path)), Startup(), compilation)

    def die(done, total):
        if done == total or any(path.with_name(path.name + ".index").glob("*.rows")):
            os.kill(os.getpid(), signal.SIGKILL)

    open_store(str(path), progress=die, receiver=ahead)
"""


def test_a_server_that_is_killed_meanwhile_starts_anew(path: Path) -> None:
    before = IqdbFile(path).table_digest()
    died = programs.run(KILLED, path, GROUP)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert IqdbFile(path).run("SELECT name FROM sqlite_master WHERE type = 'table'") == [("images",)]
    averages, positions = cheap_rows(np.random.default_rng(5), N_IMAGES)
    with embedded_server(path) as server:
        assert server.client.get("/status").json()["images"] == N_IMAGES
        for row in range(0, N_IMAGES, 1999):
            hash_text = codec.to_hash(signature_at(averages, positions, row))
            assert server.client.post(f"/query?limit=1&hash={hash_text}").json()[0]["score"] > 99.9
        assert "refused" not in server.errors()
    assert IqdbFile(path).table_digest() == before
