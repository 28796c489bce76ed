"""A campaign through a real SLURM: first run, an edited COR, memory kills, groups."""

import json
import re
from pathlib import Path

import pytest

from tests import warm
from tests.waiting import ended
from tests.workflow.conftest import (
    COMPILED,
    CORS_PX,
    HOME,
    Run,
    command,
    configure,
    job_names,
    new_campaign,
    plan,
    table,
    with_code_in_jobs,
)
from tests.workflow.test_stitch import write_stacks
from tomopipe.campaign.campaign import load_campaign
from tomopipe.commands.status import read_status
from tomopipe.run.progress import VARIABLE

pytestmark = pytest.mark.slurm


@pytest.fixture
def cluster(tmp_path) -> dict[str, str]:
    """An environment whose home has no profile of anybody; SLURM counts and kills jobs in it."""
    home = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "home" / ".config")}
    return home | COMPILED | {warm.PLAIN_JOBS: "1"}


def init(campaign: Path, environment: dict[str, str], *, apart: bool = False) -> None:
    """Let `tomopipe init` write the profile, and make its waits those of a test cluster.

    `apart`: each volume is a submission of its own, that takes a node.
    """
    where = ("--partition", "cpu", "--account", "")
    status, text = ended(
        *(warm.python(), "-m", "tomopipe", "init", campaign), *where, env=environment
    )
    assert (status, "profile.yaml" in text) == (0, True), text
    for path in (
        campaign / "slurm" / "profile.yaml",
        Path(environment["XDG_CONFIG_HOME"], "snakemake", "slurm", "profile.yaml"),
    ):
        text = path.read_text()
        assert "slurm_partition: cpu" in text
        text = text.replace("status-checks: 20", "status-checks: 1")
        if apart:
            text += "set-resources:\n  full_recon: {batch: 1}\nset-threads:\n  full_recon: 4\n"
        path.write_text(text.replace("latency-wait: 60", "latency-wait: 5"))


def run_slurm(
    campaign: Path, environment: dict[str, str], *arguments: str, folder: Path = HOME
) -> Run:
    """Run `snakemake --profile slurm`: typed in the campaign, as the README says, or elsewhere."""
    in_it = [warm.python(), "-m", "snakemake"]
    call = in_it if folder == campaign else command(campaign, python=warm.python())
    options = {"cwd": folder, "env": environment, "seconds": 900}
    status, text = ended(*call, "--profile", "slurm", *arguments, **options)
    return Run(status, frozenset(job_names(text)), text)


def submissions(text: str) -> int:
    return len(set(re.findall(r"SLURM jobid (\d+)", text)))


@pytest.mark.engine
def test_campaign_and_an_edited_cor(tmp_path, cluster):
    cors_px = {scan: CORS_PX[scan] for scan in ("a_1", "a_2", "b_1")}
    campaign = new_campaign(tmp_path / "my campaign", cors_px, methods=())  # with a network
    del cluster[warm.PLAIN_JOBS]  # all jobs end by themselves
    init(campaign, cluster)
    first = run_slurm(campaign, cluster, "--tomopipe-keep-successful-logs", folder=campaign)
    assert first.status == 0, first.text
    on_nodes = [log.read_text() for log in campaign.glob(".snakemake/slurm_logs/*/*.log")]
    assert len(on_nodes) == 3
    assert not any("reading the campaign" in text for text in on_nodes)
    assert {path.name for path in campaign.glob("results/*_rec.h5")} == {
        f"{scan}_rec.h5" for scan in cors_px
    }
    resolved = json.loads((campaign / "results" / "cor.json").read_text())
    assert {entry["source"] for entry in resolved.values()} == {"ai"}
    # try and predict of all in one, the volumes in one, the stacks in one
    assert submissions(first.text) == 1 + 1 + 1

    assert run_slurm(campaign, cluster, folder=campaign).jobs == frozenset()
    table(campaign, "a_2\tauto\t50.25\t")
    planned = plan(campaign)
    edited = run_slurm(campaign, cluster, folder=campaign)
    expected = {*("fix_cor:a", "resolve_cor", "full_recon:a_2", "sidecar", "export_star", "report")}
    assert edited.status == 0, edited.text
    assert edited.jobs == expected
    assert planned == (2, expected)
    assert submissions(edited.text) == 1
    # jobs of a step whose earlier steps are done already, in one submission
    configure(campaign, "predict_cor", min_confidence=0.45)
    # at a site that passes no environment to its nodes
    bare = ("--default-resources", "slurm_partition=cpu", "slurm_extra='--export=NONE'")
    again = run_slurm(campaign, cluster, *bare, folder=campaign)
    assert again.status == 0, again.text
    # the COR of a_2 is in the table
    assert {job for job in again.jobs if ":" in job} >= {"predict_cor:a_1", "predict_cor:b_1"}
    assert not any(job.startswith(("try_recon", "full_recon")) for job in again.jobs)
    assert submissions(again.text) == 1
    assert run_slurm(campaign, cluster).jobs == frozenset()


