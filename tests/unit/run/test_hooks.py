"""Commands of a site that a run calls: what they get, how often, and what their faults cost."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from tests.review_campaign import make_campaign
from tests.waiting import until
from tomopipe.campaign.campaign import load_campaign
from tomopipe.run import hooks
from tomopipe.storage.atomic import write_json

EVENTS = ("scan", "doubtful", "failure", "end")
ALL = f"{{{', '.join(f'on_{event}: cat >> {event}' for event in EVENTS)}}}"


@pytest.fixture
def campaign(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_campaign(tmp_path)


def begin(campaign: Path, options: str = ALL) -> hooks.Hooks:
    """Begin a run whose looks at the results are those of the test."""
    config = campaign / "config.yaml"
    config.write_text(f"{config.read_text().partition('hooks:')[0]}hooks: {options}\n")
    present = hooks.Hooks(load_campaign(campaign))
    present._look_on = lambda: None
    present.start()
    return present


def read(name: str) -> list[dict]:
    """Return what the commands of a hook were given so far, by scan; forget it."""
    path = Path(name)
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(map(json.loads, lines), key=lambda facts: facts.get("scan", ""))


def set_cors(**cors_px: float) -> None:
    """Give scans other CORs, as the end of resolve_cor does."""
    path = Path("results/cor.json")
    table = json.loads(path.read_text())
    table |= {scan: {"cor_px": cor_px, "source": "auto"} for scan, cor_px in cors_px.items()}
    write_json(table, path)


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def make_volume(campaign: Path, scan: str) -> Path:
    files = load_campaign(campaign).files
    volume, receipt = files.volume(scan, "h5"), files.receipt("full_recon", scan)
    receipt.parent.mkdir(parents=True, exist_ok=True)
    receipt.write_text("{}")
    volume.write_bytes(os.urandom(8))
    os.utime(volume, ns=(time.time_ns(), time.time_ns()))
    return volume


def test_only_what_is_new_is_announced_each_once(campaign):
    present = begin(campaign)
    set_cors(bone_001=512.5)
    present._look()
    volume = make_volume(campaign, "bone_002")
    present._look()
    present._look()
    n_volumes = len(os.listdir("results/made/full_recon"))
    make_volume(campaign, "gone_001")  # of a scan that is no more in the campaign
    present.end("finished")
    events = [(facts["scan"], facts["event"], facts["cor_px"]) for facts in read("scan")]
    assert events == [("bone_001", "cor", 512.5), ("bone_002", "volume", events[1][2])]
    assert read("doubtful") == read("failure") == []
    (end,) = read("end")
    assert (end["status"], end["event"], end["folder"]) == ("finished", "end", str(campaign))
    assert end["n_volumes"] == n_volumes
    assert sum(end["scans"].values()) > end["scans"]["ok"] > 0
    assert set(end["to_review"]) > {"bone_005"}

    make_volume(campaign, "bone_002")  # while no run is under way, or one was killed
    present = begin(campaign)
    present.end("finished")
    (facts,) = read("scan")
    assert (facts["event"], facts["volume"]) == ("volume", str(volume))
    assert facts["path"] == str(campaign / load_campaign(campaign).scans["bone_002"].path)
    assert facts["n_angles"] == int(facts["n_angles"]) > 0


def test_a_cor_by_hand_is_announced_once_a_run_has_taken_it(campaign):
    path = Path("results/cor.json")
    table = json.loads(path.read_text())
    write_json({scan: entry for scan, entry in table.items() if scan != "bone_007"}, path)
    present = begin(campaign)  # the first run with hooks
    write_json(table, path)
    present._look()
    present.end("finished")
    events = [(facts["scan"], facts["event"], facts["state"]) for facts in read("scan")]
    assert events == [("bone_007", "cor", "manual")]


def test_a_doubtful_scan_and_failed_jobs_have_hooks_of_their_own(campaign):
    begin(campaign)
    record = Path("results/.hooks.json")
    announced = json.loads(record.read_text())
    del announced["cor"]["bone_005"]
    write_json(announced, record)
    present = begin(campaign)
    job = {"state": "failed", "start": 1.0, "error": "disk on fire"}
    write_json(job, Path("logs/status/full_recon/bone_002.json"))
    present.end("failed")
    of_scan, doubtful = read("scan"), read("doubtful")
    assert [facts["event"] for facts in of_scan + doubtful] == 2 * ["cor"] + 2 * ["doubtful"]
    states = [(facts["scan"], facts["state"]) for facts in doubtful]
    assert states == [("bone_002", "failed"), ("bone_005", "doubtful")]
    assert [(facts["scan"], facts["state"]) for facts in of_scan] == states
    (failure,), (end,) = read("failure"), read("end")
    job = {"step": "full_recon", "name": "bone_002", "error": "disk on fire"}
    assert job in failure["failures"]
    assert failure["n_failures"] == len(failure["failures"])
    assert (failure["event"], end["status"]) == ("failure", "failed")


def test_a_scan_that_failed_before_is_announced_once_it_is_made(campaign):
    """And not as failed, while this run still has to make it."""
    status = Path("logs/status/full_recon/bone_002.json")
    write_json({"state": "failed", "start": 1.0, "error": "disk on fire"}, status)
    begin(campaign).end("failed")
    for event in EVENTS:
        read(event)
    present = begin(campaign)
    set_cors(bone_002=512.5)
    present._look()
    assert read("scan") == read("doubtful") == []
    write_json({"state": "done", "start": 2.0, "end": 3.0}, status)
    make_volume(campaign, "bone_002")
    present._look()
    present.end("finished")
    events = {(facts["event"], facts["state"], facts["cor_px"]) for facts in read("scan")}
    assert events == {("cor", "ok", 512.5), ("volume", "ok", 512.5)}
    assert read("doubtful") == []


def test_calls_that_fail_are_made_again_by_the_next_run(campaign, capsys, monkeypatch):
    monkeypatch.setattr(hooks, "_MOST_CALLS", 1)
    present = begin(campaign, "{on_scan: 'cat > /dev/null; echo no mail; exit 3'}")
    scans = {f"bone_00{number}": 512.5 + number for number in (1, 2, 3, 4, 7)}
    set_cors(**scans)
    present.end("finished")
    lines = [line for line in capsys.readouterr().err.splitlines() if "hooks.on_scan" in line]
    assert len(lines) == 2
    assert "exit status 3" in lines[0]
    assert "called no more in this run" in lines[1]
    log = Path("logs/hooks.log").read_text()
    assert len(re.findall(r" cor bone_00\d: exit status 3\nno mail\n", log)) == 3
    present = begin(campaign, "{on_scan: cat >> scan}")
    present.end("finished")
    assert {facts["scan"] for facts in read("scan")} >= scans.keys()


def test_a_call_that_hangs_is_killed_with_what_it_started(campaign, capsys):
    options = "{on_end: 'sleep 987 & echo $! > pid; wait', time_limit_s: 0.5}"
    begin(campaign, options).end("finished")
    assert "hooks.on_end: killed after 0.5 s" in capsys.readouterr().err
    pid = int(Path("pid").read_text())
    until(lambda: not is_alive(pid), "end of what the hook started")


def test_a_call_that_writes_without_an_end_does_not_fill_the_disk(campaign, capsys):
    begin(campaign, "{on_end: 'yes and more', time_limit_s: 20}").end("finished")
    assert "hooks.on_end: killed after 100 MB of output" in capsys.readouterr().err
    assert Path("logs/hooks.log").stat().st_size < 1e6


def test_a_run_that_a_person_stops_makes_no_further_calls_but_says_so(campaign):
    present = begin(campaign, "{on_scan: 'sleep 0.3; cat >> scan', on_end: cat >> end}")
    set_cors(**dict.fromkeys(load_campaign(campaign).scans, 600.0))
    present.end("stopped")
    assert len(read("scan")) <= 4  # those that had begun
    assert [facts["status"] for facts in read("end")] == ["stopped"]


def test_a_stopped_run_announces_no_cor_that_its_tables_do_not_have(campaign):
    present = begin(campaign)
    path = load_campaign(campaign).files.prediction("bone_001")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"doubts": ["the sample moved"]}))
    present.end("stopped")
    assert read("scan") == []
    read("end")
    begin(campaign).end("finished")
    assert [facts["scan"] for facts in read("scan")] == ["bone_001"]
    begin(campaign).end("stopped")  # before it has made anything
    finished, stopped = read("end")
    assert sum(finished["scans"].values()) == len(load_campaign(campaign).scans)
    assert (stopped["scans"], stopped["to_review"]) == (finished["scans"], finished["to_review"])
