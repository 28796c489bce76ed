"""predict_cor: from the files of try_recon to a prediction, or to the reason why there is none."""

import json
import logging
import re
from dataclasses import replace
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
from find_rows import THETA_180_DEG, growing_scan, rows_of, scan
from phantoms import make_phantom, write_scan
from scipy import ndimage

from tests.step_calls import predict_in, try_in
from tomopipe.cor.answer import Answer
from tomopipe.cor.collected_rows import failed_rows, read_rows, write_rows
from tomopipe.cor.curves import KINDS
from tomopipe.cor.roll import UsedRows
from tomopipe.cor.row_profiles import RowProfiles
from tomopipe.scans.exchange import RawScan
from tomopipe.simulate.phantom import Ellipsoid
from tomopipe.storage.atomic import write_json

METHODS = ["classical"]
COR_PX = 72.81


@pytest.fixture
def run(tmp_path):
    """Return a function that writes inputs, runs the step and reads its two outputs."""

    def function(rows=None, sweep=None, methods=METHODS, min_confidence=0.5):
        if rows is None:
            rows = rows_of(scan(COR_PX, counts=5000), THETA_180_DEG)
        if sweep is None:
            sweep = {"cor_px": np.arange(55, 105, 0.5).tolist()}
        write_rows(rows, tmp_path / "rows.h5")
        write_json(sweep, tmp_path / "try.json")
        returned = predict_in(tmp_path, methods=methods, min_confidence=min_confidence)
        prediction = json.loads((tmp_path / "prediction.json").read_text("utf-8"))
        assert returned == prediction
        return prediction, (tmp_path / "center_of_rotation.txt").read_text("utf-8")

    return function


def test_an_accepted_cor_is_in_both_files(run):
    prediction, text = run()
    assert prediction["cor_px"] == pytest.approx(COR_PX, abs=0.25)
    assert prediction["best_cor_px"] == prediction["cor_px"]
    assert (prediction["verdict"], prediction["method"]) == ("resolved", "classical")
    assert 0.5 <= prediction["confidence"] <= 1
    assert prediction["reason"] == ""
    assert text == f"{prediction['cor_px']:.2f}\n"


def test_a_sample_that_shrinks_is_doubtful(run):
    larger_than_the_field = growing_scan(COR_PX, 0.92, counts=20000)[..., 30:115]
    prediction, _ = run(rows_of(larger_than_the_field, THETA_180_DEG))
    assert prediction["cor_px"] is not None
    (doubt,) = prediction["doubts"]
    assert doubt.startswith("the sample shrinks")


def test_a_sample_that_moves_along_the_axis_is_doubtful(run):
    images = scan(COR_PX, n_rows=40, counts=5000)
    images[100:] = np.roll(images[100:], 3, axis=1)
    rows = rows_of(images[:, [12, 20, 28]], THETA_180_DEG)  # of which 99 and 100 differ
    profiles = RowProfiles(
        images.mean(axis=2), np.arange(181), np.arange(40.0), np.zeros(40, np.float32)
    )
    stated = "/entry/sample/x_translation: the sample moves by 6.0 px (6 um)"
    prediction, _ = run(replace(rows, profiles=profiles, stated_motion=(stated,)))
    assert prediction["cor_px"] == pytest.approx(COR_PX, abs=0.5)
    cause, doubt = prediction["doubts"]
    assert cause == stated
    numbers = r"the sample moves (\d\.\d) rows down between projections 99 and 100:"
    assert float(re.match(numbers, doubt)[1]) == pytest.approx(3, abs=0.3)
    assert doubt in prediction["warnings"]


def test_each_method_leaves_its_estimate_and_curve(run):
    prediction, _ = run(methods=["classical", "ai"])
    assert prediction["method"] == "classical"  # the first one
    assert list(prediction["methods"]) == ["ai", "classical"]
    for method in prediction["methods"].values():
        assert {"best_cor_px", "confidence", "verdict", "reason", "curve"} <= set(method)
        assert method["best_cor_px"] == pytest.approx(COR_PX, abs=0.5)
        assert method["curve"]["cor_px"] == np.arange(55, 105, 0.5).tolist()
        best = np.argmax(method["curve"]["score"])
        assert method["curve"]["cor_px"][best] == pytest.approx(COR_PX, abs=1)


def test_the_curve_of_each_kind_of_evidence_is_kept_where_it_was_looked_at(run):
    grid_px = np.arange(55, 105, 0.5)
    rows = replace(rows_of(scan(COR_PX, counts=5000), THETA_180_DEG), first_col=7)
    evidence = run(rows, {"cor_px": (grid_px + 7).tolist()}, methods=["ai"])[0]["evidence"]
    assert evidence["cor_px"] == (grid_px + 7).tolist()
    assert set(evidence["score"]) == set(KINDS)
    for score in evidence["score"].values():
        assert evidence["cor_px"][np.argmax(score)] == pytest.approx(COR_PX + 7, abs=1)
    assert "evidence" not in run()[0]


