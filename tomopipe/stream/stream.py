"""The streaming behind full_recon: read ahead, reconstruct, write behind, in bounded memory.

Corrections need neighbouring rows, which a batch shares with the next one: these rows stay on the
GPU, so that every row is read and uploaded once.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of, on_host
from tomopipe.prep.bad_pixels import ConstantFrames
from tomopipe.prep.recipe import IndexRange
from tomopipe.recon.gpu import free_memory, out_of_memory
from tomopipe.recon.transfer import Download
from tomopipe.resources.memory import Blocks
from tomopipe.stream.fit_options import VolumeOptions
from tomopipe.stream.recon_task import ReconTask, sinograms_of, slices_of
from tomopipe.stream.source import (
    CorrectedSource,
    Source,
    read_ahead,
    read_spread,
    some_threads,
)
from tomopipe.volumes.encoding import (
    Encoding,
    SliceStatistics,
    encoding_of,
    robust_range,
    with_statistics,
)
from tomopipe.volumes.volume_read import PutSlices

N_SAMPLES = 8  # sample slices for the range of an integer type

logger = logging.getLogger(__name__)

Read = Callable[[IndexRange, NDArray[Any] | None], NDArray[Any]]  # raw rows, into an array if given


@dataclass(frozen=True)
class RowBatch:
    """Detector rows of a batch of slices."""

    rows: IndexRange  # rows of the slices
    needed: IndexRange  # rows that the slices are computed from
    new: IndexRange  # rows of `needed` that no earlier batch had; the range may be empty
    keep_from: int  # first row that later batches need


def cut(
    rows: IndexRange, height: int, rows_needed: Callable[[IndexRange], IndexRange]
) -> list[RowBatch]:
    """Cut the rows of all slices into batches of `height` rows; the last one may be smaller.

    `rows_needed` returns the rows that a range is computed from.
    """
    first, last = rows
    ranges = [(start, min(start + height, last)) for start in range(first, last, height)]
    all_needed = [rows_needed(rows) for rows in ranges]
    batches: list[RowBatch] = []
    read_until = min(first for first, _ in all_needed)
    for k, (batch_rows, needed) in enumerate(zip(ranges, all_needed, strict=True)):
        keep_from = min((later[0] for later in all_needed[k + 1 :]), default=needed[1])
        until = max(read_until, needed[1])
        batches.append(RowBatch(batch_rows, needed, (read_until, until), keep_from))
        read_until = until
    return batches


def together(
    batches: Sequence[RowBatch], n: int
) -> Iterator[tuple[IndexRange, Sequence[RowBatch]]]:
    """Yield n batches at a time with their new rows, which are read together."""
    for k in range(0, len(batches), n):
        group = batches[k : k + n]
        yield (group[0].new[0], group[-1].new[1]), group


class Window:
    """Raw rows on the computing device: those of a batch, and those kept for the next one."""

    def __init__(self) -> None:
        self._remaining: Any = None
        self._first = 0

    def take(self, new: Any, batch: RowBatch) -> Any:
        """Return all rows that the next batch needs: the kept ones and `new`.

        The memory of `new` (n_angles, n_new, n_cols) is reused once the batch is computed.
        """
        whole, first = new, batch.new[0]
        if self._remaining is not None:
            whole, first = module_of(new).concatenate([self._remaining, new], axis=1), self._first
        target = whole[:, batch.needed[0] - first : batch.needed[1] - first]
        self._first = max(batch.keep_from, first)
        remaining = whole[:, self._first - first :]
        self._remaining = remaining.copy() if remaining.shape[1] else None
        return target


def run(task: ReconTask, source: Source, blocks: Blocks, put: PutSlices) -> None:
    """Reconstruct all slices of a scan, reading and writing meanwhile: put(first, slices).

    Raises
    ------
    ScanError
        If half of the frames, or the last ones, hold a single value.
    """
    done, n_slices = 0, task.shape[0]
    constant = ConstantFrames(task.scan.n_angles)
    if isinstance(source, CorrectedSource):  # it examines the raw rows itself
        constant = source.constant
    task.scan.empty = partial(task.reused.empty, "rows")
    logger.info("%d slices, %d detector rows per read, %s", n_slices, blocks.height, blocks)

    def read(rows: IndexRange, out: NDArray[Any] | None) -> NDArray[Any]:
        if rows[0] == rows[1]:  # near the end all rows may have been read already
            return np.empty((task.scan.n_angles, 0, task.scan.n_cols), task.scan.dtype)
        raw = source.read_rows(*rows) if out is None else task.scan.read_rows(*rows, out)
        if not isinstance(source, CorrectedSource):
            constant.look(raw)
        return raw

    def store(first: int, download: Download) -> None:
        arrays = download()
        if task.encoding is None:  # the host's threads compute
            put(first, arrays[0])
        else:
            put(first, SliceStatistics(*arrays), pool.map)

    with some_threads(task.threads or 1) as pool, some_threads() as writer:
        pending: deque[Future[None]] = deque()
        for n, download in _all_slices(task, read, blocks):
            if len(pending) == blocks.behind:
                pending.popleft().result()
            pending.append(writer.submit(store, done, download))
            done += n
            logger.info("%d of %d slices", done, n_slices)
        for future in pending:
            future.result()
    constant.refuse(task.scan.numbers)


def _all_slices(task: ReconTask, read: Read, blocks: Blocks) -> Iterator[tuple[int, Download]]:
    """Yield number and download of each batch of slices; smaller batches after memory ran out."""
    first, size = task.first_row, task.plan.cache.get("stream_batch_size", task.batch_size)
    while first < task.last_row:
        try:
            rows = first, task.last_row
            for n, download in _some_slices(task, read, blocks, rows, size):
                yield n, download
                first += n * task.binning_rows
            return
        except Exception as error:
            if not out_of_memory(error) or size == 1:
                raise
        # outside the handler, as the error holds the arrays of the batch
        size //= 2
        logger.warning("out of memory: batches of %d slices", size)
        task.plan.cache.clear()
        task.plan.cache["stream_batch_size"] = size  # for later calls with this plan
        if task.transfer:
            task.transfer.synchronize()


def _some_slices(
    task: ReconTask, read: Read, blocks: Blocks, rows: IndexRange, size: int
) -> Iterator[tuple[int, Download]]:
    """Yield the slices of some rows in batches of `size`."""
    height = size * task.binning_rows
    batches = cut(rows, height, task.rows_needed)
    row_blocks = together(batches, max(1, blocks.height // height))
    window = Window()
    share = replace(task, threads=max((task.threads or 1) // blocks.workers, 1))

    def compute(part: tuple[Any, RowBatch]) -> tuple[int, list[Any]]:
        raw, batch = part
        slices = slices_of(share, sinograms_of(share, raw, np.arange(*batch.rows)))
        if task.encoding is None:
            return len(slices), [slices]
        done = (batch.rows[0] - task.first_row) // task.binning_rows
        encoded = with_statistics(slices, task.encoding, task.shape[0] // 2 - done, encode=True)
        return len(slices), encoded.arrays

    def upload_read(batch: RowBatch) -> tuple[Any, RowBatch]:
        shape = task.scan.n_angles, batch.new[1] - batch.new[0], task.scan.n_cols
        return transfer.upload_read(shape, task.scan.dtype, partial(read, batch.new)), batch

    # always closed, so that no further batch is uploaded after an error
    with closing(
        read_ahead(lambda block: (read(block[0], None), block[1]), row_blocks, blocks.ahead)
    ) as raws:
        parts = (
            (raw[:, batch.new[0] - batches[0].new[0] : batch.new[1] - batches[0].new[0]], batch)
            for raw, batches in raws
            for batch in batches
        )
        if task.transfer is None:
            computing = read_ahead(compute, parts, blocks.workers - 1, blocks.workers)
            with closing(computing) as computed:
                for n, arrays in computed:
                    yield n, partial(_handed_over, arrays)
            return
        transfer = task.transfer
        if task.in_place:
            uploading = read_ahead(upload_read, batches, transfer.ahead)
        else:
            uploading = read_ahead(
                lambda part: (transfer.upload(part[0]), part[1]), parts, transfer.ahead
            )
        with closing(uploading) as uploads:
            for uploaded, batch in uploads:
                with transfer.computing(uploaded) as new:
                    n, arrays = compute((window.take(new, batch), batch))
                yield n, transfer.download(arrays)


def _handed_over(arrays: list[Any]) -> list[Any]:
    """Return arrays, and keep no reference to them."""
    result = list(arrays)
    arrays.clear()
    return result


def choose_encoding(task: ReconTask, source: Source, target: VolumeOptions) -> Encoding:
    """Return the encoding of values; the range of an integer type is measured on sample slices."""
    if not target.needs_range:
        fixed = None if isinstance(target.full.value_range, str) else target.full.value_range
        return encoding_of(target.full.dtype, fixed)
    low, high = robust_range(_sample_slices(task, source), target.full.dtype)
    free_memory(task.plan.xp)  # above all pinned memory, which the volume needs in other sizes
    logger.info("%s stores %g to %g %s", target.full.dtype, low, high, target.unit)
    return encoding_of(target.full.dtype, (low, high))


def _sample_slices(task: ReconTask, source: Source) -> Iterator[NDArray[np.float32]]:
    """Yield slices spread evenly over the volume, as they will be in it."""
    if task.transfer:
        task.transfer.use()
    xp, n_slices, rows = task.plan.xp, task.shape[0], task.binning_rows
    n = min(N_SAMPLES, n_slices)
    starts = [task.first_row + (2 * i + 1) * n_slices // (2 * n) * rows for i in range(n)]
    for first in range(0, n, task.plan.batch_size):
        batch = starts[first : first + task.plan.batch_size]
        index = (np.asarray(batch)[:, None] + np.arange(rows)).ravel()
        if task.corrections_of_raw is None:
            sinograms = sinograms_of(task, read_spread(source, task.scan, batch, rows), index)
        else:
            sinograms = xp.concatenate([_corrected(task, source, (s, s + rows)) for s in batch])
        yield from map(on_host, slices_of(task, sinograms))


def _corrected(task: ReconTask, source: Source, rows: IndexRange) -> Any:
    """Return the sinograms of some rows, read and uploaded for them alone."""
    raw = task.plan.xp.asarray(source.read_rows(*task.rows_needed(rows)))
    return sinograms_of(task, raw, np.arange(*rows))
