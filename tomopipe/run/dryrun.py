"""Dry runs of Snakemake in separate processes: the jobs that a run would execute, and why."""

import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tomopipe.errors import TomopipeError
from tomopipe.paths import workflow_folder
from tomopipe.run.decisions import words_of


@dataclass(frozen=True)
class Job:
    """A job of a dry run: its rule, wildcards, and Snakemake's reason."""

    rule: str
    wildcards: dict[str, str]
    reason: str


@contextmanager
def planner() -> Iterator[ProcessPoolExecutor]:
    """Yield a pool that gives each dry run a fresh process with Snakemake already loaded.

    Importing Snakemake takes longer than most dry runs, and it can be called only once per process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["snakemake.cli", "tomopipe.run.dryrun"])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        pool.submit(os.getpid)  # starts loading now
        yield pool


def dry_run(
    pool: ProcessPoolExecutor,
    directory: Path,
    config: Path,
    targets: list[str],
    *,
    planned: Path,
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
    planned : Path
        Folder of the tables as the checkpoints will write them.
    after_cor : bool
        Return the jobs after cor.json, as if it existed, instead of those up to it.

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
    environment = {
        "TOMOPIPE_PLANNED": str(planned),
        "TOMOPIPE_AFTER_COR": "1" if after_cor else "",
    }
    log = planned / "dry_run.log"
    status, jobs = pool.submit(
        _dry_run_here, [*arguments, "--", *targets], environment, log
    ).result()
    if status != 0:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise TomopipeError(f"Snakemake cannot plan the run:\n{text}")
    return jobs


class _Collector(logging.Filter):
    """Keep the jobs that Snakemake announces; a filter, since it clears its logger's handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if str(getattr(record, "event", "")) == "job_info":
            info = vars(record)
            wildcards = dict(info["wildcards"] or {})
            self.jobs.append(Job(info["rule_name"], wildcards, words_of(info)))
        return True


def _dry_run_here(
    arguments: list[str], environment: dict[str, str], log: Path
) -> tuple[int, list[Job]]:
    """Call Snakemake in this process, which then cannot be used for anything else."""
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
