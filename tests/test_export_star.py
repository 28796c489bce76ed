import json

import h5py
import mrcfile
import numpy as np
import pytest
import starfile

from tests.beads import centroid_px, project_beads, write_scan
from tomopipe.errors import TomopipeError
from tomopipe.io.atomic import write_json
from tomopipe.io.mrc import StackFile
from tomopipe.io.star import tomo_names
from tomopipe.io.tables import read_tsv
from tomopipe.steps.export_stack import export_stack
from tomopipe.steps.export_star import COLUMNS, export_star
from tomopipe.steps.full_recon import full_recon

TEXT = ["rlnTomoName"]


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """An empty campaign folder, where RELION and the workflow run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_stack(scan, *, n_images=3, n_cols=100, n_rows=4, pixel_size_um=0.65, energy_kev=25.0):
    """Write a stack of zeros and its JSON as export_stack would; return both paths."""
    stack, meta = f"results/relion/stacks/{scan}.mrcs", f"results/relion/stacks/{scan}.json"
    shape = [n_images, n_rows, n_cols // 2 * 2]
    write_json(
        {
            "binning": 1,
            "energy_kev": {"source": "config", "value": energy_kev},
            "first_row": 0,
            "n_cols": n_cols,
            "n_rows": n_rows,
            "pixel_size_um": {"source": "config", "value": pixel_size_um},
            "stack_shape": shape,
            "theta_deg": np.linspace(0, 60, n_images).tolist(),
            "warnings": [],
        },
        meta,
    )
    writer = StackFile(stack, shape, pixel_size_um * 1e4)
    writer.write(np.zeros(shape, np.float32), 0, 0)
    writer.finish()
    return stack, meta


def export(scans, cor_px=47.25, **options):
    """Export some scans, all with one COR, stacks and all."""
    files = {scan: write_stack(scan, **options) for scan in scans}
    write_json({scan: {"cor_px": cor_px, "source": "auto"} for scan in scans}, "results/cor.json")
    export_star(
        {scan: meta for scan, (_, meta) in files.items()},
        {scan: stack for scan, (stack, _) in files.items()},
        "results/cor.json",
        "results/relion",
    )
    return starfile.read("results/relion/tomograms.star", always_dict=True, parse_as_string=TEXT)


def columns_and_rows_by_relion4(tables, name, voxels):
    """Where RELION 4 sees the voxels: P times (voxel + 1)."""
    rows = [tables[name][f"rlnTomoProj{axis}"].map(json.loads).tolist() for axis in "XYZW"]
    matrices = np.moveaxis(np.array(rows, float), 0, 1)
    world = np.column_stack([np.asarray(voxels) + 1, np.ones(len(voxels))])
    return np.moveaxis(matrices @ world.T, 0, 2)[:2]


def columns_and_rows_by_relion5(tables, name, voxels, image_size):
    """Where RELION 5 sees the voxels: turned about W//2, H//2, D//2, put on cols//2, rows//2."""
    entry = tables["global"].set_index("rlnTomoName").loc[name]
    pixel_angstrom = entry["rlnTomoTiltSeriesPixelSize"]
    table = starfile.read(entry["rlnTomoTiltSeriesStarFile"], always_dict=True)[name]
    assert not table["rlnTomoXTilt"].any()
    assert not table["rlnTomoZRot"].any()
    tilt_rad = np.radians(table["rlnTomoYTilt"].to_numpy())
    half = np.array([entry[f"rlnTomoSize{axis}"] // 2 for axis in "XYZ"])
    x, y, z = (np.asarray(voxels) - half).T[:, :, None]
    column = image_size[0] // 2 + table["rlnTomoXShiftAngst"].to_numpy() / pixel_angstrom
    row = image_size[1] // 2 + table["rlnTomoYShiftAngst"].to_numpy() / pixel_angstrom
    return np.array([column + x * np.cos(tilt_rad) + z * np.sin(tilt_rad), row + y + 0 * tilt_rad])


@pytest.mark.parametrize(
    ("n_cols", "binning", "rows", "cor_px", "theta_deg"),
    [
        (72, 1, "all", 33.4, np.linspace(0, 180, 9)),
        (73, 1, [3, 56], 38.85, np.linspace(170, -10, 9)),
        (72, 2, [3, 56], 33.4, np.linspace(0, 360, 9)),
        (73, 2, "all", 38.85, np.linspace(5, 185, 9)),
        (74, 2, [2, 58], 34.3, np.linspace(180, 0, 9)),
        (77, 3, [1, 58], 40.2, np.array([0.0, 90, 45, 135, 20])),
    ],
)
def test_beads_lie_where_both_relions_look(campaign, n_cols, binning, rows, cor_px, theta_deg):
    beads = np.array([[45.3, 12.2, 28.0], [27.0, 30.0, 33.6], [36.0, 47.4, 44.8]])
    images = project_beads(beads, np.radians(theta_deg), cor_px, (60, n_cols))
    write_scan("bead_01.h5", images, theta_deg)
    stack, meta = "results/relion/stacks/bead_01.mrcs", "results/relion/stacks/bead_01.json"
    export_stack("bead_01.h5", stack, meta, binning=binning, rows=rows, pixel_size_um=0.65)
    write_json({"bead_01": {"cor_px": cor_px, "source": "manual"}}, "results/cor.json")
    export_star({"bead_01": meta}, {"bead_01": stack}, "results/cor.json", "results/relion")

    tables = starfile.read("results/relion/tomograms.star", always_dict=True)
    (entry,) = tables["global"].to_dict("records")
    written = mrcfile.read(entry["rlnTomoTiltSeriesName"])
    assert written.shape[0] == entry["rlnTomoFrameCount"] == len(tables["bead_01"])
    assert written.shape[2] % 2 == entry["rlnTomoSizeX"] % 2 == 0
    assert entry["rlnTomoTiltSeriesPixelSize"] == 6500 * binning

    # The same beads in the volume that the binned data make: axis at (n//2, n//2 - 1) in both.
    n_binned = n_cols // binning
    first = 0 if rows == "all" else rows[0]
    x = (beads[:, 0] - n_cols // 2) / binning + n_binned // 2
    y = (beads[:, 1] - first - (binning - 1) / 2) / binning
    z = (beads[:, 2] - (n_cols // 2 - 1)) / binning + n_binned // 2 - 1
    voxels = np.column_stack([x, y, z])
    found = np.empty((2, len(beads), len(theta_deg)))
    for i, j in np.ndindex(found.shape[1:]):
        top, bottom = (max(0, round(y[i] + step / binning)) for step in (-8, 9))
        column, row = centroid_px(written[j, top:bottom], floor=0.01)
        found[:, i, j] = column, row + top
    by_relion4 = columns_and_rows_by_relion4(tables, "bead_01", voxels)
    by_relion5 = columns_and_rows_by_relion5(tables, "bead_01", voxels, written.shape[:0:-1])
    assert np.abs(by_relion4 - found).max() < 0.03
    assert np.abs(by_relion5 - found).max() < 0.03


@pytest.mark.parametrize(("n_cols", "binning"), [(73, 1), (74, 2)])
def test_relion_looks_where_full_recon_puts_the_bead(campaign, n_cols, binning):
    theta_deg, cor_px, rows = np.linspace(180, 0, 121), 34.3, [4, 19]
    images = 0.2 * project_beads([[45.0, 12.2, 30.0]], np.radians(theta_deg), cor_px, (24, n_cols))
    write_scan("bead.h5", images, theta_deg)
    full_recon("bead.h5", "bead_rec.h5", cor_px=cor_px, rows=rows, binning=binning, device="cpu")
    with h5py.File("bead_rec.h5") as file:
        volume = file["exchange/data"][()]
    x, z = centroid_px(volume.max(axis=0))
    y = centroid_px(volume.max(axis=1))[1]

    export_stack("bead.h5", "bead.mrcs", "bead.json", binning=binning, rows=rows)
    write_json({"bead": {"cor_px": cor_px, "source": "auto"}}, "cor.json")
    export_star({"bead": "bead.json"}, {"bead": "bead.mrcs"}, "cor.json", "relion")
    tables = starfile.read("relion/tomograms.star", always_dict=True)
    written = mrcfile.read("bead.mrcs")
    found = np.array([centroid_px(image, floor=0.01) for image in written]).T[:, None]
    by_relion4 = columns_and_rows_by_relion4(tables, "bead", [[x, y, z]])
    by_relion5 = columns_and_rows_by_relion5(tables, "bead", [[x, y, z]], written.shape[:0:-1])
    assert np.abs(by_relion4 - found).max() < 0.1
    assert np.abs(by_relion5 - found).max() < 0.1


def test_the_numbers_of_the_worked_example(campaign):
    tables = export(["tooth"], n_rows=64, n_cols=100)
    # theta 30 degrees, COR 47.25, axis at (50, 49), 100 x 64 images.
    row = tables["tooth"].iloc[1]
    expected = {
        "rlnTomoProjX": [0.866025, 0, -0.5, 28.082704],
        "rlnTomoProjY": [0, 1, 0, -1],
        "rlnTomoProjZ": [0.5, 0, 0.866025, -68.801270],
        "rlnTomoProjW": [0, 0, 0, 1],
    }
    for label, values in expected.items():
        assert " " not in row[label]
        assert json.loads(row[label]) == pytest.approx(values, abs=1e-6)


def test_global_is_what_relion_wants(campaign):
    tables = export(["tooth"], n_cols=101, n_rows=5)
    assert tables["global"].to_dict("records") == [
        {
            "rlnTomoName": "tooth",
            "rlnTomoTiltSeriesName": "results/relion/stacks/tooth.mrcs",
            "rlnTomoTiltSeriesStarFile": "results/relion/tilt_series/tooth.star",
            "rlnTomoFrameCount": 3,
            "rlnTomoSizeX": 100,
            "rlnTomoSizeY": 5,
            "rlnTomoSizeZ": 100,
            "rlnTomoHand": -1,
            "rlnTomoTiltSeriesPixelSize": 6500,
            "rlnVoltage": 25,
            "rlnSphericalAberration": 0,
            "rlnAmplitudeContrast": 1,
            "rlnTomoImportFractionalDose": 0,
        }
    ]


def test_tilt_tables_switch_the_ctf_off_and_name_the_angle(campaign):
    tables = export(["tooth"])
    angles = starfile.read("results/relion/tilt_series/tooth.star", always_dict=True)["tooth"]
    for table in (tables["tooth"], angles):
        for label in ("DefocusU", "DefocusV", "DefocusAngle", "MicrographPreExposure"):
            assert table[f"rln{label}"].tolist() == [0, 0, 0]
        assert table["rlnCtfScalefactor"].tolist() == [1, 1, 1]
    assert angles["rlnTomoNominalStageTiltAngle"].tolist() == pytest.approx([0, 30, 60])
    assert angles["rlnTomoYTilt"].tolist() == pytest.approx([0, -30, -60])


def test_tables_follow_in_the_order_of_global(campaign):
    tables = export(["b_2", "a_1", "0042", "c_3"])
    assert tables["global"]["rlnTomoName"].tolist() == ["0042", "a_1", "b_2", "c_3"]
    assert list(tables) == ["global", "0042", "a_1", "b_2", "c_3"]


def test_names_relion_refuses_are_read_through_links(campaign):
    scans = ["sample_1", "zwei Zähne @2", "data_1"]
    names = tomo_names(scans)
    tables = export(scans)
    entries = tables["global"].set_index("rlnTomoName")["rlnTomoTiltSeriesName"]
    assert entries["sample_1"] == "results/relion/stacks/sample_1.mrcs"
    for scan in scans[1:]:
        assert entries[names[scan]] == f"results/relion/links/{names[scan]}.mrcs"
        assert (campaign / entries[names[scan]]).samefile(f"results/relion/stacks/{scan}.mrcs")
    rows = read_tsv("results/relion/names.tsv", COLUMNS)
    assert [tuple(row.values()) for row in rows] == sorted(names.items())


def test_nothing_stays_of_a_scan_that_left(campaign):
    export(["stays", "leaves us"])
    export(["stays"])
    relion = campaign / "results/relion"
    assert [path.name for path in (relion / "tilt_series").glob("[!.]*")] == ["stays.star"]
    assert list((relion / "links").iterdir()) == []


def test_the_same_campaign_gives_the_same_bytes(campaign):
    export(["a_1", "a 2"])
    files = [path for path in campaign.glob("results/relion/**/*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    export(["a 2", "a_1"])
    assert {path: path.read_bytes() for path in files} == before


def test_a_campaign_without_resolved_scans_gives_an_empty_set(campaign):
    tables = export([])
    assert list(tables) == ["global"]
    assert len(tables["global"]) == 0
    assert "rlnTomoTiltSeriesStarFile" in tables["global"]
    assert (campaign / "results/relion/names.tsv").read_text() == "scan\trlnTomoName\n"


def test_a_new_cor_moves_only_the_last_column_of_the_matrix(campaign):
    before, after = export(["a"]), export(["a"], cor_px=48.75)
    for old, new in zip(before["a"]["rlnTomoProjX"], after["a"]["rlnTomoProjX"], strict=True):
        difference = np.subtract(json.loads(new), json.loads(old))
        assert difference == pytest.approx([0, 0, 0, 1.5], abs=1e-6)


def test_a_stack_that_is_not_the_one_described_is_refused(campaign):
    files = {"a": write_stack("a")}
    write_stack("b", n_images=2)
    write_json({"a": {"cor_px": 50, "source": "auto"}}, "results/cor.json")
    (campaign / "results/relion/stacks/b.mrcs").replace(files["a"][0])
    with pytest.raises(
        TomopipeError, match=r"a.mrcs: expected .*\[3, 4, 100\].*found \[2, 4, 100\]"
    ):
        export_star(
            {"a": files["a"][1]}, {"a": files["a"][0]}, "results/cor.json", "results/relion"
        )
    assert not (campaign / "results/relion/tomograms.star").exists()


def test_a_scan_without_cor_is_named(campaign):
    stack, meta = write_stack("a")
    write_json({}, "results/cor.json")
    with pytest.raises(TomopipeError, match="expected a COR of each scan exported; none of a"):
        export_star({"a": meta}, {"a": stack}, "results/cor.json", "results/relion")
