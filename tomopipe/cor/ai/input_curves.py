"""All that the network looks at: the curves of the evidence, and that of the simplest slice."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.curves import Curves, evidence_curves
from tomopipe.cor.rows_file import Rows
from tomopipe.cor.seen import see
from tomopipe.cor.slices import Reconstruct
from tomopipe.cor.variation import simplest_slice

_LEAST = 0.003  # excess that counts as none, in the raw curve
_WIDTH, _HEIGHT = 0.01, 10.0  # excess that halves the prominence, about, and its height


def all_curves(rows: Rows, reconstruct: Reconstruct) -> Curves:
    """Evaluate all kinds of evidence, and the simplest slice as well.

    Parameters
    ----------
    rows : Rows
        What try_recon kept of the scan.
    reconstruct : callable
        Makes slices of one sinogram at several CORs.

    Returns
    -------
    Curves
        Of `tomopipe.cor.curves.evidence_curves`, with one kind more, the last. Where that sees
        nothing no kind does, or `simplest_slice` has no answer.
    """
    curves = evidence_curves(rows, reconstruct)
    simplest = simplest_slice(see(rows)) if curves.valid.any() else None
    if simplest is None:
        flat = np.zeros(len(curves.cor_px))
        return _with(curves, flat, flat, valid=False)
    excess = np.interp(curves.cor_px, simplest.cor_px, simplest.excess)
    height = _HEIGHT * np.exp(-excess / _WIDTH)
    return _with(curves, -np.log(_LEAST + excess), np.log1p(height**2 / 4), valid=True)


def _with(
    curves: Curves, raw: NDArray[np.float64], prominence: NDArray[np.float64], *, valid: bool
) -> Curves:
    """Append a kind."""
    return replace(
        curves,
        raw=np.vstack([curves.raw, raw]).astype(np.float32),
        prominence=np.vstack([curves.prominence, prominence]).astype(np.float32),
        valid=np.append(curves.valid, valid),
    )
