"""The whole of the shared data: every golden hash, and what every sample file is expected to become."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from iqdb_core.codec import to_hash
from iqdb_core.errors import ImageError
from iqdb_core.signature import from_image_bytes, read_image
from tests.fixtures.pictures import damaged_variant

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


def test_every_damaged_jpeg_has_the_hash_that_iqdb_gives_it_and_is_called_damaged() -> None:
    rows = [line.split("\t") for line in (SHARED / "golden" / "damaged.tsv").read_text().splitlines()]
    assert len(rows) > 400
    different, unnoticed = [], []
    for name, cut, text in rows:
        image = read_image(damaged_variant((SHARED / "sample" / name).read_bytes(), cut))
        if to_hash(image.signature) != text:
            different.append((name, cut))
        if image.is_damaged != cut.startswith(("minus", "cut")):
            unnoticed.append((name, cut))
    assert not different
    assert not unnoticed


def failing_files() -> dict[str, str]:
    """Return what the table of files that used to fail expects of each."""
    lines = (SHARED / "failing" / "MANIFEST.md").read_text().splitlines()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    return {name: expected for name, expected, _ in rows}


def test_files_that_used_to_fail_do_what_is_expected_of_them() -> None:
    expected = failing_files()
    assert len(expected) > 20
    got = {name: result(SHARED / "failing" / name) for name in expected}
    # Uncompressed planes of 16 bits are refused; a blank first frame counts like any other.
    others = {"tiff_rgb16_planar_uncompressed.tif"}
    assert {name for name, text in got.items() if not text.startswith("iqdb_")} == others
    assert got["tiff_rgb16_planar_uncompressed.tif"].startswith("UnsupportedFormat")
    jpegs = ["without_eoi", "last_byte_missing", "short_jfif_segment", "short_adobe_segment"]
    assert len({got[f"jpeg_{name}.jpg"] for name in jpegs}) == 1
    assert got["jpeg_cut_50pct.jpg"] == got["jpeg_cut_50pct_plus_eoi.jpg"]
    assert got["jpeg_cut_98pct.jpg"] == got["jpeg_cut_98pct_plus_eoi.jpg"]
    pngs = ["without_iend", "last_byte_missing", "iend_crc_wrong", "idat_crc_one_bit"]
    assert len({got[f"png_{name}.png"] for name in pngs}) == 1
    assert got["apng_default_image_outside_animation.png"] == got["png_without_iend.png"]
    assert got["tga_version1.tga"] == got["png_without_iend.png"]


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
