"""Frames of windows that overlap are read once, for the sweeps or the volumes of all of them.

It is no step, as it has no result: its file lies in the folder of the run. A window that lacks
something in it reads that from the raw file.
"""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import TryReconBlock
from tomopipe.cor.collected_rows import in_parts, reads_whole, spread_rows, whole_frames
from tomopipe.cor.illuminated_rows import choose_rows, illuminated_rows, looked_at
from tomopipe.cor.row_profiles import RowProfiler
from tomopipe.errors import reason_of, unexpected
from tomopipe.prep.correct import corrections_of, rows_for_slopes
from tomopipe.scans.exchange import RawScan
from tomopipe.scans.pixels import AveragedFrames, Frames
from tomopipe.scans.scan import Scan
from tomopipe.scans.shared_frames import write_shared
from tomopipe.storage.atomic import whole
from tomopipe.storage.hdf5_files import new_hdf5

if TYPE_CHECKING:
    import h5py

logger = logging.getLogger(__name__)
_of_frames = logging.getLogger(f"{__package__}.shared_frames")  # the other rule


def shared_rows(
    raw: RawScan,
    windows: Sequence[Sequence[int]],
    output: str | os.PathLike[str],
    options: TryReconBlock | None,
    *,
    threads: int,
) -> None:
    """Read what several windows of a file need for their sweeps, or volumes, and write it.

    `windows` have the first and last projection of each. For sweeps, by their `options`, the rows
    are those of the first window: one of which other rows get light reads its own. Where reading
    row by row is cheaper the file is empty. For volumes (None) it has all frames, whole, and is
    empty if the disk has no room for them. After an error, which each window that it concerns will
    have, it is empty.
    """
    with whole(output) as temporary:
        try:
            with new_hdf5(temporary) as file:
                of_windows = [_of_window(raw, window) for window in windows]
                if options is None:
                    _share_frames(of_windows, threads, file)
                else:
                    _share_rows(of_windows, options, threads, file)
        except Exception as error:
            text = "nothing is shared, each window reads for itself: %s"
            log = _of_frames if options is None else logger
            log.warning(text, reason_of(error), exc_info=unexpected(error))
            with new_hdf5(temporary):
                pass


def _share_rows(
    of_windows: Sequence[RawScan], options: TryReconBlock, threads: int, file: "h5py.File"
) -> None:
    first_raw, *_ = of_windows
    with first_raw.open() as scan:
        scan.threads = threads
        lit = illuminated_rows(scan)
        rows = spread_rows(choose_rows(options.row, lit)[0], scan.n_rows, lit=lit)
        frames = scan.stored.projections
        if isinstance(frames, AveragedFrames) or not reads_whole(scan, rows):
            logger.info("nothing is shared: each window reads its own rows")
            return
        recipe = first_raw.preprocess
        corrections = corrections_of(scan, recipe)
        spans = [corrections.rows_needed((row, row + 1)) for row in rows]
        spans += rows_for_slopes(scan.n_rows)
        all_rows = np.unique(np.concatenate([np.arange(*span) for span in spans]))
        index, needed = _frames_of(of_windows, rows)
        stored = scan.stored._replace(projections=Frames(frames.pixels, index))
        profiler = RowProfiler(scan, minus_log=recipe.minus_log, threads=threads)
        blocks = _blocks(scan, stored.projections, logger)
        of_rows = ((block, profiler.means(block, (0, scan.n_rows))) for block in blocks)
        write_shared(file, stored, needed, all_rows, of_rows)


def _share_frames(of_windows: Sequence[RawScan], threads: int, file: "h5py.File") -> None:
    first_raw, indices = of_windows[0], []
    for raw in of_windows:
        with raw.open() as scan:
            indices.append(scan.stored.projections.index)
    with first_raw.open() as scan:
        scan.threads = threads
        frames = Frames(scan.stored.projections.pixels, np.unique(np.concatenate(indices)))
        n_bytes = len(frames.index) * scan.n_rows * scan.n_cols * frames.pixels.dtype.itemsize
        free_bytes = shutil.disk_usage(os.path.dirname(file.filename) or ".").free
        if free_bytes < n_bytes:
            lack = f"{n_bytes / 1e9:.3g} GB needed, {free_bytes / 1e9:.3g} GB free"
            _of_frames.warning("nothing is shared: %s; each window reads for itself", lack)
            return
        blocks = ((block, None) for block in _blocks(scan, frames, _of_frames))
        write_shared(file, scan.stored._replace(projections=frames), frames.index, None, blocks)


def _of_window(raw: RawScan, window: Sequence[int]) -> RawScan:
    return replace(raw, input=raw.input.model_copy(update={"window": [*window]}))


def _frames_of(
    of_windows: Sequence[RawScan], rows: Sequence[int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return places of the frames of all windows, and of those that are needed whole."""
    index, needed = [], []
    for raw in of_windows:
        with raw.open() as scan:
            own = scan.stored.projections.index
            pairs, ends = whole_frames(scan, rows)
            index.append(own)
            needed.append(own[[*pairs.ravel(), *ends, *looked_at(scan)]])
    return np.unique(np.concatenate(index)), np.unique(np.concatenate(needed))


def _blocks(scan: Scan, frames: Frames, log: logging.Logger) -> Iterator[NDArray[Any]]:
    """Yield all frames in parts."""
    for first, last in in_parts(scan, len(frames.index)):
        yield frames.read((first, last), (0, scan.n_rows), scan.threads)
        log.info("read %d of %d frames", last, len(frames.index))
