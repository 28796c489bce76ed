"""Ask Snakemake, in a process of its own, which jobs a run would execute and why."""

import base64
import hashlib
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
    directory: Path, config: Path, targets: list[str], *, foreseen: Path, after_cor: bool = False
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
        arguments += ["--rerun-triggers", "mtime", "params", "software-env", "--"]
    environment = os.environ | {
        "TOMOPIPE_FORESEEN": str(foreseen),
        "TOMOPIPE_AFTER_COR": "1" if after_cor else "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tomopipe.dryrun", *arguments, *targets],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        # a dry run logs to standard output
        raise TomopipeError(f"Snakemake cannot plan the run:\n{done.stdout}{done.stderr}")
    return [Job(**item) for item in json.loads(done.stdout.rsplit("\n", 2)[-2])]


def is_recorded(output: str, path: str, content: str) -> bool:
    """Tell whether `content` is what the job that made `output` read from `path`.

    Parameters
    ----------
    output, path : str
        Relative to the campaign folder, which is the working directory.
    content : str
        The file that holds what `path` will hold.
    """
    name = base64.b64encode(output.encode()).decode()
    try:
        record = json.loads(Path(".snakemake", "metadata", name).read_text(encoding="utf-8"))
        recorded = record["input_checksums"][path]
        new = hashlib.sha256(Path(content).read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(recorded == f"sha256:{new}")


class _Collector(logging.Filter):
    """Keep the jobs that Snakemake announces; a filter, as it clears the handlers of its logger."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[dict[str, Any]] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if str(getattr(record, "event", "")) == "job_info":
            info = vars(record)
            self.jobs.append(
                {
                    "rule": info["rule_name"],
                    "wildcards": dict(info["wildcards"] or {}),
                    "reason": info["reason"],
                }
            )
        return True


def _main(arguments: list[str]) -> int:
    from snakemake.cli import main
    from snakemake.logging import logger

    collector = _Collector()
    logger.addFilter(collector)
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
