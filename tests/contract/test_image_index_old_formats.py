"""A checkpoint of this format opens with the answers it gave when it was written; older ones are refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from iqdb_core.codec import from_hash
from iqdb_core.index import ImageIndex
from iqdb_core.index.disk.manifest import VERSION

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "checkpoints"


def unpacked(version: int, folder: Path) -> Any:
    """Unpack a sample and return what was recorded of it."""
    with zipfile.ZipFile(FOLDER / f"version_{version}.zip") as sample:
        sample.extractall(folder)
    return json.loads((folder / "answers.json").read_text())


def test_checkpoint_of_this_version_opens_with_its_answers(tmp_path: Path) -> None:
    recorded = unpacked(VERSION, tmp_path)
    with ImageIndex.open(tmp_path / "index", store_id="sample") as index:
        assert index.stats().checkpoint_refused is None
        assert (index.applied_seq, index.image_count) == (recorded["applied_seq"], recorded["images"])
        for asked in recorded["queries"]:
            matches = index.query(from_hash(asked["hash"]), 5)
            assert [[match.image_id, match.score] for match in matches] == asked["matches"]


@pytest.mark.parametrize("version", range(1, VERSION))
def test_checkpoint_of_an_older_version_is_refused_by_name_and_set_aside(
    version: int, tmp_path: Path
) -> None:
    unpacked(version, tmp_path)
    with ImageIndex.open(tmp_path / "index", store_id="sample") as index:
        refused = index.stats().checkpoint_refused
        assert refused is not None
        assert f"its format version is {version}; this program reads version {VERSION}" in refused
        assert (index.applied_seq, index.image_count) == (0, 0)
    assert {entry.name for entry in (tmp_path / "index").iterdir()} == {"lock", "refused"}
