"""The streaming behind full_recon: read ahead, reconstruct, write behind, in bounded memory."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import on_host
from tomopipe.errors import ScanError
from tomopipe.recon.array import out_of_memory
from tomopipe.recon.transfer import Download
from tomopipe.stream.corrected import CorrectedSource
from tomopipe.stream.memory import Blocks
from tomopipe.stream.pieces import Piece, Span, Window, cut, together
from tomopipe.stream.source import Source, read_ahead, read_spread, some_threads
from tomopipe.stream.work import Work, sinograms_of, slices_of
from tomopipe.volumes.slice_statistics import SliceStatistics, with_statistics
from tomopipe.volumes.volume import PutSlices

N_SAMPLES = 8  # slices that the range of whole numbers is taken from

logger = logging.getLogger(__name__)

Read = Callable[[Span], NDArray[Any]]  # raw rows


def run(
    work: Work,
    source: Source,
    blocks: Blocks,
    put: PutSlices,
) -> None:
    """Reconstruct all slices of a scan, reading and writing meanwhile.

    Parameters
    ----------
    work : Work
        What to do.
    source : Source
        Where raw rows are read.
    blocks : Blocks
        How many at a time.
    put : callable
        Stores slices: put(first, slices).

    Raises
    ------
    ScanError
        If all data are one value.
    """
    done, varies, n_slices = 0, False, work.shape[0]
    work.scan.empty = partial(work.reused.empty, "rows")
    logger.info("%d slices, %d detector rows per read, %s", n_slices, blocks.height, blocks)

    def read(rows: Span) -> NDArray[Any]:
        nonlocal varies
        if rows[0] == rows[1]:  # near the end all may have been read for the piece before
            return np.empty((work.scan.n_angles, 0, work.scan.n_cols), work.scan.dtype)
        raw = source.read_rows(*rows)
        if isinstance(source, CorrectedSource):
            varies = source.varies
        else:
            varies = varies or bool(np.fmin.reduce(raw, None) < np.fmax.reduce(raw, None))
        return raw

    def store(first: int, download: Download) -> None:
        arrays = download()
        put(first, arrays[0] if work.encoding is None else SliceStatistics(*arrays))

    with some_threads() as writer:
        pending: deque[Future[None]] = deque()
        for n, download in _all_slices(work, read, blocks):
            if len(pending) == blocks.behind:
                pending.popleft().result()
            pending.append(writer.submit(store, done, download))
            done += n
            logger.info("%d of %d slices", done, n_slices)
        for future in pending:
            future.result()
    if not varies:
        raise ScanError("constant frames: all data hold a single value, as if never written")


def _all_slices(work: Work, read: Read, blocks: Blocks) -> Iterator[tuple[int, Download]]:
    """Yield the slices piece by piece: number and download; smaller pieces once memory ran out."""
    first, size = work.first_row, work.plan.cache.get("piece", work.piece)
    while first < work.last_row:
        try:
            for n, download in _some_slices(work, read, blocks, (first, work.last_row), size):
                yield n, download
                first += n * work.binning_rows
        except Exception as error:
            if not out_of_memory(error) or size == 1:
                raise
            size //= 2
            logger.warning("out of memory: pieces of %d slices", size)
            work.plan.cache.clear()
            work.plan.cache["piece"] = size  # of what else this plan is given
            work.transfer.synchronize()


def _some_slices(
    work: Work, read: Read, blocks: Blocks, rows: Span, size: int
) -> Iterator[tuple[int, Download]]:
    """Yield the slices of some rows in pieces of `size`."""
    height = size * work.binning_rows
    batches = together(cut(rows, height, work.span), max(1, blocks.height // height))

    def read_batch(batch: tuple[Span, Sequence[Piece]]) -> tuple[NDArray[Any], Sequence[Piece]]:
        return read(batch[0]), batch[1]

    def upload(part: tuple[NDArray[Any], Piece]) -> tuple[Any, Piece]:
        return work.transfer.upload(part[0]), part[1]

    window = Window()
    share = replace(work, threads=max((work.threads or 1) // blocks.workers, 1))

    def compute(part: tuple[Any, Piece]) -> tuple[int, list[Any]]:
        raw, piece = part
        slices = slices_of(share, sinograms_of(share, raw, np.arange(*piece.rows)))
        done = (piece.rows[0] - work.first_row) // work.binning_rows
        return len(slices), _to_download(work, slices, done)

    # closed in any case: after an error no further piece is uploaded
    with closing(read_ahead(read_batch, batches, blocks.ahead)) as raws:
        parts = (
            (raw[:, piece.new[0] - pieces[0].new[0] : piece.new[1] - pieces[0].new[0]], piece)
            for raw, pieces in raws
            for piece in pieces
        )
        if blocks.workers > 1:  # on the host: nothing is uploaded
            computing = read_ahead(compute, parts, blocks.workers - 1, blocks.workers)
            with closing(computing) as computed:
                for n, arrays in computed:
                    yield n, work.transfer.download(arrays)
            return
        with closing(read_ahead(upload, parts, work.transfer.ahead)) as uploads:
            for uploaded, piece in uploads:
                with work.transfer.computing(uploaded) as new:
                    n, arrays = compute((window.take(new, piece), piece))
                yield n, work.transfer.download(arrays)


def _to_download(work: Work, slices: Any, done: int) -> list[Any]:
    """Encode slices, of which `done` come before, if that is done where they are computed."""
    if work.encoding is None:
        return [slices]
    return with_statistics(slices, work.encoding, work.shape[0] // 2 - done, encode=True).arrays


def sample_slices(work: Work, source: Source) -> Iterator[NDArray[np.float32]]:
    """Yield slices spread evenly over the volume, as they will be in it.

    Parameters
    ----------
    work : Work
        What to do.
    source : Source
        Where raw rows are read.
    """
    work.transfer.use()
    xp, n_slices, rows = work.plan.xp, work.shape[0], work.binning_rows
    n = min(N_SAMPLES, n_slices)
    starts = [work.first_row + (2 * i + 1) * n_slices // (2 * n) * rows for i in range(n)]
    for first in range(0, n, work.plan.batch_size):
        some = starts[first : first + work.plan.batch_size]
        index = (np.asarray(some)[:, None] + np.arange(rows)).ravel()
        if work.corrections is None:
            sinograms = sinograms_of(work, read_spread(source, work.scan, some, rows), index)
        else:
            sinograms = xp.concatenate([_corrected(work, source, (s, s + rows)) for s in some])
        yield from map(on_host, slices_of(work, sinograms))


def _corrected(work: Work, source: Source, rows: Span) -> Any:
    """Return the sinograms of some rows, read and uploaded for them alone."""
    raw = work.plan.xp.asarray(source.read_rows(*work.span(rows)))
    return sinograms_of(work, raw, np.arange(*rows))
