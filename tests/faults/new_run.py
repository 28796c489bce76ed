"""Run a script that was kept, as the only job of a run of its own."""

import os
import runpy
import sys
from pathlib import Path

from tests.faults.arm import arm, rule_of
from tomopipe.storage import run_folder as runs

script = sys.argv[1]
roots, os.environ["FAULT_ROOTS"] = os.environ["FAULT_ROOTS"], ""
arm("")
os.environ[runs.VARIABLE] = str(runs.begin(Path("results")))
os.environ["FAULT_ROOTS"] = roots
arm(rule_of(Path(script)))
try:
    runpy.run_path(script, run_name="__main__")
finally:
    os.environ["FAULT_ROOTS"] = ""
    arm("")
    if os.environ["FAULT_AT"] == "0":
        runs.end_all(Path("results"))
