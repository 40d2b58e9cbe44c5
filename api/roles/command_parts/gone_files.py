"""Images of a group of duplicates whose files were removed since they were added.

Who keeps the first of a group and removes the others must find the first: else the last copy of the picture
goes. Looks for files by their names. Called by `iqdb duplicates`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from api.roles.command_parts.files import MEMBER
from iqdb_core.duplicates import MOST_PAIRED, Group

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
