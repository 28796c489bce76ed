"""What happens after the last job: who ended the run, records, report, missing volumes."""

import json
import re
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import yaml

from tests.phantoms import write_scan
from tests.review_campaign import make_campaign
from tests.unit.conftest import configure, limited
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.results import read_inventory, write_tsv
from tomopipe.campaign.views import View
from tomopipe.cli.data import clean
from tomopipe.cor.outliers import FIX_TABLE
from tomopipe.errors import TomopipeError
from tomopipe.report.collected_records import collect
from tomopipe.reruns.settle import Settled, expected_inventory
from tomopipe.run.ending import after_failure, after_success, obey_stop
from tomopipe.run.launch import ended_by_hand
from tomopipe.run.temporary_files import accepted_scans, removable
from tomopipe.run.unfinished import unfinished_scans, warnings_of
from tomopipe.storage.atomic import write_json
from tomopipe.volumes.volume import new_volume

ACCEPTED = {"bone_001", "bone_002", "bone_003", "bone_004", "bone_007"}


@pytest.fixture
def campaign(tmp_path):
    for name in ("a_1", "a_2"):
        write_scan(tmp_path / "raw" / f"{name}.h5", n_rows=1, n_cols=64, n_angles=31)
    configure(tmp_path, "export_star: {enabled: true}")
    (tmp_path / "results").mkdir()
    expected_inventory(load_campaign(tmp_path), tmp_path / "results")
    status = {"state": "running", "start": 100.0, "host": "node1"}
    write_json(status, tmp_path / "logs" / "status" / "try_recon" / "a_1.json")
    return tmp_path


def log(folder, text):
    path = folder / "snakemake.log"
    path.write_text(text)
    return [str(path)]


def test_a_job_that_a_full_disk_ended_is_not_given_up(campaign):
    with limited(10_000):
        after_failure(
            load_campaign(campaign),
            log(campaign, "Error in rule try_recon"),
            since=50.0,
            is_whole=False,
        )
    assert load_campaign(campaign).failures == {}


def test_killed_job_is_recorded_and_reported(campaign, capsys):
    after_failure(
        load_campaign(campaign),
        log(campaign, "Error in rule try_recon"),
        since=50.0,
        is_whole=False,
    )
    assert (campaign / "results" / "failed" / "try_recon" / "a_1.json").exists()
    page = (campaign / "results" / "report" / "index.html").read_text()
    assert "<b>a_1</b>" in page
    assert "killed or timed out on node1" in page
    assert "tomopipe retry a_1" in capsys.readouterr().err
    assert list(load_campaign(campaign).failures) == ["a_1"]


def test_jobs_killed_alike_are_one_line(campaign, capsys):
    statuses = campaign / "logs" / "status" / "try_recon"
    write_json(json.loads((statuses / "a_1.json").read_text()), statuses / "a_2.json")
    after_failure(
        load_campaign(campaign),
        log(campaign, "Error in rule try_recon"),
        since=50.0,
        is_whole=False,
    )
    why, then = [line for line in capsys.readouterr().err.splitlines() if "a_2" in line]
    assert why.startswith("tomopipe: 2 scans (a_1, a_2): try_recon ")
    assert then.startswith("tomopipe: 2 scans (a_1, a_2): skipped from the next run on")
    assert sorted(load_campaign(campaign).failures) == ["a_1", "a_2"]


@pytest.mark.parametrize(
    "words", ["Terminating processes on user request", "Will exit after finishing currently"]
)
def test_run_ended_by_hand_blames_nobody(campaign, words):
    logs = log(campaign, f"...\n{words}, ...\n")
    assert ended_by_hand(logs)
    status = campaign / "logs" / "status" / "try_recon" / "a_1.json"
    after_failure(load_campaign(campaign), logs, since=200.0, is_whole=False)
    assert status.exists()  # of a job that an earlier run began
    after_failure(load_campaign(campaign), logs, since=50.0, is_whole=False)
    assert not (campaign / "results" / "failed").exists()
    assert not status.exists()  # it is to do, not lost


def test_log_that_cannot_be_read_is_no_hand(tmp_path):
    assert not ended_by_hand([str(tmp_path / "absent.log")])


def test_report_that_fails_does_not_hide_the_record(campaign, capsys):
    (campaign / "results" / "report").touch()
    after_failure(load_campaign(campaign), [], since=50.0, is_whole=False)
    assert (campaign / "results" / "failed" / "try_recon" / "a_1.json").exists()
    assert "results/report" in capsys.readouterr().err


def warnings(folder):
    campaign = load_campaign(folder)
    return [*warnings_of(campaign, read_inventory(campaign.files.inventory))]


