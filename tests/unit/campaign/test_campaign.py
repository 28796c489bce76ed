"""A campaign as read from its files: names, series, selected scans, donors, signatures."""

import os

import pytest

from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.campaign.reading import inventory_entries
from tomopipe.campaign.results import read_inventory, write_tsv
from tomopipe.campaign.series import Selected
from tomopipe.campaign.step_files import sidecar_of
from tomopipe.campaign.table import edit_table
from tomopipe.errors import TomopipeError
from tomopipe.reruns.target import Target

COLUMNS = ("scan", "path", "n_cols", "keep", "reason")


def raw(folder, *names, under="raw"):
    (folder / under).mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / under / name).write_bytes(b"x")


def campaign(folder, scans=("raw/*.h5",), **campaign_options):
    return campaign_from_data({"campaign": {"scans": list(scans), **campaign_options}}, folder)


def inventory(folder, found, **reasons):
    """Rows of scans that are kept unless they have a reason."""
    rows = [
        {
            "scan": name,
            "path": scan.path,
            "n_cols": "" if "broken" in reasons.get(name, "") else 100,
            "keep": name not in reasons,
            "reason": reasons.get(name, ""),
        }
        for name, scan in found.scans.items()
    ]
    write_tsv(rows, COLUMNS, folder / "inventory.tsv")
    return read_inventory(folder / "inventory.tsv")


def test_prefix_names_scan_and_series_and_folders_part_series(tmp_path):
    for day in ("day1", "day2"):
        raw(tmp_path, "s_1.h5", under=day)
    entries = [{"glob": f"{day}/*.h5", "prefix": f"{day}_"} for day in ("day1", "day2")]
    scans = campaign(tmp_path, entries).scans
    assert sorted(scans) == ["day1_s_1", "day2_s_1"]
    assert [scans[f"{day}_s_1"].series for day in ("day1", "day2")] == ["day1_s", "day2/day2_s"]


@pytest.mark.parametrize(
    ("patterns", "series"),
    [
        (["raw/*.h5"], {"raw": ""}),
        (["raw/*.h5", "elsewhere/*.h5"], {"raw": "", "elsewhere": "elsewhere/"}),
        (["a/raw/*.h5", "raw/*.h5"], {"a/raw": "", "raw": "./raw/"}),
        (["a/*/*.h5"], {"a/day1": "day1/", "a/day2": "day2/"}),
        (["a/**/*.h5"], {"a": "", "a/day1/x": "day1/x/"}),
        (["a/*/*.h5", "b/day1/*.h5"], {"a/day1": "a/day1/", "b/day1": "day1/"}),
    ],
)
def test_series_of_the_first_folder_are_bare_and_others_have_what_sets_them_apart(
    tmp_path, patterns, series
):
    for number, folder in enumerate(series):
        raw(tmp_path, f"s_{number}.h5", under=folder)
    found = campaign(tmp_path, patterns).scans
    assert {scan.path.removeprefix("./"): scan.series for scan in found.values()} == {
        f"{folder}/s_{number}.h5": f"{prefix}s"
        for number, (folder, prefix) in enumerate(series.items())
    }


def test_a_folder_added_later_renames_no_series_and_one_without_files_neither(tmp_path):
    for number, folder in enumerate(("x/raw", "y/raw", "z/raw")):
        raw(tmp_path, f"s_{number}.h5", under=folder)
    patterns, expected = ["none/*.h5"], {}
    for number, folder in enumerate(("x/raw", "y/raw", "z/raw")):
        patterns.append(f"{folder}/*.h5")
        expected[f"s_{number}"] = ("raw/s", "y/raw/s", "z/raw/s")[number]
        found = campaign(tmp_path, patterns).scans
        assert {name: scan.series for name, scan in found.items()} == expected


@pytest.mark.parametrize(
    ("name", "good", "said"),
    [
        ("x" * 20 + "_1", "x" * 19 + "_1", "ends in 'x' 20 times"),  # the series
        ("a1" + "0" * 20, "a1" + "0" * 19, "ends in '0' 20 times"),  # the scan
        ("a{b}_1", "good_1", "rename"),
        ("line\n_1", "good_1", "rename"),
        (os.fsdecode(b"bad\xff_1"), "good_1", "UTF-8"),
    ],
)
def test_names_no_wildcard_carries_are_refused_and_the_others_run(tmp_path, name, good, said):
    raw(tmp_path, f"{name}.h5", f"{good}.h5")
    found = campaign(tmp_path)
    assert list(found.scans) == [good]
    (entry,) = [entry for entry in inventory_entries(found) if entry["scan"] != good]
    assert said in entry["reason"]
    assert said in found.refused[0].refused


@pytest.mark.parametrize("name", ["größe 1_1", "a;b$c`d'e\"f=g_3", "x [1] *?_5", "a<b_7"])
def test_odd_names_are_scans(tmp_path, name):
    raw(tmp_path, f"{name}.h5")
    assert list(campaign(tmp_path).scans) == [name]


