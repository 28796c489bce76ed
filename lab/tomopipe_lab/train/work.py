"""The work folder of a training: what is to be done, and where things go.

plan.json                         what was asked for
rows/<split>/<name>.h5, .json     rows of a scan as try_recon keeps them, and its truth
features/<split>/<name>.npz       input of the network
refined/<split>/<name>.json       classical refinement around the CORs asked for so far
nets/A.safetensors, .json         the trained network with its card
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.errors import TomopipeError
from tomopipe.storage.atomic import write_json

SPLITS = {"train": 0, "validation": 1, "wide": 3}
"""Of scans, each with its part in their seeds."""
WIDE_COLS = 512, 1536  # as detectors have: a binned pixel is several of theirs
Progress = Callable[[str, int, int], None]
"""Told the stage, how many are done and how many there are."""


@dataclass(frozen=True)
class Plan:
    """What a training is made of; equal plans give equal networks.

    Attributes
    ----------
    seed : int
        Of scans, order and weights.
    n_train, n_validation : int
        Simulated scans.
    n_wide : int
        More to validate on, of wide detectors: the confidence is calibrated on both.
    null_share : float
        Share of scans without an answer, in each split.
    n_cols : tuple of int
        Least and greatest detector width; 0, 0: as the suite draws it.
    width : int
        Channels of the network along the COR axis.
    epochs : int
        Passes over the scans.
    """

    seed: int = 1
    n_train: int = 2400
    n_validation: int = 1000
    n_wide: int = 200
    null_share: float = 0.12
    n_cols: tuple[int, int] = (0, 0)
    width: int = 24
    epochs: int = 40

    def size(self, split: str) -> int:
        """Return the number of scans of a split."""
        return int(getattr(self, f"n_{split}"))


QUICK = Plan(
    n_train=48, n_validation=24, n_wide=0, null_share=0.1, n_cols=(96, 128), width=12, epochs=12
)


@dataclass(frozen=True)
class Truth:
    """What is known of one scan.

    Attributes
    ----------
    name : str
        Of the scan.
    cor_px : float or None
        The COR, unbinned px; None: it has none.
    family : str
        Kind of object.
    conditions : tuple of str
        Damage and mode.
    """

    name: str
    cor_px: float | None
    family: str = ""
    conditions: tuple[str, ...] = ()


def start(work: Path, plan: Plan) -> None:
    """Begin a work folder, or check that it was begun with the same plan.

    Parameters
    ----------
    work : path
        The folder; made if missing.
    plan : Plan
        What to do. More scans than before are added to those that are there.

    Raises
    ------
    TomopipeError
        If the folder was begun with another seed, size or share.
    """
    path = work / "plan.json"
    stated = json.loads(json.dumps(asdict(plan)))
    if path.is_file():
        before = json.loads(path.read_text("utf-8"))
        for key in ("seed", "null_share", "n_cols"):
            if before.get(key) != stated[key]:
                raise TomopipeError(
                    f"{path}: begun with {key} {before.get(key)!r}, now {stated[key]!r}. "
                    "Use the same options, or another folder."
                )
    write_json(stated, path)


def names(work: Path, split: str, kind: str = "rows", ending: str = ".json") -> list[str]:
    """Return the names of the scans of a split that are there, sorted."""
    there = (work / kind / split).glob(f"*{ending}")
    # files that are being written begin with a dot
    return sorted(path.stem for path in there if not path.name.startswith("."))


def write_truth(truth: Truth, path: Path) -> None:
    """Write what is known of a scan beside its rows."""
    write_json(asdict(truth), path)


def read_truth(path: Path) -> Truth:
    """Read what `write_truth` wrote.

    Raises
    ------
    TomopipeError
        If it does not tell a COR or null.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        cor_px = data["cor_px"]
        known = cor_px is None or bool(np.isfinite(float(cor_px)))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TomopipeError(f'{path}: expected {{"cor_px": number or null}}; {error!r}.') from None
    if not known:
        raise TomopipeError(f"{path}: expected a finite cor_px or null; got {cor_px}.")
    return Truth(
        name=path.stem,
        cor_px=None if cor_px is None else float(cor_px),
        family=str(data.get("family", "")),
        conditions=tuple(map(str, data.get("conditions", ()))),
    )
