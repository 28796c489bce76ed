"""Entries of a file that are scans of their own: names, and what tells that one has changed."""

import h5py
import numpy as np
import pytest

from tests.nxtomo_files import frames_of, write_nxtomo
from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.campaign.views import Views, named
from tomopipe.scans import hdf5_scan
from tomopipe.scans.hdf5_scan import entries_of

N_FRAMES = len(frames_of())
LARGE = np.zeros((1, 200, 200), "u2") + frames_of()[:, :1, :1]  # 1.1 MB: it is sampled


def write(path, *numbers, data=None):
    for number in numbers:
        write_nxtomo(path, entry=f"/entry{number:04d}", data=data)
    return path


def names(folder, **entry):
    entry = {"glob": "*.nx", "entries": "all"} | entry
    campaign = campaign_from_data({"campaign": {"scans": [entry]}}, folder)
    return {name: (scan.series, scan.index, scan.entry) for name, scan in campaign.scans.items()}


@pytest.mark.parametrize(
    ("entries", "before", "suffixes"),
    [
        (["/entry0000"], {}, [""]),
        (["/entry0000", "/entry0012"], {}, ["@0000", "@0012"]),
        (["/entry0000", "/entry0001"], {"/entry0000": ""}, ["", "@0001"]),
        (["/entry1/tomo_entry", "/entry2/tomo_entry"], {}, ["@0001", "@0002"]),
        (["/1.1", "/2.1"], {}, ["@1.1", "@2.1"]),  # of both the last number is 1
        (["/heating/a", "/heating/b"], {}, ["@heating_a", "@heating_b"]),
        (["/entry0001"], {"/entry0000": "@0000", "/entry0001": "@0001"}, ["@0001"]),
    ],
)
def test_an_entry_is_called_by_its_number_and_keeps_its_name(entries, before, suffixes):
    assert [*named(entries, before).values()] == suffixes


def test_entries_are_scans_of_the_series_of_their_file(tmp_path):
    write(tmp_path / "wire_07.nx", 0, 3)
    assert names(tmp_path, prefix="day1_") == {
        "day1_wire_07@0000": ("day1_wire_07", 0, "/entry0000"),
        "day1_wire_07@0003": ("day1_wire_07", 3, "/entry0003"),
    }
    assert [*names(tmp_path, entries=["entry000[1-9]"])] == ["wire_07@0003"]


def test_the_only_entry_is_called_as_its_file_also_when_others_come(tmp_path):
    path = write(tmp_path / "wire_07.nx", 0)
    data = {"campaign": {"scans": [{"glob": "*.nx", "entries": "all"}]}}
    campaign = campaign_from_data(data, tmp_path)
    assert names(tmp_path) == {"wire_07": ("wire", 7, "/entry0000")}
    campaign.views.save()  # as runs do
    write(path, 1)
    assert names(tmp_path) == {
        "wire_07": ("wire_07", 0, "/entry0000"),
        "wire_07@0001": ("wire_07", 1, "/entry0001"),
    }


def test_a_file_without_entries_or_that_cannot_be_read_is_one_scan(tmp_path):
    with h5py.File(tmp_path / "plain_1.nx", "w") as file:
        file["exchange/data"] = frames_of()
    (tmp_path / "broken_1.nx").write_bytes(b"no HDF5")
    assert names(tmp_path) == {"plain_1": ("plain", 1, ""), "broken_1": ("broken", 1, "")}


def test_a_file_is_opened_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    path, opened = write(tmp_path / "a.nx", 0, 1), []
    entries = entries_of
    monkeypatch.setattr(hdf5_scan, "entries_of", lambda path: opened.append(path) or entries(path))
    views = Views(tmp_path / "results" / "views.json", tmp_path)
    for pattern in ("all", ["entry0000"], ["*1"]):
        views.of("a.nx", pattern)
    assert len(opened) == 1
    views.save()
    again = Views(tmp_path / "results" / "views.json", tmp_path)
    assert again.of("a.nx", "all") == views.of("a.nx", "all")
    assert len(opened) == 1
    write(path, 2)
    assert len(Views(tmp_path / "results" / "views.json", tmp_path).of("a.nx", "all")) == 3
    assert len(opened) == 2
    path.write_bytes(b"half written")
    assert len(Views(tmp_path / "results" / "views.json", tmp_path).of("a.nx", "all")) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"a.nx": 3}', '{"a.nx": [{"a.nx": null}, [1]]}'])
def test_damaged_names_are_made_again(content, tmp_path):
    write(tmp_path / "a.nx", 0, 1)
    (tmp_path / "views.json").write_text(content)
    assert len(Views(tmp_path / "views.json", tmp_path).of("a.nx", "all")) == 2


def virtual(path, number):
    layout = h5py.VirtualLayout((N_FRAMES, *LARGE.shape[1:]), "u2")
    layout[:] = h5py.VirtualSource(str(path), "frames", (2 * N_FRAMES, *LARGE.shape[1:]))[
        number * N_FRAMES : (number + 1) * N_FRAMES
    ]
    return layout


def linked(path, number):
    return h5py.ExternalLink(path.name, f"part{number}")


@pytest.mark.parametrize("kind", ["contiguous", "small", "chunked", virtual, linked])
def test_an_entry_is_the_same_until_its_own_data_change(kind, tmp_path):
    path, source = tmp_path / "a.nx", tmp_path / "source.h5"
    frames = frames_of() if kind == "small" else LARGE
    with h5py.File(source, "w") as file:
        file["frames"] = np.concatenate([LARGE, LARGE])
        file["part0"], file["part1"] = LARGE, LARGE
    for number in (0, 1):
        write(path, number, data=kind(source, number) if callable(kind) else frames)
    if kind == "chunked":
        with h5py.File(path, "a") as file:
            for number in (0, 1):
                group = file[f"entry{number:04d}/instrument/detector"]
                del group["data"]
                group.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]))
    before = entries_of(path)
    write(path, 2)
    with h5py.File(source, "a") as file:
        file["more"] = LARGE
    after = entries_of(path)
    assert after.items() > before.items()
    # written anew in place: all its frames
    name = {virtual: "frames", linked: "part1"}.get(kind)
    with h5py.File(source if name else path, "a") as file:
        data = file[name or "entry0001/instrument/detector/data"]
        data[-N_FRAMES:] = data[-N_FRAMES:] + 1
    assert [key for key, text in entries_of(path).items() if text != after[key]] == ["/entry0001"]


def test_other_angles_are_another_scan(tmp_path):
    path = write(tmp_path / "a.nx", 0, 1)
    before = entries_of(path)
    with h5py.File(path, "a") as file:
        file["entry0000/sample/rotation_angle"][3] = 7.0
    changed = {key for key, text in entries_of(path).items() if text != before[key]}
    assert changed == {"/entry0000"}
