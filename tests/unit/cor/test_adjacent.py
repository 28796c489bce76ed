"""Jitter, and a sample that turns or changes at once, from projections next to each other."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import rows_of, scan
from tomopipe_lab.suite import make_case

from tomopipe.cor.adjacent import find_break, find_jitter, warn_of_break, warn_of_jitter
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sample_motion import find_jump

pytestmark = pytest.mark.slow

COR_PX, N_COLS = 131.3, 256
NONE = "", False
THETA_DEG = np.linspace(0, 180, 181)


def displaced(shift_px, theta_deg=THETA_DEG, counts=20000, n_kept=3, **more):
    """A scan of which each projection is displaced sideways by so much, before the noise."""
    lines = scan(COR_PX, n_cols=N_COLS, theta_deg=theta_deg, **more)
    waves = np.fft.rfft(lines, axis=-1)
    cycles = np.outer(shift_px, np.arange(waves.shape[-1])) / N_COLS
    lines = np.fft.irfft(waves * np.exp(-2j * np.pi * cycles)[:, None], N_COLS, axis=-1)
    beam = np.random.default_rng(2).poisson(counts * np.exp(-lines))
    lines = -np.log(np.maximum(beam, 0.5) / counts).astype(np.float32)
    return rows_of(lines, theta_deg, n_kept=n_kept, pairs=False)


@pytest.mark.parametrize("jitter_px", [1.0, 2.6, 7.0])
@pytest.mark.parametrize(
    ("theta_deg", "counts", "n_kept"),
    [(THETA_DEG, 20000, 3), (THETA_DEG, 20000, 1), (np.arange(0, 360, 1.5), 500, 5)],
)
def test_jitter_is_measured(jitter_px, theta_deg, counts, n_kept):
    shift_px = np.random.default_rng(1).normal(0, jitter_px, len(theta_deg))
    prepared = Prepared(displaced(shift_px, theta_deg, counts, n_kept))
    assert find_jitter(prepared) == pytest.approx(shift_px.std(), rel=0.15)
    text, no_cor = warn_of_jitter(prepared)
    assert f"at random, by {find_jitter(prepared):.1f} px" in text
    assert no_cor == (jitter_px > 2 and theta_deg[-1] == 180)
    assert find_break(prepared) is None


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_many_projections_that_are_displaced_alike_are_jitter(share):
    """As by a camera that loses the first 12 columns of lines of some frames."""
    shift_px = np.where(np.random.default_rng(3).random(len(THETA_DEG)) < share, 12.0, 0.0)
    prepared = Prepared(displaced(shift_px, counts=2000))
    assert find_jitter(prepared) == pytest.approx(shift_px.std(), rel=0.2)
    assert warn_of_jitter(prepared)[1] == (share > 0.1)  # whether a COR is right by chance


@pytest.mark.parametrize("counts", [20000, 100])
@pytest.mark.parametrize(
    "shift_px",
    [
        np.zeros(181),
        np.random.default_rng(1).normal(0, 0.3, 181),
        np.linspace(0, 12, 181),
        np.where(np.arange(181) == 90, 5.0, 0.0),
        np.where(np.isin(np.arange(181), [60, 120]), 5.0, 0.0),
        8.0 * (np.arange(181) // 20),
    ],
    ids=["still", "vibration", "drift", "one", "two", "steps"],
)
def test_other_motion_is_no_jitter_and_no_break(shift_px, counts):
    prepared = Prepared(displaced(shift_px, counts=counts))
    assert find_jitter(prepared) == 0
    assert find_break(prepared) is None


def test_the_limit_of_jitter_is_in_pixels_of_a_wide_detector():
    """Of binned columns 0.4 are 0.8 px."""
    still = displaced(np.random.default_rng(1).normal(0, 0.5, 181))
    wide = replace(still, sinograms=np.repeat(still.sinograms, 4, axis=2))
    assert find_jitter(Prepared(still)) == 0
    assert find_jitter(Prepared(wide)) == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize("stop_deg", [180, 360, -180])
@pytest.mark.parametrize("turn_deg", [-20.0, -7.0, 7.0, 20.0])
@pytest.mark.parametrize("after", [10, 90, 170])
def test_a_sample_that_turns_at_once_is_told(stop_deg, turn_deg, after):
    stated_deg = np.linspace(0, stop_deg, abs(stop_deg) + 1)
    true_deg = stated_deg + turn_deg * (np.arange(len(stated_deg)) > after)
    rows = displaced(np.zeros(len(stated_deg)), true_deg)
    prepared = Prepared(replace(rows, theta_rad=np.deg2rad(stated_deg)))
    sudden = find_break(prepared)
    assert sudden.after == after
    assert sudden.factor > 3
    text, no_cor = warn_of_break(prepared)
    assert f"projections {after} and {after + 1} of those in use" in text
    jump = after - 1, after + 1  # along the axis, of which the row profiles tell more
    assert warn_of_break(prepared, jump) == ("", no_cor)
    assert warn_of_break(prepared, (after + 3, after + 4)) == (text, no_cor)
    # over 360 degrees most opposing projections may be from one side of it
    assert no_cor == (sudden.factor >= 20 and abs(stop_deg) < 360)
    if abs(turn_deg) == 20 and after == 90:
        assert no_cor == (abs(stop_deg) < 360)


def test_missing_projections_that_the_angles_do_not_have_are_told():
    true_deg = np.delete(np.linspace(0, 180, 201), np.arange(60, 80))
    rows = displaced(np.zeros(181), true_deg)
    assert find_break(Prepared(rows)) is None  # right angles
    even = replace(rows, theta_rad=np.deg2rad(THETA_DEG))
    assert find_break(Prepared(even)).after == 59


def test_a_bad_projection_is_no_break():
    rows = displaced(np.zeros(181))
    for bad in ([70], [70, 71, 72]):
        rows.sinograms[:, bad] = np.random.default_rng(0).normal(0, 0.1, N_COLS)
        assert find_break(Prepared(rows)) is None


def test_projections_that_are_named_as_bad_are_no_break():
    flats = displaced(np.zeros(181))
    flats.sinograms[:, :6] = np.random.default_rng(0).normal(0, 0.01, (6, N_COLS))
    assert find_break(Prepared(flats)) is None
    partial = displaced(np.zeros(181))
    partial.sinograms[:, 90:102] = partial.sinograms[:, 90:102, ::-1]
    assert find_break(Prepared(partial)) is not None
    numbers = 10 + np.arange(181)
    bad = {"partial": tuple(range(100, 112)), "dark": ()}
    assert find_break(Prepared(replace(partial, numbers=numbers, bad_frames=bad))) is None
    repeated = displaced(np.zeros(181))
    repeated.sinograms[:, 100:107] = repeated.sinograms[:, 99:100]
    bad = {"repeated": tuple(range(100, 107))}
    assert find_break(Prepared(replace(repeated, bad_frames=bad))) is None


def test_a_jump_sideways_is_no_break():
    prepared = Prepared(displaced(np.where(np.arange(181) > 90, 6.0, 0.0)))
    assert find_jump(prepared).after == 90
    assert find_break(prepared) is None


@pytest.mark.parametrize("kind", [None, "partial rings", "few photons", "zingers", "beam drift"])
def test_of_still_damaged_scans_nothing_is_told(kind):
    for seed in range(3):
        prepared = Prepared(make_case("train", 600 + seed, condition=kind or "clean").rows)
        assert (warn_of_jitter(prepared), warn_of_break(prepared)) == (NONE, NONE)


@pytest.mark.parametrize("theta_deg", [np.linspace(0, 180, 12), np.zeros(60)])
def test_without_neighbours_nothing_is_told(theta_deg):
    prepared = Prepared(displaced(np.zeros(len(theta_deg)), theta_deg))
    assert (warn_of_jitter(prepared), warn_of_break(prepared)) == (NONE, NONE)
