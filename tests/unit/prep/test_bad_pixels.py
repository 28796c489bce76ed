"""Bad pixels and zingers: defects put where we know them."""

import numpy as np
import pytest
from scipy.ndimage import median_filter

from tomopipe.prep.bad_pixels import (
    KINDS,
    find_bad_frames,
    find_bad_pixels,
    find_dim_frames,
    find_empty_frames,
    plan_repair,
    reasons_to_review,
    remove_zingers,
    warnings_of,
)

SHAPE = (24, 40)


def smooth_frames(n=3, noise=0.01):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = 0.6 + 0.2 * np.sin(x / 9) * np.cos(y / 7)
    return (image + np.random.default_rng(0).normal(0, noise, (n, *SHAPE))).astype(np.float32)


def flat_and_dark():
    random = np.random.default_rng(1)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    flat = 1000 * np.exp(-((x - 20) ** 2 + (y - 12) ** 2) / 800) + random.normal(0, 5, SHAPE) + 100
    return flat.astype(np.float32), np.full(SHAPE, 100, np.float32)


def test_bad_pixels_are_found_and_no_others():
    flat, dark = flat_and_dark()
    truth = np.zeros(SHAPE, bool)
    assert np.array_equal(find_bad_pixels(flat, dark, 0.3), truth)
    for row, col, value in [(3, 5, 100), (7, 20, 5000), (12, 0, 90), (0, 39, np.nan)]:
        flat[row, col] = value
        truth[row, col] = True
    dark[20, 30] += 600  # hot, though its flat is as high
    flat[20, 30] += 600
    truth[20, 30] = True
    assert np.array_equal(find_bad_pixels(flat, dark, 0.3), truth)


def test_bad_pixels_are_interpolated_in_any_block_of_rows_but_in_a_row_of_none_else():
    truth = smooth_frames(noise=0)
    bad = np.zeros(SHAPE, bool)
    bad[4, 10:13] = bad[9, :2] = bad[9, -1] = bad[15, 7] = True
    frames = truth.copy()
    frames[:, bad] = 50
    repair = plan_repair(bad)
    whole = frames.copy()
    repair.apply(whole, (0, SHAPE[0]))
    assert np.abs(whole - truth)[:, :, 2:-1].max() < 0.006  # a curve, cut short
    assert np.abs(whole - truth).max() < 0.06  # at the edge there is one side only
    assert np.array_equal(whole[:, ~bad], truth[:, ~bad])
    before = whole.copy()
    for rows in [(0, 5), (5, 10), (9, 16), (16, 24)]:
        part = frames[:, slice(*rows)].copy()
        repair.apply(part, rows)
        assert np.array_equal(part, whole[:, slice(*rows)])
    bad[:], bad[6] = False, True
    plan_repair(bad).apply(whole, (0, SHAPE[0]))
    assert np.array_equal(whole[:, 6], before[:, 6])


@pytest.mark.parametrize("size_px", [3, 5])
def test_zingers_go_and_nothing_else_changes(size_px):
    truth = smooth_frames()
    frames = truth.copy()
    positions = [(0, 3, 3), (1, 0, 39), (2, 23, 12), (0, 10, 20)]
    for position in positions:
        frames[position] += 1.0
    if size_px == 5:
        frames[1, 12:14, 30:33] += 2.0  # six of twenty-five
    cleaned = remove_zingers(frames, threshold=0.3, size_px=size_px)
    hit = frames != truth
    assert np.abs(cleaned - truth)[hit].max() < 0.08
    assert np.array_equal(cleaned[~hit], truth[~hit])


@pytest.mark.parametrize("size_px", [3, 5, 7])
def test_zingers_are_those_of_the_median(size_px):
    """The sums for CuPy, with SciPy's median."""
    frames = np.random.default_rng(5).normal(0.1, 0.3, (2, *SHAPE)).astype(np.float32)
    usual = median_filter(frames, (1, size_px, size_px), mode="nearest")
    expected = np.where(frames - usual > np.float32(0.4) * np.abs(usual), usual, frames)
    assert np.array_equal(remove_zingers(frames, threshold=0.4, size_px=size_px), expected)
    assert (expected != frames).mean() > 0.2


