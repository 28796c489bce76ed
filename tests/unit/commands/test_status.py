"""`tomopipe status`: jobs by step and state, from the files they leave."""

import json
import os
import re
import shutil
import subprocess
import time
from signal import SIGINT

import pytest
from typer.testing import CliRunner

from tests.report_campaign import INVENTORY
from tests.unit.conftest import configure, small_campaign
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.results import read_inventory, write_tsv
from tomopipe.cli import cli
from tomopipe.commands.next_run import standing_failures
from tomopipe.commands.status import read_status
from tomopipe.reruns.settle import Settled, expected_inventory
from tomopipe.run import launch, progress
from tomopipe.storage import lock


@pytest.fixture
def folder(tmp_path):
    """Six scans: two with volumes, one each running, lost and failed in full_recon, one new."""
    (tmp_path / "raw").mkdir()
    configure(tmp_path, "export_star: {enabled: true}")
    rows = []
    for number in range(1, 7):
        name = f"bone_{number}"
        (tmp_path / "raw" / f"{name}.h5").touch()
        row = {"scan": name, "path": f"raw/{name}.h5", "series": "bone", "index": number}
        rows.append(row | {"n_angles": 9, "n_rows": 4, "n_cols": 8, "keep": number != 6})
        if number != 5:
            made = tmp_path / "results" / "try_center" / name
            made.mkdir(parents=True)
            (made / "try.json").touch()
            (made / "prediction.json").write_text("{}")
        if number <= 2:
            (tmp_path / "results" / f"{name}_rec.h5").touch()
            start = time.time() - 900
            status(tmp_path, name, "done", start=start, end=start + 100 * number)
    write_tsv(rows, INVENTORY, tmp_path / "results" / "inventory.tsv")
    return tmp_path


def status(folder, key, state, step="full_recon", **times):
    path = folder / "logs" / "status" / step / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"step": step, "key": key, "state": state, "host": "node7", "slurm_job": "42"}
    path.write_text(json.dumps(record | times))


def full_recon(folder):
    found = read_status(load_campaign(folder))
    return next(step for step in found.steps if step.step == "full_recon"), found


def test_an_inventory_that_failed_and_is_right_now_has_not_failed(tmp_path):
    small_campaign(tmp_path)
    campaign = load_campaign(tmp_path)
    expected_inventory(campaign, tmp_path / "results")
    status(tmp_path, "campaign", "failed", "inventory", start=1.0, error="raw/x.h5: no such file")
    (failed,) = read_status(campaign).with_state("failed")
    assert failed.error == "raw/x.h5: no such file"
    settled = Settled(campaign)
    settled.receipts.write(
        "inventory", "campaign", settled.target.statement("inventory"), [campaign.outputs.inventory]
    )
    settled.receipts.save()
    assert not read_status(load_campaign(tmp_path)).with_state("failed")


def test_a_job_is_lost_three_minutes_after_its_last_heartbeat(folder):
    status(folder, "bone_3", "running", start=time.time() - 5000, heartbeat=time.time() - 150)
    status(folder, "bone_4", "running", start=time.time() - 5000, heartbeat=time.time() - 190)
    step, found = full_recon(folder)
    assert [job.key for job in found.with_state("running")] == ["bone_3"]
    assert [job.key for job in found.with_state("lost")] == ["bone_4"]
    assert (step.done, step.running, step.lost, step.failed) == (2, 1, 1, 0)


def test_a_job_whose_run_is_over_is_lost(folder):
    status(folder, "bone_3", "running", start=time.time() - 5, run="results/.runs/1")
    (run := folder / "results" / ".runs" / "1").mkdir(parents=True)
    assert full_recon(folder)[0].running == 1
    run.rmdir()
    assert full_recon(folder)[0].lost == 1


