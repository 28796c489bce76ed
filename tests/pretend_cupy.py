"""CuPy's rules on NumPy's numbers: what a GPU refuses is refused here.

Arrays of the host and of the GPU do not mix without an explicit copy, arrays of one device are
not used while another one is current, NumPy's functions do not take arrays of a GPU, kernels get
contiguous arrays, copies are late, and each call must fit CuPy's own signature: what is missing in
`cupy_signatures.txt` is missing here. Memory is counted as CuPy's pool does, with the work areas of
transforms, and can be short; calls fail where a test says so. What is freed, dropped for the next
one or left to a transform is poisoned.
"""

import functools
import importlib
import inspect
import math
import queue
import sys
import threading
import time
import weakref
from collections import OrderedDict, defaultdict
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
from scipy import sparse

from tests import cuda_on_cpu
from tests.cupy_signatures import recorded

SIGNATURES = recorded()
LATE_S = 0.002  # of each copy in a stream
TOTAL_BYTES = 2**41
POISON = 0xFF  # bytes of it are no number as floats, and large as whole ones
_POOL_UNIT = 512  # bytes
_N_PLANS = 16  # kept by each thread
_current = threading.local()
_lock = threading.RLock()


class OutOfMemoryError(MemoryError):
    """See cupy.cuda.memory.OutOfMemoryError."""

    def __init__(self, size=0, total=0):
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,}).")


class CUDARuntimeError(RuntimeError):
    """See cupy.cuda.runtime.CUDARuntimeError; memory that cannot be pinned, for one."""

    def __init__(self, status=2, text="cudaErrorMemoryAllocation: out of memory"):
        super().__init__(text)
        self.status = status


class CUDADriverError(RuntimeError):
    """See cupy.cuda.driver.CUDADriverError; no memory for a kernel's stack, for one."""

    def __init__(self, status=2, text="CUDA_ERROR_OUT_OF_MEMORY: out of memory"):
        super().__init__(text)
        self.status = status


class CuFFTError(RuntimeError):
    """See cupy.cuda.cufft.CuFFTError; no memory to plan a transform, for one."""

    def __init__(self, result=2, text="CUFFT_ALLOC_FAILED"):
        super().__init__(text)
        self.result = result


for _error, _module in [
    (OutOfMemoryError, "cupy.cuda.memory"), (CUDARuntimeError, "cupy_backends.cuda.api.runtime"),
    (CUDADriverError, "cupy_backends.cuda.api.driver"), (CuFFTError, "cupy.cuda.cufft"),
]:  # fmt: skip
    _error.__module__ = _module

#: What runs out of memory, and how CuPy says so.
ERRORS = {
    "memory": OutOfMemoryError, "pinned": CUDARuntimeError,
    "launch": CUDADriverError, "transform": CuFFTError,
}  # fmt: skip
_failing = {}


@contextmanager
def failing(kind, number, error=None):
    """Let the call of this number, from 0, of a kind (`ERRORS`) fail; yields the list of calls."""
    calls = []
    _failing[kind] = calls, number, error or ERRORS[kind]()
    try:
        yield calls
    finally:
        del _failing[kind]


def _call(kind):
    with _lock:
        calls, number, error = _failing.get(kind, ([], -1, None))
        calls.append(kind)
        is_meant = len(calls) == number + 1
    if is_meant:
        raise error


