"""When a raw file is taken, by which rule."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exchange_files import THETA, replace, write
from tomopipe.campaign.campaign import make_campaign
from tomopipe.campaign.lock import FILES
from tomopipe.campaign.raw_files import find_scans, raw_paths
from tomopipe.config import Config, parse_config
from tomopipe.errors import TomopipeError
from tomopipe.scans.hdf5 import StillWrittenError
from tomopipe.scans.raw_state import file_state
from tomopipe.watch.arrivals import Arrivals, fault_of_scan


@pytest.fixture
def raw(tmp_path) -> Path:
    path = tmp_path / "a_1.h5"
    path.write_bytes(b"frames")
    return path


def watched(raw: Path, settle_s: float = 10.0, fault: str = "") -> Arrivals:
    return Arrivals(raw.parent, settle_s, lambda path: fault)


def look(found: Arrivals, now_s: float, taken=None) -> list[str]:
    return [arrival.rule for arrival in found.look(["a_1.h5"], taken or {}, now_s)]


def test_a_file_is_taken_once_it_has_not_changed_for_the_settling_time(raw):
    found = watched(raw)
    assert look(found, 0) == look(found, 9.9) == []
    assert set(found.pending) == {"a_1.h5"}
    raw.write_bytes(b"frames, and more")
    assert look(found, 10) == look(found, 19.9) == []
    assert look(found, 20) == ["unchanged for 10 s"]


def test_a_file_of_fewer_frames_than_listed_angles_waits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a_1.h5", replace(THETA, list(range(9))))
    campaign = make_campaign(parse_config({"campaign": {"scans": ["*.h5"]}}), tmp_path)
    found = Arrivals(tmp_path, 0, lambda _: fault_of_scan(campaign, "a_1"))
    assert look(found, 1) == []
    assert found.waiting["a_1.h5"].startswith("aborted: 7 frames for 9 angles")
    write(path, replace(THETA, list(range(7))))
    assert look(found, 2) == ["unchanged for 0 s"]


def test_the_marker_of_the_writer_spares_the_settling_time(raw):
    (raw.parent / "a_1.h5.done").touch()
    (rule,) = look(watched(raw), 0)
    assert rule.startswith("marker a_1.h5.done")


def test_a_file_taken_is_looked_at_again_only_when_it_changed(raw):
    found, state = watched(raw, settle_s=0), file_state(raw)
    assert look(found, 0, {"a_1.h5": state}) == []
    raw.write_bytes(b"written anew")
    assert len(look(found, 1, {"a_1.h5": state})) == 1


def test_an_aborted_scan_is_shown_to_the_inventory_in_the_end(raw):
    found = watched(raw, fault="aborted: 46 frames for 91 angles")
    assert look(found, 0) == look(found, 10) == look(found, 59) == []
    assert found.waiting == {"a_1.h5": "aborted: 46 frames for 91 angles"}
    (taken,) = found.look(["a_1.h5"], {}, 60)
    assert taken.fault == "not complete after 60 s (aborted: 46 frames for 91 angles): skipped"


def test_a_file_that_its_writer_has_open_waits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a_1.h5")
    config = parse_config({"campaign": {"scans": ["*.h5"]}})
    campaign = make_campaign(config, tmp_path)
    found = Arrivals(tmp_path, 0, lambda _: fault_of_scan(campaign, "a_1"))
    write_on = f"import h5py\nwith h5py.File({str(path)!r}, 'a'):\n print(flush=True)\n input()"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", write_on], **streams) as writer:
        writer.stdout.readline()
        assert look(found, 0) == look(found, 1000) == []
        assert found.waiting == {"a_1.h5": "is still written"}
        writer.communicate(b"\n")
    assert look(found, 1001) == ["unchanged for 0 s"]


def test_a_file_that_its_writer_marks_is_asked_again(raw):
    def frames(path: str) -> str:
        if raw.stat().st_mtime < 1e9:
            raise StillWrittenError(path)
        return ""

    found = Arrivals(raw.parent, 0, frames)
    os.utime(raw, (1, 1))
    assert look(found, 0) == look(found, 1000) == []
    os.utime(raw, (2e9, 2e9))
    assert len(look(found, 1001)) == 1


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


def config_of(patterns: list[str]) -> Config:
    return parse_config({"campaign": {"scans": patterns}})
