"""A volume as a folder of TIFFs, one slice each, with its mid planes and provenance."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tifffile

from tomopipe.storage import checksums
from tomopipe.storage.atomic import write_json
from tomopipe.volumes.tiff import slice_path
from tomopipe.volumes.volume_h5 import notes_file
from tomopipe.volumes.volume_store import Layout, Slices, Store

MID_PLANES_FILE = "mid_planes.h5"


@contextmanager
def store_tiff(temporary: Path, layout: Layout) -> Iterator[Store]:
    """Yield the store of a series: recon_00000.tiff and on, mid_planes.h5, provenance.json."""
    temporary.mkdir()
    about = json.dumps(layout.attributes | layout.scaling, sort_keys=True)
    options: dict[str, Any] = {"photometric": "minisblack", "software": "tomopipe"}
    options |= _resolution(layout)
    if layout.compression == "gzip":
        options |= {"compression": "zlib", "predictor": False}

    def put(first: int, slices: Slices) -> None:
        for number, image in enumerate(slices, layout.origin.number + first):
            stored = layout.encoding.encode(image)
            file = io.BytesIO()  # where tifffile writes to the disk, a full one has no errno
            tifffile.imwrite(file, stored, description=about, metadata=None, **options)
            path = slice_path(temporary, number)
            path.write_bytes(file.getbuffer())
            checksums.remember(path, checksums.checksum_of_bytes(file.getbuffer()))

    def finish(summary: dict[str, Any]) -> None:
        attributes = layout.attributes | layout.scaling | summary
        notes = {"attributes": attributes, "provenance": layout.provenance}
        write_json(notes, temporary / "provenance.json")

    with notes_file(temporary / MID_PLANES_FILE, layout) as (planes, preview):
        yield Store(put, planes, finish, preview.add)


def _resolution(layout: Layout) -> dict[str, Any]:
    """Return the size of voxels and the scale of values as viewers, and ImageJ, look for them.

    ImageJ takes the last of two descriptions, and pixels per cm for its um; others the first.
    """
    size_um, units = layout.attributes.get("voxel_size_um"), layout.attributes.get("units", "")
    lines, found = ["ImageJ=1.11a"], dict[str, Any]()
    if size_um:
        lines += ["unit=um", f"spacing={size_um:.9g}"]
        found = {"resolution": (1e4 / size_um,) * 2, "resolutionunit": "CENTIMETER"}
    if layout.encoding.is_whole:
        lines += ["cf=0", f"c0={layout.encoding.offset!r}", f"c1={layout.encoding.scale!r}"]
    text = "\n".join([*lines, f"vunit={units or 'value'}", ""])
    return found | {"extratags": [("ImageDescription", "s", 0, text, True)]}
