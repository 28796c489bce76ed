"""Motion of the sample along the axis (up or down the rows) during a scan: a jump, or a drift.

Rows are then mixed in every slice, while the COR stays right. The row profiles of a scan
(`tomopipe.cor.row_profiles`) are registered with their common template
(`tomopipe.cor.row_registration`). In a parallel beam a profile keeps its form while a sample within
the field of view rotates; of a sample beyond it the profile changes slowly, which counts as noise:
a shift must explain what changes.

Not taken for motion: a beam that gets brighter, that tilts, or that moves over the detector, a
sample that absorbs more, and a tilted axis, about which a sample goes up and down once per
rotation, by a small share of what it goes to the sides. Needles match by chance in one pair of
pictures, motion shows in the pairs beside it, too (docs/decisions/0084-pairs-beside-the-ends.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import NORMAL_PER_MAD
from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.end_shift import EndShift, end_shifts
from tomopipe.cor.mass import swing_px
from tomopipe.cor.outliers import SLICES_MIXED
from tomopipe.cor.row_profiles import RowProfiles
from tomopipe.cor.row_registration import Floats, Mask, Stack, measure
from tomopipe.cor.shift_evidence import explain, likelihood, sudden
from tomopipe.recon.angular_sampling import mirrored_ends

# Least shift (rows), in units of its error, and share of the change that it explains.
_LEAST_ROWS, _SIGNIFICANCE, _EXPLAINED = 0.5, 5.0, 0.5
# Far shifts (bins) must explain more; least decrease of the misfit (squared errors).
_FAR, _FAR_EXPLAINED, _FAR_GAIN, _GAIN = 2.0, 0.8, 100.0, 25.0
_MOST_ERROR_ROWS = 0.45
# Share of a jump that the profiles beside it may lack; a drift that is so much larger counts.
_SUDDEN, _MAINLY = 0.4, 2.0
_LEAST_FRAMES, _LEAST_BESIDE, _PARTS = 16, 3, 16  # profiles; on each side of a jump; parts
_MOST_KNOWN = 0.7  # least share of the profiles that can be registered
# Net shift of a drift, as a share of the whole; order of the polynomial that is its course.
_ONE_WAY, _ORDER = 0.7, 3
# How far back a drift goes that the sums show alone: share of its size, or times the noise.
_MOST_BACK, _BACK_BY_NOISE = 0.15, 3.0
_MOST_TILT_DEG = 1.0  # of the axis
# A pin goes to the sides by so many of its spreads, and less than this share of the field of view.
_PIN, _WITHIN = 2.0, 0.45
# Deviations by which a shift of the end projections and of the sums must be more likely than none,
# and where the course of the sums is such a shift, by so many of its errors; which parts of the
# sums are compared; share of a shift of the sums by which ends may differ.
_LEAST_SCORES, _LEAST_OF_SUMS = (8.0, 6.0), 2.5
_END_PARTS, _APART = (16, 6), 0.3
# Least number of `Rows.ends` that are averaged. Deviations that are needed where further pairs show
# the shift of the ends, too, by so many deviations, to so many rows and errors.
_TO_AVERAGE = 6
_LEAST_OF_PAIRS, _LEAST_OF_EACH, _ALIKE_ROWS, _ALIKE = (7.0, 6.0), 3.0, 0.3, 2.0
# Of a jump, or drift, of the sums: largest share by which the beam may move, too; of a drift only
# if the two courses are correlated by so much.
_MOST_OF_BEAM, _COURSES_ALIKE = (1 / 3, 0.05), 0.75
# Rows, and share of the shift, by which it may differ if the beam is not fitted.
_WITHOUT_BEAM = 0.1
# Stated errors: so many times that by noise, and (rows, share of the shift) what remains, of the
# ends and of the sums; deviations by which the two contradict each other.
_TIMES_NOISE, _CONTRADICT = 1.4, 3.0
_OF_ENDS, _OF_JUMPS, _OF_DRIFTS = (0.02, 0.02), (0.1, 0.0), (0.1, 0.05)
_SURE_ROWS = 0.15  # the largest error that the warning does not state
# Between the first and the last of so many parts a drift shows this share, to within the last.
_DRIFT_PARTS = (16, 1.0, 1 / 16), (3, 0.63, 0.18)


@dataclass(frozen=True)
class AxialMotion:
    """Motion along the axis: of a jump between two projections, or of a drift."""

    shift_rows: float  # positive: towards later rows, down
    error_rows: float
    between: tuple[int, int] | None  # indices of the projections before and after a jump


def warn_of_axial_motion(
    rows: Rows, cor_px: float, tilt: float = 0.0
) -> tuple[str, tuple[int, int] | None]:
    """Return a warning that the sample moved along the axis (at a column of `rows`), or "".

    And between which projections in use it jumped. `tilt` of the axis, columns per row, lets a
    sample beside it look moved over 180 degrees.
    """
    if (rows.profiles is None and rows.ends is None) or not rows.minus_log:
        return "", None
    numbers = rows.numbers_or_places
    bad = np.isin(numbers, np.concatenate([*(rows.bad_frames or {}).values(), []]))
    swing = swing_px(rows.plain().sinograms, rows.theta_rad)
    ends, beside = list[EndShift](), list[Callable[[], list[EndShift]]]()
    if rows.ends is not None:
        pair, *others = end_pairs(rows.ends)
        ends = _end_shifts(rows, pair, cor_px, swing)
        beside = [partial(_end_shifts, rows, other, cor_px, swing) for other in others]
    motion = find_axial_motion(rows.profiles, rows.theta_rad, swing, bad, ends, beside)
    if motion is None:
        return "", None
    when = "during the scan"
    if motion.between is not None:
        before, after = numbers[list(motion.between)].tolist()
        when = f"between projections {before} and {after}"
    direction = "down" if motion.shift_rows > 0 else "up"
    size = f"{abs(motion.shift_rows):.1f}"
    if motion.error_rows > _SURE_ROWS:
        size += f" ± {motion.error_rows:.1f}"
    text = f"the sample moves {size} rows {direction} {when}"
    if motion.between is None and abs(motion.shift_rows) <= 2 * abs(tilt) * swing:
        return f"{text}, or seems to, as the axis is tilted: correct that first", None
    text += f": {SLICES_MIXED}; measure again, or leave out one part (input.skip_projections)"
    return text, motion.between


def end_pairs(ends: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the pairs (2, n_rows, n_cols) of `Rows.ends` that are registered.

    The first one shows a shift: of three projections at each end the means, which have less noise.
    The others must show it, too: these ends themselves, and each with what is beside the other one.
    """
    beside = [ends[[0, 3]], ends[[2, 1]]] if len(ends) > 2 else []
    if len(ends) < _TO_AVERAGE:
        return [ends[:2], *beside]
    return [ends.reshape(-1, 2, *ends.shape[1:]).mean(axis=0), ends[:2], *beside]


