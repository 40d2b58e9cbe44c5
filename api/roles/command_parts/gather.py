"""Which pictures do these arguments name? Folders, files, patterns, tar archives and lists become items.

Reads names only, and the members of an archive as they come; never decodes. Called by `iqdb add`.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from re import Pattern
from typing import Final, TypeVar

from api.roles.command_parts.archive import BadArchive, Member, members_of
from api.roles.command_parts.files import (
    MEMBER,
    is_file,
    is_nameless,
    is_there,
    looked_at,
    path_of,
    source_of,
)
from api.roles.command_parts.manifest import Row, is_image_id, read_manifest
from api.roles.command_parts.reasons import reason_of
from iqdb_client import Picture
from iqdb_core.errors import ConfigError

PICTURE_SUFFIXES: Final = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".apng",
        ".gif",
        ".webp",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".heif",
        ".jp2",
        ".j2k",
        ".jxl",
        ".ico",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tga",
    ]
)
"""In a folder, files with other endings are passed over; a file named by itself is always tried."""
MANIFEST_SUFFIXES: Final = frozenset({".csv", ".ndjson", ".jsonl"})
_NO_NAME: Final = "what is handed over has no name to be known by; save it as a file, and add that"
_NO_ID: Final = "no id was found in its name"
_NO_TAR: Final = "of archives only tar is read; unpack it, and add the folder"
_NO_LIST: Final = (
    "it is no picture; a list with an object per line, as of 'iqdb export', must be called .ndjson"
)
_OTHER_ARCHIVES: Final = frozenset({".zip", ".cbz", ".rar", ".cbr", ".7z"})
TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Item:
    """One picture to add.

    Parameters
    ----------
    key : str
        Names it for good: its absolute path, `archive!member`, or `#id` for a hash.
    image_id : int or None
        None: one is given out.
    source : str or None
        What is kept beside the image: where it came from.
    version : str
        Changes when the file does.
    picture : Path, bytes or str
        A file, a member of an archive, which was read as it came by, or a hash.
    """

    key: str
    image_id: int | None
    source: str | None
    version: str
    picture: Picture

    @property
    def name(self) -> str:
        """What people are told of it: its file, without the id that a list gives that, or its key."""
        return str(self.picture) if isinstance(self.picture, Path) else self.key


@dataclass(slots=True)
class Passed:
    """What was left out while gathering, to be told at the end."""

    other_files: int = 0
    left_out_folders: int = 0
    """Links to folders, and hidden folders."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def note(self, name: str, reason: str) -> None:
        """Remember something that could not be read."""
        self.unreadable.append((name, reason))


@dataclass(frozen=True, slots=True)
class _Wish:
    """What holds for all files alike; see `gather`."""

    id_pattern: Pattern[str] | None
    max_bytes: int
    passed: Passed
    stopping: threading.Event


def gather(
    arguments: Iterable[str],
    *,
    id_pattern: Pattern[str] | None,
    max_bytes: int,
    passed: Passed,
    stopping: threading.Event,
) -> Iterator[Item]:
    """Return the pictures that the arguments name, in a stable order: those of lists first.

    The ids of a list are then known before any is given out to a picture without one.

    Parameters
    ----------
    arguments : iterable of str
        Folders (searched whole, what is hidden and links to folders left out), files, patterns such as
        `**/*.png`, tar archives, CSV or NDJSON lists of id and file.
    id_pattern : compiled pattern or None
        Finds the id in a file's name: its first group, or all of what matched.
    max_bytes : int
        Larger files and members of archives are noted and passed over.
    passed : Passed
        **Changed**: what was left out, and why: whatever is no regular file, and names without an id.
    stopping : Event
        When set, the rest is left, also where there is much to look through and nothing to yield.

    Raises
    ------
    ConfigError
        At once: an argument that names nothing. As it is read: a list that is none.
    """
    wish = _Wish(id_pattern, max_bytes, passed, stopping)
    lists_first = sorted(arguments, key=lambda argument: not _is_list(path_of(argument)))
    places = _places(lists_first)
    return itertools.chain.from_iterable(_of_place(place, wish) for place in _until(stopping, places))


def _places(arguments: Iterable[str]) -> list[Path]:
    """Return the files and folders that arguments name; raises ConfigError for one that names nothing."""
    places = []
    for argument in arguments:
        path = path_of(argument)
        if glob.has_magic(argument) and not os.path.lexists(path):
            names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - the pattern may be absolute
            if not names:
                raise ConfigError(f"nothing matches {argument}")
            found = [Path(name) for name in names]
            places += [one for one in found if not _is_folder(one) and not _is_linked(one, path)]
        elif is_there(path):
            places.append(path)
        else:
            raise ConfigError(f"there is no file or folder {argument}")
    return places


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - that of Path fails for long names, and in a closed folder


def _is_linked(found: Path, pattern: Path) -> bool:
    """Tell whether the `**` of a pattern has led through a link to a folder, where nothing is looked for."""
    before = pattern.parts.index("**") if "**" in pattern.parts else len(found.parts)
    return any(os.path.islink(parent) for parent in found.parents if len(parent.parts) > before)  # noqa: PTH114


def _of_place(path: Path, wish: _Wish) -> Iterator[Item]:
    if not _is_folder(path):
        yield from _of_file(path, wish)
        return
    for found in _walk(path, wish.passed, wish.stopping):
        yield from _file(found, wish)


def _until(stopping: threading.Event, things: Iterable[_T]) -> Iterator[_T]:
    return itertools.takewhile(lambda _: not stopping.is_set(), things)


