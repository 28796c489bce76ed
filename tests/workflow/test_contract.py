"""The contract of runs, on a campaign of six scans: what plan calls certain runs, no other job.

Each test ends with a campaign that has nothing to do.
"""

import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from tests import warm
from tests.rights import HEEDING
from tests.workflow.conftest import (
    CORS_PX,
    HOME,
    configure,
    make_scan,
    plan,
    snakemake,
    table,
)
from tests.workflow.test_reruns import SEARCH, TAIL, changed, jobs_of
from tomopipe.cli import cli
from tomopipe.storage import lock

TABLES = {"fix_cor:a", "fix_cor:b", "resolve_cor"}
RECEIPT = "results/made/full_recon/{}.json"


@pytest.fixture(autouse=True)
def _nothing_is_left(campaign):
    yield
    assert plan(campaign) == (0, frozenset())


def does(campaign: Path, jobs: set[str], pending: bool = False) -> None:
    """Compare plan and run with the jobs; what hangs on a pending prediction is not certain."""
    status, planned = plan(campaign)
    run = snakemake(campaign)
    assert (run.status, run.jobs) == (0, jobs), run.text
    assert status == (2 if jobs else 0)
    assert planned <= jobs if pending else planned == jobs


def states(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return size, time and inode of all results but rot_cen.json, which names their folder."""
    paths = set(folder.rglob("[!.]*")) - {folder / "rot_cen.json"}
    found = {str(path): path.stat() for path in paths if path.is_file()}
    return {path: (at.st_size, at.st_mtime_ns, at.st_ino) for path, at in found.items()}


def of_edit(*scans: str) -> set[str]:
    """Return the jobs after the COR of scans was edited."""
    return {"resolve_cor", *(f"fix_cor:{scan[0]}" for scan in scans), *changed(*scans), *TAIL}


@pytest.mark.engine
def test_cors_and_options_are_edited(campaign):
    table(campaign, "a_2\tauto\t50.25\t")
    does(campaign, of_edit("a_2"))
    table(campaign, "a_2\tauto\t50.250\ta remark")
    does(campaign, set())
    table(campaign)  # undone after a run
    does(campaign, of_edit("a_2"))
    table(campaign, "a_2\tauto\t50.25\t")
    configure(campaign, "full_recon", filter="hann")
    assert snakemake(campaign, "-n").status == 0
    table(campaign)  # undone before one
    configure(campaign, "full_recon", filter="shepp-logan")
    configure(campaign, "watch", settle_s=7)
    does(campaign, jobs_of("full_recon") | {"report"})
    shutil.rmtree(campaign / ".snakemake")
    table(campaign, "b_1\tauto\t46.25\t")
    does(campaign, of_edit("b_1"))


def test_an_option_of_the_search_gives_the_same_cors(campaign):
    configure(campaign, "predict_cor", min_confidence=0.45)
    # each prediction states its options, and so is another file for the report
    does(campaign, {*jobs_of("predict_cor"), *TABLES, "report"}, True)


def test_times_copies_and_lost_records(campaign, tmp_path):
    now_s, chance = 1_800_000_000, random.Random(0)
    for path in (campaign / "results").rglob("*"):
        os.utime(path, (at_s := chance.uniform(1e9, now_s), at_s))
    does(campaign, set())
    for path in (campaign / "results").rglob("*"):
        os.utime(path, (at_s := chance.uniform(2.1e9, 4e9), at_s))
    table(campaign, "b_1\tauto\t46.25\t")
    does(campaign, of_edit("b_1"))
    shutil.rmtree(campaign / ".snakemake")
    copy = shutil.copytree(campaign, tmp_path / "copy", copy_function=shutil.copyfile)
    does(copy, set())
    # also the sweep of b_1, which no run makes
    verified = CliRunner().invoke(cli, ["verify", str(copy)])
    assert verified.exit_code == 0, verified.output
    for path in [copy, *copy.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o060)
    shutil.rmtree(copy / "results" / "made")
    does(copy, set())
    moved = shutil.copytree(campaign, tmp_path / "moved")
    shutil.rmtree(moved / "results" / "made")
    (moved / "results" / ".settled.json").unlink()
    table(moved, "b_1\tauto\t46.25\t", "b_2\tauto\t44.25\t")
    does(moved, {"inventory", *TABLES, *changed("b_2"), *TAIL})


def test_scans_appear_and_vanish(campaign):
    chain = {f"{rule}:b_4" for rule in (*SEARCH, "export_stack")}
    make_scan(campaign, "b_4", 46.0)
    does(campaign, {"inventory", *chain, "fix_cor:b", "resolve_cor", *changed("b_4"), *TAIL}, True)
    make_scan(campaign, "b_4", 47.5, seed=99)
    does(campaign, {"inventory", *chain, *of_edit("b_4")}, True)
    for row in ("no", "auto"):
        table(campaign, f"b_2\t{row}\t\t")
        does(campaign, {"fix_cor:b", "resolve_cor", *TAIL})
    (campaign / "raw" / "b_4.h5").rename(campaign / "b_4.h5")
    does(campaign, {"inventory", "fix_cor:b", "resolve_cor", *TAIL})
    (campaign / "b_4.h5").rename(campaign / "raw" / "b_7.h5")
    chain = {f"{rule}:b_7" for rule in (*SEARCH, "export_stack")}
    does(campaign, {"inventory", *chain, *of_edit("b_7")}, True)


def test_results_are_edited_exchanged_and_deleted(campaign):
    results, tries = campaign / "results", campaign / "results" / "try_center"
    receipt = campaign / RECEIPT.format("a_1")
    (results / "a_2_rec.h5").unlink()
    (results / "relion" / "stacks" / "a_3.mrcs").unlink()
    receipt.unlink()  # which its volume outlives
    does(campaign, {"full_recon:a_2", "export_stack:a_3", *TAIL})
    assert receipt.exists()
    (tries / "a_1" / "center_of_rotation.txt").unlink()
    (tries / "b_1" / "prediction.json").unlink()
    (results / "cor.json").unlink()  # all come out as they were: the page stays
    does(campaign, {*jobs_of("predict_cor", ("a_1", "b_1")), *TABLES}, True)
    os.replace(results / "a_1_rec.h5", results / "aside")
    os.replace(results / "a_2_rec.h5", results / "a_1_rec.h5")
    os.replace(results / "aside", results / "a_2_rec.h5")
    os.truncate(results / "b_2_rec.h5", 5000)
    does(campaign, jobs_of("full_recon", ("a_1", "a_2", "b_2")) | {"report"})
    center = tries / "a_2" / "center_of_rotation.txt"
    before = center.read_text()
    for text in ("50.25\n", before):
        center.write_text(text)
        does(campaign, of_edit("a_2"))


def test_a_file_of_others_is_kept(campaign):
    """It was moved onto a volume that has its receipt, and onto one that has none."""
    path, receipt = campaign / "results" / "b_1_rec.h5", campaign / RECEIPT.format("b_1")
    for n_kept, lost in ((1, ()), (2, (receipt, campaign / "results" / ".settled.json"))):
        for record in lost:
            record.unlink()
        with h5py.File(campaign / "theirs", "w") as file:
            file["exchange/data"] = np.zeros((2, 3, 3))
        theirs = (campaign / "theirs").rename(path).stat()
        does(campaign, {"full_recon:b_1", "report"})
        kept = [each.stat().st_ino for each in path.parent.glob(f"{path.name}.before-*")]
        assert (len(kept), theirs.st_ino in kept) == (n_kept, True)


LOOKING = (["plan"], ["plan", "--json"], ["status"], ["run", "--", "-n"])


# not with the oldest Snakemake: the --summary of 9.20 fails where a checkpoint is to be made again
def test_looking_changes_no_result(campaign):
    assert snakemake(campaign).jobs == frozenset()  # a copy
    table(campaign, "b_1\tauto\t46.25\t")
    configure(campaign, "full_recon", filter="hann")
    results = campaign / "results"
    before = states(results)
    folders = [results, *(path for path in results.rglob("*") if path.is_dir())]
    for mode, by in ((0o555, HEEDING), (0o755, ())):
        for folder in folders:
            folder.chmod(mode)
        for command, *options in LOOKING:
            call = [*by, warm.python(by), "-m", "tomopipe", command, str(campaign), *options]
            subprocess.run(call, capture_output=True, check=False)
        run = snakemake(campaign, "-n", environment={}, by=by)
        assert (run.status, "results are shown as they are" in run.text) == (0, mode == 0o555)
        if mode == 0o555:
            assert states(results) == before
    looks = "-S", "-D", "--dag", "--unlock", "--list-changes params", "-nF", "--report r.html"
    for look in looks:
        run = snakemake(campaign, *look.split())
        assert (run.status, "Traceback" in run.text) == (0, False), run.text
    after = states(results)
    assert {path for path in before if after.get(path) != before[path]} == {
        path for path in before if "/results/made/" in path
    } - after.keys()
    does(campaign, of_edit("b_1") | jobs_of("full_recon"))


@pytest.mark.engine
def test_targets(campaign):
    """Each option does what Snakemake says of it."""
    table(campaign, "a_2\tauto\t50.25\t", "b_1\tauto\t46.25\t")
    left, volume = of_edit("a_2", "b_1"), RECEIPT.format("b_1")
    searched = jobs_of("predict_cor", CORS_PX.keys() - {"a_2", "b_1"})  # which are in the table
    for options, jobs in (
        (["--until", "resolve_cor"], TABLES),
        (["--cores", "2", "results/made/resolve_cor/campaign.json", volume], {"full_recon:b_1"}),
        (["--omit-from", "full_recon"], {"sidecar", "export_star"}),
        ([], {"full_recon:a_2", "report"}),
        (["--touch"], set()),
        (["-f", volume], {"full_recon:b_1"}),
        (["-R", "full_recon"], {*jobs_of("full_recon"), "report"}),
        (["-R", "predict_cor"], {*searched, *TABLES, "report"}),
        (["--delete-all-output"], set()),
        ([], set()),
    ):
        run = snakemake(campaign, *options)
        assert (run.status, run.jobs) == (0, jobs), (options, run.text)
        left -= jobs
        assert plan(campaign)[1] == left, options


def test_a_forced_result_waits_for_the_tables_that_are_due(campaign):
    configure(campaign, "inventory", min_fraction=0.4)
    run = snakemake(campaign, "-f", "results/made/predict_cor/a_2.json", "--cores", "2")
    assert (run.status, run.jobs) == (0, {"inventory", "predict_cor:a_2"}), run.text
    table(campaign, "b_1\tauto\t46.25\t")
    run = snakemake(campaign, "-f", "results/made/export_stack/a_2.json", "--cores", "2")
    assert (run.status, run.jobs) == (0, {"fix_cor:b", "resolve_cor", "export_stack:a_2"}), run.text
    does(campaign, {"full_recon:b_1", "sidecar", *TAIL})


def test_until_and_batch_see_all_once_the_cors_are_there(campaign):
    assert snakemake(campaign).jobs == frozenset()  # a copy
    table(campaign, "b_1\tauto\t46.25\t")
    (campaign / "results" / "a_1_rec.h5").unlink()
    cors = RECEIPT.replace("full_recon", "resolve_cor").format("campaign")
    for options in (["--until", "full_recon"], ["--batch", "all=1/2"]):
        run = snakemake(campaign, *options)
        (said,) = [line for line in run.text.splitlines() if f"tomopipe: {cors} is missing" in line]
        assert (run.jobs, said.endswith(f"snakemake --cores 4 {cors}")) == (frozenset(), True)
    assert snakemake(campaign, "--cores", "2", cors).status == 0
    run = snakemake(campaign, "--until", "full_recon")
    assert run.jobs == jobs_of("full_recon", ["a_1", "b_1"])
    (campaign / "results" / "a_1_rec.h5").unlink()
    runs = [snakemake(campaign, "--batch", f"all={number}/2") for number in (1, 2)]
    assert ([run.status for run in runs], plan(campaign)[1]) == ([0, 0], frozenset())
    assert "full_recon:a_1" in runs[0].jobs | runs[1].jobs


@pytest.mark.engine
def test_calls_that_cannot_run_end_with_one_sentence(campaign):
    run = lock.take(campaign, lock.new_run(campaign, host="elsewhere", machine="another"))
    for option, says in (("--quiet", "on elsewhere"), ("--profile=nowhere", "but no profile.yaml")):
        done = snakemake(campaign, *option.split("="))
        (line,) = [line for line in done.text.splitlines() if not line.startswith("Using")]
        assert (done.status, says in line) == (1, True), line
        assert lock.read(campaign) == run
    took_over = CliRunner().invoke(cli, ["run", str(campaign), "--take-over"])
    assert (took_over.exit_code, lock.read(campaign)) == (0, None), took_over.output


ENDED = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
include: {snakefile!r}


def end(_):
    os.kill(os.getpid(), int(os.environ["NUMBER"]))
    time.sleep(9)


rule mine:
    input: end
    output: "mine.txt"
    shell: "touch {{output}}"
"""


@pytest.mark.engine
def test_a_dry_run_that_is_killed_leaves_nothing(campaign):
    assert snakemake(campaign).jobs == frozenset()  # a copy
    snakefile = campaign / "mine.smk"
    snakefile.write_text(ENDED.format(snakefile=str(HOME / "Snakefile")))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        before = states(campaign / "results"), set(os.listdir(campaign))
        options, environment = ("--snakefile", str(snakefile)), {"NUMBER": str(int(number))}
        run = snakemake(campaign, "-n", "mine.txt", *options, environment=environment)
        assert run.status == (1 if number == signal.SIGINT else -number), run.text
        assert "Traceback" not in run.text
        assert (states(campaign / "results"), set(os.listdir(campaign))) == before
        assert lock.read(campaign) is None
