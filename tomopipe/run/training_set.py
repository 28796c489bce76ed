"""Training sets of accepted CORs for `tomopipe lab train`, from `tomopipe cor export`.

A set is a folder with <scan>.h5, the rows.h5 of the scan, and <scan>.json, {"cor_px": number}.
"""

import shutil
from pathlib import Path

from tomopipe.campaign.files import Files
from tomopipe.storage.atomic import whole, write_json


def write_set(cors: dict[str, float], files: Files[Path], folder: Path) -> int:
    """Write a set from the results of a campaign.

    Parameters
    ----------
    cors : dict
        Accepted COR of each scan, unbinned px.
    files : Files
        Results of the campaign.
    folder : path
        The set; scans of an earlier one stay.

    Returns
    -------
    int
        Scans written; those without rows.h5 are skipped.
    """
    n = 0
    for scan, cor_px in cors.items():
        rows = files.rows(scan)
        if not rows.is_file():
            continue
        with whole(folder / f"{scan}.h5") as temporary:
            shutil.copyfile(rows, temporary)
        write_json({"cor_px": cor_px}, folder / f"{scan}.json")
        n += 1
    return n
