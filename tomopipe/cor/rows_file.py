"""rows.h5: the few sinograms and opposing projections that COR finding and review use."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import TomopipeError
from tomopipe.scans.hdf5 import new_hdf5, put
from tomopipe.storage.atomic import whole

if TYPE_CHECKING:
    import h5py

FORMAT = 2
_ARRAYS = {
    "sinograms": (np.float32, 3),
    "row_index": (np.int64, 1),
    "theta_rad": (np.float64, 1),
    "pairs": (np.float32, 4),
    "pair_theta_rad": (np.float64, 2),
}
_OPTIONAL = {
    "plain_sinograms": np.float32,
    "flat_levels": np.float64,
    "dark_levels": np.float64,
    "numbers": np.int64,
}


@dataclass(frozen=True, eq=False)
class Rows:
    """What try_recon keeps of a scan, corrected, unbinned along the columns.

    The columns are those in use; a COR in them is that of the detector less `first_col`.
    """

    # (n_kept, n_angles, n_cols): the try row first, then a few more spread over the height;
    # corrected as for the volume
    sinograms: NDArray[np.float32]
    row_index: NDArray[np.int64]  # (n_kept,): detector rows of `sinograms`, 0-based
    # (n_angles,): angles; made up (0 to pi) when `theta_missing`
    theta_rad: NDArray[np.float64]
    # (n_pairs, 2, n_pair_rows, n_cols): opposing projections, averaged over blocks of rows to at
    # most 256 rows; n_pairs may be 0
    pairs: NDArray[np.float32]
    # (n_pairs, 2): their angles, the second within half a step of the first + pi
    pair_theta_rad: NDArray[np.float64]
    n_rows: int  # rows of the detector
    theta_missing: bool  # the angles were made up
    minus_log: bool  # values are attenuation line integrals, not transmission
    failed: str  # why there is nothing here, or "". The arrays are empty when failed.
    first_col: int = 0  # column of the detector that is the first one here
    # (n_kept, n_angles, n_cols): `sinograms` with flat, dark, logarithm, distortion and roll
    # corrected and nothing else; None: they are the same
    plain_sinograms: NDArray[np.float32] | None = None
    # share of their value that rows lose per column at both edges (`tomopipe.prep.correct`); 0:
    # unknown
    edge_slopes_per_px: tuple[float, float] = (0.0, 0.0)
    # of each kind (`tomopipe.prep.bad_frames`) the numbers of the projections that hold no picture;
    # None: not looked for
    bad_frames: Mapping[str, Sequence[int]] | None = None
    # (n,): mean of each flat and each dark, raw; empty: there are none; None: not known
    flat_levels: NDArray[np.float64] | None = None
    dark_levels: NDArray[np.float64] | None = None
    n_stuck: int = 0  # pixels of the detector that are `tomopipe.scans.scan.Scan.stuck`
    # (n_angles,): numbers of the projections, as recorded; None: not known
    numbers: NDArray[np.int64] | None = None

    def plain(self) -> "Rows":
        """Return the rows for COR finding: only with the corrections of `plain_sinograms`."""
        if self.plain_sinograms is None:
            return self
        return replace(self, sinograms=self.plain_sinograms, plain_sinograms=None)


def failed_rows(reason: str) -> Rows:
    """Return the record of a scan whose rows could not be made, and why (not empty)."""
    arrays: dict[str, Any] = {
        name: np.zeros((0,) * ndim, dtype) for name, (dtype, ndim) in _ARRAYS.items()
    }
    return Rows(**arrays, n_rows=0, theta_missing=False, minus_log=True, failed=reason)


def write_rows(
    rows: Rows, path: str | os.PathLike[str], *, made_from: Mapping[str, Any] | None = None
) -> None:
    """Write `rows` whole to an HDF5 file, with its statement; equal rows give equal content.

    An existing file is replaced in one step.
    """
    with whole(path) as temporary, new_hdf5(temporary) as file:
        file.attrs["format"] = FORMAT
        if made_from:
            file.attrs["made_from"] = json.dumps(made_from, sort_keys=True)
        for name, (dtype, _) in _ARRAYS.items():
            put(file, name, np.asarray(getattr(rows, name), dtype=dtype))
        put(file, "n_rows", int(rows.n_rows))
        put(file, "first_col", int(rows.first_col))
        put(file, "falls_per_px", np.asarray(rows.edge_slopes_per_px, dtype=np.float64))
        for kind, numbers in sorted((rows.bad_frames or {}).items()):
            put(file, f"bad_frames/{kind}", np.asarray(numbers, dtype=np.int64))
        for name, float_type in _OPTIONAL.items():
            if (values := getattr(rows, name)) is not None:
                put(file, name, np.asarray(values, dtype=float_type))
        if rows.n_stuck:
            put(file, "n_stuck", int(rows.n_stuck))
        put(file, "theta_missing", bool(rows.theta_missing))
        put(file, "minus_log", bool(rows.minus_log))
        # As bytes: HDF5 strings hold neither NUL nor the undecodable bytes of a file name.
        reason = rows.failed.encode("utf-8", "surrogateescape")
        put(file, "failed", np.frombuffer(reason, dtype=np.uint8))


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """Read a file of `write_rows` into memory.

    A TomopipeError says that it cannot be read, or is of another format.
    """
    import h5py

    if not Path(path).exists():
        raise TomopipeError(f"{path}: no such file. Run try_recon of this scan.")
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path)
    except (OSError, KeyError) as error:
        raise TomopipeError(
            f"{path}: expected an HDF5 file written by try_recon; got {error}. "
            "Delete it and run try_recon again."
        ) from error


def _read(file: "h5py.File", path: str | os.PathLike[str]) -> Rows:
    if file.attrs.get("format") != FORMAT:
        raise TomopipeError(
            f"{path}: expected rows of format {FORMAT}; got {file.attrs.get('format')}. "
            "Delete it and run try_recon again."
        )
    bad = file.get("bad_frames")
    left, right = file["falls_per_px"][()].tolist()
    return Rows(
        **{name: file[name][()].astype(dtype, copy=False) for name, (dtype, _) in _ARRAYS.items()},
        n_rows=int(file["n_rows"][()]),
        first_col=int(file["first_col"][()]),
        theta_missing=bool(file["theta_missing"][()]),
        minus_log=bool(file["minus_log"][()]),
        failed=file["failed"][()].tobytes().decode("utf-8", "surrogateescape"),
        edge_slopes_per_px=(left, right),
        n_stuck=int(file["n_stuck"][()]) if "n_stuck" in file else 0,
        bad_frames=bad and {kind: tuple(numbers[()].tolist()) for kind, numbers in bad.items()},
        **{
            name: file[name][()].astype(dtype, copy=False)
            for name, dtype in _OPTIONAL.items()
            if name in file
        },
    )
