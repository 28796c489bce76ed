"""A campaign of scans in all formats: DXchange, NXtomo of two facilities, TIFF, named datasets."""

import json
import os

import h5py
import numpy as np
import pytest
import tifffile

from tests.nxtomo_files import DIAMOND, write_nxtomo
from tests.phantoms import sphere, write_scan
from tests.workflow.conftest import plan, snakemake, succeeds
from tests.workflow.test_reruns import TAIL
from tomopipe.campaign.results import read_tsv
from tomopipe.scans.formats import FORMATS

COR_PX, N_COLS, N_ROWS, N_ANGLES = 44.3, 96, 3, 91
SCANS = {
    "dx_1": "DXchange", "dropped_1": "DXchange", "esrf_1": "NXtomo", "dls_1": "NXtomo",
    "folder_1": "TIFF", "pages_1": "TIFF", "named_1": "HDF5", "corrected_1": "HDF5",
}  # fmt: skip
DROPPED = [20, 21, 60]
# Seen half way through the rotation, where the scan without its own flats takes them from.
BEADS = [sphere(0, 0, 1, 30, 0.004), sphere(14, -9, 1, 5, 0.02), sphere(-12, 11, 1, 4, 0.02)]


def write_dxchange(path, **options):
    options = {"n_angles": N_ANGLES, "n_rows": N_ROWS, "n_cols": N_COLS} | options
    beads = write_scan(path, cor_px=COR_PX, counts=100000, phantom=BEADS, **options)
    with h5py.File(beads.path) as file:
        exchange = file["exchange"]
        return [exchange[name][()] for name in ("data", "data_white", "data_dark")]


def drop_frames(path):
    """Take frames away, as a camera that could not follow."""
    with h5py.File(path, "r+") as file:
        kept = np.delete(np.arange(N_ANGLES), DROPPED)
        data = file["exchange/data"][()][kept]
        del file["exchange/data"]
        file["exchange/data"] = data
        file["defaults/NDArrayUniqueId"] = kept


def write_diamond(path, data, flats, darks):
    """Write an NXtomo of Diamond: frames in another file, radians, a frame without beam."""
    frames = np.concatenate([darks, flats[:1], data[:40], data[:1] * 0, data[40:], flats[1:]])
    keys = np.repeat([2, 1, 0, 3, 0, 1], [len(darks), 1, 40, 1, N_ANGLES - 40, len(flats) - 1])
    angles = np.zeros(len(keys))
    angles[keys == 0] = np.linspace(0, np.pi, N_ANGLES)
    camera = path.with_suffix(".camera")
    with h5py.File(camera, "w") as file:
        file.create_dataset("frames", data=frames, chunks=(1, N_ROWS, N_COLS))
    link = h5py.ExternalLink(camera.name, "/frames")
    write_nxtomo(path, entry=DIAMOND, keys=keys, angles=angles, units="rad", data=link)


def write_named(raw, data, flats, darks):
    """Write files without any class: keyed frames as HTTomo's tests have, and a transmission."""
    theta = np.linspace(0, 180, N_ANGLES)
    with h5py.File(raw / "named_1.hdf", "w") as file:
        entry = file.create_group("entry1/tomo_entry")
        entry["data/data"] = np.concatenate([darks, flats, data])
        keys = np.repeat([2, 1, 0], [len(darks), len(flats), N_ANGLES])
        entry["instrument/detector/image_key"] = keys
        entry["data/rotation_angle"] = np.append(np.zeros(len(darks) + len(flats)), theta)
    dark = darks.mean(0)
    with h5py.File(raw / "corrected_1.hdf", "w") as file:
        file["entry/data/data"] = ((data - dark) / (flats.mean(0) - dark)).astype("f4")
        file["entry/data/rotation_angle"] = theta


