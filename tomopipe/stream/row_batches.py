"""The rows of a scan cut into batches; rows that batches share are uploaded once.

Corrections need rows on either side of those they give, which a batch shares with its neighbours:
such rows are kept on the GPU, so that every row is read and uploaded once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tomopipe.arrays import module_of

RowRange = tuple[int, int]  # the last one excluded


@dataclass(frozen=True)
class RowBatch:
    """Detector rows of a batch of slices."""

    rows: RowRange  # rows of the slices
    needed: RowRange  # rows that the slices are computed from
    new: RowRange  # rows of `needed` that no earlier batch had; the range may be empty
    keep_from: int  # first row that later batches need


def cut(rows: RowRange, height: int, rows_needed: Callable[[RowRange], RowRange]) -> list[RowBatch]:
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


def together(batches: Sequence[RowBatch], n: int) -> Iterator[tuple[RowRange, Sequence[RowBatch]]]:
    """Yield n batches at a time with their new rows, which are read together."""
    for k in range(0, len(batches), n):
        group = batches[k : k + n]
        yield (group[0].new[0], group[-1].new[1]), group


class Window:
    """Raw rows on the device that computes: those of a batch, and those kept for the next."""

    def __init__(self) -> None:
        self._kept: Any = None
        self._first = 0

    def take(self, new: Any, batch: RowBatch) -> Any:
        """Return all rows that the next batch needs: those kept, and its new ones.

        The memory of the new ones (n_angles, n_new, n_cols) is used again once it is computed.
        """
        whole, first = new, batch.new[0]
        if self._kept is not None:
            whole, first = module_of(new).concatenate([self._kept, new], axis=1), self._first
        target = whole[:, batch.needed[0] - first : batch.needed[1] - first]
        self._first = max(batch.keep_from, first)
        remaining = whole[:, self._first - first :]
        self._kept = remaining.copy() if remaining.shape[1] else None
        return target
