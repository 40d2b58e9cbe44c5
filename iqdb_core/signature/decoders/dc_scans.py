"""Rewrites a progressive JPEG with other averages in some rows of its blocks.

The first coefficient of each block, its average, is stored in scans of its own. These are read and written
again with rows of averages copied over others. Everything else stays unchanged, including the place where a
scan ends too early. Knows the coding of a file, not what is done with its pixels. Called by `smoothing`.

References
----------
ITU-T T.81, annexes B, F.1.4, F.2.2 and G.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.forms import two_forms
from iqdb_core.signature.decoders.dc_layout import (
    BLOCK,
    Frame,
    NotRewritten,
    Scan,
    frame_from,
    groups_in,
    scan_from,
    sources_of,
)
from iqdb_core.signature.decoders.dc_writing import packed_averages, packed_bits

_SOI_BYTES: Final = 2
_TABLES: Final = 0xC4
_FRAME: Final = 0xC2
_FRAMES: Final = frozenset({0xC0, 0xC1, _FRAME})
_SCAN: Final = 0xDA
_END: Final = 0xD9
_INTERVAL: Final = 0xDD
_RESTARTS: Final = range(0xD0, 0xD8)
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_MARKER: Final = re.compile(rb"\xff([^\x00\xff])")
_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART: Final = re.compile(rb"\xff[\xd0-\xd7]")
"""All without the fill bytes before them: a pattern with any number of them would take quadratic time."""
_CODE_BITS: Final = 16
_SLOTS: Final = 16
"""Tables from this slot on are not for averages."""
_LARGEST: Final = 1 << 14
_MAX_SCANS: Final = 16
_MAX_RESTARTS: Final = 8192
"""Files with more of either only cost time: four components in a few steps, a restart after each row."""

read_averages: Final[
    Callable[
        [NDArray[np.uint8], NDArray[np.uint16], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]], int
    ]
] = two_forms(compiled="iqdb_core.signature.decoders.dc_codes:read_averages", plain=None)
"""See `dc_codes`."""


@dataclass(slots=True)
class _State:
    """What is known from the segments so far."""

    codes: dict[int, NDArray[np.uint16]] = field(default_factory=dict)
    interval: int = 0


def frame_of(data: bytes) -> Frame | None:
    """Return the frame header of a progressive JPEG with Huffman codes, None for any other file."""
    for marker, begin, end in _segments(data):
        if marker == _FRAME:
            return frame_from(data[begin + 2 : end])
        if marker == _SCAN:
            break
    return None


def lacks_restarts(data: bytes, begin: int) -> bool:
    """Whether the last scan has fewer restarts than it should, if they are announced before `begin`."""
    try:
        return data.find(bytes((0xFF, _INTERVAL)), 0, begin) > 0 and _missing_groups(data) > 0
    except NotRewritten:
        return False


def _missing_groups(data: bytes) -> int:
    """Return for how many groups of the last scan there is no place between restarts."""
    frame: Frame | None = None
    interval = missing = 0
    for marker, begin, end in _segments(data):
        if marker in _FRAMES:
            frame = frame_from(data[begin + 2 : end])
        elif marker == _INTERVAL:
            interval = int.from_bytes(data[begin + 2 : end], "big")
        elif marker == _SCAN and frame is not None and interval:
            missing = groups_in(data[begin:end], frame) - (1 + _restarts(data, end)) * interval
    return missing


def with_copied_rows(
    data: bytes, frame: Frame, copies: Mapping[int, int], *, is_grown: bool = False
) -> bytes:
    """Return the file with the averages of some rows of blocks copied over others.

    Parameters
    ----------
    data : bytes
        A progressive JPEG with Huffman codes; may end anywhere after the header of its first scan.
    frame : Frame
        Its frame header.
    copies : mapping of int to int
        Row of blocks that is overwritten, to row that is copied, both counted from the top. In components
        with the largest vertical sampling factor only.
    is_grown : bool
        Whether the picture gets the rows that its last groups of blocks have room for.

    Returns
    -------
    bytes

    Raises
    ------
    NotRewritten
        The averages are not coded as encoders do.
    """
    copied = {
        number: copies for number, component in frame.components.items() if component.down == frame.down
    }
    state = _State()
    rewritten = 0
    out = [data[:_SOI_BYTES]]
    for marker, begin, end in _segments(data):
        segment = data[begin:end]
        if marker == _TABLES:
            _take_tables(state, segment[2:])
        elif marker == _INTERVAL:
            state.interval = int.from_bytes(segment[2:4], "big")
        elif marker == _FRAME and is_grown:
            segment = segment[:3] + (frame.mcus[1] * frame.down * BLOCK).to_bytes(2, "big") + segment[5:]
        head = bytes((0xFF, marker)) + segment
        if marker != _SCAN:
            out.append(head)
            continue
        pixels = data[end : _pixels_end(data, end)]
        if segment[-3:-2] == b"\0" and end <= len(data):
            rewritten += 1
            if rewritten > _MAX_SCANS:
                raise NotRewritten
            scan = scan_from(segment, frame)
            sources = sources_of(scan, scan_from(segment, frame.grown) if is_grown else scan, copied)
            out += _rewritten(head, pixels, scan, state, sources)
        else:
            out += [head, pixels]
    return b"".join(out)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, begin (of its length) and end of each segment, without the data that follows a scan."""
    position = _SOI_BYTES
    while match := _MARKER.search(data, position):
        marker, begin = match[1][0], match.end()
        if marker in _WITHOUT_LENGTH:
            position = begin
            continue
        end = begin + max(2, int.from_bytes(data[begin : begin + 2], "big"))
        if marker == _END:
            yield marker, begin, begin
            return
        yield marker, begin, end
        position = _pixels_end(data, end) if marker == _SCAN else end


