"""What is installed comes from where pip is told to look, whoever installs it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / ".ci" / "install"


@pytest.fixture
def settings_for_uv(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str] | None]:
    """What `.ci/install` tells uv, on a machine on which pip has no settings."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    found: Callable[[Sequence[str]], dict[str, str] | None] = runpy.run_path(str(INSTALL))["settings_for_uv"]
    return partial(found, [sys.executable, "-m", "pip"])


def test_uv_looks_where_pip_was_told_to_look(
    settings_for_uv: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\nindex-url = https://first.example/simple\nextra-index-url =\n    https://a.example\n"
        "    https://b.example\ntimeout = 9\n[install]\nfind-links = /it's /there\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_INDEX_URL", "https://before.example/simple")
    found = settings_for_uv()
    assert found["UV_EXTRA_INDEX_URL"].split() == ["https://a.example", "https://b.example"]
    assert found["UV_INDEX_URL"] == "https://before.example/simple"
    assert found["UV_FIND_LINKS"] == "/it's,/there"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_what_uv_cannot_be_told_is_left_to_pip(
    settings_for_uv: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings_for_uv() is not None
    monkeypatch.setenv("PIP_PROXY", "1")
    assert settings_for_uv() is None


@pytest.mark.long
def test_a_python_without_pip_gets_one(tmp_path: Path) -> None:
    """As Debian's without python3-pip: what installs has none to install with."""
    for name in ("outside", "inside"):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / name], check=True)
    outside, inside = (tmp_path / name / "bin" / "python" for name in ("outside", "inside"))
    program = (
        "import pathlib, runpy, sys\n"
        "print(*runpy.run_path(sys.argv[1])['pip_for'](pathlib.Path(sys.argv[2])))\n"
    )
    command = [outside, "-c", program, str(INSTALL), str(inside)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told == f"{inside} -m pip --disable-pip-version-check\n"
    subprocess.run([inside, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, check=True)
