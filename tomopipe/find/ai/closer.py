"""A closer look at the chosen place, at full size: refinement, and whether anything rotates."""

from dataclasses import dataclass

import numpy as np

from tomopipe.find.ai.inputs import Inputs
from tomopipe.find.ai.judgement import Judgement
from tomopipe.find.combine import vote
from tomopipe.find.curves import refine
from tomopipe.find.evidence import MIN_ANGLES
from tomopipe.find.mass import has_air
from tomopipe.find.rotation import rotation_gain
from tomopipe.find.seen import Seen, see
from tomopipe.find.slices import Reconstruct
from tomopipe.find.variation import simplest_place
from tomopipe.io.rows import Rows

_AROUND = 4  # samples of the grid that belong to one place
_LEAST_GAP_RAD = np.deg2rad(2.0)  # of half a turn
_TRUSTED = 2.0  # samples between the network's own place and a refined kind: a binned pixel


@dataclass(frozen=True)
class Closer:
    """What full size says of one place.

    Attributes
    ----------
    fine_px : dict
        Refined COR of each kind of evidence that could refine, unbinned px.
    rotation : tuple of float or None
        Of `tomopipe.find.rotation.rotation_gain`.
    simplest_px : float or None
        COR of the simplest slice, of a sample that leaves the field over less than half a turn.
    """

    fine_px: dict[str, float]
    rotation: tuple[float, float] | None
    simplest_px: float | None = None


def look_closer(rows: Rows, near_px: float, reconstruct: Reconstruct) -> Closer:
    """Refine the COR near a place by all kinds of evidence that can.

    Parameters
    ----------
    rows : Rows
        The scan.
    near_px : float
        The place, unbinned px. What is refined is the simplest slice's, where that is looked for.
    reconstruct : callable
        Makes slices of one sinogram at several CORs.

    Returns
    -------
    Closer
        Without estimates where nothing can refine.
    """
    seen = see(rows)
    simplest_px = simplest_place(seen.sinograms[0], seen.turn) if _needs_it(seen) else None
    fine_px = refine(rows, near_px if simplest_px is None else simplest_px, reconstruct)
    place_px = vote(fine_px)[0] if fine_px else near_px
    return Closer(fine_px, rotation_gain(seen, place_px), simplest_px)


def _needs_it(seen: Seen) -> bool:
    """Whether neither opposed rows nor the centre of mass can tell: then it is worth seconds."""
    lacks = seen.turn.gap_rad > _LEAST_GAP_RAD and len(seen.rows.theta_rad) >= MIN_ANGLES
    return lacks and seen.rows.minus_log and not has_air(seen.plain[0])


def place_px(inputs: Inputs, judgement: Judgement, closer: Closer) -> float:
    """Return the COR: the median of the network's own place and the refined kinds next to it.

    Where the simplest slice was looked for, its place is the COR. Else, where a scan is short or
    damaged, single kinds are off by pixels where the curves, read together, are not (docs/ai.md).

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
        Unbinned px. The network's own place is the mean of the places around the best, weighted
        by their probability.
    """
    if closer.simplest_px is not None:
        return closer.simplest_px
    around = slice(max(0, judgement.index - _AROUND), judgement.index + _AROUND + 1)
    weight, cor_px = judgement.share[around], inputs.cor_px[around]
    own_px = float(np.sum(weight * cor_px) / np.sum(weight))
    reach_px = _TRUSTED * float(inputs.cor_px[1] - inputs.cor_px[0])
    near = [place for place in closer.fine_px.values() if abs(place - own_px) <= reach_px]
    return float(np.median([*near, own_px]))
