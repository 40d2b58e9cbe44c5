"""Which pictures do these arguments name? Folders, files, patterns, tar archives and lists become items.

Reads names only, and the members of an archive as they come; never decodes. Called by `iqdb add`.
"""

from __future__ import annotations

import glob
import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from re import Pattern
from typing import Final

from api.roles.people.files import is_file, looked_at, path_of, source_of
from api.roles.people.manifest import Row, is_image_id, read_manifest
from api.roles.people.target import reason_of
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
_NO_ID: Final = "no id was found in its name"
TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")


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


@dataclass(slots=True)
class Passed:
    """What was left out while gathering, to be told at the end."""

    other_files: int = 0
    unreadable: list[tuple[str, str]] | None = None

    def note(self, name: str, reason: str) -> None:
        """Remember something that could not be read."""
        self.unreadable = [*(self.unreadable or []), (name, reason)]


def gather(
    arguments: Iterable[str], *, id_pattern: Pattern[str] | None, max_bytes: int, passed: Passed
) -> Iterator[Item]:
    """Yield the pictures that the arguments name, in a stable order.

    Parameters
    ----------
    arguments : iterable of str
        Folders (searched whole, hidden files and links to folders left out), files, patterns such as
        `**/*.png`, tar archives, CSV or NDJSON lists of id and file.
    id_pattern : compiled pattern or None
        Finds the id in a file's name: its first group, or all of what matched.
    max_bytes : int
        Larger files and members of archives are noted and passed over.
    passed : Passed
        **Changed**: what was left out, and why: whatever is no regular file, and names without an id.

    Raises
    ------
    ConfigError
        An argument that names nothing, or a list that is none.
    """
    for argument in arguments:
        path = path_of(argument)
        if os.path.isdir(path):  # noqa: PTH112 - that of Path fails for a name that is too long
            for found in _walk(path, passed):
                yield from _file(found, id_pattern, max_bytes, passed)
        elif os.path.lexists(path):
            yield from _of_file(path, id_pattern, max_bytes, passed)
        elif glob.has_magic(argument):
            names = _matching(path)
            if not names:
                raise ConfigError(f"nothing matches {argument}")
            for name in names:
                if not Path(name).is_dir():
                    yield from _of_file(Path(name), id_pattern, max_bytes, passed)
        else:
            raise ConfigError(f"there is no file or folder {argument}")


def count(arguments: Iterable[str]) -> int | None:
    """Return about how many pictures `gather` will yield; None where only reading tells.

    Names alone are looked at. Files change, so this is for people to look at, and raises nothing.
    """
    total = 0
    for argument in arguments:
        path = path_of(argument)
        try:
            if path.is_dir():
                total += sum(1 for _ in _walk(path, Passed()))
                continue
            for name in [path] if is_file(path) else filter(is_file, map(Path, _matching(path))):
                if name.name.lower().endswith(TAR_SUFFIXES):
                    return None
                is_list = name.suffix.lower() in MANIFEST_SUFFIXES
                total += sum(1 for _ in read_manifest(name)) if is_list else 1
        except (OSError, ConfigError):
            return None  # `gather` says what is wrong
    return total


def _matching(pattern: Path) -> list[str]:
    return sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207 - the pattern may be absolute


def _of_file(path: Path, id_pattern: Pattern[str] | None, max_bytes: int, passed: Passed) -> Iterator[Item]:
    name = path.name.lower()
    is_readable = is_file(path)
    if is_readable and path.suffix.lower() in MANIFEST_SUFFIXES:
        for row in read_manifest(path):
            if isinstance(row.picture, str):
                yield Item(f"#{row.image_id}", row.image_id, row.source, _digest(row), row.picture)
                continue
            for item in _file(row.picture, None, max_bytes, passed):
                # One file may stand in a list under several ids.
                key = f"{item.key}#{row.image_id}"
                yield Item(key, row.image_id, row.source or item.source, item.version, item.picture)
    elif is_readable and name.endswith(TAR_SUFFIXES):
        yield from _members(path, id_pattern, max_bytes, passed)
    else:
        yield from _file(path, id_pattern, max_bytes, passed)


def _digest(row: Row) -> str:
    """Return what changes when a row with a hash does."""
    return hashlib.sha256(f"{row.picture} {row.source}".encode()).hexdigest()[:32]


def _walk(folder: Path, passed: Passed) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        passed.note(str(error.filename), reason_of(error))

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in PICTURE_SUFFIXES:
                yield Path(place, name)
            else:
                passed.other_files += 1


def _file(path: Path, id_pattern: Pattern[str] | None, max_bytes: int, passed: Passed) -> Iterator[Item]:
    """Yield the item of one file, or note why there is none."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are named
    key = str(absolute)
    found = looked_at(absolute)
    image_id, has_id = _id_in(path.name, id_pattern)
    if isinstance(found, str):
        passed.note(key, found)
    elif found.st_size > max_bytes:
        passed.note(key, _too_large(found.st_size, max_bytes))
    elif not has_id:
        passed.note(key, _NO_ID)
    else:
        yield Item(key, image_id, source_of(key), f"{found.st_size} {found.st_mtime_ns}", absolute)


def _members(path: Path, id_pattern: Pattern[str] | None, max_bytes: int, passed: Passed) -> Iterator[Item]:
    archive = os.path.abspath(path)  # noqa: PTH100
    try:
        with tarfile.open(path, "r|*") as members:
            for member in members:
                name = Path(member.name).name
                if not member.isfile() or name.startswith("."):
                    continue
                if Path(name).suffix.lower() not in PICTURE_SUFFIXES:
                    passed.other_files += 1
                    continue
                key = f"{archive}!{member.name}"
                if member.size > max_bytes:
                    passed.note(key, _too_large(member.size, max_bytes))
                    continue
                image_id, has_id = _id_in(name, id_pattern)
                if not has_id:
                    passed.note(key, _NO_ID)
                    continue
                file = members.extractfile(member)
                data = b"" if file is None else file.read()
                yield Item(key, image_id, source_of(key), f"{member.size} {int(member.mtime)}", data)
    except (tarfile.TarError, OSError, EOFError) as error:
        passed.note(archive, f"the archive cannot be read to its end: {reason_of(error)}")


def _too_large(size: int, max_bytes: int) -> str:
    return f"it has {size:,} bytes; the limit is {max_bytes:,} (--max-upload-bytes)"


def _id_in(name: str, pattern: Pattern[str] | None) -> tuple[int | None, bool]:
    """Return the id in a name, None where none is looked for, and whether it is as it should be."""
    if pattern is None:
        return None, True
    found = pattern.search(name)
    text = "" if found is None else found.group(1 if pattern.groups else 0)
    return (int(text), True) if is_image_id(text or "") else (None, False)
