"""Files that HDF5 files take data from: which they are, and that another one is noticed."""

import os

import h5py
import numpy as np
import pytest

from tests.phantoms import write_scan
from tomopipe.campaign.campaign import campaign_from_data, read_inventory
from tomopipe.run.decisions import Decisions
from tomopipe.run.expected import expected_inventory
from tomopipe.scans.linked import linked_files

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
    assert list(linked_files("raw/link_1.h5")) == ["camera/link_1.h5"]
    parts = [f"camera/part{number}.h5" for number in range(5)]
    assert list(linked_files("raw/virtual_1.h5")) == [*parts, "camera/virtual_1.h5"]
    assert linked_files("raw/own_1.h5") == {}
    os.unlink("camera/part3.h5")
    found = linked_files("raw/virtual_1.h5")
    assert found["camera/part3.h5"] is None
    assert found["camera/part2.h5"][0] == os.path.getsize("camera/part2.h5")
    assert linked_files("raw/nowhere.h5") == {}


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
    assert sorted(linked_files(tmp_path / "a.h5")) == [
        str(tmp_path / "frames.h5"), str(tmp_path / "more.h5"),
    ]  # fmt: skip


def test_a_target_that_was_replaced_is_another_raw_file(folder):
    def campaign():
        return campaign_from_data({"campaign": {"scans": ["raw/*.h5"]}}, folder)

    os.makedirs("seen")
    before = dict(expected_inventory(campaign(), folder / "seen"))
    assert not campaign().has_other_links(before)
    assert before["own_1"]["linked"] == ""
    target = folder / "camera" / "link_1.h5"
    decisions = Decisions(campaign())
    signature = {name: [decisions.raw(name, before)] for name in before}
    decisions.record.save()
    content, times = target.read_bytes(), target.stat()
    with h5py.File(target, "r+") as file:  # another one of equal size, and older, as a backup
        data = next(iter(file.values()))
        data[...] = data[...] + 1
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns - 10**12))
    assert campaign().has_other_links(before)
    after = read_inventory(folder / "seen" / "inventory.tsv")
    after = dict(expected_inventory(campaign(), folder / "seen"))
    assert not campaign().has_other_links(after)
    decisions = Decisions(campaign())
    for name in before:
        signature[name].append(decisions.raw(name, after))
    assert signature["link_1"][0] != signature["link_1"][1]
    for name in ("virtual_1", "own_1"):
        assert signature[name][0] == signature[name][1]
    # a scan of one file is known by that file, whatever the inventory knows
    assert Decisions(campaign()).raw("own_1") == signature["own_1"][0]
    assert target.stat().st_size == len(content)
    assert np.array_equal(sorted(before), ["link_1", "own_1", "virtual_1"])
