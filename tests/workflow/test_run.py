"""`tomopipe run` with the real Snakemake: reasons, exit status 3, a lost terminal, stop."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from tests import warm
from tests.waiting import ended, until
from tests.workflow.conftest import (
    HOME,
    configure,
    failing,
    job_names,
    make_scan,
    new_campaign,
    package_with,
    plan,
    snakemake,
    table,
)
from tomopipe.campaign.files import Files
from tomopipe.cli import cli
from tomopipe.storage import lock

CORES = ("--", "--cores", "2")


def tomopipe(folder: Path, *arguments: str, environment: dict | None = None) -> tuple[int, str]:
    """Type `tomopipe ...` in a folder; return its status and what it says."""
    return ended(warm.python(), "-m", "tomopipe", *arguments, cwd=folder, env=environment)


def test_a_run_says_why_and_what_came_out(campaign):
    within = campaign / "results" / "try_center"
    cor = f"COR of a_2: {cor_px(campaign, 'a_2'):.2f} -> 50.25, by hand"
    assert CliRunner().invoke(cli, ["cor", "set", "a_2", "50.25", "-C", str(within)]).exit_code == 0
    planned = CliRunner().invoke(cli, ["run", "-n", str(within)])
    assert planned.exit_code == 2, planned.output
    (row,) = rows(planned.output, "a_2")
    assert "full_recon" in row
    assert cor in row
    assert "Ready: tomopipe run" in CliRunner().invoke(cli, ["check", str(within)]).output

    status, text = tomopipe(within, "run", *CORES)
    assert status == 0, text
    assert text.count(cor) == 1
    for step in ("fix_cor", "resolve_cor", "full_recon", "sidecar", "export_star", "report"):
        assert f"{step:<11}  1 of 1" in text  # the page comes from a job, too
    (row,) = rows(text, "a_2")
    assert row.split()[:4] == ["a_2", "50.25", "by", "hand"]
    assert "report      ../report/index.html" in text
    assert "Everything is up to date." in CliRunner().invoke(cli, ["check", str(within)]).output


TOO_SMALL = ("resources/disk.py", "shutil.disk_usage(existing).free", "1000")


def test_snakemake_says_once_that_the_disk_will_not_do_and_goes_on(campaign, tmp_path):
    environment = for_tomopipe(tmp_path, package_with(tmp_path, *TOO_SMALL))
    said = "MB needed, 0.0 MB free. Free some, or set "
    (campaign / "results" / "a_2_rec.h5").unlink()
    assert said not in snakemake(campaign, "predictions", environment=environment).text
    run = snakemake(campaign, environment=environment)
    assert (run.status, run.text.count(said)) == (0, 1), run.text
    assert "full_recon:a_2" in run.jobs


@pytest.mark.parametrize(
    "is_first", [False, True], ids=["with an inventory", "first, on a cluster"]
)
def test_tomopipe_run_starts_nothing_on_a_disk_that_check_calls_too_small(
    campaign, tmp_path, is_first
):
    environment = for_tomopipe(tmp_path, package_with(tmp_path, *TOO_SMALL))
    volume, options = campaign / "results" / "a_2_rec.h5", CORES
    if is_first:
        pytest.importorskip("snakemake_executor_plugin_cluster_generic")
        shutil.rmtree(campaign / "results")
        submit = ("--cluster-generic-submit-cmd", f"touch {tmp_path}/submitted; false")
        options = ("--", "--executor", "cluster-generic", *submit, "--jobs", "2")
    else:
        volume.unlink()
    lack = re.compile(r"[0-9.,]+ MB needed, 0\.0 MB free\. Free some, or set .*")
    checked = lack.findall(tomopipe(campaign, "check", environment=environment)[1])
    assert len(checked) == 1
    status, text = tomopipe(campaign, "run", *options, environment=environment)
    assert (status, lack.findall(text)) == (1, checked), text
    assert "Not started. `tomopipe run --force` starts although the disk is too small." in text
    assert not (tmp_path / "submitted").exists()
    files = Files(campaign / "results")
    assert not volume.exists()
    assert files.sweep("a_2").exists() != is_first
    assert not list(files.failure("full_recon", "a_2").parent.glob("*"))
    if is_first:
        return
    status, text = tomopipe(campaign, "run", "--force", *CORES, environment=environment)
    assert (status, lack.findall(text)) == (0, checked), text
    assert volume.exists()


def test_what_cannot_run_ends_with_one_line(campaign):
    (campaign / "results" / "a_2_rec.h5").unlink()
    configure(campaign, "full_recon", device="cuda")
    for option, says in (
        ("--cores=0", "tomopipe: --cores 0: expected at least 1"),
        ("--nonsense", "__main__.py: error: unrecognized arguments: --nonsense"),
        ("--cores=1", "tomopipe: device: cuda: no GPU can be used: "),
    ):
        no_gpu = {"CUDA_VISIBLE_DEVICES": ""}
        status, text = tomopipe(campaign, "run", "--", option, environment=no_gpu)
        assert (status, len(text.splitlines())) == (1, 2), text
        assert text.splitlines()[1].startswith(says)


CUPY = """
from types import SimpleNamespace
runtime = SimpleNamespace(
    getDeviceCount=lambda: 1, deviceGetPCIBusId=str, runtimeGetVersion=lambda: 12090,
    getDeviceProperties=lambda _: {"uuid": b"1"},
)
cuda = SimpleNamespace(runtime=runtime, Device=lambda *_: SimpleNamespace(use=lambda: None))
def empty(*_):
    raise RuntimeError("failed to load libnvrtc.so.12: no such file")
