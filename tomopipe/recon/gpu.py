"""One GPU: its lock among the jobs of a machine, its memory, copies to and from it, its errors.

`device` chooses between a GPU and the CPU.
"""

import contextlib
import errno
import fcntl
import functools
import importlib
import logging
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import forget_copies

POLL_S = 2.0
# its version, and the compute capability of the oldest GPUs that it supports
_CUDA_13, _OLDEST = 13000, (7, 5)
_ADDRESS = 12  # characters of a bus address, without the leading zeros that some programs print
_ANSWER_S = 10.0  # longest wait for the driver's tool
# attribute of CuPy's errors with CUDA's number; OutOfMemoryError is a MemoryError
_CODES = {"CUDARuntimeError": "status", "CUDADriverError": "status", "CuFFTError": "result"}
_NO_MEMORY = 2  # cudaErrorMemoryAllocation, CUDA_ERROR_OUT_OF_MEMORY, CUFFT_ALLOC_FAILED

volumes_follow = False
"""Whether this process makes several volumes of one size, which share a GPU and pinned memory."""
_before: list[int] = []  # the device that was held last

logger = logging.getLogger(__name__)


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out: of the host, a GPU, or pinned memory."""
    code = getattr(error, _CODES.get(type(error).__name__, ""), None)
    return isinstance(error, MemoryError) or code == _NO_MEMORY


def of_the_device(error: BaseException) -> bool:
    """Tell whether an error is from CuPy or the driver, and not about the data."""
    return type(error).__module__.partition(".")[0] in ("cupy", "cupy_backends", "cupyx")


def free_memory(xp: ModuleType, *, pinned: bool = True) -> None:
    """Free the memory of `once`, CuPy's pools and transform plans; nothing for NumPy."""
    if xp is not np:
        forget_copies()
        xp.fft.config.get_plan_cache().clear()
        xp.get_default_memory_pool().free_all_blocks()
        if pinned:
            xp.get_default_pinned_memory_pool().free_all_blocks()


def pinned_bytes(n_bytes: int) -> int:
    """Return the size of a pinned allocation of CuPy's pool: a power of two, at least 512."""
    return 1 << max((n_bytes - 1).bit_length(), 9) if n_bytes else 0


class CudaDevice:
    """One device with memory of its own."""

    is_shared = False  # whether other jobs hold all GPUs, and this one is used beside them

    def __init__(self, xp: ModuleType, device: int) -> None:
        self.xp, self._device = xp, xp.cuda.Device(device)
        self.name = f"GPU {xp.cuda.runtime.deviceGetPCIBusId(device)}"

    def use(self) -> None:
        """Make it the current device of this thread, which starts with the first one."""
        self._device.use()

    def stream(self) -> Any:
        """Make a stream that does not wait for the null stream; a context makes it current."""
        self.use()
        return self.xp.cuda.Stream(non_blocking=True)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return pinned memory, of `pinned_bytes`; CuPy reuses freed memory for the next call."""
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

    def used_bytes(self) -> int:
        """Return the memory in use on the device (bytes): its peak since the last `release`."""
        self.use()
        free, total = self.xp.cuda.runtime.memGetInfo()
        return int(total - free)

    def release(self, *, pinned: bool = True) -> None:
        """Free CuPy's pools, also that of pinned memory."""
        self.use()
        free_memory(self.xp, pinned=pinned)


def capable_devices(runtime: Any) -> list[int]:
    """Return the numbers of the devices that the CUDA of this CuPy supports."""
    devices = range(runtime.getDeviceCount())
    if runtime.runtimeGetVersion() < _CUDA_13:
        return [*devices]
    properties = [runtime.getDeviceProperties(device) for device in devices]
    return [n for n in devices if (properties[n]["major"], properties[n]["minor"]) >= _OLDEST]