N_ANGLES, N_ROWS, N_COLS = 60, 5, 400
BAD = [7, 20, 21, 59]


def projections(*, air=20_000.0, noise=True, profile=0.1, dark=100.0, limit=65535, dtype="u2"):
    """A disk that rotates off the axis, in a beam with a profile; half of the columns are air.

    Returns raw projections, the flat and the dark.
    """
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, N_COLS)
    beam = air * (1 - profile * x**2) * np.ones((N_ROWS, 1))
    theta_rad = np.linspace(0, np.pi, N_ANGLES)[:, None]
    thick = np.sqrt(np.clip(0.25 - (x - 0.2 * np.cos(theta_rad)) ** 2, 0, None))
    signal = beam * np.exp(-3 * thick)[:, None]
    if noise:
        signal = signal + rng.normal(0, np.sqrt(10 * signal))  # of a tenth as many photons
    return np.clip(np.rint(signal + dark), 0, limit).astype(dtype), (beam + dark), dark


def found(raw, flat, dark, *, has_flats=True):
    flat, dark = flat.astype("f4"), np.full(flat.shape, dark, "f4")
    bad = find_bad_frames(raw, flat, dark, has_flats=has_flats)
    assert list(bad) == [kind for kind in KINDS if kind not in ("dim", "empty")]
    return {kind: frames.tolist() for kind, frames in bad.items() if len(frames)}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"air": 64_000.0},  # noise of 800: some pixels of air are at 65535
        {"air": 64_900.0, "profile": 0.0},  # a quarter of them
        {"air": 180.0, "dark": 10.0, "limit": 255, "dtype": "u1"},
        {"air": 3900.0, "limit": 4095},
        {"noise": False, "profile": 0.0},  # all air of one value, the highest
        {"noise": False, "profile": 0.0, "dtype": "f4", "dark": 0.0, "air": 1.0, "limit": 1},
        {"noise": False, "air": 60.0, "dark": 5.0},  # few counts: plateaus of rounding
        {"air": 900.0},
    ],
)
def test_sound_projections_are_sound(options):
    raw, flat, dark = projections(**options)
    for has_flats in (True, False):
        assert not found(raw, flat, dark, has_flats=has_flats)


@pytest.mark.parametrize("limit", [4095, 16383, 65520, 65535, 5000])
def test_projections_cut_off_at_the_limit_of_the_camera_are_saturated(limit):
    raw, flat, dark = projections(air=0.6 * limit)
    raw[BAD] = np.minimum(2.0 * raw[BAD], limit).astype(raw.dtype)
    raw[30, :, ::200] = limit  # some hot pixels
    assert found(raw, flat, dark) == {"saturated": BAD}


@pytest.mark.parametrize("n_flats", [3, 10])
def test_where_flats_are_cut_off_as_well_all_projections_are_saturated(n_flats):
    """At a limit of no known camera, in the brighter third of a beam; the axis is in the dark."""
    rng = np.random.default_rng(2)
    beam = np.linspace(3000.0, 14_000.0, N_COLS)
    sample = np.exp(-0.5 * (np.abs(np.arange(N_COLS) - 120) < 60))
    frames = beam * np.concatenate([np.ones((n_flats, N_COLS)), np.tile(sample, (N_ANGLES, 1))])
    frames = rng.normal(frames[:, None], np.sqrt(frames[:, None]), (len(frames), N_ROWS, N_COLS))
    for limit, expected in ((20_000, {}), (9000, {"saturated": [*range(N_ANGLES)]})):
        counts = np.rint(np.minimum(frames, limit)).astype("u2")
        assert found(counts[n_flats:], counts[:n_flats].mean(axis=0), 0.0) == expected


