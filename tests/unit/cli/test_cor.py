"""`tomopipe cor` on a campaign folder, as a user calls it."""

import json
import os
import re
import shlex
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tests.rights import heeding
from tests.unit.conftest import small_campaign
from tomopipe.campaign.results import read_tsv, write_tsv
from tomopipe.cli import cli
from tomopipe.cli.cor import app
from tomopipe.cli.terminal import near, print_columns
from tomopipe.cor.outliers import FIX_COLUMNS
from tomopipe.errors import TomopipeError
from tomopipe.steps.inventory import COLUMNS
from tomopipe.storage.atomic import write_json

TABLE = "# mine\nscan\tcor_px\tselect\tnote\tbeam\na_1\t\t\t\ton\na_2\t1010\t\tby eye\ton\n"


@pytest.fixture
def campaign(tmp_path):
    """Return a campaign folder of four files that are there by name only, and a table."""
    (tmp_path / "raw").mkdir()
    for name in ("a_1", "a_2", "b [red] 1", "b [red] 2"):
        (tmp_path / "raw" / f"{name}.h5").write_bytes(b"")
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (tmp_path / "scans.tsv").write_text(TABLE)
    return tmp_path


@pytest.fixture
def results(campaign):
    """Add what a run has left: all of series a, of series b the inventory alone."""
    folder = campaign / "results"
    inventory = [
        {"scan": "a_1", "n_cols": 2048, "keep": "true"},
        {"scan": "a_2", "n_cols": 2048, "keep": "true"},
        {"scan": "b [red] 1", "n_cols": 600, "keep": "true"},
        {"scan": "b [red] 2", "n_cols": 600, "keep": "false"},
    ]
    rows = [row | {"path": f"raw/{row['scan']}.h5", "reason": ""} for row in inventory]
    write_tsv(rows, COLUMNS, folder / "inventory.tsv")
    fixed = [
        {"scan": "a_1", "before_px": "1300.00", "after_px": "1010.00", "source": "outlier"},
        {"scan": "a_2", "before_px": "1010.00", "after_px": "1010.00", "source": "manual"},
    ]
    write_tsv(fixed, FIX_COLUMNS, folder / "fix_cor" / "a.tsv")
    prediction = folder / "try_center" / "a_1" / "prediction.json"
    prediction.parent.mkdir(parents=True)
    prediction.write_text(json.dumps({"cor_px": 1300.0, "confidence": 0.756}))
    cors = {
        "a_1": {"cor_px": 1010.0, "source": "outlier"},
        "a_2": {"cor_px": 1010.0, "source": "manual"},
    }
    (folder / "cor.json").write_text(json.dumps(cors))
    return folder


REPLACED = "predicted 1300.00 (confidence 0.76), replaced"


def call(campaign, *arguments):
    """Call `tomopipe cor`, and hand on what it prints or the error it ends with."""
    arguments = [*map(str, arguments), "-C", str(campaign)]
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return result.output


def table(campaign):
    return (campaign / "scans.tsv").read_text()


def rows(output):
    """Return the cells of each line of the table printed by `list`."""
    head, *lines = [line for line in output.splitlines() if "since the last run" not in line]
    starts = [word.start() for word in re.finditer(r"\S+", head)]
    return [[line[slice(*ends)].strip() for ends in pairwise([*starts, None])] for line in lines]


@pytest.mark.parametrize("command", ["cor list", "cor set a_1 1000.5", "report", "plan"])
def test_without_its_raw_files_a_campaign_is_refused_and_nothing_written(
    campaign, results, command, monkeypatch
):
    monkeypatch.chdir(campaign)
    (campaign / "raw").rename(campaign / "raw_")
    before = {path: path.read_bytes() for path in campaign.rglob("*") if path.is_file()}
    result = CliRunner().invoke(cli, command.split())
    assert str(result.exception) == (
        "raw: this folder has no raw files now, but the campaign has 4 scans of it. Mount it or "
        "move it back, and run again; if the files are gone for good, or the "
        "pattern is wrong, correct campaign.scans."
    )
    assert {path: path.read_bytes() for path in campaign.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["status", "verify"])
