"""Vectors of float32 for numba: loads, stores and arithmetic that map to vector instructions.

Loaded when kernels are compiled; kernels name its functions by `tomopipe.recon.simd`.

Numba cannot prove that arrays do not overlap and therefore leaves inner loops over lanes scalar.
Here a vector is a type of its own (an LLVM vector): ``load(array, i, (0,) * 16)`` reads 16 floats,
``a * b + c`` becomes one fused instruction, and values stay in registers. Any width works on any
machine; LLVM splits what the hardware cannot hold. Indices are not checked.

A width is given as a tuple of that length, since numba knows the length of a tuple when it
compiles: one source serves all widths, and the compiled code can be cached on disk.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import models, register_model
from numba.np.arrayobj import make_array

intrinsic: Any = extending.intrinsic  # its type hints take the first argument away twice
_FLOAT = ir.FloatType()
_I32 = ir.IntType(32)


class Vec(types.Type):
    """The numba type of a vector of `width` float32."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Vec({width})")


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vec: Vec) -> None:
        super().__init__(manager, vec, ir.VectorType(_FLOAT, vec.width))


def _arithmetic(function: Callable[..., Any], instruction: str) -> None:
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vec) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    infer_global(function)(Template)

    @lower_builtin(function, Vec, Vec)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=["contract"])


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _splat(builder: Any, value: Any, width: int) -> Any:
    vector = ir.Constant(ir.VectorType(_FLOAT, width), ir.Undefined)
    vector = builder.insert_element(vector, value, ir.Constant(_I32, 0))
    return _shuffle(builder, vector, vector, [0] * width)


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(_I32, len(lanes)), lanes)
    return builder.shuffle_vector(a, b, mask)


@intrinsic
def load(typingctx: Any, array: Any, index: Any, width: Any) -> Any:
    """Load a vector from index on."""
    vec = Vec(width.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where = _address(context, builder, sig.args[0], args[0], args[1])
        where = builder.bitcast(where, context.get_value_type(vec).as_pointer())
        return builder.load(where, align=4)

    return vec(array, types.intp, width), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """Store a vector from index on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where = _address(context, builder, sig.args[0], args[0], args[1])
        where = builder.bitcast(where, args[2].type.as_pointer())
        builder.store(args[2], where, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), codegen


@intrinsic
def splat(typingctx: Any, value: Any, width: Any) -> Any:
    """Return a vector of equal floats."""
    vec = Vec(width.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(builder, args[0], sig.return_type.width)

    return vec(types.float32, width), codegen


@intrinsic
def halves(typingctx: Any, low: Any, high: Any, width: Any) -> Any:
    """Return a vector whose first half is one float and whose second half another."""
    vec = Vec(width.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b = (_splat(builder, value, vec.width) for value in args[:2])
        half = vec.width // 2
        return _shuffle(builder, a, b, [0] * half + [vec.width] * half)

    return vec(types.float32, types.float32, width), codegen


@intrinsic
def finite_or_zero(typingctx: Any, vector: Any) -> Any:
    """Replace NaN and infinities by 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, None)
        # x - x is 0 for finite x and NaN otherwise
        finite = builder.fcmp_ordered("==", builder.fsub(args[0], args[0]), zero)
        return builder.select(finite, args[0], zero)

    return vector(vector), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of an element."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where = _address(context, builder, sig.args[0], args[0], args[1])
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        constants = [ir.Constant(_I32, value) for value in (0, 3, 1)]
        builder.call(function, [builder.bitcast(where, pointer), *constants])
        return context.get_dummy_value()

    return types.none(array, types.intp), codegen


@intrinsic
def transpose(
    typingctx: Any, source: Any, start: Any, step: Any, target: Any, to: Any, by: Any, width: Any
) -> Any:
    """Transpose a block of as many rows of floats as the width, a power of two.

    Row i is read at ``source[start + i * step]`` and column j written at ``target[to + j * by]``.
    """
    n = width.count

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = ir.VectorType(_FLOAT, n).as_pointer()
        address = {}
        for k, (array, first, stride) in enumerate([(0, 1, 2), (3, 4, 5)]):
            for i in range(n):
                offset = builder.mul(args[stride], ir.Constant(args[stride].type, i))
                index = builder.add(args[first], offset)
                where = _address(context, builder, sig.args[array], args[array], index)
                address[k, i] = builder.bitcast(where, vector)
        rows = [builder.load(address[0, i], align=4) for i in range(n)]
        half = 1
        while half < n:  # swap the off-diagonal blocks of each 2 half x 2 half square
            low = [j if not j & half else n + j - half for j in range(n)]
            high = [j + half if not j & half else n + j for j in range(n)]
            for i in range(n):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = (
                        _shuffle(builder, a, b, low),
                        _shuffle(builder, a, b, high),
                    )
            half *= 2
        for i in range(n):
            builder.store(rows[i], address[1, i], align=4)
        return context.get_dummy_value()

    intp = types.intp
    return types.none(source, intp, intp, target, intp, intp, width), codegen
