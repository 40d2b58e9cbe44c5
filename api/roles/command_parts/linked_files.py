"""Images of a group of duplicates that come from one file of this machine, which has several names.

A folder may hold a picture and a link to it. Each is an image of its own, but there is nothing to clear up:
who deleted the file that the link leads to would lose the picture. Looks at names alone. Called by
`iqdb duplicates`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from iqdb_core.duplicates import Group, Pair


def without_links(group: Group, sources: Mapping[int, str]) -> Group:
    """Return a group in which each file has one name: its own, or the first link where that is not there.

    Ids with the same source all stay, and so do those without one. What is left may be a single image.
    """
    known = {image_id: source for image_id in group.image_ids if (source := sources.get(image_id))}
    files = {image_id: _file_of(source) for image_id, source in known.items()}
    told: dict[str, int] = {}
    for image_id in sorted(known, key=lambda one: files[one] != known[one]):  # links last
        told.setdefault(files[image_id], image_id)
    instead = {
        image_id: told[files[image_id]]
        for image_id, source in known.items()
        if source != known[told[files[image_id]]]
    }
    if not instead:
        return group
    image_ids = tuple(image_id for image_id in group.image_ids if image_id not in instead)
    return replace(group, image_ids=image_ids, pairs=tuple(_renamed(group.pairs, instead)))


def _renamed(pairs: Iterable[Pair], instead: Mapping[int, int]) -> list[Pair]:
    """Return pairs with other ids for some images, the surest of each two, in order."""
    found: dict[tuple[int, int], Pair] = {}
    for pair in sorted(pairs, key=lambda pair: -pair.likelihood):
        first, second = sorted(instead.get(one, one) for one in (pair.first, pair.second))
        if first != second:
            found.setdefault((first, second), replace(pair, first=first, second=second))
    return [found[ids] for ids in sorted(found)]


def _file_of(source: str) -> str:
    """Return the path without links of a file, or a source itself that is none."""
    try:
        return os.path.realpath(source) if os.path.isabs(source) else source  # noqa: PTH117
    except ValueError:  # a zero character
        return source
