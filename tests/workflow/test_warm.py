"""Programs that tests/warm.py forks begin, end and are killed as those of a Python of their own."""

import os
import signal
import subprocess
import sys

import pytest

from tests import warm
from tests.waiting import until

SCRIPT = """
import atexit, json, os, sys, time
atexit.register(print, "at exit")
print(json.dumps([sys.argv, os.getcwd(), os.environ["WORD"], sys.path[0], __name__]))
"""
ENDS = ["", "sys.exit(3)", "sys.exit('said')", "1 / 0", "os.kill(os.getpid(), 9)"]
WAITS = "print(os.getpid(), flush=True); time.sleep(60)"


def start(python, folder, code):
    (folder / "script.py").write_text(SCRIPT + code)
    return subprocess.Popen(
        [python, str(folder / "script.py"), "a word", ""],
        cwd=folder,
        env=os.environ | {"WORD": "ü\n="},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (CI may ignore it)
    )


@pytest.mark.parametrize("code", ENDS)
def test_a_script_does_as_in_a_python_of_its_own(tmp_path, code):
    said = []
    for python in (sys.executable, warm.python()):
        process = start(python, tmp_path, code)
        out, error = process.communicate(timeout=60)
        said.append((process.returncode, out, error.splitlines()[-1:]))
    assert said[0] == said[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_fork_too(tmp_path, number):
    process = start(warm.python(), tmp_path, WAITS)
    process.stdout.readline()
    fork = int(process.stdout.readline())
    assert fork != process.pid
    process.send_signal(number)
    assert process.wait(60) == -number
    until(lambda: not is_running(fork))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_fork_that_is_killed_ends_the_program(tmp_path):
    process = start(warm.python(), tmp_path, WAITS)
    process.stdout.readline()
    os.kill(int(process.stdout.readline()), signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL


def test_a_plain_program_is_no_fork(tmp_path, monkeypatch):
    monkeypatch.setenv(warm.PLAIN, "1")
    process = start(warm.python(), tmp_path, WAITS)
    process.stdout.readline()
    assert int(process.stdout.readline()) == process.pid
    process.kill()
    process.wait()
