"""A campaign of what beamlines really deliver: odd names, shapes, angles, and broken files."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
import starfile
import tifffile

from tests.phantoms import sphere, write_scan
from tests.workflow.conftest import plan, snakemake, succeeds, table
from tests.workflow.test_reruns import TAIL
from tests.workflow.test_vanished import inventory
from tomopipe.campaign.results import read_tsv

# name -> options of an undamaged scan; 40 px is far from the middle of 96 columns
VALID = {
    "größe 1 [x]_1": {"n_rows": 1},
    "a;b$c'd_1": {"theta_deg": np.linspace(180, 0, 91)},
    "turn_1": {"theta_deg": np.linspace(0, 360, 181, endpoint=False)},
    "gz.ip_1": {"compression": "gzip", "n_cols": 97},
}
COR_PX = 44.3


def bead_scan(path, **options):
    options = {"n_rows": 3, "n_cols": 96, "n_angles": 91} | options
    row = (options["n_rows"] - 1) / 2
    beads = [
        sphere(0, 0, row, 30, 0.004),
        sphere(14, -9, row, 5, 0.02),
        sphere(-12, 11, row, 4, 0.02),
    ]
    return write_scan(path, cor_px=COR_PX, counts=100000, phantom=beads, **options)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The campaign after its run, and the run."""
    folder = tmp_path_factory.mktemp("odd") / "my campaign, größer"
    raw = folder / "raw data"
    for name, options in VALID.items():
        bead_scan(raw / f"{name}.h5", **options)
    bead_scan(raw / "full_1.h5")
    bead_scan(raw / "full_2.h5", n_frames=70)
    bead_scan(raw / "full_3.h5", chunks=(1, 3, 96), n_written=40)
    bead_scan(raw / "full_4.h5")
    with h5py.File(raw / "full_4.h5", "r+") as file:
        del file["exchange/data"]
        file.create_dataset("exchange/data", (91, 3, 96), "u2")  # never written
    (raw / "text_1.h5").write_text("not HDF5 at all")
    (raw / "half_1.h5").write_bytes((raw / "full_1.h5").read_bytes()[:5000])
    (raw / "folder_1.h5").mkdir()
    (raw / "empty_1.h5").write_bytes(b"")
    os.symlink("nowhere.h5", raw / "dangling_1.h5")
    bead_scan(raw / "comma,_1.h5")
    bead_scan(raw / "none_1.h5", write_theta=False)
    bead_scan(raw / "noise_1.h5", n_cols=72)  # no other is as wide: none fills its COR
    with h5py.File(raw / "noise_1.h5", "r+") as file:
        data = file["exchange/data"]
        data[...] = np.random.default_rng(0).normal(20000, 200, data.shape).astype(data.dtype)
    (folder / "config.yaml").write_text(
        "campaign: {scans: ['raw data/*.h5']}\n"
        "try_recon: {width_px: 12, step_px: 1}\n"
        "storage: {keep_try: true}\n"
        "predict_cor: {methods: [classical]}\n"  # loads no network
        "resolve_cor: {on_missing: skip}\n"
        "export_star: {enabled: true}\n"
    )
    return folder, snakemake(folder)


def test_run_ends_well(odd):
    assert odd[1].status == 3, odd[1].text
    assert "no COR, and so no volume: noise_1" in odd[1].text


def test_broken_files_are_rows_with_a_reason(odd):
    """Which reason each has is in tests/steps/test_inventory.py."""
    rows = inventory(odd[0])
    broken = rows.keys() - {*VALID, "full_1", "noise_1"}
    assert len(broken) == 10
    assert [
        name for name in broken if rows[name]["keep"] != "false" or not rows[name]["reason"]
    ] == []


def test_a_scan_without_angles_is_planned_once_they_are_given(odd):
    config = odd[0] / "config.yaml"
    before = config.read_text()
    given = "overrides: [{scans: [none_1], input: {angles: {start: 0, stop: 180}}}]\n"
    config.write_text(before + given)
    jobs = plan(odd[0])[1]
    config.write_text(before)
    assert {"try_recon:none_1", "predict_cor:none_1"} <= jobs
    # `noise` has no COR, and might take that of this one
    assert {job.partition(":")[2] for job in jobs} <= {
        *("", "none_1", "none", "noise_1", "noise"),
    }


