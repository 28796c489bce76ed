"""The beginning of a Snakemake on a campaign: it enters alone, also after one that was killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tomopipe.storage import lock

pytestmark = pytest.mark.slow

BEGIN = """
import os, signal, sys
from pathlib import Path
from tomopipe.run import beginning
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["snakemake", *sys.argv[1:]]
try:
    beginning.begin({}, Path.cwd(), is_main=True)
except beginning.TomopipeError as error:
    sys.exit(f"tomopipe: {error}")
print(os.environ["TOMOPIPE_RUN"] or "looks", flush=True)
"""
ON_SLURM = ("--executor", "tomopipe", "--jobs", "5")
DIES = "os.kill(os.getpid(), signal.SIGKILL)\n"


@pytest.fixture
def campaign(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a_1.h5").touch()
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (tmp_path / "bin").mkdir()
    scancel = tmp_path / "bin" / "scancel"
    scancel.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "cancelled"}\n')
    scancel.chmod(0o755)
    return tmp_path


def begin(campaign, code="", *options):
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code, *options],
        cwd=campaign,
        env=os.environ | {"PATH": f"{campaign / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("options", [ON_SLURM, ("--cores", "2")])
def test_after_a_killed_run_its_queue_is_cancelled_and_its_jobs_end(campaign, options):
    first = begin(campaign, DIES, *options)
    assert first.returncode == -signal.SIGKILL
    dead = lock.read(campaign)
    assert (campaign / first.stdout.strip()).name == dead.id
    for look in ("--dry-run", "--summary"):
        shown = begin(campaign, "", look)
        assert (shown.returncode, shown.stdout) == (0, "looks\n"), shown.stderr
    assert lock.read(campaign) == dead
    second = begin(campaign, "", *options)
    assert second.returncode == 0
    assert "the last run was killed: this one continues from there" in second.stderr
    assert first.stdout != second.stdout
    assert not (campaign / first.stdout.strip()).exists()
    said = campaign / "cancelled"
    call = f"--name=tomopipe-{dead.id[-8:]} --user={os.getuid()} --state=PENDING\n"
    assert (said.read_text() if said.exists() else "") == call * (options == ON_SLURM)
    assert lock.read(campaign) is None
    assert not (campaign / "results" / ".runs").exists()


def test_ctrl_c_ends_a_look_with_one_sentence(campaign):
    """Also after it has begun, while Snakemake reads its rules."""
    interrupted = "import time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    shown = begin(campaign, interrupted, "--dry-run")
    says = "tomopipe: stopped before the run began.\n"
    assert (shown.returncode, shown.stderr) == (1, says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("-call", "runs"),  # as many people type it
        ("-kpc2", "runs"),
        ("-sSnakefile", "runs"),
        ("-Rfull_recon -c=2", "runs"),
        ("-pnc2", "looks"),
        ("-t", "looks"),
        ("--lt", "looks"),
        ("--li", "looks"),
        ("--list-params-changes", "looks"),
        ("--report r.html", "looks"),
        ("--report r.html --report-after-run", "runs"),
        ("--draft-notebook x", "runs"),
        ("-c0", "tomopipe: --cores 0: expected at least 1."),
        ("-kc 0", "tomopipe: --cores 0: expected at least 1."),
        ("-j 0", "tomopipe: --jobs 0: expected at least 1."),
    ],
)
def test_short_options_are_read_as_snakemake_reads_them(campaign, options, says):
    done = begin(campaign, "", *options.split())
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "a_1.h5" not in line]
    assert [re.sub(r"^results/.runs/.*", "runs", line) for line in lines] == [says]


def test_in_a_copy_the_queue_of_the_run_that_was_copied_is_left_alone(campaign):
    begin(campaign, DIES, *ON_SLURM)
    copy = shutil.copytree(campaign, campaign / "copy")
    done = begin(copy, "", *ON_SLURM)
    assert (done.returncode, "was killed" in done.stderr) == (0, False), done.stderr
    assert not (campaign / "cancelled").exists()
    assert not (copy / "results" / ".runs").exists()


def test_a_second_snakemake_is_refused_and_changes_nothing(campaign):
    lock.take(campaign, run := lock.new_run(campaign))
    folder = campaign / "results" / ".runs" / run.id
    folder.mkdir(parents=True)
    for option in ("--delete-all-output", "-t"):
        refused = begin(campaign, "", option)
        assert refused.returncode == 1
        assert f"under way: {run}. Wait" in refused.stderr
    second = begin(campaign)
    assert second.returncode == 1
    assert second.stderr.count(f"under way: {run}; `tomopipe status`") == 1
    assert len(second.stderr.splitlines()) == 1
    assert lock.read(campaign) == run
    assert folder.exists()


def test_a_run_that_was_taken_over_leaves_what_the_newer_one_has(campaign):
    """It was said to be dead, from another host, and was only asleep."""
    newer = "from tomopipe.storage import lock\nlock.take(Path.cwd(), lock.new_run(Path.cwd()))\n"
    forget = '(Path.cwd() / "logs" / "run.lock").unlink()\n'
    asleep = begin(campaign, forget + newer)
    assert asleep.returncode == 0, asleep.stderr
    assert (campaign / asleep.stdout.strip()).is_dir()
    assert lock.read(campaign).id != (campaign / asleep.stdout.strip()).name


def test_two_modules_of_one_snakefile_are_one_run(campaign):
    again = 'beginning.begin({"campaign": {"results": "more"}}, Path.cwd(), is_main=True)\n'
    both = begin(campaign, again)
    assert (both.returncode, both.stderr) == (0, "")
    assert lock.read(campaign) is None
    assert not list(campaign.glob("*/.runs"))


@pytest.mark.namespaces
def test_a_full_disk_is_said_in_one_sentence(campaign):
    (campaign / "results").mkdir()
    full = (
        "mount -t tmpfs -o size=4k results results && head -c 4096 /dev/zero > results/file && "
        'exec "$@"'
    )
    done = subprocess.run(
        ["unshare", "-rnm", "sh", "-c", full, "sh", sys.executable, "-c", BEGIN, "--cores", "2"],
        cwd=campaign,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    says = f"tomopipe: {campaign / 'results'}: cannot be written: no space left on device"
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith(says)
    assert len(done.stderr.splitlines()) == 1
    assert lock.read(campaign) is None
