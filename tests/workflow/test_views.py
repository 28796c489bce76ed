"""Entries of one file as scans: whatever happens to one of them reruns its chain alone."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaozarrs
import zarr

from tests import warm
from tests.nxtomo_files import write_nxtomo
from tests.workflow.conftest import (
    configure,
    make_scan,
    new_campaign,
    plan,
    succeeds,
    table,
    with_code_in_jobs,
)
from tomopipe.campaign.results import read_tsv

CORS_PX = [48.5, 49.0, 47.25]
TAIL = {"resolve_cor", "sidecar", "export_star", "report", "fix_cor:in_situ"}


def add(campaign, number, **options):
    """Add an entry with the data of a simulated scan, as the package nxtomo has them.

    The first has its frames itself; of the second they are a virtual dataset, of a camera's file;
    the third is a link to a file of its own, with such a dataset.
    """
    make_scan(campaign, "one", CORS_PX[number], "made", seed=number, **options)
    with h5py.File(campaign / "made" / "one.h5") as file:
        parts = [file[f"exchange/{name}"][()] for name in ("data_dark", "data_white", "data")]
        angles = [*np.zeros(len(parts[0]) + len(parts[1])), *file["exchange/theta"][()]]
    keys = np.repeat([2, 1, 0], [len(part) for part in parts])
    path, entry = campaign / "raw" / "in_situ.nx", f"/entry{number:04d}"
    data = np.concatenate(parts) if number == 0 else of_camera(path, number, parts)
    part = path.with_name("in_situ_0002.part") if number == 2 else path
    part.parent.mkdir(exist_ok=True)
    start = f"2026-11-29T05:30:{5 + 10 * number:02d}.5+01:00"
    write_nxtomo(
        part, entry=entry, keys=keys, angles=angles, data=data,
        change=lambda group: group.create_dataset("start_time", data=start),
    )  # fmt: skip
    if part != path:
        with h5py.File(path, "a") as file:
            file[entry] = h5py.ExternalLink(part.name, entry)


def of_camera(path, number, parts):
    """Write darks, flats and projections into one file, and return all as a virtual dataset."""
    camera = path.with_name(f"in_situ_{number:04d}.camera")
    layout, first = h5py.VirtualLayout((sum(map(len, parts)), *parts[0].shape[1:]), "u2"), 0
    with h5py.File(camera, "w") as file:
        for name, part in zip(("dark", "flat", "projections"), parts, strict=True):
            frames = file.create_dataset(name, data=part, chunks=(1, *part.shape[1:]))
            layout[first : first + len(part)] = h5py.VirtualSource(
                camera.name, name, frames.shape, frames.dtype
            )
            first += len(part)
    return layout


def in_time(campaign, n, gaps=()):
    """Return the volume in time after comparing it with the volumes of its scans."""
    path = campaign / "results" / "stitched" / "growth_rec.zarr"
    yaozarrs.validate_zarr_store(str(path))
    group = zarr.open_group(path, mode="r")
    array, (image,) = group["0"], group.attrs["ome"]["multiscales"]
    assert image["axes"][0]["unit"] == "second"
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"][0] == 10
    assert group.attrs["tomopipe"]["attributes"]["start"] == "2026-11-29T04:30:05.500000+00:00"
    for t in {*range(n)} - {*gaps}:
        with h5py.File(campaign / "results" / f"in_situ@000{t}_rec.h5") as file:
            assert np.array_equal(array[t], file["exchange/data"][()])
    assert array.shape[0] == n
    return array


def inodes(array):
    """Return the files of each time point of full resolution."""
    folder = Path(str(array.store_path).removeprefix("file://"), "c")
    return [{p.stat().st_ino for p in folder.glob(f"{t}/*/*/*")} for t in range(array.shape[0])]


def test_each_entry_of_a_file_has_a_chain_of_its_own(tmp_path):
    campaign = tmp_path / "campaign"
    for number in (0, 1):
        add(campaign, number)
    new_campaign(campaign, {})
    configure(campaign, "campaign", scans=[{"glob": "raw/*.nx", "entries": "all"}])
    configure(campaign, "stitch", time={"growth": "in_situ"})
    first = succeeds(campaign)
    assert {name for name in first.jobs if name.startswith("full_recon")} == {
        "full_recon:in_situ@0000",
        "full_recon:in_situ@0001",
    }
    cors = json.loads((campaign / "results" / "cor.json").read_text())
    found = [cors[f"in_situ@000{number}"]["cor_px"] for number in (0, 1)]
    assert found == pytest.approx(CORS_PX[:2], abs=0.1)
    by_path = json.loads((campaign / "results" / "rot_cen.json").read_text())
    assert [*by_path] == [f"{campaign}/raw/in_situ.nx@000{number}" for number in (0, 1)]
    assert (campaign / "raw" / "in_situ@0001.cor.json").exists()
    tomograms = read_tsv(campaign / "results" / "relion" / "names.tsv", ("scan",))
    assert [row["scan"] for row in tomograms] == ["in_situ@0000", "in_situ@0001"]
    assert plan(campaign) == (0, frozenset())
    assert "stitch:growth" in first.jobs
    before = inodes(in_time(campaign, 2))

    # one comes, one is written anew in place, and one has its COR by hand, then not any more
    add(campaign, 2)
    with h5py.File(campaign / "raw" / "in_situ.nx", "a") as file:
        data = file["entry0001/instrument/detector/data"]
        data[6:] = np.roll(data[6:], 3, axis=2)
    chains = {f"{step}:in_situ@000{n}" for step in ("try_recon", "predict_cor") for n in (1, 2)}
    assert plan(campaign)[1] - TAIL == chains | {"inventory"}
    jobs = succeeds(campaign).jobs
    volumes = {f"{step}:in_situ@000{n}" for step in ("full_recon", "export_stack") for n in (1, 2)}
    assert jobs - TAIL == chains | volumes | {"inventory", "stitch:growth"}
    now = inodes(in_time(campaign, 3))
    assert [now[t] == before[t] for t in (0, 1)] == [True, False]
    table(campaign, "in_situ@0000\tauto\t48.75\t")
    expected = TAIL | {"full_recon:in_situ@0000", "stitch:growth"}
    assert plan(campaign) == (2, expected)
    assert succeeds(campaign).jobs == expected
    later = inodes(in_time(campaign, 3))
    assert [later[t] == now[t] for t in range(3)] == [False, True, True]
    table(campaign)
    assert plan(campaign) == (2, expected)
    # and an entry that is not complete costs itself alone
    with h5py.File(campaign / "raw" / "in_situ.nx", "a") as file:
        del file["entry0002/sample/rotation_angle"], file["entry0002/data/rotation_angle"]
    run = succeeds(campaign)
    assert run.jobs == expected | {"inventory"}
    assert "volume in time growth: 1 gap: in_situ@0002 (is skipped: no angles" in run.text
    assert not in_time(campaign, 3, gaps=[2])[2].any()
    assert plan(campaign) == (0, frozenset())
    rows = (campaign / "results" / "inventory.tsv").read_text()
    assert "no angles" in next(line for line in rows.splitlines() if "in_situ@0002" in line)


def turn(campaign, number, part=slice(None), compression=None):
    """Append the projections of a turn of the stage to one file."""
    make_scan(campaign, "one", CORS_PX[number], "made", seed=number)
    path = campaign / "raw" / "fast.h5"
    path.parent.mkdir(exist_ok=True)
    with h5py.File(campaign / "made" / "one.h5") as one, h5py.File(path, "a") as file:
        for name in ("data", "theta"):
            values = one[f"exchange/{name}"][part]
            chunks = (1, *values.shape[1:])
            data = file.require_dataset(
                f"exchange/{name}", (0, *values.shape[1:]), values.dtype,
                maxshape=(None, *values.shape[1:]), chunks=chunks, exact=False,
                compression=compression,
            )  # fmt: skip
            data.resize(len(data) + len(values), axis=0)
            data[-len(values) :] = values
        for name in ("data_white", "data_dark"):
            if name not in file["exchange"]:
                file[f"exchange/{name}"] = one[f"exchange/{name}"][()]


def test_each_turn_of_the_stage_has_a_chain_of_its_own(tmp_path):
    campaign = tmp_path / "campaign"
    for number in (0, 1):
        turn(campaign, number)
    turn(campaign, 2, slice(0, 40))
    new_campaign(campaign, {})
    configure(campaign, "campaign", scans=[{"glob": "raw/*.h5", "turns": 180}])
    tail = {"resolve_cor", "sidecar", "export_star", "report", "fix_cor:fast"}
    succeeds(campaign)
    cors = json.loads((campaign / "results" / "cor.json").read_text())
    assert [*cors] == ["fast@t0000", "fast@t0001"]
    assert [cor["cor_px"] for cor in cors.values()] == pytest.approx(CORS_PX[:2], abs=0.1)
    rows = (campaign / "results" / "inventory.tsv").read_text()
    assert "80 of 180 degrees so far" in next(r for r in rows.splitlines() if "fast@t0002" in r)
    assert plan(campaign) == (0, frozenset())

    # the last turn is whole, and one is written anew in place
    turn(campaign, 2, slice(40, None))
    with h5py.File(campaign / "raw" / "fast.h5", "a") as file:
        data = file["exchange/data"]
        data[91:182] = np.roll(data[91:182], 3, axis=2)
    chains = {f"{step}:fast@t000{n}" for step in ("try_recon", "predict_cor") for n in (1, 2)}
    assert plan(campaign)[1] - tail == chains | {"inventory"}
    volumes = {f"{step}:fast@t000{n}" for step in ("full_recon", "export_stack") for n in (1, 2)}
    assert succeeds(campaign).jobs - tail == chains | volumes | {"inventory"}
    cors = json.loads((campaign / "results" / "cor.json").read_text())
    expected = [CORS_PX[0], CORS_PX[1] + 3, CORS_PX[2]]
    assert [cor["cor_px"] for cor in cors.values()] == pytest.approx(expected, abs=0.1)

    # the second has no sweep any more: its COR is that of the file, and its volume follows
    configure(campaign, "try_recon", every=2)
    configure(campaign, "fix_cor", over_time="constant")
    expected = tail | {"full_recon:fast@t0001"}
    assert plan(campaign) == (2, expected)
    assert succeeds(campaign).jobs == expected
    cor = json.loads((campaign / "results" / "cor.json").read_text())["fast@t0001"]
    assert cor == {
        "cor_px": pytest.approx((CORS_PX[0] + CORS_PX[2]) / 2, abs=0.1),
        "source": "time",
    }
    fixes = (campaign / "results" / "fix_cor" / "fast.tsv").read_text()
    assert "not swept (try_recon.every: 2); from the constant over time of fast.h5" in fixes
    page = (campaign / "results" / "report" / "index.html").read_text()
    (constant,) = re.findall(r"; constant over time: ([0-9.]+) px", page)
    assert float(constant) == pytest.approx(cor["cor_px"], abs=0.031)  # steps of 0.05
    assert plan(campaign) == (0, frozenset())
    configure(campaign, "try_recon", every=1)
    assert plan(campaign)[1] == expected  # the former sweep and prediction still count


def test_frames_of_windows_that_overlap_are_read_once(tmp_path):
    """Each sweep is as of a window that is read alone, and what is shared ends with the run.

    The second run has workers, as it does not begin as a fork of the tests' server.
    """
    campaign = tmp_path / "campaign"
    for number in (0, 0):
        turn(campaign, number, compression="gzip")
    new_campaign(campaign, {})
    overlapping = {"n_angles": 91, "step": 45}
    configure(campaign, "campaign", scans=[{"glob": "raw/*.h5", "turns": overlapping}])

    def jobs(*targets, environment=None):
        return succeeds(campaign, "--cores", "2", *targets, environment=environment).jobs

    chains = {f"{step}:fast@t000{n}" for step in ("try_recon", "predict_cor") for n in range(3)}
    assert plan(campaign)[1] - TAIL - {"fix_cor:fast"} == {
        *chains, "inventory", "shared_rows:fast@t0000"
    }  # fmt: skip
    assert jobs("predictions") == chains | {"inventory", "shared_rows:fast@t0000"}
    log = (campaign / "logs" / "shared_rows" / "fast@t0000.log").read_text()
    assert "read 181 of 181 frames" in log
    assert not (campaign / "results" / ".runs").exists()
    paths = sorted((campaign / "results" / "try_center").glob("*/rows.h5"))
    before = [path.read_bytes() for path in paths]
    paths[1].unlink()
    note = tmp_path / "parents"
    code = (
        f"with open({str(note)!r}, 'a') as file, open(f'/proc/{{os.getppid()}}/cmdline') as parent:"
        "\n    print(status['step'], parent.read(), file=file)\n"
    )
    environment = with_code_in_jobs(tmp_path, code) | {warm.PLAIN: "1"}
    expected = {"try_recon:fast@t0001", "predict_cor:fast@t0001"}
    assert jobs("predictions", environment=environment) == expected
    assert [path.read_bytes() for path in paths] == before
    by_worker = {line.split()[0]: "run.workers" in line for line in note.read_text().splitlines()}
    assert by_worker == {"try_recon": True, "predict_cor": True}

    # volumes, whose frames are again read once
    expected = plan(campaign)[1]
    assert {name for name in expected if name.startswith("shared")} == {"shared_frames:fast@t0000"}
    assert jobs() == expected
    log = (campaign / "logs" / "shared_frames" / "fast@t0000.log").read_text()
    assert "shared_frames: read 181 of 181 frames" in log
    assert plan(campaign) == (0, frozenset())
