"""A pipe in the place of a file, and whether somebody has opened it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# a pipe can be opened for writing, without waiting, only while somebody reads it; who waits to
# write is found as it is opened for reading
_WATCH = """
import os, sys, time
path, opened = sys.argv[1:]
reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
print(flush=True)
os.close(reading)
while True:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        open(opened, "w").close()
    except OSError:
        pass
    time.sleep(0.01)
"""


@contextmanager
def pipe_at(path: Path, opened: Path) -> Iterator[None]:
    """Put a pipe in the place of a file; `opened` is made as soon as somebody waits at it."""
    aside = path.with_name(f".aside-{path.name}")
    path.rename(aside)
    os.mkfifo(path)
    watch = subprocess.Popen(
        [sys.executable, "-IS", "-c", _WATCH, path, opened], stdout=subprocess.PIPE, text=True
    )
    try:
        watch.stdout.readline()
        yield
    finally:
        watch.kill()
        watch.communicate()
        aside.rename(path)
