"""What the command line of a run asks for: its targets, and the steps that it forces or cuts."""

import os
import sys
from collections.abc import Collection, Mapping
from functools import cache
from itertools import takewhile
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import VOLUMES, encode_series
from tomopipe.errors import TomopipeError, scan_word
from tomopipe.reruns.parameters import why_none
from tomopipe.reruns.settle import Settled
from tomopipe.run import command_line
from tomopipe.workflow_steps import STEPS, TABLES


def refuse_volumes(campaign: Campaign) -> None:
    """Raise if a target is a volume, of which Snakemake would say only that no rule makes it."""
    for target in sys.argv[1:]:
        path = os.path.relpath(target) if target.endswith(tuple(VOLUMES.values())) else ""
        for scan in campaign.scans if path else ():
            if campaign.outputs.volume(scan, campaign.config.full_recon.output) == path:
                receipt = campaign.outputs.receipt
                raise TomopipeError(
                    f"{target}: expected the receipt of the volume as a target of Snakemake. Type: "
                    f"tomopipe run {scan_word(scan)}; or give snakemake the targets "
                    f"{receipt('resolve_cor')} and {receipt('full_recon', scan)}"
                )


def volumes_asked_for(campaign: Campaign) -> list[str]:
    """Return the scans whose volumes are all that this call asks for; [] for any other call."""
    out, words = campaign.outputs, {*sys.argv}
    scans = {path: s for s in campaign.scans if (path := out.receipt("full_recon", s)) in words}
    if not (scans and command_line.is_plain()):
        return []
    # without the tables nothing after a checkpoint can be a target
    return list(scans.values()) if _targets() <= {*map(out.receipt, TABLES)} | scans.keys() else []


def last_step(campaign: Campaign) -> str:
    """Return the step of all scans or series at which this call ends; "" for any other call."""
    steps = {"predictions": "predict_cor", campaign.outputs.receipt("resolve_cor"): "resolve_cor"}
    if steps.keys().isdisjoint(sys.argv) or not command_line.is_plain():
        return ""
    targets = _targets()
    return steps.get(targets.pop(), "") if len(targets) == 1 else ""


def _targets() -> set[str]:
    from snakemake.cli import get_argument_parser  # takes 0.3 s

    return {*get_argument_parser().parse_known_args(sys.argv[1:])[0].targets}


def refuse_unknown(settled: Settled, step: str, wildcards: Mapping[str, str]) -> None:
    """End a call that asks for the result of a scan, series or stack of which there is none.

    `step` makes it, or is the table that it needs.
    """
    if step in TABLES:
        step = next(n for n, each in STEPS.items() if each.key == "scan" and step in each.inputs)
    for kind, name in wildcards.items():
        if name not in _names(settled.campaign)[kind]:
            sys.exit(f"tomopipe: no {kind} {name} in the campaign {Path.cwd()}")
        if not settled.made and (fault := why_none(settled, step, name)):
            sys.exit(f"tomopipe: {fault}")


@cache
def _names(campaign: Campaign) -> dict[str, Collection[str]]:
    """Return the values that the wildcards of rules may have."""
    return {
        "scan": campaign.scans,
        "series": {encode_series(scan.series) for scan in campaign.scans.values()},
        "stack": campaign.config.stitch.names,
    }


def followed_steps() -> set[str]:
    """Return the steps that this call may force, and those that follow them."""
    words = sys.argv if command_line.forces() else []
    steps = {name for name in STEPS if any(name in word for word in words)}
    for name, step in STEPS.items():  # in their order
        if not steps.isdisjoint({*step.inputs} - TABLES):
            steps.add(name)
    return steps


def is_cut(settled: Settled | None) -> bool:
    """Tell whether a call that `cuts` needs no checkpoint, after which Snakemake is blind."""
    is_cut = command_line.cuts() and not command_line.forces()
    return is_cut and settled is not None and not settled.pending


def job_count() -> int:
    """Return how many jobs of another Snakemake this call runs, as on a node."""
    words = sys.argv[sys.argv.index("--target-jobs") + 1 :] if command_line.is_job() else []
    return len([*takewhile(lambda word: not word.startswith("-"), words)])
