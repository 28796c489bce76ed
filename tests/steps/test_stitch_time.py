"""Volumes in time: a ball that grows and moves, known at each time, against what is read back."""

import json
import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr

from tests.step_calls import stitch_time
from tests.unit.volumes.conftest import averaged
from tomopipe.errors import TomopipeError
from tomopipe.resources.jobs import stitch_mb
from tomopipe.storage import checksums
from tomopipe.volumes.encoding import encoding_of
from tomopipe.volumes.time_series import time_step
from tomopipe.volumes.volume import new_volume
from tomopipe.volumes.volume_read import open_volume

SHAPE = (18, 40, 140)  # two levels
ENDINGS = {"h5": ".h5", "tiff": "", "zarr": ".zarr"}


def ball(t, shape=SHAPE):
    """The truth at time t: a ball of radius 4 + t that moves by 6 voxels along x, on a ramp."""
    z, y, x = np.indices(shape, dtype=np.float32)
    inside = (z - 9) ** 2 + (y - 20) ** 2 + (x - 30 - 6 * t) ** 2 < (4 + t) ** 2
    return inside + 0.01 * x - 0.5


def written(path, values, *, form="h5", dtype="float32", limits=None, **attributes):
    attributes = {"units": "1/cm", "binning": 1, "voxel_size_um": 2.5} | attributes
    path = path.with_name(path.name + ENDINGS[form])
    options = {"output_format": form, "encoding": encoding_of(dtype, limits)}
    with new_volume(path, values.shape, attributes=attributes, **options) as put:
        put(0, values)
    return path


@pytest.fixture
def volumes(tmp_path):
    """Volumes at four times, of all formats; the scan of the third has none."""
    forms = {"s@0000": "h5", "s@0001": "tiff", "s@0002": None, "s@0003": "zarr"}
    return {
        scan: written(tmp_path / scan, ball(t), form=form) if form else None
        for t, (scan, form) in enumerate(forms.items())
    }


def made_from(volumes, **changed):
    digests = [changed.get(s, f"digest of {s}") if path else "" for s, path in volumes.items()]
    return {"step": "stitch", "scans": [*volumes], "volumes": digests}


def made(folder, volumes, *, changed=(), **options):
    """Make it; return the array of full resolution, its attributes, and what the job returned."""
    path = folder / "growth_rec.zarr"
    statement = made_from(volumes, **dict.fromkeys(changed, "another"))
    found = stitch_time(volumes, path, folder / "growth.json", made_from=statement, **options)
    assert json.loads((folder / "growth.json").read_text()) == found | {"made_from": statement}
    group = zarr.open_group(path, mode="r")
    return group["0"], dict(group.attrs), found


def inodes(array, t):
    folder = Path(str(array.store_path).removeprefix("file://")) / "c" / str(t)
    return {path.parts[-3]: path.stat().st_ino for path in folder.glob("*/0/0")}


TIMES_S = {"s@0000": 1000.0, "s@0001": 1060.5, "s@0002": 1120.0, "s@0003": 1180.0}


def test_each_voxel_is_where_and_when_it_was(tmp_path, volumes):
    array, attributes, found = made(tmp_path, volumes, times_s=TIMES_S)
    assert array.shape == (4, *SHAPE)
    for t in (0, 1, 3):
        assert np.array_equal(array[t], ball(t))
    assert not array[2].any()  # the gap
    yaozarrs.validate_zarr_store(str(tmp_path / "growth_rec.zarr"))
    (image,) = attributes["ome"]["multiscales"]
    assert attributes["ome"]["version"] == "0.5"
    axes = [(axis["name"], axis["type"], axis["unit"]) for axis in image["axes"]]
    assert axes == [("t", "time", "second"), *((name, "space", "micrometer") for name in "zyx")]
    scales = [each["coordinateTransformations"][0]["scale"] for each in image["datasets"]]
    assert scales == [[60.0, 2.5, 2.5, 2.5], [60.0, 5.0, 5.0, 5.0]]
    told = attributes["tomopipe"]["attributes"]
    assert told["time_s"] == [0.0, 60.5, 120.0, 180.0]
    assert told["start"] == "1970-01-01T00:16:40+00:00"
    assert (told["gaps"], told["units"], told["scans"]) == ([2], "1/cm", [*volumes])
    lows, highs = zip(*((p.min(), p.max()) for p in map(ball, (0, 1, 3))), strict=True)
    assert (told["min"], told["max"]) == pytest.approx((min(lows), max(highs)))
    assert found["points"][2] == {"scan": "s@0002", "time_s": 120.0, "is_gap": True}


