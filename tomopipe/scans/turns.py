"""Turns of the stage that a scan repeats, from its angles."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.scans.metadata import skipping

_LEAST = 10  # projections in a turn
_REGULAR = 3.0  # median steps: a longer one is a jump back, or a gap
_LARGEST_STEP_DEG, _FINE_DEG = 20.0, 1.0  # golden ratio: 111; as fine as in a scan of one turn
_LEAST_RANGE_DEG, _SAME_RANGE = 90.0, 0.05
_SAME = 0.2  # steps: largest median distance of repeated angles; interlaced ones are further apart
_MOST = 0.8  # share of the projections that the turns must have

Numbers = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Turns:
    """Turns with the same angles, in the order of acquisition."""

    theta_deg: NDArray[np.float64]  # angles of all projections
    members: tuple[Numbers, ...]  # of each turn the projections, ascending in angle
    range_deg: float

    def __str__(self) -> str:
        n = len(self.members)
        n_turns = f"{n}" if n > 1 else f"{len(self.theta_deg) / len(self.members[0]):.2g}"
        return f"{n_turns} turns of {self.range_deg:.0f} degrees in one file"

    def first_alone(self, numbers: Numbers) -> str:
        """Return the option that uses only the first turn; `numbers` are those as recorded."""
        return f"{skipping(np.delete(numbers, self.members[0]))} uses the first turn only"


def find_turns(theta_deg: NDArray[np.float64], *, is_half: bool = False) -> Turns | None:
    """Find turns: angles that start again, go back and forth, or cover 540 degrees and more.

    Golden-ratio angles and interlaced ones do not repeat: each turn has angles of its own.

    Parameters
    ----------
    theta_deg : ndarray of float64, shape (n_angles,)
        In the order of acquisition.
    is_half : bool, optional
        Whether slices need 360 degrees (half acquisition): 540 are one such turn, and more.

    Returns
    -------
    Turns or None
        The frames of each turn, and its range in degrees; None: one turn.
    """
    step_deg = regular_step_deg(theta_deg)
    if step_deg is None or not np.isfinite(theta_deg).all():
        return None
    turns = _repeated(theta_deg, _ascending_runs(theta_deg, step_deg), step_deg)
    if turns is None:
        straight_deg = np.unwrap(theta_deg, period=360)
        runs = _ascending_runs(straight_deg, step_deg)
        turns = _continuous(straight_deg, runs[0], step_deg, is_half) if len(runs) == 1 else None
        if turns is not None and is_half:
            return turns
    n_used = sum(map(len, turns.members)) if turns else 0
    return turns if n_used >= _MOST * len(theta_deg) else None


def regular_step_deg(theta_deg: NDArray[np.float64]) -> float | None:
    """Return the usual step of angles; None if it is too large (golden ratio), 0 or not known."""
    step_deg = float(np.median(np.abs(np.diff(theta_deg)))) if len(theta_deg) > 1 else 0.0
    return step_deg if 0 < step_deg <= _LARGEST_STEP_DEG else None


def regular_runs(theta_deg: NDArray[np.float64], step_deg: float) -> list[Numbers]:
    """Return runs of projections at regular steps of one sign, each as recorded."""
    steps = np.diff(theta_deg)
    signs = np.where(np.abs(steps) <= _REGULAR * step_deg, np.sign(steps), 0)
    ends = np.flatnonzero(np.diff(signs)) + 1
    return [
        np.arange(first, last + 1)
        for first, last in zip([0, *ends], [*ends, len(signs)], strict=True)
        if signs[first] and last + 1 - first >= _LEAST
    ]


def _ascending_runs(theta_deg: NDArray[np.float64], step_deg: float) -> list[Numbers]:
    """Return regular runs, each ascending in angle."""
    runs = regular_runs(theta_deg, step_deg)
    return [run[np.argsort(theta_deg[run])] for run in runs]


def _repeated(theta_deg: NDArray[np.float64], runs: list[Numbers], step_deg: float) -> Turns | None:
    """Return the runs, at least two, with the angles of the longest one."""
    ranges_deg = [float(np.ptp(theta_deg[run])) for run in runs]
    longest_deg = max(ranges_deg, default=0.0)
    if longest_deg < _LEAST_RANGE_DEG:
        return None
    whole = [
        r for r, deg in zip(runs, ranges_deg, strict=True) if deg >= (1 - _SAME_RANGE) * longest_deg
    ]
    first_deg = theta_deg[whole[0]]
    same = [run for run in whole if _apart(theta_deg[run], first_deg) <= _SAME * step_deg]
    if len(same) < 2:
        return None
    return Turns(theta_deg, tuple(same), _nominal(longest_deg, step_deg))


def _continuous(
    theta_deg: NDArray[np.float64], run: Numbers, step_deg: float, is_half: bool
) -> Turns | None:
    """Return the whole turns of a run: of 360 degrees, or of 180 if it covers 540 to 720."""
    run = np.sort(run)
    away_deg = np.abs(theta_deg[run] - theta_deg[run[0]])
    covered_deg = float(away_deg[-1]) + 1.5 * step_deg
    turn_deg = 360.0 if covered_deg >= 720 or is_half else 180.0
    n_turns = int(covered_deg // turn_deg)
    if covered_deg < 540:
        return None
    of_turn = np.minimum((away_deg + 1e-6) // turn_deg, n_turns)
    members = [run[of_turn == turn] for turn in range(n_turns)]
    first_deg = away_deg[: len(members[0])]
    again_deg = away_deg[of_turn == 360 // turn_deg] - 360
    is_repeated = _apart(again_deg, first_deg) <= _SAME * step_deg
    closes = abs(away_deg[-1] - turn_deg * n_turns) <= 0.05 * step_deg
    if not (is_repeated or closes or step_deg <= _FINE_DEG):
        return None
    return Turns(theta_deg, tuple(r[np.argsort(theta_deg[r])] for r in members), turn_deg)


def _apart(theta_deg: NDArray[np.float64], others_deg: NDArray[np.float64]) -> float:
    """Return the median distance of angles to the nearest of others, ascending."""
    after = np.clip(np.searchsorted(others_deg, theta_deg), 1, len(others_deg) - 1)
    near = np.minimum(
        np.abs(others_deg[after] - theta_deg), np.abs(others_deg[after - 1] - theta_deg)
    )
    return float(np.median(near))


def _nominal(range_deg: float, step_deg: float) -> float:
    """Return 180 degrees or a multiple if the range is that, or one step less."""
    nominal_deg = 180.0 * round((range_deg + step_deg / 2) / 180)
    return nominal_deg if abs(range_deg + step_deg / 2 - nominal_deg) <= step_deg else range_deg
