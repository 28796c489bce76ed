"""A pretended GPU: NumPy computes, threads copy, and memory can be short.

The lines that run on CuPy run here, by CuPy's rules (`tests.pretend_cupy`).
"""

import sys
from contextlib import contextmanager

from tests import pretend_cupy
from tests.pretend_cupy import OutOfMemoryError
from tomopipe.recon.array import CudaDevice, array_module, gpu_fault

__all__ = ["OutOfMemoryError", "PretendDevice", "cupy_is", "in_place_of_cuda"]


class PretendDevice(CudaDevice):
    """A device that logs each copy when it is done, and what its memory is limited to."""

    def __init__(self, *, device=0, largest_bytes=2**40, free_bytes=2**40):
        super().__init__(pretend_cupy.XP, device)
        self._number, self.largest_bytes = device, largest_bytes
        # what is counted of its memory from now on
        self.memory = pretend_cupy.MEMORY[device] = pretend_cupy.Memory(free_bytes)
        self.log, self.n_downloaded = [], 0  # bytes

    @property
    def largest_bytes(self):
        return pretend_cupy.LARGEST_BYTES[self._number]

    @largest_bytes.setter
    def largest_bytes(self, n_bytes):
        pretend_cupy.LARGEST_BYTES[self._number] = n_bytes

    def upload(self, host, target):
        super().upload(host, target)
        pretend_cupy.in_stream(lambda: self.log.append("uploaded"))

    def download(self, source, host):
        super().download(source, host)
        self.n_downloaded += host.nbytes
        pretend_cupy.in_stream(lambda: self.log.append("downloaded"))

    def taken_bytes(self):
        return self.n_downloaded

    def release(self):
        super().release()
        self.log.append("released")


@contextmanager
def cupy_is(monkeypatch, module):
    """Let this process find a module as CuPy (None: find none), and choose anew what it has."""
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
    """Let a module's `array_module` and `claimed_gpu` give a GPU."""
    pretend_cupy.install(monkeypatch)

    @contextmanager
    def claimed(xp):
        assert xp is gpu.xp
        gpu.use()
        yield gpu

    monkeypatch.setattr(module, "array_module", lambda device: gpu.xp)
    monkeypatch.setattr(module, "claimed_gpu", claimed)
    try:
        yield gpu
    finally:
        pretend_cupy.MEMORY.clear()
        pretend_cupy.use_device(0)
