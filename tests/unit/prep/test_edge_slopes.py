"""Edge slopes: against the line integrals of disks."""

import h5py
import numpy as np
import pytest
import tifffile

from tests.phantoms import write_scan
from tests.step_calls import full_recon, try_recon
from tomopipe.arrays import theil_sen
from tomopipe.config import PreprocessBlock
from tomopipe.prep.correct import corrections_of
from tomopipe.prep.edge_slopes import edge_slopes_of, measure_edge_slopes
from tomopipe.scans.exchange import open_scan
from tomopipe.simulate.phantom import Ellipsoid
from tomopipe.volumes import tiff

pytestmark = pytest.mark.slow

MU = 0.003
N_COLS, N_ROWS, COR_PX = 128, 40, 63.5
WIDE = Ellipsoid(0.0, 0.0, 20.0, 96.0, 96.0, 4000.0, 0.0, MU)  # 1.5 times the detector
GRAIN = Ellipsoid(-20.0, 9.0, 20.0, 8.0, 8.0, 4000.0, 0.0, 2 * MU)


def _true_slope(radius_px, edge_px):
    return edge_px / (radius_px**2 - edge_px**2)


def _disk(n_cols, radius_px, cor_px):
    return np.sqrt(radius_px**2 - (np.arange(n_cols) - cor_px) ** 2)


@pytest.mark.parametrize("n_cols", [64, 129, 2048])
@pytest.mark.parametrize("share", [0.6, 0.8, 1.2])
def test_a_disk_falls_as_its_radius_says(n_cols, share):
    # near the disk's rim the ellipse is steeper at the edge than over a twentieth of the columns
    slopes = edge_slopes_of(_disk(n_cols, share * n_cols, (n_cols - 1) / 2))
    expected = [_true_slope(share * n_cols, n_cols / 2)] * 2
    assert slopes == pytest.approx(expected, rel=0.25 if share == 0.6 else 0.1)


def test_each_side_has_its_own():
    left, right = edge_slopes_of(_disk(200, 130, 90))
    assert left == pytest.approx(_true_slope(130, 90.5), rel=0.15)
    assert right == pytest.approx(_true_slope(130, 109.5), rel=0.15)


@pytest.mark.parametrize("value", [0.0, 1000.0, np.nan])
def test_dead_and_hot_columns_change_little(value):
    line = _disk(400, 300, 199.5)
    line[[0, 7, 391]] = value
    assert edge_slopes_of(line) == pytest.approx([_true_slope(300, 200)] * 2, rel=0.15)


@pytest.mark.parametrize(
    "line", [np.zeros(64), -_disk(64, 50, 31.5), 60 - _disk(64, 50, 31.5), np.full(64, np.nan)]
)
def test_what_does_not_fall_is_unknown(line):
    assert edge_slopes_of(line) == (0.0, 0.0)


@pytest.mark.parametrize("n_cols", [1, 2, 5])
def test_narrow_detectors(n_cols):
    assert len(edge_slopes_of(np.ones(n_cols))) == 2


def _measured(truth, **recipe):
    known = {"energy_kev": 25.0, "distance_mm": 50.0, "pixel_size_um": 1.0}
    with open_scan(truth.path, options=known) as scan:
        return measure_edge_slopes(scan, corrections_of(scan, PreprocessBlock(**recipe)))


# frames are read, rows are read; in both cases flats and darks are not even
@pytest.mark.parametrize("chunks", [False, (1, 20, 128), (181, 2, 128)])
@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"phase": {"method": "paganin"}, "zingers": {"threshold": 0.2}, "roll_deg": 0.3},
        {"stripes": {"method": "sorting"}},
    ],
    ids=["plain", "neighbours", "stripes"],
)
def test_of_a_scan(tmp_path, chunks, recipe):
    truth = write_scan(
        tmp_path / "scan_001.h5", n_cols=N_COLS, n_rows=N_ROWS, n_angles=181, cor_px=COR_PX,
        phantom=[WIDE], chunks=chunks, dtype=np.uint16, counts=20000,
    )  # fmt: skip
    assert _measured(truth, **recipe) == pytest.approx([_true_slope(96, 64)] * 2, rel=0.15)


