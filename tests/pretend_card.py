"""A card that is none: NumPy computes, threads copy, and memory can be short.

The lines that run on CuPy run here; only the calls into CuPy, which `CudaCard` holds, do not.
"""

import queue
import sys
import threading
import time
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np
import scipy.fft


class OutOfMemoryError(Exception):
    """Named as CuPy's is."""


class _Event:
    def __init__(self):
        self._set = threading.Event()

    def reach(self):
        self._set.set()

    def synchronize(self):
        assert self._set.wait(20), "never reached"


class CopyStream:
    """A queue worked off by a thread, late."""

    def __init__(self, card):
        self._card, self._jobs = card, queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        while True:
            self._jobs.get()()

    def put(self, job):
        self._jobs.put(lambda: (time.sleep(self._card.delay_s), job()))

    def record(self):
        event = _Event()
        self._jobs.put(event.reach)
        return event

    def wait_event(self, event):
        self._jobs.put(event.synchronize)

    def synchronize(self):
        self.record().synchronize()

    def __enter__(self):
        self._card.current.stream = self

    def __exit__(self, *_):
        self._card.current.stream = None


class ComputeStream(CopyStream):
    """NumPy computes at once, so that this queue is always empty."""

    def record(self):
        event = _Event()
        event.reach()
        return event

    def wait_event(self, event):
        event.synchronize()


class PretendCard:
    """See `tomopipe.recon.carry.Card`."""

    def __init__(self, *, largest_bytes=2**40, free_bytes=2**40, delay_s=0.002):
        self.delay_s, self._free_bytes, self.largest_bytes = delay_s, free_bytes, largest_bytes
        self.current = threading.local()
        self.log = []
        self._n_streams = 0
        self.xp = _array_module(self)

    def use(self):
        self.current.used = True

    def stream(self):
        self._n_streams += 1
        return (ComputeStream if self._n_streams == 2 else CopyStream)(self)

    def pinned(self, shape, dtype):
        return np.full(shape, 77, dtype)

    def empty(self, shape, dtype):
        return self.xp.empty(shape, dtype)

    def upload(self, host, there):
        assert self.current.used

        def copy():
            there[...] = host
            self.log.append("uploaded")

        self.current.stream.put(copy)

    def download(self, there, host):
        def copy():
            host[...] = there
            self.log.append("downloaded")

        self.current.stream.put(copy)

    def free_bytes(self):
        return self._free_bytes

    def release(self):
        self.log.append("released")


def _array_module(card):
    """NumPy under another name, with the kernel's stand-in and arrays that may not be too large."""

    def limited(make):
        def checked(shape, *args, **kwargs):
            array = make(shape, *args, **kwargs)
            if array.nbytes > card.largest_bytes:
                raise OutOfMemoryError(f"{array.nbytes} bytes")
            return array

        return checked

    xp = ModuleType("pretend")
    xp.__getattr__ = lambda name: getattr(np, name)
    xp.empty, xp.zeros = limited(np.empty), limited(np.zeros)
    xp.RawKernel = lambda source, name: launch
    nothing = SimpleNamespace(clear=lambda: None, free_all_blocks=lambda: None)
    xp.fft = SimpleNamespace(config=SimpleNamespace(get_plan_cache=lambda: nothing))
    xp.get_default_memory_pool = xp.get_default_pinned_memory_pool = lambda: nothing
    return xp


def launch(blocks, threads, arguments):
    """Do what the CUDA kernel does."""
    samples, order, cell, weights, grid, n_samples, pitch, record, piece = arguments
    assert blocks[0] * threads[0] >= -(-n_samples // piece) * record
    flat = grid.reshape(-1, record // 2)
    values = samples[order]
    for row in range(5):
        for col in range(5):
            weight = weights[:, 5 + row, None] * weights[:, col, None]
            np.add.at(flat, cell + row * pitch + col, weight * values)


@contextmanager
def in_place_of_cuda(monkeypatch, module, card):
    """Let a module's `array_module` and `claimed_card` give the card."""
    monkeypatch.setitem(sys.modules, "cupyx.scipy.fft", scipy.fft)

    @contextmanager
    def claimed(xp):
        assert xp is card.xp
        yield card

    monkeypatch.setattr(module, "array_module", lambda device: card.xp)
    monkeypatch.setattr(module, "claimed_card", claimed)
    yield card
