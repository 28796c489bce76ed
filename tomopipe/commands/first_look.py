"""Interpretation of the arguments of `tomopipe init`: scans, their kind, disk needed."""

import glob
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import CONFIG
from tomopipe.campaign.raw_files import matches, path_problems, scan_stem
from tomopipe.campaign.series import folder_prefix, folder_prefixes
from tomopipe.commands.parts_by_name import REFERENCE_WORD, parts_by_name, stacks
from tomopipe.cost.disk import KINDS, output_bytes
from tomopipe.errors import TomopipeError
from tomopipe.groups import grouped
from tomopipe.reruns.settle import expected_inventory
from tomopipe.scans.dxchange import NOT_RECOGNISED
from tomopipe.scans.formats import ALONE, IMAGES, RAW_ENDINGS
from tomopipe.scans.hdf5 import open_hdf5
from tomopipe.scans.raw_state import REFERENCES, companions, folder_kind, visible
from tomopipe.scans.tree import Found, broken_links, datasets_in, without_alike

_MOST_FILES = 20  # scans that are opened


@dataclass(frozen=True)
class UnknownLayout:
    """Files of one layout that is not recognised."""

    files: list[str]
    # how `overrides` names these, by series or as scans; empty if there are no others
    only: dict[str, list[str]]
    datasets: list[Found]  # of the first one
    broken: list[str]  # its links that lead nowhere
    parts: dict[str, str]  # keys of `input.paths` that are plain by the names in each file
    references: dict[str, str]  # files with their flats and darks, by kind, as far as names tell

    @property
    def has_images(self) -> bool:
        """Whether images are datasets of their own, which `input.paths` cannot name."""
        return any(
            dataset.n_alike and sum(n > 1 for n in dataset.shape) == 2 for dataset in self.datasets
        )

    @property
    def can_be_named(self) -> bool:
        """Whether `input.paths` may help: not if there is no more than such images."""
        return bool(stacks(self.datasets)) or not self.has_images


@dataclass(frozen=True)
class FirstLook:
    """The scans of a new campaign."""

    n_scans: int  # scans that the configuration names, as far as their files are there
    problems: list[str]  # entries of the configuration that match nothing, or too much
    missing: list[str]  # files that are named without a pattern, and not there
    # bytes needed by kind of file (`tomopipe.cost.disk.KINDS`), estimated from some of the scans
    n_bytes: dict[str, int]
    free_bytes: int  # free space for the results
    # scans that were opened, and those of them that can be used
    n_looked: int
    n_usable: int
    # scans that cannot be used, by reason, without those of unknown layout
    faults: dict[str, list[str]]
    unknown: list[UnknownLayout]
    # files of unknown layout that are named like flats or darks, by kind
    references: dict[str, list[str]]


def split_typed(typed: Sequence[str]) -> tuple[str, list[str]]:
    """Separate the campaign folder, the first word that is no scan, else ".", from the scans."""
    campaign = next((argument for argument in typed if not _is_scan(argument)), None)
    scans = list(typed)
    if campaign is not None:
        scans.remove(campaign)
    return campaign or ".", scans


def refuse_typed(scans: Sequence[str], directory: Path) -> None:
    """Raise if a word cannot mean scans: nothing has its name, or it is another campaign.

    A file that is to come has the ending of a raw file, and no other scan is there yet.
    `directory` is the campaign folder, which is not among the words.
    """
    paths = {word: os.path.expanduser(word) for word in scans}
    there = {
        word for word, path in paths.items() if matches(path, directory) or matches(path, Path())
    }
    for word, path in paths.items():
        may_come = glob.has_magic(path) or (not there and path.lower().endswith(RAW_ENDINGS))
        if os.path.exists(os.path.join(path, CONFIG)) or not (word in there or may_come):
            raise TomopipeError(
                f"{word}: no scans are there (the campaign folder would be {directory}). Correct "
                "the name, write a pattern such as 'raw/*.h5' for scans to come, or name the "
                "campaign folder with -C."
            )


def _is_scan(typed: str) -> bool:
    """Tell whether an argument is a file, a pattern, or a folder that holds scans."""
    path = os.path.expanduser(typed)
    if os.path.isdir(path):
        return not os.path.exists(os.path.join(path, CONFIG)) and bool(_scans_in(path, Path()))
    return path.lower().endswith(RAW_ENDINGS) or os.path.exists(path) or glob.has_magic(path)