def test_results_alone_can_be_looked_at_elsewhere(campaign, results, command, monkeypatch):
    monkeypatch.chdir(campaign)
    (campaign / "raw").rename(campaign / "raw_")
    assert CliRunner().invoke(cli, [command]).exit_code == 0


def test_list_shows_results_as_far_as_they_go(campaign, results):
    output = call(campaign, "list")
    assert rows(output) == [
        ["a_1", "a", "1010.00", "replaced", "1300.00", "0.76", "", "▲ fixed", REPLACED],
        ["a_2", "a", "1010.00", "by hand", "1010.00", "", "1010", "◆ manual", ""],
        ["b [red] 1", "b [red]", "", "", "", "", "", "… pending", ""],
        ["b [red] 2", "b [red]", "", "", "", "", "", "– skipped", ""],
    ]
    assert "set or removed by hand" not in output
    some = call(campaign, "list", "b*", "a_2.h5")
    assert [row[0] for row in rows(some)] == ["a_2", "b [red] 1", "b [red] 2"]


def test_list_leaves_out_empty_columns_and_fits_a_narrow_terminal(
    campaign, results, monkeypatch, capsys
):
    (campaign / "scans.tsv").unlink()
    (results / "try_center" / "a_1" / "prediction.json").unlink()
    lines = call(campaign, "list", "b*").splitlines()
    assert lines[0].split() == ["scan", "series", "COR", "source", "state"]
    rows = [
        ("rock_0001", "the angles do not cover 180 degrees", "– skipped"),
        ("rock_0002", "", ""),
    ]
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_columns(("scan", "source", "state"), rows, ["", ""])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 40
    assert [line[:9].strip() for line in lines[1:]] == ["rock_0001", "", "rock_0002"]
    assert " ".join(line[11:28].strip() for line in lines[1:3]) == rows[0][1]


@pytest.mark.parametrize("n_columns", [None, 60, 140])
def test_one_long_name_makes_no_other_line_wide(monkeypatch, capsys, n_columns):
    """Without a terminal its own line is longer; where all fits, columns are aligned as ever."""
    long = f"sample_{'at_800_degrees_' * 6}1"
    rows = [(name, "try_recon, predict_cor", "new") for name in ("b_1", "b_2", "b_3", long)]
    if n_columns:
        monkeypatch.setenv("COLUMNS", str(n_columns))
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_columns(("scan", "what runs", "why"), rows, remark="why")
    lines = capsys.readouterr().out.splitlines()
    of_first = lines[1].index("try_recon") - 2
    assert of_first <= {None: 40, 60: 40, 140: len(long)}[n_columns]
    if n_columns == 60:
        assert max(map(len, lines)) <= 60
        assert "".join(line[:of_first].strip() for line in lines[4:]).startswith(long)
    else:
        assert lines[-1] == f"{long}  try_recon, predict_cor  new"


def test_list_says_why_a_scan_is_skipped(campaign, results):
    inventory = results / "inventory.tsv"
    lines = inventory.read_text().splitlines()
    lines[-1] = lines[-1].replace("\tfalse\t", "\tfalse\tcannot be opened", 1)
    inventory.write_text("\n".join(lines) + "\n")
    assert "cannot be opened" in read_tsv(inventory, COLUMNS)[-1]["reason"]
    assert rows(call(campaign, "list"))[-1][-2:] == ["– skipped", "cannot be opened"]
    (campaign / "scans.tsv").write_text("scan\tselect\nb [red] 2\tno\n")
    assert rows(call(campaign, "list"))[-1][-2:] == ["○ unselected", ""]