"""


def test_a_gpu_that_cannot_be_used_is_named_once_and_no_scan_is_blamed(campaign, tmp_path):
    (tmp_path / "cupy.py").write_text(CUPY)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    for volume in (volumes := [campaign / "results" / f"a_{n}_rec.h5" for n in (1, 2)]):
        volume.unlink()
    status, text = tomopipe(campaign, "run", *CORES, environment={"PYTHONPATH": path})
    assert (status, text.count("no GPU can be used")) == (0, 1), text
    assert "libnvrtc.so.12" in text
    assert all(volume.exists() for volume in volumes)
    volumes[1].unlink()
    configure(campaign, "full_recon", device="cuda")
    status, text = tomopipe(campaign, "run", *CORES, environment={"PYTHONPATH": path})
    assert (status, text.count("device: cuda: no GPU can be used")) == (1, 1), text
    assert "a_2" not in text
    assert not (campaign / "results" / "failed").exists()


def test_a_job_that_succeeds_at_its_second_attempt_has_not_failed(campaign, tmp_path):
    (campaign / "results" / "a_2_rec.h5").unlink()
    first = f"p = {str(tmp_path / 'first')!r}; new = not os.path.exists(p); open(p, 'w').close()"
    raising = breaking(tmp_path, "a_2", f"{first}; assert not new, 'injected'")
    status, text = tomopipe(campaign, "run", *CORES, environment=raising)
    assert status == 0, text
    assert "failed: full_recon a_2: AssertionError: injected, see logs/full_recon/a_2.log\n" in text
    assert "tried again: full_recon a_2\n" in text
    assert text.count("failed") == 1


def breaking(folder: Path, scan: str, statement: str) -> dict[str, str]:
    """Return the environment in which full_recon of a scan runs a statement, for `tomopipe`."""
    return for_tomopipe(folder, failing(folder, "full_recon", scan, statement))


def for_tomopipe(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Put the workflow beside a copied package, where `tomopipe` looks for it."""
    for name in ("Snakefile", "workflow", "profiles"):
        (folder / "site" / name).symlink_to(HOME / name)
    return environment


def rows(text: str, scan: str) -> list[str]:
    return [line for line in text.splitlines() if line.split()[:1] == [scan]]


def cor_px(campaign: Path, scan: str) -> float:
    return json.loads((campaign / "results" / "cor.json").read_text())[scan]["cor_px"]


def test_a_scan_without_a_cor_is_status_3_also_when_there_is_nothing_to_do(tmp_path):
    campaign = new_campaign(tmp_path / "campaign", {"a_1": 48.5}, methods=())
    configure(campaign, "predict_cor", methods=[])
    status, text = tomopipe(campaign, "run", *CORES)
    assert status == 3, text
    assert "no COR, and so no volume: a_1" in text
    status, text = tomopipe(campaign.parent, "run", "campaign", *CORES)
    assert status == 3, text
    assert "Nothing to do" in text
    # what is asked for is there
    status, text = tomopipe(campaign, "run", *CORES, "results/made/resolve_cor/campaign.json")
    assert status == 0, text