def write_images(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        tifffile.imwrite(folder / f"{number:04d}.tif", image)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The campaign after its run, and the run."""
    folder = tmp_path_factory.mktemp("mixed") / "campaign"
    raw = folder / "raw"
    data, flats, darks = write_dxchange(raw / "dx_1.h5")
    write_dxchange(raw / "dropped_1.h5")
    drop_frames(raw / "dropped_1.h5")
    write_scan(
        raw / "esrf_1.nx", cor_px=COR_PX, counts=100000, phantom=BEADS, format="nxtomo",
        n_angles=N_ANGLES, n_rows=N_ROWS, n_cols=N_COLS, energy_kev=25,
    )  # fmt: skip
    write_diamond(raw / "dls_1.nxs", data, flats, darks)
    write_named(raw, data, flats, darks)
    lines = "".join(f"{angle}\n" for angle in np.linspace(0, 180, N_ANGLES))
    for name in ("folder_1", "pages_1"):
        place = folder / "tiff" / name
        beside = place if name == "folder_1" else folder / "tiff"
        prefix = "" if name == "folder_1" else "pages_1_"
        write_images(beside / f"{prefix}flats", flats)
        write_images(beside / f"{prefix}darks", darks)
        if name == "folder_1":
            write_images(place / "projections", data)
            (place / "angles.txt").write_text(lines)
        else:
            tifffile.imwrite(place.with_suffix(".tif"), data, photometric="minisblack")
            place.with_suffix(".csv").write_text(lines)
    (folder / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5, raw/*.nx, raw/*.nxs, raw/*.hdf, tiff/fold*/, tiff/*.tif]}\n"
        "input: {pixel_size_um: 0.65}\n"
        "try_recon: {width_px: 8, step_px: 1}\n"
        "predict_cor: {methods: [classical]}\n"  # loads no network
        "export_star: {enabled: true}\n"
        "overrides:\n"
        "- scans: [named_1]\n"
        "  input:\n"
        "    paths:\n"
        "      data: entry1/tomo_entry/data/data\n"
        "      image_key: entry1/tomo_entry/instrument/detector/image_key\n"
        "      angles: entry1/tomo_entry/data/rotation_angle\n"
        "- scans: [corrected_1]\n"
        "  input: {paths: {data: /entry/data/data, angles: /entry/data/rotation_angle}}\n"
        "  preprocess: {flats: none, darks: none}\n"
    )
    return folder, snakemake(folder)


def test_every_format_has_a_scan_here():
    lacking = {format_.name for format_ in FORMATS} - {*SCANS.values()}
    assert not lacking, f"SCANS in tests/workflow/test_formats.py has no scan of {lacking}"


def test_run_ends_well_and_nothing_is_left_to_do(mixed):
    folder, run = mixed
    assert run.status == 0, run.text
    assert plan(folder) == (0, frozenset())


def test_inventory_says_what_was_found(mixed):
    rows = read_tsv(mixed[0] / "results" / "inventory.tsv", ("scan", "found", "warnings"))
    found = {row["scan"]: row for row in rows}
    assert set(found) == set(SCANS)
    for scan, format_ in SCANS.items():
        row = found[scan]
        assert (row["keep"], row["n_rows"], row["n_cols"]) == ("true", "3", "96")
        assert int(row["n_angles"]) == N_ANGLES - 3 * (scan == "dropped_1")
        assert row["found"].startswith(f"{format_}; ")
        assert "pixel size 0.65 um, the configuration" in row["found"]
    assert "frames dropped by the camera" in found["dropped_1"]["warnings"]
    assert "frames marked as invalid, and skipped: 1" in found["dls_1"]["warnings"]


@pytest.mark.parametrize("scan", SCANS)
def test_cor_and_volume(mixed, scan):
    results = mixed[0] / "results"
    found = json.loads((results / "cor.json").read_text())[scan]
    assert found["source"] == "auto"
    assert found["cor_px"] == pytest.approx(COR_PX, abs=0.3)
    with h5py.File(results / f"{scan}_rec.h5") as file:
        volume = file["exchange/data"][...]
    assert volume.shape == (N_ROWS, N_COLS, N_COLS)
    # beads at (14, -9) and (-12, 11) from the axis, which is at voxel (N//2, N//2 - 1)
    for x, y in ((14, -9), (-12, 11)):
        inside = np.s_[
            N_COLS // 2 - 2 + y : N_COLS // 2 + 1 + y, N_COLS // 2 - 1 + x : N_COLS // 2 + 2 + x
        ]
        assert volume[1][inside].mean() == pytest.approx(0.024, rel=0.06)


def test_a_linked_file_put_in_the_place_of_another_runs_its_scan_again(mixed):
    folder = mixed[0]
    target = folder / "raw" / "dls_1.camera"
    before = target.stat()
    with h5py.File(target, "r+") as camera:
        camera["frames"][0, 0, 0] += 1
    assert target.stat().st_size == before.st_size
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns - 10**12))  # older, as a backup
    rules = ("try_recon", "predict_cor", "full_recon", "export_stack")
    again = {"inventory", *(f"{rule}:dls_1" for rule in rules)}
    jobs = again | {"fix_cor:dls", "resolve_cor", *TAIL}
    assert {"inventory", "try_recon:dls_1"} <= plan(folder)[1] <= jobs
    run = succeeds(folder)
    # where the COR comes out as it was, so do the tables
    assert again <= run.jobs <= jobs
    assert plan(folder) == (0, frozenset())
