"""What the documents promise holds: named paths exist, every setting is documented, statuses are told."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from api.roles.cli import LINES
from api.roles.settings import Settings
from api.web.errors import STATUSES
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_named_paths_exist(document: str) -> None:
    named = re.findall(
        r"`((?:api|worker|iqdb_core|tests|benchmarks)/[\w/.-]*)`", (ROOT / document).read_text()
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize(
    "field", sorted({field.name for field in (*fields(Settings), *fields(WorkerSettings))})
)
def test_every_setting_is_documented(field: str) -> None:
    assert f"`IQDB_{field.upper()}`" in README


def test_every_role_and_status_is_documented() -> None:
    for role in LINES:
        assert f"iqdb {role}" in README
    for status in {int(status) for status in STATUSES.values()} - {500}:
        assert f"| {status} |" in README


def test_files_stay_small_enough_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked()
        if path.suffix == ".py" and (count := len(path.read_text().splitlines())) > 450
    }
    assert long == {}


def test_fixtures_stay_small() -> None:
    sizes = [path.stat().st_size for path in tracked() if "fixtures" in path.parts]
    assert sum(sizes) < 15 * 1024 * 1024


def test_nothing_names_a_machine() -> None:
    pattern = re.compile(r"/(?:root|work|home)/[a-z]")
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in tracked()
        if path.suffix in {".py", ".md", ".yml", ".toml", ".js", ".html", ""} and path.name != "Dockerfile"
        for line in path.read_text(errors="replace").splitlines()
        if pattern.search(line) and path != Path(__file__)
    ]
    assert found == []
