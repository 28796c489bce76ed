"""What `tomopipe run` asks Snakemake for: volumes of some scans, predictions, or nothing."""

import gc
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tomopipe.campaign.campaign import Campaign, campaign_from_data, load_campaign
from tomopipe.campaign.files import CONFIG
from tomopipe.campaign.selection import scans_of
from tomopipe.campaign.step_files import closed_folders
from tomopipe.config.parse import read_document
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.reruns.parameters import why_none
from tomopipe.reruns.receipts import Receipts
from tomopipe.reruns.settle import Settled
from tomopipe.storage.checksums import quick_state

_MANY = 500  # scans of which a decision takes longer than the start of Snakemake


class Request(NamedTuple):
    """What a run makes."""

    scans: list[str]  # scans that get a volume; none: predictions alone
    receipts: list[str]  # targets of Snakemake
    event: dict[str, Any]  # its jobs, for those who follow it (`planned_work`)
    left_out: list[str]  # why other scans can have no result


def request_of(campaign: Campaign, words: Sequence[str], predict: Sequence[str] = ()) -> Request:
    """Return what a run makes for the scans that `words` name, or that `predict` names."""
    from tomopipe.run.job_resources import planned_work  # slow to load

    receipt = campaign.outputs.receipt
    # Snakemake evaluates what follows a checkpoint only if that is a target, too
    if predict:
        scans, left_out = _possible(Settled(campaign), scans_of(campaign, predict), "predict_cor")
        receipts = [receipt("inventory"), *(receipt("predict_cor", scan) for scan in scans)]
        return Request([], receipts, {}, left_out)
    settled, left_out = settled_for(campaign, words)
    table = receipt("resolve_cor" if settled.needed.has_unknown_cors else "inventory")
    scans = [*settled.volumes_of]
    receipts = [table, *(receipt("full_recon", scan) for scan in scans)]
    return Request(scans, receipts, planned_work(settled), left_out)


def settled_for(campaign: Campaign, words: Sequence[str]) -> tuple[Settled, list[str]]:
    """Return the decision on a run for the volumes of the scans that words name.

    Also why some of them can have none: these are left out. TomopipeError if none can.
    """
    scans = scans_of(campaign, words)
    settled = Settled(campaign, volumes_of=scans)
    possible, left_out = _possible(settled, scans, "full_recon")
    return Settled(campaign, volumes_of=possible) if left_out else settled, left_out


def _possible(settled: Settled, scans: Sequence[str], step: str) -> tuple[list[str], list[str]]:
    """Return the scans for which a step is possible, and why it is not for the others."""
    faults = {scan: fault for scan in scans if (fault := why_none(settled, step, scan))}
    if len(faults) == len(scans):
        raise TomopipeError("\n".join(faults.values()))
    return [scan for scan in scans if scan not in faults], [*faults.values()]


def finished_campaign(directory: Path, config: Path | None) -> Campaign | None:
    """Return the campaign if nothing is missing; None if a job is to run.

    Removed receipts of results are restored, and the new times of a copy recorded. None also if
    thousands of scans were edited since the last run: Snakemake's process then decides.
    """
    gc.disable()
    path = config or directory / CONFIG
    bare = campaign_from_data(read_document(path), directory, source=str(path), with_scans=False)
    if _is_edited(bare, path) and _has_many(bare):
        return None
    campaign = load_campaign(directory, config)
    settled = Settled(campaign, looks_ahead=False)
    gc.freeze()  # no garbage collection of what stays, also at the end of the process
    gc.enable()
    if not campaign.scans or settled.jobs:
        if fault := closed_folders(campaign):
            raise TomopipeError(fault)
        return None
    from tomopipe.run.upkeep import at_exit, renew_rot_cen

    with suppress(OSError):  # somebody else's campaign
        unconfirmed = settled.staleness.up_to_date.keys() - settled.staleness.confirmed
        if not all(_is_recorded(settled.receipts, *result) for result in unconfirmed):
            settled.act()
    renew_rot_cen(settled)
    at_exit(campaign, settled.receipts)
    return campaign


def _is_recorded(receipts: Receipts, step: str, key: str) -> bool:
    """Tell whether the present files of a result have the states recorded in its receipt."""
    files = receipt.files.items() if (receipt := receipts.of(step, key)) else [("", None)]
    return all(receipts.state(path) in (None, was) for path, was in files)


def _has_many(campaign: Campaign) -> bool:
    """Tell whether the last run had many scans."""
    with suppress(OSError):
        return no_pipe(campaign.files.inventory).read_bytes().count(b"\n") > _MANY
    return False


def _is_edited(campaign: Campaign, config: Path) -> bool:
    """Tell whether the campaign table or the configuration is younger than the last run."""
    states = map(quick_state, (campaign.table_path, config))
    last = quick_state(campaign.files.index)
    return last is not None and any(state and state[1] > last[1] for state in states)
