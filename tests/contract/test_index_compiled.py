"""Kernels work where compiled code can be kept nowhere: a read-only file system without a cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import iqdb_core

USE = """
import pathlib
import tempfile

import numpy as np

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
print("answered")
"""


def test_kernels_work_without_a_place_to_keep_them(tmp_path: Path) -> None:
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
    environment |= {"HOME": str(no_folder), "XDG_CACHE_HOME": str(no_folder), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", USE.format(root=str(root), no_folder=str(no_folder))],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "answered\n", done.stderr
