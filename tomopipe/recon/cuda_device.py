"""A CUDA device through CuPy, and the choice among several."""

import contextlib
import fcntl
import importlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.array import free_memory

POLL_S = 2.0

logger = logging.getLogger(__name__)


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
