"""Jobs cancelled, timed out and drained, and a killed main process, through a real SLURM."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import warm
from tests.waiting import until
from tests.workflow.conftest import (
    HOME,
    command,
    configure,
    job_names,
    new_campaign,
    package_with,
    plan,
    snakemake,
    succeeds,
    table,
    with_code_in_jobs,
)
from tests.workflow.test_slurm import cluster, init, run_slurm  # noqa: F401
from tomopipe.campaign.campaign import load_campaign
from tomopipe.commands.status import read_status
from tomopipe.storage.json_files import json_or
from tomopipe.volumes.volume_read import read_provenance

pytestmark = pytest.mark.slurm

COR_PX = {"a_1": 48.75, "a_2": 49.25, "b_1": 45.25, "b_2": 45.75}


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def jobs_in(state: str) -> list[str]:
    return slurm("squeue", "--me", "--noheader", f"--states={state}", "--format=%A").split()


def state_of(job: str) -> str:
    return slurm("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").strip()


def drain(state: str) -> None:
    """Drain, or resume, all nodes."""
    slurm("scontrol", "update", "nodename=ALL", f"state={state}", "reason=test")


def edit(campaign: Path, cors_px: dict[str, float]) -> None:
    """Edit CORs, so that the volume of each of these scans is a job."""
    table(campaign, *(f"{scan}\tauto\t{cor_px:.2f}\t" for scan, cor_px in cors_px.items()))


def jobs_of_run(log: Path) -> list[str]:
    return sorted(set(re.findall(r"SLURM jobid (\d+)", log.read_text())))


def held_now(campaign: Path) -> list[str]:
    """Name the scans whose volumes are at work."""
    running = jobs_in("RUNNING")
    paths = campaign.glob("logs/status/full_recon/*.json")
    statuses = [json_or(path, {}) for path in paths]  # one that is being replaced may vanish
    return [status["key"] for status in statuses if status.get("slurm_job") in running]


def release(folder: Path, *scans: str) -> None:
    for scan in scans:
        (folder / f"hold-{scan}").unlink(missing_ok=True)


def volume(campaign: Path, scan: str) -> tuple[int, bytes]:
    path = campaign / "results" / f"{scan}_rec.h5"
    return path.stat().st_mtime_ns, path.read_bytes()


def status_of(campaign: Path, scan: str) -> dict:
    path = campaign / "logs" / "status" / "full_recon" / f"{scan}.json"
    return json.loads(path.read_text())


@pytest.fixture
def nodes():
    """Let nodes take jobs again after the test, and leave none of its jobs."""
    yield
    if left := [*jobs_in("RUNNING"), *jobs_in("PENDING")]:
        slurm("scancel", *left)
    if slurm("sinfo", "--noheader", "--states=drain", "--format=%n"):
        drain("resume")
    for node in slurm("sinfo", "--noheader", "--states=down", "--format=%n").split():
        # it may have come back by itself meanwhile
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)


@pytest.fixture
def holding(campaign, cluster, tmp_path, nodes):  # noqa: F811
    """The environment in which a volume's job waits as long as tmp_path/hold-SCAN is there."""
    init(campaign, cluster, apart=True)
    assert snakemake(campaign).status == 0  # a copy: its files are compared
    held = f"""\
hold = Path({str(tmp_path)!r}, f"hold-{{status['key']}}")
while status["step"] == "full_recon" and hold.exists():
    time.sleep(0.1)
"""
    for scan in COR_PX:
        (tmp_path / f"hold-{scan}").touch()
    return cluster | with_code_in_jobs(tmp_path, held)


def start(campaign: Path, environment: dict[str, str], log: Path, *arguments: str):
    with log.open("w") as stream:
        return subprocess.Popen(
            command(campaign, "--profile", "slurm", *arguments, python=warm.python()),
            env=os.environ | environment,
            cwd=HOME,
            stdout=stream,
            stderr=stream,
        )


@contextmanager
def all_submitted(campaign: Path, environment: dict[str, str], log: Path):
    """Start a run of the volumes of all scans; two of them are at work, the others wait."""
    edit(campaign, COR_PX)
    run = start(campaign, environment, log, "--retries", "0")
    try:
        until(lambda: len(jobs_of_run(log)) == len(COR_PX), "all submitted")
        until(lambda: len(held_now(campaign)) == 2, "two volumes at work")
        yield run
    finally:
        run.kill()


