import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from tests.beads import centre_of_bead
from tests.phantoms import sphere, write_scan
from tests.step_calls import full_recon, volume_of
from tests.tiff_files import read_slices
from tomopipe.errors import ScanError
from tomopipe.simulate.phantom import Ellipsoid
from tomopipe.stream import recon_task as _task
from tomopipe.stream import source as _source
from tomopipe.stream import stream as _stream
from tomopipe.volumes import tiff
from tomopipe.volumes.volume_read import open_volume, read_mid_planes, read_provenance

MU = 0.01
COR_PX = 61.3
BEADS = [sphere(20, -13, 2, 8, 0.02), sphere(-15, 18, 3, 6, 0.02), sphere(5, 30, 2.5, 5, 0.02)]
# Tall: every row but the ends shows the same disk.
DISK = Ellipsoid(11.0, -7.0, 2.5, 30.0, 30.0, 4000.0, 0.0, MU)


def _scan(tmp_path, **options):
    options = {"n_cols": 128, "n_rows": 6, "n_angles": 201, "cor_px": COR_PX} | options
    return write_scan(tmp_path / "scan_001.h5", **({"phantom": BEADS} | options))


def _volume(truth, name="scan_001_rec.h5", **options):
    options = {"cor_px": truth.cor_px, "device": "cpu"} | options
    return volume_of(truth.path, truth.path.with_name(name), **options)


def _mean_of_disk(image, x, y, radius):
    rows, cols = np.indices(image.shape)
    return float(image[np.hypot(cols - x, rows - y) < 0.8 * radius].mean())


SCANS = {
    "plain": {},
    "odd width": {"n_cols": 129},
    "axis far off": {"cor_px": 75.75, "n_cols": 160},
    "descending": {"theta_deg": np.linspace(180, 0, 201)},
    "other start": {"theta_deg": np.linspace(33, 213, 201)},
    "360 degrees": {"theta_deg": np.linspace(0, 360, 400, endpoint=False)},
    "contiguous": {"chunks": False},
    "noise, uint16": {"dtype": np.uint16, "counts": 50000},
}


