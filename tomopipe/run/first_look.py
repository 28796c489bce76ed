"""Interpretation of the arguments of `tomopipe init`: scans, their kind, disk needed."""

import glob
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import CONFIG
from tomopipe.campaign.raw_files import RAW_ENDINGS
from tomopipe.run.disk import KINDS, output_bytes
from tomopipe.run.expected import expected_inventory
from tomopipe.scans.dxchange import NOT_RECOGNISED
from tomopipe.scans.hdf5 import open_hdf5
from tomopipe.scans.raw_state import IMAGES, REFERENCES
from tomopipe.scans.tree import Found, broken_links, datasets_in

_MOST_FILES = 20  # scans that are opened
_HDF5 = tuple(ending for ending in RAW_ENDINGS if ending not in IMAGES)


@dataclass(frozen=True)
class FirstLook:
    """The scans of a new campaign.

    Attributes
    ----------
    n_scans : int
        Scans that the configuration names.
    n_bytes : dict
        Bytes needed by kind of file (`tomopipe.run.disk.KINDS`), estimated from some of the scans.
    free_bytes : int
        Free space for the results.
    n_looked : int
        Scans that were opened.
    unknown : list of str
        Files of unknown layout among them.
    only : dict
        How `overrides` names these, by series or as scans; empty if there are no others.
    datasets : list of Found
        The datasets of the first one.
    broken : list of str
        Its links that lead nowhere.
    """

    n_scans: int
    n_bytes: dict[str, int]
    free_bytes: int
    n_looked: int
    unknown: list[str]
    only: dict[str, list[str]]
    datasets: list[Found]
    broken: list[str]


def split_typed(typed: Sequence[str]) -> tuple[str, list[str]]:
    """Separate the campaign folder from scans, in any order.

    Returns
    -------
    campaign : str
        The first argument that is not a scan, "." if all are.
    scans : list of str
        The others.
    """
    campaign = next((one for one in typed if not _is_scan(one)), None)
    scans = list(typed)
    if campaign is not None:
        scans.remove(campaign)
    return campaign or ".", scans


def _is_scan(typed: str) -> bool:
    """Tell whether an argument is a file, a pattern, or a folder of images."""
    path = os.path.expanduser(typed)
    if os.path.isdir(path):
        return not os.path.exists(os.path.join(path, CONFIG)) and _holds_images(path)
    return path.lower().endswith(RAW_ENDINGS) or os.path.exists(path) or glob.has_magic(path)


def _holds_images(folder: str) -> bool:
    with os.scandir(folder) as found:
        return any(e.name in REFERENCES or e.name.lower().endswith(IMAGES) for e in found)


def scan_entries(typed: Iterable[str], directory: Path) -> list[str]:
    """Return entries of `campaign.scans` for files, folders and patterns as typed.

    Parameters
    ----------
    typed : iterable of str
        Relative to the campaign folder if it exists there, else to the working directory. All files
        of a folder, or all with one prefix, become a pattern again.
    directory : Path
        The campaign folder.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for pattern in typed:
        path = _from_campaign(os.path.expanduser(pattern), directory)
        for part in _of_folder(path, directory):
            folder, name = os.path.split(part.rstrip("/"))
            ending = "/" if part.endswith("/") else os.path.splitext(name)[1]
            groups.setdefault((folder, ending), []).append(part)
    return [entry for group in groups.values() for entry in _as_pattern(group, directory)]


def _from_campaign(path: str, directory: Path) -> str:
    """Return a path as it stands in the configuration."""
    if os.path.isabs(path) or _matches(path, directory) or not _matches(path, Path()):
        return path
    folder, end = os.path.abspath(directory), "/" * path.endswith("/")
    absolute = os.path.abspath(path)
    inside = absolute.startswith(f"{folder}/")
    return (os.path.relpath(absolute, folder) if inside else absolute) + end


def _matches(pattern: str, directory: Path) -> list[str]:
    """List the matches of a path or pattern."""
    if os.path.lexists(directory / pattern):
        return [pattern]
    return glob.glob(pattern, root_dir=directory, recursive=True)


def _of_folder(path: str, directory: Path) -> list[str]:
    """Return a folder of HDF5 files as patterns, one of image folders as these; else itself."""
    place = directory / path
    if not place.is_dir():
        return [path]
    path = path.rstrip("/")
    if _holds_images(str(place)):
        return [f"{path}/"]
    names = sorted(os.listdir(place))
    endings = {os.path.splitext(name)[1] for name in names if name.lower().endswith(_HDF5)}
    inner = [n for n in names if (place / n).is_dir() and _holds_images(str(place / n))]
    images = [f"{path}/{name}/" for name in inner]
    every = f"{glob.escape(path)}/*/"  # also one that comes later
    found = [f"{glob.escape(path)}/*{ending}" for ending in sorted(endings)]
    found += [every] if images and {*_matches(every, directory)} == {*images} else images
    return found or [f"{path}/"]


def _as_pattern(group: list[str], directory: Path) -> list[str]:
    """Return the pattern that matches these files only, or all of them."""
    if len(group) < 2:
        return group
    names = [os.path.basename(one.rstrip("/")) for one in group]
    folder = os.path.dirname(group[0].rstrip("/"))
    ending = "/" if group[0].endswith("/") else os.path.splitext(names[0])[1]
    beginning = os.path.commonprefix(names).rstrip("0123456789")  # noqa: RUF071 - of names
    for start in ("", beginning):
        pattern = os.path.join(glob.escape(folder), f"{glob.escape(start)}*{ending}")
        if sorted(_matches(pattern, directory)) == sorted(group):
            return [pattern]
    return list(dict.fromkeys(group))


def first_look(campaign: Campaign) -> FirstLook:
    """Open some files of a campaign, metadata only."""
    scans = [entry["scan"] for entry in campaign.inventory_entries() if not entry["reason"]]
    sampled = scans[:: max(1, len(scans) // _MOST_FILES)]
    with tempfile.TemporaryDirectory(prefix="tomopipe-init-") as folder:
        rows = expected_inventory(campaign, Path(folder), sampled)
    rules = ["full_recon", "try_recon"] + ["export_stack"] * campaign.config.export_star.enabled
    valid = [row for row in rows.values() if int(row["n_angles"] or 0)]
    n_bytes: Counter[str] = Counter()
    for row in valid:
        n_bytes.update({KINDS[rule]: output_bytes(campaign, rule, row) for rule in rules})
    unknown = [row for row in rows.values() if NOT_RECOGNISED in row["reason"]]
    datasets, broken = [], []
    if unknown:
        with open_hdf5(campaign.directory / unknown[0]["path"]) as file:
            datasets, broken = datasets_in(file), broken_links(file)
    return FirstLook(
        len(scans),
        {kind: n * len(scans) // len(rows) for kind, n in n_bytes.items()},
        shutil.disk_usage(campaign.directory).free,
        len(rows),
        [row["path"] for row in unknown],
        _named_apart(unknown, [row for row in rows.values() if row not in unknown]),
        datasets,
        broken,
    )


def _named_apart(
    some: Sequence[Mapping[str, str]], others: Sequence[Mapping[str, str]]
) -> dict[str, list[str]]:
    """Return what `overrides` calls some scans: their series, unless it has others."""
    if not some or not others:
        return {}
    series = dict.fromkeys(row["series"] for row in some)
    if any(row["series"] in series for row in others):
        return {"scans": [row["scan"] for row in some]}
    return {"series": list(series)}
