"""The series of a campaign in file order, and which of them are compared with each other."""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tomopipe.cor.fill import N_SERIES
from tomopipe.errors import grouped

if TYPE_CHECKING:
    from tomopipe.campaign.raw_files import CampaignScan


def positions(scans: Iterable["CampaignScan"]) -> dict[str, tuple[int, int]]:
    """Return the position of each scan in its series, from 1, and the length of the series.

    Scans that are skipped or not selected count, so that the others keep their positions.
    """
    series = grouped((scan.series, (scan.index, scan.name)) for scan in scans)
    return {
        name: (position, len(members))
        for members in series.values()
        for position, (_, name) in enumerate(sorted(members), start=1)
    }


def series_around(kinds: Mapping[str, Sequence[Hashable]]) -> dict[str, list[tuple[int, str]]]:
    """Return the series that each is compared with: the nearest before and after of its kinds.

    `kinds` are what a series may share with others, by name. Each comes with its distance in file
    order, in which numbers in names count as numbers: -1 for the series before.
    """
    ordered = sorted(kinds, key=_natural)
    at = {key: number for number, key in enumerate(ordered)}
    results: dict[str, dict[str, int]] = {key: {} for key in ordered}
    for alike in grouped((kind, key) for key in ordered for kind in kinds[key]).values():
        for number, key in enumerate(alike):
            for other in alike[max(0, number - N_SERIES) : number + N_SERIES + 1]:
                results[key][other] = at[other] - at[key]
    return {
        key: sorted((order, other) for other, order in each.items() if order)
        for key, each in results.items()
    }


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
