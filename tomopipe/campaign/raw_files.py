"""The raw files of a campaign: found by patterns, named or refused, and grouped in series.

No raw file is opened here.
"""

import glob
import os
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from unicodedata import category
from urllib.parse import unquote

from tomopipe.campaign.files import SIDECAR, VIEWS, encode_series
from tomopipe.campaign.views import View, Views, time_point
from tomopipe.config import Config, ScanGlob, not_carried
from tomopipe.config.base import endless_tail
from tomopipe.config.blocks import SERIES_PATTERN
from tomopipe.cor.cor_value import NO_TEXT, CorText
from tomopipe.errors import TomopipeError, grouped
from tomopipe.scans.formats import RAW_ENDINGS

MAX_NAME_BYTES = 230  # of the 255 bytes of a file name, leaving room for our longest ending
_COPIES = (".part", ".partial", ".filepart", ".tmp", ".temp", ".done", "~")
_COUNTED = re.compile(r"(.*\d)_(\d{4})", re.DOTALL)  # a number of four digits after another one


@dataclass(frozen=True)
class CampaignScan:
    """One raw file of the campaign with its row of the campaign table."""

    name: str  # file stem with the entry's prefix: `<scan>` in every path
    path: str  # as in the config: relative to the campaign folder, or absolute
    abspath: str  # absolute, symbolic links kept; of a view with its suffix
    # series key; if the config names several folders, it begins with a prefix of the folder
    series: str
    index: int  # number within the series
    # cells of the campaign table: auto, yes or no; COR; remark
    select: str = "auto"
    manual: CorText = NO_TEXT
    note: str = ""
    # of the file or folder itself; None if it does not exist
    n_bytes: int | None = None
    mtime_ns: int | None = None
    refused: str = ""  # why the name cannot be used at all, or empty
    view: View | None = None  # the part of the file that it is; None: all of it

    @property
    def part_path(self) -> str:
        """The path as in the config, of a view with its suffix."""
        return self.path + (self.view.suffix if self.view else "")


def find_scans(
    config: Config,
    directory: Path,
    only: Collection[str] | None = None,
    views: Views | None = None,
) -> list[CampaignScan]:
    """Find the raw files of a campaign, with series and index from their names.

    A name of two files, or one that cannot be a file name, is refused, with the reason in
    `refused`. `only` are the paths that count (None: all); `views` names the views in files.
    """
    scans: dict[tuple[str, str, str], CampaignScan] = {}
    views = views or Views(directory / config.campaign.results / VIEWS, directory)
    for each in _globs(config):
        for found in _expand(os.path.expanduser(each.glob), directory):
            path = found.rstrip("/")  # a pattern that ends in / finds folders only
            if only is not None and path not in only:
                continue
            name = each.prefix + scan_stem(path, directory)
            scan = _scan(path, name, config, directory)
            # time points are read with the options of the first one
            of_first = partial(config.for_scan, name + time_point(0), name)
            parts = views.of(path, each, of_first)
            for part in [scan] if parts is None else [_part(scan, view) for view in parts]:
                # raw/a.h5 and ./raw/a.h5 are the same file
                entry = part.view.entry if part.view else ""
                scans.setdefault((part.abspath, part.name, entry), part)
    everything = _counted_from_0(list(scans.values()), config.inventory.series_pattern)
    everything = _apart(everything, _patterns(config))
    names = grouped((scan.name, scan) for scan in everything)
    return [
        replace(scan, refused=why) if (why := _twice(scan, names[scan.name])) else scan
        for scan in everything
    ]


def raw_paths(config: Config, directory: Path) -> tuple[list[str], list[str]]:
    """Return the raw files that the patterns match now, and missing folders of patterns.

    Unfinished copies are skipped: names that begin with a dot, or have the ending of one.
    """
    paths = (path.rstrip("/") for each in _patterns(config) for path in _expand(each, directory))
    names = ((path, os.path.basename(path)) for path in dict.fromkeys(paths))
    ready = [p for p, name in names if not (name.startswith(".") or name.lower().endswith(_COPIES))]
    return ready, missing_folders(config, directory)


def growing_files(config: Config, directory: Path) -> set[str]:
    """Return the files whose time points are scans: each is complete by itself."""
    expanded = (_expand(os.path.expanduser(e.glob), directory) for e in _globs(config) if e.turns)
    return {path.rstrip("/") for paths in expanded for path in paths}


def missing_folders(config: Config, directory: Path) -> list[str]:
    """Return the missing folders of the patterns."""
    return [folder for folder in folders(config) if not os.path.isdir(directory / folder)]


def folders(config: Config) -> list[str]:
    """Return the folders of the patterns, up to their first wildcard."""
    return list(dict.fromkeys(map(fixed_folder, _patterns(config))))


def _globs(config: Config) -> list[ScanGlob]:
    """Return each entry of campaign.scans as a pattern with its options."""
    entries = config.campaign.scans
    return [each if isinstance(each, ScanGlob) else ScanGlob(glob=each) for each in entries]


def _patterns(config: Config) -> list[str]:
    return [os.path.expanduser(each.glob) for each in _globs(config)]


