"""CuPy's rules on NumPy's numbers: what a GPU refuses is refused here.

Arrays of the host and of the GPU do not mix without an explicit copy, arrays of one device are
not used while another one is current, NumPy's functions do not take arrays of a GPU, kernels get
contiguous arrays, copies are late, and each call must fit CuPy's own signature: what is missing in
`cupy_signatures.txt` is missing here.
"""

import functools
import importlib
import inspect
import math
import queue
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import numpy as np

from tests import cuda_on_cpu
from tests.cupy_signatures import recorded

SIGNATURES = recorded()
LATE_S = 0.002  # of each copy in a stream
LARGEST_BYTES = {}  # of device: the largest array that there is memory for
FREE_BYTES = {}  # of device
TOTAL_BYTES = 2**41
_current = threading.local()


class OutOfMemoryError(Exception):
    """Named as CuPy's is."""


def use_device(device):
    """Make a device the current one of this thread; each thread begins with the first one."""
    _current.device = device


def current_device():
    return getattr(_current, "device", 0)


def _current_stream():
    return getattr(_current, "streams", None) and _current.streams[-1]


def bound(name, function):
    """Let a function take what CuPy's of this name takes."""
    signature = SIGNATURES[name]  # KeyError: not of CuPy, or not recorded yet

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}{signature}: {error}") from None
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

    def __init__(self):
        self.reached = threading.Event()

    def synchronize(self):
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

    def record(self):
        event = Event()
        self._jobs.put(event.reached.set)
        return event

    def wait_event(self, event):
        self._jobs.put(event.synchronize)

    def synchronize(self):
        self.record().synchronize()

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

    @property
    def values(self):
        """The numbers, once all before in the current stream is done."""
        if stream := _current_stream():
            stream.synchronize()
        return self._values

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, function, *_):
        raise TypeError(f"{function.__name__} of NumPy does not take arrays of a GPU")

    def __getitem__(self, index):
        return _on_device(_plain(self)[_plain(index)])

    def __setitem__(self, index, value):
        _plain(self)[_plain(index)] = _plain(value)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __len__(self):
        return len(self._values)

    def __bool__(self):
        return bool(self.values)

    def __int__(self):
        return int(self.values)

    def __float__(self):
        return float(self.values)

    def _check(self, host):
        assert current_device() == self.device
        assert isinstance(host, np.ndarray)
        assert host.flags.c_contiguous
        assert self.flags.c_contiguous
        assert (host.shape, host.dtype) == (self.shape, self.dtype)

    def get(self, out=None, blocking=True):
        if out is None:
            return self.values.copy()
        self._check(out)
        in_stream(lambda: np.copyto(out, self._values))
        return out if not blocking else [self.values, out][1]

    def set(self, arr):
        self._check(arr)
        in_stream(lambda: np.copyto(self._values, arr))

    def item(self):
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

_MADE = _names("arange empty full linspace ones zeros")
_PADS = _names("constant edge linear_ramp maximum mean minimum reflect symmetric wrap empty")


def _limited(function):
    def make(*args, **kwargs):
        array = _computed(function)(*args, **kwargs)
        if array.nbytes > LARGEST_BYTES.get(current_device(), math.inf):
            raise OutOfMemoryError(f"{array.nbytes} bytes")
        return array

    return make


def _uploaded(value, dtype=None):
    if isinstance(value, DeviceArray):
        return _computed(np.asarray)(value, dtype=dtype)
    return DeviceArray(np.array(value, dtype=dtype), current_device())


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
    return (_limited if name in _MADE else _computed)(made)


class Pool:
    """See cupy.cuda.MemoryPool: nothing is kept."""

    def free_all_blocks(self):
        pass

    def free_bytes(self):
        return 0

    def total_bytes(self):
        return 0

    def set_limit(self, size=None):
        LARGEST_BYTES[current_device()] = size or math.inf


class PinnedPool:
    """See cupy.cuda.PinnedMemoryPool."""

    def free_all_blocks(self):
        pass


class PlanCache:
    """See cupy.fft.config.get_plan_cache."""

    def clear(self):
        pass


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
    "cupy.RawModule": cuda_on_cpu.RawModule,
    "cupy.get_default_memory_pool": Pool,
    "cupy.get_default_pinned_memory_pool": PinnedPool,
    "cupy.fft.config.get_plan_cache": PlanCache,
    "cupy.cuda.Device": Device,
    "cupy.cuda.Stream": Stream,
    "cupy.cuda.runtime.getDeviceCount": lambda: 1,
    "cupy.cuda.runtime.deviceGetPCIBusId": lambda device: f"0000:0{device}:00.0",
    "cupy.cuda.runtime.memGetInfo": lambda: (
        FREE_BYTES.get(current_device(), TOTAL_BYTES), TOTAL_BYTES
    ),
    "cupyx.empty_pinned": lambda shape, dtype: np.full(shape, 77, dtype),
}  # fmt: skip


def _modules():
    """Return the modules that CuPy's code is loaded from, by name, with all that is recorded."""
    xp = ModuleType("pretend")
    xp.ndarray, xp.fft = DeviceArray, SimpleNamespace(config=SimpleNamespace())
    xp.cuda = SimpleNamespace(runtime=SimpleNamespace())
    modules = {
        "cupy": xp, "cupy.cuda": xp.cuda, "cupy.cuda.runtime": xp.cuda.runtime,
        "cupy.fft.config": xp.fft.config, "cupyx": SimpleNamespace(),
        "cupyx.scipy.fft": SimpleNamespace(), "cupyx.scipy.ndimage": SimpleNamespace(),
    }  # fmt: skip
    for name in {**SIGNATURES, **_OWN}:
        module, _, function = name.rpartition(".")
        if module in modules and not hasattr(modules[module], function):
            numpys = {"cupy": "numpy"}.get(module, module.removeprefix("cupyx."))
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
