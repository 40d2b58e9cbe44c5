"""The signature of an image, equal to IQDB's to the bit.

Computes a `Signature` from the bytes of a file, or from three colour channels. Knows no index, store, web or
queue. Called when images are added or queried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iqdb_core.errors import InvalidChannels
from iqdb_core.model import CHANNELS, PLANE, SIDE, QuerySignature, Rectangle, Signature
from iqdb_core.signature.arithmetic import coefficients, create_shrinking, signed_positions
from iqdb_core.signature.decode import decode
from iqdb_core.signature.decoders.failure import memory_errors
from iqdb_core.signature.parts import find_parts
from iqdb_core.signature.picture import DecodeLimits, Picture
from iqdb_core.signature.turns import turned
from iqdb_core.signature.uncropping import uncropped

__all__ = [
    "DecodeLimits",
    "ReadImage",
    "ReadQuery",
    "from_channels",
    "from_image_bytes",
    "read_image",
    "read_query",
    "read_timed",
    "turned",
    "warm_up",
]

_CHANNEL_FORM: Final = f"a channel is a list of {PLANE} integers of 0..255"
_DEFAULT_LIMITS: Final = DecodeLimits()

_KEPT_PIXELS: Final = 1 << 24

_WARM_UP_FILES: Final = (
    b"P6 2 2 255 " + bytes(2 * 2 * 3),
    b"P5 2 2 255 " + bytes(2 * 2),
    bytes((0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 32, 8)) + bytes(4 + 8) + b"TRUEVISION-XFILE.\0",
)
"""A coloured picture, a grey and a transparent one."""
_WARM_UP_QUERY: Final = b"P6 128 128 255 " + bytes(PLANE * 3)
"""One of the final size, and large enough for parts: together they use all kernels."""


class ReadImage(NamedTuple):
    """The result of reading an image file.

    Parameters
    ----------
    signature : Signature
    is_damaged : bool
        Whether the file is damaged, so that the signature is that of the readable part. The missing part of a
        JPEG is grey, that of other formats white. Damage that does not show in the structure goes unnoticed.
    """

    signature: Signature
    is_damaged: bool


def read_image(data: bytes, *, limits: DecodeLimits = _DEFAULT_LIMITS) -> ReadImage:
    """Return the signature of an image file, and whether the file is damaged.

    Parameters
    ----------
    data : bytes
        A file in one of the formats of docs/formats.md; its content decides which. The first frame counts,
        upright according to EXIF, on white; colour profiles are ignored.
    limits : DecodeLimits
        Limits of decoding, and whether damaged images are accepted.

    Returns
    -------
    ReadImage
        The signature is equal to danbooru/iqdb's to the bit for JPEG, damaged ones included.

    Raises
    ------
    UnsupportedFormat
        The bytes are not an image in a supported format.
    CorruptImage
        The image is too damaged to be read (or damaged at all, if the limits refuse that), or built to
        exhaust the decoder.
    ImageTooLarge
        It has more pixels than the limit; nothing was decoded.
    OutOfMemory
        There is not enough memory now.

    Notes
    -----
    Safe to call from several threads at once. Decoding and the kernels release the GIL.
    """
    image, _ = _read(data, limits)
    return image


def read_timed(
    data: bytes,
    *,
    limits: DecodeLimits,
    on_decoded: Callable[[float], None],
    on_hashed: Callable[[float], None],
) -> ReadImage:
    """Do as `read_image`, and report how long it took.

    Parameters
    ----------
    data, limits
        As for `read_image`.
    on_decoded : callable
        Called with the seconds not spent on hashing, even if the image cannot be read.
    on_hashed : callable
        Called with the seconds spent on hashing, if there is a signature.
    """
    start = perf_counter()
    hashing_s = 0.0
    try:
        image, hashing_s = _read(data, limits)
        on_hashed(hashing_s)
        return image
    finally:
        on_decoded(perf_counter() - start - hashing_s)


def _read(data: bytes, limits: DecodeLimits) -> tuple[ReadImage, float]:
    """Return the result for an image file, and the seconds not spent on decoding."""
    with memory_errors():
        picture = decode(data, limits)
        shrinking = create_shrinking(picture.width, picture.height)
        hashing_s = 0.0
        for band in picture.bands:  # decodes
            start = perf_counter()
            shrinking.add(band)
            hashing_s += perf_counter() - start
        start = perf_counter()
        signature = _from_small(shrinking.small())
    return ReadImage(signature, picture.is_damaged), hashing_s + perf_counter() - start


def from_image_bytes(data: bytes, *, limits: DecodeLimits = _DEFAULT_LIMITS) -> Signature:
    """Return the signature of an image file; see `read_image`."""
    return read_image(data, limits=limits).signature


def _with_parts(picture: Picture) -> tuple[NDArray[np.uint8], list[tuple[Rectangle, Signature]]]:
    """Return a picture, shrunk to (3, 128, 128), and the signatures of its parts."""
    shrinking = create_shrinking(picture.width, picture.height)
    step = math.ceil(math.sqrt(picture.width * picture.height / _KEPT_PIXELS))
    kept = np.empty((-(-picture.height // step), -(-picture.width // step)), np.uint32)
    row = 0
    for band in picture.bands:
        shrinking.add(band)
        sample = band[-row % step :: step, ::step]
        first = -(-row // step)
        kept[first : first + len(sample)] = sample
        row += len(band)
    kept.flags.writeable = False
    parts = []
    for part in find_parts(kept):
        pixels = np.ascontiguousarray(kept[part.y : part.y + part.height, part.x : part.x + part.width])
        pixels.flags.writeable = False
        inner = create_shrinking(part.width, part.height)
        inner.add(pixels)
        x, y = part.x * step, part.y * step
        width, height = part.width * step, part.height * step
        place = Rectangle(x, y, min(width, picture.width - x), min(height, picture.height - y))
        parts.append((place, _from_small(inner.small())))
    return shrinking.small(), parts


class ReadQuery(NamedTuple):
    """What a search for copies of a picture looks for.

    Parameters
    ----------
    signatures : list of QuerySignature
        The whole picture first.
    is_damaged : bool
        See `ReadImage`.
    """

    signatures: list[QuerySignature]
    is_damaged: bool


def read_query(data: bytes, *, turns: str | None, limits: DecodeLimits) -> ReadQuery:
    """Return what a search for copies of a file looks for.

    That is its signature, then those of at most 16 parts that may be pictures of their own, the best guess
    first, of the pictures that it may be cut out of, and of turns.

    Parameters
    ----------
    data, limits
        As for `read_image`; the file is decoded once.
    turns
        As for `turned`.

    Returns
    -------
    ReadQuery
        Signatures of parts equal those of the same pixels in a file of their own.

    Raises
    ------
    UnsupportedFormat, CorruptImage, ImageTooLarge, OutOfMemory
        As `read_image`.
    ValueError
        As `turned`.

    Notes
    -----
    Takes at most 64 MB beside decoding: for pictures with more than 16 million pixels only every second
    (third, ...) pixel of the parts is used. Takes some tens of milliseconds more than the signature.
    """
    with memory_errors():
        picture = decode(data, limits)
        small, parts = _with_parts(picture)
    size = picture.width, picture.height
    signatures = [
        QuerySignature(_from_small(small), size=size),
        *(QuerySignature(found, place, size=size) for place, found in parts),
        *(QuerySignature(_from_small(larger), place, size=size) for place, larger in uncropped(small, *size)),
    ]
    return ReadQuery(turned(signatures, turns), picture.is_damaged)


def from_channels(red: Sequence[int], green: Sequence[int], blue: Sequence[int]) -> Signature:
    """Return the signature of a picture that is already 128 x 128, as e621's client sends it.

    Parameters
    ----------
    red, green, blue : sequence or array of 16384 int
        Each 0..255, row by row.

    Raises
    ------
    InvalidChannels
        Wrong length, or a value that is no integer of 0..255; bools are not accepted.
    """
    small = np.stack([_channel(values) for values in (red, green, blue)])
    return _from_small(small.reshape(CHANNELS, SIDE, SIDE))


def _channel(values: Sequence[int]) -> NDArray[np.uint8]:
    """Return a channel's values after checking them."""
    if isinstance(values, np.ndarray):
        if values.shape != (PLANE,) or values.dtype.kind not in "iu":
            raise InvalidChannels(_CHANNEL_FORM)
        if values.min() < 0 or values.max() > 255:
            raise InvalidChannels(_CHANNEL_FORM)
        return values.astype(np.uint8)
    if not isinstance(values, Sequence) or len(values) != PLANE or {*map(type, values)} != {int}:
        raise InvalidChannels(_CHANNEL_FORM)
    try:
        return np.frombuffer(bytes(values), np.uint8)
    except ValueError as error:
        raise InvalidChannels(_CHANNEL_FORM) from error


def _from_small(small: NDArray[np.uint8]) -> Signature:
    """Return the signature of (3, 128, 128) planes of red, green and blue."""
    planes = coefficients(small)
    y, i, q = planes[:, 0, 0].tolist()
    return Signature((y, i, q), signed_positions(planes).astype("<i2").tobytes())


def warm_up() -> None:
    """Compile or load every kernel, so that no request waits for it.

    Takes milliseconds once the compiled code is on disk, and some seconds before.
    """
    for data in _WARM_UP_FILES:
        read_image(data)
    read_query(_WARM_UP_QUERY, turns="none", limits=_DEFAULT_LIMITS)
