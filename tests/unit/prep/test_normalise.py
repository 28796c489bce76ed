"""Flat-field correction: exact values, and nothing but finite ones."""

from itertools import product

import numpy as np
import pytest

from tests.nxtomo_files import N_COLS, N_ROWS, write_nxtomo
from tests.pretend_device import BOTH_ORDERS
from tomopipe.config import PreprocessBlock
from tomopipe.errors import ScanError
from tomopipe.prep.correct import corrections_of
from tomopipe.prep.flats import Beam
from tomopipe.prep.normalise import (
    MIN_TRANSMISSION,
    correct_hardening,
    current_factors,
    device_normaliser,
    is_far_too_bright,
    monitor_of,
    normalise,
    normalise_to_air,
    normaliser,
    warn_of_bright_pixels,
    warn_of_flats,
    warn_of_line_integrals,
    warn_of_references,
    warn_of_sample_in_flats,
)
from tomopipe.scans.exchange import open_scan

SHAPE = (3, 5)


def flat_and_dark(flat=1100, dark=100):
    return np.full(SHAPE, flat, np.float32), np.full(SHAPE, dark, np.float32)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "u4", "f4", "f8", ">u2"])
def test_exact_values(dtype):
    flat, dark = flat_and_dark(210, 10)
    raw = np.full((4, *SHAPE), 110).astype(dtype)
    raw[1], raw[2], raw[3] = 210, 35, 250  # as bright as the flat; an eighth; above the flat
    before = raw.copy()
    transmission = normalise(raw, flat, dark, minus_log=False)
    assert transmission.dtype == np.float32
    assert np.allclose(transmission[:, 0, 0], [0.5, 1, 0.125, 1.2], rtol=1e-6)
    line_integral = normalise(raw, flat, dark)
    assert line_integral.dtype == np.float32
    expected = [np.log(2), 0, np.log(8), -np.log(1.2)]
    assert np.allclose(line_integral[:, 2, 4], expected, atol=1e-6)
    assert np.array_equal(raw, before)


def test_counts_above_24_bits_keep_their_digits():
    flat, dark = flat_and_dark(2**31 - 1, 0)
    raw = np.full((1, *SHAPE), 2**30, "i4")
    assert np.allclose(normalise(raw, flat, dark, minus_log=False), 0.5, rtol=1e-6)


def test_the_batches_do_not_show():
    """One projection of these is 80 kB: three are a batch, and the last batch has one."""
    random = np.random.default_rng(1)
    raw = random.integers(200, 900, (7, 100, 200)).astype("u2")
    flat, dark = random.uniform(900, 1100, (100, 200)), random.uniform(50, 150, (100, 200))
    one_by_one = [normalise(raw[[number]], flat, dark)[0] for number in range(7)]
    assert np.array_equal(normalise(raw, flat, dark), one_by_one)
    assert normalise(raw[:0], flat, dark).shape == (0, 100, 200)


def test_darker_than_the_dark_is_as_dark_as_can_be():
    raw = np.array([0, 100, 101, 1100], "u2")[:, None, None] * np.ones(SHAPE, "u2")
    found = normalise(raw, *flat_and_dark())[:, 0, 0]
    floor = -np.log(MIN_TRANSMISSION)
    assert np.allclose(found, [floor, floor, np.log(1000), 0], rtol=1e-5)
    found = normalise(raw, *flat_and_dark(), minus_log=False)[:, 0, 0]
    assert np.allclose(found, [-0.1, 0, 0.001, 1], atol=1e-7)