class Memory:
    """The memory of a device: what is live, rounded as CuPy's pool does, and its maximum."""

    def __init__(self, free_bytes=TOTAL_BYTES):
        self.free_bytes, self.limit_bytes = free_bytes, math.inf
        self.live_bytes = self.peak_bytes = 0

    def need(self, n_bytes):
        """Tell that there must be room for a moment."""
        if self.live_bytes + n_bytes > min(self.free_bytes, self.limit_bytes):
            raise OutOfMemoryError(n_bytes, self.live_bytes)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + n_bytes)

    def block(self, n_bytes, values=None):
        """Return a token: memory is live as long as it is, and what lies in it poisoned then."""
        n_bytes, block = -(-n_bytes // _POOL_UNIT) * _POOL_UNIT, _Block()
        _call("memory")
        with _lock:
            self.need(n_bytes)
            self.live_bytes += n_bytes
            if values is not None:
                _blocks[id(values)] = weakref.ref(block)
        weakref.finalize(block, self._free, n_bytes, values).atexit = False
        return block

    def _free(self, n_bytes, values):
        with _lock:
            self.live_bytes -= n_bytes
            if values is not None:
                del _blocks[id(values)]
                if values.flags.writeable:
                    values.view(np.ndarray).reshape(-1, order="A").view(np.uint8)[...] = POISON


class _Block:
    """Memory of a device; all arrays in it refer to it."""


MEMORY = defaultdict(Memory)  # of device
_blocks = {}  # of the array of NumPy that owns the values


def _block_of(values, device):
    """Return the block that an array lies in, new if its memory is."""
    while isinstance(values.base, np.ndarray):
        values = values.base
    with _lock:
        block = _blocks.get(id(values), lambda: None)()
        return MEMORY[device].block(values.nbytes, values) if block is None else block


def waits():
    """Return by what calls this thread has waited for the device, or for a copy to it, a list."""
    return _current.__dict__.setdefault("waits", [])


def use_device(device):
    """Make a device the current one of this thread; each thread begins with the first one."""
    _current.device = device


def current_device():
    return getattr(_current, "device", 0)


def _current_stream():
    return getattr(_current, "streams", None) and _current.streams[-1]


_KINDS = {
    "cupy.RawKernel.__call__": "launch",
    "cupyx.empty_pinned": "pinned",
} | {name: "transform" for name in SIGNATURES if name.startswith("cupyx.scipy.fft.")}


def bound(name, function):
    """Let a function take what CuPy's of this name takes."""
    signature = SIGNATURES[name]  # KeyError: not of CuPy, or not recorded yet

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}{signature}: {error}") from None
        if name in _KINDS:
            _call(_KINDS[name])
        return function(*args, **kwargs)

    return call


def _bind_methods(cls, name):
    """Let the methods of a class take what those of CuPy's class of this name take."""
    for method, function in list(vars(cls).items()):
        if inspect.isfunction(function) and (method == "__call__" or method[0] != "_"):
            setattr(cls, method, bound(f"{name}.{method}", function))


def _plain(value):
    """Return what NumPy computes with; whatever lies in the wrong place is refused."""
    if isinstance(value, DeviceArray):
        if value.device != current_device():
            raise RuntimeError(f"array of device {value.device} used on {current_device()}")
        return value.values
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: copy it to the GPU")
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value))
    if isinstance(value, slice):
        return slice(*map(_plain, (value.start, value.stop, value.step)))
    return value


def _look_at(index):
    """Note what CuPy must know of an index: how many are true, numbers of the host."""
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, list) or getattr(part, "dtype", None) == np.bool_:
            waits().append("index")


def _counted(function):
    """Let the host wait for how many values come back."""

    def compute(*args):
        waits().append(function.__name__)
        return _computed(function)(*args)

    return compute


def _on_device(result):
    if isinstance(result, tuple):
        return tuple(map(_on_device, result))
    if isinstance(result, np.ndarray | np.generic):
        return DeviceArray(np.asarray(result), current_device())
    return result


def _computed(function):
    def compute(*args, **kwargs):
        result = function(*_plain(args), **{key: _plain(value) for key, value in kwargs.items()})
        return kwargs["out"] if isinstance(kwargs.get("out"), DeviceArray) else _on_device(result)

    return compute


def _ufunc(function):
    compute = _computed(function)

    def checked(*args, **kwargs):
        if not any(isinstance(arg, DeviceArray) for arg in args):
            raise TypeError(f"Unsupported type {type(args[0])}")
        return compute(*args, **kwargs)

    return checked


