"""Sources of rows for full_recon: the scan, memory, or a scratch file; raw or corrected.

If chunks span many rows, as when each projection is one compressed chunk, every block of rows
decodes all of them again. Then either the blocks are as tall as memory allows, or everything is
decoded once and written to a scratch file in the order in which it is needed. The file has no name,
so that its space is free again when the process ends, in whatever way.
"""

import errno
import logging
import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import NoRoomError, TomopipeError, room_for
from tomopipe.prep.bad_pixels import ConstantFrames
from tomopipe.prep.correct import Corrections
from tomopipe.prep.recipe import IndexRange
from tomopipe.resources.memory import TALL, Blocks
from tomopipe.scans.chunks import ranges
from tomopipe.scans.scan import Scan
from tomopipe.stream.recon_task import ReconTask

# Decodings of the whole scan, above which a scratch file is used if there is room: writing and
# reading it takes about as long as decoding once.
MAX_DECODES = 2
_BATCH_BYTES = 64 * 2**20  # bytes of frames on their way to a scratch file
_MAX_BATCH_BYTES = 256 * 2**20
_RAM = ("tmpfs", "ramfs")
_NO_SCRATCH = "Set storage.scratch to a folder that has room for all raw data of a scan."

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Anything from which raw rows are read."""

    def read_rows(self, first: int, last: int) -> NDArray[Any]:
        """Read detector rows, shape (n_angles, last - first, n_cols)."""


class CorrectedSource:
    """Corrected rows, computed from raw rows and the neighbouring rows that they need."""

    def __init__(self, source: Source, corrections: Corrections, scan: Scan) -> None:
        self._source, self._corrections, self._threads = source, corrections, scan.threads
        self.constant = ConstantFrames(scan.n_angles)  # of the rows read so far

    def read_rows(self, first: int, last: int) -> NDArray[np.float32]:
        """Read and correct detector rows, shape (n_angles, last - first, n_cols)."""
        raw: NDArray[Any] = self._source.read_rows(*self._corrections.rows_needed((first, last)))
        self.constant.look(raw)
        sinograms = self._corrections.sinograms(raw, (first, last), threads=self._threads)
        return np.asarray(sinograms.transpose(1, 0, 2))


@dataclass(frozen=True, eq=False)
class Scratch:
    """Raw values in a temporary file, as (block of rows, angle, row in the block, column)."""

    file: BufferedRandom
    shape: tuple[int, int, int]  # (n_angles, n_rows, n_cols)
    first_row: int  # row of the detector that is row 0
    height: int  # rows of a block; the last may have fewer
    dtype: np.dtype[Any]

    def write_block(self, frame: int, row: int, values: NDArray[Any]) -> None:
        """Store values (n_frames, n_rows, n_cols) from a frame and a detector row on."""
        low, high = row - self.first_row, row - self.first_row + values.shape[1]
        for start, n_there, a, b in self._row_blocks(low, high):
            block = np.ascontiguousarray(values[:, a - low : b - low])
            if b - a == n_there:
                self._seek(start, n_there, frame)
                self.file.write(block.data)
                continue
            for angle, rows in enumerate(block, frame):
                self._seek(start, n_there, angle, a - start)
                self.file.write(rows.data)
        self.file.flush()

    def read_rows(self, first: int, last: int) -> NDArray[Any]:
        """Read detector rows of all frames, shape (n_angles, last - first, n_cols)."""
        n_angles, _, n_cols = self.shape
        raw = np.empty((n_angles, last - first, n_cols), self.dtype)
        low, high = first - self.first_row, last - self.first_row
        for start, n_there, a, b in self._row_blocks(low, high):
            if b - a == n_there == last - first:
                self._seek(start, n_there, 0)
                self._read(raw)
                continue
            for angle in range(n_angles):
                self._seek(start, n_there, angle, a - start)
                self._read(raw[angle, a - low : b - low])
        return raw

    def _read(self, values: NDArray[Any]) -> None:
        if self.file.readinto(values.data) != values.nbytes:
            raise OSError(errno.EIO, "the scratch file ends too early")

    def _row_blocks(self, low: int, high: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield start and height of the blocks with rows low ... high - 1, and these rows."""
        for start in range(low - low % self.height, high, self.height):
            n_there = min(self.height, self.shape[1] - start)
            yield start, n_there, max(low, start), min(high, start + n_there)

    def _seek(self, start: int, n_there: int, angle: int, row: int = 0) -> None:
        """Go to a row of an angle, of the block of n_there rows from `start` on."""
        n_angles, _, n_cols = self.shape
        row_bytes = n_cols * self.dtype.itemsize
        self.file.seek((start * n_angles + angle * n_there + row) * row_bytes)


