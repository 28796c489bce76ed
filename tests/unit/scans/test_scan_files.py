"""Files that HDF5 files take data from: which they are, and that another one is noticed."""

import json
import os

import h5py
import pytest

from tests.phantoms import write_scan
from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.campaign.reading import has_other_links
from tomopipe.reruns.settle import expected_inventory
from tomopipe.reruns.target import ALSO_READ, Target
from tomopipe.scans.raw_identity import fingerprint
from tomopipe.scans.scan_files import source_files

SIZE = {"n_cols": 16, "n_rows": 2, "n_angles": 5}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Scans whose frames are linked, virtual (by way of a linked file), and their own."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "camera").mkdir()
    for name in ("link_1", "virtual_1", "own_1"):
        path = tmp_path / "raw" / f"{name}.h5"
        write_scan(path, **SIZE)
        if name == "own_1":
            continue
        with h5py.File(path, "r+") as file, h5py.File(tmp_path / f"camera/{name}.h5", "w") as to:
            to["frames"] = file["exchange/data"][()]
            del file["exchange/data"]
            target = f"../camera/{name}.h5"
            file["exchange/data"] = h5py.ExternalLink(target, "/frames")
    with h5py.File(tmp_path / "camera" / "virtual_1.h5", "r+") as file:
        frames = file["frames"][()]
        del file["frames"]
        layout = h5py.VirtualLayout(frames.shape, frames.dtype)
        for number, frame in enumerate(frames):
            with h5py.File(tmp_path / "camera" / f"part{number}.h5", "w") as part:
                part["frame"] = frame[None]
            layout[number] = h5py.VirtualSource(f"part{number}.h5", "frame", (1, *frame.shape))
        file.create_virtual_dataset("frames", layout)
        file["mine"] = h5py.SoftLink("/frames")
        file["back"] = h5py.ExternalLink("../raw/virtual_1.h5", "/exchange")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_links_and_parts_are_found_however_deep(folder):
    assert source_files("raw/link_1.h5")[0] == ["camera/link_1.h5"]
    parts = [f"camera/part{number}.h5" for number in range(5)]
    assert source_files("raw/virtual_1.h5")[0] == [*parts, "camera/virtual_1.h5"]
    assert source_files("raw/own_1.h5")[0] == []
    os.unlink("camera/part3.h5")
    found = source_files("raw/virtual_1.h5")[0]
    assert {"camera/part3.h5", "camera/part2.h5"} <= {*found}
    assert source_files("raw/nowhere.h5")[0] == []


def test_names_that_are_not_utf_8(tmp_path):
    path = tmp_path / "a.h5"
    write_scan(path, **SIZE)
    with h5py.File(path, "r+") as file:
        group = file.create_group(b"H\xf6he")
        group.attrs[b"L\xe4nge"], group.attrs["mm"] = 1, 2
        group[b"\xff"] = group["x"] = 1
        group["data"] = h5py.ExternalLink("frames.h5", "/frames")
    assert source_files(path)[0] == [str(tmp_path / "frames.h5")]
    assert fingerprint(path).startswith("blocks:")


def test_groups_that_contain_each_other_and_are_nested_without_end_are_seen_once(tmp_path):
    # seen by every path, these would be 2^27 groups, and those that contain themselves without end
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file
        for _ in range(27):
            below = group.create_group("a")
            group["b"] = below
            group = below
        group["top"], group["itself"] = file["/"], group
        group["data"] = h5py.ExternalLink("frames.h5", "/frames")
        group = file.create_group("deep")
        for _ in range(1500):
            group = group.create_group("x")
        group["data"] = h5py.ExternalLink("more.h5", "/frames")
    assert sorted(source_files(tmp_path / "a.h5")[0]) == [
        str(tmp_path / "frames.h5"), str(tmp_path / "more.h5"),
    ]  # fmt: skip


@pytest.fixture
def elsewhere(folder):
    """The flats of own_1 are linked from one file into another; virtual_1 has values in a file."""
    with h5py.File("raw/own_1.h5") as scan, h5py.File("camera/pixels.h5", "w") as pixels:
        for kind in ("data", "data_white", "data_dark"):
            pixels[kind] = scan["exchange"][kind][()]
    with h5py.File("camera/flats.h5", "w") as flats:
        for kind in ("data", "data_white", "data_dark"):
            flats[f"exchange/{kind}"] = h5py.ExternalLink("pixels.h5", kind)
    with h5py.File("raw/link_1.h5", "r+") as file:
        frames = file["exchange/data"][()]
        del file["exchange/data"]
        where = [(str(folder / "camera" / "values.raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("exchange/data", frames.shape, frames.dtype, external=where)
    frames.tofile("camera/values.raw")
    return folder


def wanted_in(folder):
    """Return the campaign, its inventory and what its results should be made from."""
    data = {"scans": ["raw/*.h5"]}
    overrides = [{"scans": ["own_1"], "preprocess": {"flats": "camera/flats.h5"}}]
    campaign = campaign_from_data({"campaign": data, "overrides": overrides}, folder)
    rows = dict(expected_inventory(campaign, folder / "seen"))
    return campaign, rows, Target(campaign, rows)


@pytest.mark.parametrize(
    ("scan", "target"), [("own_1", "camera/pixels.h5"), ("link_1", "camera/values.raw")]
)
def test_what_flats_link_to_and_values_stored_elsewhere_are_raw_files_too(elsewhere, scan, target):
    campaign, rows, wanted = wanted_in(elsewhere)
    names = {name: [os.path.relpath(p) for p in json.loads(row["also_read"] or "{}")]
             for name, row in rows.items()}  # fmt: skip
    assert names == {
        "own_1": ["camera/pixels.h5"], "link_1": ["camera/values.raw"], "virtual_1": [],
    }  # fmt: skip
    assert os.path.relpath(wanted.raw_files(scan)[-1]) == target
    before = wanted.of_try_recon(scan), wanted.of_predict_cor(scan)
    wanted.receipts.save()
    os.utime(target, (1, 1))
    assert has_other_links(campaign, rows)
    with open(target, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\7")
    *_, wanted = wanted_in(elsewhere)
    after = wanted.of_try_recon(scan), wanted.of_predict_cor(scan)
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert before[0] | {ALSO_READ: None} == after[0] | {ALSO_READ: None}