def _restarts(data: bytes, begin: int) -> int:
    """Return how many restarts there are in the scan whose data begins here."""
    end = _pixels_end(data, begin)
    return sum(data.count(bytes((0xFF, marker)), begin, end) for marker in _RESTARTS)


def _pixels_end(data: bytes, begin: int) -> int:
    match = _AFTER_SCAN.search(data, begin)
    return match.start() if match else len(data)


def _take_tables(state: _State, content: bytes) -> None:
    """Note the tables of codes for averages: for every 16 bits the length of their code and its meaning."""
    at = 0
    while at + 17 <= len(content):
        slot, counts = content[at], content[at + 1 : at + 17]
        values = content[at + 17 : at + 17 + sum(counts)]
        at += 17 + sum(counts)
        if slot >= _SLOTS:
            continue
        table = np.zeros(1 << _CODE_BITS, np.uint16)
        filled = 0
        lengths = np.repeat(np.arange(1, 17), list(counts))
        for length, value in zip(lengths.tolist(), values, strict=False):
            span = 1 << (_CODE_BITS - length)
            table[filled : filled + span] = length << 8 | value
            filled += span
        state.codes[slot] = table


def _rewritten(
    head: bytes,
    pixels: bytes,
    scan: Scan,
    state: _State,
    sources: NDArray[np.int64],
) -> list[bytes]:
    """Return a scan of averages, its header included, with averages from elsewhere.

    A scan that ends too early is filled up if an average has to be copied behind its end.
    """
    blocks = len(scan.owners)
    groups = len(scan.rows) // blocks
    interval = state.interval or groups
    if groups > _MAX_RESTARTS * interval:
        raise NotRewritten
    pieces = [np.frombuffer(piece, np.uint8) for piece in _pieces(pixels, state.interval)]
    averages = np.zeros(len(scan.rows) + 1, np.int32)  # the last one is for blocks that get zero
    if scan.is_first:
        there = _read_first(pieces, scan, state, interval, averages[:-1])
        end = min(there + 1, groups) * blocks
    else:
        end = _read_bits(pieces, interval * blocks, averages[:-1])
        there = end // blocks
    behind = sources[end:]
    is_whole = there == groups or bool(((behind >= 0) & (behind < end)).any())
    averages = averages[sources]
    if not scan.is_first:
        bits = averages if is_whole else averages[:end]
        return [head, packed_bits(bits.astype(np.uint8), state.interval * blocks)]
    coded = packed_averages(averages, scan.owners, state.interval, None if is_whole else there)
    return [*(coded.table(slot) for slot in sorted(set(scan.slots))), head, coded.pixels]


def _pieces(pixels: bytes, interval: int) -> list[bytes]:
    """Return what lies between restarts, without fill bytes and the zeros that keep it apart from markers."""
    pieces = _RESTART.split(pixels)
    if len(pieces) > 1 and not interval:
        raise NotRewritten
    return [piece.rstrip(b"\xff").replace(b"\xff\0", b"\xff") for piece in pieces]


def _read_bits(pieces: list[NDArray[np.uint8]], per_piece: int, averages: NDArray[np.int32]) -> int:
    """Fill in the bits of a scan that brings one more of each average; return how many are there."""
    bits = [np.unpackbits(piece)[:per_piece] for piece in pieces]
    if any(len(piece) < per_piece for piece in bits[:-1]):
        raise NotRewritten
    there = np.concatenate(bits)[: len(averages)]
    averages[: len(there)] = there
    return len(there)


def _read_first(
    pieces: list[NDArray[np.uint8]], scan: Scan, state: _State, interval: int, values: NDArray[np.int32]
) -> int:
    """Fill in the averages of a first scan; return how many groups are whole."""
    if not set(scan.slots) <= set(state.codes):
        raise NotRewritten
    tables = np.array([state.codes[slot] for slot in scan.slots])
    blocks = len(scan.owners)
    groups = len(values) // blocks
    there = 0
    for begin in range(0, groups, interval):
        place = begin // interval
        piece = pieces[place] if place < len(pieces) else np.empty(0, np.uint8)
        part = values[begin * blocks : (begin + interval) * blocks]
        done = read_averages(piece, tables, scan.owners, np.zeros(len(scan.slots), np.int64), part)
        if done < 0:
            raise NotRewritten
        there += done
        if done * blocks < len(part):
            if place + 1 < len(pieces):
                raise NotRewritten
            break
    if np.abs(values).max(initial=0) >= _LARGEST:
        raise NotRewritten
    return there
