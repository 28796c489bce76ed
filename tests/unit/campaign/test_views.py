"""Entries of a file that are scans of their own: names, and what tells that one has changed."""

import h5py
import numpy as np
import pytest

from tests.exchange_files import write_time_series
from tests.nxtomo_files import frames_of, write_nxtomo
from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.campaign.reading import raw_scan
from tomopipe.campaign.views import Views, named
from tomopipe.config import Config, ScanGlob
from tomopipe.reruns.settle import expected_inventory
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
    return {
        name: (scan.series, scan.index, scan.view.entry if scan.view else "")
        for name, scan in campaign.scans.items()
    }


def contents(path):
    return {entry: content for entry, (content, _) in entries_of(path).items()}


def of(views, entries="all"):
    return views.of("a.nx", ScanGlob(glob="*", entries=entries), Config)


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
        of(views, pattern)
    assert len(opened) == 1
    views.save()
    again = Views(tmp_path / "results" / "views.json", tmp_path)
    assert of(again) == of(views)
    assert len(opened) == 1
    write(path, 2)
    assert len(of(Views(tmp_path / "results" / "views.json", tmp_path))) == 3
    assert len(opened) == 2
    path.write_bytes(b"half written")
    assert len(of(Views(tmp_path / "results" / "views.json", tmp_path))) == 2


@pytest.mark.parametrize(
    "content", ["", "[]", '{"a.nx": 3}', '{"a.nx": ["", {"a.nx": null}, [1]]}']
)
def test_damaged_names_are_made_again(content, tmp_path):
    write(tmp_path / "a.nx", 0, 1)
    (tmp_path / "views.json").write_text(content)
    assert len(of(Views(tmp_path / "views.json", tmp_path))) == 2