def test_cancelled_timed_out_and_drained_jobs_end(campaign, holding, tmp_path):
    """And one that starts after an edit of the config runs as was decided before."""
    log, before = tmp_path / "run.log", (campaign / "config.yaml").read_text()
    with all_submitted(campaign, holding, log) as run:
        drain("drain")
        running, pending = jobs_in("RUNNING"), jobs_in("PENDING")
        slurm("scancel", running[0], pending[0])
        # in 5 s: a time that is past when SLURM reads it is refused
        slurm("scontrol", "update", f"jobid={running[1]}", "endtime=now+5")
        until(lambda: not jobs_in("RUNNING"), "both have ended")
        assert jobs_in("PENDING") == [pending[1]]  # a drained node takes no job
        configure(campaign, "campaign", results="elsewhere")
        configure(campaign, "full_recon", binning="wrong")
        release(tmp_path, *COR_PX)
        drain("resume")
        assert run.wait(200) == 1
    assert not (campaign / "elsewhere").exists()
    (campaign / "config.yaml").write_text(before)
    ended = {running[0]: "CANCELLED", pending[0]: "CANCELLED", running[1]: "TIMEOUT"}
    text = log.read_text()
    for job, state in ended.items():
        assert f"a submission of full_recon failed: SLURM job {job}: {state}" in text, text
    assert {job: state_of(job) for job in ended} == ended
    failed = [s for scan in COR_PX if (s := status_of(campaign, scan))["state"] == "failed"]
    errors = {status["slurm_job"]: status["error"] for status in failed}
    assert errors.keys() == ended.keys()
    assert all(f"SLURM job {job}: {state}" in errors[job] for job, state in ended.items())
    assert errors[pending[0]] == f"SLURM job {pending[0]}: CANCELLED"  # it left no status itself
    assert state_of(pending[1]) == "COMPLETED"
    again = succeeds(campaign)
    assert sum(job.startswith("full_recon:") for job in again.jobs) == 3
    assert {status_of(campaign, scan)["state"] for scan in COR_PX} == {"done"}
    assert snakemake(campaign).jobs == frozenset()


def test_killed_main_process_and_its_jobs(campaign, holding, cluster, tmp_path):  # noqa: F811
    """Jobs of the dead run were at work, another was queued: all are cancelled."""
    cors_px = {scan: COR_PX[scan] for scan in ("a_1", "a_2", "b_1")}
    edit(campaign, cors_px)
    first_log = tmp_path / "first.log"
    first = start(campaign, holding, first_log)
    try:
        until(lambda: len(jobs_of_run(first_log)) == len(cors_px), "all submitted")
        until(lambda: len(held_now(campaign)) == 2, "two volumes at work")
        drain("drain")  # the other waits
    finally:
        first.kill()
        first.wait()
    early, late = held_now(campaign)
    orphans = jobs_of_run(first_log)
    edit(campaign, {scan: cor_px + 0.5 for scan, cor_px in cors_px.items()})
    second_log = tmp_path / "second.log"
    second = start(campaign, cluster, second_log, "--retries", "0")
    try:
        until(lambda: jobs_of_run(second_log), "the second run has begun")
        release(tmp_path, early)  # its node is free for the queue
        drain("resume")
        assert second.wait(300) == 0, second_log.read_text()[-8000:]
    finally:
        second.kill()
    assert not (campaign / "results" / ".runs").exists()
    made = {scan: volume(campaign, scan) for scan in cors_px}
    statuses = {scan: status_of(campaign, scan) for scan in cors_px}
    assert {status["state"] for status in statuses.values()} == {"done"}
    release(tmp_path, *cors_px)
    until(lambda: not jobs_in("RUNNING"), f"the job of {late} has ended")
    assert {scan: volume(campaign, scan) for scan in cors_px} == made
    assert {scan: status_of(campaign, scan) for scan in cors_px} == statuses
    # the queued one, and those that made what nobody needs any more
    assert set(map(state_of, orphans)) == {"CANCELLED"}
    assert "of which nobody needs the results any more, are cancelled: " in second_log.read_text()
    third = snakemake(campaign)
    assert (third.status, third.jobs) == (0, frozenset()), third.text
    assert plan(campaign) == (0, frozenset())
    for scan, cor_px in cors_px.items():
        provenance = read_provenance(campaign / "results" / f"{scan}_rec.h5")
        assert json.loads(provenance["made_from"])["cor_px"] == pytest.approx(cor_px + 0.5)


