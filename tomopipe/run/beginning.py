"""The beginning of a Snakemake on a campaign: its configuration, its run, what is to be made."""

import atexit
import gc
import getpass
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

from tomopipe.campaign import lock, slurm
from tomopipe.campaign.campaign import Campaign, campaign_from_data, refuse_vanished
from tomopipe.campaign.files import CONFIG, SNAKEFILE, SNAKEMAKE, VOLUMES, names_no_target
from tomopipe.campaign.lock import FILES
from tomopipe.campaign.raw_files import unread_folders
from tomopipe.campaign.results import read_inventory
from tomopipe.config import with_file
from tomopipe.config.parse import read_document
from tomopipe.errors import TomopipeError, reason_of, room_for, some_of
from tomopipe.reruns.option_faults import closed_folders, missing_gpu, refuse_no_file
from tomopipe.reruns.settle import Settled
from tomopipe.run import job_resources, launch, progress
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import closed, giving_rights
from tomopipe.storage.json_files import json_or

_MOST_SAID = 20
_ASK_AGAIN_S = 5.0  # between two questions to SLURM
_CONFIG = "config.json"  # in the folder of a run, for its nodes


def begin(config: dict[str, Any], directory: Path, *, is_main: bool) -> Campaign:
    """Complete Snakemake's `config`; return the campaign.

    The main process reads config.yaml and begins a run, which ends those that were killed. A job's
    process takes both as its run began with them. TomopipeError if there is no campaign, or another
    run of it is under way.
    """
    if not is_main:
        run = run_folder.current()
        content = json_or(run / _CONFIG, {}) if run else {}
        if run is None or not content:
            raise TomopipeError(
                "these jobs belong to no run of the campaign, so nothing is made. An executor must "
                f"pass the environment variable {run_folder.VARIABLE} to its jobs."
            )
        config.clear()
        config.update(content)
        return campaign_from_data(config, directory, with_scans=False)
    os.environ[run_folder.VARIABLE] = ""  # that of a run whose job has started this one
    if " " in sys.executable:
        raise TomopipeError(
            f"Python is {sys.executable}, and Snakemake cannot start a Python whose path has a "
            "blank. Install tomopipe in a folder without (campaigns may have blanks)."
        )
    is_named = any(argument.startswith(("-s", "--snakefile")) for argument in sys.argv)
    if names_no_target(Path(SNAKEFILE)) and not is_named:
        raise TomopipeError(
            f"{SNAKEFILE}: an earlier version wrote it, and it names no target. Type "
            "tomopipe init . to replace it, or tomopipe run."
        )
    given = launch.option("--configfile", "--configfiles")
    if not given and Path(CONFIG).exists():
        config.update(with_file(Path(CONFIG), config))
    elif not config and launch.is_lint():
        config["campaign"] = {"scans": ["raw/*.h5"]}
    elif not config:
        read_document(directory / CONFIG)  # which says that it is missing
    campaign = campaign_from_data(config, directory, source=given or CONFIG)
    _refuse_volumes(campaign)
    if launch.is_dry() and (shut := closed([directory / SNAKEMAKE])):
        raise TomopipeError(
            f"{shut[0]}: cannot be written, and a dry run of Snakemake does. Type: tomopipe plan"
        )
    _refuse_change(directory)
    refuse_vanished(campaign)
    if not (is_of_watcher() or launch.is_lint()):
        refuse_no_file(campaign)
    # of a watcher rows may be written before their scans come
    faults = unread_folders(campaign.config, campaign.directory) + campaign.table_faults()
    for fault in [] if is_of_watcher() else faults + campaign.unmatched_overrides()[1]:
        print(f"tomopipe: {fault}", file=sys.stderr)
    if launch.executes():
        _begin_run(campaign, config)
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # a call that only looks ends, also while Snakemake reads rules
        signal.signal(
            signal.SIGINT, lambda *_: sys.exit("tomopipe: stopped before anything was begun.")
        )
    return campaign


