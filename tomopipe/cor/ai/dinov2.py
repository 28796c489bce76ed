"""Method `dinov2`: run the DINOv2 checkpoints of the APS family on the slices of the try grid.

The classifier scores each slice alone; the COR is the candidate of the highest score. On a CPU one
slice takes seconds, so that without a GPU only the best candidates of the classical evidence are
scored, and the reason says so.
"""

import logging
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from tomopipe.cor.ai.dinov2_checkpoint import PATCH_PX, Checkpoint
from tomopipe.cor.ai.dinov2_network import Classifier
from tomopipe.cor.ai.dinov2_windows import cut_windows, window_corners
from tomopipe.cor.answer import AMBIGUOUS_BELOW, Answer, nothing
from tomopipe.cor.curves import Curves, CurveSet
from tomopipe.cor.slices import repeating_edges

METHOD = "dinov2"
N_SHORTLIST = 15
MIN_WINDOW_PX = 224
_APART_PX = 2.0  # least distance of the second peak
_BATCH = 16  # slices held at a time

Scorer = Callable[[NDArray[np.float64]], list[float]]
"""From CORs to the probability of each, of slices of one sinogram."""

logger = logging.getLogger(__name__)


def find_dinov2(
    curves: Curves, candidates_px: NDArray[np.float64], checkpoint: Checkpoint
) -> Answer:
    """Score the slices of the first sinogram, and take the COR of the highest score.

    The curve has the candidates that were scored: all with a GPU, else the `N_SHORTLIST` best of
    the classical evidence and the neighbours of the best.
    """
    n = curves.prepared.n_cols
    window_px = min(checkpoint.window_px, (n - 1) // PATCH_PX * PATCH_PX)
    if window_px < min(MIN_WINDOW_PX, checkpoint.window_px):
        reason = f"slices of {n} px are too small: {MIN_WINDOW_PX + 1} px are needed"
        return nothing(METHOD, "flat", reason, candidates_px)
    if why := curves.prepared.no_signal:
        return nothing(METHOD, "flat", why, candidates_px)
    gpu = torch.cuda.is_available()
    network = Classifier(checkpoint, window_px).to("cuda" if gpu else "cpu")
    score = _scorer(curves, network, window_px, checkpoint.n_windows)
    if gpu or len(candidates_px) <= N_SHORTLIST:
        scores = dict(enumerate(score(candidates_px)))
    else:
        chosen = shortlist(curves.classical, candidates_px)
        logger.info("dinov2: no GPU, %d of %d candidates", len(chosen), len(candidates_px))
        scores = dict(zip(chosen, score(candidates_px[chosen]), strict=True))
        _score_neighbours(scores, candidates_px, score)
    return decide(scores, candidates_px)


def _scorer(curves: Curves, network: Classifier, window_px: int, n_windows: int) -> Scorer:
    rows = curves.prepared.rows
    sinogram = rows.sinograms[0]
    n = sinogram.shape[1]
    corners = window_corners(n, window_px, n_windows)
    slices_at = repeating_edges(sinogram, rows.theta_rad, max(4, n // 4), curves.reconstruct)

    def score(cor_px: NDArray[np.float64]) -> list[float]:
        batches = (cor_px[start : start + _BATCH] for start in range(0, len(cor_px), _BATCH))
        slices = (image for batch in batches for image in slices_at(batch))
        return [network.score(cut_windows(image, corners, window_px)) for image in slices]

    return score


def shortlist(curves: CurveSet, candidates_px: NDArray[np.float64]) -> list[int]:
    """Indices, ascending, of the `N_SHORTLIST` candidates that the curves together find best."""
    total = np.interp(candidates_px, curves.cor_px, curves.prominence[curves.valid].sum(axis=0))
    return sorted(int(index) for index in np.argsort(-total, kind="stable")[:N_SHORTLIST])


def _score_neighbours(
    scores: dict[int, float], candidates_px: NDArray[np.float64], score: Scorer
) -> None:
    """Score the neighbours of the best candidate too, so that it is a maximum."""
    while True:
        best = max(scores, key=lambda index: scores[index])
        unscored = [
            index
            for index in (best - 1, best + 1)
            if 0 <= index < len(candidates_px) and index not in scores
        ]
        if not unscored or len(scores) > 2 * N_SHORTLIST:
            return
        scores.update(zip(unscored, score(candidates_px[unscored]), strict=True))


def decide(scores: dict[int, float], candidates_px: NDArray[np.float64]) -> Answer:
    """Make an answer of the scores, 0 to 1, of some candidates by their indices.

    The COR is the best candidate, or the middle of equally good neighbours. The confidence is its
    score, times one minus the best score more than 2 px away; it is not a calibrated probability.
    """
    index = np.array(sorted(scores))
    score = np.array([scores[i] for i in index])
    cor_px = candidates_px[index]
    top = score == score.max()
    first_px = cor_px[np.argmax(top)]
    tied = index[top & (cor_px <= first_px + _APART_PX)]
    best_px = float(candidates_px[tied].mean())
    away = np.abs(cor_px - best_px) > _APART_PX
    second = float(score[away].max()) if away.any() else 0.0
    confidence = float(score.max()) * (1.0 - second)
    reason = ""
    verdict = "resolved"
    if tied[0] == 0 or tied[-1] == len(candidates_px) - 1:
        verdict, confidence = "edge", 0.0
        reason = f"the best match, {best_px:.1f} px, is at the border of the candidates: widen "
        reason += "try_recon.width_px or move center_px"
    elif confidence < AMBIGUOUS_BELOW:
        verdict = "ambiguous"
        reason = f"score {score.max():.2f}, elsewhere {second:.2f}"
    if len(index) < len(candidates_px):
        part = f"only {len(index)} of {len(candidates_px)} candidates scored, for lack of a GPU"
        reason = f"{reason}; {part}" if reason else part
    return Answer(METHOD, best_px, confidence, verdict, reason, cor_px, score)
