"""Report: one self-contained page about whatever exists of a campaign."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tomopipe.campaign import slurm
from tomopipe.report.collect import collect
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
    """Build the page from whatever exists: a whole campaign, half of one, or a broken one.

    Reads small files, a few try slices, and the mid planes stored in the volumes; never raw data,
    never a volume. Where SLURM keeps accounts, its sacct is asked what the jobs used.

    Parameters
    ----------
    output : path-like
        The page. Beside it lie pictures.json (what was made, to make it once) and, above
        200 scans, the folder of pictures.
    results, logs : path-like
        The folders of results and of logs; the latter lies in the campaign folder.
    campaign_name : str
        The title.
    scans : iterable of dict
        The scans of the campaign: scan, path, series, index, select, manual.
    config : mapping
        The complete config, one block per step.
    stacks : iterable of dict
        The stacks of the campaign: name, scans, problem.
    unread : str
        Why the stacks could not be worked out, if they could not.

    Returns
    -------
    list of str
        Files that the system did not let be read, and may the next time: the page lacks them.
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
    if found:  # it knows of whole submissions, and what idles in them
        campaign = replace(campaign, efficiency=found)
    for note in campaign.notes:
        _log.warning("%s: not in the report: %s", note.path, note.problem)
    notes = write_page(
        campaign, output, read_planes=read_mid_planes, read_provenance=read_provenance
    )
    counts = ", ".join(f"{n} {state}" for state, n in campaign.counts.items() if n)
    _log.info("%s: %d scans: %s", output, len(campaign.scans), counts or "none")
    return sorted({note.path for note in notes if note.again})
