"""Calibrate the confidence on the validation split: P(|error| <= 1 px), 0.5 where it counts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.ai.finder import FEATURES, logit

RIGHT_PX = 1.0
MAX_REJECTED = 0.05  # of the right ones, which the limit may cost
_RIDGE = 0.002  # per scan


def calibrate(values: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Fit the map from features to confidence.

    Parameters
    ----------
    values : ndarray of float64, shape (n_scans, n_features)
        Of `tomopipe.cor.ai.finder.confidence_features`.
    right : ndarray of bool, shape (n_scans,)
        Whether the estimate was within 1 px; False for scans without an answer.

    Returns
    -------
    dict
        What `tomopipe.cor.ai.finder.calibrated_confidence` needs. The confidence is the fitted
        probability, except that 0.5 is put where no wrong scan of the split lies above, or where
        5 % of the right ones lie below if that comes first.
    """
    middle, unit = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-3)
    scaled = np.clip((values - middle) / unit, -4.0, 4.0)
    weight, bias = _logistic(scaled, right.astype(float))
    fitted = {
        "doubts": list(FEATURES),
        "middle": middle.tolist(),
        "unit": unit.tolist(),
        "weight": weight.tolist(),
        "bias": bias,
    }
    limit = _limit(logit(fitted, values), right)
    return fitted | _knots(limit)


def _logistic(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Weights and bias by Newton's method, with a ridge on the weights."""
    design = np.column_stack([x, np.ones(len(x))])
    ridge = np.full(design.shape[1], _RIDGE * len(x))
    ridge[-1] = 1e-6
    theta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ theta, -30, 30)))
        gradient = design.T @ (p - y) + ridge * theta
        hessian = (design * (p * (1 - p) + 1e-9)[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        theta -= step
        if np.abs(step).max() < 1e-8:
            break
    return theta[:-1], float(theta[-1])


def _limit(z: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The logit at which the confidence is 0.5."""
    if right.all() or not right.any():
        return 0.0
    highest_wrong = float(z[~right].max())
    allowed = float(np.quantile(z[right], MAX_REJECTED))
    above = z[right & (z > highest_wrong)]
    # half way to the lowest right one above all the wrong ones
    free = 0.5 * (highest_wrong + float(above.min())) if above.size else highest_wrong
    return min(free, allowed)


def _knots(limit: float) -> dict[str, list[float]]:
    """The sigmoid as a line of knots, moved as little as possible to be 0.5 at the limit."""
    z = np.unique(np.concatenate([np.linspace(-8, 8, 65), [limit - 0.2, limit]]))
    p = 1.0 / (1.0 + np.exp(-z))
    p = np.where(z < limit, np.minimum(p, 0.49), np.maximum(p, 0.5))
    return {"logit": z.tolist(), "confidence": p.tolist()}
