"""The pretended GPU refuses what a real one refuses."""

import numpy as np
import pytest

from tests import pretend_cupy
from tests.pretend_cupy import XP

RFFT = pretend_cupy.MODULES["cupyx.scipy.fft"].rfft
HERE = np.arange(6, dtype=np.float32).reshape(2, 3)
SOURCE = """
extern "C" __global__ void reverse(float* values, const int n) {
    extern __shared__ float kept[];
    for (int i = threadIdx.x; i < n; i += blockDim.x) kept[i] = values[i];
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) values[i] = kept[n - 1 - i];
}
"""


@pytest.fixture
def there():
    pretend_cupy.use_device(0)
    return XP.asarray(HERE)


def _reverse(*arguments, code=SOURCE, shared_mem=32):
    kernel = XP.RawModule(code=code).get_function("reverse")
    kernel((1,), (4,), arguments, shared_mem=shared_mem)


REFUSED = {
    "host + gpu": lambda there: HERE + there,
    "gpu += host": lambda there: there.__iadd__(HERE),
    "numpy ufunc": np.exp,
    "numpy function": np.concatenate,
    "numpy copy": np.asarray,
    "host to a function": lambda there: XP.where(there > 1, HERE, there),
    "host to a ufunc": lambda there: XP.exp(HERE),
    "host as index": lambda there: there[np.array([0, 1])],
    "host set": lambda there: there.__setitem__(slice(None), HERE),
    "where of a ufunc": lambda there: XP.add(there, there, where=there > 1),
    "initial of a method": lambda there: there.max(initial=0),
    "initial of a function": lambda there: XP.max(there, initial=0),
    "where of a function": lambda there: XP.sum(there, where=there > 1),
    "workers of a transform": lambda there: RFFT(there, workers=2),
    "python number to a kernel": lambda there: _reverse(there, 6),
    "another type to a kernel": lambda there: _reverse(there, np.int64(6)),
    "host to a kernel": lambda there: _reverse(HERE, np.int32(6)),
    "too few arguments": _reverse,
    "strided to a kernel": lambda there: _reverse(there.T, np.int32(6)),
    "an index beyond an array": lambda there: _reverse(there, np.int32(7)),
    "too much shared memory": lambda there: _reverse(there, np.int32(6), shared_mem=2**16),
    "a barrier for some": lambda there: _reverse(
        there, np.int32(6), code=SOURCE.replace("__sync", "if (threadIdx.x) __sync")
    ),
}


@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED)
def test_what_a_gpu_refuses(there, use):
    with pytest.raises((TypeError, AssertionError)):
        use(there)


def test_arrays_stay_on_their_device(there):
    pretend_cupy.use_device(1)
    with pytest.raises(RuntimeError, match="array of device 0 used on 1"):
        there + 1
    pretend_cupy.use_device(0)
    assert ((there + np.float32(1)).get() == HERE + 1).all()


def test_what_cupy_does_not_document_is_missing(there):
    with pytest.raises(KeyError):
        pretend_cupy.bound("cupy.nanpercentile", np.nanpercentile)
    with pytest.raises(AttributeError):
        XP.nanpercentile(there, 1)
    with pytest.raises(AssertionError, match="no mode median"):
        XP.pad(there, 1, mode="median")


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "irfft2", "rfft2"])
def test_a_transform_that_may_overwrite_does(name):
    transform = getattr(pretend_cupy.MODULES["cupyx.scipy.fft"], name)
    values = XP.ones((4, 8), np.float32 if name[0] == "r" else np.complex64)
    expected = transform(values).get()
    assert (values.get() == 1).all()
    assert (transform(values, overwrite_x=True).get() == expected).all()
    assert np.isnan(values.get()).all()


def test_only_contiguous_arrays_are_sorted_in_place(there):
    with pytest.raises(NotImplementedError, match="non-contiguous"):
        there.T.sort(axis=0)
    there.sort(axis=0)
    assert (XP.sort(there.T, axis=0).get() == HERE.T).all()


def test_memory_that_is_dropped_is_handed_out_again_poisoned():
    empty_pinned = pretend_cupy.MODULES["cupyx"].empty_pinned
    XP.get_default_pinned_memory_pool().free_all_blocks()
    host = empty_pinned((3, 100), np.float32)
    assert np.isnan(host).all()
    address, host[...] = host.ctypes.data, 1
    part = host[1]
    del host
    assert (part == 1).all()  # as long as there is a view
    del part
    again = empty_pinned((400,), np.float32)  # of the same power of two
    assert again.ctypes.data == address
    assert np.isnan(again).all()
    assert empty_pinned((300,), np.float32).ctypes.data != address


def test_a_copy_of_what_was_dropped_meanwhile_is_poisoned():
    empty_pinned = pretend_cupy.MODULES["cupyx"].empty_pinned
    host, stream = empty_pinned((300,), np.float32), XP.cuda.Stream(non_blocking=True)
    there = XP.ones(300, np.float32)
    with stream:
        there.get(out=host, blocking=False)
    del there
    stream.synchronize()
    assert np.isnan(host).all()
    host[...], there = 2, XP.ones(300, np.float32)
    with stream:
        there.set(host)
    del host
    stream.synchronize()
    assert np.isnan(there.get()).all()
