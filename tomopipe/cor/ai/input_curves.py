"""Curves for the network: the classical evidence, and minimum total variation."""

from dataclasses import replace

import numpy as np

from tomopipe.cor.curves import Curves, CurveSet

_LEAST = 0.003  # added to the excess in the raw curve, so that 0 has a logarithm
_WIDTH, _HEIGHT = 0.01, 10.0  # excess that halves the prominence, about, and its height


def all_curves(curves: Curves) -> CurveSet:
    """Evaluate all kinds of evidence: the classical ones, and last minimum total variation.

    They are not valid where they show nothing, or `minimum_total_variation` has no answer.
    """
    classical = curves.classical
    minimum = curves.total_variation if classical.valid.any() else None
    raw = prominence = np.zeros(len(classical.cor_px))
    if minimum is not None:
        excess = np.interp(classical.cor_px, minimum.cor_px, minimum.excess)
        height = _HEIGHT * np.exp(-excess / _WIDTH)
        raw, prominence = -np.log(_LEAST + excess), np.log1p(height**2 / 4)
    return replace(
        classical,
        raw=np.vstack([classical.raw, raw]).astype(np.float32),
        prominence=np.vstack([classical.prominence, prominence]).astype(np.float32),
        valid=np.append(classical.valid, minimum is not None),
    )
