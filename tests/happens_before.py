"""Which accesses to buffers happen before which, by vector clocks: races of `DeviceTransfer`.

Nothing is copied. The host, each stream and the threads that fill pinned memory have a clock each;
events, waits and joined threads merge clocks, and two accesses to a buffer, one of them a write,
race if neither knows of the other. Memory that is dropped is handed out again: pinned memory to
anybody, as CuPy's pool does, memory of the device to the stream that it was made on.
"""

import inspect
import itertools
import weakref
from collections import defaultdict
from types import ModuleType, SimpleNamespace

import numpy as np

from tomopipe.recon import transfer


class Clock(dict):
    """What has happened before the next act of one actor: the number of each actor's acts."""

    def learn(self, other):
        for who, n in other.items():
            self[who] = max(n, self.get(who, 0))


class Device:
    """In place of a CudaDevice: it notes who reads and writes which buffer, and what races."""

    name = "GPU"

    def __init__(self):
        self.races = []
        self._clocks = defaultdict(Clock)  # of actors: "host", "staging" and streams
        self._accesses = defaultdict(list)  # to a buffer: actor, clock then, whether it wrote
        self._numbers, self._streams = itertools.count(), itertools.count()
        self._dropped = defaultdict(list)  # buffers, by the pool
        self._current = "host"
        self.xp = SimpleNamespace(ascontiguousarray=lambda array: array)

    def access(self, who, array, write):
        if who not in ("host", "staging"):  # what the host has queued comes after all it did
            self._clocks[who].learn(self._clocks["host"])
        clock, buffer = self._clocks[who], array.buffer
        clock[who] = clock.get(who, 0) + 1
        for other, before, wrote in self._accesses[buffer]:
            if (write or wrote) and clock.get(other, 0) < before[other]:
                self.races.append((buffer, other, who))
        self._accesses[buffer].append((who, dict(clock), write))

    def compute(self, source, shape):
        """Read an array and write one, in the current stream."""
        self.access(self._current, source, write=False)
        made = self.empty(shape, np.float32)
        self.access(self._current, made, write=True)
        return made

    def use(self):
        pass

    def release(self):
        pass

    def stream(self):
        return Stream(self, f"stream {next(self._streams)}")

    def pinned(self, shape, dtype):
        return self._made("pinned", shape, dtype)

    def empty(self, shape, dtype):
        return self._made(self._current, shape, dtype)

    def _made(self, pool, shape, dtype):
        dropped = self._dropped[pool]
        array = np.zeros(shape, dtype).view(Array)
        array.buffer = dropped.pop() if dropped else f"{pool} {next(self._numbers)}"
        weakref.finalize(array, dropped.append, array.buffer)
        return array

    def upload(self, host, there):
        self.access(self._current, host, write=False)
        self.access(self._current, there, write=True)

    def download(self, there, host):
        self.access(self._current, there, write=False)
        self.access(self._current, host, write=True)

    def staging(self, *_):
        """In place of a pool of threads: each is one that nobody waits for without `result`."""
        clocks = self._clocks

        def submit(copy, target, source):
            clocks["staging"].learn(clocks["host"])
            self.access("staging", target, write=True)
            done = dict(clocks["staging"])
            return SimpleNamespace(result=lambda: clocks["host"].learn(done))

        return SimpleNamespace(submit=submit)


class Array(np.ndarray):
    """An array, or a view of one, that knows its buffer."""

    def __array_finalize__(self, parent):
        self.buffer = getattr(parent, "buffer", None)


class Stream:
    """A stream with a clock."""

    def __init__(self, device, name):
        self._device, self._name = device, name

    def record(self):
        clocks = self._device._clocks
        clocks[self._name].learn(clocks["host"])
        then = dict(clocks[self._name])
        return SimpleNamespace(clock=then, synchronize=lambda: clocks["host"].learn(then))

    def wait_event(self, event):
        self._device._clocks[self._name].learn(event.clock)

    def __enter__(self):
        self._device._current = self._name

    def __exit__(self, *_):
        self._device._current = "host"


def races(change=lambda source: source):
    """Return the races of DeviceTransfer, its source changed, over batches of two sizes."""
    module = ModuleType(transfer.__name__)
    exec(change(inspect.getsource(transfer)), vars(module))
    device = Device()
    module.ThreadPoolExecutor = device.staging
    moved = module.DeviceTransfer(device)
    sizes, raw = [4, 4, 4, 4, 4, 4, 2, 2, 2, 4], np.zeros((8, 4, 4), np.uint16)
    uploaded, downloads = [moved.upload(raw)], []
    for after in [*sizes[1:], None]:
        if after is not None:
            uploaded.append(moved.upload(raw[:, :after]))
        with moved.computing(uploaded.pop(0)) as there:
            images = device.compute(there, (4, 8, 8))
        downloads.append(moved.download([images]))
        del images, there
        if len(downloads) > 2 or after is None:
            for array in downloads.pop(0)():
                device.access("host", array, write=False)
    return device.races
