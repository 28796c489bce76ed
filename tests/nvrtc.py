"""NVIDIA's compiler for CUDA source, called as CuPy does; it needs no driver."""

import ctypes
import functools
from importlib import resources

import pytest

# what CuPy 13 gives it; the newer ones ask for a newer C++
OPTIONS = ("--std=c++14", "-ftz=true", "--device-as-default-execution-space")


@functools.cache
def _library():
    try:
        folder = resources.files("nvidia.cuda_nvrtc") / "lib"
    except ModuleNotFoundError:
        pytest.skip("needs nvidia-cuda-nvrtc-cu12, of the extra dev")
    (path,) = (path for path in folder.iterdir() if path.name.startswith("libnvrtc.so."))
    return ctypes.CDLL(str(path))


def compiled(code, arch, options=()):
    """Return the program for an architecture (as "sm_90") and what the compiler said."""
    library, program = _library(), ctypes.c_void_p()
    given = [*OPTIONS, *options, f"-arch={arch}"]
    library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None)
    strings = (ctypes.c_char_p * len(given))(*[option.encode() for option in given])
    failed = library.nvrtcCompileProgram(program, len(given), strings)
    said = _text(program, "ProgramLog")
    assert not failed, said.decode()
    return _text(program, "CUBIN"), said.decode().strip("\0\n ")


def _text(program, what):
    size = ctypes.c_size_t()
    assert not getattr(_library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    assert not getattr(_library(), f"nvrtcGet{what}")(program, buffer)
    return buffer.raw
