"""Half acquisition from a raw scan to the sweep, the review page and the volume."""

import json

import numpy as np
import pytest
import tifffile

from tests.phantoms import write_scan
from tests.step_calls import predict_in, try_in, volume_of
from tests.tiff_files import read_try_stack
from tomopipe.errors import ScanError
from tomopipe.review.scan_images import Pictures
from tomopipe.simulate.phantom import Ellipsoid
from tomopipe.volumes.volume_read import read_provenance

N_COLS, COR_PX = 96, 81.3
# The body is 1.5 times as wide as the detector, and tall: all rows but the ends show its disk.
BODY = Ellipsoid(0.0, 0.0, 2.5, 72.0, 72.0, 4000.0, 0.0, 0.01)
BEADS = [(50.0, -28.0, 7.0, 0.02), (-20.0, 45.0, 6.0, 0.02), (9.0, 14.0, 6.0, -0.005)]
PHANTOM = [BODY, *(Ellipsoid(x, y, 2.5, r, r, 4000.0, 0.0, mu) for x, y, r, mu in BEADS)]


@pytest.fixture
def truth(tmp_path):
    return _scan(tmp_path)


def _scan(tmp_path, **options):
    options = {"theta_deg": np.linspace(0, 360, 420, endpoint=False), "cor_px": COR_PX} | options
    size = {"n_cols": N_COLS, "n_rows": 6, "phantom": PHANTOM}
    return write_scan(tmp_path / "a_1.h5", **(size | options))


def _volume(truth, **options):
    options = {"cor_px": truth.cor_px, "device": "cpu"} | options
    return volume_of(truth.path, truth.path.with_name("rec.h5"), **options)


def _from_axis(n, scale):
    return (np.arange(n) - n // 2) * scale, (np.arange(n) - (n // 2 - 1)) * scale


def _distance_px(image, x, y, scale=1.0):
    columns, rows = _from_axis(len(image), scale)
    return np.hypot(columns - x, rows[:, None] - y)


def _assert_right(image, scale=1.0, tolerance_px=0.05, tolerance=0.01):
    """Beads to 0.05 px, values to 1 %; `scale` is the size of a voxel in detector pixels."""
    columns, rows = _from_axis(len(image), scale)
    for x, y, radius, mu in BEADS:
        # A binned voxel's centre is half of a pixel less the shift of the axis voxel off.
        weight = np.where(_distance_px(image, x, y, scale) < 1.5 * radius, image - 0.01, 0)
        place = np.array([weight.sum(0) @ columns, weight.sum(1) @ rows]) / weight.sum()
        np.testing.assert_allclose(place, (x, y), atol=tolerance_px)
        inside = image[_distance_px(image, x, y, scale) < 0.6 * radius]
        assert inside.mean() == pytest.approx(0.01 + mu, rel=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cor_px": 14.2},
        {"theta_deg": np.linspace(180, -180, 421)},
        {"n_cols": 97},
        {"theta_deg": np.cumsum(np.tile([0.6, 1.2], 200))},
    ],
    ids=["right", "left", "descending, ends included", "odd", "uneven"],
)
def test_the_volume_is_twice_as_wide_and_right(tmp_path, options):
    truth = _scan(tmp_path, **options)
    volume = _volume(truth)
    assert volume.shape == (6, 2 * truth.n_cols, 2 * truth.n_cols)
    _assert_right(volume[3])
    body = _distance_px(volume[3], 0, 0)
    assert volume[3][(body > 74) & (body < 78)].mean() == pytest.approx(0, abs=1e-4)
    geometry = read_provenance(truth.path.with_name("rec.h5"))["geometry"]
    assert geometry["half_acquisition"] is True
    assert geometry["axis_voxel_xy"] == [truth.n_cols, truth.n_cols - 1]


def test_binning_and_crops_are_those_of_the_wide_slice(tmp_path):
    truth = _scan(tmp_path, n_cols=97)
    binned = _volume(truth, binning=2)
    assert binned.shape == (3, 96, 96)
    _assert_right(binned[1], scale=2.0, tolerance_px=0.1, tolerance=0.03)
    whole = _volume(truth)
    part = _volume(truth, crop_x=[100, 150], crop_y=[60, 193], rows=[2, 3])
    np.testing.assert_array_equal(part, whole[2:4, 60:194, 100:151])


def test_whole_numbers_and_small_blocks_change_nothing(truth):
    whole = _volume(truth)
    np.testing.assert_allclose(_volume(truth, memory_bytes=1), whole, atol=1e-7)
    stored = _volume(truth, dtype="uint16", value_range=[-0.01, 0.04]).astype(float)
    assert (stored / 65535 * 0.05 - 0.01)[3] == pytest.approx(whole[3], abs=2e-6)


@pytest.mark.parametrize(
    ("scan", "options", "factor"),
    [
        ({}, {"half_acquisition": "no"}, 1),
        ({"cor_px": 50.0}, {}, 1),
        ({"cor_px": 50.0}, {"half_acquisition": "yes"}, 2),
        ({"theta_deg": np.linspace(0, 180, 181)}, {}, 1),
        ({}, {"algorithm": "sirt", "iterations": 1}, 1),
    ],
    ids=["no", "axis in the middle", "yes", "180 degrees", "by iteration"],
)
def test_when_it_is_done(tmp_path, scan, options, factor):
    volume = _volume(_scan(tmp_path, n_rows=2, **scan), **options)
    assert volume.shape == (2, factor * N_COLS, factor * N_COLS)


