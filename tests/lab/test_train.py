"""`tomopipe lab train`: stages that go on where they stopped, and a network that beats chance."""

import json

import numpy as np
import pytest
from tomopipe_lab.suite import FAMILIES
from tomopipe_lab.train import run, stages
from tomopipe_lab.train.work import WIDE_COLS, Plan, names, read_truth, start
from typer.testing import CliRunner

from tomopipe.cli import cli
from tomopipe.cor.ai.network import load_model
from tomopipe.cor.collected_rows import read_rows
from tomopipe.errors import TomopipeError

SMALL = Plan(seed=5, n_train=6, n_validation=6, n_wide=1, n_cols=(48, 56), width=8, epochs=8)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder after all stages of a tiny training of A."""
    folder = tmp_path_factory.mktemp("work")
    start(folder, SMALL)
    stages = "simulate", "features", "train"
    return folder, run.everything(folder, SMALL, run.Options(cores=1), lambda *call: None, stages)


def test_the_result_is_a_network_that_loads_and_says_what_it_was_trained_on(work):
    folder, card = work
    assert load_model(folder / "nets" / "A.safetensors").card == card
    assert (card["data"]["train"], card["data"]["validation"], card["data"]["seed"]) == (6, 6, 5)
    assert card["validation"]["n"] + card["validation"]["n_without_answer"] == 6
    assert set(card["data"]["families"]["train"]).isdisjoint(card["data"]["families"]["validation"])


def test_some_scans_that_calibrate_are_as_wide_as_detectors(work):
    folder, card = work
    assert card["wide"]["n"] + card["wide"]["n_without_answer"] == card["data"]["wide"] == 1
    for name in names(folder, "wide"):
        path = folder / "rows" / "wide" / name
        assert WIDE_COLS[0] <= read_rows(path.with_suffix(".h5")).sinograms.shape[2] <= WIDE_COLS[1]
        family = read_truth(path.with_suffix(".json")).family
        assert family in {"", *(made.__name__ for made in FAMILIES["validation"])}


def test_it_beats_chance_clearly(work):
    """A place drawn at random is within 1 px of the axis in 3 of 50 scans."""
    _, card = work
    assert card["validation"]["within_1px"] > 0.3


def test_what_is_there_is_not_made_again_and_what_is_missing_is(work, monkeypatch):
    folder, _ = work
    every = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    gone = folder / "features" / "train" / "000003.npz"
    before = stages.read_features(gone)
    gone.unlink()
    progress_calls = []
    for stage in ("simulate", "features"):
        run.everything(
            folder, SMALL, run.Options(cores=1), lambda *call: progress_calls.append(call), (stage,)
        )
    assert progress_calls == [("simulate", 13, 13), ("features", 12, 13), ("features", 13, 13)]
    after = stages.read_features(gone)
    np.testing.assert_array_equal(after.grid, before.grid)
    np.testing.assert_array_equal(after.scan, before.scan)
    changed = [path for path, time in every.items() if path.stat().st_mtime_ns != time]
    assert changed == [gone]


def test_a_folder_of_another_plan_is_refused(tmp_path):
    start(tmp_path, SMALL)
    with pytest.raises(TomopipeError, match=r"begun with seed 5, now 6"):
        start(tmp_path, Plan(seed=6, n_cols=(48, 56)))


def test_too_few_scans_are_refused(tmp_path):
    start(tmp_path, SMALL)
    with pytest.raises(TomopipeError, match="0 scans in train"):
        run.train(tmp_path, SMALL, run.Options(), lambda *call: None)


@pytest.mark.parametrize("text", ["{}", "[]", '{"cor_px": "x"}', '{"cor_px": NaN}', "{"])
def test_a_truth_that_is_no_number_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(TomopipeError, match=r"a\.json: expected"):
        read_truth(tmp_path / "a.json")


def test_files_being_written_are_no_scans(tmp_path):
    (tmp_path / "rows" / "train").mkdir(parents=True)
    (tmp_path / "rows" / "train" / ".tmp-1.json").touch()
    assert names(tmp_path, "train") == []


def test_the_command_shows_a_card_without_its_calibration(work):
    folder, card = work
    shown = ["--card", str(folder / "nets" / "A.safetensors")]
    result = CliRunner().invoke(cli, ["lab", "train", *shown])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {k: v for k, v in card.items() if k != "confidence"}


def test_the_command_trains_on_from_what_is_there(work):
    folder, _ = work
    assert json.loads((folder / "plan.json").read_text())["n_cols"] == [48, 56]
    options = run.Options(cores=1, start=str(folder / "nets" / "A.safetensors"))
    more = run.everything(folder, SMALL, options, lambda *call: None, ("train",))
    assert more["data"]["start"].endswith("A.safetensors")
