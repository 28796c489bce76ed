"""The array module: NumPy, or CuPy where a CUDA device computes right. The only import of CuPy."""

import functools
import importlib
import logging
import socket
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np

from tomopipe.errors import DeviceError
from tomopipe.storage import run_folder

TOLERANCE = 1e-4  # of a slice on a GPU from one on the CPU, of its largest value
DRIVER = Path("/proc/driver/nvidia")  # where there is one
_N = 64  # columns and projections of that slice
_ADVICE = (
    "Install tomopipe[gpu-cuda12], or with a driver from 580 on tomopipe[gpu-cuda13], on a "
    "machine with a GPU, or set device: cpu."
)

logger = logging.getLogger(__name__)


@functools.cache
def array_module(device: str = "auto") -> ModuleType:
    """Return CuPy for the device "cuda", NumPy for "cpu"; chosen once per process.

    "auto" takes CuPy if it is installed and a device reconstructs a small slice as the CPU does,
    else NumPy; if there is a GPU, one job of a run warns. Raises DeviceError if "cuda" is asked for
    and there is none, ValueError for another device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu or cuda, got {device!r}")
    if device == "cpu":
        return np
    fault, is_unexpected = gpu_fault()
    if not fault:
        return importlib.import_module("cupy")
    if device == "cuda":
        raise DeviceError(f"device: cuda: no GPU can be used: {fault}. {_ADVICE}")
    text = f"{socket.gethostname()}: device: auto takes the CPU, as no GPU can be used: {fault}. "
    if is_unexpected and run_folder.warn_once(f"{zlib.crc32(fault.encode()):x}", text + _ADVICE):
        logger.warning(text + _ADVICE)
    else:
        logger.info(text)
    return np


@functools.cache
def gpu_fault() -> tuple[str, bool]:
    """Return why no GPU can be used, "" if one can, and whether there seems to be one."""
    is_there = DRIVER.exists()
    try:
        cupy = importlib.import_module("cupy")
        if not cupy.cuda.runtime.getDeviceCount():
            return "CuPy found no device", False
        is_there = True
        return _wrong_slice(cupy), True
    except Exception as error:  # CuPy raises its own kinds when driver or libraries are missing
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    if "No module named 'cupy'" in text or "NoDevice" in text:  # not installed, or none allotted
        return text, False
    if "InsufficientDriver" in text:
        return f"its CUDA driver is too old for this CuPy ({text})", is_there
    return f"a library is missing ({text})" if ".so" in text else text, is_there


def _wrong_slice(cupy: ModuleType) -> str:
    """Say by how much a slice of a GPU differs from the CPU's; "" if it does not.

    All is compiled and called that a volume needs: kernels, rfft and irfft2. On a GPU that no other
    job holds, if there is one: it keeps some memory of each process.
    """
    from tomopipe.recon import cuda, cuda_device, portable
    from tomopipe.recon.plan import make_plan

    theta_rad, cor_px = np.arange(_N) * (np.pi / _N), np.array([0.48 * _N])
    rows = np.random.default_rng(0).normal(size=(1, _N, _N)).astype(np.float32)
    expected = portable.reconstruct(rows, make_plan(theta_rad, _N), cor_px)
    before = cupy.cuda.Device()
    try:
        with cuda_device.claimed_gpu(cupy, wait=False):
            images, plan = cupy.empty(expected.shape, np.float32), make_plan(theta_rad, _N, xp=cupy)
            cuda.reconstruct_batch(cupy.asarray(rows), plan, cor_px, images)
            share = float(np.abs(images.get() - expected).max() / np.abs(expected).max())
            del images, plan
            free_memory(cupy)
    except Exception as error:
        if out_of_memory(error) or "DevicesUnavailable" in str(error):
            return ""  # other jobs compute there
        raise
    finally:
        before.use()
    if share <= TOLERANCE:
        return ""
    return f"a slice differs from the CPU's by {share:.2g} of its largest value"


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of either array module says that memory ran out."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def of_the_device(error: BaseException) -> bool:
    """Tell whether an error is one of CuPy or of the driver, which says nothing about the data."""
    return type(error).__module__.partition(".")[0] in ("cupy", "cupy_backends", "cupyx")


def free_memory(xp: ModuleType) -> None:
    """Give back what CuPy's pools and transform plans hold; NumPy holds nothing."""
    if xp is not np:
        xp.fft.config.get_plan_cache().clear()
        xp.get_default_memory_pool().free_all_blocks()
        xp.get_default_pinned_memory_pool().free_all_blocks()