@pytest.mark.parametrize("value", [100, 50, 0, np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("which", ["flat", "dark"])
def test_dead_pixels_take_the_nearest_column_and_a_dead_row_is_empty(value, which):
    if which == "dark" and np.isfinite(value):
        value = 1100 + value
    flat, dark = flat_and_dark()
    dead = {"flat": flat, "dark": dark}[which]
    dead[0, 0] = dead[1, 2:5] = dead[2, 2] = value
    raw = np.broadcast_to(np.array([200, 300, 400, 500, 600], "u2"), (2, *SHAPE))
    found = normalise(raw, flat, dark, minus_log=False)
    expected = [[0.2, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.2, 0.2, 0.2], [0.1, 0.2, 0.2, 0.4, 0.5]]
    assert np.allclose(found, [expected] * 2, atol=1e-6)
    assert np.allclose(normalise(raw, flat, dark), -np.log([expected] * 2), atol=1e-5)
    dead[1] = value
    for minus_log in (True, False):
        assert (normalise(raw, flat, dark, minus_log=minus_log)[:, 1] == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e300], ids=str)
@pytest.mark.parametrize("minus_log", [True, False])
def test_values_that_are_not_finite_take_the_nearest_column(value, minus_log):
    flat, dark = flat_and_dark()
    flat[0, 1] = 0  # dead beside a bad value: both take the next valid one
    raw = np.broadcast_to(np.array([200.0, 300, 400, 500, 600]), (3, *SHAPE)).copy()
    raw[1, 0, 0] = raw[1, 2, 3] = value
    raw[2, 1] = value
    found = normalise(raw, flat, dark, minus_log=minus_log)
    usual, empty = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), 1.0 if minus_log else 0.0
    expected = np.broadcast_to(usual, (3, *SHAPE)).copy()
    expected[:, 0, 1] = 0.1
    expected[1, 0, :2] = 0.3
    expected[1, 2, 3] = 0.3
    expected[2, 1] = empty
    assert np.allclose(found, -np.log(expected) if minus_log else expected, atol=1e-5)


def test_nothing_but_finite_values_from_anything():
    random = np.random.default_rng(2)
    odd = np.array([0, -1, 1e-45, 1e-38, 1, 3e38, -3e38, np.nan, np.inf, -np.inf], np.float32)
    for _ in range(200):
        raw = random.choice(odd, (2, *SHAPE))
        flat, dark = random.choice(odd, SHAPE), random.choice(odd, SHAPE)
        for minus_log in (True, False):
            assert np.isfinite(normalise(raw, flat, dark, minus_log=minus_log)).all()


@pytest.mark.parametrize("shape", [SHAPE, (2, 4, 5)])
def test_shapes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match="expected raw"):
        normalise(np.ones(shape), *flat_and_dark())


SLOW = [pytest.param(t, marks=pytest.mark.slow) for t in ("u1", "i2", "i4", "u4", "f8", "f2", "u8")]


@BOTH_ORDERS
@pytest.mark.parametrize("is_plain", [False, True])
@pytest.mark.parametrize("dtype", ["u2", "f4", *SLOW])
def test_a_gpu_gives_the_values_of_the_cpu(request, dtype, is_plain, xp):
    """In one kernel: dead pixels and rows, counts of more than 24 bits, values under the dark."""
    if is_plain:
        request.getfixturevalue("no_kernels")
    random = np.random.default_rng(3)
    top = 2.0**30 if dtype in ("i4", "u4") else 250.0
    raw = (random.uniform(0, 1, (4, *SHAPE)) * top).astype(dtype)
    flat, dark = (random.uniform(*ends, SHAPE) * top for ends in ((0.8, 1), (0, 0.1)))
    flat[0, 1] = flat[2] = 0
    flat, dark = flat.astype(np.float32), dark.astype(np.float32)
    beam = Beam(flat, dark, np.zeros((0, *SHAPE)), np.zeros((4, 0)))
    damaged = raw.copy()
    if dtype[0] == "f":
        damaged[1, 0, 3] = np.nan
        damaged[1, 0, 0] = np.inf  # beside a dead pixel: both take the column after it
        damaged[2, 1, [0, 4]], damaged[3, 1, 1:4] = -np.inf, np.nan
        damaged[2, 0] = np.nan
    for counts, minus_log in product((raw, damaged), (True, False)):
        expected = normalise(counts, flat, dark, minus_log=minus_log)
        found = device_normaliser(xp, beam, slice(None), minus_log=minus_log)(xp.asarray(counts))
        np.testing.assert_allclose(found.get(), expected, rtol=1e-5, atol=1e-6)


def test_air_becomes_one_whatever_the_beam_does():
    random = np.random.default_rng(0)
    truth = np.ones((5, 3, 60))
    truth[:, :, 15:45] = random.uniform(0.2, 0.9, (5, 3, 30))
    left, right = random.uniform(0.7, 1.3, (2, 5, 3, 1))
    beam = left + (right - left) * np.linspace(0, 1, 60)
    corrected = normalise_to_air((truth * beam).astype(np.float32), 8)
    assert np.allclose(corrected, truth, atol=1e-6)


def test_rows_without_beam_stay():
    row = np.zeros((1, 2, 30), np.float32)
    row[0, 1] = 0.5
    corrected = normalise_to_air(row, 4)
    assert np.array_equal(corrected[0, 0], row[0, 0])
    assert np.allclose(corrected[0, 1], 1)


def test_ring_current():
    current = np.array([200.0, 198.0, 204.0])
    assert np.allclose(current_factors(current, 202.0), 202 / current)
    assert np.allclose(current_factors(current), current.mean() / current)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_no_ring_current_is_refused(value):
    with pytest.raises(ScanError, match="above 0"):
        current_factors(np.array([200.0, value]))


def decaying(path, n_monitor=None):
    """NXtomo with two sets of flats, a beam that decays, and a sample of transmission 0.5."""
    keys = np.array([2, 1, 1, *[0] * 20, 1, 1, 1])
    current = np.linspace(200, 150, len(keys))
    pixels = np.linspace(1, 2, N_ROWS * N_COLS).reshape(N_ROWS, N_COLS)
    signal = np.where(keys == 0, 0.5, 1) * (keys != 2) * current
    frames = (100 + signal[:, None, None] * pixels).astype(np.float32)
    angles = np.cumsum(keys == 0) * 9.0
    monitor = current if n_monitor is None else current[keys == 0]

    def change(entry):
        entry["control/data"] = monitor

    return write_nxtomo(path, keys=keys, angles=angles, data=frames, change=change)


@pytest.mark.parametrize("method", ["mean", "median", "interpolate"])
def test_flats_are_divided_by_their_own_current(tmp_path, method):
    """Neither is a decay corrected twice, nor the level that of the mean projection."""
    recipe = PreprocessBlock(
        flat_method=method, ring_current={"dataset": "/entry0000/control/data"}
    )
    with open_scan(decaying(tmp_path / "a.nx")) as scan:
        raw = scan.read_rows(0, N_ROWS)
        got = corrections_of(scan, recipe).projections(raw, (0, 20), (0, N_ROWS))
    assert np.abs(got - np.log(2)).max() < 1e-4


def test_interpolated_flats_of_unknown_current_are_refused(tmp_path):
    current = {"dataset": "/entry0000/control/data"}
    path = decaying(tmp_path / "a.nx", n_monitor=20)
    with open_scan(path) as scan:
        corrections_of(scan, PreprocessBlock(ring_current=current))
        with pytest.raises(ScanError, match="corrected twice"):
            corrections_of(scan, PreprocessBlock(flat_method="interpolate", ring_current=current))


@pytest.mark.parametrize("method", ["pca", "register"])
def test_brightness_that_the_air_shows_is_not_corrected_by_the_current_too(tmp_path, method):
    current = {"dataset": "/entry0000/control/data"}
    recipe = PreprocessBlock(flat_method=method, ring_current=current)
    slope = np.ones((N_ROWS, 1)) * np.linspace(-1, 1, N_COLS)
    with open_scan(decaying(tmp_path / "a.nx")) as scan:
        for shapes, is_refused in [([slope, 0.3 + slope], False), ([slope, 1 + 0.1 * slope], True)]:
            beam = Beam(scan.flat, scan.dark, np.array(shapes, "f4"), np.zeros((20, 2), "f4"))
            if is_refused:
                with pytest.raises(ScanError, match="corrected twice"):
                    monitor_of(recipe, scan, beam)
            else:
                assert monitor_of(recipe, scan, beam).values.shape == (20,)


def test_hardening_of_two_energies():
    """A wedge seen with two energies: the polynomial fitted to it makes it straight."""
    thickness = np.linspace(0, 3, 50)
    measured = -np.log(0.5 * np.exp(-0.4 * thickness) + 0.5 * np.exp(-1.2 * thickness))
    powers = np.stack([measured, measured**2, measured**3], axis=1)
    coefficients = np.linalg.lstsq(powers, 0.8 * thickness, rcond=None)[0]
    corrected = correct_hardening(measured.astype(np.float32), coefficients.tolist())
    assert np.abs(corrected - 0.8 * thickness).max() < 0.01
    assert np.abs(measured - 0.8 * thickness).max() > 0.3
    assert corrected.dtype == np.float32


