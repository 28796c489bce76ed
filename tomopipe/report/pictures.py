"""Pictures of all scans of a campaign, remade only where a volume, a sweep or a COR changed."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import PICTURES, PICTURES_MADE
from tomopipe.errors import is_of_the_system
from tomopipe.report.records import Note, ScanRecord, StackRecord
from tomopipe.report.strips import read_sweep
from tomopipe.report.thumbnails import (
    LARGE,
    SMALL,
    Picture,
    Strip,
    make_picture,
    make_strip,
    picture_stem,
    put_beside,
)
from tomopipe.storage.atomic import write_json
from tomopipe.volumes.volume_read import read_mid_planes, read_provenance

#: Above this number of scans the pictures go into a folder beside the page, one file per scan.
INLINE_SCANS = 200
#: Up to this number of scans they are large enough to be enlarged.
LARGE_SCANS = 40
#: Increase when pictures look different: stored ones are then remade.
REVISION = 3

_STATED = ("geometry", "parameters", "versions")


@dataclass(frozen=True)
class ScanPictures:
    """The existing mid planes of a volume and sweep around the COR, and the volume's provenance."""

    planes: tuple[Picture, ...] = ()
    strip: Strip | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> list[Picture]:
        """All pictures."""
        return [*self.planes, *([self.strip.picture] if self.strip else [])]


def picture_all(
    scans: Sequence[ScanRecord], stacks: Sequence[StackRecord], page_folder: Path, own_folder: Path
) -> tuple[dict[str, ScanPictures], list[Note]]:
    """Make the pictures of every scan with a volume or sweep, and of stitched stacks.

    A report is made after each edit: unchanged pictures are reused, otherwise every edit would
    read the mid planes of a thousand volumes again. They are remembered beside the page; a page
    elsewhere than in `own_folder` that holds them itself takes those remembered there.
    Returns them by scan name, of a stack by `stack_key`, and notes on files that could not be
    read.
    """
    folder = page_folder / PICTURES if len(scans) > INLINE_SCANS else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    size = LARGE if len(scans) <= LARGE_SCANS else SMALL
    cache = (own_folder if folder is None else page_folder) / PICTURES_MADE
    known = _read_cache(cache)
    maker = _Maker(page_folder, folder, size, known)
    pictures = {
        scan.name: maker.placed(
            scan.name,
            ScanPictures(
                maker.planes(scan.name, scan.volume),
                maker.strip(scan),
                maker.provenance(scan.name, scan.volume),
            ),
        )
        for scan in scans
        if scan.volume is not None or scan.try_tif is not None
    }
    for stack in stacks:
        key = stack_key(stack.name)
        pictures[key] = maker.placed(key, ScanPictures(maker.planes(key, stack.volume)))
    if cache.parent.absolute() == page_folder.absolute() and maker.made != known:
        write_json(maker.made, cache)
    _tidy(page_folder / PICTURES, list(pictures.values()))
    return pictures, maker.notes


def stack_key(stack: str) -> str:
    """Return the key of a stack; names of scans have no slash."""
    return f"stack/{stack}"


