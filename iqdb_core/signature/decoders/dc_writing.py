"""Writes averages of blocks as a scan of a progressive JPEG, complete or ending too early.

Called by `dc_scans`.

References
----------
ITU-T T.81, annexes B.2.4.2, C, F.1.2.1 and F.1.2.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_TABLES: Final = 0xC4
_RESTART: Final = 0xD0
_RESTARTS: Final = 8
_LENGTHS: Final = 16
_CATEGORIES: Final = 16
_COMMON: Final = 5
"""Bits of the code of each category."""
_BYTE: Final = 8
_CHUNK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Coded:
    """A first scan of averages.

    Parameters
    ----------
    pixels : bytes
        What follows the header of the scan.
    filler : int
        The category with codes of every length from `_COMMON` to `_COMMON` + 7 bits.
    """

    pixels: bytes
    filler: int

    def table(self, slot: int) -> bytes:
        """Return the segment with the table of codes, to stand in this slot."""
        counts = bytearray(_LENGTHS)
        counts[_COMMON - 1] = _CATEGORIES
        for length in range(_COMMON + 1, _COMMON + _BYTE):
            counts[length - 1] = 1
        values = bytes((*range(_CATEGORIES), *(self.filler,) * (_BYTE - 1)))
        content = bytes((slot,)) + bytes(counts) + values
        return struct.pack(">BBH", 0xFF, _TABLES, 2 + len(content)) + content


def packed_bits(bits: NDArray[np.uint8], interval: int) -> bytes:
    """Return a scan that brings one more bit of each average.

    Parameters
    ----------
    bits : (n,) uint8 ndarray
    interval : int
        How many stand between restarts; 0 for no restarts.
    """
    parts = [bits[at : at + interval] for at in range(0, len(bits), interval)] if interval else [bits]
    return _joined([_stuffed(part) for part in parts])


def packed_averages(
    averages: NDArray[np.int32], owners: NDArray[np.int64], interval: int, there: int | None
) -> Coded:
    """Return a first scan of averages.

    Parameters
    ----------
    averages : (groups * blocks,) int32 ndarray
        Of less than 2**14 in size.
    owners : (blocks,) int64 ndarray
        For each block of a group its component.
    interval : int
        How many groups stand between restarts; 0 for no restarts.
    there : int or None
        How many groups are whole, if data ends within the next one.

    Notes
    -----
    The next group is written without its last bit. A decoder that runs out of data reads zeros, so this bit
    is one if the group itself was read from data that ended within it. The bits before must fill whole bytes:
    therefore the first average after the last restart gets a code of the right length out of several.
    """
    blocks = len(owners)
    end = len(averages) // blocks if there is None else there + 1
    interval = interval or max(end, 1)
    filler = 0
    parts = []
    for begin in range(0, end, interval):
        stop = min(begin + interval, end)
        codes, lengths = _codes(averages[begin * blocks : stop * blocks], owners)
        bits = _bits(codes, lengths)
        if stop == end and there is not None:
            filler = int(lengths[0]) - _COMMON
            longer = _longer(-(len(bits) - 1) % _BYTE, bits[:_COMMON])
            bits = np.concatenate((longer, bits[_COMMON:]))[:-1]  # of a lone 0 that bit is in its code
        else:
            bits = np.concatenate((bits, np.ones(-len(bits) % _BYTE, np.uint8)))
        parts.append(_stuffed(bits))
    return Coded(_joined(parts), filler)


def _codes(
    averages: NDArray[np.int32], owners: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the codes of some groups after a restart, and their lengths in bits."""
    grid = averages.astype(np.int64).reshape(-1, len(owners))
    differences = np.empty_like(grid)
    for own in range(int(owners.max()) + 1):
        mine = owners == own
        differences[:, mine] = np.diff(grid[:, mine].ravel(), prepend=0).reshape(len(grid), -1)
    steps = differences.ravel()
    categories = np.zeros(len(steps), np.int64)
    for bit in range(_CATEGORIES):
        categories += np.abs(steps) >> bit > 0
    rest = np.where(steps < 0, steps - 1, steps) & (1 << categories) - 1
    return categories << categories | rest, _COMMON + categories


def _longer(bits: int, code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the code of the filler category that is longer than the common one by some bits."""
    if bits == 0:
        return code
    return _bits(np.array([(_CATEGORIES + 1 << bits) - 2]), np.array([_COMMON + bits]))


def _bits(codes: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return codes bit by bit, the highest first."""
    places = np.arange(_COMMON + _CATEGORIES - 1, -1, -1)
    return np.concatenate(
        [
            (codes[at : at + _CHUNK, np.newaxis] >> places & 1).astype(np.uint8)[
                places < lengths[at : at + _CHUNK, np.newaxis]
            ]
            for at in range(0, len(codes), _CHUNK)
        ]
    )


def _stuffed(bits: NDArray[np.uint8]) -> bytes:
    """Return bits as bytes of which none looks like a marker."""
    return np.packbits(bits).tobytes().replace(b"\xff", b"\xff\0")


def _joined(parts: list[bytes]) -> bytes:
    """Return parts with restarts between them."""
    pieces = [parts[0]] if parts else []
    for number, part in enumerate(parts[1:]):
        pieces += [bytes((0xFF, _RESTART + number % _RESTARTS)), part]
    return b"".join(pieces)