def test_two_files_of_one_name_are_both_refused(tmp_path):
    raw(tmp_path, "s_1.h5", "s_2.h5")
    (tmp_path / "s_1.h5").write_bytes(b"x")
    found = campaign(tmp_path, ["raw/*.h5", "s_1.h5"])
    assert list(found.scans) == ["s_2"]
    assert all("two files" in scan.refused for scan in found.refused)
    assert len(found.refused) == 2


def test_one_file_by_two_links_is_said_to_be_one(tmp_path):
    raw(tmp_path, "s_1.h5")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "s_1.h5").symlink_to(tmp_path / "raw" / "s_1.h5")
    found = campaign(tmp_path, ["raw/*.h5", "b/*.h5"])
    reasons = sorted(scan.refused for scan in found.refused)
    said = "one file twice, by links: also {}; list it once"
    assert reasons == [said.format(path) for path in ("b/s_1.h5", "raw/s_1.h5")]


def test_a_path_that_no_file_can_have_is_refused(tmp_path):
    raw(tmp_path, "s_1.h5")
    found = campaign(tmp_path, ["raw/*.h5", "raw/a\0.h5", "raw/[\0]*.h5"])
    assert list(found.scans) == ["s_1"]
    assert [scan.path for scan in found.refused] == ["raw/a\0.h5"]


def test_one_path_written_two_ways_is_one_scan(tmp_path):
    raw(tmp_path, "s_1.h5")
    entries = ["raw/*.h5", "./raw/s_1.h5", str(tmp_path / "raw" / "s_1.h5")]
    found = campaign(tmp_path, entries)
    assert [scan.path for scan in found.scans.values()] == ["raw/s_1.h5"]
    assert not found.refused


def test_plain_path_without_a_file_and_dangling_link_are_entries(tmp_path):
    raw(tmp_path)
    os.symlink("nowhere", tmp_path / "raw" / "dangling_1.h5")
    found = campaign(tmp_path, ["raw/*.h5", "raw/absent_1.h5"])
    assert sorted(found.scans) == ["absent_1", "dangling_1"]
    assert found.scans["dangling_1"].n_bytes is None


def test_a_table_that_is_a_link_to_nothing_is_named(tmp_path):
    raw(tmp_path, "s_1.h5")
    table = tmp_path / "scans.tsv"
    table.symlink_to("shared/scans.tsv")
    for use in (lambda: campaign(tmp_path), lambda: edit_table(table, {"s_1": {"cor_px": "5"}})):
        with pytest.raises(TomopipeError, match=r"a link to shared/scans\.tsv, which"):
            use()
    assert not (tmp_path / "shared").exists()


def test_who_is_in(tmp_path):
    raw(tmp_path, *(f"s_{i}.h5" for i in range(6)))
    (tmp_path / "scans.tsv").write_text(
        "scan\tselect\tcor_px\tnote\ns_1\tno\t12\t\ns_2\tyes\t\t\ns_3\tyes\t\t\ns_5\tyes\t\t\n"
    )
    found = campaign(tmp_path)
    rows = inventory(
        tmp_path, found, s_2="undersized", s_3="broken file", s_4="undersized", s_5="still written"
    )
    assert found.selected_scans(rows) == ["s_0", "s_2"]
    assert Selected(found, rows).series == {"s": ["s_0", "s_2"]}


def predicted(folder, scan):
    path = folder / "results" / "try_center" / scan / "center_of_rotation.txt"
    path.parent.mkdir(parents=True)
    return path


def test_members_have_manual_cors_and_donors(tmp_path):
    raw(tmp_path, "s_1.h5", "s_2.h5", "s_3.h5", "s_4.h5", "t_1.h5")
    (tmp_path / "scans.tsv").write_text(
        "scan\tselect\tcor_px\tnote\ns_1\tauto\t12.5\t\ns_2\tno\t13\t\ns_3\tno\t\t\ns_4\tno\tx\t\n"
    )
    predicted(tmp_path, "s_3").write_text("14.25\n")
    found = campaign(tmp_path)
    members = Selected(found, inventory(tmp_path, found)).members("s")
    assert [(m["scan"], m["select"], m["manual"], m["donor_px"]) for m in members] == [
        ("s_1", "in", "12.50", None),
        ("s_2", "donor", "", 13.0),
        ("s_3", "donor", "", 14.25),
    ]


def test_junk_in_the_cell_of_a_donor_does_not_hide_its_prediction(tmp_path):
    raw(tmp_path, "s_1.h5", "s_2.h5")
    (tmp_path / "scans.tsv").write_text("scan\tselect\tcor_px\ns_2\tno\t5000\n")
    text = predicted(tmp_path, "s_2")
    text.write_bytes(b"14.25\n")
    found = campaign(tmp_path)
    rows = inventory(tmp_path, found)
    assert [m["donor_px"] for m in Selected(found, rows).members("s")] == [None, 14.25]
    assert len(Selected(found, rows, lambda: {"s_2"}).members("s")) == 1  # another raw file
    text.write_bytes(b"\xff")
    assert len(Selected(found, rows).members("s")) == 1