@pytest.mark.parametrize("options", SCANS.values(), ids=SCANS)
def test_beads_are_where_they_are(tmp_path, options):
    truth = _scan(tmp_path, **options)
    volume = _volume(truth)
    assert volume.shape == (6, truth.n_cols, truth.n_cols)
    assert volume.dtype == np.float32
    for bead in BEADS:
        image = volume[round(bead.row)]
        true_px = (truth.n_cols // 2 + bead.x_px, truth.n_cols // 2 - 1 + bead.y_px)
        found_px = centre_of_bead(image, *true_px, bead.semi_x_px)
        np.testing.assert_allclose(found_px, true_px, atol=0.05)
    assert np.sqrt(((volume - truth.volume()) ** 2).mean()) < 0.0015


def test_a_scan_without_theta_is_refused_and_one_whose_angles_are_told_is_the_same(tmp_path):
    theta_deg = np.linspace(0, 360, 200, endpoint=False)
    expected = _volume(_scan(tmp_path, theta_deg=theta_deg))
    truth = _scan(tmp_path, theta_deg=theta_deg, write_theta=False)
    with pytest.raises(ScanError, match=r"no angles: set input\.angles"):
        _volume(truth)
    known = {"angles": {"start": 0, "stop": 360 - 1.8}}
    np.testing.assert_allclose(_volume(truth, "told.h5", known=known), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("n_rows", "binning", "n_slices"),
    [(6, 1, 6), (6, 2, 3), (6, 3, 2), (1, 1, 1), (1, 2, 1), (3, 4, 1)],
)
def test_a_disk_has_its_value_and_place_at_any_binning(tmp_path, n_rows, binning, n_slices):
    truth = _scan(tmp_path, phantom=[DISK], n_rows=n_rows)
    volume = _volume(truth, binning=binning)
    n = 128 // binning
    assert volume.shape == (n_slices, n, n)
    true_px = (n // 2 + 11 / binning, n // 2 - 1 - 7 / binning)
    for image in volume:
        assert _mean_of_disk(image, *true_px, 30 / binning) == pytest.approx(MU, rel=0.01)
        found_px = centre_of_bead(image, *true_px, 30 / binning)
        np.testing.assert_allclose(found_px, true_px, atol=0.05)


def test_binned_slices_are_averages_of_rows(tmp_path):
    bead = sphere(5, -9, 3.0, 9, MU)
    truth = _scan(tmp_path, phantom=[bead], n_rows=7)
    volume = _volume(truth, binning=2)
    assert len(volume) == 3
    rows, cols = np.indices((64, 64))
    near = np.hypot(cols - 34.5, rows - 26.5) < 8
    true = truth.volume().sum(axis=(1, 2))[:6].reshape(3, 2).mean(axis=1) / 4
    np.testing.assert_allclose(volume[:, near].sum(axis=1), true, rtol=0.01)


def test_rows_are_first_and_last_both_included(tmp_path):
    truth = _scan(tmp_path)
    whole = _volume(truth)
    np.testing.assert_array_equal(_volume(truth, "part.h5", rows=[2, 5]), whole[2:6])
    # Slices ride in pairs through the transforms: another partner, another last bit.
    np.testing.assert_allclose(_volume(truth, "one.h5", rows=[3, 3]), whole[3:4], atol=1e-7)
    assert read_provenance(tmp_path / "part.h5")["geometry"]["rows"] == [2, 5]


ROCK = {"n_cols": 64, "n_angles": 61, "phantom": "rock", "cor_px": 30.2}


def test_blocks_do_not_change_a_bit(tmp_path, reads, divide):
    truth = _scan(tmp_path, n_rows=37, chunks=False, **ROCK)
    whole = _volume(truth)
    reads.clear()
    divide(16, 16)
    np.testing.assert_array_equal(_volume(truth, "blocks.h5"), whole)
    assert [n_rows for n_rows, _ in reads] == [16, 16, 5]
    divide(4, 4, ahead=0)
    np.testing.assert_allclose(_volume(truth, "small.h5"), whole, atol=1e-7)


@pytest.fixture
def at_each_batch(monkeypatch):
    """Call it with what the thread of a batch does before its slices are made."""
    slices_of = _stream.slices_of

    def before(function):
        monkeypatch.setattr(_stream, "slices_of", lambda *args: [function(), slices_of(*args)][1])

    return before


PIECES = [{}, {"binning": 2}, {"dtype": "uint16", "value_range": [-0.01, 0.03]}]


@pytest.mark.parametrize("options", PIECES, ids=str)
def test_pieces_computed_side_by_side_change_no_bit(tmp_path, at_each_batch, divide, options):
    truth = _scan(tmp_path, n_rows=70, **ROCK)
    divide(4, 16)
    alone = _volume(truth, threads=1, **options)
    met, calls = threading.Barrier(3), itertools.count()

    def meet():
        if next(calls) < 3:
            met.wait(timeout=30)  # three of them at a time, or the test fails

    at_each_batch(meet)
    divide(4, 16, workers=3)
    np.testing.assert_array_equal(_volume(truth, "together.h5", threads=3, **options), alone)


def test_what_one_of_several_workers_raises_ends_the_job(tmp_path, at_each_batch, divide):
    truth = _scan(tmp_path, n_rows=70, n_cols=64, n_angles=61)
    at_each_batch(Mock(side_effect=[None] * 4 + [ValueError("the fifth")] + [None] * 99))
    divide(4, 16, workers=3)
    with pytest.raises(ValueError, match="the fifth"):
        _volume(truth, threads=3)
    assert [path.name for path in tmp_path.iterdir()] == [truth.path.name]


@pytest.mark.parametrize("binning", [1, 2])
def test_corrections_in_batches_do_not_change_a_bit(tmp_path, monkeypatch, binning):
    truth = _scan(tmp_path, n_angles=61)
    whole = _volume(truth, binning=binning)
    for n_bytes in (1, 4 * 5 * 6 * 128):  # one projection at a time, five at a time
        monkeypatch.setattr(_task, "_BATCH_BYTES", n_bytes)
        np.testing.assert_array_equal(_volume(truth, "batches.h5", binning=binning), whole)


@pytest.mark.parametrize("chunks", [(1, 37, 64), (4, 20, 64)], ids=["projections", "odd blocks"])
@pytest.mark.parametrize("options", [{}, {"rows": [3, 30]}, {"binning": 2}], ids=str)
def test_a_scratch_file_does_not_change_a_bit(
    tmp_path, monkeypatch, divide, chunks, options, caplog
):
    stored = {"chunks": chunks, "compression": "gzip", "dtype": np.uint16, "counts": 20000}
    truth = _scan(tmp_path, n_rows=37, **ROCK, **stored)
    whole = _volume(truth, **options)
    divide(16, 16)
    monkeypatch.setattr(_source, "MAX_DECODES", 1)
    folder = tmp_path / "scratch"
    folder.mkdir()
    with caplog.at_level("INFO"):
        part = _volume(truth, "scratch.h5", scratch=str(folder), **options)
    assert "all decoded" in caplog.text
    np.testing.assert_array_equal(part, whole)
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("output", "dtype", "value_range"),
    [
        ("h5", "uint8", "auto"),
        ("tiff", "float16", "auto"),
        ("tiff", "uint8", (-0.005, 0.02)),
        ("zarr", "uint16", "auto"),
    ],
)
def test_a_disk_has_its_value_in_every_type_and_format(tmp_path, output, dtype, value_range):
    truth = _scan(tmp_path, phantom=[DISK])
    path = tmp_path / "rec"
    stored = {"output": output, "dtype": dtype, "value_range": value_range}
    full_recon(truth.path, path, cor_px=COR_PX, device="cpu", **stored)
    with open_volume(path) as file:
        assert file.read_stored(0).dtype == dtype
        volume, limits = [file.read_slice(row) for row in range(6)], file.encoding.limits
        assert file.attributes["clipped"] < 0.01 * np.size(volume)
    for image in volume:
        assert _mean_of_disk(image, 75, 56, 30) == pytest.approx(MU, rel=0.01)
    plane = read_mid_planes(path)["mid_xy"]
    np.testing.assert_allclose(volume[3], np.clip(plane, *limits), atol=1e-4)


def test_the_range_is_that_of_the_disk_and_the_air(tmp_path):
    """The same from any blocks, with a unit, and in whole numbers of few digits."""
    truth = _scan(tmp_path, phantom=[DISK], pixel_size_um=10, n_rows=20)
    limits = []
    for memory in (4 * 2**30, 1):
        _volume(truth, dtype="uint8", unit="per_cm", memory_bytes=memory)
        with open_volume(tmp_path / "scan_001_rec.h5") as file:
            limits.append(file.encoding.limits)
    assert limits[0] == limits[1]
    low, high = limits[0]
    assert -3 < low < 0
    assert 10 < high < 14  # MU is 10 per cm


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_range_that_cuts_values_is_told(tmp_path, dtype):
    """Half of the value of a disk stores none of it; the range that is found cuts little."""
    truth = _scan(tmp_path, phantom=[DISK])
    path = tmp_path / "a.h5"
    options = {"cor_px": COR_PX, "device": "cpu", "dtype": dtype}
    said = full_recon(truth.path, path, value_range=[0, MU / 2], **options)
    with h5py.File(path) as file:
        n_clipped, n_voxels = file["exchange/data"].attrs["clipped"], file["exchange/data"].size
    disk = np.pi * 30**2 / 128**2
    assert n_clipped > 0.9 * disk * n_voxels
    assert said.startswith(f"volume: {n_clipped} of {n_voxels} voxels (")
    assert "lie outside 0 to 0.005 and were clipped" in said
    options |= {"value_range": [0, MU / 2]}
    assert full_recon(truth.path, tmp_path / "b.h5", voxels_of=path, **options) == said
    for value_range in ([-0.1, 0.1], "auto"):
        assert not full_recon(truth.path, path, **options | {"value_range": value_range})


@pytest.mark.parametrize("binning", [1, 2])
def test_a_crop_is_a_part_of_the_whole(tmp_path, binning):
    truth = _scan(tmp_path)
    whole = _volume(truth, binning=binning)
    part = _volume(truth, "part.h5", binning=binning, crop_x=[20, 99], crop_y=[30, 50], rows=[0, 3])
    x, y = (slice(at // binning, at // binning + n // binning) for at, n in ((20, 80), (30, 21)))
    np.testing.assert_array_equal(part, whole[: 4 // binning, y, x])
    geometry = read_provenance(tmp_path / "part.h5")["geometry"]
    assert geometry["first_voxel_xy"] == [x.start, y.start]
    n = 128 // binning
    assert geometry["axis_voxel_xy"] == [n // 2 - x.start, n // 2 - 1 - y.start]
    plane = read_mid_planes(tmp_path / "part.h5")["mid_xy"]
    np.testing.assert_array_equal(plane, part[len(part) // 2])


@pytest.mark.parametrize(
    ("n_cols", "options", "half"),
    [
        (96, {}, False),
        (96, {"rows": [2, 15], "crop_x": [50, 90], "crop_y": [20, 50]}, False),
        (96, {"rows": [3, 14], "crop_x": [51, 90], "crop_y": [21, 50], "binning": 2}, False),
        (97, {"rows": [1, 15], "crop_x": [47, 90], "binning": 3}, False),
        (96, {"rows": [2, 15], "crop_x": [90, 150], "crop_y": [60, 100]}, True),
        (97, {"crop_x": [90, 150], "crop_y": [60, 100], "binning": 2}, True),
    ],
)
def test_ome_zarr_says_where_a_cropped_volume_lies(tmp_path, n_cols, options, half):
    """A bead is where the levels say, in micrometres of the whole, unbinned volume: to 0.1 px."""
    size_um, row = 0.5, 8.4
    beads = [sphere(20, -13, row, 5, 0.02)]
    turn = {"theta_deg": np.linspace(0, 360, 300, endpoint=False), "cor_px": 83.2} if half else {}
    truth = _scan(tmp_path, n_cols=n_cols, n_rows=17, phantom=beads, **turn)
    path = tmp_path / "a_rec.zarr"
    options |= {"output": "zarr", "pixel_size_um": size_um, "device": "cpu"}
    full_recon(truth.path, path, cor_px=truth.cor_px, **options)
    wide = 2 * n_cols if half else n_cols
    expected_um = size_um * np.array([row, -13 + wide // 2 - 1, 20 + wide // 2])
    group = zarr.open_group(path, mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert not half or group["0"].shape[2] > 20
    for dataset in datasets:
        scale, shift = (t[t["type"]] for t in dataset["coordinateTransformations"])
        values = group[dataset["path"]][:]
        weight = np.where(values > 0.3 * values.max(), values, 0)
        centre = [(w * index).sum() / w.sum() for w in [weight] for index in np.indices(w.shape)]
        found_um = np.array(shift) + np.array(scale) * centre
        tolerance_px = 0.1 * scale[0] / size_um
        assert np.abs(found_um - expected_um).max() < tolerance_px * size_um, dataset


@pytest.mark.parametrize("crop", [[127, 127], [0, 0], [126, 127]])
def test_a_crop_at_the_edge_has_at_least_one_voxel(tmp_path, crop):
    truth = _scan(tmp_path, n_angles=21)
    whole = _volume(truth, binning=3)
    part = _volume(truth, "part.h5", binning=3, crop_x=crop)
    first = min(crop[0] // 3, 41)
    np.testing.assert_array_equal(part, whole[:, :, first : first + 1])


def test_values_per_cm(tmp_path):
    truth = _scan(tmp_path, phantom=[DISK], pixel_size_um=2.5)
    true_px = (32 + 5.5, 31 - 3.5)
    for name, size_um, found_um in [("file.h5", None, 2.5), ("config.h5", 5.0, 5.0)]:
        volume = _volume(truth, name, unit="per_cm", pixel_size_um=size_um, binning=2)
        expected = MU / (found_um * 1e-4)
        assert _mean_of_disk(volume[0], *true_px, 15) == pytest.approx(expected, rel=0.01)
        with h5py.File(tmp_path / name) as file:
            assert file["exchange/data"].attrs["units"] == "1/cm"
            assert file["exchange/data"].attrs["voxel_size_um"] == 2 * found_um
    with pytest.raises(ScanError, match="per_cm needs the pixel size"):
        _volume(_scan(tmp_path), unit="per_cm")


def test_voxels_are_as_high_as_the_pixels_that_the_file_states(tmp_path):
    truth = _scan(tmp_path, phantom=[DISK], n_angles=21)
    detector = "measurement/instrument/detector"
    with h5py.File(truth.path, "a") as file:
        file[f"{detector}/x_pixel_size"], file[f"{detector}/y_pixel_size"] = "5 um", "10 um"
    _volume(truth, "binned.h5", binning=2)
    with h5py.File(tmp_path / "binned.h5") as file:
        attributes = dict(file["exchange/data"].attrs)
    assert (attributes["voxel_size_um"], attributes["voxel_height_um"]) == (10, 20)


def test_line_integrals_are_taken_as_they_are(tmp_path):
    truth = _scan(tmp_path, phantom=[DISK])
    integrals = truth.projections()
    with h5py.File(truth.path, "r+") as file:
        file["exchange/data"][:] = integrals
    volume = _volume(truth, minus_log=False, flats="none", darks="none")
    assert _mean_of_disk(volume[3], 75, 56, 30) == pytest.approx(MU, rel=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_bad_values_never_reach_the_volume(tmp_path, value):
    truth = _scan(tmp_path)
    with h5py.File(truth.path, "r+") as file:
        file["exchange/data"][5, 2, 40:50] = value
        file["exchange/data"][17] = value
        file["exchange/data_white"][:, 3, 7] = 0
        file["exchange/data_dark"][:, 4, 9] = 1e9
    assert np.isfinite(_volume(truth)).all()


@pytest.mark.parametrize(
    ("first", "value", "options"),
    [
        *((0, value, {}) for value in (0, 1000, np.nan)),
        (67, 0, {}),
        (67, 0, {"corrections": {"hardening": [1.0, 1e-3]}}),
    ],
)
def test_a_scan_that_was_not_written_or_in_part_gets_no_volume(tmp_path, first, value, options):
    truth = _scan(tmp_path)
    with h5py.File(truth.path, "r+") as file:
        file["exchange/data"][first:] = value
    remedy = rf".*skip_projections: \[\[{first}, " if first else ""
    with pytest.raises(ScanError, match=f"constant frames{remedy}"):
        _volume(truth, **options)
    assert os.listdir(tmp_path) == ["scan_001.h5"]
    if first:
        known = {"skip_projections": [[first, 200]]}
        assert np.isfinite(_volume(truth, known=known, **options)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cor_px": 128}, r"COR 128 px is off the detector \(0 to 127\)"),
        ({"cor_px": np.nan}, "COR nan px is off the detector"),
        ({"rows": [2, 6]}, r"\[2, 6\] are not rows of this scan \(0 to 5\)"),
        ({"crop_x": [0, 128]}, r"crop_x: \[0, 128\] are not within the slices .*\(0 to 127\)"),
        ({"binning": 200}, r"full_recon\.binning: 200 is more than the 128 columns"),
    ],
)
def test_options_that_do_not_fit_the_scan(tmp_path, options, message):
    truth = _scan(tmp_path, n_angles=11)
    with pytest.raises(ScanError, match=message):
        _volume(truth, **options)
    assert os.listdir(tmp_path) == ["scan_001.h5"]


def test_provenance_says_it_all(tmp_path):
    truth = _scan(tmp_path, pixel_size_um=2.5)
    _volume(truth, source="manual", filter="hann", provenance={"campaign": "mine"})
    found = read_provenance(tmp_path / "scan_001_rec.h5")
    assert found["raw"] == str(truth.path)
    assert found["cor"] == {"cor_px": COR_PX, "source": "manual"}
    assert found["campaign"] == "mine"
    assert found["parameters"]["filter"] == "hann"
    assert found["parameters"]["rows"] == "all"
    assert {"tomopipe", "numpy", "h5py", "python", "array_module"} <= set(found["versions"])
    assert found["geometry"]["axis_voxel_xy"] == [64, 63]
    with h5py.File(tmp_path / "scan_001_rec.h5") as file:
        assert file["provenance/cor"].attrs["source"] == "manual"
        assert file["exchange/data"].attrs["units"] == "1/pixel"
        assert file["exchange/data"].attrs["voxel_size_um"] == 2.5


@pytest.mark.parametrize(
    ("options", "numbers"),
    [({}, range(6)), ({"rows": [2, 4]}, [2, 3, 4]), ({"binning": 3}, [0, 1])],
)
def test_a_tiff_series_has_the_slices_of_the_hdf5(tmp_path, options, numbers):
    truth = _scan(tmp_path)
    folder = tmp_path / "scan_001_rec"
    full_recon(truth.path, folder, cor_px=COR_PX, device="cpu", output="tiff", **options)
    paths = tiff.slice_paths(folder)
    assert [path.name for path in paths] == [f"recon_{number:05d}.tiff" for number in numbers]
    np.testing.assert_array_equal(read_slices(paths), _volume(truth, **options))
    assert read_provenance(folder)["cor"]["cor_px"] == COR_PX


def test_a_scan_cut_short_is_used_as_far_as_it_goes(tmp_path):
    truth = _scan(tmp_path, n_angles=401, theta_deg=np.linspace(0, 360, 401), n_frames=201)
    with pytest.raises(ScanError, match="aborted"):
        _volume(truth)
    volume = _volume(truth, partial=True)
    assert np.sqrt(((volume - truth.volume()) ** 2).mean()) < 0.0015


@pytest.mark.parametrize("output", ["h5", "tiff"])
@pytest.mark.parametrize("where", ["read", "compute", "write"])
def test_a_failure_leaves_no_volume(tmp_path, monkeypatch, output, where):
    truth = _scan(tmp_path, n_angles=21)

    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    place = {
        "read": (_task.Scan, "read_rows"),
        "compute": (_task, "reconstruct"),
        "write": (tifffile, "imwrite") if output == "tiff" else (h5py.Dataset, "__setitem__"),
    }
    monkeypatch.setattr(*place[where], full)
    with pytest.raises(OSError, match=r"(?i)no space left"):
        full_recon(truth.path, tmp_path / "rec", cor_px=COR_PX, device="cpu", output=output)
    assert os.listdir(tmp_path) == ["scan_001.h5"]


def test_a_killed_job_leaves_no_volume_and_the_next_cleans_up(tmp_path):
    truth = _scan(tmp_path, n_angles=21)
    script = (
        "import os, signal, sys\n"
        "from tests.step_calls import full_recon\n"
        "from tomopipe.stream import stream\n"
        "def kill(text, *_):\n"
        "    if text.startswith('%d of'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "stream.logger.info = kill\n"
        "full_recon(sys.argv[1], sys.argv[2], cor_px=61.3, device='cpu')\n"
    )
    args = [sys.executable, "-c", script, str(truth.path), str(tmp_path / "scan_001_rec.h5")]
    assert subprocess.run(args, check=False).returncode == -signal.SIGKILL
    left, raw = sorted(os.listdir(tmp_path))
    assert (left[:5], raw) == (".tmp-", "scan_001.h5")
    _volume(truth)
    assert sorted(os.listdir(tmp_path)) == ["scan_001.h5", "scan_001_rec.h5"]
