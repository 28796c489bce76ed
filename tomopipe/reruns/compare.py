"""Compare files with their checksums if their time or inode changed, but not their size."""

import json
import logging
import os

from tomopipe.campaign.campaign import Campaign
from tomopipe.reruns.products import Record, raw_differs
from tomopipe.storage import checksums
from tomopipe.storage.tables import write_tsv

COLUMNS = ("path", "state", "difference")

log = logging.getLogger(__name__)


def compare(campaign: Campaign, output: str | os.PathLike[str], *, threads: int = 1) -> None:
    """Read all such files of a campaign, and write which have changed.

    The table has `path`, `state` of the file as it was read, and `difference`, empty where the
    content is the same. A raw file that cannot be read, or a file that changes meanwhile, is left
    to the next run.
    """
    record = Record(campaign.files.record, campaign.directory)
    suspects = record.suspects()
    rows = []
    for number, path in enumerate(suspects, start=1):
        product = record.products[path]
        state = record.now(product)
        if product.is_raw:
            other = raw_differs(record.path_of(path), product.checksum)
            if other is None:
                log.warning("%s: cannot be read, so it is not compared", path)
                continue
            difference = "other content than was read" if other else ""
        else:
            difference = checksums.matches(record.path_of(path), product.checksum, threads=threads)
        if state is None or record.now(product) != state:
            log.warning("%s: changed while it was compared: the next run compares it", path)
            continue
        log.info("%d of %d: %s: %s", number, len(suspects), path, difference or "the same")
        rows.append({"path": path, "state": json.dumps(state), "difference": difference})
    write_tsv(rows, COLUMNS, output)
