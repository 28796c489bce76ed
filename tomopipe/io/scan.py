"""The pixels of an open DXchange scan."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanError
from tomopipe.io import chunks
from tomopipe.io.frames import written_frames
from tomopipe.io.hdf5 import one_line

if TYPE_CHECKING:
    import h5py

    from tomopipe.io.exchange import Metadata


class Scan:
    """The pixels of an open scan; made by `tomopipe.io.exchange.open_scan`, valid within its block.

    Attributes
    ----------
    n_angles, n_rows, n_cols : int
        Frames in use, rows, columns.
    dtype : numpy.dtype
        Type of raw pixels, in the byte order of this machine.
    chunks : tuple of int or None
        Chunk shape of /exchange/data, or of the first source of a virtual one.
    threads : int
        Threads that decode chunks while `read_rows` or `read_block` reads; 1 unless it is set.
    theta_rad : ndarray of float64, shape (n_angles,)
        Angles of the frames in use; from 0 to pi inclusive where the file has none.
    theta_missing : bool
        Whether the angles were assumed.
    pixel_size_um, energy_kev : float or None
        As in `Metadata`.
    """

    def __init__(
        self,
        metadata: "Metadata",
        data: "h5py.Dataset",
        references: "tuple[h5py.Dataset | None, h5py.Dataset | None]",
        frames: NDArray[np.intp],
    ) -> None:
        self._data, self._references, self._frames = data, references, frames
        self.n_angles, self.n_rows, self.n_cols = len(frames), metadata.n_rows, metadata.n_cols
        self.dtype = np.dtype(metadata.dtype)
        self.chunks = chunks.chunks_of(data)
        self.threads = 1
        self.theta_missing = metadata.theta_deg is None
        if metadata.theta_deg is None:
            theta_deg = np.linspace(0, 180, metadata.n_angles)
        else:
            theta_deg = metadata.theta_deg
        self.theta_rad: NDArray[np.float64] = np.deg2rad(theta_deg[frames])
        self.pixel_size_um, self.energy_kev = metadata.pixel_size_um, metadata.energy_kev

    def read_rows(self, first: int, last: int) -> NDArray:
        """Read detector rows `first` to `last` (exclusive) of all frames in use, raw.

        Parameters
        ----------
        first, last : int
            0 <= first < last <= n_rows.

        Returns
        -------
        ndarray, shape (n_angles, last - first, n_cols)
            Raw values, in the type of the file.

        Raises
        ------
        ValueError
            If there are no such rows.
        ScanError
            If the file cannot be read there.
        """
        return self.read_block((0, self.n_angles), (first, last))

    def read_block(self, frames: tuple[int, int], rows: tuple[int, int]) -> NDArray:
        """Read some rows of neighbouring frames, raw.

        Parameters
        ----------
        frames, rows : (int, int)
            First and last, the last excluded; frames of those in use.

        Returns
        -------
        ndarray, shape (n_frames, n_rows, n_cols)
            Raw values, in the type of the file.

        Raises
        ------
        ValueError
            If there are no such rows or frames.
        ScanError
            If the file cannot be read there.
        """
        for what, (first, last), n in [
            ("rows", rows, self.n_rows),
            ("frames", frames, self.n_angles),
        ]:
            if not 0 <= first < last <= n:
                raise ValueError(f"{what} {first} to {last}: expected 0 <= first < last <= {n}")
        used = self._frames[slice(*frames)]
        raw = np.empty((len(used), rows[1] - rows[0], self.n_cols), self.dtype)
        done = 0
        for run in np.split(used, np.flatnonzero(np.diff(used) != 1) + 1):
            span = int(run[0]), int(run[-1]) + 1
            self._read_span(raw[done : done + len(run)], span, rows)
            done += len(run)
        return raw

    def _read_span(self, out: NDArray, frames: tuple[int, int], rows: tuple[int, int]) -> None:
        """Read rows of neighbouring frames of the file."""
        what = f"rows {rows[0]} to {rows[1]}"
        if self.threads == 1 or not self._decodable:
            self._read(out, np.s_[slice(*frames), slice(*rows), :], what)
            return
        try:
            chunks.read_block(self._data, frames, rows, out, self.threads)
        except OSError as error:
            raise _unreadable(self._data, what, error) from error

    def read_frames(self, indices: Sequence[int]) -> NDArray:
        """Read some frames, raw.

        Parameters
        ----------
        indices : sequence of int
            Which of the frames in use, in any order; 0-based.

        Returns
        -------
        ndarray, shape (len(indices), n_rows, n_cols)
            Raw values, in the type of the file.

        Raises
        ------
        ScanError
            If the file cannot be read there.
        """
        raw = np.empty((len(indices), self.n_rows, self.n_cols), self.dtype)
        for out, frame in zip(raw, self._frames[np.asarray(indices, dtype=int)], strict=True):
            self._read(out, np.s_[int(frame)], f"frame {frame}")
        return raw

    @cached_property
    def _decodable(self) -> bool:
        return chunks.can_decode(self._data)

    @cached_property
    def flat(self) -> NDArray[np.float32]:
        """Mean of the flats, shape (n_rows, n_cols); 1 if declared absent."""
        return self._mean(self._references[0], 1)

    @cached_property
    def dark(self) -> NDArray[np.float32]:
        """Mean of the darks, shape (n_rows, n_cols); 0 if declared absent."""
        return self._mean(self._references[1], 0)

    def read_flats(self, first: int, last: int) -> NDArray:
        """Read detector rows `first` to `last` (exclusive) of all flats that were written, raw.

        Returns
        -------
        ndarray, shape (n_flats, last - first, n_cols)
            In the order of the file; none if they are declared absent.

        Raises
        ------
        ScanError
            If the file cannot be read there.
        """
        dataset = self._references[0]
        if dataset is None:
            return np.zeros((0, last - first, self.n_cols), np.float32)
        try:
            if dataset.ndim == 2:
                return np.asarray(dataset[first:last])[None]
            frames = np.flatnonzero(written_frames(dataset).frames)
            return np.stack([dataset[int(frame), first:last] for frame in frames])
        except OSError as error:
            raise _unreadable(dataset, dataset.name, error) from error

    def read_monitor(self, name: str) -> NDArray[np.float64]:
        """Read a dataset with one number per frame of the file, for the frames in use.

        Raises
        ------
        ScanError
            If there is none of that name and length.
        """
        file = self._data.file
        values = file.get(name)
        n_frames = self._data.shape[0]
        if getattr(values, "shape", None) != (n_frames,):
            raise ScanError(
                f"{file.filename}: expected {n_frames} numbers in {name}, one per projection; "
                f"got {'nothing' if values is None else getattr(values, 'shape', 'a group')}"
            )
        return np.asarray(values[()], np.float64)[self._frames]

    def _mean(self, dataset: "h5py.Dataset | None", default: float) -> NDArray[np.float32]:
        """Average the frames that were written, one at a time: there may be many of them."""
        if dataset is None:
            return np.full((self.n_rows, self.n_cols), default, np.float32)
        total = np.zeros((self.n_rows, self.n_cols))
        try:
            if dataset.ndim == 2:
                return np.asarray(dataset[()], np.float32)
            frames = np.flatnonzero(written_frames(dataset).frames)
            for frame in frames:
                total += dataset[int(frame)]
        except OSError as error:
            raise _unreadable(dataset, dataset.name, error) from error
        return (total / max(len(frames), 1)).astype(np.float32)  # darks never written are 0

    def _read(self, out: NDArray, source: object, what: str) -> None:
        try:
            self._data.read_direct(out, source)
        except OSError as error:
            raise _unreadable(self._data, what, error) from error


def _unreadable(dataset: "h5py.Dataset", what: str, error: OSError) -> ScanError:
    return ScanError(f"{dataset.file.filename}: {what} cannot be read ({one_line(error)})")
