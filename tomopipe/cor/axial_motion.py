"""Motion of the sample along the axis (up or down the rows) during a scan: a jump, or a drift.

Rows are then mixed in every slice, while the COR stays right. The row profiles of a scan
(`tomopipe.cor.row_profiles`) are registered with their common template. In a parallel beam a
profile keeps its form while a sample within the field of view rotates; of a sample beyond it the
profile changes slowly, which counts as noise: a shift must explain what changes.

Not taken for motion: a beam that gets brighter, that tilts, or that moves over the detector (its
gradient and curvature, by the flats, are fitted), a sample that absorbs more, and a tilted axis,
about which a sample goes up and down once per rotation.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.arrays import NORMAL_PER_MAD
from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.row_profiles import RowProfiles

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Least shift (rows), in units of its error, and share of the change that it explains.
_LEAST_ROWS, _SIGNIFICANCE, _EXPLAINED = 0.5, 5.0, 0.5
# Far shifts (bins) must explain more; least decrease of the misfit (squared errors).
_FAR, _FAR_EXPLAINED, _FAR_GAIN, _GAIN = 2.0, 0.7, 100.0, 25.0
_MOST_ERROR_ROWS = 0.4
# Share of a jump that the profiles beside it may lack; a drift that is so much larger counts.
_SUDDEN, _MAINLY = 0.4, 2.0
_LEAST_FRAMES, _LEAST_BINS = 16, 10
_MOST_GROUPS, _PARTS = 64, 16
_SMOOTH_BINS = 1.0
_WEAK = 4.0  # bins whose noise is so many times the median do not count
_OVERLAP, _OVERLAP_BINS = 0.5, 16  # least share, and number, of the bins that a far shift leaves
# Of far shifts the nearest counts whose misfit is at most so many times the least, or the best one
# within some bins of it: where little overlaps, much matches by chance.
_NEARLY, _NEARBY = 2.0, 3.0
_MOST_KNOWN = 0.7  # least share of the profiles that can be registered
# Drifts: scatter about a line, and net shift, as shares of the whole.
_STRAIGHT, _ONE_WAY = 0.05, 0.7
_HALF_OTHERS = 2  # changes fitted in half of the rows: brighter, tilted
_FADING = 0.75  # weight of earlier groups in the template while a shift is followed


@dataclass(frozen=True)
class AxialMotion:
    """Motion along the axis: of a jump between two projections, or of a drift."""

    shift_rows: float  # positive: towards later rows, down
    error_rows: float
    between: tuple[int, int] | None  # indices of the projections before and after a jump


def warn_of_axial_motion(rows: Rows) -> str:
    """Return a warning that the sample moved along the axis, or ""."""
    profiles = rows.profiles
    if profiles is None or not rows.minus_log:
        return ""
    numbers = np.arange(len(rows.theta_rad)) if rows.numbers is None else rows.numbers
    bad = np.isin(numbers, np.concatenate([*(rows.bad_frames or {}).values(), []]))
    motion = find_axial_motion(profiles, rows.theta_rad, bad)
    if motion is None:
        return ""
    when = "during the scan"
    if motion.between is not None:
        before, after = numbers[list(motion.between)].tolist()
        when = f"between projections {before} and {after}"
    direction = "down" if motion.shift_rows > 0 else "up"
    return (
        f"the sample moves {abs(motion.shift_rows):.1f} rows {direction} {when}: slices mix rows "
        "that are as far apart; measure again, or leave out one part (input.skip_projections)"
    )


def find_axial_motion(
    profiles: RowProfiles, theta_rad: Floats, bad: Mask | None = None
) -> AxialMotion | None:
    """Find the largest jump, or the drift, along the axis; None if there is none, or no telling.

    `theta_rad` are the angles of all projections in use, `bad` which of them hold no picture.
    """
    kept = np.ones(len(profiles.frames), bool) if bad is None else ~bad[profiles.frames]
    kept &= np.isfinite(profiles.values).any(axis=1)
    frames = profiles.frames[kept]
    if len(frames) < _LEAST_FRAMES:
        return None
    stack = _Stack.of(profiles, kept)
    if stack is None:
        return None
    shifts = _follow(stack)
    return _judge(stack, _measure(stack, shifts), frames, theta_rad[frames])


@dataclass(frozen=True, eq=False)
class _Stack:
    """Profiles, smoothed along the axis, and how they may change without motion."""

    values: Floats  # (n_kept, n_bins)
    groups: list[NDArray[np.intp]]  # neighbours in time that are averaged to be registered
    roots: Floats  # (n_bins,): square root of the weight of each bin; 0: not used
    variance: Floats  # (n_bins,): noise of a profile
    others: Floats  # (n_bins, n): changes that are no motion
    height: float  # rows of a bin

    @classmethod
    def of(cls, profiles: RowProfiles, kept: Mask) -> "_Stack | None":
        """Prepare profiles; None where too few rows have a signal."""
        values = profiles.values[kept].astype(np.float64)
        valid: Mask = np.asarray(np.isfinite(values).all(axis=0))
        if valid.sum() < _LEAST_BINS:
            return None
        bins = np.arange(len(valid))
        for profile in values:
            profile[~valid] = np.interp(bins[~valid], bins[valid], profile[valid])
        values = ndimage.gaussian_filter1d(values, _SMOOTH_BINS, axis=1, mode="nearest")
        level = values - np.median(values[:, valid], axis=1, keepdims=True)
        scatter = np.median(np.abs(np.diff(level, 2, axis=0)), axis=0) * NORMAL_PER_MAD / np.sqrt(6)
        typical = np.median(scatter[valid])
        usable: Mask = valid & (scatter <= _WEAK * typical)
        if usable.sum() < _LEAST_BINS or typical <= 0:
            return None
        variance = np.maximum(scatter, 0.5 * typical) ** 2
        along = np.linspace(-1, 1, len(bins))
        beam = ndimage.gaussian_filter1d(profiles.beam.astype(float), _SMOOTH_BINS, mode="nearest")
        slope = np.gradient(beam)
        others = np.stack([np.ones_like(along), along, along**2, slope, np.gradient(slope)], axis=1)
        others /= np.maximum(np.sqrt(np.mean(others**2, axis=0)), 1e-12)
        n_groups = min(_MOST_GROUPS, len(values))
        rows = profiles.rows
        return cls(
            values,
            np.array_split(np.arange(len(values)), n_groups),
            usable / np.sqrt(variance),
            variance,
            others,
            float(np.median(np.diff(rows))),
        )

    def mean_of(self, which: NDArray[np.intp]) -> Floats:
        """Return the mean profile of some."""
        return np.asarray(self.values[which].mean(axis=0))


@dataclass(frozen=True, eq=False)
class _Template:
    """What the sample looks like along the axis: sums and weights at positions of the sample."""

    at: Floats
    total: Floats
    weight: Floats

    @classmethod
    def empty(cls, n_bins: int) -> "_Template":
        at = np.arange(-n_bins, 2 * n_bins, dtype=float)
        return cls(at, np.zeros(len(at)), np.zeros(len(at)))

    def add(self, profile: Floats, roots: Floats, shift: float) -> None:
        """Add a profile that is shifted by some bins."""
        bins = np.arange(len(profile))
        inside = np.interp(self.at + shift, bins, roots > 0, 0, 0) > 0.99
        self.total[inside] += np.interp(self.at[inside] + shift, bins, profile)
        self.weight[inside] += 1

    def fade(self) -> None:
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
class _Fit:
    """A profile registered with a template."""

    shift: float  # bins
    misfit: float  # mean square of what remains, in units of the noise
    profile: Floats  # without changes that are no motion
    expected: Floats  # (n_bins,): the template at the shift
    design: Floats  # (n_bins, n): changes by a shift of a bin, by more absorption, by others
    inverse: Floats  # (n, n_bins)
    roots: Floats

    def of(self, profiles: Floats) -> tuple[Floats, Floats]:
        """Return shift and misfit of profiles (n, n_bins) like this one."""
        change = profiles - self.expected
        solution = change @ self.inverse.T
        remains = (change - solution @ self.design.T) * self.roots
        dof = max(1, np.count_nonzero(self.roots) - self.design.shape[1])
        return self.shift + solution[:, 0], np.sum(remains**2, axis=1) / dof


def _register(stack: _Stack, profile: Floats, template: _Template, shift: float) -> _Fit | None:
    """Register a profile near a shift; None where too little overlaps."""
    n_bins = len(profile)
    step = 0.0
    for _ in range(4):
        shift += step
        expected, slope, known = template.shifted(n_bins, shift)
        roots = stack.roots * known
        if np.count_nonzero(roots) < max(_LEAST_BINS, _OVERLAP * np.count_nonzero(stack.roots)):
            return None
        gain = expected - np.average(expected, weights=roots)
        design = np.column_stack([-slope, gain, stack.others])
        weighted = (design * (roots**2)[:, None]).T
        normal = weighted @ design
        ridge = 1e-9 * np.diag(np.diag(normal)) + 1e-300 * np.eye(len(normal))
        inverse: Floats = np.asarray(np.linalg.solve(normal + ridge, weighted))
        solution = inverse @ (profile - expected)
        step = float(np.clip(solution[0], -1.0, 1.0))
        if abs(step) < 0.01:
            break
    others = stack.others @ solution[2:]
    fit = _Fit(shift, 0.0, profile - others, expected, design, inverse, roots)
    return replace(fit, misfit=float(fit.of(profile[None])[1][0]))


def _search(stack: _Stack, profile: Floats, template: _Template, shift: float) -> float:
    """Return the shift by whole bins at which a profile matches a template best."""
    n_bins = len(profile)
    reach = int((1 - _OVERLAP) * n_bins)
    shifts = np.arange(-reach, reach + 1, dtype=float)
    seen = np.flatnonzero(template.weight > 1e-9)
    shifts -= template.at[seen].mean() - (n_bins - 1) / 2
    expected, _, known = template.shifted(n_bins, shifts)
    roots = stack.roots * known
    n_used = np.count_nonzero(roots, axis=1)
    design = stack.others[None] * roots[:, :, None]
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


def _follow(stack: _Stack) -> Floats:
    """Follow the shift of the groups (n_groups,), bins, each registered with those before it."""
    means = [stack.mean_of(group) for group in stack.groups]
    template = _Template.empty(len(means[0]))
    template.add(means[0], stack.roots, 0.0)
    shifts, misfits = [0.0], list[float]()
    for mean in means[1:]:
        fit = _register(stack, mean, template, shifts[-1])
        usual = np.median(misfits[-8:]) if misfits else np.inf
        if fit is None or fit.misfit > 4 * usual:
            other = _register(stack, mean, template, _search(stack, mean, template, shifts[-1]))
            if other is not None and (fit is None or other.misfit < 0.5 * fit.misfit):
                fit = other
        template.fade()
        if fit is None:
            shifts.append(shifts[-1])
            continue
        shifts.append(fit.shift)
        misfits.append(fit.misfit)
        template.add(fit.profile, stack.roots, fit.shift)
    return np.array(shifts)


@dataclass(frozen=True, eq=False)
class _Course:
    """Shift of each profile along the axis."""

    shift: Floats  # (n_kept,), bins
    error: Floats  # (n_kept,): by noise; infinite where it is not known


def _measure(stack: _Stack, shifts: Floats) -> _Course:
    """Register all profiles with the template of all, from the shifts of their groups on."""
    means = [stack.mean_of(group) for group in stack.groups]
    profiles = means
    for _ in range(3):
        template = _Template.empty(len(means[0]))
        for profile, shift in zip(profiles, shifts, strict=True):
            template.add(profile, stack.roots, shift)
        fits = [
            _register(stack, mean, template, shift)
            for mean, shift in zip(means, shifts, strict=True)
        ]
        shifts = np.array([s if f is None else f.shift for s, f in zip(shifts, fits, strict=True)])
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
    return _Course(course, errors)


@dataclass(frozen=True)
class _Step:
    """A candidate of a jump: before profile `index`."""

    index: int
    size: float  # bins
    error: float
    wide: int  # profiles on each side that show it


def _judge(
    stack: _Stack, course: _Course, frames: NDArray[np.int64], theta_rad: Floats
) -> AxialMotion | None:
    known = np.isfinite(course.error)
    if known.mean() < _MOST_KNOWN:
        return None
    index = np.flatnonzero(known)
    shift, theta_rad = course.shift[index], theta_rad[index]
    noise = max(float(np.median(course.error[index])), _white_noise(shift))
    jump = _jump(stack, index, shift, noise, theta_rad)
    drift = _drift(stack, index, shift, noise, theta_rad)
    if jump is not None and (drift is None or abs(drift[0]) < _MAINLY * abs(jump[0])):
        size, error, k = jump
        between = int(frames[index[k - 1]]), int(frames[index[k]])
        return AxialMotion(size * stack.height, error * stack.height, between)
    if drift is None:
        return None
    return AxialMotion(drift[0] * stack.height, drift[1] * stack.height, None)


def _is_clear(size: float, error: float, stack: _Stack) -> bool:
    """Tell whether a shift (bins) is large enough, and known well enough."""
    rows, error_rows = abs(size) * stack.height, error * stack.height
    return rows >= max(_LEAST_ROWS, _SIGNIFICANCE * error_rows) and error_rows <= _MOST_ERROR_ROWS


def _jump(
    stack: _Stack, index: NDArray[np.intp], shift: Floats, noise: float, theta_rad: Floats
) -> tuple[float, float, int] | None:
    """Return size and error of the clearest jump, bins, and the number of the profile after it."""
    step = _find_step(shift, noise, theta_rad)
    if step is None or not _is_clear(step.size, step.error, stack):
        return None
    k, sizes = step.index, []
    for wide in (step.wide, len(index) // 8, len(index) // 4):
        before, after = index[max(k - wide, 0) : k], index[k : k + wide]
        size = _explained_shift(stack, before, after, step.size)
        if size is None or abs(size - step.size) > _LEAST_ROWS + 3 * step.error:
            break
        sizes.append(size)  # of more profiles, thus more exact
    if not sizes or not _is_clear(sizes[-1], step.error, stack):
        return None
    return sizes[-1], step.error, k


def _drift(
    stack: _Stack, index: NDArray[np.intp], shift: Floats, noise: float, theta_rad: Floats
) -> tuple[float, float] | None:
    """Return size and error of a drift, bins."""
    drift = _find_drift(shift, noise, theta_rad)
    if drift is None or not _is_clear(*drift, stack):
        return None
    parts = np.array_split(index, _PARTS)
    return drift if _explained_shift(stack, parts[0], parts[-1], drift[0]) is not None else None


def _white_noise(shift: Floats) -> float:
    return float(np.median(np.abs(np.diff(shift, 2))) * NORMAL_PER_MAD / np.sqrt(6))


def _find_step(shift: Floats, noise: float, theta_rad: Floats) -> _Step | None:
    """Return the most significant step of a course."""
    best: _Step | None = None
    n = len(shift)
    sums = np.concatenate([[0], np.cumsum(shift)])
    wide = 2
    while wide <= n // 8:
        at = np.arange(wide, n - wide + 1)
        steps = (sums[at + wide] - 2 * sums[at] + sums[at - wide]) / wide
        steps = steps - np.median(steps)
        error = max(np.median(np.abs(steps)) * NORMAL_PER_MAD, noise * np.sqrt(2 / wide))
        k = int(np.argmax(np.abs(steps)))
        candidate = _sharpen(shift, int(at[k]), wide, float(error))
        if candidate is not None and (
            best is None or abs(candidate.size) / candidate.error > abs(best.size) / best.error
        ):
            best = candidate
        wide *= 2
    if best is None or abs(best.size) < _SIGNIFICANCE * best.error:
        best = _step_in_noise(shift, noise, theta_rad)
    return best if best is not None and _is_sudden(best, shift, noise) else None


def _is_sudden(step: _Step, shift: Floats, noise: float) -> bool:
    """Tell whether as few profiles on each side as noise allows show most of a step."""
    n = int(np.ceil(2 * (_SIGNIFICANCE * noise / step.size) ** 2)) + 1
    k = step.index
    size = float(np.mean(shift[k : k + n]) - np.mean(shift[max(k - n, 0) : k]))
    return abs(size - step.size) <= _SUDDEN * abs(step.size)


def _sharpen(shift: Floats, index: int, wide: int, error: float) -> _Step | None:
    """Put a step where two levels fit best; None where the course is no step."""
    first, last = max(index - 2 * wide, 0), min(index + 2 * wide, len(shift))
    part = shift[first:last]
    line = np.polyval(np.polyfit(np.arange(len(part)), part, 1), np.arange(len(part))) - part
    places = range(max(index - wide, first + 1), min(index + wide, last - 1) + 1)
    misfits = [
        np.sum((shift[first:k] - np.mean(shift[first:k])) ** 2)
        + np.sum((shift[k:last] - np.mean(shift[k:last])) ** 2)
        for k in places
    ]
    if min(misfits) > 0.7 * (line @ line):
        return None
    k = places[int(np.argmin(misfits))]
    size = float(np.median(shift[k:last]) - np.median(shift[first:k]))
    near = max(1, wide // 2)
    close = np.mean(shift[k : k + near]) - np.mean(shift[max(k - near, 0) : k])
    if abs(close - size) > 0.4 * abs(size) + 2 * error:
        return None
    return _Step(k, size, error, wide)


def _step_in_noise(shift: Floats, noise: float, theta_rad: Floats) -> _Step | None:
    """Return the step that explains most of a course in which nothing but noise is left then."""
    tilt = _tilt(theta_rad)
    q = np.linalg.qr(tilt)[0]
    remains = shift - q @ (q.T @ shift)
    n = len(shift)
    at = np.arange(2, n - 1)
    steps = (np.arange(n)[:, None] >= at).astype(float)
    steps -= q @ (q.T @ steps)
    energy = np.sum(steps**2, axis=0)
    sizes = steps.T @ remains / energy
    k = int(np.argmax(sizes**2 * energy))
    left = remains - sizes[k] * steps[:, k]
    line = np.column_stack([tilt, np.linspace(0, 1, n)])
    of_line = shift - line @ np.linalg.lstsq(line, shift)[0]
    if left @ left >= of_line @ of_line:
        return None
    error = _inflation(left, noise) * noise / np.sqrt(energy[k])
    return _Step(int(at[k]), float(sizes[k]), float(error), max(2, n // 8))


def _tilt(theta_rad: Floats) -> Floats:
    """Courses of a sample about a tilted axis."""
    return np.stack([np.ones_like(theta_rad), np.cos(theta_rad), np.sin(theta_rad)], axis=1)


def _inflation(remains: Floats, noise: float) -> float:
    """How much larger errors of means are than those of white noise."""
    parts = np.array_split(remains, _PARTS)
    return float(max(1.0, np.std([p.mean() for p in parts]) * np.sqrt(len(parts[0])) / noise))


def _find_drift(shift: Floats, noise: float, theta_rad: Floats) -> tuple[float, float] | None:
    """Return size and error of a drift from the begin to the end; None: a tilted axis, or none."""
    n = len(shift)
    time = np.linspace(-0.5, 0.5, n)
    line = np.stack([np.ones(n), time], axis=1)
    slope = float(np.linalg.lstsq(line, shift)[0][1])
    of_line, of_tilt = (
        shift - basis @ np.linalg.lstsq(basis, shift)[0] for basis in (line, _tilt(theta_rad))
    )
    in_parts = [np.array_split(values, _PARTS) for values in (shift, of_line, of_tilt)]
    course, left, tilted = ([float(np.median(part)) for part in parts] for parts in in_parts)
    error = noise * np.sqrt(2 * _PARTS / n)
    if np.ptp(tilted) < max(_LEAST_ROWS, _SIGNIFICANCE * error):
        # a tilted axis may look like it: a line must fit no worse
        if of_line @ of_line > of_tilt @ of_tilt + 4 * noise**2:
            return None
        return slope, _inflation(of_line, noise) * noise / float(np.sqrt(np.sum(time**2)))
    if np.std(left) <= max(_STRAIGHT * abs(slope), error):
        return slope, error
    size = course[-1] - course[0]
    return (size, error) if abs(size) >= _ONE_WAY * np.ptp(course) else None


def _explained_shift(
    stack: _Stack, first: NDArray[np.intp], last: NDArray[np.intp], shift: float
) -> float | None:
    """Return the shift from some profiles to others; None where it does not explain the change.

    It must explain most of what differs, but for noise, and be alike in the upper and lower half.
    """
    before, after = stack.mean_of(first), stack.mean_of(last)
    template = _Template.empty(len(before))
    template.add(before, stack.roots, 0.0)
    fit = _register(stack, after, template, shift)
    if fit is None:
        return None
    roots = fit.roots
    design = fit.design * roots[:, None]

    def energy(change: Floats, basis: Floats) -> float:
        q = np.linalg.qr(basis)[0]
        change = change * roots
        change = change - q @ (q.T @ change)
        return float(change @ change)

    dof = np.count_nonzero(roots) - design.shape[1]
    per_dof = 1 / len(first) + 1 / len(last)
    unmoved = energy(after - before, design[:, 1:]) / per_dof - dof
    moved = energy(after - fit.expected, design) / per_dof - dof
    if abs(fit.shift) > _FAR:
        least, allowed = _FAR_GAIN, (1 - _FAR_EXPLAINED) * unmoved
    else:
        least, allowed = _GAIN, max((1 - _EXPLAINED) * unmoved, 3 * np.sqrt(2 * dof))
    if moved > allowed or unmoved - moved < least:
        return None
    upper = np.cumsum(roots > 0) <= np.count_nonzero(roots) / 2
    change = (after - fit.expected) * roots
    halves = []
    for half in (upper, ~upper):
        inverse = np.linalg.pinv(design[half][:, [0, *range(2, 2 + _HALF_OTHERS)]])
        halves.append(((inverse @ change[half])[0], np.sqrt(per_dof * (inverse[0] @ inverse[0]))))
    (above, error_above), (below, error_below) = halves
    if abs(above - below) > 0.5 * abs(fit.shift) + 3 * np.hypot(error_above, error_below):
        return None
    return fit.shift