def test_in_a_copy_of_a_running_campaign_nothing_runs(folder, tmp_path_factory):
    status(folder, "bone_3", "running", start=time.time() - 5, run="results/.runs/1")
    (folder / "results" / ".runs" / "1").mkdir(parents=True)
    lock.take(folder, lock.new_run(folder, start_s=time.time() - 10))
    copy = shutil.copytree(folder, tmp_path_factory.mktemp("other") / "copy")
    assert [len(full_recon(each)[1].with_state("running")) for each in (folder, copy)] == [1, 0]


def test_a_job_whose_result_is_an_error_has_failed_as_in_plan(folder):
    made = folder / "results"
    made.joinpath("relion/stacks").mkdir(parents=True)
    times = {"start": time.time() - 20, "end": time.time() - 10}
    for number in range(1, 7):  # bone_5 has no result, bone_6 is skipped
        scan, error = f"bone_{number}", {"verdict": "failed", "reason": "no contrast"}
        for step in ("predict_cor", "export_stack") if number != 5 else ():
            status(folder, scan, "done", step, **times)
            (made / f"relion/stacks/{scan}.json").write_text('{"failed": "too wide"}')
            (made / f"try_center/{scan}/prediction.json").write_text(json.dumps(error))
    status(folder, "bone_6", "failed", **times, error="OSError: no")
    (folder / "scans.tsv").write_text("scan\tselect\tcor_px\nbone_2\tno\t\nbone_3\t\t4.5\n")
    _, found = full_recon(folder)
    failed = {(job.step, job.key): job.error for job in found.with_state("failed")}
    assert failed == {
        ("predict_cor", "bone_1"): "no contrast",
        ("predict_cor", "bone_4"): "no contrast",
        **{("export_stack", f"bone_{number}"): "too wide" for number in (1, 3, 4)},
    }
    counts = {step.step: (step.done, step.failed) for step in found.steps}
    assert (counts["predict_cor"], counts["export_stack"]) == ((3, 2), (2, 3))
    campaign = load_campaign(folder)
    listed = standing_failures(campaign, read_inventory(campaign.files.inventory))
    assert {(failure.step, failure.key) for failure in listed} == set(failed)


def test_a_failure_of_a_scan_whose_file_was_renamed_is_over(folder):
    for name in ("bone_5", "bone_7"):
        status(folder, name, "failed", start=time.time() - 9, error="ScanError: no such file")
    assert [job.key for job in full_recon(folder)[1].with_state("failed")] == ["bone_5"]


def test_advice_of_a_failed_job_is_an_override_with_what_its_scan_skips(folder):
    (folder / "config.yaml").write_text(
        (folder / "config.yaml").read_text() + "\ninput: {skip_projections: [[4, 5]]}\n"
    )
    error = "ScanError: a chunk, or input: {skip_projections: [2]} leaves them out"
    status(folder, "bone_5", "failed", start=time.time() - 9, error=error)
    (job,) = full_recon(folder)[1].with_state("failed")
    advice = 'overrides: [{scans: ["bone_5"], input: {skip_projections: [[4, 5], 2]}}]'
    assert f"or {advice} leaves" in job.error


def test_a_status_file_that_cannot_be_read_is_left_out(folder):
    path = folder / "logs" / "status" / "full_recon"
    for number, text in enumerate(("", "{", "[]", '{"start": "soon"}', '{"start": null}')):
        (path / f"broken_{number}.json").write_text(text)
    step, _ = full_recon(folder)
    assert (step.done, step.running, step.failed, step.lost) == (2, 0, 0, 0)


def test_what_lacks_is_named_only_when_no_run_is_under_way(folder, monkeypatch):
    kept = {"warnings": "", "reason": "", "keep": "true"}
    row = {"scan": "bone_5", "path": "raw/bone_5.h5", "n_cols": 8}
    write_tsv([row | kept], [*row, *kept], folder / "results" / "inventory.tsv")
    (folder / "results" / "cor.json").write_text('{"bone_5": {"cor_px": 4.0, "source": "ai"}}')
    lacks = "no volume: bone_5"
    assert lacks in CliRunner().invoke(cli, ["status", str(folder)]).output
    lock.take(folder, lock.new_run(folder))
    shown = CliRunner().invoke(cli, ["status", str(folder)]).output
    assert "A run is under way" in shown
    assert lacks not in shown


