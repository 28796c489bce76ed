"""Versions of the software that made the results."""

import os
import platform
import shutil
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from tomopipe import __version__

_PACKAGES = ("snakemake", "numpy", "scipy", "numba", "h5py", "pillow")
_GIT_SECONDS = 10


def versions() -> dict[str, str]:
    """List the versions of tomopipe, Python and the packages that affect results."""
    found = {"tomopipe": __version__}
    if made_of := commit(Path(__file__).parents[2]):
        found["commit"] = made_of
    found["Python"] = platform.python_version()
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit(folder: Path) -> str:
    """Return the git commit of a checkout, with "-dirty" for later edits; "" if none."""
    if not (folder / ".git").exists() or shutil.which("git") is None:
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(
            [*command, "--exclude=*"],
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},  # somebody may be working there
            capture_output=True,
            text=True,
            check=False,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
