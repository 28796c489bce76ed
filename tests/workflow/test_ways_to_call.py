"""The ways to call the workflow: each goes on after a failure, and new scripts rerun nothing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import h5py
import pytest
from typer.testing import CliRunner

from tests import warm
from tests.waiting import ended
from tests.workflow import conftest
from tests.workflow.conftest import HOME, Run, configure, job_names, plan
from tomopipe.cli import cli
from tomopipe.cli.terminal import near

MODULE = """
configfile: "config.yaml"


module tomopipe:
    snakefile: {snakefile!r}
    config: config


use rule * from tomopipe as tomopipe_*


onsuccess:
    print("the user's own hook")
"""


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone without a campaign."""
    folder = tmp_path / "owner" / "tomopipe"
    for name in ("workflow", "profiles", "config"):
        shutil.copytree(HOME / name, folder / name)
    for name in ("Snakefile", "LICENSE"):
        shutil.copy(HOME / name, folder)
    conftest.put_before(folder, "paths.py")
    return folder


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def call(clone: Path, folder: Path, *arguments: str) -> Run:
    """Call Python in a folder, as somebody who has the clone's package installed."""
    site = clone.parents[1]
    home = {"HOME": str(site / "home"), "XDG_CACHE_HOME": str(site / "home"), "GITHUB_TOKEN": ""}
    host = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{site}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }
    paths = [str(clone), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = home | host | conftest.COMPILED | {"PYTHONPATH": os.pathsep.join(paths)}
    status, text = ended(warm.python(), *arguments, cwd=folder, env=env)
    return Run(status, frozenset(job_names(text)), text)


def snakemake(clone: Path, folder: Path, *arguments: str) -> Run:
    """Type `snakemake ...` in a folder."""
    return call(clone, folder, "-m", "snakemake", *arguments)


def voxels(volume: Path) -> bytes:
    with h5py.File(volume) as file:
        return file["exchange/data"][()].tobytes()


def of_the_clone(clone: Path, campaign: Path) -> list[str]:
    return ["--snakefile", str(clone / "Snakefile"), "--configfile", "config.yaml"]


def of_the_catalogue(clone: Path, campaign: Path) -> list[str]:
    return ["--snakefile", str(clone / "workflow" / "Snakefile"), *_with_a_profile(clone)]


def _with_a_profile(clone: Path) -> list[str]:
    return ["--profile", str(clone / "profiles" / "workstation"), "--retries", "0"]


def of_init(clone: Path, campaign: Path) -> list[str]:
    done = CliRunner().invoke(cli, ["init", str(campaign), "--no-slurm"])
    assert f"wrote {near(campaign / 'Snakefile')}" in done.output.replace("\n", "")
    return []


def of_init_for_slurm(clone: Path, campaign: Path) -> list[str]:
    """With the profile that a cluster gets, but for where the jobs run."""
    environment = {"XDG_CONFIG_HOME": str(clone.parents[1] / "home")}
    options = ["--partition", "cpu", "--account", ""]
    done = CliRunner().invoke(cli, ["init", str(campaign), *options], env=environment)
    assert done.exit_code == 0, done.output
    return ["--profile", "slurm", "--executor", "local", "--retries", "0"]


def as_a_module(clone: Path, campaign: Path) -> list[str]:
    text = MODULE.format(snakefile=str(clone / "workflow" / "Snakefile"))
    (campaign / "Snakefile").write_text(text)
    return _with_a_profile(clone)


def by_snakedeploy(clone: Path, campaign: Path) -> list[str]:
    """As docs/how-to/module.md says, from a host that git finds on this disk."""
    pytest.importorskip("snakedeploy", reason="snakedeploy runs on Python 3.11 and 3.12")
    git(clone, "init", "-q", "-b", "main")
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "a release")
    deploy = ("deploy-workflow", "https://github.com/owner/tomopipe", ".", "--branch", "main")
    run = call(clone, campaign, "-c", "from snakedeploy.client import main; main()", *deploy)
    assert run.status == 0, run.text
    assert 'github("owner/tomopipe"' in (campaign / "workflow" / "Snakefile").read_text()
    (campaign / "config.yaml").rename(campaign / "config" / "config.yaml")
    return []


