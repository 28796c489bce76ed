"""Frames that one job has read for several scans of a file: whole ones, and some rows of all.

The file has a group for the projections and one for each part of the flats and darks, with whole
`frames` and the `index` of each among those of the dataset. The projections have, besides, `rows`
of the frames `row_frames`, and `means`, which their reader computes of each row of them; unless
all of them are whole.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.paths import no_pipe
from tomopipe.scans.chunks import Chunks, IndexRange
from tomopipe.scans.pixels import Frames, Hdf5Pixels, Pixels, PixelsView
from tomopipe.scans.references import References

if TYPE_CHECKING:
    import h5py

_PROJECTIONS, _KINDS = "projections", ("flats", "darks")
_COMPLETE = "complete"


class Stored(NamedTuple):
    """Where the frames of a scan lie."""

    projections: Frames
    flats: References
    darks: References

    @property
    def references(self) -> Iterator[tuple[str, Frames]]:
        """Each part of the flats and darks, with the name of its group."""
        for kind, references in zip(_KINDS, self[1:], strict=True):
            for number, part in enumerate(references.frames):
                yield f"{kind}/{number}", part


class SharedPixels(PixelsView):
    """Frames of a file, of which some are in another one, too, which is read instead."""

    def __init__(self, pixels: Pixels, group: "h5py.Group") -> None:
        super().__init__(pixels, pixels.shape)
        self._whole, self._index = Hdf5Pixels(group["frames"], group.file), group["index"][()]
        # all frames of which there are rows, and these rows; none where all frames are whole
        self._all, self._rows = np.zeros(0, int), np.zeros(0, int)
        self._in_parts = "rows" not in group
        if "rows" in group:
            self._all, self._rows = group["row_frames"][()], group["row_numbers"][()]
            self._few, self._means = Hdf5Pixels(group["rows"], group.file), group["means"]

    @property
    def chunks(self) -> Chunks:
        """How the frames lie in the raw file; rows can be read alone where all are whole."""
        shape, in_parts = self.pixels.chunks
        return Chunks(shape, in_parts or self._in_parts)

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of neighbouring frames, of the other file if it has all of them."""
        if whole := _span(self._index, frames):
            self._whole.read(out, whole, rows, threads)
        elif (every := _span(self._all, frames)) and (few := _span(self._rows, rows)):
            self._few.read(out, every, few)
        else:
            self.pixels.read(out, frames, rows, threads)

    def has_rows(self, frames: NDArray[np.intp], rows: IndexRange) -> bool:
        """Tell whether the other file has rows of frames."""
        return _span(self._rows, rows) is not None and bool(np.isin(frames, self._all).all())

    def rows_of(
        self, frames: NDArray[np.intp], rows: Sequence[int]
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return rows, and the means of all rows, of frames, which the other file must have."""
        at = np.searchsorted(self._all, frames)
        (first, last), which = (int(at[0]), int(at[-1]) + 1), at - at[0]
        out = np.empty((len(rows), last - first, 1, self.shape[2]), self.dtype)
        for part, place in zip(out, np.searchsorted(self._rows, rows).tolist(), strict=True):
            self._few.read(part, (first, last), (place, place + 1))
        return out[:, which, 0].transpose(1, 0, 2), self._means[first:last][which]


def _span(stored: NDArray[np.intp], places: IndexRange) -> IndexRange | None:
    """Return where neighbouring places are among the stored ones; None if one is not there."""
    first, last = np.searchsorted(stored, places).tolist()
    return (first, last) if last - first == places[1] - places[0] else None


@contextmanager
def shared_frames(path: str | os.PathLike[str] | None, stored: Stored) -> Iterator[Stored]:
    """Yield the frames of a scan, to be read from the file of `write_shared` as far as they can.

    They stay as they are if there is no such file, or it is damaged or not complete.
    """
    with ExitStack() as stack:
        file = None
        with suppress(OSError):
            if path is not None:
                import h5py

                file = stack.enter_context(h5py.File(no_pipe(path), "r"))
        if file is None or not file.attrs.get(_COMPLETE):
            yield stored
            return
        parts = {name: _shared(part, file[name]) for name, part in stored.references}
        references = [
            replace(each, frames=tuple(parts[f"{kind}/{n}"] for n in range(len(each.frames))))
            for kind, each in zip(_KINDS, stored[1:], strict=True)
        ]
        yield Stored(_shared(stored.projections, file[_PROJECTIONS]), *references)


def _shared(frames: Frames, group: "h5py.Group") -> Frames:
    return replace(frames, pixels=SharedPixels(frames.pixels, group))


def write_shared(
    file: "h5py.File",
    stored: Stored,
    whole: NDArray[np.intp],
    rows: NDArray[np.intp] | None,
    blocks: Iterable[tuple[NDArray[Any], NDArray[np.float32] | None]],
) -> None:
    """Write the file of `shared_frames`: flats and darks, rows of all projections, some whole.

    `whole` are places of projections in their dataset, and `rows` are of all, both ascending; None
    if all projections are whole. `blocks` are all projections (n, n_rows, n_cols), in parts, and
    the means of their rows (n, n_rows), which only `rows` need.
    """
    for name, reference in stored.references:
        n_rows = reference.pixels.shape[1]
        frames = _new(file, name, reference.pixels, reference.index)
        for number in range(len(reference.index)):
            frames[number] = reference.read((number, number + 1), (0, n_rows))[0]
    index, pixels = stored.projections.index, stored.projections.pixels
    frames = _new(file, _PROJECTIONS, pixels, whole)
    group, n, (_, n_rows, n_cols) = frames.parent, len(index), pixels.shape
    if rows is not None:
        group["row_frames"], group["row_numbers"] = index, rows
        few = group.create_dataset("rows", (n, len(rows), n_cols), pixels.dtype)
        of_rows = group.create_dataset("means", (n, n_rows), np.float32)
    first = 0
    for values, means in blocks:
        part = slice(first, first + len(values))
        if rows is not None:
            few[part], of_rows[part] = values[:, rows], means
        which = np.isin(index[part], whole)
        at = np.searchsorted(whole, index[part][which])
        for place, image in zip(at.tolist(), values[which], strict=True):
            frames[place] = image
        first = part.stop
    file.attrs[_COMPLETE] = True


def _new(file: "h5py.File", name: str, pixels: Pixels, index: NDArray[np.intp]) -> "h5py.Dataset":
    """Add a group for whole frames, and return the dataset of these."""
    group = file.create_group(name)
    group["index"] = index
    return group.create_dataset("frames", (len(index), *pixels.shape[1:]), pixels.dtype)
