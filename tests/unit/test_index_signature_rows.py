"""Signatures beside a segment: the file and the memory answer alike, and a damaged file does not pass."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iqdb_core import forms
from iqdb_core.codec import SIGNATURE_BYTES
from iqdb_core.errors import IndexStateError
from iqdb_core.index.disk.open_files import OpenFiles
from iqdb_core.index.disk.signature_rows import (
    CHUNK_ROWS,
    SLOT_BYTES,
    FileRows,
    MemoryRows,
    signatures_in,
    write_rows,
)
from iqdb_core.index.rows import Signatures
from tests.fixtures.index_rows import cheap_rows, realistic_rows, signature_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N = 2 * CHUNK_ROWS + 100


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Some as pictures have them, some that take more room, and some that are stored plain."""
    averages, positions = cheap_rows(np.random.default_rng(3), N)
    realistic = realistic_rows(np.random.default_rng(4), 1_000)
    kind = np.arange(N) // 7 % 4
    like_pictures = np.flatnonzero(kind > 0)
    averages[like_pictures] = np.resize(realistic[0], (len(like_pictures), 3))
    positions[like_pictures] = np.resize(realistic[1], (len(like_pictures), 3, 40))
    positions[kind == 3, 1] = positions[kind == 3, 1, ::-1].copy()
    return averages, positions


