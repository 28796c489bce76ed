"""try_recon and sweeps on a GPU, pretended and real."""

from unittest.mock import Mock

import numpy as np
import pytest
import tifffile

from tests import pretend_cupy
from tests.out_of_memory import OUT_OF_MEMORY, Room
from tests.phantoms import write_scan
from tests.pretend_cupy import XP, CUDARuntimeError, failing
from tests.pretend_device import PretendDevice, cupy_is, in_place_of_cuda
from tests.step_calls import try_in
from tomopipe.errors import DeviceError, is_of_the_scan
from tomopipe.prep.half_acquisition import HalfAcquisition
from tomopipe.recon import cuda, portable
from tomopipe.recon.angular_sampling import unpaired
from tomopipe.recon.fbp import sweep
from tomopipe.recon.plan import make_plan
from tomopipe.stream import try_sweep as _sweep

COR_PX = 15.2


def _stack(truth, folder, device, **options):
    folder.mkdir()
    record = try_in(folder, truth.path, center_px=COR_PX, width_px=6, device=device, **options)
    assert "failed" not in record
    files = sorted(folder.glob("*.tif*"))
    return [tifffile.imread(path).astype(float) for path in files], record


@pytest.mark.parametrize(
    "options",
    [{}, {"format": "tiff", "row": [3, 5]}, {"half_acquisition": "yes"}],
    ids=["stack", "slices", "half acquisition"],
)
def test_a_gpu_gives_the_stack_of_the_cpu(tmp_path, monkeypatch, options, gpu):
    range_deg = 360 if "half_acquisition" in options else 180
    truth = write_scan(
        tmp_path / "s_1.h5", n_rows=7, n_cols=32, n_angles=40, phantom="rock", cor_px=COR_PX,
        dtype=np.uint16, counts=20000, theta_deg=np.arange(40) * range_deg / 40,
    )  # fmt: skip
    expected, record = _stack(truth, tmp_path / "cpu", "cpu", **options)
    plans = Mock(wraps=_sweep.plan_of)
    monkeypatch.setattr(_sweep, "plan_of", plans)
    with in_place_of_cuda(monkeypatch, _sweep, gpu):
        found, found_record = _stack(truth, tmp_path / "gpu", "cuda", **options)
    assert len(found) == len(expected)
    for image, other in zip(found, expected, strict=True):
        step_of_grey = 2 if image.max() > 1000 else 0
        np.testing.assert_allclose(image, other, atol=1e-4 * np.ptp(other) + step_of_grey)
    assert found_record["window"] == pytest.approx(record["window"], rel=1e-3)
    assert gpu.log == ["released"]  # one GPU, held from the first slice to the last
    assert plans.call_count == 1 + ("format" in options)


def test_a_sweep_transforms_its_sinogram_once(monkeypatch, xp):
    theta_rad = np.linspace(0, np.pi, 30, endpoint=False)
    sinogram = np.random.default_rng(0).normal(size=(30, 32)).astype(np.float32)
    cor_px = np.linspace(10, 20, 21)
    expected = sweep(sinogram, make_plan(theta_rad, 32), cor_px)
    transform = Mock(wraps=portable.padded_spectra)
    monkeypatch.setattr(portable, "padded_spectra", transform)
    found = sweep(xp.asarray(sinogram), make_plan(theta_rad, 32, xp=xp), cor_px).get()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))
    assert [call.args[0].shape for call in transform.call_args_list] == [(30, 32)]


def test_a_small_gpu_takes_fewer_slices_at_a_time(tmp_path, monkeypatch, gpu):
    truth = write_scan(tmp_path / "s_1.h5", n_rows=3, n_cols=32, n_angles=40, cor_px=COR_PX)
    room = Room(None, most=40)
    room.limit(monkeypatch, cuda, "reconstruct_batch", lambda rows, plan, cor_px, *_: len(cor_px))
    gpu.free_bytes = lambda: cuda.sweep_gpu_bytes(40, 32, 8)
    with in_place_of_cuda(monkeypatch, _sweep, gpu):
        _stack(truth, tmp_path / "gpu", "cuda")
    assert max(room.sizes) == 8