def test_groups_of_a_dxchange_file_are_scans(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # as jobs do
    path = tmp_path / "foam_07.h5"
    entries = {"glob": "*.h5", "entries": "all"}

    def campaign():
        return campaign_from_data({"campaign": {"scans": [entries]}}, tmp_path)

    def add(group, first):
        theta_deg = np.linspace(0, 180, 10)
        write_time_series(tmp_path / "one.hdf", theta_deg + first)
        with h5py.File(tmp_path / "one.hdf") as one, h5py.File(path, "a") as file:
            one.copy("exchange", file, group)
        (tmp_path / "one.hdf").unlink()

    add("exchange", 0)
    assert [*campaign().scans] == ["foam_07"]
    campaign().views.save()  # as runs do
    before = campaign().scans["foam_07"].view.content
    add("exchange_2", 5)
    add("heated/exchange", 9)
    with h5py.File(path, "a") as file:
        file["exchange_9/data"] = np.zeros((10, 4, 5))  # a volume
    scans = campaign().scans
    assert [*scans] == ["foam_07", "foam_07@exchange_2", "foam_07@heated_exchange"]
    assert scans["foam_07"].view.content == before
    for name, first_deg in zip(scans, (0, 5, 9), strict=True):
        with raw_scan(campaign(), name).open() as scan:
            assert (scan.theta_deg[0], scan.n_flats, scan.n_darks) == (first_deg, 2, 1)


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
    before = contents(path)
    write(path, 2)
    with h5py.File(source, "a") as file:
        file["more"] = LARGE
    after = contents(path)
    assert after.items() > before.items()
    # written anew in place: all its frames
    name = {virtual: "frames", linked: "part1"}.get(kind)
    with h5py.File(source if name else path, "a") as file:
        data = file[name or "entry0001/instrument/detector/data"]
        data[-N_FRAMES:] = data[-N_FRAMES:] + 1
    assert [key for key, text in contents(path).items() if text != after[key]] == ["/entry0001"]


def test_other_angles_are_another_scan(tmp_path):
    path = write(tmp_path / "a.nx", 0, 1)
    before = contents(path)
    with h5py.File(path, "a") as file:
        file["entry0000/sample/rotation_angle"][3] = 7.0
    changed = {key for key, text in contents(path).items() if text != before[key]}
    assert changed == {"/entry0000"}


def fast(path, n_angles, angles_deg=None):
    """Write a file of a stage that goes on by 10 degrees a projection."""
    return write_time_series(path, 10.0 * np.arange(n_angles) if angles_deg is None else angles_deg)


def turns(folder, turns=180, **config):
    entry = {"glob": "*.h5", "turns": turns}
    campaign = campaign_from_data({"campaign": {"scans": [entry]}} | config, folder)
    scans = {name: scan.view.input["window"] for name, scan in campaign.scans.items()}
    return scans, {scan.name: scan.refused for scan in campaign.refused}


def test_turns_of_the_stage_are_scans_of_the_series_of_their_file(tmp_path):
    fast(tmp_path / "foam_07.h5", 50)
    assert turns(tmp_path) == (
        {"foam_07@t0000": [0, 17], "foam_07@t0001": [18, 35]},
        {"foam_07@t0002": "140 of 180 degrees so far"},
    )
    assert [*turns(tmp_path, 360)[0]] == ["foam_07@t0000"]
    scans, _ = turns(tmp_path, {"n_angles": 20, "step": 10})
    assert [*scans.values()] == [[0, 19], [10, 29], [20, 39], [30, 49]]
    campaign = campaign_from_data(
        {"campaign": {"scans": [{"glob": "*.h5", "turns": 180}]}, "input": {"every": 2}}, tmp_path
    )
    scan = campaign.scans["foam_07@t0001"]
    assert (scan.series, scan.index) == ("foam_07", 1)
    options = campaign.for_scan(scan.name).config.input
    assert (options.window, options.every) == ([18, 35], 2)


@pytest.mark.parametrize(
    ("in_use", "name"),
    [
        ({"ring_current": {"dataset": "exchange/monitor"}}, "exchange/monitor"),
        ({"shifts": "stated"}, "sample/x"),
    ],
)
def test_a_monitor_or_positions_in_use_belong_to_their_time_points(in_use, name, tmp_path):
    path = fast(tmp_path / "foam_07.h5", 36)
    with h5py.File(path, "a") as file:
        file["sample/x"] = np.zeros(36)

    def contents(**preprocess):
        data = {"campaign": {"scans": [{"glob": "*.h5", "turns": 180}]}, "preprocess": preprocess}
        return [scan.view.content for scan in campaign_from_data(data, tmp_path).scans.values()]

    before, unused = contents(**in_use), contents()
    with h5py.File(path, "a") as file:
        file[name][20:] = 7
    after = contents(**in_use)
    assert [was != now for was, now in zip(before, after, strict=True)] == [False, True]
    assert contents() == unused


def test_turns_follow_the_angles_that_the_configuration_gives(tmp_path):
    fast(tmp_path / "foam_07.h5", 36, np.zeros(36))
    scans, refused = turns(tmp_path)
    assert (scans, [*refused]) == ({}, ["foam_07"])
    assert "usual step of these 36 is 0 degrees" in refused["foam_07"]
    listed = tmp_path / "angles.txt"
    for step_deg, n_turns in ((10, 2), (20, 4)):
        listed.write_text("".join(f"{step_deg * n}\n" for n in range(36)))
        scans, refused = turns(tmp_path, input={"angles": "angles.txt"})
        assert (len(scans), refused) == (n_turns, {})


def test_a_file_that_has_no_turns_is_refused_and_not_one_scan(tmp_path):
    golden_deg = np.mod(111.246 * np.arange(50), 180)
    fast(tmp_path / "golden_1.h5", 50, golden_deg)
    (tmp_path / "broken_1.h5").write_bytes(b"no HDF5")
    scans, refused = turns(tmp_path)
    assert scans == {}
    assert "turns: {n_angles: N}" in refused["golden_1"]
    assert "broken_1" in refused
    assert len(turns(tmp_path, {"n_angles": 25})[0]) == 2


def test_a_bad_entry_costs_itself_alone(tmp_path):
    path = write(tmp_path / "a.nx", *range(4))
    with h5py.File(path, "a") as file:
        for number in (1, 2):  # one is wider, and one half written
            detector = file[f"entry{number:04d}/instrument/detector"]
            frames = np.repeat(detector["data"][()], 3 - number, axis=2)
            del detector["data"]
            chunks = (1, *frames.shape[1:])
            data = detector.create_dataset("data", frames.shape, "u2", chunks=chunks)
            n = {1: N_FRAMES, 2: 10}[number]
            data[:n] = frames[:n]
        keys = file["entry0003/instrument/detector/image_key_control"]
        keys[keys[()] == 1] = 3
    campaign = campaign_from_data(
        {"campaign": {"scans": [{"glob": "*.nx", "entries": "all"}]}}, tmp_path
    )
    rows = expected_inventory(campaign, tmp_path)
    assert [row["n_cols"] for row in rows.values()] == ["5", "10", "5", ""]
    reasons = [row["reason"] for row in rows.values()]
    assert reasons[:2] == ["", ""]
    assert reasons[2] == "aborted: the first 4 of 6 frames were written"
    assert "marks no flats" in reasons[3]


def test_entries_of_one_name_are_refused(tmp_path):
    for entry in ("/a/b_c", "/a_b/c", "/c/d"):
        write_nxtomo(tmp_path / "a.nx", entry=entry)
    campaign = campaign_from_data(
        {"campaign": {"scans": [{"glob": "*.nx", "entries": "all"}]}}, tmp_path
    )
    assert [*campaign.scans] == ["a@c_d"]
    expected = ("a@a_b_c", "entries of one name: /a/b_c, /a_b/c; rename one in a.nx")
    assert [(scan.name, scan.refused) for scan in campaign.refused] == [expected] * 2


def test_windows_that_do_not_fill_180_degrees_are_named(tmp_path):
    fast(tmp_path / "foam_07.h5", 36)
    for n, words in (
        (18, ""),
        (9, "cover 90 of 180 degrees, and its slices lack the others, which 18 would"),
    ):
        entry = {"glob": "*.h5", "turns": {"n_angles": n}}
        campaign = campaign_from_data({"campaign": {"scans": [entry]}}, tmp_path)
        rows = expected_inventory(campaign, tmp_path)
        assert len(rows) == 36 // n
        assert all(row["keep"] == "true" for row in rows.values())
        assert all(
            words in row["warnings"] and bool(words) == bool(row["warnings"])
            for row in rows.values()
        )


@pytest.mark.parametrize(("turns", "is_named"), [(180, False), ({"n_angles": 9}, True)])
def test_windows_cover_what_a_stated_range_of_the_file_gives_them(turns, is_named, tmp_path):
    fast(tmp_path / "foam_07.h5", 36, np.zeros(36))
    data = {"campaign": {"scans": [{"glob": "*.h5", "turns": turns}]}}
    campaign = campaign_from_data(data | {"input": {"angles": {"start": 0, "stop": 350}}}, tmp_path)
    rows = expected_inventory(campaign, tmp_path)
    assert len(rows) == (4 if is_named else 2)
    assert {"cover 90 of 180 degrees" in row["warnings"] for row in rows.values()} == {is_named}
    assert not any("cover 0" in row["warnings"] for row in rows.values())


def test_a_range_that_is_spread_over_the_projections_so_far_is_named(tmp_path):
    fast(tmp_path / "foam_07.h5", 36, np.zeros(36))
    data = {"campaign": {"scans": [{"glob": "*.h5", "turns": 180}]}}
    for angles, is_named in (
        ({"start": 0, "stop": 350}, True),
        ({"start": 0, "step": 10}, False),
    ):
        campaign = campaign_from_data(data | {"input": {"angles": angles}}, tmp_path)
        rows = expected_inventory(campaign, tmp_path)
        warnings = [row["warnings"] for row in rows.values()]
        assert ["set {start: 0, step: STEP}" in text for text in warnings] == [is_named] * 2


def test_entries_and_turns_exclude_each_other():
    with pytest.raises(ValueError, match="set one of them"):
        ScanGlob(glob="*", entries="all", turns=180)
