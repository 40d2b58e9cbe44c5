"""What a server of one process does without: memory and time of libraries for other roles."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from types import ModuleType

import pytest

import iqdb_client
from iqdb_core import compiler_memory, jobs
from iqdb_core.store import open_store

EMBEDDED = """
import json, sys
import api.roles.cli, api.roles.commands.serve, api.roles.embedded
from iqdb_core.store import open_store
open_store(sys.argv[1]).close()
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_an_embedded_server_loads_no_client_of_others_and_no_compiler(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("store") / "new.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDED, str(path)], check=True, capture_output=True, text=True
    )
    loaded = set(json.loads(done.stdout))
    assert {"fastapi", "sqlalchemy"} <= loaded
    assert not loaded & {
        "numba",
        "llvmlite",
        "redis",
        "celery",
        "httpx",
        "rich",
        "alembic",
        "psycopg",
        "scipy",
    }


COMMAND = """
import json, sys
from api.roles import cli
code = None
try:
    cli.main(["status", *sys.argv[1:]])
except SystemExit as end:
    code = end.code
print(json.dumps([code, list(sys.modules)]))
"""


def test_a_command_loads_only_what_its_place_needs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Half of the time that `iqdb status` takes is for loading libraries."""
    path = tmp_path_factory.mktemp("store") / "new.sqlite"
    open_store(str(path)).close()
    servers = {"celery", "fastapi", "redis", "uvicorn"}
    for place, ends, needed, unneeded in (
        # A host that cannot be: nothing is waited for.
        (("--url", "http://xn--a/"), 1, "httpx", {"numpy", "PIL", "sqlalchemy", "iqdb_core.index"}),
        (("--db", str(path)), 0, "sqlalchemy", {"httpx", "numba"}),
    ):
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *place], check=True, capture_output=True, text=True
        )
        code, modules = json.loads(done.stdout.splitlines()[-1])
        assert (code, needed in modules) == (ends, True)
        assert not (servers | unneeded).intersection(modules)


SMAPS = """\
7f00000000-7f00100000 r--p 00000000 08:01 1 /a path/libllvmlite.so
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
7f00100000-7f00200000 r-xp 00000000 08:01 1 /a path/libllvmlite.so
Private_Dirty:         0 kB
Anonymous:             0 kB
7f00200000-7f00300000 r--p 00000000 08:01 1 /a path/libllvmlite.so
Private_Dirty:        64 kB
Anonymous:            64 kB
7f00300000-7f00400000 r--p 00000000 08:01 1 /a path/libllvmlite.so
Private_Dirty:         0 kB
Anonymous:             0 kB
Swap:                  4 kB
7f00400000-7f00500000 rw-p 00000000 08:01 1 /a path/libllvmlite.so
Private_Dirty:         0 kB
7f00500000-7f00600000 rw-p 00000000 00:00 0
Private_Dirty:         0 kB
7f00600000-7f00700000 r-xp 00000000 08:01 1 /a path/libc.so.6
Private_Dirty:         0 kB
"""


def test_only_pages_that_the_file_still_has_are_given_back() -> None:
    found = compiler_memory.mappings_of("libllvmlite", SMAPS)
    assert [part.is_untouched for part in found] == [True, True, False, False, False]
    assert {part.size for part in found} == {0x100000}


COMPILED = """
import json, re, sys
from iqdb_core import compiler_memory, jobs
def held():
    found = 0
    for line in open("/proc/self/smaps"):
        if re.match("[0-9a-f]+-", line):
            ours = "libllvmlite" in line
        elif ours and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found
compiler_memory.load_lean()
from numba import njit
@njit
def double(x):
    return x + x