def test_hot_pixels_beyond_the_limit_do_not_hide_it():
    raw, flat, dark = projections(air=2500.0, limit=4095)
    raw[BAD] = np.minimum(2 * raw[BAD], 4095)
    raw[:, 2, 100] = 65535
    assert found(raw, flat, dark) == {"saturated": BAD}


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "u4"])
def test_the_largest_number_of_a_type_is_a_limit(dtype):
    raw, flat, dark = projections(air=100.0, dark=5.0, dtype=dtype)
    raw[BAD] = np.iinfo(dtype).max
    assert found(raw, flat, dark) == {"saturated": BAD}
    assert found(raw, flat, dark, has_flats=False) == {"saturated": BAD}


def test_air_scaled_to_white_is_not_saturated():
    raw, flat, dark = projections(air=2.0e4)
    white = np.clip((raw - dark) / (flat - dark) * 255, 0, 255).astype("u1")
    ones, none = np.ones_like(flat), 0.0
    assert not found(white, ones, none, has_flats=False)
    clipped = np.clip(white * 1.1, 0, 255).astype("u1")
    assert not found(clipped, ones, none, has_flats=False)
    clipped[BAD] = 255
    assert found(clipped, ones, none, has_flats=False) == {"saturated": BAD}


def test_few_pixels_at_the_limit_do_no_harm():
    raw, flat, dark = projections()
    n = int(0.04 * N_COLS)
    for n_bright, expected in ((n, {}), (2 * n, {"saturated": BAD})):
        raw[BAD, :, :n_bright] = 65535
        assert found(raw, flat, dark) == expected


def test_dark_projections_and_those_of_one_value():
    raw, flat, dark = projections()
    rng = np.random.default_rng(1)
    raw[[3, 4]] = np.rint(rng.normal(dark, 8, raw[:2].shape))  # the shutter closed
    raw[10], raw[11] = 0, 7000
    assert found(raw, flat, dark) == {"dark": [3, 4, 10], "constant": [11]}
    assert found(raw, flat, dark, has_flats=False) == {"dark": [10], "constant": [11]}
    floats = raw.astype("f4")
    floats[12] = np.nan
    floats[13, 0, 0] = np.nan
    assert found(floats, flat, dark)["constant"] == [11, 12]


@pytest.mark.parametrize("columns", [np.s_[300:], np.s_[150:170], np.s_[:]])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_projections_of_which_a_part_is_empty(columns, dtype):
    """The camera lost packets, or a file was not filled."""
    raw, flat, dark = projections(dtype=dtype)
    raw[BAD, 2:4, columns] = 0
    assert found(raw, flat, dark) == {"partial": BAD}
    assert found(raw, flat, dark, has_flats=False) == {}


def test_columns_without_light_and_an_opaque_sample_are_no_empty_parts():
    raw, flat, dark = projections()
    x, at = np.arange(N_COLS), 200 + 80 * np.cos(np.linspace(0, np.pi, N_ANGLES))
    wire = np.abs(x - at[:, None, None]) < 12
    beside = x >= 360
    noise = np.random.default_rng(3).normal(dark, 3, raw.shape).round()
    for opaque in (np.where(wire, noise, raw), np.where(wire, 0, raw), np.where(beside, 0, raw)):
        assert found(opaque.astype("u2"), flat, dark) == {}


def test_what_lets_little_through_is_not_dark():
    raw, flat, dark = projections(noise=False)
    # 2 % of the beam behind a plate that is as wide as the detector
    raw[BAD] = np.rint(0.02 * (flat - dark) + dark)
    assert not found(raw, flat, dark)


@pytest.mark.parametrize("noise", [True, False])
def test_copies_of_the_projection_before_are_repeated_where_noise_changes_all_others(noise):
    raw, flat, dark = projections(noise=noise, air=60.0 if noise else 20_000.0)
    raw[20:26], raw[41] = raw[19], raw[40]
    raw[50:52] = 0
    expected = {"dark": [50, 51], "repeated": [*range(20, 26), 41]}
    assert found(raw, flat, dark) == expected if noise else {"dark": [50, 51]}
    assert find_bad_frames(raw[:2], flat, flat, has_flats=True)["repeated"].tolist() == []


