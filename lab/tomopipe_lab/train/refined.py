"""Classical refinement around the positions that a network chooses, kept beside the features."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.ai.finder import Refinement, combined_px, confidence_features, refine_near
from tomopipe.cor.ai.network import NetworkOutput
from tomopipe.storage.atomic import write_json
from tomopipe_lab.train.data import Example
from tomopipe_lab.train.pool import in_processes
from tomopipe_lab.train.stages import curves_of
from tomopipe_lab.train.work import Progress

_SAME = 1.5  # samples of the grid: positions as close as that refine to the same COR


@dataclass(frozen=True, eq=False)
class Choice:
    """What a network chose for one scan, refined.

    Attributes
    ----------
    cor_px : float
        The estimate.
    error_px : float
        Its distance from the truth; infinite where there is none.
    confidence_features : ndarray of float64
        Of `tomopipe.cor.ai.finder.confidence_features`.
    """

    cor_px: float
    error_px: float
    confidence_features: NDArray[np.float64]


def choices(
    work: Path,
    split: str,
    examples: list[Example],
    outputs: list[NetworkOutput],
    cores: int,
    progress: Progress,
) -> list[Choice]:
    """Refine what a network chose.

    Parameters
    ----------
    work : path
        The work folder.
    split : str
        Of the examples.
    examples, outputs : list
        Scans, and the output of a network for each.
    cores : int
        Processes.
    progress : callable
        Told how many are refined.

    Returns
    -------
    list of Choice
        One for each example.
    """
    jobs = []
    for example, output in zip(examples, outputs, strict=True):
        cor_px = example.inputs.cor_px
        near_px, step_px = float(cor_px[output.index]), float(cor_px[1] - cor_px[0])
        if _kept(work, split, example.truth.name, near_px, step_px) is None:
            jobs.append((work, split, example.truth.name, near_px))
    in_processes(_refine_one, jobs, cores, progress, f"refine {split}", len(examples))
    return [
        _choice(work, split, example, output)
        for example, output in zip(examples, outputs, strict=True)
    ]


def _choice(work: Path, split: str, example: Example, output: NetworkOutput) -> Choice:
    cor_px = example.inputs.cor_px
    near_px, step_px = float(cor_px[output.index]), float(cor_px[1] - cor_px[0])
    refinement = _kept(work, split, example.truth.name, near_px, step_px) or Refinement({}, None)
    best_px = combined_px(example.inputs, output, refinement)
    truth_px = example.truth.cor_px
    error_px = float("inf") if truth_px is None else abs(best_px - truth_px)
    return Choice(best_px, error_px, confidence_features(example.inputs, output, refinement))


def _path(work: Path, split: str, name: str) -> Path:
    return work / "refined" / split / f"{name}.json"


def _read(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text("utf-8"))) if path.is_file() else []


def _kept(work: Path, split: str, name: str, near_px: float, step_px: float) -> Refinement | None:
    """Return the refinement next to this position; None if there is none yet."""
    for kept in _read(_path(work, split, name)):
        if abs(kept["near_px"] - near_px) <= _SAME * step_px:
            rotation = kept["rotation"]
            return Refinement(kept["all_px"], None if rotation is None else tuple(rotation))
    return None


def _refine_one(work: Path, split: str, name: str, near_px: float) -> None:
    refinement = refine_near(curves_of(work / "rows" / split / f"{name}.h5"), near_px)
    path = _path(work, split, name)
    kept = asdict(refinement)
    write_json([*_read(path), {"near_px": near_px, **kept}], path)
