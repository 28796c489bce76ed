"""The context of every job: its log, its status, its complete results, and last its receipt."""

import gc
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import PREDICTION, SWEEP
from tomopipe.campaign.log import job
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.reruns.receipts import state_of, write_receipt
from tomopipe.scans.raw_identity import raw_content, raw_state
from tomopipe.storage import atomic, run_folder
from tomopipe.storage.json_files import json_or
from tomopipe.workflow_steps import STEPS

_N_NEW = 100_000  # garbage collection threshold of steps that keep what they read of all scans


@dataclass
class Making:
    """What the body of a job may add to its status and its statement."""

    made_from: dict[str, Any]  # the statement of its results
    status: dict[str, Any] = field(default_factory=dict)
    stated: dict[str, Any] = field(default_factory=dict)


@contextmanager
def making(snakemake: Any, *, checks_outputs: bool = True) -> Iterator[Making]:
    """Run the body of a job; when it has succeeded, write the receipt, its declared output.

    `snakemake.params.provenance` is from `tomopipe.reruns.parameters`. If a raw file changes
    meanwhile, the result of a step with `refuses_changes` is not written; that of another is kept,
    and the next run makes it again. `checks_outputs`: whether a write-protected output ends the job
    before it begins.

    A job that belongs to no run, or to one that has ended, ends with TomopipeError and changes
    nothing. One that has made its results in this run, and is started again (by SLURM, after its
    node failed; by the main process, which did not see the receipt in time), has its receipt again
    and computes nothing.
    """
    gc.freeze()  # what was loaded
    gc.enable()
    provenance, log = snakemake.params.provenance, snakemake.log[0]
    if run_folder.current() is None or provenance is None:
        raise TomopipeError(
            f"{snakemake.output[0]}: this job belongs to no run of the campaign: nothing is "
            "written. Start `tomopipe run`, or snakemake, in the campaign's folder; an executor "
            f"must pass the environment variable {run_folder.VARIABLE} to its jobs."
        )
    products, made_from = provenance.get("products", []), provenance.get("made_from", "{}")
    raw = {path: raw_state(path) for path in provenance.get("raw_files", [])}

    def check_raw_files() -> None:
        for path, state in raw.items():
            if raw_state(path) not in (state, None):  # missing files are reported elsewhere
                raise TomopipeError(f"{path}: changed while it was read. Run again.")

    step = STEPS[Path(log).parent.name]
    if step.key == "campaign" and step.inputs:
        gc.set_threshold(_N_NEW)
    made = Making(json.loads(made_from))
    if _is_made(snakemake.output[0], made.made_from):
        with job(log):
            logging.getLogger(__name__).info("made earlier in this run")
        raise SystemExit
    with job(log, products if checks_outputs else []) as status:
        if "fault" in provenance:
            raise TomopipeError(provenance["fault"])
        _keep_others(provenance.get("recorded", {}))
        atomic.before_rename.extend([check_raw_files] if step.refuses_changes else [])
        made.status = status
        try:
            yield made
        finally:
            atomic.before_rename.clear()
        statement = (_stated(products) or made.made_from) | made.stated
        read = {}
        for path in provenance.get("unsummed", ()):
            state = raw[path]
            content = raw_content(path) if raw_state(path) == state else ""
            # only if the state before and after is the same
            read[path] = [state, content if raw_state(path) == state else ""]
        write_receipt(snakemake.output[0], statement, products, read)
        _keep(snakemake.output[0])
    gc.freeze()  # no garbage collection at the end of the process


def _keep_others(recorded: Mapping[str, Sequence[int] | None]) -> None:
    """Keep files of others aside that are in the places of what this job makes."""
    for path, state in recorded.items():
        if state_of(path) not in (None, state and tuple(state)):
            from tomopipe.reruns.foreign import keep_others  # few jobs need it

            if line := keep_others(path, state):
                logging.getLogger(__name__).info(line)


def _kept(receipt: str) -> Path:
    """Return the path of the copy of a receipt in the folder of the run."""
    return Path(os.environ[run_folder.VARIABLE], "made", *Path(receipt).parts[-2:])


def _keep(receipt: str) -> None:
    """Keep a receipt for the case that this job is started again: Snakemake removes outputs."""
    copy = _kept(receipt)
    with suppress(OSError):  # no hard links on this file system, or no room
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        copy.hardlink_to(receipt)


def _is_made(receipt: str, statement: Mapping[str, Any]) -> bool:
    """Put back the receipt of results that this run has made, unchanged since; tell whether."""
    content = json_or(copy := _kept(receipt), {})
    files = content.get("files", {})
    is_of_this = content.get("made_from", {}).items() >= statement.items()
    if not (files and is_of_this and all(state_of(path) == tuple(files[path]) for path in files)):
        return False
    with suppress(FileExistsError):
        os.link(copy, receipt)
    return True


def _stated(products: list[str]) -> dict[str, Any]:
    """Return the statement in the sweep or prediction, {} if there is none."""
    for path in products:
        if Path(path).name in (SWEEP, PREDICTION):
            record = json.loads(Path(no_pipe(path)).read_text(encoding="utf-8"))
            result: dict[str, Any] = record.get("made_from", {})
            return result
    return {}