def test_yes_where_it_cannot_be_is_an_error(tmp_path):
    truth = _scan(tmp_path, theta_deg=np.linspace(0, 180, 181))
    with pytest.raises(ScanError, match="needs angles over 360 degrees"):
        _volume(truth, half_acquisition="yes")
    with pytest.raises(ValueError, match="yes needs fbp"):
        _volume(truth, half_acquisition="yes", algorithm="cgls")


def _try(truth, **options):
    folder = truth.path.parent / "try_center" / "a_1"
    options = {"center_px": COR_PX, "width_px": 2, "step_px": 1, "device": "cpu"} | options
    return try_in(folder, truth.path, **options), *read_try_stack(folder / "try.tif")


def test_the_sweep_shows_what_the_volume_will_be(truth):
    sweep, pages, cor_px = _try(truth)
    assert sweep["half_acquisition"] is True
    assert (sweep["n_cols"], sweep["geometry"]["size_px"]) == (N_COLS, 2 * N_COLS)
    low, high = sweep["window"]
    expected = _volume(truth)[sweep["row"]].clip(low, high)
    values = pages[2].astype(float) / 65535 * (high - low) + low
    assert cor_px[2] == COR_PX
    assert values == pytest.approx(expected, abs=(high - low) / 60000)
    wrong = np.abs(pages[0].astype(float) / 65535 * (high - low) + low - expected)
    assert np.sqrt((wrong**2).mean()) > 0.0005


def test_a_sweep_is_binned_to_the_size_asked_for_and_written_at_full_size(truth):
    sweep, pages, _ = _try(truth, max_size_px=100, format="tiff")
    assert (sweep["binning"], pages.shape[1:]) == (2, (96, 96))
    folder = truth.path.parent / "try_center" / "a_1"
    slices = sorted(path for path in folder.glob("*.tif*") if path.name != "try.tif")
    assert len(slices) == 5
    _assert_right(tifffile.imread(slices[2]))


def test_the_middle_of_the_sweep_decides(truth):
    for options in ({"center_px": 50}, {"half_acquisition": "no"}):
        assert _try(truth, **options)[0]["half_acquisition"] is False


@pytest.mark.parametrize(("mode", "n_warnings"), [("auto", 1), ("no", 0), ("yes", 0)])
def test_a_sample_that_slices_cut_off_is_told(tmp_path, mode, n_warnings):
    truth = _scan(tmp_path, cor_px=66.2)
    _try(truth, center_px=66, half_acquisition=mode)
    folder = tmp_path / "try_center" / "a_1"
    found = predict_in(folder, methods=["classical"], min_confidence=0.3)
    assert found["cor_px"] == pytest.approx(66.2, abs=0.5)
    assert [text[:16] for text in found["warnings"]] == n_warnings * ["slices end 48 px"]


def test_a_turn_cut_short_is_doubtful(tmp_path):
    truth = _scan(tmp_path, theta_deg=np.arange(0, 185, 0.75), cor_px=74.2)
    _try(truth, center_px=74)
    prediction = predict_in(
        tmp_path / "try_center" / "a_1", methods=["classical"], min_confidence=0.3
    )
    assert prediction["cor_px"] == pytest.approx(74.2, abs=0.5)
    (doubt,) = prediction["doubts"]
    assert "beyond the right edge of the detector, 21 px from the axis" in doubt
    assert "the angles cover 184 of 360 degrees" in doubt
    assert prediction["warnings"] == [doubt]


def _pictures(truth, half_acquisition):
    folder = truth.path.parent / "try_center"
    options = {"filter": "ramp", "device": "cpu"}
    return Pictures(folder, half_acquisition=lambda scan: half_acquisition, **options)


def test_the_review_page_shows_the_same_slice(truth):
    _try(truth)
    _assert_shows_the_volume(_pictures(truth, "no").slice("a_1", COR_PX, 0), truth)


def test_the_review_page_shows_the_volume_at_a_cor_far_from_the_sweep(truth):
    window = _try(truth)[0]["window"]
    _try(truth, center_px=50)  # as one without a COR: slices as wide as the detector
    sweep = truth.path.parent / "try_center" / "a_1" / "try.json"
    sweep.write_text(json.dumps(json.loads(sweep.read_text()) | {"window": window}))
    pictures, narrow = _pictures(truth, "auto"), _pictures(truth, "no")
    _assert_shows_the_volume(pictures.slice("a_1", COR_PX, 0), truth)
    _try(truth, center_px=50)
    for made, cor_px in ((pictures, 50), (narrow, COR_PX)):
        assert made.slice("a_1", cor_px, 0).values.shape == (N_COLS, N_COLS)


def _assert_shows_the_volume(picture, truth):
    step = (picture.high - picture.low) / 65535
    shown = picture.low + picture.values * step
    wanted = np.clip(_volume(truth)[_try(truth)[0]["row"]], picture.low, picture.high)
    np.testing.assert_allclose(shown, wanted, atol=step)
