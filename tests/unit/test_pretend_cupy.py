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


def test_kernels_are_given_contiguous_arrays(there):
    with pytest.raises(AssertionError, match="no strides"):
        _reverse(there.T, np.int32(6))


def test_arrays_stay_on_their_device(there):
    pretend_cupy.use_device(1)
    with pytest.raises(RuntimeError, match="array of device 0 used on 1"):
        there + 1
    pretend_cupy.use_device(0)
    assert ((there + np.float32(1)).get() == HERE + 1).all()


def test_a_refusal_names_the_function_and_its_parameters(there):
    with pytest.raises(TypeError, match=r"cupy\.ndarray\.max.*keepdims.*'initial'"):
        there.max(initial=0)


def test_what_cupy_does_not_document_is_missing(there):
    with pytest.raises(KeyError):
        pretend_cupy.bound("cupy.nanpercentile", np.nanpercentile)
    with pytest.raises(AttributeError):
        XP.nanpercentile(there, 1)
    with pytest.raises(AssertionError, match="no mode median"):
        XP.pad(there, 1, mode="median")


def test_memory_is_counted_as_the_pool_of_cupy_does(monkeypatch):
    """Arrays once, with all their views, in units of 512 bytes, until the last one is gone."""
    memory = pretend_cupy.Memory(free_bytes=3000)
    monkeypatch.setitem(pretend_cupy.MEMORY, 0, memory)
    there = XP.zeros(100, np.uint8)
    view = there[3:]
    assert memory.live_bytes == 512
    more = XP.zeros(600, np.uint8)
    assert XP.cuda.runtime.memGetInfo()[0] == 3000 - 1536
    with pytest.raises(pretend_cupy.OutOfMemoryError, match=r"1,536 bytes \(.*1,536"):
        XP.zeros(1025, np.uint8)
    del more, there
    assert memory.live_bytes == 512
    del view
    assert (memory.live_bytes, memory.peak_bytes) == (0, 1536)


def test_transforms_keep_memory_until_their_plans_are_cleared(monkeypatch):
    memory = pretend_cupy.Memory()
    monkeypatch.setitem(pretend_cupy.MEMORY, 0, memory)
    rows = XP.ones((4, 256), np.float32)
    for _ in range(2):  # the second time with the same plan
        RFFT(rows)
        assert memory.live_bytes == 4096 + 4608
    XP.fft.config.get_plan_cache().clear()
    assert memory.live_bytes == 4096


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


KINDS = {
    "memory": lambda there: there + 1,
    "pinned": lambda there: pretend_cupy.MODULES["cupyx"].empty_pinned((3,), "u1"),
    "launch": lambda there: _reverse(there, np.int32(6)),
    "transform": RFFT,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_call_that_a_test_names_fails_as_cupy_does(there, kind):
    assert set(KINDS) == set(pretend_cupy.ERRORS)
    error = pretend_cupy.ERRORS[kind]
    with pretend_cupy.failing(kind, 1) as calls:
        KINDS[kind](there)
        with pytest.raises(error, match=r"(?i)out.of.memory|ALLOC_FAILED") as caught:
            KINDS[kind](there)
        KINDS[kind](there)
    assert len(calls) == 3
    assert error.__module__.startswith("cupy")
    assert kind == "memory" or 2 in vars(caught.value).values()
