"""Kernels work where compiled code can be kept nowhere, and reach nowhere out of bounds.

Both need every kernel compiled anew, so one process shows both: a read-only file system without a cache, and
every access checked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import iqdb_core

USE = """
import pathlib
import sys
import tempfile

import numpy as np
import pytest

tempfile.tempdir = {no_folder!r}
from numba.core.registry import CPUDispatcher
import iqdb_core
from iqdb_core.index import ImageIndex
from iqdb_core.index.ranking.query_call import search_all
from iqdb_core.model import ChangeBatch, Signature

assert iqdb_core.__file__.startswith({root!r}), iqdb_core.__file__
rng = np.random.default_rng(1)
n = 40
positions = np.sort(rng.permutation(np.arange(1, 16384))[: n * 120].reshape(n, 3, 40).astype(np.int16))
averages = rng.random((n, 3))
with ImageIndex.open(pathlib.Path({root!r}) / "files", store_id="none") as index:
    index.apply(ChangeBatch(np.arange(1, n + 1), np.arange(n), np.ones(n, bool), averages, positions))
    for image in range(n):
        asked = Signature(tuple(averages[image].tolist()), positions[image].tobytes())
        best = index.query(asked, 1)[0]
        assert (best.image_id, best.score) == (image, 100.0), best
        assert index.get(image) == asked
assert isinstance(search_all, CPUDispatcher)
assert not search_all.stats.cache_path, "there was a cache after all"
print("answered", flush=True)
tempfile.tempdir = None
sys.exit(pytest.main(["-p", "no:cacheprovider", {tests!r}, "-k", {chosen!r}]))
"""
CHOSEN = "all_deleted or open_inputs or (every_size and (513 or 4097)) or (equal and 3000)"
TESTS = Path(__file__).with_name("test_index_kernels.py")


@pytest.mark.timeout(420)
def test_kernels_work_without_a_place_to_keep_them_and_stay_in_bounds(tmp_path: Path) -> None:
    root = tmp_path / "iqdb_core"
    shutil.copytree(
        Path(iqdb_core.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__", "migrations")
    )
    # Root may write to what is read-only. A file where a folder would have to be stops root as well.
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        (folder / "__pycache__").touch()
    no_folder = tmp_path / "file"
    no_folder.touch()
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"HOME": str(no_folder), "XDG_CACHE_HOME": str(no_folder), "NUMBA_BOUNDSCHECK": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(TESTS.parents[2])])
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            USE.format(root=str(root), no_folder=str(no_folder), tests=str(TESTS), chosen=CHOSEN),
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("answered\n"), done.stderr
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
