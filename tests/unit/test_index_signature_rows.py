"""Signatures beside a segment: the file and the memory answer alike, and a damaged file does not pass."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.codec import SIGNATURE_BYTES, to_bytes
from iqdb_core.errors import IndexStateError
from iqdb_core.index.disk.open_files import OpenFiles
from iqdb_core.index.disk.signature_rows import (
    CHUNK_ROWS,
    ROW,
    FileRows,
    MemoryRows,
    signatures_in,
    write_rows,
)
from iqdb_core.index.rows import Signatures
from tests.fixtures.index_rows import cheap_rows, signature_at

if TYPE_CHECKING:
    from pathlib import Path

N = 2 * CHUNK_ROWS + 100


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    return cheap_rows(np.random.default_rng(3), N)


@pytest.fixture(scope="module")
def file(rows: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> FileRows:
    path = tmp_path_factory.mktemp("rows") / "1.rows"
    checksum = write_rows(path, Signatures(*rows))
    opened = FileRows(path, N)
    assert opened.checksum() == checksum
    return opened


def test_file_holds_what_the_codec_makes(rows: tuple[np.ndarray, np.ndarray], file: FileRows) -> None:
    assert ROW.itemsize == SIGNATURE_BYTES
    raw = file.path.read_bytes()
    for row in (0, 1, N - 1):
        start = row * SIGNATURE_BYTES
        assert raw[start : start + SIGNATURE_BYTES] == to_bytes(signature_at(*rows, row))


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


@pytest.mark.parametrize("change", [-1, 1, -SIGNATURE_BYTES, SIGNATURE_BYTES])
def test_file_of_another_size_is_refused(
    rows: tuple[np.ndarray, np.ndarray], tmp_path: Path, change: int
) -> None:
    path = tmp_path / "1.rows"
    write_rows(path, Signatures(rows[0][:3], rows[1][:3]))
    os.truncate(path, 3 * SIGNATURE_BYTES + change)
    with pytest.raises(IndexStateError, match="bytes instead of 792"):
        FileRows(path, 3)


def test_file_cut_short_while_open_is_noticed(rows: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "1.rows"
    write_rows(path, Signatures(rows[0][:3], rows[1][:3]))
    opened = FileRows(path, 3)
    assert opened.signature(1) == signature_at(*rows, 1)
    os.truncate(path, 2 * SIGNATURE_BYTES + 5)
    for read in (lambda: opened.signature(1), lambda: opened.read(np.array([0])), lambda: opened.raw([0])):
        with pytest.raises(IndexStateError, match=r"1\.rows was changed by someone else"):
            read()
    with pytest.raises(IndexStateError, match="ends early"):
        opened.checksum()


@pytest.mark.parametrize("offset", [0, 300, CHUNK_ROWS * SIGNATURE_BYTES + 8, N * SIGNATURE_BYTES - 1])
def test_any_flipped_bit_changes_the_checksum(
    rows: tuple[np.ndarray, np.ndarray], tmp_path: Path, offset: int
) -> None:
    path = tmp_path / "1.rows"
    checksum = write_rows(path, Signatures(*rows))
    content = bytearray(path.read_bytes())
    content[offset] ^= 64
    path.write_bytes(content)
    assert FileRows(path, N).checksum() != checksum


def test_swapped_chunks_change_the_checksum(rows: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "1.rows"
    checksum = write_rows(path, Signatures(*rows))
    content = path.read_bytes()
    size = CHUNK_ROWS * SIGNATURE_BYTES
    path.write_bytes(content[size : 2 * size] + content[:size] + content[2 * size :])
    assert FileRows(path, N).checksum() != checksum


@pytest.mark.parametrize("is_open", [False, True])
def test_file_that_others_wrote_to_is_refused_by_name(
    rows: tuple[np.ndarray, np.ndarray], tmp_path: Path, is_open: bool
) -> None:
    """Foreign positions in compiled code would write anywhere in memory."""
    path = tmp_path / "1.rows"
    write_rows(path, Signatures(rows[0][:9], rows[1][:9]))
    os.utime(path, ns=(1, 1))
    files = OpenFiles()
    opened = FileRows(path, 9, files)
    if not is_open:
        files.close()
    path.write_bytes(b"\xff\x7f" * (9 * SIGNATURE_BYTES // 2))
    with pytest.raises(IndexStateError, match=r"1\.rows was changed by someone else"):
        opened.read(np.arange(9))
    os.utime(path, ns=(1, 1))  # whoever wrote may have put the time back
    with pytest.raises(IndexStateError, match=r"1\.rows is damaged: it holds positions that are none"):
        opened.read(np.arange(9))
    with pytest.raises(IndexStateError, match="a file of signatures is damaged"):
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
