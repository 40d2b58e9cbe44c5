"""What documents tell people to type works: every `sh` block of docs/ runs, in order, beside a real server.

A block that needs what a test has not (systemd, Docker, another machine) is marked `console` instead.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fixtures import pictures
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("curl", "sqlite3")
"""What blocks call beside what every system has; a reader may have to install it, and so may a developer."""
WITH_BLOCKS = [path for path in DOCUMENTS if BLOCK.search(path.read_text())]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with embedded_server(tmp_path_factory.mktemp("docs") / "iqdb.sqlite") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader has: some pictures, the command, an old file of each kind."""
    for number, name in enumerate(("a.jpg", "b.jpg", "test.jpg")):
        (tmp_path / name).write_bytes(pictures.picture(number, (80, 60)))
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "iqdb").write_text(f'#!/bin/sh\nexec {sys.executable} -m api "$@"\n')
    (binaries / "iqdb").chmod(0o755)
    positions = b"".join(number.to_bytes(2, "little") for number in range(1, 41)) * 3
    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as old, old:
        old.execute(
            "CREATE TABLE images (id INTEGER PRIMARY KEY, avglf1 REAL, avglf2 REAL, avglf3 REAL, sig BLOB)"
        )
        old.execute("INSERT INTO images VALUES (7, 0.5, 0.1, 0.1, ?)", (positions,))
    (tmp_path / "images.csv").write_text(f"7,0.5,0.1,0.1,{positions.hex()}\n")
    return tmp_path


@pytest.mark.parametrize("document", WITH_BLOCKS, ids=lambda path: path.name)
def test_every_code_block_of_the_documents_runs(document: Path, server: ServerProcess, folder: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IQDB_")}
    address = server.url.removeprefix("http://")
    not_here = [program for program in PROGRAMS if not shutil.which(program)]
    missing: set[str] = set()
    for block in BLOCK.findall(document.read_text()):
        if wanted := {program for program in not_here if re.search(rf"\b{program} ", block)}:
            missing |= wanted
            continue
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.replace("localhost:5588", address)],
            cwd=folder,
            env={**clean, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert run.returncode == 0, f"{block}\n{run.stdout}\n{run.stderr}"
        assert '"message"' not in run.stdout, f"{block}\n{run.stdout}"
    if missing:
        pytest.skip(f"not all blocks were run: there is no {', '.join(sorted(missing))} here")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    for name in re.findall(r"\b(?:docs|deploy)/[\w/.@-]*\w", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\b([A-Z]{4,}\.md)\b", text):
        assert (ROOT / name).exists(), name
