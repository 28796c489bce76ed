"""The watcher's own decisions, with runs that are only pretended."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tomopipe.campaign.watch_lock import is_watched, only_watcher
from tomopipe.errors import NoRoomError, TomopipeError
from tomopipe.run import launch
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import write_json
from tomopipe.storage.run_folder import ARRIVALS, TAIL
from tomopipe.storage.tables import write_tsv
from tomopipe.watch import watch as module
from tomopipe.watch import watched_scans
from tomopipe.watch.watch import Watcher

ABORTED = "aborted: 15 frames for 91 angles"
COLUMNS = (
    *("scan", "path", "series", "index", "n_angles", "n_rows", "n_cols", "keep", "reason"),
    "warnings",
)


class Pretended:
    """Runs that are started, and end when they are told."""

    def __init__(self) -> None:
        self.started: list[tuple[str, list[str]]] = []
        self.status: int | None = None
        self.text = "tomopipe: all is well\n"

    def spawn(self, directory, command, log, environment):
        folder = directory / environment[run_folder.VARIABLE]
        paths = json.loads((folder / run_folder.SCANS).read_text())
        self.command = command
        self.started.append((folder.name.partition("-")[0], paths))
        log.write_text(self.text)
        return SimpleNamespace(pid=2**22 + 1, poll=lambda: self.status)


@pytest.fixture
def campaign(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a_1.h5").write_bytes(b"frames")
    (tmp_path / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\nwatch: {settle_s: 0}\nhooks: {on_scan: cat > told.json}\n"
    )
    monkeypatch.setattr(module, "frames_of_scan", lambda campaign, scan: ("", True))
    return tmp_path


@pytest.fixture
def runs(monkeypatch) -> Pretended:
    pretended = Pretended()
    monkeypatch.setattr(launch, "spawn", pretended.spawn)
    return pretended


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def watcher(campaign, runs, said):
    with only_watcher(campaign) as lock:
        yield Watcher(campaign, None, [], said.append, lock)


@pytest.fixture
def called(watcher, monkeypatch) -> list[dict]:
    """What the hooks are given."""
    found = []
    monkeypatch.setattr(watcher._hooks, "call", lambda command, facts: found.append(facts))
    return found


def row_of(scan: str, **more: str) -> dict[str, str]:
    known = {"scan": scan, "path": f"raw/{scan}.h5", "series": "a", "index": "1", "n_cols": "96"}
    return dict.fromkeys(COLUMNS, "") | known | {"keep": "true"} | more


def predict(scan: str, **prediction) -> None:
    path = Path(f"results/try_center/{scan}/prediction.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(prediction))


def end_arrivals(watcher: Watcher, runs: Pretended, **prediction) -> None:
    part = watcher._parts[ARRIVALS]
    scans = [Path(path).stem for path in part.paths]
    write_tsv([row_of(scan) for scan in scans], COLUMNS, part.folder / "inventory.tsv")
    for scan in scans:
        predict(scan, **prediction)
    runs.status = 0
    watcher.step()
    runs.status = None


def end_tail(watcher: Watcher, runs: Pretended, cors: dict, **more: str) -> None:
    """End a tail that leaves these entries in cor.json."""
    watcher._news_s = watcher._tail_ended_s = -1e9  # nothing has come for long
    watcher.step()
    scans = [Path(path).stem for path in watcher._parts[TAIL].paths]
    write_tsv([row_of(scan, **more) for scan in scans], COLUMNS, Path("results/inventory.tsv"))
    Path("results/cor.json").write_text(json.dumps(cors))
    runs.status = 0
    watcher.step()
    runs.status = None


def test_a_scan_goes_to_the_arrivals_and_then_to_the_tail(watcher, runs, said):
    watcher.step()
    assert runs.started == [(ARRIVALS, ["raw/a_1.h5"])]
    end_arrivals(watcher, runs, cor_px=48.5, confidence=0.97, verdict="resolved")
    assert any("a_1: COR 48.50" in line for line in said)
    watcher._news_s = -1e9  # nothing has come for long
    watcher.step()
    assert runs.started[1:] == [(TAIL, ["raw/a_1.h5"])]
    runs.status = 0
    watcher.step()
    assert said[-2].endswith(" tomopipe: all is well")
    assert re.sub(r"/.*/results", "results", said[-1]).endswith(
        " all that follows from 1 file is made: results/report/index.html"
    )


def test_an_arrival_of_known_cor_has_its_verdict_without_a_prediction(
    watcher, runs, said, campaign
):
    (campaign / "scans.tsv").write_text("scan\tcor_px\na_1\t48.50\n")
    watcher.step()
    part = watcher._parts[ARRIVALS]
    write_tsv([row_of("a_1")], COLUMNS, part.folder / "inventory.tsv")
    runs.status = 0
    watcher.step()
    assert said[-1].partition(" ")[2].startswith("a_1: COR 48.50 (")


def test_what_each_run_says_again_is_said_once(watcher, runs, said):
    watcher.step()
    end_arrivals(watcher, runs, cor_px=48.5, confidence=0.97, verdict="resolved")
    for text in ("one\ntomopipe: two", "one", "one\ntomopipe: three"):
        runs.text = f"tomopipe: {text}\n"
        watcher._dirty = True
        end_tail(watcher, runs, {"a_1": {"cor_px": 48.5, "source": "auto"}})
    lines = [line.partition("tomopipe: ")[2] for line in said if "tomopipe: " in line]
    assert lines == ["one", "two", "three"]
    assert len([line for line in said if "all that follows" in line]) == 1


def test_a_flag_says_once_that_there_was_no_cor(watcher, runs, said):
    watcher.step()
    end_arrivals(watcher, runs, best_cor_px=48.5, cor_px=None, confidence=0.3, verdict="resolved")
    Path("results/fix_cor").mkdir()
    (fix,) = [
        {"scan": "a_1", "index": "1", "before_px": "", "after_px": "50.00"}
        | {"source": "series-mean", "flagged": "false", "reason": "no COR, mean of 2 of the series"}
        | {"limit_px": "", "neighbours": ""}
    ]
    write_tsv([fix], list(fix), Path("results/fix_cor/a.tsv"))
    end_tail(watcher, runs, {"a_1": {"cor_px": 50.0, "source": "series-mean"}})
    flag = [line for line in said if "FLAG a_1: COR 50.00" in line][-1]
    assert flag.endswith("no COR, mean of 2 of the series")
    assert flag.count("no COR") == 1


def test_the_picture_is_of_the_cor_that_the_page_prints(watcher, runs, campaign, monkeypatch):
    shown = []
    monkeypatch.setattr(
        watched_scans, "picture", lambda files, scan, cor_px: shown.append(cor_px) or {}
    )
    (campaign / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\na_1\tauto\t40.5\t\n")
    watcher.step()
    end_arrivals(watcher, runs, best_cor_px=48.5, cor_px=48.5, confidence=0.97, verdict="resolved")
    assert shown == [40.5] == [watcher._scans.entries["raw/a_1.h5"]["cor_px"]]


def test_arrivals_do_not_wait_for_the_pictures_of_earlier_scans(
    watcher, runs, campaign, monkeypatch
):
    """As in the first watch of a campaign that is finished."""
    new, names = campaign / "raw" / "a_1.h5", [f"b_{n:02}" for n in range(12)]
    new.unlink()
    for name in names:
        (campaign / "raw" / f"{name}.h5").write_bytes(b"frames")
        predict(name, cor_px=48.5, confidence=0.97, verdict="resolved")
    watcher._files.taken.unlink()
    watcher._scans.entries, shown = watcher._scans._known(), []
    monkeypatch.setattr(
        watched_scans, "picture", lambda files, scan, cor_px: shown.append(scan) or {}
    )
    end_tail(watcher, runs, {name: {"cor_px": 48.5, "source": "auto"} for name in names})
    new.write_bytes(b"frames")
    for n_shown in (8, 12, 12):
        watcher.step()
        assert len(shown) == n_shown
        assert runs.started[-1] == (ARRIVALS, ["raw/a_1.h5"])
    assert sorted(shown) == names


def test_a_tail_that_failed_is_tried_again_as_soon_as_somebody_edits(watcher, runs, campaign):
    watcher.step()
    end_arrivals(watcher, runs, cor_px=48.5, confidence=0.97, verdict="resolved")
    watcher._news_s = -1e9
    watcher.step()
    runs.status = 1
    watcher.step()
    runs.status = None
    watcher.step()
    assert [part for part, _ in runs.started] == [ARRIVALS, TAIL]  # not before watch.every
    (campaign / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\na_1\tauto\t48.6\t\n")
    watcher.step()
    assert [part for part, _ in runs.started] == [ARRIVALS, TAIL, TAIL]


def test_each_scan_of_a_burst_gets_a_verdict_in_the_end(watcher, runs, said, called, campaign):
    (campaign / "raw" / "a_1.h5").unlink()
    names = [f"b_{n}" for n in range(27)]
    for name in names:
        (campaign / "raw" / f"{name}.h5").write_bytes(b"frames")
    watcher.step()
    end_arrivals(watcher, runs, cor_px=48.5, confidence=0.97, verdict="resolved")
    assert len([line for line in said if "COR 48.50" in line]) == 8
    for name in names:
        predict(name, cor_px=48.5, confidence=0.97, verdict="resolved")
    cors = {name: {"cor_px": 48.5, "source": "auto"} for name in names}
    end_tail(watcher, runs, cors)
    watcher._dirty = True
    end_tail(watcher, runs, cors)
    for name in names:
        assert len([line for line in said if f" {name}: COR 48.50" in line]) == 1
    assert sorted(facts["scan"] for facts in called) == sorted(names)
    assert "its COR is being found" not in watcher.page.read_text()


def test_a_cor_that_the_series_replaces_is_flagged_once_and_shown(watcher, runs, said, called):
    watcher.step()
    end_arrivals(watcher, runs, cor_px=48.5, confidence=0.97, verdict="resolved")
    for cor_px in (52.25, 52.5):  # more neighbours
        watcher._dirty = True
        end_tail(watcher, runs, {"a_1": {"cor_px": cor_px, "source": "outlier"}})
    flags = [line for line in said if "FLAG a_1: COR" in line]
    assert len(flags) == 1
    assert "COR 52.25" in flags[0]
    assert flags[0].endswith("(was COR 48.50)")
    assert [facts["cor_px"] for facts in called] == [48.5, 52.25]
    assert (
        '<td>52.50<td><td class="why">' in watcher.page.read_text()
    )  # its confidence was another COR's


def test_a_scan_that_a_later_run_skips_is_flagged(watcher, runs, said):
    watcher.step()
    end_arrivals(watcher, runs, cor_px=48.5, confidence=0.97, verdict="resolved")
    end_tail(watcher, runs, {}, keep="false", reason="undersized: 12 of 91 projections")
    (flag,) = [line for line in said if "FLAG" in line]
    assert "a_1: no COR, skipped: undersized: 12 of 91 projections" in flag


def test_an_aborted_file_is_flagged_at_once(watcher, said, called, monkeypatch):
    monkeypatch.setattr(module, "frames_of_scan", lambda *_: (ABORTED, True))
    watcher.step()
    watcher._arrivals._seen["raw/a_1.h5"].since_s -= 60
    watcher.step()
    (flag,) = [line for line in said if "FLAG" in line]
    why = f"not complete after 60 s ({ABORTED}): skipped"
    assert f"a_1: no COR, {why}" in flag
    assert watcher.page.read_text().count(why) == 1
    (facts,) = called
    assert (facts["scan"], facts["doubtful"], facts["doubt"], facts["cor_px"]) == (
        *("a_1", True, why),
        None,
    )


def test_a_doubtful_cor_is_flagged_in_the_terminal_on_the_page_and_to_the_hook(
    watcher, runs, said, campaign
):
    watcher.step()
    end_arrivals(watcher, runs, cor_px=48.5, confidence=0.52, verdict="resolved")
    (flag,) = [line for line in said if "FLAG a_1" in line]
    assert "confidence 0.52" in flag
    assert '<tr class="flag">' in watcher.page.read_text()
    watcher.step()
    watcher._hooks._running[0][0].wait(60)
    event = json.loads((campaign / "told.json").read_text())
    assert (event["scan"], event["doubtful"], event["cor_px"]) == ("a_1", True, 48.5)


def test_the_page_links_the_report_and_says_that_the_watch_has_ended(watcher):
    watcher.step()
    assert "written each minute" in watcher.page.read_text()
    assert "../report/index.html" not in watcher.page.read_text()
    Path("results/report").mkdir()
    Path("results/report/index.html").touch()
    watcher._parts.clear()
    assert "its COR is being found" in watcher.page.read_text()
    watcher.end(finish=False)
    assert "the watch has ended" in watcher.page.read_text()
    assert "its COR is being found" not in watcher.page.read_text()
    assert "the watch ended before its COR was found" in watcher.page.read_text()
    assert '<a href="../report/index.html">' in watcher.page.read_text()


def test_a_renamed_file_is_shown_by_its_present_name(watcher, campaign):
    watcher.step()
    assert ">a_1" in watcher.page.read_text()
    (campaign / "raw" / "b_1.h5").write_bytes(b"frames")
    (campaign / "raw" / "a_1.h5").unlink()
    watcher.step()
    assert ">1 taken, " in watcher.page.read_text()
    assert ">a_1" not in watcher.page.read_text()


def test_what_a_killed_watcher_took_is_not_lost(campaign, runs, said):
    with only_watcher(campaign) as lock:
        Watcher(campaign, None, [], said.append, lock).step()
    with only_watcher(campaign) as lock:
        again = Watcher(campaign, None, [], said.append, lock)
        again.step()
    assert runs.started == 2 * [(ARRIVALS, ["raw/a_1.h5"])]
    assert len(list(Path("results/.runs").iterdir())) == 1


def test_there_is_one_watcher(campaign):
    with only_watcher(campaign) as lock:
        lock.write(json.dumps({"start": "Mon", "pid": 12, "host": "beamline"}))
        lock.flush()
        holder = "watched since Mon by process 12 on beamline"
        with pytest.raises(TomopipeError, match=holder), only_watcher(campaign):
            pass


def test_a_file_that_is_written_anew_is_seen_by_no_run_meanwhile(watcher, runs):
    watcher.step()
    end_arrivals(watcher, runs, cor_px=48.5, confidence=0.97, verdict="resolved")
    watcher._arrivals.settle_s, watcher._tail_ended_s = 1000, -1e9
    Path("raw/a_1.h5").write_bytes(b"written an")
    watcher.step()
    assert len(runs.started) == 1


def test_a_full_disk_is_said_once_and_nothing_is_lost(watcher, runs, said, monkeypatch):
    with monkeypatch.context() as patch:
        for free in (1e6, 2e6, 1e6):  # others write, too
            patch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
            watcher.step()
    assert len([line for line in said if "less than 50 MB are free" in line]) == 1
    assert runs.started == []
    watcher.step()
    assert runs.started == [(ARRIVALS, ["raw/a_1.h5"])]


def test_a_broken_configuration_is_said_once_and_nothing_runs_until_it_is_mended(
    watcher, runs, said, campaign
):
    good = (campaign / "config.yaml").read_text()
    (campaign / "config.yaml").write_text("campaign: {scan: x}\n")
    watcher.step()
    watcher.step()
    assert len([line for line in said if "config.yaml" in line]) == 1
    assert runs.started == []
    (campaign / "config.yaml").write_text(good)
    watcher.step()
    assert runs.started == [(ARRIVALS, ["raw/a_1.h5"])]


def test_a_broken_table_stops_the_runs_too(watcher, runs, said, campaign):
    (campaign / "scans.tsv").write_text("scan\tcor\na_1\t48\n")
    watcher.step()
    assert runs.started == []
    assert len([line for line in said if "Nothing runs until it is fixed" in line]) == 1


def test_another_results_folder_waits_for_the_next_watcher(watcher, runs, said, campaign):
    good = (campaign / "config.yaml").read_text()
    edited = good.replace("{scans", "{results: other, scans") + "full_recon: {filter: hann}\n"
    (campaign / "config.yaml").write_text(edited)
    watcher.step()
    watcher.step()
    (line,) = [line for line in said if "campaign.results" in line]
    assert line.endswith("started again; until then all goes to results.")
    at = runs.command.index("--config") + 1
    assert runs.command[at:] == ["campaign={'results': 'results'}", "--nolock", "predictions"]
    assert watcher._config.full_recon.filter == "hann"
    end_arrivals(watcher, runs, cor_px=48.5, confidence=0.97, verdict="resolved")
    assert any("a_1: COR 48.50" in line for line in said)
    assert not (campaign / "other").exists()
    (campaign / "config.yaml").write_text(good)
    watcher._news_s = watcher._tail_ended_s = -1e9
    watcher.step()
    assert "--config" not in runs.command


def test_a_tail_that_failed_says_why_in_plain_words(watcher, runs, said):
    log = (
        'tomopipe: results/a_1_rec.h5: damaged\n    raise TomopipeError(f"{path}: changed")\n'
        'CalledProcessError in file "full_recon.smk", line 94:\nError in rule full_recon:\n'
        "WorkflowError:\n    no network\ntomopipe.errors.TomopipeError: raw/a_1.h5: changed\n"
    )
    for error in ("TomopipeError: raw/a_1.h5: changed while it was read.", ""):
        watcher._tail_ended_s = watcher._news_s = -1e9
        watcher._next_s[TAIL] = 0.0
        watcher.step()
        if ARRIVALS in watcher._parts:
            end_arrivals(watcher, runs, cor_px=48.5, confidence=0.97, verdict="resolved")
            watcher._tail_ended_s = watcher._news_s = -1e9
            watcher.step()
        watcher._parts[TAIL].log.write_text(log)
        state = {"state": "failed" if error else "running", "start": time.time(), "error": error}
        write_json(state, Path("logs/status/full_recon/a_1.json"))
        runs.status = 1
        watcher.step()
        runs.status = None
    first, second = (line.split(" ", 1)[1] for line in said if "some jobs failed" in line)
    damaged = "tomopipe: results/a_1_rec.h5: damaged: some jobs failed, see "
    assert first.startswith(f"full_recon a_1: raw/a_1.h5: changed while it was read; {damaged}")
    errors = "WorkflowError: no network; tomopipe.errors.TomopipeError: raw/a_1.h5: changed"
    assert second.startswith(f"Error in rule full_recon; {errors}; {damaged}")


def test_a_scan_whose_arrivals_failed_gets_its_verdict_after_the_tail(watcher, runs, said):
    for _ in range(3):
        watcher._next_s[ARRIVALS] = 0.0
        watcher.step()
        runs.status = 1
        watcher.step()
        runs.status = None
    assert "no verdict after 3 runs" in said[-1]
    assert "no verdict after 3 runs" in watcher.page.read_text()
    predict("a_1", cor_px=48.5, confidence=0.97, verdict="resolved")
    end_tail(watcher, runs, {"a_1": {"cor_px": 48.5, "source": "auto"}})
    assert len([line for line in said if "a_1: COR 48.50" in line]) == 1
    assert "no verdict" not in watcher.page.read_text()


def test_raw_files_that_vanish_are_not_taken_for_removed(watcher, runs, said):
    watcher.step()
    end_arrivals(watcher, runs, cor_px=48.5, confidence=0.97, verdict="resolved")
    Path("raw/a_1.h5").rename("a_1.h5")  # as of a file server that is not mounted
    watcher._news_s = -1e9
    watcher.step()
    watcher.step()
    assert len([line for line in said if "not there" in line]) == 1
    assert len(runs.started) == 1
    Path("a_1.h5").rename("raw/a_1.h5")
    watcher.step()
    watcher.step()
    assert len([line for line in said if "there again" in line]) == 1
    assert runs.started[1:] == [(TAIL, ["raw/a_1.h5"])]


def test_what_cannot_be_saved_is_said_once_and_scans_are_taken(watcher, runs, said, monkeypatch):
    def full(data, path):
        raise NoRoomError(errno.ENOSPC, f"{path}: no room")

    monkeypatch.setattr(watched_scans, "write_json", full)
    watcher.step()
    watcher._save()
    assert len([line for line in said if "taken.json: no room" in line]) == 1
    assert runs.started == [(ARRIVALS, ["raw/a_1.h5"])]


def test_a_file_that_never_completes_is_said_once_and_the_others_go_on(
    watcher, runs, said, monkeypatch
):
    slow = Path("raw/a_2.h5")
    monkeypatch.setattr(
        module,
        "frames_of_scan",
        lambda _, scan: (f"{slow.stat().st_size} frames" if scan == "a_2" else "", True),
    )
    for n in range(8, 12):  # a frame each time, more slowly than the settling time
        slow.write_bytes(b"x" * n)
        watcher.step()
    (line,) = [line for line in said if "a_2.h5 waits" in line]
    assert line.endswith("8 frames")
    assert runs.started == [(ARRIVALS, ["raw/a_1.h5"])]


def test_hooks_that_hang_are_said_once_and_hold_up_nothing(watcher, runs, said):
    watcher._hooks._limit_s = 0.05
    for _ in range(2):
        watcher._hooks.call("sleep 60", {})
    began_s = time.monotonic()
    while watcher._hooks._queue or watcher._hooks._running:
        watcher.step()
        assert time.monotonic() - began_s < 60
    assert len([line for line in said if "hung and was ended" in line]) == 1
    assert runs.started == [(ARRIVALS, ["raw/a_1.h5"])]


def test_the_rest_gets_a_core_less(watcher):
    watcher._options = ["--cores", "4"]
    assert watcher._cores(ARRIVALS) == ["--cores", "4"]
    assert watcher._cores(TAIL) == ["--cores", "3"]


def test_what_a_killed_watcher_left_running_is_killed(campaign, runs, said):
    orphan = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with only_watcher(campaign) as lock:
        watcher = Watcher(campaign, None, [], said.append, lock)
        watcher._parts[TAIL] = SimpleNamespace(process=orphan)
        watcher._write_holder()
    locks = campaign / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").touch()
    with only_watcher(campaign) as lock:
        Watcher(campaign, None, [], said.append, lock)
    assert orphan.wait(60) == -signal.SIGKILL
    assert not list(locks.iterdir())


def test_a_watcher_of_a_copy_kills_nothing_of_the_original(campaign, runs, said, monkeypatch):
    part = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with only_watcher(campaign) as lock:
        watcher = Watcher(campaign, None, [], said.append, lock)
        watcher._parts[TAIL] = SimpleNamespace(process=part)
        watcher._write_holder()
        copy = shutil.copytree(campaign, campaign.with_name("copy"))
        assert is_watched(campaign)
        assert not is_watched(copy)
        monkeypatch.chdir(copy)
        with only_watcher(copy) as lock_of_copy:
            Watcher(copy, None, [], said.append, lock_of_copy)
    assert part.poll() is None
    part.kill()
    part.wait()


def test_a_full_disk_does_not_keep_a_watcher_from_its_end(watcher, runs, monkeypatch):
    def full(lock, processes):
        raise NoRoomError(errno.ENOSPC, f"{lock.name}: no room")

    watcher.step()
    assert set(watcher._parts) == {ARRIVALS}
    runs.status = 1
    monkeypatch.setattr(module, "write_holder", full)
    watcher.end(finish=True)
    assert not watcher._parts
    assert not watcher._run.exists()


def test_a_lock_without_room_is_said(watcher, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(NoRoomError, match=r"watch\.lock: cannot be written: no space left"):
            watcher._write_holder()
    watcher._write_holder()
    assert is_watched(Path.cwd())


def test_the_lock_tells_others_of_a_watcher_until_it_ends(campaign, runs, said, monkeypatch):
    """Also while another run keeps it from starting its own."""
    (campaign / ".snakemake" / "locks").mkdir(parents=True)
    (campaign / ".snakemake" / "locks" / "0.output.lock").touch()
    seen = []

    def step(watcher):
        seen.append(is_watched(campaign))
        raise RuntimeError

    monkeypatch.setattr(Watcher, "step", step)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    assert not is_watched(campaign)
    with pytest.raises(RuntimeError):
        module.watch(campaign, None, [], said.append)
    assert seen == [True]
    assert not is_watched(campaign)
