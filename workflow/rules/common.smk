# A receipt, results/made/<step>/<key>.json, is the output of a rule: it states what a result was
# made from. Its key is a scan, series or stack, else "campaign". The results are params, as times
# of outputs would count for Snakemake: params are what a job reads, its options, and what it makes.
# How a run is decided: while the rules are read, and again after the tables `inventory` and
# `resolve_cor`, all results are settled (tomopipe/reruns/settle.py). Each is compared with what it
# should be made from, and the receipts of those that are due are removed: Snakemake makes what is
# missing. The times of receipts say nothing, so as inputs they are `ancient`. Only the main process
# settles; jobs, also on nodes of a cluster, get their params and resources from it. The script of a
# rule makes the results, and last the receipt, from `provenance` (tomopipe/reruns/making.py).
# More in docs/explanation/reruns.md.
import os
import sys

try:
    from tomopipe.run import beginning, command_line, job_resources, progress, targets
except ModuleNotFoundError as error:
    sys.exit(
        f"tomopipe: {sys.executable} has no module {error.name}. Type `make demo` in tomopipe's "
        "folder (Snakemake is then .venv/bin/snakemake), or there pip install ."
    )
except KeyboardInterrupt:
    sys.exit("tomopipe: stopped before the run began.")
from tomopipe.campaign.files import LOGS
from tomopipe.storage import run_folder

CAMPAIGN, SETTLED = beginning.begin_or_exit(config)  # SETTLED is None on a node
OUTPUTS = CAMPAIGN.outputs
is_whole_run = False  # whether the targets are all results (end.smk)
# a run that `tomopipe run` starts omits what is up to date: its graph is as large as the work
IS_LEAN = progress.is_read() and command_line.executes() and command_line.is_plain()
FOLLOWED = targets.followed_steps()  # of -R and -f: Snakemake follows no ancient input


envvars:
    *beginning.VARIABLES,


wildcard_constraints:
    scan=r"[^/]+",
    series=r"[^/]+",
    stack=r"[^/]+",


def receipt(step, key="campaign"):
    """The receipt of a result."""
    return OUTPUTS.receipt(step, key)


def used(step, key):
    """The receipt of a result, as an input."""
    return receipt(step, key) if step in FOLLOWED else ancient(receipt(step, key))


def receipts(step, keys=("campaign",)):
    """The receipts of results, as inputs; for `tomopipe run` those that are missing."""
    made = SETTLED.receipts_of(step) if IS_LEAN else ()
    return [used(step, key) for key in keys if key not in made]


def settled_after(table):
    """The decision after `inventory`, or after `resolve_cor` if the run needs CORs from it."""
    global SETTLED
    if table == "resolve_cor" and not settled_after("inventory").needed.has_unknown_cors:
        return SETTLED
    if not targets.is_cut(SETTLED):
        getattr(checkpoints, table).get()
    if SETTLED.pending == table and os.path.lexists(receipt(table)):  # 9.20 asks once too early
        SETTLED = beginning.settle_again(SETTLED, table)
        beginning.report_totals(SETTLED, is_whole=is_whole_run)
    if is_whole_run:
        beginning.check_disk(CAMPAIGN)
    return SETTLED


def table(name):
    """The receipt of `inventory` or `resolve_cor`, as the input of a job that uses the table."""

    def receipt_of_table(wildcards):
        if command_line.is_job():
            return []
        targets.refuse_unknown(SETTLED, name, wildcards)
        settled = settled_after(name)
        step = name if settled.needed.has_unknown_cors else "inventory"
        return [] if targets.is_cut(settled) else ancient(receipt(step))

    return receipt_of_table


def param(name):
    """A parameter of a job, by its receipt (tomopipe/reruns/parameters.py)."""
    return lambda w, output: job_resources.param(SETTLED, output.receipt, name)


def requested(step, name):
    """A number that a job requests, such as its threads (tomopipe/run/job_resources.py)."""
    return lambda w, attempt: job_resources.number(SETTLED, step, w[0], attempt, name)


def requests(step, batch=0, **more):
    """The resources of a job, of which at most `batch` share a submission to SLURM."""

    def time(of):
        return lambda w, attempt, threads: attempt * of(SETTLED, step, w[0], threads)

    numbers = {name: requested(step, name) for name in ("mem_mb", *more)}
    numbers["runtime"] = time(job_resources.runtime_min)
    if batch:
        cpu_ms = lambda w: job_resources.cpu_ms(SETTLED, step, w[0])
        numbers |= {"batch": batch, "wall_s": time(job_resources.wall_s), "cpu_ms": cpu_ms}
    return numbers
