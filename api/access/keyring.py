"""Tokens and their rights: from settings, from a file that may change, compared in constant time.

Only digests of tokens are kept, so that none can be printed by accident. Made by the composition roots, used
by `policy`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.access.rights import Right
from iqdb_core.errors import WrongUsage

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""Interval of checks of the token file, seconds."""
_DIGEST_PREFIX: Final = "sha256:"
_RIGHTS: Final = {"read": Right.READ, "write": Right.WRITE, "admin": Right.ADMIN}


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its right, and the SHA-256 digest of each encoding in which a client may send it."""

    digests: tuple[bytes, ...]
    right: Right

    @property
    def name(self) -> str:
        """Return a name for logs that identifies the token without revealing it."""
        return self.digests[0].hex()[:8]


class Keyring:
    """All tokens of a server.

    Parameters
    ----------
    tokens : iterable of Token
        From the settings.
    file : Path, optional
        Lines of "RIGHT TOKEN"; read again when it changes.
    clock : callable
        Returns seconds since a fixed moment.

    Raises
    ------
    WrongUsage
        The file cannot be read, or a line has another form.
    """

    def __init__(
        self,
        tokens: Iterable[Token] = (),
        *,
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = tuple(tokens)
        self._file = file
        self._clock = clock
        self._looked_s = clock()
        self._stamp = _stamp(file)
        self._from_file = read_tokens(file) if file is not None else ()

    def __bool__(self) -> bool:
        """Return whether there is any token."""
        return bool(self._own or self._from_file)

    @property
    def is_configured(self) -> bool:
        """Whether tokens are used: there are some, or there is a token file, which may get some later."""
        return bool(self) or self._file is not None

    def find(self, given: bytes) -> Token | None:
        """Return the token that was given, or None if it is unknown; takes the same time for every token.

        Parameters
        ----------
        given : bytes
            The value from the header.
        """
        self._look()
        digest = hashlib.sha256(given).digest()
        found = None
        for token in (*self._own, *self._from_file):
            for one in token.digests:
                if hmac.compare_digest(digest, one):
                    found = token  # no early end: the time must not reveal which one matched
        return found

    def _look(self) -> None:
        if self._file is None or self._clock() < self._looked_s + LOOK_S:
            return
        self._looked_s = self._clock()
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        try:
            self._from_file = read_tokens(self._file)
        except WrongUsage as error:
            log.warning("%s; the tokens stay as they were", error, extra={"action": "token_file_refused"})
        else:
            log.info("read %d tokens", len(self._from_file), extra={"action": "token_file_read"})
        self._stamp = stamp


def parse_tokens(text: str) -> tuple[Token, ...]:
    """Read "RIGHT:TOKEN" pairs that are separated by commas or spaces.

    Raises
    ------
    WrongUsage
        The text has another form; the message repeats no token.
    """
    tokens = []
    for number, item in enumerate(text.replace(",", " ").split(), 1):
        right, separator, token = item.partition(":")
        if not separator:
            raise WrongUsage(f"token {number} of IQDB_TOKENS is not of the form RIGHT:TOKEN")
        tokens.append(create_token(right, token, f"token {number} of IQDB_TOKENS"))
    return tuple(tokens)


def read_tokens(file: Path) -> tuple[Token, ...]:
    """Read a file with one "RIGHT TOKEN" per line; skip empty lines and comments (#).

    Raises
    ------
    WrongUsage
        The file cannot be read, or a line has another form; the message repeats no token.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise WrongUsage(f"the token file (--token-file) cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise WrongUsage("the token file (--token-file) is not UTF-8 text") from exc
    tokens = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        right, _, token = line.strip().partition(" ")
        tokens.append(create_token(right, token.strip(), f"line {number} of the token file"))
    return tuple(tokens)


def create_token(right: str, token: str, place: str) -> Token:
    """Return one token; `token` is the token itself, or "sha256:" and its digest in hexadecimal.

    Raises
    ------
    WrongUsage
        There is no such right, or the token is malformed; the message names `place`.
    """
    if right.lower() not in _RIGHTS:
        raise WrongUsage(f"{place} names no right; it is one of {', '.join(_RIGHTS)}")
    if token.startswith(_DIGEST_PREFIX):
        try:
            digest = bytes.fromhex(token.removeprefix(_DIGEST_PREFIX))
        except ValueError:
            digest = b""
        if len(digest) != hashlib.sha256().digest_size:
            raise WrongUsage(f"{place} has no SHA-256 digest of 64 hexadecimal digits")
        return Token((digest,), _RIGHTS[right.lower()])
    if not token or " " in token or not token.isprintable():
        raise WrongUsage(f"{place} has no token, or one with spaces or unprintable characters")
    # Header values are bytes: clients encode text beyond ASCII as UTF-8, or as Latin-1 where that is
    # possible.
    written = {token.encode(): None}
    if all(ord(character) < 256 for character in token):
        written[token.encode("latin-1")] = None
    return Token(tuple(hashlib.sha256(one).digest() for one in written), _RIGHTS[right.lower()])


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