def test_the_jobs_of_a_run_under_way_are_its_own(folder, monkeypatch):
    began = time.time()
    events = folder / "logs" / "run" / "now.events"
    events.parent.mkdir(parents=True)
    monkeypatch.setenv(progress.VARIABLE, str(events))
    paths = {"log": str(events.with_suffix(".log")), "events": str(events)}
    lock.take(folder, lock.new_run(folder, start_s=began - 60, **paths))
    earlier = {"start": began - 900, "end": began - 800, "error": "of an earlier run"}
    status(folder, "bone_3", "failed", **earlier)
    progress.tell(totals={"full_recon": 3, "all": 1})
    for number, scan in enumerate(("bone_1", "bone_2")):
        progress.tell(began=number, step="full_recon", name=scan, reason="")
    progress.tell(ended=0)
    step, found = full_recon(folder)
    assert [row.step for row in found.steps] == ["full_recon"]
    assert (step.queued, step.running, step.done, step.failed) == (1, 1, 1, 0)
    assert not found.with_state("failed")
    assert found.time["why"] == "time left: known once jobs are done"
    assert found.counted.startswith("Jobs of the run of ")
    # until its second attempt ends a job has not failed, though its first says so
    now = {"start": began, "end": time.time() - 1}
    status(folder, "bone_2", "failed", **now, error="OSError: no room")
    assert [job.key for job in full_recon(folder)[1].with_state("failed")] == []
    for again, failed in ((True, []), (False, ["bone_2"])):
        progress.tell(failed=1, error="no room")
        for _ in range(again):
            progress.tell(again=1)
        step, found = full_recon(folder)
        assert [job.key for job in found.with_state("failed")] == failed
        assert (step.queued, step.failed) == (2 - len(failed), len(failed))
        progress.tell(began=1, step="full_recon", name="bone_2", reason="")


def test_after_a_stop_the_jobs_that_it_ended_are_to_do_and_what_remains_is_counted(
    folder, monkeypatch
):
    now = time.time()
    events = folder / "logs" / "run" / "20261129-1.jsonl"
    events.parent.mkdir(parents=True)
    monkeypatch.setenv(progress.VARIABLE, str(events))
    jobs = {f"bone_{number}": (1.0, 1) for number in (1, 2, 3, 5)}
    progress.tell(executes=True)
    progress.tell(planned={"full_recon": jobs}, about=["full_recon"])  # resolve_cor decides
    for number in (1, 2, 3):
        progress.tell(began=number, step="full_recon", name=f"bone_{number}", reason="")
    progress.tell(ended=1)
    assert not read_status(load_campaign(folder)).stopped
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        run = lock.new_run(folder, pid=process.pid, events=str(events))
        launch.interrupt(run, sending=SIGINT)
    at_s = json.loads(events.read_text().splitlines()[-1])["stopped"]["at_s"]
    progress.tell(failed=2)
    times = {"start": now - 50, "heartbeat": now - 40}
    status(folder, "bone_3", "running", **times, run="results/.runs/1")
    status(folder, "bone_4", "running", **times, run="results/.runs/1")  # of an earlier run
    cancelled = "SLURM job 7: CANCELLED"  # by somebody, before the run was stopped
    status(folder, "bone_5", "failed", start=now - 30, end=now - 30, error=cancelled)
    step, found = full_recon(folder)
    assert (step.queued, step.running, step.done, step.lost, step.failed) == (3, 0, 1, 1, 0)
    assert [job.key for job in found.with_state("lost")] == ["bone_4"]
    assert [(job.key, job.error) for job in found.with_state("pending")] == [("bone_5", cancelled)]
    when = time.strftime("%a %d %b %H:%M", time.localtime(at_s))
    line = f"The last run was stopped by you, {when}: about 3 volumes remain;"
    shown = " ".join(CliRunner().invoke(cli, ["status", str(folder)]).output.split())
    assert line in shown
    assert f"pending full_recon bone_5 node7 job 42 {cancelled}" in shown
    began = time.strftime("%a %d %b %H:%M", time.localtime(now))
    of_both = f"Jobs of the campaign; to do: those of the run of {began}, which was stopped."
    assert of_both in shown
    index = load_campaign(folder).files.index
    index.parent.mkdir(parents=True, exist_ok=True)
    index.touch()
    assert read_status(load_campaign(folder)).stopped
    os.utime(index, (now + 500, now + 500))  # a run without tomopipe has ended since
    assert not read_status(load_campaign(folder)).stopped