SIZE = {
    "n_cols": 192, "n_rows": 5, "n_angles": 121, "counts": 30_000, "beam": {"n_flats": 10},
}  # fmt: skip


@pytest.fixture
def raw(tmp_path):
    """A scan of 121 projections and 10 flats."""
    return write_scan(tmp_path / "s_1.h5", **SIZE)


def saturated_scan(path, frames):
    """Write a scan of 121 projections, some of them three times as bright and cut off."""
    truth = write_scan(path, cor_px=97.4, seed=1, **SIZE | {"counts": 20_000})
    with h5py.File(path, "r+") as file:
        data = file["exchange/data"]
        raw = data[()].astype(float)
        air = np.percentile(raw, 99)
        raw[frames] *= 3
        data[:] = np.clip(raw * 0.6 * 65535 / air, 0, 65535).astype(data.dtype)
        for name in ("data_white", "data_dark"):
            other = file[f"exchange/{name}"]
            other[:] = np.clip(other[()] * (0.6 * 65535 / air), 0, 65535).astype(other.dtype)
    return truth


def predicted(folder, raw, corrections=None, known=None, **options):
    of_scan = {"corrections": corrections, "known": known}
    sweep = try_in(folder, raw, width_px=12, device="cpu", **of_scan)
    prediction = predict_in(folder, **{"methods": METHODS, "min_confidence": 0.3, **options})
    return sweep, prediction, (folder / "center_of_rotation.txt").read_text("utf-8")


RODS = [(25, 8, 12), (-20, 16, 20), (4, -24, 28), (-8, -4, 16), (16, -16, 24)]


def helical_scan(path, rows_down):
    """Write an NXtomo scan of 24 rows, and in it, in metres, how far the sample moves down."""
    n = len(rows_down)
    phantom = [Ellipsoid(0, 0, 20, 48, 40, 60, 0.2, 0.01)]
    phantom += [Ellipsoid(x, y, row, 7, 5, 9, 0.0, 0.03) for x, y, row in RODS]
    size = {"n_rows": 40, "n_cols": 128, "n_angles": n, "counts": 20_000, "pixel_size_um": 2.0}
    file = {"format": "nxtomo", "height_mm": 0.0}
    truth = write_scan(path, cor_px=66.4, phantom=phantom, **size, **file)
    with h5py.File(path, "r+") as file:
        (entry,) = file.values()
        detector, keys = entry["instrument/detector"], entry["instrument/detector/image_key"][()]
        raw = detector["data"][()].astype(float)
        dark, flat = (raw[keys == key].mean(axis=0) for key in (2, 1))
        seen = (raw[keys == 0] - dark) / (flat - dark)
        raw = raw[:, 8:32]
        at = np.arange(8, 32) - np.asarray(rows_down)[:, None]
        low, frame = np.floor(at).astype(int), np.arange(n)[:, None]
        part = (at - low)[..., None]
        seen = (1 - part) * seen[frame, low] + part * seen[frame, low + 1]
        raw[keys == 0] = seen * (flat - dark)[8:32] + dark[8:32]
        del detector["data"]
        detector["data"] = np.clip(raw.round(), 0, 65535).astype(np.uint16)
        heights_m = entry["sample/z_translation"][()]
        heights_m[keys == 0] = -2e-6 * np.asarray(rows_down)
        entry["sample/z_translation"][...] = heights_m
    return truth


def test_a_helical_scan_is_doubtful_by_its_file_and_by_its_rows(tmp_path):
    """From the raw file on."""
    truth = helical_scan(tmp_path / "s_1.nx", np.linspace(0, 4, 181))
    _, prediction, _ = predicted(tmp_path, truth.path)
    assert prediction["cor_px"] == pytest.approx(truth.cor_px, abs=1)
    stated, seen = prediction["doubts"]
    assert stated in RawScan(truth.path).metadata().warnings  # of which check prints each
    assert "/sample/z_translation: the sample moves by 4.0 px (8e-06 m)" in stated
    assert stated.endswith("steadily: a helical scan, which is not supported?")
    assert float(re.match(r"the sample moves (.*) rows down", seen)[1]) == pytest.approx(4, abs=0.3)


def test_saturated_projections_are_told_and_above_a_share_no_cor_is_accepted(tmp_path):
    truth = saturated_scan(tmp_path / "s_1.h5", slice(40, 80))
    sweep, prediction, text = predicted(tmp_path, truth.path)
    others = dict.fromkeys(("dark", "partial", "constant", "repeated"), 0)
    assert sweep["bad_frames"] == {"saturated": 40, **others}
    (warning,) = prediction["warnings"]
    assert warning.startswith("40 of 121 projections are saturated: ")
    assert warning.endswith("(input: {skip_projections: [[40, 79]]} leaves them out)")
    assert prediction["best_cor_px"] == pytest.approx(truth.cor_px, abs=1)
    assert (prediction["cor_px"], prediction["verdict"], text) == (None, "ambiguous", "")
    assert prediction["reason"].startswith(warning)
    assert "more than 0.1 of all (predict_cor.max_bad_frames)" in prediction["reason"]
    for share in (0.4, 1.0):
        prediction = predict_in(tmp_path, methods=METHODS, min_confidence=0.3, max_bad_frames=share)
        assert prediction["verdict"] == "resolved"
        assert prediction["cor_px"] == pytest.approx(truth.cor_px, abs=1)
        assert len(prediction["warnings"]) == 1


