"""Row profiles of a scan registered with their common template: how far each is shifted, in bins.

Fitted besides the shift, so that they are no motion: brightness, a gradient and a curvature along
the rows, the beam's profile (by the flats) moved along the rows, and the absorption of the sample.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.arrays import NORMAL_PER_MAD
from tomopipe.cor.row_profiles import RowProfiles

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEAST_BINS = 10
# Of as many neighbours that the error of their shift is so many bins.
_LEAST_GROUPS, _MOST_GROUPS, _GROUP_ERROR = 8, 64, 0.3
_SMOOTH_BINS = 1.0
_WEAK = 4.0  # bins whose noise is so many times the median do not count
_OVERLAP, _OVERLAP_BINS = 0.5, 16  # least share, and number, of the bins that a far shift leaves
# Of far shifts the nearest counts whose misfit is at most so many times the least, or the best one
# within some bins of it: where little overlaps, much matches by chance.
_NEARLY, _NEARBY = 2.0, 3.0
_BEAM_BINS = 20.0  # deviation of the position of the beam that is likely
_MOST_GAIN = 0.5  # share by which the sample may absorb more or less
_NEARLY_STILL = 0.5  # bins by which a beam may move
_STEPS, _EXACT = 8, 0.01  # of a registration, and the last step (bins)
_FADING = 0.75  # weight of earlier groups in the template while a shift is followed


@dataclass(frozen=True, eq=False)
class Stack:
    """Profiles, smoothed along the axis, and how they may change without motion."""

    values: Floats  # (n_kept, n_bins)
    groups: list[NDArray[np.intp]]  # neighbours in time that are averaged to be registered
    roots: Floats  # (n_bins,): square root of the weight of each bin; 0: not used
    variance: Floats  # (n_bins,): noise of a profile
    beam: Floats  # (3 * n_bins - 2,): logarithm of the flats, continued on both sides
    smooth: Floats  # (n_bins, n): brightness, gradient, curvature
    height: float  # rows of a bin
    beam_bins: tuple[float, float] = (-4.0, 4.0)  # least and largest position of the beam

    @classmethod
    def of(cls, profiles: RowProfiles, kept: Mask) -> "Stack | None":
        """Prepare profiles; None where too few rows have a signal."""
        values = profiles.values[kept].astype(np.float64)
        valid: Mask = np.asarray(np.isfinite(values).all(axis=0))
        if valid.sum() < LEAST_BINS:
            return None
        bins = np.arange(len(valid))
        for profile in values:
            profile[~valid] = np.interp(bins[~valid], bins[valid], profile[valid])
        values = _smooth(values)
        level = values - np.median(values[:, valid], axis=1, keepdims=True)
        scatter = np.median(np.abs(np.diff(level, 2, axis=0)), axis=0) * NORMAL_PER_MAD / np.sqrt(6)
        typical = np.median(scatter[valid])
        usable: Mask = valid & (scatter <= _WEAK * typical)
        if usable.sum() < LEAST_BINS or typical <= 0:
            return None
        variance = np.maximum(scatter, 0.5 * typical) ** 2
        along = np.linspace(-1, 1, len(bins))
        smooth = np.stack([np.ones_like(along), along, along**2], axis=1)
        roots = usable / np.sqrt(variance)
        return cls(
            values,
            np.array_split(np.arange(len(values)), _n_groups(values, roots, smooth)),
            roots,
            variance,
            _extended(_smooth(profiles.beam[None].astype(float)))[0],
            smooth,
            float(np.median(np.diff(profiles.rows))),
        )

    def mean_of(self, which: NDArray[np.intp]) -> Floats:
        """Return the mean profile of some."""
        return np.asarray(self.values[which].mean(axis=0))

    def within_beam(self, first_bins: float, last_bins: float) -> "Stack":
        """Leave out bins to which a part of the beam moves that the flats do not show."""
        bins, most = np.arange(len(self.roots)), len(self.roots) // 6
        is_known = (bins >= min(np.ceil(last_bins - _NEARLY_STILL), most)) & (
            bins[::-1] >= min(np.ceil(-first_bins - _NEARLY_STILL), most)
        )
        return replace(self, roots=np.where(is_known, self.roots, 0.0))

    def beam_change(self, bins: float) -> tuple[Floats, Floats]:
        """Return what a beam adds that has moved, and how that changes with its position."""
        n_bins = len(self.roots)
        at = np.arange(n_bins - 1, 2 * n_bins - 1) - bins
        low = np.clip(np.floor(at).astype(int), 0, len(self.beam) - 2)
        slope = self.beam[low + 1] - self.beam[low]
        return self.beam[n_bins - 1 : 2 * n_bins - 1] - self.beam[low] - (at - low) * slope, slope


def _n_groups(values: Floats, roots: Floats, smooth: Floats) -> int:
    """Return how many groups of neighbours are registered: fewer of profiles in much noise."""
    mean = values.mean(axis=0)
    q = np.linalg.qr(np.column_stack([smooth, mean]) * roots[:, None])[0]
    slope = np.gradient(mean) * roots
    slope -= q @ (q.T @ slope)
    most = len(values) * _GROUP_ERROR**2 * float(slope @ slope)
    return int(np.clip(most, _LEAST_GROUPS, min(_MOST_GROUPS, len(values))))


def _extended(values: Floats) -> Floats:
    """Continue values (n, n_bins) on both sides with the slope that they have there."""
    n_more = values.shape[1] - 1
    return np.pad(values, ((0, 0), (n_more, n_more)), mode="reflect", reflect_type="odd")


def _smooth(values: Floats) -> Floats:
    n_bins = values.shape[1]
    smooth = ndimage.gaussian_filter1d(_extended(values), _SMOOTH_BINS, axis=1)
    return np.asarray(smooth[:, n_bins - 1 : 2 * n_bins - 1])


@dataclass(frozen=True, eq=False)
class Template:
    """What the sample looks like along the axis: sums and weights at positions of the sample."""

    at: Floats
    total: Floats
    weight: Floats

    @classmethod
    def empty(cls, n_bins: int) -> "Template":
        """Return a template without profiles."""
        at = np.arange(-n_bins, 2 * n_bins, dtype=float)
        return cls(at, np.zeros(len(at)), np.zeros(len(at)))

    def add(self, profile: Floats, roots: Floats, shift: float) -> None:
        """Add a profile that is shifted by some bins."""
        bins = np.arange(len(profile))
        inside = np.interp(self.at + shift, bins, roots > 0, 0, 0) > 0.99
        self.total[inside] += np.interp(self.at[inside] + shift, bins, profile)
        self.weight[inside] += 1

    def fade(self) -> None:
        """Let what was added count less than what comes."""
        self.total[...] *= _FADING
        self.weight[...] *= _FADING

    def shifted(self, n_bins: int, shift: float | Floats) -> tuple[Floats, Floats, Mask]:
        """Return the profile at a shift, its slope, and in which bins it is known."""
        seen = self.weight > 1e-9
        mean = self.total / np.where(seen, self.weight, 1)
        slope = np.gradient(mean)
        seen_around = seen & np.roll(seen, 1) & np.roll(seen, -1)
        at = np.arange(n_bins) - np.asarray(shift)[..., None]
        index = np.clip(np.floor(at - self.at[0]).astype(int), 0, len(mean) - 2)
        part = at - self.at[0] - index
        both = [(1 - part) * v[index] + part * v[index + 1] for v in (mean, slope)]
        inside = (at >= self.at[0]) & (at <= self.at[-1] - 1)
        return both[0], both[1], seen_around[index] & seen_around[index + 1] & inside


@dataclass(frozen=True, eq=False)
class Fit:
    """A profile registered with a template."""

    shift: float  # bins
    beam: float  # bins by which the beam has moved
    misfit: float  # mean square of what remains, in units of the noise
    profile: Floats  # without changes that are no motion
    expected: Floats  # (n_bins,): the template at the shift, with the beam where it is
    design: Floats  # (n_bins, n): changes by a shift of a bin, by more absorption, by others
    inverse: Floats  # (n, n_bins)
    likely: Floats  # (n,): subtracted from a solution, as the beam is likely where it was
    roots: Floats

    def of(self, profiles: Floats) -> tuple[Floats, Floats]:
        """Return shift and misfit of profiles (n, n_bins) like this one."""
        change = profiles - self.expected
        solution = change @ self.inverse.T - self.likely
        remains = (change - solution @ self.design.T) * self.roots
        dof = max(1, np.count_nonzero(self.roots) - self.design.shape[1])
        return self.shift + solution[:, 0], np.sum(remains**2, axis=1) / dof


def register(
    stack: Stack, profile: Floats, template: Template, shift: float, beam: float = 0.0
) -> Fit | None:
    """Register a profile near a shift, and a position of the beam; None if it is not like it."""
    n_bins = len(profile)
    steps = np.zeros(2)
    for _ in range(_STEPS):
        shift, beam = shift + steps[0], beam + steps[1]
        expected, slope, known = template.shifted(n_bins, shift)
        roots = stack.roots * known
        if np.count_nonzero(roots) < max(LEAST_BINS, _OVERLAP * np.count_nonzero(stack.roots)):
            return None
        gain = expected - np.average(expected, weights=roots)
        change, beam_slope = stack.beam_change(beam)
        expected = expected + change
        design = np.column_stack([-slope, gain, stack.smooth, beam_slope])
        weighted = (design * (roots**2)[:, None]).T
        normal = weighted @ design
        normal += 1e-9 * np.diag(np.diag(normal)) + 1e-300 * np.eye(len(normal))
        normal[-1, -1] += _BEAM_BINS**-2
        inverse: Floats = np.asarray(np.linalg.solve(normal, weighted))
        likely = np.linalg.solve(normal, np.eye(len(normal))[-1] * beam / _BEAM_BINS**2)
        solution = inverse @ (profile - expected) - likely
        steps = np.clip(solution[[0, -1]], -1.0, 1.0)
        if np.abs(steps).max() < _EXACT:
            break
    if abs(solution[1]) > _MOST_GAIN:
        return None
    others = change + stack.smooth @ solution[2:-1] + beam_slope * solution[-1]
    fit = Fit(shift, beam, 0.0, profile - others, expected, design, inverse, likely, roots)
    return replace(fit, misfit=float(fit.of(profile[None])[1][0]))


def _search(stack: Stack, profile: Floats, template: Template, shift: float, beam: float) -> float:
    """Return the shift by whole bins at which a profile matches a template best."""
    n_bins = len(profile)
    of_beam, beam_slope = stack.beam_change(beam)
    profile = profile - of_beam
    reach = int((1 - _OVERLAP) * n_bins)
    shifts = np.arange(-reach, reach + 1, dtype=float)
    seen = np.flatnonzero(template.weight > 1e-9)
    shifts -= template.at[seen].mean() - (n_bins - 1) / 2
    expected, _, known = template.shifted(n_bins, shifts)
    roots = stack.roots * known
    n_used = np.count_nonzero(roots, axis=1)
    design = np.column_stack([stack.smooth, beam_slope])[None] * roots[:, :, None]
    change = (profile - expected) * roots
    normal = np.einsum("zrm,zrk->zmk", design, design) + 1e-6 * np.eye(design.shape[2])
    moment = np.einsum("zrm,zr->zm", design, change)
    explained = np.einsum("zm,zm->z", moment, np.linalg.solve(normal, moment[..., None])[..., 0])
    misfit = (np.sum(change**2, axis=1) - explained) / np.maximum(n_used - design.shape[2], 1)
    n_all = np.count_nonzero(stack.roots)
    enough = n_used >= min(n_all, max(_OVERLAP_BINS, _OVERLAP * n_all))
    misfit = np.where(enough, misfit, np.inf)
    good = np.flatnonzero(misfit <= _NEARLY * misfit.min())
    near = shifts[good[np.argmin(np.abs(shifts[good] - shift))]]
    around = np.abs(shifts - near) <= _NEARBY
    return float(shifts[np.argmin(np.where(around, misfit, np.inf))])


def follow(stack: Stack) -> tuple[Floats, list[Floats]]:
    """Follow shift and beam of the groups (n_groups, 2), each registered with those before it.

    Also returned are their profiles, without the changes that are no motion.
    """
    means = [stack.mean_of(group) for group in stack.groups]
    profiles = means[:1]
    template = Template.empty(len(means[0]))
    template.add(means[0], stack.roots, 0.0)
    courses, misfits = [(0.0, 0.0)], list[float]()
    for mean in means[1:]:
        fit = register(stack, mean, template, *courses[-1])
        usual = np.median(misfits[-8:]) if misfits else np.inf
        if fit is None or fit.misfit > 4 * usual:
            far = _search(stack, mean, template, *courses[-1])
            other = register(stack, mean, template, far, courses[-1][1])
            if other is not None and (fit is None or other.misfit < 0.5 * fit.misfit):
                fit = other
        template.fade()
        if fit is None:
            courses.append(courses[-1])
            profiles.append(mean)
            continue
        courses.append((fit.shift, fit.beam))
        misfits.append(fit.misfit)
        profiles.append(fit.profile)
        template.add(fit.profile, stack.roots, fit.shift)
    return np.array(courses), profiles


def measure(stack: Stack) -> tuple[Floats, Floats, Floats, Stack]:
    """Return shift, error, and the beam of each profile (n_kept,), bins; infinite error: not known.

    All are registered with the template of all, from where their groups were followed to. Also
    returned are the profiles without the changes that are no motion.
    """
    courses, profiles = follow(stack)
    stack = stack.within_beam(float(courses[:, 1].min()), float(courses[:, 1].max()))
    means = [stack.mean_of(group) for group in stack.groups]
    for _ in range(3):
        template = Template.empty(len(means[0]))
        for profile, (shift, _) in zip(profiles, courses, strict=True):
            template.add(profile, stack.roots, shift)
        fits = [
            register(stack, mean, template, *course)
            for mean, course in zip(means, courses, strict=True)
        ]
        pairs = list(zip(courses, fits, strict=True))
        courses = np.array([c if fit is None else (fit.shift, fit.beam) for c, fit in pairs])
        profiles = [p if f is None else f.profile for p, f in zip(means, fits, strict=True)]
    course, errors, misfits = np.full((3, len(stack.values)), np.inf)
    for number, group in enumerate(stack.groups):
        # within the group of a jump some profiles are like the one before, or the next one
        for fit in fits[max(number - 1, 0) : number + 2]:
            if fit is None:
                continue
            shift, misfit = fit.of(stack.values[group])
            better = misfit < misfits[group]
            error = np.sqrt(fit.inverse[0] ** 2 @ (stack.variance * (stack.roots > 0)))
            for values, new in ((course, shift), (errors, error), (misfits, misfit)):
                values[group] = np.where(better, new, values[group])
    others = np.stack([mean - p for mean, p in zip(means, profiles, strict=True)])
    sizes = [len(group) for group in stack.groups]
    of_each, beam = (np.repeat(values, sizes, axis=0) for values in (others, courses[:, 1]))
    beam_bins = float(beam.min()), float(beam.max())
    still = replace(stack, values=stack.values - of_each, beam_bins=beam_bins)
    return course, errors, beam, still
