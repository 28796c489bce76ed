"""The beginning of a run: configuration, lock and folder of the run, decisions on all results."""

import atexit
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tomopipe.campaign import slurm
from tomopipe.campaign.campaign import Campaign, campaign_from_data, refuse_vanished
from tomopipe.campaign.files import CONFIG, SNAKEMAKE
from tomopipe.campaign.needed_files import refuse_no_file
from tomopipe.campaign.raw_files import unread_folders
from tomopipe.campaign.results import present_inventory
from tomopipe.campaign.selection import table_faults, unmatched_overrides
from tomopipe.campaign.step_files import closed_folders
from tomopipe.config import with_file
from tomopipe.config.parse import read_document
from tomopipe.errors import TomopipeError, reason_of, room_for, some_of
from tomopipe.reruns import sidecars
from tomopipe.reruns.foreign import to_keep
from tomopipe.reruns.receipts import Receipts
from tomopipe.reruns.settle import Settled
from tomopipe.resources.jobs import START_S
from tomopipe.run import command_line, hooks, job_resources, progress, targets
from tomopipe.storage import lock, run_folder
from tomopipe.storage.atomic import closed, giving_rights
from tomopipe.storage.json_files import json_or
from tomopipe.storage.lock import FILES

VARIABLES = (run_folder.VARIABLE, FILES)
"""Environment variables that jobs on nodes need."""
_MOST_LINES = 20  # damaged results, or faults of the table, that are listed
_N_NUMBERS = 10  # SLURM jobs that are named
_N_NEW = 100_000  # garbage collection threshold, as nearly all that is read stays
_ASK_AGAIN_S = 5.0  # between two queries of SLURM
_CONFIG = "config.json"  # in the folder of a run, for its nodes
_RECEIPTS: dict[Path, Receipts] = {}  # of the last decision on a campaign


def begin_or_exit(config: dict[str, Any]) -> tuple[Campaign, Settled | None]:
    """Return the campaign of a call, and the decision on its results; None in a job's process.

    A fault, or Ctrl-C, ends the process with one sentence.
    """
    for name in VARIABLES:
        os.environ.setdefault(name, "")
    is_main = not command_line.is_job()
    gc.freeze()  # Snakemake's modules
    gc.set_threshold(_N_NEW)
    # receipts decide: Snakemake is meant to have no metadata of jobs
    logging.getLogger("snakemake.logging").addFilter(
        lambda record: "missing provenance/metadata" not in record.getMessage()
    )
    try:
        campaign = begin(config, Path.cwd(), is_main=is_main)
        settled = settle(campaign) if is_main else None
        _offer_workers(settled)
        if settled:
            report_totals(settled, is_whole=False)
        return campaign, settled
    except (TomopipeError, KeyboardInterrupt) as error:
        sys.exit(f"tomopipe: {str(error) or 'stopped before the run began.'}")


def begin(config: dict[str, Any], directory: Path, *, is_main: bool) -> Campaign:
    """Complete Snakemake's `config`; return the campaign.

    The main process reads config.yaml and begins a run, which replaces one that was killed. A job's
    process uses the configuration with which its run began. TomopipeError if there is no campaign,
    or another run of it is in progress.
    """
    if not is_main:
        run = run_folder.current()
        content = json_or(run / _CONFIG, {}) if run else {}
        if run is None or not content:
            raise TomopipeError(
                "this job belongs to no run of the campaign; nothing was made. An executor must "
                f"pass the environment variable {run_folder.VARIABLE} to its jobs."
            )
        config.clear()
        config.update(content)
        return campaign_from_data(config, directory, with_scans=False)
    os.environ[run_folder.VARIABLE] = ""  # set if a job of another run started this one
    if " " in sys.executable:
        raise TomopipeError(
            f"{sys.executable}: Snakemake cannot start a Python whose path contains a space. "
            "Install tomopipe in a folder without spaces (campaign folders may have them)."
        )
    given = command_line.option("--configfile", "--configfiles")
    if not given and Path(CONFIG).exists():
        config.update(with_file(Path(CONFIG), config))
    elif not config and command_line.is_lint():
        config["campaign"] = {"scans": ["raw/*.h5"]}
    elif not config:
        read_document(directory / CONFIG)  # raises: it is missing
    campaign = campaign_from_data(config, directory, source=given or CONFIG)
    targets.refuse_volumes(campaign)
    if command_line.is_dry() and (shut := closed([directory / SNAKEMAKE])):
        raise TomopipeError(
            f"{shut[0]}: cannot be written, as a dry run of Snakemake requires. Type: tomopipe plan"
        )
    _refuse_change(directory)
    refuse_vanished(campaign)
    if not (is_of_watcher() or command_line.is_lint()):
        refuse_no_file(campaign)
    # with a watcher the table may name scans that have not arrived yet
    if not is_of_watcher():
        _say_faults(campaign)
    if command_line.executes():
        _begin_run(campaign, config)
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C ends a dry run, also while Snakemake reads the rules
        signal.signal(signal.SIGINT, lambda *_: sys.exit("tomopipe: stopped before the run began."))
    return campaign


