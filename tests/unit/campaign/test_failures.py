"""Records of jobs that died: who is blamed, how long it counts, how it is forgotten."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tomopipe.campaign.failures import (
    failed_stack,
    forget,
    read_failures,
    record_end,
    record_failures,
)
from tomopipe.campaign.files import Files, Logs
from tomopipe.campaign.log import read_job
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import write_json

SCANS = {
    "a": SimpleNamespace(n_bytes=10, mtime_ns=100),
    "b": SimpleNamespace(n_bytes=20, mtime_ns=200),
}


def status(folder, step, scan, state, start=50.0, **more):
    content = {"state": state, "start": start, "host": "node1"} | more
    write_json(content, folder / f"status/{step}/{scan}.json")


def record(folder, since=0.0):
    files, logs = Files(folder / "results"), Logs(folder)
    return record_failures(SimpleNamespace(files=files, logs=logs, scans=SCANS), since=since)


@pytest.mark.parametrize(
    "left",
    ["", "results/try_center/a/rows.h5", "results/try_center/a/try.json"],
    ids=["nothing", "a part", "an earlier result"],
)
def test_job_that_started_and_left_no_receipt_is_blamed(tmp_path, left):
    status(tmp_path, "try_recon", "a", "running")
    status(tmp_path, "try_recon", "b", "done")
    if left:
        (tmp_path / left).parent.mkdir(parents=True)
        (tmp_path / left).touch()
    assert [(f.step, f.key) for f in record(tmp_path)] == [("try_recon", "a")]
    failures = read_failures(tmp_path / "results", SCANS)
    assert list(failures) == ["a"]
    assert "killed" in failures["a"].error


def test_a_job_that_slurm_ended_has_its_reason(tmp_path):
    status(tmp_path, "try_recon", "a", "running", error="SLURM job 37: TIMEOUT")
    (failure,) = record(tmp_path)
    assert failure.error == "killed or timed out on node1, SLURM job 37: TIMEOUT; see the log"


def test_the_status_of_a_volume_whose_job_was_killed_says_so(tmp_path):
    for scan, start in (("a", 50.0), ("b", 5.0)):  # b may still run, for an earlier call
        status(tmp_path, "full_recon", scan, "running", start)
    assert record(tmp_path, since=10.0) == []
    killed, other = (read_job(tmp_path / f"status/full_recon/{scan}.json") for scan in "ab")
    assert (killed.state, killed.error) == ("failed", "killed or timed out on node1; see the log")
    assert not other.error


def test_of_jobs_killed_in_one_submission_nobody_is_blamed(tmp_path):
    status(tmp_path, "try_recon", "a", "running", slurm_job="37")
    status(tmp_path, "predict_cor", "b", "running", slurm_job="37")
    assert record(tmp_path) == []
    status(tmp_path, "predict_cor", "b", "running", slurm_job="38")
    assert [failure.key for failure in record(tmp_path)] == ["a", "b"]
    status(tmp_path, "predict_cor", "b", "failed", slurm_job="37", error="MemoryError")
    assert [failure.key for failure in record(tmp_path)] == ["a", "b"]  # b has an end


@pytest.mark.parametrize(
    ("error", "blamed"), [("MemoryError", True), ("OSError: No space left on device", False)]
)
def test_of_errors_only_too_little_memory_is_the_scans_fault(tmp_path, error, blamed):
    status(tmp_path, "predict_cor", "a", "failed", error=error)
    assert [failure.error for failure in record(tmp_path)] == [f"failed: {error}"] * blamed


@pytest.mark.parametrize(
    ("state", "start", "has_receipt"),
    [("done", 50.0, False), ("running", 5.0, False), ("running", 50.0, True)],
    ids=["ended", "of an earlier call", "left its receipt"],
)
def test_others_are_not(tmp_path, state, start, has_receipt):
    status(tmp_path, "predict_cor", "a", state, start)
    if has_receipt:
        write_json({}, Files(tmp_path / "results").receipt("predict_cor", "a"))
    assert record(tmp_path, since=10.0) == []
    (tmp_path / "status/predict_cor/a.json").write_text("{")  # cannot be read
    assert record(tmp_path) == []


@pytest.mark.parametrize("now", [(11, 100), (10, 101), (None, None)])
def test_record_counts_only_for_the_same_file(tmp_path, now):
    status(tmp_path, "try_recon", "a", "running")
    record(tmp_path)
    other = SimpleNamespace(n_bytes=now[0], mtime_ns=now[1])
    assert read_failures(tmp_path / "results", {"a": other}) == {}


def test_forget_takes_records_and_failed_predictions_only(tmp_path):
    status(tmp_path, "try_recon", "a", "running")
    record(tmp_path)
    folder = tmp_path / "results" / "try_center"
    for scan, verdict in {"b": "failed", "c": "resolved"}.items():
        write_json({"verdict": verdict}, folder / scan / "prediction.json")
        (folder / scan / "rows.h5").write_bytes(b"x")
    files = Files(tmp_path / "results")
    for scan, failed in {"c": {}, "d": {"failed": "damaged"}}.items():
        write_json(failed, files.stack_meta(scan))
        files.stack(scan).write_bytes(b"" if failed else b"x")
    assert [failed_stack(files, scan) for scan in "cde"] == ["", "damaged", ""]
    assert forget(tmp_path / "results", ["a", "b", "c", "d"]) == ["a", "b", "d"]
    assert {path.name for path in files.stack("c").parent.iterdir()} == {"c.json", "c.mrcs"}
    assert read_failures(tmp_path / "results", SCANS) == {}
    assert not (folder / "b" / "rows.h5").exists()
    assert json.loads((folder / "c" / "prediction.json").read_text()) == {"verdict": "resolved"}
    assert forget(tmp_path / "results", ["a", "b", "c", "d"]) == []


def test_how_a_cluster_ended_a_job_is_in_its_status(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(run_folder.VARIABLE, now := str(run_folder.begin(Path("results"))))
    logs = Path("logs/full_recon")
    logs.mkdir(parents=True)
    jobs = {"a_1": ("done", "before"), "a_2": ("done", now), "a_3": ("running", now)}
    for scan, (state, run) in jobs.items():
        write_json({"state": state, "run": run}, tmp_path / f"logs/status/full_recon/{scan}.json")
        (logs / f"{scan}.log").write_text("of a job that began")
    for log in (*logs.iterdir(), Path("a_4.log")):
        record_end(str(log), "SLURM job 12: CANCELLED", "12", is_killed=True)
    ends = {path.stem: json.loads(path.read_text()) for path in Path("logs/status").rglob("*.json")}
    found = {scan: (status["state"], status.get("error", "")) for scan, status in ends.items()}
    said = "SLURM job 12: CANCELLED"
    assert found == {"a_1": ("failed", said), "a_2": ("done", ""), "a_3": ("running", said)}
    assert {path.stem for path in logs.iterdir()} == {"a_2", "a_3"}
