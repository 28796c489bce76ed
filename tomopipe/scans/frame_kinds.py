"""Projections, flats, darks and invalid frames of one stack, numbered as NXtomo does."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tomopipe.scans.layout import Kind, Path, Reference
from tomopipe.scans.pixels import Frames, Pixels

PROJECTION, FLAT, DARK, INVALID = range(4)
# what a scan has fewer frames than
COUNTED = "in input.frames (if none is missing, correct it; select: yes counts from the first)"
KEYS = {"flats": FLAT, "darks": DARK}
_WORDS = {"projection": PROJECTION, "flat": FLAT, "dark": DARK, "invalid": INVALID}


def keys_in_order(order: Sequence[str]) -> NDArray[np.int64]:
    """Return the kind of each frame of `input.frames`: ["10 darks", "900 projections", ...]."""
    runs = [re.split(r"\s+", run.strip()) for run in order]
    kinds = [_WORDS[word.rstrip("s")] for _, word in runs]
    return np.repeat(np.array(kinds, np.int64), [int(number) for number, _ in runs])


def more_frames(path: Path, n_frames: int, n_planned: int, which: str = "") -> str:
    """Say that a scan has more frames than `input.frames` counts."""
    return (
        f"{path}: {n_frames} frames{f' ({which})' if which else ''}, input.frames counts "
        f"{n_planned}: correct it, for this scan alone in overrides"
    )


def frames_of_kind(
    kind: Kind, pixels: Pixels, keys: NDArray[np.int64], location: str
) -> Reference | None:
    """Return the flats or darks that keys mark, in the order in which they were taken, if any."""
    index = np.flatnonzero(keys == KEYS[kind])
    taken = np.cumsum(keys == PROJECTION)[index]
    return Reference(Frames(pixels, index), location, taken.astype(float)) if len(index) else None


def invalid_frames(keys: NDArray[np.int64]) -> tuple[str, ...]:
    """Warn of frames that keys mark as invalid, if there are any."""
    n_invalid = int(np.count_nonzero(keys == INVALID))
    return (f"frames marked as invalid, and skipped: {n_invalid}",) if n_invalid else ()
