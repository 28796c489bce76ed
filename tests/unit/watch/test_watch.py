"""What a watcher starts and reports, with runs that are only pretended."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.exchange_files import N_ANGLES, THETA, write, write_time_series
from tests.exchange_files import replace as replaced
from tomopipe.campaign.files import Files
from tomopipe.campaign.results import write_tsv
from tomopipe.errors import TomopipeError
from tomopipe.run import launch, progress
from tomopipe.storage import lock
from tomopipe.storage.lock import FILES
from tomopipe.storage.processes import named
from tomopipe.volumes.tiff import write_try_stack
from tomopipe.watch import watch as module
from tomopipe.watch.watch import Watcher

COLUMNS = (
    *("scan", "path", "series", "index", "n_angles", "n_rows", "n_cols", "keep", "reason"),
    "warnings",
)
GOOD = {"cor_px": 48.5, "confidence": 0.97, "verdict": "resolved"}
A_1 = ["raw/a_1.h5"]
_LATER_S = itertools.count(2_000_000_000)  # an edit of its own each time


class Pretended:
    """Runs that end when they are told."""

    def __init__(self) -> None:
        self.started: list[list[str]] = []  # the files that each sees
        self.text = "tomopipe: all is well\n"
        self.process: subprocess.Popen | None = None

    def spawn(self, directory, command, log, environment):
        self.started.append(json.loads((directory / environment[FILES]).read_text()))
        self.events = Path(environment[progress.VARIABLE])
        log.write_text(self.text)
        wait = ["sh", "-c", "read status; exit $status"]
        self.process = subprocess.Popen(wait, stdin=subprocess.PIPE, start_new_session=True)
        return self.process

    def end(self, status: int = 0) -> None:
        self.process.communicate(f"{status}\n".encode())

    def tell(self, **event) -> None:
        """Write an event as the Snakefile does."""
        with self.events.open("a") as stream:
            stream.write(json.dumps({"at": time.time(), **event}) + "\n")

    def begin_job(self, step: str, scan: str) -> None:
        self.tell(began=1, step=step, name=scan, reason="missing", local=True)

    def determine_cors(self, **prediction) -> None:
        """Do the jobs up to resolve_cor, with the same prediction for all new scans."""
        write_inventory(self.started[-1])
        for path in self.started[-1]:
            if not Path(f"results/try_center/{Path(path).stem}/prediction.json").exists():
                predict(Path(path).stem, **(prediction or GOOD))
        self.tell(began=2, step="resolve_cor", name="", reason="missing", local=True)
        self.tell(ended=2)


@pytest.fixture
def campaign(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    add("a_1")
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\nwatch: {settle_s: 0}\n")
    return tmp_path


@pytest.fixture
def runs(monkeypatch):
    pretended = Pretended()
    monkeypatch.setattr(launch, "spawn", pretended.spawn)
    yield pretended
    if pretended.process:
        pretended.process.kill()
        pretended.process.communicate()


@pytest.fixture
def said() -> list[str]:
    return []


def begin(campaign, said) -> Watcher:
    """Begin to watch: the watcher of a test before ends."""
    if before := lock.read(campaign):
        lock.release(campaign, before)
    own = lock.new_run(campaign, watcher=named(os.getpid()))
    lock.take(campaign, own)
    return Watcher(campaign, None, [], said.append, own)


@pytest.fixture
def watcher(campaign, runs, said):
    return begin(campaign, said)


def add(*scans: str, n_angles: int = N_ANGLES) -> None:
    """Write scans, or write them anew; with more angles than frames they are aborted."""
    for scan in scans:
        Path("raw").mkdir(exist_ok=True)
        write(f"raw/{scan}.h5", replaced(THETA, np.linspace(0, 180, n_angles)))


def sweep(scan: str, cors_px: list[float]) -> None:
    """Write the try slices of a scan."""
    folder = Path(f"results/try_center/{scan}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "try.json").write_text(json.dumps({"cor_px": cors_px}))
    images = [np.eye(8, dtype=np.uint16) for _ in cors_px]
    write_try_stack(images, cors_px, folder / "try.tif", shape=(8, 8))


def edit(text: str = "") -> None:
    """Edit the campaign table."""
    Path("scans.tsv").write_text(f"scan\tselect\tcor_px\tnote\n{text}")
    os.utime("scans.tsv", (next(_LATER_S), next(_LATER_S)))


def finish(watcher: Watcher, runs: Pretended, cors: dict | None = None, **more: str) -> None:
    """End a run that leaves these entries in cor.json; the watcher looks."""
    runs.determine_cors()
    write_inventory(runs.started[-1], **more)
    if cors is not None:
        Path("results/cor.json").write_text(json.dumps(cors))
    runs.end()
    watcher.step()


def row_of(scan: str, **more: str) -> dict[str, str]:
    known = {"scan": scan, "path": f"raw/{scan}.h5", "series": "a", "index": "1", "n_cols": "96"}
    return dict.fromkeys(COLUMNS, "") | known | {"keep": "true"} | more


def write_inventory(files: list[str], **more: str) -> None:
    rows = [row_of(Path(path).stem, **more) for path in files]
    write_tsv(rows, COLUMNS, Path("results/inventory.tsv"))


def predict(scan: str, **prediction) -> None:
    path = Path(f"results/try_center/{scan}/prediction.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(prediction))


def test_the_cor_of_a_new_scan_is_reported_before_its_volume_is_made(watcher, runs, said):
    watcher.step()
    watcher.step()
    assert runs.started == [A_1]
    assert [line.partition(" ")[2] for line in said] == ["raw/a_1.h5 is complete"]
    runs.tell(executes=True, cores=2)
    runs.tell(planned={"full_recon": {"a_1": [7200.0, 2]}}, about=[])
    runs.determine_cors()
    watcher.step()
    watcher.step()
    assert len([line for line in said if "a_1: COR 48.50" in line]) == 1
    (times,) = [line for line in said if "CORs are there: " in line]
    assert "about 60 min left" in times
    assert runs.process.poll() is None
    finish(watcher, runs, {"a_1": {"cor_px": 48.5, "source": "auto"}})
    assert said[-2].endswith(" tomopipe: all is well")
    assert said[-1].endswith("/results/report/index.html")
    assert " all results of 1 file are up to date: " in said[-1]
    watcher.step()
    assert len(runs.started) == 1
    edit("a_1\tauto\t40\t\n")
    watcher.step()
    assert runs.started[1:] == [A_1]
    assert len([line for line in said if "a_1: COR" in line]) == 1


def test_a_long_run_says_how_many_jobs_are_done(watcher, runs, said, monkeypatch):
    watcher.step()
    watcher.step()
    runs.tell(planned={"full_recon": {"a_1": [7200.0, 2]}}, about=[])
    watcher.step()
    assert not [line for line in said if "jobs are done" in line]
    monkeypatch.setattr(module, "_SHOWN_S", 0.0)
    watcher.step()
    watcher.step()
    (line,) = [line for line in said if "jobs are done" in line]  # as long as none more is done
    assert line.endswith(" 0 of 1 jobs are done")


def test_each_time_point_of_a_file_has_a_verdict_of_its_own(campaign, runs, said):
    def grow(*numbers):
        for _ in numbers:
            write_time_series("raw/f_1.h5", np.arange(0, 180, 6.0))
        names = [f"f_1@t{number:04d}" for number in numbers]
        for name in names:
            predict(name, **GOOD | {"cor_px": 48.0 + int(name[-1])})
        return names

    def end_run(*parts):
        names = [path.parent.name for path in Path().glob("results/try_center/*/prediction.json")]
        rows = [row_of(name, path="raw/f_1.h5", series="f_1") for name in names]
        not_whole = {"path": "raw/f_1.h5", "keep": "false", "reason": "96 of 180 degrees so far"}
        rows += [row_of(part, **not_whole) for part in parts]
        write_tsv(rows, COLUMNS, Path("results/inventory.tsv"))
        cors = {n: {"cor_px": 48.0 + int(n[-1]), "source": "auto"} for n in names}
        Path("results/cor.json").write_text(json.dumps(cors))
        runs.end()
        watcher.step()
        return [line.partition(" ")[2] for line in said if "COR" in line or "FLAG" in line]

    os.unlink("raw/a_1.h5")
    config = Path("config.yaml").read_text()
    scans = "scans: [{glob: raw/f*.h5, turns: 180}]"
    Path("config.yaml").write_text(config.replace("scans: [raw/*.h5]", scans))
    grow(0, 1)
    write_time_series("raw/f_1.h5", np.arange(0, 96, 6.0))  # not whole
    watcher = begin(campaign, said)
    watcher.step()
    watcher.step()
    assert end_run("f_1@t0002") == ["f_1@t0000: COR 48.00", "f_1@t0001: COR 49.00"]
    write_time_series("raw/f_1.h5", np.arange(96, 180, 6.0))
    predict("f_1@t0002", **GOOD | {"cor_px": 50.0})
    watcher.step()
    watcher.step()
    assert end_run()[2:] == ["f_1@t0002: COR 50.00"]
    shown = watcher.page.read_text()
    assert [shown.count(f">{name}<") for name in ("f_1", "f_1@t0000", "f_1@t0002")] == [0, 1, 1]


def test_a_scan_of_known_cor_has_its_verdict_without_a_prediction(watcher, runs, said):
    edit("a_1\tauto\t48.50\t\n")
    watcher.step()
    write_inventory(A_1)
    runs.end()
    watcher.step()
    assert any(line.endswith(" a_1: COR 48.50") for line in said)


def test_scans_of_a_run_before_the_watch_are_no_news(campaign, runs, said):
    """They are not read again, either."""
    os.truncate("raw/a_1.h5", 10)
    write_inventory(A_1)
    predict("a_1", **GOOD)
    watcher = begin(campaign, said)
    watcher.step()
    finish(watcher, runs, {"a_1": {"cor_px": 48.5, "source": "auto"}})
    assert ">48.50" in watcher.page.read_text()
    assert not any("a_1: COR" in line for line in said)


@pytest.mark.parametrize("step", ["full_recon", "export_stack"])
@pytest.mark.parametrize("name", ["a_2", "a_1"])  # another one, or the same written anew
def test_a_new_scan_lets_a_run_begin_no_further_volume(watcher, runs, said, step, name):
    watcher.step()
    runs.begin_job(step, "a_1")
    watcher.step()
    time.sleep(0.2)
    assert runs.process.poll() is None  # nothing has come
    runs.end()
    edit()
    watcher.step()
    watcher.step()
    add(name)
    runs.begin_job("resolve_cor", "")
    watcher.step()
    time.sleep(0.2)
    assert runs.process.poll() is None  # it has begun no volume: none would ever be made
    runs.begin_job(step, "a_1")
    watcher.step()
    assert runs.process.wait(60) == -signal.SIGTERM
    watcher.step()
    assert runs.started == [A_1, A_1, sorted({*A_1, f"raw/{name}.h5"})]
    assert not any("failed" in line for line in said)


def test_the_picture_is_of_the_cor_that_the_page_prints(watcher, runs):
    sweep("a_1", [40.0, 40.5, 41.0, 48.5])
    edit("a_1\tauto\t40.5\t\n")
    watcher.step()
    predict("a_1", best_cor_px=48.5, **GOOD)
    finish(watcher, runs)
    (entry,) = json.loads(Path("results/live/taken.json").read_text()).values()
    assert entry["picture_cor_px"] == 40.5
    assert (watcher.page.parent / entry["picture"]).exists()
    assert ">40.50" in watcher.page.read_text()


def test_a_run_that_failed_says_why_and_is_tried_again_later_each_time(watcher, runs, said, later):
    runs.text = "tomopipe: results/a_1_rec.h5: damaged\n    raise TomopipeError(f'{path}: x')\n"
    watcher.step()
    for wait_s in (5, 20, 80, 300, 300):
        runs.end(1)
        watcher.step()
        later(wait_s - 1)
        n_started = len(runs.started)
        watcher.step()
        assert len(runs.started) == n_started
        later(1)
        watcher.step()
        assert len(runs.started) == n_started + 1
    (line,) = [line for line in said if "the run failed" in line]
    assert " tomopipe: results/a_1_rec.h5: damaged: the run failed, see " in line
    add("a_2")
    watcher.step()
    runs.end(1)
    watcher.step()
    later(5)
    watcher.step()
    assert len(runs.started) == n_started + 2
    runs.end(1)
    watcher.step()
    edit("a_1\tauto\t48.6\t\n")
    watcher.step()
    assert len(runs.started) == n_started + 3


def test_what_a_run_waits_for_is_said_once_while_it_waits(watcher, runs, said):
    runs.text = "tomopipe: SLURM does not answer\n"
    watcher.step()
    runs.tell(says="SLURM does not answer")
    watcher.step()
    (line,) = [line for line in said if "SLURM" in line]
    assert line.endswith(" tomopipe: SLURM does not answer")
    finish(watcher, runs)
    assert [line for line in said if "SLURM" in line] == [line]


def test_jobs_of_a_run_that_was_killed_are_left_to_the_next_one(watcher, campaign, runs):
    watcher.step()
    killed = lock.read(campaign)
    runs.process.kill()
    runs.process.communicate()
    watcher.step()
    assert lock.read(campaign).before == killed.id


def test_a_cor_that_the_series_replaces_is_flagged_once_and_shown(watcher, runs, said):
    watcher.step()
    finish(watcher, runs)
    edit()
    watcher.step()
    for cor_px in (52.25, 52.5):  # more neighbours
        finish(watcher, runs, {"a_1": {"cor_px": cor_px, "source": "outlier"}})
        edit()
        watcher.step()
    flags = [line for line in said if "FLAG a_1: COR" in line]
    assert len(flags) == 1
    assert "COR 52.25" in flags[0]
    assert flags[0].endswith("(was COR 48.50)")
    # its confidence was another COR's
    assert '<td>52.50<td><td class="why">' in watcher.page.read_text()


def test_a_scan_that_a_later_run_skips_is_flagged(watcher, runs, said):
    watcher.step()
    finish(watcher, runs)
    edit()
    watcher.step()
    finish(watcher, runs, {}, keep="false", reason="undersized: 12 of 91 projections")
    (flag,) = [line for line in said if "FLAG" in line]
    assert "a_1: no COR, skipped: undersized: 12 of 91 projections" in flag


@pytest.fixture
def later(monkeypatch):
    """Call it with seconds by which the clock is put forward."""
    clock, later_s = time.monotonic, []
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(later_s))
    return later_s.append


def test_an_aborted_file_is_flagged(campaign, runs, said, later):
    add("a_1", n_angles=9)
    watcher = begin(campaign, said)
    watcher.step()
    assert runs.started == []
    later(60)
    watcher.step()
    assert runs.started == [A_1]  # whose inventory says why
    (flag,) = [line for line in said if "FLAG" in line]
    page = watcher.page.read_text()
    reason = re.search(
        r"FLAG a_1: no COR, (not complete after 60 s \(aborted: .*\): skipped)", flag
    )
    assert page.count(reason[1]) == 1


def test_a_doubtful_cor_is_flagged_in_the_terminal_and_on_the_page(watcher, runs, said):
    watcher.step()
    runs.determine_cors(cor_px=48.5, confidence=0.52, verdict="resolved")
    watcher.step()
    (flag,) = [line for line in said if "FLAG a_1" in line]
    assert "confidence 0.52" in flag
    assert '<tr class="flag">' in watcher.page.read_text()


def test_a_scan_whose_job_failed_is_flagged_and_the_others_go_on(watcher, runs, said, later):
    add("a_2")
    watcher.step()
    files = runs.started[-1]
    stat = Path("raw/a_1.h5").stat()
    failed = Files(Path("results")).failure("try_recon", "a_1")
    failed.parent.mkdir(parents=True)
    about = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "reason": "no flats"}
    failed.write_text(json.dumps(about))
    runs.begin_job("try_recon", "a_1")
    runs.tell(jobid=1, failed=1, error="no flats")
    runs.end(1)
    watcher.step()
    (line,) = [line for line in said if "the run failed" in line]
    assert "try_recon a_1: no flats: the run failed, see" in line
    assert any(line.endswith(" tomopipe: all is well") for line in said)  # by itself
    later(6)
    watcher.step()
    assert runs.started == 2 * [files]
    predict("a_2", **GOOD)
    runs.tell(began=2, step="resolve_cor", name="", reason="missing", local=True)
    runs.tell(ended=2)
    write_inventory(files)
    watcher.step()
    (flag,) = [line for line in said if "FLAG" in line]
    assert "a_1: no COR, try_recon: no flats" in flag
    assert any(" a_2: COR 48.50" in line for line in said)


def test_the_page_links_the_report_and_says_that_the_watch_has_ended(watcher, runs):
    watcher.step()
    assert "updated each minute" in watcher.page.read_text()
    assert "../report/index.html" not in watcher.page.read_text()
    Path("results/report").mkdir()
    Path("results/report/index.html").touch()
    assert "its COR is being found" in watcher.page.read_text()
    watcher.end(signal.SIGINT)
    assert "watching has ended" in watcher.page.read_text()
    assert "its COR is being found" not in watcher.page.read_text()
    assert "watching ended before its COR was found" in watcher.page.read_text()
    assert '<a href="../report/index.html">' in watcher.page.read_text()


def test_a_renamed_file_is_shown_by_its_present_name(watcher):
    watcher.step()
    assert ">a_1" in watcher.page.read_text()
    add("b_1")
    Path("raw/a_1.h5").unlink()
    watcher.step()
    assert ">1 scan, " in watcher.page.read_text()
    assert ">a_1" not in watcher.page.read_text()


def test_a_new_watcher_waits_for_the_run_of_a_killed_one_and_goes_on(campaign, runs, said):
    begin(campaign, []).step()
    child = lock.read(campaign)
    with pytest.raises(TomopipeError, match=rf"is under way: .* process {child.pid};"):
        module.watch(campaign, None, [], said.append)
    dead = dict(child.watcher) | {"born": "1"}
    lock.hand_over(campaign, child, replace(child, watcher=dead))

    def say(line: str) -> None:
        said.append(line)
        if f"process {child.pid}" in line:
            write_inventory(A_1)
            predict("a_1", **GOOD)
            runs.end()
        elif line.startswith("Watching"):
            assert lock.read(campaign).pid == os.getpid()
            os.kill(os.getpid(), signal.SIGINT)

    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.getsignal(number) for number in numbers]
    assert module.watch(campaign, None, [], say)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    assert [line.split()[0] for line in said] == ["Waiting", "Watching"]
    left = lock.read(campaign)
    assert left.before == child.id  # no run has begun, which ends its jobs
    lock.hand_over(campaign, left, replace(left, watcher=dead, born="1"))
    again = begin(campaign, said)
    again.step()
    assert runs.started == 2 * [A_1]
    finish(again, runs)
    assert len([line for line in said if "a_1: COR 48.50" in line]) == 1


@pytest.mark.parametrize("is_idle", [True, False])
def test_stop_ends_a_watcher_with_its_run_and_no_failure_is_said(watcher, runs, said, is_idle):
    watcher.step()
    if is_idle:
        finish(watcher, runs)
    run = lock.under_way(watcher.directory)
    assert (run.pid == os.getpid()) == is_idle
    with pytest.raises(TomopipeError, match="is under way"):
        launch.start(watcher.directory, [])
    n_started, heard = len(runs.started), []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    launch.interrupt(run, sending=signal.SIGINT)
    if not is_idle:
        runs.process.wait(60)
    signal.signal(signal.SIGINT, before)
    assert len(heard) == is_idle
    watcher.step()
    assert watcher.is_stopped != is_idle  # an idle one has the signal
    assert len(runs.started) == n_started
    assert not any("failed" in line for line in said)


def test_stop_tells_the_watcher_which_ends_its_run(watcher, runs):
    """A run that has just ended hears nothing any more."""
    watcher.step()
    run = lock.under_way(watcher.directory)
    with subprocess.Popen(["sleep", "60"]) as other:
        launch.interrupt(replace(run, watcher=named(other.pid)), sending=signal.SIGINT)
        assert other.wait(60) == -signal.SIGINT
    assert runs.process.poll() is None


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_watcher_whose_lock_is_gone_says_so_and_ends(watcher, runs, said, campaign, is_idle):
    if not is_idle:
        watcher.step()
        runs.end()
    lock.release(campaign, lock.read(campaign))
    watcher.step()
    assert watcher.is_stopped
    assert "run.lock: the lock was removed" in said[-1]
    assert not lock.has_watcher(campaign)


def test_a_file_that_is_written_anew_is_seen_by_no_run_meanwhile(watcher, runs, later):
    watcher.step()
    add("a_1", "a_2")
    write_on = "import h5py\nwith h5py.File('raw/a_1.h5', 'a'):\n print(flush=True)\n input()"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", write_on], **streams) as writer:
        writer.stdout.readline()
        watcher.step()
        finish(watcher, runs)
        assert runs.started[1:] == [["raw/a_2.h5"]]
        finish(watcher, runs)
        writer.communicate(b"\n")
    watcher.step()
    watcher.step()
    assert runs.started[2:] == [["raw/a_1.h5", "raw/a_2.h5"]]


def test_a_verdict_on_the_previous_file_is_not_reported(watcher, runs, said):
    watcher.step()
    finish(watcher, runs, {"a_1": {"cor_px": 48.5, "source": "auto"}})
    add("a_1")
    watcher.step()
    runs.end(1)
    watcher.step()
    assert len([line for line in said if "a_1: COR" in line]) == 1
    edit()
    watcher.step()
    finish(watcher, runs, {"a_1": {"cor_px": 50.25, "source": "auto"}})
    assert any(line.endswith(" a_1: COR 50.25") for line in said)


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
    assert runs.started == [A_1]


def test_edits_are_reported_and_so_is_the_end_of_the_run_that_follows_them(watcher, runs, said):
    watcher.step()
    edit()
    watcher.step()
    watcher.step()
    (line,) = [line for line in said if "scans.tsv" in line]
    assert line.endswith("scans.tsv changed: counts from the next run on")
    for _ in range(2):
        finish(watcher, runs)
        watcher.step()
    assert [line for line in said if "scans.tsv" in line][1:] == [
        line for line in said if line.endswith("scans.tsv changed: the next run begins")
    ]
    assert len([line for line in said if "are up to date" in line]) == 2
    edit("a_1\tno\t\t\n")
    watcher.step()
    assert said[-1].endswith("scans.tsv changed: the next run begins")


def test_another_results_folder_is_used_from_the_next_run_on(watcher, runs, campaign):
    watcher.step()
    text = (campaign / "config.yaml").read_text()
    (campaign / "config.yaml").write_text(text.replace("{scans", "{results: other, scans"))
    finish(watcher, runs)
    assert runs.started == 2 * [A_1]
    assert watcher.page == campaign / "other" / "live" / "index.html"
    assert ">a_1" in watcher.page.read_text()


def test_a_page_of_others_is_kept_aside(campaign, said):
    page = campaign / "results" / "live" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>of others</p>")
    begin(campaign, said)
    (aside,) = page.parent.glob("index.html.before-*")
    assert aside.read_text() == "<p>of others</p>"


def test_raw_files_that_vanish_are_not_taken_for_removed(watcher, runs, said):
    watcher.step()
    Path("raw/a_1.h5").rename("a_1.h5")  # as of a file server that is not mounted
    finish(watcher, runs)
    edit()
    watcher.step()
    assert len([line for line in said if "missing" in line]) == 1
    assert len(runs.started) == 1
    Path("a_1.h5").rename("raw/a_1.h5")
    watcher.step()
    watcher.step()
    assert len([line for line in said if "are back" in line]) == 1
    assert runs.started[1:] == [A_1]


@pytest.mark.parametrize("change", [5, {}, {"state": 7}, {"at": "now"}])
def test_a_damaged_record_of_scans_is_made_again(watcher, runs, said, campaign, change):
    watcher.step()
    finish(watcher, runs)
    path = campaign / "results" / "live" / "taken.json"
    entries = json.loads(path.read_text())
    path.write_text(
        json.dumps(
            {name: change and entries[name] | change for name in entries}
            if isinstance(change, dict)
            else dict.fromkeys(entries, change)
        )
    )
    begin(campaign, said).step()
    assert isinstance(json.loads(path.read_text())["raw/a_1.h5"]["at"], float)


def test_what_cannot_be_saved_is_said_once_and_scans_are_taken(watcher, runs, said, campaign):
    path = campaign / "results" / "live" / "taken.json"
    path.unlink()
    path.mkdir()
    (path / "other").touch()
    watcher.step()
    finish(watcher, runs)
    (line,) = [line for line in said if "kept in memory" in line]
    assert str(path) in line
    assert runs.started == [A_1]
    assert any(line.endswith(" a_1: COR 48.50") for line in said)


def test_a_file_that_never_completes_is_said_once_and_the_others_go_on(watcher, runs, said):
    for n in range(9, 13):  # it changes each time, more slowly than the settling time
        add("a_2", n_angles=n)
        watcher.step()
    (line,) = [line for line in said if "waiting for raw/a_2.h5" in line]
    assert "7 frames for 9 angles" in line
    assert runs.started == [A_1]
