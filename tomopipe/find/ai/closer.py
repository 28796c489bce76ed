"""A closer look at the chosen place, at full size: refinement, and whether anything rotates."""

from dataclasses import dataclass

import numpy as np

from tomopipe.find.ai.inputs import Inputs
from tomopipe.find.ai.judgement import Judgement
from tomopipe.find.combine import vote
from tomopipe.find.curves import refine
from tomopipe.find.rotation import rotation_gain
from tomopipe.find.seen import see
from tomopipe.find.slices import Reconstruct
from tomopipe.io.rows import Rows

_TRUSTED = 2.0  # samples of the grid around the network's own place: a binned pixel


@dataclass(frozen=True)
class Closer:
    """What full size says of one place.

    Attributes
    ----------
    fine_px : dict
        Refined COR of each kind of evidence that could refine, unbinned px.
    rotation : tuple of float or None
        Of `tomopipe.find.rotation.rotation_gain`.
    """

    fine_px: dict[str, float]
    rotation: tuple[float, float] | None


def look_closer(rows: Rows, near_px: float, reconstruct: Reconstruct) -> Closer:
    """Refine the COR near a place by all kinds of evidence that can.

    Parameters
    ----------
    rows : Rows
        The scan.
    near_px : float
        The place, unbinned px.
    reconstruct : callable
        Makes slices of one sinogram at several CORs.

    Returns
    -------
    Closer
        Without estimates where nothing can refine.
    """
    fine_px = refine(rows, near_px, reconstruct)
    place_px = vote(fine_px)[0] if fine_px else near_px
    return Closer(fine_px, rotation_gain(see(rows), place_px))


def place_px(inputs: Inputs, judgement: Judgement, closer: Closer) -> float:
    """Return the COR: the vote of the refined kinds that stay near the network's own place.

    Where a scan is short or damaged, single kinds are off by pixels where the curves, read
    together, are not: of 222 simulated scans 0.93 were within 1 px this way, 0.89 by the vote of
    all refined kinds.

    Parameters
    ----------
    inputs : Inputs
        What the network saw.
    judgement : Judgement
        What it said.
    closer : Closer
        What full size says.

    Returns
    -------
    float
        Unbinned px; the network's own place if no kind stays near it.
    """
    step_px = float(inputs.cor_px[1] - inputs.cor_px[0])
    own_px = float(inputs.cor_px[judgement.index]) + judgement.offset_px
    own_px = float(np.clip(own_px, inputs.cor_px[0], inputs.cor_px[-1]))
    near = {k: v for k, v in closer.fine_px.items() if abs(v - own_px) <= _TRUSTED * step_px}
    return vote(near)[0] if near else own_px
