"""Flats that moved: stripes of a beam that goes up and down, and a detector that does not."""

import h5py
import numpy as np
import pytest
from scipy import ndimage

from tests.phantoms import write_scan
from tests.step_calls import full_recon, predict_in, try_in
from tomopipe.config import PreprocessBlock
from tomopipe.cor.axial_motion import find_axial_motion
from tomopipe.cor.collected_rows import collect_rows
from tomopipe.prep.correct import corrections_of
from tomopipe.prep.recipe import most_shapes
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.scans.exchange import open_scan
from tomopipe.simulate.phantom import KINDS

pytestmark = pytest.mark.slow

N_ROWS, N_COLS, N_ANGLES, N_FLATS, COUNTS = 64, 128, 120, 20, 5e4
MARGIN = 8  # rows at the top and bottom that the beam moves out of, or nearly
STILL = np.zeros(N_ANGLES), np.zeros(N_FLATS)
SHAKES = np.random.default_rng(0)
MOVES = {  # of the projections, and of the flats
    "random": (SHAKES.uniform(-3, 3, N_ANGLES), SHAKES.uniform(-3, 3, N_FLATS)),
    "drift": (np.linspace(-3, 3, N_ANGLES), np.repeat([-3.0, 3.0], N_FLATS // 2)),
    "flats of one place": (np.linspace(-3, 3, N_ANGLES), STILL[1]),
}


def striped(rng, strength):
    """Return the logarithm of a beam by its move: stripes of 6 to 60 px that vary across it."""
    n = 40
    wave = 2 * np.pi / np.exp(rng.uniform(np.log(6), np.log(60), n))
    phase, turns = rng.uniform(0, 2 * np.pi, n), rng.normal(0, 12, n)
    strengths = rng.normal(0, 1, n)
    strengths *= strength * np.sqrt(2 / np.sum(strengths**2))
    row, col = np.arange(N_ROWS)[:, None, None], np.arange(N_COLS)[:, None] / N_COLS

    def log_beam(move_px):
        return np.cos(wave * (row - move_px) + phase + turns * col) @ strengths

    return log_beam


def moving(path, moves, *, seed=1, strength=0.12, size=0.6, sinks_px=0.0, span_deg=180):
    """Write a scan of a rock; the detector has dust, and pixels of a gain of their own.

    The noise of a frame is the same however the beam moves. The rock sinks steadily.
    """
    theta_deg = np.linspace(0, span_deg, N_ANGLES, endpoint=False)
    rock = KINDS["rock"](N_COLS, N_ROWS, seed, size=size)
    truth = write_scan(path, n_rows=N_ROWS, n_cols=N_COLS, theta_deg=theta_deg, phantom=rock)
    rng = np.random.default_rng(seed)
    log_beam, gain = striped(rng, strength), np.exp(rng.normal(0, 0.01, (N_ROWS, N_COLS)))
    row, col = np.indices(gain.shape)
    for _ in range(12):
        y, x = rng.uniform(0, N_ROWS), rng.uniform(0, N_COLS)
        gain *= 1 - 0.1 * np.exp(-((row - y) ** 2 + (col - x) ** 2) / 4)

    def counted(moves_px, transmission):
        beam = np.stack([COUNTS * gain * np.exp(log_beam(move_px)) for move_px in moves_px])
        light = beam * transmission
        return 100 + light + np.sqrt(light) * rng.normal(0, 1, light.shape)

    sinking = zip(truth.projections(), np.linspace(0, sinks_px, N_ANGLES), strict=True)
    lines = np.stack([ndimage.shift(image, (px, 0), mode="nearest") for image, px in sinking])
    frames = {"data": counted(moves[0], np.exp(-lines))}
    frames |= {"data_white": counted(moves[1], 1), "data_dark": np.full((3, *gain.shape), 100)}
    with h5py.File(path, "r+") as file:
        for name, values in frames.items():
            del file["exchange"][name]
            file["exchange"][name] = values.astype(np.float32)
    return truth


def corrected(truth, method="register", **options):
    """Return line integrals, their beam, and how well slices agree with the truth (PSNR, dB)."""
    with open_scan(truth.path) as scan:
        corrections = corrections_of(scan, PreprocessBlock(flat_method=method, **options))
        raw = scan.read_rows(0, N_ROWS)
    lines = corrections.projections(raw, (0, N_ANGLES), (0, N_ROWS))
    plan, expected = make_plan(truth.theta_rad, N_COLS), truth.projections()
    y, x = np.indices((N_COLS, N_COLS)) - N_COLS / 2
    inside, decibels = np.hypot(x, y) < 0.45 * N_COLS, []
    for row in (N_ROWS // 3, N_ROWS // 2, 2 * N_ROWS // 3):
        both = np.stack([lines[:, row], expected[:, row]]).astype(np.float32)
        off, best = (image[inside] for image in reconstruct(both, plan, truth.cor_px))
        decibels.append(20 * np.log10(np.ptp(best) / np.std(off - best)))
    return lines, corrections.beam, np.mean(decibels)


def spread(truth, lines):
    return np.std((lines - truth.projections())[:, MARGIN:-MARGIN])


@pytest.mark.parametrize(("name", "better"), [("random", 0.2), ("drift", 5)])
def test_stripes_that_move_are_as_if_they_did_not(tmp_path, name, better):
    truth = moving(tmp_path / "a.h5", MOVES[name])
    still = moving(tmp_path / "still.h5", STILL)
    lines, beam, decibels = corrected(truth)
    assert len(beam.shapes) <= most_shapes(PreprocessBlock(flat_method="register"))
    plain, _, plain_decibels = corrected(truth, "mean")
    assert decibels > corrected(still, "mean")[2] - 1
    assert decibels > plain_decibels + better
    assert spread(truth, lines) < spread(truth, plain) / 4


def test_flats_of_one_place_move_without_dust(tmp_path):
    """Air tells it from stripes: moved with them it costs 2 dB, and stripes cost 8."""
    truth = moving(tmp_path / "a.h5", MOVES["flats of one place"])
    still = moving(tmp_path / "still.h5", STILL)
    decibels = corrected(truth)[2]
    assert decibels > corrected(still, "mean")[2] - 1
    assert decibels > corrected(truth, "mean")[2] + 5


@pytest.mark.parametrize("strength", [0.12, 0.02, 0.0])
def test_a_still_beam_stays_as_it_is(tmp_path, strength):
    truth = moving(tmp_path / "a.h5", STILL, strength=strength)
    assert corrected(truth)[2] > corrected(truth, "mean")[2] - 0.1


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("moves", [STILL, MOVES["drift"]])
def test_without_air_the_mean_flat_is_used_and_that_is_told(tmp_path, moves, seed, caplog):
    truth = moving(tmp_path / "a.h5", moves, seed=seed, size=1.8)
    lines, beam, _ = corrected(truth)
    assert np.array_equal(lines, corrected(truth, "mean")[0])
    assert "no pixels are certainly air" in beam.warning
    assert beam.warning in caplog.text


def test_the_warning_is_that_of_the_volume(tmp_path):
    truth = moving(tmp_path / "a.h5", STILL, seed=11, size=1.8)
    options = {"cor_px": truth.cor_px, "corrections": {"flat_method": "register"}}
    assert full_recon(truth.path, tmp_path / "a_rec.h5", **options).startswith("flats: the mean")


def test_air_may_be_stated(tmp_path):
    """Columns beside a rock that covers nearly all of them: those alone show the beam."""
    truth = moving(tmp_path / "a.h5", MOVES["drift"], size=0.8)
    lines, beam, _ = corrected(truth, air_px=8)
    assert spread(truth, lines) < spread(truth, corrected(truth, "mean", air_px=8)[0]) / 4
    assert not beam.warning


def test_a_beam_that_moves_further_is_told(tmp_path, caplog):
    truth = moving(tmp_path / "a.h5", (3 * MOVES["drift"][0] / 2, MOVES["drift"][1]))
    beam = corrected(truth, flat_shift_px=3)[1]
    assert "raise preprocess.flat_shift_px" in caplog.text or beam.warning
    caplog.clear()
    truth = moving(tmp_path / "a.h5", (3 * MOVES["drift"][0] / 2, MOVES["drift"][1]))
    assert not corrected(truth, flat_shift_px=6)[1].warning
    assert "raise" not in caplog.text


def test_a_frame_without_beam_has_the_flat_and_changes_no_other(tmp_path):
    truth = moving(tmp_path / "a.h5", MOVES["drift"])
    before = corrected(truth)[1]
    with h5py.File(truth.path, "r+") as file:
        file["exchange/data"][7] = 100
    after = corrected(truth)[1]
    assert not after.weights[7].any()
    np.testing.assert_allclose(np.delete(after.weights - before.weights, 7, axis=0), 0, atol=0.02)


def test_few_rows_have_the_mean_flat(tmp_path):
    truth = write_scan(tmp_path / "a.h5", n_rows=4)
    with open_scan(truth.path) as scan:
        beam = corrections_of(scan, PreprocessBlock(flat_method="register")).beam
    assert "too few" in beam.warning


def test_any_rows_are_the_same_on_a_gpu(tmp_path, xp):
    truth = moving(tmp_path / "a.h5", MOVES["drift"])
    with open_scan(truth.path) as scan:
        corrections = corrections_of(scan, PreprocessBlock(flat_method="register"))
        raw = scan.read_rows(0, N_ROWS)
    whole = corrections.sinograms(raw, (0, N_ROWS))
    rows = 20, 24
    part = corrections.sinograms(raw[:, slice(*rows)], rows)
    assert np.array_equal(part, whole[slice(*rows)])
    there = corrections.sinograms(xp.asarray(raw[:, slice(*rows)]), rows).get()
    np.testing.assert_allclose(there, part, atol=1e-5 * np.ptp(part))


@pytest.mark.parametrize("sinks_px", [0.0, 5.0])
def test_a_beam_that_moves_is_not_taken_for_the_sample(tmp_path, sinks_px):
    truth = moving(tmp_path / "a.h5", MOVES["drift"], seed=64, sinks_px=sinks_px)

    def moved_rows(method):
        with open_scan(truth.path) as scan:
            rows = collect_rows(scan, [32], PreprocessBlock(flat_method=method))
        motion = find_axial_motion(rows.profiles, rows.theta_rad, swing=N_COLS / 4)
        return 0.0 if motion is None else motion.shift_rows

    if not sinks_px:
        assert moved_rows("mean") > 3  # as the beam does
    assert moved_rows("register") == pytest.approx(sinks_px, abs=0.5)


def test_the_cor_is_found_by_the_beam_of_each_projection(tmp_path):
    truth = moving(tmp_path / "a.h5", MOVES["drift"], seed=62)
    try_in(tmp_path, truth.path, corrections={"flat_method": "register"})
    prediction = predict_in(tmp_path)
    assert prediction["cor_px"] == pytest.approx(truth.cor_px, abs=0.1)
    assert not prediction.get("doubts")


def test_the_beam_is_fitted_once_for_roll_and_pitch(tmp_path, caplog):
    truth = moving(tmp_path / "a.h5", MOVES["drift"], seed=62, span_deg=240)
    with caplog.at_level("INFO"):
        options = {"flat_method": "register", "roll_deg": "auto"}
        record = try_in(tmp_path, truth.path, corrections=options)
    assert caplog.text.count("the beam moves by") == 1
    assert record["pitch"]["deg"] == pytest.approx(0, abs=4 * record["pitch"]["error_deg"])
