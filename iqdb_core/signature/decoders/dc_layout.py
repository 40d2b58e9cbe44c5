"""Which blocks of a JPEG a scan of averages goes over, and in which order.

Values and their readers. Used by `dc_scans` and `smoothing`.

References
----------
ITU-T T.81, annexes A.2 and B.2.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 8
"""Pixels along a side of a block."""


class NotRewritten(Exception):
    """The file has something that no encoder writes; such files are not rewritten."""


@dataclass(frozen=True, slots=True)
class Component:
    """A colour component: its sampling factors, and how many blocks wide and high it is."""

    across: int
    down: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame header.

    Parameters
    ----------
    components : dict of int to Component
        By the numbers that scans use.
    mcus : (int, int)
        How many groups of blocks an interleaved scan has in a row, and how many rows of them.
    """

    components: dict[int, Component]
    mcus: tuple[int, int]

    @property
    def down(self) -> int:
        """Rows of blocks in a group."""
        return max(component.down for component in self.components.values())

    @property
    def grown(self) -> Frame:
        """The same with as many rows as fit into its groups."""
        components = {
            number: replace(component, height=self.mcus[1] * component.down)
            for number, component in self.components.items()
        }
        return Frame(components, self.mcus)


@dataclass(frozen=True, slots=True)
class Scan:
    """The header of a scan of averages, and its blocks in the order of the file.

    Parameters
    ----------
    components, slots : list of int
        Which components, and the table of codes of each.
    is_first : bool
        Whether it brings the averages but for some low bits, rather than one more bit of each.
    owners : (blocks,) int64 ndarray
        For each block of a group the place of its component in `components`.
    rows, columns : (groups * blocks,) int64 ndarray
        Where each block lies in its component.
    """

    components: list[int]
    slots: list[int]
    is_first: bool
    owners: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def blocks_of(self, own: int) -> NDArray[np.int64]:
        """Return where the blocks of a component are in the order of the file."""
        return np.flatnonzero(np.tile(self.owners == own, len(self.rows) // len(self.owners)))


def frame_from(content: bytes) -> Frame:
    """Read a frame header, without its length; raises NotRewritten."""
    height, width = struct.unpack_from(">HH", content, 1)
    numbers, factors = content[6::3], content[7::3]
    across, down = max(byte >> 4 for byte in factors), max(byte & 15 for byte in factors)
    if not all(byte >> 4 and byte & 15 for byte in factors) or len(set(numbers)) < len(numbers):
        raise NotRewritten
    components = {
        number: Component(
            byte >> 4,
            byte & 15,
            -(-width * (byte >> 4) // (across * BLOCK)),
            -(-height * (byte & 15) // (down * BLOCK)),
        )
        for number, byte in zip(numbers, factors, strict=True)
    }
    return Frame(components, (-(-width // (across * BLOCK)), -(-height // (down * BLOCK))))


def groups_in(segment: bytes, frame: Frame) -> int:
    """Return how many groups of blocks a scan has, given its header with its length; 0 if that is odd."""
    numbers = segment[3 : 3 + 2 * segment[2] : 2] if len(segment) > 3 else b""
    if not numbers or not set(numbers) <= set(frame.components):
        return 0
    alone = frame.components[numbers[0]]
    return alone.width * alone.height if len(numbers) == 1 else frame.mcus[0] * frame.mcus[1]


def scan_from(segment: bytes, frame: Frame) -> Scan:
    """Read the header of a scan of averages, with its length; raises NotRewritten."""
    count = segment[2]
    numbers = list(segment[3 : 3 + 2 * count : 2])
    slots = [byte >> 4 for byte in segment[4 : 4 + 2 * count : 2]]
    if not groups_in(segment, frame) or len(segment) != 6 + 2 * count or segment[-2]:
        raise NotRewritten
    across, down = frame.mcus
    chosen = [frame.components[number] for number in numbers]
    if count == 1:
        across, down, blocks = chosen[0].width, chosen[0].height, [(0, 0, 0)]
        factors = [(1, 1)]
    else:
        factors = [(component.across, component.down) for component in chosen]
        blocks = [(own, y, x) for own, (h, v) in enumerate(factors) for y in range(v) for x in range(h)]
    owners, y, x = np.array(blocks, np.int64).T
    wide, high = np.array(factors, np.int64)[owners].T
    group = np.arange(across * down)[:, np.newaxis]
    rows, columns = group // across * high + y, group % across * wide + x
    is_first = segment[-1] >> 4 == 0
    return Scan(numbers, slots, is_first, owners.copy(), rows.ravel(), columns.ravel())


def sources_of(scan: Scan, written: Scan, copied: Mapping[int, Mapping[int, int]]) -> NDArray[np.int64]:
    """Return for each block that is written, in its order, which block's average it gets; -1 for zero."""
    sources = np.full(len(written.rows), -1)
    for own, number in enumerate(scan.components):
        mine, theirs = scan.blocks_of(own), written.blocks_of(own)
        rows, columns = written.rows[theirs], written.columns[theirs]
        places = np.full((rows.max() + 1, columns.max() + 1), -1)
        places[scan.rows[mine], scan.columns[mine]] = mine
        for target, source in copied.get(number, {}).items():
            if max(target, source) < len(places):
                places[target] = places[source]
        sources[theirs] = places[rows, columns]
    return sources