def source_of(
    task: ReconTask,
    both_blocks: tuple[Blocks, Blocks],
    *,
    samples: bool,
    scratch: str | None,
    stack: ExitStack,
) -> tuple[Source, Blocks]:
    """Return the source of the rows of a task, corrected if the host corrects, and its blocks."""
    if task.in_place:
        return task.scan, both_blocks[0]
    used = task.first_row, task.last_row
    used = task.corrections.rows_needed(used) if task.corrections else used
    opened = open_source(task.scan, used, *both_blocks, samples=samples, scratch=scratch)
    source, blocks = stack.enter_context(opened)
    if task.corrected and task.corrections:
        source = CorrectedSource(source, task.corrections, task.scan)
    return source, blocks


@contextmanager
def open_source(
    scan: Scan,
    rows: IndexRange,
    blocks: Blocks,
    low_blocks: Blocks,
    *,
    samples: bool = False,
    scratch: str | None = None,
) -> Iterator[tuple[Source, Blocks]]:
    """Yield the source of rows, and the blocks to read.

    `rows` are the first and last detector row used, the last excluded. `blocks` are for reading the
    scan itself, `low_blocks` for reading a scratch file in the folder `scratch` (None: the
    system's). `samples`: whether rows spread over the scan will be read before all others.
    """
    n_rows = rows[1] - rows[0]
    if blocks.height >= n_rows:
        yield _Held(scan.read_rows(*rows), rows[0]), blocks
        return
    n_decodes = count_decodes(scan.chunks, n_rows, blocks.height) + int(samples and _is_tall(scan))
    n_bytes = scan.n_angles * n_rows * scan.n_cols * scan.dtype.itemsize
    if not _takes_scratch(scan, n_decodes, n_bytes, scratch):
        yield scan, blocks
        return
    shape = (scan.n_angles, n_rows, scan.n_cols)
    with ExitStack() as stack:
        path = scratch_folder(scratch)
        try:
            with room_for(path, _NO_SCRATCH):
                unnamed = stack.enter_context(
                    tempfile.TemporaryFile(dir=scratch, prefix="tomopipe-")
                )
                file = Scratch(unnamed, shape, rows[0], low_blocks.height, scan.dtype)
                _transpose(scan, rows, blocks, file)
        except NoRoomError:
            raise
        except OSError as error:
            path = f"{path} (storage.scratch)"
            raise OSError(error.errno, error.strerror or str(error), path) from error
        yield file, low_blocks


def count_decodes(chunks: Sequence[int] | None, n_rows: int, height: int) -> int:
    """Count how often reading block by block decodes each chunk."""
    if not chunks or height >= n_rows:
        return 1
    return math.ceil(min(chunks[1], n_rows) / height)


