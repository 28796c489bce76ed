"""Report: one self-contained page about the existing results of a campaign."""

import logging
import os
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.report.collected_records import collect
from tomopipe.report.render import write_page

_log = logging.getLogger(__name__)


def report(output: str | os.PathLike[str], campaign: Campaign, **more: Any) -> list[str]:
    """Build the page from the existing results, of an incomplete or broken campaign, too.

    Reads small files, a few try slices, and the mid planes stored in the volumes; never raw data,
    never a volume. `more` is as for `tomopipe.report.collected_records.collect`.

    Beside the campaign's own page are pictures.json (the list of pictures, to reuse them) and,
    above 200 scans, the folder of pictures and rows.txt (rows and cards, to reuse them); a page
    elsewhere has them only above 200. Returns the files missing from it because of system errors,
    which may be temporary.
    """
    record = collect(campaign, points=True, **more)
    for note in record.notes:
        _log.warning("%s: not in the report: %s", note.path, note.problem)
    notes = write_page(record, output, campaign.files.report.parent)
    counts = ", ".join(f"{n} {state}" for state, n in record.counts.items() if n)
    _log.info("%s: %d scans: %s", output, len(record.scans), counts or "none")
    return sorted({note.path for note in notes if note.again})
