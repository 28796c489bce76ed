"""The memory, time, cores and GPU that a job of a run requests, and how a node gets them.

The rules have them as `resources` (`requests` of workflow/rules/common.smk), the executor
for SLURM passes them to sbatch; what a job of each step takes is in `tomopipe.resources.jobs`.

A node gets these numbers and the parameters of its jobs from a file for each job in the folder of
the run, which the main process writes before it submits the job.
"""

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from tomopipe.campaign.log import read_job, status_path
from tomopipe.reruns.parameters import is_open, parameter, parameters
from tomopipe.reruns.reasons import METADATA_ALONE
from tomopipe.reruns.receipts import as_text
from tomopipe.reruns.settle import Settled
from tomopipe.resources import jobs
from tomopipe.run import command_line
from tomopipe.storage import run_folder
from tomopipe.storage.json_files import json_or
from tomopipe.workflow_steps import SEARCH_STEPS, STEPS

_SENT = "sent"  # in the folder of a run
_LARGE_BYTES = 1_000_000_000  # a volume of a raw file of this size has a submission of its own
_ALONE_MS = 10**9  # CPU time with which a job has a submission of its own
_LEAST_MIN = 10
_PER_SCAN = (*SEARCH_STEPS, "full_recon")


@lru_cache(maxsize=8)  # Snakemake asks for one number after the other
def request(settled: Settled, step: str, key: str, attempt: int) -> dict[str, int]:
    """Return the request of a job of a scan or stack, and write it for the node.

    `threads`, `mem_mb` and `gpu`; `attempts_left` after this one. Empty while a table is missing on
    which they depend.
    """
    if not is_open(settled, step, key):
        return {}
    result = jobs.need(_job(settled, step, key))._asdict()
    result["mem_mb"] *= attempt
    result["attempts_left"] = (
        1 + int(command_line.option("--retries", "--restart-times", "-T") or 0) - attempt
    )
    run = run_folder.current() if command_line.is_remote() else None
    if run is not None:
        path = _sent_file(run, step, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result | {"job": parameters(settled, step, key)}), "utf-8")
    return result


def number(settled: Settled | None, step: str, key: str, attempt: int, name: str) -> int:
    """Return a number of the request of a job; on a node (`settled` is None) the one it was sent.

    While a table is missing on which it depends, and if it was not sent, 1 thread and 0 of others.
    """
    numbers = request(settled, step, key, attempt) if settled else sent(step, key)
    return int(numbers.get(name, name == "threads"))


def param(settled: Settled | None, receipt: str, name: str) -> Any:
    """Return a parameter of the job that writes a receipt; on a node the one it was sent.

    None while a table is missing on which it depends, and for a job that was not sent.
    """
    step, key = Path(receipt).parent.name, Path(receipt).name.removesuffix(".json")
    if settled is None:
        return sent(step, key).get("job", {}).get(name)
    return parameter(settled, step, key, name)


@lru_cache(maxsize=64)
def sent(step: str, key: str) -> dict[str, Any]:
    """Return on a node the request of a job, with its parameters as `job`.

    Empty for another job than was sent, of which Snakemake asks because its result is used.
    """
    run = run_folder.current()
    content: dict[str, Any] = json_or(_sent_file(run, step, key), {}) if run else {}
    return content


def at_work(settled: Settled, run: Path) -> set[str]:
    """Return the submissions of a killed run whose results are still needed.

    These have a job without an end, whether it has begun or not, whose provenance statement, as
    written for the node, equals the present target.
    """
    return {
        number
        for number, logs in run_folder.submissions(run).items()
        if any(_is_needed(settled, run, status_path(log)) for log in logs)
    }


def _is_needed(settled: Settled, run: Path, path: Path) -> bool:
    """Tell whether a job of a run, by its status file, is still to make what is needed."""
    step, key = path.parent.name, path.name.removesuffix(".json")
    status = json_or(settled.campaign.directory / path, {})
    is_of_run = Path(status.get("run", "")).name == run.name
    is_known = key in settled.campaign.scans or key in settled.campaign.config.stitch.names
    if (is_of_run and status.get("state") != "running") or not is_known:
        return False
    of_job = json_or(_sent_file(run, step, key), {}).get("job", {})
    statement = of_job.get("provenance", {}).get("made_from")
    return is_open(settled, step, key) and statement == as_text(settled.target.statement(step, key))


