"""The pretended GPU refuses what a real one refuses."""

import numpy as np
import pytest

from tests import cuda_on_cpu, pretend_cupy
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


@pytest.mark.parametrize("backwards", [False, True])
def test_kernels_change_the_arrays_of_the_gpu(there, monkeypatch, backwards):
    monkeypatch.setattr(cuda_on_cpu, "BACKWARDS", backwards)
    _reverse(there, np.int32(6))
    assert (there.get().ravel() == HERE.ravel()[::-1]).all()


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
