"""Pixels of an open scan of any format, with its flats and darks and their locations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import PixelsError, ScanError, is_of_the_system, naming
from tomopipe.scans.block_means import block_means, some_rows
from tomopipe.scans.chunks import IndexRange, ranges
from tomopipe.scans.datasets import need_dataset
from tomopipe.scans.layout import PIXEL_SIZE_UM
from tomopipe.scans.metadata import Metadata, skipping
from tomopipe.scans.pixels import AveragedFrames, Frames
from tomopipe.scans.references import References
from tomopipe.scans.shared_frames import SharedPixels, Stored
from tomopipe.scans.stated_motion import shifts_px

_DAMAGED = 0.1  # largest share of damaged projections that can be left out
_MOST_STUCK = 0.25  # largest share of stuck pixels
_SATURATED = 0.9  # share of the largest value in the flat around pixels saturated by the beam
_FEW = 0.01  # largest share of pixels of a flat that are negative for other reasons


@dataclass(frozen=True, eq=False)
class FlatSet:
    """Flats `first` to `last` (exclusive) of `Scan.read_flats`, taken together."""

    # projections in use before them; n_angles: after the scan; None: unknown
    position: float | None
    first: int
    last: int
    mean: NDArray[np.float32] = field(repr=False)  # (n_rows, n_cols)


class Scan:
    """The pixels of an open scan; made by `tomopipe.scans.exchange.open_scan`, valid in its block.

    Attributes
    ----------
    n_angles, n_rows, n_cols : int
        Projections in use, rows, columns in use.
    first_col, detector_cols : int
        The first of these columns, and how many the detector has.
    numbers : ndarray of int, shape (n_angles,)
        Index of each projection in use among those recorded, from 0; of a mean that of its first.
    dtype : numpy.dtype
        Type of raw pixels, in the byte order of this machine.
    chunks : tuple of int or None
        What is read or decoded at least (frames, rows, columns): chunks of the dataset, or of the
        first source of a virtual one; whole frames of TIFF files. None: only what is requested.
    stored_chunks : tuple of int or None
        Chunks of the file, also where parts of one can be read.
    threads : int
        Threads that decode while `read_rows` or `read_block` reads; 1 unless it is set.
    empty : callable
        empty(shape, dtype) gives memory to `read_rows` and `read_block`; `numpy.empty` unless set.
    theta_deg, theta_rad : ndarray of float64, shape (n_angles,)
        Angles of the projections in use, in degrees and in radians.
    recorded : tuple of float
        Begin and end of all projections of the file, counted in projections in use from the first
        one of these: 0 and n_angles, but for a window.
    n_flats, n_darks : int
        Flats and darks that were written; 0 if declared absent.
    pixel_size_um, energy_kev, distance_mm : float or None
        As in `Metadata`; `pixel_ratio`, `stated_motion` and `n_recorded`, too.
    """

    def __init__(
        self,
        metadata: Metadata,
        projections: Frames,
        used: NDArray[np.intp],
        flats: References,
        darks: References,
    ) -> None:
        n, frames = metadata.average, (projections.pixels, projections.index[used])
        self._projections = Frames(*frames) if n == 1 else AveragedFrames(*frames, n)
        self._average, self._used, self._flats, self._darks = n, used, flats, darks
        self.numbers = used[::n]
        # possible lengths of a monitor's dataset, and the indices of the frames in use
        self._lengths = [
            (projections.pixels.shape[0], self._projections.index),
            (metadata.n_recorded, metadata.first + used),
        ]
        self._format, self._n_frames = metadata.format, len(projections.index)
        self.n_angles, self.n_rows = len(self.numbers), metadata.n_rows
        begin, end = -metadata.first, metadata.n_recorded - metadata.first
        self.recorded = tuple(n * self.n_angles / self._n_frames for n in (begin, end))
        self.n_cols = self._projections.pixels.shape[2]
        self.first_col, self.detector_cols = metadata.columns[0], metadata.n_cols
        self.dtype = np.dtype(metadata.dtype)
        chunks = projections.pixels.chunks
        self.chunks, self.stored_chunks = chunks.whole, chunks.shape
        if n > 1:
            self.dtype = np.dtype(np.float32)
            if self.chunks:
                self.chunks = max(1, self.chunks[0] // n), *self.chunks[1:]
        self.threads = 1
        self.empty: Callable[..., NDArray] = np.empty
        self.theta_deg: NDArray[np.float64] = self._means(
            np.asarray(metadata.theta_deg, dtype=float)[used]
        )
        self.theta_rad: NDArray[np.float64] = np.deg2rad(self.theta_deg)
        self.n_flats, self.n_darks = len(flats.positions), len(darks.positions)
        self.pixel_size_um, self.energy_kev = metadata.pixel_size_um, metadata.energy_kev
        self.distance_mm, self.pixel_ratio = metadata.distance_mm, metadata.pixel_ratio
        self.stated_motion, self._positions = metadata.stated_motion, metadata.positions
        self.n_recorded = metadata.n_recorded

    @property
    def stored(self) -> Stored:
        """Where the projections in use, flats and darks lie."""
        return Stored(self._projections, self._flats, self._darks)

    def __repr__(self) -> str:
        """Return place, format, shape, angles, numbers of frames, and lengths in three lines."""
        pixels = self._projections.pixels
        place = f"{pixels.file.filename}: {pixels.name}" if pixels.file else pixels.name
        angles = f"{self.theta_deg[0]:.6g} to {self.theta_deg[-1]:.6g} degrees"
        numbers = {"um pixels": self.pixel_size_um, "keV": self.energy_kev}
        numbers["mm to the detector"] = self.distance_mm
        lengths = [f"{value:.4g} {unit}" for unit, value in numbers.items() if value is not None]
        return (
            f"{place} ({self._format})\n"
            f"{self.n_angles} projections of {self.n_rows} x {self.n_cols} pixels, {self.dtype}; "
            f"{angles}\n" + ", ".join([f"{self.n_flats} flats", f"{self.n_darks} darks", *lengths])
        )

    def read_rows(self, first: int, last: int, out: NDArray | None = None) -> NDArray:
        """Read detector rows `first` to `last` (exclusive) of all frames in use, raw.

        Shape (n_angles, last - first, n_cols), into `out` if it is given. A ValueError if there are
        no such rows, a ScanError if the file cannot be read there.
        """
        return self.read_block((0, self.n_angles), (first, last), out)

    def read_block(
        self, frames: tuple[int, int], rows: tuple[int, int], out: NDArray | None = None
    ) -> NDArray:
        """Read some rows of neighbouring frames in use, raw, as `read_rows` does.

        `frames` and `rows` are the first and last of each, the last excluded.
        """
        for what, (first, last), n in [
            ("rows", rows, self.n_rows),
            ("frames", frames, self.n_angles),
        ]:
            if not 0 <= first < last <= n:
                raise ValueError(f"{what} {first} to {last}: expected 0 <= first < last <= {n}")
        empty = self.empty if out is None else lambda shape, dtype: out
        return self._read(frames, rows, self.threads, empty)

    def _read(
        self, frames: IndexRange, rows: IndexRange, threads: int, empty: Callable[..., NDArray]
    ) -> NDArray:
        """Read rows of neighbouring frames; where some are damaged, the error advises to skip."""
        try:
            return self._projections.read(frames, rows, threads, empty)
        except PixelsError as error:
            raise PixelsError(f"{error}{self._skipping_damaged(rows[0], error)}") from error

    def _skipping_damaged(self, row: int, error: PixelsError) -> str:
        """Return advice to skip the projections that cannot be read, if they are few."""
        if self._average > 1 or is_of_the_system(error):
            return ""
        step, damaged = self.chunks[0] if self.chunks else 1, list[int]()
        for span in ranges(0, self.n_angles, step):
            try:
                self._projections.read(span, (row, row + 1))
            except PixelsError:
                damaged += range(*span)
        if not 0 < len(damaged) <= _DAMAGED * self.n_angles:
            return ""
        return f", or {skipping(self.numbers[damaged])} leaves them out"

    def read_frames(self, indices: Sequence[int]) -> NDArray:
        """Read some of the frames in use, by their 0-based numbers in any order, raw.

        Shape (len(indices), n_rows, n_cols). A ScanError if the file cannot be read there.
        """
        raw = np.empty((len(indices), self.n_rows, self.n_cols), self.dtype)
        for part, index in zip(raw[:, np.newaxis], np.asarray(indices, dtype=int), strict=True):
            frame = int(index) % self.n_angles
            span, rows = (frame, frame + 1), (0, self.n_rows)
            self._read(span, rows, 1, empty=lambda shape, dtype, part=part: part)
        return raw

    def has_rows(self, rows: tuple[int, int]) -> bool:
        """Tell whether another job has read these rows (the last excluded) of all frames."""
        pixels = self._projections.pixels
        return isinstance(pixels, SharedPixels) and pixels.has_rows(self._projections.index, rows)

    def read_shared(self, rows: Sequence[int]) -> tuple[NDArray, NDArray[np.float32]] | None:
        """Return rows, raw, and means of each row, that another job has read of all frames.

        Shapes (n_angles, len(rows), n_cols) and (n_angles, n_rows); None if none has.
        """
        if not all(self.has_rows((row, row + 1)) for row in rows):
            return None
        pixels = cast(SharedPixels, self._projections.pixels)
        return pixels.rows_of(self._projections.index, rows)

    @cached_property
    def flat(self) -> NDArray[np.float32]:
        """Mean of the flats, shape (n_rows, n_cols); 1 if declared absent.

        No brighter than the darks where pixels are `stuck`: these are then interpolated.
        """
        return self.without_stuck(self._flats_read[0])

    def without_stuck(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a flat (n_rows, n_cols) without a signal where pixels are `stuck`."""
        return np.where(self.stuck, self.dark, flat) if self.stuck.any() else flat

    @cached_property
    def stuck(self) -> NDArray[np.bool_]:
        """Hot pixels and gaps between modules, shape (n_rows, n_cols).

        They have the largest value of all in each flat and in the projections, and their neighbours
        do not, as they would where the beam saturates the camera.
        """
        at_top, top = self._flats_read[2:4]
        none = np.zeros_like(at_top)
        if not (at_top.any() and np.isfinite(top)) or at_top.mean() > _MOST_STUCK:
            return none
        padded = np.pad(at_top, 1)
        beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        around = self._flats_read[0][beside & ~at_top]
        if np.median(around) > _SATURATED * top:
            return none
        frames = self.read_frames([0, self.n_angles // 2, self.n_angles - 1])
        stuck: NDArray[np.bool_] = at_top & (np.mean(frames == top, axis=0) > 0.5)
        return stuck

    @cached_property
    def dark(self) -> NDArray[np.float32]:
        """Mean of the darks, shape (n_rows, n_cols); 0 if declared absent or never written."""
        return self._darks_read[0]

    @property
    def flat_levels(self) -> NDArray[np.float64]:
        """Mean of each flat, raw, of rows spread over its height, shape (n_flats,).

        It is read with `flat`, and so are `dark_levels` with `dark`.
        """
        return self._flats_read[1]

    @property
    def dark_levels(self) -> NDArray[np.float64]:
        """Mean of each dark, shape (n_darks,): like `flat_levels`."""
        return self._darks_read[1]

    @property
    def flat_blocks(self) -> NDArray[np.float64]:
        """Means of blocks of each flat, raw, (n_flats, n_bands, n_parts); read with `flat`."""
        return self._flats_read[4]

    @cached_property
    def _flats_read(self) -> "_Read":
        result = self._read_mean(self._flats, 1)
        for dtype in {part.pixels.dtype for part in self._flats.frames}:
            if dtype.kind == "i" and np.mean(result[0] < np.iinfo(dtype).min / 4) > _FEW:
                raise ScanError(
                    f"{self._flats.location}: negative values down to {result[0].min():.0f} in the "
                    f"flats: counts of an unsigned camera in the signed type {dtype}? Set "
                    "input.unsigned: true to read them as such"
                )
        return result

    @cached_property
    def _darks_read(self) -> "_Read":
        return self._read_mean(self._darks, 0)

    @property  # not cached: there may be dozens of means
    def flat_sets(self) -> tuple[FlatSet, ...]:
        """Flats that were taken together, in the order of the scan; none if declared absent."""
        positions = self.flat_positions
        if not len(positions):
            return ()
        # NaN differs from NaN: what is not known is one set
        changes = np.diff(np.nan_to_num(positions, nan=-1.0)) != 0
        edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(positions)]
        return tuple(
            FlatSet(
                position=None if np.isnan(positions[first]) else float(positions[first]),
                first=first,
                last=last,
                mean=_mean(self._flats, first, last)[0],
            )
            for first, last in pairwise(edges)
        )

    @cached_property
    def flat_positions(self) -> NDArray[np.float64]:
        """How many projections in use were taken before each flat, (n_flats,); NaN: not known."""
        result = self._flats.positions
        in_use = np.searchsorted(self.numbers, np.nan_to_num(result)).astype(float)
        # those of a file of many time points may have been taken long before or after this one
        beyond = np.minimum(result, 0) + np.maximum(result - self._n_frames, 0)
        in_use += beyond * self.n_angles / self._n_frames
        return np.where(np.isnan(result), np.nan, in_use)

    def read_flats(self, first: int, last: int) -> NDArray:
        """Read detector rows `first` to `last` (exclusive) of all flats, uncorrected, by time.

        Shape (n_flats, last - first, n_cols); empty if declared absent.
        """
        parts = self._flats.frames
        return np.concatenate([part.read((0, len(part.index)), (first, last)) for part in parts])

    def read_monitor(self, name: str) -> NDArray[np.float64]:
        """Read a dataset with one number per frame of the file, for the projections in use.

        `name` is its path in the HDF5 file; the numbers are of all frames that lie together with
        the projections (flats and darks too in NXtomo files), or of the projections alone. A
        ScanError if there is none of that name and length.
        """
        pixels = self._projections.pixels
        if pixels.file is None:
            raise ScanError(
                f"{pixels.name}: {self._format} files have no {name}; leave "
                "preprocess.ring_current out, for this scan alone in overrides"
            )
        values = np.asarray(need_dataset(pixels.file, name)[()])
        for n, index in self._lengths:
            if values.shape == (n,):
                return self._means(values[index].astype(np.float64))
        raise ScanError(
            f"{pixels.name}: expected {self._lengths[-1][0]} numbers in {name}, "
            f"one per projection; got {values.shape}: correct preprocess.ring_current.dataset"
        )

    def read_flat_monitor(self, name: str) -> NDArray[np.float64] | None:
        """Read the numbers of the flats, (n_flats,), from a dataset of `read_monitor`.

        None if flats lie elsewhere, the dataset is of projections alone, or one is not above 0.
        """
        pixels, parts = self._projections.pixels, self._flats.frames
        values = np.asarray(need_dataset(pixels.file, name)[()])
        place = pixels.file, pixels.name, values.shape
        if any((p.pixels.file, p.pixels.name, p.pixels.shape[:1]) != place for p in parts):
            return None
        of_flats = np.concatenate([np.zeros(0), *(values[part.index] for part in parts)])
        return of_flats if of_flats.size and (of_flats > 0).all() else None

    def of_projections(self, values: NDArray) -> NDArray | None:
        """Return those of the projections in use; None if there is not one for each projection.

        The first axis has an element for each projection of the file, of its window, or in use, or
        for each frame of an NXtomo file.
        """
        for n, index in [*reversed(self._lengths), (self._n_frames, self._used)]:
            if len(values) == n:
                return self._means(values[index])
        return values if len(values) == self.n_angles else None

    def _means(self, values: NDArray) -> NDArray:
        """Return the mean over each group of averaged projections."""
        if self._average == 1:
            return values
        return values.reshape(-1, self._average, *values.shape[1:]).mean(axis=1)

    def stated_shifts_px(self) -> NDArray[np.float64]:
        """Return how the file states that the image moves, pixels, shape (n_angles, 2).

        Columns to the right by x_translation of the sample and rows down by -z_translation, less
        their medians. A ScanError if the file states neither, or not in pixels.
        """
        pixels, size = self._projections.pixels, (self.pixel_size_um, self.pixel_ratio)
        with naming(pixels.file.filename if pixels.file else pixels.name):
            shifts = shifts_px(self._positions, self._used, *size, PIXEL_SIZE_UM.factors)
        return self._means(shifts)

    def _read_mean(self, references: References, default: float) -> "_Read":
        if not (n_frames := len(references.positions)):  # darks never written are 0
            mean = np.full((self.n_rows, self.n_cols), default, np.float32)
            return mean, np.zeros(0), np.zeros(mean.shape, bool), 0.0, np.zeros((0, 1, 1))
        return _mean(references, 0, n_frames)


# the mean of frames (n_rows, n_cols), the mean of each (n_frames,), which pixels have the largest
# value of all in each frame, this value, and means of blocks of each
_Read = tuple[
    NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], float, NDArray[np.float64]
]


def _mean(references: References, first: int, last: int) -> _Read:
    """Average frames one at a time: there may be many of them."""
    each = [(part, frame) for part in references.frames for frame in range(len(part.index))]
    n_rows, n_cols = references.frames[0].pixels.shape[1:]
    total, levels, tops, blocks = np.zeros((n_rows, n_cols)), [], [], []
    least: Any = None
    for part, frame in each[first:last]:
        image = part.read((frame, frame + 1), (0, n_rows))[0]
        total += image
        levels.append(float(some_rows(image).mean(dtype=np.float64)))
        blocks.append(block_means(image))
        tops.append(float(np.fmax.reduce(image, axis=None)))
        least = image if least is None else np.minimum(least, image)
    mean = (total / (last - first)).astype(np.float32)
    at_top = np.equal(least, max(tops))
    return mean, np.array(levels), at_top, max(tops), np.array(blocks)