def test_a_scan_of_one_row_and_few_angles(tmp_path):
    truth = write_scan(
        tmp_path / "scan_001.h5", n_cols=N_COLS, n_rows=1, n_angles=5, cor_px=COR_PX, phantom=[WIDE]
    )
    assert _measured(truth) == pytest.approx([_true_slope(96, 64)] * 2, rel=0.1)


@pytest.mark.parametrize("binning", [1, 2])
def test_sweep_and_volume_have_the_right_values(tmp_path, binning):
    """1.5 times the detector: without a measure 16 % are missing in the middle."""
    truth = write_scan(
        tmp_path / "scan_001.h5", n_cols=N_COLS, n_rows=4, n_angles=181, cor_px=COR_PX,
        phantom=[WIDE, GRAIN],
    )  # fmt: skip
    volume = tmp_path / "volume.h5"
    full_recon(truth.path, volume, cor_px=COR_PX, device="cpu", binning=binning)
    with h5py.File(volume) as file:
        image = file["exchange/data"][1]
    rows, cols = np.indices(image.shape)
    distance = np.hypot(cols - len(image) // 2, rows - len(image) // 2 + 1) / len(image)
    grain = np.hypot(cols - len(image) // 2 + 20 / binning, rows - len(image) // 2 - 8 / binning)
    plain = (grain > 12 / binning) & (distance < 0.45)
    assert image[plain & (distance < 0.2)].mean() == pytest.approx(MU, rel=0.03)
    assert image[plain & (distance > 0.4)].mean() == pytest.approx(MU, rel=0.03)
    if binning == 1:
        paths = [tmp_path / name for name in ("try.tif", "try.json", "rows.h5")]
        try_recon(
            truth.path, *paths, center_px=COR_PX, width_px=1, step_px=1, row=1, format="tiff",
            device="cpu",
        )  # fmt: skip
        page = tifffile.imread(tiff.try_slice_paths(tmp_path)[1])
        np.testing.assert_allclose(page, image, atol=1e-4 * MU)


@pytest.mark.parametrize("binning", [1, 2])
@pytest.mark.parametrize("cor_px", [20.3, 104.2])
def test_half_acquisition(tmp_path, cor_px, binning):
    """1.3 times what the scan sees; sweep and volume agree where the sweep's middle is the COR."""
    far_px = max(cor_px, N_COLS - 1 - cor_px) + 0.5
    body = Ellipsoid(0.0, 0.0, 2.0, 1.3 * far_px, 1.3 * far_px, 4000.0, 0.0, MU)
    truth = write_scan(
        tmp_path / "scan_001.h5", n_cols=N_COLS, n_rows=4, cor_px=cor_px, phantom=[body],
        theta_deg=np.linspace(0, 360, 500, endpoint=False),
    )  # fmt: skip
    volume = tmp_path / "volume.h5"
    full_recon(truth.path, volume, cor_px=cor_px, device="cpu", binning=binning)
    with h5py.File(volume) as file:
        image = file["exchange/data"][0]
    rows, cols = np.indices(image.shape)
    distance_px = binning * np.hypot(cols - len(image) // 2, rows - len(image) // 2 + 1)
    assert image[distance_px < 0.3 * far_px].mean() == pytest.approx(MU, rel=0.03)
    rim = (distance_px > 0.8 * far_px) & (distance_px < 0.9 * far_px)
    assert image[rim].mean() == pytest.approx(MU, rel=0.03)
    if binning == 1:
        paths = [tmp_path / name for name in ("try.tif", "try.json", "rows.h5")]
        try_recon(
            truth.path, *paths, center_px=cor_px, width_px=0, row=0, format="tiff", device="cpu"
        )
        page = tifffile.imread(tiff.try_slice_paths(tmp_path)[0])
        np.testing.assert_allclose(page, image, atol=1e-4 * MU)


def test_the_line_is_that_of_theil_and_sen():
    from scipy.stats import theilslopes

    rng = np.random.default_rng(3)
    for n in (2, 3, 17, 102):
        x, y = np.arange(n) + 0.5, rng.normal(size=n).astype(np.float32)
        assert theil_sen(x, y) == tuple(theilslopes(y, x)[:2])
