"""Evidence that some row profiles are those of others, shifted: what the shift explains."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.row_registration import LEAST_BINS, Floats, Stack, Template, register

_SIGNIFICANCE = 5.0
_MOST_BEAM_BINS = 12.0
_HALF_OTHERS = 2  # changes fitted in half of the rows: brighter, tilted
# A sudden change: its noise as a share of the shift, by how much it may differ from the shift, the
# least share of it that the shift explains, and the second largest change.
_SHARE_NOISE, _SUDDEN, _SUDDEN_EXPLAINED, _SECOND = 0.15, 0.4, 0.5, 0.5


@dataclass(frozen=True)
class Evidence:
    """A shift from some profiles to others, with the change that it explains.

    Changes are sums of squares over their noise, less what noise adds; what brightness, gradient,
    absorption and a beam that moved may change counts in neither.
    """

    shift: float  # bins
    error: float  # by noise alone
    unmoved: float  # change without the shift
    moved: float  # what is left with it
    by_chance: float  # share that a shift explains of a random change once in many (5 sigma)
    dof: int  # of the changes
    halves_agree: bool  # whether the upper and the lower rows say the same

    @property
    def gain(self) -> float:
        """Decrease of the misfit."""
        return self.unmoved - self.moved

    @property
    def noise(self) -> float:
        """Three deviations of the misfit of noise."""
        return float(3 * np.sqrt(2 * self.dof))


def explain(
    stack: Stack, first: NDArray[np.intp], last: NDArray[np.intp], shift: float
) -> Evidence | None:
    """Register the mean of the last profiles with that of the first; None if it is not like it."""
    before, after = stack.mean_of(first), stack.mean_of(last)
    template = Template.empty(len(before))
    template.add(before, stack.roots, 0.0)
    fit = register(stack, after, template, shift)
    if fit is None:
        return None
    roots = fit.roots
    design = fit.design * roots[:, None]
    per_dof = 1 / len(first) + 1 / len(last)
    beam = beam_changes(stack, design[:, 1:], roots, per_dof)
    others = np.column_stack([design[:, 1:], beam])
    dof = np.count_nonzero(roots) - others.shape[1] - 1
    slope = _without(design[:, 0], others)
    change = _without((after - before) * roots, others)
    left = _without((after - fit.expected) * roots, np.column_stack([design[:, 0], others]))
    upper = np.cumsum(roots > 0) <= np.count_nonzero(roots) / 2
    solution = fit.inverse @ (after - fit.expected)
    rest = (after - fit.expected) * roots - design[:, 1:] @ solution[1:]
    halves = []
    for half in (upper, ~upper):
        inverse = np.linalg.pinv(design[half][:, [0, *range(2, 2 + _HALF_OTHERS)]])
        halves.append(((inverse @ rest[half])[0], np.sqrt(per_dof * (inverse[0] @ inverse[0]))))
    (above, error_above), (below, error_below) = halves
    agree = abs(above - below) <= 0.5 * abs(fit.shift) + 3 * np.hypot(error_above, error_below)
    return Evidence(
        fit.shift,
        float(np.sqrt(per_dof * (fit.inverse[0] ** 2 @ (stack.variance * (roots > 0))))),
        float(change @ change / per_dof - dof),
        float(left @ left / per_dof - dof),
        _by_chance(change, slope),
        dof,
        bool(agree),
    )


def likelihood(
    stack: Stack, first: NDArray[np.intp], last: NDArray[np.intp], shift: float
) -> float:
    """Return how much more likely exactly this shift, bins, is than none: a square of deviations.

    It is negative where it is less likely, and 0 where too few rows would tell.
    """
    before, after = stack.mean_of(first), stack.mean_of(last)
    template = Template.empty(len(before))
    template.add(before, stack.roots, 0.0)
    expected, _, inside = template.shifted(len(before), shift)
    roots = stack.roots * inside
    if np.count_nonzero(roots) < LEAST_BINS:
        return 0.0
    rests = []
    for profile in (before, expected):
        basis = np.column_stack([stack.smooth, profile]) * roots[:, None]
        beam = beam_changes(stack, basis, roots, 1 / len(first) + 1 / len(last))
        others = np.column_stack([basis, beam])
        rests.append(_without((after - profile) * roots, others))
    n = _independent(rests[1], rests[0] - rests[1])
    n = max(1.0, min(n, np.count_nonzero(roots) - others.shape[1]))
    unmoved, moved = (max(float(rest @ rest), 1e-9) for rest in rests)
    return float(n * np.log(unmoved / moved))


def sudden(stack: Stack, shift: float) -> int | None:
    """Return the profile after which a shift, bins, comes within few profiles; None: slowly."""
    values, n = stack.values, len(stack.values)
    bins = np.arange(values.shape[1])
    inside = (bins - shift >= 0) & (bins - shift <= bins[-1]) & (stack.roots > 0)
    roots = np.where(inside, stack.roots, 0.0)
    smooth = stack.smooth * roots[:, None]
    q = np.linalg.qr(np.column_stack([smooth, beam_changes(stack, smooth, roots, 1.0)]))[0]
    sums = np.concatenate([np.zeros((1, len(bins))), np.cumsum(values, axis=0)])
    wide = 2
    while wide <= n // 8:
        at = np.arange(wide, n - wide + 1)
        before, after = (sums[at] - sums[at - wide]) / wide, (sums[at + wide] - sums[at]) / wide
        pattern = np.array([np.interp(bins - shift, bins, v) for v in before]) - before
        pattern, change = (v * roots - v * roots @ q @ q.T for v in (pattern, after - before))
        energy = np.sum(pattern**2, axis=1)
        share = np.sum(pattern * change, axis=1) / energy
        noise = np.median(np.sqrt(2 / wide / energy))
        k = int(np.argmax(share))
        others = share[np.abs(at - at[k]) > wide].max(initial=0)
        left = change[k] - share[k] * pattern[k]
        by_noise = 2 / wide * (np.count_nonzero(roots) - q.shape[1])
        explains = left @ left - by_noise <= (1 - _SUDDEN_EXPLAINED) * (
            change[k] @ change[k] - by_noise
        )
        if (
            noise <= _SHARE_NOISE
            and abs(share[k] - 1) <= _SUDDEN
            and explains
            and (others <= _SECOND * share[k])
        ):
            part = values[at[k] - wide : at[k] + wide] - before[k]
            moved = part * roots @ pattern[k] / energy[k]  # 0 before the jump, 1 after it
            fit = np.cumsum(1 - 2 * moved)  # how much better a jump after each profile fits
            return int(at[k] - wide + 1 + np.argmax(fit[:-1]))
        wide *= 2
    return None


def _without(change: Floats, basis: Floats) -> Floats:
    q = np.linalg.qr(basis)[0]
    return np.asarray(change - q @ (q.T @ change))


def beam_changes(stack: Stack, others: Floats, roots: Floats, noise: float) -> Floats:
    """Return directions (n_bins, n), above the noise, of what the beam adds where it may be."""
    first, last = np.clip(stack.beam_bins, -_MOST_BEAM_BINS, _MOST_BEAM_BINS)
    positions = np.arange(np.floor(first) - 1, np.ceil(last) + 2)
    changes = np.stack([stack.beam_change(bins)[0] for bins in positions], axis=1) * roots[:, None]
    q = np.linalg.qr(others)[0]
    u, size, _ = np.linalg.svd(changes - q @ (q.T @ changes), full_matrices=False)
    return np.asarray(u[:, size > _SIGNIFICANCE * np.sqrt(noise)])


def _by_chance(change: Floats, slope: Floats) -> float:
    """Return the share of a change that a shift explains by chance once in many (5 sigma).

    Of n independent values a random slope explains 1 / n; bins next to each other are alike, and
    their correlations give n (Bartlett).
    """
    return float(_SIGNIFICANCE**2 / (_SIGNIFICANCE**2 + _independent(change, slope) - 1))


def _independent(change: Floats, slope: Floats) -> float:
    """Return how many values of a change are independent where it is compared with a slope."""
    alike = [np.correlate(v, v, "full") / max(float(v @ v), 1e-300) for v in (change, slope)]
    return max(len(change) / max(float(alike[0] @ alike[1]), 1e-9), 1.0)