@pytest.mark.parametrize(
    ("value", "confidence", "says"),
    [
        ("1293.9", 0.756, "a_1 is -6.10 px from the prediction, of confidence 0.76"),
        ("1300.9", 0.756, ""),
        ("1293.9", 0.2, ""),
        ("''", 0.756, ""),
    ],
)
def test_a_cor_far_from_a_confident_prediction_is_said_to_be(
    campaign, results, value, confidence, says
):
    path = results / "try_center" / "a_1" / "prediction.json"
    path.write_text(json.dumps({"cor_px": 1300.0, "confidence": confidence}))
    _, *lines = call(campaign, "set", "a_1", value.strip("'")).splitlines()
    assert lines == [says] * bool(says)
    assert (says.partition(" is ")[2] in call(campaign, "list", "a_1")) or not says
    (results / "try_center" / "a_2").mkdir()
    (results / "try_center" / "a_2" / "prediction.json").write_text(path.read_text())
    lines = call(campaign, "set", "a_*", value.strip("'"), "-n").splitlines()[2:]
    assert lines == [f"{says}; 1 more are far from theirs: tomopipe cor list"] * bool(says)


def test_before_the_first_run_a_cor_off_the_detector_is_not_one_by_hand(tmp_path):
    small_campaign(tmp_path, "a_1", "a_2")
    (tmp_path / "scans.tsv").write_text("scan\tcor_px\na_1\t500\na_2\t20\n")
    first, second = rows(call(tmp_path, "list"))
    assert first[-2] == "… pending"
    assert re.fullmatch(r"manual COR 500.00 is off the detector \(0 to \d+\), ignored", first[-1])
    assert second[-2:] == ["◆ manual", ""]


def test_list_as_json(campaign, results):
    remarks = [row[-1] for row in rows(call(campaign, "list"))]
    found = json.loads(call(campaign, "list", "--json"))
    assert [scan["scan"] for scan in found] == ["a_1", "a_2", "b [red] 1", "b [red] 2"]
    assert found[0] == {
        "scan": "a_1",
        "series": "a",
        "cor_px": 1010.0,
        "source": "outlier",
        "before_px": 1300.0,
        "confidence": 0.76,
        "manual": "",
        "error_px": None,
        "state": "fixed",
        "remark": remarks[0],
    }
    assert (found[3]["cor_px"], found[3]["source"]) == (None, "skipped")


def test_list_tells_what_waits_for_a_run(campaign, results):
    results.rename(campaign / "aside")  # before the first
    output = call(campaign, "list")
    assert [row[0] for row in rows(output)] == ["a_1", "a_2", "b [red] 1", "b [red] 2"]
    assert "1 set or removed by hand since the last run" in output
    (campaign / "aside").rename(results)
    call(campaign, "set", "a_2", "--clear")
    assert "1 set or removed by hand" in call(campaign, "list")
    call(campaign, "set", "a_1", "1001")
    assert "2 set or removed by hand" in call(campaign, "list")
    call(campaign, "set", "b [red] 2", "300")  # skipped: no run will use it
    assert "2 set or removed by hand" in call(campaign, "list")


@pytest.mark.parametrize("name", ["cor.json", "inventory.tsv", "try_center/a_1/prediction.json"])
def test_damaged_results_are_named(campaign, results, name):
    (results / name).write_text("{")
    with pytest.raises(TomopipeError, match=rf"{name}: .*Delete .* and run again"):
        call(campaign, "list")


def test_set_changes_one_cell(campaign, results):
    (results / "try_center" / "a_1" / "prediction.json").unlink()
    assert call(campaign, "set", "a_1", "1000.5", "-n") == "a_1 (dry run): cor_px 1000.50\n"
    assert table(campaign) == TABLE
    assert call(campaign, "set", "a_1", " 1000.5 ") == "a_1: cor_px 1000.50\n"
    assert table(campaign) == TABLE.replace("a_1\t\t", "a_1\t1000.50\t")
    assert "(unchanged)" in call(campaign, "set", "a_1", "1000.50")


def test_set_says_where_it_has_no_effect(campaign, results):
    said = "This COR has no effect while a_1 is not selected: "
    text = call(campaign, "set", "b [red] 2", "7")
    first, second = text.splitlines()
    assert first == "b [red] 2: cor_px 7.00"
    assert second == f"{said.replace('a_1', 'b [red] 2')}skipped by the inventory"
    assert "no effect" not in call(campaign, "set", "b [red] 2", "--clear")
    (campaign / "scans.tsv").write_text("scan\tselect\na_1\tno\n")
    assert call(campaign, "set", "a_1", "7", "-n").endswith(f"{said}select: no\n")
    assert "no effect" not in call(campaign, "set", "a_2", "7")


