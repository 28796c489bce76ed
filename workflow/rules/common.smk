import json
import os
import sys
import time
from functools import lru_cache
from pathlib import Path

import yaml

from tomopipe.campaign import as_json, campaign_from_data, options, read_inventory
from tomopipe.dryrun import is_recorded
from tomopipe.errors import TomopipeError
from tomopipe.io.layout import is_without_angles
from tomopipe.io.tables import read_tsv
from tomopipe.steps._angles import proven_angles, with_angles

START_TIME = time.time()

if not config and Path("config.yaml").exists():
    config.update(yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8")) or {})

if " " in sys.executable:
    sys.exit(
        f"tomopipe: Python is {sys.executable}, and Snakemake cannot start a Python whose path "
        "has a blank. Install tomopipe in a folder without (campaigns may have blanks)."
    )

try:
    CAMPAIGN = campaign_from_data(config, Path.cwd())
except TomopipeError as error:
    sys.exit(f"tomopipe: {error}")


wildcard_constraints:
    scan=r"[^/]+",
    series=r"[^/]+",
    stack=r"[^/]+",
    folder=r".+",


# `tomopipe plan` asks for the jobs of the next run. A dry run cannot see past a checkpoint, so
# plan works out the tables that the checkpoints will write, in the folder FORESEEN, and asks
# twice: for the jobs up to cor.json, and, AFTER_COR, for those after it, as if it were there.
FORESEEN = os.environ.get("TOMOPIPE_FORESEEN", "")
AFTER_COR = os.environ.get("TOMOPIPE_AFTER_COR", "")
INVENTORY = CAMPAIGN.result("inventory.tsv")
COR_TABLE = CAMPAIGN.result("cor.json")
ROT_CEN = CAMPAIGN.result("rot_cen.json")
REPORT = CAMPAIGN.result("report", "index.html")


def inventory_rows():
    """The rows of the inventory, once it is up to date."""
    if not FORESEEN:
        checkpoints.inventory.get()
    return read_inventory(foreseen(INVENTORY))


def cor_table(wildcards=None):
    """The path of cor.json, once it is up to date."""
    if not FORESEEN:
        # in this order, else the second checkpoint is taken for finished before its inputs are known
        checkpoints.inventory.get()
        checkpoints.resolve_cor.get()
    return foreseen(COR_TABLE)


@lru_cache(maxsize=4)
def read_json_at(path, mtime_ns):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_json(path):
    """Read JSON, memoised by time: the workflow asks once per job."""
    return read_json_at(str(path), os.stat(path).st_mtime_ns)


def resolved():
    """The content of cor.json, {scan: {cor_px, source}}, of the scans that are in.

    While an inventory has just changed, Snakemake also asks before cor.json has followed.
    """
    path, inventory = cor_table(), foreseen(INVENTORY)
    times = (os.stat(path).st_mtime_ns, os.stat(inventory).st_mtime_ns)
    return resolved_at(path, inventory, times)


@lru_cache(maxsize=4)
def resolved_at(path, inventory, times):
    rows = read_inventory(inventory)
    return {
        scan: entry
        for scan, entry in read_json(path).items()
        if scan in rows and CAMPAIGN.is_in(scan, rows[scan])
        # without angles there is no volume, wherever a COR came from
        and not (lacks_angles(scan) and proven_angles(try_center(scan, "try.json")) is None)
    }


def foreseen(path):
    """Where to read a table: in a foreseen run, what it will hold."""
    if not FORESEEN:
        return path
    return os.path.join(FORESEEN, os.path.relpath(path, CAMPAIGN.config.campaign.results))


def settled(paths, output):
    """Tables below a checkpoint, as inputs of the rule that makes `output`.

    In a run Snakemake compares them with what the rule last read; in a foreseen run there is no
    record of the foreseen tables, so that comparison is made here.
    """
    if not FORESEEN:
        return paths
    return [
        (ancient(foreseen(path)) if is_recorded(output, path, foreseen(path)) else foreseen(path))
        for path in paths
    ]


def raw(wildcards):
    return CAMPAIGN.scans[wildcards.scan].path


def raw_signature(wildcards):
    # past the checkpoint, and not through it: the Snakemake that runs a group on a node has none
    table = foreseen(INVENTORY)
    rows = read_inventory(table) if os.path.exists(table) else None
    return CAMPAIGN.raw_signature(wildcards.scan, rows)


def lacks_angles(scan):
    """Whether the file has no angles and nobody told them: try_recon has to prove them."""
    table = foreseen(INVENTORY)  # past the checkpoint, as above
    row = (read_inventory(table) if os.path.exists(table) else {}).get(scan)
    return bool(row) and is_without_angles(row["warnings"])


def known_angles(scan, options):
    """Options of a step; those of a scan that lacks angles with what try_recon has proved."""
    if not lacks_angles(scan):
        return options
    angles = proven_angles(try_center(scan, "try.json"))
    return with_angles(options, angles) if angles else options


def try_center(scan, name):
    return CAMPAIGN.result("try_center", scan, name)


def predictions_of(scans):
    """The files that predict_cor makes for scans whose job did not die for good."""
    alive = [scan for scan in scans if scan not in CAMPAIGN.failures]
    names = ("prediction.json", "center_of_rotation.txt")
    return [try_center(scan, name) for scan in alive for name in names]


def predictions_of_all(wildcards):
    if AFTER_COR:
        return []
    return predictions_of(CAMPAIGN.scans_in(inventory_rows()))


def fix_tables(wildcards=None):
    return [
        CAMPAIGN.result("fix_cor", f"{series}.tsv")
        for series in CAMPAIGN.series_in(inventory_rows())
    ]


@lru_cache(maxsize=4)
def read_fix_tables(tables):
    """All rows of the fix tables by scan; `tables` names each with its time."""
    return {row["scan"]: row for path, _ in tables for row in read_tsv(path, ("scan",))}


def fixed_rows():
    cor_table()
    paths = [path for path in map(foreseen, fix_tables()) if os.path.exists(path)]
    return read_fix_tables(tuple((path, os.stat(path).st_mtime_ns) for path in paths))


def prediction_of(scan):
    """What prediction.json says, or None for a scan whose job died for good."""
    path = try_center(scan, "prediction.json")
    if scan in CAMPAIGN.failures or not os.path.exists(path):
        return None
    return read_json(path)


def shape_of(wildcards, rows=None):
    """Angles, rows and columns of a scan as the inventory found them."""
    row = (rows or inventory_rows())[wildcards.scan]
    return tuple(int(row[name]) for name in ("n_angles", "n_rows", "n_cols"))


def flats_and_darks(wildcards=None):
    """Files with flats, darks or angles that scans share, or that one scan needs."""
    scan = getattr(wildcards, "scan", None)
    return (CAMPAIGN.for_scan(scan) if scan else CAMPAIGN).shared_files()