def test_a_sample_that_looks_the_same_from_all_sides_is_not_repeated():
    raw, flat, dark = projections(noise=False)
    raw[:] = raw[30]
    raw[[3, 4, 50], 0, 200] += 1
    assert found(raw, flat, dark) == {}


def test_one_row_and_one_pixel():
    raw, flat, dark = projections()
    assert found(raw[:, :1, :1], flat[:1, :1], dark) == {}
    raw[BAD, :1] = 65535
    assert found(raw[:, :1], flat[:1], dark) == {"saturated": BAD}


@pytest.mark.parametrize(
    ("frames", "n", "says"),
    [
        ([3], 10, "{skip_projections: [3]}"),
        ([3, 4, 5, 9], 121, "{skip_projections: [[3, 5], 9]}"),
        (range(0, 100, 2), 121, f"{{skip_projections: {[*range(0, 100, 2)]}}}"),  # can be copied
        (range(60), 120, "{skip_projections: [[0, 59]]}"),
        (range(120), 121, "too low"),  # to leave out most is no advice
    ],
)
def test_bad_projections_are_named_with_the_option_that_leaves_them_out(frames, n, says):
    assert warnings_of({}, n) == []
    (warning,) = warnings_of({"saturated": list(frames), "dark": []}, n)
    assert warning.startswith(f"{len(frames)} of {n} projection")
    assert says in warning


def test_so_many_that_they_spoil_the_volume_are_doubted():
    frames = {"saturated": [1, 2, 3], "dark": [7], "constant": [8], "repeated": [20, 21]}
    assert reasons_to_review(frames, 181) == [
        w for w in warnings_of(frames, 181) if "dark" in w or "equal" in w
    ]
    assert reasons_to_review(frames, 1001) == reasons_to_review({"dim": [3, 4]}, 1001) == []
    assert reasons_to_review({"dim": DIM}, N_PLATE) == warnings_of({"dim": DIM}, N_PLATE)


N_PLATE, DIM = 181, list(range(60, 80))


def transmission(shape="disk", counts=5000.0):
    """Expected photons of an off-axis disk, or a plate at some angle; (n_rows, n_angles, n_cols).

    The plate is three fields long, ten times as long as it is thick, and seen edge-on at 60
    degrees, where a tenth of the beam passes it. The thin one is a hundred times as long.
    """
    x = np.linspace(-1, 1, N_COLS)
    theta_rad = np.linspace(0, np.pi, N_PLATE)[:, None]
    if shape == "disk":
        path = np.sqrt(np.clip(0.25 - (x - 0.2 * np.cos(theta_rad)) ** 2, 0, None))
    elif shape == "small plate":  # air on both sides
        wide, thick = 0.7, 0.05
        sin, cos = np.abs(np.sin(theta_rad - 1)), np.abs(np.cos(theta_rad - 1))
        half = wide * sin + thick * cos
        longest = 2 * np.minimum(thick / np.maximum(sin, 1e-9), wide / np.maximum(cos, 1e-9))
        rim = np.maximum(half - np.abs(wide * sin - thick * cos), 1e-9)
        path = 3 * np.clip((half - np.abs(x)) / rim, 0, 1) * longest
    else:
        long, thick = 6.0, {"plate": 0.6, "thin plate": 0.06}[shape]
        length = thick / np.maximum(np.abs(np.sin(theta_rad - np.pi / 3)), thick / long)
        path = np.log(10) / 3 * length / long * np.ones_like(x)
    return counts * np.exp(-3 * path) * np.ones((5, 1, 1))


def dim(light, counts=5000.0, seed=0):
    photons = np.random.default_rng(seed).poisson(light)
    return find_dim_frames(-np.log(np.maximum(photons, 0.1) / counts).astype("f4")).tolist()


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("shape", ["disk", "small plate", "plate"])
def test_a_beam_that_is_lost_for_a_while_is_dim(share, shape):
    light = transmission(shape)
    light[:, DIM] *= share
    assert dim(light) == DIM