def test_set_takes_a_note_and_clears(campaign):
    assert call(campaign, "set", "b [red] 1", "7,5", "-n") == "b [red] 1 (dry run): cor_px 7.50\n"
    call(campaign, "set", "b [red] 1", "7", "--note", "guess")
    assert table(campaign) == TABLE + "b [red] 1\t7.00\tauto\tguess\t\n"
    call(campaign, "set", "b [red] 1", "", "--note", "")
    assert table(campaign) == TABLE + "b [red] 1\t\tauto\t\t\n"
    call(campaign, "set", "a_2", "--note", "kept")
    assert "a_2\t1010\t\tkept\ton\n" in table(campaign)
    assert call(campaign, "set", "a_2", "--clear") == "a_2: cor_px removed\n"
    assert "a_2\t\t\tkept\ton\n" in table(campaign)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a_1", "1,024"), "a_1: expected a COR with a decimal point, .*got '1,024'"),
        (("a_1", "nan"), "got 'nan'"),
        (("a_1", "2048"), r"a_1: COR 2048.00 is off the detector \(0 to 2047\)"),
        (("a_3", "5"), r"no scan a_3 in .*did you mean a_\d\?"),
        (("a_1", "5", "--clear"), "got both a COR, '5', and --clear"),
        (("a_1",), "no COR given for a_1"),
    ],
)
def test_set_refuses_what_is_no_cor_of_the_scan(campaign, results, arguments, message):
    with pytest.raises(TomopipeError, match=message):
        call(campaign, "set", *arguments)
    assert table(campaign) == TABLE


@pytest.mark.slow
def test_a_write_protected_table_is_left_as_it_is(campaign):
    path = campaign / "scans.tsv"
    path.chmod(0o444)
    status, _, said = heeding("cor", "set", "a_1", "1012.5", "-C", campaign)
    why = f"tomopipe: {path}: is write-protected and was left unchanged."
    assert (status, said) == (1, f"{why} To replace it: `chmod u+rwX {path}`\n")
    assert table(campaign) == TABLE


def test_set_below_zero_is_refused_before_the_width_is_known(campaign):
    with pytest.raises(TomopipeError, match=r"-5\.00 is below 0"):
        call(campaign, "set", "a_1", "-5")
    call(campaign, "set", "a_1", "99999")  # the file cannot be read


def test_before_the_first_run_the_widths_are_those_of_the_raw_files(campaign):
    write_scan(campaign / "raw" / "a_1.h5", n_rows=2, n_cols=64, n_angles=21)
    with pytest.raises(TomopipeError, match=r"a_1: COR 64\.00 is off the detector \(0 to 63\)"):
        call(campaign, "set", "a_1", "64")
    file = campaign / "rot.json"
    file.write_text(json.dumps({"a_1.h5": "64", "b [red] 1.h5": "700"}))
    with pytest.raises(TomopipeError, match=r"a_1: 64\.00 is off the detector \(0 to 63\)$"):
        call(campaign, "import", file)
    assert table(campaign) == TABLE
    file.write_text(json.dumps({"a_1.h5": "63", "b [red] 1.h5": "700"}))
    assert "2 set" in call(campaign, "import", file)
    assert "no effect" not in call(campaign, "set", "a_1", "30.5")
    write_scan(campaign / "raw" / "a_1.h5", n_rows=2, n_cols=64, n_angles=21, n_frames=4)
    assert "no effect while a_1 is not selected: aborted" in call(campaign, "set", "a_1", "30.5")


