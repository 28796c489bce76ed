"""Whole scans in NXtomo files, laid out as at the ESRF: darks, flats, projections, flats."""

import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tomopipe.io.atomic import whole
from tomopipe.simulate.detector import to_dtype

ENTRY = "entry0000"
_PROJECTION, _FLAT, _DARK = range(3)


def write_nxtomo(
    path: str | os.PathLike[str],
    blocks: Iterator[NDArray[Any]],
    shape: tuple[int, int, int],
    *,
    flats: NDArray[Any] | None,
    darks: NDArray[Any] | None,
    theta_deg: ArrayLike | None,
    n_planned: int,
    dtype: DTypeLike = np.uint16,
    compression: str | None = None,
    pixel_size_um: float | None = None,
    energy_kev: float | None = None,
) -> None:
    """Write an NXtomo file, whole.

    Parameters
    ----------
    path : path-like
        File to write; an existing one is replaced.
    blocks : iterator of ndarray, shape (some, n_rows, n_cols)
        Consecutive projections.
    shape : (n_angles, n_rows, n_cols)
        Projections taken.
    flats, darks : ndarray or None, shape (n, n_rows, n_cols)
        Darks come first, half of the flats before and half after the projections.
    theta_deg : array_like or None
        Angles of the projections planned, in degrees; None leaves them out.
    n_planned : int
        Projections planned. A scan aborted after fewer has no frames beyond.
    dtype : dtype, optional
        Of the frames; integers are rounded and clipped to their range.
    compression : str, optional
        Of h5py.
    pixel_size_um, energy_kev : float, optional
        Written where given.
    """
    store = to_dtype(np.dtype(dtype))
    none = np.zeros((0, *shape[1:]))
    flats, darks = none if flats is None else flats, none if darks is None else darks
    before = -(-len(flats) // 2)
    kinds = [(_DARK, len(darks)), (_FLAT, before), (_PROJECTION, n_planned)]
    keys = np.concatenate([np.full(n, kind) for kind, n in [*kinds, (_FLAT, len(flats) - before)]])
    first = len(darks) + before
    aborted = shape[0] < n_planned
    n_frames = first + shape[0] if aborted else len(keys)
    with whole(path) as temporary, h5py.File(temporary, "w") as file:
        entry = _group(file, ENTRY, "NXentry")
        entry["definition"] = "NXtomo"
        instrument = _group(entry, "instrument", "NXinstrument")
        detector = _group(instrument, "detector", "NXdetector")
        data = detector.create_dataset(
            "data", (n_frames, *shape[1:]), np.dtype(dtype), chunks=(1, *shape[1:]),
            compression=compression,
        )  # fmt: skip
        data[:first] = store(np.concatenate([darks, flats[:before]]))
        at = first
        for block in blocks:
            data[at : at + len(block)] = store(block)
            at += len(block)
        if not aborted and len(flats) > before:
            data[at:] = store(flats[before:])
        detector["image_key"] = detector["image_key_control"] = keys
        if theta_deg is not None:
            angles = np.interp(
                np.arange(len(keys)), first + np.arange(n_planned), np.asarray(theta_deg, float)
            )
            _number(_group(entry, "sample", "NXsample"), "rotation_angle", angles, "degree")
        if pixel_size_um is not None:
            _number(detector, "x_pixel_size", pixel_size_um * 1e-6, "m")
        if energy_kev is not None:
            _number(_group(instrument, "beam", "NXbeam"), "incident_energy", energy_kev, "keV")


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _number(parent: h5py.Group, name: str, value: Any, units: str) -> None:
    parent[name] = value
    parent[name].attrs["units"] = units
