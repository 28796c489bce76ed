"""NeXus in the HDF5 volume, by which NeXus readers show it: /entry, with links to the voxels.

NXentry [1]_ has the NXdata `data`, which is the default plot, with axes in micrometres, and the
NXprocess `reconstruction` with program, version and parameters. It names no application definition:
NXtomoproc requires the source and a date, which a volume does not know.

References
----------
.. [1] M. Koennecke et al., J. Appl. Cryst. 48, 301-305 (2015), doi:10.1107/S1600576714027575;
   classes: https://manual.nexusformat.org.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tomopipe import __version__
from tomopipe.storage.hdf5_files import put
from tomopipe.volumes.volume_read import HEIGHT, Layout

if TYPE_CHECKING:
    import h5py

_PROGRAM = "tomopipe"
_VOXELS, _RECORD = "/exchange/data", "/provenance/json"


def write_nexus(file: "h5py.File", layout: Layout) -> None:
    """Write /entry into the file of a volume that has its voxels and its provenance."""
    provenance = layout.provenance
    version = provenance.get("versions", {}).get(_PROGRAM, __version__)
    file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": _PROGRAM})
    entry = _group(file, "entry", "NXentry", default="data")
    _field(entry, "title", str(provenance.get("scan", layout.name)))
    _field(entry, "program_name", _PROGRAM, version=version)
    _write_data(_group(entry, "data", "NXdata"), file, layout)
    process = _group(entry, "reconstruction", "NXprocess")
    _field(process, "program", _PROGRAM)
    _field(process, "version", version)
    _field(process, "sequence_index", 1)
    parameters = _group(process, "parameters", "NXparameters")
    for name, value in _parameters(provenance).items():
        _field(parameters, name, value)
    note = _group(process, "provenance", "NXnote")
    _field(note, "type", "application/json")
    _link(note, "data", file[_RECORD], _RECORD)


def _write_data(group: "h5py.Group", file: "h5py.File", layout: Layout) -> None:
    """Link the voxels, with their scaling and the positions of their centres."""
    about = layout.attributes
    axes = ("z", "y", "x")
    group.attrs.update({"signal": "data", "axes": axes})
    group.attrs.update({f"{axis}_indices": i for i, axis in enumerate(axes)})
    _link(group, "data", file[_VOXELS], _VOXELS)
    if layout.encoding.is_whole:  # of NeXus: value = (offset + stored) * scaling factor
        _field(group, "data_scaling_factor", layout.encoding.scale)
        _field(group, "data_offset", layout.encoding.offset / layout.encoding.scale)
    size_um = about.get("voxel_size_um")
    unit, size = ("um", float(size_um)) if size_um else ("pixel", 1.0)
    sizes = float(about.get(HEIGHT, size)), size, size
    for axis, n, first, size in zip(axes, layout.shape, layout.origin.voxel, sizes, strict=True):
        _field(group, axis, size * (first + np.arange(n)), units=unit, long_name=f"{axis} ({unit})")


def _parameters(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return raw file, COR and options of a volume, as text or numbers; without those unset."""
    options = {"raw_file": provenance.get("raw"), **(provenance.get("parameters") or {})}
    return {
        name: value if isinstance(value, str | bool | int | float) else json.dumps(value)
        for name, value in options.items()
        if value is not None
    }


def _group(parent: "h5py.Group", name: str, nx_class: str, **attributes: Any) -> "h5py.Group":
    group = parent.create_group(name)
    group.attrs.update({"NX_class": nx_class, **attributes})
    return group


def _field(group: "h5py.Group", name: str, value: Any, **attributes: Any) -> None:
    put(group, name, value)
    group[name].attrs.update(attributes)


def _link(group: "h5py.Group", name: str, target: "h5py.Dataset", path: str) -> None:
    """Link a dataset as NeXus does: a hard link, and its first path as attribute of the target."""
    group[name] = target
    target.attrs["target"] = path
