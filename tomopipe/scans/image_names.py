"""What the names of images tell: of which kinds there are how many, and which are missing."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.groups import grouped

# A sign, unless a digit is before it, and a number; not 12.30.45, which is a time
_NUMBER = re.compile(r"((?<!\d)[-+])?((?<!\d[.,])\d+[.,]\d+(?![.,]?\d)|\d+)")
# The same as `_spelled` writes them, and the last one in a name
_SPELLED = re.compile(r"(−?\d+(?:·\d+)?)")
_LAST = re.compile(rf"(.*?){_SPELLED.pattern}(\D*)", re.DOTALL)
_MOST_HEADS = 6  # more are no kinds of images: each name has something of its own
_MOST_RUNS, _MOST_DIGITS = 50, 15
# Fewer images have no usual step; more jumps than these, or than this share, are no holes.
_LEAST_IMAGES, _MOST_JUMPS, _MOST_JUMPING = 4, 3, 0.05
_EVENLY = 2  # images: distances between jumps that vary by no more are even
_MOST_NAMED = 4
_UNIX_S = (10**9, 3 * 10**9)  # seconds since 1970


@dataclass(frozen=True, eq=False)
class Gaps:
    """Images whose numbers show that others between them are missing."""

    positions: NDArray[np.intp]  # (n_images,): which each is of all that were taken, the first is 0
    n_missing: int
    missing: str  # which, for people: "images 57 to 66"


def _spelled(stems: Sequence[str], *, negative: bool = False) -> list[str]:
    """Write − for each minus sign and · for each decimal point, with equally many decimals.

    Names that are alike but for their numbers are compared: a hyphen is a sign where only some have
    it (`negative`: or all, but before 0), a point is a decimal one unless zeros at the end show
    that a count is behind it (3.9, 3.10).
    """
    split = [_NUMBER.split(stem) for stem in stems]  # text, sign, number, text, ...
    for alike in grouped((tuple(parts[::3]), parts) for parts in split).values():
        for at in range(1, len(alike[0]), 3):
            _spell(alike, at, negative=negative)
    return ["".join(part or "" for part in parts) for parts in split]


def _spell(alike: Sequence[list[str]], at: int, *, negative: bool) -> None:
    """Rewrite one sign, at the index `at` of each name, and the number after it."""
    signs = {parts[at] for parts in alike}
    no_zero = all(parts[at + 1].strip("0.,") for parts in alike)
    signed = "-" in signs and (len(signs) > 1 or (negative and no_zero))
    fractions = [parts[at + 1].replace(",", ".").partition(".")[2] for parts in alike]
    n_decimals = max(map(len, fractions))
    if len({*map(len, fractions)}) > 1 and any(f[1:] and f.endswith("0") for f in fractions):
        n_decimals = 0  # a count behind the point
    for parts, fraction in zip(alike, fractions, strict=True):
        if signed:
            parts[at] = "−" if parts[at] == "-" else ""
        if n_decimals:
            whole = parts[at + 1].removesuffix(fraction).rstrip(".,")
            parts[at + 1] = f"{whole}·{fraction.ljust(n_decimals, '0')}"


def parts_of(stems: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return the text of each name before its last number, the number or "", the text after it."""
    split = map(_LAST.fullmatch, spelled := _spelled(stems))
    return [
        (found[1], found[2], found[3]) if found else (name, "", "")
        for name, found in zip(spelled, split, strict=True)
    ]


def _value(number: str) -> Decimal:
    return Decimal(number.replace("−", "-").replace("·", "."))


def _count(number: str) -> int:
    """Return a number as a whole one, of decimals in units of the last."""
    return int(number.replace("−", "-").replace("·", ""))


def numbers_of(stems: Sequence[str]) -> list[int | None]:
    """Return the last number in each name, None where there is none."""
    return [_count(number) if number else None for _, number, _ in parts_of(stems)]


def copies_in(stems: Sequence[str]) -> list[tuple[str, str]]:
    """Return the few images that have head and number of another one: "p_50 (copy)" beside "p_50".

    Nothing where many have, as where two cameras write into one folder.
    """
    first: dict[tuple[str, Decimal], str] = {}
    found = []
    parts = dict(zip(stems, parts_of(stems), strict=True))
    for stem in sorted(stems, key=len):
        head, number, _ = parts[stem]
        if number and (other := first.setdefault((head, _value(number)), stem)) != stem:
            found.append((stem, other))
    return found if len(found) <= max(1, _MOST_JUMPING * len(stems)) else []


