import atexit
import gc
import json
import os
import sys
import time
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path

gc.disable()  # nothing is garbage of the modules and rules that are read, up to the last of end.smk
try:
    from tomopipe.cost import job_memory
    from tomopipe.reruns import made_from
    from tomopipe.run import progress, snakemake_internals
except ModuleNotFoundError as error:
    sys.exit(
        f"tomopipe: {sys.executable} has no module {error.name}. Type `make demo` in tomopipe's "
        "folder (Snakemake is then .venv/bin/snakemake), or there pip install ."
    )
from tomopipe.campaign.campaign import (
    as_json,
    campaign_from_data,
    read_inventory,
    refuse_vanished,
)
from tomopipe.campaign.failures import begun, failed_on_data, has_no_end
from tomopipe.campaign.files import CONFIG, LOGS, Logs
from tomopipe.campaign.raw_files import unread_folders
from tomopipe.campaign.series import encode_series
from tomopipe.campaign.watch_lock import FILES
from tomopipe.config import parsed_texts, with_file
from tomopipe.reruns.decisions import REASONS, Decisions
from tomopipe.reruns.wanted import Wanted
from tomopipe.reruns.words import MISSING
from tomopipe.reruns.option_faults import (
    closed_folders,
    missing_gpu,
    refuse_missing_files,
    refuse_no_file,
    refuse_option_faults,
)
from tomopipe.errors import TomopipeError
from tomopipe.run.snakemake_internals import if_known
from tomopipe.cost.batches import is_large, job_s, volume_s
from tomopipe.reruns.foreign import refuse_foreign
from tomopipe.storage import run_folder
from tomopipe.storage.tables import read_tsv

START_TIME = time.time()

# the folder of the run, made when it begins and passed to its jobs
os.environ.setdefault(run_folder.VARIABLE, "")
os.environ.setdefault(FILES, "")


envvars:
    run_folder.VARIABLE,
    FILES,


# a job on a node runs as decided by the main process
DECIDES = snakemake_internals.is_main(workflow)

WATCHED = bool(os.environ[FILES])  # a run of a watcher

if " " in sys.executable:
    sys.exit(
        f"tomopipe: Python is {sys.executable}, and Snakemake cannot start a Python whose path "
        "has a blank. Install tomopipe in a folder without (campaigns may have blanks)."
    )

try:
    if not DECIDES and snakemake_internals.take_config(config):  # ends a job of an ended run
        pass  # config.yaml may have been edited since
    elif not workflow.configfiles and Path(CONFIG).exists():
        config.update(with_file(Path(CONFIG), config))
    elif not config and snakemake_internals.is_lint():
        config["campaign"] = {"scans": ["raw/*.h5"]}
    elif not config:
        sys.exit(
            f"tomopipe: no {CONFIG} in {Path.cwd()}, so this is no campaign. Type: tomopipe init "
            "mycampaign --scans 'FOLDER/*.h5' && tomopipe run mycampaign (a "
            "demonstration: python -m tomopipe.simulate.demo demo)"
        )
    config.update(parsed_texts(config))  # as Snakemake hands nested values of --config on
    # a node that got the inputs of its jobs need not read the campaign
    SENT = not DECIDES and snakemake_internals.take_sent()
    if not (DECIDES or SENT):
        print("tomopipe: job inputs were not sent; reading the campaign", file=sys.stderr)
    named = ", ".join(map(str, workflow.configfiles)) or CONFIG
    CAMPAIGN = campaign_from_data(config, Path.cwd(), source=named, with_scans=not SENT)
    DECISIONS = Decisions(CAMPAIGN)
    if DECIDES:
        DECISIONS.take_job_records()
        refuse_vanished(CAMPAIGN)
        if not (WATCHED or snakemake_internals.is_lint()):
            refuse_no_file(CAMPAIGN)
        refuse_missing_files(CAMPAIGN)
        refuse_foreign(CAMPAIGN, DECISIONS.record)
        if not WATCHED:  # rows may be written before their scans come
            faults = unread_folders(CAMPAIGN.config, CAMPAIGN.directory) + CAMPAIGN.table_faults()
            for fault in faults + CAMPAIGN.override_notes():
                print(f"tomopipe: {fault}", file=sys.stderr)
except TomopipeError as error:
    sys.exit(f"tomopipe: {error}")


def end_earlier_runs():
    """Prevent killed runs from changing results, before any result is checked."""
    global CHECKS_DISK
    for fault in (snakemake_internals.other_executor, snakemake_internals.no_job_fits):
        if reason := fault(workflow):
            sys.exit(f"tomopipe: {reason}")
    if reason := closed_folders(CAMPAIGN):
        sys.exit(f"tomopipe: {reason}")
    if not (WATCHED or snakemake_internals.is_remote(workflow)):
        refuse_no_gpu()
    CHECKS_DISK = "all" in snakemake_internals.targets(workflow)
    progress.tell(executes=True, remote=snakemake_internals.is_remote(workflow))
    snakemake_internals.call_hooks_of_module(workflow, globals())
    DECISIONS.take_job_records()
    DECISIONS.save()
    run_folder.end_all(CAMPAIGN.results)


