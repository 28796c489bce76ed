"""Classical refinement around the places that a network chooses, kept beside the features."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.ai.closer import Closer, look_closer, place_px
from tomopipe.cor.ai.confidence import doubts
from tomopipe.cor.ai.judgement import Judgement
from tomopipe.storage.atomic import write_json
from tomopipe_lab.train.data import Example
from tomopipe_lab.train.pool import in_processes
from tomopipe_lab.train.stages import curves_of
from tomopipe_lab.train.work import Progress

_SAME = 1.5  # samples of the grid: places as close as that refine to the same


@dataclass(frozen=True, eq=False)
class Choice:
    """What a network chose for one scan, refined.

    Attributes
    ----------
    cor_px : float
        The estimate.
    error_px : float
        Its distance from the truth; infinite where there is none.
    doubts : ndarray of float64
        Of `tomopipe.cor.ai.confidence.doubts`.
    """

    cor_px: float
    error_px: float
    doubts: NDArray[np.float64]


def choices(
    work: Path,
    split: str,
    examples: list[Example],
    judgements: list[Judgement],
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
    examples, judgements : list
        Scans, and what a network said of each.
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
    for example, judgement in zip(examples, judgements, strict=True):
        cor_px = example.inputs.cor_px
        near_px, step_px = float(cor_px[judgement.index]), float(cor_px[1] - cor_px[0])
        if _kept(work, split, example.truth.name, near_px, step_px) is None:
            jobs.append((work, split, example.truth.name, near_px))
    in_processes(_refine_one, jobs, cores, progress, f"refine {split}", len(examples))
    return [
        _choice(work, split, example, judgement)
        for example, judgement in zip(examples, judgements, strict=True)
    ]


def _choice(work: Path, split: str, example: Example, judgement: Judgement) -> Choice:
    cor_px = example.inputs.cor_px
    near_px, step_px = float(cor_px[judgement.index]), float(cor_px[1] - cor_px[0])
    closer = _kept(work, split, example.truth.name, near_px, step_px) or Closer({}, None)
    best_px = place_px(example.inputs, judgement, closer)
    truth_px = example.truth.cor_px
    error_px = float("inf") if truth_px is None else abs(best_px - truth_px)
    return Choice(best_px, error_px, doubts(example.inputs, judgement, closer))


def _path(work: Path, split: str, name: str) -> Path:
    return work / "refined" / split / f"{name}.json"


def _read(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text("utf-8"))) if path.is_file() else []


def _kept(work: Path, split: str, name: str, near_px: float, step_px: float) -> Closer | None:
    """Return what a closer look next to this place found; None if nobody looked."""
    for kept in _read(_path(work, split, name)):
        if abs(kept["near_px"] - near_px) <= _SAME * step_px:
            rotation = kept["rotation"]
            rotation = None if rotation is None else tuple(rotation)
            return Closer(kept["fine_px"], rotation, kept.get("simplest_px"))
    return None


def _refine_one(work: Path, split: str, name: str, near_px: float) -> None:
    closer = look_closer(curves_of(work / "rows" / split / f"{name}.h5"), near_px)
    path = _path(work, split, name)
    kept = asdict(closer)
    kept["simplest_px"] = kept.pop("total_variation_px")  # as earlier versions named it
    write_json([*_read(path), {"near_px": near_px, **kept}], path)