def test_a_run_that_has_nothing_to_do_records_the_times_of_a_copy(campaign, tmp_path):
    copy = shutil.copytree(campaign, tmp_path / "copy", copy_function=shutil.copyfile)
    receipts = [*(copy / "results" / "made").rglob("*.json")]

    def other_times():
        states = [
            (copy / path, state)
            for receipt in receipts
            for path, state in json.loads(receipt.read_text())["files"].items()
        ]
        there = [(path, state) for path, state in states if path.is_file()]  # try stacks are gone
        return {path for path, state in there if path.stat().st_mtime_ns != state[1]}

    assert len(other_times()) > 10
    verified = CliRunner().invoke(cli, ["verify", str(copy)])
    assert verified.exit_code == 0, verified.output  # their content is read, as they are small
    assert "Nothing to do" in tomopipe(copy, "run")[1]
    assert not other_times()


def test_a_run_outlives_its_terminal_and_ends_when_told(campaign, tmp_path):
    before_px = cor_px(campaign, "a_1")
    table(campaign, "a_1\t\t47.00\t")
    slow = breaking(tmp_path, "a_1", "time.sleep(1000)")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(campaign)
        os.environ.update(slow)
        os.execv(sys.executable, [sys.executable, "-m", "tomopipe", "run", *CORES])
    drawn = read_until(terminal, b"full_recon", b"1 running")
    assert f"COR of a_1: {before_px:.2f} -> 47.00, by hand".encode() in drawn
    os.close(terminal)  # SIGHUP to all that it has
    time.sleep(0.5)
    status, text = tomopipe(campaign, "run", environment=slow)
    run = lock.read(campaign)
    assert status == 1, text
    assert f"process {run.pid}" in text
    os.kill(child, 0)  # what shows the run goes on, too

    status, text = tomopipe(campaign / "raw", "stop")
    assert (status, "Stopped" in text) == (0, True), text
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert not (campaign / "results" / ".runs").exists()
    status, text = tomopipe(campaign, "run", *CORES)
    assert status == 0, text
    assert cor_px(campaign, "a_1") == 47


def test_a_killed_run_is_told_and_the_next_goes_on(campaign, tmp_path):
    table(campaign, "a_1\t\t47.00\t")
    slow = breaking(tmp_path, "a_1", "time.sleep(100)")
    first = subprocess.Popen(
        [warm.python(), "-m", "tomopipe", "run", *CORES], cwd=campaign, env=os.environ | slow
    )
    state = campaign / "logs/status/full_recon/a_1.json"
    begun_ns = state.stat().st_mtime_ns
    until(lambda: state.stat().st_mtime_ns != begun_ns)
    os.killpg(lock.read(campaign).pid, signal.SIGKILL)
    assert first.wait(60) == 1
    assert "ended without a word (killed" in tomopipe(campaign, "status")[1]
    status, text = tomopipe(campaign, "run", *CORES)
    assert (status, "this one goes on from there" in text) == (0, True), text
    assert cor_px(campaign, "a_1") == 47
    assert "killed" not in tomopipe(campaign, "status")[1]


def test_a_cor_that_cannot_be_read_is_named_first_with_what_to_write(campaign):
    table(campaign, "a_2\tauto\t50,25\t", "a_1\tauto\t47\t")
    fault = "scans.tsv: line 2: cor_px of a_2 is '50,25', which counts as no COR; write 50.25"
    assert tomopipe(campaign, "plan")[1].startswith(fault)
    for arguments, ends_early in ((CORES, False), ((), True), (("a_1", *CORES), True)):
        status, text = tomopipe(campaign, "run", *arguments)
        before, _, after = text.partition(f"tomopipe: {fault}")
        assert (status, before.count("\n") < 2, fault in after) == (0, True, False), text
        assert ("Nothing to do: " in after) == ends_early


def read_until(terminal: int, *words: bytes, seconds: float = 300) -> bytes:
    drawn, end = b"", time.monotonic() + seconds
    while not all(word in drawn for word in words):
        assert time.monotonic() < end, drawn.decode()
        try:
            drawn += os.read(terminal, 65536)
        except OSError as error:
            raise AssertionError(f"it ended, and has said {drawn.decode()}") from error
    return drawn


