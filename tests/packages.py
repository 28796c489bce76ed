"""Packages of sites in folders of tests: the example, built and unpacked, and others."""

import contextlib
import shutil
import zipfile
from pathlib import Path

from tomopipe.config.preprocess import _with_keys
from tomopipe.config.site_corrections import of_site
from tomopipe.cor_methods import method_named
from tomopipe.entry_points import installed

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_correction"


def install_example(folder: Path) -> Path:
    """Build the wheel of the example, as pip does, and unpack it into a folder."""
    from hatchling.build import build_wheel

    copy, target = folder / "own_correction", folder / "installed"
    shutil.copytree(EXAMPLE, copy)
    with contextlib.chdir(copy):
        wheel = build_wheel(str(folder))
    with zipfile.ZipFile(folder / wheel) as file:
        file.extractall(target)
    return target


def write_package(folder: Path, name: str, text: str, **groups: dict[str, str]) -> Path:
    """Write a package of one module, with the entry points of each group, by name."""
    about = folder / f"{name}-2.0.dist-info"
    about.mkdir(parents=True)
    (folder / f"{name}.py").write_text(text)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
    lines = []
    for group, entries in groups.items():
        lines += [f"[tomopipe.{group}]", *(f"{key} = {name}:{it}" for key, it in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def forget() -> None:
    """Let packages be looked for again."""
    for function in (installed, of_site, method_named, _with_keys):
        function.cache_clear()
