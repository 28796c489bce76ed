"""Versions of what made the results."""

import platform
from importlib import metadata

_PACKAGES = ("snakemake", "numpy", "scipy", "numba", "h5py", "pillow")


def versions(version: str) -> dict[str, str]:
    """List the versions of tomopipe, Python and the packages that matter to the numbers."""
    found = {"tomopipe": version, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
