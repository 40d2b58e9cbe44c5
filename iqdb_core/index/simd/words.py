"""Machine words in compiled code: counting bits, reading arrays at an address, a checksum.

Processor instructions that Python has no operator for. Knows nothing of images. Called by the other kernels.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from iqdb_core.kernel import kernel

_LANES: Final = 8
_WORD_BYTES: Final = 8
_MULTIPLIER: Final = 0x9E3779B97F4A7C15
"""2**64 / golden ratio; odd, so that multiplying by it is a bijection."""


@intrinsic  # type: ignore[untyped-decorator]
def popcount(_context: Any, word: Any) -> Any:
    """Return how many bits of a uint64 are 1."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(_context: Any, word: Any) -> Any:
    """Return the number of the lowest bit of a uint64 that is 1; 64 if there is none."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


_WORDS: Final = types.Array(types.uint64, 1, "C")


@intrinsic  # type: ignore[untyped-decorator]
def words_at(_context: Any, address: Any, n_words: Any) -> Any:
    """Return the (n_words,) uint64 array at an address. The caller keeps the memory alive."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        size = context.get_constant(types.intp, _WORD_BYTES)
        array = context.make_array(_WORDS)(context, builder)
        context.populate_array(
            array,
            data=builder.inttoptr(args[0], array.data.type),
            shape=[args[1]],
            strides=[size],
            itemsize=size,
            meminfo=None,
        )
        return array._getvalue()  # noqa: SLF001 - the only way to the value

    return _WORDS(types.uint64, types.intp), codegen


@kernel(inline=True)
def _mixed(lane, word):  # type: ignore[no-untyped-def]
    """Return a lane of the checksum after one more word; a bijection of the lane, and of the word."""
    product = (lane ^ word) * types.uint64(_MULTIPLIER)
    return (product << types.uint64(29)) | (product >> types.uint64(35))


@kernel(inline=True)
def item(array, index):
    """Return array[index] for an index that is not negative, which saves numba's check for negative ones."""
    return array[np.uint64(index)]


@kernel()
def checksum_words(words):  # type: ignore[no-untyped-def]
    """Return a 64-bit checksum of words at about the speed of reading them.

    Parameters
    ----------
    words : (n,) uint64 ndarray, may be read-only

    Returns
    -------
    uint64
        Differs, almost certainly, after any damage. Not safe against deliberate changes.
    """
    a = types.uint64(1)
    b = types.uint64(2)
    c = types.uint64(3)
    d = types.uint64(4)
    e = types.uint64(5)
    f = types.uint64(6)
    g = types.uint64(7)
    h = types.uint64(8)
    whole = len(words) // _LANES * _LANES
    for i in range(0, whole, _LANES):
        a = _mixed(a, words[i])
        b = _mixed(b, words[i + 1])
        c = _mixed(c, words[i + 2])
        d = _mixed(d, words[i + 3])
        e = _mixed(e, words[i + 4])
        f = _mixed(f, words[i + 5])
        g = _mixed(g, words[i + 6])
        h = _mixed(h, words[i + 7])
    for i in range(whole, len(words)):
        a = _mixed(a, words[i])
    total = types.uint64(len(words))
    for lane in (a, b, c, d, e, f, g, h):
        total = _mixed(_mixed(total, lane), lane >> types.uint64(32))
    return total