def test_what_is_assumed_and_voxels_that_were_cut_are_said(campaign):
    text = "\n".join(warnings(campaign))
    assert "2 scans (a_1, a_2): energy_kev is unknown: 20 assumed" in text
    configure(campaign, "export_star: {enabled: true, pixel_size_um: 1.3, energy_kev: 25}")
    assert warnings(campaign) == []
    status = campaign / "logs" / "status" / "full_recon" / "a_2.json"
    write_json({"start": 1.0, "warning": "volume: half of its voxels lie outside 0 to 1"}, status)
    assert warnings(campaign) == ["voxels outside full_recon.value_range, see the report: a_2"]
    (campaign / "scans.tsv").write_text("scan\tselect\na_1\tno\na_2\tno\n")
    assert warnings(campaign) == []


def test_a_run_of_some_scans_says_of_these_alone_that_voxels_were_cut(
    campaign, capsys, monkeypatch
):
    monkeypatch.setattr("sys.argv", ["snakemake"])
    for scan in ("a_1", "a_2"):
        status = campaign / "logs" / "status" / "full_recon" / f"{scan}.json"
        write_json({"start": 1.0, "warning": "volume: half of its voxels are outside"}, status)
    settled = Settled(load_campaign(campaign), volumes_of=["a_2"])
    after_success(settled.campaign, settled, is_whole=False)
    cut = "tomopipe: voxels outside full_recon.value_range, see the report: a_2\n"
    assert capsys.readouterr().err == cut


def test_scans_without_cor_or_volume_are_named(campaign):
    write_json({"a_1": {"cor_px": 31.5, "source": "auto"}}, campaign / "results" / "cor.json")
    (campaign / "results" / "a_1_rec.h5").write_bytes(b"x")
    prediction = campaign / "results/try_center/a_2/prediction.json"
    # stopped before or after predict_cor of a_2, or before its COR was filled or resolved: only
    # another run is needed
    refused = {"cor_px": None, "verdict": "flat"}
    table, filled = campaign / "results" / "fix_cor" / "a.tsv", {"scan": "a_2", "after_px": "31.5"}
    for made in (None, {"cor_px": 31.5, "verdict": "resolved"}, refused, filled):
        if made is filled:
            write_tsv([filled], FIX_TABLE, table)
        elif made:
            write_json(made, prediction)
        lines = unfinished_scans(load_campaign(campaign))
        assert lines == ["no COR yet, the next run makes it: a_2"]
    write_tsv([{"scan": "a_2", "after_px": ""}], FIX_TABLE, table)
    (line,) = unfinished_scans(load_campaign(campaign))
    assert line.startswith("no COR, and so no volume: a_2. Set one with")
    config = (campaign / "config.yaml").read_text()
    configure(campaign, "resolve_cor: {on_missing: block}")
    assert unfinished_scans(load_campaign(campaign)) == []  # resolve_cor has named it
    (campaign / "config.yaml").write_text(config)
    (campaign / "results" / "a_1_rec.h5").unlink()
    assert unfinished_scans(load_campaign(campaign)) == [line, "no volume: a_1"]
    # made on a node, by its receipt: only this host does not see it yet
    write_json({}, load_campaign(campaign).files.receipt("full_recon", "a_1"))
    assert unfinished_scans(load_campaign(campaign)) == [line]


def test_no_run_makes_the_cor_of_a_view_without_a_sweep(campaign):
    """By `try_recon.every`; here no other view has a COR to fill it from."""
    configure(campaign, "try_recon: {every: 2}")
    write_json({}, campaign / "results" / "cor.json")
    rows = [{"scan": scan, "after_px": ""} for scan in ("a_1", "a_2")]
    write_tsv(rows, FIX_TABLE, campaign / "results" / "fix_cor" / "a.tsv")
    prediction = {"cor_px": None, "verdict": "flat"}
    write_json(prediction, campaign / "results" / "try_center" / "a_1" / "prediction.json")
    present = load_campaign(campaign)
    views = {
        scan: replace(entry, view=View(f"@{scan}", "", {})) for scan, entry in present.scans.items()
    }
    (line,) = unfinished_scans(replace(present, scans=views))
    assert line.startswith("no COR, and so no volume: 2 scans (a_1, a_2). Set one")


def test_a_scan_that_is_not_in_the_set_is_named_and_the_others_counted(campaign):
    cors = {scan: {"cor_px": 31.5, "source": "auto"} for scan in ("a_1", "a_2")}
    write_json(cors, campaign / "results" / "cor.json")
    for scan in cors:
        (campaign / "results" / f"{scan}_rec.h5").write_bytes(b"x")
    write_json({"failed": "damaged"}, campaign / "results/relion/stacks/a_2.json")
    (line,) = unfinished_scans(load_campaign(campaign))
    assert line.startswith("RELION's set has 1 of 2 tomograms, not a_2: damaged. ")
    configure(campaign, "export_star: {enabled: no}")
    assert unfinished_scans(load_campaign(campaign)) == []