def test_what_a_killed_run_still_makes_is_waited_for(campaign, holding, cluster, tmp_path):  # noqa: F811
    cors_px = {scan: COR_PX[scan] for scan in ("a_1", "a_2", "b_1")}
    edit(campaign, cors_px)
    first_log, second_log = tmp_path / "first.log", tmp_path / "second.log"
    first = start(campaign, holding, first_log)
    try:
        until(lambda: len(jobs_of_run(first_log)) == len(cors_px), "all submitted")
        until(lambda: len(held_now(campaign)) == 2, "two volumes at work")
    finally:
        first.kill()
        first.wait()
    wanted, unwanted = held_now(campaign)
    number, other = (status_of(campaign, scan)["slurm_job"] for scan in (wanted, unwanted))
    edit(campaign, cors_px | {unwanted: cors_px[unwanted] + 0.5})
    second = start(campaign, cluster, second_log, "--retries", "0")
    try:
        until(lambda: "waiting for SLURM jobs" in second_log.read_text(), "it waits")
        second.send_signal(signal.SIGINT)
        assert second.wait(60) == 1
        second = start(campaign, cluster, second_log, "--retries", "0")
        until(lambda: "waiting for SLURM jobs" in second_log.read_text(), "this one waits, too")
        assert f"type: scancel {number}\n" in second_log.read_text()
        release(tmp_path, *cors_px)
        assert second.wait(300) == 0, second_log.read_text()[-8000:]
    finally:
        second.kill()
    assert (state_of(number), state_of(other)) == ("COMPLETED", "CANCELLED")
    assert {status_of(campaign, scan)["state"] for scan in cors_px} == {"done"}
    assert status_of(campaign, wanted)["slurm_job"] == number
    again = job_names(second_log.read_text())
    assert {job for job in again if job.startswith("full_recon")} == {
        f"full_recon:{scan}" for scan in cors_px if scan != wanted
    }
    assert plan(campaign) == (0, frozenset())


def test_submitted_jobs_that_have_not_begun_to_write_count_as_running(
    campaign,
    cluster,  # noqa: F811
    tmp_path,
    nodes,
):
    """Unless nobody needs it: a scan that is no longer selected is cancelled."""
    init(campaign, cluster, apart=True)
    assert snakemake(campaign).status == 0
    begins = '    _write(status | {"heartbeat": status["start"]}, path)\n'
    held = f"""\
    while status["step"] == "full_recon" and Path({str(tmp_path / "hold")!r}).exists():
        time.sleep(0.1)
"""
    holding = cluster | package_with(tmp_path, "campaign/log.py", begins, held + begins)
    (tmp_path / "hold").touch()
    cors_px = {scan: COR_PX[scan] for scan in ("a_1", "a_2")}
    edit(campaign, cors_px)
    before = {scan: status_of(campaign, scan)["start"] for scan in cors_px}
    first_log, second_log = tmp_path / "first.log", tmp_path / "second.log"
    first = start(campaign, holding, first_log)
    try:
        until(lambda: len(jobs_in("RUNNING")) == 2, "both are at work")
    finally:
        first.kill()
        first.wait()
    assert {scan: status_of(campaign, scan)["start"] for scan in cors_px} == before
    table(campaign, "a_1\tauto\t48.75\t", "a_2\tno\t\t")
    second = start(campaign, cluster, second_log, "--retries", "0")
    try:
        until(lambda: "waiting for SLURM jobs" in second_log.read_text(), "it waits")
        (number,) = re.findall(r"type: scancel (\d+)\n", second_log.read_text())
        (tmp_path / "hold").unlink()
        assert second.wait(300) == 0, second_log.read_text()[-8000:]
    finally:
        second.kill()
    (other,) = {*jobs_of_run(first_log)} - {number}
    assert (state_of(number), state_of(other)) == ("COMPLETED", "CANCELLED")
    assert status_of(campaign, "a_1")["slurm_job"] == number
    assert "full_recon:a_1" not in job_names(second_log.read_text())
    assert plan(campaign) == (0, frozenset())


