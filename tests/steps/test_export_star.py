import json

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from tests.beads import centroid_px, project_beads, write_scan
from tests.phantoms import sphere
from tests.phantoms import write_scan as write_phantom
from tests.step_calls import export_stack, export_star, volume_of
from tomopipe.campaign.files import NAMES_COLUMNS
from tomopipe.campaign.results import read_tsv
from tomopipe.errors import TomopipeError
from tomopipe.relion.mrc import StackFile
from tomopipe.relion.star import tomo_names
from tomopipe.storage.atomic import write_json
from tomopipe.storage.checksums import checksum_of, matches

TEXT = ["rlnTomoName"]


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """An empty campaign folder, where RELION and the workflow run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_stack(
    scan, *, n_images=3, n_cols=100, n_rows=4, pixel_size_um=0.65, energy_kev=25.0, binning=1
):
    """Write a stack of zeros and its JSON as export_stack would; return both paths."""
    stack, meta = f"results/relion/stacks/{scan}.mrcs", f"results/relion/stacks/{scan}.json"
    shape = [n_images, n_rows // binning, n_cols // binning // 2 * 2]
    of_stack = {
        "binning": binning, "first_col": 0, "first_row": 0, "n_cols": n_cols, "n_rows": n_rows,
        "energy_kev": {"source": "config", "value": energy_kev},
        "pixel_size_um": {"source": "config", "value": pixel_size_um},
        "theta_deg": np.linspace(0, 60, n_images).tolist(),
        "full_turn": False, "stack_shape": shape, "warnings": [],
    }  # fmt: skip
    write_json(of_stack, meta)
    writer = StackFile(stack, shape, pixel_size_um * binning * 1e4)
    writer.write(np.zeros(shape, np.float32), 0, 0)
    writer.finish()
    return stack, meta


def export(scans, cor_px=47.25, each=None, volumes=None, other_rows=(), **options):
    """Export some scans, all with one COR, stacks and all; `each` has options of single ones."""
    files = {scan: write_stack(scan, **options | (each or {}).get(scan, {})) for scan in scans}
    write_json({scan: {"cor_px": cor_px, "source": "auto"} for scan in scans}, "results/cor.json")
    stacks, metas = ({scan: both[n] for scan, both in files.items()} for n in (0, 1))
    more = {"volumes": volumes or {}, "other_rows": other_rows}
    export_star(metas, stacks, "results/cor.json", "results/relion", **more)
    return starfile.read("results/relion/tomograms.star", always_dict=True, parse_as_string=TEXT)


def export_one(raw, cor_px, **options):
    """Export a raw scan alone; return its images and tables."""
    scan = raw.partition(".")[0]
    stack, meta = f"results/relion/stacks/{scan}.mrcs", f"results/relion/stacks/{scan}.json"
    export_stack(raw, stack, meta, **options)
    write_json({scan: {"cor_px": cor_px, "source": "manual"}}, "results/cor.json")
    export_star({scan: meta}, {scan: stack}, "results/cor.json", "results/relion")
    tables = starfile.read("results/relion/tomograms.star", always_dict=True)
    return mrcfile.read(tables["global"]["rlnTomoTiltSeriesName"][0]), tables


def write_volume(path, size, voxel_angstrom):
    """Write an MRC volume of (x, y, z) voxels."""
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.zeros(size[::-1], np.int8))
        file.set_volume()
        file.voxel_size = voxel_angstrom
    return path


def columns_and_rows_by_relion4(tables, name, voxels):
    """Where RELION 4 sees the voxels: P times (voxel + 1)."""
    rows = [tables[name][f"rlnTomoProj{axis}"].map(json.loads).tolist() for axis in "XYZW"]
    matrices = np.moveaxis(np.array(rows, float), 0, 1)
    world = np.column_stack([np.asarray(voxels) + 1, np.ones(len(voxels))])
    return np.moveaxis(matrices @ world.T, 0, 2)[:2]


def columns_and_rows_by_relion5(tables, name, voxels, image_size):
    """Where RELION 5 sees the voxels: rotated about W//2, H//2, D//2, put on cols//2, rows//2."""
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


