"""The choice of what computes: the CPU with NumPy, or a GPU that reconstructs as the CPU does.

The only import of CuPy. `gpu` has what is done with one GPU: its lock, memory and copies.
"""

import contextlib
import functools
import importlib.util
import logging
import os
import socket
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tomopipe.errors import DeviceError
from tomopipe.recon import gpu as of_gpu
from tomopipe.recon.gpu import (
    CudaDevice,
    allotted,
    capable_devices,
    claimed_gpu,
    free_memory,
    out_of_memory,
)
from tomopipe.storage import run_folder

# largest difference of a slice on a GPU from one on the CPU, relative to its largest value
TOLERANCE = 1e-4
DRIVER = Path("/proc/driver/nvidia")  # exists where there is a driver
FEW_SLICES = 4  # slices: fewer at a time do not pay on a GPU
_N = 64  # columns and projections of the test slice
_ADVICE = (
    "Install tomopipe[gpu-cuda12], or with a driver from 580 on and no V100 tomopipe[gpu-cuda13], "
    "on a machine with a GPU, or set device: cpu."
)

logger = logging.getLogger(__name__)


@functools.cache
def array_module(device: str = "auto") -> ModuleType:
    """Return the module of arrays for a device; chosen once per process.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        auto chooses CuPy if it is installed and a device reconstructs a small slice as the CPU
        does; if not, and there is a GPU, one job of a run warns.

    Returns
    -------
    module
        CuPy or NumPy.

    Raises
    ------
    DeviceError
        For cuda without a usable GPU.
    ValueError
        For another device.
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
    _report_that_the_cpu_computes(
        f"no GPU can be used: {fault}. {_ADVICE}", fault, warn=is_unexpected
    )
    return np


def _report_that_the_cpu_computes(why: str, key: str, *, warn: bool) -> None:
    """Log why `auto` uses the CPU; one job of a run warns."""
    text = f"{socket.gethostname()}: device: auto uses the CPU, as {why}"
    warns = warn and run_folder.warn_once(f"{zlib.crc32(key.encode()):x}", text)
    logger.log(logging.WARNING if warns else logging.INFO, text)


@functools.cache
def gpu_fault() -> tuple[str, bool]:
    """Return why no GPU can be used, "" if one can, and whether there seems to be one."""
    is_there = DRIVER.exists()
    try:
        _find_room_for_kernels()
        cupy = importlib.import_module("cupy")
        if not cupy.cuda.runtime.getDeviceCount():
            return f"CuPy found no device{allotted()}", False
        is_there = True
        return _too_old(cupy.cuda.runtime) or _wrong_slice(cupy), True
    # CuPy raises its own exceptions when driver or libraries are missing
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    if "No module named 'cupy'" in text:
        return "CuPy is not installed", False
    if "NoDevice" in text:  # none allotted
        return f"{text}{allotted()}", False
    if "InsufficientDriver" in text:
        return f"its CUDA driver is too old for this CuPy ({text})", is_there
    return f"a library is missing ({text})" if ".so" in text else text, is_there


def _find_room_for_kernels() -> None:
    """Set the folder of CuPy's compiled kernels, which CuPy needs, if the home cannot be written.

    It is a private folder in the temporary folder. CuPy reads the setting on import.
    """
    is_late = "CUPY_CACHE_DIR" in os.environ or "cupy" in sys.modules
    if is_late or importlib.util.find_spec("cupy") is None:
        return
    folder = os.path.expanduser("~/.cupy/kernel_cache")
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        folder = os.path.join(tempfile.gettempdir(), f"tomopipe-cupy-{os.getuid()}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        status = os.lstat(folder)
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if not is_ours or status.st_mode & 0o077:
            folder = tempfile.mkdtemp(prefix="tomopipe-cupy-")
        os.environ["CUPY_CACHE_DIR"] = folder
        logger.info("CuPy's kernels are kept in %s (%s)", folder, error)


def _too_old(runtime: Any) -> str:
    """Name a GPU that the CUDA of this CuPy no longer supports, if that is true of all."""
    if capable_devices(runtime):
        return ""
    gpu = runtime.getDeviceProperties(0)
    name = f"{gpu['name'].decode()} (sm_{gpu['major']}{gpu['minor']})"
    return f"{name} needs CUDA 12, and this CuPy has CUDA 13: remove cupy-cuda13x"


def _wrong_slice(cupy: ModuleType) -> str:
    """Return by how much a slice on a GPU differs from the CPU's; "" if it does not.

    Compiles and calls everything that a volume needs: kernels, rfft and irfft2. Uses a GPU that no
    other job holds, if possible, as each process occupies some of its memory.
    """
    before = cupy.cuda.Device()
    try:
        with claimed_gpu(cupy, wait=False):
            return _choose_kernels(cupy)
    except Exception as error:
        if _is_in_use(error):
            return ""
        raise
    finally:
        before.use()


def _choose_kernels(cupy: ModuleType) -> str:
    """Use plain operations of CuPy, with a warning, if they work and our kernels fail."""
    from tomopipe.recon import cuda

    try:
        cuda.is_plain, error = False, None
        fault = _fault_of_slice(cupy)
    except Exception as raised:
        if _is_in_use(raised):
            raise
        fault, error = f"{type(raised).__name__}: {raised}", raised
    if not fault:
        return ""
    cuda.is_plain = True
    with contextlib.suppress(Exception):  # the first error is more informative
        if not _fault_of_slice(cupy):
            text = (
                f"{socket.gethostname()}: the kernels of tomopipe fail on this GPU "
                f"({' '.join(fault.split())[:200]}). Plain operations of CuPy are right and take "
                "their place, some ten times slower. Update the driver and CuPy, or set device: cpu"
                " where the CPU has many cores."
            )
            if run_folder.warn_once(f"{zlib.crc32(text.encode()):x}", text):
                logger.warning(text)
            return ""
    cuda.is_plain = False
    if error is not None:
        raise error
    return fault


def _fault_of_slice(cupy: ModuleType) -> str:
    """Compare a slice of the current GPU with one of the CPU."""
    from tomopipe.recon import cuda, portable
    from tomopipe.recon.plan import make_plan

    theta_rad, cor_px = np.arange(_N) * (np.pi / _N), np.array([0.48 * _N])
    rows = np.random.default_rng(0).normal(size=(1, _N, _N)).astype(np.float32)
    expected = np.empty_like(rows)
    portable.reconstruct_batch(rows, make_plan(theta_rad, _N), cor_px, expected)
    images, plan = cupy.empty(expected.shape, np.float32), make_plan(theta_rad, _N, xp=cupy)
    cuda.reconstruct_batch(cupy.asarray(rows), plan, cor_px, images)
    share = float(np.abs(images.get() - expected).max() / np.abs(expected).max())
    del images, plan
    free_memory(cupy)
    if share <= TOLERANCE:
        return ""
    return f"a slice differs from the CPU's by {share:.2g} of its largest value"


def _is_in_use(error: BaseException) -> bool:
    """Tell whether an error says that a GPU is in exclusive use by other jobs."""
    return out_of_memory(error) or "DevicesUnavailable" in str(error)


@contextlib.contextmanager
def held_gpu(
    device: str, least_bytes: int, *, n_slices: int = FEW_SLICES, wait: bool = True
) -> Iterator[CudaDevice | None]:
    """Hold the GPU that computes.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        auto releases a GPU with less than `least_bytes` free.
    least_bytes : int
        GPU memory that `n_slices` need; a GPU with less is passed over if there are others.
    n_slices : int
        Slices computed at a time, for the message.
    wait : bool
        Whether to wait if other jobs hold all GPUs. Else auto uses the CPU, as the batches of these
        jobs fill the free memory.

    Yields
    ------
    CudaDevice or None
        None: the CPU computes. At the end CuPy's pools are freed, of pinned memory unless
        `gpu.volumes_follow`.
    """
    if (xp := array_module(device)) is np:
        yield None
        return
    with contextlib.ExitStack() as stack:
        gpu, name, free = None, "the GPU", -1
        try:
            gpu = stack.enter_context(claimed_gpu(xp, wait=wait, least_bytes=least_bytes))
            name, free = gpu.name, gpu.free_bytes()
        except Exception as error:  # CUDA itself may lack memory
            if device == "cuda" or not out_of_memory(error):
                raise
        is_left = gpu is not None and gpu.is_shared
        has_room = device == "cuda" or (free >= least_bytes and not is_left)
        try:
            if has_room:
                yield gpu
        finally:
            if gpu is not None:
                with contextlib.suppress(Exception):  # the GPU may have failed
                    gpu.release(pinned=not of_gpu.volumes_follow)
    if not has_room:
        if is_left:
            _report_that_all_are_held()
        else:
            what = f"{n_slices} slices take" if n_slices > 1 else "a slice takes"
            size = f"{what} {least_bytes / 1e9:.3g} GB"
            why = f"{max(free, 0) / 1e9:.3g} GB of {name} are free, and {size}"
            _report_that_the_cpu_computes(why, "room", warn=True)
        yield None


@functools.cache
def _report_that_all_are_held() -> None:
    """Report it once, as pictures and calls of a notebook are many."""
    _report_that_the_cpu_computes("other jobs hold all GPUs", "held", warn=True)
