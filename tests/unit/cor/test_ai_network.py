"""The network and its files: as torch scores, checked at loading, even-handed in a mirror."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_scans import COR_PX, N_COLS, inputs_of, random_weights, rows_with, write_model
from find_rows import THETA_180_DEG, curves_of, rows_of, scan

from tests.phantoms import make_phantom
from tomopipe.cor.ai.model_card import card_path, model_record
from tomopipe.cor.ai.network import (
    RECIPE,
    TOTAL_VARIATION,
    Inputs,
    all_curves,
    load_model,
    mirrored,
    predict,
    recipe_hash,
)
from tomopipe.errors import TomopipeError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return inputs_of(rows_with())


def test_a_mirrored_scan_gives_the_mirrored_output(inputs):
    weights = random_weights(inputs, 1)
    direct, reflected = predict(weights, inputs), predict(weights, mirrored(inputs))
    np.testing.assert_allclose(direct.score, reflected.score[::-1], atol=1e-4)
    assert direct.share.sum() + direct.none == pytest.approx(1)


def test_a_network_read_back_says_the_same(inputs, tmp_path):
    path = tmp_path / "net.safetensors"
    card = write_model(path, inputs)
    expected = predict(random_weights(inputs), inputs)
    np.testing.assert_array_equal(predict(load_model(path).weights, inputs).score, expected.score)
    assert model_record(path) == {"name": "test", "sha256": card["sha256"]}


def test_weights_that_are_not_those_of_the_card_are_refused(inputs, tmp_path):
    path, other = tmp_path / "net.safetensors", tmp_path / "other.safetensors"
    write_model(path, inputs)
    write_model(other, inputs, seed=1)
    path.write_bytes(other.read_bytes())
    with pytest.raises(TomopipeError, match="do not belong together"):
        load_model(path)


def test_a_file_of_anything_else_is_refused(inputs, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"no weights")
    sha256 = hashlib.sha256(b"no weights").hexdigest()
    card = write_model(tmp_path / "other.safetensors", inputs)
    card_path(path).write_text(json.dumps(card | {"sha256": sha256}))
    with pytest.raises(TomopipeError, match=r"net\.safetensors: expected the weights of its card"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recipe": "0" * 64, "recipe_version": 7}, "recipe version 7"),
        ({"net": "A+B"}, r"net\.json: expected a network A; got A\+B.*Train it"),
        ("{", r"net\.json: expected"),
        ('{"net": "A"}', r"net\.json: expected"),
        ("[]", r"net\.json: expected"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(inputs, tmp_path, change, reason):
    path = tmp_path / "net.safetensors"
    card = write_model(path, inputs)
    text = change if isinstance(change, str) else json.dumps(card | change)
    card_path(path).write_text(text)
    with pytest.raises(TomopipeError, match=reason):
        load_model(path)


@pytest.mark.parametrize("missing", ["weights", "card"])
def test_a_missing_file_is_named_with_what_to_do(inputs, tmp_path, missing):
    path = tmp_path / "net.safetensors"
    write_model(path, inputs)
    gone = path if missing == "weights" else card_path(path)
    gone.unlink()
    with pytest.raises(TomopipeError, match=rf"{gone.name}: no such file.*predict_cor\.methods"):
        load_model(path)


GOLDEN = Path(__file__).with_name("ai_golden.json")


@pytest.fixture(scope="module")
def short_inputs():
    return inputs_of(short())


def short():
    """A whole sample over 149 degrees, behind dust: no projection is 180 degrees later."""
    theta_deg = THETA_180_DEG[:150]
    small = make_phantom("rock", 88, 8, 0)
    clear = scan(COR_PX, n_cols=N_COLS, theta_deg=theta_deg, phantom=small, counts=5000)
    dust = 0.03 * np.percentile(clear, 98) * np.sin(np.arange(N_COLS) / 5.0)
    return rows_of(clear + dust, theta_deg, pairs=False)


def half_acquisition():
    """A full rotation of a sample that leaves the field on one side, beside the axis."""
    theta_deg, small = np.arange(0, 360, 3), make_phantom("rock", 112, 8, 0)
    whole = scan(COR_PX, n_cols=N_COLS, theta_deg=theta_deg, phantom=small, counts=5000)
    return rows_of(whole[..., int(COR_PX) - 20 :], theta_deg, pairs=False)


def summary(inputs: Inputs) -> dict:
    """Some numbers of each part of an input."""
    columns = np.linspace(0, inputs.grid.shape[1] - 1, 12).round().astype(int)
    axis = int(np.argmin(np.abs(inputs.cor_px - COR_PX)))
    return {
        "grid": inputs.grid[:, columns].tolist(),
        "axis": inputs.grid[:, axis - 8 : axis + 9 : 4].tolist(),
        "mean": inputs.grid.mean(axis=1).tolist(),
        "scan": inputs.scan.tolist(),
    }


def test_the_input_of_fixed_scans_is_that_of_its_version(inputs, short_inputs):
    """Who moves the input bumps Recipe.version, trains anew and runs this file as a script."""
    golden = json.loads(GOLDEN.read_text("utf-8"))
    assert (golden["version"], golden["recipe"]) == (RECIPE.version, recipe_hash(RECIPE))
    partly = inputs_of(half_acquisition())
    for which, measured in (("input", inputs), ("short", short_inputs), ("half", partly)):
        found = summary(measured)
        for name, values in golden[which].items():
            np.testing.assert_allclose(found[name], values, atol=5e-3, err_msg=f"{which} {name}")


def test_the_hash_sees_every_constant_and_the_version():
    hashes = {recipe_hash(RECIPE), recipe_hash(replace(RECIPE, version=RECIPE.version + 1))}
    hashes |= {recipe_hash(replace(RECIPE, apart=RECIPE.apart + 1))}
    assert len(hashes) == 3


def test_the_sum_of_the_evidence_is_highest_at_the_axis_and_mirrored_with_the_scan(inputs):
    assert inputs.cor_px[np.argmax(inputs.grid[-5])] == pytest.approx(COR_PX, abs=1)
    rows = rows_with()
    back = replace(rows, sinograms=rows.sinograms[:, :, ::-1], pairs=rows.pairs[..., ::-1])
    measured, expected = inputs_of(back), mirrored(inputs)
    np.testing.assert_allclose(measured.cor_px, expected.cor_px)
    # the axis of a slice is half a voxel off its middle: slices are alike, not equal
    agree = [
        np.corrcoef(a, b)[0, 1]
        for a, b in zip(measured.grid, expected.grid, strict=True)
        if a.std() > 0
    ]
    assert np.median(agree) > 0.98


if __name__ == "__main__":
    current = {
        "version": RECIPE.version,
        "recipe": recipe_hash(RECIPE),
        "input": summary(inputs_of(rows_with())),
        "short": summary(inputs_of(short())),
        "half": summary(inputs_of(half_acquisition())),
    }
    rounded = json.loads(json.dumps(current), parse_float=lambda text: round(float(text), 4))
    GOLDEN.write_text(json.dumps(rounded, sort_keys=True) + "\n", "utf-8")


def test_over_360_degrees_minimum_total_variation_is_not_searched():
    theta_deg = np.arange(0, 360, 2)
    rows = rows_of(scan(58.2, n_cols=128, theta_deg=theta_deg), theta_deg)
    curves, evidence = all_curves(curves_of(rows)), curves_of(rows).measures
    assert RECIPE.kinds[-1] == TOTAL_VARIATION
    np.testing.assert_array_equal(curves.raw[:-1], evidence.raw)
    np.testing.assert_array_equal(curves.prominence[:-1], evidence.prominence)
    assert len(curves.valid) == len(RECIPE.kinds)
    assert not curves.valid[-1]
    assert not curves.raw[-1].any()
    assert not curves.prominence[-1].any()


@pytest.mark.parametrize("theta_deg", [np.linspace(0, 140, 141), np.linspace(0, 180, 181)])
def test_over_less_its_curve_peaks_at_the_axis(theta_deg):
    whole = scan(58.2, n_cols=128, theta_deg=theta_deg)
    curves = all_curves(curves_of(rows_of(whole, theta_deg, pairs=False)))
    assert curves.valid[-1]
    for curve in (curves.raw[-1], curves.prominence[-1]):
        assert curves.cor_px[np.argmax(curve)] == pytest.approx(58.2, abs=1)
        assert np.isfinite(curve).all()
    far = np.abs(curves.cor_px - 58.2) > 10
    assert curves.prominence[-1, far].max() < 0.2 * curves.prominence[-1].max()