def test_scans_of_a_stack_are_joined_though_one_was_killed_for_memory(tmp_path, cluster):
    campaign = tmp_path / "campaign"
    write_stacks(campaign, {"a": "bone"})
    init(campaign, cluster, apart=True)
    # holds more than the first attempt asks for, and less than the second
    first_mb = tmp_path / "first_mb"
    hungry = f"""\
if status["step"] == "full_recon" and status["key"] == "a_1":
    first_mb = Path({str(first_mb)!r})
    if not first_mb.exists():
        first_mb.write_text(os.environ["SLURM_MEM_PER_NODE"])
    waste = bytearray(b"x") * int(1.3e6 * int(first_mb.read_text()))
    time.sleep(4)
"""
    run = run_slurm(campaign, cluster | with_code_in_jobs(tmp_path, hungry))
    assert run.status == 0, run.text
    assert f"mem_mb={2 * int(first_mb.read_text())}" in run.text
    assert "stitch:bone" in run.jobs
    found = json.loads((campaign / "results" / "stitched" / "bone.json").read_text())
    assert found["pairs"][0]["z_px"] == pytest.approx(9.5, abs=0.1)
    assert submissions(run.text) == 1 + 3 + 1  # tries in one, a volume each, a_1 again, their stack
    assert run_slurm(campaign, cluster).jobs == frozenset()


def test_who_was_beside_a_job_that_kills_its_submission_is_not_blamed(tmp_path, cluster):
    campaign = new_campaign(tmp_path / "campaign", {"a_2": 48.5, "b_1": 49.0})
    init(campaign, cluster)
    # in the first attempt they meet, in one submission
    killing = f"""\
import subprocess
folder, scan = Path({str(tmp_path)!r}), status["key"]
if status["step"] == "try_recon":
    is_first = not (folder / scan).exists()
    (folder / scan).touch()
    while is_first and not all((folder / name).exists() for name in ("a_2", "b_1")):
        time.sleep(0.1)
    if scan == "a_2":
        subprocess.run(["scancel", os.environ["SLURM_JOB_ID"]])
    if is_first or scan == "a_2":
        time.sleep(60)
"""
    run = run_slurm(campaign, cluster | with_code_in_jobs(tmp_path, killing))
    assert run.status == 1
    assert submissions(run.text) == 1 + 2 + 1  # a_2 and b_1; each; a_2 once more
    records = [path.relative_to(campaign) for path in campaign.glob("results/failed/*/*.json")]
    assert records == [Path("results/failed/try_recon/a_2.json")]
    assert (campaign / "results/try_center/b_1/prediction.json").exists()


def test_who_was_killed_together_is_alone_in_the_next_run(tmp_path, cluster):
    """Without retries nobody is blamed in the first; the same would happen in each run."""
    campaign = new_campaign(tmp_path / "campaign", {"a_2": 48.5, "b_1": 49.0})
    init(campaign, cluster)
    killing = f"""\
import subprocess
if status["step"] == "try_recon":
    scan, job = status["key"], os.environ["SLURM_JOB_ID"]
    (Path({str(tmp_path)!r}) / (job + scan)).touch()
    other = Path({str(tmp_path)!r}, job + {{"a_2": "b_1", "b_1": "a_2"}}[scan])
    end = time.monotonic() + 10
    while not other.exists() and time.monotonic() < end:
        time.sleep(0.1)
    if scan == "a_2":
        subprocess.run(["scancel", job])
    if scan == "a_2" or other.exists():
        time.sleep(60)
"""
    environment = cluster | with_code_in_jobs(tmp_path, killing)
    found = []
    for _ in range(2):
        assert run_slurm(campaign, environment, "--retries", "0").status == 1
        found.append(sorted(path.stem for path in campaign.glob("results/failed/*/*.json")))
    assert found == [[], ["a_2"]]
    assert (campaign / "results/try_center/b_1/prediction.json").exists()


def test_what_sbatch_refuses_is_told_once(tmp_path, cluster):
    campaign = new_campaign(tmp_path / "campaign", {"a_1": 48.0, "a_2": 48.5})
    init(campaign, cluster, apart=True)
    nowhere, events = "full_recon:slurm_partition=nowhere", tmp_path / "events"
    environment = cluster | {VARIABLE: str(events)}
    options = ("--logger", "tomopipe", "--retries", "1", "--set-resources", nowhere)
    run = run_slurm(campaign, environment, *options)
    assert run.status == 1
    # all jobs of the first attempt, then each alone
    assert len(re.findall("submission of full_recon failed: .*nvalid partition", run.text)) == 3
    failed = read_status(load_campaign(campaign)).with_state("failed")
    assert sorted(job.key for job in failed) == ["a_1", "a_2"]
    found = list(map(json.loads, events.open()))
    told = [event for event in found if "failed" in event]
    assert (len(told), sum("again" in event for event in found)) == (4, 2)
    assert {event["error"] for event in told} == {job.error for job in failed}