def test_a_job_of_a_node_that_failed_goes_on_and_none_starts_beside_it(campaign, holding, tmp_path):
    log = tmp_path / "run.log"
    edit(campaign, {"a_1": COR_PX["a_1"]})
    run = start(campaign, holding, log)
    try:
        until(lambda: held_now(campaign) == ["a_1"], "the volume is at work")
        (job,) = jobs_in("RUNNING")
        first = status_of(campaign, "a_1")
        node = slurm("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
        slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        until(lambda: state_of(job) == "PENDING", "SLURM has queued it again")
        time.sleep(5)  # the run asks twice, also while the accounting says NODE_FAIL
        slurm("scontrol", "update", f"jobid={job}", "starttime=now")  # it would be in 2 minutes
        until(lambda: status_of(campaign, "a_1")["start"] > first["start"], "it has begun again")
        assert jobs_in("RUNNING") == [job]
        release(tmp_path, "a_1")
        assert run.wait(300) == 0, log.read_text()[-8000:]
    finally:
        run.kill()
    assert jobs_of_run(log) == [job]
    assert snakemake(campaign).jobs == frozenset()


def test_a_library_that_one_node_cannot_load_is_tried_on_another(tmp_path, cluster, nodes):  # noqa: F811
    campaign = new_campaign(tmp_path / "campaign", {"a_2": 48.5, "b_1": 49.0})
    init(campaign, cluster)
    first, line = tmp_path / "first", "rows = collect_rows("
    text = (HOME / "tomopipe" / "steps" / "try_recon.py").read_text()
    indent = re.search(rf"^( +){re.escape(line)}", text, re.M)[1]
    lacking = f"""\
import ctypes, os
{indent}node, first = os.environ["SLURMD_NODENAME"], Path({str(first)!r})
{indent}first.exists() or first.write_text(node)
{indent}node == first.read_text() and ctypes.CDLL("libblosc2-lacking.so")
{indent}{line}"""
    run = run_slurm(campaign, cluster | package_with(tmp_path, "steps/try_recon.py", line, lacking))
    assert run.status == 0, run.text
    bad = first.read_text()
    assert f"{bad}: no more jobs of this run go there, while there are other nodes" in run.text
    assert "copy it again" not in run.text
    rows = slurm(
        *("sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,NodeList"),
        f"--jobs={','.join(re.findall(r'SLURM jobid ([0-9]+)', run.text))}",
    ).splitlines()
    where = [row.split("|")[1] for row in sorted(rows, key=lambda row: int(row.split("|")[0]))]
    assert where[0] == bad
    assert bad not in where[1:]
    for scan in ("a_2", "b_1"):
        prediction = campaign / "results" / "try_center" / scan / "prediction.json"
        assert json.loads(prediction.read_text())["verdict"] == "resolved"


def test_what_slurm_knows_of_killed_jobs_stands_in_status_and_report(campaign, cluster, tmp_path):  # noqa: F811
    init(campaign, cluster, apart=True)
    assert snakemake(campaign).status == 0
    edit(campaign, {scan: COR_PX[scan] for scan in ("a_1", "a_2")})
    killing = """\
if status["step"] == "full_recon" and status["key"] == "a_1":
    os.kill(os.getpid(), 9)
if status["step"] == "full_recon":
    pid = os.getppid()
    while b"slurm_script" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(pid, 9)
    time.sleep(60)
"""
    run = run_slurm(campaign, cluster | with_code_in_jobs(tmp_path, killing), "--retries", "0")
    assert run.status == 1
    says = {"a_1": "a process died with SIGKILL", "a_2": "exit code 0:9 (SIGKILL)"}
    failed = read_status(load_campaign(campaign)).with_state("failed", "lost")
    assert {job.key for job in failed} == says.keys()
    page = (campaign / "results" / "report" / "index.html").read_text()
    for job in failed:
        assert says[job.key] in job.error
        assert says[job.key] in run.text
        assert says[job.key] in page
