"""Hooks: what they are given, and that none can hold up the watch."""

import json
from pathlib import Path

from tomopipe.watch.hooks import Hooks


def called(
    folder: Path, command: str, n: int = 1, limit_s: float = 60.0, end_s: float = 60.0
) -> dict[str, str]:
    """Call a hook, and return what is said of it by the end."""
    said = dict[str, str]()
    hooks = Hooks(folder, folder / "logs" / "hook.log", said.__setitem__, limit_s)
    for number in range(n):
        hooks.call(command, {"scan": f"a_{number}"})
    hooks.end(end_s)
    return said


def test_a_hook_gets_the_verdict_on_stdin(tmp_path):
    assert called(tmp_path, "cat > told.json") == {}
    assert json.loads((tmp_path / "told.json").read_text()) == {"scan": "a_0"}


def test_a_hook_that_fails_is_said_once_and_what_it_prints_is_kept(tmp_path):
    (said,) = called(tmp_path, "echo no mail >&2; exit 3", n=3).values()
    log = tmp_path / "logs" / "hook.log"
    assert f"exit status 3, see {log}" in said
    assert log.read_text().count("no mail") == 3
    assert " a_2\n" in log.read_text()


def test_at_the_end_what_is_queued_is_called_and_what_hangs_is_ended(tmp_path):
    assert called(tmp_path, "cat >> told.txt", n=9) == {}
    assert (tmp_path / "told.txt").read_text().count("a_") == 9
    said = called(tmp_path, "echo begun >> told.txt; sleep 60", n=5, end_s=0.5)
    assert said["hooks"] == "hooks.on_scan: 5 calls killed or not run in 0.5 s."
    assert (tmp_path / "told.txt").read_text().count("begun") == 4


def test_a_hook_that_hangs_is_ended_and_the_next_is_called(tmp_path):
    (said,) = called(tmp_path, "echo x >> told.txt; sleep 60", n=5, limit_s=0.2).values()
    assert "timed out and was killed after 0.2 s" in said
    assert (tmp_path / "told.txt").read_text() == 5 * "x\n"
