"""Method `dinov2`: run the DINOv2 checkpoints of the APS family on the slices of the try grid.

The classifier scores each slice alone; the COR is the candidate of the highest score. A slice is
scaled to 0..1 by its own smallest and largest value and quantised to 8 bits. Its windows lie about
points drawn evenly from the inscribed circle with NumPy's legacy generator [1]_, the same for all
slices. On a CPU one slice takes seconds, so that without a GPU only the best candidates of the
classical evidence are scored, and the reason says so.

References
----------
.. [1] X. Tang et al., tomo-center (github.com/xray-imaging/tomo-center), `tomo-center find`; the
   same in TomoCuPy's ``--rotation-axis-method ai``.
"""

import logging

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tomopipe.cor.ai.dinov2_network import PATCH_PX, Checkpoint, Classifier
from tomopipe.cor.answer import AMBIGUOUS_BELOW, Answer, nothing
from tomopipe.cor.curves import Curves, CurveSet
from tomopipe.cor.slices import repeating_edges

METHOD = "dinov2"
N_SHORTLIST = 15
MIN_WINDOW_PX = 224
SEED = 10
_APART_PX = 2.0  # least distance of the second peak
_BATCH = 16  # slices held at a time

Image = NDArray[np.float32]

logger = logging.getLogger(__name__)


def find_dinov2(
    curves: Curves, candidates_px: NDArray[np.float64], checkpoint: Checkpoint
) -> Answer:
    """Score the slices of the first sinogram, and take the COR of the highest score.

    The curve has the candidates that were scored: all with a GPU, else the `N_SHORTLIST` best of
    the classical evidence.
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
    chosen = np.arange(len(candidates_px))
    if not gpu and len(chosen) > N_SHORTLIST:
        chosen = shortlist(curves.measures, candidates_px)
        logger.info("dinov2: no GPU, %d of %d candidates", len(chosen), len(candidates_px))
    rows = curves.prepared.rows
    corners = window_corners(n, window_px, checkpoint.n_windows)
    slices_at = repeating_edges(
        rows.sinograms[0], rows.theta_rad, max(4, n // 4), curves.reconstruct
    )
    score = [
        network.score(cut_windows(image, corners, window_px))
        for start in range(0, len(chosen), _BATCH)
        for image in slices_at(candidates_px[chosen[start : start + _BATCH]])
    ]
    return decide(chosen, np.array(score), candidates_px)


def shortlist(curves: CurveSet, candidates_px: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices, ascending, of the `N_SHORTLIST` candidates that the curves together find best."""
    total = np.interp(candidates_px, curves.cor_px, curves.prominence[curves.valid].sum(axis=0))
    return np.sort(np.argsort(-total, kind="stable")[:N_SHORTLIST])


def decide(
    index: NDArray[np.intp], score: NDArray[np.float64], candidates_px: NDArray[np.float64]
) -> Answer:
    """Make an answer of the scores, 0 to 1, of some candidates, by their indices (n_scored,).

    The COR is the best candidate, or the middle of equally good neighbours. The confidence is its
    score, times one minus the best score more than 2 px away; it is not a calibrated probability.
    """
    cor_px = candidates_px[index]
    top = score == score.max()
    tied = index[top & (cor_px <= cor_px[np.argmax(top)] + _APART_PX)]
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


def window_corners(size_px: int, window_px: int, n_windows: int) -> NDArray[np.int64]:
    """Draw the upper left corners (n_windows, 2) of the windows; a single one is in the middle.

    A window, smaller than the slice, is moved inside where it would leave it.
    """
    if n_windows == 1:
        return np.full((1, 2), size_px // 2 - window_px // 2)
    offset = np.arange(size_px) - (size_px - 1) / 2
    inside = offset**2 + offset[:, None] ** 2 <= ((size_px - 1) / 2) ** 2
    share = (inside / inside.sum()).ravel()
    # Normalised twice and drawn one by one, so that the random numbers are those of the original.
    share /= share.sum()
    random = np.random.RandomState(SEED)
    drawn = [int(np.argmax(random.multinomial(1, share))) for _ in range(n_windows)]
    corners = np.stack(np.unravel_index(drawn, inside.shape), axis=1) - window_px // 2
    # The last corner that fits is never used: the original stops one short of it.
    return np.asarray(np.clip(corners, 0, size_px - window_px - 1), dtype=np.int64)


def cut_windows(image: ArrayLike, corners: NDArray[np.int64], window_px: int) -> Image:
    """Scale a slice to 0..1, quantise it to 8 bits and cut its windows; a constant one gives 0."""
    image = np.asarray(image, dtype=np.float32)
    low, high = image.min(), image.max()
    scaled = (image - low) / (high - low + np.float32(1e-8))
    grey = (scaled * np.float32(255)).astype(np.uint8).astype(np.float32) / np.float32(255)
    return np.stack([grey[y : y + window_px, x : x + window_px] for y, x in corners])
