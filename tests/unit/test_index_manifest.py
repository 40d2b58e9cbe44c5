"""The manifest comes back as it was; it is refused when not ours, not whole or of another version."""

from __future__ import annotations

import json
import struct
from dataclasses import fields, replace

import numpy as np
import pytest

from iqdb_core.errors import CheckpointInvalid
from iqdb_core.index.disk import manifest as manifest_format
from iqdb_core.index.disk.manifest import Manifest, SegmentEntry
from iqdb_core.index.rows import Rows
from iqdb_core.model import Mark
from tests.fixtures.index_rows import random_rows


def example(head_rows: int = 3, segments: int = 2) -> Manifest:
    rng = np.random.default_rng(1)
    averages, positions = random_rows(rng, head_rows)
    return Manifest(
        store_id="a store",
        applied_seq=2**40,
        lineage=Mark(2**40 - 3, "a token"),
        segments=[
            SegmentEntry(
                number=number,
                n_images=70,
                n_alive=1,
                n_alive_words=2,
                n_words=99,
                words_checksum=2**64 - 1 - number,
                rows_checksum=2**63 + number,
            )
            for number in range(segments)
        ],
        counts=rng.integers(0, 100, 98_304).astype(np.int32),
        alive=[rng.integers(0, 2**63, 2).astype(np.uint64) for _ in range(segments)],
        head=Rows(np.array([2**63 - 1, 0, 5][:head_rows], dtype=np.int64), averages, positions),
    )


@pytest.mark.parametrize(("head_rows", "segments"), [(3, 2), (0, 0), (0, 1), (1, 0)])
def test_round_trip(head_rows: int, segments: int) -> None:
    before = example(head_rows, segments)
    after = manifest_format.from_bytes(manifest_format.to_bytes(before), "x")
    for field in fields(Manifest):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if isinstance(old, np.ndarray):
            assert new.dtype == old.dtype
            assert new.shape == old.shape
            assert (new == old).all()
        elif field.name == "alive":
            assert [words.tolist() for words in new] == [words.tolist() for words in old]
        elif field.name == "head":
            for column in fields(Rows):
                was, now = getattr(old, column.name), getattr(new, column.name)
                assert (was.dtype, was.tolist()) == (now.dtype, now.tolist())
        else:
            assert new == old


def sealed(body: bytes) -> bytes:
    """Return a body with a checksum that is right."""
    return body + struct.pack("<Q", manifest_format._checksum(body))


def rebuilt(header: dict[str, object], payload: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return sealed(
        struct.pack("<8sII", manifest_format.MAGIC, manifest_format.VERSION, len(text)) + text + payload
    )


def parts() -> tuple[dict[str, object], bytes]:
    raw = manifest_format.to_bytes(example())
    length = struct.unpack_from("<8sII", raw)[2]
    return json.loads(raw[16 : 16 + length]), raw[16 + length : -8]


def test_every_cut_is_refused() -> None:
    raw = manifest_format.to_bytes(example())
    for size in [0, 1, 8, 15, 23, 24, 100, 1000, len(raw) // 2, len(raw) - 8, len(raw) - 1]:
        with pytest.raises(CheckpointInvalid, match="cut short"):
            manifest_format.from_bytes(raw[:size], "x")


def test_flipped_bits_are_refused() -> None:
    raw = manifest_format.to_bytes(example())
    for offset in [16, 40, 500, len(raw) // 2, len(raw) - 9, len(raw) - 8, len(raw) - 1]:
        damaged = bytearray(raw)
        damaged[offset] ^= 1
        with pytest.raises(CheckpointInvalid, match="wrong checksum"):
            manifest_format.from_bytes(bytes(damaged), "x")


def test_another_magic_is_refused_by_name() -> None:
    raw = b"SQLite f" + manifest_format.to_bytes(example())[8:]
    with pytest.raises(CheckpointInvalid, match="checkpoint x refused: it is not the manifest of an index"):
        manifest_format.from_bytes(raw, "x")


@pytest.mark.parametrize("version", [0, 1, 2, manifest_format.VERSION + 1, 2**32 - 1])
def test_another_version_is_refused_by_name(version: int) -> None:
    raw = manifest_format.to_bytes(example())
    raw = raw[:8] + struct.pack("<I", version) + raw[12:]
    with pytest.raises(CheckpointInvalid, match=f"format version is {version}; this program reads"):
        manifest_format.from_bytes(raw, "x")


@pytest.mark.parametrize(
    "change",
    [
        {"head_rows": 4},
        {"head_rows": 2},
        {"head_rows": None},
        {"segments": [{}]},
        {"segments": []},
        {"applied_seq": "many"},
    ],
)
def test_header_that_contradicts_the_content_is_refused(change: dict[str, object]) -> None:
    header, payload = parts()
    assert manifest_format.from_bytes(rebuilt(header, payload), "x").store_id == "a store"
    with pytest.raises(CheckpointInvalid, match="its header contradicts its content"):
        manifest_format.from_bytes(rebuilt({**header, **change}, payload), "x")


@pytest.mark.parametrize("field", ["store_id", "lineage"])
def test_header_without_a_field_is_refused(field: str) -> None:
    header, payload = parts()
    del header[field]
    with pytest.raises(CheckpointInvalid, match="contradicts"):
        manifest_format.from_bytes(rebuilt(header, payload), "x")


def test_no_lineage_stays_none() -> None:
    raw = manifest_format.to_bytes(replace(example(), lineage=None))
    assert manifest_format.from_bytes(raw, "x").lineage is None