@pytest.mark.parametrize("scans", [["one_001"], ["b_2", "a_1", "0042", "c_3"]])
def test_tables_follow_in_the_order_of_global_which_relion_5_reads_alone(campaign, scans):
    tables = export(scans)
    assert list(tables) == ["global", *sorted(scans)]
    alone = starfile.read("results/relion/tomograms_relion5.star", parse_as_string=TEXT)
    assert alone["rlnTomoName"].tolist() == sorted(scans)
    pd.testing.assert_frame_equal(alone, tables["global"])


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
    options = {"binning": binning, "rows": rows, "pixel_size_um": 0.65}
    written, tables = export_one("bead_01.h5", cor_px, **options)
    (entry,) = tables["global"].to_dict("records")
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
            "rlnOpticsGroupName": "px6500A_25keV",
            "rlnTomoTiltSeriesPixelSize": 6500,
            "rlnMicrographOriginalPixelSize": 6500,
            "rlnTomoTomogramBinning": 1,
            "rlnVoltage": 25,
            "rlnSphericalAberration": 0,
            "rlnAmplitudeContrast": 1,
            "rlnTomoImportFractionalDose": 0,
        }
    ]


def test_one_optics_group_for_each_pixel_size_and_voltage(campaign, caplog):
    each = {"b": {"pixel_size_um": 6.5}, "c": {"energy_kev": 30.0}}
    each |= {"e": {"binning": 2}, "f": {"pixel_size_um": 1.3}}
    table = export("abcdef", each=each)["global"].set_index("rlnTomoName")
    groups = table["rlnOpticsGroupName"]
    assert groups["a"] == groups["d"]
    assert groups["e"] == groups["f"]  # as large, whatever the camera and the binning
    assert groups.nunique() == 4
    for _, members in table.groupby("rlnOpticsGroupName"):
        assert members["rlnTomoTiltSeriesPixelSize"].nunique() == 1
        assert members["rlnVoltage"].nunique() == 1
    original = table["rlnMicrographOriginalPixelSize"].tolist()
    assert original == [6500, 65000, 6500, 6500, 6500, 13000]
    assert "4 optics groups" in caplog.text
    assert "px65000A_25keV: b" in caplog.text
    # the name of a group does not hang on the other scans
    caplog.clear()
    assert export(["c"], each=each)["global"]["rlnOpticsGroupName"].tolist() == [groups["c"]]
    assert "optics group" not in caplog.text


def test_volumes_are_named_where_they_are_those_of_the_stack(campaign, caplog):
    scans = ["a", "b", "c", "d", "e", "f g", "h"]
    sizes = {
        "a": ((101, 4, 101), 6500),
        "b": ((50, 2, 50), 13000),  # binned
        "c": ((80, 4, 80), 6500),  # cropped
        "f g": ((101, 4, 101), 0),  # does not tell its voxels
        "h": ((101, 4, 101), 6500),
    }
    volumes = {scan: f"results/{scan}_rec.mrc" for scan in scans}
    write_volume(write_stack("a")[0], (1, 1, 1), 1)  # makes the folder
    for scan, size in sizes.items():
        write_volume(volumes[scan], *size)
    (campaign / "results/d_rec.mrc").write_bytes(b"no volume")
    table = export(scans, n_cols=101, volumes=volumes, other_rows=["h"])["global"]
    table = table.set_index("rlnTomoName")
    names = tomo_names(scans)
    link = f"results/relion/links/{names['f g']}_rec.mrc"
    found = table["rlnTomoReconstructedTomogram"].fillna("None")
    expected = dict.fromkeys(scans, "None") | {scan: volumes[scan] for scan in "ab"} | {"f g": link}
    assert {scan: found[names[scan]] for scan in scans} == expected
    assert (campaign / link).samefile(campaign / volumes["f g"])
    assert table["rlnTomoTomogramBinning"][["a", "b", "c"]].tolist() == [1, 2, 1]
    assert "c_rec.mrc: expected the size (x, y, z) (101, 4, 101)" in caplog.text
    assert "d_rec.mrc: not an MRC volume" in caplog.text
    assert "h_rec.mrc has other rows" in caplog.text
    # axis (50, 49) of 101 and (25, 24) of 50: twice (25, 24) is one off in z; rows 0 and 1 are 0.5
    assert "b_rec.mrc: a voxel has 2 pixels of the stack" in caplog.text
    assert "(x, z, y) 0, 1, 0.5 pixels" in caplog.text
    assert "rlnTomoReconstructedTomogram" not in export(["e"], volumes=volumes)["global"]


