"""What a volume or a sweep takes of a GPU, and what is left of it where memory runs out.

Live bytes of a pretended GPU, rounded as CuPy's pool does, with the work areas of transforms.
"""

import h5py
import numpy as np
import pytest

from tests.corrections import EVERYTHING, KNOWN
from tests.phantoms import write_scan
from tests.pretend_cupy import ERRORS, CUDADriverError, CUDARuntimeError, CuFFTError, failing
from tests.pretend_device import PretendDevice, in_place_of_cuda
from tests.step_calls import full_recon as volume_of
from tomopipe.prep.half_acquisition import HalfAcquisition, plan_of
from tomopipe.recon import cuda
from tomopipe.recon.angular_sampling import unpaired
from tomopipe.recon.fbp import sweep_batches
from tomopipe.recon.plan import make_plan
from tomopipe.resources.memory import MemoryInputs, gpu_bytes
from tomopipe.steps import full_recon
from tomopipe.stream import fit_options as _fit
from tomopipe.stream.try_sweep import sweep_slices

pytestmark = pytest.mark.slow


@pytest.fixture(params=[False, True], ids=["kernels", "plain"])
def is_plain(request, monkeypatch):
    monkeypatch.setattr(cuda, "is_plain", request.param)
    return request.param


def _scan(path, n_angles, n_rows, n_cols, range_deg=180, cor_px=None):
    return write_scan(
        path / "s_1.h5", n_angles=n_angles, n_rows=n_rows, n_cols=n_cols, cor_px=cor_px,
        theta_deg=np.arange(n_angles) * range_deg / n_angles, dtype=np.uint16, counts=2e4,
    )  # fmt: skip


CORRECTED = {"corrections": EVERYTHING, "known": KNOWN}
CASES = {  # of projections, rows and columns
    "plain": ((180, 40, 128), {}),
    "few projections": ((40, 20, 160), {}),
    "many projections": ((700, 20, 64), {}),
    "small": ((31, 21, 32), {}),
    "binned": ((120, 70, 128), {"binning": 2}),
    "encoded": ((120, 40, 96), {"dtype": "uint16"}),
    "bytes, binned": ((90, 70, 128), {"dtype": "uint8", "binning": 2}),
    "corrected": ((90, 64, 96), CORRECTED),
    "corrected, binned, encoded": ((90, 64, 96), {**CORRECTED, "binning": 2, "dtype": "uint16"}),
    "360 degrees": ((180, 40, 96), {}),
    "half acquisition": ((180, 40, 64), {"half_acquisition": "yes"}),
    "vo": ((260, 40, 96), {"corrections": {"stripes": {"method": "vo"}}}),
    "gated": ((90, 40, 96), {"corrections": {"stripes": {"method": "gated"}}}),
}


def _peak_and_formula(monkeypatch, tmp_path, case):
    (n_angles, n_rows, n_cols), options = CASES[case]
    is_half = "half_acquisition" in options
    range_deg = 360 if is_half or "360" in case else 180
    cor_px = n_cols - 8 if is_half else n_cols / 2 + 1
    truth = _scan(tmp_path, n_angles, n_rows, n_cols, range_deg, cor_px)
    asked, gpu_batch = [], _fit.gpu_batch

    def batch(inputs, free_bytes):
        asked.append((inputs, gpu_batch(inputs, free_bytes)))
        return asked[-1][1]

    monkeypatch.setattr(_fit, "gpu_batch", batch)
    with in_place_of_cuda(monkeypatch, full_recon, PretendDevice()) as gpu:
        volume_of(truth.path, tmp_path / "v.h5", cor_px=cor_px, device="cuda", **options)
    (inputs, batch_size), *_ = asked
    assert batch_size == 16
    return gpu.memory.peak_bytes, gpu_bytes(inputs, min(batch_size, n_rows))


@pytest.mark.parametrize("case", CASES)
def test_a_volume_takes_no_more_of_a_gpu_than_the_formula_says(
    tmp_path, monkeypatch, case, is_plain
):
    peak, formula = _peak_and_formula(monkeypatch, tmp_path, case)
    assert (0.1 if is_plain else 0.3) * formula < peak < formula


@pytest.mark.parametrize("range_deg", [180, 360])
@pytest.mark.parametrize(("n_angles", "n_cols"), [(180, 128), (40, 160), (700, 64)])
def test_a_sweep_takes_no_more_of_a_gpu_than_the_formula_says(
    monkeypatch, n_angles, n_cols, range_deg, is_plain
):
    """Whatever the number of CORs; with their slices still being copied."""
    theta_rad = np.deg2rad(np.arange(n_angles) * range_deg / n_angles)
    for batch_size in (16, 4):
        with in_place_of_cuda(monkeypatch, full_recon, PretendDevice()) as gpu:
            xp = gpu.xp
            plan = make_plan(theta_rad, n_cols, xp=xp, batch_size=batch_size)
            sinogram = xp.ones((n_angles, n_cols), xp.float32)
            for _, images in sweep_batches(sinogram, plan, np.linspace(20, 40, 40)):
                images.get()
        formula = cuda.sweep_gpu_bytes(n_angles, n_cols, batch_size)
        assert (0.1 if is_plain else 0.25) * formula < gpu.memory.peak_bytes < formula


