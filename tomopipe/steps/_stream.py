"""The streaming behind full_recon: read ahead, reconstruct, write behind, in bounded memory."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import on_host
from tomopipe.errors import ScanError
from tomopipe.io.encoding import Encoding
from tomopipe.io.exchange import Scan
from tomopipe.io.noted import Noted, note
from tomopipe.io.volume import PutSlices
from tomopipe.prep.half_acquisition import HalfAcquisition
from tomopipe.prep.normalise import normalise
from tomopipe.recon.array import out_of_memory
from tomopipe.recon.blocks import CARD_CORRECT_BYTES, LANES
from tomopipe.recon.carry import Carrier, Home, InPlace
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import Plan
from tomopipe.steps._corrected import CorrectedSource
from tomopipe.steps._memory import CORRECT_BYTES, Blocks
from tomopipe.steps._source import Source, one_thread, read_ahead, read_spread

N_SAMPLES = 8  # slices that the range of whole numbers is taken from

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Read = Callable[[int], NDArray[Any]]  # the block of raw rows that begins there


@dataclass(frozen=True, eq=False)
class Work:
    """A scan, and all that its blocks have in common.

    Attributes
    ----------
    scan : Scan
        Open.
    plan : Plan
        Of the binned sinograms; in half acquisition of those of twice their width.
    cor_px : float
        Column of the axis in the binned sinograms.
    scale : float
        From attenuation per binned pixel to the unit of the volume.
    first_row, last_row : int
        Detector rows used, the last one excluded.
    crop : tuple of slice
        Voxels kept, along y and x.
    binning, binning_rows : int
        Columns and rows averaged into one; fewer rows where the scan has fewer.
    minus_log : bool
        Take -log of the transmission.
    corrected : bool
        Rows come corrected (`tomopipe.steps._corrected`): they are not normalised again.
    threads : int or None
        CPU threads.
    encoding : Encoding, optional
        What slices are encoded by where they are computed, before they are brought back; None: they
        are encoded as they are written.
    carrier : Carrier
        Takes raw rows to where slices are computed, and slices back.
    piece : int
        Slices computed at a time, to begin with: a power of two, at most those of a block.
    few_angles : callable or None
        What makes slices of sinograms by iteration; None: filtered backprojection.
    half : HalfAcquisition, optional
        What lays binned sinograms into twice the width; None: they are taken as they are.
    """

    scan: Scan
    plan: Plan
    cor_px: float
    scale: float
    first_row: int
    last_row: int
    crop: tuple[slice, slice]
    binning: int
    binning_rows: int
    minus_log: bool
    threads: int | None
    carrier: Carrier = field(default_factory=InPlace)
    piece: int = LANES
    few_angles: Callable[[Any], Any] | None = None
    half: HalfAcquisition | None = None
    corrected: bool = False
    encoding: Encoding | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume, (n_slices, n_y, n_x)."""
        n_slices = (self.last_row - self.first_row) // self.binning_rows
        n_y, n_x = (some.stop - some.start for some in self.crop)
        return n_slices, n_y, n_x