def _holds_images(folder: str | Path) -> bool:
    """Tell whether a folder is a scan: of images, or of flats, darks and projections in folders.

    Images that are scans of their own, or a few pictures, lie beside other files as they do.
    """
    try:
        names = [path.name for path in visible(folder)]
    except OSError:
        return False
    if images := [name for name in names if name.lower().endswith(IMAGES)]:
        n_alone = sum(name.lower().endswith(ALONE) for name in names)
        return len(images) > n_alone and not (n_alone and _is_stack(Path(folder) / min(images)))
    others = [name for name in names if not folder_kind(name)]
    if len(others) == len(names):
        return _lies_beside_images(Path(folder), names)
    return sum(_holds_images(os.path.join(folder, name)) for name in others) < 2


def _lies_beside_images(folder: Path, names: Sequence[str]) -> bool:
    """Tell whether the only HDF5 file of a folder, named like it, is a log of images in another.

    As PETRA III writes: rock_1/rock_1_nexus.h5 and rock_1/tiff0000/.
    """
    alone = [name for name in names if name.lower().endswith(ALONE)]
    if len(alone) != 1 or not alone[0].startswith(folder.resolve().name):
        return False
    with suppress(Exception), open_hdf5(folder / alone[0]) as file:
        has_no_frames = not any(len(dataset.shape) == 3 for dataset in datasets_in(file))
        return has_no_frames and sum(_holds_images(folder / name) for name in names) == 1
    return False


def _is_stack(image: Path) -> bool:
    """Tell whether a TIFF file has several images."""
    import tifffile

    with suppress(Exception), tifffile.TiffFile(image) as file:  # whatever a broken one raises
        return len(file.series[0].shape) > 2
    return False


def skipped_folders(typed: Iterable[str], directory: Path) -> dict[str, list[str]]:
    """Return the folders whose images lie deeper than init looks, by the folder as typed."""
    return {
        path: deep
        for path, _, below in _folders_below(typed, directory)
        if (deep := [folder.name for folder in below if _any_below(folder)])
    }


def not_looked_at(typed: Iterable[str], directory: Path) -> dict[str, list[str]]:
    """Return scans in one file where init took others, by the folder as typed.

    Those beside the images of a scan, and those in subfolders of what it took.
    """
    beside = {
        path.rstrip("/"): [file.name for file in _alone_in(place)]
        for path in typed
        if (place := _place(path, directory)).is_dir() and _holds_images(place)
    }
    below = {
        path: [f"{file.relative_to(place)}" for file in files]
        for path, place, below in _folders_below(typed, directory)
        if (files := [file for folder in below for file in _alone_in(folder)])
        and _scans_in(str(place), Path())
    }
    return {folder: files for folder, files in (beside | below).items() if files}


def _folders_below(typed: Iterable[str], directory: Path) -> Iterator[tuple[str, Path, list[Path]]]:
    """Yield each folder typed that is no scan: as typed, its path, those in it that are none."""
    for path in typed:
        place = _place(path, directory)
        if place.is_dir() and not _holds_images(place):
            inner = (p for p in visible(place) if p.is_dir() and not folder_kind(p.name))
            yield path.rstrip("/"), place, [p for p in inner if not _holds_images(p)]


def _place(typed: str, directory: Path) -> Path:
    """Return the path that a word means."""
    return directory / _from_campaign(os.path.expanduser(typed), directory)


def _alone_in(folder: Path) -> list[Path]:
    try:
        return [file for file in visible(folder) if file.name.lower().endswith(ALONE)]
    except OSError:
        return []


def _any_below(folder: Path) -> bool:
    return os.access(folder, os.R_OK) and any(map(_holds_images, folder.iterdir()))


