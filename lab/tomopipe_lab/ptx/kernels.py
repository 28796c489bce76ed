"""Compile CUDA source to PTX, and call its kernels on arrays of NumPy, on the CPU."""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe_lab.ptx.translate import kernels_of, translated

ARCHITECTURES = "compute_70", "compute_80", "compute_90", "compute_120"
_OPTIONS = "--std=c++14", "-ftz=true", "--device-as-default-execution-space"  # as CuPy's
_ALIGNMENT = 256  # bytes, of an array on a GPU


class KernelError(Exception):
    """What a kernel did wrong: the kind of fault, the thread, and the instruction."""


class _Index(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint) for name in "xyz"]


class Kernel:
    """A kernel of a CUDA source."""

    def __init__(self, source: str, name: str, architecture: str = "compute_80") -> None:
        ptx = compile_to_ptx(source, architecture)
        self.name, self._types = name, kernels_of(ptx)[name]
        self._run = getattr(_library(translated(ptx)), f"run_{name}")
        self._run.restype = ctypes.c_char_p

    def __call__(
        self,
        blocks: Sequence[int],
        threads: Sequence[int],
        arguments: Sequence[Any],
        shared_bytes: int = 0,
        seed: int = 0,
    ) -> None:
        """Run it; arrays, contiguous ones of NumPy, are changed. KernelError if it does wrong.

        `seed` decides in which order blocks and threads run.
        """
        if len(arguments) != len(self._types):
            raise TypeError(f"{self.name}: expected {len(self._types)} arguments")
        copies = [_aligned(each) if isinstance(each, np.ndarray) else None for each in arguments]
        values: list[Any] = []
        for argument, copy in zip(arguments, copies, strict=True):
            number = np.uint64(copy.ctypes.data) if copy is not None else argument
            values.append(np.array(number))
        arrays = [copy for copy in copies if copy is not None]
        several = ctypes.c_uint64 * len(arrays)
        fault = self._run(
            _Index(*blocks, *[1] * (3 - len(blocks))),
            _Index(*threads, *[1] * (3 - len(threads))),
            ctypes.c_size_t(shared_bytes),
            ctypes.c_uint(seed),
            (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values]),
            len(arrays),
            several(*[copy.ctypes.data for copy in arrays]),
            several(*[copy.nbytes for copy in arrays]),
        )
        if fault:
            raise KernelError(f"{self.name}: {fault.decode()}")
        for argument, copy in zip(arguments, copies, strict=True):
            if copy is not None:
                argument.reshape(-1).view(np.uint8)[...] = copy


def _aligned(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a copy of the bytes of an array, where a GPU could have it."""
    whole = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    first = -whole.ctypes.data % _ALIGNMENT
    copy = whole[first : first + array.nbytes]
    copy[...] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return copy


@functools.cache
def compile_to_ptx(source: str, architecture: str) -> str:
    """Compile CUDA source by NVRTC, which needs no GPU (nvidia-cuda-nvrtc-cu12)."""
    nvrtc, program = _nvrtc(), ctypes.c_void_p()
    options = [option.encode() for option in (*_OPTIONS, f"-arch={architecture}")]
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    strings = (ctypes.c_char_p * len(options))(*options)
    status = nvrtc.nvrtcCompileProgram(program, len(options), strings)
    texts = []
    for what in ("ProgramLog", "PTX"):
        size = ctypes.c_size_t()
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
        texts.append(buffer.value.decode())
    if status:
        raise ValueError(f"NVRTC: {texts[0]}")
    return texts[1]


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    folder = resources.files("nvidia.cuda_nvrtc") / "lib"
    (path,) = (each for each in folder.iterdir() if each.name.startswith("libnvrtc.so."))
    return ctypes.CDLL(str(path))


@functools.cache
def _library(text: str) -> ctypes.CDLL:
    """Compile C++, once for all processes of a user."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise FileNotFoundError("expected a C++ compiler: CXX, c++ or g++")
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    library = Path(tempfile.gettempdir()) / f"tomopipe-ptx-{os.getuid()}-{digest}.so"
    if not library.exists() or library.stat().st_uid != os.getuid():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            source, made = Path(folder) / "kernels.cpp", Path(folder) / "kernels.so"
            source.write_text(text, encoding="utf-8")
            flags = ["-O1", "-std=c++17", "-ffp-contract=off", "-mfma", "-shared", "-fPIC", "-w"]
            subprocess.run([compiler, *flags, "-o", made, source], check=True)
            os.replace(made, library)
    return ctypes.CDLL(str(library))