class Event:
    """See cupy.cuda.Event."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.block, self.reached = block, threading.Event()

    def synchronize(self):
        waits().append("Event.synchronize")
        assert self.block, "the host spins until it is reached"
        self._wait()

    def _wait(self):
        assert self.reached.wait(60), "never reached"


class Stream:
    """See cupy.cuda.Stream: a queue worked off by a thread, late; what is computed waits for it."""

    def __init__(self, null=False, non_blocking=False):
        self._jobs = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        while True:
            self._jobs.get()()

    def _put(self, job):
        self._jobs.put(lambda: (time.sleep(LATE_S), job()))

    def record(self, event=None):
        event = event or Event()
        self._jobs.put(event.reached.set)
        return event

    def wait_event(self, event):
        self._jobs.put(event._wait)

    def synchronize(self):
        waits().append("Stream.synchronize")
        self._finish()

    def _finish(self):
        self.record()._wait()

    def __enter__(self):
        _current.streams = [*getattr(_current, "streams", []), self]

    def __exit__(self, *_):
        _current.streams.pop()


class Device:
    """See cupy.cuda.Device."""

    def __init__(self, device=None):
        self._device = current_device() if device is None else device

    def use(self):
        use_device(self._device)


def in_stream(job):
    """Do something late, when the current stream of this thread has done all before."""
    stream = _current_stream()
    stream._put(job) if stream else job()


class DeviceArray:
    """See cupy.ndarray."""

    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, values, device):
        self._values, self.device = values, device
        self._block = _block_of(values, device)

    @property
    def values(self):
        """The numbers, once all before in the current stream is done."""
        if stream := _current_stream():
            stream._finish()
        return self._values

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, function, *_):
        raise TypeError(f"{function.__name__} of NumPy does not take arrays of a GPU")

    def __getitem__(self, index):
        _look_at(index)
        return _on_device(_plain(self)[_plain(index)])

    def __setitem__(self, index, value):
        _look_at(index)
        _plain(self)[_plain(index)] = _plain(value)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __len__(self):
        return len(self._values)

    def __bool__(self):
        waits().append("bool")
        return bool(self.values)

    def __int__(self):
        waits().append("int")
        return int(self.values)

    def __float__(self):
        waits().append("float")
        return float(self.values)

    def _check(self, host):
        assert current_device() == self.device
        assert isinstance(host, np.ndarray)
        assert host.flags.c_contiguous
        assert self.flags.c_contiguous
        assert (host.shape, host.dtype) == (self.shape, self.dtype)

    def get(self, out=None, blocking=True):
        if out is None or blocking:
            waits().append("get")
        if out is None:
            return self.values.copy()
        self._check(out)
        in_stream(partial(np.copyto, _without_owner(out), self._values))
        return out if not blocking else [self.values, out][1]

    def set(self, arr):
        self._check(arr)
        in_stream(partial(np.copyto, self._values, _without_owner(arr)))

    def sort(self, axis=-1, kind=None):
        if not self.flags.c_contiguous:
            raise NotImplementedError("Sorting non-contiguous array is not supported.")
        self.values.sort(axis, "stable")

    def item(self):
        waits().append("item")
        return self.values.item()


def _operator(name):
    def operate(self, *others):
        result = getattr(_plain(self), name)(*map(_plain, others))
        if result is NotImplemented:
            return result
        return self if result is self._values else _on_device(result)

    return operate


def _attribute(name):
    """Return a method of arrays by NumPy's, or a property."""
    if SIGNATURES[f"cupy.ndarray.{name}"] is not None:
        return lambda self, *args, **kwargs: _computed(getattr(_plain(self), name))(*args, **kwargs)
    if name in ("T", "real", "imag"):
        return property(lambda self: _on_device(getattr(_plain(self), name)))
    return property(lambda self: getattr(self._values, name))


def _names(text):
    return text.split()


_BINARY = _names("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift")
for _name in [
    *(f"__{kind}{name}__" for name in _BINARY for kind in ("", "r", "i")),
    *(f"__{name}__" for name in _names("lt le gt ge eq ne neg pos abs invert")),
]:
    setattr(DeviceArray, _name, _operator(_name))
for _name in SIGNATURES:
    _whose, _, _name = _name.rpartition(".")
    if _whose == "cupy.ndarray" and _name not in vars(DeviceArray):
        setattr(DeviceArray, _name, _attribute(_name))
DeviceArray.__module__ = "pretend"

_PADS = _names("constant edge linear_ramp maximum mean minimum reflect symmetric wrap empty")


def _uploaded(value, dtype=None):
    if isinstance(value, DeviceArray):
        return _computed(np.asarray)(value, dtype=dtype)
    waits().append("copy to the device")
    return DeviceArray(np.array(value, dtype=dtype), current_device())


_pinned = defaultdict(list)  # memory that was dropped, of each size
_owners = {}  # memory of the arrays that own it


