"""Step stitch: vertical stitching of scans of one sample at several heights."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import FullReconBlock, StitchBlock
from tomopipe.errors import TomopipeError
from tomopipe.steps import stated
from tomopipe.stitching.blending import BLOCK_ROWS, Placed, Resampled, blended
from tomopipe.stitching.overlap import Part, Shift, block_means, find_shift
from tomopipe.storage.atomic import remove_stale, write_json
from tomopipe.stream.provenance import origin_of, package_versions
from tomopipe.volumes.encoding import Encoding, encoding_of
from tomopipe.volumes.output_size import volume_bytes
from tomopipe.volumes.volume import make_room, new_volume
from tomopipe.volumes.volume_read import DESCRIBED, PutSlices, Volume, copy_voxels, open_volume
from tomopipe.workflow_steps import STEPS

_TOLERANCE = 0.1  # share of a declared overlap
_TOLERANCE_ROWS = 10

logger = logging.getLogger(__name__)


def stitch(
    volumes: Mapping[str, str | os.PathLike[str]],
    output_volume: str | os.PathLike[str],
    shifts: str | os.PathLike[str],
    options: StitchBlock,
    stored: FullReconBlock,
    *,
    stack: str,
    made_from: Mapping[str, Any] | None,
    voxels_of: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """Stitch volumes of one sample at several heights, where they overlap, into one.

    Each volume is placed on the grid of the first, by measured subvoxel shifts between neighbours,
    also sideways; rotations are not considered. Memory does not depend on the height.

    `volumes`, by scan: at least two in order of height, upwards or downwards; neighbours overlap.
    The first row of the result is that of the volume with the lowest rows. `stored` has output,
    compression, dtype and value_range (auto: the range of all volumes). `shifts` is a JSON file for
    the measured shifts, which are returned; it and the volume get the statement `made_from`.
    `voxels_of` is an earlier result of the same volumes and options, except metadata, whose voxels
    are copied. A TomopipeError, which names both scans, if volumes do not fit together.
    """
    scans = list(volumes)
    for leftover in remove_stale(output_volume):
        logger.info("removed %s, left by a killed job", leftover.name)
    with ExitStack() as opened:
        members = [opened.enter_context(open_volume(path)) for path in volumes.values()]
        _check_alike(members, scans)
        earlier = opened.enter_context(open_volume(voxels_of)) if voxels_of else None
        if earlier is None:
            described, encoding, fill = _stitch(members, scans, options, stored)
            shape = tuple(described["shape"])
            make_room(output_volume, volume_bytes(shape, encoding.dtype, stored.output))
        else:
            logger.info("only metadata changed: the voxels of the existing volume are copied")
            described = {key: earlier.provenance[key] for key in ("shape", "scans", "pairs")}
            encoding, fill = earlier.encoding, partial(copy_voxels, earlier)
        result = {"stack": stack, **described}
        carried = {"made_from": json.dumps(made_from, sort_keys=True)} if made_from else {}
        parameters = options.model_dump(exclude={"stacks", "time"})
        made_of = {
            scan: dict(volume.provenance) for scan, volume in zip(scans, members, strict=True)
        }
        binning = int(members[0].attributes.get("binning", 1))
        with new_volume(
            output_volume,
            tuple(result["shape"]),
            output_format=stored.stored_format,
            encoding=encoding,
            compression=stored.compression,
            attributes=members[0].described,
            provenance=result
            | {
                "parameters": parameters | {"revision": STEPS["stitch"].revision},
                "made_of": made_of,
                "versions": earlier.provenance["versions"] if earlier else package_versions(),
            }
            | carried,
            origin=origin_of({**result, "made_of": made_of}, binning),
        ) as put:
            fill(put)
        write_json(result | stated(made_from), shifts)
    return result


def _stitch(
    members: Sequence[Volume], scans: Sequence[str], options: StitchBlock, stored: FullReconBlock
) -> tuple[dict[str, Any], Encoding, Callable[[PutSlices], None]]:
    """Measure position and intensity of each volume; return them, the encoding, and a writer."""
    parts = [_part(volume) for volume in members]
    pairs = _find_shifts(parts, scans, options, int(members[0].attributes.get("binning", 1)))
    placed = _place(members, pairs)
    if options.match_intensity:
        placed = _match(placed)
    rows = range(min(p.rows.start for p in placed), max(p.rows.stop for p in placed))
    encoding = _encoding(members, placed, stored.dtype, stored.value_range)
    result = _positions(scans, members, placed, pairs, rows)
    return result, encoding, partial(_blend, placed, rows)


def _blend(placed: Sequence[Placed], rows: range, put: PutSlices) -> None:
    resampled = [Resampled(part) for part in placed]
    for start in range(rows.start, rows.stop, BLOCK_ROWS):
        block = range(start, min(start + BLOCK_ROWS, rows.stop))
        put(start - rows.start, blended(resampled, block))


def _check_alike(members: Sequence[Volume], scans: Sequence[str]) -> None:
    """Raise if volumes differ in width, unit, voxel size or binning."""
    for name, volume in zip(scans[1:], members[1:], strict=True):
        for quantity, expected, other in [
            ("width", members[0].shape[1:], volume.shape[1:]),
            *(
                (key, members[0].attributes.get(key), volume.attributes.get(key))
                for key in DESCRIBED
            ),
        ]:
            if expected != other:
                raise TomopipeError(
                    f"{scans[0]} and {name}: expected volumes of the same {quantity}, got "
                    f"{expected} and {other}. Give them the same options, or remove one from "
                    "the stack."
                )


def _part(volume: Volume) -> Part:
    blocks = [block_means(volume.read_slice(row)) for row in range(volume.shape[0])]
    return Part(volume.shape, volume.read_slice, np.stack(blocks))


def _find_shifts(
    parts: Sequence[Part],
    scans: Sequence[str],
    options: StitchBlock,
    binning: int,
) -> list[Shift]:
    """Register neighbours, one pair after the other."""
    target = None if options.overlap_rows is None else options.overlap_rows / binning
    tolerance = max(_TOLERANCE_ROWS / binning, _TOLERANCE * target) if target else 0.0
    pairs = []
    for (first, second), names in zip(pairwise(parts), pairwise(scans), strict=True):
        shift = find_shift(
            first,
            second,
            names=names,
            direction=options.direction,
            overlap_rows=target,
            tolerance_rows=tolerance,
        )
        logger.info("%s on the grid of %s: %s", names[1], names[0], shift)
        pairs.append(shift)
    return pairs


def _place(members: Sequence[Volume], pairs: Sequence[Shift]) -> list[Placed]:
    """Add up the shifts to positions on the grid of the first volume."""
    moves = [(0.0, 0.0, 0.0), *((pair.z_px, pair.y_px, pair.x_px) for pair in pairs)]
    positions = np.cumsum(moves, axis=0).tolist()
    return [
        Placed(volume.shape[0], volume.read_slice, *position)
        for volume, position in zip(members, positions, strict=True)
    ]


def _match(placed: Sequence[Placed]) -> list[Placed]:
    """Fit gain and offset of each volume so that averages in the overlap equal those before it."""
    matched = [placed[0]]
    for first, second in pairwise(placed):
        rows = range(
            max(first.rows.start, second.rows.start), min(first.rows.stop, second.rows.stop)
        )
        y, x = (_shared(first, second, axis) for axis in ("y_px", "x_px"))
        means = [_overlap_means(part, rows, y, x) for part in (first, second)]
        gain = float(means[0].std() / means[1].std())
        offset = float(means[0].mean() - gain * means[1].mean())
        before = matched[-1]
        gain, offset = before.gain * gain, before.gain * offset + before.offset
        matched.append(replace(second, gain=gain, offset=offset))
        logger.info("intensity: gain %.4f, offset %.3g", gain, offset)
    return matched


def _overlap_means(part: Placed, rows: range, y: slice, x: slice) -> NDArray[np.floating]:
    """Average a part of the grid over its height and over blocks."""
    resampled = Resampled(part)
    blocks = range(rows.start, rows.stop, BLOCK_ROWS)
    sums = [
        resampled.rows(range(start, min(start + BLOCK_ROWS, rows.stop))).sum(axis=0)
        for start in blocks
    ]
    return block_means(np.sum(sums, axis=0)[y, x] / len(rows))


def _shared(first: Placed, second: Placed, axis: str) -> slice:
    """Return the grid's y (x) in which both volumes lie; they are of the same width."""
    moved = [0.0, *(getattr(part, axis) for part in (first, second))]
    return slice(ceil(max(moved)), floor(min(moved)) or None)


