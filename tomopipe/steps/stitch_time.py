"""Step stitch, in time: volumes of one sample at several times as one volume (t, z, y, x).

One volume at a time is open. A time point whose volume is as it was when the present result was
made is linked from there, so that an edited COR writes one time point.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tomopipe.config import FullReconBlock
from tomopipe.errors import TomopipeError
from tomopipe.paths import existing_folder
from tomopipe.steps import stated
from tomopipe.storage.atomic import remove_stale, write_json
from tomopipe.stream.provenance import origin_of, package_versions
from tomopipe.volume_formats import IN_TIME
from tomopipe.volumes.encoding import Encoding, encoding_of
from tomopipe.volumes.output_size import volume_bytes
from tomopipe.volumes.time_series import TimeSeries, new_time_series, read_notes, time_step
from tomopipe.volumes.volume import check_space, make_room
from tomopipe.volumes.volume_read import DESCRIBED, Layout, Origin, open_volume
from tomopipe.workflow_steps import STEPS

AnyPath = str | os.PathLike[str]
Point = dict[str, Any]  # what is recorded of a time point

_STORED = {"compression", "dtype", "value_range", "zarr_version"}

logger = logging.getLogger(__name__)


def stitch_time(
    volumes: Mapping[str, AnyPath | None],
    output_volume: AnyPath,
    table: AnyPath,
    stored: FullReconBlock,
    *,
    stack: str,
    times_s: Mapping[str, float],
    made_from: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Write volumes of one sample at several times as one OME-Zarr (t, z, y, x).

    Memory does not depend on the number of volumes.

    `volumes`, by scan, in order of time; None: a gap, which is not stored and reads as 0. `times_s`
    are recorded times of scans (s, of any zero). `stored` has compression, dtype and value_range
    (auto: one range, that of all volumes). `table` is a JSON file for what is returned: time points
    with scan, COR, time, smallest and largest value. It and the volume get the statement
    `made_from`, whose `volumes` say which time points of an earlier result are linked. A
    TomopipeError, which names both scans, if volumes differ in shape, unit, voxel size or binning.
    """
    for leftover in remove_stale(output_volume):
        logger.info("removed %s, left by a killed job", leftover.name)
    points, layout = _look(volumes, Path(output_volume).name, stored)
    times = _timed(points, times_s)
    linked = _unchanged(output_volume, made_from, layout.encoding)
    one = volume_bytes(layout.shape, layout.encoding.dtype, IN_TIME)
    changed = [p for p in points if not p["is_gap"] and p["scan"] not in linked]
    make_room(output_volume, one * len(changed))
    if stored.compression == "none":
        check_space(existing_folder(Path(output_volume).parent), one * len(changed), output_volume)
    with new_time_series(output_volume, len(points), layout) as series:
        for t, point in enumerate(points):
            _fill(series, t, point, volumes[point["scan"]], linked.get(point["scan"]))
        result = {"stack": stack, "shape": [len(points), *layout.shape], "points": points, **times}
        about = {
            "parameters": stored.model_dump(include=_STORED)
            | {"revision": STEPS["stitch"].revision},
            "versions": package_versions(),
        } | ({"made_from": json.dumps(made_from, sort_keys=True)} if made_from else {})
        series.finish(_attributes(points, times, layout.encoding), result | about, times["step_s"])
    write_json(result | stated(made_from), table)
    return result


