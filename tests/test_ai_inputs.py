"""The input of the networks: frozen, the same in a mirror, and free of what users set."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_scans import COR_PX, N_COLS, inputs_of, rows_with
from find_rows import HALF_TURN_DEG, rows_of, scan

from tests.phantoms import make_phantom
from tomopipe.find.ai.inputs import Inputs, mirrored
from tomopipe.find.ai.recipe import RECIPE, recipe_hash

GOLDEN = Path(__file__).with_name("ai_golden.json")


@pytest.fixture(scope="module")
def inputs():
    return inputs_of(rows_with())


@pytest.fixture(scope="module")
def short_inputs():
    return inputs_of(short())


def short():
    """A whole sample over 149 degrees, behind dirt: nothing is seen half a turn later."""
    theta_deg = HALF_TURN_DEG[:150]
    small = make_phantom("rock", 88, 8, 0)
    clear = scan(COR_PX, n_cols=N_COLS, theta_deg=theta_deg, phantom=small, counts=5000)
    dirt = 0.03 * np.percentile(clear, 98) * np.sin(np.arange(N_COLS) / 5.0)
    return rows_of(clear + dirt, theta_deg, pairs=False)


def half_acquisition():
    """A full turn of a sample that leaves the field on one side, beside the axis."""
    theta_deg, small = np.arange(0, 360, 3), make_phantom("rock", 112, 8, 0)
    whole = scan(COR_PX, n_cols=N_COLS, theta_deg=theta_deg, phantom=small, counts=5000)
    return rows_of(whole[..., int(COR_PX) - 20 :], theta_deg, pairs=False)


def summary(inputs: Inputs) -> dict:
    """Some numbers of each part of an input."""
    some = np.linspace(0, inputs.grid.shape[1] - 1, 12).round().astype(int)
    axis = int(np.argmin(np.abs(inputs.cor_px - COR_PX)))
    return {
        "grid": inputs.grid[:, some].tolist(),
        "axis": inputs.grid[:, axis - 8 : axis + 9 : 4].tolist(),
        "mean": inputs.grid.mean(axis=1).tolist(),
        "scan": inputs.scan.tolist(),
        "rivals_px": inputs.rivals_px.tolist(),
        "rival": inputs.rival.mean(axis=1).tolist(),
        "seam": np.abs(inputs.seam.astype(float)).mean(axis=(2, 3)).tolist(),
        "windows": np.abs(inputs.windows.astype(float)).mean(axis=(2, 3)).tolist(),
    }


def test_the_input_of_fixed_scans_is_that_of_its_version(inputs, short_inputs):
    """Who moves the input bumps Recipe.version, trains anew and runs this file as a script."""
    golden = json.loads(GOLDEN.read_text("utf-8"))
    assert (golden["version"], golden["recipe"]) == (RECIPE.version, recipe_hash())
    partly = inputs_of(half_acquisition())
    for which, seen in (("input", inputs), ("short", short_inputs), ("half", partly)):
        found = summary(seen)
        for name, values in golden[which].items():
            np.testing.assert_allclose(found[name], values, atol=5e-3, err_msg=f"{which} {name}")


def test_the_hash_sees_every_constant_and_the_version():
    hashes = {recipe_hash(), recipe_hash(replace(RECIPE, version=RECIPE.version + 1))}
    hashes |= {recipe_hash(replace(RECIPE, window=RECIPE.window + 1))}
    assert len(hashes) == 3


def test_a_rival_is_the_true_cor_and_its_evidence_is_the_strongest(inputs):
    assert inputs.rivals_px[0] == pytest.approx(COR_PX, abs=1)
    there = inputs.rival_index >= 0
    total = inputs.grid[-5, inputs.rival_index[there]]
    assert np.argmax(total) == 0
    assert np.diff(np.sort(inputs.rival_index[there])).min() >= RECIPE.apart


def test_the_seam_cancels_at_the_true_cor_only(inputs):
    residual = np.abs(inputs.seam[:, 0].astype(float)).mean(axis=(1, 2))
    content = np.abs(inputs.seam[:, 1].astype(float)).mean(axis=(1, 2))
    assert residual[0] < 0.2 * content[0]
    assert (residual[1:] > 0.35 * content[1:]).all()


def test_artefacts_on_both_sides_are_alike_at_the_true_cor_only():
    """At the axis c + d and c - d are equally wrong: both differ from the slice at c by as much."""
    windows = inputs_of(rows_with(counts=20000)).windows[:, :, 2:-2].astype(float)
    plus = np.abs(windows[:, 2] + 0.5 * windows[:, 1]).mean(axis=(1, 2))
    minus = np.abs(windows[:, 2] - 0.5 * windows[:, 1]).mean(axis=(1, 2))
    assert plus[0] == pytest.approx(minus[0], rel=0.1)
    assert plus[0] > 0.05


def test_a_mirrored_scan_gives_the_mirrored_input(inputs):
    rows = rows_with()
    back = replace(rows, sinograms=rows.sinograms[:, :, ::-1], pairs=rows.pairs[..., ::-1])
    seen, expected = inputs_of(back), mirrored(inputs, len(RECIPE.kinds))
    assert seen.rivals_px[0] == pytest.approx(N_COLS - 1 - COR_PX, abs=1)
    np.testing.assert_allclose(seen.cor_px, expected.cor_px)
    # the axis of a slice is half a voxel off its middle: slices are alike, not equal
    agree = [
        np.corrcoef(a, b)[0, 1]
        for a, b in zip(seen.grid, expected.grid, strict=True)
        if a.std() > 0
    ]
    assert np.median(agree) > 0.98
    sums = [one.seam[0, 1].astype(float).sum(axis=1) for one in (seen, expected)]
    np.testing.assert_allclose(*sums, atol=0.05 * np.abs(expected.seam[0, 1].astype(float)).sum())


def test_mirroring_twice_changes_nothing(inputs):
    twice = mirrored(mirrored(inputs, len(RECIPE.kinds)), len(RECIPE.kinds))
    for name in ("cor_px", "grid", "scan", "rival_index", "seam", "windows"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(inputs, name))


def test_a_scan_without_opposed_lines_has_an_empty_seam(short_inputs):
    assert not short_inputs.seam.any()
    assert short_inputs.windows.any()


if __name__ == "__main__":
    told = {
        "version": RECIPE.version,
        "recipe": recipe_hash(),
        "input": summary(inputs_of(rows_with())),
        "short": summary(inputs_of(short())),
        "half": summary(inputs_of(half_acquisition())),
    }
    rounded = json.loads(json.dumps(told), parse_float=lambda text: round(float(text), 4))
    GOLDEN.write_text(json.dumps(rounded, sort_keys=True) + "\n", "utf-8")
