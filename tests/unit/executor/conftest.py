"""A workflow of one rule on a SLURM of one machine."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import warm
from tomopipe.storage import run_folder

SNAKEFILE = """
envvars: "TOMOPIPE_RUN"

rule all:
    input: expand("out/{scan}", scan=config["scans"].values())
    localrule: True

rule volume:
    output: "out/{scan}"
    log: "logs/volume/{scan}.log"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 100 * attempt, runtime=10, batch=4, cpu_ms=5000,
    shell: "sh ./job {wildcards.scan:q} {output:q} {resources.mem_mb}"
"""
# as the steps do, it says beside its log how it ended
JOB = """
says() { printf '{"state": "%s", "start": %s, "run": "%s", "error": "%s", "type": "%s",
  "pid": %s, "slurm_job": "%s"%s}' "$1" "$(date +%s)" "$TOMOPIPE_RUN" "$2" "$3" $$ "$SLURM_JOB_ID" \
  "$4" > "logs/status/volume/$SCAN.json"; }
asked() { until [ "$(grep -c sacct "$FAKE_SLURM/calls")" -ge "$1" ]; do sleep 0.1; done; }
SCAN=$1; mkdir -p logs/status/volume; says running
{ BODY
} || { says failed; exit 1; }
echo made > "$2"; says done
"""
TOOLS = ("sbatch", "squeue", "sacct", "scancel", "sinfo", "scontrol")


class Cluster:
    """A folder with a workflow, and the SLURM that runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.slurm = folder, folder / "slurm"
        (folder / "bin").mkdir()
        self.slurm.mkdir()
        (folder / "results" / ".runs" / "1").mkdir(parents=True)
        program = Path(__file__).with_name("fake_slurm.py").read_text()
        for tool in TOOLS:
            (folder / "bin" / tool).write_text(f"#!{sys.executable} -IS\n{program}")
            (folder / "bin" / tool).chmod(0o755)
        (folder / "Snakefile").write_text(SNAKEFILE)
        self.environment = os.environ | {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "FAKE_SLURM": str(self.slurm),
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            run_folder.VARIABLE: "results/.runs/1",
        }

    def start(self, *scans: str, job: str = ":", options: tuple[str, ...] = ()):
        (self.folder / "job").write_text(JOB.replace("BODY", job))
        names = {f"n{n}": name for n, name in enumerate(scans)}
        (self.folder / "config.yaml").write_text(json.dumps({"scans": names}))
        return subprocess.Popen(
            [
                *(warm.python(), "-m", "snakemake", "--executor", "tomopipe", "--jobs", "50"),
                *("--configfile", "config.yaml", "--seconds-between-status-checks", "0"),
                *("--latency-wait", "0", "--keep-going", "--cores", "4", *options),
            ],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *scans: str, **more) -> tuple[int, str]:
        """Run the workflow; return the exit status and what it said."""
        process = self.start(*scans, **more)
        try:
            text, _ = process.communicate(timeout=300)
        finally:
            process.kill()
        return process.returncode, text

    def answer(self, tool: str, *answers: list) -> None:
        """Prepare the next answers of a tool: exit status, standard error, does it all the same."""
        text = "".join(json.dumps(answer) + "\n" for answer in answers)
        (self.slurm / f"answers.{tool}").write_text(text)

    def options(self, number: int) -> dict[str, str]:
        """Return the options of a submission."""
        options = json.loads((self.slurm / f"{number}.options").read_text())
        return dict(option.removeprefix("--").partition("=")[::2] for option in options)

    @property
    def n_submissions(self) -> int:
        return len(list(self.slurm.glob("*.options")))

    def targets(self, number: int) -> int:
        """Count the jobs of a submission."""
        return (self.slurm / f"{number}.script").read_text().count("volume:scan=")

    def calls(self, tool: str) -> list[list[str]]:
        calls = map(json.loads, (self.slurm / "calls").read_text().splitlines())
        return [arguments for name, *arguments in calls if name == tool]

    @property
    def made(self) -> set[str]:
        return {path.name for path in self.folder.glob("out/*")}


@pytest.fixture
def cluster(tmp_path) -> Iterator[Cluster]:
    folder = tmp_path / "a campaign of 50%"
    folder.mkdir()
    cluster = Cluster(folder)
    yield cluster
    for path in cluster.slurm.glob("*.pid"):  # what a test leaves at work
        with suppress(ProcessLookupError):
            os.killpg(int(path.read_text()), signal.SIGKILL)