def _empty_pinned(shape, dtype=float, order="C"):
    """Return memory that was dropped, poisoned, or new; in powers of two."""
    n = math.prod(shape)
    size = 1 << max(n * np.dtype(dtype).itemsize - 1, _POOL_UNIT - 1).bit_length()
    with _lock:
        memory = _pinned[size].pop() if _pinned[size] else np.empty(size, np.uint8)
    memory[...] = POISON  # though it may have been written since it was dropped
    owner = np.frombuffer(memory.data, dtype, n)
    _owners[id(owner)] = memory
    weakref.finalize(owner, _drop_pinned, id(owner), memory).atexit = False
    return owner.reshape(shape)


def _drop_pinned(owner, memory):
    del _owners[owner]
    memory[...] = POISON
    _pinned[len(memory)].append(memory)


def _without_owner(host):
    """Return an array in the same memory that does not keep it, as a copy of CuPy's does not."""
    owner = host
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if id(owner) not in _owners:
        return host
    first = host.ctypes.data - owner.ctypes.data
    return _owners[id(owner)][first : first + host.nbytes].view(host.dtype).reshape(host.shape)


def _transformed(name, transform):
    """Return a transform of CuPy's: it plans, copies what it may not destroy, and destroys."""

    def compute(x, *args, overwrite_x=False, **kwargs):
        values, memory = _plain(x), MEMORY[current_device()]
        if not values.size:
            raise ValueError("Invalid number of FFT data points (0) specified.")
        result = transform(values, *args, **kwargs)
        n_bytes = max(values.nbytes, result.nbytes)
        plans = _plans()
        key = memory, name, values.shape, values.dtype, result.shape
        if key not in plans:
            plans[key] = memory.block(n_bytes)
            if len(plans) > _N_PLANS:
                plans.popitem(last=False)
        plans.move_to_end(key)
        is_copied = not values.flags.c_contiguous or (name[:2] == "ir" and not overwrite_x)
        memory.need((values.nbytes if is_copied else 0) + result.nbytes)
        if overwrite_x:
            values[...] = np.nan
        return _on_device(result)

    return compute


def _plans():
    """Return the plans that this thread keeps for its device."""
    if not hasattr(_current, "plans"):
        _current.plans = defaultdict(OrderedDict)
    return _current.plans[current_device()]


def _ordered(name):
    """Return a function that sorts: stably, with as much memory besides."""

    def order(a, axis=-1, kind=None):
        assert kind in (None, "stable"), "kind can only be None or 'stable'"
        MEMORY[current_device()].need(2 * a.nbytes + (16 * a.size if name == "argsort" else 0))
        return _computed(getattr(np, name))(a, axis=axis, kind="stable")

    return order


def _padded(array, pad_width, mode="constant", **kwargs):
    assert mode in _PADS, f"cupy.pad has no mode {mode}"
    return _computed(np.pad)(array, pad_width, mode=mode, **kwargs)


def _by_numpy(module, name):
    """Return what a module of NumPy or SciPy calculates, for arrays of a GPU."""
    made = getattr(importlib.import_module(module), name)
    if SIGNATURES.get(f"cupy.{name}", made) is None:
        return made  # a type
    if isinstance(made, np.ufunc):
        return _ufunc(made)
    if module == "scipy.fft" and name != "next_fast_len":
        return _transformed(name, made)
    return _computed(made)


class Sparse:
    """See cupyx.scipy.sparse.csr_matrix, and its transpose."""

    def __init__(self, parts, shape):
        assert all(part.ndim == 1 and not isinstance(part, np.ndarray) for part in parts)
        assert parts[0].dtype in ("f4", "f8", "c8", "c16")
        self._parts, self._shape, self._is_transposed = parts, shape, False

    def _transpose(self):
        other = Sparse(self._parts, self._shape)
        other._is_transposed = not self._is_transposed
        return other

    T = property(_transpose)

    def __matmul__(self, dense):
        matrix = sparse.csr_matrix(_plain(self._parts), self._shape)
        product = (matrix.T if self._is_transposed else matrix) @ _plain(dense)
        return _on_device(np.asfortranarray(product))


class Pool:
    """See cupy.cuda.MemoryPool: what is free is given back at once."""

    def free_all_blocks(self):
        pass

    def free_bytes(self):
        return 0

    def total_bytes(self):
        return MEMORY[current_device()].live_bytes

    def set_limit(self, size=None):
        MEMORY[current_device()].limit_bytes = size or math.inf


