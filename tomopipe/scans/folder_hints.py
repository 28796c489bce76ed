"""What lies in, or beside, a folder or stack of images that cannot be read as a scan."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path as FilePath

from tomopipe.errors import grouped, some_of
from tomopipe.scans.formats import HDF5, RAW_ENDINGS
from tomopipe.scans.layout import Kind
from tomopipe.scans.scan_files import LISTS, folder_kind, in_order_of_time, visible

# Words that the names of folders of flats and darks may have, besides those of `folder_kind`; at
# neutron beam lines open beam and dark current, with x or n at an end.
_WORDS: dict[Kind, tuple[str, ...]] = {
    "flats": (
        *("ob", "openbeam", "beamon", "flat", "ff", "white", "bright", "bf", "gain"),
        *("ref", "reference"),
    ),
    "darks": (
        *("dc", "darkcurrent", "beamoff", "dark", "black", "di", "df", "background", "bg"),
        "offset",
    ),
}
#: Files of images that other programs read.
UNREAD = (
    *(".edf", ".fits", ".fit", ".fts", ".img", ".raw", ".his", ".seq", ".xrm", ".txm", ".txrm"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".dcm", ".cbf", ".mrc", ".st", ".ali", ".mar3450", ".sif"),
    *(".bin", ".vol", ".vgi", ".npy", ".npz", ".nc", ".dm3", ".dm4", ".spe", ".b16", ".xim"),
)
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_MOST_NAMED = 4
# between a name and its number, of PCO: scan@0001.tif; of Andor: scan_X2.tif
_BEFORE_NUMBER = r"(?:[ _.@-]*|_X)"
_CONVERT = "images must be TIFF or HDF5: convert them"


def likely_kind(name: str) -> Kind | None:
    """Return what a folder may hold by a word in its name, such as ob, dark_current, xdc, OB1."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    words += [a + b for a, b in pairwise(words)]
    for kind, known in _WORDS.items():
        if any(re.fullmatch(rf"[xn]?(?:{'|'.join(known)})(?:s|x|fields?)?", w) for w in words):
            return kind
    return None


def kind_of(name: str) -> Kind | None:
    """Return what a folder holds, or may hold, by its name."""
    return next((kind for kind in _WORDS if folder_kind(name) == kind), likely_kind(name))


def reference_lines(path: FilePath, images: FilePath, kind: Kind) -> str:
    """Return the lines for folders that may hold flats and darks; "" if none of the `kind` does.

    They lie in the folder of a scan, in the one below it that holds the `images`, or beside it,
    where scans may lie, too: those have folders or lists of their own.
    """
    places = {path.parent: str(path.parent)}
    if path.is_dir():
        of_scan = FilePath(path.parent, "{scan}")
        below = images.relative_to(path) if images.is_relative_to(path) else images
        places = {path: str(of_scan), images: str(of_scan / below)} | places
    for folder, shown in places.items():
        names = [p.name for p in _image_folders(folder) if folder in (path, images) or _is_plain(p)]
        kind_by = likely_kind if folder == path else kind_of
        references = grouped((each, name) for name in names if (each := kind_by(name)))
        if kind in references:
            return _lines(references, shown)
    return ""


def _is_plain(folder: FilePath) -> bool:
    """Tell whether a folder has neither folders nor lists of angles."""
    return not any(path.is_dir() or path.suffix.lower() in LISTS for path in visible(folder))


def unknown_folders(path: FilePath, images: FilePath) -> list[str]:
    """Return the names of folders of images in that of a scan, whose names tell no kind."""
    folders = [] if not path.is_dir() else _image_folders(path)
    return [p.name for p in folders if p != images and kind_of(p.name) is None]


def _image_folders(folder: FilePath) -> list[FilePath]:
    with suppress(OSError):
        return [path for path in visible(folder) if path.is_dir() and _n_images(path)]
    return []


def _lines(references: dict[Kind, list[str]], folder: str) -> str:
    parts = []
    for kind, names in sorted(references.items(), reverse=True):
        paths = ", ".join(f'"{folder}/{name}"' for name in in_order_of_time(names))
        parts.append(f"{kind}: [{paths}]" if len(names) > 1 else f"{kind}: {paths}")
    return f"preprocess: {{{', '.join(parts)}}}"


def _n_images(folder: FilePath) -> int:
    return sum(path.suffix.lower() in (".tif", ".tiff") for path in visible(folder))


def projections_in(folder: FilePath, n_images: int, beside: Iterable[str]) -> str:
    """Say how to name projections in one of several subfolders, and flats and darks beside it."""
    kinds = grouped((kind, name) for name in beside if (kind := kind_of(name)))
    references = f" and {_lines(kinds, str(folder.parent))}" if kinds else ""
    return (
        f"; the projections seem to be in {folder.name} ({n_images} images): give {folder}/ in "
        f"campaign.scans{references}"
    )


