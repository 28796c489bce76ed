"""Raw rows on their way to where slices are computed, and slices on their way back.

On the host nothing has to be moved (`InPlace`). To a GPU and back (`Carried`) each value goes
once: raw rows into pinned memory, from there to one of two buffers on the GPU, slices to pinned
memory. Three queues of the GPU do the copying in, the computing and the copying back side by side;
events say what has to wait for what, and the host waits only for memory that it wants to use again.
One thread fills pinned memory at a fifth of what the bus takes (an estimate): several fill a part
each, and a part is on its way while the next ones are filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

PART_BYTES = 2**24  # of raw rows, staged and sent at a time
MOST_THREADS = 8  # that fill pinned memory: more than the bus takes

Home = Callable[[], Sequence[Any]]  # waits for arrays, and returns them in host memory


class Event(Protocol):
    """A mark in a queue."""

    def synchronize(self) -> None:
        """Wait until all that was queued before the mark is done."""


class Stream(AbstractContextManager[Any], Protocol):
    """A queue of a GPU; within the context, this thread's work goes to it."""

    def record(self) -> Event:
        """Mark what has been queued so far."""

    def wait_event(self, event: Any) -> None:
        """Let what is queued from now on wait for a mark in another queue."""

    def synchronize(self) -> None:
        """Wait until the queue is empty."""


class Device(Protocol):
    """What is needed of a device with memory of its own."""

    xp: ModuleType
    name: str

    def use(self) -> None:
        """Make it the device of this thread."""

    def stream(self) -> Stream:
        """Make a queue."""

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return host memory that the GPU can copy by itself."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return memory of the GPU."""

    def upload(self, host: NDArray[Any], there: Any) -> None:
        """Copy to the GPU, in the stream of the context, without waiting."""

    def download(self, there: Any, host: NDArray[Any]) -> None:
        """Copy from the GPU, in the stream of the context, without waiting."""

    def free_bytes(self) -> int:
        """Return the memory that could be had."""

    def taken_bytes(self) -> int:
        """Return the memory that is taken, what is kept for later included."""

    def release(self) -> None:
        """Give back memory that is kept for later."""


class Carrier(Protocol):
    """Takes pieces of raw rows to where slices are computed, and slices back."""

    ahead: int  # pieces under way while one is computed
    name: str

    def use(self) -> None:
        """Let this thread compute there."""

    def send(self, raw: NDArray[Any]) -> Any:
        """Take a piece there; called by one thread, in the order of the pieces."""

    def computing(self, sent: Any) -> AbstractContextManager[Any]:
        """Yield a piece that was sent, where it is; what is computed within waits for it."""

    def bring(self, arrays: list[Any]) -> Home:
        """Take what was computed back."""

    def settle(self) -> None:
        """Wait for all that is under way and give memory back, after an error."""


class InPlace:
    """The host itself computes."""

    ahead = 0
    name = "CPU"

    def use(self) -> None:
        """Do nothing."""

    def send(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Return the piece."""
        return raw

    @contextmanager
    def computing(self, sent: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Yield the piece."""
        yield sent

    def bring(self, arrays: list[Any]) -> Home:
        """Return arrays as they are; whoever fetches them is the last to hold them."""

        def home() -> Sequence[Any]:
            brought = list(arrays)
            arrays.clear()
            return brought

        return home

    def settle(self) -> None:
        """Do nothing."""


@dataclass(eq=False)
class _Slot:
    """A place for a piece, on both sides."""

    host: NDArray[Any] = field(default_factory=lambda: np.empty((0, 0, 0), np.uint8))
    there: Any = None
    arrived: Event | None = None  # the copy of the piece that is there now
    used: Event | None = None  # the computing that read the piece before


class Carried:
    """A GPU computes."""

    ahead = 1

    def __init__(self, gpu: Device, *, staged: bool = True, threads: int | None = 1) -> None:
        """Use a GPU; `staged` is false where raw rows lie in pinned memory that stays as it is."""
        self._threads = ThreadPoolExecutor(min(threads or MOST_THREADS, MOST_THREADS))
        self.gpu, self.name, self._staged = gpu, gpu.name, staged
        self._in, self._work, self._out = (gpu.stream() for _ in range(3))
        self._n_sent = 0
        self._slots = [_Slot() for _ in range(self.ahead + 1)]

    def use(self) -> None:
        """Make the GPU this thread's."""
        self.gpu.use()

    def send(self, raw: NDArray[Any]) -> _Slot:
        """Queue the copy of a piece to the GPU."""
        self.gpu.use()
        slot = self._slots[self._n_sent % len(self._slots)]
        with self._in:
            if slot.there is None or slot.there.shape != raw.shape or slot.there.dtype != raw.dtype:
                if slot.used is not None:
                    slot.used.synchronize()  # before its memory is given back
                slot.there = None
                slot.there = self.gpu.empty(raw.shape, raw.dtype)
                slot.host = self.gpu.pinned(raw.shape, raw.dtype) if self._staged else raw
            elif slot.used is not None:
                self._in.wait_event(slot.used)
            if self._staged:
                if slot.arrived is not None:
                    slot.arrived.synchronize()  # the GPU has read the piece before
                self._stage(raw, slot)
            else:
                self.gpu.upload(raw, slot.there)
            slot.arrived = self._in.record()
        self._n_sent += 1
        return slot

    def _stage(self, raw: NDArray[Any], slot: _Slot) -> None:
        """Copy a piece to pinned memory, and queue each part as soon as it is there."""
        step = max(1, PART_BYTES // max(raw[:1].nbytes, 1))
        parts = [slice(first, first + step) for first in range(0, len(raw), step)]
        copies = [self._threads.submit(np.copyto, slot.host[some], raw[some]) for some in parts]
        for some, copied in zip(parts, copies, strict=True):
            copied.result()
            self.gpu.upload(slot.host[some], slot.there[some])

    @contextmanager
    def computing(self, sent: _Slot) -> Iterator[Any]:
        """Yield the piece on the GPU; what is computed within waits for its copy."""
        self.gpu.use()
        self._work.wait_event(sent.arrived)
        with self._work:
            yield sent.there
            sent.used = self._work.record()

    def bring(self, arrays: list[Any]) -> Home:
        """Queue the copy of arrays to fresh pinned memory."""
        self.gpu.use()
        with self._work:
            # what the GPU reads must not be used for anything else before it has
            kept = [self.gpu.xp.ascontiguousarray(array) for array in arrays]
        host = [self.gpu.pinned(array.shape, array.dtype) for array in kept]
        self._out.wait_event(self._work.record())
        with self._out:
            for there, here in zip(kept, host, strict=True):
                self.gpu.download(there, here)
            copied = self._out.record()

        def home() -> Sequence[Any]:
            copied.synchronize()
            kept.clear()
            return host

        return home

    def settle(self) -> None:
        """Empty the queues and give all memory back that nobody holds."""
        self.gpu.use()
        for stream in (self._in, self._work, self._out):
            stream.synchronize()
        self._slots = [_Slot() for _ in self._slots]
        self.gpu.release()
