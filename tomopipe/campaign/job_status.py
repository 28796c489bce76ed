"""What the status file of a job says, and what it means; `tomopipe.campaign.log` writes it."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomopipe.storage.json_files import json_or, number, text

#: Seconds without a heartbeat after which a running job is lost: three of its beats.
LOST_S = 180.0
#: Difference between the clocks of nodes and file servers.
CLOCKS_S = 5.0
#: Every step, in the order of the work.
STEP_ORDER = (
    *("inventory", "try_recon", "predict_cor", "fix_cor", "resolve_cor", "full_recon"),
    *("stitch", "sidecar", "export_stack", "export_star", "report"),
)
_TAIL_BYTES = 8192


@dataclass(frozen=True)
class JobStatus:
    """One job that has begun; times in Unix seconds."""

    # step, and the scan, series or campaign
    step: str
    key: str
    # running, done, failed, or lost: it has not written its end, and gives no heartbeat, its run is
    # over, or SLURM has ended it
    state: str
    # begin, end, last heartbeat
    start_s: float
    end_s: float | None
    heartbeat_s: float
    # where it runs
    host: str
    slurm_job: str
    error: str  # why it failed, or how SLURM ended it
    warning: str  # about what it made
    log_tail: str  # end of its log, for jobs that are not done

    @property
    def wall_s(self) -> float | None:
        """Seconds from start to end; None if it has not ended."""
        return None if self.end_s is None else max(0.0, self.end_s - self.start_s)


def position(step: str) -> int:
    """Return the position of a step in the order of the work; others come last."""
    return STEP_ORDER.index(step) if step in STEP_ORDER else len(STEP_ORDER)


def read_job(path: Path, *, now_s: float | None = None) -> JobStatus | None:
    """Read a status file; None if it is missing, being replaced just now, or foreign."""
    return parse_job(path, json_or(path, {}), now_s=now_s)


def parse_job(
    path: Path, data: Mapping[str, Any], *, now_s: float | None = None
) -> JobStatus | None:
    """Return what a status file says, from its content; None if that has no start."""
    start_s, state = number(data.get("start")), text(data.get("state"))
    if start_s is None:
        return None
    beat_s = number(data.get("heartbeat")) or start_s
    if state == "running":
        run = text(data.get("run"))  # relative to the campaign
        is_over = bool(run) and not (path.parents[3] / run).is_dir()
        is_silent = (time.time() if now_s is None else now_s) - beat_s > LOST_S
        state = "lost" if is_over or is_silent or data.get("error") else state
    return JobStatus(
        step=path.parent.name,
        key=path.name.removesuffix(".json"),
        state=state,
        start_s=start_s,
        end_s=number(data.get("end")),
        heartbeat_s=beat_s,
        host=text(data.get("host")),
        slurm_job=text(data.get("slurm_job")),
        error=text(data.get("error")),
        warning=text(data.get("warning")),
        log_tail="",
    )


def end_of(log: Path, n_lines: int) -> str:
    """Read the last lines of a log, without reading the rest of it."""
    with open(log, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _TAIL_BYTES))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-n_lines:])
