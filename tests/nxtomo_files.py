"""Small NXtomo files as the ESRF and Diamond write them."""

import h5py
import numpy as np

# Where each facility puts things: entry, class of the entry, further groups with their classes.
ESRF, DIAMOND = "/entry0000", "/entry1/tomo_entry"
FLAT, DARK, INVALID = 1, 2, 3
N_ROWS, N_COLS = 3, 5
# dark, flats before, three projections, a flat between, one invalid, three more, flats after
KEYS = np.array([2, 2, 1, 1, 0, 0, 0, 1, 3, 0, 0, 0, 1, 1])
PROJECTIONS = np.flatnonzero(KEYS == 0)
ANGLES_DEG = np.array([0, 0, 0, 0, 0, 30, 60, 75, 80, 90, 120, 150, 180, 180.0])


def frames_of(keys=KEYS):
    """Frame f holds 100 f + 10 row + column."""
    rows, cols = np.mgrid[:N_ROWS, :N_COLS]
    return (100 * np.arange(len(keys))[:, None, None] + 10 * rows + cols).astype("u2")


def group(parent, name, nx_class):
    made = parent.require_group(name)
    made.attrs["NX_class"] = nx_class
    return made


def number(parent, name, value, units=None):
    parent[name] = value
    if units is not None:
        parent[name].attrs["units"] = units


def write_nxtomo(
    path, *, entry=ESRF, keys=KEYS, angles=ANGLES_DEG, units="degree", data=None, change=None
):
    """Write a valid file, then change the entry; `data` may be a link or a virtual layout."""
    with h5py.File(path, "a") as file:
        (esrf if entry.startswith("/entry0") else diamond)(file, entry, keys, angles, units, data)
        if change:
            change(file[entry])
    return path


def esrf(file, entry, keys, angles, units, data):
    top = group(file, entry, "NXentry")
    top["definition"] = "NXtomo"
    instrument = group(top, "instrument", "NXinstrument")
    detector = group(instrument, "detector", "NXdetector")
    put(detector, frames_of(keys) if data is None else data)
    # image_key has 0 where image_key_control has -1: projections taken for the alignment
    detector["image_key"] = np.where(keys == -1, 0, keys)
    detector["image_key_control"] = keys
    number(detector, "x_pixel_size", 6.5e-7, "m")
    number(detector, "distance", 0.12, "m")
    number(group(instrument, "beam", "NXbeam"), "incident_energy", 25.0, "keV")
    number(group(top, "sample", "NXsample"), "rotation_angle", angles, units)
    plotted = group(top, "data", "NXdata")
    plotted["data"] = h5py.SoftLink(detector.name + "/data")
    plotted["image_key"] = detector["image_key"]
    plotted["rotation_angle"] = top["sample/rotation_angle"]


def diamond(file, entry, keys, angles, units, data):
    outer = group(file, entry.rpartition("/")[0], "NXentry")
    group(outer, "flyScanDetector", "NXdata")["data"] = np.zeros((2, 2))
    beamline = group(outer, "instrument", "NXinstrument")
    number(group(beamline, "dcm", "NXmonochromator"), "energy", 25000.0, b"eV")
    top = group(file, entry, "NXsubentry")
    top["definition"] = np.array([b"NXtomo"])
    camera = group(group(top, "instrument", "NXinstrument"), "pco", "NXdetector")
    put(camera, frames_of(keys) if data is None else data)
    camera["image_key"] = keys.astype("f8")
    number(camera, "x_pixel_size", 0.65, "um")
    number(camera, "distance", 120.0, "mm")
    number(group(top, "sample", "NXsample"), "rotation_angle", angles, units)
    plotted = group(top, "data", "NXdata")
    plotted["data"], plotted["image_key"] = (
        h5py.SoftLink(camera.name + "/data"),
        camera["image_key"],
    )


def put(parent, data):
    if isinstance(data, h5py.VirtualLayout):
        parent.create_virtual_dataset("data", data)
    else:
        parent["data"] = data