WAYS = (
    pytest.param(of_the_clone, marks=pytest.mark.engine),
    of_the_catalogue,
    of_init,
    of_init_for_slurm,
    pytest.param(as_a_module, marks=pytest.mark.engine),
    by_snakedeploy,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_makes_the_same_bytes_and_goes_on_after_a_failure(way, clone, campaign):
    arguments = [*way(clone, campaign), "--cores", "1"]
    for path in clone.glob("workflow/**/*.*"):
        path.write_text(path.read_text() + "\n# as after git pull\n")
    if (clone / ".git").exists():
        git(clone, "commit", "-qam", "as after git pull")
    run = snakemake(clone, campaign, *arguments)
    assert (run.status, run.jobs) == (0, frozenset()), run.text
    assert "Nothing to be done" in run.text
    if way is of_init:
        dry = snakemake(clone, campaign, *arguments, "-n")
        assert (dry.status, "Nothing to be done" in dry.text) == (0, True), dry.text
        assert "metadata" not in dry.text  # receipts decide

    volumes = [campaign / "results" / f"{scan}_rec.h5" for scan in ("a_1", "a_2", "b_2")]
    before = voxels(volumes[1])
    for volume in volumes:
        volume.unlink()
    script = clone / "workflow" / "scripts" / "full_recon.py"
    fault = "if snakemake.wildcards.scan != 'a_2':\n    raise SystemExit('fails')\n"
    script.write_text(fault + script.read_text())
    if (clone / ".git").exists():
        git(clone, "commit", "-qam", "a fault")
    run = snakemake(clone, campaign, *arguments)
    # Snakemake 9.20 names each of them twice
    error = r"^Error in rule \w*full_recon:.*?output: (\S+)"
    failed = set(re.findall(error, run.text, re.MULTILINE | re.DOTALL))
    assert (run.status, len(failed)) == (1, 2), run.text
    assert [volume.exists() for volume in volumes] == [False, True, False]
    assert voxels(volumes[1]) == before


@pytest.mark.engine
def test_a_module_ends_its_run_as_the_snakefile_does(clone, campaign):
    """The folder of the run is there for its jobs, and goes; both hooks are called.

    And small jobs stay on the main process's machine under other names, too.
    """
    as_a_module(clone, campaign)
    volume = campaign / "results" / "a_1_rec.h5"
    made_at = volume.stat().st_mtime
    volume.unlink()
    script = clone / "workflow" / "scripts" / "full_recon.py"
    look = "import os\nassert os.path.isdir(os.environ['TOMOPIPE_RUN'])\n"
    script.write_text(look + script.read_text())
    run = snakemake(clone, campaign, "--cores", "1")
    assert run.status == 0, run.text
    assert volume.stat().st_mtime > made_at
    assert "the user's own hook" in run.text
    assert "not present in the Snakefile" not in run.text  # rules that are to be local
    assert not (campaign / "results" / ".runs").exists()


MINE = """
rule mine:
    input: "results/cor.json"
    output: "mine.txt"
{more}
    shell: "cp {{input}} {{output}}"
"""


@pytest.mark.parametrize(
    ("way", "more", "makes_mine"),
    [(of_init, "", False), (as_a_module, "    default_target: True", True)],
)
def test_a_rule_of_ones_own_does_not_replace_the_default_target(
    way, more, makes_mine, clone, campaign
):
    way(clone, campaign)
    with (campaign / "Snakefile").open("a") as file:
        file.write(MINE.format(more=more))
    volume = campaign / "results" / "a_1_rec.h5"
    volume.unlink()
    run = snakemake(clone, campaign, "--cores", "1")
    assert run.status == 0, run.text
    assert (volume.exists(), (campaign / "mine.txt").exists()) == (not makes_mine, makes_mine)


def test_a_fresh_clone_says_what_to_type(clone):
    run = snakemake(clone, clone, "--cores", "all")
    said = [line for line in run.text.splitlines() if not line.startswith("Using workflow")]
    assert run.status == 1
    assert len(said) == 1, run.text
    assert "tomopipe init mycampaign 'FOLDER/*.h5' && tomopipe run" in said[0]


def test_without_the_package_it_says_what_to_type(clone):
    (clone / "tomopipe" / "__init__.py").write_text("")
    run = snakemake(clone, clone, "--cores", "all")
    assert run.status == 1
    assert "has no module tomopipe.run. Type `make demo` in tomopipe's folder" in run.text
    assert "Traceback" not in run.text


def test_what_lint_remarks_has_its_reason(clone):
    """Each remark of `snakemake --lint` stands in CONTRIBUTING.md, with the reason why it stays."""
    text = snakemake(clone, clone, "--lint").text
    remarks = set(re.findall(r"^    \* (.*)[.:]:$|^    \* (.*):$", text, re.MULTILINE))
    titles = {first or second for first, second in remarks}
    reasons = (HOME / "CONTRIBUTING.md").read_text()
    assert "Lints for rule" in text
    assert {title for title in titles if title not in reasons} == set()


@pytest.mark.parametrize(
    "target", [pytest.param("full_recon/a_9", marks=pytest.mark.engine), "no_step/a_1"]
)
def test_an_unknown_target_is_refused(target, campaign):
    run = conftest.snakemake(campaign, "--cores", "2", f"results/made/{target}.json")
    assert run.status == 1
    says = [line for line in run.text.splitlines() if line.startswith(("tomopipe: no ", "No rule"))]
    assert len(says) == 1, run.text
    assert "Traceback" not in run.text


def test_a_result_that_no_run_makes_is_refused_as_a_target(campaign):
    """Neither is its stale receipt taken for right, nor does a job begin that cannot end well."""
    conftest.table(campaign, "a_2\tno\t\t", "b_1\tno\t\t", "b_2\tno\t\t", "b_3\tno\t\t")
    conftest.make_scan(campaign, "c_1", 48.0, n_frames=9)
    configure(campaign, "stitch", stacks={"bone": ["a_*"]})
    assert conftest.succeeds(campaign).status == 0
    configure(campaign, "full_recon", filter="hann")
    for target, says in (
        ("full_recon/a_2", "a_2: it is not selected (select: no). `select: yes` in scans.tsv"),
        ("predict_cor/c_1", "c_1: it is not selected ("),
        ("fix_cor/b", "series b: no scan is selected"),
        ("stitch/bone", "stack bone is not stitched: a_2 is unselected"),
    ):
        run = conftest.snakemake(campaign, "--cores", "2", f"results/made/{target}.json")
        lines = run.text.splitlines()
        said = [line for line in lines if line.startswith(f"tomopipe: {says}")]
        assert (run.status, len(said), run.jobs) == (1, 1, frozenset()), run.text
        assert "Traceback" not in run.text


def test_a_volume_as_a_target_is_answered_with_its_receipt(campaign):
    before = os.stat(campaign / "results" / "a_1_rec.h5").st_mtime_ns
    for option in (["-n"], ["-f", "--cores", "2"]):
        run = conftest.snakemake(campaign, *option, "results/a_1_rec.h5")
        assert run.status == 1
        (said,) = [line for line in run.text.splitlines() if line.startswith("tomopipe: ")]
        assert said.endswith("results/made/full_recon/a_1.json")
        assert "tomopipe run a_1" in said
        assert "Traceback" not in run.text
    assert os.stat(campaign / "results" / "a_1_rec.h5").st_mtime_ns == before


@pytest.mark.engine
def test_tomopipe_run_sees_all_results_and_makes_volumes_by_name(campaign):
    told = CliRunner().invoke(cli, ["run", str(campaign), "--", "--summary"])
    assert told.output.count("\tfull_recon\t") == len(conftest.CORS_PX)
    volumes = [campaign / "results" / f"{scan}_rec.h5" for scan in ("a_1", "b_1")]
    for volume in volumes:
        volume.unlink()
    told = CliRunner().invoke(cli, ["run", str(campaign), "a_1"])
    assert told.exit_code == 0, told.output
    assert [volume.exists() for volume in volumes] == [True, False]
    assert plan(campaign) == (2, {"full_recon:b_1", "report"})


SEGMENT = """
rule segment:
    input: "results/made/full_recon/{scan}.json"
    output: "segmented/{scan}.txt"
    params: volume="results/{scan}_rec.h5"
    shell: "cksum {params.volume:q} > {output:q}"
"""


@pytest.mark.engine
def test_a_rule_of_ones_own_follows_a_volume_by_its_receipt(clone, campaign):
    as_a_module(clone, campaign)
    with (campaign / "Snakefile").open("a") as file:
        file.write(SEGMENT)
    receipts = [f"results/made/{name}.json" for name in ("resolve_cor/campaign", "full_recon/a_1")]
    arguments = ("--cores", "1", *receipts, "segmented/a_1.txt")
    texts = []
    for n_jobs in (1, 0, 2):  # and the volume
        run = snakemake(clone, campaign, *arguments)
        assert (run.status, len(run.jobs)) == (0, n_jobs), run.text
        texts.append((campaign / "segmented" / "a_1.txt").read_text())
        if n_jobs == 0:
            configure(campaign, "full_recon", filter="hann")
    assert texts[0] == texts[1] != texts[2]
