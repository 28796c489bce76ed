"""What the names of images tell: of which kinds there are how many, and which are missing."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

_NUMBER = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)  # the last number in a name
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


def _parts_of(stem: str) -> tuple[str, str, str]:
    """Return the text of a name before its last number, the number or "", the text after it."""
    found = _NUMBER.fullmatch(stem)
    return (found[1], found[2], found[3]) if found else (stem, "", "")


def head_of(stem: str) -> str:
    """Return the text of a name before its last number; of one without a number all of it."""
    return _parts_of(stem)[0]


def numbers_of(stems: Sequence[str]) -> list[int | None]:
    """Return the last number in each name, None where there is none."""
    return [int(number) if number else None for _, number, _ in map(_parts_of, stems)]


def copies_in(stems: Sequence[str]) -> list[tuple[str, str]]:
    """Return the few images that have head and number of another one: "p_50 (copy)" beside "p_50".

    Nothing where many have, as where two cameras write into one folder.
    """
    first: dict[tuple[str, int], str] = {}
    found = []
    for stem in sorted(stems, key=len):
        head, number, _ = _parts_of(stem)
        if number and (other := first.setdefault((head, int(number)), stem)) != stem:
            found.append((stem, other))
    return found if len(found) <= max(1, _MOST_JUMPING * len(stems)) else []


def in_order(names: Sequence[str]) -> list[str]:
    """Return names of files in the order of their numbers, for each text before these.

    Kinds that the text behind the number tells follow one another if each counts for itself, as of
    s_0000_dar, s_0000_img, s_0001_dar, ...; names that count through, and a few copies, stay.
    """
    ordered = sorted(names, key=_natural)
    parts = {name: _parts_of(os.path.splitext(name)[0]) for name in ordered}
    if not _are_kinds_behind(list(parts.values())):
        return ordered
    return sorted(ordered, key=lambda name: (_natural(parts[name][0]), parts[name][2]))


def _are_kinds_behind(parts: Sequence[tuple[str, str, str]]) -> bool:
    """Tell whether the text behind the number tells kinds of images that count for themselves."""
    n_again = len(parts) - len({(head, number.lstrip("0")) for head, number, _ in parts})
    n_tails = len({tail for *_, tail in parts})
    return n_again > max(1, _MOST_JUMPING * len(parts)) and 1 < n_tails <= _MOST_HEADS


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def heads_in(stems: Sequence[str]) -> dict[str, int]:
    """Count the images of each text before the number, in order of names; none if all differ."""
    heads = Counter(map(head_of, stems))
    return dict(heads) if len(heads) <= _MOST_HEADS else {}


def told_apart(stems: Sequence[str], scan: str = "") -> str:
    """Say how many images there are of each head: "dar_ 10, img_ 181"; "" for only one.

    Equal for scans recorded alike: numbers are #, where that tells the heads apart, and the name of
    the `scan` is <scan>.
    """
    heads, parts = heads_in(stems), [_parts_of(stem) for stem in stems]
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
        for _, run in groupby(map(_parts_of, stems), lambda part: part[1] and (part[0], part[2]))
    ]
    if len(runs) > _MOST_RUNS:
        return None
    numbers = [{int(number) for _, number, _ in run if number} for run in runs]
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
    numbers = np.array(texts, np.int64)
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
            text = f"{start} to {stop}" if stop > start else f"{start}"
            holes.append((index, n_gone, text))
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