def test_after_a_kill_the_jobs_of_the_run_are_counted_by_their_files(folder, monkeypatch):
    began = time.time()
    events = folder / "logs" / "run" / "20261130-1.jsonl"
    events.parent.mkdir(parents=True)
    monkeypatch.setenv(progress.VARIABLE, str(events))
    with subprocess.Popen(["true"]) as process:
        process.wait()
    lock.take(folder, lock.new_run(folder, pid=process.pid, events=str(events)))
    progress.tell(executes=True)
    progress.tell(planned={"full_recon": {f"bone_{n}": (1.0, 1) for n in (1, 2, 3, 5)}}, about=[])
    for number in (1, 2):  # made again: the volume of bone_1 after the kill, that of bone_2 not yet
        progress.tell(began=number, step="full_recon", name=f"bone_{number}", reason="")
    status(folder, "bone_1", "done", start=began + 1, end=began + 9)
    step, found = full_recon(folder)
    assert (step.queued, step.running, step.done, step.lost, step.failed) == (3, 0, 1, 0, 0)
    assert found.ended == "killed"
    assert "ended without a word" in found.stopped
    assert "3 of 4 volumes remain" in found.stopped
    shown = " ".join(CliRunner().invoke(cli, ["status", str(folder)]).output.split())
    assert shown.startswith(found.stopped)
    assert "which was killed." in shown
    lock.take(folder, lock.new_run(folder))  # the next run
    assert not read_status(load_campaign(folder)).stopped


def test_jobs_of_scans_that_left_the_campaign_are_not_counted(folder):
    status(folder, "old_1", "done", start=time.time() - 30, end=time.time() - 20)
    assert full_recon(folder)[0].done == 2
    (folder / "raw").rename(folder / "away")  # a disk that is not mounted
    steps = read_status(load_campaign(folder, needs_raw=False)).steps
    assert [step.done for step in steps] == [3]


def test_a_run_of_snakemake_itself_is_said_to_count_no_jobs_to_do(folder):
    lock.take(folder, lock.new_run(folder))
    assert "snakemake began itself" in read_status(load_campaign(folder)).counted


def test_a_job_whose_submission_was_cancelled_is_to_do(folder):
    error, times = "SLURM job 7: CANCELLED", {"start": time.time() - 30, "end": time.time() - 30}
    status(folder, "bone_5", "failed", **times, error=error, host="")
    status(folder, "bone_4", "failed", **times, error=error)  # it had begun
    running = {"start": time.time() - 30, "heartbeat": time.time() - 5}
    status(folder, "bone_3", "running", **running, error=error)  # when it was cancelled
    step, found = full_recon(folder)
    assert (step.queued, step.failed, step.lost, step.done) == (2, 1, 0, 2)
    pending = {(job.key, job.error) for job in found.with_state("pending")}
    assert pending == {("bone_5", error), ("bone_3", error)}
    campaign = load_campaign(folder)
    failures = standing_failures(campaign, read_inventory(campaign.files.inventory))
    assert [failure.key for failure in failures] == ["bone_4"]


