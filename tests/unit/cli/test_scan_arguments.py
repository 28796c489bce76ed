"""Scans as arguments: names, patterns and files, the same in every command."""

import shlex

import pytest
from typer.testing import CliRunner

from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.selection import scans_of
from tomopipe.campaign.table import edit_table
from tomopipe.cli import cli
from tomopipe.errors import TomopipeError, scan_word
from tomopipe.review.queue import decide

CONFIG = "campaign: {scans: [raw/*.h5, {glob: day2/*.h5, prefix: day2_}]}\n"
SCANS = ["a_1", "a_10", "a_2", "b [red] 1", "day2_a_1"]  # in its order


def write_campaign(folder, scans=("raw/a_1", "raw/a_2", "raw/a_10", "raw/b [red] 1", "day2/a_1")):
    for scan in scans:
        (folder / f"{scan}.h5").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{scan}.h5").write_bytes(b"")
    (folder / "config.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """Of empty files; we stand in it."""
    monkeypatch.chdir(write_campaign(tmp_path))
    return tmp_path


def call(*words):
    done = CliRunner().invoke(cli, list(map(str, words)), env={"COLUMNS": "200"})
    return done.output + str(done.exception or "")


@pytest.mark.parametrize(
    ("words", "scans"),
    [
        (["a_2", "a_1"], ["a_2", "a_1"]),
        (["a_1.h5", "a_2.nxs"], ["a_1", "a_2"]),
        (["raw/a_2.h5", "day2/a_1.h5"], ["a_2", "day2_a_1"]),
        (["a_?", "a_*.h5", "a_2"], ["a_1", "a_2", "a_10"]),
        (["b [red] 1"], ["b [red] 1"]),  # a name before a pattern
        (["*"], SCANS),
        ([], []),
    ],
)
def test_words_name_scans_once_each(campaign, words, scans):
    assert scans_of(load_campaign(campaign), words) == scans


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("a_3", r"did you mean a_\d+\?"),
        ("a_3.h5", r"did you mean a_\d+\?"),
        ("a_340", "no scan a_340 in [^,]*; there are a_1 to a_10"),
        ("A_*", "which has a_1"),
        ("elsewhere/a_1.h5", "no scan elsewhere/a_1.h5 in"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["run"],
        ["run", "--predict"],
        ["retry"],
        ["convert", "mrc"],
        ["view"],
        ["cor", "set"],
        ["cor", "list"],
    ],
    ids=" ".join,
)
def test_a_word_that_names_no_scan_is_an_error_in_each_command(campaign, command, word, hint):
    text = call(*command, word, *["7"] * (command == ["cor", "set"]))
    assert f"no scan {word} in {campaign}" in text
    with pytest.raises(TomopipeError, match=hint):
        scans_of(load_campaign(campaign), [word])


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["run", "--predict", "a_1"], "exclude"),  # before a run begins
        (["retry"], "No scan is held back"),
        (["convert", "mrc"], "no volume yet"),
        (["view"], "no volume yet"),
        (["cor", "set"], "cor_px 7.00"),
    ],
    ids=lambda command: " ".join(command) if isinstance(command, list) else "",
)
def test_a_folder_that_is_a_scan_too_is_refused_with_both_spellings(campaign, command, says):
    """A campaign comes first, or by -C; with -C all words are scans."""
    write_campaign(campaign / "a_1", ["raw/a_9"])
    write_campaign(campaign / "other", ["raw/a_9"])
    cor = ["7"] * (command == ["cor", "set"])
    text = call(*command, "a_1", *cor)
    typed = f"tomopipe {' '.join(command[: 1 + bool(cor)])}"
    assert f"For the scan type: {typed} -C . a_1; for the campaign: {typed} -C a_1" in text
    assert says in call(*command, "-C", ".", "a_1", *cor)
    for names in (["-C", "a_1", "a_9"], ["a_1/", "a_9"], ["other", "a_9"]):
        assert says in call(*command, *names, *cor)


def test_with_another_configuration_scans_come_first_or_after_the_folder(campaign, monkeypatch):
    (campaign / "config.yaml").rename(campaign / "mine.yaml")
    expected = "a_1 (dry run): cor_px 7.00\n"
    assert call("cor", "set", "a_1", "7", "-n", "-c", "mine.yaml") == expected
    monkeypatch.chdir("/")
    mine = campaign / "mine.yaml"
    assert call("cor", "set", campaign, "a_1", "7", "-n", "-c", mine) == expected


def test_a_scan_whose_name_begins_with_a_dash_follows_two_dashes(campaign):
    (campaign / "raw" / "-rf.h5").write_bytes(b"")
    assert call("cor", "set", "-n", "--", "-rf", "54.6") == "-rf (dry run): cor_px 54.60\n"
    assert "No such option: -rf; a scan of this name follows --" in call("cor", "set", "-rf", "5")
    assert call("cor", "list", "--", "-rf").splitlines()[1].startswith("-rf ")
    assert "/-rf_rec.h5: no volume yet" in call("convert", "mrc", "--", "-rf")
    assert "exclude" in call("run", "--predict", "a_1", "raw/-rf.h5")  # what follows is Snakemake's
    assert "COR -5.00 is below 0" in call("cor", "set", "a_1", "-5")


def test_one_scan_where_one_is_shown(campaign):
    sweep = ("sweep", "full_recon.filter", "ramp", "--scan")
    for command in (("view",), sweep):
        assert "expected one scan, got a_1, a_2." in call(*command, "a_?")
    assert "expected one scan, got none." in call("view", campaign)


def table(campaign):
    path = campaign / "scans.tsv"
    return path.read_text() if path.exists() else ""


def test_one_cor_is_set_for_several_scans_or_for_none(campaign):
    (campaign / "scans.tsv").write_text("scan\tcor_px\na_2\t30\n")
    before = table(campaign)
    text = call("cor", "set", "a_2", "a_10.h5", "day2_*", "263", "-n")
    scans = ["a_2", "a_10", "day2_a_1"]
    assert text.splitlines() == [f"{scan} (dry run): cor_px 263.00" for scan in scans]
    assert "a_2: expected a COR" in call("cor", "set", "a_2", "a_1", "263;5")
    assert table(campaign) == before
    *lines, undo = call("cor", "set", *scans, "263").splitlines()
    assert lines == [f"{scan}: cor_px 263.00" for scan in scans]
    assert table(campaign) == "scan\tcor_px\na_2\t263.00\na_10\t263.00\nday2_a_1\t263.00\n"
    assert undo == "To undo: tomopipe cor undo"
    back = ["a_2: cor_px 30", "a_10: cor_px removed", "day2_a_1: cor_px removed"]
    title, *lines = call("cor", "undo", "-n").splitlines()
    assert title.startswith("would undo your cor set of 20")
    assert lines == [line.replace(": ", " (dry run): ") for line in back]
    assert table(campaign).count("263.00") == 3
    assert call("cor", "undo").splitlines()[1:] == back
    assert table(campaign) == "scan\tcor_px\na_2\t30\na_10\t\nday2_a_1\t\n"
    assert call("cor", "undo") == f"{campaign / 'scans.history.tsv'}: nothing to undo\n"


def test_an_undo_leaves_what_was_changed_since_then(campaign):
    call("cor", "set", "a_2", "a_10", "12")
    edit_table(campaign / "scans.tsv", {"a_2": {"cor_px": "13.00"}})
    text = call("cor", "undo")
    assert "\na_10: cor_px removed\n" in text
    assert "scans.tsv: changed since then, and left as they are: a_2." in text
    assert "a_2\tauto\t13.00\t\na_10\tauto\t\t\n" in table(campaign)


def test_an_undo_says_what_it_undoes_and_that_a_later_decision_of_the_page_stays(campaign):
    call("cor", "set", "a_2", "12")
    decide(campaign / "scans.tsv", {"a_10": ({"cor_px": "13.00"}, {})}, by="page", tell=print)
    title, stays, line = call("cor", "undo").splitlines()
    assert title.startswith("undoing your cor set of 20")
    assert stays == "Your later decision on the review page stays; Undo on that page takes it back."
    assert (line, "a_10\t" in table(campaign)) == ("a_2: cor_px removed", True)


def test_a_number_that_is_a_scan_is_the_cor_or_refused(campaign):
    for name in ("011", "012"):
        (campaign / "raw" / f"{name}.h5").write_bytes(b"")
    assert call("cor", "set", "011", "012", "-n") == "011 (dry run): cor_px 12.00\n"
    assert call("cor", "set", "011", "--note", "x", "-n") == "011 (dry run): note x\n"
    assert "Type 012.h5 for the scan" in call("cor", "set", "011", "012", "--clear")
    assert call("cor", "set", "011", "012.h5", "--clear", "-n").count("removed") == 2
    assert "no COR given for a_1, a_2" in call("cor", "set", "a_1", "a_2")


@pytest.mark.parametrize("name", ["-rf", "-a[1] b", "b [red] 1", "a_1"])
def test_a_scan_in_a_command_that_is_shown_is_found_when_pasted(tmp_path, monkeypatch, name):
    monkeypatch.chdir(write_campaign(tmp_path, ("raw/a_1", "raw/b [red] 1", f"raw/{name}")))
    words = shlex.split(scan_word(name))
    assert "no scan" not in call("status", *words)
    assert f"{name}: cor_px 12.00" in call("cor", "set", *words, 12)
    assert "No scan is held" in call("retry", *words)
    assert "no scan" not in call("run", "-n", *words)
    assert scans_of(load_campaign(tmp_path), words) == [name]
