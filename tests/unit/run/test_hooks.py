"""Hooks: what they are given, and that none can hold up the watch."""

import json
import time
from pathlib import Path

from tomopipe.run.hooks import Hooks


def called(folder: Path, command: str, n: int = 1, limit_s: float = 60.0) -> list[str]:
    hooks, said = Hooks(folder, limit_s), dict[str, str]()
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


def test_a_hook_that_fails_is_said_once(tmp_path):
    (said,) = called(tmp_path, "exit 3", n=3)
    assert "exit status 3" in said


def test_a_hook_that_hangs_is_ended(tmp_path):
    (said,) = called(tmp_path, "sleep 60", limit_s=0.05)
    assert "hung and was ended after 0.05 s" in said
