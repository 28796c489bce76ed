"""One scan on several cards: blocks of rows from one queue, slices in their order.

Each card has a thread with its own plan and its own carrier. A card that fails gives back the rows
that it has not done; the others do them. So a job ends as long as one card works.
"""

import bisect
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tomopipe.errors import TomopipeError
from tomopipe.recon.carry import Home
from tomopipe.stream.pieces import Span
from tomopipe.stream.work import Work

_ON_THE_WAY = 2  # pieces of a card that are being copied back while it computes

Compute = Callable[[Work, Span], Iterator[tuple[int, Home]]]

logger = logging.getLogger(__name__)


class _Queue:
    """Blocks to be done and slices that are, shared by the threads of the cards.

    Parameters
    ----------
    rows : (int, int)
        Detector rows of all slices.
    height : int
        Rows of a block.
    n_cards : int
        How many share them. So many blocks are under way or wait for an earlier one.
    """

    def __init__(self, rows: Span, height: int, n_cards: int) -> None:
        self._todo = [(row, min(row + height, rows[1])) for row in range(*rows, height)]
        self._lead = n_cards * height
        self._next, self._end = rows
        self._ready: dict[int, tuple[int, int, Sequence[Any]]] = {}
        self._busy, self._alive = 0, n_cards
        self._error: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()

    def take(self) -> Span | None:
        """Return the next block, waiting until there is room for it; None: there is no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._may_take() or self._is_over())
            if self._stopped or not self._todo:
                return None
            self._busy += 1
            return self._todo.pop(0)

    def _may_take(self) -> bool:
        return bool(self._todo) and self._todo[0][0] < self._next + self._lead

    def _is_over(self) -> bool:
        return not self._todo and not self._busy  # while one is busy, it may fail and give back

    def put(self, first_row: int, last_row: int, n: int, arrays: Sequence[Any]) -> bool:
        """Hand over the slices of some rows; False: nobody wants any more."""
        with self._changed:
            self._ready[first_row] = last_row, n, arrays
            self._changed.notify_all()
            return not self._stopped

    def done(self) -> None:
        """Say that a block is done."""
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def give_back(self, rows: Span, error: BaseException) -> None:
        """Give back the rows of a block that a card has not done; it takes no more."""
        with self._changed:
            self._busy -= 1
            self._alive -= 1
            self._error = error
            bisect.insort(self._todo, rows)
            self._changed.notify_all()

    def stop(self, error: BaseException | None = None) -> None:
        """Let no card take a block any more, because of an error that another card would meet."""
        with self._changed:
            self._error = error or self._error
            self._stopped = True
            self._changed.notify_all()

    def in_order(self) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yield number and arrays of slices, in the order of the rows."""
        while self._next < self._end:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._stopped or self._next in self._ready or not self._alive
                )
                if self._next not in self._ready:
                    assert self._error is not None
                    raise self._error
                self._next, n, arrays = self._ready.pop(self._next)
                self._changed.notify_all()
            yield n, arrays


def shared_slices(
    works: Sequence[Work], compute: Compute, height: int
) -> Iterator[tuple[int, Home]]:
    """Yield number and place of slices in their order, computed by several cards.

    Parameters
    ----------
    works : sequence of Work
        The same scan, for each card.
    compute : callable
        Yields the slices of some rows, piece by piece: compute(work, rows). A `ReadError` is raised
        as it is; after any other error the other cards do the rows.
    height : int
        Detector rows that a card takes at a time.

    Raises
    ------
    TomopipeError
        If no card is left.
    """
    queue = _Queue((works[0].first_row, works[0].last_row), height, len(works))
    threads = [
        threading.Thread(target=_work_off, args=(work, compute, queue), daemon=True)
        for work in works
    ]
    for thread in threads:
        thread.start()
    try:
        for n, arrays in queue.in_order():
            yield n, lambda arrays=arrays: arrays  # type: ignore[misc]
    except ReadError as error:
        raise error.reason from None
    except Exception as error:
        raise TomopipeError(
            f"all {len(works)} GPUs failed, the last one by {type(error).__name__}: {error}. "
            "Look at nvidia-smi, or set full_recon.device: cpu."
        ) from error
    finally:
        queue.stop()
        for thread in threads:
            thread.join()


class ReadError(Exception):
    """Rows could not be read: no card can help."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _work_off(work: Work, compute: Compute, queue: _Queue) -> None:
    """Do blocks until there is none, or the card fails."""
    while (rows := queue.take()) is not None:
        done = rows[0]
        try:
            for last_row, n, arrays in _finished(work, compute, rows):
                if not queue.put(done, last_row, n, arrays):
                    return
                done = last_row
        except ReadError as error:
            queue.stop(error)
            return
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            name = work.carrier.name
            logger.warning("%s failed (%s): others do its rows from %d on", name, text, done)
            queue.give_back((done, rows[1]), error)
            return
        queue.done()


def _finished(work: Work, compute: Compute, rows: Span) -> Iterator[tuple[int, int, Sequence[Any]]]:
    """Yield the row after some slices, their number, and their arrays, once they are back."""
    homes: deque[tuple[int, Home]] = deque()
    first = rows[0]
    for n, home in compute(work, rows):
        homes.append((n, home))
        if len(homes) > _ON_THE_WAY:
            n_back, back = homes.popleft()
            first += n_back * work.binning_rows
            yield first, n_back, back()
    for n, home in homes:
        first += n * work.binning_rows
        yield first, n, home()
