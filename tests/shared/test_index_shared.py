"""The index ranks and scores as danbooru/iqdb does, on real signatures."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from iqdb_core.codec import from_hash
from iqdb_core.index import ImageIndex
from tests.fixtures.index_rows import batch_of_rows

SHARED = Path(__file__).resolve().parents[3] / "shared"
TOLERANCE = 0.001

pytestmark = pytest.mark.shared


@pytest.mark.parametrize("name", ["small-40", "e621-10k"])
def test_golden_queries_have_their_matches_and_scores(name: str) -> None:
    database = SHARED / "signatures" / f"{name}.sqlite"
    golden = SHARED / "golden" / f"queries-{name}.jsonl"
    if not golden.exists() or not database.exists():
        pytest.skip("../shared is not there")
    with sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True) as connection:
        rows = connection.execute("SELECT post_id, avglf1, avglf2, avglf3, sig FROM images").fetchall()
    connection.close()
    averages = np.array([row[1:4] for row in rows])
    positions = np.frombuffer(b"".join(row[4] for row in rows), dtype="<i2").reshape(-1, 3, 40)
    with ImageIndex.open(None, store_id="shared") as index:
        index.apply(batch_of_rows(1, [row[0] for row in rows], (averages, positions)))
        for line in golden.read_text().splitlines():
            asked = json.loads(line)
            expected = asked["matches"]
            matches = index.query(from_hash(asked["hash"]), len(expected))
            scores = [score for _, score in expected]
            assert [match.score for match in matches] == pytest.approx(scores, abs=TOLERANCE)
            # Equal scores may change places within the tolerance.
            found = {match.image_id: match.score for match in matches}
            for image_id, score in expected:
                if score > scores[-1] + TOLERANCE:
                    assert found[image_id] == pytest.approx(score, abs=TOLERANCE)
