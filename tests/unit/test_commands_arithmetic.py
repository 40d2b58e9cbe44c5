"""Commands go over to compiled arithmetic when there is enough to do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, ClassVar

import pytest

from api.roles.command_parts import arithmetic
from api.roles.command_parts.arithmetic import Arithmetic
from iqdb_core import cache_folder
from iqdb_core.signature.arithmetic import coefficients

if TYPE_CHECKING:
    from pathlib import Path


class Recorded:
    """Stands for what compiles: half a minute of it shows nothing more."""

    begun: ClassVar[list[str]] = []

    def __init__(self, rooms: list[str], **_: object) -> None:
        self.begun.extend(rooms)

    def begin(self) -> None: ...

    def wait(self, room: str) -> None:
        assert room in self.begun

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Look for compiled code in an empty folder, and return what is to be compiled."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(arithmetic, "Compilation", Recorded)
    monkeypatch.setattr(Recorded, "begun", [])
    return Recorded.begun


def form_in_use() -> str:
    return repr(coefficients._call)  # type: ignore[attr-defined]


def test_little_is_not_worth_compiling(begun: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with Arithmetic() as used:
        assert "use_plain" in form_in_use()
        for _ in range(1_000):
            with used.decoding():
                pass  # as the hashes of a list, in which nothing is decoded
        used.expect_searches(arithmetic.MANY - 1)
        used.prepare_index(arithmetic.MUCH)
        assert begun == []
    assert "_resolve_and_call" in form_in_use(), "others choose for themselves again"
    assert capsys.readouterr().err == ""


def test_what_takes_long_is_compiled_aside_and_only_who_waits_is_told(
    begun: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arithmetic, "SLOW_S", 0.0)
    with Arithmetic() as used:
        for _ in range(2):
            with used.decoding():
                pass
        used.expect_searches(arithmetic.MANY)
        assert begun == ["signature", "index"]
        assert capsys.readouterr().err == ""
        used.prepare_index(arithmetic.MUCH + 1)
        assert begun == ["signature", "index"]
    assert "preparing for this machine" in capsys.readouterr().err


def test_what_is_on_disk_is_used() -> None:
    cache_folder.mark_kept("signature")
    with Arithmetic():
        assert "use_plain" not in form_in_use()
    shutil.rmtree(cache_folder._folders()[0])
