"""Ask Snakemake, in a process of its own, which jobs a run would execute and why."""

import json
import logging
import os
import subprocess
import sys
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


def dry_run(
    directory: Path, config: Path, targets: list[str], *, foreseen: Path | None = None
) -> list[Job]:
    """Return the jobs that a run would execute.

    Parameters
    ----------
    directory : Path
        The campaign folder.
    config : Path
        Its configuration file.
    targets : list of str
        Rules or files; empty for the default target.
    foreseen : Path, optional
        Folder of the tables that the checkpoints will write; without it the dry run ends at the
        first checkpoint that has to run.

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
        *targets,
    ]
    environment = os.environ | {"TOMOPIPE_FORESEEN": str(foreseen or "")}
    done = subprocess.run(
        [sys.executable, "-m", "tomopipe.dryrun", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TomopipeError(f"Snakemake cannot plan the run:\n{done.stderr.strip()}")
    return [Job(**item) for item in json.loads(done.stdout.rsplit("\n", 2)[-2])]


class _Collector(logging.Handler):
    """Keep the jobs that Snakemake announces."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.jobs: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if str(getattr(record, "event", "")) == "job_info":
            info = vars(record)
            self.jobs.append(
                {
                    "rule": info["rule_name"],
                    "wildcards": dict(info["wildcards"] or {}),
                    "reason": info["reason"],
                }
            )


def _main(arguments: list[str]) -> int:
    from snakemake.cli import main
    from snakemake.logging import logger

    collector = _Collector()
    logger.addHandler(collector)
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if code:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            return code
    print()
    print(json.dumps(collector.jobs))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