def test_tilt_tables_switch_the_ctf_off_and_name_the_angle(campaign):
    tables = export(["tooth"])
    angles = starfile.read("results/relion/tilt_series/tooth.star", always_dict=True)["tooth"]
    for table in (tables["tooth"], angles):
        for label in ("DefocusU", "DefocusV", "DefocusAngle", "MicrographPreExposure"):
            assert table[f"rln{label}"].tolist() == [0, 0, 0]
        assert table["rlnCtfScalefactor"].tolist() == [1, 1, 1]
    assert angles["rlnTomoNominalStageTiltAngle"].tolist() == pytest.approx([0, 30, 60])
    assert angles["rlnTomoYTilt"].tolist() == pytest.approx([0, -30, -60])


def test_names_relion_refuses_are_read_through_links(campaign):
    scans = ["sample_1", "zwei Zähne @2", "data_1"]
    names = tomo_names(scans)
    tables = export(scans)
    entries = tables["global"].set_index("rlnTomoName")["rlnTomoTiltSeriesName"]
    assert entries["sample_1"] == "results/relion/stacks/sample_1.mrcs"
    for scan in scans[1:]:
        assert entries[names[scan]] == f"results/relion/links/{names[scan]}.mrcs"
        assert (campaign / entries[names[scan]]).samefile(f"results/relion/stacks/{scan}.mrcs")
    rows = read_tsv("results/relion/names.tsv", NAMES_COLUMNS)
    assert [tuple(row.values()) for row in rows] == sorted(names.items())


def test_nothing_stays_of_a_scan_that_left(campaign):
    export(["stays", "leaves us"])
    export(["stays"])
    relion = campaign / "results/relion"
    assert [path.name for path in (relion / "tilt_series").glob("[!.]*")] == ["stays.star"]
    assert list((relion / "links").iterdir()) == []


def test_tilt_series_that_are_right_stay_the_files_that_they_are(campaign):
    """A set of thousands is not written again for one COR; a file that was damaged is."""
    export(["a", "b", "c"])
    folder = campaign / "results/relion/tilt_series"
    before = {file.name: (file.stat().st_ino, file.read_bytes()) for file in folder.glob("*.star")}
    (folder / "b.star").write_bytes(before["b.star"][1][:-9])
    (folder / "c.star").rename(campaign / "moved.star")
    (folder / "c.star").symlink_to(campaign / "moved.star")
    export(["a", "b", "c"])
    after = {file.name: (file.stat().st_ino, file.read_bytes()) for file in folder.glob("*.star")}
    assert after["a.star"] == before["a.star"]
    assert not (folder / "c.star").is_symlink()
    assert [content for _, content in after.values()] == [content for _, content in before.values()]
    assert matches(folder, checksum_of(folder)) == ""
    export(["a", "b", "c"], cor_px=48.0)
    assert all(file.read_bytes() != before[file.name][1] for file in folder.glob("*.star"))


