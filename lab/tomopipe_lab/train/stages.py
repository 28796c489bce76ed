"""Stages simulate and features: one scan at a time, each a file, on all cores."""

from pathlib import Path

import numpy as np

from tomopipe.cor.ai.network import Inputs, make_inputs
from tomopipe.cor.collected_rows import read_rows, write_rows
from tomopipe.cor.curves import Curves
from tomopipe.cor.prepared import Prepared
from tomopipe.storage.atomic import whole
from tomopipe_lab.train.pool import in_processes
from tomopipe_lab.train.work import (
    SPLITS,
    WIDE_COLS,
    Plan,
    Progress,
    Truth,
    names,
    read_truth,
    write_truth,
)

_ARRAYS = ("cor_px", "grid", "scan")
_FIRST_WIDE = 500_000  # seeds of the split validation that its own scans do not reach


def simulate(work: Path, plan: Plan, cores: int, progress: Progress) -> None:
    """Make the scans of a plan that are not there yet.

    Parameters
    ----------
    work : path
        The work folder.
    plan : Plan
        How many, and of which seed.
    cores : int
        Processes.
    progress : callable
        Told of each scan.
    """
    jobs = [
        (work, plan, split, number)
        for split in SPLITS
        for number in range(plan.size(split))
        if not (work / "rows" / split / f"{_name(number)}.json").is_file()
    ]
    in_processes(_simulate_one, jobs, cores, progress, "simulate", sum(map(plan.size, SPLITS)))


def features(work: Path, cores: int, progress: Progress) -> None:
    """Make the network's input of all scans that have none yet.

    Parameters
    ----------
    work : path
        The work folder, with rows of simulated or real scans.
    cores : int
        Processes.
    progress : callable
        Told of each scan.
    """
    every = [(split, name) for split in SPLITS for name in names(work, split)]
    jobs = [
        (work, split, name)
        for split, name in every
        if not (work / "features" / split / f"{name}.npz").is_file()
    ]
    in_processes(_features_one, jobs, cores, progress, "features", len(every))


def read_features(path: Path) -> Inputs:
    """Read the input of one scan."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in _ARRAYS}
    return Inputs(**arrays | {"grid": arrays["grid"].astype(np.float32)})


def curves_of(path: Path) -> Curves:
    """Return the curves of rows."""
    return Curves(Prepared(read_rows(path).plain()))


def _simulate_one(work: Path, plan: Plan, split: str, number: int) -> None:
    """Draw one scan; its seed is that of the plan and its number."""
    from tomopipe_lab.suite import NULLS, make_case

    rng = np.random.default_rng((plan.seed, SPLITS[split], number))
    null = rng.random() < plan.null_share
    condition = str(rng.choice(NULLS)) if null else None
    wide = split == "wide"
    low, high = WIDE_COLS if wide else plan.n_cols
    case = make_case(
        "validation" if wide else split,
        plan.seed * 1_000_000 + _FIRST_WIDE * wide + number,
        condition=condition,
        n_cols=int(rng.integers(low, high + 1)) if high else None,
    )
    folder = work / "rows" / split
    write_rows(case.rows, folder / f"{_name(number)}.h5")
    truth = Truth(_name(number), case.cor_px, case.family, tuple(case.conditions))
    write_truth(truth, folder / f"{_name(number)}.json")


def _features_one(work: Path, split: str, name: str) -> None:
    curves = curves_of(work / "rows" / split / f"{name}.h5")
    inputs = make_inputs(curves)
    arrays = {key: getattr(inputs, key) for key in _ARRAYS}
    arrays["grid"] = inputs.grid.astype(np.float16)  # three digits are what curves carry
    with whole(work / "features" / split / f"{name}.npz") as path, path.open("wb") as file:
        np.savez(file, **arrays)


def _name(number: int) -> str:
    return f"{number:06d}"


def truths(work: Path, split: str) -> list[Truth]:
    """Return what is known of the scans of a split whose features are there, by name."""
    made = names(work, split, "features", ".npz")
    return [read_truth(work / "rows" / split / f"{name}.json") for name in made]
