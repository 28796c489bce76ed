"""All corrections in a row: the same for any rows, frames and threads; what a scan must tell."""

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from tests.corrections import EVERYTHING, KNOWN, RING_CURRENT, SHIFTS, keys_of_corrections
from tests.phantoms import write_scan
from tests.step_calls import try_in, volume_of
from tomopipe.arrays import theil_sen
from tomopipe.config import PreprocessBlock
from tomopipe.errors import ScanError
from tomopipe.prep import correct
from tomopipe.prep.correct import corrections_of, edge_slopes_of, measure_edge_slopes
from tomopipe.prep.normalise import normalise
from tomopipe.prep.phase import phase_strength
from tomopipe.prep.recipe import expected_halo, halo_of
from tomopipe.scans.exchange import open_scan
from tomopipe.simulate.phantom import Ellipsoid
from tomopipe.volumes import tiff

N_ROWS, N_COLS, N_ANGLES = 30, 48, 41
SAY_WHICH_ROWS = "which rows a correction needs is its `rows_around`, tomopipe/config/preprocess.py"
EACH = [{key: value} for key, value in EVERYTHING.items()]
HOME = Path(__file__).parents[3]
PAGE = "docs/reference/corrections.md"
OF_MEDIANS = {"stripes": {"method": "vo", "size_px": 5, "large_px": 11}}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Noise, so that stripes stand out of it, and zingers, also in the first row of a block."""
    path = tmp_path_factory.mktemp("scan") / "a.h5"
    write_scan(path, n_rows=N_ROWS, n_cols=N_COLS, n_angles=N_ANGLES)
    with h5py.File(path, "r+") as file:
        data = file["exchange/data"]
        values = data[()] * np.random.default_rng(0).normal(1, 0.01, data.shape)
        values[5, [3, 11, 12, 20], 20] *= 3
        data[...] = values.astype(data.dtype)
    with open_scan(path, options=KNOWN) as opened:
        yield opened


def test_every_correction_is_tested_with_all_others():
    missing = keys_of_corrections() - {*EVERYTHING, *RING_CURRENT, *SHIFTS}
    assert not missing, f"{missing} need a `Correction`, or a value in tests/corrections.py"


def test_every_correction_stands_in_the_table():
    keys = keys_of_corrections()
    cells = re.findall(r"^\| \d+ \| ([^|]*)", (HOME / PAGE).read_text(), flags=re.M)
    listed = [key for cell in cells for key in re.findall(r"`(\w+)`", cell)]
    assert keys <= {*listed}, f"{PAGE} has no row for {keys - {*listed}}"
    order = [key for key in PreprocessBlock.model_fields if key in listed]
    assert listed == order, f"{PAGE} is not in the order of PreprocessBlock"


@pytest.mark.parametrize("options", [*EACH, OF_MEDIANS, EVERYTHING], ids="+".join)
@pytest.mark.parametrize("rows", [(0, 4), (11, 12), (20, 30)])
def test_any_rows_equal_the_whole(scan, options, rows):
    corrections = corrections_of(scan, PreprocessBlock(**options))
    whole = corrections.sinograms(scan.read_rows(0, N_ROWS), (0, N_ROWS))
    part = corrections.sinograms(scan.read_rows(*corrections.rows_needed(rows)), rows, threads=3)
    assert whole.shape == (N_ROWS, N_ANGLES, N_COLS)
    assert np.isfinite(whole).all()
    assert np.allclose(part, whole[slice(*rows)], atol=1e-5), SAY_WHICH_ROWS


@pytest.mark.parametrize("options", EACH, ids="+".join)
def test_each_option_does_something(scan, options):
    raw = scan.read_rows(0, N_ROWS)
    if "bad_pixels" in options or options.get("flat_method"):
        return  # this scan has neither: tests/unit/prep/test_bad_pixels.py, test_flats.py
    plain = corrections_of(scan, PreprocessBlock()).sinograms(raw, (0, N_ROWS))
    changed = corrections_of(scan, PreprocessBlock(**options)).sinograms(raw, (0, N_ROWS))
    assert np.abs(changed - plain).max() > 1e-3, f"nothing happens, or {SAY_WHICH_ROWS}"


@pytest.mark.parametrize("minus_log", [True, False])
def test_without_options_it_is_the_plain_correction(scan, minus_log):
    raw = scan.read_rows(3, 9)
    corrections = corrections_of(scan, PreprocessBlock(minus_log=minus_log))
    assert corrections.rows_needed((3, 9)) == (3, 9)
    got = corrections.projections(raw, (0, N_ANGLES), (3, 9))
    expected = normalise(raw, scan.flat[3:9], scan.dark[3:9], minus_log=minus_log)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("limit", ["BATCH_BYTES", "STRIPE_BYTES"])
def test_small_batches_change_nothing(scan, monkeypatch, limit):
    corrections = corrections_of(scan, PreprocessBlock(**EVERYTHING))
    raw = scan.read_rows(*corrections.rows_needed((10, 14)))
    whole = corrections.sinograms(raw, (10, 14))
    monkeypatch.setattr(correct, limit, 1)
    assert np.allclose(corrections.sinograms(raw, (10, 14), threads=2), whole, atol=1e-6)


def test_halo_is_the_most_that_is_read(scan):
    recipe = PreprocessBlock(**EVERYTHING)
    corrections = corrections_of(scan, recipe)
    most = 0
    for row in range(N_ROWS):
        first, last = corrections.rows_needed((row, row + 1))
        most = max(most, row - first, last - row - 1)
    assert halo_of(corrections.steps, N_ROWS) >= most > 8
    assert corrections_of(scan, PreprocessBlock()).halo == 0
    assert expected_halo(recipe, N_ROWS, N_COLS, KNOWN) == corrections.halo
    assert expected_halo(PreprocessBlock(darks="none"), N_ROWS, N_COLS, KNOWN) is None
    assert expected_halo(PreprocessBlock(air_px=2), N_ROWS, N_COLS, KNOWN) == 0


@pytest.mark.parametrize("options", [*EACH, EVERYTHING], ids="+".join)
def test_row_by_row_no_correction_needs_rows_around(scan, options):
    """Edge slopes are measured so; what a correction needs is stated in one place alone."""
    whole = corrections_of(scan, PreprocessBlock(**options))
    corrections, rows = replace(whole, row_by_row=True), (11, 13)
    assert (corrections.rows_needed(rows), corrections.halo) == (rows, 0), SAY_WHICH_ROWS
    got = corrections.projections(scan.read_rows(*rows), (0, N_ANGLES), rows)
    assert got.shape == (N_ANGLES, 2, N_COLS), SAY_WHICH_ROWS
    if whole.rows_needed(rows) == rows:
        assert np.array_equal(got, whole.projections(scan.read_rows(*rows), (0, N_ANGLES), rows))


def test_ring_current_of_the_file(tmp_path):
    truth = write_scan(tmp_path / "a.h5", n_rows=2, n_cols=32, n_angles=21)
    current = 200 - 0.5 * np.arange(21)
    with h5py.File(truth.path, "r+") as file:
        data = file["exchange/data"]
        dark = file["exchange/data_dark"][()].mean(axis=0)
        values = dark + (data[()] - dark) * (current / 200)[:, None, None]
        del file["exchange/data"]
        file["exchange/data"] = values.astype(np.float32)
        file["monitor/current"] = current
    options = {"ring_current": {"dataset": "/monitor/current", "flats_mean": 200.0}}
    with open_scan(truth.path) as opened:
        corrections = corrections_of(opened, PreprocessBlock(**options))
        got = corrections.projections(opened.read_rows(0, 2), (0, 21), (0, 2))
        with pytest.raises(ScanError, match="nothing/here"):
            corrections_of(opened, PreprocessBlock(ring_current={"dataset": "/nothing/here"}))
    assert np.abs(got - truth.projections()).max() < 2e-3


@pytest.mark.parametrize("key", ["energy_kev", "pixel_size_um", "distance_mm"])
def test_phase_needs_energy_pixel_size_and_distance(key):
    recipe = PreprocessBlock(phase={"method": "paganin"})
    assert phase_strength(recipe, KNOWN) > 0
    with pytest.raises(ScanError, match=key):
        phase_strength(recipe, KNOWN | {key: None})


MU = 0.003
EDGE_COLS, EDGE_ROWS, COR_PX = 128, 40, 63.5
WIDE = Ellipsoid(0.0, 0.0, 20.0, 96.0, 96.0, 4000.0, 0.0, MU)  # 1.5 times the detector
GRAIN = Ellipsoid(-20.0, 9.0, 20.0, 8.0, 8.0, 4000.0, 0.0, 2 * MU)


def _true_slope(radius_px, edge_px):
    return edge_px / (radius_px**2 - edge_px**2)


def _disk(n_cols, radius_px, cor_px):
    return np.sqrt(radius_px**2 - (np.arange(n_cols) - cor_px) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("n_cols", [64, 129, 2048])
@pytest.mark.parametrize("share", [0.6, 0.8, 1.2])
def test_a_disk_falls_as_its_radius_says(n_cols, share):
    # near the disk's rim the ellipse is steeper at the edge than over a twentieth of the columns
    slopes = edge_slopes_of(_disk(n_cols, share * n_cols, (n_cols - 1) / 2))
    expected = [_true_slope(share * n_cols, n_cols / 2)] * 2
    assert slopes == pytest.approx(expected, rel=0.25 if share == 0.6 else 0.1)


@pytest.mark.slow
def test_each_side_has_its_own():
    left, right = edge_slopes_of(_disk(200, 130, 90))
    assert left == pytest.approx(_true_slope(130, 90.5), rel=0.15)
    assert right == pytest.approx(_true_slope(130, 109.5), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 1000.0, np.nan])
def test_dead_and_hot_columns_change_little(value):
    line = _disk(400, 300, 199.5)
    line[[0, 7, 391]] = value
    assert edge_slopes_of(line) == pytest.approx([_true_slope(300, 200)] * 2, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [np.zeros(64), -_disk(64, 50, 31.5), 60 - _disk(64, 50, 31.5), np.full(64, np.nan)]
    + [np.ones(n) for n in (1, 2, 5)],
)
def test_what_does_not_fall_is_unknown(line):
    assert edge_slopes_of(line) == (0.0, 0.0)


def _measured(truth, **recipe):
    known = {"energy_kev": 25.0, "distance_mm": 50.0, "pixel_size_um": 1.0}
    with open_scan(truth.path, options=known) as scan:
        return measure_edge_slopes(scan, corrections_of(scan, PreprocessBlock(**recipe)))


# frames are read, rows are read; in both cases flats and darks are not even
@pytest.mark.slow
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
    size = {"n_cols": EDGE_COLS, "cor_px": COR_PX, "phantom": [WIDE]}
    noisy = {"n_rows": EDGE_ROWS, "n_angles": 181, "dtype": np.uint16, "counts": 20000}
    truth = write_scan(tmp_path / "scan_001.h5", **size, **noisy, chunks=chunks)
    assert _measured(truth, **recipe) == pytest.approx([_true_slope(96, 64)] * 2, rel=0.15)
    if not chunks and not recipe:  # of one row and few angles
        few = write_scan(tmp_path / "few.h5", **size, n_rows=1, n_angles=5)
        assert _measured(few) == pytest.approx([_true_slope(96, 64)] * 2, rel=0.1)


def _slices(truth, folder, row, binning, width_px):
    """One of the volume, and that of a sweep in the middle."""
    options = {"center_px": truth.cor_px, "width_px": width_px, "row": row, "device": "cpu"}
    try_in(folder, truth.path, step_px=1, format="tiff", **options)
    pages = tiff.try_slice_paths(folder)
    options = {"cor_px": truth.cor_px, "device": "cpu", "binning": binning}
    volume = volume_of(truth.path, folder / "volume.h5", **options)
    return volume[row], tifffile.imread(pages[len(pages) // 2])


@pytest.mark.slow
@pytest.mark.parametrize("binning", [1, 2])
def test_sweep_and_volume_have_the_right_values(tmp_path, binning):
    """1.5 times the detector: without a measure 16 % are missing in the middle."""
    truth = write_scan(
        tmp_path / "scan_001.h5", n_cols=EDGE_COLS, n_rows=4, n_angles=181, cor_px=COR_PX,
        phantom=[WIDE, GRAIN],
    )  # fmt: skip
    image, page = _slices(truth, tmp_path, 1, binning, width_px=1)
    rows, cols = np.indices(image.shape)
    distance = np.hypot(cols - len(image) // 2, rows - len(image) // 2 + 1) / len(image)
    grain = np.hypot(cols - len(image) // 2 + 20 / binning, rows - len(image) // 2 - 8 / binning)
    plain = (grain > 12 / binning) & (distance < 0.45)
    assert image[plain & (distance < 0.2)].mean() == pytest.approx(MU, rel=0.03)
    assert image[plain & (distance > 0.4)].mean() == pytest.approx(MU, rel=0.03)
    if binning == 1:
        np.testing.assert_allclose(page, image, atol=1e-4 * MU)


@pytest.mark.slow
@pytest.mark.parametrize("binning", [1, 2])
@pytest.mark.parametrize("cor_px", [20.3, 104.2])
def test_half_acquisition(tmp_path, cor_px, binning):
    """1.3 times what the scan sees; sweep and volume agree where the sweep's middle is the COR."""
    far_px = max(cor_px, EDGE_COLS - 1 - cor_px) + 0.5
    body = Ellipsoid(0.0, 0.0, 2.0, 1.3 * far_px, 1.3 * far_px, 4000.0, 0.0, MU)
    truth = write_scan(
        tmp_path / "scan_001.h5", n_cols=EDGE_COLS, n_rows=4, cor_px=cor_px, phantom=[body],
        theta_deg=np.linspace(0, 360, 500, endpoint=False),
    )  # fmt: skip
    image, page = _slices(truth, tmp_path, 0, binning, width_px=0)
    rows, cols = np.indices(image.shape)
    distance_px = binning * np.hypot(cols - len(image) // 2, rows - len(image) // 2 + 1)
    assert image[distance_px < 0.3 * far_px].mean() == pytest.approx(MU, rel=0.03)
    rim = (distance_px > 0.8 * far_px) & (distance_px < 0.9 * far_px)
    assert image[rim].mean() == pytest.approx(MU, rel=0.03)
    if binning == 1:
        np.testing.assert_allclose(page, image, atol=1e-4 * MU)


@pytest.mark.slow
def test_the_line_is_that_of_theil_and_sen():
    from scipy.stats import theilslopes

    rng = np.random.default_rng(3)
    for n in (2, 3, 17, 102):
        x, y = np.arange(n) + 0.5, rng.normal(size=n).astype(np.float32)
        assert theil_sen(x, y) == tuple(theilslopes(y, x)[:2])
