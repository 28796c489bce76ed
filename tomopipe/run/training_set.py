"""Training sets of accepted CORs for `tomopipe lab train`, from `tomopipe cor export`.

A set is a folder with <scan>.h5, the rows.h5 of the scan, and <scan>.json, {"cor_px": number}.
"""

import shutil
from pathlib import Path

from tomopipe.campaign.files import Files
from tomopipe.storage.atomic import whole, write_json


def write_set(
    cors: dict[str, float], files: Files[Path], folder: Path, *, dry_run: bool = False
) -> int:
    """Write a set from the results of a campaign.

    Parameters
    ----------
    cors : dict
        Accepted COR of each scan, unbinned px.
    files : Files
        Results of the campaign.
    folder : path
        The set; scans of an earlier one stay.
    dry_run : bool
        Write nothing.

    Returns
    -------
    int
        Scans written; those without rows.h5 are skipped.
    """
    there = [scan for scan in cors if files.rows(scan).is_file()]
    for scan in there if not dry_run else ():
        with whole(folder / f"{scan}.h5") as temporary:
            shutil.copyfile(files.rows(scan), temporary)
        write_json({"cor_px": cors[scan]}, folder / f"{scan}.json")
    return len(there)