def in_order(
    names: Sequence[str], spell: Callable[[Sequence[str]], Sequence[str]] = _spelled
) -> list[str]:
    """Return names of files in the order of their numbers, for each text before these.

    Kinds that the text behind the number tells follow one another if each counts for itself, as of
    s_0000_dar, s_0000_img, s_0001_dar, ...; names that count through, and a few copies, stay.
    `spell` makes signs and decimal points recognisable.
    """
    split = [os.path.splitext(name) for name in names]
    stems = spell([stem for stem, _ in split])
    keys = {
        name: (_natural(stem + ending), name)
        for name, stem, (_, ending) in zip(names, stems, split, strict=True)
    }
    ordered = sorted(names, key=keys.__getitem__)
    parts = dict(zip(names, parts_of([stem for stem, _ in split]), strict=True))
    if not _are_kinds_behind(list(parts.values())):
        return ordered
    return sorted(ordered, key=lambda name: (_natural(parts[name][0]), parts[name][2]))


def in_earlier_order(names: Sequence[str]) -> list[str]:
    """Return names in the order of earlier versions, which knew no signs and no decimals."""
    return in_order(names, spell=lambda stems: stems)


def _are_kinds_behind(parts: Sequence[tuple[str, str, str]]) -> bool:
    """Tell whether the text behind the number tells kinds of images that count for themselves."""
    n_again = len(parts) - len({(head, number.lstrip("0")) for head, number, _ in parts})
    n_tails = len({tail for *_, tail in parts})
    return n_again > max(1, _MOST_JUMPING * len(parts)) and 1 < n_tails <= _MOST_HEADS


def _natural(name: str) -> list[str | Decimal]:
    parts = _SPELLED.split(name)
    return [_value(part) if at % 2 else part for at, part in enumerate(parts)]


def heads_in(stems: Sequence[str]) -> dict[str, int]:
    """Count the images of each text before the number, in order of names; none if all differ."""
    heads = Counter(head for head, *_ in parts_of(stems))
    return dict(heads) if len(heads) <= _MOST_HEADS else {}


def told_apart(stems: Sequence[str], scan: str = "") -> str:
    """Say how many images there are of each head: "dar_ 10, img_ 181"; "" for only one.

    Equal for scans recorded alike: numbers are #, where that tells the heads apart, and the name of
    the `scan` is <scan>.
    """
    heads, parts = heads_in(stems), parts_of(stems)
    if _are_kinds_behind(parts):
        heads = dict(Counter(f"{head}#{tail}" for head, _, tail in parts))
    if len(heads) < 2:
        return ""
    own_name = re.compile(rf"(?<![^\W_]){re.escape(scan)}(?![^\W\d_])") if scan else None
    shown = [own_name.sub("<scan>", head) if own_name else head for head in heads]
    alike = [re.sub(r"\d+", "#", text) for text in shown]
    if len(set(alike)) == len(alike):
        shown = alike
    return ", ".join(f"{text} {n}" for text, n in zip(shown, heads.values(), strict=True))


def find_gaps(stems: Sequence[str], others: Iterable[Collection[int]] = ()) -> Gaps | None:
    """Find images that are missing between others, by the last numbers in their names.

    `stems` are in order; those of one head and tail, which follow one another, have numbers of
    their own. `others` are numbers of other images, of each kind by itself: they are not missing if
    they were counted together with these. None if nothing is missing, or the numbers are no even
    ones with a few holes: angles or times, say.
    """
    missing: list[str] = []
    steps = np.ones(len(stems), np.intp)  # of each image from the one before
    runs = [
        list(run)
        for _, run in groupby(parts_of(stems), lambda part: part[1] and (part[0], part[2]))
    ]
    if len(runs) > _MOST_RUNS:
        return None
    numbers = [{_count(number) for _, number, _ in run if number} for run in runs]
    first = 0
    for numbers_of_run, run in zip(numbers, runs, strict=True):
        apart = [kind for kind in [*others, *numbers] if numbers_of_run.isdisjoint(kind)]
        for index, n_gone, text in _holes([number for _, number, _ in run], set().union(*apart)):
            steps[first + index] += n_gone
            missing.append(f"{run[0][0] if len(runs) > 1 else ''}{text}")
        first += len(run)
    if not missing:
        return None
    more = [f"{len(missing) - _MOST_NAMED} more"] * (len(missing) > _MOST_NAMED)
    names = ", ".join(missing[:_MOST_NAMED] + more)
    positions = np.cumsum(steps) - 1
    n_missing = int(positions[-1]) + 1 - len(stems)
    return Gaps(positions, n_missing, f"image{'s' * (n_missing > 1)} {names}")