def test_only_tables_that_change_are_made_by_starfile(campaign, monkeypatch):
    """A table of the last set that was damaged, cut or exchanged is made again, too."""
    star, made = campaign / "results/relion/tomograms.star", []
    to_string = starfile.to_string
    monkeypatch.setattr(
        starfile,
        "to_string",
        lambda tables, **more: made.extend(tables) or to_string(tables, **more),
    )

    def names_made(**changed):
        made.clear()
        export(["a", "b", "c"], each={"c": {"n_cols": 80}} | changed)
        return [name for name in made if name != "global"]

    assert names_made() == ["a", "a", "b", "b", "c", "c"]
    right = star.read_bytes()
    assert names_made() == []
    assert names_made(b={"n_cols": 90}) == ["b", "b"]
    assert names_made() == ["b", "b"]
    assert star.read_bytes() == right
    start = right.index(b"data_c\n")
    exchanged = right.replace(b"data_b\n", b"data_x\n").replace(b"data_c\n", b"data_b\n")
    for damaged, expected in (
        (right[:start] + right[start:].replace(b"[1,", b"[2,", 1), "c"),
        (right[:-300], "c"),
        (exchanged, "bc"),
        (b"", "abc"),
    ):
        star.write_bytes(damaged)
        assert names_made() == sorted(2 * expected)
        assert star.read_bytes() == right


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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content, other: other, r"expected .*\[3, 4, 100\].*found \[2, 4, 100\]"),
        (lambda content, other: content[:-4], r"5824 bytes; found .* 5820 bytes"),
        (lambda content, other: b"text" * 500, "not an MRC stack"),
    ],
    ids=["other", "cut", "text"],
)
def test_a_stack_that_is_not_the_one_described_is_refused(campaign, spoil, message):
    stack, meta = write_stack("a")
    other, _ = write_stack("b", n_images=2)
    write_json({"a": {"cor_px": 50, "source": "auto"}}, "results/cor.json")
    path = campaign / stack
    path.write_bytes(spoil(path.read_bytes(), (campaign / other).read_bytes()))
    with pytest.raises(TomopipeError, match=f"a.mrcs: .*{message}"):
        export_star({"a": meta}, {"a": stack}, "results/cor.json", "results/relion")
    assert not (campaign / "results/relion/tomograms.star").exists()


def test_a_scan_whose_stack_failed_is_left_out(campaign, caplog):
    alone = export(["a"])
    expected = (campaign / "results/relion/tomograms.star").read_bytes()
    files = {"a": write_stack("a"), "b 2": write_stack("b 2")}
    write_json({scan: {"cor_px": 47.25, "source": "auto"} for scan in files}, "results/cor.json")
    (campaign / files["b 2"][0]).write_bytes(b"")
    write_json({"failed": "damaged"}, files["b 2"][1])
    stacks, metas = ({scan: both[n] for scan, both in files.items()} for n in (0, 1))
    export_star(metas, stacks, "results/cor.json", "results/relion")
    assert list(alone["global"]["rlnTomoName"]) == ["a"]
    assert (campaign / "results/relion/tomograms.star").read_bytes() == expected
    assert (campaign / "results/relion/names.tsv").read_text() == "scan\trlnTomoName\na\ta\n"
    assert not (campaign / "results/relion/links").exists()
    assert "b 2 is not in the set: damaged" in caplog.text


def test_a_scan_without_cor_is_named(campaign):
    stack, meta = write_stack("a")
    write_json({}, "results/cor.json")
    with pytest.raises(TomopipeError, match="expected a COR of each exported scan; missing: a"):
        export_star({"a": meta}, {"a": stack}, "results/cor.json", "results/relion")


# Over 360 degrees the beads beyond the near edge of the detector are in the field of view, too.
THETA_360_DEG = np.linspace(0, 360, 180, endpoint=False)
THETA_180_DEG = np.linspace(0, 180, 121)
SCANS = {
    "180 degrees": ({"n_cols": 73, "theta_deg": THETA_180_DEG, "cor_px": 34.3}, 1),
    "180 degrees, binned": ({"n_cols": 74, "theta_deg": THETA_180_DEG[::-1], "cor_px": 34.3}, 2),
    "half acquisition": ({"n_cols": 64, "theta_deg": THETA_360_DEG, "cor_px": 55.4}, 1),
    "half acquisition, binned": ({"n_cols": 67, "theta_deg": THETA_360_DEG, "cor_px": 10.7}, 2),
}


