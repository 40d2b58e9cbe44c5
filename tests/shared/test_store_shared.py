"""Ten thousand real signatures in a file of IQDB become a store, change for change."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from iqdb_core.store import open_store
from iqdb_core.store.migrate import copy_store
from tests.fixtures.stores import IqdbFile, live_images

SHARED = Path(__file__).parents[3] / "shared"
ORIGINAL = SHARED / "signatures" / "e621-10k.sqlite"

pytestmark = pytest.mark.shared


@pytest.fixture
def path(tmp_path: Path) -> Path:
    if not ORIGINAL.exists():
        pytest.skip("../shared is not here")
    copy = tmp_path / "e621-10k.sqlite"
    shutil.copyfile(ORIGINAL, copy)
    return copy


def test_a_real_file_is_taken_over_and_stays_as_it_was(path: Path) -> None:
    file = IqdbFile(path)
    before = file.table_digest()
    store = open_store(str(path))
    assert file.table_digest() == before
    assert store.live_count() == store.head_seq() == 10_000
    batch = store.changes_since(0, 65_536)
    store.close()
    assert file.table_digest() == before
    assert {found.name for found in path.parent.iterdir()} == {path.name}

    with closing(sqlite3.connect(ORIGINAL.as_uri() + "?mode=ro&immutable=1", uri=True)) as original:
        rows = original.execute(
            "SELECT post_id, avglf1, avglf2, avglf3, sig FROM images ORDER BY id"
        ).fetchall()
    assert batch.seqs.tolist() == list(range(1, 10_001))
    assert batch.is_live.all()
    assert batch.image_ids.tolist() == [row[0] for row in rows]
    assert np.array_equal(batch.averages, np.array([row[1:4] for row in rows]))
    assert batch.positions.astype("<i2").tobytes() == b"".join(row[4] for row in rows)


def test_a_real_file_moves_to_the_other_database_and_back(
    path: Path, postgres_url: str, tmp_path: Path
) -> None:
    assert copy_store(str(path), postgres_url).live_count == 10_000
    back = tmp_path / "back.sqlite"
    assert copy_store(postgres_url, str(back)).live_count == 10_000
    assert IqdbFile(back).live() == IqdbFile(path).live()
    store = open_store(postgres_url)
    assert live_images(store) == IqdbFile(path).live()
    store.close()