def test_a_damaged_table_is_said_by_status(tmp_path):
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    campaign = load_campaign(tmp_path)
    campaign.results.mkdir()
    campaign.files.inventory.write_text("scan\tpath\tn_cols\tkeep\treason\n")
    assert unfinished_scans(campaign) == []  # no cor.json yet
    campaign.files.cor_table.write_text('{"a_1": {"cor_')
    (line,) = unfinished_scans(campaign)
    assert "cor.json: is damaged" in line


@pytest.fixture
def folder(tmp_path):
    make_campaign(tmp_path)
    for scan in load_campaign(tmp_path).scans:
        make_volume(tmp_path, scan)
    return tmp_path


def make_volume(folder, scan, off_px=0.0):
    """Make a volume at the COR that a scan has, or beside it; none where it has none."""
    found = load_campaign(folder)
    (record,) = [each for each in collect(found).scans if each.name == scan]
    if record.volume and record.cor_px is not None:
        provenance = {"cor": {"cor_px": record.cor_px + off_px}}
        with new_volume(record.volume, (1, 2, 2), attributes={}, provenance=provenance) as put:
            put(0, np.float32([[[0, 1], [2, 3]]]))


def declare(folder, **storage):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"storage": storage}))


def try_stacks(folder):
    return {path.parent.name for path in folder.glob("results/try_center/*/try.tif")}


def test_try_stacks_of_accepted_scans_go_unless_they_are_to_be_kept(folder, capsys):
    before = try_stacks(folder)
    declare(folder, keep_try=True)
    with pytest.raises(TomopipeError, match=r"set storage\.keep_try"):
        clean(folder)
    declare(folder)
    sweep = {"try_recon": {"format": "tiff"}}  # of these the stack was asked for
    config = folder / "config.yaml"
    text = config.read_text()
    config.write_text(text + yaml.safe_dump(sweep))
    clean(folder)
    assert "Nothing to remove" in capsys.readouterr().out
    config.write_text(text)
    clean(folder, dry_run=True)
    assert "results/try_center/bone_001/try.tif" in capsys.readouterr().out
    assert try_stacks(folder) == before
    clean(folder)
    said = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"4 try stacks, \S+ MB: removed", said)
    kept = before - ACCEPTED  # bone_005 barely passed, wood_1 has no COR
    assert try_stacks(folder) == kept >= {"bone_005", "wood_1"}


def test_predictions_that_their_series_left_are_accepted_before_cor_json(folder):
    """As on a disk that is full: the series is compared, and no run has written cor.json."""
    (folder / "results" / "cor.json").unlink()
    scans = accepted_scans(load_campaign(folder))
    assert {scan.name for scan in scans} == ACCEPTED
    for table in (folder / "results" / "fix_cor").iterdir():
        table.unlink()
    # by hand, with its volume
    assert [scan.name for scan in accepted_scans(load_campaign(folder))] == ["bone_007"]


def test_only_scans_that_need_no_eyes_are_accepted(folder):
    """Not the fixed, the filled, the failed, the doubtful, nor those not selected."""
    assert {scan.name for scan in accepted_scans(load_campaign(folder))} == ACCEPTED
    table = folder / "scans.tsv"
    table.write_text(table.read_text().replace("513.65", "514.5"))  # typed since the run
    assert {scan.name for scan in accepted_scans(load_campaign(folder))} == ACCEPTED - {"bone_007"}


def test_where_nothing_goes_it_says_how_many_are_not_accepted(folder, capsys):
    clean(folder)
    assert "not accepted" not in capsys.readouterr().out
    clean(folder, dry_run=True)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "Nothing to remove."
    assert second.startswith("6 of 11 scans are not accepted")  # of those selected


def test_a_stack_for_relion_stays_while_its_volume_is_not_made_at_the_cor(folder):
    declare(folder, keep_stacks=False)
    (folder / "results" / "bone_001_rec.h5").unlink()
    make_volume(folder, "bone_002", off_px=1.0)
    campaign = load_campaign(folder)
    campaign.files.stack("").parent.mkdir(parents=True, exist_ok=True)
    for scan in ACCEPTED:
        campaign.files.stack(scan).write_bytes(b"stack")
    stacks = {file.path.stem for file in removable(campaign) if file.kind == "RELION stack"}
    assert stacks == ACCEPTED - {"bone_001", "bone_002"}


def test_a_signal_while_snakemake_holds_its_lock_does_not_wait_for_itself():
    lock, has_ended = threading.Lock(), threading.Event()

    def snakemake_ends(*_):
        if lock.acquire(timeout=10):
            has_ended.set()

    before = signal.signal(signal.SIGTERM, snakemake_ends)
    try:
        obey_stop()
        with lock:
            signal.raise_signal(signal.SIGTERM)
        assert has_ended.wait(10)
    finally:
        signal.signal(signal.SIGTERM, before)