def test_with_zarr_2_it_is_ome_zarr_0_4_and_unchanged_time_points_are_linked(tmp_path, volumes):
    path = tmp_path / "growth_rec.zarr"
    made(tmp_path, volumes)  # replaced as a whole: of another version nothing can be linked
    array, attributes, _ = made(tmp_path, volumes, zarr_version=2, times_s=TIMES_S)
    yaozarrs.validate_zarr_store(str(path))
    (image,) = attributes["multiscales"]
    assert (image["version"], len(image["axes"])) == ("0.4", 4)
    chunks = sorted((path / "0/0").glob("*/*/*"))
    was = [chunk.stat().st_ino for chunk in chunks]
    assert len(was) >= 2
    volumes["s@0001"] = written(tmp_path / "other", ball(7))
    array, *_ = made(tmp_path, volumes, zarr_version=2, changed=["s@0001"])
    for t, at in ((0, 0), (1, 7), (3, 3)):
        np.testing.assert_array_equal(array[t], ball(at))
    assert not array[2].any()
    assert [chunk.stat().st_ino for chunk in chunks] == was
    assert checksums.made(path) == checksums.checksum_of(path)
    with pytest.raises(TomopipeError, match="a volume in time"), open_volume(path):
        pass


def test_levels_are_averages_in_space_not_in_time(tmp_path, volumes):
    made(tmp_path, volumes)
    level = zarr.open_group(tmp_path / "growth_rec.zarr", mode="r")["1"]
    assert level.shape == (4, 9, 20, 70)
    for t in (0, 1, 3):
        np.testing.assert_allclose(level[t], averaged(ball(t), 2), atol=1e-6)


@pytest.mark.parametrize("compression", ["none", "bitshuffle"])
def test_whole_numbers_have_one_range_at_all_times(tmp_path, compression):
    limits = [(-1.0, 2.5), (-0.5, 3.0)]
    volumes = {
        f"s@{t}": written(tmp_path / f"s@{t}", ball(t), dtype="uint16", limits=limits[t])
        for t in (0, 1)
    }
    array, attributes, _ = made(tmp_path, volumes, dtype="uint16", compression=compression)
    about = attributes["tomopipe"]["attributes"]
    assert array.dtype == np.uint16
    assert about["offset"] == -1.0
    assert about["offset"] + 65535 * about["scale"] == pytest.approx(3.0)
    for t in (0, 1):
        values = about["offset"] + about["scale"] * array[t]
        np.testing.assert_allclose(values, ball(t), atol=4 / 65535)
    # numbers that are stored alike are copied as they are
    array, _, _ = made(tmp_path, {"s@0": volumes["s@0"]}, dtype="uint16")
    with open_volume(volumes["s@0"]) as volume:
        assert np.array_equal(array[0], np.stack([volume.read_stored(k) for k in range(18)]))


def test_values_beyond_a_range_are_counted_at_each_time(tmp_path, volumes):
    _, attributes, found = made(tmp_path, volumes, dtype="uint8", value_range=[-0.5, 1.0])
    clipped = [np.count_nonzero(ball(t) > 1 + 0.5 * 1.5 / 255) for t in (0, 1, 3)]
    assert [point["clipped"] for point in found["points"] if not point["is_gap"]] == clipped
    assert attributes["tomopipe"]["attributes"]["clipped"] == sum(clipped) > 0


def test_only_a_time_point_that_changed_is_written_again(tmp_path, volumes):
    before, _, first = made(tmp_path, volumes, times_s=TIMES_S)
    was = [inodes(before, t) for t in range(4)]
    assert len(was[0]) > 0
    written(tmp_path / "s@0001", ball(7), form="tiff")
    array, _, found = made(tmp_path, volumes, changed=["s@0001"])
    assert np.array_equal(array[1], ball(7))
    assert [inodes(array, t) == was[t] for t in (0, 1, 3)] == [True, False, True]
    assert [np.array_equal(array[t], ball(t)) for t in (0, 3)] == [True, True]
    assert found["points"][0] == first["points"][0] | {"time_s": None}
    path = tmp_path / "growth_rec.zarr"
    assert checksums.made(path) == checksums.checksum_of(path)
    # a view comes first, one comes last, one that had a gap has a volume
    new = {"s@": written(tmp_path / "s@", ball(5)), **volumes}
    new |= {"s@0002": written(tmp_path / "s@0002", ball(2)), "s@0004": new["s@"]}
    array, attributes, _ = made(tmp_path, new, changed=["s@0001"])
    assert [inodes(array, t + 1) == was[t] for t in (0, 3)] == [True, True]
    for t, at in enumerate((5, 0, 7, 2, 3, 5)):
        assert np.array_equal(array[t], ball(at))
    assert attributes["tomopipe"]["attributes"]["gaps"] == []


def test_a_volume_stitched_in_height_is_replaced(tmp_path, volumes):
    statement = json.dumps({"scans": ["a", "b"], "volumes": ["1", "2"]})
    layers = encoding_of("float32", None)
    path, options = tmp_path / "growth_rec.zarr", {"output_format": "zarr", "encoding": layers}
    with new_volume(path, SHAPE, provenance={"made_from": statement}, **options) as put:
        put(0, ball(5))
    array, _, _ = made(tmp_path, volumes)
    assert np.array_equal(array[0], ball(0))