def _look(
    volumes: Mapping[str, AnyPath | None], name: str, stored: FullReconBlock
) -> tuple[list[Point], Layout]:
    """Return what is known of each time point, and the layout of all; raise if they differ."""
    points: list[Point] = []
    first, alike = "", dict[str, Any]()
    origin, limits = Origin(), list[float]()
    for scan, path in volumes.items():
        points.append({"scan": scan, "time_s": None, "is_gap": path is None})
        if path is None:
            continue
        with open_volume(path) as volume:
            quantities = {"shape": volume.shape} | {
                key: volume.described.get(key) for key in DESCRIBED
            }
            if not first:
                first, alike = scan, quantities
                origin = origin_of(volume.provenance, int(volume.attributes.get("binning", 1)))
            _check_alike(first, alike, scan, quantities)
            limits += volume.value_range
            cor_px = (volume.provenance.get("cor") or {}).get("cor_px")
            about = {key: float(volume.attributes[key]) for key in ("min", "max")}
            points[-1] |= {"cor_px": cor_px, **about}
    shape = alike.pop("shape")
    described = {key: value for key, value in alike.items() if value is not None}
    chosen = stored.value_range
    values = (min(limits), max(limits)) if isinstance(chosen, str) else chosen
    encoding = encoding_of(stored.dtype, values)
    return points, Layout(
        name, shape, encoding, stored.compression, described, {}, origin, stored.zarr_version
    )


def _check_alike(
    first: str, expected: Mapping[str, Any], scan: str, result: Mapping[str, Any]
) -> None:
    for quantity, value in expected.items():
        if result[quantity] != value:
            raise TomopipeError(
                f"{first} and {scan}: expected volumes of the same {quantity}, got {value} and "
                f"{result[quantity]}. Give them the same options, or take one out: `select: no` "
                "makes it a gap, another list in stitch.time leaves it out."
            )


def _timed(points: Sequence[Point], times_s: Mapping[str, float]) -> dict[str, Any]:
    """Give time points their time from the first one; return that, and the step of equal ones."""
    known = [times_s[p["scan"]] for p in points if p["scan"] in times_s]
    for point in points:
        if point["scan"] in times_s:
            point["time_s"] = round(times_s[point["scan"]] - known[0], 6)
    start = datetime.fromtimestamp(known[0], UTC).isoformat() if known else None
    return {"start": start, "step_s": time_step([point["time_s"] for point in points])}


def _unchanged(
    path: AnyPath, made_from: Mapping[str, Any] | None, encoding: Encoding
) -> dict[str, Point]:
    """Return the time points of an earlier result, with their place `t`, that are as they were."""
    attributes, provenance = read_notes(path)
    before = json.loads(provenance.get("made_from", "{}"))
    scaling = attributes.get("offset"), attributes.get("scale")
    if not (made_from and before and scaling == (encoding.offset, encoding.scale)):
        return {}
    now, earlier = (
        dict(zip(statement["scans"], statement["volumes"], strict=True))
        for statement in (made_from, before)
    )
    return {
        point["scan"]: point | {"t": t}
        for t, point in enumerate(provenance.get("points", []))  # none: stitched in height
        if not point["is_gap"] and earlier[point["scan"]] == now.get(point["scan"])
    }


def _fill(
    series: TimeSeries, t: int, point: Point, path: AnyPath | None, before: Point | None
) -> None:
    """Link or write a time point, if it is no gap; note the number of its clipped values."""
    if path is None:
        logger.info("%d: %s is a gap", t, point["scan"])
    elif before and series.link(t, before["t"]):
        point["clipped"] = before["clipped"]
        logger.info("%d: %s as before", t, point["scan"])
    else:
        with open_volume(path) as volume:
            point["clipped"] = series.put(t, volume)
        logger.info("%d: %s written", t, point["scan"])


def _attributes(
    points: Sequence[Point], times: Mapping[str, Any], encoding: Encoding
) -> dict[str, Any]:
    """Return what programs may need: values of all time points, times, gaps."""
    present = [point for point in points if not point["is_gap"]]
    n_clipped = sum(point["clipped"] for point in present)
    return {
        "min": min(point["min"] for point in present),
        "max": max(point["max"] for point in present),
        **({"clipped": n_clipped} if encoding.dtype != "float32" else {}),
        "scans": [point["scan"] for point in points],
        "time_s": [point["time_s"] for point in points],
        "start": times["start"],
        "gaps": [t for t, point in enumerate(points) if point["is_gap"]],
    }
