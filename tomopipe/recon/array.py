"""The array module: NumPy, or CuPy where a CUDA device computes right; and the choice of a device.

The only import of CuPy.
"""

import contextlib
import fcntl
import functools
import importlib
import logging
import os
import socket
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import forget_copies
from tomopipe.errors import DeviceError
from tomopipe.storage import run_folder

TOLERANCE = 1e-4  # of a slice on a GPU from one on the CPU, of its largest value
DRIVER = Path("/proc/driver/nvidia")  # where there is one
POLL_S = 2.0
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
    from tomopipe.recon import cuda, portable
    from tomopipe.recon.plan import make_plan

    theta_rad, cor_px = np.arange(_N) * (np.pi / _N), np.array([0.48 * _N])
    rows = np.random.default_rng(0).normal(size=(1, _N, _N)).astype(np.float32)
    expected = portable.reconstruct(rows, make_plan(theta_rad, _N), cor_px)
    before = cupy.cuda.Device()
    try:
        with claimed_gpu(cupy, wait=False):
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
    """Give back what `once`, CuPy's pools and transform plans hold; NumPy holds nothing."""
    if xp is not np:
        forget_copies()
        xp.fft.config.get_plan_cache().clear()
        xp.get_default_memory_pool().free_all_blocks()
        xp.get_default_pinned_memory_pool().free_all_blocks()


class CudaDevice:
    """One device with memory of its own."""

    def __init__(self, xp: ModuleType, device: int) -> None:
        self.xp, self._device = xp, xp.cuda.Device(device)
        self.name = f"GPU {xp.cuda.runtime.deviceGetPCIBusId(device)}"

    def use(self) -> None:
        """Make it the device of this thread: each thread begins with the first one."""
        self._device.use()

    def stream(self) -> Any:
        """Make a stream that does not wait for the null stream; a context makes it current."""
        self.use()
        return self.xp.cuda.Stream(non_blocking=True)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return pinned memory; CuPy keeps what is dropped for the next call."""
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.asarray(importlib.import_module("cupyx").empty_pinned(shape, dtype))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return memory of the device, from the current stream's pool."""
        return self.xp.empty(shape, dtype)

    def upload(self, host: NDArray[Any], target: Any) -> None:
        """Copy pinned memory to the device in the current stream; CuPy does not wait for it."""
        if host.size:
            target.set(host)

    def download(self, source: Any, host: NDArray[Any]) -> None:
        """Copy to pinned memory in the current stream, without waiting."""
        if host.size:
            source.get(out=host, blocking=False)

    def free_bytes(self) -> int:
        """Return the free memory of the driver and of CuPy's pool."""
        self.use()
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free + self.xp.get_default_memory_pool().free_bytes())

    def taken_bytes(self) -> int:
        """Return what the driver has given away: the maximum since the last `release`."""
        self.use()
        free, total = self.xp.cuda.runtime.memGetInfo()
        return int(total - free)

    def release(self) -> None:
        """Free CuPy's pool."""
        self.use()
        free_memory(self.xp)


@contextlib.contextmanager
def claimed_gpu(
    xp: ModuleType, folder: str | os.PathLike[str] | None = None, *, wait: bool = True
) -> Iterator[CudaDevice]:
    """Hold a GPU this process may use, and make it this thread's device; wait if all are taken.

    Jobs on one machine take different GPUs: each is locked by a file, named after its bus address,
    in `folder` (None: the system's for temporary files). The system drops the lock when the process
    ends, however it ends. What the scheduler has allotted (CUDA_VISIBLE_DEVICES) is all that is
    looked at. Without `wait`, the first GPU is shared if all are taken.
    """
    runtime = xp.cuda.runtime
    names = [str(runtime.deviceGetPCIBusId(i)) for i in range(runtime.getDeviceCount())]
    locks = Path(folder or tempfile.gettempdir())
    paths = [locks / f"tomopipe-gpu-{name.replace(':', '-')}.lock" for name in names]
    device, descriptor = _first_free(paths, wait=wait)
    try:
        logger.info("GPU %d (%s) of %d", device, names[device], len(names))
        gpu = CudaDevice(xp, device)
        gpu.use()
        yield gpu
    finally:
        forget_copies()
        os.close(descriptor)


def _first_free(paths: list[Path], *, wait: bool) -> tuple[int, int]:
    """Lock the first file that is not locked, waiting for one; return its number and descriptor."""
    waiting = False
    while True:
        for number, path in enumerate(paths):
            if (descriptor := _locked(path)) is not None:
                return number, descriptor
        if not wait:
            return 0, _open(paths[0])
        if not waiting:
            logger.warning("waiting for a GPU: other jobs hold all %d", len(paths))
            waiting = True
        time.sleep(POLL_S)


def _locked(path: Path) -> int | None:
    """Lock a file; None if another job holds it."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _open(path: Path) -> int:
    """Open a file, made if need be, that every user can lock; never follow a planted link."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)  # some systems refuse O_CREAT of a file of somebody else
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o644)
        os.fchmod(descriptor, 0o644)  # whatever the umask
        return descriptor
