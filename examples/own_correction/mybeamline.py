"""A detector whose counts fall short, and a COR by the centre of mass of the projections."""

import numpy as np

from tomopipe.config import Block, SiteCorrection, option
from tomopipe.cor.answer import Answer, nothing
from tomopipe.cor_methods import CorMethod


class Options(Block):
    """Keys of `preprocess.linearity`."""

    loss: float = option(1e-6, "Share of the counts that is lost, per count.", ge=0)


def linearise(counts, options, region):
    """Return true counts n from those measured, n (1 - loss n)."""
    root = np.sqrt(np.maximum(0, 1 - 4 * options.loss * counts))
    return (2 * counts / (1 + root)).astype(np.float32)


def find(curves, candidates_px):
    """Return the mean, over opposing projections, of their centre of mass."""
    pairs = curves.prepared.rows.pairs
    if not len(pairs):
        return nothing("mirrored", "flat", "there are no opposing projections", candidates_px)
    lines = pairs.mean(axis=(1, 2))
    cor_px = float((lines.sum(axis=0) @ np.arange(lines.shape[1])) / lines.sum())
    score = -np.abs(candidates_px - cor_px)
    return Answer("mirrored", cor_px, 0.6, "resolved", "", candidates_px, score)


LINEARITY = SiteCorrection(linearise, Options, before="flats", methods="loss of counts corrected")
MIRRORED = CorMethod("mybeamline", "find", papers=("A. Author, J. Tomogr. 1, 1 (2026)",))