def _refuse_volumes(campaign: Campaign) -> None:
    """Raise if a volume is named as a target: Snakemake says only that no rule makes it."""
    for target in sys.argv[1:]:
        path = os.path.relpath(target) if target.endswith(tuple(VOLUMES.values())) else ""
        for scan in campaign.scans if path else ():
            if campaign.volume(scan) == path:
                receipt = campaign.outputs.receipt
                raise TomopipeError(
                    f"{target}: Snakemake's target is the receipt of a volume. Type: tomopipe run "
                    f"{shlex.quote(scan)}; or give snakemake {receipt('resolve_cor')} and "
                    f"{receipt('full_recon', scan)}"
                )


def _refuse_change(directory: Path) -> None:
    """Raise if this call would change receipts that a run needs."""
    if launch.changes_receipts() and (run := lock.under_way(directory)):
        raise TomopipeError(
            f"a run of this campaign, which needs its receipts, is under way: {run}. Wait for its "
            "end, or type tomopipe stop."
        )


def _begin_run(campaign: Campaign, config: Mapping[str, Any]) -> None:
    """Make the folder of a run; refuse while another is under way."""
    for option in (("--cores", "-c"), ("--jobs", "-j")):
        if launch.option(*option) == "0":
            raise TomopipeError(f"{option[0]} 0: expected at least 1, else no job can run.")
    if reason := closed_folders(campaign):
        raise TomopipeError(reason)
    _refuse_no_gpu(campaign)
    run = _enter(campaign.directory)
    progress.tell(executes=True, remote=launch.is_remote(), campaign=dict(config))
    # relative, as jobs on nodes may see the campaign under another path
    if run.before and launch.is_remote():
        options = [f"--name={run_folder.slurm_name(run.before)}", f"--user={getpass.getuser()}"]
        if fault := slurm.cancel([], *options, "--state=PENDING"):  # in the queue, and no others
            print(f"tomopipe: {fault}", file=sys.stderr)
        _wait_for_running(campaign, run.before)
    if shut := closed([run_folder.of(campaign.results, "")]):
        raise TomopipeError(
            f"{shut[0]}: a run of another user that was killed has left it, and it cannot be "
            f"removed. Give yourself the right to: {giving_rights(shut)}; or ask them to run."
        )
    with room_for(campaign.results):
        folder = run_folder.begin(Path(campaign.config.campaign.results), run.id)
        (folder / _CONFIG).write_text(json.dumps(config), "utf-8")
    os.environ[run_folder.VARIABLE] = str(folder)
    atexit.register(_end_run, campaign, run)


@cache
def _enter(directory: Path) -> lock.Run:
    """Hold the lock until this process ends, also for a second module of its Snakefile."""
    run, holding = lock.enter(directory), ExitStack()
    holding.enter_context(lock.held(directory, run))
    atexit.register(holding.close)
    if run.before and not progress.is_read():  # `tomopipe run` says it
        print(
            "tomopipe: the last run was killed: this one goes on from there. If Snakemake says "
            "that the directory is locked, add --nolock",
            file=sys.stderr,
        )
    return run


def _wait_for_running(campaign: Campaign, run_id: str) -> None:
    """Wait for SLURM jobs of a run that was killed, as long as they make what is still wanted."""
    folder = run_folder.of(Path(campaign.config.campaign.results), run_id)
    numbers = job_resources.at_work(Settled(campaign), folder)
    text = ""
    while numbers:
        with suppress(slurm.NoAnswerError):  # it is asked again
            states = slurm.states(sorted(numbers), run_folder.slurm_name(run_id))
            numbers = {each for each in numbers if states.get(each, "COMPLETED") not in slurm.ENDED}
        if numbers and not text:
            text = (
                "waits for SLURM jobs of the run that was killed, as their results are wanted. To "
                f"make them anew instead, type: scancel {' '.join(sorted(numbers))}"
            )
            print(f"tomopipe: {text}", file=sys.stderr)
            progress.tell(says=text)
        if numbers:
            time.sleep(_ASK_AGAIN_S)


def _end_run(campaign: Campaign, run: lock.Run) -> None:
    from tomopipe.run.ending import at_exit

    if lock.is_held(campaign.directory, run):
        at_exit(campaign)
        run_folder.end_all(campaign.results)
    gc.freeze()


def is_of_watcher() -> bool:
    """Tell whether a watcher has started this run."""
    return bool(os.environ.get(FILES))


