"""After `warm_up` nothing is compiled any more, whatever a server then does with the index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

USE_EVERYTHING = """
import pathlib
import pkgutil
import sys

import numpy as np
from numba.core.registry import CPUDispatcher

import iqdb_core.index
from iqdb_core.index import ImageIndex, warm_up
from iqdb_core.model import QuerySignature
from tests.fixtures.index_rows import Feed, cheap_rows, random_signature, signature_at


def compiled() -> dict[str, int]:
    kernels = {}
    for module in pkgutil.walk_packages(iqdb_core.index.__path__, "iqdb_core.index."):
        for name, value in vars(sys.modules.get(module.name)).items() if module.name in sys.modules else ():
            if isinstance(value, CPUDispatcher):
                kernels[f"{value.__module__}.{name}"] = len(value.signatures)
    return kernels


warm_up()
before = compiled()
rng = np.random.default_rng(1)
for _ in range(2):
    with ImageIndex.open(pathlib.Path(sys.argv[1]), store_id="store") as index:
        feed = Feed(index.applied_seq)
        for n in (70_000, 5_000, 1_500, 100):
            rows = cheap_rows(rng, n)
            ids = np.sort(rng.choice(200_000, n, replace=False))
            for batch in (
                feed.puts(ids, rows),
                feed.deletes(ids[: n // 3 : 2].tolist()),
                feed.batch((7, random_signature(rng)), (8, None)),
            ):
                batch.image_ids.flags.writeable = batch.positions.flags.writeable = False
                index.apply(batch)
            for min_score in (None, 10.0, 80):  # whole numbers too
                index.query(signature_at(*rows, 3), 10, min_score)
                index.query(signature_at(rows[0] * 0, rows[1], 3), 1000, min_score)
            index.find_copies([QuerySignature(signature_at(*rows, row)) for row in range(3)], limit=10)
            index.get(7)
            index.maintain()
        index.save_checkpoint()
after = compiled()
assert before, "no kernel was found"
late = {name: (before.get(name), count) for name, count in after.items() if before.get(name) != count}
assert not late, f"compiled after warm_up: {late}"
"""


def test_nothing_is_compiled_after_warm_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", USE_EVERYTHING, str(tmp_path)]
    done = subprocess.run(command, cwd=Path.cwd(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
