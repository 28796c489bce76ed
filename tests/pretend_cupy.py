"""CuPy's rules on NumPy's numbers: what a GPU refuses is refused here.

Arrays of the host and of the GPU do not mix without an explicit copy, arrays of one device are
not used while another one is current, NumPy's functions do not take arrays of a GPU, kernels get
contiguous arrays, and there is nothing that CuPy does not document: what is missing below is added
once it has been looked up.
"""

import math
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import scipy.fft
import scipy.ndimage

from tests.cuda_on_cpu import RawModule

_current = threading.local()
LARGEST_BYTES = {}  # of device: the largest array that there is memory for


class OutOfMemoryError(Exception):
    """Named as CuPy's is."""


def use_device(device):
    """Make a device the current one of this thread; each thread begins with the first one."""
    _current.device = device


def current_device():
    return getattr(_current, "device", 0)


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
        if wrong := kwargs.keys() - {"out", "dtype", "casting"}:
            raise TypeError(f"Wrong arguments {wrong}")
        if not any(isinstance(arg, DeviceArray) for arg in args):
            raise TypeError(f"Unsupported type {type(args[0])}")
        return compute(*args, **kwargs)

    return checked


class DeviceArray:
    """See cupy.ndarray."""

    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, values, device):
        self.values, self.device = values, device

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
        return len(self.values)

    def __bool__(self):
        return bool(self.values)

    def __int__(self):
        return int(self.values)

    def __float__(self):
        return float(self.values)

    def get(self, out=None, blocking=True):
        if out is None:
            return self.values.copy()
        assert blocking
        assert out.flags.c_contiguous
        assert (out.shape, out.dtype) == (self.values.shape, self.values.dtype)
        out[...] = self.values
        return out

    def item(self):
        return self.values.item()


def _operator(name):
    def operate(self, *others):
        result = getattr(_plain(self), name)(*map(_plain, others))
        if result is NotImplemented:
            return result
        return self if result is self.values else _on_device(result)

    return operate


def _words(text):
    return text.split()


_BINARY = _words("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift")
for _name in [
    *(f"__{kind}{name}__" for name in _BINARY for kind in ("", "r", "i")),
    *(f"__{name}__" for name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs")),
    "__invert__",
]:
    setattr(DeviceArray, _name, _operator(_name))
for _name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"):
    setattr(DeviceArray, _name, property(lambda self, name=_name: getattr(self.values, name)))
for _name in ("T", "real", "imag"):
    setattr(
        DeviceArray, _name, property(lambda self, n=_name: _on_device(getattr(_plain(self), n)))
    )


def _method(name):
    def call(self, *args, **kwargs):
        return _computed(getattr(_plain(self), name))(*args, **kwargs)

    return call


for _name in _words("""
    all any argsort astype conj copy fill max mean min ravel reshape sort std sum transpose
    view
"""):
    setattr(DeviceArray, _name, _method(_name))

_MADE = _words("arange empty full linspace ones zeros")
_FUNCTIONS = _words("""
    all any argsort ascontiguousarray broadcast_to concatenate count_nonzero cumsum diff
    empty_like flip full_like max mean median min moveaxis ones_like pad repeat roll sort stack
    std sum take take_along_axis tile transpose where zeros_like clip nonzero flatnonzero
""")
_UFUNCS = _words("""
    abs absolute add cos divide equal exp floor ceil greater isfinite isnan log log1p
    logical_and logical_not logical_or maximum minimum multiply negative rint sign sin sqrt
    subtract square
""")
_PADS = ("constant", "edge", "linear_ramp", "maximum", "mean", "minimum", "reflect", "symmetric",
         "wrap", "empty")  # fmt: skip


def _limited(function):
    def make(*args, **kwargs):
        array = _computed(function)(*args, **kwargs)
        if array.nbytes > LARGEST_BYTES.get(current_device(), math.inf):
            raise OutOfMemoryError(f"{array.nbytes} bytes")
        return array

    return make


def _uploaded(value, dtype=None):
    values = value.values if isinstance(value, DeviceArray) else np.array(value, dtype=dtype)
    if isinstance(value, DeviceArray):
        return _computed(np.asarray)(value, dtype=dtype)
    return DeviceArray(values, current_device())


def _padded(array, pad_width, mode="constant", **kwargs):
    assert mode in _PADS, f"cupy.pad has no mode {mode}"
    return _computed(np.pad)(array, pad_width, mode=mode, **kwargs)


def _module():
    xp = ModuleType("pretend")
    vars(xp).update({name: _limited(getattr(np, name)) for name in _MADE})
    vars(xp).update({name: _computed(getattr(np, name)) for name in _FUNCTIONS})
    vars(xp).update({name: _ufunc(getattr(np, name)) for name in _UFUNCS})
    xp.asarray = xp.array = _uploaded
    xp.pad = _padded
    for name in _words("bool_ uint8 uint16 uint32 uint64 int32 int64 float16 float32 float64"):
        setattr(xp, name, getattr(np, name))
    xp.complex64, xp.complex128, xp.ndarray, xp.RawModule = (
        np.complex64, np.complex128, DeviceArray, RawModule,
    )  # fmt: skip
    nothing = SimpleNamespace(clear=lambda: None, free_all_blocks=lambda: None)
    xp.fft = SimpleNamespace(config=SimpleNamespace(get_plan_cache=lambda: nothing))
    xp.get_default_memory_pool = xp.get_default_pinned_memory_pool = lambda: nothing
    return xp


def _part(module, names):
    part = SimpleNamespace(**{name: _computed(getattr(module, name)) for name in names.split()})
    return part


XP = _module()
DeviceArray.__module__ = "pretend"
MODULES = {
    "pretend": XP,
    "cupyx.scipy.fft": _part(
        scipy.fft, "fft ifft ifft2 rfft irfft rfft2 irfft2 dct idct next_fast_len"
    ),
    "cupyx.scipy.ndimage": _part(scipy.ndimage, "median_filter uniform_filter1d"),
}


def install(monkeypatch):
    """Let the modules be found by their names."""
    for name, module in MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)
