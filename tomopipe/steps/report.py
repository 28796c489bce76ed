"""Report: one self-contained page about the existing results of a campaign."""

import logging
import os
from dataclasses import replace
from typing import Any

from tomopipe.campaign import slurm
from tomopipe.report.collected_records import collect
from tomopipe.report.efficiency import efficiency
from tomopipe.report.render import write_page
from tomopipe.volumes.volume import read_mid_planes, read_provenance

_log = logging.getLogger(__name__)


def report(output: str | os.PathLike[str], **known: Any) -> list[str]:
    """Build the page from the existing results, of an incomplete or broken campaign, too.

    Reads small files, a few try slices, and the mid planes stored in the volumes; never raw data,
    never a volume. With SLURM's accounting, the usage of jobs is read from sacct.

    Parameters
    ----------
    output : path-like
        The page. Beside it are pictures.json (the list of pictures, to reuse them) and, above 200
        scans, the folder of pictures.
    known
        As for `tomopipe.report.collected_records.collect`.

    Returns
    -------
    list of str
        Files missing from the page because of system errors, which may be temporary.
    """
    campaign = collect(**known)
    found = efficiency(campaign.allocations, slurm.usages(campaign.allocations))
    if found:  # it has whole submissions, with idle resources
        campaign = replace(campaign, efficiency=found)
    for note in campaign.notes:
        _log.warning("%s: not in the report: %s", note.path, note.problem)
    notes = write_page(
        campaign, output, read_planes=read_mid_planes, read_provenance=read_provenance
    )
    counts = ", ".join(f"{n} {state}" for state, n in campaign.counts.items() if n)
    _log.info("%s: %d scans: %s", output, len(campaign.scans), counts or "none")
    return sorted({note.path for note in notes if note.again})
