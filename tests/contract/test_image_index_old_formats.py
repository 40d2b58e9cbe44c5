"""Checkpoints that earlier versions wrote still open, with the answers they gave then."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from iqdb_core.codec import from_hash
from iqdb_core.index import ImageIndex
from iqdb_core.index.disk.manifest import VERSION

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "checkpoints"


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_checkpoint_of_every_version_opens_with_its_answers(version: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(FOLDER / f"version_{version}.zip") as sample:
        sample.extractall(tmp_path)
    recorded = json.loads((tmp_path / "answers.json").read_text())
    with ImageIndex.open(tmp_path / "index", store_id="sample") as index:
        assert index.stats().checkpoint_refused is None
        assert (index.applied_seq, index.image_count) == (recorded["applied_seq"], recorded["images"])
        for asked in recorded["queries"]:
            matches = index.query(from_hash(asked["hash"]), 5)
            assert [[match.image_id, match.score] for match in matches] == asked["matches"]
