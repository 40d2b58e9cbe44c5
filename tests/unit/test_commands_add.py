"""How many pictures `iqdb add` adds at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from api.roles.command_parts import add
from api.roles.command_parts.gather import Item

if TYPE_CHECKING:
    import pytest

    from iqdb_client import Picture


def sizes(*pictures: Picture) -> list[int]:
    items = [Item(str(number), None, None, "", picture) for number, picture in enumerate(pictures)]
    return [len(piece) for piece in add._pieces(items)]


def test_large_pictures_of_an_archive_are_added_fewer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(add, "HELD_BYTES", 30)
    assert sizes(*[bytes(10)] * 7) == [3, 3, 1]
    assert sizes(bytes(1), bytes(40), bytes(40)) == [2, 1]
    assert sizes(*[bytes(1)] * 20) == [16, 4]


def test_files_and_hashes_are_added_apart() -> None:
    assert sizes(*[Path("a.jpg")] * 20, *["iqdb_"] * 520, Path("b.jpg")) == [16, 4, 512, 8, 1]
