"""What a server of one process does without: memory and time of libraries for other roles."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from iqdb_core import compiler_memory, jobs

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


def test_the_ledger_gives_every_name_that_it_offers() -> None:
    for name in jobs.__all__:
        assert getattr(jobs, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = jobs.Nothing  # type: ignore[attr-defined]