def test_noise_is_not_accepted(odd):
    folder = odd[0]
    prediction = json.loads((folder / "results/try_center/noise_1/prediction.json").read_text())
    assert prediction["cor_px"] is None
    assert "noise_1" not in json.loads((folder / "results" / "cor.json").read_text())


@pytest.mark.parametrize("scan", [*VALID, "full_1"])
def test_cor_volume_and_sweep_of_sound_scans(odd, scan):
    folder = odd[0]
    found = json.loads((folder / "results" / "cor.json").read_text())[scan]
    assert found["cor_px"] == pytest.approx(COR_PX, abs=0.3)
    sidecar = json.loads((folder / "raw data" / f"{scan}.cor.json").read_text())
    assert sidecar["cor_px"] == found["cor_px"]
    n_cols = VALID.get(scan, {}).get("n_cols", 96)
    n_rows = VALID.get(scan, {}).get("n_rows", 3)
    with h5py.File(folder / "results" / f"{scan}_rec.h5") as file:
        volume = file["exchange/data"][...]
    assert volume.shape == (n_rows, n_cols, n_cols)
    mid = volume[n_rows // 2]
    # a bead at (14, -9) from the axis is at voxel [y, x] = [N//2 - 1 - 9, N//2 + 14]
    y, x = n_cols // 2 - 1 - 9, n_cols // 2 + 14
    window = mid[y - 8 : y + 9, x - 8 : x + 9] - 0.004
    grid = np.mgrid[-8:9, -8:9]
    weight = np.clip(window, 0.008, None) - 0.008
    offset = [(axis * weight).sum() / weight.sum() for axis in grid]
    assert np.hypot(*offset) < 0.35
    assert mid[y - 1 : y + 2, x - 1 : x + 2].mean() == pytest.approx(0.024, rel=0.05)
    with tifffile.TiffFile(folder / "results/try_center" / scan / "try.tif") as tiff:
        assert tiff.is_imagej
        labels = tiff.imagej_metadata["Labels"]
        assert len(labels) == len(tiff.pages) == 25
    assert labels[0].startswith("COR ")


def test_every_scan_with_a_cor_is_in_the_set_for_relion(odd):
    folder = odd[0]
    resolved = json.loads((folder / "results" / "cor.json").read_text())
    names = read_tsv(folder / "results/relion/names.tsv", ("scan", "rlnTomoName"))
    assert {row["scan"] for row in names} == set(resolved)
    tables = starfile.read(
        folder / "results/relion/tomograms.star", parse_as_string=["rlnTomoName"]
    )
    assert set(tables["global"]["rlnTomoName"]) == {row["rlnTomoName"] for row in names}
    assert (tables["global"]["rlnTomoSizeX"] % 2 == 0).all()
    for path in tables["global"]["rlnTomoTiltSeriesName"]:
        assert (folder / path).exists()


def test_report_names_every_scan(odd):
    page = (odd[0] / "results" / "report" / "index.html").read_text()
    for scan in ("größe 1 [x]_1", "text_1", "comma,_1", "noise_1"):
        assert scan in page


@pytest.mark.realdata
def test_tooth(tmp_path, real_scan):
    """COR 295.8 +- 0.3; the accepted value may differ by what half a pixel of grid allows."""
    (tmp_path / "raw").mkdir()
    shutil.copy(real_scan, tmp_path / "raw" / "tooth.h5")
    (tmp_path / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\nexport_star: {enabled: true}\n"
    )
    succeeds(tmp_path)
    cor = json.loads((tmp_path / "results" / "cor.json").read_text())["tooth"]
    assert cor["cor_px"] == pytest.approx(295.8, abs=0.3)
    assert cor["source"] == "ai"
    with h5py.File(tmp_path / "results" / "tooth_rec.h5") as file:
        assert file["exchange/data"].shape == (2, 640, 640)
    assert snakemake(tmp_path).jobs == frozenset()
    table(tmp_path, "tooth\tauto\t296\t")
    hanging = {"fix_cor:tooth", "resolve_cor", "full_recon:tooth", "sidecar", *TAIL}
    assert plan(tmp_path) == (2, hanging)
    assert snakemake(tmp_path).jobs == hanging