@pytest.mark.parametrize("cause", ["no links", "damaged", "another range", "no statement"])
def test_else_all_are_written_again(tmp_path, volumes, cause, monkeypatch):
    options = {"dtype": "uint16", "value_range": [-1.0, 3.0]}
    before, _, _ = made(tmp_path, volumes, **options)
    was, path = [inodes(before, t) for t in (0, 1, 3)], tmp_path / "growth_rec.zarr"
    if cause == "no links":
        link = os.link

        def refuse(source, target):
            if path in Path(source).parents:
                raise OSError(1, "Operation not permitted")
            link(source, target)

        monkeypatch.setattr(os, "link", refuse)
    elif cause == "damaged":
        next((path / "1" / "c" / "3").glob("*/0/0")).write_bytes(b"cut")
    elif cause == "another range":
        options["value_range"] = [-1.0, 4.0]
    else:
        stitch_time(volumes, path, tmp_path / "growth.json", made_from=None, **options)
        was = [inodes(before, t) for t in (0, 1, 3)]
    array, attributes, _ = made(tmp_path, volumes, **options)
    for t, old in zip((0, 1, 3), was, strict=True):
        assert {*inodes(array, t).values()}.isdisjoint(old.values()), t
    scale = attributes["tomopipe"]["attributes"]["scale"]
    for t in (0, 1, 3):
        np.testing.assert_allclose(-1 + scale * array[t], ball(t), atol=scale)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (18, 40, 60)}, r"shape, got \(18, 40, 140\) and \(18, 40, 60\)"),
        ({"voxel_size_um": 5.0}, "voxel_size_um, got 2.5 and 5.0"),
        ({"units": "1/pixel"}, "units, got 1/cm and 1/pixel"),
    ],
)
def test_what_differs_is_said_with_both_names_and_leaves_the_earlier(
    tmp_path, volumes, change, words
):
    array, *_ = made(tmp_path, volumes)
    shape = change.pop("shape", SHAPE)
    volumes["s@0003"] = written(tmp_path / "other", ball(3, shape), **change)
    with pytest.raises(TomopipeError, match=f"s@0000 and s@0003: expected .* same {words}"):
        made(tmp_path, volumes, changed=["s@0003"])
    assert np.array_equal(array[3], ball(3))


def test_other_readers_of_volumes_say_what_it_is(tmp_path, volumes):
    made(tmp_path, volumes)
    with (
        pytest.raises(TomopipeError, match=r"a volume in time \(t, z, y, x\).*napari"),
        open_volume(tmp_path / "growth_rec.zarr"),
    ):
        pass


def test_memory_does_not_grow_with_the_number_of_time_points(tmp_path):
    """What is held at most, of all that Python and NumPy allocate, at 3 and at 12 time points."""
    one = written(tmp_path / "one", ball(0), form="zarr")
    peaks = []
    for number, n in enumerate((3, 3, 12)):  # the first loads packages
        volumes = {f"s@{t}": one for t in range(n)}
        tracemalloc.start()
        made(tmp_path / str(number), volumes)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] > ball(0).nbytes
    assert peaks[2] - peaks[1] < ball(0).nbytes  # of nine more time points
    assert stitch_mb(2048, is_time=True) < stitch_mb(2048)


@pytest.mark.parametrize(
    ("times_s", "step_s"),
    [
        ([5.0, 15.0, 25.0], 10.0),
        ([0.0, 10.9, None, 30.0], 10.0),  # a tenth of a step off
        ([0.0, 11.1, 20.0], None),
        ([0.0, 0.0], None),
        ([3.0], None),
        ([None, None], None),
    ],
)
def test_the_step_of_times_that_are_equally_apart(times_s, step_s):
    assert time_step(times_s) == (step_s if step_s is None else pytest.approx(step_s))


def test_without_times_the_axis_counts(tmp_path, volumes):
    _, attributes, _ = made(tmp_path, volumes)
    (image,) = attributes["ome"]["multiscales"]
    assert image["axes"][0] == {"name": "t", "type": "time"}
    assert image["datasets"][1]["coordinateTransformations"][0]["scale"] == [1.0, 5.0, 5.0, 5.0]
    told = attributes["tomopipe"]["attributes"]
    assert (told["time_s"], told["start"]) == ([None] * 4, None)
    yaozarrs.validate_zarr_store(str(tmp_path / "growth_rec.zarr"))


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    volumes = {"s@0": written(tmp_path / "s@0", ball(0))}
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(TomopipeError, match=r"stitch.time: the package zarr .*tomopipe\[zarr\]"):
        stitch_time(volumes, tmp_path / "growth_rec.zarr", tmp_path / "growth.json")
