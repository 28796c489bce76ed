"""Pictures of all volumes of a campaign, remade only for volumes that changed."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.io.atomic import write_json
from tomopipe.report.records import Note, ScanRecord
from tomopipe.report.thumbnails import Picture, make_pictures

#: Above this number of scans the pictures go into a folder beside the page.
INLINE_SCANS = 200
#: Bump when pictures look different: those remembered are then made anew.
REVISION = 1
_FOLDER, _CACHE = "pictures", "pictures.json"

PlaneReader = Callable[[Path], Mapping[str, NDArray[np.floating]]]


def picture_all(
    scans: Sequence[ScanRecord], page_folder: Path, read_planes: PlaneReader
) -> tuple[dict[str, tuple[Picture, ...]], list[Note]]:
    """Make the pictures of every volume, using again those of volumes that did not change.

    A campaign is reported after each edit; without this every edit would read the mid planes of
    a thousand volumes again.

    Parameters
    ----------
    scans : sequence of ScanRecord
        Those with a volume get pictures.
    page_folder : Path
        Folder of the page; the side folder and the list of what was made lie in it.
    read_planes : callable
        Reads the mid planes of one volume, by name.

    Returns
    -------
    pictures : dict of str
        Scan name -> its pictures.
    notes : list of Note
        The volumes that could not be read.
    """
    folder = page_folder / _FOLDER if len(scans) > INLINE_SCANS else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    known = _read_cache(page_folder / _CACHE)
    pictures: dict[str, tuple[Picture, ...]] = {}
    cache: dict[str, Any] = {}
    notes = []
    for scan in scans:
        if scan.volume is None:
            continue
        try:
            stamp = _stamp(scan.volume, folder)
            made = _remembered(known.get(scan.name), stamp, page_folder)
            if made is None:
                made = make_pictures(read_planes(scan.volume), scan.name, folder)
        except Exception as error:  # a broken volume must not take the report with it
            notes.append(Note(scan.volume.name, f"no pictures: {error}"))
            continue
        pictures[scan.name] = made
        cache[scan.name] = {"stamp": stamp, "pictures": [asdict(p) for p in made]}
    write_json(cache, page_folder / _CACHE)
    _tidy(page_folder / _FOLDER, pictures)
    return pictures, notes


def _stamp(volume: Path, folder: Path | None) -> list[int]:
    """Tell one state of a volume from another, and the two places for pictures apart."""
    found = volume.stat()
    return [REVISION, int(folder is not None), found.st_size, found.st_mtime_ns]


def _read_cache(path: Path) -> Mapping[str, Any]:
    try:
        cache = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return cache if isinstance(cache, dict) else {}


def _remembered(entry: Any, stamp: list[int], page_folder: Path) -> tuple[Picture, ...] | None:
    """Give the pictures made before, if they are of this state of the volume and still there."""
    try:
        if entry["stamp"] != stamp:
            return None
        made = tuple(Picture(**p | {"shape": tuple(p["shape"])}) for p in entry["pictures"])
    except (TypeError, KeyError):
        return None
    there = all(p.src.startswith("data:") or (page_folder / p.src).exists() for p in made)
    return made if there else None


def _tidy(folder: Path, pictures: Mapping[str, tuple[Picture, ...]]) -> None:
    """Remove picture files that the page does not show any more."""
    if not folder.is_dir():
        return
    used = {os.path.basename(p.src) for made in pictures.values() for p in made}
    for path in folder.glob("*.webp"):
        if path.name not in used:
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
