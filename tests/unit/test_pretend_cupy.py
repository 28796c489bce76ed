"""The pretended card refuses what a real one refuses."""

import numpy as np
import pytest

from tests import pretend_cupy
from tests.pretend_cupy import XP, RawKernel

HERE = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def there():
    pretend_cupy.use_device(0)
    return XP.asarray(HERE)


REFUSED = {
    "host + card": lambda there: HERE + there,
    "card += host": lambda there: there.__iadd__(HERE),
    "numpy ufunc": np.exp,
    "numpy function": np.concatenate,
    "numpy copy": np.asarray,
    "host to a function": lambda there: XP.where(there > 1, HERE, there),
    "host to a ufunc": lambda there: XP.exp(HERE),
    "host as index": lambda there: there[np.array([0, 1])],
    "host set": lambda there: there.__setitem__(slice(None), HERE),
    "where of a ufunc": lambda there: XP.add(there, there, where=there > 1),
    "python number to a kernel": lambda there: RawKernel("", "spread")((1,), (1,), (there, 3)),
}


@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED)
def test_what_a_card_refuses(there, use):
    with pytest.raises((TypeError, AssertionError)):
        use(there)


def test_kernels_are_given_contiguous_arrays(there):
    with pytest.raises(AssertionError, match="no strides"):
        RawKernel("", "spread")((1,), (1,), (there.T,))


def test_arrays_stay_on_their_device(there):
    pretend_cupy.use_device(1)
    with pytest.raises(RuntimeError, match="array of device 0 used on 1"):
        there + 1
    pretend_cupy.use_device(0)
    assert ((there + np.float32(1)).get() == HERE + 1).all()


def test_what_cupy_does_not_document_is_missing(there):
    with pytest.raises(AttributeError):
        XP.nanpercentile(there, 1)
    with pytest.raises(AssertionError, match="no mode median"):
        XP.pad(there, 1, mode="median")
