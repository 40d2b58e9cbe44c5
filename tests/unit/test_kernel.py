"""Compiled code is kept until the content of its files changes, and nothing is compiled twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import iqdb_core
from iqdb_core.kernel import kernel

COUNT = """
import os
import sys

import numpy as np
import numba.core.decorators

for _ in sys.stdin:  # a process for each line; the compiler is imported once for all
    pid = os.fork()
    if pid == 0:
        from iqdb_core.index.segment.buckets import is_repeat

        assert not is_repeat(np.array([1, 2, 3], dtype=np.int16), 2)
        stats = is_repeat.stats
        print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


@kernel()
def plus_one(number: int) -> int:
    return number + 1


@kernel(merged=True)
def twice(number: int) -> int:
    return 2 * plus_one(number)


@kernel()
def both(number: int) -> int:
    return twice(number) + plus_one(1) + plus_one(2)


def test_nothing_is_compiled_for_each_constant_nor_apart_from_its_only_caller() -> None:
    assert both(3) == 13
    assert len(plus_one.overloads) <= 1  # none where `both` was kept by an earlier run
    assert len(twice.overloads) == 0
    assert twice(3) == 8  # from Python it is a kernel like any other


def test_code_is_compiled_again_when_a_file_below_it_changes_or_it_was_cut_and_not_when_a_time_does(
    tmp_path: Path,
) -> None:
    library = tmp_path / "iqdb_core"
    shutil.copytree(Path(iqdb_core.__file__).parent, library, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def hits_and_misses() -> str:
        print("go", file=asked, flush=True)
        return answers.readline().strip()

    def cut_short(ending: str) -> None:
        files = list((tmp_path / "cache").rglob(f"*.{ending}"))
        assert files
        for file in files:
            os.truncate(file, file.stat().st_size // 2)

    def add_comment(file: str) -> None:
        with (library / "index" / file).open("a") as opened:
            opened.write("# more\n")

    process = subprocess.Popen(
        [sys.executable, "-c", COUNT],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    asked, answers = process.stdin, process.stdout
    assert asked is not None
    assert answers is not None
    with process:
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
        asked.close()
        assert process.wait() == 0
