"""Root passes over the modes of files; commands after HEEDING do not, whoever runs the tests."""

import os
import subprocess
import sys

HEEDING = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def heeding(*arguments: object) -> tuple[int, str, str]:
    """Call tomopipe as who heeds modes; return the exit status, and what it said."""
    done = subprocess.run(
        [*HEEDING, sys.executable, "-m", "tomopipe", *map(str, arguments)],
        text=True, capture_output=True, check=False, env=os.environ | {"COLUMNS": "500"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr
