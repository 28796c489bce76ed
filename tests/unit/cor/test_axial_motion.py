"""A sample that moves up or down during the scan is told, in rows; beam, tilt and noise are not."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import rows_of
from phantoms import make_phantom, sphere
from scipy import ndimage

from tomopipe.cor.axial_motion import end_pairs, find_axial_motion, warn_of_axial_motion
from tomopipe.cor.end_shift import EndShift, end_shifts
from tomopipe.cor.row_profiles import RowProfiles
from tomopipe.cor.row_registration import Stack, measure
from tomopipe.simulate.phantom import Phantom, project

N_ANGLES, N_ROWS, N_COLS, MARGIN = 120, 48, 128, 12
SWING_PX = 20.0  # of the sample to the sides
TIME = np.linspace(0, 1, N_ANGLES)
STILL = np.zeros(N_ANGLES)


def measured(shift_rows, *, span_deg=180, counts=5000.0, scale=1.0, seed=0, beam=None):
    """Line integrals of a sample of more rows than are seen, in the noise of a beam of `counts`."""
    theta_rad = np.deg2rad(np.linspace(0, span_deg, N_ANGLES))
    n_rows = N_ROWS + 2 * MARGIN
    phantom = make_phantom("rock", N_COLS, n_rows, 3)
    lines = scale * project(phantom, theta_rad, 63.4, n_rows, N_COLS)
    at = np.arange(N_ROWS) + MARGIN - np.asarray(shift_rows)[:, None]
    low = np.floor(at).astype(int)
    part = (at - low)[..., None]
    frame = np.arange(N_ANGLES)[:, None]
    seen = np.exp(-lines)
    seen = (1 - part) * seen[frame, low] + part * seen[frame, low + 1]
    if beam is not None:
        seen = seen * beam[..., None]
    photons = np.random.default_rng(seed).poisson(counts * seen)
    return -np.log(np.maximum(photons, 0.5) / counts), theta_rad


def moving(shift_rows, *, cols=slice(None), **options):
    """Profiles of what is measured in some columns, angles and the swing to the sides."""
    images, theta_rad = measured(shift_rows, **options)
    values = images[:, :, cols].mean(axis=2)
    beam = options.get("beam")
    log_flat = np.zeros(N_ROWS) if beam is None else np.log(beam[0])
    values = values + log_flat  # divided by the flats, of the beam as it was at first
    profiles = RowProfiles(
        values.astype(np.float32),
        np.arange(N_ANGLES),
        np.arange(N_ROWS, dtype=float),
        log_flat.astype(np.float32),
    )
    return profiles, theta_rad, SWING_PX


@pytest.mark.parametrize("span_deg", [180, 360])
@pytest.mark.parametrize(("rows", "after"), [(1.0, 59), (-3.0, 20), (6.0, 90), (-8.0, 70)])
def test_a_jump_is_told_between_its_projections(rows, after, span_deg):
    shift_rows = rows * (np.arange(N_ANGLES) > after)
    motion = find_axial_motion(*moving(shift_rows, span_deg=span_deg))
    assert motion.between == (after, after + 1)
    assert motion.shift_rows == pytest.approx(rows, abs=0.3)


@pytest.mark.parametrize(("after", "is_jump"), [(0, False), (1, False), (2, True), (117, False)])
def test_of_a_jump_there_are_three_profiles_on_each_side(after, is_jump):
    """Fewer differ by chance, or by what was not steady yet."""
    motion = find_axial_motion(*moving(3.0 * (np.arange(N_ANGLES) > after)))
    assert (motion is not None) == is_jump


@pytest.mark.parametrize("span_deg", [180, 360])
@pytest.mark.parametrize("rows", [1.0, -4.0, 10.0])
def test_a_drift_is_told_without_projections(rows, span_deg):
    motion = find_axial_motion(*moving(rows * TIME, span_deg=span_deg))
    assert motion.between is None
    assert motion.shift_rows == pytest.approx(rows, abs=0.3)


@pytest.mark.parametrize("counts", [200.0, 2000.0, 20000.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_still_sample_is_not(counts, seed):
    assert find_axial_motion(*moving(STILL, counts=counts, seed=seed)) is None


@pytest.mark.parametrize("seed", range(3))
def test_profiles_in_much_noise_are_followed_in_groups(seed):
    """One by one they are lost by 10 rows and more."""
    profiles, *_ = moving(-6 * TIME, counts=12.0, seed=seed)
    stack = Stack.of(profiles, np.ones(N_ANGLES, bool))
    assert len(stack.groups) == 8
    assert len(Stack.of(moving(-6 * TIME)[0], np.ones(N_ANGLES, bool)).groups) == 64
    shift, _, _, _ = measure(stack)
    away = [np.median(part) for part in np.array_split(shift + 6 * TIME, 6)]
    assert np.ptp(away) < 2


@pytest.mark.parametrize("rows", [2.0, -6.0])
def test_a_sample_that_sinks_ever_more_slowly_is_told_over_less_than_180_degrees(rows):
    course = (1 - np.exp(-2 * TIME)) / (1 - np.exp(-2))
    motion = find_axial_motion(*moving(rows * course, span_deg=150))
    assert motion.between is None
    assert motion.shift_rows == pytest.approx(rows, abs=0.3)


@pytest.mark.parametrize("beam_rows", [0.6, 2.0, 6.0])  # from the lowest to the highest position
def test_a_beam_that_moves_over_the_detector_is_no_motion_of_the_sample(beam_rows):
    course = 3 * np.sin(7 * TIME) + 2 * (TIME > 0.6)
    position = np.arange(N_ROWS) - (course * beam_rows / np.ptp(course))[:, None]
    beam = np.exp(-(((position - 24) / 20) ** 2)) * (1 + 0.1 * np.cos(position / 4))
    assert find_axial_motion(*moving(STILL, beam=beam)) is None
    motion = find_axial_motion(*moving(5.0 * (TIME > 0.3), beam=beam))
    assert motion.between == (35, 36)
    assert motion.shift_rows == pytest.approx(5, abs=0.2)


def test_flats_with_a_slope_in_half_of_the_rows_hide_no_motion_in_a_beam_that_moves():
    def beam(rows):
        position = np.arange(N_ROWS) - rows[:, None]
        return np.exp(-np.maximum(position - 24, 0) / 8)

    assert find_axial_motion(*moving(STILL, beam=beam(2.0 * (TIME > 0.5)))) is None
    motion = find_axial_motion(*moving(2.0 * (TIME > 0.5), beam=beam(2.0 * (TIME > 0.5))))
    assert motion.shift_rows == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("span_deg", [180, 360])
def test_a_sample_about_a_tilted_axis_goes_up_and_down(span_deg):
    tilt_deg, swing_px = 1.0, 80.0
    swing_rows = np.tan(np.deg2rad(tilt_deg)) * swing_px * np.cos(np.deg2rad(span_deg) * TIME)
    profiles, theta_rad, _ = moving(swing_rows, span_deg=span_deg, counts=20000)
    assert find_axial_motion(profiles, theta_rad, swing_px + 5) is None
    if span_deg == 180:  # about an axis that it hardly leaves it would not
        motion = find_axial_motion(profiles, theta_rad, 10.0)
        assert motion.shift_rows == pytest.approx(np.ptp(swing_rows) * -1, abs=0.3)


def test_a_change_that_a_shift_explains_as_well_as_any_other_is_no_motion():
    bins = np.arange(64)
    sample, other = (
        ndimage.gaussian_filter1d(np.random.default_rng(seed).standard_normal(64), 5)
        for seed in (1, 3)
    )
    slope = -np.gradient(sample)
    change = slope + 0.6 * other * np.linalg.norm(slope) / np.linalg.norm(other)
    noise = 3e-4 * np.random.default_rng(5).standard_normal((N_ANGLES, 64))
    after = (TIME > 0.5)[:, None]

    def motion_of(what):
        values = (sample + after * what + noise).astype(np.float32)
        flat = np.zeros(64, np.float32)
        profiles = RowProfiles(values, np.arange(N_ANGLES), bins.astype(float), flat)
        return find_axial_motion(profiles, np.pi * TIME, SWING_PX)

    assert motion_of(slope).shift_rows == pytest.approx(1, abs=0.3)
    assert motion_of(change) is None


@pytest.mark.parametrize(("after", "is_told"), [(0.5, False), (0.2, True)])
def test_sums_that_jump_where_the_beam_jumps_farther_are_no_motion(after, is_told):
    """What is not fitted of a beam with stripes looks like a shift of the sample by a row."""
    bins = np.arange(64)
    sample = ndimage.gaussian_filter1d(np.random.default_rng(1).standard_normal(64), 3)
    at = bins - 3.0 * (after < TIME)[:, None]
    beam = 0.1 * np.sin(at * 2 * np.pi / 8.5)
    shifted = np.interp(bins - 1, bins, sample)
    values = np.where((TIME > 0.5)[:, None], shifted, sample) - beam + beam[0]
    values += 1e-3 * np.random.default_rng(5).standard_normal(values.shape)
    frames, flat = np.arange(N_ANGLES), np.float32(beam[0])
    profiles = RowProfiles(np.float32(values), frames, bins.astype(float), flat)
    motion = find_axial_motion(profiles, np.pi * TIME, SWING_PX)
    assert (motion is not None) == is_told
    assert motion is None or motion.shift_rows == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(("beam_rows", "is_told"), [(0.3, False), (-0.5, False), (0.0, True)])
def test_sums_that_drift_as_the_beam_drifts_are_no_motion(beam_rows, is_told):
    """What is not fitted of the stripes of a beam looks like a drift of the sample by rows."""
    bins = np.arange(64)
    sample = ndimage.gaussian_filter1d(np.random.default_rng(1).standard_normal(64), 3)
    beam = 0.8 * np.sin((bins - beam_rows * TIME[:, None]) * 2 * np.pi / 8.5)
    drift_rows = 2 if beam_rows >= 0 else -2
    values = np.stack([np.interp(bins - drift_rows * t, bins, sample) for t in TIME])
    values += beam[0] - beam + 1e-3 * np.random.default_rng(5).standard_normal(values.shape)
    frames, flat = np.arange(N_ANGLES), np.float32(beam[0])
    profiles = RowProfiles(np.float32(values), frames, bins.astype(float), flat)
    motion = find_axial_motion(profiles, np.pi * TIME, SWING_PX)
    assert (motion is not None) == is_told
    assert motion is None or motion.shift_rows == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize(
    ("seed", "time"), [(15, TIME > 0.6), (15, TIME), (26, TIME > 0.6), (26, TIME)]
)
def test_motion_that_looks_like_one_of_the_beam_is_told_if_no_beam_is_needed(seed, time):
    """Few rows, and a weak beam whose slope is like that of the sample: it is fitted as moving."""
    rng, at, row = np.random.default_rng(seed), np.arange(-30, 54), np.arange(24)
    sample, beam = (ndimage.gaussian_filter(rng.standard_normal(84), wide) for wide in (2, 4))
    values = np.stack(
        [np.interp(row - 4 * moved, at, 0.2 * sample / np.ptp(sample)) for moved in time]
    )
    values += 2e-3 * rng.standard_normal(values.shape)
    flat = np.float32(0.05 * beam / np.ptp(beam))[30:54]
    profiles = RowProfiles(np.float32(values), np.arange(N_ANGLES), row.astype(float), flat)
    motion = find_axial_motion(profiles, 2.6 * TIME, 5.0)
    assert motion.shift_rows == pytest.approx(4, abs=0.3)


def test_a_beam_that_gets_brighter_in_steps_is_no_motion():
    beam = np.broadcast_to((1 + 0.2 * (TIME > 0.4))[:, None], (N_ANGLES, N_ROWS))
    assert find_axial_motion(*moving(STILL, beam=beam)) is None


def test_nothing_is_said_without_features_along_the_axis():
    assert find_axial_motion(*moving(5.0 * (TIME > 0.5), scale=0.0)) is None


def test_nothing_is_said_of_a_sample_that_leaves_the_view():
    profiles, theta_rad, _ = moving(STILL)
    profiles.values[60:] = profiles.values[60:, ::-1] * 0.01
    assert find_axial_motion(profiles, theta_rad, SWING_PX) is None


def test_bad_projections_do_not_count():
    profiles, theta_rad, _ = moving(STILL)
    bad = np.isin(np.arange(N_ANGLES), [50, 51, 52, 53])
    profiles.values[bad] = np.roll(profiles.values[bad], 9, axis=1)
    assert find_axial_motion(profiles, theta_rad, SWING_PX, bad) is None


def test_rows_without_signal_do_not_count():
    profiles, theta_rad, _ = moving(3.0 * (TIME > 0.5))
    profiles.values[:, 20:24] = np.nan
    assert find_axial_motion(profiles, theta_rad, SWING_PX).shift_rows == pytest.approx(3, abs=0.3)


def test_the_warning_names_numbers_as_recorded_and_the_direction():
    profiles, theta_rad, _ = moving(-3.0 * (np.arange(N_ANGLES) > 59))
    flat = np.zeros((N_ANGLES, 3, 8), np.float32)
    rows = rows_of(flat, np.rad2deg(theta_rad), pairs=False)
    rows = replace(rows, profiles=profiles, numbers=2 * np.arange(N_ANGLES) + 1)
    text, between = warn_of_axial_motion(rows, 63.4)
    assert text.startswith("the sample moves 3.0 rows up between projections 119 and 121")
    assert between == (59, 60)


TRUNCATED = slice(36, 92)  # the middle of a sample that is then larger than the field of view


def ends_of(shift_rows, span_deg=180, **options):
    images, _ = measured(shift_rows, span_deg=span_deg, **options)
    first, last = images[[0, -1]][:, :, TRUNCATED]
    return end_shifts(first, last, 63.4 - TRUNCATED.start if span_deg == 180 else None)


@pytest.mark.parametrize("span_deg", [180, 360])
@pytest.mark.parametrize(("rows", "after"), [(1.0, 59), (-3.0, 20), (6.0, 90)])
def test_a_jump_of_a_sample_larger_than_the_field_is_told_by_its_end_projections(
    rows, after, span_deg
):
    shift_rows = rows * (np.arange(N_ANGLES) > after)
    options = {"span_deg": span_deg, "counts": 2000.0}
    profiles, theta_rad, _ = moving(shift_rows, cols=TRUNCATED, **options)
    end = ends_of(shift_rows, **options)
    motion = find_axial_motion(profiles, theta_rad, N_COLS / 2, None, end)
    assert motion.between == (after, after + 1)
    assert motion.shift_rows == pytest.approx(rows, abs=0.2)


@pytest.mark.parametrize("course", [TIME, (1 - np.exp(-2 * TIME)) / (1 - np.exp(-2))])
@pytest.mark.parametrize("rows", [1.0, -4.0, 8.0])
def test_a_drift_of_a_sample_larger_than_the_field_is_told_without_projections(rows, course):
    profiles, theta_rad, _ = moving(rows * course, cols=TRUNCATED)
    motion = find_axial_motion(profiles, theta_rad, N_COLS / 2, None, ends_of(rows * course))
    assert motion.between is None
    assert motion.shift_rows == pytest.approx(rows, abs=0.2)


@pytest.mark.parametrize("counts", [200.0, 2000.0, 20000.0])
def test_a_still_sample_larger_than_the_field_is_not(counts):
    for seed in range(3):
        profiles, theta_rad, _ = moving(STILL, cols=TRUNCATED, counts=counts, seed=seed)
        end = ends_of(STILL, counts=counts, seed=seed)
        assert find_axial_motion(profiles, theta_rad, N_COLS / 2, None, end) is None


def test_end_projections_need_the_sums_where_unsure_and_veto_them_where_alike():
    course = 3.0 * (TIME > 0.5)
    profiles, theta_rad, swing = moving(course)

    def motion_of(profiles, rows, score, error=0.02):
        return find_axial_motion(profiles, theta_rad, swing, None, [EndShift(rows, error, score)])

    assert motion_of(profiles, 3.0, 4.0).shift_rows == pytest.approx(3, abs=0.1)
    assert motion_of(profiles, 0.0, 0.0) is None  # the sample has not moved in the end
    assert motion_of(moving(STILL)[0], 3.0, 4.0) is None
    assert motion_of(None, 3.0, 4.0) is None
    assert motion_of(None, 3.0, 8.0).shift_rows == pytest.approx(3, abs=0.1)
    assert motion_of(moving(STILL)[0], 3.0, 8.0) is None  # sums that are still speak against it


@pytest.mark.parametrize("profiles", [None, moving(STILL)[0]])
@pytest.mark.parametrize("score", [7.5, 15.0])
def test_a_shift_of_the_ends_counts_where_the_projections_beside_them_show_it_too(profiles, score):
    end, alike = EndShift(3.0, 0.1, score), EndShift(3.6, 0.2, 4.0)
    other, smoother = alike._replace(rows=4.0), alike._replace(smooth_px=3.0)

    def is_told(*beside, ends=(end,)):
        pairs = [lambda shifts=shifts: shifts for shifts in beside]
        motion = find_axial_motion(profiles, np.pi * TIME, SWING_PX, None, ends, pairs)
        return motion is not None

    assert is_told([alike], [smoother, alike]) == (profiles is None or score == 15)
    assert not is_told([alike], [other])
    assert not is_told([alike], [smoother])
    assert not is_told([alike], [])
    assert not is_told([alike], [alike._replace(score=2.0)])  # of noise
    likeliest = EndShift(3.1, 0.1, 20.0, smooth_px=1.5)  # at which the others match elsewhere
    assert is_told([alike], [alike], ends=[likeliest, end]) == is_told([alike], [alike])


def test_projections_beside_the_ends_are_not_looked_at_where_the_ends_are_alike():
    def beside():
        raise AssertionError

    still = moving(STILL)
    assert find_axial_motion(*still, None, [EndShift(0.1, 0.1, 0.5)], [beside]) is None


def test_projections_beside_the_ends_must_not_contradict_the_sums():
    moved = moving(3.0 * (TIME > 0.5))
    vague = EndShift(2.0, 0.4, 0.5)

    def motion_of(rows, ends):
        return find_axial_motion(*moved, None, ends, [lambda: [EndShift(rows, 0.1, 2.0)]])

    for ends in ([vague], []):  # which may not match where other pairs do
        assert motion_of(3.2, ends).shift_rows == pytest.approx(3, abs=0.1)
        assert motion_of(0.2, ends) is None


@pytest.mark.parametrize("seed", range(4))
def test_three_projections_at_each_end_have_less_noise_than_one(seed):
    images, _ = measured(2.0 * TIME, counts=60.0, seed=seed)
    ends = images[[0, -1, 1, -2, 2, -3]].astype(np.float32)
    (mean, *beside), (single, *others) = end_pairs(ends), end_pairs(ends[:4])
    scores = [max(s.score for s in end_shifts(*pair, 63.4)) for pair in (single, mean)]
    assert scores[1] > 1.25 * scores[0]  # square root of 3, but for what turns away
    np.testing.assert_array_equal(beside, [single, *others])


def test_movement_is_told_in_noise_that_hides_it_in_single_projections():
    images, theta_rad = measured(2.0 * TIME, counts=60.0)
    flat = np.zeros((N_ANGLES, 3, 8), np.float32)
    rows = rows_of(flat, np.rad2deg(theta_rad), pairs=False)
    ends = images[[0, -1, 1, -2, 2, -3]].astype(np.float32)
    text, _ = warn_of_axial_motion(replace(rows, ends=ends, n_rows=N_ROWS), 63.4)
    size = float(text.removeprefix("the sample moves ").split()[0])
    assert size == pytest.approx(2, abs=0.3)
    assert warn_of_axial_motion(replace(rows, ends=ends[:4], n_rows=N_ROWS), 63.4)[0] == ""


def test_no_smoothing_of_the_end_projections_may_contradict_the_sums():
    profiles, theta_rad, swing = moving(3.0 * (TIME > 0.5))
    vague, other = EndShift(2.0, 0.4, 0.5), EndShift(0.2, 0.25, 0.3)
    motion = find_axial_motion(profiles, theta_rad, swing, None, [vague])
    assert motion.shift_rows == pytest.approx(3, abs=0.1)
    assert find_axial_motion(profiles, theta_rad, swing, None, [vague, other]) is None


def test_the_warning_needs_no_sums_where_the_end_projections_are_sure():
    images, theta_rad = measured(-4.0 * TIME)
    flat = np.zeros((N_ANGLES, 3, 8), np.float32)
    rows = rows_of(flat, np.rad2deg(theta_rad), pairs=False)
    rows = replace(rows, ends=images[[0, -1]].astype(np.float32), n_rows=2 * N_ROWS)
    text, between = warn_of_axial_motion(rows, 63.4)  # rows were averaged by two
    size = float(text.removeprefix("the sample moves ").split()[0])
    assert size == pytest.approx(8, abs=0.3)
    assert "rows up during the scan" in text
    assert between is None


def test_a_drift_that_neither_shows_alone_is_told_by_both():
    """In so much noise the sums show it by 4 deviations, the ends by 6."""
    profiles, theta_rad, swing = moving(1.2 * TIME, counts=150.0, seed=0)
    end = EndShift(1.3, 0.1, 6.0)
    assert find_axial_motion(profiles, theta_rad, swing) is None
    assert find_axial_motion(None, theta_rad, swing, None, [end]) is None
    motion = find_axial_motion(profiles, theta_rad, swing, None, [end])
    assert motion.shift_rows == pytest.approx(1.2, abs=0.3)
    other = end._replace(rows=-1.3)
    assert find_axial_motion(profiles, theta_rad, swing, None, [other]) is None


def test_the_size_is_the_mean_of_two_measurements_or_where_they_contradict_that_of_the_ends():
    profiles, theta_rad, swing = moving(3.0 * (TIME > 0.5))

    def motion_of(rows, error):
        return find_axial_motion(profiles, theta_rad, swing, None, [EndShift(rows, error, 15.0)])

    alike = motion_of(3.4, 0.3)
    assert alike.shift_rows == pytest.approx(3, abs=0.2)
    assert abs(alike.shift_rows - 3.0) < 2 * alike.error_rows < 0.6
    apart = motion_of(3.9, 0.05)
    assert apart.shift_rows == 3.9
    assert apart.error_rows > 0.4  # 0.9 rows lie between both


@pytest.mark.parametrize("beside_rows", [4.0, 0.0])
def test_projections_beside_the_ends_must_show_what_the_ends_do(beside_rows):
    images, theta_rad = measured(4.0 * TIME)
    others, _ = measured(beside_rows * TIME, seed=1)
    flat = np.zeros((N_ANGLES, 3, 8), np.float32)
    rows = rows_of(flat, np.rad2deg(theta_rad), pairs=False)
    ends = np.concatenate([images[[0, -1]], others[[1, -2]]]).astype(np.float32)
    text, _ = warn_of_axial_motion(replace(rows, ends=ends, n_rows=N_ROWS), 63.4)
    size = float(text.removeprefix("the sample moves ").split()[0]) if text else 0.0
    assert size == pytest.approx(beside_rows, abs=0.3)


@pytest.mark.parametrize(("counts", "states_error"), [(5000.0, False), (150.0, True)])
def test_the_warning_states_an_error_that_matters(counts, states_error):
    images, theta_rad = measured(-4.0 * TIME, counts=counts)
    flat = np.zeros((N_ANGLES, 3, 8), np.float32)
    rows = rows_of(flat, np.rad2deg(theta_rad), pairs=False)
    rows = replace(rows, ends=images[[0, -1]].astype(np.float32), n_rows=N_ROWS)
    text, _ = warn_of_axial_motion(rows, 63.4)
    assert (" ± " in text) == states_error
    size, *error = text.removeprefix("the sample moves ").split(" rows up")[0].split(" ± ")
    assert abs(float(size) - 4) <= (2 * float(error[0]) if states_error else 0.3)


def test_sums_do_not_prove_a_shift_of_which_the_ends_show_little():
    profiles, theta_rad, swing = moving(1.2 * TIME)
    motion = find_axial_motion(profiles, theta_rad, swing, None, [EndShift(1.2, 0.4, 0.5)])
    assert motion.shift_rows == pytest.approx(1.2, abs=0.2)
    assert motion.error_rows < 0.2  # that of the sums


@pytest.mark.parametrize(("first_row", "rows"), [(0, -5.0), (12, 5.0), (24, -5.0)])
def test_a_drift_by_a_quarter_of_few_rows_is_told(first_row, rows):
    """The first and the last projections have few rows in common, thirds have more."""
    profiles, theta_rad, swing = moving(rows * TIME, counts=2000.0, span_deg=150)
    kept = slice(first_row, first_row + 20)
    seen = replace(
        profiles,
        values=profiles.values[:, kept],
        rows=profiles.rows[kept],
        beam=profiles.beam[kept],
    )
    motion = find_axial_motion(seen, theta_rad, swing)
    assert motion.shift_rows == pytest.approx(rows, abs=0.3)


@pytest.mark.parametrize(("tilt_deg", "sinks_rows"), [(0.9, 0.0), (0.0, 4.0)])
def test_a_pin_about_a_tilted_axis_does_not_move(tilt_deg, sinks_rows):
    """40 px from an axis that is tilted along the beam."""
    theta_rad = np.pi * TIME
    pin = Phantom("pin", (sphere(40, 0, 23.5, 8, 0.05),))
    lines = project(pin, theta_rad, 63.4, N_ROWS, N_COLS)
    down = sinks_rows * TIME - 40 * np.tan(np.deg2rad(tilt_deg)) * np.cos(theta_rad)
    moved = [ndimage.shift(v, (d, 0), order=1) for v, d in zip(lines, down, strict=True)]
    photons = np.random.default_rng(1).poisson(5000 * np.exp(-np.array(moved)))
    images = (-np.log(np.maximum(photons, 0.5) / 5000)).astype(np.float32)
    rows = rows_of(images[:, [21, 24, 27]], 180 * TIME, pairs=False)
    rows = replace(rows, ends=images[[0, -1]], n_rows=N_ROWS)
    text, _ = warn_of_axial_motion(rows, 63.4)
    if sinks_rows:
        size = float(text.removeprefix("the sample moves ").split()[0])
        assert size == pytest.approx(sinks_rows, abs=0.6)  # so far away a shear is like it
    else:
        assert text == ""
