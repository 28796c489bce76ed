"""Names of images: their order, their kinds, and angles in them."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import grouped, some_of

# A sign, unless a digit is before it, and a number; not 12.30.45, which is a time
_NUMBER = re.compile(r"((?<!\d)[-+])?((?<!\d[.,])\d+[.,]\d+(?![.,]?\d)|\d+)")
_SPELLED = re.compile(r"(−?\d+(?:·\d+)?)")  # the same as `_spelled` writes them
_MOST_KINDS = 6  # more are no kinds of images: each name has something of its own
# Fewer images have no usual step; a count has jumps at no more images than these, or this share.
_LEAST_IMAGES, _MOST_JUMPS, _MOST_JUMPING = 4, 3, 0.05


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


def _value(number: str) -> Decimal:
    return Decimal(number.replace("−", "-").replace("·", "."))


def _numbers_in(spelled: str) -> tuple[Decimal, ...]:
    return tuple(map(_value, _SPELLED.findall(spelled)))


def kinds_of(stems: Sequence[str]) -> list[str]:
    """Return the text of each name, with # for each number."""
    return [_SPELLED.sub("#", name) for name in _spelled(stems)]


def unclear_kinds(stems: Sequence[str]) -> str:
    """Say what shows that images are not of one kind, each with its number; "" if nothing does."""
    kinds = Counter(kinds_of(stems))
    if len(kinds) > 1:
        shown = some_of([f"{kind} ({n})" for kind, n in kinds.items()], _MOST_KINDS)
        return f"images with {len(kinds)} kinds of names, {shown}"
    first: dict[tuple[Decimal, ...], str] = {}
    for stem, name in zip(stems, _spelled(stems), strict=True):
        if (numbers := _numbers_in(name)) in first:
            return f"two images of one number, {first[numbers]} and {stem}"
        first[numbers] = stem
    return ""


def in_order(names: Sequence[str]) -> list[str]:
    """Return names of files in the order of their numbers, kinds that count for themselves apart.

    So of s_0000_dar, s_0000_img, s_0001_dar, ...; names that count through stay.
    """
    split = [os.path.splitext(name) for name in names]
    stems = _spelled([stem for stem, _ in split])
    kinds = [_SPELLED.sub("#", stem) for stem in stems]
    n_again = len(stems) - len({_numbers_in(stem) for stem in stems})
    by_kind = n_again > max(1, _MOST_JUMPING * len(stems)) and len({*kinds}) <= _MOST_KINDS
    keys = {
        name: (kind if by_kind else "", _natural(stem + ending), name)
        for name, kind, stem, (_, ending) in zip(names, kinds, stems, split, strict=True)
    }
    return sorted(names, key=keys.__getitem__)


def _natural(name: str) -> list[str | Decimal]:
    parts = _SPELLED.split(name)
    return [_value(part) if at % 2 else part for at, part in enumerate(parts)]


def missing_counts(stems: Sequence[str]) -> list[int]:
    """Return the numbers missing in names of one kind, if the last that differs counts evenly."""
    texts = [_SPELLED.findall(name) for name in _spelled(stems)]
    columns = (
        [int(text.replace("−", "-").replace("·", "")) for text in column]
        for column in reversed(list(zip(*texts, strict=True)))
    )
    counts = next((column for column in columns if len({*column}) == len(column)), [])
    if len(counts) < _LEAST_IMAGES or max(map(abs, counts)) >= 2**53:
        return []
    steps = np.diff(counts)
    sizes, n_steps = np.unique(steps, return_counts=True)
    usual = int(sizes[np.argmax(n_steps)])
    n_jumps = np.count_nonzero(steps != usual)
    most_jumps = min(len(steps) / 3, max(_MOST_JUMPS, _MOST_JUMPING * len(counts)))
    if usual < 1 or (steps < 1).any() or (steps % usual).any() or n_jumps > most_jumps:
        return []
    return sorted({*range(counts[0], counts[-1], usual)}.difference(counts))


class Placed(NamedTuple):
    """Images whose names hold their angles."""

    positions: NDArray[np.intp]  # (n_images,): which of the planned angles each image has
    theta_deg: NDArray[np.float64]  # (n_planned,)


def places_by_angle(
    stems: Sequence[str], planned: Callable[[NDArray[np.float64]], Iterable[NDArray[np.float64]]]
) -> Placed | None:
    """Find the angle of each image by a number in its name that one of the `planned` lists has.

    Else one that counts all images decides, if any; a ValueError says how they contradict.
    """
    plain, fault = _spelled(stems), ""
    counted: Placed | None = None
    signed = _spelled(stems, negative=True)
    for spelled in (plain, signed)[: 1 + (signed != plain)]:
        texts = [_SPELLED.findall(name) for name in spelled]
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
