"""Pictures of the page, made again only where a volume, a sweep or a COR has changed."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import PICTURES, PICTURES_MADE, ROWS, TRY_STACK
from tomopipe.errors import is_of_the_system
from tomopipe.paths import no_pipe
from tomopipe.report.records import Note, ScanRecord, StackRecord
from tomopipe.report.thumbnails import (
    LARGE,
    SMALL,
    Source,
    Sweep,
    as_uri,
    make_picture,
    make_strip,
    picture_stem,
    read_pair,
    read_sweep,
)
from tomopipe.storage.atomic import whole, write_text
from tomopipe.storage.json_files import parsed
from tomopipe.volumes.volume_read import read_mid_planes, read_provenance

#: Number of scans above which the pictures go into a folder beside the page.
INLINE_SCANS = 200
#: Number of scans up to which pictures are large enough to be enlarged.
LARGE_SCANS = 40
#: Most strips of removed try stacks, lost with the cache, that one page makes anew (a second each).
MOST_ANEW = 200
#: Increase that of a kind when its pictures look different, or what is stated of them differs:
#: stored ones are then remade. Strips of removed try stacks take a second each.
REVISIONS = {"volume": 6, "strip": 5, "pair": 5}

_STATED = ("geometry", "parameters", "versions")
# file names of `_Maker`: all other pictures in the folder are foreign
_OWN_PICTURE = re.compile(r"[0-9a-f]{16}-(mid_x[yz]|mid_yz|sweep|pair)\.webp")


Compared = tuple[tuple[str, float], ...]
"""Labels and CORs (pixels) that are compared."""


Pictures = dict[str, Any]
"""Of a scan or stack, for template and cache: `planes` and `provenance` of its volume, and strips
of slices, or None: `strip` around its COR, `pair` at the CORs among which a person decides."""


def picture_all(
    scans: Sequence[ScanRecord],
    stacks: Sequence[StackRecord],
    compared: Mapping[str, Compared],
    page_folder: Path,
    own_folder: Path,
) -> tuple[dict[str, Pictures], list[Note]]:
    """Make the pictures of every scan with a volume or sweep, and of stitched stacks.

    Unchanged pictures are reused, from a cache beside the page (or in `own_folder`, for a page
    elsewhere that contains its pictures). Returns them by scan name (stacks by `stack_key`), and
    notes on files that could not be read.
    """
    folder = page_folder / PICTURES if len(scans) > INLINE_SCANS else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    cache = (own_folder if folder is None else page_folder) / PICTURES_MADE
    earlier = _read_cache(cache)
    maker = _Maker(folder, LARGE if len(scans) <= LARGE_SCANS else SMALL, earlier)
    pictures = {
        scan.name: maker.pictures(
            scan.name, scan.volume, scan.try_tif, scan.best_px, compared.get(scan.name, ())
        )
        for scan in scans
        if scan.volume is not None or scan.try_tif is not None
    }
    for stack in stacks:
        key = stack_key(stack.name)
        pictures[key] = maker.pictures(key, None if stack.is_time else stack.volume)
    is_new = maker.made != earlier or not cache.exists()
    if is_new and cache.parent.absolute() == page_folder.absolute():
        # without indent: ten times faster
        write_text(json.dumps(maker.made, sort_keys=True, allow_nan=False), cache)
    _tidy(page_folder / PICTURES, list(pictures.values()))
    return pictures, maker.notes


def stack_key(stack: str) -> str:
    """Return the key of a stack, which no scan name equals."""
    return f"stack/{stack}"


class _Maker:
    """Makes or reuses pictures, in a folder or in the page; notes what cannot be read."""

    def __init__(
        self, folder: Path | None, size: tuple[int, int], earlier: Mapping[str, Any]
    ) -> None:
        self.notes: list[Note] = []
        self.made: dict[str, dict[str, Any]] = {}
        self._folder, self._size, self._earlier = folder, size, earlier
        self._present = set(os.listdir(folder)) if folder else set()
        self._n_anew = 0

    def pictures(
        self,
        name: str,
        volume: Path | None,
        try_tif: Path | None = None,
        cor_px: float | None = None,
        compared: Compared = (),
    ) -> Pictures:
        """Return the pictures of a scan or stack."""
        of_volume = volume and self._get(name, "volume", volume, self._size[0], self._of_volume)
        pictures: Pictures = {"planes": [], "provenance": {}, "strip": None, "pair": None}
        pictures |= of_volume or {}
        if cor_px is not None:
            make = partial(_of_sweep, read_sweep, cor_px, "sweep")
            pictures["strip"] = self._of_sweep(name, "strip", try_tif, cor_px, make)
        if cors_px := [px for _, px in compared]:
            make = partial(_of_sweep, read_pair, cors_px, "pair")
            pictures["pair"] = self._of_sweep(name, "pair", try_tif, cors_px, make)
        return pictures

    def _of_sweep(
        self,
        name: str,
        kind: str,
        try_tif: Path | None,
        made_for: float | list[float],
        make: Callable[[Path, Source], dict[str, Any] | None],
    ) -> Any:
        """Return the pictures of a sweep; where its stack was removed, of slices made from rows.h5.

        This takes time: of many pictures that are lost each page makes some.
        """
        if try_tif is None or try_tif.exists():
            return self._get(name, kind, try_tif, made_for, make)
        before = self._get(name, kind, None, made_for, make)
        if before is not None:
            return before
        if kind == "strip" and kind not in self._earlier.get(name, ()):  # no other COR: lost
            self._n_anew += 1
            if self._n_anew > MOST_ANEW:
                return None
        return self._get(name, kind, try_tif.with_name(ROWS), made_for, make)

    def _of_volume(self, volume: Path, source: Source) -> dict[str, Any]:
        """Make the mid planes of a volume; return them, and its provenance as on the page."""
        planes = read_mid_planes(volume)
        made = [make_picture(plane, planes[plane], self._size, source) for plane in planes]
        try:
            result = read_provenance(volume)
            stated = {key: dict(result[key]) for key in _STATED}
        except Exception as error:
            if is_of_the_system(error):
                raise
            stated = {}  # a volume of another program
        return {"planes": made, "provenance": stated}

    def _get(
        self,
        name: str,
        kind: str,
        path: Path | None,
        made_for: float | list[float],
        make: Callable[[Path, Source], dict[str, Any] | None],
    ) -> Any:
        """Return the pictures of a file, new or reused (only reused without a path), or None."""
        stamp = [REVISIONS[kind], self._folder is None, made_for]
        try:
            if path is not None:
                status = path.stat()
                stamp += [status.st_size, status.st_mtime_ns]
            entry = self._reusable(name, kind, stamp)
            if entry is None and path is not None:
                made = json.dumps(make(path, self._source(name)), sort_keys=True)
                entry = {"stamp": stamp, "made": json.loads(made)}  # as it is read again
        except Exception as error:  # a broken file must not stop the report
            file = f"{path.parent.name}/{path.name}" if path else kind
            self.notes.append(Note(file, f"no pictures: {error}", is_of_the_system(error)))
            return None
        if entry is None:
            return None
        self.made.setdefault(name, {})[kind] = entry
        return entry["made"]

    def _reusable(self, name: str, kind: str, stamp: list[Any]) -> dict[str, Any] | None:
        """Return the earlier entry of an unchanged file, if its pictures still exist."""
        try:
            entry: dict[str, Any] = self._earlier[name][kind]
            made = entry["made"]
            parts = made["planes"] if kind == "volume" else [made["picture"]]
            names = [os.path.basename(part["src"]) for part in parts]
            is_same = entry["stamp"][: len(stamp)] == stamp
        except (TypeError, KeyError):
            return None
        exist = self._folder is None or self._present.issuperset(names)
        return entry if is_same and exist else None

    def _source(self, name: str) -> Source:
        """Return the function that gives the pictures of a scan their addresses."""
        folder = self._folder
        if folder is None:
            return as_uri

        def put(plane: str, data: bytes) -> str:
            path = folder / f"{picture_stem(name)}-{plane}.webp"
            with whole(path) as temporary:
                temporary.write_bytes(data)
            return f"{folder.name}/{path.name}"

        return put


def _of_sweep(
    read: Callable[[Path, Any], Sweep | None], cor_px: Any, name: str, path: Path, source: Source
) -> dict[str, Any] | None:
    sweep = read(path.with_name(TRY_STACK), cor_px)
    return make_strip(sweep, source, name) if sweep else None


def _read_cache(path: Path) -> Mapping[str, Any]:
    try:
        cache = parsed(no_pipe(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if is_of_the_system(error):
            raise  # writing it again would lose the strips of removed try stacks
        return {}
    return cache if isinstance(cache, dict) else {}


def _tidy(folder: Path, pictures: Sequence[Pictures]) -> None:
    """Remove our picture files that the page no longer shows."""
    if not folder.is_dir():
        return
    shown = [picture for made in pictures for picture in made["planes"]]
    strips = (made[kind] for made in pictures for kind in ("strip", "pair"))
    shown += [strip["picture"] for strip in strips if strip]
    names = {os.path.basename(picture["src"]) for picture in shown}
    unused = [name for name in {*os.listdir(folder)} - names if _OWN_PICTURE.fullmatch(name)]
    for name in unused:
        (folder / name).unlink()
    if unused and not any(folder.iterdir()):
        folder.rmdir()
