"""CUDA source compiled as C++ and run on the CPU: what the package launches, without a GPU.

Arguments are held to the kernel's own signature, and what is written beyond an array is told.
"""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

BACKWARDS = False  # the order of blocks and threads
_HEADER = Path(__file__).with_name("cuda_on_cpu.hpp")
_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
_TYPES = {
    "float*": (np.float32, np.complex64), "float2*": (np.complex64,), "int*": (np.int32,),
    "unsigned int*": (np.uint32,), "float": (np.float32,), "int": (np.int32,),
    "long long": (np.int64,), "unsigned char*": (np.uint8,), "unsigned short*": (np.uint16,),
    "short*": (np.int16,), "double*": (np.float64,),
}  # fmt: skip
_MOST_THREADS, _MOST_SHARED = 1024, 48 * 1024  # of a block, on every device
_GUARD = 4096  # bytes before and behind each array
_one_at_a_time = threading.Lock()


def kernels_of(source):
    """Return the names of the kernels of a source, and the types of their parameters."""
    for name, type_ in re.findall(r"#define (RAW) (.*)", source):
        source = source.replace(f"{name}*", f"{type_}*")
    return {
        name: [
            " ".join(re.sub(r"const\b|__restrict__", "", parameter).split()[:-1])
            for parameter in given.split(",")
        ]
        for name, given in _KERNEL.findall(source)
    }


class RawModule:
    """See cupy.RawModule."""

    def __init__(self, *, code, options=()):
        self._code = code

    def get_function(self, name):
        return RawKernel(self._code, name)


class RawKernel:
    """See cupy.RawKernel; arrays are those of `tests.pretend_cupy`."""

    def __init__(self, code, name):
        self._types, self._name = kernels_of(code)[name], name
        self._run = getattr(_compiled(code), f"run_{name}")

    def __call__(self, grid, block, args, *, shared_mem=0):
        assert 0 < np.prod(block) <= _MOST_THREADS
        assert shared_mem <= _MOST_SHARED
        assert 0 < grid[0] < 2**31
        assert all(0 < n <= 65535 for n in grid[1:])
        assert len(args) == len(self._types)
        guarded = [_guarded(value, kind) for value, kind in zip(args, self._types, strict=True)]
        with _one_at_a_time:
            alone = self._run(
                _Dim3(*grid, *[1] * (3 - len(grid))), _Dim3(*block, *[1] * (3 - len(block))),
                ctypes.c_size_t(shared_mem), BACKWARDS,
                (ctypes.c_void_p * len(args))(*[ctypes.addressof(value) for value, _ in guarded]),
            )  # fmt: skip
        assert not alone, f"{self._name}: {alone} threads of a block end where others wait"
        for number, (value, (_, whole)) in enumerate(zip(args, guarded, strict=True)):
            if whole is not None:
                edges = np.concatenate([whole[:_GUARD], whole[-_GUARD:]])
                assert (edges == 0xCB).all(), f"{self._name}: writes beyond argument {number}"
                flat = value.values.reshape(-1).view(np.uint8)
                flat[...] = whole[_GUARD:-_GUARD]


class _Dim3(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint) for name in "xyz"]


def _guarded(value, kind):
    """Return a C value, and the bytes of an array with those around it."""
    if not kind.endswith("*"):
        assert isinstance(value, np.generic), f"{type(value)} has no C type"
    assert value.dtype in _TYPES[kind], f"{kind} was given {value.dtype}"
    if not kind.endswith("*"):
        return np.ctypeslib.as_ctypes_type(value.dtype)(value.item()), None
    assert not isinstance(value, np.ndarray), "an array of the host"
    assert value.flags.c_contiguous, "kernels are given pointers, no strides"
    whole = np.full(value.nbytes + 2 * _GUARD, 0xCB, np.uint8)
    whole[_GUARD : _GUARD + value.nbytes] = value.values.reshape(-1).view(np.uint8)
    return ctypes.c_void_p(whole.ctypes.data + _GUARD), whole


@functools.cache
def _compiled(code):
    """Compile a source, once for all processes."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs a C++ compiler: CXX, c++ or g++")
    kernels = re.split(r'(?=extern "C" __global__)', code)[1:]
    runners = [
        f"RUNNER({_KERNEL.match(kernel)[1]}, {int('__sync' in kernel)})" for kernel in kernels
    ]
    shared = re.sub(r"extern __shared__ (\w+) (\w+)\[\];", r"\1* \2 = (\1*)shared_memory;", code)
    text = "\n".join([_HEADER.read_text(), shared, *runners])
    name = f"tomopipe-cuda-{os.getuid()}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.so"
    library = Path(tempfile.gettempdir()) / name
    if not library.exists() or library.stat().st_uid != os.getuid():
        with tempfile.TemporaryDirectory() as folder:
            file, made = Path(folder) / "kernels.cpp", Path(folder) / name
            file.write_text(text)
            flags = ["-O1", "-std=c++17", "-shared", "-fPIC", "-Wno-unknown-pragmas"]
            subprocess.run([compiler, *flags, "-o", made, file], check=True)
            shutil.copy(made, f"{library}.{os.getpid()}")
            os.replace(f"{library}.{os.getpid()}", library)
    return ctypes.CDLL(str(library))
