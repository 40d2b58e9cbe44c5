"""Compiled code is cached until a file that was compiled into it changes: all such files must be known."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from iqdb_core import kernel
from iqdb_core.cache_folder import COMPILED, SHARED
from tests.rules.test_documents import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIBRARY = ROOT / "iqdb_core"


def kernels_of(tree: ast.Module) -> list[ast.FunctionDef]:
    return [
        function
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        and any("kernel" in ast.unparse(decorator) for decorator in function.decorator_list)
    ]


def compiled_in(file: Path) -> Iterator[str]:
    """Yield the files of the library from which kernels of a file take names."""
    tree = ast.parse(file.read_text())
    origins = {
        (alias.asname or alias.name): f"{(node.module or '').partition('.')[2].replace('.', '/')}.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("iqdb_core.")
        for alias in node.names
    }
    for function in kernels_of(tree):
        for part in function.body:
            for node in ast.walk(part):
                if isinstance(node, ast.Name) and node.id in origins:
                    yield origins[node.id]


def test_all_that_is_compiled_into_a_kernel_is_in_its_stamp() -> None:
    seen = 0
    for file in LIBRARY.rglob("*.py"):
        folders = kernel._COMPILED_TOGETHER.get(file.parent.relative_to(LIBRARY).as_posix(), ())
        for origin in compiled_in(file):
            seen += 1
            is_known = origin in SHARED or origin.rpartition("/")[0] in folders
            assert is_known, f"a kernel of {file.relative_to(LIBRARY)} holds something of {origin}"
    assert seen > 50


def test_compiled_parts_are_remembered_by_all_files_that_have_kernels() -> None:
    """Otherwise a server believes that a kernel is compiled, and waits for it at its first query."""
    remembered = {path for pattern in COMPILED for path in LIBRARY.glob(pattern)}
    having = {path for path in LIBRARY.rglob("*.py") if kernels_of(ast.parse(path.read_text()))}
    assert len(having) > 10
    assert having - remembered == set()
