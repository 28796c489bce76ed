"""Failed scans that the next run tries again."""

from collections.abc import Sequence
from itertools import product

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import OF_SCANS, forget
from tomopipe.campaign.results import present_inventory
from tomopipe.campaign.selection import scans_of
from tomopipe.campaign.state.sentences import why_not_selected
from tomopipe.commands.clean import withdraw_removed
from tomopipe.errors import TomopipeError


def forget_failures(
    campaign: Campaign, names: Sequence[str], *, dry_run: bool = False
) -> tuple[list[str], list[str]]:
    """Remove the records of failures, and their predictions and stacks that failed.

    `names` are scans or patterns, none: all. Returns the scans that the next run tries again, and
    remarks on those that it does not select.
    """
    if stacks := sorted({*names} & {*campaign.config.stitch.names} - {*campaign.scans}):
        raise TomopipeError(
            f"{stacks[0]} is a stack; expected names of scans. The next run retries a failed "
            "stack: `tomopipe run`."
        )
    scans = scans_of(campaign, names)
    forgotten = forget(campaign.results, scans or campaign.scans, dry_run=dry_run)
    if not dry_run:
        withdraw_removed(campaign, product(OF_SCANS, forgotten))
    rows = present_inventory(campaign.files.inventory)
    why = {
        scan: why_not_selected(campaign.scans[scan].select, rows.get(scan))
        for scan in dict.fromkeys([*scans, *forgotten])
    }
    remarks = [f"{scan} is not selected: {why[scan]}" for scan in scans if why[scan]]
    return [scan for scan in forgotten if not why[scan]], remarks