def _holes(texts: Sequence[str], counted: Collection[int]) -> list[tuple[int, int, str]]:
    """Return for each hole the image after it, how many are missing, and their numbers."""
    if len(texts) < _LEAST_IMAGES or not 1 <= max(map(len, texts)) <= _MOST_DIGITS:
        return []  # few, or without a number
    n_decimals = len(texts[0].partition("·")[2])
    numbers = np.array([_count(text) for text in texts], np.int64)
    steps = np.diff(numbers)
    sizes, counts = np.unique(steps, return_counts=True)
    usual = int(sizes[np.argmax(counts)])
    after = np.flatnonzero(steps != usual) + 1
    if (steps < 1).any() or (steps % usual).any() or _are_no_counts(numbers, after):
        return []
    holes = []
    for index in after.tolist():
        start, stop = int(numbers[index - 1]) + usual, int(numbers[index]) - usual
        n_gone = (stop - start) // usual + 1
        n_gone -= sum(start <= n <= stop and (n - start) % usual == 0 for n in counted)
        if n_gone:
            ends = [f"{n / 10**n_decimals:.{n_decimals}f}" for n in sorted({start, stop})]
            holes.append((index, n_gone, " to ".join(ends)))
    return holes


def _are_no_counts(numbers: NDArray[np.int64], after: NDArray[np.intp]) -> bool:
    """Tell whether numbers that jump at some images are not those of a count with a few holes."""
    steps = np.diff(numbers)
    if len(after) > min(len(steps) / 3, max(_MOST_JUMPS, _MOST_JUMPING * len(numbers))):
        return True
    # equal jumps at even distances: rounded angles, or seconds that begin again at each minute
    if len(after) >= 3 and np.ptp(steps[after - 1]) == 0 and np.ptp(np.diff(after)) <= _EVENLY:
        return True
    first, last = int(numbers[0]), int(numbers[-1])
    if _UNIX_S[0] <= first < _UNIX_S[1]:
        return True
    # a time, 142359 and then 142400: a count that goes so far has 60 to 99, too
    minutes, seconds = numbers // 100 % 100, numbers % 100
    is_time = first >= 10_000 and max(seconds.max(), minutes.max()) < 60 and np.ptp(seconds) > 0
    return bool(is_time and first // 100 < last // 100)


class Placed(NamedTuple):
    """Images whose names hold their angles."""

    places: NDArray[np.intp]  # (n_images,): which of the angles that were planned each image has
    theta_deg: NDArray[np.float64]  # (n_planned,)


def places_by_angle(
    stems: Sequence[str], planned: Callable[[NDArray[np.float64]], Iterable[NDArray[np.float64]]]
) -> Placed | None:
    """Find the angle of each image by a number in its name that the angles of the scan confirm.

    `planned` returns the angles that may have been planned, for the numbers of one place in the
    names. Where no number is an angle, but some have signs or decimals, one that counts all images
    decides. None if there is none; a ValueError says how names and angles contradict.
    """
    plain, fault = _spelled(stems), ""
    counted: Placed | None = None
    signed = _spelled(stems, negative=True)
    for spelled in (plain, signed)[: 1 + (signed != plain)]:
        texts = [_SPELLED.findall(name) for name in spelled]
        if len({*map(len, texts)}) != 1:
            return None
        columns = [_Column(column) for column in zip(*texts, strict=True)]
        orders = [np.arange(len(stems)), *(np.argsort(c.numbers, kind="stable") for c in columns)]
        for column in (column for column in columns if column.may_be_angles):
            for theta_deg in planned(column.numbers):
                # a hyphen before all numbers is a sign only where the angles have these values
                places = column.places(theta_deg, orders if spelled is plain else [])
                if places is not None:
                    return Placed(places, theta_deg)
                fault = fault or column.contradiction(theta_deg, stems)
                if spelled is plain and len(theta_deg) == len(stems):
                    counts = (c for c in columns if c.counts_all)
                    counted = counted or next((c.placed(theta_deg) for c in counts), None)
    if fault:
        raise ValueError(fault)
    return counted


class _Column:
    """The numbers of one place in the names of images."""

    def __init__(self, texts: Sequence[str]) -> None:
        n_decimals = max(len(text.partition("·")[2]) for text in texts)
        self.numbers = np.array([*map(_value, texts)], float)
        self._unit = 10.0**-n_decimals
        steps = np.diff(np.unique(self.numbers))
        self._is_count = bool(
            len(steps)
            and np.median(steps) == self._unit == 1
            and not any("−" in text for text in texts)
        )
        self.may_be_angles = len(steps) > 0 and not self._is_count
        self.counts_all = self._is_count and len(steps) + 1 == len(texts)

    def placed(self, theta_deg: NDArray[np.float64]) -> Placed:
        """Return images in the order of the numbers."""
        return Placed(np.argsort(np.argsort(self.numbers)), theta_deg)

    def places(
        self, theta_deg: NDArray[np.float64], orders: Sequence[NDArray[np.intp]]
    ) -> NDArray[np.intp] | None:
        """Return which of the angles each number is; None if they do not fit."""
        step_deg = _step(theta_deg)
        near_deg = self._unit if self._unit > step_deg else step_deg / 2
        is_whole = len(theta_deg) == len(self.numbers)
        for order in orders if is_whole else []:
            if (np.abs(self.numbers[order] - theta_deg) <= near_deg).all():
                return np.argsort(order)
        near_one_deg = max(self._unit / 2, step_deg / 4)
        for numbers, angles_deg in (
            (self.numbers, theta_deg),
            (self.numbers % 360, theta_deg % 360),
        ):
            places = _nearest(numbers, angles_deg, near_one_deg)
            if places is not None:
                return places
        # modulo half a rotation; then from another zero, or in the other sense
        near_deg = min(near_deg, max(self._unit, _step(theta_deg % 180) / 2))
        for zero, sign in ((0, 1), (1, 1), (1, -1)) if is_whole else ():
            for order in orders:
                off_deg = self.numbers[order] - sign * theta_deg
                if (np.abs((off_deg - zero * off_deg[0] + 90) % 180 - 90) <= near_deg).all():
                    return np.argsort(order)
        return None

    def contradiction(self, theta_deg: NDArray[np.float64], stems: Sequence[str]) -> str:
        """Say where numbers that cover the range of the angles are not these; "" if they do not."""
        if len(theta_deg) != len(self.numbers):
            return ""
        near_deg = max(self._unit, _step(theta_deg))
        for end in (np.min, np.max):
            if not abs(end(self.numbers) - end(theta_deg)) <= near_deg:  # also if one is NaN
                return ""
        worst = int(np.argmax(np.abs(self.numbers - theta_deg)))
        return f"{stems[worst]} would be at {theta_deg[worst]:.6g} degrees"


def _nearest(
    numbers: NDArray[np.float64], theta_deg: NDArray[np.float64], near_deg: float
) -> NDArray[np.intp] | None:
    """Return which angle is the nearest to each number, if each has its own."""
    rank = np.argsort(theta_deg, kind="stable")
    ordered = theta_deg[rank]
    places = rank[np.searchsorted((ordered[1:] + ordered[:-1]) / 2, numbers)]
    is_near = (np.abs(theta_deg[places] - numbers) <= near_deg).all()
    return places if is_near and len(np.unique(places)) == len(places) else None


def _step(theta_deg: NDArray[np.float64]) -> float:
    """Return the usual distance between angles, 0 if all are equal."""
    steps = np.diff(np.unique(np.round(theta_deg, 6)))
    return float(np.median(steps)) if len(steps) else 0.0