OFF, BEAM = 100.0, 30_000.0


def levels(*shares):
    return OFF + BEAM * np.array(shares, float)


@pytest.mark.parametrize(
    ("flats", "darks"),
    [
        ([1] * 10, [0] * 10),
        ([1], [0]),
        ([1] * 5 + [0.7] * 5, [0, 0]),  # a beam that decays
        ([1] * 50 + [0.68] * 10, [0]),
        ([1] * 10 + [0.68] * 50, [0]),
        ([1] * 10, [0.03] + [0] * 9),  # the afterglow of the scintillator
        ([1.0, 1.5, 0.9, 1.1], []),
        ([], [0, 0, 1]),
        ([0] * 10, [1] * 10),  # exchanged
        ([np.nan, 1, 1], [0]),
    ],
)
def test_sound_flats_and_darks_are_not_doubted(flats, darks):
    assert warn_of_references(levels(*flats), levels(*darks)) == []


def test_nor_is_a_weak_beam_on_an_offset_that_drifts_or_what_an_earlier_version_did_not_write():
    assert warn_of_references(np.array([2060.0] * 5), np.array([2000, 2008.0, 2010])) == []
    assert warn_of_references(None, None) == []


@pytest.mark.parametrize(
    ("flats", "darks", "told"),
    [
        ([1] * 10, [0] * 4 + [1] + [0] * 5, ["1 of 10 darks is bright (number 5), up to 100 % "]),
        ([1] * 10, [0.3] + [0] * 9, ["1 of 10 darks is bright (number 1), up to 30 % "]),
        ([1] * 10, [1] * 3 + [0, 1] + [0] * 5, ["4 of 10 darks are bright (number 1 to 3, 5)"]),
        ([0] * 5 + [1] * 5, [0] * 10, ["5 of 10 flats are dark (number 1 to 5), down to 0 % "]),
        ([1, 0], [0, 0], ["1 of 2 flats is dark (number 2)"]),
        ([1] * 20 + [0.45], [0] * 10, ["1 of 21 flats is dark (number 21), down to 45 % "]),
        ([1, 1, 0], [], ["1 of 3 flats is dark"]),
        ([0] * 10 + [1] * 20, [1] * 10, ["10 of 10 darks are bright", "10 of 30 flats are dark"]),
    ],
)
def test_those_of_the_other_kind_are_told_with_their_numbers(flats, darks, told):
    found = warn_of_references(levels(*flats), levels(*darks))
    assert [text[: len(start)] for text, start in zip(found, told, strict=True)] == told


def lines(transmission, photons):
    """Line integrals of air, of as many photons."""
    noise = np.random.default_rng(0).poisson(photons, (5, 61, 128)) / photons
    return -np.log(np.clip(transmission * noise, 1e-5, None)).astype(np.float32)


def test_noise_fringes_and_a_beam_that_changes_are_not_far_too_bright():
    fringes = lines(1, 1e4)
    fringes[:, :, ::16] = -np.log(1.9)
    for found in (lines(1, 10), lines(1.2, 100), fringes, fringes[:, :, 1:4], fringes[:0]):
        assert not is_far_too_bright(found)
    assert is_far_too_bright(lines(1.5, 20))


def disks(photons, *, of_flats=None, height=1.5):
    """Line integrals (3, 90, 200) of two disks about an axis, by flats that show one projection."""
    theta_rad, x = np.linspace(0, np.pi, 90, endpoint=False)[:, None], np.arange(200) - 99.5
    both = [(40, 25, 0.7), (60, 15, 2.0)]  # distance from the axis and radius in pixels, angle
    depth_px = sum(
        2 * np.sqrt(np.clip(size**2 - (x - at * np.cos(theta_rad - start)) ** 2, 0, None))
        for at, size, start in both
    )
    exact = height * depth_px / 80
    visible = exact if of_flats is None else exact - exact[of_flats]
    noise = np.random.default_rng(1).poisson(photons, (3, *visible.shape)) / photons
    return (visible - np.log(np.maximum(noise, 1e-3))).astype(np.float32)


