import os
import re

import pytest
from typer.testing import CliRunner

from tests.report_campaign import Made
from tests.unit.conftest import configure
from tomopipe.cli import cli
from tomopipe.cli.outcome import show
from tomopipe.report.scan_records import ScanReader
from tomopipe.reruns.receipts import Receipts
from tomopipe.steps.report import report


@pytest.fixture
def said(capsys):
    """What is shown of a campaign, without line breaks and aligning blanks."""

    def show_it(made):
        made.write()
        show(made.campaign(), is_whole=False)
        return " ".join(capsys.readouterr().out.split())

    return show_it


def test_a_run_that_ended_before_cor_json_shows_its_cors_as_they_are(tmp_path, capsys):
    made = Made(tmp_path)
    for index, (name, px, manual) in enumerate(
        [("a_1", 50.0, ""), ("a_2", 65.97, ""), ("b_1", 41.0, "55")]
    ):
        made.scan(name, series=name[0], index=index, manual=manual)
        made.predict(name, px, confidence=0.93)
    made.fix("a_1", 50.0, 50.0, "auto", series="a")
    made.fix("a_2", 65.97, 50.0, "outlier", series="a", flagged=True, reason="15.97 px off")
    made.write(cor=False)
    show(made.campaign(), is_whole=False)
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = {cells[0]: cells[1:5] for cells in said if cells[:1] != []}
    assert found["a_1"] == ["50.00", "predicted", "0.93", "●"]
    assert found["a_2"] == ["50.00", "replaced", "0.93", "▲"]
    assert found["b_1"] == ["55.00", "by", "hand", "◆"]  # the confidence is of another COR
    assert found["1"][:3] == ["scan", "needs", "review:"]


def test_what_waits_for_the_next_run_is_said(tmp_path, said):
    made = Made(tmp_path)
    made.results.mkdir()
    made.scan("a_2", series="a", index=2, manual="43")
    made.resolve("a_2", 43.0, "manual")
    made.volume("a_2", n=0, cor_px=48.99)
    os.utime(made.results / "a_2_rec.h5", (1e9, 1e9))
    made.scan("a_1", series="a", manual="52.25")
    made.predict("a_1", 49.5)
    made.resolve("a_1", 49.5, "auto")
    text = said(made)
    assert "a_1 49.50 predicted" in text
    assert "a_2 43.00 by hand ◆ manual volume of COR 48.99, made again by the next run" in text
    assert "52.25 by hand, applied by the next run; +2.75 px from the prediction" in text


def test_a_warning_of_a_file_is_said_wherever_its_scan_is_listed(tmp_path, said):
    made, short = Made(tmp_path), "the 91 projections in use cover 91 of 180 degrees"
    for index in range(3):
        name, of_all = f"a_{index}", "theta in rad"
        made.scan(name, index=index, warnings=f"{of_all}; {short}" if index == 1 else of_all)
        made.predict(name, 50.0)
        made.resolve(name, 50.0, "auto")
    text = said(made)
    assert f"a_1 50.00 predicted 0.93 ● ok (warning) {short} a_0" in text
    assert text.count("theta in rad") == text.count("most scans: theta in rad") == 1
    (tmp_path / "raw").mkdir()
    for index in range(3):
        (tmp_path / f"raw/a_{index}.h5").touch()
    configure(tmp_path)
    listed = CliRunner().invoke(cli, ["cor", "list", "-C", str(tmp_path)]).output
    assert [short in line for line in listed.splitlines()] == [False, False, True, False, False]
    assert listed.splitlines()[-1] == "most scans: theta in rad"
    alone = CliRunner().invoke(cli, ["status", "a_1", "-C", str(tmp_path)]).output.splitlines()
    assert {f"  {short}", "  theta in rad"} <= {*alone}


