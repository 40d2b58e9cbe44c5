"""Kernels work where compiled code can be kept nowhere, and reach nowhere out of bounds.

For every kernel both need all of them compiled anew, which is dear: one process shows both, a read-only file
system without a cache and every access checked. What comes before that is the same of some, and of the code
as it is shipped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import iqdb_core

HASH = """
import tempfile

tempfile.tempdir = {no_folder!r}
import iqdb_core
from iqdb_core.signature import from_channels
from iqdb_core.signature.haar import coefficients

assert iqdb_core.__file__.startswith({root!r}), iqdb_core.__file__
print(from_channels(*[[0] * 16384] * 3).averages, flush=True)
assert not coefficients.stats.cache_path, "there was a cache after all"
"""
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
from iqdb_core.index.ranking.query_call import search_part
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
assert isinstance(search_part, CPUDispatcher)
assert not search_part.stats.cache_path, "there was a cache after all"
print("answered", flush=True)
tempfile.tempdir = {later!r}
sys.exit(pytest.main(["-p", "no:cacheprovider", {tests!r}, "-k", {chosen!r}]))
"""
CHOSEN = "all_deleted or open_inputs or (every_size and (513 or 4097)) or (equal and 3000)"
RECORDS = "forged_records or any_words or fewer_bytes or rarest or without_order"
BETWEEN_GUARDS = f"{CHOSEN} or more_signatures_than_usual or forged_segment or {RECORDS}"
TESTS = Path(__file__).with_name("test_index_kernels.py")
SHARERS = Path(__file__).with_name("test_index_sharers.py")
ROW_CODE = TESTS.parents[1] / "unit" / "test_index_row_code.py"
FORGED = TESTS.parents[1] / "unit" / "test_index_forged_segments.py"


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A file, and a copy of the library beside it, in whose folders nothing can be written."""
    root = tmp_path / "iqdb_core"
    shutil.copytree(
        Path(iqdb_core.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__", "migrations")
    )
    # Root may write to what is read-only. A file where a folder would have to be stops root as well.
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        (folder / "__pycache__").touch()
    (tmp_path / "later").mkdir()
    no_folder = tmp_path / "file"
    no_folder.touch()
    return no_folder


def run(program: str, nowhere: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the copy of the library where it can write to no folder that kernels try."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere), **settings}
    environment["PYTHONPATH"] = os.pathsep.join([str(nowhere.parent), str(TESTS.parents[2])])
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=nowhere.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_kernels_work_without_a_place_to_keep_them(nowhere: Path) -> None:
    """The kernels of one picture's signature, which are the quickest to compile."""
    root = nowhere.with_name("iqdb_core")
    done = run(HASH.format(root=str(root), no_folder=str(nowhere)), nowhere)
    assert (done.stdout, done.returncode) == ("(0.0, 0.0, 0.0)\n", 0), done.stderr


@pytest.mark.waits  # for one process, which takes longer than any other test
@pytest.mark.timeout(420)
@pytest.mark.skipif(sys.platform != "linux", reason="guards are made with the system's own calls")
@pytest.mark.parametrize("side", ["end", "start"])
def test_compiled_code_reaches_nothing_beyond_an_array(side: str) -> None:
    """The code as it is shipped, with all arrays between guards; see below for every access."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fixtures.guarded_memory", side, "-p", "no:cacheprovider"),
            *(str(TESTS), str(SHARERS), str(ROW_CODE), str(FORGED), "-k", BETWEEN_GUARDS),
        ],
        cwd=TESTS.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="guards are made with the system's own calls")
@pytest.mark.parametrize(("side", "beyond"), [("end", 5), ("start", -1)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64"])
def test_reading_one_item_beyond_an_array_kills_the_process(side: str, beyond: int, dtype: str) -> None:
    program = (
        "import sys, ctypes, numpy as np\n"
        "from tests.fixtures.guarded_memory import GuardedMemory\n"
        f"GuardedMemory({side!r}).install()\n"
        f"array = np.arange(5, dtype={dtype!r})\n"
        "sys.stdout.write(str(array.sum()))\n"
        "sys.stdout.flush()\n"
        f"ctypes.string_at(array.ctypes.data + {beyond} * array.itemsize, 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TESTS.parents[2], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("10", -signal.SIGSEGV), done.stderr


@pytest.mark.long
@pytest.mark.timeout(420)
def test_every_kernel_works_without_a_place_and_stays_in_bounds(nowhere: Path) -> None:
    root, later = nowhere.with_name("iqdb_core"), nowhere.with_name("later")
    program = USE.format(
        root=str(root), no_folder=str(nowhere), later=str(later), tests=str(TESTS), chosen=CHOSEN
    )
    done = run(program, nowhere, NUMBA_BOUNDSCHECK="1")
    assert done.stdout.startswith("answered\n"), done.stderr
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
