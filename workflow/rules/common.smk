import os
import sys
import time
from functools import partial
from pathlib import Path

try:
    from tomopipe.run import beginning, job_resources, launch, progress
except ModuleNotFoundError as error:
    sys.exit(
        f"tomopipe: {sys.executable} has no module {error.name}. Type `make demo` in tomopipe's "
        "folder (Snakemake is then .venv/bin/snakemake), or there pip install ."
    )
except KeyboardInterrupt:
    sys.exit("tomopipe: stopped before the run began.")
from tomopipe.campaign.files import LOGS
from tomopipe.storage.lock import FILES
from tomopipe.campaign.raw_files import encode_series
from tomopipe.errors import TomopipeError
from tomopipe.reruns.parameters import parameters, why_none
from tomopipe.storage import run_folder

START_TIME = time.time()
os.environ.setdefault(run_folder.VARIABLE, "")
os.environ.setdefault(FILES, "")


envvars:
    run_folder.VARIABLE,
    FILES,


# the main process decides; a node has its jobs as they were sent
IS_MAIN = not launch.is_job()
try:
    CAMPAIGN = beginning.begin(config, Path.cwd(), is_main=IS_MAIN)
    SETTLED = beginning.settle(CAMPAIGN) if IS_MAIN else None
except (TomopipeError, KeyboardInterrupt) as error:
    sys.exit(f"tomopipe: {str(error) or 'stopped before the run began.'}")

OUTPUTS = CAMPAIGN.outputs
MAKES_ALL = []  # whether rule all is part of the run
# a run that `tomopipe run` starts omits what is up to date: its graph is as large as the work
IS_LEAN = progress.is_read() and launch.executes() and not (launch.forces() or launch.cuts())


wildcard_constraints:
    scan=r"[^/]+",
    series=r"[^/]+",
    stack=r"[^/]+",


# Snakemake follows a forced job through no ancient input that exists
FOLLOWED = beginning.followed_steps()

NAMES = {
    "scan": CAMPAIGN.scans,
    "series": {encode_series(scan.series) for scan in CAMPAIGN.scans.values()},
    "stack": CAMPAIGN.config.stitch.stacks,
}


def after(table):
    """The decision on all results; once a table that it waited for has been made, a new one."""
    global SETTLED
    if not beginning.is_cut(SETTLED):
        getattr(checkpoints, table).get()
    if SETTLED.pending == table and os.path.lexists(made(table)):  # 9.20 asks once too early
        SETTLED = beginning.settle_again(SETTLED, table)
        beginning.report_totals(SETTLED, MAKES_ALL)
    if MAKES_ALL:
        beginning.check_disk(CAMPAIGN)
    return SETTLED


def after_inventory():
    return after("inventory")


def after_cors():
    after("inventory")
    return after(table_of_cors())


def table_of_cors():
    """The table with all CORs that the run needs, once there is an inventory."""
    return "resolve_cor" if SETTLED.needed.has_unknown_cors else "inventory"


def made(step, key="campaign"):
    """The receipt of a result: for Snakemake, which needs to know no more."""
    return OUTPUTS.receipt(step, key)


def used(step, key):
    """The receipt of a result that a job uses: its time says nothing, as what is due has none."""
    return made(step, key) if step in FOLLOWED else ancient(made(step, key))


def needed(step, keys=("campaign",)):
    """The receipts of results that a job uses; for `tomopipe run` those that are missing."""
    return [used(step, key) for key in keys if not (IS_LEAN and os.path.lexists(made(step, key)))]


def refuse_unknown(wildcards, step):
    """End this call if it asks for the result of a scan, series or stack that does not exist."""
    for kind, name in wildcards.items():
        if name not in NAMES[kind]:
            sys.exit(f"tomopipe: no {kind} {name} in the campaign {Path.cwd()}")
        if not SETTLED.made and (fault := why_none(SETTLED, step, name)):
            sys.exit(f"tomopipe: {fault}")


def table_receipt(table, wildcards):
    """The receipt of a table, of which a job uses the row of its scan."""
    if not IS_MAIN:
        return []
    refuse_unknown(wildcards, "try_recon" if table == "inventory" else "full_recon")
    after_inventory()
    table = "inventory" if table == "inventory" else table_of_cors()
    after(table)
    return [] if beginning.is_cut(SETTLED) else ancient(made(table))


def job(step):
    """The parameters of a step's job (`tomopipe.reruns.parameters`); on a node as they were sent."""

    def of_job(wildcards, threads):  # with `threads` Snakemake compares it with no earlier one
        key = next(iter(wildcards), "campaign")
        if not IS_MAIN:
            return job_resources.sent(step, key)["job"]
        refuse_unknown(wildcards, step)
        return parameters(SETTLED, step, key)

    return of_job


def asks(step, name):
    """What a job asks for (`tomopipe.run.job_resources`); on a node as it was sent."""

    def of_job(wildcards, attempt):
        key = next(iter(wildcards))
        if not IS_MAIN:
            return job_resources.sent(step, key)[name]
        refuse_unknown(wildcards, step)
        numbers = job_resources.request(SETTLED, step, key, attempt)
        return numbers.get(name, int(name == "threads"))

    return of_job


def cpu_ms(step):
    """The CPU time of a job, by which the executor of SLURM packs submissions."""
    return lambda wildcards: job_resources.cpu_ms(SETTLED, step, wildcards[0]) if IS_MAIN else 0


def takes(time, step):
    """What a cluster is asked for: `runtime_min`, or `wall_s` beside jobs of one submission."""

    def of_job(wildcards, attempt, threads):
        return attempt * time(SETTLED, step, wildcards[0], threads) if IS_MAIN else 0

    return of_job
