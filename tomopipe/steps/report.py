"""Report: one self-contained page about the existing results of a campaign."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tomopipe.campaign import slurm
from tomopipe.report.collected_records import collect
from tomopipe.report.efficiency import efficiency
from tomopipe.report.render import write_page
from tomopipe.volumes.volume import read_mid_planes, read_provenance

_log = logging.getLogger(__name__)


def report(
    output: str | os.PathLike[str],
    *,
    results: str | os.PathLike[str],
    logs: str | os.PathLike[str],
    campaign_name: str,
    scans: Iterable[Mapping[str, Any]],
    config: Mapping[str, Any],
    stacks: Iterable[Mapping[str, Any]] = (),
    unread: str = "",
) -> list[str]:
    """Build the page from the existing results, of an incomplete or broken campaign, too.

    Reads small files, a few try slices, and the mid planes stored in the volumes; never raw data,
    never a volume. With SLURM's accounting, the usage of jobs is read from sacct.

    Parameters
    ----------
    output : path-like
        The page. Beside it are pictures.json (the list of pictures, to reuse them) and, above 200
        scans, the folder of pictures.
    results, logs : path-like
        The folders of results and of logs; the latter is in the campaign folder.
    campaign_name : str
        The title.
    scans : iterable of dict
        The scans of the campaign: scan, path, series, index, select, manual, warnings.
    config : mapping
        The complete config, one block per step.
    stacks : iterable of dict
        The stacks of the campaign: name, scans, problem.
    unread : str
        Why the stacks could not be determined, or empty.

    Returns
    -------
    list of str
        Files missing from the page because of system errors, which may be temporary.
    """
    campaign = collect(
        results,
        logs,
        campaign_name=campaign_name,
        scans=scans,
        config=config,
        stacks=stacks,
        unread=unread,
    )
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