def allotted() -> str:
    """Return the part of a message that names the GPUs allotted to this process, if some are."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible or 'empty'})"


@contextlib.contextmanager
def claimed_gpu(
    xp: ModuleType,
    folder: str | os.PathLike[str] | None = None,
    *,
    wait: bool = True,
    least_bytes: int = 0,
) -> Iterator[CudaDevice]:
    """Hold a GPU this process may use, and make it this thread's device; wait if all are taken.

    Jobs on one machine take different GPUs: each is locked by a file, named after host and GPU, in
    `folder` (None: the system's for temporary files). The system releases the lock when the process
    ends, in whatever way. Only GPUs allotted by the scheduler (CUDA_VISIBLE_DEVICES) are
    considered, and of several the one with most free memory first, or where `volumes_follow` the
    one of before. Those with less than
    `least_bytes` are passed over, unless all are such. Without `wait`, if all are held, the first
    GPU `is_shared`. If files cannot be locked, any GPU is used, with one warning.
    """
    devices = _by_room(xp, capable_devices(xp.cuda.runtime))
    if volumes_follow:
        devices.sort(key=lambda device: device not in _before)  # a context elsewhere takes seconds
    locks = Path(folder or tempfile.gettempdir())
    paths = {device: locks / _lock_name(xp.cuda.runtime, device) for device in devices}
    free = _first_free(paths, partial(_has_room, xp, least_bytes), wait=wait)
    device, descriptor = free or (devices[0], None)
    try:
        gpu = CudaDevice(xp, device)
        gpu.is_shared = free is None
        logger.info("%s, number %d of %d%s", gpu.name, device, len(devices), allotted())
        gpu.use()
        _before[:] = [device]
        yield gpu
    finally:
        forget_copies()
        if descriptor is not None:
            os.close(descriptor)


def _by_room(xp: ModuleType, devices: list[int]) -> list[int]:
    """Sort devices by their free memory, largest first; last those that do not answer."""
    if len(devices) < 2:
        return devices
    of_driver = _free_by_address()
    free = {}
    for device in devices:
        with contextlib.suppress(Exception):  # in exclusive use, or failed
            address = xp.cuda.runtime.deviceGetPCIBusId(device)[-_ADDRESS:].lower()
            free[device] = of_driver.get(address) or CudaDevice(xp, device).free_bytes()
    return sorted(devices, key=lambda device: -free.get(device, -1))


def _free_by_address() -> dict[str, int]:
    """Return the free memory (bytes) of each GPU by its bus address; {} if the driver has no tool.

    CUDA itself tells it only to a process with a context on the GPU, which takes memory there.
    """
    query = "--query-gpu=pci.bus_id,memory.free", "--format=csv,noheader,nounits"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["nvidia-smi", *query], capture_output=True, text=True, check=True, timeout=_ANSWER_S
        )
        pairs = re.findall(r"^([0-9A-Fa-f:.]+), *(\d+)$", done.stdout, re.MULTILINE)
        return {address[-_ADDRESS:].lower(): int(free) * 2**20 for address, free in pairs}
    return {}


def _has_room(xp: ModuleType, least_bytes: int, device: int) -> bool:
    """Tell whether a device has enough free memory."""
    if not least_bytes:
        return True
    name = f"number {device}"
    try:
        gpu = CudaDevice(xp, device)
        name, free = gpu.name, gpu.free_bytes()
    except Exception as error:  # in exclusive use, or failed
        logger.info("%s is passed over: %s", name, error)
        return False
    if free < least_bytes:
        sizes = free / 1e9, least_bytes / 1e9
        logger.info("%s is passed over: %.3g GB are free, and %.3g are needed", name, *sizes)
    return free >= least_bytes


def _lock_name(runtime: Any, device: int) -> str:
    """Return the name of a GPU's lock: temporary folders are shared by hosts, bus addresses by MIG.

    CuPy truncates the UUID at the first zero byte. For a MIG instance that was allotted by name, as
    the only GPU, its name is part of the lock's name as well.
    """
    uuid, allotted = runtime.getDeviceProperties(device)["uuid"][:16].hex(), ""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES", "")).startswith("MIG-"):
        allotted = "-" + visible.partition(",")[0]
    return re.sub(r"[^\w.-]", "-", f"tomopipe-gpu-{socket.gethostname()}-{uuid}{allotted}.lock")


def _first_free(
    paths: dict[int, Path], has_room: Callable[[int], bool], *, wait: bool
) -> tuple[int, int | None] | None:
    """Lock the first device's file that is not locked, waiting for one; with its descriptor.

    Devices without room are passed over, if there are others. None without `wait` if all are held;
    no descriptor where files cannot be locked.
    """
    waiting, candidates = False, dict(paths)
    while True:
        for device, path in [*candidates.items()]:
            try:
                descriptor = _locked(path)
            except OSError as error:
                if error.errno == errno.ELOOP:  # a symbolic link planted by somebody else
                    raise
                _warn_of_no_locks(f"{path.parent}: {error.strerror}")
                return [*paths][os.getpid() % len(paths)], None  # spreads jobs over the GPUs
            if descriptor is None:
                continue
            if len(paths) == 1 or has_room(device):
                return device, descriptor
            os.close(descriptor)
            del candidates[device]
        if not candidates:
            device, path = next(iter(paths.items()))
            return _first_free({device: path}, has_room, wait=wait)
        if not wait:
            return None
        if not waiting:
            held = f"all {len(candidates)}"
            logger.warning("waiting for a GPU: other jobs hold %s%s", held, allotted())
            waiting = True
        time.sleep(POLL_S)


@functools.cache
def _warn_of_no_locks(reason: str) -> None:
    """Log the consequence and the remedy, once."""
    logger.warning(
        "no GPU can be locked (%s), and jobs may share one: set TMPDIR to a folder of this machine",
        reason,
    )


def _locked(path: Path) -> int | None:
    """Lock a file; None if another job holds it."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def _open(path: Path) -> int:
    """Open or create a file that every user can lock, without following symbolic links."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)  # some systems refuse O_CREAT of a file of somebody else
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o644)
        os.fchmod(descriptor, 0o644)  # regardless of the umask
        return descriptor
