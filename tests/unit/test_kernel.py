"""Compiled code is kept as long as the content of what was compiled into it, and no longer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import iqdb_core

COUNT = """
import numpy as np
from iqdb_core.index.segment.buckets import is_repeat

assert not is_repeat(np.array([1, 2, 3], dtype=np.int16), 2)
print(sum(is_repeat.stats.cache_hits.values()), sum(is_repeat.stats.cache_misses.values()))
"""


def test_code_is_compiled_again_when_a_file_below_it_changes_or_it_was_cut_and_not_when_a_time_does(
    tmp_path: Path,
) -> None:
    library = tmp_path / "iqdb_core"
    shutil.copytree(Path(iqdb_core.__file__).parent, library, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def hits_and_misses() -> str:
        done = subprocess.run(
            [sys.executable, "-c", COUNT],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def cut_short(ending: str) -> None:
        files = list((tmp_path / "cache").rglob(f"*.{ending}"))
        assert files
        for file in files:
            os.truncate(file, file.stat().st_size // 2)

    def add_comment(file: str) -> None:
        with (library / "index" / file).open("a") as opened:
            opened.write("# more\n")

    assert hits_and_misses() == "0 1"
    for file in library.rglob("*.py"):
        os.utime(file, (1, 1))
    assert hits_and_misses() == "1 0"
    add_comment("ranking/best.py")  # knows the segment, which does not know it
    assert hits_and_misses() == "1 0"
    add_comment("simd/words.py")
    assert hits_and_misses() == "0 1"
    assert hits_and_misses() == "1 0"
    for ending in ("nbc", "nbi"):
        cut_short(ending)
        assert hits_and_misses() == "0 1"
        assert hits_and_misses() == "1 0"