class PinnedPool:
    """See cupy.cuda.PinnedMemoryPool."""

    def free_all_blocks(self):
        _pinned.clear()


class PlanCache:
    """See cupy.fft.config.get_plan_cache: that of this thread and device."""

    def clear(self):
        _plans().clear()


for _class, _name in {
    DeviceArray: "cupy.ndarray", Event: "cupy.cuda.Event", Stream: "cupy.cuda.Stream",
    Device: "cupy.cuda.Device", Pool: "cupy.cuda.MemoryPool",
    PinnedPool: "cupy.cuda.PinnedMemoryPool", PlanCache: "cupy.fft._cache.PlanCache",
    cuda_on_cpu.RawModule: "cupy.RawModule", cuda_on_cpu.RawKernel: "cupy.RawKernel",
}.items():  # fmt: skip
    _bind_methods(_class, _name)

#: What is not NumPy's function of the same name.
_OWN = {
    "cupy.asarray": _uploaded,
    "cupy.array": _uploaded,
    "cupy.pad": _padded,
    "cupy.flatnonzero": _counted(np.flatnonzero),
    "cupy.nonzero": _counted(np.nonzero),
    "cupy.RawModule": cuda_on_cpu.RawModule,
    "cupy.get_default_memory_pool": Pool,
    "cupy.get_default_pinned_memory_pool": PinnedPool,
    "cupy.fft.config.get_plan_cache": PlanCache,
    "cupy.cuda.Device": Device,
    "cupy.cuda.Event": Event,
    "cupy.cuda.Stream": Stream,
    "cupy.cuda.runtime.getDevice": current_device,
    "cupy.cuda.runtime.getDeviceCount": lambda: 1,
    "cupy.cuda.runtime.deviceGetPCIBusId": lambda device: f"0000:0{device}:00.0",
    "cupy.cuda.runtime.getDeviceProperties": lambda device: {
        "name": b"NVIDIA A100", "major": 8, "minor": 0, "uuid": bytes([7] * 15 + [device])
    },
    "cupy.cuda.runtime.runtimeGetVersion": lambda: 12090,
    "cupy.cuda.runtime.memGetInfo": lambda: (
        MEMORY[current_device()].free_bytes - MEMORY[current_device()].live_bytes, TOTAL_BYTES
    ),
    "cupyx.scipy.sparse.csr_matrix": Sparse,
    "cupyx.empty_pinned": _empty_pinned,
    "cupy.sort": _ordered("sort"),
    "cupy.argsort": _ordered("argsort"),
    "cupyx.scatter_add": lambda a, slices, value: np.add.at(*_plain((a, slices, value))),
    "cupyx.scatter_max": lambda a, slices, value: np.maximum.at(*_plain((a, slices, value))),
}  # fmt: skip


def _modules():
    """Return the modules that CuPy's code is loaded from, by name, with all that is recorded."""
    xp = ModuleType("pretend")
    xp.ndarray, xp.fft = DeviceArray, SimpleNamespace(config=SimpleNamespace())
    xp.cuda = SimpleNamespace(runtime=SimpleNamespace())
    modules = {
        "cupy": xp, "cupy.cuda": xp.cuda, "cupy.cuda.runtime": xp.cuda.runtime,
        "cupy.fft": xp.fft, "cupy.fft.config": xp.fft.config, "cupyx": SimpleNamespace(),
        "cupyx.scipy.fft": SimpleNamespace(), "cupyx.scipy.ndimage": SimpleNamespace(),
        "cupyx.scipy.sparse": SimpleNamespace(),
    }  # fmt: skip
    for name in {**SIGNATURES, **_OWN}:
        module, _, function = name.rpartition(".")
        if module in modules and not hasattr(modules[module], function):
            numpys = module.replace("cupy", "numpy").removeprefix("numpyx.")
            made = _OWN.get(name) or _by_numpy(numpys, function)
            setattr(modules[module], function, bound(name, made) if SIGNATURES[name] else made)
    return modules


MODULES = _modules()
XP = MODULES["pretend"] = MODULES["cupy"]


def install(monkeypatch):
    """Let the modules be found by their names; CuPy itself only where a test asks for it."""
    for name, module in MODULES.items():
        if name.startswith(("cupyx", "pretend")):
            monkeypatch.setitem(sys.modules, name, module)