def test_import_sets_what_matches_and_lists_the_rest(campaign, results):
    file = campaign / "rot.json"
    entries = {
        str(campaign / "raw" / "a_1.h5"): "1000.50",
        "/elsewhere/a_2.h5": [1010.0],
        "/elsewhere/b [red] 1.h5": 300,
        "/elsewhere/c_1.h5": "5",
        "/their/x.h5": "1024,5",  # junk of others is no error
        "/here/b [red] 2.h5": 5,
        "/there/b [red] 2.h5": 6,
    }
    file.write_text(json.dumps(entries))
    output = call(campaign, "import", file, "--dry-run")
    assert table(campaign) == TABLE
    assert "2 would be set, 1 unchanged, 2 unmatched, 2 ambiguous" in output
    output = call(campaign, "import", file)
    assert "a_1: none -> 1000.50\n" in output
    assert "unmatched: /elsewhere/c_1.h5\n" in output
    assert "unmatched: /their/x.h5 (no COR: '1024,5')\n" in output
    assert "ambiguous: /there/b [red] 2.h5 may be b [red] 2\n" in output
    expected = TABLE.replace("a_1\t\t", "a_1\t1000.50\t") + "b [red] 1\t300.00\tauto\t\t\n"
    assert table(campaign) == expected


@pytest.mark.parametrize("has_table", [True, False])
def test_the_last_line_of_an_import_takes_it_back(campaign, has_table):
    if not has_table:
        (campaign / "scans.tsv").unlink()
    file = campaign / "batch_cor_values.csv"
    file.write_text("Filename,COR\na_1.h5,1000.5\na_2.h5,7\n")
    assert "To undo" not in call(campaign, "import", file, "-n")
    last = call(campaign, "import", file).splitlines()[-1]
    assert "1000.50" in table(campaign)
    assert "To undo" not in call(campaign, "import", file)  # which changes nothing
    words = shlex.split(last.removeprefix("To undo: tomopipe cor "))
    assert words == ["undo", "-C", near(campaign)]
    call(campaign, words[0])
    assert "1000.50" not in table(campaign)
    assert "\t7.00" not in table(campaign)
    (first, _, _, _) = json.loads(call(campaign, "list", "--json"))
    assert first["manual"] == ""


def test_import_refuses_junk_and_values_off_the_detector_whole(campaign, results):
    file = campaign / "rot.json"
    for junk, message in [("1024,5", "'1024,5'"), ("700", r"700\.00 is off the detector")]:
        file.write_text(json.dumps({"a_1.h5": "1000", "b [red] 1.h5": junk}))
        with pytest.raises(TomopipeError, match=message):
            call(campaign, "import", file)
        assert table(campaign) == TABLE


def test_export_and_import_give_the_same_values(campaign, results):
    (results / "cor.json").rename(campaign / "aside")
    with pytest.raises(TomopipeError, match=r"cor\.json: not there yet. `tomopipe run`"):
        call(campaign, "export", campaign / "rot_cen.json")
    (campaign / "aside").rename(results / "cor.json")
    for form, name in [("rot_cen", "rot_cen.json"), ("csv", "batch.csv")]:
        assert "would write 2 CORs" in call(campaign, "export", campaign / name, "-n")
        assert not (campaign / name).exists()
        assert "wrote 2 CORs" in call(campaign, "export", campaign / name, "--format", form)
        (campaign / "scans.tsv").write_text(TABLE)
        assert "1 set, 1 unchanged" in call(campaign, "import", campaign / name, "--predicted")
        assert "a_1\t1010.00\t" in table(campaign)
    data = json.loads((campaign / "rot_cen.json").read_text())
    assert data[str(campaign / "raw" / "a_1.h5")] == "1010.00"


def test_an_exported_table_sets_only_what_was_edited(campaign, results):
    """A COR of the run stays what it is: set by hand it would be frozen."""
    file = campaign / "batch.csv"
    cors = json.loads((results / "cor.json").read_text())
    cors |= {"b [red] 1": {"cor_px": 299.998, "source": "ai"}}
    (results / "cor.json").write_text(json.dumps(cors))
    call(campaign, "export", file, "--format", "csv")
    output = call(campaign, "import", file)
    assert "skipped: 2 predicted CORs that are equal" in output
    assert "0 set, 3 unchanged" in output
    assert table(campaign) == TABLE
    (campaign / "scans.tsv").unlink()  # a_2 was set by hand, and is again
    file.write_text(file.read_text().replace("300.00", "301.50"))
    assert "2 set, 1 unchanged" in call(campaign, "import", file)
    assert table(campaign).splitlines()[1:] == ["a_2\tauto\t1010.00\t", "b [red] 1\tauto\t301.50\t"]
    call(campaign, "set", "a_1", "999")  # a value typed since the run is no longer its COR
    file.write_text("Filename,COR\na_1.h5,1010.00\n")
    assert "a_1: 999.00 -> 1010.00\n" in call(campaign, "import", file)


