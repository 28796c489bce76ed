"""Conversion of volumes to another format, for `tomopipe convert`, without reconstruction.

Converted files are not results of the campaign: their names differ from those of results, except
`<scan>_rec.mrc`, which is part of the set for RELION.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import converted
from tomopipe.campaign.selection import refuse_unknown, why_none_yet
from tomopipe.errors import TomopipeError
from tomopipe.geometry import ANGSTROM_PER_UM
from tomopipe.relion.mrc import StackFile, check_stack, is_cut, labels_of
from tomopipe.relion.mrc_volumes import MADE_FROM
from tomopipe.reruns.receipts import digest
from tomopipe.storage.atomic import remove_stale, whole
from tomopipe.storage.checksums import quick_state, sizes_match
from tomopipe.storage.shared import locked
from tomopipe.stream.provenance import origin_of, package_versions
from tomopipe.volume_formats import COMPRESSIONS, FORMATS
from tomopipe.volumes.encoding import Encoding, encoding_of, robust_range
from tomopipe.volumes.output_size import stack_bytes, volume_bytes
from tomopipe.volumes.volume import check_space, new_volume
from tomopipe.volumes.volume_read import HEIGHT, Volume, copy_voxels, open_volume, read_provenance

MRC = "mrc"
_N_SAMPLES = 8  # slices read to determine a range
_BLOCK_BYTES = 2**27  # bytes of rows that wait for an MRC file
_LABEL = "tomopipe convert "

Range = tuple[float, float]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Conversion:
    """A volume to be written in another format."""

    # the existing volume, and the file to write
    source: Path
    target: Path
    # of the target
    output_format: str
    compression: str
    encoding: Encoding  # how its values are stored
    stated: Mapping[str, Any]  # its provenance statement
    shape: tuple[int, int, int]  # (n_rows, n_y, n_x)
    n_bytes: int  # its size, uncompressed
    is_current: bool  # whether an up-to-date conversion exists

    @property
    def range_text(self) -> str:
        """The range of integer types, as text."""
        if not self.encoding.is_whole:
            return ""
        low, high = self.encoding.limits
        return f", {self.encoding.dtype} of {low:g} to {high:g}"


def find_volumes(campaign: Campaign, names: Sequence[str] = ()) -> dict[str, Path]:
    """Return the volumes of scans and stacks by name; without names all that exist."""
    files, output = campaign.files, campaign.config.full_recon.output
    config = campaign.config
    volumes = {s: files.stitched(s, config.format_of(s)) for s in config.stitch.names}
    volumes |= {scan: files.volume(scan, output) for scan in campaign.scans}
    refuse_unknown(campaign, names, volumes)
    for name in names:
        if not volumes[name].exists():
            raise TomopipeError(f"{volumes[name]}: {why_none_yet(campaign, name, 'volume')}")
    return {name: volumes[name] for name in names or volumes if volumes[name].exists()}


def plan_conversions(
    campaign: Campaign,
    volumes: Mapping[str, Path],
    output_format: str,
    *,
    dtype: str | None = None,
    value_range: Range | None = None,
) -> list[Conversion]:
    """Return the conversions of volumes to a format: one of `FORMATS` or mrc.

    The campaign's `full_recon.compression` is used if the format has it. `dtype` is by default that
    of the volume, or uint16 if a range is given. `value_range` are the values of the smallest and
    largest integer. Foreign files are refused.
    """
    ranged = value_range is not None
    dtype = dtype or ("uint16" if ranged and output_format in FORMATS else None)
    low, high = value_range or (0, 1)
    if output_format == MRC and (ranged or dtype not in (None, "float32")):
        raise TomopipeError("mrc: values are stored as float32. Omit --dtype and --range.")
    if ranged and not Encoding(dtype or "float32").is_whole:
        raise TomopipeError(
            f"--dtype {dtype}: only uint16 and uint8 have a range. Omit --range, or choose one."
        )
    if not -np.inf < low < high < np.inf:
        raise TomopipeError(f"--range: expected LOW < HIGH, got {low} {high}")
    return [
        _plan(campaign, source, output_format, dtype, value_range) for source in volumes.values()
    ]


def convert_volume(conversion: Conversion, progress: Progress = lambda n_slices: None) -> None:
    """Write a volume in another format, atomically; `progress` is called with the slices done.

    Memory: some slices, for OME-Zarr and MRC up to 1 GB. A TomopipeError if the volume changes
    meanwhile, the file cannot be read back, or another conversion is writing it.
    """
    write = _write_mrc if conversion.output_format == MRC else _write_volume
    with locked(conversion.target):
        remove_stale(conversion.target)
        before = quick_state(conversion.source)
        with open_volume(conversion.source) as volume:
            write(volume, conversion, before, progress)


def _range_of(volume: Volume, dtype: str) -> Range:
    """Return the range of a volume's values: the stored one, if it has that type."""
    if volume.encoding.dtype == dtype:
        return volume.encoding.limits
    n_rows = volume.shape[0]
    rows = sorted({(2 * i + 1) * n_rows // (2 * _N_SAMPLES) for i in range(_N_SAMPLES)})
    try:
        return robust_range(map(volume.read_slice, rows), dtype)
    except TomopipeError as error:
        raise TomopipeError(
            f"{volume.path}: all values in {len(rows)} slices are equal. Give --range LOW HIGH."
        ) from error


def _plan(
    campaign: Campaign,
    source: Path,
    output_format: str,
    dtype: str | None,
    value_range: Range | None,
) -> Conversion:
    with open_volume(source) as volume:
        shape, encoding = volume.shape, volume.encoding
        if output_format == MRC:
            encoding = Encoding()
        elif (dtype or encoding.dtype) != encoding.dtype or value_range is not None:
            chosen = dtype or encoding.dtype
            limits = value_range
            if limits is None and Encoding(chosen).is_whole:
                limits = _range_of(volume, chosen)
            encoding = encoding_of(chosen, limits)
        stated: dict[str, Any] = {
            "volume": os.path.relpath(source, campaign.directory),
            "provenance": digest(volume.provenance),
            "dtype": encoding.dtype,
            "offset": encoding.offset,
            "scale": encoding.scale,
        }
        if output_format == "zarr2":
            stated["zarr_version"] = 2
        if output_format == MRC:  # by which RELION's set recognises an outdated volume
            stated["made_from"] = digest(json.loads(volume.provenance.get("made_from", "{}")))
    target, compression = converted(source, output_format), "none"
    earlier = _digest_of(target)
    if output_format == MRC:
        n_bytes = stack_bytes(shape)
    else:
        goal = campaign.config.full_recon.compression
        compression = goal if goal in COMPRESSIONS[output_format] else "none"
        n_bytes = volume_bytes(shape, encoding.dtype, output_format)
    return Conversion(
        source, target, output_format, compression, encoding, stated, shape, n_bytes,
        earlier == digest(stated),
    )  # fmt: skip


def is_converted(path: Path) -> bool:
    """Tell whether `tomopipe convert` wrote a file or folder."""
    try:
        return _digest_of(path) is not None
    except TomopipeError:
        return False


def _digest_of(target: Path) -> str | None:
    """Return the digest of an earlier conversion; None if there is none, "" if it is damaged."""
    if not os.path.lexists(target):
        return None
    result = None
    with suppress(Exception):  # a foreign file may raise anything
        if target.suffix != ".mrc":
            result = read_provenance(target)["converted"]["digest"]
        elif (label := labels_of(target)[0]).startswith(_LABEL):
            result = label.removeprefix(_LABEL)
    if result is None:
        raise TomopipeError(
            f"{target}: exists, but `tomopipe convert` did not write it. Move it away first."
        )
    damaged = is_cut(target) if target.suffix == ".mrc" else target.is_dir() and sizes_match(target)
    return "" if damaged else str(result)


def _check_unchanged(source: Path, before: Any) -> None:
    if quick_state(source) != before:
        raise TomopipeError(f"{source}: changed while it was read. Convert it again.")


def _write_volume(volume: Volume, target: Conversion, before: Any, progress: Progress) -> None:
    """Write HDF5, TIFF or OME-Zarr; values in the same encoding are copied as stored."""
    attributes = volume.described
    made_of = {**target.stated, "digest": digest(target.stated), "source": dict(volume.provenance)}
    with new_volume(
        target.target,
        volume.shape,
        output_format=target.output_format,
        encoding=target.encoding,
        compression=target.compression,
        attributes=attributes,
        provenance={"converted": made_of, "versions": package_versions()},
        origin=origin_of(volume.provenance, int(attributes.get("binning", 1))),
    ) as put:

        def put_and_tell(row: int, slices: Any) -> None:
            put(row, slices)
            progress(1)

        if target.encoding == volume.encoding:
            copy_voxels(volume, put_and_tell)
        else:
            for row in range(volume.shape[0]):
                put_and_tell(row, volume.read_slice(row)[np.newaxis])
        _check_unchanged(volume.path, before)


def _write_mrc(volume: Volume, target: Conversion, before: Any, progress: Progress) -> None:
    """Write RELION's tomogram: x is the slice's column, y the detector row, z the slice's row."""
    n_rows, n_y, n_x = volume.shape
    shape = (n_y, n_rows, n_x)
    size_um = float(volume.attributes.get("voxel_size_um", 0))
    width = ANGSTROM_PER_UM * size_um
    height = ANGSTROM_PER_UM * float(volume.attributes.get(HEIGHT, size_um))
    labels = [f"{_LABEL}{digest(target.stated)}", f"from {target.stated['volume']}"]
    labels.append(f"{MADE_FROM}{target.stated['made_from']}")
    n_block = max(1, _BLOCK_BYTES // (4 * n_y * n_x))
    with whole(target.target) as temporary:
        check_space(temporary.parent, target.n_bytes, target.target)
        file = StackFile(temporary, shape, (width, height, width), labels=labels, is_volume=True)
        for first in range(0, n_rows, n_block):
            rows = range(first, min(first + n_block, n_rows))
            block = np.stack([volume.read_slice(row) for row in rows])
            file.write(block.swapaxes(0, 1), 0, first)
            progress(len(rows))
        file.finish()
        check_stack(temporary, shape)
        _check_unchanged(volume.path, before)