def count(arguments: Iterable[str]) -> int | None:
    """Return about how many pictures `gather` will yield; None where only reading tells.

    Names alone are looked at. Files change, so this is for people to look at, and raises nothing.
    """
    total = 0
    try:
        for place in _places(arguments):
            if _is_folder(place):
                total += sum(1 for _ in _walk(place, Passed(), threading.Event()))
            elif place.name.lower().endswith(TAR_SUFFIXES):
                return None
            elif is_file(place):
                total += sum(1 for _ in read_manifest(place)) if _is_list(place) else 1
    except (OSError, ConfigError):
        return None  # `gather` says what is wrong
    return total


def _is_list(path: Path) -> bool:
    """Tell whether a file is a list, by its name."""
    return path.suffix.lower() in MANIFEST_SUFFIXES


def _of_file(path: Path, wish: _Wish) -> Iterator[Item]:
    name = path.name.lower()
    is_readable = is_file(path)
    if is_readable and _is_list(path):
        without_pattern = replace(wish, id_pattern=None)
        for row in _until(wish.stopping, read_manifest(path)):
            if isinstance(row.picture, str):
                yield Item(f"#{row.image_id}", row.image_id, row.source, _digest(row), row.picture)
                continue
            for item in _file(row.picture, without_pattern):
                # One file may stand in a list under several ids.
                key = f"{item.key}#{row.image_id}"
                yield Item(key, row.image_id, row.source or item.source, item.version, item.picture)
    elif is_readable and name.endswith(TAR_SUFFIXES):
        yield from _members(path, wish)
    elif is_readable and path.suffix.lower() in _OTHER_ARCHIVES:
        wish.passed.note(os.path.abspath(path), _NO_TAR)  # noqa: PTH100 - links stay as they are named
    elif is_readable and path.suffix.lower() == ".json":
        wish.passed.note(os.path.abspath(path), _NO_LIST)  # noqa: PTH100
    else:
        yield from _file(path, wish)


def _digest(row: Row) -> str:
    """Return what changes when a row with a hash does."""
    return hashlib.sha256(f"{row.picture} {row.source}".encode()).hexdigest()[:32]


def _walk(folder: Path, passed: Passed, stopping: threading.Event) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        passed.note(os.path.abspath(error.filename), reason_of(error))  # noqa: PTH100 - as files are named

    for place, folders, files in _until(stopping, os.walk(folder, onerror=refuse)):
        seen = len(folders)
        folders[:] = sorted(
            name
            for name in folders
            # That of Path raises for long paths and in closed folders, which `refuse` is told.
            if not name.startswith(".") and not os.path.islink(os.path.join(place, name))  # noqa: PTH114, PTH118
        )
        passed.left_out_folders += seen - len(folders)
        for name in _until(stopping, sorted(files)):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in PICTURE_SUFFIXES:
                yield Path(place, name)
            else:
                passed.other_files += 1


def _file(path: Path, wish: _Wish) -> Iterator[Item]:
    """Yield the item of one file, or note why there is none."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are named
    key = str(absolute)
    found = looked_at(absolute)
    image_id, has_id = _id_in(path.name, wish.id_pattern)
    if is_nameless(absolute):
        # The next one would replace it, as the same file that has changed.
        wish.passed.note(key, _NO_NAME)
    elif isinstance(found, str):
        wish.passed.note(key, found)
    elif found.st_size > wish.max_bytes:
        wish.passed.note(key, _too_large(found.st_size, wish.max_bytes))
    elif not has_id:
        wish.passed.note(key, _NO_ID)
    else:
        yield Item(key, image_id, source_of(key), f"{found.st_size} {found.st_mtime_ns}", absolute)


def _members(path: Path, wish: _Wish) -> Iterator[Item]:
    archive = os.path.abspath(path)  # noqa: PTH100
    try:
        for member in members_of(path, wish.stopping):
            yield from _member(archive, member, wish)
    except BadArchive as error:
        if wish.stopping.is_set():
            return  # nothing is wrong with it
        wish.passed.note(archive, f"the archive cannot be read to its end: {error}")


def _member(archive: str, member: Member, wish: _Wish) -> Iterator[Item]:
    """Yield the item of one member, or note why there is none."""
    name = Path(member.name).name
    if name.startswith("."):
        return
    if Path(name).suffix.lower() not in PICTURE_SUFFIXES:
        wish.passed.other_files += 1
        return
    key = f"{archive}{MEMBER}{member.name}"
    image_id, has_id = _id_in(name, wish.id_pattern)
    if member.size > wish.max_bytes:
        wish.passed.note(key, _too_large(member.size, wish.max_bytes))
    elif member.has_too_many_pieces:
        wish.passed.note(key, "it is stored in too many pieces")
    elif not has_id:
        wish.passed.note(key, _NO_ID)
    else:
        yield Item(key, image_id, source_of(key), member.version, member.read())


def _too_large(size: int, max_bytes: int) -> str:
    return f"it has {size:,} bytes; the limit is {max_bytes:,} (--max-upload-bytes)"


def _id_in(name: str, pattern: Pattern[str] | None) -> tuple[int | None, bool]:
    """Return the id in a name, None where none is looked for, and whether it is as it should be."""
    if pattern is None:
        return None, True
    found = pattern.search(name)
    text = "" if found is None else found.group(1 if pattern.groups else 0)
    return (int(text), True) if is_image_id(text or "") else (None, False)