def test_sidecars_go_beside_the_data_or_to_the_results(tmp_path):
    raw(tmp_path, "s_1.h5")
    assert sidecar_of(campaign(tmp_path), "s_1") == "raw/s_1.cor.json"
    (tmp_path / "raw").chmod(0o555)  # also for root
    assert sidecar_of(campaign(tmp_path), "s_1") == "results/sidecars/s_1.cor.json"
    (tmp_path / "raw").chmod(0o755)


@pytest.mark.parametrize("folder", ["Smith, J", "day<one>", "x" * 20])
def test_sidecars_of_a_folder_no_wildcard_carries_go_to_the_results(tmp_path, folder):
    raw(tmp_path, "s_1.h5", under=folder)
    found = campaign(tmp_path, [f"{folder}/*.h5"])
    assert sidecar_of(found, "s_1") == "results/sidecars/s_1.cor.json"


def tiff_folder(folder, name):
    raw(folder, *(f"{number}.tif" for number in range(3)), under=name)


def test_folders_are_scans_named_like_folders(tmp_path):
    for name in ("s_1", "s_2", "v1.5_3", "s_4.h5"):
        tiff_folder(tmp_path / "tiff", name)
    (tmp_path / "tiff" / "s_1.cor.json").write_text("{}")  # a sidecar is no folder
    found = campaign(tmp_path, ["tiff/*/"]).scans
    assert sorted(found) == ["s_1", "s_2", "s_4", "v1.5_3"]
    assert found["s_1"].path == "tiff/s_1"
    assert (found["s_2"].series, found["s_2"].index) == ("s", 2)
    assert sidecar_of(campaign(tmp_path, ["tiff/*/"]), "s_1") == "tiff/s_1.cor.json"


def contents(folder, **preprocess):
    """Tell the contents of two scans as a run that begins now finds them."""
    data = {"campaign": {"scans": ["tiff/*/", "pages/*.tif"]}, "preprocess": preprocess}
    found = campaign_from_data(data, folder)
    (folder / found.config.campaign.results).mkdir(exist_ok=True)
    target = Target(found)
    raw = [target.raw(scan) for scan in ("s_1", "p_1")]
    target.receipts.save()
    return raw


def test_each_file_of_a_folder_and_beside_a_file_of_pages_counts(tmp_path):
    tiff_folder(tmp_path / "tiff", "s_1")
    tiff_folder(tmp_path / "tiff" / "s_1", "flats")
    tiff_folder(tmp_path / "pages", "p_1_darks")
    raw(tmp_path, "p_1.tif", under="pages")
    (tmp_path / "pages" / "p_1.txt").write_text("0\n")
    before = contents(tmp_path)
    (tmp_path / "tiff" / "s_1" / "Thumbs.db").write_bytes(b"x")
    assert contents(tmp_path) == before
    (tmp_path / "tiff" / "s_1" / "flats" / "1.tif").write_bytes(b"yy")
    folder_changed = contents(tmp_path)
    assert [a == b for a, b in zip(before, folder_changed, strict=True)] == [False, True]
    (tmp_path / "tiff" / "s_1" / "2.tif").write_bytes(b"z")  # of equal size
    assert contents(tmp_path)[0] != folder_changed[0]
    for name, content in (("p_1.txt", "0\n1\n"), ("p_1_darks/0.tif", "yy")):
        last = contents(tmp_path)
        (tmp_path / "pages" / name).write_text(content)
        now = contents(tmp_path)
        assert now[0] == last[0]
        assert now[1] != last[1]


def test_flats_of_other_files_count_like_the_raw_file(tmp_path):
    tiff_folder(tmp_path / "tiff", "s_1")
    raw(tmp_path, "p_1.tif", under="pages")
    tiff_folder(tmp_path, "ff")
    (tmp_path / "ff.h5").write_bytes(b"x")
    options = {"flats": ["ff", "ff.h5"], "darks": "none"}
    before = contents(tmp_path, **options)
    assert before != contents(tmp_path)
    (tmp_path / "ff.h5").write_bytes(b"yy")
    second = contents(tmp_path, **options)
    (tmp_path / "ff" / "0.tif").write_bytes(b"yy")
    third = contents(tmp_path, **options)
    for old, new in ((before, second), (second, third)):
        assert not any(a == b for a, b in zip(old, new, strict=True))


def test_0000_of_the_esrf_is_no_number_of_a_scan(tmp_path):
    """Unless others of the name have other numbers: there the scans are counted from 0."""
    names = ["bone_001_0000", "bone_002_0000", "bone_010_0000", "run3_0000"]
    raw(tmp_path, *(f"{name}.h5" for name in names))

    def series():
        return {name: (s.series, s.index) for name, s in campaign(tmp_path).scans.items()}

    before = {
        "bone_001_0000": ("bone", 1), "bone_002_0000": ("bone", 2), "bone_010_0000": ("bone", 10),
    }  # fmt: skip
    assert series() == before | {"run3_0000": ("run", 3)}
    raw(tmp_path, "run3_0001.h5", "run3_0002.h5", "bone_1000_0001.h5")
    run = {f"run3_000{n}": ("run3", n) for n in range(3)}
    assert series() == before | run | {"bone_1000_0001": ("bone_1000", 1)}
