"""A pretended GPU: NumPy computes, threads copy, and memory can be short.

The lines that run on CuPy run here, by CuPy's rules (`tests.pretend_cupy`); only the calls into
CuPy, which `CudaDevice` holds, do not.
"""

import queue
import threading
import time
from contextlib import contextmanager

import numpy as np

from tests import pretend_cupy
from tests.pretend_cupy import DeviceArray, OutOfMemoryError

__all__ = ["OutOfMemoryError", "PretendDevice", "in_place_of_cuda"]


class _Event:
    def __init__(self):
        self._set = threading.Event()

    def reach(self):
        self._set.set()

    def synchronize(self):
        assert self._set.wait(60), "never reached"


class CopyStream:
    """A queue worked off by a thread, late."""

    def __init__(self, gpu):
        self._gpu, self._jobs = gpu, queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        while True:
            self._jobs.get()()

    def put(self, job):
        self._jobs.put(lambda: (time.sleep(self._gpu.delay_s), job()))

    def record(self):
        event = _Event()
        self._jobs.put(event.reach)
        return event

    def wait_event(self, event):
        self._jobs.put(event.synchronize)

    def synchronize(self):
        self.record().synchronize()

    def __enter__(self):
        self._gpu.current.stream = self

    def __exit__(self, *_):
        self._gpu.current.stream = None


class ComputeStream(CopyStream):
    """NumPy computes at once, so that this queue is always empty."""

    def record(self):
        event = _Event()
        event.reach()
        return event

    def wait_event(self, event):
        event.synchronize()


class PretendDevice:
    """See `tomopipe.recon.cuda_device.CudaDevice`."""

    xp = pretend_cupy.XP

    def __init__(self, *, device=0, largest_bytes=2**40, free_bytes=2**40, delay_s=0.002):
        self.device, self.delay_s, self._free_bytes = device, delay_s, free_bytes
        self.largest_bytes = largest_bytes
        self.name = f"GPU {device}"
        self.current = threading.local()
        self.log, self.n_downloaded = [], 0  # bytes
        self._n_streams = 0

    @property
    def largest_bytes(self):
        return pretend_cupy.LARGEST_BYTES[self.device]

    @largest_bytes.setter
    def largest_bytes(self, n_bytes):
        pretend_cupy.LARGEST_BYTES[self.device] = n_bytes

    def use(self):
        pretend_cupy.use_device(self.device)

    def stream(self):
        self.use()
        self._n_streams += 1
        return (ComputeStream if self._n_streams == 2 else CopyStream)(self)

    def pinned(self, shape, dtype):
        return np.full(shape, 77, dtype)

    def empty(self, shape, dtype):
        return self.xp.empty(shape, dtype)

    def _checked(self, host, there):
        assert pretend_cupy.current_device() == self.device == there.device
        assert isinstance(there, DeviceArray)
        assert isinstance(host, np.ndarray)
        assert host.flags.c_contiguous
        assert there.flags.c_contiguous
        assert (host.shape, host.dtype) == (there.shape, there.dtype)

    def upload(self, host, there):
        self._checked(host, there)

        def copy():
            there.values[...] = host
            self.log.append("uploaded")

        self.current.stream.put(copy)

    def download(self, there, host):
        self._checked(host, there)

        def copy():
            host[...] = there.values
            self.n_downloaded += host.nbytes
            self.log.append("downloaded")

        self.current.stream.put(copy)

    def free_bytes(self):
        self.use()
        return self._free_bytes

    def taken_bytes(self):
        return self.n_downloaded

    def release(self):
        self.log.append("released")


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
        pretend_cupy.use_device(0)
