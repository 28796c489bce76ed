"""What the host waits for while a GPU computes: each call of CuPy that waits is counted."""

from collections import Counter

import numpy as np
import pytest

from tests import pretend_cupy
from tests.corrections import EVERYTHING, KNOWN, SHIFTS
from tests.phantoms import write_scan
from tests.pretend_device import PretendDevice, in_place_of_cuda
from tests.step_calls import full_recon as volume_of
from tomopipe.config.stripe_filters import STRIPE_FILTERS
from tomopipe.recon.transfer import DeviceTransfer
from tomopipe.steps import full_recon
from tomopipe.stream import fit_options, recon_task

pytestmark = pytest.mark.slow

N_ANGLES, N_COLS, N_ROWS = 31, 32, 14  # four batches, the last one of two rows
CASES = {
    "plain": {},
    "floats": {"dtype_of_raw": np.float32},
    "several steps": {"gpu_bytes": 4 * 8 * 4 * N_COLS},
    "binned": {"binning": 2},
    "encoded": {"dtype": "uint16"},
    "360 degrees": {"turn_deg": 360},
    "some missing of 360 degrees": {"turn_deg": 330},
    "half acquisition": {"turn_deg": 360, "cor_px": 5.2},
    "corrections": {"corrections": EVERYTHING, "known": KNOWN},
    "binned corrections": {"corrections": EVERYTHING, "known": KNOWN, "binning": 2},
    "shifts": {"corrections": SHIFTS},
    "shifts in a roll": {"corrections": SHIFTS | {"roll_deg": 1.0}},
    **{
        f"stripes {name}": {"corrections": {"stripes": {"method": name}}} for name in STRIPE_FILTERS
    },
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_host_waits_for_nothing_within_a_batch(tmp_path, monkeypatch, divide, case):
    """In the thread that computes, after the first batch; the upload and the writer have theirs."""
    options = {"cor_px": 15.2} | case
    turn_deg = options.pop("turn_deg", 180)
    truth = write_scan(
        tmp_path / "s.h5", n_rows=N_ROWS, n_cols=N_COLS, n_angles=N_ANGLES, counts=2e4,
        cor_px=options["cor_px"], dtype=options.pop("dtype_of_raw", np.uint16),
        theta_deg=np.linspace(0, turn_deg, N_ANGLES),
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    np.savetxt(SHIFTS["shifts"], np.random.default_rng(0).uniform(-2, 2, (N_ANGLES, 2)))
    batches, n_before = [], len(pretend_cupy.waits())

    class WaitCount(DeviceTransfer):
        def computing(self, uploaded):
            batches.append(-len(pretend_cupy.waits()))
            return super().computing(uploaded)

        def download(self, arrays):
            result = super().download(arrays)
            batches[-1] = pretend_cupy.waits()[-batches[-1] :]
            return result

    height = 4 * options.get("binning", 1)
    divide(4, height)
    monkeypatch.setattr(fit_options, "DeviceTransfer", WaitCount)
    if "gpu_bytes" in options:
        monkeypatch.setattr(recon_task, "GPU_CORRECT_BYTES", options.pop("gpu_bytes"))
    with in_place_of_cuda(monkeypatch, full_recon, PretendDevice()):
        volume_of(truth.path, tmp_path / "v.h5", device="cuda", **options)
    assert len(batches) == -(-N_ROWS // height) > 1
    assert len(pretend_cupy.waits()) > n_before  # what all batches need was sent
    assert [Counter(waits) for waits in batches[1:]] == [{}] * (len(batches) - 1)