def _say_faults(campaign: Campaign) -> None:
    """Name faults of the configuration and the campaign table with which a run begins."""
    of_table = table_faults(campaign)
    folders = unread_folders(campaign.config, campaign.directory)
    for fault in (*folders, *of_table, *unmatched_overrides(campaign)[1]):
        progress.say(fault)
    for fault in of_table[:_MOST_LINES]:  # `tomopipe run` shows it at once
        progress.tell(says=fault)


def _refuse_change(directory: Path) -> None:
    """Raise if this call would change receipts that a run needs."""
    if command_line.changes_receipts() and (run := lock.under_way(directory)):
        raise TomopipeError(
            f"a run of this campaign, which needs its receipts, is under way: {run}. Wait for its "
            "end, or type tomopipe stop."
        )


def _begin_run(campaign: Campaign, config: Mapping[str, Any]) -> None:
    """Make the folder of a run; refuse while another is in progress."""
    for option in (("--cores", "-c"), ("--jobs", "-j")):
        if command_line.option(*option) == "0":
            raise TomopipeError(f"{option[0]} 0: expected at least 1.")
    if reason := closed_folders(campaign):
        raise TomopipeError(reason)
    _refuse_no_gpu(campaign)
    run = _enter(campaign.directory)
    is_remote = command_line.is_remote()
    cores = 0 if is_remote else command_line.cores()
    facts = {"remote": is_remote, "cores": cores, "start_s": START_S}
    progress.tell(executes=True, campaign=dict(config), **facts)
    if run.before and is_remote:
        _wait_for_running(campaign, run.before)
    if shut := closed([run_folder.of(campaign.results, "")]):
        raise TomopipeError(
            f"{shut[0]}: left by another user's run that was killed, and cannot be removed. To "
            f"get the right: {giving_rights(shut)}; or ask that user to run tomopipe."
        )
    with room_for(campaign.results):
        # relative, as jobs on nodes may see the campaign under another path
        folder = run_folder.begin(Path(campaign.config.campaign.results), run.id)
        (folder / _CONFIG).write_text(json.dumps(config), "utf-8")
    lock.hand_over(campaign.directory, run, replace(run, before=""))
    os.environ[run_folder.VARIABLE] = str(folder)
    atexit.register(_end_run, campaign, run)
    hooks.begin(campaign)


@cache
def _enter(directory: Path) -> lock.Run:
    """Hold the lock until this process ends; once, also if Snakemake reads the rules twice."""
    run, holding = lock.enter(directory), ExitStack()
    holding.enter_context(lock.held(directory, run))
    atexit.register(holding.close)
    if run.before and not progress.is_read():  # else `tomopipe run` reports it
        progress.say(
            "the last run was killed: this one continues from there. If Snakemake reports that the "
            "directory is locked, add --nolock"
        )
    return run


def _wait_for_running(campaign: Campaign, run_id: str) -> None:
    """Wait for SLURM jobs of a run that was killed, if their results are needed; end the others.

    Those in the queue are cancelled: this run submits again what is needed.
    """
    folder = run_folder.of(Path(campaign.config.campaign.results), run_id)
    of_run = [f"--name={run_folder.slurm_name(run_id)}", f"--user={os.getuid()}"]
    faults = [slurm.cancel([], *of_run, "--state=PENDING")]
    numbers = job_resources.at_work(Settled(campaign), folder)
    with suppress(slurm.NoAnswerError):  # then they end without a result
        if others := sorted(slurm.running(*of_run) - numbers):
            progress.say(
                f"SLURM jobs of the run that was killed, of which nobody needs the results any "
                f"more, are cancelled: {some_of(others, _N_NUMBERS)}",
                shown=True,
            )
            faults.append(slurm.cancel(others))
    for fault in filter(None, faults):
        progress.say(fault)
    is_reported = False
    while numbers:
        with suppress(slurm.NoAnswerError):  # queried again
            states = slurm.states(sorted(numbers), run_folder.slurm_name(run_id))
            numbers = {
                each for each in numbers if each in states and states[each].state not in slurm.ENDED
            }
        if numbers and not is_reported:
            is_reported = True
            progress.say(
                "waiting for SLURM jobs of the run that was killed, whose results are needed. To "
                f"make these results again instead, type: scancel {' '.join(sorted(numbers))}",
                shown=True,
            )
        if numbers:
            time.sleep(_ASK_AGAIN_S)


def _end_run(campaign: Campaign, run: lock.Run) -> None:
    from tomopipe.run.upkeep import at_exit

    if lock.is_held(campaign.directory, run):
        if receipts := _RECEIPTS.get(campaign.directory):
            at_exit(campaign, receipts, is_run=True)
        run_folder.end_all(campaign.results)
    gc.freeze()


def is_of_watcher() -> bool:
    """Tell whether a watcher has started this run."""
    return bool(os.environ.get(FILES))