def other_files(folder: FilePath) -> str:
    """Say what a folder without TIFF files has instead, here or below, and what to do."""
    paths = (
        f"; for its HDF5 files give {folder}/{pattern}{path.suffix}"
        for pattern in ("*", "*/*")
        for path in folder.glob(pattern)
        if path.suffix.lower() in HDF5.endings and not path.name.startswith(".")
    )
    if hint := next(paths, ""):
        return hint
    counts = Counter[str]()
    with suppress(OSError):
        here = visible(folder)
        for part in [folder, *(path for path in here if path.is_dir())]:
            counts += _endings(part)
    if not counts:
        return ""
    return f"; it has {_named(counts)}, which are not read: {_CONVERT}"


def unread_images(folder: FilePath, n_images: int) -> str:
    """Warn of images of other kinds beside those that are read, if they are no few."""
    if 2 * n_unread(folder) < max(2, n_images):
        return ""
    counts = {ending: n for ending, n in _endings(folder).items() if ending in UNREAD}
    return f"beside the TIFF images {_named(counts)}, which are not read: {_CONVERT}"


def n_unread(folder: FilePath) -> int:
    """Return the number of images of other kinds in a folder."""
    return sum(n for ending, n in _endings(folder).items() if ending in UNREAD)


def _endings(folder: FilePath) -> Counter[str]:
    """Count the files of a folder by ending, except those that a scan may have."""
    results = Counter[str]()
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            stem, ending = os.path.splitext(entry.name.lower())
            if ending in _PACKED:
                ending = os.path.splitext(stem)[1] + ending
            if entry.name[0] != "." and ending not in RAW_ENDINGS + LISTS and entry.is_file():
                results[ending] += 1
    return results


def _named(counts: "Counter[str] | dict[str, int]") -> str:
    """Write .edf: 20 files, .log: 1 file; images first, then by number."""
    ordered = sorted(counts.items(), key=lambda item: (item[0] not in UNREAD, -item[1]))
    files = [(ending, f"{n} file{'s' * (n > 1)}") for ending, n in ordered]
    texts = [f"{ending}: {n}" if ending else f"{n} without an ending" for ending, n in files]
    return some_of(texts, _MOST_NAMED)


def is_split(paths: Sequence[FilePath]) -> bool:
    """Tell whether names are those of a stack in parts: stack, stack_1, stack_2, ..."""
    stems = [_stem(path) for path in paths]
    first = min(stems, key=len)
    rest = [stem.removeprefix(first) for stem in stems if stem != first]
    return bool(rest) and all(re.fullmatch(rf"{_BEFORE_NUMBER}\(?\d+\)?", part) for part in rest)


def first_part(paths: Sequence[FilePath]) -> tuple[str, str]:
    """Return the name of the part of `is_split` that lacks a number, and one that has it."""
    first, second, *_ = sorted(paths, key=lambda path: len(_stem(path)))
    number = re.sub(r"\d", "0", _stem(second).removeprefix(_stem(first)))
    return first.name, first.name.replace(_stem(first), _stem(first) + number, 1)


def is_cut(parts: Sequence[FilePath]) -> bool:
    """Tell whether files look like one stack in parts: the first unnumbered, or the last shorter.

    Parts are all as long as a writer's limit, but for the last one.
    """
    sizes = [os.path.getsize(part) for part in parts]
    equal = max(sizes[:-1]) <= 1.02 * min(sizes[:-1])
    return is_split(parts) or (equal and sizes[-1] < 0.9 * sizes[0])


def parts_of(path: FilePath) -> list[FilePath]:
    """List the files that may be parts of the stack that a file of pages is a part of, in order.

    They differ in the last number of their names alone, which the first may lack.
    """
    stem, ending = _stem(path), path.name.removeprefix(_stem(path))
    results: list[FilePath] = []
    for text in dict.fromkeys((re.sub(rf"{_BEFORE_NUMBER}\d+$", "", stem), stem)):
        of_number = re.compile(rf"{re.escape(text)}(?:{_BEFORE_NUMBER}(\d+))?{re.escape(ending)}")
        numbered = []
        with suppress(OSError):
            for other in visible(path.parent):
                if (number := of_number.fullmatch(other.name)) and other.is_file():
                    numbered.append((int(number[1] or -1), other))
        results = max(results, [other for _, other in sorted(numbered)], key=len)
    return results


def _stem(path: FilePath) -> str:
    return path.stem.removesuffix(".ome")