def test_export_keeps_the_entries_of_others(campaign, results):
    file = campaign / "rot_cen.json"
    ours = str(campaign / "raw" / "b [red] 1.h5")  # has no COR here
    file.write_text(json.dumps({"/their/x.h5": "700.00", ours: "299"}))
    output = call(campaign, "export", file)
    assert output.startswith(f"wrote 2 CORs to {file}; other entries kept: 2, 1 of them of scans ")
    data = json.loads(file.read_text())
    assert (data["/their/x.h5"], data[ours], len(data)) == ("700.00", "299", 4)


def test_a_lost_table_is_had_back_from_the_sidecars(campaign):
    """A predicted COR stays one; it would be frozen otherwise."""
    (campaign / "scans.tsv").unlink()
    for scan, source in [("a_1", "ai"), ("a_2", "manual"), ("b [red] 1", "series-mean")]:
        text = json.dumps({"scan": scan, "cor_px": 1010.0, "source": source})
        (campaign / "raw" / f"{scan}.cor.json").write_text(text)
    sidecars = sorted((campaign / "raw").glob("*.cor.json"))
    output = call(campaign, "import", *sidecars)
    assert table(campaign) == "scan\tselect\tcor_px\tnote\na_2\tauto\t1010.00\t\n"
    assert "skipped: 1 predicted" in output
    assert "skipped: 1 filled" in output
    assert "1 set, 1 unchanged" in call(campaign, "import", *sidecars, "--predicted")


def test_retry_says_of_a_scan_why_it_is_not_selected(campaign, results):
    rows = read_tsv(results / "inventory.tsv", COLUMNS)
    rows[-1]["reason"] = "aborted"
    write_tsv(rows, COLUMNS, results / "inventory.tsv")
    for scan, why in (("b [red] 2", "b [red] 2 is not selected: aborted"), ("a_1", "")):
        done = CliRunner().invoke(cli, ["retry", scan, "-C", str(campaign)])
        lines = done.output.splitlines()
        assert lines == [*filter(None, [why]), "No scan is held back by a failure."]
    write_json({"step": "try_recon"}, results / "failed" / "try_recon" / "b [red] 2.json")
    done = CliRunner().invoke(cli, ["retry", "b [red] 2", "-C", str(campaign)])
    assert "Will be tried again" not in done.output


@pytest.mark.parametrize(
    ("path", "form"),
    [("results/cor.json", "rot_cen"), ("scans.tsv", "csv"), ("raw/a_2.cor.json", "rot_cen")],
)
def test_export_leaves_the_files_of_the_campaign_as_they_are(campaign, results, path, form):
    file = campaign / path
    (campaign / "scans.tsv").unlink()
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(TomopipeError, match=f"{path}: one of the campaign's own .* Give another"):
        call(campaign, "export", file, "--format", form)
    assert (file.read_bytes() if file.exists() else None) == before


def test_export_makes_a_missing_folder_unless_it_is_a_dry_run(campaign, results):
    file = campaign / "new" / "folder" / "rot_cen.json"
    call(campaign, "export", file, "-n")
    assert not (campaign / "new").exists()
    call(campaign, "export", file)
    assert json.loads(file.read_text())


def test_export_replaces_no_pipe_and_no_device(campaign, results):
    os.mkfifo(pipe := campaign / "pipe")
    with pytest.raises(TomopipeError, match="pipe: a folder or device"):
        call(campaign, "export", pipe)
    assert pipe.is_fifo()


def test_list_shows_fixed_and_predicted_values_before_they_are_resolved(campaign, results):
    (results / "cor.json").unlink()
    assert rows(call(campaign, "list"))[0][2:5] == ["1010.00", "replaced", "1300.00"]
    (results / "fix_cor" / "a.tsv").unlink()
    assert rows(call(campaign, "list"))[0][2:5] == ["", "predicted", "1300.00"]
