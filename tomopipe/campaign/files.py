"""Paths of all files in a campaign folder, which are defined in no other module.

Exceptions are the names of other programs (files in Snakemake's folder; a Snakefile or profile
outside the campaign; TomoGUI's folders of results), the cache of kernels in `tomopipe.recon.jit`,
and what says who may write in `tomopipe.storage`: the lock, and the folder of a run.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, unquote

from tomopipe.paths import no_pipe
from tomopipe.storage import lock
from tomopipe.volume_formats import FORMATS, OUTPUTS
from tomopipe.workflow_steps import STEPS

if TYPE_CHECKING:
    from tomopipe.config import Config

CONFIG, TABLE, TRUTH = "config.yaml", "scans.tsv", "truth.json"
SNAKEFILE = "Snakefile"
SNAKEMAKE = ".snakemake"  # Snakemake's own folder
COR_TABLE, ROT_CEN, VIEWS = "cor.json", "rot_cen.json", "views.json"

# in the folder of a scan
TRY_CENTER = "try_center"
ROWS, SWEEP, TRY_STACK = "rows.h5", "try.json", "try.tif"
PREDICTION, CENTER = "prediction.json", "center_of_rotation.txt"

SIDECAR, SIDECARS = ".cor.json", "sidecars"
VOLUMES = {name: FORMATS[name].ending for name in OUTPUTS}
MRC_VOLUME, STACK = "_rec.mrc", ".mrcs"
# of `tomopipe convert`; scans have no results of these names, except those in the set for RELION
CONVERTED = {"mrc": MRC_VOLUME} | {name: each.converted for name, each in FORMATS.items()}

# in the folder for RELION
BINNING, STAR, NAMES = "binning.json", "tomograms.star", "names.tsv"
NAMES_COLUMNS = ("scan", "rlnTomoName")
STAR5 = "tomograms_relion5.star"  # the table `global` alone
TABLES = ".tables.json"  # digests of the tables of each tomogram
TILT_SERIES, LINKS = "tilt_series", "links"

# beside the page of the report
PICTURES, PICTURES_MADE, FRAGMENTS = "pictures", "pictures.json", "rows.txt"
SHOWN = "shown.json"

IN_FORMATS = ("volume", "stitched")  # names of files, of which each format has its own
P = TypeVar("P", str, Path)
_LONGEST_NAME_BYTES = 200  # of the 255 bytes of a file name, leaving room for suffixes


@dataclass(frozen=True)
class _Folder(Generic[P]):
    """A folder, as text (for rules) or as Path; its paths have the same type."""

    folder: P

    def at(self, path: str) -> P:
        """Return a path below the folder; used in this module only."""
        return type(self.folder)(f"{str(self.folder).rstrip('/')}/{path}")


@dataclass(frozen=True)
class _One:
    """A file that exists once in a folder."""

    path: str

    def __get__(self, folder: _Folder[P], owner: Any) -> P:
        return folder.at(self.path)


class _Each:
    """A file for each scan, series or stack, whose name replaces the braces."""

    def __init__(self, path: str) -> None:
        self.start, _, self.end = path.partition("{}")

    def __set_name__(self, _: Any, name: str) -> None:
        self.name = name

    def __get__(self, folder: _Folder[P], owner: Any) -> Callable[[str], P]:
        start, end = f"{str(folder.folder).rstrip('/')}/{self.start}", self.end
        kind = type(folder.folder)

        def path_of(name: str) -> P:
            return kind(f"{start}{name}{end}")

        folder.__dict__[self.name] = path_of  # cached: there may be thousands
        return path_of


@dataclass(frozen=True)
class Files(_Folder[P]):
    """The results folder of a campaign, or a folder with the same files."""

    inventory = _One("inventory.tsv")
    cor_table = _One(COR_TABLE)
    rot_cen = _One(ROT_CEN)
    index = _One(".settled.json")  # content of the last receipts
    views = _One(VIEWS)  # names of the entries of files that are scans of their own
    value_range = _One("value_range.json")  # of all volumes (full_recon.value_range: campaign)
    report = _One("report/index.html")
    live = _One("live/index.html")  # scans and verdicts of `run --watch`
    taken = _One("live/taken.json")
    announced = _One(".hooks.json")  # the results that hooks were called for
    fix_table = _Each("fix_cor/{}.tsv")  # of a series, encoded

    try_center = _One(TRY_CENTER)
    of_scan = _Each(f"{TRY_CENTER}/{{}}")
    rows = _Each(f"{TRY_CENTER}/{{}}/{ROWS}")
    sweep = _Each(f"{TRY_CENTER}/{{}}/{SWEEP}")
    try_stack = _Each(f"{TRY_CENTER}/{{}}/{TRY_STACK}")
    prediction = _Each(f"{TRY_CENTER}/{{}}/{PREDICTION}")
    center = _Each(f"{TRY_CENTER}/{{}}/{CENTER}")  # accepted COR; people may edit it
    sidecar = _Each(f"{SIDECARS}/{{}}{SIDECAR}")  # if it is not beside the data

    shifts = _Each("stitched/{}.json")  # overlaps of stitched volumes
    in_relion = _Each("relion/{}")
    star = _One(f"relion/{STAR}")
    star5 = _One(f"relion/{STAR5}")
    tomogram_names = _One(f"relion/{NAMES}")
    tilt_series = _One(f"relion/{TILT_SERIES}")
    links = _One(f"relion/{LINKS}")
    stack = _Each(f"relion/stacks/{{}}{STACK}")
    stack_meta = _Each("relion/stacks/{}.json")
    mrc_volume = _Each(f"{{}}{MRC_VOLUME}")  # of `tomopipe convert mrc`

    def receipt(self, step: str, key: str = "campaign") -> P:
        """Receipt of the result of a step for a scan, series or stack."""
        return self.at(f"made/{step}/{key}.json")

    def outputs(self, step: str, key: str = "campaign", output: str = "") -> list[P]:
        """Results of a step for a scan, series or stack; `output` is the format of volumes."""
        return [self.named(name, key, output) for name in STEPS[step].outputs]

    def named(self, name: str, key: str, output: str = "") -> P:
        """File of a name here, of a scan, series or stack, or of the campaign."""
        file: Any = getattr(self, name)
        if not callable(file):
            path: P = file
        else:
            path = file(key, output) if name in IN_FORMATS else file(key)
        return path

    def volume(self, scan: str, output: str) -> P:
        """Volume of a scan in the format `full_recon.output`."""
        return self.at(scan + VOLUMES[output])

    def stitched(self, stack: str, output: str) -> P:
        """Volume of scans at several heights."""
        return self.at(f"stitched/{stack}{VOLUMES[output]}")

    def failure(self, step: str, scan: str) -> P:
        """Record of a job that failed finally."""
        return self.at(f"failed/{step}/{scan}.json")

    def option_sweeps(self, scan: str) -> P:
        """Folder of the sweeps of a scan, a folder for each."""
        return self.at(f"sweep/{scan}")

    def option_sweep(self, scan: str, keys: str) -> tuple[P, P, P]:
        """Page, slices, and what these are, of `tomopipe sweep` over one option, or two."""
        folder = f"sweep/{scan}/{keys}"
        names = ("index.html", "sweep.tif", "sweep.json")
        page, stack, about = (self.at(f"{folder}/{name}") for name in names)
        return page, stack, about


@dataclass(frozen=True)
class Logs(_Folder[P]):
    """The folder of logs of a campaign."""

    status_folder = _One("status")  # with <step>/<key>.json of every job
    of_runs = _One("run")  # Snakemake's logs of the last runs
    watched_files = _One("watch/files.json")  # the raw files that its present run sees
    of_hooks = _One("hooks.log")

    def log(self, step: str, key: str = "campaign") -> P:
        """Log of a job."""
        return self.at(f"{step}/{key}.log")

    def status(self, step: str, key: str) -> P:
        """State of a job."""
        return self.at(f"status/{step}/{key}.json")


LOGS = Logs(lock.LOGS)


NO_PREFIX = "(no prefix)"
"""The empty series, for people."""


@cache  # asked for each scan
def encode_series(key: str) -> str:
    """Turn the key of a series, any text, into a file name, one to one.

    The percent-encoded key of at most 200 bytes; `_` for the empty key (a series named `_` becomes
    `%5F`). Longer ones end in `@` and a hash; others have no `@`.
    """
    if key in ("", "_"):
        return "%5F" if key else "_"
    name = quote(key, safe="", errors="surrogateescape")
    if name.startswith("."):  # no hidden files, nor `.` and `..`
        name = "%2E" + name[1:]
    if len(name) <= _LONGEST_NAME_BYTES:
        return name
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{name[: _LONGEST_NAME_BYTES - 17]}@{digest}"


def job_name(step: str, key: str) -> str:
    """Return the scan, stack or series of a job as people write it: a series is not encoded."""
    is_series = step in STEPS and STEPS[step].key == "series"
    if is_series and key == encode_series(""):
        return NO_PREFIX
    return unquote(key) if is_series else key


def converted(volume: Path, output_format: str) -> Path:
    """Return the path of a converted volume: beside the original."""
    ending = next(end for end in VOLUMES.values() if volume.name.endswith(end))
    return volume.with_name(volume.name.removesuffix(ending) + CONVERTED[output_format])


def history_of(table: Path) -> Path:
    """Return the path of the history of a campaign table: beside it."""
    return table.with_name(f"{table.stem}.history.tsv")


def title_of(config: "Config", directory: Path) -> str:
    """Return the title of a campaign, by default the name of its folder."""
    return config.campaign.name or directory.name


def find_campaign(start: Path) -> Path:
    """Return the folder of the campaign that `start` lies in: itself, or the nearest one above it.

    A campaign has a config.yaml with a block `campaign`. If there is none, return `start`.
    """
    folder = Path(os.path.abspath(start))
    if (folder / CONFIG).exists() or not folder.is_dir():
        return folder  # a misspelt name is not searched for
    return next((parent for parent in folder.parents if _is_campaign(parent / CONFIG)), folder)


def _is_campaign(config: Path) -> bool:
    try:
        text = no_pipe(config).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"""^\W*campaign\W*:""", text, re.MULTILINE) is not None
