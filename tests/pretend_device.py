"""GPUs for tests: a pretended one, where NumPy computes and threads copy, and the real one.

The lines that run on CuPy run on the pretended one by CuPy's rules (`tests.pretend_cupy`). The
fixtures `xp` and `gpu` of `tests/conftest.py` give both, the real one where there is one.
"""

import fcntl
import gc
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from tests import pretend_cupy
from tests.pretend_cupy import OutOfMemoryError
from tomopipe.recon import cuda, device
from tomopipe.recon.device import array_module, gpu_fault
from tomopipe.recon.gpu import CudaDevice

__all__ = [
    "BOTH_ORDERS", "EVERY_MODULE", "REAL", "LoggedDevice", "OutOfMemoryError", "PretendDevice",
    "Watch", "cupy_is", "in_place_of_cuda",
]  # fmt: skip

REAL = pytest.param("real", marks=pytest.mark.gpu)
BOTH_ORDERS = pytest.mark.parametrize("xp", ["pretended", "backwards", REAL], indirect=True)
EVERY_MODULE = pytest.mark.parametrize("xp", ["numpy", "pretended", REAL], indirect=True)


class LoggedDevice(CudaDevice):
    """A device that logs each copy."""

    def __init__(self, xp, device=0):
        super().__init__(xp, device)
        self.log, self.n_downloaded = [], 0  # bytes

    def note(self, event):
        self.log.append(event)

    def upload(self, host, target):
        super().upload(host, target)
        self.note("uploaded")

    def download(self, source, host):
        super().download(source, host)
        self.n_downloaded += host.nbytes
        self.note("downloaded")

    def release(self, **pools):
        super().release(**pools)
        self.log.append("released")

    def limit(self, n_bytes):
        """Leave so much of its memory from now on; 0: all."""
        self.release()
        pool = self.xp.get_default_memory_pool()
        pool.set_limit(size=n_bytes and pool.total_bytes() + n_bytes)


class PretendDevice(LoggedDevice):
    """A pretended device: it logs each copy when it is done."""

    def __init__(self, *, device=0, free_bytes=2**40):
        super().__init__(pretend_cupy.XP, device)
        # what is counted of its memory from now on
        self.memory = pretend_cupy.MEMORY[device] = pretend_cupy.Memory(free_bytes)

    def note(self, event):
        pretend_cupy.in_stream(lambda: self.log.append(event))

    def used_bytes(self):
        return self.n_downloaded


@contextmanager
def cupy_is(monkeypatch, module):
    """Let this process find a module as CuPy (None: find none), and choose anew what it has."""
    if module is pretend_cupy.XP:
        pretend_cupy.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "cupy", module)
    for chosen in (array_module, gpu_fault):
        chosen.cache_clear()
    try:
        yield
    finally:
        for chosen in (array_module, gpu_fault):
            chosen.cache_clear()
        pretend_cupy.use_device(0)


@contextmanager
def in_place_of_cuda(monkeypatch, module, gpu):
    """Let `array_module`, a module's too, and `claimed_gpu` give a GPU, but for the device cpu."""
    if gpu.xp is pretend_cupy.XP:
        pretend_cupy.install(monkeypatch)

    @contextmanager
    def claimed(xp, wait=True, least_bytes=0):
        assert xp is gpu.xp
        gpu.use()
        yield gpu

    def chosen(device):
        return np if device == "cpu" else gpu.xp

    for place in (module, device):
        monkeypatch.setattr(place, "array_module", chosen, raising=False)
    monkeypatch.setattr(device, "claimed_gpu", claimed)
    try:
        yield gpu
    finally:
        pretend_cupy.MEMORY.clear()
        pretend_cupy.use_device(0)


class Watch:
    """Notes for each batch whether its GPU was locked, and what lay there when it was let go."""

    def __init__(self, monkeypatch, folder):
        self.is_held, self.n_left = [], []
        make, release = cuda.reconstruct_batch, CudaDevice.release
        self._before = self._arrays()  # held: none of them is collected meanwhile

        def made(*args, **kwargs):
            with open(next(folder.glob("tomopipe-gpu-*.lock"))) as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.is_held.append(False)
                except BlockingIOError:
                    self.is_held.append(True)
            make(*args, **kwargs)

        def released(gpu, **pools):
            self.n_left.append(len(self._arrays()) - len(self._before))
            release(gpu, **pools)

        monkeypatch.setattr("tempfile.tempdir", str(folder))
        monkeypatch.setattr(cuda, "reconstruct_batch", made)
        monkeypatch.setattr(CudaDevice, "release", released)

    @staticmethod
    def _arrays():
        kind = pretend_cupy.DeviceArray  # isinstance() would follow dead proxies
        return [item for item in gc.get_objects() if issubclass(type(item), kind)]
