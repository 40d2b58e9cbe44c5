"""Converts signatures to and from bytes (264) and text ("iqdb_..."), and validates sources, strictly.

Never touches images, SQL or HTTP. Called wherever a signature or a source enters or leaves the program.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.errors import InvalidHash, InvalidSource
from iqdb_core.model import CHANNELS, KEPT, MAX_SOURCE_CHARACTERS, PLANE, POSITION_BYTES, Signature

HASH_PREFIX: Final = "iqdb_"
HASH_DIGITS: Final = CHANNELS * 16 + CHANNELS * KEPT * 4
SIGNATURE_BYTES: Final = CHANNELS * 8 + POSITION_BYTES
_AVERAGE_DIGITS: Final = CHANNELS * 16
_POSITION_DIGITS: Final = CHANNELS * KEPT * 4


def to_hash(signature: Signature, *, prefix: bool = True) -> str:
    """Return the text form: 528 lower-case hex digits, after "iqdb_" unless `prefix` is false."""
    (text,) = to_hashes([signature], prefix=prefix)
    return text


def to_hashes(signatures: Sequence[Signature], *, prefix: bool = True) -> list[str]:
    """Return the text forms of many signatures; see `to_hash`."""
    numbers = [average for signature in signatures for average in signature.averages]
    averages = struct.pack(f">{len(numbers)}d", *numbers).hex()
    positions = positions_of(signatures).astype(">i2").tobytes().hex()
    start = HASH_PREFIX if prefix else ""
    return [
        start
        + averages[number * _AVERAGE_DIGITS : (number + 1) * _AVERAGE_DIGITS]
        + positions[number * _POSITION_DIGITS : (number + 1) * _POSITION_DIGITS]
        for number in range(len(signatures))
    ]


def positions_of(signatures: Sequence[Signature]) -> NDArray[np.int16]:
    """Return the signed positions of many signatures, (n, 3, 40) int16 in native byte order."""
    raw = b"".join([signature.positions for signature in signatures])
    return np.frombuffer(raw, "<i2").astype(np.int16, copy=False).reshape(-1, CHANNELS, KEPT)


def from_hash(text: str) -> Signature:
    """Parse the text form, with or without its prefix.

    Parameters
    ----------
    text : str
        "iqdb_" and 528 hex digits, or the digits alone; either case.

    Returns
    -------
    Signature

    Raises
    ------
    InvalidHash
        Wrong length or character, an average that is not finite, or a position outside 1..16383.
    """
    digits = text.removeprefix(HASH_PREFIX)
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raw = b""
    # `fromhex` skips blanks, so its result is then too short.
    if len(digits) != HASH_DIGITS or len(raw) != SIGNATURE_BYTES:
        raise InvalidHash(
            f"a hash is '{HASH_PREFIX}' and {HASH_DIGITS} hexadecimal digits, or the digits alone"
        )
    positions = np.frombuffer(raw, dtype=">i2", offset=CHANNELS * 8).astype("<i2").tobytes()
    return validated(struct.unpack_from(">3d", raw), positions)


def to_bytes(signature: Signature) -> bytes:
    """Return 264 bytes: three float64 and int16[3][40], all little-endian."""
    return struct.pack("<3d", *signature.averages) + signature.positions


def from_bytes(raw: bytes) -> Signature:
    """Parse what `to_bytes` made; raises InvalidHash like `from_hash`."""
    if len(raw) != SIGNATURE_BYTES:
        raise InvalidHash(f"a binary signature has {SIGNATURE_BYTES} bytes, not {len(raw)}")
    return validated(struct.unpack_from("<3d", raw), raw[CHANNELS * 8 :])


def validated(averages: tuple[float, ...], positions: bytes) -> Signature:
    """Build a Signature from untrusted values, keeping their order; repeated positions score once.

    Raises
    ------
    InvalidHash
        As `from_hash` describes.
    """
    if len(averages) != CHANNELS or not all(map(math.isfinite, averages)):
        raise InvalidHash("the averages of a hash are three finite numbers")
    if len(positions) != POSITION_BYTES:
        raise InvalidHash(f"the positions of a hash are {POSITION_BYTES} bytes, not {len(positions)}")
    if not positions_are_valid(np.frombuffer(positions, dtype="<i2")):
        raise InvalidHash(f"the positions of a hash are 1..{PLANE - 1}, positive or negative")
    return Signature((averages[0], averages[1], averages[2]), positions)


def positions_are_valid(positions: NDArray[np.int16]) -> bool:
    """Return whether all values of an int16 array are 1..16383 in magnitude."""
    if positions.size == 0:
        return True
    # abs(-32768) stays -32768 in int16; as unsigned it is 32768, out of range as it should be. Subtracting 1
    # makes 0 wrap around and be out of range too, so one comparison finds both.
    magnitudes = np.abs(positions).view(np.uint16)
    magnitudes -= 1
    return bool(np.maximum.reduce(magnitudes, axis=None) < PLANE - 1)


def check_source(source: str) -> None:
    """Raise InvalidSource unless a text may be a source.

    Raises
    ------
    InvalidSource
        Over 2,000 characters, or characters that no database can hold.
    """
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise InvalidSource(f"a source has at most {MAX_SOURCE_CHARACTERS} characters, not {len(source)}")
    try:
        source.encode()
    except UnicodeEncodeError:
        raise InvalidSource("a source is text, and this one has halves of characters") from None
    if "\0" in source:
        raise InvalidSource("a source is text, and this one has a zero character")
