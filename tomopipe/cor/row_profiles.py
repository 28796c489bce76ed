"""Row profiles: the mean of each detector row in many projections, by which vertical motion shows.

In a parallel beam the sum of line integrals over a row stays the same while a sample within the
field of view rotates; it moves along the rows only if the sample does, or the beam
(`tomopipe.cor.axial_motion`).

Where whole frames are read anyway all of them count. Otherwise at least `_LEAST_FRAMES` projections
spread over the scan do, with as many rows next to each other as a fiftieth of the raw data allows.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import evenly_spread
from tomopipe.prep.normalise import MIN_TRANSMISSION
from tomopipe.recon.jit import Team
from tomopipe.scans.pixels import IndexRange
from tomopipe.scans.scan import Scan

if TYPE_CHECKING:
    from tomopipe.prep.flats import Beam

_MOST_READ = 0.02  # share of the raw projections that is read for the profiles, or `FREE_BYTES`
FREE_BYTES = 2**20
"""Bytes that may be read of any scan for its motion, however small it is."""
_LEAST_FRAMES, _MOST_FRAMES = 64, 256  # projections read for the profiles alone
_LEAST_ROWS = 12
_MOST_VALUES, _LEAST_BINS = 2**20, 256  # rows are averaged to keep no more values, but for so many
_LOGARITHMS = 64  # of each row: columns are averaged before

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RowProfiles:
    """Means over the columns in use of some projections."""

    values: NDArray[np.float32]  # (n_kept, n_bins): line integrals; NaN: a row without signal
    frames: NDArray[np.int64]  # (n_kept,): indices among the projections in use, ascending
    rows: NDArray[np.float64]  # (n_bins,): middle of each bin, detector rows
    beam: NDArray[np.float32]  # (n_bins,): mean logarithm of the flats; 0 without flats


class RowProfiler:
    """Means over the columns of raw frames of one scan."""

    def __init__(self, scan: Scan, *, minus_log: bool, threads: int = 1) -> None:
        self._scan, self._minus_log, self._threads = scan, minus_log, threads
        signal = (scan.flat - scan.dark).astype(np.float32)
        valid = np.isfinite(signal) & (signal > 0)
        self._log_signal = np.log(signal, out=np.zeros_like(signal), where=valid)
        self._n_valid = valid.sum(axis=1)
        # Pixels of a block of columns are averaged: a block without any has an infinite offset.
        self._width = max(1, scan.n_cols // _LOGARITHMS)
        firsts = np.arange(0, scan.n_cols, self._width)
        counts = np.add.reduceat(valid, firsts, axis=1, dtype=np.float32)
        of_each = np.repeat(counts, self._width, axis=1)[:, : scan.n_cols]
        self._gain = np.divide(1, signal * of_each, out=np.zeros_like(signal), where=valid)
        dark = np.where(valid, scan.dark, 0) * self._gain
        offset = np.add.reduceat(dark, firsts, axis=1)
        self._offset = np.where(counts > 0, offset, np.inf).astype(np.float32)

    def means(self, raw: NDArray[Any], rows: IndexRange) -> NDArray[np.float32]:
        """Mean of each row of raw frames (n, rows[1] - rows[0], n_cols), of line integrals."""
        if not self._minus_log:
            return np.asarray(raw.mean(axis=2, dtype=np.float32))
        from tomopipe.cor.kernels import mean_lines

        out = np.empty(raw.shape[:2], np.float32)
        gain, offset = self._gain[slice(*rows)], self._offset[slice(*rows)]
        step = max(1, -(-len(raw) // self._threads))

        def fill(first: int) -> None:
            part, least = slice(first, first + step), np.float32(MIN_TRANSMISSION)
            frames = raw[part]
            if frames.dtype == np.float16:  # which no compiled code has
                frames = frames.astype(np.float32)
            mean_lines(frames, gain, offset, self._width, least, out[part])

        with Team(self._threads) as team:
            team.run(fill, ((first,) for first in range(0, len(raw), step)))
        return out

    def profiles(
        self, means: NDArray[np.float32], frames: NDArray[np.int64], rows: IndexRange
    ) -> RowProfiles:
        """Return the profiles of means (n_kept, rows[1] - rows[0]), few enough to be kept."""
        n_rows = rows[1] - rows[0]
        height = math.ceil(n_rows / max(_LEAST_BINS, _MOST_VALUES // max(1, len(frames))))
        starts = np.arange(0, n_rows, height)
        sizes = np.diff([*starts, n_rows])
        within = slice(*rows)
        has_signal = self._n_valid[within] > 0
        beam = self._log_signal[within].sum(axis=1) / np.maximum(self._n_valid[within], 1)
        empty = np.add.reduceat(has_signal, starts, dtype=int) < sizes
        binned = (np.add.reduceat(means, starts, axis=1) / sizes).astype(np.float32)
        if self._minus_log:
            binned[:, empty] = np.nan
        return RowProfiles(
            binned,
            np.asarray(frames, np.int64),
            rows[0] + starts + (sizes - 1) / 2,
            (np.add.reduceat(beam, starts) / sizes).astype(np.float32),
        )

    def read(self, whole: Mapping[int, NDArray[Any]], n_more: int = 0) -> RowProfiles | None:
        """Read profiles of parts of projections; None if too few rows may be read.

        `whole` are frames that have been read: the rows that differ most in them are chosen.
        `n_more` of them count as read for the profiles.
        """
        scan = self._scan
        plan = _plan(scan, n_more)
        if plan is None:
            logger.info("no row profiles: they would take more than 2 % of the raw data")
            return None
        starts, deep, high = plan
        first = self._most_contrast(whole, high)
        rows = first, first + high
        frames = np.concatenate([np.arange(s, min(s + deep, scan.n_angles)) for s in starts])
        blocks = (scan.read_block((s, min(s + deep, scan.n_angles)), rows) for s in starts.tolist())
        means = np.concatenate([self.means(block, rows) for block in blocks])
        logger.info("row profiles of %d projections, rows %d to %d", len(frames), *rows)
        return self.profiles(means, frames, rows)

    def _most_contrast(self, whole: Mapping[int, NDArray[Any]], high: int) -> int:
        """Return the first of `high` rows, at a multiple of the chunks, that differ most."""
        n_rows = self._scan.n_rows
        step = (self._scan.chunks or (1, 1))[1]
        firsts = np.arange(0, n_rows - high + 1, step)
        if n_rows - high < step:
            return 0
        if not whole:
            return int(firsts[len(firsts) // 2])
        images = np.stack(list(whole.values()))
        profile = self.means(images, (0, n_rows)).mean(axis=0, dtype=np.float64)
        apart = max(1, high // 16)
        change = np.abs(profile[apart:] - profile[:-apart])
        change = np.minimum(change, 20 * np.median(change))  # rows without signal
        sums = np.concatenate([[0], np.cumsum(change**2)])
        return int(firsts[np.argmax(sums[firsts + high - apart] - sums[firsts])])


def still(profiles: RowProfiles | None, dy_px: NDArray[np.float64]) -> RowProfiles | None:
    """Return profiles moved back by the shifts of all projections; None if few rows remain."""
    if profiles is None or not dy_px.any():
        return profiles
    rows, shifts = profiles.rows, dy_px[profiles.frames]
    kept = (rows + shifts.min() >= rows[0]) & (rows + shifts.max() <= rows[-1])
    if kept.sum() < _LEAST_ROWS:
        return None
    lines = zip(profiles.values, shifts, strict=True)
    values = [np.interp(rows[kept] + shift, rows, line) for line, shift in lines]
    moved = np.array(values, np.float32)
    return RowProfiles(moved, profiles.frames, rows[kept], profiles.beam[kept])


def by_beam(
    profiles: RowProfiles | None, beam: "Beam", flat: NDArray[np.float32]
) -> RowProfiles | None:
    """Return profiles by the beam of each projection, not by one `flat`."""
    if profiles is None:
        return None
    row = np.arange(len(flat))
    changes = beam.row_changes(flat, profiles.frames)
    lines = [np.interp(profiles.rows, row, change) for change in changes]
    return replace(profiles, values=profiles.values + np.array(lines, np.float32))


def _plan(scan: Scan, n_more: int) -> tuple[NDArray[np.intp], int, int] | None:
    """Return where to read: first frame of each part, frames and rows in a part; None: nowhere."""
    deep, chunk_rows = (scan.chunks or (1, 1))[:2]
    row_bytes = scan.n_cols * scan.dtype.itemsize
    n_rows, n_layers = scan.n_rows, math.ceil(scan.n_angles / deep)
    most = max(_MOST_READ * scan.n_angles * n_rows * row_bytes, FREE_BYTES)
    most -= n_more * deep * n_rows * row_bytes
    n_parts = int(np.clip(most // (deep * n_rows * row_bytes), _LEAST_FRAMES, _MOST_FRAMES))
    n_parts = min(n_parts, n_layers)
    high = int(most // (n_parts * deep * row_bytes)) // chunk_rows * chunk_rows
    if high < min(_LEAST_ROWS, n_rows):
        return None
    return evenly_spread(n_layers, n_parts) * deep, deep, min(high, n_rows)
