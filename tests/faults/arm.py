"""What each fork of a campaign under test does first: calls of libc are counted by its name."""

import ctypes
import os
import shutil
from contextlib import suppress
from pathlib import Path


def first(words: list[str]) -> None:
    """Name Snakemake "main" and a script by its rule; keep that of the rule's first job."""
    script = Path(words[0])
    if script.parent.name == "scripts" and (stash := os.environ.get("FAULT_STASH")):
        rule = rule_of(script)
        with suppress(FileExistsError):
            Path(stash, rule).mkdir()
            shutil.copyfile(script, Path(stash, rule, f"{rule}.py"))
    arm("main" if words[0] == "-m" else rule_of(script))


def rule_of(script: Path) -> str:
    """Return the rule of a script that Snakemake has written."""
    return script.stem.split(".")[-1]


def arm(who: str) -> None:
    """Have the shim read the environment anew."""
    os.environ["FAULT_WHO"] = who
    ctypes.CDLL(None).fault_reload()