def refuse_no_gpu():
    """End a run on this machine whose volumes would all fail, for want of a GPU."""
    if "all" not in snakemake_internals.targets(workflow):
        return
    scans = CAMPAIGN.scans
    with suppress(TomopipeError):  # a damaged inventory is made again
        scans = CAMPAIGN.selected_scans(known_inventory() or {}) or scans
    if fault := missing_gpu(CAMPAIGN, scans):
        sys.exit(f"tomopipe: {fault}")


CHECKS_DISK = False


def check_disk():
    """Say once that the disk is too small for what a run of everything makes, and end the run.

    Snakemake without `tomopipe run`, and a watcher, go on.
    """
    global CHECKS_DISK
    if not CHECKS_DISK:
        return
    from tomopipe.cost.disk import disk_refusal

    CHECKS_DISK = False
    lines = disk_refusal(CAMPAIGN)
    for line in lines:
        print(f"tomopipe: {line}", file=sys.stderr)
        progress.tell(says=line)
    if lines and progress.is_read() and not (WATCHED or os.environ.get(progress.FORCE)):
        progress.tell(refused=True)
        sys.exit(1)


def log_of(job):
    return Path(next(iter(job.log), ""))


def is_final(job):
    """Whether a job failed because of its data: another attempt would fail likewise."""
    return failed_on_data(log_of(job), since=START_TIME)


snakemake_internals.remove_only_in_run()
snakemake_internals.leave_protected_to_jobs()
snakemake_internals.ignore_times()
snakemake_internals.default_target(workflow, "all")
snakemake_internals.fork_scripts(workflow)
if DECIDES:
    snakemake_internals.try_no_more(is_final)
    snakemake_internals.before_deciding(workflow, end_earlier_runs)
    progress.tell(campaign=config)


wildcard_constraints:
    scan=r"[^/]+",
    series=r"[^/]+",
    stack=r"[^/]+",
    folder=r".+",


OUTPUTS = CAMPAIGN.outputs
COR_TABLE, REPORT = OUTPUTS.cor_table, OUTPUTS.report
INVENTORY, COMPARED = OUTPUTS.inventory, OUTPUTS.compared


MADE = set()


def expect(path):
    """Make jobs wait for a checkpoint that is to run, until it has.

    Snakemake takes it for finished where its job was replaced while jobs were decided again.
    """
    if DECIDES and path not in MADE and snakemake_internals.is_forced(workflow, path):
        if snakemake_internals.has_finished(workflow, path):
            MADE.add(path)
        else:
            snakemake_internals.outputs_of(checkpoints).discard(path)


def inventory_rows():
    """The rows of the inventory, once it is up to date."""
    # name each checkpoint waited for: Snakemake re-evaluates only what waits for it
    compared()
    expect(INVENTORY)
    checkpoints.inventory.get()
    check_disk()
    return read_inventory(INVENTORY)


def cor_table(wildcards=None):
    """The path of cor.json, once it is up to date."""
    if SENT:
        return COR_TABLE
    expect(INVENTORY)
    expect(COR_TABLE)
    ready = not SUSPECTS and {INVENTORY, COR_TABLE} <= snakemake_internals.outputs_of(checkpoints)
    if not ready:
        compared()
        # in this order, otherwise the second checkpoint counts as finished before its inputs are
        # known
        compared()
        checkpoints.inventory.get()
        checkpoints.resolve_cor.get()
    return COR_TABLE


@lru_cache(maxsize=4)
def read_json_at(path, mtime_ns):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_json(path):
    """Read JSON, cached by time as it is called once per job; {} if a file is damaged.

    A damaged one is made again, and then it is asked for once more.
    """
    try:
        return read_json_at(str(path), os.stat(path).st_mtime_ns)
    except (OSError, ValueError):
        return {}


def resolved():
    """The content of cor.json, {scan: {cor_px, source}}, of the selected scans.

    While an inventory has just changed, Snakemake also asks before cor.json has followed.
    """
    path = cor_table()
    times = (os.stat(path).st_mtime_ns, os.stat(INVENTORY).st_mtime_ns)
    return resolved_at(path, INVENTORY, times)


def cor_of(scan):
    """The COR of a scan and its source; none where the scan has just lost it.

    Jobs that were planned with an earlier cor.json are asked about once more before they go.
    """
    return resolved().get(scan, {"cor_px": None, "source": None})


@lru_cache(maxsize=4)
def resolved_at(path, inventory, times):
    rows = read_inventory(inventory)
    return {
        scan: entry
        for scan, entry in read_json(path).items()
        if scan in rows and CAMPAIGN.is_selected(scan, rows[scan]) and not WANTED.is_unproven(scan)
    }


