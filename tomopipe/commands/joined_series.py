"""A pattern of series that joins scans, where most series have a single one."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tomopipe.campaign.raw_files import split_name

_LEAST_SERIES = 3
_NUMBER = re.compile(r"(\d+)")


def warn_of_single_scans(names: Sequence[str], series: Sequence[str], present: str) -> str:
    """Say that most series have one scan, and the pattern that joins them; "" if none does.

    `names` are of scans, `series` has the series of each by the `present` pattern, which may begin
    with its folder: other folders are other series by any pattern.
    """
    counts = Counter(series)
    n_single = sum(n == 1 for n in counts.values())
    if len(counts) < _LEAST_SERIES or 2 * n_single <= len(counts):
        return ""
    patterns = dict.fromkeys(pattern for alike in _kinds(names) for pattern in _patterns_of(alike))
    folders = [
        key.removesuffix(split_name(name, present)[0])
        for name, key in zip(names, series, strict=True)
    ]
    results = {}
    for pattern in patterns:
        places = [
            (folder, *split_name(name, pattern))
            for name, folder in zip(names, folders, strict=True)
        ]
        n_series = len({(folder, key) for folder, key, _ in places})
        if 2 * n_series <= len(names) and n_series < len(counts):
            # of widths and heights: one index for each scan, before few series
            results[pattern] = len(set(places)) < len(places), n_series
    if not results:
        return ""
    best = min(results, key=lambda pattern: results[pattern])
    return (
        f"{n_single} of {len(counts)} series have one scan, which no other can check or fill: "
        f"inventory: {{series_pattern: '{best}'}} makes {results[best][1]} series of {len(names)} "
        "scans"
    )


def _kinds(names: Sequence[str]) -> list[list[list[str]]]:
    """Return names that are alike but for their numbers, each split into text, number, text, ..."""
    kinds: dict[tuple[str, ...], list[list[str]]] = {}
    for name in names:
        parts = _NUMBER.split(name)
        kinds.setdefault(tuple(parts[::2]), []).append(parts)
    return list(kinds.values())


def _patterns_of(alike: list[list[str]]) -> Iterator[str]:
    """Yield the patterns whose index is a number in which names differ, one for each."""
    n_parts = len(alike[0])
    for at in range(1, n_parts, 2):
        if len({parts[at] for parts in alike}) > 1:
            rest = [
                r"\d+" if number % 2 else re.escape(alike[0][number])
                for number in range(at + 1, n_parts)
            ]
            yield rf"^(.*?)[._-]*(\d+){''.join(rest)}$"
