"""Transfer of raw rows to a GPU, and of slices back.

Each value is copied once: raw rows through pinned memory to one of two buffers on the GPU, slices
to pinned memory. Upload, computation and download run in three streams side by side; events order
them, and the host waits only for memory that it will reuse. One thread fills pinned
memory at a fifth of the rate of the bus (an estimate), so several threads fill a part each, and a
part is uploaded while the next ones are filled.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.gpu import CudaDevice

MOST_THREADS = 8  # threads that fill pinned memory: faster than the bus

Download = Callable[[], Sequence[Any]]  # a future: waits for arrays, and returns them on the host


@dataclass(eq=False)
class _Slot:
    """Buffers of a batch, on the host and on the device."""

    host: NDArray[Any] = field(default_factory=lambda: np.empty((0, 0, 0), np.uint8))
    on_device: Any = None
    # events of CuPy
    uploaded: Any = None  # the upload of the batch
    used: Any = None  # the computation that read the previous batch


class DeviceTransfer:
    """Transfers to and from a GPU that overlap with its computation."""

    ahead = 1

    def __init__(
        self,
        gpu: CudaDevice,
        *,
        staged: bool = True,
        threads: int | None = 1,
        part_bytes: int = 2**24,
    ) -> None:
        """Use a GPU; `staged` is false if raw rows are already in pinned memory that is not reused.

        Otherwise `part_bytes` of them are staged and uploaded at a time.
        """
        self._threads = ThreadPoolExecutor(min(threads or MOST_THREADS, MOST_THREADS))
        self.gpu, self.name, self._staged = gpu, gpu.name, staged
        self._part_bytes = part_bytes
        self._in, self._work, self._out = (gpu.stream() for _ in range(3))
        self._n_uploaded = 0
        self._slots = [_Slot() for _ in range(self.ahead + 1)]

    def use(self) -> None:
        """Make the GPU the current device of this thread."""
        self.gpu.use()

    def upload(self, raw: NDArray[Any]) -> Any:
        """Queue the upload of a batch; called by one thread, in the order of the batches."""
        with self._next_slot(raw.shape, raw.dtype) as slot:
            if self._staged:
                self._stage(raw, slot)
            else:
                self.gpu.upload(raw, slot.on_device)
        return slot

    def upload_read(
        self, shape: tuple[int, ...], dtype: Any, read: Callable[[NDArray[Any]], Any]
    ) -> Any:
        """Queue the upload of a batch that read(out) puts into pinned memory; as `upload`."""
        with self._next_slot(shape, dtype) as slot:
            read(slot.host)
            self.gpu.upload(slot.host, slot.on_device)
        return slot

    @contextmanager
    def _next_slot(self, shape: tuple[int, ...], dtype: Any) -> Iterator[_Slot]:
        """Yield the slot of the next batch: free on the host, and in the stream that uploads."""
        self.gpu.use()
        slot = self._slots[self._n_uploaded % len(self._slots)]
        with self._in:
            if (
                slot.on_device is None
                or slot.on_device.shape != shape
                or slot.on_device.dtype != dtype
            ):
                if slot.used is not None:
                    slot.used.synchronize()  # wait before its memory is freed
                slot.on_device, slot.host = None, _Slot().host
                slot.on_device = self.gpu.empty(shape, dtype)
                if self._staged:
                    slot.host = self.gpu.pinned(shape, dtype)
            elif slot.used is not None:
                self._in.wait_event(slot.used)
            if slot.uploaded is not None and self._staged:
                slot.uploaded.synchronize()  # pinned memory is free again
            yield slot
            slot.uploaded = self._record(self._in)
        self._n_uploaded += 1

    def _stage(self, raw: NDArray[Any], slot: _Slot) -> None:
        """Copy a batch to pinned memory, and queue the upload of each part once it is there."""
        step = max(1, self._part_bytes // max(raw[:1].nbytes, 1))
        parts = [slice(first, first + step) for first in range(0, len(raw), step)]
        copies = [self._threads.submit(np.copyto, slot.host[part], raw[part]) for part in parts]
        for part, copied in zip(parts, copies, strict=True):
            copied.result()
            self.gpu.upload(slot.host[part], slot.on_device[part])

    @contextmanager
    def computing(self, uploaded: Any) -> Iterator[Any]:
        """Yield the batch on the GPU; computations within this context wait for its upload."""
        self.gpu.use()
        self._work.wait_event(uploaded.uploaded)
        with self._work:
            yield uploaded.on_device
            uploaded.used = self._record(self._work)

    def download(self, arrays: list[Any]) -> Download:
        """Queue the download of arrays to new pinned memory."""
        self.gpu.use()
        with self._work:
            # referenced until the download has read them
            gpu_arrays = [self.gpu.xp.ascontiguousarray(array) for array in arrays]
        host = [self.gpu.pinned(array.shape, array.dtype) for array in gpu_arrays]
        self._out.wait_event(self._record(self._work))
        with self._out:
            for source, target in zip(gpu_arrays, host, strict=True):
                self.gpu.download(source, target)
            copied = self._record(self._out)

        def wait() -> Sequence[Any]:
            copied.synchronize()
            gpu_arrays.clear()
            arrays = host[:]
            host.clear()  # pinned memory is freed when the caller drops it
            return arrays

        return wait

    def _record(self, stream: Any) -> Any:
        """Return an event after everything queued in a stream; waiting for it does not spin."""
        return stream.record(self.gpu.xp.cuda.Event(block=True, disable_timing=True))

    def synchronize(self) -> None:
        """Wait for the streams and free all memory that is not referenced, after an error."""
        self.gpu.use()
        for stream in (self._in, self._work, self._out):
            stream.synchronize()
        self._slots = [_Slot() for _ in self._slots]
        self.gpu.release()