def test_a_job_that_slurm_has_ended_is_lost_with_its_reason(folder):
    times = {"start": time.time() - 30, "heartbeat": time.time() - 5}
    status(folder, "bone_3", "running", slurm_job="41", **times)
    status(folder, "bone_4", "running", slurm_job="42", error="SLURM job 42: TIMEOUT", **times)
    _, found = full_recon(folder)
    assert [job.key for job in found.with_state("running")] == ["bone_3"]
    (lost,) = found.with_state("lost")
    assert (lost.key, lost.error) == ("bone_4", "SLURM job 42: TIMEOUT")


def test_of_some_scans_everything_is_shown(folder):
    kept = {"warnings": "", "reason": "", "keep": "true"}
    row = {"scan": "bone_3", "path": "raw/bone_3.h5", "series": "bone", "n_cols": 8}
    write_tsv([row | kept], [*row, *kept], folder / "results" / "inventory.tsv")
    (folder / "scans.tsv").write_text("scan\tcor_px\tnote\nbone_3\t4.5\tby eye\n")
    for scan in ("bone_3", "bone_4"):
        status(
            folder, scan, "failed", start=time.time() - 50, error=f"OSError: {scan} " + 50 * "x "
        )
    shown = CliRunner().invoke(cli, ["status", str(folder), "bone_3"]).output
    words = " ".join(shown.split())
    assert words.startswith("bone_3 × failed no COR"), shown
    assert "by eye" in words
    assert "OSError: bone_3 " + " ".join(50 * "x") in words
    assert words.count("OSError") == 1
    assert not [line for line in shown.splitlines() if line != line.rstrip()]
    assert "bone_4" not in words
    assert CliRunner().invoke(cli, ["status", str(folder), "bone_9"]).exit_code == 1


@pytest.mark.parametrize("width", [80, 100, 160])
def test_in_a_terminal_an_error_is_one_line_that_says_where_the_rest_is(
    folder, width, capsys, monkeypatch
):
    error = "OSError: " + " ".join(f"word{number}" for number in range(40))
    status(folder, "bone_4", "failed", start=time.time() - 50, error=error)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(SystemExit):
        cli(["status", str(folder)])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= width
    (line,) = [line for line in lines if "failed  full_recon bone_4" in line]
    assert re.search(r"OSError: .*word\d+ \.\.\.$", line)
    assert "The whole text: tomopipe status bone_4" in lines


def test_the_command_prints_a_table_and_json(folder):
    now = time.time()
    status(folder, "bone_3", "running", start=now - 30, heartbeat=now - 5)
    status(folder, "bone_4", "failed", start=now - 50, end=now - 20, error="OSError: [bold]disk")
    log = folder / "logs" / "full_recon" / "bone_4.log"
    log.parent.mkdir()
    log.write_text("".join(f"line {i}\n" for i in range(5000)))
    shown = CliRunner().invoke(cli, ["status", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "running full_recon bone_3 node7 job 42" in " ".join(shown.output.split())
    assert "[bold]disk" in shown.output
    assert "see logs/full_recon/bone_4.log" in shown.output
    assert "line 4999" not in shown.output  # its error says it
    assert "Jobs of the campaign." in shown.output
    assert not [line for line in shown.output.splitlines() if line != line.rstrip()]
    (failed,) = full_recon(folder)[1].with_state("failed")
    assert failed.log_tail.splitlines() == [f"line {i}" for i in range(4975, 5000)]
    shown = json.loads(CliRunner().invoke(cli, ["status", str(folder), "--json"]).output)
    states = {job["key"]: job["state"] for job in shown["jobs"]}
    assert states == {"bone_1": "done", "bone_2": "done", "bone_3": "running", "bone_4": "failed"}
    assert {step["step"]: step["running"] for step in shown["steps"]}["full_recon"] == 1
