import importlib
import logging
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from tests import cuda_on_cpu, pretend_cupy
from tests.pretend_cupy import XP
from tomopipe.errors import DeviceError, is_of_the_scan
from tomopipe.recon import array, cuda
from tomopipe.recon.array import claimed_gpu
from tomopipe.storage import run_folder

FFT = pretend_cupy.MODULES["cupyx.scipy.fft"]


@pytest.fixture(autouse=True)
def _choose_anew(monkeypatch, tmp_path):
    pretend_cupy.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "cupy", XP)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # of the locks
    monkeypatch.setattr(array, "DRIVER", tmp_path)
    monkeypatch.setattr(cuda, "is_plain", False)
    _forget()
    yield
    _forget()


def _forget():
    array.array_module.cache_clear()
    array.gpu_fault.cache_clear()


def warnings_in(caplog):
    """The level is that of earlier tests: others may be there."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def _raise(kind, text):
    def fail(*_, **__):
        raise kind(text)

    return fail


def _times(factor, name="rfft"):
    transform = getattr(FFT, name)
    return lambda *args, **kwargs: transform(*args, **kwargs) * np.float32(factor)


NO_CUFFT = _raise(ImportError, "libcufft.so.11: cannot open shared object file")
FAULTS = {  # what is broken, by what, and the cause that is named
    "driver": (XP.cuda.runtime, "getDeviceCount",
               _raise(RuntimeError, "cudaErrorInsufficientDriver: CUDA driver version is"),
               "driver is too old"),
    "compiler": (XP, "zeros",
                 _raise(RuntimeError, "failed to load libnvrtc.so.12:\n no such file"),
                 "library is missing .*libnvrtc.so.12: no such"),
    "rfft": (FFT, "rfft", NO_CUFFT, "library is missing .*libcufft.so.11"),
    "values": (FFT, "rfft", _times(1.0003), "differs from the CPU's by 0.0003 of"),
    "no values": (FFT, "rfft", _times(np.nan), "differs from the CPU's by nan"),
}  # fmt: skip


NO_KERNELS = {
    "not compiled": (cuda_on_cpu.RawKernel, "__call__",
                     _raise(RuntimeError, "invalid value for --gpu-architecture (-arch)"),
                     "RuntimeError: invalid value"),
    "wrong": (FFT, "irfft2", _times(1.0003, "irfft2"), "differs from the CPU's by 0.0003 of"),
    "no irfft2": (FFT, "irfft2", NO_CUFFT, "libcufft.so.11"),
}  # fmt: skip


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize(("module", "name", "broken", "cause"), NO_KERNELS.values(), ids=NO_KERNELS)
def test_where_own_kernels_fail_plain_operations_take_their_place_with_one_warning(
    monkeypatch, caplog, device, module, name, broken, cause
):
    monkeypatch.setattr(module, name, broken)
    for _ in range(2):
        assert array.array_module(device) is XP
    (record,) = warnings_in(caplog)
    assert cause in record.message
    assert "ten times slower" in record.message
    assert cuda.is_plain


@pytest.mark.parametrize(("module", "name", "broken", "cause"), FAULTS.values(), ids=FAULTS)
def test_a_gpu_that_cannot_reconstruct_is_left_with_one_warning(
    monkeypatch, caplog, module, name, broken, cause
):
    monkeypatch.setattr(module, name, broken)
    for _ in range(2):
        assert array.array_module("auto") is np
    (record,) = warnings_in(caplog)
    with pytest.raises(DeviceError, match=f"{cause}.*gpu-cuda12.*device: cpu") as caught:
        array.array_module("cuda")
    assert not cuda.is_plain
    assert not is_of_the_scan(caught.value)
    text = str(caught.value).partition("no GPU can be used: ")[2]
    assert text in record.message
    assert array.array_module("cpu") is np
    assert (XP.ones(2) + 1).get().sum() == 4  # its first device is the current one


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize("factor", [1, 1.00008])
def test_a_gpu_within_the_tolerance_is_taken(monkeypatch, caplog, device, factor):
    monkeypatch.setattr(FFT, "rfft", _times(factor))
    assert array.array_module(device) is XP
    assert array.array_module("cpu") is np
    assert not warnings_in(caplog)
    assert not cuda.is_plain


def test_one_slice_is_made_once_per_process(monkeypatch):
    sizes, irfft2 = [], FFT.irfft2
    monkeypatch.setattr(
        FFT, "irfft2", lambda half, **kwargs: [sizes.append(len(half)), irfft2(half, **kwargs)][1]
    )
    for device in ("auto", "cuda", "auto"):
        array.array_module(device)
    assert sizes == [1]


NO_DEVICE = _raise(RuntimeError, "cudaErrorNoDevice: no CUDA-capable device is detected")
NONE = {
    "0 devices": (XP.cuda.runtime, "getDeviceCount", lambda: 0),
    "none allotted": (XP.cuda.runtime, "getDeviceCount", NO_DEVICE),
    "no driver": (*FAULTS["driver"][:3],),
    "no CuPy": (importlib, "import_module",
                _raise(ModuleNotFoundError, "No module named 'cupy'")),
}  # fmt: skip


@pytest.mark.parametrize(("module", "name", "broken"), NONE.values(), ids=NONE)
def test_without_a_gpu_there_is_nothing_to_warn_of(
    monkeypatch, caplog, tmp_path, module, name, broken
):
    monkeypatch.setattr(array, "DRIVER", tmp_path / "none")
    monkeypatch.setattr(module, name, broken)
    assert array.array_module("auto") is np
    assert not warnings_in(caplog)
    with pytest.raises(DeviceError, match="device: cpu"):
        array.array_module("cuda")


def test_a_gpu_without_room_is_busy_not_broken(monkeypatch):
    monkeypatch.setitem(pretend_cupy.LARGEST_BYTES, 0, 10)
    assert array.array_module("auto") is XP


@pytest.mark.parametrize("n_taken", [1, 2])
def test_the_slice_is_made_where_no_other_job_computes_and_waits_for_none(
    monkeypatch, tmp_path, n_taken
):
    monkeypatch.setattr(XP.cuda.runtime, "getDeviceCount", lambda: 2)
    devices, irfft2 = [], FFT.irfft2
    monkeypatch.setattr(
        FFT,
        "irfft2",
        lambda half, **kwargs: [devices.append(half.device), irfft2(half, **kwargs)][1],
    )
    with claimed_gpu(XP):
        if n_taken == 1:
            assert array.array_module("auto") is XP
        else:
            with claimed_gpu(XP):
                assert array.array_module("auto") is XP
                assert pretend_cupy.current_device() == 1  # as before
    pretend_cupy.use_device(0)
    assert devices == [n_taken % 2]


def test_of_the_jobs_of_a_run_one_warns(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(FFT, "rfft", NO_CUFFT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(run_folder.VARIABLE, str(run_folder.begin(tmp_path)))
    for _ in range(3):  # jobs
        array.array_module("auto")
        _forget()
    assert len(warnings_in(caplog)) == 1


def test_unknown_device_is_refused():
    with pytest.raises(ValueError, match="gpu"):
        array.array_module("gpu")


def _cupy(names):
    used = []

    class Device:
        def __init__(self, number):
            self.number = number

        def use(self):
            used.append(self.number)

    runtime = SimpleNamespace(
        getDeviceCount=lambda: len(names), deviceGetPCIBusId=lambda number: names[number]
    )
    cuda = SimpleNamespace(Device=Device, runtime=runtime)
    return SimpleNamespace(cuda=cuda, used=used)


def test_each_job_gets_a_gpu_of_its_own(tmp_path, monkeypatch, caplog):
    """Whatever the numbers are by which a job knows them, as CUDA_VISIBLE_DEVICES makes them."""
    monkeypatch.setattr(array, "POLL_S", 0.01)
    both, swapped = _cupy(["0000:01:00.0", "0000:02:00.0"]), _cupy(["0000:02:00.0", "0000:01:00.0"])
    got = []

    def third():
        with claimed_gpu(both, tmp_path):
            got.append(both.used[-1])

    with claimed_gpu(both, tmp_path):
        with claimed_gpu(swapped, tmp_path):
            assert both.used == [0]
            assert swapped.used == [0]
            waiting = threading.Thread(target=third)
            waiting.start()
            waiting.join(0.1)
            assert waiting.is_alive()
            assert "hold all 2" in caplog.text
        waiting.join(60)
    assert got == [1]  # the one that was given back first
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tomopipe-gpu-0000-01-00.0.lock",
        "tomopipe-gpu-0000-02-00.0.lock",
    ]


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "tomopipe-gpu-a.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"gpu-a\.lock"), claimed_gpu(_cupy(["a"]), tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_job_takes_a_gpu_that_is_free(tmp_path):
    cupy = _cupy(["a", "b"])
    with claimed_gpu(cupy, tmp_path) as first:
        assert first.name == "GPU a"
        with claimed_gpu(cupy, tmp_path) as second:
            assert second.name == "GPU b"
        with claimed_gpu(cupy, tmp_path) as again:
            assert again.name == "GPU b"
    assert cupy.used[0] == 0