def test_where_all_projections_are_saturated_none_is_to_be_left_out(tmp_path):
    truth = saturated_scan(tmp_path / "s_1.h5", slice(None))
    _, prediction, text = predicted(tmp_path, truth.path)
    assert (text, prediction["warnings"][0][:10]) == ("", "121 of 121")
    assert "skip_projections" not in prediction["reason"]
    assert "set predict_cor.max_bad_frames: 1 to use" in prediction["reason"]


def test_few_saturated_projections_are_a_warning_with_their_numbers_in_the_file(tmp_path):
    truth = saturated_scan(tmp_path / "s_1.h5", [30, 31, 90])
    _, prediction, text = predicted(tmp_path, truth.path)
    assert "3 of 121 projections are saturated" in prediction["warnings"][0]
    assert "{skip_projections: [[30, 31], 90]}" in prediction["warnings"][0]
    assert "doubts" not in prediction
    assert prediction["verdict"] == "resolved"
    assert float(text) == pytest.approx(truth.cor_px, abs=0.5)
    try_in(tmp_path, truth.path, width_px=3, known={"skip_projections": [[0, 9], 30]})
    assert read_rows(tmp_path / "rows.h5").bad_frames["saturated"] == (31, 90)


@pytest.mark.parametrize(("frames", "source"), [([30, 31, 90], 0), (range(100, 107), 99)])
def test_projections_that_spoil_the_volume_are_doubts_about_a_cor_that_is_right(
    tmp_path, raw, frames, source
):
    """The shutter closed, or a camera that stopped."""
    with h5py.File(raw.path, "r+") as file:
        data = file["exchange/data"]
        for frame in frames:
            data[frame] = data[source] if source else file["exchange/data_dark"][0]
    _, prediction, text = predicted(tmp_path, raw.path)
    (doubt,) = prediction["doubts"]
    listed = "[[30, 31], 90]" if source == 0 else "[[100, 106]]"
    assert doubt.endswith(f"(input: {{skip_projections: {listed}}} leaves them out)")
    assert prediction["warnings"] == [doubt]
    assert float(text) == pytest.approx(raw.cor_px, abs=0.5)


@pytest.mark.parametrize(
    ("true_deg", "stated_deg"), [(180, 180), (180, 90), (360, 180), (180, 360), (360, 540)]
)
def test_with_angles_proven_to_be_of_the_wrong_scale_nothing_is_accepted(run, true_deg, stated_deg):
    lines = scan(COR_PX, counts=5000, theta_deg=np.linspace(0, true_deg, 181))
    prediction, text = run(rows_of(lines, np.linspace(0, stated_deg, 181)))
    assert (prediction["cor_px"] is not None) == (text != "") == (true_deg == stated_deg)
    assert "doubts" not in prediction
    if true_deg == stated_deg:
        assert prediction["warnings"] == []
    else:
        assert f"cover {stated_deg} degrees, the projections show" in prediction["reason"]


@pytest.mark.parametrize("true_deg", [90, 135])
def test_with_a_stage_that_turned_less_than_stated_nothing_is_accepted(run, true_deg):
    lines = scan(COR_PX, counts=5000, theta_deg=np.linspace(0, true_deg, 181))
    prediction, text = run(rows_of(lines, THETA_180_DEG), methods=["ai"], min_confidence=0.0)
    assert (prediction["cor_px"], text) == (None, "")
    causes = "do not mirror each other", "the projections show", "the angles are wrong"
    assert any(text in prediction["reason"] for text in causes)


def test_over_180_degrees_a_sample_that_turns_on_its_holder_has_no_cor(run):
    true_deg = THETA_180_DEG + 10 * (np.arange(181) > 100)
    rows = rows_of(scan(COR_PX, counts=5000, theta_deg=true_deg), THETA_180_DEG)
    prediction, text = run(rows, methods=["ai"])
    assert (prediction["cor_px"], prediction["verdict"], text) == (None, "ambiguous", "")
    start = "projections 100 and 101 of those in use (100.00 and 101.00 degrees)"
    assert prediction["reason"].startswith(start)
    assert prediction["best_cor_px"] == pytest.approx(COR_PX, abs=3)


@pytest.mark.parametrize("after", [40, 120])
def test_over_360_degrees_it_has_one_where_most_opposing_projections_are_right(run, after):
    stated_deg = np.linspace(0, 360, 361)
    true_deg = stated_deg + 20 * (np.arange(361) > after)
    rows = rows_of(scan(COR_PX, counts=5000, theta_deg=true_deg), stated_deg)
    prediction, text = run(rows, min_confidence=0.0)
    told = f"projections {after} and {after + 1} of those in use"
    if after == 120:  # opposing ones of the first 120 degrees are from both sides
        assert (prediction["cor_px"], text) == (None, "")
        assert prediction["reason"].startswith(told)
        assert "opposing projections do not mirror each other" in prediction["reason"]
        return
    assert float(text) == pytest.approx(COR_PX, abs=0.5)
    (doubt,) = prediction["doubts"]
    assert doubt.startswith(told)


