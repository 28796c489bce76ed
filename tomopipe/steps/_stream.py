"""The streaming behind full_recon: read ahead, reconstruct, write behind, in bounded memory."""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanError
from tomopipe.io.exchange import Scan
from tomopipe.io.volume import PutSlices
from tomopipe.prep.normalise import normalise
from tomopipe.recon.array import to_numpy
from tomopipe.recon.blocks import LANES, peak_bytes
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import Plan

TALL = 32  # slices read at a time where memory allows
_AHEAD = 1  # blocks read while another is worked on
_BEHIND = 2  # pieces waiting to be written

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Work:
    """A scan, and all that its blocks have in common.

    Attributes
    ----------
    scan : Scan
        Open.
    plan : Plan
        Of the binned sinograms.
    cor_px : float
        Column of the axis in the binned sinograms.
    scale : float
        From attenuation per binned pixel to the unit of the volume.
    first_row, last_row : int
        Detector rows used, the last one excluded.
    binning, binning_rows : int
        Columns and rows averaged into one; fewer rows where the scan has fewer.
    height : int
        Detector rows read at a time.
    """

    scan: Scan
    plan: Plan
    cor_px: float
    scale: float
    first_row: int
    last_row: int
    binning: int
    binning_rows: int
    height: int
    minus_log: bool
    threads: int | None

    @property
    def n_slices(self) -> int:
        """Slices of the volume."""
        return (self.last_row - self.first_row) // self.binning_rows


def job_bytes(
    n_angles: int, n_cols: int, itemsize: int, binning: int, lanes: int, height: int
) -> int:
    """Return the peak memory of a job, which does not depend on the height of the volume.

    Parameters
    ----------
    n_angles, n_cols : int
        Projections and detector columns.
    itemsize : int
        Bytes per raw pixel.
    binning : int
        Block-averaging factor.
    lanes : int
        Slices computed at a time.
    height : int
        Detector rows read at a time.
    """
    piece = lanes * binning
    working = peak_bytes(n_angles, n_cols, piece, itemsize, binning)
    transposed = 4 * piece * n_angles * n_cols
    waiting = _BEHIND * 4 * lanes * (n_cols // binning) ** 2
    return working + transposed + waiting + (1 + _AHEAD) * height * n_angles * n_cols * itemsize


def choose_blocks(scan: Scan, binning: int, memory_bytes: int) -> tuple[int, int]:
    """Choose how many slices are computed, and how many detector rows read, at a time.

    Where chunks span many rows each read inflates every chunk it touches, so reads are tall.

    Parameters
    ----------
    scan : Scan
        An open scan.
    binning : int
        Block-averaging factor.
    memory_bytes : int
        What the job may take; exceeded only if the smallest blocks need more.

    Returns
    -------
    lanes, height : int
        Slices, and rows: a multiple of `lanes` * `binning`, so that the volume does not depend
        on it.
    """
    shape = (scan.n_angles, scan.n_cols, np.dtype(scan.dtype).itemsize)
    lanes = LANES
    while lanes > 4 and job_bytes(*shape, binning, lanes, lanes * binning) > memory_bytes:
        lanes //= 2
    piece = lanes * binning
    chunk_rows = scan.chunks[1] if scan.chunks else 1
    whole_chunks = math.lcm(piece, chunk_rows)
    wanted = max(TALL * binning, whole_chunks if whole_chunks <= scan.n_rows else chunk_rows)
    height = piece
    while height < wanted and job_bytes(*shape, binning, lanes, height + piece) <= memory_bytes:
        height += piece
    if height > whole_chunks:
        height -= height % whole_chunks
    return lanes, height


def run(work: Work, put: PutSlices, progress: Progress | None) -> None:
    """Reconstruct all slices of a scan, reading and writing meanwhile.

    Parameters
    ----------
    work : Work
        What to do.
    put : callable
        Stores slices: put(first, slices).
    progress : callable, optional
        Called with the number of slices done and of all slices.

    Raises
    ------
    ScanError
        If all data are one value.
    """
    done, varies = 0, False
    piece = work.plan.lanes * work.binning_rows
    starts = range(work.first_row, work.last_row, work.height)
    logger.info("%d slices, %d detector rows per read", work.n_slices, work.height)
    with _pool() as reader, _pool() as writer:

        def read(start: int) -> NDArray[Any]:
            return work.scan.read_rows(start, min(start + work.height, work.last_row))

        pending: deque[Future[None]] = deque()
        for start, raw in zip(starts, _ahead(reader, read, starts), strict=True):
            varies = varies or bool(np.fmin.reduce(raw, None) < np.fmax.reduce(raw, None))
            for offset in range(0, raw.shape[1], piece):
                slices = _reconstruct(work, raw[:, offset : offset + piece], start + offset)
                if len(pending) == _BEHIND:
                    pending.popleft().result()
                pending.append(writer.submit(put, done, slices))
                done += len(slices)
                logger.info("%d of %d slices", done, work.n_slices)
                if progress is not None:
                    progress(done, work.n_slices)
        for future in pending:
            future.result()
    if not varies:
        raise ScanError("constant frames: all data hold a single value, as if never written")


def _reconstruct(work: Work, raw: NDArray[Any], first_row: int) -> NDArray[np.float32]:
    """Reconstruct the slices of raw rows (n_angles, n_rows, n_cols), `first_row` and on."""
    xp, rows = work.plan.xp, slice(first_row, first_row + raw.shape[1])
    flat, dark = xp.asarray(work.scan.flat[rows]), xp.asarray(work.scan.dark[rows])
    corrected = normalise(xp.asarray(raw), flat, dark, minus_log=work.minus_log)
    sinograms = xp.ascontiguousarray(_bin(corrected, work.binning_rows, work.binning))
    images = reconstruct(sinograms, work.plan, work.cor_px, threads=work.threads)
    images *= np.float32(work.scale)
    return to_numpy(images)


def _bin(projections: Any, rows: int, cols: int) -> Any:
    """Average blocks of pixels of (n_angles, n_rows, n_cols) into (n_rows', n_angles, n_cols')."""
    n_angles, n_rows, n_cols = projections.shape
    n_rows, n_cols = n_rows // rows, n_cols // cols
    whole = projections[:, : n_rows * rows, : n_cols * cols]
    if rows > 1 or cols > 1:
        blocks = whole.reshape(n_angles, n_rows, rows, n_cols, cols)
        whole = blocks.mean(axis=(2, 4), dtype=np.float32)
    return whole.transpose(1, 0, 2)


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Yield one thread; on an error its waiting work is dropped."""
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[int], NDArray[Any]], items: Iterable[int]
) -> Iterator[NDArray[Any]]:
    """Yield function(item) in order, computing the next while the caller works on one."""
    pending: deque[Future[NDArray[Any]]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > _AHEAD:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
