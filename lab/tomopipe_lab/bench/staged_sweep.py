"""A sweep in two stages: all CORs on a coarse sinogram, then a few at full size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.arrays import module_of, on_host
from tomopipe.geometry import bin_cor
from tomopipe.recon.plan import Plan, make_plan
from tomopipe.recon.sweep import sweep_batches
from tomopipe.recon.truncation import binned_edge_slopes

Score = Callable[[Any], Any]  # images (n, n_y, n_x) to numbers (n,), higher is better
LEAST_COLS = 128  # in the first stage
ANGLES_PER_COLUMN = 1.5  # kept by averaging where there are that many


@dataclass(frozen=True, eq=False)
class StagedSweep:
    """What a staged sweep found."""

    coarse_cor_px: NDArray[np.float64]  # all candidates
    coarse_score: NDArray[np.float64]
    fine_cor_px: NDArray[np.float64]  # ascending; those reconstructed at full size
    fine_score: NDArray[np.float64]

    @property
    def best_cor_px(self) -> float:
        """Candidate with the highest score at full size."""
        return float(self.fine_cor_px[np.argmax(self.fine_score)])


def staged_sweep(
    sinogram: Any,
    plan: Plan,
    cor_px: ArrayLike,
    score: Score,
    *,
    binning: int = 4,
    n_peaks: int = 3,
    n_fine: int = 16,
    threads: int | None = None,
) -> StagedSweep:
    """Find the best COR of a sinogram without reconstructing all of them at full size.

    Parameters
    ----------
    sinogram : array of float32, shape (n_angles, n_cols)
        Corrected sinogram.
    plan : Plan
        For the full size.
    cor_px : array_like of float, shape (n_cor,)
        Candidates, unbinned detector pixels.
    score : callable
        From slices (n, n_y, n_x) to numbers (n,), the higher the better. It sees slices of both
        sizes.
    binning : int
        Columns (and about as many angles) averaged in the first stage; less where fewer than
        `LEAST_COLS` columns would be left.
    n_peaks : int
        Peaks of the coarse score that are looked at.
    n_fine : int
        Candidates reconstructed at full size, shared out to the peaks.
    threads : int or None
        CPU threads; None means the cores this process may use.

    Returns
    -------
    StagedSweep
        Scores of both stages.

    Raises
    ------
    ValueError
        If there is no candidate, or shapes do not fit.
    """
    cor = np.unique(np.asarray(cor_px, dtype=np.float64))
    if not cor.size:
        raise ValueError("cor_px: expected at least one candidate")
    binning = max(1, min(binning, plan.n_cols // LEAST_COLS))
    small, coarse_plan = coarse(sinogram, plan, binning)
    coarse_cor = bin_cor(cor, binning=binning)
    coarse_score = _scores(small, coarse_plan, coarse_cor, score, threads)
    fine = cor[spread_over_peaks(coarse_score, n_peaks, n_fine)]
    return StagedSweep(
        coarse_cor_px=cor,
        coarse_score=coarse_score,
        fine_cor_px=fine,
        fine_score=_scores(sinogram, plan, fine, score, threads),
    )


def coarse(sinogram: Any, plan: Plan, binning: int) -> tuple[Any, Plan]:
    """Average a sinogram over columns and neighbouring angles, and plan for that.

    Parameters
    ----------
    sinogram : array of float32, shape (n_angles, n_cols)
        Corrected sinogram; columns that do not fill a block are dropped.
    plan : Plan
        Of the sinogram; keeps the plan made here.
    binning : int
        Columns averaged. As many angles are where enough are left.

    Returns
    -------
    small : array of float32, shape (n_angles', n_cols // binning)
        In order of angle; values are sums over columns' mean, per unbinned pixel.
    plan : Plan
        For it.
    """
    xp, n_cols = plan.xp, plan.n_cols // binning
    by_angle = max(1, min(binning, int(plan.n_angles / (ANGLES_PER_COLUMN * n_cols))))
    order = np.argsort(plan.theta_rad, kind="stable")[: plan.n_angles // by_angle * by_angle]
    if ("coarse", binning) not in plan.cache:
        theta = plan.theta_rad[order].reshape(-1, by_angle).mean(axis=1)
        slopes = plan.edge_slopes_per_px
        plan.cache["coarse", binning] = make_plan(
            theta,
            n_cols,
            filter=plan.filter,
            edge_slopes_per_px=slopes and binned_edge_slopes(slopes, binning),
            xp=xp,
            batch_size=plan.batch_size,
        )
    rows = sinogram[:, : n_cols * binning].reshape(plan.n_angles, n_cols, binning).mean(axis=2)
    small = rows[xp.asarray(order)].reshape(-1, by_angle, n_cols).mean(axis=1)
    return small / xp.float32(binning), plan.cache["coarse", binning]


def spread_over_peaks(score: NDArray[np.float64], n_peaks: int, n_fine: int) -> NDArray[np.int64]:
    """Choose `n_fine` candidates around the `n_peaks` highest peaks of a score (n_cor,).

    Returns ascending indices: each peak's nearest neighbours in turn, the highest peak first.
    """
    padded = np.pad(score, 1, constant_values=-np.inf)
    is_peak = (score >= padded[:-2]) & (score > padded[2:])
    peaks = np.flatnonzero(is_peak)
    peaks = peaks[np.argsort(-score[peaks], kind="stable")][:n_peaks]
    wanted = min(n_fine, len(score))
    chosen: dict[int, None] = {}
    for step in range(2 * len(score)):
        offset = (step + 1) // 2 * (-1 if step % 2 else 1)
        for index in (int(peak) + offset for peak in peaks):
            if 0 <= index < len(score) and len(chosen) < wanted:
                chosen[index] = None
    return np.sort(np.array(list(chosen), dtype=np.int64))


def least_variation(images: Any) -> Any:
    """Score slices by how little they vary from pixel to pixel; a score to begin with.

    The slices are smoothed a little first: how rough their noise is depends on the COR's fraction.

    Parameters
    ----------
    images : array of float32, shape (n, n_y, n_x)
        Slices.

    Returns
    -------
    array of float32, shape (n,)
        Minus the mean absolute difference of neighbours, in the middle half of the slice: the
        rings of truncation and the corners do not count.
    """
    first, last = images.shape[1] // 4, images.shape[1] - images.shape[1] // 4
    scores = []
    for image in images:  # one by one: what is in between stays in the cache
        middle = image[first:last, first:last]
        for _ in range(2):
            middle = middle[1:] + middle[:-1]
            middle = middle[:, 1:] + middle[:, :-1]
        across = abs(middle[:, 1:] - middle[:, :-1]).mean()
        scores.append(-(across + abs(middle[1:] - middle[:-1]).mean()))
    return module_of(images).stack(scores)


def _scores(
    sinogram: Any, plan: Plan, cor_px: Any, score: Score, threads: int | None
) -> NDArray[np.float64]:
    scores = np.empty(len(cor_px))
    for batch, images in sweep_batches(sinogram, plan, cor_px, threads=threads):
        scores[batch] = on_host(score(images))
    return scores
