"""`tomopipe run --watch` with the real Snakemake: scans that drip in, kills, a second watcher."""

import subprocess
import time
from pathlib import Path

from tests import warm
from tests.waiting import until
from tests.workflow.conftest import configure
from tests.workflow.drip import Dripped
from tests.workflow.test_run import tomopipe


def test_scans_that_drip_in_are_taken_once_each_though_the_watcher_is_killed(tmp_path):
    dripped = Dripped(tmp_path)
    dripped.make()
    dripped.run()
    assert dripped.faults() == [], dripped.log.read_text()


def test_one_watches_and_says_once_that_the_raw_files_are_gone(campaign):
    configure(campaign, "watch", settle_s=0.2)
    log = campaign / "watch.out"
    cors = (campaign / "results" / "cor.json").read_bytes()
    with log.open("w") as stream:
        watcher = subprocess.Popen(
            [warm.python(), "-m", "tomopipe", "run", "--watch", str(campaign)],
            cwd=campaign,
            stdout=stream,
            stderr=stream,
        )
    try:
        wait_for(log, "Watching campaign")
        status, text = tomopipe(campaign, "run", "--watch")
        assert (status, "a run of this campaign is under way" in text) == (1, True), text
        status, text = tomopipe(campaign, "run")
        assert (status, "a run of this campaign is under way" in text) == (1, True), text

        (campaign / "raw").rename(campaign / "away")
        wait_for(log, "missing")
        time.sleep(1)
        (campaign / "away").rename(campaign / "raw")
        wait_for(log, "are back")
        assert log.read_text().count("raw: missing") == 1
    finally:
        status, text = tomopipe(campaign, "stop")
        ended = watcher.wait(60)
    assert ("Stopped" in text, ended) == (True, 130)
    assert (campaign / "results" / "cor.json").read_bytes() == cors
    assert not list((campaign / "results").glob(".runs/*"))


def wait_for(log: Path, words: str) -> None:
    until(lambda: words in log.read_text(), log.read_text)
