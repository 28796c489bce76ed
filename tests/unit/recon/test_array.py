import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tomopipe import arrays
from tomopipe.errors import TomopipeError
from tomopipe.recon import array


@pytest.fixture(autouse=True)
def _choose_anew():
    array.array_module.cache_clear()
    yield
    array.array_module.cache_clear()


def fake_cupy(n_devices):
    def count():
        if n_devices is None:
            raise RuntimeError("driver too old")
        return n_devices

    return SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count)))


@pytest.mark.parametrize("n_devices", [0, None])
def test_without_a_device_auto_is_numpy_and_cuda_an_error(monkeypatch, n_devices):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(n_devices))
    assert array.array_module("auto") is np
    assert array.array_module("cpu") is np
    with pytest.raises(TomopipeError, match="device: cpu"):
        array.array_module("cuda")


def test_with_a_device_auto_is_cupy(monkeypatch):
    cupy = fake_cupy(1)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert array.array_module("auto") is cupy
    assert array.array_module("cuda") is cupy
    assert array.array_module("cpu") is np


def test_unknown_device_is_refused():
    with pytest.raises(ValueError, match="gpu"):
        array.array_module("gpu")


def test_on_host_copies_from_the_device_only():
    array = np.arange(3)
    assert arrays.on_host(array) is array
    assert arrays.on_host(SimpleNamespace(get=lambda: array)) is array


def test_module_of_an_array():
    assert arrays.module_of(np.arange(3)) is np
