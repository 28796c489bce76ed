"""Refinement of the network's estimate at full size, and the COR that follows from both."""

from dataclasses import dataclass

import numpy as np

from tomopipe.cor.ai.inputs import TOTAL_VARIATION, Inputs, NetworkOutput
from tomopipe.cor.curves import Curves, refine
from tomopipe.cor.rotation import rotation_gain

GROUPS = {
    "registration": ("pairs", "rows", "difference", "moving"),
    "wedge": ("wedge",),
    "slices": ("slices",),
    "mass": ("mass",),
}
"""Refined kinds of evidence that fail together, and share one vote."""
_VOTES = {"registration": 1.0, "wedge": 0.7, "slices": 1.0, "mass": 0.7}
NEAR = 4  # samples of the grid that belong to one position
_TRUSTED = 2.0  # samples between the network's estimate and a refined kind: a binned pixel
_REGISTRATION_VOTES = 2.0  # all kinds of it together: they use the same lines
_COARSE_VOTE = 0.5  # of minimum total variation, found on fewer columns, beside registration
_ALL_ANGLES = "slices", TOTAL_VARIATION  # kinds that use all angles, not only opposing ones
_AGREE_PX = 0.25  # between these two: seldom by chance
_AGREE_SHARE = 1 / 3  # or of their distance from registration
_AGREE_REACH = 4.0  # samples from the network's estimate within which they count
_AGREE_VOTES = 2.0  # of each, where they agree


@dataclass(frozen=True)
class Refinement:
    """What the data at full size say near one COR."""

    fine_px: dict[str, float]  # refined COR of each kind of evidence that could refine, unbinned px
    rotation: tuple[float, float] | None  # of `tomopipe.cor.rotation.rotation_gain`
    total_variation_px: float | None = None  # COR of minimum total variation, if there is one

    @property
    def all_px(self) -> dict[str, float]:
        """COR of each kind, that of minimum total variation included."""
        if self.total_variation_px is None:
            return self.fine_px
        return self.fine_px | {TOTAL_VARIATION: self.total_variation_px}


def refine_near(curves: Curves, near_px: float) -> Refinement:
    """Refine a COR (unbinned px) by all kinds of evidence that can; there may be none."""
    minimum = curves.total_variation
    fine_px = refine(curves, near_px)
    refined_px = vote(fine_px) if fine_px else near_px
    total_variation_px = None if minimum is None else minimum.best_px
    return Refinement(fine_px, rotation_gain(curves.prepared, refined_px), total_variation_px)


def vote(refined_px: dict[str, float]) -> float:
    """Weighted median of refined CORs.

    A group's vote is split among its kinds; that of the wedge and of the mass, whose errors are
    larger, counts 0.7.
    """
    cast = []
    for group, kinds in GROUPS.items():
        of_group = [cor_px for kind, cor_px in refined_px.items() if kind in kinds]
        cast += [(cor_px, _VOTES[group] / len(of_group)) for cor_px in of_group]
    sorted_px, weights = np.array(sorted(cast)).T
    # No mean of two: it would be wrong wherever one of them is.
    return float(sorted_px[np.searchsorted(np.cumsum(weights), 0.5 * weights.sum())])


def combined_px(inputs: Inputs, output: NetworkOutput, refinement: Refinement) -> float:
    """Return the COR: the median of the network's estimate and the refined kinds close to it.

    Where a scan is short or damaged, single kinds are off by pixels where the curves, read
    together, are not (lab/results/ai.md).

    The network's estimate is the mean of the grid about the best position, weighted by probability.
    It and each kind have one vote, but the kinds of registration, which fail together, at most two,
    and minimum total variation beside them half a vote. If the sample moves or changes during the
    scan registration is wrong: slices and minimum total variation, where they agree, then have two
    votes each.
    """
    around = slice(max(0, output.index - NEAR), output.index + NEAR + 1)
    weight, cor_px = output.share[around], inputs.cor_px[around]
    network_px = float(np.sum(weight * cor_px) / np.sum(weight))
    step_px, all_px = float(inputs.cor_px[1] - inputs.cor_px[0]), refinement.all_px
    near = {k: px for k, px in all_px.items() if abs(px - network_px) <= _TRUSTED * step_px}
    registered_px = [near[kind] for kind in GROUPS["registration"] if kind in near]
    vote = dict.fromkeys(near, 1.0)
    if registered_px:
        vote |= dict.fromkeys(
            GROUPS["registration"], min(1.0, _REGISTRATION_VOTES / len(registered_px))
        )
        vote[TOTAL_VARIATION] = _COARSE_VOTE
        agreeing = {k: all_px[k] for k in _ALL_ANGLES if k in all_px}
        if len(agreeing) == 2 and _agree([*agreeing.values()], registered_px, network_px, step_px):
            near |= agreeing
            vote |= dict.fromkeys(agreeing, _AGREE_VOTES)
    return _median([network_px, *near.values()], [1.0, *(vote[kind] for kind in near)])


def _agree(
    both_px: list[float], registered_px: list[float], network_px: float, step_px: float
) -> bool:
    """Whether CORs nearly coincide beside registration, and lie near the network's estimate."""
    apart_px = abs(np.mean(both_px) - np.median(registered_px))
    away_px = np.abs(np.subtract(both_px, network_px))
    alike = np.ptp(both_px) <= max(_AGREE_PX, _AGREE_SHARE * apart_px)
    return bool(alike and away_px.max() <= _AGREE_REACH * step_px)


def _median(votes_px: list[float], votes: list[float]) -> float:
    """Weighted median, on the line through the middles of the votes; of equal ones the median.

    `vote` takes no mean of two: its CORs may lie anywhere, these are within a binned pixel.
    """
    order = np.argsort(votes_px)
    sorted_px, weights = np.array(votes_px)[order], np.array(votes)[order]
    middle = np.cumsum(weights) - weights / 2
    return float(np.interp(weights.sum() / 2, middle, sorted_px))
