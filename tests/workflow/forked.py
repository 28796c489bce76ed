"""Calls of Snakemake in forks of a process that has it loaded: loading takes most of a call."""

import atexit
import multiprocessing
import os
import sys
from pathlib import Path

# what the Snakefile imports too; `tomopipe plan` shares the process
LOADED = [
    "snakemake.cli",
    "tomopipe.commands.next_run",
    "tomopipe.run.ending",
    "tomopipe.steps.try_recon",
]


def call(arguments: list[str], directory: Path, output: Path, seconds: float = 300) -> int:
    """Call Snakemake in `directory`, with its output in a file; return its status."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    process = context.Process(target=_here, args=(arguments, directory, output, dict(os.environ)))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"Snakemake is not ready after {seconds} s:\n{output.read_text()}")
    return process.exitcode


def _here(arguments: list[str], directory: Path, output: Path, environment: dict) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = ["snakemake", *arguments]
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for standard in (1, 2):
        os.dup2(stream, standard)
    from snakemake.cli import main

    try:
        main(arguments)
    finally:
        atexit._run_exitfuncs()  # which a process of multiprocessing leaves out
