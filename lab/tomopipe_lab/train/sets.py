"""Sets of accepted CORs (`tomopipe cor export`), taken into the work folder of a training."""

import shutil
import zlib
from dataclasses import replace
from pathlib import Path

from tomopipe.cor.rows_file import read_rows
from tomopipe.errors import TomopipeError
from tomopipe.geometry import bin_cor
from tomopipe.storage.atomic import whole
from tomopipe_lab.train.work import Plan, Truth, read_truth, write_truth

_VALIDATION_OF = 4  # one scan in so many checks the others
LEAST = 24


def take_set(folder: Path, work: Path, plan: Plan) -> str:
    """Copy a set into a work folder, a quarter of it for validation, chosen by name.

    Parameters
    ----------
    folder : path
        The set.
    work : path
        The work folder.
    plan : Plan
        Its seed decides who validates.

    Returns
    -------
    str
        How many scans of each split, for people.

    Raises
    ------
    TomopipeError
        If there are too few scans, or rows of one are missing.
    """
    truths = [read_truth(path) for path in sorted(folder.glob("*.json"))]
    if len(truths) < LEAST:
        raise TomopipeError(
            f"{folder}: {len(truths)} scans with a COR, at least {LEAST} are needed. Make the set "
            "with `tomopipe cor export --format training`."
        )
    # by a hash of the name: scans of one series stand next to each other, and look alike
    order = sorted(truths, key=lambda truth: zlib.crc32(f"{plan.seed} {truth.name}".encode()))
    n_checks = len(order) // _VALIDATION_OF
    for i, truth in enumerate(order):
        rows = folder / f"{truth.name}.h5"
        if not rows.is_file():
            raise TomopipeError(f"{rows}: no such file beside {truth.name}.json.")
        target = work / "rows" / ("validation" if i < n_checks else "train")
        with whole(target / f"{truth.name}.h5") as temporary:
            shutil.copyfile(rows, temporary)
        write_truth(_in_rows(truth, rows), target / f"{truth.name}.json")
    return f"{len(order) - n_checks} scans to train on, {n_checks} to validate"


def _in_rows(truth: Truth, rows: Path) -> Truth:
    """Return a truth in columns of the rows that are kept, not of the whole detector."""
    if truth.cor_px is None:
        return truth
    return replace(truth, cor_px=float(bin_cor(truth.cor_px, x0=read_rows(rows).first_col)))
