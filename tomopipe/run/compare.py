"""Compare files with their checksums if their time or inode changed, but not their size."""

import logging
import os

from tomopipe.campaign.campaign import Campaign
from tomopipe.run.products import Record, raw_differs
from tomopipe.storage import checksums
from tomopipe.storage.tables import write_tsv

COLUMNS = ("path", "difference")

log = logging.getLogger(__name__)


def compare(campaign: Campaign, output: str | os.PathLike[str], *, threads: int = 1) -> None:
    """Read all such files of a campaign, and write which have changed.

    A raw file that cannot be read is skipped: the next run compares it.

    Parameters
    ----------
    campaign : Campaign
        The campaign.
    output : path-like
        Table to write: `path`, and `difference`, empty where the content is the same.
    threads : int
        Threads that read.
    """
    record = Record(campaign.files.record, campaign.directory)
    suspects = record.suspects()
    rows = []
    for number, path in enumerate(suspects, start=1):
        product = record.products[path]
        if product.is_raw:
            other = raw_differs(record.path_of(path), product.checksum)
            if other is None:
                log.warning("%s: cannot be read, so it is not compared", path)
                continue
            difference = "other content than was read" if other else ""
        else:
            difference = checksums.matches(record.path_of(path), product.checksum, threads=threads)
        log.info("%d of %d: %s: %s", number, len(suspects), path, difference or "the same")
        rows.append({"path": path, "difference": difference})
    write_tsv(rows, COLUMNS, output)