@pytest.mark.parametrize("part", [0.9, 0.3])
@pytest.mark.parametrize("shape", ["disk", "small plate", "plate"])
def test_a_shutter_may_move_within_a_projection(part, shape):
    light = transmission(shape)
    light[:, DIM] *= 0.02
    light[:, [59, 80]] *= part
    assert dim(light) == ([59, *DIM, 80] if part == 0.3 else DIM)


@pytest.mark.parametrize(
    "frames",
    [
        *(range(10), [50], [50, 51, 120], range(170, 181), range(20, 120), range(9, 181)),
        *([36, 38], [36, 39], [36, 37, 40], range(0, 181, 2), range(1, 181, 2), range(1, 181, 3)),
    ],
)
def test_a_beam_that_is_lost_at_an_end_for_long_or_twice_is_dim(frames):
    light = transmission()
    light[:, list(frames)] *= 0.1
    assert dim(light) == list(frames)


@pytest.mark.parametrize("shape", ["disk", "small plate", "plate", "thin plate"])
@pytest.mark.parametrize("counts", [50.0, 5000.0])
def test_no_sample_is_dim(shape, counts):
    """Also none that moves out of the field, and no beam that decays or is filled up by a third."""
    light = transmission(shape, counts)
    means = light.mean(axis=(0, 2)) / counts
    assert shape != "plate" or means.min() == pytest.approx(0.1, abs=0.01)
    assert dim(light, counts) == []
    light *= np.linspace(1, 0.3, N_PLATE)[:, None]
    light[:, 100:] *= 1.4
    assert dim(light, counts) == []


def test_a_sample_that_comes_into_the_field_is_not_dim():
    light = np.full((5, N_PLATE, N_COLS), 5000.0)
    light[:, 130:, 40:360] *= 0.1  # air is left on both sides
    assert dim(light) == []


def test_a_brighter_beam_for_a_while_makes_no_other_projection_dim():
    light = transmission()
    light[:, 40:100] *= 3
    assert dim(light) == []


@pytest.mark.parametrize("along", [[70], [70, 71]])
def test_layers_that_are_seen_along_in_a_projection_or_two_make_no_other_dim(along):
    light = np.full((5, N_PLATE, N_COLS), 1000.0)
    light[:, along] *= 4  # between layers, nothing absorbs
    assert dim(light) == []


def empty(light, counts=5000.0):
    photons = np.random.default_rng(1).poisson(light)
    return find_empty_frames(-np.log(np.maximum(photons, 0.1) / counts).astype("f4")).tolist()


@pytest.mark.parametrize("frames", [range(6), [50], range(80, 100), [*range(3), 90, 91]])
@pytest.mark.parametrize("shape", ["disk", "small plate"])
@pytest.mark.parametrize("counts", [100.0, 5000.0])
def test_flats_among_the_projections_are_empty(frames, shape, counts):
    light = transmission(shape, counts)
    light[:, list(frames)] = 0.98 * counts
    assert empty(light, counts) == list(frames)


@pytest.mark.parametrize("shape", ["disk", "small plate", "plate", "thin plate"])
@pytest.mark.parametrize("counts", [30.0, 5000.0])
def test_no_projection_of_a_sample_is_empty(shape, counts):
    assert empty(transmission(shape, counts), counts) == []


def test_a_pin_that_leaves_the_field_is_not_empty():
    x = np.linspace(-0.4, 0.4, N_COLS)
    at = 0.6 * np.cos(np.linspace(0, np.pi, N_PLATE))[:, None]
    path = np.sqrt(np.clip(0.01 - (x - at) ** 2, 0, None))
    light = 5000 * np.exp(-9 * path) * np.ones((5, 1, 1))
    assert (path.max(axis=1) == 0).any()
    assert empty(light) == []
