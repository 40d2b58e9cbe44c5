"""Images whose files were removed since they were added.

In a group of duplicates, whoever keeps the first and removes the others must find the first: otherwise the
last copy of the picture goes. Looks for files by their names. Called by `iqdb duplicates` and `iqdb rm`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
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


@dataclass(frozen=True, slots=True)
class Gone:
    """Images whose files below a folder are gone.

    Parameters
    ----------
    sources : mapping
        Their ids and files.
    doubtful : mapping
        How many more there are in folders that are empty now: a disk may not be mounted there.
    there : int
        How many images have a file that is there.
    """

    sources: Mapping[int, str]
    doubtful: Mapping[str, int]
    there: int

    def check(self, folder: str) -> None:
        """Raise ConfigError where more would go than stay: then the files may be elsewhere."""
        if len(self.sources) > self.there:
            raise ConfigError(
                f"most files below {folder} are gone, {self.in_words()}: is a disk not mounted, or were they"
                " added on another machine? --yes deletes the images that are listed"
            )

    def in_words(self) -> str:
        """Return how many are gone of how many."""
        count = len(self.sources)
        return f"{count:,} of {count + self.there + sum(self.doubtful.values()):,}"


def gone_below(folder: Path, listed: Iterable[tuple[int, str | None]]) -> Gone:
    """Return those images whose files below a folder are gone.

    Parameters
    ----------
    folder : Path
    listed : iterable of (int, str or None)
        Ids and sources of all images.

    Raises
    ------
    ConfigError
        There is no such folder.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - that of Path fails for long names, and in a closed folder
        raise ConfigError(f"there is no folder {folder}")
    begin = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118 - as sources begin
    gone: dict[int, str] = {}
    doubtful: Counter[str] = Counter()
    there = 0
    empty_above = cache(_empty_above)
    for image_id, source in listed:
        if source is not None and source.startswith(begin):
            is_there = _is_there(source)
            there += is_there is True
            if is_there is False:
                empty = empty_above(os.path.dirname(source))  # noqa: PTH120 - a Path for each is slow
                if empty is None:
                    gone[image_id] = source
                else:
                    doubtful[empty] += 1
    return Gone(gone, doubtful, there)


def _empty_above(folder: str) -> str | None:
    """Return the lowest folder that is left of a path, if it is empty or a link to nothing."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)  # noqa: PTH120
    try:
        with os.scandir(folder) as entries:
            return folder if next(entries, None) is None else None
    except NotADirectoryError:
        return None
    except OSError:  # a link to nothing, a closed folder
        return folder


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
