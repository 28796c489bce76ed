"""Hooks: what they are given, and that none can hold up the watch."""

import json
import time
from pathlib import Path

from tomopipe.watch.hooks import Hooks


def called(folder: Path, command: str, n: int = 1, limit_s: float = 60.0) -> list[str]:
    hooks, said = Hooks(folder, folder / "logs" / "hook.log", limit_s), dict[str, str]()
    for number in range(n):
        hooks.call(command, {"scan": f"a_{number}"})
    end_s = time.monotonic() + 60
    while (hooks._queue or hooks._running) and time.monotonic() < end_s:
        hooks.look(said.__setitem__)
        time.sleep(0.005)
    assert not hooks._running
    return list(said.values())


def test_a_hook_gets_the_verdict_on_stdin(tmp_path):
    assert called(tmp_path, "cat > told.json") == []
    assert json.loads((tmp_path / "told.json").read_text()) == {"scan": "a_0"}


def test_a_hook_that_fails_is_said_once_and_what_it_prints_is_kept(tmp_path):
    (said,) = called(tmp_path, "echo no mail >&2; exit 3", n=3)
    log = tmp_path / "logs" / "hook.log"
    assert f"exit status 3, see {log}" in said
    assert log.read_text().count("no mail") == 3
    assert " a_2\n" in log.read_text()


def test_at_the_end_what_is_queued_is_called_and_what_hangs_is_ended(tmp_path):
    hooks, said = Hooks(tmp_path, tmp_path / "hook.log"), dict[str, str]()
    for number in range(9):
        hooks.call("cat >> told.txt", {"scan": f"a_{number}"})
    hooks.end(said.__setitem__, 60)
    assert (tmp_path / "told.txt").read_text().count("a_") == 9
    assert said == {}
    hooks.call("sleep 60", {})
    hooks.end(said.__setitem__, 0.2)
    assert said == {"hooks": "hooks.on_scan: 1 call ended or not made: 0.2 s were over."}
    assert hooks._running[0][0].poll() is not None


def test_a_hook_that_hangs_is_ended(tmp_path):
    (said,) = called(tmp_path, "sleep 60", limit_s=0.05)
    assert "hung and was ended after 0.05 s" in said
