import contextlib
import importlib
import logging
import os
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests import cuda_on_cpu, pretend_cupy
from tests.out_of_memory import errors
from tests.pretend_cupy import XP
from tests.pretend_device import cupy_is
from tomopipe.errors import DeviceError, is_of_the_scan
from tomopipe.recon import cuda
from tomopipe.recon import gpu as of_gpu
from tomopipe.recon.device import array_module, gpu_fault, held_gpu
from tomopipe.recon.gpu import claimed_gpu, out_of_memory
from tomopipe.storage import run_folder

FFT = pretend_cupy.MODULES["cupyx.scipy.fft"]


@pytest.fixture
def driver(tmp_path_factory):
    """What is there where a driver is."""
    return tmp_path_factory.mktemp("driver")


@pytest.fixture(autouse=True)
def _choose_anew(monkeypatch, tmp_path, driver):
    pretend_cupy.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "cupy", XP)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # of the locks
    monkeypatch.setattr("tomopipe.recon.device.DRIVER", driver)
    monkeypatch.setattr(cuda, "is_plain", False)
    _forget()
    yield
    _forget()


def _forget():
    array_module.cache_clear()
    gpu_fault.cache_clear()


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
        assert array_module(device) is XP
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
        assert array_module("auto") is np
    (record,) = warnings_in(caplog)
    with pytest.raises(DeviceError, match=f"{cause}.*gpu-cuda12.*device: cpu") as caught:
        array_module("cuda")
    assert not cuda.is_plain
    assert not is_of_the_scan(caught.value)
    text = str(caught.value).partition("no GPU can be used: ")[2]
    assert text in record.message
    assert array_module("cpu") is np
    assert (XP.ones(2) + 1).get().sum() == 4  # its first device is the current one


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize("factor", [1, 1.00008])
def test_a_gpu_within_the_tolerance_is_taken(monkeypatch, caplog, device, factor):
    monkeypatch.setattr(FFT, "rfft", _times(factor))
    assert array_module(device) is XP
    assert array_module("cpu") is np
    assert not warnings_in(caplog)
    assert not cuda.is_plain


@pytest.fixture
def transformed(monkeypatch):
    """What is transformed back to slices: how many, and on which GPU."""
    noted, irfft2 = [], FFT.irfft2

    def note(half, **kwargs):
        noted.append((len(half), half.device))
        return irfft2(half, **kwargs)

    monkeypatch.setattr(FFT, "irfft2", note)
    return noted


def test_one_slice_is_made_once_per_process(transformed):
    for device in ("auto", "cuda", "auto"):
        array_module(device)
    assert transformed == [(1, 0)]


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
    monkeypatch, caplog, driver, module, name, broken
):
    driver.rmdir()
    monkeypatch.setattr(module, name, broken)
    assert array_module("auto") is np
    assert not warnings_in(caplog)
    with pytest.raises(DeviceError, match="device: cpu") as refused:
        array_module("cuda")
    assert "ModuleNotFound" not in str(refused.value)


def test_a_gpu_without_room_is_busy_not_broken(monkeypatch):
    monkeypatch.setitem(pretend_cupy.MEMORY, 0, pretend_cupy.Memory(free_bytes=1000))
    assert array_module("auto") is XP


@pytest.mark.parametrize("n_taken", [1, 2])
def test_the_slice_is_made_where_no_other_job_computes_and_waits_for_none(
    monkeypatch, transformed, n_taken
):
    _devices(monkeypatch, 8, 8)
    with claimed_gpu(XP):
        if n_taken == 1:
            assert array_module("auto") is XP
        else:
            with claimed_gpu(XP):
                assert array_module("auto") is XP
                assert pretend_cupy.current_device() == 1  # as before
    pretend_cupy.use_device(0)
    assert transformed == [(1, n_taken % 2)]


