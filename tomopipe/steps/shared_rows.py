"""Before try_recon: frames of windows that overlap are read once, for the sweeps of all of them.

It is no step, as it has no result: its file lies in the folder of the run. A window that lacks
something in it reads that from the raw file.
"""

import logging
import os
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


def shared_rows(
    raw: RawScan,
    windows: Sequence[Sequence[int]],
    output: str | os.PathLike[str],
    options: TryReconBlock,
    *,
    threads: int,
) -> None:
    """Read what the sweeps of several windows of a file need, and write it to `output`.

    `windows` have the first and last projection of each. The rows are those of the first one: a
    window of which other rows get light reads its own. Where reading row by row is cheaper, and
    after an error, which each window that it concerns will have, the file is empty.
    """
    with whole(output) as temporary:
        try:
            with new_hdf5(temporary) as file:
                _share(raw, windows, options, threads, file)
        except Exception as error:
            text = "nothing is shared, each window reads for itself: %s"
            logger.warning(text, reason_of(error), exc_info=unexpected(error))
            with new_hdf5(temporary):
                pass


def _share(
    raw: RawScan,
    windows: Sequence[Sequence[int]],
    options: TryReconBlock,
    threads: int,
    file: "h5py.File",
) -> None:
    first_raw, *_ = of_windows = [_of_window(raw, window) for window in windows]
    with first_raw.open() as scan:
        scan.threads = threads
        lit = illuminated_rows(scan)
        rows = spread_rows(choose_rows(options.row, lit)[0], scan.n_rows, lit=lit)
        frames = scan.stored.projections
        if isinstance(frames, AveragedFrames) or not reads_whole(scan, rows):
            logger.info("nothing is shared: each window reads its own rows")
            return
        corrections = corrections_of(scan, raw.preprocess)
        spans = [corrections.rows_needed((row, row + 1)) for row in rows]
        spans += rows_for_slopes(scan.n_rows)
        all_rows = np.unique(np.concatenate([np.arange(*span) for span in spans]))
        index, needed = _frames_of(of_windows, rows)
        stored = scan.stored._replace(projections=Frames(frames.pixels, index))
        profiler = RowProfiler(scan, minus_log=raw.preprocess.minus_log, threads=threads)
        write_shared(file, stored, needed, all_rows, _blocks(scan, stored.projections, profiler))


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


def _blocks(
    scan: Scan, frames: Frames, profiler: RowProfiler
) -> Iterator[tuple[NDArray[Any], NDArray[np.float32]]]:
    """Yield all frames in parts, with the means of their rows."""
    rows = 0, scan.n_rows
    for first, last in in_parts(scan, len(frames.index)):
        block = frames.read((first, last), rows, scan.threads)
        yield block, profiler.means(block, rows)
        logger.info("read %d of %d frames", last, len(frames.index))