@pytest.fixture(scope="module")
def file(rows: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> FileRows:
    path = tmp_path_factory.mktemp("rows") / "1.rows"
    checksum = write_rows(path, Signatures(*rows))
    opened = FileRows(path, N, OpenFiles())
    assert opened.checksum() == checksum
    return opened


@pytest.fixture
def few(rows: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> FileRows:
    """Forty rows of every kind in a file."""
    path = tmp_path / "1.rows"
    write_rows(path, Signatures(rows[0][:40], rows[1][:40]))
    return FileRows(path, 40, OpenFiles())


def test_file_of_pictures_takes_less_than_half(tmp_path: Path) -> None:
    rows = realistic_rows(np.random.default_rng(3), 2_000)
    write_rows(tmp_path / "1.rows", Signatures(*rows))
    assert (tmp_path / "1.rows").stat().st_size < 2_000 * SIGNATURE_BYTES / 2


def test_a_file_of_random_signatures_is_hardly_larger_than_plain(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    positions = np.sort(rng.integers(1, 16_384, (2_000, 3, 40)), axis=2).astype(np.int16)
    write_rows(tmp_path / "1.rows", Signatures(rng.random((2_000, 3)), positions))
    assert (tmp_path / "1.rows").stat().st_size <= 2_000 * (SIGNATURE_BYTES + 4)


def test_plain_and_compiled_forms_write_the_same_file_and_read_it(
    rows: tuple[np.ndarray, np.ndarray], file: FileRows, tmp_path: Path
) -> None:
    forms.use_plain()
    try:
        write_rows(tmp_path / "1.rows", Signatures(*rows))
        found = file.read(np.arange(0, N, 3))
    finally:
        forms.use_preferred()
    assert (tmp_path / "1.rows").read_bytes() == file.path.read_bytes()
    assert (found.positions == rows[1][::3]).all()
    assert (found.averages == rows[0][::3]).all()


@settings(max_examples=60)
@given(st.data())
def test_any_selection_reads_the_same_from_file_and_memory(
    rows: tuple[np.ndarray, np.ndarray], file: FileRows, data: st.DataObject
) -> None:
    step = data.draw(st.sampled_from([1, 2, 15, 16, 17, 18, 1000]))
    start = data.draw(st.integers(0, N - 1))
    stop = data.draw(st.integers(start, N))
    docs = np.arange(start, stop, step)
    extra = data.draw(st.sets(st.integers(0, N - 1), max_size=20))
    docs = np.union1d(docs, np.array(sorted(extra), dtype=np.int64))
    for source in (file, MemoryRows(Signatures(*rows))):
        if len(docs):
            source.prefetch(int(docs[0]), int(docs[-1]))
        averages, positions = source.read(docs)
        assert (averages == rows[0][docs]).all()
        assert (positions == rows[1][docs]).all()
        if len(docs):
            few = signatures_in(source.raw(docs[:40].tolist()) + source.raw(docs[:1].tolist()))
            assert (few.averages == rows[0][[*docs[:40], docs[0]]]).all()
            assert (few.positions == rows[1][[*docs[:40], docs[0]]]).all()


def test_one_signature_reads_the_same_from_file_and_memory(
    rows: tuple[np.ndarray, np.ndarray], file: FileRows
) -> None:
    memory = MemoryRows(Signatures(*rows))
    assert len(memory) == len(file) == N
    assert (memory.nbytes, file.nbytes) == (N * SIGNATURE_BYTES, 0)
    for row in (0, CHUNK_ROWS, N - 1):
        assert memory.signature(row) == file.signature(row) == signature_at(*rows, row)


def test_file_that_exists_is_never_overwritten(rows: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "1.rows"
    path.write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        write_rows(path, Signatures(rows[0][:1], rows[1][:1]))
    assert path.read_bytes() == b"kept"


@pytest.mark.parametrize(
    "size", [0, 1, 40 * SLOT_BYTES - 8, 40 * SLOT_BYTES + 4, 40 * (SIGNATURE_BYTES + 4) + 8]
)
def test_file_of_another_size_is_refused(few: FileRows, size: int) -> None:
    os.truncate(few.path, size)
    with pytest.raises(IndexStateError, match=rf"1\.rows has {size} bytes, which cannot be 40 signatures"):
        FileRows(few.path, 40, OpenFiles())


def readings(rows: FileRows) -> list[Callable[[], object]]:
    return [lambda: rows.signature(25), lambda: rows.read(np.arange(40)), lambda: rows.raw([25])]


def test_file_cut_short_while_open_is_noticed(few: FileRows) -> None:
    few.signature(25)
    os.truncate(few.path, 41 * SLOT_BYTES)
    for read in readings(few):
        with pytest.raises(IndexStateError, match=r"1\.rows was changed by another program"):
            read()
    with pytest.raises(IndexStateError, match="ends early"):
        few.checksum()


def damaged_while_open(few: FileRows, content: bytes) -> FileRows:
    """Return the file, opened, with other content, as if the disk had changed it."""
    was = few.path.stat()
    os.utime(few.path, ns=(1, was.st_mtime_ns))
    few.path.write_bytes(content)
    os.utime(few.path, ns=(1, was.st_mtime_ns))
    return few


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_file_content_is_refused_by_name_or_read_as_signatures(
    few: FileRows, data: st.DataObject
) -> None:
    """Foreign positions in compiled code would write anywhere in memory."""
    content = bytearray(few.path.read_bytes())
    whole = bytes(content)
    checksum = few.checksum()
    links = st.integers(0, 39).map(lambda row: row * SLOT_BYTES)
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(links) + data.draw(st.integers(0, 3))
        at = data.draw(st.one_of(st.just(start), st.integers(0, len(content) - 1)))
        content[at] = data.draw(st.one_of(st.integers(0, 255), st.just(content[at] ^ 1 << at % 8)))
    damaged = damaged_while_open(few, bytes(content))
    assert (few.checksum() == checksum) == (bytes(content) == whole)
    for read in readings(damaged):
        try:
            read()
        except IndexStateError as error:
            assert few.path.name in str(error)  # noqa: PT017 - other errors, and none, are looked at too
    try:
        found = signatures_in(damaged.raw([25, 3]))
    except IndexStateError:
        pass
    else:
        assert (np.abs(found.positions.astype(int)) < 16_384).all()
        assert found.positions.all()
    damaged_while_open(few, whole)


@pytest.mark.parametrize("offset", [0, 300, CHUNK_ROWS * SLOT_BYTES + 8, N * SLOT_BYTES + 9, -1])
def test_any_flipped_bit_changes_the_checksum(file: FileRows, tmp_path: Path, offset: int) -> None:
    content = bytearray(file.path.read_bytes())
    content[offset] ^= 64
    (tmp_path / "1.rows").write_bytes(content)
    assert FileRows(tmp_path / "1.rows", N, OpenFiles()).checksum() != file.checksum()


def test_swapped_chunks_change_the_checksum(file: FileRows, tmp_path: Path) -> None:
    content = file.path.read_bytes()
    size = CHUNK_ROWS * SLOT_BYTES
    (tmp_path / "1.rows").write_bytes(content[size : 2 * size] + content[:size] + content[2 * size :])
    assert FileRows(tmp_path / "1.rows", N, OpenFiles()).checksum() != file.checksum()


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("content", [b"\xff\x7f", b"\0\0"])
def test_file_that_others_wrote_to_is_refused_by_name(
    rows: tuple[np.ndarray, np.ndarray], tmp_path: Path, is_open: bool, content: bytes
) -> None:
    path = tmp_path / "1.rows"
    write_rows(path, Signatures(rows[0][:9], rows[1][:9]))
    os.utime(path, ns=(1, 1))
    files = OpenFiles()
    opened = FileRows(path, 9, files)
    if not is_open:
        files.close()
    path.write_bytes(content * (path.stat().st_size // 2))
    with pytest.raises(IndexStateError, match=r"1\.rows was changed by another program"):
        opened.read(np.arange(9))
    os.utime(path, ns=(1, 1))  # the writer may have restored the old time
    with pytest.raises(IndexStateError, match=r"1\.rows is damaged"):
        opened.read(np.arange(9))
    with pytest.raises(IndexStateError, match="is damaged"):
        signatures_in(opened.raw([3]))


def test_removed_file_is_readable_while_it_is_open_and_said_to_be_gone_then(
    rows: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "1.rows"
    write_rows(path, Signatures(rows[0][:1], rows[1][:1]))
    files = OpenFiles()
    opened = FileRows(path, 1, files)
    opened.sync()
    path.unlink()
    assert opened.signature(0) == signature_at(*rows, 0)
    files.drop(path)
    with pytest.raises(FileNotFoundError):
        opened.signature(0)