@pytest.mark.parametrize("jitter_px", [1.5, 4.0])
def test_jitter_is_a_doubt_and_more_of_it_a_reason(run, jitter_px):
    projections = scan(COR_PX, counts=20000)
    off_px = np.random.default_rng(3).normal(0, jitter_px, 181)
    moved(projections, off_px[:, None] + np.zeros(projections.shape[1]))
    prediction, text = run(rows_of(projections, THETA_180_DEG), min_confidence=0)
    if jitter_px > 2:
        assert (prediction["cor_px"], text) == (None, "")
        assert prediction["reason"].startswith("the projections are displaced sideways at random")
        return
    assert float(text) == pytest.approx(COR_PX, abs=3)
    (doubt,) = prediction["doubts"]
    measured_px = float(doubt.split(" by ")[1].split(" px")[0])
    assert measured_px == pytest.approx(off_px.std(), rel=0.15)


@pytest.mark.parametrize(("true_deg", "stated_deg"), [(180, 360), (360, 180)])
def test_where_nothing_is_accepted_the_reason_names_angles_of_the_wrong_scale(
    run, true_deg, stated_deg
):
    rows = rows_of(scan(COR_PX, counts=5000, theta_deg=np.linspace(0, true_deg, 181)), np.ones(181))
    stated = replace(rows, theta_rad=np.deg2rad(np.linspace(0, stated_deg, 181)))
    prediction, text = run(stated, min_confidence=1.0)
    assert prediction["reason"].startswith(
        f"the angles cover {stated_deg} degrees, the projections show {true_deg}: if so, set "
        f"input.angles: {{start: 0, stop: {true_deg}}}"
    )
    assert (prediction["cor_px"], prediction.get("doubts"), text) == (None, None, "")


