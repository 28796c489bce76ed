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
    """Write accepted CORs (unbinned px) and rows.h5 into a set; return the number of scans.

    Those without rows.h5 are skipped; scans of an earlier set in the folder stay.
    """
    there = [scan for scan in cors if files.rows(scan).is_file()]
    for scan in there if not dry_run else ():
        with whole(folder / f"{scan}.h5") as temporary:
            shutil.copyfile(files.rows(scan), temporary)
        write_json({"cor_px": cors[scan]}, folder / f"{scan}.json")
    return len(there)