def scan_entries(typed: Iterable[str], directory: Path) -> list[str | dict[str, str]]:
    """Return entries of `campaign.scans` for files, folders and patterns as typed.

    They are relative to the campaign folder if they exist there, else to the working directory. All
    files of a folder, or all with one prefix, become a pattern again. Folders that have file names
    in common get a prefix each.
    """
    found = []
    for pattern in typed:
        path = _from_campaign(os.path.expanduser(pattern), directory)
        parts = _scans_in(path, directory) if (directory / path).is_dir() else [path]
        for part in parts or [f"{path.rstrip('/')}/"]:
            folder, name = os.path.split(part.rstrip("/"))
            ending = "/" if part.endswith("/") else os.path.splitext(name)[1]
            found.append(((folder, ending), part))
    entries = [
        entry for group in grouped(found).values() for entry in _as_pattern(group, directory)
    ]
    return _with_prefixes(entries, directory)


def _with_prefixes(entries: list[str], directory: Path) -> list[str | dict[str, str]]:
    """Give a prefix, from its folder, to what has a file name in common with another folder."""
    names = {
        entry: {scan_stem(path.rstrip("/"), directory) for path in matches(entry, directory)}
        for entry in entries
    }
    n_entries = Counter(name for found in names.values() for name in found)
    prefixes = folder_prefixes(entries)
    made: list[str | dict[str, str]] = []
    for entry, found in names.items():
        prefix = folder_prefix(os.path.dirname(entry.rstrip("/")), prefixes)
        if prefix and not glob.has_magic(prefix) and any(n_entries[name] > 1 for name in found):
            made.append({"glob": entry, "prefix": f"{prefix.replace('/', '_')}_"})
        else:
            made.append(entry)
    return made


def _from_campaign(path: str, directory: Path) -> str:
    """Return a path as it stands in the configuration."""
    if os.path.isabs(path) or matches(path, directory) or not matches(path, Path()):
        return path
    folder, end = os.path.abspath(directory), "/" * path.endswith("/")
    absolute = os.path.abspath(path)
    inside = absolute.startswith(f"{folder}/")
    return (os.path.relpath(absolute, folder) if inside else absolute) + end


def _scans_in(path: str, directory: Path) -> list[str]:
    """Return the scans in a folder: patterns of files, folders of images, or itself."""
    place, path = directory / path, path.rstrip("/")
    if _holds_images(place):
        return [f"{path}/"]
    names = sorted(os.listdir(place))
    endings = {os.path.splitext(name)[1] for name in names if name.lower().endswith(RAW_ENDINGS)}
    beside = {companion for name in names for companion in companions(name, place)}
    others = [name for name in names if not folder_kind(name) and name not in beside]
    inner = [name for name in others if _holds_images(place / name)]
    images = [f"{path}/{name}/" for name in inner]
    every = f"{glob.escape(path)}/*/"  # also one that comes later
    found = [f"{glob.escape(path)}/*{ending}" for ending in sorted(endings)]
    found += [every] if images and {*matches(every, directory)} == {*images} else images
    return found


def _as_pattern(group: list[str], directory: Path) -> list[str]:
    """Return the pattern that matches these files only, or all of them."""
    if len(group) < 2:
        return group
    names = [os.path.basename(path.rstrip("/")) for path in group]
    folder = os.path.dirname(group[0].rstrip("/"))
    ending = "/" if group[0].endswith("/") else os.path.splitext(names[0])[1]
    beginning = os.path.commonprefix(names).rstrip("0123456789")  # noqa: RUF071 - of names
    for start in ("", beginning):
        pattern = os.path.join(glob.escape(folder), f"{glob.escape(start)}*{ending}")
        if matches(pattern, directory) == sorted(group):
            return [pattern]
    return list(dict.fromkeys(group))