def _sent_file(run: Path, step: str, key: str) -> Path:
    return run / _SENT / step / f"{key}.json"


def cpu_ms(settled: Settled | None, step: str, key: str) -> int:
    """Return the CPU time by which the executor for SLURM groups jobs; 0 without SLURM."""
    if not (settled and command_line.is_remote() and is_open(settled, step, key)):
        return 0
    is_large = step == "full_recon" and _job(settled, step, key).raw_bytes >= _LARGE_BYTES
    if is_large or _was_killed_before(settled, step, key):
        return _ALONE_MS  # if it is killed alone, it is to blame
    return int(min(1000 * jobs.cpu_s(settled.campaign, step, key, settled.rows), _ALONE_MS))


def runtime_min(settled: Settled | None, step: str, key: str, threads: int) -> int:
    """Return the time that a submitted job requests in its first attempt, in minutes."""
    return max(_LEAST_MIN, math.ceil(wall_s(settled, step, key, threads) / 60))


def wall_s(settled: Settled | None, step: str, key: str, threads: int) -> int:
    """Return three times the expected time of a submitted job; 0 for a job that is not."""
    if not (settled and command_line.is_remote() and is_open(settled, step, key)):
        return 0
    return jobs.wall_s(_job(settled, step, key), threads)


def planned_work(settled: Settled, last_step: str = "") -> dict[str, Any]:
    """Return the event with the CPU time (s) and cores of the jobs of a run, and the open steps.

    Of these a pending table decides what is made: the scans for which most likely there is a job
    are listed, without a CPU time while there is no inventory. A run may end at a `last_step`.
    """
    steps = [*STEPS]
    in_run = {*steps[: steps.index(last_step) + 1]} if last_step else STEPS.keys()
    campaign, rows = settled.campaign, settled.rows
    plan: dict[str, dict[str, tuple[float | None, int]]] = {}
    for job in settled.jobs:
        if job.rule not in in_run:
            continue
        seconds, cores = jobs.planned(campaign, job.rule, job.key, rows, _gpu_cores())
        seconds = jobs.START_S if METADATA_ALONE in job.reason else seconds
        plan.setdefault(job.rule, {})[job.key] = seconds, cores
    if not (settled.pending or settled.open_scans):
        return {"planned": plan, "about": []}
    if settled.pending == "inventory":
        is_first = not campaign.files.inventory.exists()
        scans = [scan.name for scan in campaign.scans.values() if scan.select != "no" and is_first]
        open_steps: dict[str, dict[str, tuple[float | None, int]]]
        open_steps = {step: dict.fromkeys(scans, (None, 1)) for step in _PER_SCAN}
    else:
        predicting, made = settled.predicting, settled.receipts_of("full_recon")
        scans = sorted(settled.open_scans) or [
            scan for scan in settled.needed.scans if scan in predicting or scan not in made
        ]
        open_steps = {
            "full_recon": {
                scan: jobs.planned(campaign, "full_recon", scan, rows, _gpu_cores())
                for scan in scans
            }
        }
    if settled.needed.is_whole or settled.pending == "inventory":
        open_steps |= {
            step.name: {"campaign": (jobs.START_S, 1)}
            for step in STEPS.values()
            if (step.of_runs, step.key) == ("whole", "campaign") and step.is_enabled(campaign)
        }
    about = [step for step in open_steps if step in in_run]
    return {"planned": plan | {step: open_steps[step] for step in about}, "about": about}


def _was_killed_before(settled: Settled, step: str, key: str) -> bool:
    """Tell whether a job was killed in the last run, perhaps by the fault of another job."""
    job = read_job(settled.campaign.logs.status(step, key))
    return job is not None and (job.is_killed or job.state in ("running", "lost"))


def _job(settled: Settled, step: str, key: str) -> jobs.Job:
    is_stack = STEPS[step].key == "stack"
    scans = settled.target.stacks()[key].with_volume if is_stack else (key,)
    cors = {scan: float(settled.cors[scan]["cor_px"]) for scan in scans if scan in settled.cors}
    return jobs.Job(settled.campaign, step, scans, settled.rows, cors, key, _gpu_cores())


def _gpu_cores() -> int:
    """Return the cores of a volume on a GPU; the GPUs of this machine share the cores of a run."""
    if command_line.is_remote():
        return jobs.MOST_CORES
    return max(1, min(jobs.MOST_CORES, command_line.cores() // command_line.gpus()))
