"""512 bits at once in compiled code: the type, its loads and stores, and the logic on it.

LLVM gets vectors of eight words, whatever the machine: operations become one instruction on AVX-512, two on
AVX2, four on NEON. Knows nothing of images. Called by the ranking and when segments are
built.

Every load and store of a vector goes through `load` and `store`, which check bounds when numba does.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from iqdb_core.index.simd.memory import VECTOR_WORDS
from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORD: Final = ir.IntType(64)
_INT: Final = ir.IntType(32)
_VECTOR: Final = ir.VectorType(_WORD, VECTOR_WORDS)
_WORD_BYTES: Final = 8
_CHECKS_BOUNDS: Final = bool(config.BOUNDSCHECK)
_PREFETCH_TO_L2: Final = 2
"""Locality of llvm.prefetch: 0, no reuse, to 3, all levels. Data that is read once gains nothing in L1."""


class VectorType(types.Type):  # type: ignore[misc]
    """numba's name for eight uint64 in a register."""

    def __init__(self) -> None:
        super().__init__(name="Vector512")


vector_type: Final = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, front_end_type: Any) -> None:
        super().__init__(manager, front_end_type, _VECTOR)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return the pointer to element `index` of a contiguous array of words, as that to a vector."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def _load(_context: Any, words: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        loaded = builder.load(_address(context, builder, signature.args[0], *args))
        loaded.align = _WORD_BYTES
        return loaded

    return vector_type(words, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _store(_context: Any, words: Any, index: Any, vector: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], address).align = _WORD_BYTES
        return context.get_dummy_value()

    return types.none(words, types.intp, vector_type), codegen


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_context: Any, words: Any, index: Any) -> Any:
    """Prefetch the cache line of words[index]; harmless wherever it points."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = builder.bitcast(_address(context, builder, signature.args[0], *args), cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, _INT(0), _INT(_PREFETCH_TO_L2), _INT(1)])
        return context.get_dummy_value()

    return types.none(words, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def zeros(_context: Any) -> Any:
    """Return a vector of zeros."""

    def codegen(_context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return ir.Constant(_VECTOR, [0] * VECTOR_WORDS)

    return vector_type(), codegen


@intrinsic  # type: ignore[untyped-decorator]
def splat(_context: Any, word: Any) -> Any:
    """Return a vector of eight times the same uint64."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(undefined, args[0], _INT(0))
        everywhere = ir.Constant(ir.VectorType(_INT, VECTOR_WORDS), [0] * VECTOR_WORDS)
        return builder.shuffle_vector(first, undefined, everywhere)

    return vector_type(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def has_bits(_context: Any, vector: Any) -> Any:
    """Return whether any bit of a vector is 1."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        lanes = builder.icmp_unsigned("!=", args[0], ir.Constant(_VECTOR, [0] * VECTOR_WORDS))
        mask_type = ir.IntType(VECTOR_WORDS)
        return builder.icmp_unsigned("!=", builder.bitcast(lanes, mask_type), mask_type(0))

    return types.boolean(vector_type), codegen


def _define(symbol: Any, instruction: str) -> None:
    """Map an operator of Python to an instruction on vectors."""

    @intrinsic  # type: ignore[untyped-decorator]
    def apply(_context: Any, left: Any, right: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(args[0], args[1])

        return vector_type(vector_type, vector_type), codegen

    def applied(left: Any, right: Any) -> Any:
        return apply(left, right)

    @overload(symbol, jit_options={"nogil": True, "forceinline": True})  # type: ignore[untyped-decorator]
    def implementation(left: Any, right: Any) -> Any:
        return applied if left == vector_type and right == vector_type else None


_define(operator.xor, "xor")
_define(operator.and_, "and_")
_define(operator.or_, "or_")


@kernel(inline=True)
def load(words: NDArray[np.uint64], index: int) -> Any:
    """Return words[index : index + 8]."""
    if _CHECKS_BOUNDS:
        words[index]
        words[index + VECTOR_WORDS - 1]
    return _load(words, index)


@kernel(inline=True)
def store(words: NDArray[np.uint64], index: int, vector: Any) -> None:
    """Set words[index : index + 8]."""
    if _CHECKS_BOUNDS:
        words[index]
        words[index + VECTOR_WORDS - 1]
    _store(words, index, vector)


@kernel(inline=True)
def majority(a: Any, b: Any, c: Any) -> Any:
    """Return the bits that at least two of three vectors have."""
    return (a & b) | (c & (a | b))
