"""Images whose files were removed since they were added.

In a group of duplicates, whoever keeps the first and removes the others must find the first: otherwise the
last copy of the picture goes. Looks for files by their names. Called by `iqdb duplicates` and `iqdb rm`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from api.roles.command_parts.files import MEMBER
from iqdb_core.duplicates import MOST_PAIRED, Group
from iqdb_core.errors import ConfigError

_UNREADABLE: Final = "\N{REPLACEMENT CHARACTER}"
"""Stands in a source for what was no text in the name of a file, which cannot be found by it."""


def gone_ids(image_ids: Iterable[int], sources: Mapping[int, str]) -> tuple[int, ...]:
    """Return those images of a group whose files are gone, if the file of another one is there.

    Where nothing is there, nothing is known: the database may have come from another machine.
    """
    is_there = {image_id: _is_there(sources.get(image_id, "")) for image_id in image_ids}
    if True not in is_there.values():
        return ()
    return tuple(image_id for image_id, found in is_there.items() if found is False)


def gone_below(folder: Path, listed: Iterable[tuple[int, str | None]]) -> dict[int, str]:
    """Return ids and sources of those images whose files below a folder are gone.

    Parameters
    ----------
    folder : Path
    listed : iterable of (int, str or None)
        Ids and sources of all images.

    Raises
    ------
    ConfigError
        There is no such folder, or none of the files is there: its disk may not be mounted.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    begin = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118 - as sources begin
    gone: dict[int, str] = {}
    is_any_there = False
    for image_id, source in listed:
        if source is not None and source.startswith(begin):
            is_there = _is_there(source)
            is_any_there |= is_there is True
            if is_there is False:
                gone[image_id] = source
    if gone and not is_any_there:
        raise ConfigError(f"none of the files below {folder} is there; is its disk not mounted?")
    return gone


def folder_above(sources: Iterable[str]) -> str | None:
    """Return the lowest folder that is there, and was above all these files; None where that is the root."""
    folder = Path(os.path.commonpath(list(sources)))
    while folder != folder.parent and not folder.is_dir():
        folder = folder.parent
    return None if folder == folder.parent else str(folder)


def without(group: Group, image_ids: Collection[int]) -> Group:
    """Return a group without some images, and without those that only they joined to it.

    What is left may be a single image, or none.
    """
    left = set(group.image_ids).difference(image_ids)
    pairs = tuple(pair for pair in group.pairs if pair.first in left and pair.second in left)
    if len(group.image_ids) <= MOST_PAIRED:  # all its pairs are known
        left &= {image_id for pair in pairs for image_id in (pair.first, pair.second)}
    return replace(group, image_ids=tuple(sorted(left)), pairs=pairs)


def _is_there(source: str) -> bool | None:
    """Return whether a file is there; None if it is none of this machine, or that cannot be told."""
    if not Path(source).is_absolute() or _UNREADABLE in source:
        return None
    try:
        os.lstat(source)
    except (FileNotFoundError, NotADirectoryError):
        return None if _is_member(source) else False
    except (OSError, ValueError):  # a closed folder, a zero character
        return None
    return True


def _is_member(source: str) -> bool:
    """Return whether it may be a picture in an archive that is there."""
    places = (place for place, letter in enumerate(source) if letter == MEMBER)
    return any(os.path.lexists(source[:place]) for place in places)
