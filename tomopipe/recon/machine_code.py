"""What compiles: numba's functions, and kernels as machine code that runs without numba.

Imported when code is compiled, not where it is stored already.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import numba
import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba import extending, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numba.np.arrayobj import make_array, populate_array

from tomopipe.recon.jit import (
    ENTRY,
    Kernel,
    Kinds,
    c_function,
    linked,
    lock_of_processes,
    read_code,
    report_compilation,
    target_machine,
    warn_not_stored,
    write_code,
)

needing_numba: list[Any] = []
"""Functions that call kernels which need numba while they run; their code lives as long as they."""
_I64 = ir.IntType(64)
_config: Any = numba.config


class Dispatcher(CPUDispatcher):
    """A function whose code one process at a time compiles or loads.

    The first jobs of a campaign begin together: one compiles, the others load. Two processes at
    once could both write numba's index of a function, and assign wrong code to its types.
    """

    def store_in(self, folder: str) -> None:
        """Keep code in a folder, if it can be."""
        of_others, _config.CACHE_DIR = _config.CACHE_DIR, folder
        with suppress(RuntimeError):  # the folder was removed since
            self.enable_caching()
        _config.CACHE_DIR = of_others

    def compile(self, sig: Any) -> Any:
        """Compile or load the code for a signature."""
        with global_compiler_lock, lock_of_processes():
            try:
                code = super().compile(sig)
            except OSError as error:  # compiled, but not stored
                warn_not_stored(str(error))
                return super().compile(sig)
            if sum(self.stats.cache_misses.values()):
                report_compilation()
            return code


def compile_kernel(kernel: Kernel, kinds: Kinds, path: str) -> Callable[..., Any]:
    """Return the code of a kernel for these kinds, and store it; one process does, others wait.

    Code that needs numba while it runs, as it may raise or allocates, is not stored.
    """
    with global_compiler_lock, lock_of_processes(path):
        if (code := read_code(path)) is not None:  # of another process, meanwhile
            return linked(code)
        report_compilation()
        arguments, function = _arguments(kinds), kernel.for_numba

        @numba.cfunc(types.void(types.CPointer(types.int64)))
        def entry(words: Any) -> None:
            function(*arguments(words))

        module = llvm.parse_assembly(entry.inspect_llvm())
        module.get_function(entry.native_name).name = ENTRY
        # As nothing else is called from outside, it is seen that kernels never raise: what would
        # report an error, by numba, is left out.
        for symbol in [*module.functions, *module.global_variables]:
            if not symbol.is_declaration and symbol.name != ENTRY:
                symbol.linkage = "internal"
        passes = llvm.create_pass_builder(
            target_machine(), llvm.create_pipeline_tuning_options(speed_level=3)
        )
        passes.getModulePassManager().run(module, passes)
        symbols = [*module.functions, *module.global_variables]
        missing = {x.name for x in symbols if x.is_declaration and not x.name.startswith("llvm.")}
        if missing - _OF_C:
            needing_numba.append(entry)
            return c_function(cast("int", entry.address))
        code = target_machine().emit_object(module)
        write_code(path, code)
        return linked(code)


_NUMBERS = {int: types.int64, float: types.float64, np.float32: types.float32}
_OF_C = {"memset", "memcpy", "memmove", "sqrt", "log"}


def _arguments(kinds: Kinds) -> Any:
    """Return a function for numba that makes arguments of these kinds of the words of a call."""
    numba_types = tuple(map(_type_of, kinds))
    of_all = types.Tuple(numba_types)

    @extending.intrinsic
    def arguments(typingctx: Any, words: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            at = iter(range(2**16))

            def word() -> Any:
                return builder.load(builder.gep(args[0], [ir.Constant(_I64, next(at))]))

            def argument(kind: Any, numba_type: Any) -> Any:
                if isinstance(kind, tuple):
                    return array(kind, numba_type)
                if isinstance(kind, int):
                    return context.get_constant_null(numba_type)
                bits = word()
                if kind is np.float32:
                    bits = builder.trunc(bits, ir.IntType(32))
                return builder.bitcast(bits, context.get_value_type(numba_type))

            def array(kind: Any, numba_type: Any) -> Any:
                pixel = context.get_data_type(numba_type.dtype)
                data = builder.inttoptr(word(), pixel.as_pointer())
                shape, strides = ([word() for _ in range(numba_type.ndim)] for _ in range(2))
                n_bytes = context.get_constant(types.intp, context.get_abi_sizeof(pixel))
                if kind[2] == "lines":
                    strides[-1] = n_bytes  # a constant, by which loops are vectorised
                made = make_array(numba_type)(context, builder)
                populate_array(made, data, shape, strides, n_bytes, None)
                return made._getvalue()

            values = list(map(argument, kinds, numba_types))
            return context.make_tuple(builder, of_all, values)

        return of_all(words), codegen

    return arguments


def _type_of(kind: Any) -> Any:
    """Return the type that numba has for a kind of argument."""
    if kind in _NUMBERS:
        return _NUMBERS[kind]
    if isinstance(kind, int):
        return types.UniTuple(types.int64, kind)
    dtype, ndim, layout = kind
    return types.Array(numba.from_dtype(np.dtype(dtype)), ndim, "C" if layout == "C" else "A")
