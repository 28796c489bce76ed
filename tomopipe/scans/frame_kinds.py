"""Projections, flats, darks and invalid frames of one stack, numbered as NXtomo does."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanError
from tomopipe.scans.layout import Kind, Path, Reference
from tomopipe.scans.pixels import Frames, Pixels

PROJECTION, FLAT, DARK, INVALID = range(4)
# what a scan has fewer frames than
COUNTED = "in input.frames (if none is missing, correct it; select: yes counts from the first)"
KEYS = {"flats": FLAT, "darks": DARK}
_WORDS = {"projection": PROJECTION, "flat": FLAT, "dark": DARK, "invalid": INVALID}


def counted_keys(
    order: Sequence[str], n_frames: int, path: Path, which: str = ""
) -> NDArray[np.int64]:
    """Return the kind of each frame that `input.frames` counts, "10 darks", "900 projections", ...

    A ScanError if the scan has more frames, `which` for people.
    """
    runs = [run.split() for run in order]
    kinds = np.array([_WORDS[word.removesuffix("s")] for _, word in runs], np.int64)
    keys = np.repeat(kinds, [int(number) for number, _ in runs])
    if len(keys) < n_frames:
        raise ScanError(
            f"{path}: {n_frames} frames{f' ({which})' if which else ''}, input.frames counts "
            f"{len(keys)}: correct it, for this scan alone in overrides"
        )
    return keys


def frames_of_kind(
    kind: Kind, pixels: Pixels, keys: NDArray[np.int64], location: str
) -> list[Reference]:
    """Return the flats or darks that keys mark, in the order in which they were taken, if any."""
    index = np.flatnonzero(keys == KEYS[kind])
    taken = np.cumsum(keys == PROJECTION)[index]
    found = Reference(Frames(pixels, index), location, taken.astype(float))
    return [found] if len(index) else []


def invalid_frames(keys: NDArray[np.int64]) -> tuple[str, ...]:
    """Warn of frames that keys mark as invalid, if there are any."""
    n_invalid = int(np.count_nonzero(keys == INVALID))
    return (f"frames marked as invalid, and skipped: {n_invalid}",) if n_invalid else ()