def test_of_the_jobs_of_a_run_one_warns(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(FFT, "rfft", NO_CUFFT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(run_folder.VARIABLE, str(run_folder.begin(tmp_path)))
    for _ in range(3):  # jobs
        array_module("auto")
        _forget()
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("where", ["memGetInfo", "use"])
@pytest.mark.parametrize("error", [errors()["runtime"], RuntimeError("another fault")], ids=str)
def test_auto_takes_the_cpu_where_cuda_itself_has_no_room(monkeypatch, caplog, where, error):
    array_module("auto")  # there was room when the process began
    module = {"memGetInfo": XP.cuda.runtime, "use": pretend_cupy.Device}[where]

    def fail(*_):
        raise error

    monkeypatch.setattr(module, where, fail)
    for device in ("auto", "cuda"):
        if device == "auto" and out_of_memory(error):
            with held_gpu(device, 10**9) as gpu:
                assert gpu is None
            continue
        with pytest.raises(RuntimeError, match=str(error)), held_gpu(device, 10**9):
            pass
    assert len(warnings_in(caplog)) == out_of_memory(error)


@pytest.mark.parametrize(
    ("cuda", "capability", "needs"),
    [(13000, (7, 0), True), (13010, (6, 1), True), (12090, (7, 0), False), (13000, (7, 5), False)],
)
def test_a_v100_is_said_to_need_cuda_12(monkeypatch, caplog, cuda, capability, needs):
    gpu = {"name": b"Tesla V100-SXM2-32GB", "uuid": b"1"}
    gpu |= dict(zip(("major", "minor"), capability, strict=True))
    monkeypatch.setattr(XP.cuda.runtime, "getDeviceProperties", lambda _: gpu)
    monkeypatch.setattr(XP.cuda.runtime, "runtimeGetVersion", lambda: cuda)
    assert array_module("auto") is (np if needs else XP)
    assert bool(warnings_in(caplog)) == needs
    if needs:
        words = r"Tesla V100-SXM2-32GB \(sm_\d\d\) needs CUDA 12.*gpu-cuda12"
        with pytest.raises(DeviceError, match=words):
            array_module("cuda")


def _devices(monkeypatch, *free_gb, cuda=12090, capability=((8, 0),) * 3):
    """Pretend a machine with several GPUs."""
    for number, free in enumerate(free_gb):
        memory = pretend_cupy.Memory(free_bytes=int(free * 1e9))
        monkeypatch.setitem(pretend_cupy.MEMORY, number, memory)

    def properties(number):
        major, minor = capability[number]
        return {"name": b"GPU", "major": major, "minor": minor, "uuid": bytes([number + 1] * 16)}

    monkeypatch.setattr(XP.cuda.runtime, "getDeviceCount", lambda: len(free_gb))
    monkeypatch.setattr(XP.cuda.runtime, "getDeviceProperties", properties)
    monkeypatch.setattr(XP.cuda.runtime, "runtimeGetVersion", lambda: cuda)


def _taken(n_jobs, least_bytes=10**9, device="auto"):
    """Return the GPUs of jobs that run at the same time; None: the CPU."""
    with contextlib.ExitStack() as stack:
        held = [held_gpu(device, least_bytes, wait=False) for _ in range(n_jobs)]
        return [gpu and gpu.name[-6] for gpu in map(stack.enter_context, held)]


def test_a_volume_that_follows_another_takes_its_gpu(monkeypatch, tmp_path):
    """If it is free and has room."""
    monkeypatch.setattr(of_gpu, "volumes_follow", True)
    monkeypatch.setattr(of_gpu, "_before", [])
    with cupy_is(monkeypatch, XP):
        _devices(monkeypatch, 2, 8, 4)
        assert _taken(1) == ["1"]
        _devices(monkeypatch, 9, 7, 8)
        assert _taken(1) == ["1"]
        assert _taken(1, 7.5e9) == ["0"]
        assert _taken(2) == ["0", "2"]


def test_the_roomiest_free_gpu_comes_first(monkeypatch):
    _devices(monkeypatch, 2, 8, 4)
    assert _taken(4) == ["1", "2", "0", None]


def test_only_gpus_that_are_too_small_are_passed_over(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    _devices(monkeypatch, 8, 1, 6)
    assert _taken(3, 5 * 10**9) == ["0", "2", None]
    assert "GPU 0000:01:00.0 is passed over: 1 GB are free, and 5 are needed" in caplog.text
    caplog.clear()
    assert _taken(1, 9 * 10**9) == [None]
    assert "8 GB of GPU 0000:00:00.0 are free, and 4 slices take 9 GB" in caplog.text
    assert _taken(1, 9 * 10**9, "cuda") == ["0"]  # in smaller batches


def test_a_job_waits_for_a_gpu_with_room_beside_a_small_one(monkeypatch):
    monkeypatch.setattr("tomopipe.recon.gpu.POLL_S", 0.01)
    _devices(monkeypatch, 8, 1)
    names = []

    def second():
        with held_gpu("auto", 5 * 10**9) as gpu:
            names.append(gpu.name)

    with held_gpu("auto", 5 * 10**9):
        job = threading.Thread(target=second)
        job.start()
        job.join(0.1)
        assert job.is_alive()
    job.join(60)
    assert names == ["GPU 0000:00:00.0"]


def test_only_gpus_that_are_too_old_are_passed_over(monkeypatch, caplog):
    _devices(monkeypatch, 8, 4, cuda=13000, capability=((7, 0), (8, 0)))
    assert array_module("auto") is XP
    assert _taken(2) == ["1", None]
    assert "needs CUDA 12" not in caplog.text


def test_a_gpu_that_does_not_answer_is_passed_over(monkeypatch):
    """It has failed, or is in the exclusive use of another program."""
    _devices(monkeypatch, 4, 8)
    use = pretend_cupy.Device.use

    def fails(device):
        if device._device == 1:
            raise RuntimeError("cudaErrorDevicesUnavailable: all devices are busy")
        use(device)

    array_module("auto")
    monkeypatch.setattr(pretend_cupy.Device, "use", fails)
    assert _taken(2) == ["0", None]


def test_the_driver_tells_the_room_without_a_context_on_each_gpu(monkeypatch, tmp_path):
    _devices(monkeypatch, 9, 9, 9)
    array_module("auto")
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    lines = "00000000:00:00.0, 1000", "00000000:01:00.0, 3000", "00000000:02:00.0, 9000"
    smi.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(smi.parent), prepend=os.pathsep)
    used, use = [], pretend_cupy.Device.use
    monkeypatch.setattr(
        pretend_cupy.Device, "use", lambda gpu: (used.append(gpu._device), use(gpu))
    )
    with held_gpu("auto", 10**9) as gpu:
        assert gpu.name == "GPU 0000:02:00.0"
        assert set(used) == {2}
    smi.write_text("#!/bin/sh\necho failed; exit 9\n")
    assert _taken(1) == ["0"]


@pytest.mark.parametrize("visible", ["", "2,3"])
def test_the_gpus_that_are_allotted_are_named(monkeypatch, caplog, visible):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if visible:
        _devices(monkeypatch, 2, 8)
        with held_gpu("cuda", 0):
            assert "number 1 of 2 (CUDA_VISIBLE_DEVICES is 2,3)" in caplog.text
    monkeypatch.setattr(XP.cuda.runtime, "getDeviceCount", NO_DEVICE)
    _forget()
    with pytest.raises(DeviceError, match=rf"CUDA_VISIBLE_DEVICES is {visible or 'empty'}\)"):
        array_module("cuda")


CUPY = """
import os, types
folder = os.environ.get("CUPY_CACHE_DIR", os.path.expanduser("~/.cupy/kernel_cache"))
os.makedirs(folder, exist_ok=True)  # as CuPy does
cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=lambda: 0))
"""


@pytest.fixture
def empty_cupy(tmp_path, monkeypatch):
    (tmp_path / "cupy.py").write_text(CUPY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("planted", [None, "link", "open folder", "folder of another user"])
@pytest.mark.usefixtures("empty_cupy")
def test_a_home_that_cannot_be_written_is_no_fault_of_the_gpu(tmp_path, monkeypatch, planted):
    (tmp_path / "home").touch()  # no folder: neither can root write there
    if planted == "folder of another user":
        monkeypatch.setattr("os.getuid", lambda: 4321)
    usual = tmp_path / f"tomopipe-cupy-{os.getuid()}"
    if planted == "link":
        usual.symlink_to(tmp_path / "elsewhere")
    elif planted:
        usual.mkdir()
        usual.chmod(0o777 if planted == "open folder" else 0o700)
    monkeypatch.setenv("CUPY_CACHE_DIR", "")  # to be restored
    monkeypatch.delenv("CUPY_CACHE_DIR")
    assert gpu_fault() == ("CuPy found no device", False)
    folder = Path(os.environ["CUPY_CACHE_DIR"])
    assert folder.parent == tmp_path
    assert (folder == usual) == (planted is None)
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("is_set", [True, False])
@pytest.mark.usefixtures("empty_cupy")
def test_kernels_are_kept_where_the_user_has_them(tmp_path, monkeypatch, is_set):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "own"))
    if not is_set:
        monkeypatch.delenv("CUPY_CACHE_DIR")
    gpu_fault()
    assert (tmp_path / "own").exists() == is_set
    assert (tmp_path / "home/.cupy/kernel_cache").exists() != is_set
    assert ("CUPY_CACHE_DIR" in os.environ) == is_set