class _Maker:
    """Makes or reuses pictures; notes what cannot be read."""

    def __init__(
        self,
        page_folder: Path,
        folder: Path | None,
        size: tuple[int, int],
        known: Mapping[str, Any],
    ) -> None:
        self.notes: list[Note] = []
        self.made: dict[str, dict[str, Any]] = {}
        self._page_folder, self._folder = page_folder, folder
        self._size, self._known = size, known

    def planes(self, name: str, volume: Path | None) -> tuple[Picture, ...]:
        """Return the mid planes of a volume."""
        if volume is None:
            return ()

        def make() -> list[dict[str, Any]]:
            planes = read_mid_planes(volume)
            return [asdict(make_picture(name, planes[name], self._size)) for name in planes]

        entries = self._get(name, "planes", volume, float(self._size[0]), make) or []
        return tuple(_picture(entry) for entry in entries)

    def placed(self, name: str, made: ScanPictures) -> ScanPictures:
        """Put new pictures into the file of the scan, where they are not in the page itself."""
        shown = made.shown
        if self._folder is None or all("#" in picture.src for picture in shown):
            return made
        there = self._folder / f"{picture_stem(name)}.svg"
        try:
            srcs = put_beside(shown, there)
        except (OSError, KeyError) as error:
            self.notes.append(Note(there.name, f"no pictures: {error}", again=True))
            self.made.pop(name)
            return replace(made, planes=(), strip=None)
        shown = [replace(picture, src=src) for picture, src in zip(shown, srcs, strict=True)]
        planes, entries = tuple(shown[: len(made.planes)]), self.made[name]
        if planes:
            entries["planes"] |= {"made": [asdict(plane) for plane in planes]}
        if made.strip is None:
            return replace(made, planes=planes)
        strip = replace(made.strip, picture=shown[-1])
        entries["strip"] |= {"made": asdict(strip)}
        return replace(made, planes=planes, strip=strip)

    def provenance(self, name: str, volume: Path | None) -> Mapping[str, Any]:
        """Return the part of a volume's provenance that the page shows."""
        if volume is None:
            return {}

        def make() -> dict[str, Any]:
            try:
                result = read_provenance(volume)
                return {key: dict(result[key]) for key in _STATED}
            except Exception as error:
                if is_of_the_system(error):
                    raise
                return {}  # foreign or damaged: reading its planes reports it

        return self._get(name, "provenance", volume, None, make) or {}

    def strip(self, scan: ScanRecord) -> Strip | None:
        """Return the sweep around a scan's COR."""
        cor_px = scan.best_px
        if cor_px is None:
            return None
        if scan.try_tif is None:
            return self._strip_of_removed(scan.name, cor_px)
        try_tif = scan.try_tif

        def make() -> dict[str, Any] | None:
            sweep = read_sweep(try_tif, cor_px)
            return asdict(make_strip(sweep)) if sweep else None

        return _strip(self._get(scan.name, "strip", try_tif, cor_px, make))

    def _strip_of_removed(self, scan: str, cor_px: float) -> Strip | None:
        """Return the strip made before the try stack was removed, if the COR is still the same."""
        try:
            entry = self._known[scan]["strip"]
            stamp = [*entry["stamp"][:-1], cor_px]
        except (TypeError, KeyError):
            return None
        inline = int(self._folder is None)
        made = self._remembered(scan, "strip", stamp) if stamp[:2] == [REVISION, inline] else None
        if made:
            self.made.setdefault(scan, {})["strip"] = entry
        return _strip(made)

    def _get(
        self, scan: str, kind: str, path: Path, cor_px: float | None, make: Callable[[], Any]
    ) -> Any:
        try:
            status = path.stat()
            # identifies the state of a file, and where its pictures are
            inline = int(self._folder is None)
            stamp = [REVISION, inline, status.st_size, status.st_mtime_ns, cor_px]
            made = self._remembered(scan, kind, stamp)
            if made is None:
                made = make()
        except Exception as error:  # a broken file must not stop the report
            name, again = f"{path.parent.name}/{path.name}", is_of_the_system(error)
            self.notes.append(Note(name, f"no pictures: {error}", again))
            return None
        self.made.setdefault(scan, {})[kind] = {"stamp": stamp, "made": made}
        return made

    def _remembered(self, scan: str, kind: str, stamp: list[Any]) -> Any:
        """Return earlier pictures, if they exist and the file has not changed."""
        try:
            entry = self._known[scan][kind]
            if entry["stamp"] != stamp:
                return None
            made = entry["made"]
            if kind == "provenance":
                return made
            parts = made if isinstance(made, list) else [made["picture"]]
            sources = [_picture(part).src for part in parts]
        except (TypeError, KeyError):
            return None
        files = {src.partition("#")[0] for src in sources if not src.startswith("data:")}
        return made if all((self._page_folder / file).exists() for file in files) else None


def _picture(entry: Mapping[str, Any]) -> Picture:
    return Picture(**{**entry, "shape": tuple(entry["shape"])})


def _strip(entry: Mapping[str, Any] | None) -> Strip | None:
    if not entry:
        return None
    return Strip(_picture(entry["picture"]), tuple(entry["cor_px"]), entry["chosen"])


def _read_cache(path: Path) -> Mapping[str, Any]:
    try:
        cache = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        if is_of_the_system(error):
            raise  # it would be rewritten without the sweeps of removed stacks
        return {}
    return cache if isinstance(cache, dict) else {}


def _tidy(folder: Path, pictures: Sequence[ScanPictures]) -> None:
    """Remove picture files that the page no longer shows."""
    if not folder.is_dir():
        return
    used = {
        os.path.basename(picture.src.partition("#")[0])
        for made in pictures
        for picture in made.shown
    }
    for path in folder.iterdir():
        if path.suffix in (".svg", ".webp") and path.name not in used:
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
