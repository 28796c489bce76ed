"""Compiled functions on disk, which a process loads without all that numba needs to compile.

numba's own cache sets up the tables of all that numba can compile before it loads anything, and
imports SciPy's linear algebra for them: 0.4 s of CPU time of each process. A process that finds
all of its code needs none of that.
"""

import hashlib
import os
import pickle
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import llvmlite
import numba
from numba.core.compiler import compile_result
from numba.core.environment import lookup_environment
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from tomopipe.paths import no_pipe

_VERSIONS = sys.version, numba.__version__, llvmlite.__version__
_CONSTANTS = re.compile(r"^@(_ZN08NumbaEnv\S+) =", re.M)  # of functions, in their code as text
_N = hashlib.sha256().digest_size


def path_of(function: Callable[..., Any], types: tuple[Any, ...], context: Any, folder: str) -> str:
    """Return where the code of a function for these types of arguments is stored."""
    of = function.__code__.co_filename, types, context.codegen().magic_tuple(), _VERSIONS
    name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
    return os.path.join(folder, f"{name}-{hashlib.sha256(repr(of).encode()).hexdigest()[:32]}.code")


def _digest(function: Callable[..., Any], content: bytes) -> bytes:
    """Return a digest of the code, and of what changes with the source of the function."""
    code = function.__code__
    source = os.stat(code.co_filename)
    stamp = repr((source.st_mtime_ns, source.st_size, code.co_firstlineno))
    return hashlib.sha256(stamp.encode() + content).digest()


def load(path: str, function: Callable[..., Any], context: Any) -> Any:
    """Return the compilation of a function; None if it is not stored, damaged or of old source."""
    try:
        with open(no_pipe(path), "rb") as file:
            digest, content = file.read(_N), file.read()
        if _digest(function, content) != digest:
            return None
    except OSError:  # no code, or no source
        return None
    code, description, constants, others, signature = pickle.loads(content)
    rtsys.initialize(context)  # memory of arrays that compiled functions make
    library = context.codegen().unserialize_library(code)
    entry_point = context.get_executable(library, description, constants)
    for other in others:
        library.codegen.set_env(other.env_name, other)
    context.insert_user_function(entry_point, description, [library])
    return compile_result(
        target_context=context, typing_context=context.typing_context, library=library,
        environment=constants, entry_point=entry_point, fndesc=description, signature=signature,
        objectmode=False, lifted=(),
    )  # fmt: skip


def store(path: str, function: Callable[..., Any], compilation: Any) -> None:
    """Store the compilation of a function, whole."""
    description, library = compilation.fndesc, compilation.library
    description.typemap = description.calltypes = None  # needed to compile alone
    names = sorted(set(_CONSTANTS.findall(library.get_llvm_str())))
    others = [other for name in names if (other := lookup_environment(name))]
    code = library.serialize_using_object_code()
    content = dumps((code, description, compilation.environment, others, compilation.signature))
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(_digest(function, content) + content)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            os.unlink(temporary)
