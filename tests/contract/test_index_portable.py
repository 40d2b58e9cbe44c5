"""The same kernels on other processors: fewer vector instructions, or another kind of machine altogether."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).with_name("test_index_kernels.py")
CHOSEN = "all_deleted or (every_size and (513 or 4097)) or (equal and 3000) or share_their_segments"

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names processors of another kind")
@pytest.mark.parametrize("processor", ["haswell", "x86-64-v2"])
def test_answers_are_exact_without_the_newest_instructions(processor: str, tmp_path: Path) -> None:
    """AVX2 without AVX-512, and nothing wider than 128 bits."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", KERNELS, "-k", CHOSEN],
        env={
            **os.environ,
            "NUMBA_CPU_NAME": processor,
            "NUMBA_CPU_FEATURES": "",
            "NUMBA_CACHE_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert " passed" in ended.stdout


TRANSLATE = """
import re
import llvmlite.binding as llvm
from iqdb_core.index import warm_up
from iqdb_core.index.ranking.query_call import search_part

warm_up()
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
triple = "aarch64-unknown-linux-gnu"
machine = llvm.Target.from_triple(triple).create_target_machine(cpu="neoverse-n1", opt=3)
[code, *_] = search_part.inspect_llvm().values()
code = re.sub('target triple = ".*"', f'target triple = "{triple}"', code)
code = re.sub('target datalayout = ".*"', f'target datalayout = "{machine.target_data}"', code)
code = re.sub('"target-(cpu|features)"="[^"]*"', "", code)
print(machine.emit_assembly(llvm.parse_assembly(code)))
"""


def test_a_query_translates_to_vector_instructions_of_arm(tmp_path: Path) -> None:
    """What the compiler hands to its last stage names no processor: that stage makes NEON code of it."""
    ended = subprocess.run(
        [sys.executable, "-c", TRANSLATE],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert len(re.findall(r"\b(?:and|orr|eor)\tv\d+\.16b", ended.stdout)) > 1000
    assert "\tprfm\t" in ended.stdout