@pytest.mark.parametrize("photons", [100, 1e4])
def test_flats_that_show_the_sample_are_named(photons):
    for of_flats in (0, 37, -1):
        (text,) = warn_of_sample_in_flats(disks(photons, of_flats=of_flats))
        assert text.startswith("the flats show the sample: a projection equals them")
    sound = disks(photons)
    # a beam of another exposure; one that only noise fills; a sample that is out of view at first
    late = sound * (np.arange(90) > 20)[:, None]
    for each in (sound, sound - 0.4, disks(photons, height=0), late, sound[:0]):
        assert warn_of_sample_in_flats(each) == []


def test_where_there_are_no_flats_line_integrals_are_asked_for():
    option = "(preprocess: {minus_log: false})"
    for flats in ([], [1.0, 1.0]):
        assert option in warn_of_flats(lines(2, 100), np.array(flats))[0]
    for known in (None, levels(1, 1)):
        assert option not in warn_of_flats(lines(2, 100), known)[0]
    assert warn_of_flats(lines(1, 100)) == []


def test_counts_below_0_that_an_unsigned_type_made_the_largest_are_named():
    rng = np.random.default_rng(4)
    counts = rng.normal(3000 * np.exp(-6 * disks(1e4)), 8).round().astype(int)
    assert 1e-3 < np.mean(counts < 0) < 0.1
    flat, dark = np.full(counts.shape[1:], 3000, np.float32), np.zeros(counts.shape[1:], np.float32)
    wrapped, cut = (normalise(raw, flat, dark) for raw in (counts.astype("u2"), counts.clip(0)))
    (warning,) = warn_of_bright_pixels(wrapped)
    assert "unsigned type? preprocess: {zingers: {threshold: 0.2}}" in warning
    for sound in (cut, lines(1, 10), wrapped[:0]):
        assert warn_of_bright_pixels(sound) == []


def test_line_integrals_without_flats_are_no_transmission():
    stored = disks(1e4).astype(np.float32)  # as other programs write them; air is 0
    flat, dark = np.ones(stored.shape[1:], np.float32), np.zeros(stored.shape[1:], np.float32)
    as_read, sound = (normalise(each, flat, dark) for each in (stored, np.exp(-stored)))
    (warning,) = warn_of_line_integrals(as_read, np.array([]))
    assert "(preprocess: {minus_log: false})" in warning
    for values, flats in ((as_read, levels(1, 1)), (as_read, None), (sound, np.array([]))):
        assert warn_of_line_integrals(values, flats) == []


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "uint32", "float32"])
@pytest.mark.parametrize("options", [{}, {"empty": 0.0}, {"minus_log": False}])
def test_the_compiled_pass_gives_the_same_values(dtype, options):
    from tomopipe.prep.line_integrals import to_line_integrals

    raw = np.random.default_rng(0).integers(0, 120, (9, 8, 40)).astype(dtype)[::-2, 2:7]
    flat, dark = np.full((5, 40), 100.0), np.full((5, 40), 30.0)
    for dead in (0, 1):
        flat[dead : dead + 2, : 20 * (dead + 1)] *= 1 - dead  # then a row without a valid pixel
        plain = normaliser(flat, dark, **options)(raw)
        compiled = normaliser(flat, dark, compiled=to_line_integrals, **options)(raw)
        np.testing.assert_allclose(compiled, plain, rtol=4e-7, atol=0)  # NumPy's logarithm errs so


def test_the_compiled_logarithm_is_right_to_the_last_bit_but_one():
    from tomopipe.prep.line_integrals import to_line_integrals

    counts = np.arange(2**16, dtype=np.uint16).reshape(1, 2, -1)
    dark, gain = np.zeros((2, 2**15), np.float32), np.array([[1e-5], [6e-5]]) * np.ones(2**15)
    lines, gain = np.empty(counts.shape, np.float32), gain.astype(np.float32)
    to_line_integrals(counts.ravel(), 0, counts.size, dark, gain, 1e-5, lines)
    share = np.maximum(counts * gain, np.float32(1e-5)).astype(np.float64)
    np.testing.assert_allclose(lines, -np.log(share), rtol=1.2e-7, atol=0)