@pytest.mark.parametrize("n_angles", [180, 20_000])
def test_a_sweep_of_half_acquisition_takes_no_more_of_a_gpu_than_the_formula_says(
    monkeypatch, n_angles, is_plain
):
    """Of many projections most of it are widened sinograms."""
    theta_rad = np.deg2rad(np.arange(n_angles) * 360 / n_angles)
    half = HalfAcquisition(16, 12.0, unpaired(theta_rad))
    with in_place_of_cuda(monkeypatch, full_recon, PretendDevice()) as gpu:
        plan = plan_of(theta_rad, half, True, xp=gpu.xp)
        sinogram = gpu.xp.ones((n_angles, 16), gpu.xp.float32)
        for _, images in sweep_slices(sinogram, plan, np.linspace(10, 14, 16), (0.0, 0.0)):
            images.get()
    formula = cuda.sweep_gpu_bytes(n_angles, 32, plan.batch_size, is_half=True)
    assert (0.1 if is_plain else 0.25) * formula < gpu.memory.peak_bytes < formula


N_ANGLES, N_ROWS, N_COLS, COR_PX = 31, 21, 32, 15.2


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    truth = _scan(folder, N_ANGLES, N_ROWS, N_COLS, cor_px=COR_PX)
    volume_of(truth.path, folder / "cpu.h5", cor_px=COR_PX, device="cpu")
    return truth, _values(folder / "cpu.h5")


def _values(path):
    with h5py.File(path) as file:
        return file["exchange/data"][:]


@pytest.mark.parametrize("n", [8, 4, 2, 1])
def test_batches_fit_what_is_free(tmp_path, monkeypatch, caplog, small, n, is_plain):
    truth, expected = small
    formula = gpu_bytes(MemoryInputs(N_ANGLES, N_ROWS, N_COLS, itemsize=2), n)
    caplog.set_level("INFO")
    gpu = PretendDevice(free_bytes=int(formula / 0.79))
    with in_place_of_cuda(monkeypatch, full_recon, gpu):
        volume_of(truth.path, tmp_path / "v.h5", cor_px=COR_PX, device="cuda")
    assert f"{n} slices at a time" in caplog.text
    assert "out of memory" not in caplog.text
    assert gpu.memory.peak_bytes < formula
    np.testing.assert_allclose(_values(tmp_path / "v.h5"), expected, atol=1e-4 * np.ptp(expected))


def test_batches_shrink_where_other_jobs_take_the_memory_meanwhile(
    tmp_path, monkeypatch, caplog, small, gpu
):
    """What was free for 16 slices is not there any more."""
    truth, expected = small
    gpu.limit(gpu_bytes(MemoryInputs(N_ANGLES, N_ROWS, N_COLS, itemsize=2), 1))
    with in_place_of_cuda(monkeypatch, full_recon, gpu):
        volume_of(truth.path, tmp_path / "v.h5", cor_px=COR_PX, device="cuda")
    np.testing.assert_allclose(_values(tmp_path / "v.h5"), expected, atol=1e-4 * np.ptp(expected))
    assert caplog.text.count("out of memory") >= 2


def _volume_with(monkeypatch, truth, path, kind, number, error=None):
    """Make the volume with one call that fails; return how many were called."""
    gpu = PretendDevice()
    with in_place_of_cuda(monkeypatch, full_recon, gpu), failing(kind, number, error) as calls:
        volume_of(truth.path, path, cor_px=COR_PX, device="cuda")
    return len(calls)


@pytest.fixture
def rows_put(monkeypatch):
    """The rows of the volume, as they are given to who writes it."""
    run, noted = full_recon.run, []

    def run_and_note(task, source, blocks, put):
        def note(first, slices, *others):
            noted.extend(range(first, first + len(slices.slices)))
            put(first, slices, *others)

        run(task, source, blocks, note)

    monkeypatch.setattr(full_recon, "run", run_and_note)
    return noted


@pytest.mark.parametrize(
    ("kind", "error"), [*((kind, None) for kind in ERRORS), ("memory", MemoryError())]
)
def test_whichever_call_runs_out_of_memory_each_slice_is_written_once_and_right(
    tmp_path, monkeypatch, divide, small, rows_put, kind, error
):
    """Calls of each kind from the first to the last batch; of the host's memory, too."""
    divide(4, 8)
    truth, expected = small
    path = tmp_path / "v.h5"
    n = _volume_with(monkeypatch, truth, path, kind, -1)
    assert n > 10
    for number in range(0, n, -(-n // (12 if error is None else 5))):
        path.unlink()
        rows_put.clear()
        assert _volume_with(monkeypatch, truth, path, kind, number, error) > number
        np.testing.assert_allclose(_values(path), expected, atol=1e-4 * np.ptp(expected))
        assert rows_put == list(range(N_ROWS))


@pytest.mark.parametrize(
    ("kind", "error"),
    [("pinned", CUDARuntimeError(46, "cudaErrorDevicesUnavailable: busy")),
     ("launch", CUDADriverError(719, "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure")),
     ("transform", CuFFTError(6, "CUFFT_EXEC_FAILED"))],
)  # fmt: skip
@pytest.mark.parametrize("number", [0, 1, 2, 5, 8])
def test_another_error_is_raised_and_nothing_is_left(
    tmp_path, monkeypatch, divide, small, kind, error, number
):
    divide(4, 8)
    with pytest.raises(type(error)) as caught:
        _volume_with(monkeypatch, small[0], tmp_path / "v.h5", kind, number, error)
    assert caught.value is error
    assert not [*tmp_path.iterdir()]