assert double(4) == 8
before = held()
compiler_memory.give_back()
after = held()
assert double(2.5) == 5.0, "compiles again"
print(json.dumps([before, after, "scipy" in sys.modules, double(3)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's way to tell of memory")
def test_the_compiler_still_works_when_its_memory_was_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", COMPILED], check=True, capture_output=True, text=True)
    before, after, has_scipy, answer = json.loads(done.stdout)
    assert after * 4 < before
    assert not has_scipy
    assert answer == 6


KEPT = """
import gc, glob, json, sys
from pathlib import Path
from iqdb_core import compiler_memory, forms, index, signature
compiler_memory.load_lean()
found = gc.get_freeze_count()
import numpy
from iqdb_core.index.simd.words import checksum_words
from numba.core.runtime import rtsys
checksum_words(numpy.zeros(100, numpy.uint64))
counts = rtsys._init
for room in (index, signature):
    with forms.compiled_here():
        room.warm_up()
from numba.core.dispatcher import Dispatcher
modules = [module for name, module in sys.modules.items() if name.startswith("iqdb_core.")]
kernels = [one for module in modules for one in vars(module).values() if isinstance(one, Dispatcher)]
hits = sum(sum(one.stats.cache_hits.values()) for one in kernels)
misses = sum(sum(one.stats.cache_misses.values()) for one in kernels)
uncounted = [one for one in kernels if not one.targetoptions["_nrt"]]
code = []
for files in [one._cache._cache_file for one in uncounted]:
    begin = files._index_name.removesuffix("nbi") + files._source_stamp[:8]
    code += [path.read_bytes() for path in Path(files._cache_path).glob(glob.escape(begin) + "*.nbc")]
wrong = sum(b"NRT_" in one for one in code)
needed_to_compile = ["numba.typed.typeddict", "numba.np.polynomial.polynomial_core", "scipy"]
print(json.dumps([hits, misses, [name for name in needed_to_compile if name in sys.modules], found,
    counts, len(code), wrong]))
"""


def test_cached_kernels_are_loaded_without_the_compiler() -> None:
    subprocess.run([sys.executable, "-c", KEPT], check=True, capture_output=True)  # so that they are
    done = subprocess.run([sys.executable, "-c", KEPT], check=True, capture_output=True, text=True)
    hits, misses, loaded, frozen, counts, uncounted, wrong = json.loads(done.stdout)
    assert not counts, "a kernel that makes no array is loaded without what counts references to arrays"
    assert uncounted > 80
    assert wrong == 0, "code that calls it would end the process"
    assert hits > 20
    assert misses == 0
    assert loaded == []
    assert frozen > 10_000, "the modules of the compiler are not looked through again and again"


AHEAD = """
import json
from iqdb_core import index
from iqdb_core.index.ranking.query_call import search_part
from iqdb_core.index.row_code.coding import decode_positions
from iqdb_core.model import Signature
kernels = search_part, decode_positions
def known():
    misses = sum(sum(one.stats.cache_misses.values()) for one in kernels)
    return [len(one.overloads) for one in kernels], misses
cache = type(search_part._cache)
ours = cache._index_key
cache._index_key = lambda self, arguments, codegen: (arguments, "another machine")
index.load_for_queries()
of_others = known()
cache._index_key = ours
index.load_for_queries()
loaded = known()
with index.ImageIndex.open(None, store_id="here") as opened:
    opened.query(Signature((0.5, 0.1, 0.1), b"\\1\\0" * 120))
print(json.dumps([of_others, loaded, known()]))
"""


def test_kernels_of_queries_are_loaded_ahead_if_cached_for_this_machine() -> None:
    subprocess.run([sys.executable, "-m", "iqdb_core.compiling"], check=True)  # so that it is
    done = subprocess.run([sys.executable, "-c", AHEAD], check=True, capture_output=True, text=True)
    of_others, loaded, after_a_query = json.loads(done.stdout)
    assert of_others == [[0, 0], 0]
    assert all(loaded[0])
    assert loaded[1] == 0
    assert after_a_query == loaded, "nothing is left for the query itself"


@pytest.mark.parametrize("package", [jobs, iqdb_client])
def test_a_package_that_loads_parts_later_gives_every_name_that_it_offers(package: ModuleType) -> None:
    for name in set(package.__all__) - {"Picture"}:  # which is a union, and has no name
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = package.Nothing


HEAPS = """
import ctypes, os, sys, threading
from iqdb_core.machine import share_one_heap
if "shared" in sys.argv:
    share_one_heap()
done = threading.Barrier(5)
def allocate():
    kept = [bytes(4000) for _ in range(100)]
    done.wait(60)
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
done.wait(60)
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(os.dup(1), b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


def heaps(*arguments: str, environment: dict[str, str] | None = None) -> int:
    """Return from how many heaps the threads of a process allocate."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", HEAPS, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, env=clean | (environment or {}))
    return done.stdout.count(b"<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
def test_threads_share_one_heap_unless_the_environment_says_otherwise() -> None:
    assert heaps() > 1
    assert heaps("shared") == 1
    assert heaps("shared", environment={"MALLOC_ARENA_MAX": "3"}) > 1
