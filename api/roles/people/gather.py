"""Which pictures do these arguments name? Folders, files, patterns, tar archives and lists become items.

Reads names only, and the members of an archive as they come; never decodes. Called by `iqdb add`.
"""

from __future__ import annotations

import glob
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from re import Pattern
from typing import Final

from api.roles.people.manifest import is_image_id, read_manifest
from api.roles.people.target import reason_of
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
TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")


@dataclass(frozen=True, slots=True)
class Item:
    """One picture to add.

    Parameters
    ----------
    key : str
        Names it for good: its absolute path, or `archive!member`.
    image_id : int or None
        None: one is given out.
    source : str
        What is kept beside the image: where it came from.
    version : str
        Changes when the file does.
    picture : Path or bytes
        A file, or a member of an archive, which was read as it came by.
    """

    key: str
    image_id: int | None
    source: str
    version: str
    picture: Path | bytes


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
        Larger members of archives are noted and passed over.
    passed : Passed
        **Changed**: what was left out.

    Raises
    ------
    ConfigError
        An argument that names nothing, a list that is none, or a name in which the pattern finds no id.
    """
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            yield from (_file(found, id_pattern) for found in _walk(path, passed))
        elif path.is_file():
            yield from _of_file(path, id_pattern, max_bytes, passed)
        elif glob.has_magic(argument):
            names = _matching(path)
            if not names:
                raise ConfigError(f"nothing matches {argument}")
            for name in names:
                if Path(name).is_file():
                    yield from _of_file(Path(name), id_pattern, max_bytes, passed)
        else:
            raise ConfigError(f"there is no file or folder {argument}")


def count(arguments: Iterable[str]) -> int | None:
    """Return about how many pictures `gather` will yield; None where only reading tells.

    Names alone are looked at. Files change, so this is for people to look at, and raises nothing.
    """
    total = 0
    for argument in arguments:
        path = Path(argument).expanduser()
        try:
            if path.is_dir():
                total += sum(1 for _ in _walk(path, Passed()))
                continue
            names = [path] if path.is_file() else [Path(name) for name in _matching(path)]
            for name in names:
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
    if path.suffix.lower() in MANIFEST_SUFFIXES:
        for row in read_manifest(path):
            item = _file(row.file, None)
            # One file may stand in a list under several ids.
            key = f"{item.key}#{row.image_id}"
            yield Item(key, row.image_id, row.source or item.source, item.version, item.picture)
    elif name.endswith(TAR_SUFFIXES):
        yield from _members(path, id_pattern, max_bytes, passed)
    else:
        yield _file(path, id_pattern)


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


def _file(path: Path, id_pattern: Pattern[str] | None) -> Item:
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are named
    try:
        stat = absolute.stat()
        version = f"{stat.st_size} {stat.st_mtime_ns}"
    except OSError:
        version = ""  # reading it will say what is wrong
    return Item(str(absolute), _id_in(path.name, id_pattern), str(absolute), version, absolute)


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
                    passed.note(key, f"it has {member.size:,} bytes; the limit is {max_bytes:,}")
                    continue
                file = members.extractfile(member)
                data = b"" if file is None else file.read()
                yield Item(key, _id_in(name, id_pattern), key, f"{member.size} {int(member.mtime)}", data)
    except (tarfile.TarError, OSError, EOFError) as error:
        passed.note(archive, f"the archive cannot be read to its end: {reason_of(error)}")


def _id_in(name: str, pattern: Pattern[str] | None) -> int | None:
    if pattern is None:
        return None
    found = pattern.search(name)
    text = "" if found is None else found.group(1 if pattern.groups else 0)
    if not is_image_id(text):
        raise ConfigError(f"no id was found in the name {name}")
    return int(text)