def run_for(reason, outputs, *, even_missing=False):
    """Make a job run if there is a reason; Snakemake itself detects missing outputs."""
    forced = bool(reason) and (reason != MISSING or even_missing)
    snakemake_internals.force(workflow, outputs, run=forced)
    if reason:
        REASONS[outputs[0]] = reason


def decided(why, outputs, inputs, *, follows=False, **more):
    """Return the inputs of a job, after deciding whether its results are up to date.

    Their times decide nothing: inputs are ancient, unless the job runs, or one that it follows.
    `why` is a function: nodes, which decide nothing, need not know.
    """
    if not DECIDES:
        return inputs
    reason = why()
    run_for(reason, outputs, **more)
    return inputs if reason or follows else [ancient(path) for path in inputs]


begun_before = lru_cache(partial(begun, Logs(Path(LOGS.folder))))
ALONE_MS = 10**9  # CPU time of a job that has a submission of its own


@lru_cache(maxsize=None)
def was_killed_before(step, scan):
    """Whether the last run left a job without an end: killed, perhaps by another's."""
    return scan in begun_before(step) and has_no_end(Path(LOGS.log(step, scan)), since=0)


def cpu_ms_of(step):
    """The CPU time of a job, for the executor of SLURM: it shares submissions out by it."""

    def estimate(wildcards):
        scan = wildcards.scan
        if not (DECIDES and snakemake_internals.is_remote(workflow)):
            return 0
        if was_killed_before(step, scan):
            return ALONE_MS  # which shows whose fault it was
        n_bytes = CAMPAIGN.scans[scan].n_bytes or 0
        if step != "full_recon":
            return int(1000 * job_s(step, n_bytes))
        seconds = volume_s(shape_of(wildcards), CAMPAIGN.for_scan(scan).config.full_recon)
        return ALONE_MS if is_large(n_bytes) else int(min(1000 * seconds, ALONE_MS))

    return estimate


def gpus_to_ask_for(step, scan):
    """With device: auto jobs on one machine share its GPUs by themselves."""
    return int(getattr(CAMPAIGN.for_scan(scan).config, step).device == "cuda")


def uses_gpu(step, scan):
    """Whether a job requests a GPU: it then has its own submission."""
    return gpus_to_ask_for(step, scan) or snakemake_internals.asks_for(workflow, step, "gpu")


def raw(wildcards):
    return CAMPAIGN.scans[wildcards.scan].path


def known_inventory():
    # the file, not the checkpoint, which the Snakemake of a group on a node does not have
    return read_inventory(INVENTORY) if os.path.exists(INVENTORY) else None


def known():
    """A value that changes with the knowledge of raw files, which invalidates caches."""
    at_ns = os.stat(INVENTORY).st_mtime_ns if os.path.exists(INVENTORY) else 0
    return DECISIONS.n_comparisons, at_ns


WANTED = Wanted(CAMPAIGN, DECISIONS, known_inventory, known)

if DECIDES and not WATCHED:
    try:
        if not WANTED.why_inventory(INVENTORY):
            refuse_option_faults(CAMPAIGN, read_inventory(INVENTORY))
    except TomopipeError as error:
        sys.exit(f"tomopipe: {error}")


def reading_options(scan, *blocks):
    """Options of a step that reads a scan: these blocks, input and preprocess."""
    return CAMPAIGN.for_scan(scan).config.as_json("input", "preprocess", *blocks)


def predictions_of(scans):
    """The files of predict_cor that the run makes of these scans, or has made."""
    return [path for scan in WANTED.to_search(scans) for path in OUTPUTS.of_predict_cor(scan)]


def predictions_of_all(wildcards):
    return predictions_of(CAMPAIGN.selected_scans(inventory_rows()))


def scans_by_series():
    inventory_rows()
    return WANTED.series()


def fix_tables(wildcards=None):
    return list(map(OUTPUTS.fix_table, scans_by_series()))


@lru_cache(maxsize=None)
def read_fix_table(path, mtime_ns):
    return {row["scan"]: row for row in read_tsv(path, ("scan",))}


def fix_table_of(scan):
    return OUTPUTS.fix_table(encode_series(CAMPAIGN.scans[scan].series))


def fixed_row(scan):
    """The row of a scan in the table of its series; None without one."""
    path = fix_table_of(scan)
    try:
        return read_fix_table(path, os.stat(path).st_mtime_ns).get(scan)
    except FileNotFoundError:
        return None


def prediction_of(scan):
    """The content of prediction.json; None for a scan whose job failed finally."""
    path = OUTPUTS.prediction(scan)
    if scan in CAMPAIGN.failures or not os.path.exists(path):
        return None
    return read_json(path)


def shape_of(wildcards, rows=None):
    """Angles, rows and columns of a scan from the inventory."""
    row = (rows or inventory_rows())[wildcards.scan]
    return tuple(int(row[name]) for name in ("n_angles", "n_rows", "n_cols"))
