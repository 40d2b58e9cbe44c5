"""Commands go over to compiled arithmetic when there is enough to do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from api.roles.people import arithmetic
from api.roles.people.arithmetic import Arithmetic
from iqdb_core import cache_folder
from iqdb_core.signature.arithmetic import coefficients

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Look for compiled code in an empty folder; none is made there."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(Arithmetic, "_begin", lambda _, room: begun.append(room))
    begun.clear()


begun: list[str] = []


def form_in_use() -> str:
    return repr(coefficients._call)  # type: ignore[attr-defined]


def test_few_pictures_are_not_worth_compiling() -> None:
    with Arithmetic() as used:
        assert "use_plain" in form_in_use()
        for _ in range(arithmetic.MANY["signature"] - 1):
            used.count("signature")
        used.prepare("index", arithmetic.MUCH)
        assert begun == []
    assert "_resolve_and_call" in form_in_use(), "others choose for themselves again"


def test_many_pictures_are_and_so_is_a_large_index() -> None:
    with Arithmetic() as used:
        for _ in range(arithmetic.MANY["signature"]):
            used.count("signature")
        assert begun == ["signature"]
        used.prepare("index", arithmetic.MUCH + 1)
        assert begun == ["signature", "index"]


def test_what_is_on_disk_is_used() -> None:
    cache_folder.say_kept("signature")
    with Arithmetic():
        assert "use_plain" not in form_in_use()
    shutil.rmtree(cache_folder._folders()[0])
