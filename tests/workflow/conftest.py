"""Real runs of the workflow on small simulated campaigns."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.phantoms import write_scan

HOME = Path(__file__).parents[2]
# Of two series; the CORs lie within a few pixels of each other, as in a real series.
CORS_PX = {"a_1": 48.5, "a_2": 49.0, "a_3": 49.5, "b_1": 45.0, "b_2": 45.5}
SIZE = {"n_rows": 2, "n_cols": 96, "n_angles": 91}
JOB_LINE = re.compile(r"^(?:local)?(?:rule|checkpoint) (\w+):$")


@dataclass(frozen=True)
class Run:
    """What a call of Snakemake did."""

    status: int
    jobs: frozenset[str]
    text: str


def make_scan(campaign: Path, name: str, cor_px: float, **options) -> None:
    """Write raw/<name>.h5 of the size all scans here have."""
    seed = options.pop("seed", sum(name.encode()))
    write_scan(
        campaign / "raw" / f"{name}.h5", cor_px=cor_px, counts=50000, seed=seed, **(SIZE | options)
    )


def snakemake(campaign: Path, *arguments: str, environment: dict | None = None) -> Run:
    """Run the workflow; jobs are named rule, or rule:wildcard."""
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(HOME / "Snakefile")),
        *("--directory", str(campaign), "--configfile", str(campaign / "config.yaml")),
    ]
    if "--cores" not in arguments and "--profile" not in arguments:
        command += ["--cores", "2"]
    done = subprocess.run(
        [*command, *arguments],
        env=os.environ | (environment or {}),
        cwd=campaign,  # not the checkout, which `python -m` would put before PYTHONPATH
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    text = done.stdout + done.stderr
    return Run(done.returncode, frozenset(job_names(text)), text)


def job_names(text: str) -> list[str]:
    """Read the jobs that Snakemake announced, in order."""
    names: list[str] = []
    for line in text.splitlines():
        if found := JOB_LINE.match(line.strip()):
            names.append(found[1])
        elif names and (found := re.match(r"^\s+wildcards: (.*)$", line)):
            # a sidecar's folder says nothing here; names with commas cannot occur
            cells = dict(cell.split("=", 1) for cell in found[1].split(", "))
            names[-1] += ":" + (cells.get("scan") or cells["series"])
    return [name for name in names if name not in ("all", "predictions")]


def plan(campaign: Path) -> tuple[int, frozenset[str]]:
    """Run `tomopipe plan --json`; return its status and the certain jobs, named as in a run."""
    status, jobs = plan_all(campaign)
    return status, frozenset(name for name, certain in jobs.items() if certain)


def plan_all(campaign: Path) -> tuple[int, dict[str, bool]]:
    """Run `tomopipe plan --json`; return its status and all jobs with their certainty."""
    done = subprocess.run(
        [sys.executable, "-m", "tomopipe", "plan", "--json", str(campaign)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    jobs = json.loads(done.stdout)
    return done.returncode, {
        job["rule"] + (f":{name}" if (name := job["scan"] or _series(job)) else ""): job["certain"]
        for job in jobs
    }


def _series(job: dict) -> str:
    return job["series"] if job["rule"] == "fix_cor" else ""


def package_with(folder: Path, module: str, old: str, new: str) -> dict[str, str]:
    """Copy the package with one text replaced; return the environment in which it is used."""
    site = folder / "site"
    if not site.exists():
        shutil.copytree(HOME / "tomopipe", site / "tomopipe")
    path = site / "tomopipe" / module
    text = path.read_text()
    assert old in text, f"{module} no longer contains {old!r}"
    path.write_text(text.replace(old, new))
    return {"PYTHONPATH": str(site)}


def failing(folder: Path, step: str, scan: str, statement: str) -> dict[str, str]:
    """Return the environment in which one job runs `statement` once it has started."""
    wrapped = f"""
_plain = _heartbeat


@contextmanager
def _heartbeat(status, path):
    with _plain(status, path):
        if status["step"] == {step!r} and status["key"] == {scan!r}:
            {statement}
        yield
"""
    end = "\n\ndef _one_line("
    return package_with(folder, "log.py", end, wrapped + end)


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


def new_campaign(folder: Path, cors_px: dict[str, float] | None = None) -> Path:
    """Write a campaign that has not run."""
    for name, cor_px in (CORS_PX if cors_px is None else cors_px).items():
        make_scan(folder, name, cor_px)
    (folder / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\ntry_recon: {width_px: 8, step_px: 1}\n"
    )
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A campaign that ran once: not to be changed."""
    folder = new_campaign(tmp_path_factory.mktemp("finished") / "campaign")
    run = snakemake(folder)
    assert run.status == 0, run.text
    return folder


@pytest.fixture
def campaign(finished, tmp_path) -> Path:
    """A copy of the finished campaign, times kept."""
    copy = tmp_path / "campaign"
    shutil.copytree(finished, copy, symlinks=True)
    return copy
