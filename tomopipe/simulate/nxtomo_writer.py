"""Whole scans in NXtomo files, laid out as at the ESRF: darks, flats, projections, flats."""

import os
from typing import Any

import h5py
import numpy as np

from tomopipe.simulate.detector import to_dtype
from tomopipe.simulate.exposure import Exposure
from tomopipe.storage.atomic import whole

ENTRY = "entry0000"
_PROJECTION, _FLAT, _DARK = range(3)


def write_nxtomo(path: str | os.PathLike[str], scan: Exposure) -> None:
    """Write an NXtomo file: darks, half of the flats, projections, the other half of the flats."""
    how, shape, flats, darks = scan.file, scan.shape, scan.flats, scan.darks
    dtype, n_planned = np.dtype(how.dtype), len(scan.theta_deg)
    store = to_dtype(dtype)
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
            "data", (n_frames, *shape[1:]), dtype, chunks=(1, *shape[1:]),
            compression=how.compression,
        )  # fmt: skip
        data[:first] = store(np.concatenate([darks, flats[:before]]))
        next_frame = first
        for block in scan.blocks:
            data[next_frame : next_frame + len(block)] = store(block)
            next_frame += len(block)
        if not aborted and len(flats) > before:
            data[next_frame:] = store(flats[before:])
        detector["image_key"] = detector["image_key_control"] = keys
        if how.write_theta:
            at_frame = first + np.arange(n_planned)
            angles = np.interp(np.arange(len(keys)), at_frame, scan.theta_deg)
            write_number(_group(entry, "sample", "NXsample"), "rotation_angle", angles, "degree")
        if how.pixel_size_um is not None:
            write_number(detector, "x_pixel_size", how.pixel_size_um * 1e-6, "m")
        if how.energy_kev is not None:
            beam = _group(instrument, "beam", "NXbeam")
            write_number(beam, "incident_energy", how.energy_kev, "keV")


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def write_number(parent: h5py.Group, name: str, value: Any, units: str) -> None:
    """Write a number, or several, and their unit."""
    parent[name] = value
    parent[name].attrs["units"] = units
