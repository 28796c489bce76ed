"""What a run keeps up to date beside its jobs: receipts, and rot_cen.json of a moved campaign."""

import os
from contextlib import suppress

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.series import to_resolve
from tomopipe.errors import TomopipeError
from tomopipe.reruns.receipts import Receipts
from tomopipe.reruns.settle import Settled
from tomopipe.steps.resolve_cor import renew_paths


def at_exit(campaign: Campaign, receipts: Receipts, *, is_run: bool = False) -> None:
    """Save the receipts at the end of a run.

    The time of their index tells when a run last ended.
    """
    with suppress(OSError, TomopipeError):
        receipts.look_again()  # for those that jobs have written
        receipts.save()
        if is_run:
            os.utime(campaign.files.index)


def renew_rot_cen(settled: Settled) -> None:
    """Write rot_cen.json again for a campaign that was moved, unless a job writes it."""
    campaign, files, key = settled.campaign, settled.campaign.files, ("resolve_cor", "campaign")
    statement = None if key in settled.reasons else settled.staleness.up_to_date.get(key)
    with suppress(OSError, TomopipeError):
        scans = to_resolve(campaign, settled.rows) if statement else {}
        if statement and renew_paths(files.cor_table, files.rot_cen, scans):
            settled.receipts.write(*key, statement, settled.target.outputs(*key))