def _end_shifts(
    rows: Rows, pair: NDArray[np.float32], cor_px: float, swing: float
) -> list[EndShift]:
    """Return the shifts between two projections of the ends, in rows of the detector."""
    first, last = pair.astype(np.float64)
    is_mirrored = mirrored_ends(rows.theta_rad)
    height = -(-rows.n_rows // len(first))
    shifts = []
    for shift in end_shifts(first, last, cor_px if is_mirrored else None):
        is_pin = is_mirrored and _PIN * shift.spread_px < swing < _WITHIN * first.shape[1]
        size, error = shift.rows * height, shift.error * height
        if not (is_pin and abs(size) <= 2 * _most_tilt(swing)):
            shifts.append(shift._replace(rows=size, error=error))
    return shifts


def _most_tilt(swing: float) -> float:
    """Return how far (px) a sample goes up and down about an axis of the largest tilt."""
    return float(np.tan(np.deg2rad(_MOST_TILT_DEG)) * swing)


def find_axial_motion(
    profiles: RowProfiles | None,
    theta_rad: Floats,
    swing: float,
    bad: Mask | None = None,
    ends: Sequence[EndShift] = (),
    beside: Sequence[Callable[[], Sequence[EndShift]]] = (),
) -> AxialMotion | None:
    """Find the largest jump, or the drift, along the axis; None if there is none, or no telling.

    `theta_rad` are the angles of all projections in use, `bad` which of them hold no picture,
    `ends` shifts between the first and the last one, where they see the same, `beside` those of
    further pairs (`end_pairs`), which count only where there is a shift. `swing` is how far the
    sample goes to the sides (px) as it turns: about a tilted axis it goes up and down by a share
    of that.
    """
    stack, frames = _stack(profiles, bad)
    least = _LEAST_OF_PAIRS if beside else _LEAST_SCORES
    likely = _likely(stack, None, ends, least)
    course = between = None
    if stack is not None:
        is_still = any(abs(e.rows) + _SIGNIFICANCE * e.error < _LEAST_ROWS for e in ends)
        if is_still and not likely:
            return None
        course = _course(stack, frames, theta_rad, swing)
        likely = _likely(stack, course, ends, least)
    motion = None if course is None else _motion_of_sums(course)
    if motion is None and not likely:
        return None
    others = [of() for of in beside]
    if motion is not None and _disagree(motion.shift_rows, [*ends, *chain(*others)]):
        motion = None
    end = next((e for e in likely if all(_agrees(e, other) for other in others)), None)
    if end is None:
        return motion
    if stack is not None and (k := sudden(stack, end.rows / stack.height)) is not None:
        between = int(frames[k - 1]), int(frames[k])
    of_ends = AxialMotion(end.rows, _stated_error(end.rows, end.error, *_OF_ENDS), between)
    return of_ends if motion is None else _mean(of_ends, motion)


def _stated_error(rows: float, error: float, least_rows: float, share: float) -> float:
    """Return the error of a shift by noise, and by what noise does not show."""
    return float(np.sqrt((_TIMES_NOISE * error) ** 2 + least_rows**2 + (share * rows) ** 2))


def _mean(ends: AxialMotion, sums: AxialMotion) -> AxialMotion:
    """Return the weighted mean of two measurements; that of the ends where they contradict."""
    between = ends.between or sums.between
    apart = abs(ends.shift_rows - sums.shift_rows)
    deviations = apart / np.hypot(ends.error_rows, sums.error_rows)
    if deviations > _CONTRADICT:
        error = float(np.hypot(ends.error_rows, apart / 2))
        return AxialMotion(ends.shift_rows, error, between)
    weights = np.array([ends.error_rows, sums.error_rows]) ** -2.0
    size = float(np.average([ends.shift_rows, sums.shift_rows], weights=weights))
    return AxialMotion(size, float(weights.sum() ** -0.5 * max(1.0, deviations)), between)


def _disagree(rows: float, shifts: Sequence[EndShift]) -> bool:
    """Tell whether one of the shifts of images is not what the sums show."""
    allowed = max(_LEAST_ROWS, _APART * abs(rows))
    return any(abs(rows - s.rows) > allowed + _SIGNIFICANCE * s.error for s in shifts)


def _agrees(end: EndShift, others: Sequence[EndShift]) -> bool:
    """Tell whether a further pair, smoothed as much, shows the shift of the ends."""
    return any(
        abs(other.rows - end.rows) <= _ALIKE_ROWS + _ALIKE * np.hypot(other.error, end.error)
        for other in others
        if other.smooth_px == end.smooth_px and other.score >= _LEAST_OF_EACH
    )


def _likely(
    stack: Stack | None,
    course: "_Course | None",
    ends: Sequence[EndShift],
    least: tuple[float, float],
) -> list[EndShift]:
    """Return the shifts that are more likely than none by so much, the likeliest one first."""
    each = [(_beyond(stack, course, e, least), e) for e in ends if abs(e.rows) >= _LEAST_ROWS]
    each.sort(key=itemgetter(0), reverse=True)
    return [end for beyond, end in each if beyond >= 0]


def _beyond(
    stack: Stack | None, course: "_Course | None", end: EndShift, least: tuple[float, float]
) -> float:
    """Return by how many deviations a shift is more likely than none, beyond the least ones."""
    of_sums = 0.0
    if stack is not None:
        shift = end.rows / stack.height
        parts = [np.array_split(np.arange(len(stack.values)), n_parts) for n_parts in _END_PARTS]
        of_sums = max(likelihood(stack, part[0], part[-1], shift) for part in parts)
    beyond = _score(end, of_sums) - least[0]
    shown = [] if course is None else course.shown_rows()
    for rows, error, net in shown:
        allowed = _LEAST_ROWS + np.hypot(error, end.error)
        agrees = max(abs(rows - end.rows), abs(net - end.rows)) <= allowed
        if agrees and abs(rows) >= _LEAST_OF_SUMS * error:
            beyond = max(beyond, _score(end, (rows / error) ** 2) - least[1])
    return beyond


def _score(end: EndShift, of_sums: float) -> float:
    """Return the deviations of both; sums, a square of deviations, add no more than ends show."""
    return float(np.sqrt(max(end.score**2 + min(of_sums, end.score**2), 0.0)))


def _stack(
    profiles: RowProfiles | None, bad: Mask | None
) -> tuple[Stack | None, NDArray[np.int64]]:
    """Return the profiles that hold a picture, None if they are few, and their frames."""
    if profiles is None:
        return None, np.zeros(0, np.int64)
    kept = np.ones(len(profiles.frames), bool) if bad is None else ~bad[profiles.frames]
    kept &= np.isfinite(profiles.values).any(axis=1)
    frames = profiles.frames[kept]
    return (Stack.of(profiles, kept) if len(frames) >= _LEAST_FRAMES else None), frames


@dataclass(frozen=True)
class _Step:
    """A candidate of a jump: before profile `index`."""

    index: int
    size: float  # bins
    error: float
    wide: int  # profiles on each side that show it


@dataclass(frozen=True, eq=False)
class _Course:
    """The shift of each profile, and what it may be."""

    stack: Stack  # profiles without what is no motion
    index: NDArray[np.intp]  # of those that are known
    frames: NDArray[np.int64]
    shift: Floats  # (n_known,): bins
    beam: Floats  # (n_known,): where it is, bins
    part_noise: float  # of one of `_PARTS`, bins
    step: _Step | None
    drift: tuple[float, float] | None  # size and error, bins
    of_still_beam: "Callable[[], _Course | None]"  # the same of a beam that is not fitted

    def shown_rows(self) -> list[tuple[float, float, float]]:
        """Return sizes that it may show, with their errors, and the shift from begin to end."""
        shown = [] if self.step is None else [(self.step.size, self.step.error)]
        shown += [] if self.drift is None else [self.drift]
        parts, height = _in_parts(self.shift), self.stack.height
        net = float(parts[-1] - parts[0])
        return [(size * height, error * height, net * height) for size, error in shown]


def _course(
    stack: Stack, frames: NDArray[np.int64], theta_rad: Floats, swing: float
) -> _Course | None:
    """Measure the shift of all profiles; None: of too few."""
    beamless = replace(stack, beam=np.zeros_like(stack.beam))
    of_still_beam = partial(_course, beamless, frames, theta_rad, swing)
    shift, error, beam, still = measure(stack)
    known = np.isfinite(error)
    if known.mean() < _MOST_KNOWN:
        return None
    index = np.flatnonzero(known)
    shift, beam, frames = shift[index], beam[index], frames[index]
    noise = max(float(np.median(error[index])), _white_noise(shift))
    step = _find_step(shift, noise, theta_rad[frames])
    drift = _find_drift(shift, noise, theta_rad[frames], _most_tilt(swing) / stack.height)
    part_noise = noise * float(np.sqrt(2 * _PARTS / len(shift)))
    return _Course(still, index, frames, shift, beam, part_noise, step, drift, of_still_beam)


def _motion_of_sums(course: _Course) -> AxialMotion | None:
    """Find the largest jump, or the drift, by the profiles."""
    height, between = course.stack.height, None
    jump, drift = _jump(course), _drift(course)
    if jump is not None and _beam_jumps(course, jump[0], jump[2]):
        return None
    if drift is not None and _beam_drifts(course, drift[0]):
        drift = None
    if jump is not None and (drift is None or abs(drift[0]) < _MAINLY * abs(jump[0])):
        size, error, k = jump
        between, remains = (int(course.frames[k - 1]), int(course.frames[k])), _OF_JUMPS
    elif drift is not None:
        (size, error), remains = drift, _OF_DRIFTS
    else:
        return None
    rows = float(size * height)
    return AxialMotion(rows, _stated_error(rows, error * height, *remains), between)


def _beam_jumps(course: _Course, size: float, k: int) -> bool:
    """Tell whether the beam jumps where the sums do (bins)."""
    before, after = slice(max(k - _LEAST_BESIDE, 0), k), slice(k, k + _LEAST_BESIDE)
    moves = _beam_moves(course, size, before, after, _MOST_OF_BEAM[0])
    return moves and not _is_seen_without_beam(course, _jump, size)


def _beam_drifts(course: _Course, size: float) -> bool:
    """Tell whether the beam drifts as the sums do (bins)."""
    n = max(len(course.beam) // 8, 1)
    if not _beam_moves(course, size, slice(n), slice(-n, None), _MOST_OF_BEAM[1]):
        return False
    is_alike = float(np.corrcoef(course.beam, course.shift)[0, 1]) > _COURSES_ALIKE
    return is_alike and not _is_seen_without_beam(course, _drift, size)


def _is_seen_without_beam(
    course: _Course, find: Callable[[_Course], Sequence[float] | None], size: float
) -> bool:
    """Tell whether a jump or drift (bins) is the same if no beam is fitted: then none moved."""
    still = course.of_still_beam()
    other = None if still is None else find(still)
    allowed = _WITHOUT_BEAM * (1 / course.stack.height + abs(size))
    return other is not None and abs(other[0] - size) <= allowed


def _beam_moves(course: _Course, size: float, before: slice, after: slice, most: float) -> bool:
    """Tell whether the beam moves, too, between two parts, but not as far, as for a detector.

    Then the sums move by what is not fitted of the beam.
    """
    move = float(np.median(course.beam[after]) - np.median(course.beam[before]))
    apart_rows = abs(move - size) * course.stack.height
    return abs(move) > most * abs(size) and apart_rows > _LEAST_ROWS


def _is_clear(size: float, error: float, stack: Stack) -> bool:
    """Tell whether a shift (bins) is large enough, and known well enough."""
    rows, error_rows = abs(size) * stack.height, error * stack.height
    return rows >= max(_LEAST_ROWS, _SIGNIFICANCE * error_rows) and error_rows <= _MOST_ERROR_ROWS


def _jump(course: _Course) -> tuple[float, float, int] | None:
    """Return size and error of the clearest jump, bins, and the number of the profile after it."""
    stack, index, step = course.stack, course.index, course.step
    if step is None or not _is_clear(step.size, step.error, stack):
        return None
    k, sizes = step.index, []
    if min(k, len(index) - k) < _LEAST_BESIDE:
        return None
    for wide in (step.wide, len(index) // 8, len(index) // 4):
        before, after = index[max(k - wide, 0) : k], index[k : k + wide]
        size = _explained_shift(stack, before, after, step.size)
        if size is None or abs(size - step.size) > _LEAST_ROWS + 3 * step.error:
            break
        sizes.append(size)  # of more profiles, thus more exact
    if not sizes or not _is_clear(sizes[-1], step.error, stack):
        return None
    return sizes[-1], step.error, k


def _drift(course: _Course) -> tuple[float, float] | None:
    """Return size and error of a drift, bins, if the last projections show it."""
    stack, index, drift = course.stack, course.index, course.drift
    if drift is None or not _is_clear(*drift, stack):
        return None
    size, error = drift
    way = np.sign(size) * _in_parts(course.shift)
    back = float(np.max(np.maximum.accumulate(way) - way))
    if back > max(_MOST_BACK * abs(size), _BACK_BY_NOISE * course.part_noise):
        return None
    for n_parts, share, apart in _DRIFT_PARTS:
        parts, shifts = np.array_split(index, n_parts), np.array_split(course.shift, n_parts)
        start = float(np.median(shifts[-1]) - np.median(shifts[0])) if n_parts == 3 else size
        shown = _explained_shift(stack, parts[0], parts[-1], start)
        if shown is not None:  # thirds: more projections, more rows in common
            most = _LEAST_ROWS + 3 * error + apart * abs(size)
            return drift if abs(shown - share * size) <= most else None
    return None


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
    evidence = explain(stack, first, last, shift)
    if evidence is None or not evidence.halves_agree:
        return None
    is_far = abs(evidence.shift) > _FAR
    share = max(_FAR_EXPLAINED if is_far else _EXPLAINED, evidence.by_chance)
    noise = 0.0 if is_far else evidence.noise
    if evidence.moved > max((1 - share) * evidence.unmoved, noise):
        return None
    return evidence.shift if evidence.gain >= (_FAR_GAIN if is_far else _GAIN) else None
