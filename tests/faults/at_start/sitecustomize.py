"""What each Python does first that a Snakemake under test starts: scripts of rules have names."""

import ctypes
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

script = Path(sys.orig_argv[-1])
if script.parent.name == "scripts" and script.suffix == ".py":
    rule = script.stem.split(".")[-1]
    if stash := os.environ.get("FAULT_STASH"):
        with suppress(FileExistsError):  # of the rule's first job
            Path(stash, rule).mkdir()
            shutil.copyfile(script, Path(stash, rule, f"{rule}.py"))
    os.environ["FAULT_WHO"] = rule
    ctypes.CDLL(None).fault_reload()