def _encoding(
    members: Sequence[Volume],
    placed: Sequence[Placed],
    dtype: str,
    value_range: str | Sequence[float],
) -> Encoding:
    """Return the encoding of the stitched volume: integers in the range of all its parts."""
    if np.dtype(dtype).kind != "u":
        return encoding_of(dtype)
    if not isinstance(value_range, str):
        return encoding_of(dtype, value_range)
    limits = []
    for volume, part in zip(members, placed, strict=True):
        limits += [part.gain * end + part.offset for end in volume.value_range]
    return encoding_of(dtype, (min(limits), max(limits)))


def _positions(
    scans: Sequence[str],
    members: Sequence[Volume],
    placed: Sequence[Placed],
    pairs: Sequence[Shift],
    rows: range,
) -> dict[str, Any]:
    """Return the position of each scan in the stitched volume, and the shifts of neighbours."""
    return {
        "shape": [len(rows), *members[0].shape[1:]],
        "scans": [
            {
                "scan": scan,
                "cor_px": (volume.provenance.get("cor") or {}).get("cor_px"),
                "first_row": round(part.z_px - rows.start, 3),
                "n_rows": part.n_rows,
                "y_px": round(part.y_px, 3),
                "x_px": round(part.x_px, 3),
                "gain": part.gain,
                "offset": part.offset,
            }
            for scan, volume, part in zip(scans, members, placed, strict=True)
        ],
        "pairs": [
            {
                "scans": list(names),
                "z_px": round(pair.z_px, 3),
                "y_px": round(pair.y_px, 3),
                "x_px": round(pair.x_px, 3),
                "overlap_rows": round(pair.overlap_rows, 3),
                "correlation": round(pair.quality, 4),
            }
            for names, pair in zip(pairwise(scans), pairs, strict=True)
        ],
    }