@pytest.mark.parametrize(
    ("kind", "where"),
    [*((kind, "kernels") for kind in OUT_OF_MEMORY), ("transform", "transform"), ("pool", "rows")],
)
@pytest.mark.parametrize("is_half", [False, True])
@pytest.mark.parametrize("n_before", [0, 16])
def test_whatever_says_that_memory_ran_out_each_cor_has_its_slice_once(
    monkeypatch, kind, where, is_half, n_before
):
    """From the beginning, or after a batch."""
    pretend_cupy.install(monkeypatch)
    theta_rad = np.arange(40) * np.pi * (1 + is_half) / 40
    sinogram = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)
    cor_px = np.linspace(10, 20, 37)
    half = HalfAcquisition(32, 15.0, unpaired(theta_rad))

    def slices(xp):
        plan = _sweep.plan_of(theta_rad, half, is_half, xp=xp)
        return _sweep.sweep_slices(xp.asarray(sinogram), plan, cor_px, (0.0, 0.0))

    expected = np.concatenate([np.array(images) for _, images in slices(np)])
    room = Room(OUT_OF_MEMORY[kind], most=16 if n_before else 4)
    place, name, n_of = {
        "kernels": (cuda, "reconstruct_batch", lambda rows, plan, cor_px, *_: len(cor_px)),
        "rows": (_sweep, "widen_for_each", lambda _, cor_px, *__: len(cor_px)),
        "transform": (pretend_cupy.MODULES["cupyx.scipy.fft"], "irfft2", len),
    }[where]
    room.limit(monkeypatch, place, name, n_of)
    found, next_cor = [], 0
    for batch, images in slices(XP):
        assert batch.start == next_cor
        next_cor = batch.stop
        room.most = 4
        found.append(images.get())
        assert len(found[-1]) == next_cor - batch.start
    assert next_cor == 37
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-4 * np.ptp(expected))
    if where != "rows" or is_half:
        assert room.sizes[: n_before // 16 + 3] == [16] * (n_before // 16) + [16, 8, 4]


@pytest.mark.parametrize(("share", "on_gpu"), [(0.99, False), (1.0, True)])
@pytest.mark.parametrize("format", ["stack", "tiff"])
def test_auto_takes_the_cpu_where_fewer_than_4_slices_fit(
    tmp_path, monkeypatch, caplog, share, on_gpu, format, gpu
):
    """Of slices of full size, if these are written; the stack's are half as wide."""
    truth = write_scan(tmp_path / "s_1.h5", n_rows=3, n_cols=64, n_angles=40, cor_px=COR_PX)
    free = int(share * cuda.sweep_gpu_bytes(40, 64 if format == "tiff" else 32, 4))
    made = Mock(wraps=cuda.reconstruct_batch)
    monkeypatch.setattr(cuda, "reconstruct_batch", made)
    gpu.free_bytes = lambda: free
    with in_place_of_cuda(monkeypatch, _sweep, gpu):
        _stack(truth, tmp_path / "auto", "auto", max_size_px=32, format=format)
        assert made.called == on_gpu
        assert gpu.log == ["released"]
        _stack(truth, tmp_path / "cuda", "cuda", max_size_px=32, format=format)
    assert made.called
    lines = [record.getMessage() for record in caplog.records if "auto uses" in record.msg]
    assert len(lines) == (not on_gpu)
    if lines:
        assert f"{free / 1e9:.3g} GB of {gpu.name} are free, and 4 slices take" in lines[0]


def test_a_gpu_that_is_not_there_is_no_fault_of_the_scan(tmp_path, monkeypatch):
    truth = write_scan(tmp_path / "s_1.h5", n_rows=3, n_cols=32, n_angles=40, cor_px=COR_PX)
    with (
        cupy_is(monkeypatch, None),
        pytest.raises(DeviceError, match="device: cpu") as caught,
    ):
        _stack(truth, tmp_path / "gpu", "cuda")
    assert not (tmp_path / "gpu" / "try.json").exists()
    assert not is_of_the_scan(caught.value)


@pytest.mark.parametrize("number", [0, 2], ids=["grey window", "stack"])
def test_a_gpu_that_fails_is_no_fault_of_the_scan(tmp_path, monkeypatch, number):
    truth = write_scan(tmp_path / "s_1.h5", n_rows=3, n_cols=32, n_angles=40, cor_px=COR_PX)
    error = CUDARuntimeError(719, "cudaErrorLaunchFailure: unspecified launch failure")
    with (
        in_place_of_cuda(monkeypatch, _sweep, PretendDevice()),
        failing("transform", number, error),
        pytest.raises(CUDARuntimeError, match="LaunchFailure"),
    ):
        _stack(truth, tmp_path / "gpu", "cuda")
    assert not (tmp_path / "gpu" / "try.json").exists()