@cache  # asked at each table
def check_disk(campaign: Campaign) -> None:
    """Say that the disk is too small for what a run of everything makes, and end the run.

    Snakemake without `tomopipe run`, and a watcher, go on.
    """
    if not os.environ.get(run_folder.VARIABLE):
        return
    from tomopipe.cost import disk_refusal  # slow to load

    lines = disk_refusal(campaign)
    for line in lines:
        print(f"tomopipe: {line}", file=sys.stderr)
        progress.tell(says=line)
    if lines and progress.is_read() and not (is_of_watcher() or os.environ.get(progress.FORCE)):
        progress.tell(refused=True)
        sys.exit(1)


def settle_again(campaign: Campaign, made: Sequence[str]) -> Settled:
    """Settle during a run, after the tables `made`; what forbids to go on ends the run.

    Of an exception Snakemake would print the traceback, and of a text to exit with nothing.
    """
    try:
        return settle(campaign, made)
    except TomopipeError as error:
        line = reason_of(error)
        print(f"tomopipe: {line}", file=sys.stderr)
        progress.tell(says=line)
        sys.exit(1)


def settle(campaign: Campaign, made: Sequence[str] = ()) -> Settled:
    """Decide on all results, and set the receipts, unless another run is under way.

    `made` are the tables, `inventory` and `resolve_cor`, that this run has made already. A run that
    cannot set them would take what is stale for right: TomopipeError.
    """
    settled = Settled(campaign, looks_ahead=False, made=made)
    gc.freeze()  # it stays: it is not looked through for garbage
    if launch.is_lint():
        return settled
    is_ours = bool(os.environ.get(run_folder.VARIABLE))
    if not is_ours and lock.read(campaign.directory):
        print("tomopipe: another run goes on, or was killed: shown as it is", file=sys.stderr)
        return settled
    if others := settled.others_sidecars():
        folder, named = os.path.dirname(campaign.outputs.sidecar("")), some_of(others, 1)
        print(f"tomopipe: sidecars of another campaign: {named}; ours in {folder}", file=sys.stderr)
    if settled.pending and not made and launch.cuts():
        receipt = campaign.outputs.receipt
        line = (
            f"{receipt(settled.pending)} is to be made, and --until and --batch see nothing that "
            f"follows it. First type: snakemake --cores 4 {receipt('resolve_cor')}"
        )
        print(f"tomopipe: {line}", file=sys.stderr)
        progress.tell(says=line)
    for line in settled.staleness.damaged[:_MOST_SAID]:
        print(f"tomopipe: {line}: made again", file=sys.stderr)
    try:
        settled.act()
    except OSError as error:
        if is_ours and isinstance(error, TomopipeError):
            raise
        if is_ours:
            path = error.filename2 or error.filename
            raise TomopipeError(
                f"{path}: this receipt cannot be written or removed ({error.strerror}), so the run "
                "ends. Move away what is in its place, or get the right to write there."
            ) from error
        print(f"tomopipe: {error}: results are shown as they are", file=sys.stderr)
    if is_ours:
        from tomopipe.run.ending import renew_rot_cen

        renew_rot_cen(settled)
    return settled


def tell_totals(settled: Settled, makes_all: Sequence[bool]) -> None:
    """Write how many jobs each step of a run of everything has, also of those after a table."""
    if makes_all and launch.executes() and not launch.cuts():
        progress.tell(totals=settled.totals)


def is_cut(settled: Settled | None) -> bool:
    """Tell whether a call with --until or --batch, blind behind a checkpoint, needs none."""
    return launch.cuts() and not launch.forces() and settled is not None and not settled.pending


def _refuse_no_gpu(campaign: Campaign) -> None:
    """Raise for a run on this machine whose volumes would all fail, for want of a GPU."""
    if is_of_watcher() or launch.is_remote():
        return
    scans = list(campaign.scans)
    with suppress(OSError, TomopipeError):  # a missing or damaged inventory is made
        scans = campaign.selected_scans(read_inventory(campaign.files.inventory)) or scans
    if fault := missing_gpu(campaign, scans):
        raise TomopipeError(fault)
