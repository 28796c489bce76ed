"""Real runs of the workflow on small simulated campaigns."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import pytest
import yaml
from typer.testing import CliRunner

from tests import warm
from tests.phantoms import write_scan
from tomopipe.cli import cli

HOME = Path(__file__).parents[2]
# Of two series; the CORs lie within a few pixels of each other, as in a real series.
CORS_PX = {"a_1": 48.5, "a_2": 49.0, "a_3": 49.5, "b_1": 45.0, "b_2": 45.5, "b_3": 46.0}
SIZE = {"n_rows": 2, "n_cols": 96, "n_angles": 91}
# where jobs with another home find the code that numba has compiled
COMPILED = {
    "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR")
    or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tomopipe")
}
JOB_LINE = re.compile(r"^(?:local)?(?:rule|checkpoint) (\w+):$")


@dataclass(frozen=True)
class Run:
    """What a call of Snakemake did."""

    status: int
    jobs: frozenset[str]
    text: str


def make_scan(campaign: Path, name: str, cor_px: float, folder: str = "raw", **options) -> None:
    """Write <folder>/<name>.h5 of the size all scans here have."""
    seed = options.pop("seed", sum(name.encode()))
    path = campaign / folder / f"{name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scan(path, cor_px=cor_px, counts=50000, seed=seed, **(SIZE | options))


def command(campaign: Path, *options: str, python: str = sys.executable) -> list[str]:
    """Return the call of this checkout's workflow on a campaign."""
    return [
        *(python, "-m", "snakemake", "--snakefile", str(HOME / "Snakefile")),
        *("--directory", str(campaign), "--configfile", str(campaign / "config.yaml"), *options),
    ]


def snakemake(
    campaign: Path, *arguments: str, environment: dict | None = None, by: Sequence[str] = ()
) -> Run:
    """Run the workflow; jobs are named rule, or rule:wildcard.

    The environment may name another package; `by` is a command that calls it.
    """
    if "--cores" not in arguments and "--profile" not in arguments:
        arguments += ("--cores", "2")
    python = warm.python(by)
    output = campaign / "snakemake.out"
    with output.open("w") as stream:
        status = subprocess.run(
            [*by, *command(campaign, *arguments, python=python)],
            env=os.environ | (environment or {}),
            cwd=campaign,  # not the checkout, which `python -m` would put before PYTHONPATH
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=300,
        ).returncode
    text = output.read_text()
    return Run(status, frozenset(job_names(text)), text)


def succeeds(campaign: Path, *arguments: str, environment: dict | None = None) -> Run:
    """Run the workflow, which ends well."""
    run = snakemake(campaign, *arguments, environment=environment)
    assert run.status == 0, run.text
    return run


def job_names(text: str) -> list[str]:
    """Read the jobs that Snakemake announced, in order."""
    names: list[str] = []
    for line in text.splitlines():
        if found := JOB_LINE.match(line.strip()):
            names.append(found[1])
        elif names and (found := re.match(r"^\s+wildcards: (.*)$", line)):
            # a sidecar's folder says nothing here; names with commas cannot occur
            cells = dict(cell.split("=", 1) for cell in found[1].split(", "))
            names[-1] += ":" + (cells.get("scan") or cells.get("stack") or cells["series"])
    return [name for name in names if name not in ("all", "predictions")]


def plan(campaign: Path, *scans: str) -> tuple[int, frozenset[str]]:
    """Call `tomopipe plan --json`; return its status and the jobs, named as in a run."""
    done = CliRunner().invoke(cli, ["plan", "--json", str(campaign), *scans])
    assert done.stdout, done.stderr
    jobs = json.loads(done.stdout)
    names = ((job["rule"], _name(job)) for job in jobs)
    return done.exit_code, frozenset(f"{rule}:{name}" if name else rule for rule, name in names)


def _name(job: dict) -> str:
    series = job["series"] if job["rule"] == "fix_cor" else ""
    return job["scan"] or job["stack"] or series


def put_before(site: Path, module: str) -> Path:
    """Copy a module into a folder whose package tomopipe has all others from where they are.

    So they need not be compiled again, neither by Python nor by numba.
    """
    path = site / "tomopipe" / module
    path.parent.mkdir(parents=True, exist_ok=True)
    for package in path.relative_to(site).parents[:-1]:
        begin = site / package / "__init__.py"
        text = (HOME / package / "__init__.py").read_text()
        begin.write_text(f"__path__.append({str(HOME / package)!r})\n{text}")
    if not path.exists():
        shutil.copy2(HOME / "tomopipe" / module, path)
    return path


def package_with(folder: Path, module: str, old: str, new: str) -> dict[str, str]:
    """Replace one text of the package; return the environment in which it is so."""
    site = folder / "site"
    put_before(site, "paths.py")  # which tells where the workflow is
    path = put_before(site, module)
    text = path.read_text()
    assert old in text, f"{module} no longer contains {old!r}"
    path.write_text(text.replace(old, new))
    return {"PYTHONPATH": str(site)}


def failing(folder: Path, step: str, scan: str, statement: str) -> dict[str, str]:
    """Return the environment in which one job runs `statement` once it has started."""
    return with_code_in_jobs(
        folder, f"if status['step'] == {step!r} and status['key'] == {scan!r}:\n    {statement}\n"
    )


def with_code_in_jobs(folder: Path, code: str) -> dict[str, str]:
    """Return the environment in which each job runs `code` once it has started."""
    job = " " * 12 + "yield more\n"
    return package_with(folder, "campaign/log.py", job, indent(code, " " * 12) + job)


def table(campaign: Path, *rows: str) -> None:
    """Write the campaign table."""
    lines = ["scan\tselect\tcor_px\tnote", *rows]
    (campaign / "scans.tsv").write_text("\n".join(lines) + "\n")


def configure(campaign: Path, block: str, **options) -> None:
    """Set options of one block of config.yaml."""
    path = campaign / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config.setdefault(block, {}).update(options)
    path.write_text(yaml.safe_dump(config))


def new_campaign(
    folder: Path, cors_px: dict[str, float] = CORS_PX, *, methods: tuple[str, ...] = ("classical",)
) -> Path:
    """Write a campaign that has not run; `methods` is empty for those of the defaults.

    One method that loads no network finds the CORs of these scans, and saves seconds a job.
    """
    for name, cor_px in cors_px.items():
        make_scan(folder, name, cor_px)
    (folder / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\ntry_recon: {width_px: 8, step_px: 1}\n"
        "export_star: {enabled: true}\n"
    )
    if methods:
        configure(folder, "predict_cor", methods=list(methods))
    return folder


@pytest.fixture(autouse=True)
def _plain_starts(request, monkeypatch):
    if request.node.get_closest_marker("plain"):
        monkeypatch.setenv(warm.PLAIN, "1")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A campaign that ran once, for all workers of pytest-xdist: not to be changed."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "finished" / "campaign"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = new_campaign(shared / "unfinished" / "campaign")
            run = snakemake(made)
            assert run.status == 0, run.text
            made.parent.rename(folder.parent)
    return folder


@pytest.fixture
def campaign(finished, tmp_path) -> Path:
    """A copy of the finished campaign, times kept."""
    copy = tmp_path / "campaign"
    shutil.copytree(finished, copy, symlinks=True)
    return copy
