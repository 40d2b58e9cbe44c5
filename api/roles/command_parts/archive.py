"""Reads a tar archive member by member, as it comes, and comes to an end whatever its headers say.

An archive is a stranger's: its numbers need not be true. Decodes nothing. Called by `gather`.
"""

from __future__ import annotations

import io
import math
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

MAX_HEADER_BYTES: Final = 1024 * 1024
"""Of one header with names and attributes, which is read into memory whole."""
MAX_PIECES: Final = 1000
"""Of one member with holes. Reading it takes the square of their number."""
_HEADERS: Final = frozenset(
    [
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    ]
)
# By which name `tarfile` calls it differs between patch releases of Python.
_FROMBUF: Final = "_frombuf" if hasattr(tarfile.TarInfo, "_frombuf") else "frombuf"
# Beside its own errors `tarfile` lets through those of converting numbers and texts, of looking into what has
# ended and, for headers of headers, of too many calls.
_UNREADABLE: Final = (
    tarfile.TarError,
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    RecursionError,
)


class BadArchive(Exception):
    """An archive cannot be read any further; the message has no name in it."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive.

    Parameters
    ----------
    name : str
        As it stands there: with folders, and with any character.
    size : int
        In bytes, as it is said; may be wrong.
    version : str
        Changes when the file does.
    """

    name: str
    size: int
    version: str
    _archive: tarfile.TarFile
    _header: tarfile.TarInfo

    @property
    def has_too_many_pieces(self) -> bool:
        """Whether it consists of so many pieces that reading it may take for ever."""
        return len(getattr(self._header, "sparse", None) or ()) > MAX_PIECES

    def read(self) -> bytes:
        """Return its bytes; to be called before the next member is asked for. Raises as `members_of`."""
        with _in_words():
            file = self._archive.extractfile(self._header)
            return b"" if file is None else file.read()


def members_of(path: Path, stopping: threading.Event) -> Iterator[Member]:
    """Yield the files of an archive, compressed or not, in its order.

    Parameters
    ----------
    path : Path
    stopping : Event
        When set, reading ends with BadArchive, also in the middle of what takes long to read over.

    Raises
    ------
    BadArchive
        It is none, or cannot be read to its end, or must not be. What came before is good.
    """
    with _in_words(), path.open("rb") as file:
        blocks = _Blocks(file, stopping)
        with tarfile.open(fileobj=blocks, mode="r|*", tarinfo=_Header) as archive:
            for header in archive:
                if header.isfile():
                    yield Member(header.name, header.size, _version(header), archive, header)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        known = isinstance(error, (tarfile.TarError, OSError, EOFError))
        reason = getattr(error, "strerror", None) or str(error) if known else ""
        raise BadArchive(reason or "it is damaged") from error


def _version(header: tarfile.TarInfo) -> str:
    """Return size and time; a time that is no number is none."""
    return f"{header.size} {int(header.mtime) if math.isfinite(header.mtime) else 0}"


class _Blocks(io.RawIOBase):
    """A file as `tarfile` reads it, which ends: by itself that reads on for as long as a header promises."""

    def __init__(self, file: BinaryIO, stopping: threading.Event) -> None:
        super().__init__()
        self._file = file
        self._stopping = stopping
        self._has_ended = False

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none at the end, and raise whenever more are wanted after that."""
        if self._stopping.is_set():
            raise tarfile.ReadError("it was not read any further")
        data = self._file.read(size)
        if not data and self._has_ended:
            raise tarfile.ReadError("it is shorter than it says, or a member says a wrong size")
        self._has_ended = not data
        return data


class _Header(tarfile.TarInfo):
    """A header that takes no more memory than headers need, and is never taken for the end if it is none."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str, **options: Any) -> Self:
        """See `tarfile.TarInfo`."""
        try:
            header: Self = getattr(super(), _FROMBUF)(buf, encoding, errors, **options)
        except tarfile.HeaderError as error:
            if not any(buf):
                raise  # zeros, or nothing at all: the end
            # But for the first header, `tarfile` takes this for the end as well, and says nothing.
            raise tarfile.ReadError(str(error)) from error
        if header.type in _HEADERS and header.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header has {header.size:,} bytes; the limit is {MAX_HEADER_BYTES:,}")
        return header

    _frombuf = frombuf
