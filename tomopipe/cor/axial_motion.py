"""Motion of the sample along the axis (up or down the rows) during a scan: a jump, or a drift.

Rows are then mixed in every slice, while the COR stays right. The row profiles of a scan
(`tomopipe.cor.row_profiles`) are registered with their common template
(`tomopipe.cor.row_registration`). In a parallel beam a profile keeps its form while a sample within
the field of view rotates; of a sample beyond it the profile changes slowly, which counts as noise:
a shift must explain what changes.

Not taken for motion: a beam that gets brighter, that tilts, or that moves over the detector, a
sample that absorbs more, and a tilted axis, about which a sample goes up and down once per
rotation, by a small share of what it goes to the sides.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import NORMAL_PER_MAD
from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.mass import swing_px
from tomopipe.cor.row_profiles import RowProfiles
from tomopipe.cor.row_registration import Floats, Mask, Stack, Template, measure, register

# Least shift (rows), in units of its error, and share of the change that it explains.
_LEAST_ROWS, _SIGNIFICANCE, _EXPLAINED = 0.5, 5.0, 0.5
# Far shifts (bins) must explain more; least decrease of the misfit (squared errors).
_FAR, _FAR_EXPLAINED, _FAR_GAIN, _GAIN = 2.0, 0.8, 100.0, 25.0
_MOST_ERROR_ROWS = 0.4
# Share of a jump that the profiles beside it may lack; a drift that is so much larger counts.
_SUDDEN, _MAINLY = 0.4, 2.0
_LEAST_FRAMES, _PARTS = 16, 16
_MOST_KNOWN = 0.7  # least share of the profiles that can be registered
# Net shift of a drift, as a share of the whole; order of the polynomial that is its course.
_ONE_WAY, _ORDER = 0.7, 3
_MOST_TILT_DEG = 1.0  # of the axis
_MOST_BEAM_BINS = 12.0
_HALF_OTHERS = 2  # changes fitted in half of the rows: brighter, tilted


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
    swing = swing_px(rows.plain().sinograms, rows.theta_rad)
    motion = find_axial_motion(profiles, rows.theta_rad, swing, bad)
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
    profiles: RowProfiles, theta_rad: Floats, swing: float, bad: Mask | None = None
) -> AxialMotion | None:
    """Find the largest jump, or the drift, along the axis; None if there is none, or no telling.

    `theta_rad` are the angles of all projections in use, `bad` which of them hold no picture.
    `swing` is how far the sample goes to the sides (px) as it turns: about a tilted axis it goes up
    and down by a share of that.
    """
    kept = np.ones(len(profiles.frames), bool) if bad is None else ~bad[profiles.frames]
    kept &= np.isfinite(profiles.values).any(axis=1)
    frames = profiles.frames[kept]
    if len(frames) < _LEAST_FRAMES:
        return None
    stack = Stack.of(profiles, kept)
    if stack is None:
        return None
    shift, error, stack = measure(stack)
    known = np.isfinite(error)
    if known.mean() < _MOST_KNOWN:
        return None
    index = np.flatnonzero(known)
    shift, theta_rad = shift[index], theta_rad[frames[index]]
    noise = max(float(np.median(error[index])), _white_noise(shift))
    jump = _jump(stack, index, shift, noise, theta_rad)
    most_tilt = np.tan(np.deg2rad(_MOST_TILT_DEG)) * swing / stack.height
    drift = _drift(stack, index, _find_drift(shift, noise, theta_rad, most_tilt))
    if jump is not None and (drift is None or abs(drift[0]) < _MAINLY * abs(jump[0])):
        size, error_bins, k = jump
        between = int(frames[index[k - 1]]), int(frames[index[k]])
        return AxialMotion(size * stack.height, error_bins * stack.height, between)
    if drift is None:
        return None
    return AxialMotion(drift[0] * stack.height, drift[1] * stack.height, None)


@dataclass(frozen=True)
class _Step:
    """A candidate of a jump: before profile `index`."""

    index: int
    size: float  # bins
    error: float
    wide: int  # profiles on each side that show it


def _is_clear(size: float, error: float, stack: Stack) -> bool:
    """Tell whether a shift (bins) is large enough, and known well enough."""
    rows, error_rows = abs(size) * stack.height, error * stack.height
    return rows >= max(_LEAST_ROWS, _SIGNIFICANCE * error_rows) and error_rows <= _MOST_ERROR_ROWS


def _jump(
    stack: Stack, index: NDArray[np.intp], shift: Floats, noise: float, theta_rad: Floats
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
    stack: Stack, index: NDArray[np.intp], drift: tuple[float, float] | None
) -> tuple[float, float] | None:
    """Return size and error of a drift, bins, if the last projections show it."""
    if drift is None or not _is_clear(*drift, stack):
        return None
    size, error = drift
    parts = np.array_split(index, _PARTS)
    of_ends = _explained_shift(stack, parts[0], parts[-1], size)
    if of_ends is None or abs(of_ends - size) > _LEAST_ROWS + 3 * error + abs(size) / _PARTS:
        return None
    return drift


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


def _find_drift(
    shift: Floats, noise: float, theta_rad: Floats, most_tilt: float
) -> tuple[float, float] | None:
    """Return size and error of a drift from the begin to the end; None: a tilted axis, or none."""
    n = len(shift)
    time = np.linspace(-0.5, 0.5, n)
    line = np.stack([np.ones(n), time], axis=1)
    slope = float(np.linalg.lstsq(line, shift)[0][1])
    swing = np.linalg.lstsq(_tilt(theta_rad), shift)[0]
    of_line = shift - line @ np.linalg.lstsq(line, shift)[0]
    of_tilt = shift - _tilt(theta_rad) @ swing
    error = noise * np.sqrt(2 * _PARTS / n)
    least = max(_LEAST_ROWS, _SIGNIFICANCE * error)
    if np.ptp(_in_parts(of_tilt)) < least and np.hypot(*swing[1:]) <= most_tilt:
        # a tilted axis may look like it: a line must fit no worse
        if of_line @ of_line > of_tilt @ of_tilt + 4 * noise**2:
            return None
        return slope, _inflation(of_line, noise) * noise / float(np.sqrt(np.sum(time**2)))
    course = _in_parts(shift)
    ends = np.polyval(np.polyfit(time, shift, _ORDER), time[[0, -1]])
    size = float(ends[1] - ends[0])
    if abs(size - slope) <= 2 * error and np.std(_in_parts(of_line)) <= error:
        return slope, error
    return (size, error) if abs(course[-1] - course[0]) >= _ONE_WAY * np.ptp(course) else None


def _in_parts(values: Floats) -> Floats:
    return np.array([np.median(part) for part in np.array_split(values, _PARTS)])


def _explained_shift(
    stack: Stack, first: NDArray[np.intp], last: NDArray[np.intp], shift: float
) -> float | None:
    """Return the shift from some profiles to others; None where it does not explain the change.

    It must explain most of what differs, but for noise and what the beam changes where it may be;
    more than it explains of any change as smooth as this one by chance; and be alike in the upper
    and lower half.
    """
    before, after = stack.mean_of(first), stack.mean_of(last)
    template = Template.empty(len(before))
    template.add(before, stack.roots, 0.0)
    fit = register(stack, after, template, shift)
    if fit is None:
        return None
    roots = fit.roots
    design = fit.design * roots[:, None]

    def without(change: Floats, basis: Floats) -> Floats:
        q = np.linalg.qr(basis)[0]
        return np.asarray(change - q @ (q.T @ change))

    per_dof = 1 / len(first) + 1 / len(last)
    others = np.column_stack([design[:, 1:], _beam_changes(stack, design[:, 1:], roots, per_dof)])
    dof = np.count_nonzero(roots) - others.shape[1] - 1
    slope, change = without(design[:, 0], others), without((after - before) * roots, others)
    left = without((after - fit.expected) * roots, np.column_stack([design[:, 0], others]))
    unmoved, moved = change @ change / per_dof - dof, left @ left / per_dof - dof
    is_far = abs(fit.shift) > _FAR
    by_chance = _by_chance(change, slope)
    explained = max(_FAR_EXPLAINED if is_far else _EXPLAINED, by_chance)
    allowed = (1 - explained) * unmoved
    if not is_far:
        allowed = max(allowed, 3 * np.sqrt(2 * dof))
    if moved > allowed or unmoved - moved < (_FAR_GAIN if is_far else _GAIN):
        return None
    upper = np.cumsum(roots > 0) <= np.count_nonzero(roots) / 2
    solution = fit.inverse @ (after - fit.expected)
    left = (after - fit.expected) * roots - design[:, 1:] @ solution[1:]
    halves = []
    for half in (upper, ~upper):
        inverse = np.linalg.pinv(design[half][:, [0, *range(2, 2 + _HALF_OTHERS)]])
        halves.append(((inverse @ left[half])[0], np.sqrt(per_dof * (inverse[0] @ inverse[0]))))
    (above, error_above), (below, error_below) = halves
    if abs(above - below) > 0.5 * abs(fit.shift) + 3 * np.hypot(error_above, error_below):
        return None
    return fit.shift


def _beam_changes(stack: Stack, others: Floats, roots: Floats, noise: float) -> Floats:
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
    alike = [np.correlate(v, v, "full") / max(float(v @ v), 1e-300) for v in (change, slope)]
    n = max(len(change) / float(alike[0] @ alike[1]), 1.0)
    return float(_SIGNIFICANCE**2 / (_SIGNIFICANCE**2 + n - 1))
