"""A reconstruction task: a scan with all options, and how raw rows become slices."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import Reused
from tomopipe.prep import block_average
from tomopipe.prep.correct import Corrections
from tomopipe.prep.half_acquisition import HalfAcquisition
from tomopipe.prep.line_integrals import to_line_integrals
from tomopipe.prep.normalise import device_normaliser, normaliser
from tomopipe.prep.recipe import IndexRange
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import BATCH_SIZE, Plan
from tomopipe.recon.rows import Rows
from tomopipe.recon.transfer import DeviceTransfer
from tomopipe.resources.memory import GPU_CORRECT_BYTES
from tomopipe.scans.scan import Scan
from tomopipe.volumes.encoding import Encoding

_BATCH_BYTES = 2**21  # bytes of float32 that the host corrects at a time


@dataclass(frozen=True, eq=False)
class ReconTask:
    """A scan with fitted options: everything that its blocks share."""

    scan: Scan  # open
    plan: Plan  # for the binned sinograms; in half acquisition for those of twice their width
    cor_px: float  # column of the axis in the binned sinograms
    scale: float  # from attenuation per binned pixel to the unit of the volume
    # detector rows used, the last one excluded
    first_row: int
    last_row: int
    crop: tuple[slice, slice]  # voxels kept, along y and x
    # columns and rows averaged into one; fewer rows where the scan has fewer
    binning: int
    binning_rows: int
    minus_log: bool  # take -log of the transmission
    threads: int | None  # CPU threads
    transfer: DeviceTransfer | None = None  # on a GPU: raw rows to it, slices from it
    # initial number of slices computed at a time: a power of two, at most those of a block
    batch_size: int = BATCH_SIZE
    # reconstructs sinograms iteratively; None: filtered backprojection
    iterative: Callable[[Any], Any] | None = None
    # extends binned sinograms to twice the width; None: not half acquisition
    half: HalfAcquisition | None = None
    corrections: Corrections | None = None  # None: only flat, dark and logarithm
    # whether rows come corrected (`CorrectedSource`) and are not normalised again
    corrected: bool = False
    # encoding of slices on the GPU, before their download; None: they are encoded when written
    encoding: Encoding | None = None
    reused: Reused = field(default_factory=Reused)  # memory of raw rows and of slices

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume, (n_slices, n_y, n_x)."""
        n_slices = (self.last_row - self.first_row) // self.binning_rows
        n_y, n_x = (part.stop - part.start for part in self.crop)
        return n_slices, n_y, n_x

    @property
    def in_place(self) -> bool:
        """Whether rows, which need no decoding, are read where they are uploaded from."""
        return self.transfer is not None and self.scan.chunks is None

    def rows_needed(self, rows: IndexRange) -> IndexRange:
        """Return the rows, raw unless they come corrected, that these are computed from."""
        corrections = self.corrections_of_raw
        return rows if corrections is None else corrections.rows_needed(rows)

    @property
    def corrections_of_raw(self) -> Corrections | None:
        """Corrections applied where slices are computed; None: rows come corrected, or plain."""
        return None if self.corrected else self.corrections


def sinograms_of(task: ReconTask, raw: Any, rows: NDArray[np.intp]) -> Any:
    """Correct, bin and transpose raw values to (n_slices, n_angles, n_cols'), in bounded memory.

    For filtered backprojection on the host the result is a `Rows`, computed on demand. `raw`
    (n_angles, n_read, n_cols) are the values of the detector rows `rows`, or with
    `corrections_of_raw` of the rows that these need; `rows` are then consecutive.
    """
    xp, corrected = task.plan.xp, task.corrected
    if (corrections := task.corrections_of_raw) is not None:
        raw = corrections.sinograms(raw, (int(rows[0]), int(rows[-1]) + 1))
        if task.binning == task.binning_rows == 1:
            return raw
        raw, corrected = raw.transpose(1, 0, 2), True
    n_bytes = _BATCH_BYTES if xp is np else GPU_CORRECT_BYTES
    step = max(1, n_bytes // (4 * raw[0].size))
    if xp is not np:
        return _sinograms_on_gpu(task, raw, None if corrected else rows, step)
    correct = None
    if not corrected:
        flat, dark = task.scan.flat[rows], task.scan.dark[rows]
        correct = normaliser(flat, dark, minus_log=task.minus_log, compiled=to_line_integrals)

    n_slices, n_cols = len(rows) // task.binning_rows, task.scan.n_cols // task.binning
    shape = (n_slices, task.plan.n_angles, n_cols)

    def rows_of(angles: NDArray[np.intp]) -> Any:
        values = task.reused.empty("corrected", (len(angles), n_slices, n_cols))
        for first in range(0, len(angles), step):
            batch = _projections(raw, angles[first : first + step])
            out = values[first : first + step]
            if correct and task.binning == task.binning_rows == 1:
                correct(batch, out)
            else:
                batch = correct(batch) if correct else batch
                out[...] = block_average(batch, task.binning_rows, task.binning)
        return values

    if task.iterative is None and task.half is None:
        return Rows(shape, rows_of)
    sinograms = np.empty(shape, np.float32)
    for first in range(0, len(raw), step):
        angles = np.arange(first, min(first + step, len(raw)))
        sinograms[:, first : first + step] = rows_of(angles).transpose(1, 0, 2)
    return sinograms


def _sinograms_on_gpu(task: ReconTask, raw: Any, rows: NDArray[np.intp] | None, step: int) -> Any:
    """Return `sinograms_of` on a GPU, `step` projections at a time; no rows: raw is corrected."""
    xp, correct = task.plan.xp, None
    if rows is not None:
        first, last = int(rows[0]), int(rows[-1]) + 1
        which = slice(first, last) if last - first == len(rows) else rows
        correct = device_normaliser(xp, task.scan, which, minus_log=task.minus_log)

    def some(first: int) -> Any:
        batch = xp.asarray(raw[first : first + step])
        batch = correct(batch) if correct else batch
        return block_average(batch, task.binning_rows, task.binning).transpose(1, 0, 2)

    if len(raw) <= step:
        return xp.ascontiguousarray(some(0))
    n_rows, n_cols = raw.shape[1] // task.binning_rows, raw.shape[2] // task.binning
    sinograms = xp.empty((n_rows, len(raw), n_cols), xp.float32)
    for first in range(0, len(raw), step):
        sinograms[:, first : first + step] = some(first)
    return sinograms


def _projections(raw: Any, angles: NDArray[np.intp]) -> Any:
    """Return some projections: a view if they are consecutive, as they mostly are."""
    first, last, n = int(angles[0]), int(angles[-1]), len(angles)
    for step in (1, -1):
        if last - first == step * (n - 1) and (angles[1:] - angles[:-1] == step).all():
            neighbours = raw[min(first, last) : max(first, last) + 1]
            return neighbours[::step]
    return raw[angles]


def slices_of(task: ReconTask, sinograms: Any) -> Any:
    """Reconstruct the slices of `sinograms_of`, in the unit of the volume, cropped."""
    if task.iterative is not None:
        images = task.iterative(sinograms)
    elif task.half is not None:
        wide, cor_px = task.half.widen(sinograms), task.half.wide_cor_px
        images = reconstruct(wide, task.plan, cor_px, threads=task.threads)
    else:
        shape = (len(sinograms), task.plan.n_cols, task.plan.n_cols)
        out = task.reused.empty("slices", shape) if task.plan.xp is np else None
        images = reconstruct(sinograms, task.plan, task.cor_px, threads=task.threads, out=out)
    if task.scale != 1:
        images *= np.float32(task.scale)
    return images[:, *task.crop]
