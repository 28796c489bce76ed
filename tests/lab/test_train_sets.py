"""Sets of accepted CORs: exported from a campaign, taken into a training."""

import json

import pytest
from ai_scans import rows_with
from tomopipe_lab.train.sets import LEAST, take_set
from tomopipe_lab.train.work import Plan, names, read_truth
from typer.testing import CliRunner

from tomopipe.cli import cli
from tomopipe.cor.rows_file import read_rows, write_rows
from tomopipe.errors import TomopipeError

SOURCES = {
    "a_1": "manual", "a_2": "ai", "a_3": "auto", "a_4": "series-mean", "a_5": "default",
    "a_6": "neighbours", "a_7": "outlier",
}  # fmt: skip


@pytest.fixture
def campaign(tmp_path):
    """A campaign whose scans have CORs of every source, and rows but for one."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    results = tmp_path / "results"
    for scan in SOURCES:
        (tmp_path / "raw" / f"{scan}.h5").write_bytes(b"")
        if scan != "a_3":
            (results / "try_center" / scan).mkdir(parents=True)
            write_rows(rows_with(), results / "try_center" / scan / "rows.h5")
    cors = {scan: {"cor_px": 60.25, "source": source} for scan, source in SOURCES.items()}
    (results / "cor.json").write_text(json.dumps(cors))
    return tmp_path


def test_a_set_has_the_cors_of_hands_and_methods_with_their_rows(campaign):
    command = ["cor", "export", str(campaign / "set"), "--format", "training"]
    result = CliRunner().invoke(cli, [*command, "-C", str(campaign)])
    assert result.exit_code == 0, result.output
    assert "wrote 2 scans" in result.output
    assert sorted(path.name for path in (campaign / "set").iterdir()) == [
        "a_1.h5", "a_1.json", "a_2.h5", "a_2.json",
    ]  # fmt: skip
    assert read_truth(campaign / "set" / "a_1.json").cor_px == 60.25
    assert read_rows(campaign / "set" / "a_1.h5").sinograms.shape[2] == 128


@pytest.mark.parametrize("name", ["a_1.h5", "a_1.json"])
def test_files_that_are_of_no_set_are_not_overwritten(campaign, name):
    """Such as the raw files themselves."""
    folder = campaign / "set"
    command = ["cor", "export", str(folder), "--format", "training", "-C", str(campaign)]
    folder.mkdir()
    (folder / name).write_bytes(b"theirs")
    result = CliRunner().invoke(cli, command)
    assert "a_1.h5 or a_1.json, which are of no such set" in str(result.exception)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [(name, b"theirs")]
    (folder / name).unlink()
    for _ in range(2):  # over a set of its own
        for rows in campaign.glob("results/try_center/*/rows.h5"):
            write_rows(rows_with(), rows, made_from={"step": "try_recon"})
        assert CliRunner().invoke(cli, command).exit_code == 0


def a_set(folder, n):
    folder.mkdir()
    for i in range(n):
        write_rows(rows_with(), folder / f"s {i}.h5")
        (folder / f"s {i}.json").write_text('{"cor_px": 60.25}')
    return folder


def test_a_quarter_of_a_set_validates_the_same_each_time(tmp_path):
    folder = a_set(tmp_path / "set", LEAST)
    result = take_set(folder, tmp_path / "work", Plan())
    assert result == "18 scans to train on, 6 to validate"
    train, checks = (names(tmp_path / "work", split) for split in ("train", "validation"))
    assert (len(train), len(checks)) == (18, 6)
    assert not set(train) & set(checks)
    take_set(folder, tmp_path / "again", Plan())
    assert names(tmp_path / "again", "validation") == checks
    take_set(folder, tmp_path / "other", Plan(seed=2))
    assert names(tmp_path / "other", "validation") != checks


def test_a_small_set_is_refused(tmp_path):
    with pytest.raises(TomopipeError, match=rf"{LEAST - 1} scans.*at least {LEAST}"):
        take_set(a_set(tmp_path / "set", LEAST - 1), tmp_path / "work", Plan())


def test_a_truth_without_rows_is_refused(tmp_path):
    folder = a_set(tmp_path / "set", LEAST)
    (folder / "s 3.h5").unlink()
    with pytest.raises(TomopipeError, match=r"s 3\.h5: no such file"):
        take_set(folder, tmp_path / "work", Plan())