def path_problems(config: Config, directory: Path) -> list[str]:
    """Describe problems of the entries of campaign.scans, one sentence each.

    Entries without a match, folders that cannot be read, and files that are several scans.
    """
    problems = []
    uses: list[tuple[str, str]] = []  # path of a file, name of the scan
    for each in _globs(config):
        pattern, prefix = each.glob, each.prefix
        expanded = os.path.expanduser(pattern)
        unreadable = _unreadable(pattern, directory)
        problems += unreadable
        result = _expand(expanded, directory)
        if not result and not unreadable:
            why = why_no_match(expanded, directory)
            problems.append(f"campaign.scans: no file matches {pattern}{why}")
        for path in result:
            name = prefix + scan_stem(path.rstrip("/"), directory)
            uses.append((os.path.abspath(directory / path), name))
    for file, names in grouped(dict.fromkeys(uses)).items():
        if len(names) > 1:
            problems.append(f"{file} is {len(names)} scans: {', '.join(names)}; list it once")
    return problems


def unread_folders(config: Config, directory: Path) -> list[str]:
    """Describe the folders of campaign.scans that this user cannot read, one sentence each."""
    return [text for each in _globs(config) for text in _unreadable(each.glob, directory)]


def _unreadable(pattern: str, directory: Path) -> list[str]:
    return [
        f"{path}: this folder cannot be read, so no file in it can match {pattern}; get the right "
        "to read and enter it"
        for path in _folders(os.path.expanduser(pattern), directory)
        if not os.access(path, os.R_OK | os.X_OK)
    ]


def _folders(pattern: str, directory: Path) -> list[Path]:
    """List the folders in which the files of a pattern are searched, as far as readable."""
    result, parts = [directory], Path(os.path.dirname(pattern.rstrip("/"))).parts
    for number, part in enumerate(parts):
        above = os.path.join(*parts[: number + 1])
        if not glob.has_magic(part):
            result.append(directory / above)
        elif part != "**":
            result += [directory / path for path in glob.glob(above, root_dir=directory)]
    return [path for path in dict.fromkeys(result) if path.is_dir()]


def why_no_match(pattern: str, directory: Path) -> str:
    """Return the end of a sentence: the missing folder of a pattern, else the campaign folder."""
    folder = directory
    for part in Path(fixed_folder(pattern)).parts:
        folder /= part
        if not folder.is_dir():
            return f": there is no folder {folder}"
    return f" in {directory}"


def _expand(pattern: str, directory: Path) -> list[str]:
    """Return the paths that match a pattern; a plain path even if the file is missing."""
    return matches(pattern, directory) if glob.has_magic(pattern) else [pattern]


def matches(pattern: str, directory: Path) -> list[str]:
    """Return the existing paths that match a pattern, or equal it, without our sidecars."""
    if os.path.lexists(directory / pattern):
        return [pattern]
    results = glob.glob(pattern, root_dir=directory, recursive=True)
    return sorted(path for path in results if not path.endswith(SIDECAR))


def _counted_from_0(scans: list[CampaignScan], pattern: str) -> list[CampaignScan]:
    """Return run_12_0000 in the series of run_12_0001, if there is one like this in its folder.

    Without one `_0000` is a suffix by the default pattern, and the scan number 12 of run.
    """
    if pattern != SERIES_PATTERN:
        return scans
    ends = [_COUNTED.fullmatch(scan.name) for scan in scans]
    others = {
        (os.path.dirname(scan.path), end[1])
        for scan, end in zip(scans, ends, strict=True)
        if end and int(end[2])
    }
    return [
        replace(scan, series=end[1].rstrip("._-"), index=0)
        if end and not int(end[2]) and (os.path.dirname(scan.path), end[1]) in others
        else scan
        for scan, end in zip(scans, ends, strict=True)
    ]


def _apart(scans: list[CampaignScan], patterns: list[str]) -> list[CampaignScan]:
    """Give the series of several folders different keys."""
    folders = {os.path.dirname(pattern.rstrip("/")) for pattern in patterns}
    if len(folders) == 1 and not glob.has_magic(*folders):
        return scans
    prefixes = folder_prefixes(patterns)
    of = [os.path.dirname(scan.path) for scan in scans]
    short = {folder: folder_prefix(folder, prefixes) for folder in of}
    keys = [f"{short[f]}/{s.series}".removeprefix("/") for s, f in zip(scans, of, strict=True)]
    if len({*short.values()}) < len({*map(os.path.normpath, short)}):
        keys = [f"{folder}/{scan.series}" for scan, folder in zip(scans, of, strict=True)]
    return [replace(scan, series=key) for scan, key in zip(scans, keys, strict=True)]


def _scan(path: str, name: str, config: Config, directory: Path) -> CampaignScan:
    series, index = split_name(name, config.inventory.series_pattern)
    full_path = os.path.join(directory, path)
    result = None
    with suppress(OSError, ValueError):  # no file, or not a valid name: the inventory says why
        result = os.stat(full_path)
    return CampaignScan(
        name=name,
        path=path,
        abspath=os.path.abspath(full_path),
        series=series,
        index=index,
        n_bytes=result and result.st_size,
        mtime_ns=result and result.st_mtime_ns,
        refused=_refusal(name, path, series),
    )


