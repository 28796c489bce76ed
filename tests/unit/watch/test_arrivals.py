"""When a raw file is complete."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exchange_files import THETA, replace, write
from tomopipe.campaign.campaign import make_campaign
from tomopipe.campaign.raw_files import find_scans, raw_paths
from tomopipe.campaign.reading import raw_scan
from tomopipe.config import Config, parse_config
from tomopipe.errors import TomopipeError
from tomopipe.scans.raw_identity import file_state
from tomopipe.storage.lock import FILES
from tomopipe.watch.watch import Arrivals


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "a_1.h5")


def abort(raw: Path, n_angles: int = 9) -> None:
    """Write the scan anew, with more angles than frames."""
    write(raw, replace(THETA, list(range(n_angles))))


def look(arrivals: Arrivals, now_s: float, states=None, settle_s: float = 10.0) -> list[str]:
    """Return why each file was aborted that is taken then; "" of a complete one."""
    config = config_of(["*.h5"], settle_s=settle_s)
    return [fault for *_, fault in arrivals.look(config, ["a_1.h5"], states or {}, now_s)]


def test_a_file_is_complete_once_it_has_not_changed_for_the_settling_time(raw):
    arrivals = Arrivals(raw.parent)
    assert look(arrivals, 0) == look(arrivals, 9.9) == []
    assert set(arrivals.pending) == {"a_1.h5"}
    os.utime(raw, (2e9, 2e9))
    assert look(arrivals, 10) == look(arrivals, 19.9) == []
    assert look(arrivals, 20) == [""]
    assert not arrivals.pending


def test_the_marker_of_the_writer_spares_the_settling_time(raw):
    (raw.parent / "a_1.h5.done").touch()
    assert look(Arrivals(raw.parent), 0) == [""]


def test_an_aborted_scan_is_shown_to_the_inventory_in_the_end(raw):
    abort(raw)
    arrivals = Arrivals(raw.parent)
    assert look(arrivals, 0) == look(arrivals, 10) == look(arrivals, 59) == []
    (fault,) = look(arrivals, 60)
    assert fault.startswith("not complete after 60 s (aborted: 7 frames for 9 angles")


def test_a_file_that_its_writer_has_open_waits(raw):
    arrivals = Arrivals(raw.parent)
    write_on = f"import h5py\nwith h5py.File({str(raw)!r}, 'a'):\n print(flush=True)\n input()"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", write_on], **streams) as writer:
        writer.stdout.readline()
        assert look(arrivals, 0, settle_s=0) == look(arrivals, 1000, settle_s=0) == []
        assert arrivals.waiting == {"a_1.h5": "still being written"}
        writer.communicate(b"\n")
    assert look(arrivals, 1001, settle_s=0) == [""]


_GROWS = """
import h5py, numpy as np
with h5py.File({path!r}, "w", libver="latest") as file:
    group = file.create_group("exchange")
    for name, value in (("data_white", 1000), ("data_dark", 0)):
        group[name] = np.full((1, 3, 5), value, "u2")
    data = group.create_dataset("data", (0, 3, 5), "u2", maxshape=(None, 3, 5), chunks=(1, 3, 5))
    theta = group.create_dataset("theta", (0,), float, maxshape=(None,), chunks=(100,))
    file.swmr_mode = True
    while n := int(input() or 0):
        for each, step in ((theta, 10.0), (data, 1)):
            each.resize(n, axis=0)
            each[:] = step * np.arange(n).reshape(-1, *(1 for _ in each.shape[1:]))
            each.flush()
        print(n, flush=True)
"""


def test_time_points_are_taken_one_by_one_while_their_writer_goes_on(raw):
    arrivals, writes = Arrivals(raw.parent), _GROWS.format(path=str(raw))
    config = config_of([{"glob": "a*.h5", "turns": 180}])
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}

    def whole(n_frames):
        """Return the time points that are taken once there are so many frames."""
        print(n_frames, file=writer.stdin, flush=True)
        writer.stdout.readline()
        if not arrivals.look(config, ["a_1.h5"], {}, n_frames / 100):
            return []
        assert not arrivals.unusable
        return [*make_campaign(config, raw.parent).scans]

    with subprocess.Popen([sys.executable, "-c", writes], **streams) as writer:
        assert whole(10) == []
        assert whole(18) == ["a_1@t0000"]
        assert whole(19) == []  # nothing else is whole
        assert whole(40) == ["a_1@t0000", "a_1@t0001"]
        with raw_scan(make_campaign(config, raw.parent), "a_1@t0001").open() as scan:
            assert scan.read_rows(0, 1)[:, 0, 0].tolist() == [*range(18, 36)]
        print(file=writer.stdin, flush=True)


def test_a_file_that_two_entries_of_the_campaign_match_is_taken_once(raw):
    entries = ["*.h5", {"glob": "a*.h5", "prefix": "x_"}]
    config = config_of(entries, settle_s=0)
    ((scan, state, fault),) = Arrivals(raw.parent).look(config, ["a_1.h5"], {}, 0)
    assert (scan.path, state, fault) == ("a_1.h5", file_state(raw), "")


def test_copies_under_way_are_not_there_and_a_folder_that_is_gone_is_named(tmp_path):
    config = config_of(["raw/*", "away/day*/*.h5"])
    for name in ("a_1.h5", ".a_2.h5.Xy12Zq", "a_3.h5.part", "a_1.h5.done"):
        (tmp_path / "raw").mkdir(exist_ok=True)
        (tmp_path / "raw" / name).touch()
    assert raw_paths(config, tmp_path) == (["raw/a_1.h5"], ["away"])


def test_our_sidecars_beside_raw_files_are_no_scans(tmp_path):
    for name in ("a_1.h5", "a_1.cor.json", "A_2.h5", "A_2.cor.json"):
        (tmp_path / name).touch()
    config = config_of(["*"])
    assert [scan.path for scan in find_scans(config, tmp_path)] == ["A_2.h5", "a_1.h5"]
    assert raw_paths(config, tmp_path) == (["A_2.h5", "a_1.h5"], [])


def test_a_run_of_a_watcher_sees_the_complete_files_alone(tmp_path, monkeypatch):
    for name in ("a_1.h5", "a_2.h5"):
        (tmp_path / name).touch()
    config = config_of(["*.h5"])
    assert list(make_campaign(config, tmp_path).scans) == ["a_1", "a_2"]
    monkeypatch.setenv(FILES, "files.json")
    (tmp_path / "files.json").write_text('["a_2.h5"]')
    assert list(make_campaign(config, tmp_path).scans) == ["a_2"]
    (tmp_path / "files.json").write_text("[")
    with pytest.raises(TomopipeError, match=r"files\.json: missing or damaged"):
        make_campaign(config, tmp_path)


def config_of(patterns: list, settle_s: float = 10.0) -> Config:
    return parse_config({"campaign": {"scans": patterns}, "watch": {"settle_s": settle_s}})