@cache  # asked at each table
def check_disk(campaign: Campaign) -> None:
    """Report that the disk is too small for all results, and end the run.

    Snakemake without `tomopipe run`, and a watcher, continue.
    """
    if not os.environ.get(run_folder.VARIABLE):
        return
    from tomopipe.resources.disk import disk_refusal  # slow to load

    lines = disk_refusal(campaign)
    for line in lines:
        progress.say(line, shown=True)
    if lines and progress.is_read() and not (is_of_watcher() or os.environ.get(progress.FORCE)):
        progress.tell(refused=True)
        sys.exit(1)


def settle_again(settled: Settled, table: str) -> Settled:
    """Decide again during a run, after another table was made; an error ends the run.

    Snakemake would print the traceback of an exception, and not the text of a SystemExit.
    """
    try:
        settled = settle(settled.campaign, ("inventory", table), settled)  # which does not change
        _offer_workers(settled)
        return settled
    except TomopipeError as error:
        progress.say(reason_of(error), shown=True)
        sys.exit(1)


def _offer_workers(settled: Settled | None) -> None:
    """Offer workers if this process is to run several jobs of scans; one loads what it needs."""
    n_jobs = sum(bool(job.scan) for job in settled.jobs) if settled else targets.job_count()
    if n_jobs > 1 and command_line.executes() and not command_line.is_remote():
        from tomopipe.run.workers import offer  # few calls need it

        offer()


def settle(campaign: Campaign, made: Sequence[str] = (), before: Settled | None = None) -> Settled:
    """Decide on all results, and set the receipts, unless another run is in progress.

    `made` are the tables, `inventory` and `resolve_cor`, that this run has made already, `before`
    the decision of before. If all targets are volumes, it is on what they need. A run that cannot
    set the receipts, and so would keep stale results, raises TomopipeError.
    """
    settled = Settled(
        campaign,
        looks_ahead=False,
        made=made,
        volumes_of=before.volumes_of if before else targets.volumes_asked_for(campaign),
        before=before,
    )
    _RECEIPTS[campaign.directory] = settled.receipts
    gc.freeze()  # it lives as long as the process: no need to search it for garbage
    if command_line.is_lint():
        return settled
    is_ours = bool(os.environ.get(run_folder.VARIABLE))
    if not is_ours and lock.read(campaign.directory):
        progress.say("another run is in progress, or was killed")
        return settled
    if others := sidecars.of_others(settled.target):
        folder = os.path.dirname(campaign.outputs.sidecar(""))
        text = f"{some_of(others, 1)}: sidecars of another campaign; ours are written to {folder}"
        progress.say(text)
    for line in to_keep(settled.of_others) if is_ours and command_line.is_remote() else ():
        progress.say(line)  # of jobs on this machine each says so
    if settled.pending and not made and command_line.cuts():
        receipt = campaign.outputs.receipt
        progress.say(
            f"{receipt(settled.pending)} is missing, and --until, --omit-from and --batch find no "
            f"job after it. First type: snakemake --cores 4 {receipt('resolve_cor')}",
            shown=True,
        )
    for line in [*dict.fromkeys(settled.staleness.damaged)][:_MOST_LINES]:
        progress.say(f"{line}: made again")
    try:
        settled.act()
    except OSError as error:
        if is_ours and isinstance(error, TomopipeError):
            raise
        if is_ours:
            path = error.filename2 or error.filename
            raise TomopipeError(
                f"{path}: the receipt cannot be written or removed ({error.strerror}); the run "
                "ends. Move away what is in its place, or get the right to write there."
            ) from error
        progress.say(f"{error}: results are shown as they are")
    if is_ours:
        from tomopipe.run.upkeep import renew_rot_cen

        renew_rot_cen(settled)
    return settled


def report_totals(settled: Settled, *, is_whole: bool) -> None:
    """Write the jobs of each step of a run of everything, or up to a step, after a table too."""
    last_step = "" if is_whole else targets.last_step(settled.campaign)
    if (is_whole or last_step) and command_line.executes() and not command_line.cuts():
        progress.tell(**job_resources.planned_work(settled, last_step))


def _refuse_no_gpu(campaign: Campaign) -> None:
    """Raise for a run on this machine whose volumes would all fail for lack of a GPU."""
    if is_of_watcher() or command_line.is_remote():
        return
    selected = campaign.selected_scans(present_inventory(campaign.files.inventory))
    if fault := missing_gpu(campaign, selected or campaign.scans):
        raise TomopipeError(fault)


def missing_gpu(campaign: Campaign, scans: Iterable[str]) -> str:
    """Say that pending volumes or sweeps need a GPU and there is none; "" otherwise."""
    configs = ((scan, campaign.for_scan(scan).config) for scan in scans)
    if not any(
        "cuda" in (config.full_recon.device, config.try_recon.device)
        and not campaign.volume(scan).exists()
        for scan, config in configs
    ):
        return ""
    # in another process: one that has called CUDA cannot fork jobs that use it
    code = "from tomopipe.recon.device import array_module; array_module('cuda')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().rpartition("\n")[2]
    return last.partition("Error: ")[2] or last if done.returncode else ""