def test_a_helical_scan_has_no_cor(run):
    theta_deg = np.linspace(0, 720, 361)
    tall = scan(COR_PX, theta_deg=theta_deg, n_rows=68, counts=20000)
    climbing = np.stack([tall[frame, frame // 6 : frame // 6 + 8] for frame in range(361)])
    prediction, _ = run(rows_of(tall[:, :8], theta_deg))
    assert "doubts" not in prediction
    prediction, text = run(rows_of(climbing, theta_deg), methods=["ai"])
    assert (prediction["cor_px"], prediction.get("doubts"), text) == (None, None, "")
    assert prediction["reason"].startswith("projections 360 degrees apart differ: a helical scan")
    assert prediction["best_cor_px"] == pytest.approx(COR_PX, abs=1)


@pytest.mark.parametrize("turned_deg", [0, 110])
def test_a_stage_that_stood_still_gives_no_cor(run, turned_deg):
    theta_deg = np.linspace(0, 180, 181)
    standing = scan(COR_PX, theta_deg=np.minimum(theta_deg, turned_deg), counts=20000)
    prediction, text = run(rows_of(standing, theta_deg), methods=["ai"], min_confidence=0.0)
    assert (prediction["cor_px"], prediction.get("doubts"), text) == (None, None, "")
    assert "did the stage rotate?" in prediction["reason"]


def moved(projections, right_px):
    """Move each row of each projection sideways."""
    columns = np.arange(projections.shape[2])
    for place in np.ndindex(right_px.shape):
        projections[place] = np.interp(columns - right_px[place], columns, projections[place])


def test_a_drift_sideways_is_a_doubt_and_moves_no_cor(run):
    theta_deg = np.linspace(0, 360, 361)
    projections = scan(COR_PX, theta_deg=theta_deg, counts=20000)
    prediction, _ = run(rows_of(projections, theta_deg))
    assert "doubts" not in prediction
    moved(projections, 6 * (np.arange(361) / 360 - 0.5)[:, None] + np.zeros(projections.shape[1]))
    prediction, text = run(rows_of(projections, theta_deg))
    assert float(text) == pytest.approx(COR_PX, abs=1.5)
    (doubt,) = prediction["doubts"]
    assert doubt.startswith("the sample or the axis drifted sideways during the scan")
    assert prediction["warnings"] == [doubt]


@pytest.mark.parametrize(
    ("slope_px", "used", "told"),
    [
        (0.015, None, "0.9 px: 0.8"),
        (0.015, UsedRows(0.5), "0.9 px: 1.3"),
        (0.015, UsedRows(rows=[40, 80]), ""),
        (0.05, None, "3.0 px: 2.8"),  # a doubt
        (0.0, UsedRows(rows=[40, 80]), ""),
    ],
)
def test_a_tilted_axis_is_told(tmp_path, slope_px, used, told):
    projections = scan(COR_PX, n_rows=121, counts=5000, theta_deg=np.linspace(0, 180, 91))
    moved(projections, slope_px * (np.arange(121) - 60) + np.zeros((91, 1)))
    write_rows(rows_of(projections, np.linspace(0, 180, 91)), tmp_path / "rows.h5")
    write_json({"cor_px": np.arange(55, 105, 0.5).tolist()}, tmp_path / "try.json")
    # the one that is a doubt leaves classical unsure, which is quicker
    methods = ["ai"] if slope_px > 0.04 else METHODS
    prediction = predict_in(tmp_path, methods=methods, used=used)
    assert prediction["roll_px_per_100_rows"] == pytest.approx(100 * slope_px, abs=0.1)
    assert (
        0.001
        < prediction["roll_error_px_per_100_rows"]
        <= 0.05 + prediction["roll_px_per_100_rows"] / 20
    )
    rows = used.rows if used else "all"  # recorded where they decide on the text
    assert prediction.get("volume_rows") == (rows if slope_px else None)
    words = " off at the outermost rows; `preprocess: {roll_deg"
    found = [warning.replace(words, "") for warning in prediction["warnings"]]
    assert [told in warning for warning in found] == [True] * bool(told)
    assert prediction.get("doubts", []) == (prediction["warnings"] if slope_px > 0.04 else [])


@pytest.mark.parametrize(("roll_deg", "down_rows"), [(3.0, 0.0), (0.0, 3.0)])
def test_a_sample_beside_a_tilted_axis_seems_to_move(tmp_path, roll_deg, down_rows):
    rock = make_phantom("rock", 96, 96).ellipsoids
    beside = [replace(each, x_px=each.x_px + 25) for each in rock]
    size = {"n_rows": 96, "n_cols": 192, "cor_px": 97.4, "counts": 20_000}
    path = write_scan(tmp_path / "s_1.h5", phantom=beside, seed=3, **size).path
    with h5py.File(path, "r+") as file:
        images = file["exchange/data"][:]
        for n, image in enumerate(images):
            turned = ndimage.rotate(image, roll_deg, reshape=False, order=1, mode="nearest")
            images[n] = ndimage.shift(turned, (down_rows * n / 180, 0), order=1, mode="nearest")
        file["exchange/data"][:] = images
    try_in(tmp_path, path, center_px=97.4, width_px=20.0)
    doubt, *others = predict_in(tmp_path, methods=["ai"])["doubts"]
    # the middle of the sample is 2 * 25 * tan(3 degrees) = 2.6 rows lower 180 degrees later
    rows = float(re.match(r"the sample moves (\d\.\d).* rows down during the scan", doubt)[1])
    assert rows == pytest.approx(2.6 if roll_deg else down_rows, abs=0.5)
    assert ("as the axis is tilted" in doubt, "measure again" in doubt) == (
        roll_deg > 0,
        down_rows > 0,
    )
    assert [text.startswith("the axis is tilted: ") for text in others] == [True] * bool(roll_deg)


@pytest.mark.parametrize(
    "check", ["roll.measure_roll", "lateral_drift.warn_of_drift", "size_change.warn_of_size"]
)
def test_a_check_that_fails_leaves_the_cor(run, monkeypatch, check):
    broken = Mock(side_effect=ValueError("no such row"), __name__="check")
    monkeypatch.setattr(f"tomopipe.cor.{check}", broken)
    prediction, _ = run()
    assert prediction["cor_px"] == pytest.approx(COR_PX, abs=0.25)
    failed = [told for told in prediction["warnings"] if "ValueError: no such row" in told]
    assert len(failed) == 1


def test_where_the_sample_jumped_no_cor_is_accepted_and_the_jump_is_told(run):
    projections, moved = scan(COR_PX, counts=5000), scan(COR_PX + 5, counts=5000)
    projections[71:] = moved[71:]
    prediction, text = run(rows_of(projections, THETA_180_DEG))
    (warning,) = prediction["warnings"]
    assert "between projections 70 and 71 of those in use (70.00 and 71.00 degrees)" in warning
    assert float(warning.split(" by about ")[1].split()[0]) == pytest.approx(5, abs=1)
    assert prediction["reason"].startswith(f"{warning}: no single COR is right")
    assert (prediction["verdict"], prediction["cor_px"]) == ("ambiguous", None)
    assert (prediction["confidence"], text) == (0.0, "")
    assert prediction["best_cor_px"] is not None


def test_turns_that_differ_make_a_scan_doubtful(run):
    theta_deg = np.tile(np.arange(180.0), 3)
    still, other = (
        scan(
            COR_PX,
            counts=5000,
            theta_deg=theta_deg,
            seed=seed,
            phantom=make_phantom("rock", 160, 8),
        )
        for seed in (0, 1)
    )  # other noise
    changed = still.copy()
    # a particle that comes with the third turn
    away_px = np.arange(160) - COR_PX - 20 * np.cos(np.deg2rad(theta_deg[360:, None]))
    changed[360:] += 0.2 * np.exp(-((away_px / 4) ** 2))[:, None]
    for projections, doubts in ((other, 0), (changed, 1)):
        prediction, _ = run(rows_of(projections, theta_deg))
        assert prediction["cor_px"] == pytest.approx(COR_PX, abs=0.5)
        assert len(prediction.get("doubts", [])) == doubts
    (text,) = prediction["doubts"]
    assert text.startswith("3 turns of 180 degrees in one file: turn 3 differs from the first")
    assert "input: {skip_projections: [[180, 539]]} uses the first turn only" in text


@pytest.mark.parametrize(("off_deg", "accepted"), [(-20, True), (20, False)])
def test_angles_that_jump_make_a_cor_doubtful_and_explain_one_that_is_not_accepted(
    run, off_deg, accepted
):
    theta_deg = THETA_180_DEG.copy()
    theta_deg[150:] += off_deg
    prediction, _ = run(rows_of(scan(COR_PX, counts=5000), theta_deg, pairs=False))
    assert (prediction["cor_px"] is not None) == accepted
    texts = prediction["doubts"] if accepted else [prediction["reason"]]
    assert f"jump by {off_deg:+.1f} degrees between projections 149 and 150" in texts[0]


@pytest.mark.parametrize(
    ("corrections", "skip", "named"),
    [
        ({}, [], "[60, 79]"),
        ({}, [[20, 29]], "[60, 79]"),  # as recorded, not of those in use
        ({"flats": "none", "darks": "none"}, [], "[60, 79]"),
        ({"air_px": 8}, [], ""),  # scaled to the air the values are right
    ],
    ids=["flats", "skipped", "no flats", "air"],
)
def test_a_beam_that_is_lost_for_a_while_makes_a_scan_doubtful(
    tmp_path, raw, corrections, skip, named
):
    with h5py.File(raw.path, "r+") as file:
        data, dark = file["exchange/data"], file["exchange/data_dark"][()].mean()
        data[60:80] = ((data[60:80] - dark) * 0.05 + dark).astype(data.dtype)
    known = {"skip_projections": skip}
    _, prediction, _ = predicted(tmp_path, raw.path, corrections, known)
    assert prediction["cor_px"] == pytest.approx(raw.cor_px, abs=0.5)
    doubts = [text for text in prediction.get("doubts", []) if "far darker" in text]
    assert len(doubts) == bool(named)
    assert all(f"skip_projections: [{named}]}}" in text for text in doubts)
    assert all(text in prediction["warnings"] for text in doubts)


@pytest.mark.parametrize(
    ("exposure", "corrections", "review"),
    [(1, {}, False), (1.25, {}, False), (2, {}, True), (2, {"air_px": 8}, False)],
)
def test_flats_of_a_longer_exposure_are_named_with_the_transmission_of_the_air(
    tmp_path, raw, exposure, corrections, review
):
    with h5py.File(raw.path, "r+") as file:
        white, dark = file["exchange/data_white"], file["exchange/data_dark"][()].mean()
        white[:] = np.minimum((white[()] - dark) * exposure + dark, 65535).astype(white.dtype)
    _, prediction, _ = predicted(tmp_path, raw.path, corrections)
    expected = [f"air beside the sample has transmission {1 / exposure:.2f} "]
    if exposure == 1 or corrections:
        expected = []
    assert len(prediction["warnings"]) == len(expected)
    assert all(map(str.startswith, prediction["warnings"], expected))
    assert prediction.get("doubts", []) == (prediction["warnings"] if review else [])
    assert prediction["cor_px"] == pytest.approx(raw.cor_px, abs=0.5)


def test_the_option_for_air_stands_where_it_is_far_brighter_than_the_flats(tmp_path, raw):
    with h5py.File(raw.path, "r+") as file:
        white, dark = file["exchange/data_white"], file["exchange/data_dark"][()].mean()
        white[:] = ((white[()] - dark) * 0.6 + dark).astype(white.dtype)
    _, prediction, _ = predicted(tmp_path, raw.path)
    (doubt,) = prediction["doubts"]
    assert doubt.startswith("air is brighter than the flats (transmission 1.6")
    assert re.search(r"\? Set preprocess\.air_px: \d+, if no row shows the sample there$", doubt)


DARK_FLATS = "5 of 10 flats are dark (number 1 to 5)"


@pytest.mark.parametrize(
    ("n_dark", "corrections", "expected"),
    [
        (0, {}, []),
        (5, {}, [DARK_FLATS, "(transmission 2"]),
        (5, {"flats": "none", "darks": "none"}, ["(transmission "]),
        (5, {"air_px": 4}, []),
    ],
    ids=["good", "shutter closed in half of them", "raw counts without flats", "scaled to the air"],
)
def test_flats_that_do_not_fit_are_a_doubt(tmp_path, raw, n_dark, corrections, expected):
    with h5py.File(raw.path, "r+") as file:
        file["exchange/data_white"][:n_dark] = file["exchange/data_dark"][0]
    _, prediction, text = predicted(tmp_path, raw.path, corrections)
    assert prediction.get("doubts", []) == prediction["warnings"]
    assert len(expected) == len(prediction["warnings"])
    assert all(map(str.__contains__, prediction["warnings"], expected))
    assert float(text) == pytest.approx(raw.cor_px, abs=0.5)


@pytest.mark.parametrize(
    ("kind", "method", "told"),
    [
        ("data_dark", "mean", "1 of 3 darks is bright (number 2), up to 100 % of the beam"),
        ("data_white", "mean", "1 of 10 flats is dark (number 2), down to 0 % of the beam"),
        ("data_white", "median", ""),
        ("data_dark", "median", "1 of 3 darks is bright"),
    ],
)
def test_a_dark_or_flat_of_the_other_kind_is_a_doubt(tmp_path, raw, kind, method, told):
    with h5py.File(raw.path, "r+") as file:
        other = {"data_dark": "data_white", "data_white": "data_dark"}[kind]
        file[f"exchange/{kind}"][1] = file[f"exchange/{other}"][0]
    _, prediction, text = predicted(tmp_path, raw.path, {"flat_method": method})
    found = prediction.get("doubts", [])
    assert [warning[: len(told)] for warning in found] == ([told] if told else [])
    assert prediction["warnings"] == found
    assert float(text) == pytest.approx(raw.cor_px, abs=0.5)


@pytest.mark.parametrize("method", ["mean", "median", "interpolate"])
@pytest.mark.parametrize("frames", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["still", "turning"])
def test_some_flats_that_show_the_sample_are_a_doubt(tmp_path, raw, frames, method):
    with h5py.File(raw.path, "r+") as file:
        file["exchange/data_white"][:4] = file["exchange/data"][()][frames]
    _, prediction, _ = predicted(tmp_path, raw.path, {"flat_method": method})
    start = "4 of 10 flats show the sample (number 1 to 4), so the volume is wrong"
    assert any(text.startswith(start) for text in prediction["warnings"])
    doubts = prediction.get("doubts", [])
    assert prediction["cor_px"] is None or any(text.startswith(start) for text in doubts)


@pytest.mark.parametrize("moved_px", [0, 3])
def test_flats_of_another_region_are_a_doubt(tmp_path, raw, moved_px):
    with h5py.File(raw.path, "r+") as file:
        shape = file["exchange/data"].shape[1:]
        pixels = 1 + 0.03 * np.random.default_rng(2).normal(size=shape)
        dark = file["exchange/data_dark"][()].mean(axis=0)
        for name, pattern in (("data", pixels), ("data_white", np.roll(pixels, moved_px, axis=1))):
            dataset = file[f"exchange/{name}"]
            dataset[...] = (dataset[()] - dark) * pattern + dark
    _, prediction, text = predicted(tmp_path, raw.path, {})
    start = "the flats do not fit the projections"
    assert [doubt[: len(start)] for doubt in prediction.get("doubts", [])] == [start] * (
        moved_px > 0
    )
    assert float(text) == pytest.approx(raw.cor_px, abs=0.5)


def test_line_integrals_that_are_read_as_transmission_are_named(tmp_path, raw):
    with h5py.File(raw.path, "r+") as file:
        group = file["exchange"]
        dark, flat = (group[f"data_{kind}"][()].mean(axis=0) for kind in ("dark", "white"))
        light = (group["data"][()] - dark) / (flat - dark)
        del group["data"]
        group["data"] = -np.log(np.maximum(light, 1e-5)).astype(np.float32)
    without = {"flats": "none", "darks": "none"}
    named = [
        [
            text
            for text in predicted(tmp_path, raw.path, keys)[1]["warnings"]
            if "0 or below" in text
        ]
        for keys in (without, {**without, "minus_log": False})
    ]
    assert [len(texts) for texts in named] == [1, 0]


def test_rows_of_an_earlier_version_are_predicted_without_warnings(run, tmp_path):
    prediction, _ = run()
    assert prediction["warnings"] == []
    assert "bad_frames" not in h5py.File(tmp_path / "rows.h5")
    rows = rows_of(scan(COR_PX, counts=5000), THETA_180_DEG)
    prediction, text = run(replace(rows, bad_frames={"dark": tuple(range(36))}))  # a fifth
    assert (prediction["verdict"], text) == ("ambiguous", "")
    assert "are dark, as with the shutter closed" in prediction["warnings"][0]


def test_below_the_limit_the_best_estimate_stays_and_nothing_is_accepted(run):
    rows = replace(rows_of(scan(COR_PX, counts=5000), THETA_180_DEG), theta_missing=True)
    prediction, text = run(rows, min_confidence=0.9)
    assert (prediction["cor_px"], prediction["confidence"], text) == (None, 0.8, "")
    assert prediction["best_cor_px"] == pytest.approx(COR_PX, abs=0.25)
    assert "0.9 needed" in prediction["reason"]
    accepted, text = run(rows, min_confidence=0.8)
    assert text == f"{accepted['cor_px']:.2f}\n"


def test_noise_is_flat_without_an_estimate(run):
    noise = np.random.default_rng(0).normal(size=(181, 8, 160)).astype(np.float32)
    prediction, text = run(rows_of(noise, THETA_180_DEG))
    assert (prediction["verdict"], prediction["best_cor_px"], text) == ("flat", None, "")
    assert "noise" in prediction["reason"]


@pytest.mark.parametrize(
    ("rows", "sweep"),
    [(failed_rows("no beam"), None), (None, {"failed": "no beam"})],
    ids=["rows", "sweep"],
)
def test_a_failure_of_try_recon_is_passed_on(run, rows, sweep):
    prediction, text = run(rows, sweep)
    assert (prediction["verdict"], prediction["reason"], text) == ("failed", "no beam", "")
    assert prediction["best_cor_px"] is prediction["cor_px"] is None


def test_of_rows_that_the_disk_did_not_give_the_prediction_is_not_the_wanted_one(run, tmp_path):
    """Else it would stay if the run ended between try_recon, made again, and predict_cor."""
    sweep = {"failed": "EIO", "made_from": {"step": "try_recon", "not_read": "EIO"}}
    run(failed_rows("EIO"), sweep)
    options = {"methods": METHODS, "made_from": {"step": "predict_cor"}}
    assert predict_in(tmp_path, **options)["verdict"] == "failed"
    written = tmp_path / "prediction.json"
    assert "EIO" in json.loads(written.read_text("utf-8"))["made_from"]["not_read"]
    sweep = {"failed": "no signal", "made_from": {"step": "try_recon"}}
    write_json(sweep, tmp_path / "try.json")
    predict_in(tmp_path, **options)
    assert json.loads(written.read_text("utf-8"))["made_from"] == options["made_from"]


@pytest.fixture
def classical(monkeypatch):
    """Call it with what that method then does."""
    return lambda find: monkeypatch.setattr("tomopipe.cor.classical.find_classical", find)


def test_a_method_that_raises_fails_the_prediction_with_a_traceback(run, classical, caplog):
    classical(Mock(side_effect=RuntimeError("singular\nmatrix")))
    with caplog.at_level(logging.ERROR):
        prediction, text = run()
    assert (prediction["verdict"], prediction["cor_px"], text) == ("failed", None, "")
    assert prediction["reason"] == "classical: RuntimeError: singular matrix"
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_result_that_is_no_number_is_a_failure(run, classical, bad):
    curve = np.arange(3.0)
    result = Answer("classical", bad, 0.9, "resolved", "", curve, curve)
    classical(lambda *_: result)
    assert run()[0]["verdict"] == "failed"


def test_a_lack_of_memory_is_raised_for_a_second_attempt(run, classical):
    classical(Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        run()


def test_without_methods_there_is_no_prediction_and_no_failure(run):
    prediction, text = run(methods=[])
    assert (prediction["verdict"], prediction["methods"], text) == ("flat", {}, "")
    assert prediction["best_cor_px"] is prediction["cor_px"] is None
    assert prediction["reason"] == "no method was asked (predict_cor.methods is empty)"
    # a scan that cannot be tried still is one that failed
    assert run(failed_rows("no beam"), methods=[])[0]["verdict"] == "failed"


@pytest.mark.parametrize("sweep", [{"cor_px": []}, {"cor_px": [1.0, "x"]}, {"window": [0, 1]}, {}])
def test_a_damaged_grid_fails_the_scan_not_the_run(run, sweep):
    prediction, text = run(sweep=sweep)
    assert (prediction["verdict"], text) == ("failed", "")
    assert prediction["reason"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("rows.h5", "foreign", "rows.h5"),
        ("try.json", '{"cor_px": [1.0, ', "try.json: is damaged .*Delete it and run again"),
    ],
)
def test_a_damaged_file_is_named_and_fails_the_scan(tmp_path, name, text, reason):
    write_rows(failed_rows("no beam"), tmp_path / "rows.h5")
    write_json({"cor_px": [1.0]}, tmp_path / "try.json")
    (tmp_path / name).write_text(text)
    prediction = predict_in(tmp_path, methods=METHODS)
    assert prediction["verdict"] == "failed"
    assert re.search(reason, prediction["reason"])
    assert (tmp_path / "center_of_rotation.txt").read_text() == ""


@pytest.mark.parametrize(
    "options",
    [
        {"n_rows": 1},
        {"n_cols": 129, "theta_deg": np.linspace(200, 20, 181)},
        {"beam": {"stripes": 6, "dust": 20}},
    ],
    ids=["one row", "descending, odd width", "stripes and dust"],
)
def test_from_a_raw_scan_to_the_truth(tmp_path, options):
    truth = write_scan(tmp_path / "a_1.h5", cor_px=66.4, counts=5000, **options)
    try_in(tmp_path, truth.path, width_px=15, step_px=1)
    assert predict_in(tmp_path, methods=METHODS)["cor_px"] == pytest.approx(66.4, abs=0.25)


@pytest.mark.realdata
def test_the_tooth(real_scan, tmp_path):
    try_in(tmp_path, real_scan, step_px=2, max_size_px=160)
    prediction = predict_in(tmp_path, methods=METHODS)
    assert prediction["cor_px"] == pytest.approx(295.8, abs=0.3)
    for method in prediction["methods"].values():
        assert method["best_cor_px"] == pytest.approx(295.8, abs=0.5)