@pytest.mark.parametrize("name", SCANS)
def test_beads_picked_in_the_volume_are_found_in_the_images(campaign, name):
    """From voxels of some rows through the written geometry to the stack: to 0.3 of its pixels."""
    options, binning = SCANS[name]
    cor_px, n_cols, rows = options["cor_px"], options["n_cols"], [2, 41]
    is_half = name.startswith("half acquisition")
    # from the axis; of a half acquisition all but the second lie beyond the near edge at some angle
    reach = 44 if is_half else 26
    beads = [(0.9, 5, 8.3), (0.3, -9, 21.2), (-0.55, 12, 34.4)]
    write_phantom(
        campaign / "bead.h5", n_rows=44, **options,
        phantom=[sphere(share * reach, y, row, 2.5 * binning, 0.02) for share, y, row in beads],
    )  # fmt: skip
    chosen = {"binning": binning, "rows": rows}
    volume = volume_of("bead.h5", "bead_rec.h5", cor_px=cor_px, device="cpu", **chosen)
    n_wide = (2 if is_half else 1) * (n_cols // binning)
    assert volume.shape == (40 // binning, n_wide, n_wide)
    in_rows = [(share, y, row - rows[0]) for share, y, row in beads]
    voxels = [pick(volume, bead, reach, n_wide, binning) for bead in in_rows]

    images, tables = export_one("bead.h5", cor_px, max_tilts=45, **chosen)
    (entry,) = tables["global"].to_dict("records")
    size = [entry[f"rlnTomoSize{axis}"] for axis in "XYZ"]
    assert size == [n_wide // 2 * 2, 40 // binning, n_wide // 2 * 2]
    by_relion4 = columns_and_rows_by_relion4(tables, "bead", voxels)
    by_relion5 = columns_and_rows_by_relion5(tables, "bead", voxels, images.shape[:0:-1])
    assert by_relion4 == pytest.approx(by_relion5, abs=1e-5)
    n_seen = 0
    for bead, tilt in np.ndindex(by_relion4.shape[1:]):
        column, row = by_relion4[:, bead, tilt]
        if not 4 <= column < images.shape[2] - 5:
            continue  # of a half acquisition, where the bead is off the detector
        # each bead has rows of its own
        top, bottom = (max(0, round(row + step)) for step in (-3.4, 4.4))
        found_column, found_row = centroid_px(images[tilt, top:bottom], floor=0.3)
        assert found_column == pytest.approx(column, abs=0.3)
        assert found_row + top == pytest.approx(row, abs=0.3)
        n_seen += 1
    assert n_seen >= (0.5 if is_half else 1) * by_relion4[0].size
    assert (by_relion4[0] < 0).any() or (by_relion4[0] > images.shape[2]).any() or not is_half


def pick(volume, bead, reach, n_wide, binning):
    """Find the centre of a bead in the volume, as a person would: x, detector row, y."""
    share, y_px, row = bead
    x, y, z = share * reach / binning, y_px / binning, row / binning
    expected = [z, y + n_wide // 2 - 1, x + n_wide // 2]
    off_px = np.indices(volume.shape).transpose(1, 2, 3, 0) - expected
    weight = np.where((np.abs(off_px) < 5).all(axis=3), volume, 0)
    weight = np.where(weight > 0.5 * weight.max(), weight, 0)
    z, y, x = (float((weight * index).sum() / weight.sum()) for index in np.indices(volume.shape))
    return x, z, y


def test_the_set_of_a_half_acquisition_is_as_wide_as_its_volume(campaign):
    theta_deg = np.linspace(0, 360, 420, endpoint=False)
    write_phantom("a.h5", n_cols=96, cor_px=81.3, n_rows=4, theta_deg=theta_deg, phantom="rock")
    export_stack("a.h5", "a.mrcs", "a.json", binning=1, max_tilts=20)
    meta = json.loads((campaign / "a.json").read_text())
    assert meta["full_turn"] is True
    write_json({"a": {"cor_px": 81.3, "source": "auto"}}, "cor.json")

    def width(**options):
        export_star({"a": "a.json"}, {"a": "a.mrcs"}, "cor.json", "relion", **options)
        tables = starfile.read("relion/tomograms.star", always_dict=True)
        matrix = [json.loads(tables["a"][f"rlnTomoProj{axis}"][0]) for axis in "XZ"]
        # at 0 degrees column = COR + x - axis, depth = z - axis (world = voxel + 1)
        axis_xz = round(81.3 - matrix[0][3] - 1), round(-matrix[1][3] - 1)
        return int(tables["global"]["rlnTomoSizeX"][0]), axis_xz

    assert width() == (192, (96, 95))
    assert width(half_acquisition={"a": "yes"}) == (192, (96, 95))
    assert width(half_acquisition={"a": "no"}) == (96, (48, 47))
    assert width(half_acquisition={"b": "no"}) == (192, (96, 95))
    # 180 degrees are none, whatever is wanted: its volume is an error, and the set stays whole
    write_json(meta | {"full_turn": False}, "a.json")
    assert width(half_acquisition={"a": "yes"}) == (96, (48, 47))
