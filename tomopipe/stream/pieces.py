"""The rows of a scan cut into pieces, and the rows around a piece kept where it is computed.

Corrections need rows on either side of those they give. A piece shares them with its neighbours:
they are kept on the GPU, so that every row is read and uploaded once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tomopipe.arrays import module_of

Span = tuple[int, int]  # the last one excluded


@dataclass(frozen=True)
class Piece:
    """Some slices' detector rows.

    Attributes
    ----------
    rows : (int, int)
        Rows of the slices.
    span : (int, int)
        Rows that they are made of.
    new : (int, int)
        Those of `span` that no piece before had; it may be empty.
    keep_from : int
        First row that the pieces after this one need.
    """

    rows: Span
    span: Span
    new: Span
    keep_from: int


def cut(rows: Span, height: int, span_of: Callable[[Span], Span] | None = None) -> list[Piece]:
    """Cut rows into pieces of so many, the last one being smaller.

    Parameters
    ----------
    rows : (int, int)
        Rows of all slices.
    height : int
        Rows of a piece.
    span_of : callable, optional
        Tells what some rows are made of; None: of themselves.
    """
    first, last = rows
    own = [(start, min(start + height, last)) for start in range(first, last, height)]
    spans = [span_of(some) if span_of else some for some in own]
    pieces: list[Piece] = []
    read_until = min(span[0] for span in spans)
    for k, (some, span) in enumerate(zip(own, spans, strict=True)):
        keep_from = min((later[0] for later in spans[k + 1 :]), default=span[1])
        until = max(read_until, span[1])
        pieces.append(Piece(some, span, (read_until, until), keep_from))
        read_until = until
    return pieces


def together(pieces: Sequence[Piece], n: int) -> Iterator[tuple[Span, Sequence[Piece]]]:
    """Yield the new rows of n pieces at a time, which are read at once, and the pieces."""
    for k in range(0, len(pieces), n):
        some = pieces[k : k + n]
        yield (some[0].new[0], some[-1].new[1]), some


class Window:
    """Raw rows where they are computed with: those of a piece, and those kept for the next."""

    def __init__(self) -> None:
        self._kept: Any = None
        self._first = 0

    def take(self, new: Any, piece: Piece) -> Any:
        """Return the rows of a piece's span, made of what was kept and of its new rows.

        Parameters
        ----------
        new : array, shape (n_angles, n_new, n_cols)
            Its new rows, of NumPy or CuPy; used again by others once this piece is computed.
        piece : Piece
            The next one.
        """
        whole, first = new, piece.new[0]
        if self._kept is not None:
            whole, first = module_of(new).concatenate([self._kept, new], axis=1), self._first
        wanted = whole[:, piece.span[0] - first : piece.span[1] - first]
        self._first = max(piece.keep_from, first)
        kept = whole[:, self._first - first :]
        self._kept = kept.copy() if kept.shape[1] else None
        return wanted