def read_spread(source: Source, scan: Scan, starts: Sequence[int], n: int) -> NDArray[Any]:
    """Read groups of n rows that begin at `starts`, decoding chunks of many rows once.

    Shape (n_angles, len(starts) * n, n_cols).
    """
    target = np.concatenate([np.arange(start, start + n) for start in starts])
    row_range = int(target[0]), int(target[-1]) + 1
    frame_bytes = (row_range[1] - row_range[0]) * scan.n_cols * scan.dtype.itemsize
    chunk_frames = scan.chunks[0] if scan.chunks else 1
    separate = not _is_tall(scan) or chunk_frames * frame_bytes > _MAX_BATCH_BYTES
    if source is not scan or separate:
        return np.concatenate([source.read_rows(start, start + n) for start in starts], axis=1)
    raw = np.empty((scan.n_angles, len(target), scan.n_cols), scan.dtype)
    step = max(1, _BATCH_BYTES // frame_bytes // chunk_frames) * chunk_frames
    for frames in ranges(0, scan.n_angles, step):
        raw[slice(*frames)] = scan.read_block(frames, row_range)[:, target - row_range[0]]
    return raw


def _is_tall(scan: Scan) -> bool:
    return scan.chunks is not None and scan.chunks[1] > TALL


def read_ahead(
    function: Callable[[Any], Any], items: Iterable[Any], ahead: int, threads: int = 1
) -> Generator[Any]:
    """Yield function(item) in order, computing the next ones while the caller works on one."""
    with some_threads(threads) as pool:
        pending: deque[Future[Any]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def some_threads(n: int = 1) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads; on an error pending work is dropped."""
    pool = ThreadPoolExecutor(max_workers=n)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, eq=False)
class _Held:
    """Rows in memory."""

    raw: NDArray[Any]
    first_row: int

    def read_rows(self, first: int, last: int) -> NDArray[Any]:
        return self.raw[:, first - self.first_row : last - self.first_row]


def _takes_scratch(scan: Scan, n_decodes: int, n_bytes: int, scratch: str | None) -> bool:
    """Tell whether to use a scratch file: if blocks decode too often and there is room."""
    if n_decodes <= MAX_DECODES:
        return False
    path, free = scratch_folder(scratch), free_bytes(scratch)
    if free > 1.02 * n_bytes:
        chunk_rows = scan.chunks[1] if scan.chunks else 1
        logger.info(
            "chunks of %d rows: decoded once, with %.3g GB of scratch in %s, instead of %d times",
            chunk_rows, n_bytes / 1e9, path, n_decodes,
        )  # fmt: skip
        return True
    logger.warning(
        "every chunk is decoded %d times: %s has no room for %.3g GB. Set storage.scratch to "
        "a folder that has, or give the job more memory",
        n_decodes, path, n_bytes / 1e9,
    )  # fmt: skip
    return False


def _transpose(scan: Scan, rows: IndexRange, blocks: Blocks, scratch: Scratch) -> None:
    """Decode everything once, writing the rows used to the scratch file."""
    block_bytes = blocks.height * scan.n_angles * scan.n_cols * scan.dtype.itemsize
    parts = list(_parts(scan, rows, min(_BATCH_BYTES, block_bytes // 3)))
    start = time.perf_counter()
    blocks_read = read_ahead(lambda part: scan.read_block(*part), parts, 1)
    for (frames, row_range), raw in zip(parts, blocks_read, strict=True):
        scratch.write_block(frames[0], row_range[0], raw)
        logger.info("decoded frames %d to %d, rows %d to %d", *frames, *row_range)
    logger.info("all decoded in %.0f s", time.perf_counter() - start)


def _parts(scan: Scan, rows: IndexRange, n_bytes: int) -> Iterator[tuple[IndexRange, IndexRange]]:
    """Yield ranges of frames and rows of about so many bytes, at least a chunk of full width."""
    chunk_frames, chunk_rows = scan.chunks[:2] if scan.chunks else (1, 1)
    row_bytes = scan.n_cols * scan.dtype.itemsize
    n_rows = max(1, n_bytes // (chunk_frames * row_bytes * chunk_rows)) * chunk_rows
    n_rows = min(n_rows, rows[1] - rows[0])
    n_frames = max(1, n_bytes // (n_rows * row_bytes) // chunk_frames) * chunk_frames
    for frames in ranges(0, scan.n_angles, n_frames):
        for row_range in ranges(*rows, n_rows):
            yield frames, row_range


def scratch_folder(folder: str | None) -> str:
    """Return the folder that scratch files lie in."""
    return folder or tempfile.gettempdir()


def free_bytes(folder: str | None) -> int:
    """Return the free space (bytes) for scratch files; 0 if the folder is in memory.

    A folder named by the user is used even if it is in memory.
    """
    path = scratch_folder(folder)
    try:
        if folder is None and _is_ram(path):
            return 0
        stat = os.statvfs(path)
    except OSError:
        return 0
    return stat.f_bavail * stat.f_frsize


def _is_ram(folder: str) -> bool:
    """Tell whether a folder's file system is kept in memory."""
    import psutil  # for a scratch file alone

    path, kind = os.path.join(os.path.realpath(folder), ""), ""
    mounts = sorted(psutil.disk_partitions(all=True), key=lambda mount: len(mount.mountpoint))
    for mount in mounts:  # the innermost one, and of these the last
        if path.startswith(os.path.join(mount.mountpoint, "")):
            kind = mount.fstype
    return kind in _RAM


def check_scratch(folder: str | None) -> None:
    """Raise if the folder that was named for scratch files cannot be used."""
    if folder is not None and free_bytes(folder) == 0:
        raise TomopipeError(
            f"storage.scratch: {folder} is no folder with free space. Make it, or set another."
        )
