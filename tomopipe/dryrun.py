"""Ask Snakemake, in processes of its own, which jobs a run would execute and why."""

import base64
import hashlib
import json
import logging
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomopipe.errors import TomopipeError
from tomopipe.paths import workflow_folder


@dataclass(frozen=True)
class Job:
    """A job of a dry run: its rule, wildcards, and Snakemake's reason."""

    rule: str
    wildcards: dict[str, str]
    reason: str


@contextmanager
def planner() -> Iterator[ProcessPoolExecutor]:
    """Yield a pool in which each dry run has a fresh process that has Snakemake loaded already.

    Importing Snakemake takes longer than most dry runs, and it cannot be called twice in one
    process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["snakemake.cli", "tomopipe.dryrun"])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        pool.submit(os.getpid)  # starts the loading now
        yield pool


def dry_run(
    pool: ProcessPoolExecutor,
    directory: Path,
    config: Path,
    targets: list[str],
    *,
    foreseen: Path,
    after_cor: bool = False,
) -> list[Job]:
    """Return the jobs that a run would execute.

    Parameters
    ----------
    pool : ProcessPoolExecutor
        From `planner`.
    directory : Path
        The campaign folder.
    config : Path
        Its configuration file.
    targets : list of str
        Rules or files; empty for the default target.
    foreseen : Path
        Folder of the tables that the checkpoints will write.
    after_cor : bool
        Ask for the jobs after cor.json, as if it were there, instead of those up to it.

    Raises
    ------
    TomopipeError
        If Snakemake cannot make its plan; the message is Snakemake's own.
    """
    arguments = [
        *("--snakefile", str(workflow_folder() / "Snakefile")),
        *("--directory", str(directory)),
        *("--configfile", str(config)),
        *("--cores", "1", "--dry-run", "--nolock"),
    ]
    if after_cor:
        # the foreseen tables are inputs of other names; what they hold is compared by is_recorded
        arguments += ["--rerun-triggers", "mtime", "params", "software-env"]
    environment = {
        "TOMOPIPE_FORESEEN": str(foreseen),
        "TOMOPIPE_AFTER_COR": "1" if after_cor else "",
    }
    log = foreseen / "dry_run.log"
    status, jobs = pool.submit(
        _dry_run_here, [*arguments, "--", *targets], environment, log
    ).result()
    if status != 0:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise TomopipeError(f"Snakemake cannot plan the run:\n{text}")
    return jobs


def is_recorded(output: str, path: str, content: str) -> bool:
    """Tell whether `content` is what the job that made `output` read from `path`.

    Parameters
    ----------
    output, path : str
        Relative to the campaign folder, which is the working directory.
    content : str
        The file that holds what `path` will hold.
    """
    try:
        recorded = _record(output)["input_checksums"][path]
        new = hashlib.sha256(Path(content).read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(recorded == f"sha256:{new}")


def recorded_param(output: str, pattern: str) -> str:
    """Return the part that matches `pattern` of the parameters with which `output` was made."""
    try:
        texts = [str(text) for text in _record(output)["params"]]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return next((found[0] for text in texts if (found := re.search(pattern, text))), "")


def _record(output: str) -> dict[str, Any]:
    name = base64.b64encode(output.encode()).decode()
    text = Path(".snakemake", "metadata", name).read_text(encoding="utf-8")
    record: dict[str, Any] = json.loads(text)
    return record


class _Collector(logging.Filter):
    """Keep the jobs that Snakemake announces; a filter, as it clears the handlers of its logger."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if str(getattr(record, "event", "")) == "job_info":
            info = vars(record)
            wildcards = dict(info["wildcards"] or {})
            self.jobs.append(Job(info["rule_name"], wildcards, info["reason"]))
        return True


def _dry_run_here(
    arguments: list[str], environment: dict[str, str], log: Path
) -> tuple[int, list[Job]]:
    """Call Snakemake in this process, which is good for nothing else afterwards."""
    os.environ.update(environment)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for standard in (1, 2):
        os.dup2(stream, standard)
    from snakemake.cli import main
    from snakemake.logging import logger

    collector = _Collector()
    logger.addFilter(collector)
    status = 0
    try:
        main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    return status, collector.jobs
