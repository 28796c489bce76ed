"""A closer look at the chosen place, at full size: refinement, and whether anything rotates."""

from dataclasses import dataclass

import numpy as np

from tomopipe.cor.ai.input_recipe import TOTAL_VARIATION
from tomopipe.cor.ai.inputs import Inputs
from tomopipe.cor.ai.judgement import Judgement
from tomopipe.cor.curves import Curves, refine
from tomopipe.cor.evidence_sum import GROUPS, vote
from tomopipe.cor.rotation import rotation_gain

_AROUND = 4  # samples of the grid that belong to one place
_TRUSTED = 2.0  # samples between the network's own place and a refined kind: a binned pixel
_REGISTRATION_VOTES = 2.0  # all kinds of it together: they see the same lines
_COARSE_VOTE = 0.5  # of minimum total variation, found on fewer columns, beside registration
_ALL_ANGLES = "slices", TOTAL_VARIATION  # kinds that use all angles, not only opposing ones
_AGREE_PX = 0.25  # between these: seldom a coincidence
_AGREE_SHARE = 1 / 3  # or of what parts them from registration
_AGREE_REACH = 4.0  # samples from the network's own place where they still are believed
_AGREE_VOTES = 2.0  # of each, where they agree


@dataclass(frozen=True)
class Closer:
    """What full size says of one place.

    Attributes
    ----------
    fine_px : dict
        Refined COR of each kind of evidence that could refine, unbinned px.
    rotation : tuple of float or None
        Of `tomopipe.cor.rotation.rotation_gain`.
    total_variation_px : float or None
        COR of minimum total variation, if there is one.
    """

    fine_px: dict[str, float]
    rotation: tuple[float, float] | None
    total_variation_px: float | None = None

    @property
    def places_px(self) -> dict[str, float]:
        """COR of each kind, that of minimum total variation included."""
        if self.total_variation_px is None:
            return self.fine_px
        return self.fine_px | {TOTAL_VARIATION: self.total_variation_px}


def look_closer(curves: Curves, near_px: float) -> Closer:
    """Refine the COR near a place by all kinds of evidence that can.

    Parameters
    ----------
    curves : Curves
        Of the scan.
    near_px : float
        The place, unbinned px.

    Returns
    -------
    Closer
        Without estimates where nothing can refine.
    """
    minimum = curves.total_variation
    fine_px = refine(curves, near_px)
    place_px = vote(fine_px)[0] if fine_px else near_px
    total_variation_px = None if minimum is None else minimum.best_px
    return Closer(fine_px, rotation_gain(curves.prepared, place_px), total_variation_px)


def place_px(inputs: Inputs, judgement: Judgement, closer: Closer) -> float:
    """Return the COR: the median of the network's own place and the refined kinds next to it.

    Where a scan is short or damaged, single kinds are off by pixels where the curves, read
    together, are not (lab/results/ai.md).

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
        Unbinned px. The network's estimate is the mean of the grid about the best position,
        weighted by probability. It and each kind have one vote, but the kinds of registration,
        which fail together, at most two, and minimum total variation beside them half a vote.
        If the sample moves or changes during the scan registration is wrong: slices and minimum
        total variation, where they agree, then have two votes each.
    """
    around = slice(max(0, judgement.index - _AROUND), judgement.index + _AROUND + 1)
    weight, cor_px = judgement.share[around], inputs.cor_px[around]
    own_px = float(np.sum(weight * cor_px) / np.sum(weight))
    step_px, places_px = float(inputs.cor_px[1] - inputs.cor_px[0]), closer.places_px
    near = {k: at for k, at in places_px.items() if abs(at - own_px) <= _TRUSTED * step_px}
    registered_px = [near[kind] for kind in GROUPS["registration"] if kind in near]
    vote = dict.fromkeys(near, 1.0)
    if registered_px:
        vote |= dict.fromkeys(
            GROUPS["registration"], min(1.0, _REGISTRATION_VOTES / len(registered_px))
        )
        vote[TOTAL_VARIATION] = _COARSE_VOTE
        whole = {k: places_px[k] for k in _ALL_ANGLES if k in places_px}
        if len(whole) == 2 and _agree([*whole.values()], registered_px, own_px, step_px):
            near |= whole
            vote |= dict.fromkeys(whole, _AGREE_VOTES)
    return _median([own_px, *near.values()], [1.0, *(vote[kind] for kind in near)])


def _agree(
    places_px: list[float], registered_px: list[float], own_px: float, step_px: float
) -> bool:
    """Whether places are as good as one beside registration, and not far from the network's own."""
    apart_px = abs(np.mean(places_px) - np.median(registered_px))
    away_px = np.abs(np.subtract(places_px, own_px))
    alike = np.ptp(places_px) <= max(_AGREE_PX, _AGREE_SHARE * apart_px)
    return bool(alike and away_px.max() <= _AGREE_REACH * step_px)


def _median(places_px: list[float], votes: list[float]) -> float:
    """Weighted median, on the line through the middles of the votes; of equal ones the median.

    `vote` takes no mean of two: its places may lie anywhere, these are within a binned pixel.
    """
    order = np.argsort(places_px)
    places, weights = np.array(places_px)[order], np.array(votes)[order]
    middle = np.cumsum(weights) - weights / 2
    return float(np.interp(weights.sum() / 2, middle, places))