def _part(file: CampaignScan, view: View) -> CampaignScan:
    """Return the scan of a view of a file; several are a series, in their order."""
    result = replace(
        file,
        name=file.name + view.suffix,
        abspath=file.abspath + view.suffix,
        view=view,
    )
    if view.is_only:
        return result
    refused = _refusal(result.name, file.path, file.name) or view.refused
    return replace(result, series=file.name, index=view.number, refused=refused)


def scan_stem(path: str, directory: Path) -> str:
    """Return the name of a scan; folders keep extensions that are not of raw files."""
    stem, ending = os.path.splitext(os.path.basename(path))
    if ending.lower() in RAW_ENDINGS:  # nearly all: the disk is not asked
        return stem
    return stem + ending if os.path.isdir(os.path.join(directory, path)) else stem


def _refusal(name: str, path: str, series: str) -> str:
    """Return why a name cannot be a wildcard or part of file names; "" if it can."""
    try:
        n_bytes = len(name.encode())
        path.encode()
    except UnicodeEncodeError:
        return "the name is not valid UTF-8; rename the file"
    invisible = sorted({c for c in name if category(c) in ("Cc", "Zl", "Zp")})
    if bad := [*invisible, *not_carried(name)]:
        shown = ", ".join(map(repr, bad))
        return f"the name contains {shown}, which a workflow cannot handle; rename the file"
    if tail := endless_tail(name) or endless_tail(encode_series(series)):
        return (
            f"the name, or that of its series, ends in {unquote(tail)!r} 20 times or more, "
            "which Snakemake refuses; rename the file"
        )
    if re.search(r"[{}\x00-\x1f\x7f]", path):
        return "the folder's name contains a brace or a control character; rename the folder"
    if n_bytes > MAX_NAME_BYTES:
        return f"the name has {n_bytes} bytes; at most {MAX_NAME_BYTES} leave room for endings"
    return ""


def _twice(scan: CampaignScan, alike: list[CampaignScan]) -> str:
    """Return a sentence on other scans of the same name; "" if none, or already refused."""
    if scan.refused or len(alike) < 2:
        return ""
    others = ", ".join(other.path for other in alike if other is not scan)
    if len({other.abspath for other in alike}) == 1:
        entries = ", ".join(sorted(each.view.entry for each in alike if each.view))
        return f"entries of one name: {entries}; rename one in {scan.path}"
    if len({os.path.realpath(other.abspath) for other in alike}) == 1:
        return f"one file twice, by links: also {others}; list it once"
    return f"two files with one name: also {others}; rename one, or give the entry a prefix"


def split_name(stem: str, pattern: str) -> tuple[str, int]:
    """Split the name of a scan into series and index, by the pattern's groups 1 and 2.

    If the pattern does not match, the series is the whole stem and the index 0. The groups are as
    in the TomoGUI manual, "COR Management", the default but for `_0000` after a number, too.
    """
    match = re.search(pattern, stem)
    if match is None:
        return stem, 0
    try:
        return match[1] or "", int(match[2] or 0)
    except ValueError as error:
        raise TomopipeError(
            f"inventory.series_pattern: {pattern!r}: group 2 must be digits; got {match[2]!r} from "
            f"the name {stem!r}."
        ) from error


def fixed_folder(pattern: str) -> str:
    """Return the folder of a pattern, up to its first wildcard; "" for the campaign folder."""
    folder = os.path.dirname(pattern.rstrip("/"))
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder


def folder_prefixes(patterns: Iterable[str]) -> dict[str, str]:
    """Return the folders of patterns, each up to a wildcard, with a unique prefix.

    In the order of the config: "" for the first folder, for each other one the shortest end of its
    path that no earlier one has: a folder added at the end renames no series.
    """
    prefixes: dict[str, str] = {}
    used: set[str] = set()
    for pattern in patterns:
        folder = os.path.normpath(fixed_folder(pattern))
        if folder in prefixes:
            continue
        names = [part for part in PurePath(folder).parts if part != "/"]
        ends = ["/".join(names[-n:]) for n in range(1, len(names) + 1)]
        whole = f"./{folder}".removesuffix("/.")
        prefix = next((end for end in ends if end not in used), whole)
        prefixes[folder] = prefix if prefixes else ""
        used.update(ends)
    return prefixes


def folder_prefix(folder: str, prefixes: Mapping[str, str]) -> str:
    """Return the prefix of the series of a folder, including what wildcards match.

    `folder` is that of a scan as in the config, `prefixes` is from `folder_prefixes`.
    """
    path = PurePath(os.path.normpath(folder))
    named = [prefix for prefix in prefixes if path.is_relative_to(prefix)]
    root = max(named, key=lambda prefix: len(PurePath(prefix).parts))
    below = "/".join(path.relative_to(root).parts)
    above = prefixes[root]
    if below and not above and len(prefixes) > 1:
        above = PurePath(root).name
    return "/".join(filter(None, (above, below)))