@pytest.mark.parametrize(
    ("truth", "is_shown"),
    [
        ('{"scans": {"a_1": {"cor_px": 50.0, "special": ["x"]}, "a_2": {"cor_px": 51}}}', True),
        ('{"scans": {"a_1": {"cor_px": "left"}}}', False),  # of others
        ("[]", False),
        ("no JSON", False),
    ],
)
def test_the_truth_of_a_simulated_campaign_stands_beside_the_cors(tmp_path, said, truth, is_shown):
    made = Made(tmp_path)
    made.scan("a_1", series="a")
    made.predict("a_1", 50.12)
    made.resolve("a_1", 50.12, "auto")
    made.scan("a_2", series="a", index=2)
    (tmp_path / "truth.json").write_text(truth)
    text = said(made)
    assert ("50.00 +0.12" in text, "x" in text.split()) == (is_shown, False), text
    assert ("pending 51.00" in text, "-51" in text) == (is_shown, False), text  # it has no COR


def test_of_a_large_campaign_only_series_with_a_remark_are_read(tmp_path, capsys, monkeypatch):
    made = Made(tmp_path)
    for number in range(60):
        name, series = f"s{number // 4:02d}_{number}", f"s{number // 4:02d}"
        made.scan(name, series=series, index=number, manual="57" if number == 30 else "")
        made.predict(name, 50.0, confidence=0.2 if number in (9, 41) else 0.9)
        made.resolve(name, 50.0, "default" if number in (9, 41) else "auto")
        made.volume(name, n=0, cor_px=50.0)
    made.write()
    campaign, read = made.campaign(), []
    record = ScanReader._record
    monkeypatch.setattr(ScanReader, "_record", lambda *a: read.append(a[1].name) or record(*a))

    def said():
        read.clear()
        show(campaign, is_whole=True)
        return capsys.readouterr().out.partition(" review")[0], len(read)

    whole, n = said()
    assert (n, "s02_9" in whole, "57.00 by hand" in whole) == (60, True, True)
    report(made.page, campaign)
    assert said() == (whole, 60)  # a page without receipt may be of earlier results
    outputs = [campaign.outputs.report]
    Receipts(tmp_path, campaign.outputs).write("report", "campaign", {"step": "report"}, outputs)
    assert said() == (whole, 16)
    (tmp_path / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\n")
    assert said()[1] == 60  # edited since
    os.utime(tmp_path / "scans.tsv", (1e9, 1e9))
    assert said() == (whole, 16)
    made.page.write_bytes(b"another page")
    assert said() == (whole, 60)


def test_the_note_of_a_scan_is_its_last_remark(tmp_path, said):
    made = Made(tmp_path)
    made.scan("a_1", series="a", manual="50.5", note="by eye")
    made.predict("a_1", 50.0)
    made.resolve("a_1", 50.5, "manual")
    assert "a_1 50.50 by hand ◆ manual by eye" in said(made)


def test_a_cor_by_hand_without_a_prediction_needs_no_remark(tmp_path, said):
    made = Made(tmp_path)
    made.scan("a_1", series="a", manual="50.5")
    made.resolve("a_1", 50.5, "manual")
    assert "a_1 50.50 by hand ◆ manual CORs " in said(made)  # the next line


@pytest.mark.parametrize("width", [80, 100, 160])
def test_remarks_are_cut_at_a_word_and_whole_below_the_table(tmp_path, capsys, monkeypatch, width):
    made, note = Made(tmp_path), "seen by eye in the sinogram of row 12 and in that of row 99 " * 3
    made.scan("a_1", series="a", manual="50.5", note=note.strip())
    made.resolve("a_1", 50.5, "manual")
    made.write()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show(made.campaign(), is_whole=False)
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).partition("\nCORs ")[0]
    head, row, _, *below = text.splitlines()
    assert max(map(len, (head, row, *below))) <= width
    assert head.split() == ["scan", "COR", "source", "state", "remark"]
    beginning = row.partition("manual")[2].removesuffix(" ...").strip()
    assert note.startswith(f"{beginning} ")
    assert " ".join(" ".join(below).split()) == f"a_1: {note.strip()}"