def first_look(campaign: Campaign) -> FirstLook:
    """Open some files of a campaign, metadata only."""
    there = [scan for scan in campaign.scans.values() if scan.n_bytes is not None]
    sampled = [scan.name for scan in there[:: max(1, len(there) // _MOST_FILES)]]
    with tempfile.TemporaryDirectory(prefix="tomopipe-init-") as folder:
        rows = expected_inventory(campaign, Path(folder), sampled)
    usable = [row for row in rows.values() if row["keep"] == "true"]
    unknown = [row for row in rows.values() if NOT_RECOGNISED in row["reason"]]
    others = [row for row in rows.values() if row not in usable and row not in unknown]
    faults = [(row["reason"], row["scan"]) for row in others]
    faults += [(scan.refused, scan.name) for scan in campaign.refused]
    layouts, references = _unknown_layouts(campaign.directory, unknown, list(rows.values()))
    return FirstLook(
        len(there) + len(campaign.refused),
        path_problems(campaign.config, campaign.directory),
        [scan.path for scan in campaign.scans.values() if scan.n_bytes is None],
        _disk(campaign, usable, len(there) / max(1, len(rows))),
        shutil.disk_usage(campaign.directory).free,
        len(rows) + len(campaign.refused),
        len(usable),
        grouped(faults),
        layouts,
        references,
    )


def _unknown_layouts(
    directory: Path, unknown: Sequence[Mapping[str, str]], rows: Sequence[Mapping[str, str]]
) -> tuple[list[UnknownLayout], dict[str, list[str]]]:
    """Group files by their datasets, flats and darks by kind apart; `rows` are of all scans."""
    opened: dict[str, tuple[list[Found], list[str]]] = {}
    for row in unknown:
        with open_hdf5(directory / row["path"]) as file:
            opened[row["path"]] = without_alike(datasets_in(file)), broken_links(file)
    stems = [_stem(row["path"]) for row in rows]
    scans = [stem for stem in stems if not REFERENCE_WORD.search(stem)]
    kinds = {path: _reference_kind(path, found, scans) for path, (found, _) in opened.items()}
    groups = grouped(
        (frozenset(found.kind for found in opened[row["path"]][0]), row)
        for row in unknown
        if not kinds[row["path"]]
    )
    named = {kind: [path for path, found in kinds.items() if found == kind] for kind in REFERENCES}
    references = {kind: paths for kind, paths in named.items() if paths}
    layouts = []
    for group in groups.values():
        paths, scans = [row["path"] for row in group], [row["scan"] for row in group]
        layouts.append(
            UnknownLayout(
                paths,
                _named_apart(group, [row for row in rows if row not in group]),
                *opened[paths[0]],
                parts_by_name([opened[path][0] for path in paths]),
                {kind: name for kind, p in references.items() if (name := _pattern(p, scans))},
            )
        )
    return layouts, references


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _reference_kind(path: str, datasets: Iterable[Found], scans: Sequence[str]) -> str:
    """Tell by its name whether a file has flats or darks, in its only dataset of frames, or "".

    The rest of the name is that of one of the `scans`, or has no letters: dark_shale_1 is a scan.
    """
    stem = _stem(path)
    word = REFERENCE_WORD.search(stem)
    if word is None or not scans or sum(len(found.shape) in (2, 3) for found in datasets) != 1:
        return ""
    rest = [part.strip(" _.-") for part in (stem[: word.start()], stem[word.end() :])]
    of_scan = any(part and scan.startswith(part) for part in rest for scan in scans)
    return (word.lastgroup or "") if of_scan or not re.search("[a-zA-Z]", "".join(rest)) else ""


def _pattern(paths: Sequence[str], scans: Sequence[str]) -> str:
    """Return the file of flats (or darks) for each {scan}, else the only one there is, or ""."""
    for path in paths:
        folder, name = os.path.split(path)
        scan = max((scan for scan in scans if name.startswith(scan)), key=len, default="")
        if scan:
            return os.path.join(folder, f"{{scan}}{name.removeprefix(scan)}")
    return paths[0] if len(paths) == 1 else ""


def _disk(campaign: Campaign, usable: Sequence[Mapping[str, str]], factor: float) -> dict[str, int]:
    """Return the bytes that the results of all scans take, estimated from some, by kind."""
    rules = ["full_recon", "try_recon"] + ["export_stack"] * campaign.config.export_star.enabled
    return {
        KINDS[rule]: int(factor * sum(output_bytes(campaign, rule, row) for row in usable))
        for rule in rules
    }


def _named_apart(
    chosen: Sequence[Mapping[str, str]], others: Sequence[Mapping[str, str]]
) -> dict[str, list[str]]:
    """Return what `overrides` calls some scans: their series, unless it has others."""
    if not chosen or not others:
        return {}
    series = dict.fromkeys(row["series"] for row in chosen)
    if any(row["series"] in series for row in others):
        return {"scans": [row["scan"] for row in chosen]}
    return {"series": list(series)}
