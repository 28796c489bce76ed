"""A fabricated campaign for the tests of the report: small files of every kind, no raw data."""

import json
import shutil
import time
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import Files, encode_series
from tomopipe.campaign.raw_files import CampaignScan
from tomopipe.campaign.results import write_tsv
from tomopipe.config import parse_config
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.outliers import FIX_COLUMNS
from tomopipe.volumes.tiff import write_try_stack

INVENTORY = (
    "scan", "path", "series", "index", "n_angles", "n_rows", "n_cols", "bytes", "keep", "reason",
    "warnings", "pixel_size_um", "height_mm",
)  # fmt: skip
# in capitals: a <word> would be refused as a name
NASTY = '"><SCRIPT>alert(1)<img src=x onerror=alert(2)>'
USUAL = {"min_confidence": 0.5, "protect_manual": True}  # what the configuration says of a scan
CONFIG = {
    "campaign": {
        "name": "Beamtime 2024-11, zircon & wood",
        "scans": ["raw/*.h5"],
        "results": "results",
    },
    "predict_cor": {"methods": ["classical"], "min_confidence": 0.5},
    "fix_cor": {"max_delta_px": 50.0, "protect_manual": True},
    "resolve_cor": {"default_px": None, "on_missing": "skip"},
}


def write_json(data, path):
    """Without the flush to disk of the real one: there are hundreds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, sort_keys=True))


@dataclass
class Made:
    """A campaign folder and what the report step gets told about it."""

    folder: Path
    scans: dict[str, CampaignScan] = field(default_factory=dict)
    inventory: list[dict] = field(default_factory=list)
    fixes: dict[str, list[dict]] = field(default_factory=dict)
    cor: dict[str, dict] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def page(self) -> Path:
        return self.results / "report" / "index.html"

    def campaign(self, **config) -> Campaign:
        return Campaign(self.folder, parse_config(CONFIG | config), self.scans)

    def scan(
        self, name, series="bone", index=1, *, select="auto", manual="", note="", keep=True, **row
    ):
        path = f"raw/{name}.h5"
        place = path, str(self.folder / path), series, index
        self.scans[name] = CampaignScan(name, *place, select, CorText(str(manual)), note)
        self.inventory.append(
            {"scan": name, "path": path, "series": series, "index": index, "keep": keep}
            | {"n_angles": 901, "n_rows": 512, "n_cols": 1024, "bytes": 945_815_552}
            | row
        )

    def predict(
        self, name, best_px, confidence=0.93, verdict="resolved", reason="", method="classical"
    ):
        accepted = verdict == "resolved" and confidence >= 0.5
        x = np.linspace(462, 562, 101)
        rng = np.random.default_rng(len(name))
        methods = {}
        for label, width, off in (("classical", 3.0, 0.0), ("wedge", 8.0, 0.5)):
            peak = 512 if best_px is None else best_px
            score = np.exp(-(((x - peak - off) / width) ** 2)) + 0.05 * rng.normal(size=x.size)
            methods[label] = {
                "best_cor_px": None if best_px is None else best_px + off,
                "confidence": confidence,
                "curve": {"cor_px": x.tolist(), "score": score.tolist()},
            }
        write_json(
            {
                "best_cor_px": best_px,
                "cor_px": best_px if accepted else None,
                "confidence": confidence,
                "verdict": verdict,
                "method": method,
                "reason": reason,
                "methods": methods if verdict != "failed" else {},
                "made_from": {},
            },
            self.results / "try_center" / name / "prediction.json",
        )
        self.receipt("try_recon", name)
        self.receipt("predict_cor", name)

    def receipt(self, step, name):
        """Write what a run withdraws when it is to make a result again."""
        write_json({}, Files(self.results).receipt(step, name))

    def fix(self, name, before, after, source, *, series="bone", flagged=False, reason="", near=""):
        rows = self.fixes.setdefault(series, [])
        index = self.scans[name].index
        rows.append(
            {"scan": name, "index": index, "before_px": before, "after_px": after}
            | {"source": source, "flagged": flagged, "reason": reason, "limit_px": "10.00"}
            | {"neighbours": near}
        )

    def resolve(self, name, cor_px, source):
        self.cor[name] = {"cor_px": cor_px, "source": source}

    def volume(self, name, seed=0, n=96, cor_px=None, source="auto"):
        """Write the mid planes and who made them: all that the report may read. None at n = 0."""
        self.receipt("full_recon", name)
        rng = np.random.default_rng(seed)
        sizes = {"mid_xy": n, "mid_xz": n // 2, "mid_yz": n // 2} if n else {}
        with h5py.File(self.results / f"{name}_rec.h5", "w") as file:
            cor = {"cor_px": cor_px, "source": source}
            file["provenance/json"] = json.dumps(
                {"versions": {"tomopipe": "1"}, "cor": cor, "made_from": "{}"}
            )
            for plane, height in sizes.items():
                file[f"exchange/{plane}"] = disks(height, n, rng)

    def sweep(self, name, cor_px, *, n=200, contrast=20_000, seed=0):
        """Write a try stack of 41 pages; each page holds its number in a corner of one square."""
        grid_px = [cor_px + 0.5 * (number - 20) for number in range(41)]
        noise = np.random.default_rng(seed).integers(-3000, 3000, (n, n))
        page = 30_000 + noise
        square = page[96:144, 96:144]
        square += contrast * (np.indices(square.shape).sum(axis=0) // 4 % 2)
        page = np.clip(page, 0, 65535).astype(np.uint16)
        place = self.results / "try_center" / name
        place.mkdir(parents=True, exist_ok=True)
        write_try_stack(
            (page + number for number in range(41)), grid_px, place / "try.tif", shape=(n, n)
        )
        sweep = {"cor_px": grid_px, "binning": 1, "window": [0, 1], "made_from": {}}
        write_json(sweep, place / "try.json")

    def status(self, step, name, seconds, state="done", start=1_732_000_000.0, **more):
        status = {"step": step, "key": name, "state": state, "start": start, "host": "node7"}
        status |= {"heartbeat": time.time()} if state == "running" else {"end": start + seconds}
        write_json(status | more, self.folder / "logs" / "status" / step / f"{name}.json")

    def log(self, step, name, text):
        path = self.folder / "logs" / step / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def write(self, *, inventory=True, fixes=True, cor=True):
        if inventory:
            write_tsv(self.inventory, INVENTORY, self.results / "inventory.tsv")
        for series, rows in self.fixes.items() if fixes else ():
            write_tsv(rows, FIX_COLUMNS, self.results / "fix_cor" / f"{encode_series(series)}.tsv")
        if cor:
            write_json(self.cor, self.results / "cor.json")
        return self


def disks(n_y, n_x, rng):
    """A few disks of different values, with noise."""
    y, x = np.mgrid[:n_y, :n_x]
    values = 0.02 * rng.normal(size=(n_y, n_x)).astype(np.float32)
    for _ in range(9):
        cy, cx = rng.uniform(0.2, 0.8) * n_y, rng.uniform(0.2, 0.8) * n_x
        r = rng.uniform(3, n_y / 5)
        values += rng.uniform(0.1, 0.5) * ((y - cy) ** 2 + (x - cx) ** 2 < r * r)
    return np.float32(values * 1e-3)


FAR = "35.65 px from the median 512.85 of the series, limit 10.00"
NO_COR = "no COR, and none in the series to fill it from"
ABORTED = "120 of 901 frames: the acquisition was aborted"
#: Of each scan: options of `scan`, values of `predict` and of `fix`, and options of `fix`.
STATES = {
    "bone_006": (
        {"index": 6},
        (548.5, 0.71),
        ("548.50", "513.45", "outlier"),
        {"flagged": True, "reason": FAR, "near": "bone_005;bone_007"},
    ),
    "bone_007": (
        {"index": 7, "manual": "513.65"},
        (530.0, 0.2, "ambiguous", "two peaks of one height"),
        ("513.65", "513.65", "manual"),
        {},
    ),
    "bone_008": (
        {"index": 8},
        (None, 0.0, "flat", "no contrast in any row"),
        (None, "512.81", "series-mean"),
        {"reason": "no COR, mean of 7 of the series"},
    ),
    "bone_009": ({"index": 9, "keep": False, "n_angles": 120, "reason": ABORTED}, None, None, {}),
    "bone_010": ({"index": 10, "select": "no"}, None, None, {}),
    NASTY: (
        {"series": NASTY, "index": 0},
        (500.25, 0.55, "resolved", NASTY),
        ("500.25", "500.25", "auto"),
        {},
    ),
    "Knochen größe 三_1": (
        {"series": "Knochen größe 三"},
        (None, 0.0, "failed", "constant frames"),
        (None, None, ""),
        {"reason": NO_COR},
    ),
    "wood_1": (
        {"series": "wood"},
        (400.0, 0.31, "edge", "best at the end of the grid"),
        (None, None, ""),
        {"reason": NO_COR},
    ),
}


def every_state(folder, *, plane_px=96):
    """Thirteen scans in every state a finished campaign has, two of them with ugly names."""
    _, made = _every_state(plane_px)
    shutil.copytree(made.folder, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    scans = {
        name: replace(scan, abspath=str(folder / scan.path)) for name, scan in made.scans.items()
    }
    return Made(folder, scans, *deepcopy((made.inventory, made.fixes, made.cor)))


@cache
def _every_state(plane_px):
    """Make it once: most tests of the report begin with a copy."""
    holder = TemporaryDirectory()  # goes with the process
    made = Made(Path(holder.name) / "campaign")
    made.results.mkdir(parents=True)
    for index in range(1, 6):
        name = f"bone_{index:03d}"
        made.scan(name, index=index, warnings="no theta: 0 to 180 assumed" if index == 2 else "")
        drift = 511.25 + 0.4 * index
        made.predict(name, drift, 0.97 - 0.09 * index)
        made.fix(name, f"{drift:.2f}", f"{drift:.2f}", "auto")
        made.resolve(name, round(drift, 2), "auto")
        made.volume(name, index, plane_px)
        made.sweep(name, round(drift, 2), n=200 if plane_px else 8)
    for name, (of_scan, prediction, fix, of_fix) in STATES.items():
        made.scan(name, **of_scan)
        if prediction:
            made.predict(name, *prediction)
            made.fix(name, *fix, series=made.scans[name].series, **of_fix)
        if prediction and fix[1]:
            made.resolve(name, float(fix[1]), fix[2])
        if prediction and name.startswith("bone"):
            made.volume(name, of_scan["index"], plane_px)
    made.status("full_recon", NASTY, 3, "failed", error="MemoryError: <b>out of memory</b>")
    made.log("full_recon", NASTY, "reading rows\nMemoryError: <b>out of memory</b>\n")
    for number, scan in enumerate(made.cor):
        made.status("try_recon", scan, 10.0 + number, start=1_732_000_000.0 + 60 * number)
        made.status("predict_cor", scan, 1.5)
        if scan != NASTY:
            made.status("full_recon", scan, 125.0 + 10 * number)
    return holder, made


def half_finished(folder):
    """A campaign in the middle: predictions of some, nothing decided, one job running."""
    made = every_state(folder)
    for path in made.results.glob("*_rec.h5"):
        path.unlink()
    for name in ("bone_003", "bone_004", "bone_005"):
        (made.results / "try_center" / name / "prediction.json").unlink()
    made.status("predict_cor", "bone_003", 0, "running")
    for path in (folder / "logs/status/full_recon").glob("*.json"):
        path.unlink()
    return made.write(fixes=False, cor=False)


def large(folder, n_scans=1000, n_volumes=None):
    """Many scans in ten series; volumes for the first of them."""
    made = Made(folder)
    made.results.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(n_scans):
        series, index = f"run{number % 10}", number // 10 + 1
        name = f"{series}_{index:04d}"
        made.scan(name, series=series, index=index)
        cor_px = round(512 + 0.02 * index + float(rng.normal(0, 0.3)), 2)
        made.predict(name, cor_px, round(float(rng.uniform(0.4, 1)), 3))
        made.fix(name, f"{cor_px:.2f}", f"{cor_px:.2f}", "auto", series=series)
        made.resolve(name, cor_px, "auto")
        if n_volumes is None or number < n_volumes:
            made.volume(name, number, 64)
        made.status("try_recon", name, float(rng.uniform(5, 20)))
        made.status("full_recon", name, float(rng.uniform(100, 300)))
    return made


def break_files(folder):
    """Put rubbish in the place of every file whose content the report reads; return how many."""
    broken = [*folder.glob("results/**/*.json"), *folder.glob("results/**/*.tsv")]
    broken = [path for path in broken if "made" not in path.parts]
    broken += [*folder.glob("results/*.h5"), *folder.glob("logs/status/*/*.json")]
    rubbish = [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", json.dumps("text").encode(), b"scan\tcor\n"]
    for number, path in enumerate(sorted(broken)):
        path.write_bytes(rubbish[number % len(rubbish)])
    return len(broken)
