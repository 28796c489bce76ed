"""Options that the page writes into config.yaml: their lines alone, and what they mean."""

import pytest
import yaml

from tomopipe.campaign.campaign import load_campaign
from tomopipe.commands.config_edits import history_of_config, propose, write
from tomopipe.errors import TomopipeError
from tomopipe.storage.lock import new_run, release, take

CROP = {"crop_x": [10, 90], "crop_y": [5, 70]}
HEAD = "# beamtime\ncampaign:\n  scans: [raw/*.h5]  # all\n\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("foam_1", "foam_2", "on [x]_1"):
        (tmp_path / "raw" / f"{name}.h5").touch()
    return tmp_path


def _campaign(folder, text):
    path = folder / "config.yaml"
    path.write_bytes(text.encode())
    return load_campaign(folder, path), path


# files, with a name for what is where
FILES = {
    "none": HEAD,
    "no end": HEAD.rstrip(),
    "crlf": HEAD.replace("\n", "\r\n"),
    "flow root": "{campaign: {scans: [raw/*.h5]}}\n",
    "empty": HEAD + "full_recon:  # later\noverrides:\n# end\n",
    "null": HEAD + "full_recon: null\noverrides: null\n",
    "flow": HEAD + "full_recon: {binning: 2}  # b\noverrides: []\n",
    "block": HEAD + "full_recon:\n  binning: 2  # b\n  # of all\noverrides:\n"
    "  - scans: [foam_*]\n    full_recon: {filter: hann}  # soft\n\n# end\nreport: {}\n",
    "not indented": HEAD + "overrides:\n- scans:\n  - foam_2\n  try_recon:\n    step_px: 1.0\n",
    "key is there": HEAD + "full_recon:\n  crop_x:\n    - 1\n    - 9\n  crop_y: all  # y\n",
    "as init writes": HEAD + "full_recon:\n  crop_x:\n  - 1\n  - 9\n  binning: 2\n",
    "items in a line": HEAD + "overrides: [{scans: [foam_2], full_recon: {rows: [0, 3]}}]\n",
    "text block": HEAD + "report: {}\noverrides:\n  - scans:\n      - |-\n        foam_2\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("scope", "scan"), [("scan", "on [x]_1"), ("series", "foam_1"), ("all", "foam_1")]
)
def test_only_the_lines_of_the_options_change(folder, name, scope, scan):
    campaign, path = _campaign(folder, FILES[name])
    made = propose(campaign, path, scan, scope, CROP)
    assert path.read_bytes() == FILES[name].encode()  # nothing is written yet
    path.write_bytes(made.text.encode())
    after = load_campaign(folder, path)
    for each in campaign.scans:
        old, new = (found.for_scan(each).config.full_recon for found in (campaign, after))
        is_meant = scope == "all" or (each == scan if scope == "scan" else each[:3] == scan[:3])
        assert new == (old.model_copy(update=CROP) if is_meant else old)
    kept = [line for line in FILES[name].splitlines() if "#" in line and "later" not in line]
    assert all(line.split("#")[1] in made.text for line in kept)
    assert ("\r\n" in made.text) == (name == "crlf")
    again = propose(after, path, scan, scope, CROP)
    assert again.diff == ""
    path.write_bytes(again.text.encode())
    # a second box of the same scan replaces the first
    moved = propose(load_campaign(folder, path), path, scan, scope, {"crop_x": [20, 30]})
    assert len(moved.text.splitlines()) == len(made.text.splitlines())


def test_it_is_written_as_shown_and_the_former_lines_are_kept(folder):
    campaign, path = _campaign(folder, FILES["block"])
    shown = propose(campaign, path, "foam_1", "scan", CROP)
    assert '+  - scans: ["foam_1"]\n+    full_recon: {crop_x: [10, 90], crop_y: [5, 70]}\n' in (
        shown.diff
    )
    with pytest.raises(TomopipeError, match="changed it meanwhile"):
        write(campaign, path, "foam_1", "scan", CROP, seen="")
    assert path.read_text() == FILES["block"]
    assert write(campaign, path, "foam_1", "scan", CROP, seen=shown.seen) == shown
    assert path.read_text() == shown.text
    history = history_of_config(path).read_text()
    assert history.startswith("# 20")
    assert history.split("\n", 1)[1] == shown.diff


def test_during_a_run_nothing_is_written(folder):
    campaign, path = _campaign(folder, HEAD)
    shown = propose(campaign, path, "foam_1", "all", CROP)
    run = new_run(folder)
    take(folder, run)
    with pytest.raises(TomopipeError, match=r"config\.yaml: not changed while a run is on"):
        write(campaign, path, "foam_1", "all", CROP, seen=shown.seen)
    release(folder, run)
    write(campaign, path, "foam_1", "all", CROP, seen=shown.seen)
    assert yaml.safe_load(path.read_text())["full_recon"] == CROP


@pytest.mark.parametrize(
    ("text", "scope", "options", "said"),
    [
        (HEAD, "all", {"output": "zarr"}, "output: expected rows, crop_x"),
        (HEAD, "all", {}, "No option"),
        (HEAD, "scan", {"rows": [9, 3]}, r"full_recon\.rows"),
        (HEAD, "all", {"value_range": [1, 1]}, "value_range"),
        (FILES["items in a line"], "all", {"rows": [1, 2]}, "overrides 1 sets full_recon.rows for"),
        ("a: &b {scans: [raw]}\ncampaign: *b\n", "all", CROP, "unknown key"),
        (HEAD + "full_recon: &x {binning: 2}\noverrides: [{scans: [foam_1], full_recon: *x}]\n",
         "scan", CROP, r"cannot be edited .* Write yourself: overrides: \[\{scans: \[.foam_1.\], "),
        (HEAD + "full_recon:\n  crop_x:\n  - 1  # rim\n  - 9\n", "all", CROP,
         "cannot be edited here"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_says_why(folder, text, scope, options, said):
    campaign, path = _campaign(folder, HEAD)
    path.write_text(text)
    scan = "foam_2" if "foam_2" in text else "foam_1"
    with pytest.raises(TomopipeError, match=said):
        propose(campaign, path, scan, scope, options)


def test_a_range_says_which_type_of_number_it_needs(folder):
    campaign, path = _campaign(folder, HEAD)
    of_floats = propose(campaign, path, "foam_1", "all", {"value_range": [-1e-05, 0.03]})
    assert of_floats.remarks == ["value_range has no effect: full_recon.dtype is float32"]
    of_whole = propose(
        campaign, path, "foam_1", "all", {"dtype": "uint16", "value_range": [-1e-05, 0.03]}
    )
    assert of_whole.remarks == []
    assert yaml.safe_load(of_whole.text)["full_recon"]["value_range"] == [-1e-05, 0.03]
