"""Series and index from file names; reference size of the scans of a series."""

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from urllib.parse import quote

from tomopipe.errors import TomopipeError

# Complete scans of a series differ by a few dropped frames in thousands at most; two scans aborted
# at random are hardly ever this close.
SAME_SIZE = 0.005

# A slice needs angles over so much: 180 degrees, less what may be missing at the ends.
COVERS_DEG = 170.0

_LONGEST_NAME_BYTES = 200  # of the 255 bytes of a file name, leaving room for suffixes


def split_name(stem: str, pattern: str) -> tuple[str, int]:
    """Split the name of a scan into series and index, by the pattern's groups 1 and 2.

    Where the pattern does not match, the series is the whole stem and the index 0. The groups are
    those of the TomoGUI manual, "COR Management".
    """
    match = re.search(pattern, stem)
    if match is None:
        return stem, 0
    try:
        return match[1] or "", int(match[2] or 0)
    except ValueError as error:
        raise TomopipeError(
            f"inventory.series_pattern: {pattern!r}: group 2 must be digits; got {match[2]!r} from "
            f"the name {stem!r}."
        ) from error


def series_key(series: str, prefix: str) -> str:
    """Name a series within the campaign: `prefix/series`, or `series` alone."""
    return f"{prefix}/{series}" if prefix else series


def fixed_folder(pattern: str) -> str:
    """Return the folder of a pattern, up to its first wildcard; "" for the campaign folder."""
    folder = os.path.dirname(pattern.rstrip("/"))
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder


def folder_prefixes(patterns: Iterable[str]) -> dict[str, str]:
    """Return the folders of patterns, each up to a wildcard, with a unique prefix.

    In the order of the config: "" for the first, for each other the shortest end of its path that
    no earlier one has, so that a folder added at the end renames no series.
    """
    prefixes: dict[str, str] = {}
    occupied: set[str] = set()
    for pattern in patterns:
        folder = os.path.normpath(fixed_folder(pattern))
        if folder in prefixes:
            continue
        names = [part for part in PurePath(folder).parts if part != "/"]
        ends = ["/".join(names[-n:]) for n in range(1, len(names) + 1)]
        whole = f"./{folder}".removesuffix("/.")
        prefix = next((end for end in ends if end not in occupied), whole)
        prefixes[folder] = prefix if prefixes else ""
        occupied.update(ends)
    return prefixes


def folder_prefix(folder: str, prefixes: Mapping[str, str]) -> str:
    """Return the prefix of the series of a folder, including what wildcards match.

    `folder` is that of a scan as in the config, `prefixes` is from `folder_prefixes`.
    """
    path = PurePath(os.path.normpath(folder))
    named = [prefix for prefix in prefixes if path.is_relative_to(prefix)]
    root = max(named, key=lambda prefix: len(PurePath(prefix).parts))
    below = "/".join(path.relative_to(root).parts)
    above = prefixes[root]
    if below and not above and len(prefixes) > 1:
        above = PurePath(root).name
    return "/".join(filter(None, (above, below)))


def encode_series(key: str) -> str:
    """Turn the key of a series, any text, into a file name, one to one.

    The percent-encoded key of at most 200 bytes; `_` for the empty key (a series that is named `_`
    becomes `%5F`). Longer ones end in `@` and a hash; others have no `@`.
    """
    if key in ("", "_"):
        return "%5F" if key else "_"
    name = quote(key, safe="", errors="surrogateescape")
    if name.startswith("."):  # no hidden files, nor `.` and `..`
        name = "%2E" + name[1:]
    if len(name) <= _LONGEST_NAME_BYTES:
        return name
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{name[: _LONGEST_NAME_BYTES - 17]}@{digest}"


def reference_size(sizes: Iterable[float]) -> float:
    """Return the size of a complete scan of a series: the largest size that several scans share.

    A size is a number of projections. Complete scans of a series follow one protocol and have the
    same size (here: within 0.5 %); aborted ones are smaller and end anywhere. The median is wrong
    as soon as half of the scans are aborted, and the largest if one scan is oversized (another
    protocol).

    The largest size that a tenth of the series, and at least two scans, share survives a majority
    of aborted scans, and a few long scans of another protocol in a large series. Where no size has
    as many, two will do; where no two agree the largest is taken, as an aborted scan is smaller,
    never larger: so in a pair, and with one complete scan among aborted ones of different sizes.
    What it cannot tell from sizes alone is one complete scan among several aborted at the same
    frame; the caller skips what it knows to be aborted. Sizes that are not positive do not count; 0
    if there are no others.
    """
    descending = sorted((float(size) for size in sizes if size > 0), reverse=True)
    if not descending:
        return 0.0
    for others in (max(1, len(descending) // 10), 1):
        for larger, smaller in zip(descending, descending[others:], strict=False):
            if smaller >= (1 - SAME_SIZE) * larger:
                return larger
    return descending[0]


def undersized(
    n_frames: int, covered_deg: float | None, *, reference: float, min_fraction: float
) -> bool:
    """Tell whether a scan looks aborted beside those of its series.

    It has few projections, and they do not cover the angles that a slice needs. Neither alone is
    enough: a coarse scan over 180 degrees is complete, whatever the others are, and so is one over
    less with as many projections as they have. Rows, columns and pixel type are not considered.

    `covered_deg` is the range of its angles, the last step included; None: there are no angles.
    `reference` is from `reference_size`, and `min_fraction` the smallest number kept as a fraction
    of it, 0 to 1, itself kept.
    """
    few = n_frames < min_fraction * reference
    return few and (covered_deg is None or covered_deg < COVERS_DEG)
