"""The whole of the shared data: every golden hash, and what every sample file is expected to become."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from iqdb_core.codec import to_hash
from iqdb_core.errors import ImageError
from iqdb_core.signature import from_image_bytes

pytestmark = pytest.mark.shared

SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(autouse=True)
def _shared_data() -> None:
    if not SHARED.is_dir():
        pytest.skip("the shared data is not beside the repository")


def result(path: Path) -> str:
    """Return the hash of a file, or the name of the error."""
    try:
        return to_hash(from_image_bytes(path.read_bytes()))
    except ImageError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(("table", "folder"), [("corpus", "corpus"), ("sample", ""), ("synthetic", "")])
def test_every_golden_hash_is_equal(table: str, folder: str) -> None:
    rows = [line.split("\t") for line in (SHARED / "golden" / f"{table}.tsv").read_text().splitlines()]
    with ThreadPoolExecutor(2) as pool:
        hashes = pool.map(result, [SHARED / folder / name for name, _ in rows])
        different = [name for (name, text), got in zip(rows, hashes, strict=True) if got != text]
    assert len(rows) >= 67
    assert not different


def test_every_sample_file_becomes_what_is_expected_of_it() -> None:
    """What the manifest lists but is not there is held back for other checks."""
    with (SHARED / "sample" / "manifest.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if (SHARED / "sample" / row["path"]).exists()]
    assert len(rows) > 300
    surprises = []
    for row in rows:
        got = result(SHARED / "sample" / row["path"])
        is_read = got.startswith("iqdb_")
        # "reject-or-partial" and "accept-or-reject": either is right, as long as nothing else happens.
        if (row["expect"] == "accept" and not is_read) or (row["expect"] == "reject" and is_read):
            surprises.append((row["path"], row["expect"], got[:80]))
    assert not surprises


def test_every_other_picture_of_the_corpus_is_read() -> None:
    """PNG, GIF and WebP have no golden hashes; they must at least be pictures."""
    with (SHARED / "corpus" / "manifest.csv").open(newline="") as table:
        names = [row["path"] for row in csv.DictReader(table)]
    paths = [path for name in names if (path := SHARED / "corpus" / name).exists()]
    with ThreadPoolExecutor(2) as pool:
        refused = [
            (path.name, got)
            for path, got in zip(paths, pool.map(result, paths), strict=True)
            if not got.startswith("iqdb_")
        ]
    assert len(paths) > 500
    assert not refused