def run(
    work: Work, source: Source, blocks: Blocks, put: PutSlices, progress: Progress | None
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
    progress : callable, optional
        Called with the number of slices done and of all slices.

    Raises
    ------
    ScanError
        If all data are one value.
    """
    done, varies, n_slices = 0, False, work.shape[0]
    logger.info("%d slices, %d detector rows per read, %s", n_slices, blocks.height, blocks)

    def read(start: int) -> NDArray[Any]:
        nonlocal varies
        raw = source.read_rows(start, min(start + blocks.height, work.last_row))
        if isinstance(source, CorrectedSource):
            varies = source.varies
        else:
            varies = varies or bool(np.fmin.reduce(raw, None) < np.fmax.reduce(raw, None))
        return raw

    def store(first: int, home: Home) -> None:
        arrays = home()
        put(first, arrays[0] if work.encoding is None else Noted(*arrays))

    with one_thread() as writer:
        pending: deque[Future[None]] = deque()
        for n, home in _all_slices(work, read, blocks):
            if len(pending) == blocks.behind:
                pending.popleft().result()
            pending.append(writer.submit(store, done, home))
            done += n
            logger.info("%d of %d slices", done, n_slices)
            if progress is not None:
                progress(done, n_slices)
        for future in pending:
            future.result()
    if not varies:
        raise ScanError("constant frames: all data hold a single value, as if never written")


def _all_slices(work: Work, read: Read, blocks: Blocks) -> Iterator[tuple[int, Home]]:
    """Yield number and place of slices, piece by piece; smaller ones once memory ran out."""
    done, size = 0, work.piece
    while done < work.shape[0]:
        try:
            for n, home in _some_slices(work, read, blocks, done, size):
                yield n, home
                done += n
        except Exception as error:
            if not out_of_memory(error) or size == 1:
                raise
            size //= 2
            logger.warning("out of memory: pieces of %d slices", size)
            work.plan.cache.clear()
            work.carrier.settle()


def _some_slices(
    work: Work, read: Read, blocks: Blocks, done: int, size: int
) -> Iterator[tuple[int, Home]]:
    """Yield the slices from `done` on in pieces of `size`."""
    height = size * work.binning_rows
    first = work.first_row + done * work.binning_rows
    starts = range(first, work.last_row, blocks.height)
    # closed in any case: after an error no piece is sent any more
    with closing(read_ahead(read, starts, blocks.ahead)) as raws:
        pieces = (raw[:, i : i + height] for raw in raws for i in range(0, raw.shape[1], height))
        with closing(read_ahead(work.carrier.send, pieces, work.carrier.ahead)) as all_sent:
            for sent in all_sent:
                with work.carrier.computing(sent) as raw:
                    n_rows = raw.shape[1]
                    slices = _reconstruct(work, raw, first + np.arange(n_rows))
                    arrays = _to_bring(work, slices, (first - work.first_row) // work.binning_rows)
                yield len(slices), work.carrier.bring(arrays)
                first += n_rows


def _to_bring(work: Work, slices: Any, done: int) -> Sequence[Any]:
    """Encode slices, of which `done` come before, if that is done where they are computed."""
    if work.encoding is None:
        return [slices]
    return note(slices, work.encoding, work.shape[0] // 2 - done, encode=True).arrays


def sample_slices(work: Work, source: Source) -> Iterator[NDArray[np.float32]]:
    """Yield slices spread evenly over the volume, as they will be in it.

    Parameters
    ----------
    work : Work
        What to do.
    source : Source
        Where raw rows are read.
    """
    n_slices, rows = work.shape[0], work.binning_rows
    n = min(N_SAMPLES, n_slices)
    starts = [work.first_row + (2 * i + 1) * n_slices // (2 * n) * rows for i in range(n)]
    for first in range(0, n, work.plan.lanes):
        some = starts[first : first + work.plan.lanes]
        raw = read_spread(source, work.scan, some, rows)
        index = (np.asarray(some)[:, None] + np.arange(rows)).ravel()
        yield from map(on_host, _reconstruct(work, raw, index))


def _reconstruct(work: Work, raw: Any, rows: NDArray[np.intp]) -> Any:
    """Reconstruct the slices of raw values (n_angles, n_rows, n_cols) of some detector rows."""
    sinograms = _sinograms(work, raw, rows)
    if work.few_angles is not None:
        images = work.few_angles(sinograms)
    elif work.half is not None:
        wide, cor_px = work.half.widen(sinograms), work.half.wide_cor_px
        images = reconstruct(wide, work.plan, cor_px, threads=work.threads)
    else:
        images = reconstruct(sinograms, work.plan, work.cor_px, threads=work.threads)
    images *= np.float32(work.scale)
    return images[:, *work.crop]


def _sinograms(work: Work, raw: Any, rows: NDArray[np.intp]) -> Any:
    """Correct, bin and turn raw values into (n_slices, n_angles, n_cols'), in bounded memory."""
    xp = work.plan.xp
    if not work.corrected:
        flat, dark = xp.asarray(work.scan.flat[rows]), xp.asarray(work.scan.dark[rows])
    shape = (len(rows) // work.binning_rows, work.plan.n_angles, work.scan.n_cols // work.binning)
    sinograms = xp.empty(shape, xp.float32)
    n_bytes = CORRECT_BYTES // 4 if xp is np else CARD_CORRECT_BYTES
    step = max(1, n_bytes // (4 * raw[0].size))
    for first in range(0, len(raw), step):
        batch = xp.asarray(raw[first : first + step])
        if not work.corrected:
            batch = normalise(batch, flat, dark, minus_log=work.minus_log)
        binned = _bin(batch, work.binning_rows, work.binning)
        sinograms[:, first : first + step] = binned.transpose(1, 0, 2)
    return sinograms


def _bin(projections: Any, rows: int, cols: int) -> Any:
    """Average blocks of pixels of (n_angles, n_rows, n_cols)."""
    n_angles, n_rows, n_cols = projections.shape
    n_rows, n_cols = n_rows // rows, n_cols // cols
    whole = projections[:, : n_rows * rows, : n_cols * cols]
    if rows == cols == 1:
        return whole
    blocks = whole.reshape(n_angles, n_rows, rows, n_cols, cols)
    return blocks.mean(axis=(2, 4), dtype=np.float32)