def test_a_scan_of_known_cor_is_searched_when_it_is_named(tmp_path):
    campaign = new_campaign(tmp_path / "campaign", {"a_1": 48.5, "a_2": 49.0})
    table(campaign, "a_1\tauto\t40.00\t", "a_2\tauto\t49.00\t", "b_9\tno\t\t")
    make_scan(campaign, "b_9", 45.0)
    assert snakemake(campaign).status == 0
    made = (campaign / "results" / "a_1_rec.h5").stat().st_mtime_ns
    status, text = tomopipe(campaign, "run", "--predict", "a_1", *CORES)
    assert status == 0, text
    assert "predict_cor" in text
    results = campaign / "results" / "try_center"
    assert [path.name for path in results.iterdir()] == ["a_1"]
    predicted_px = json.loads((results / "a_1/prediction.json").read_text())["cor_px"]
    assert abs(predicted_px - 48.5) < 0.3
    assert (results / "a_1" / "try.tif").exists()
    assert (campaign / "results" / "a_1_rec.h5").stat().st_mtime_ns == made
    jobs = {"fix_cor:a", "resolve_cor", "sidecar", "report"}
    assert plan(campaign)[1] == snakemake(campaign).jobs == jobs
    page = (campaign / "results" / "report" / "index.html").read_text()
    assert f"{40 - predicted_px:.2f} px from the prediction" in page
    assert "1 COR set by hand without a prediction" in page
    assert plan(campaign) == (0, frozenset())


def test_a_scan_is_searched_in_a_campaign_that_has_not_run(tmp_path):
    campaign = new_campaign(tmp_path / "campaign", {"a_1": 48.5, "a_2": 49.0})
    status, text = tomopipe(campaign, "run", "--predict", "a_1", *CORES)
    assert status == 0, text
    assert [f"{step:<12} 1 of 1" in text for step in ("inventory", "predict_cor")] == [True, True]
    assert [path.name for path in campaign.glob("results/try_center/*")] == ["a_1"]


def test_the_volume_of_one_scan_is_planned_and_then_made_alone(campaign):
    table(campaign, "a_2\tauto\t50.25\t", "b_1\tauto\t47.00\t")
    shown = CliRunner().invoke(cli, ["run", "-C", str(campaign), "a_2", "-n"])
    assert (shown.exit_code, shown.output.count("full_recon")) == (2, 2), shown.output
    assert "fix_cor" not in shown.output
    jobs = plan(campaign, "a_2")[1]
    assert jobs == {"full_recon:a_2"}
    status, text = tomopipe(campaign, "run", "a_2", *CORES)
    assert status == 0, text
    log = max((campaign / "logs" / "run").glob("*.log")).read_text()
    assert frozenset(job_names(log)) == jobs
    assert "full_recon   1 of 1" in text
    assert "sidecar " not in text  # it was not asked for
    assert "report/index.html (older than this run; " in text
    assert "cor.json (as of the last run of all scans)" in text
    assert "47.00 by hand, applied by the next run" in rows(text, "b_1")[0]
    status, text = tomopipe(campaign, "run", *CORES, "predictions")
    assert (status, text.count("Nothing to do: what was asked for")) == (0, 1), text
    assert "full_recon" not in text
    assert plan(campaign, "a_2") == (0, frozenset())
    tables = {"fix_cor:a", "fix_cor:b", "resolve_cor"}
    assert plan(campaign)[1] == tables | {"full_recon:b_1", "sidecar", "export_star", "report"}


def test_a_scan_that_turns_out_to_have_no_cor_costs_only_its_volume(campaign):
    make_scan(campaign, "c_1", 48.0)
    with h5py.File(campaign / "raw" / "c_1.h5", "r+") as file:
        frames = file["exchange/data"]
        noise = np.random.default_rng(1).normal(20000, 200, frames.shape)
        frames[...] = noise.astype(frames.dtype)
    (campaign / "results" / "a_1_rec.h5").unlink()
    status, text = tomopipe(campaign, "run", "a_1", "c_1", *CORES)
    assert (status, (campaign / "results" / "a_1_rec.h5").exists()) == (1, True), text
    log = max((campaign / "logs" / "run").glob("*.log")).read_text()
    assert "c_1 has no COR, and so no volume. Type: tomopipe cor set c_1 VALUE" in log
    assert "c_1 has no COR, and so no volume." in text
    assert "KeyError" not in log
