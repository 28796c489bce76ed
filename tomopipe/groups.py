"""Things of one key together; faults that several scans share."""

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from tomopipe.errors import some_of

K = TypeVar("K")
V = TypeVar("V")


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Return the values of each key, both in the order in which they come."""
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def scans_named(names: Sequence[str]) -> str:
    """Name the scans that share a fault: one by its name, several by their number and the first."""
    return names[0] if len(names) == 1 else f"{len(names)} scans ({some_of(names, 3)})"


def fault_lines(faults: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each text and the scans that share it, from (text, scan).

    Texts that differ in the name of the scan alone are one, with {scan} in its place.
    """
    alike = grouped(
        (re.sub(rf"(?<!\w){re.escape(scan)}(?!\w)", "{scan}", text), (text, scan))
        for text, scan in faults
    )
    lines = []
    for pattern, entry in alike.items():
        text = pattern if len(entry) > 1 else entry[0][0]
        lines.append(f"{scans_named([scan for _, scan in entry])}: {text}")
    return lines
