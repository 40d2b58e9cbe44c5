"""Benchmarks are run seldom, so tests check that what they import exists and that layouts can be repeated."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.layouts import layouts

ROOT = Path(__file__).parents[2]
OURS = ("api", "benchmarks", "iqdb_client", "iqdb_core", "tests", "worker")


def names_of(module: str) -> set[str]:
    """Return what a module binds, and the modules below it."""
    spec = find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None or spec.submodule_search_locations, module
    below = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = {path.stem for folder in below for path in folder.iterdir()}
    if spec.origin is None:
        return found
    for node in ast.walk(ast.parse(Path(spec.origin).read_text("utf-8"))):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
            case ast.Import() | ast.ImportFrom():
                found |= {alias.asname or alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in OURS:
            wanted = {alias.name for alias in node.names}
            assert wanted <= names_of(node.module or ""), node.module


def test_a_held_out_layout_changes_a_picture_and_is_the_same_again_with_the_same_seed() -> None:
    picture = Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 50).convert("RGB")
    for name, way in layouts([Image.new("RGB", (50, 50), "green")]).items():
        first, again = (way(picture, np.random.default_rng(1)).tobytes() for _ in range(2))
        assert first == again != picture.tobytes(), name
