"""Random edits between runs: plan and run agree, and results are those of a campaign made at once.

`TOMOPIPE_TEST_SEEDS="3-200"` tries other seeds than the two of every test run.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import yaml
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tests.workflow.conftest import (
    CORS_PX,
    SIZE,
    configure,
    make_scan,
    new_campaign,
    plan,
    snakemake,
)
from tests.workflow.test_stitch import write_member, write_stacks
from tests.workflow.test_views import add, turn
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.files import CENTER
from tomopipe.campaign.results import present_inventory
from tomopipe.cli import cli
from tomopipe.commands.run_request import finished_campaign
from tomopipe.errors import TomopipeError
from tomopipe.storage.checksums import MANIFEST

N_ROUNDS = 4
OPTIONS = {
    "inventory": {
        "series_pattern": [r"^(.*?)[._-]*(\d+)$", r"^(.)(\d*)"],
        "min_fraction": [0.5, 0.05],
    },
    "input": {
        "pixel_size_um": [1.0, 2.0],
        "energy_kev": [None, 20.0],
        "every": [1, 2],
        "skip_angles": [[], [[10, 12]], [5]],
        "skip_projections": [[], [3], [[4, 6]]],
        "mirrored": ["file", "no"],
        "angles": [None, {"start": 0, "stop": 180}],
    },
    "preprocess": {
        "darks": [None, "none"],
        "flat_method": ["mean", "median"],
        "air_px": [0, 5],
        "bad_pixels": [{"threshold": None}, {"threshold": 5.0}],
        "zingers": [{"threshold": None}, {"threshold": 0.1}],
        "distortion": [{"coefficients": []}, {"coefficients": [1.0, 0.0001]}],
        "roll_deg": [0.0, 0.3],
        "hardening": [[], [1.0, 0.1]],
        "stripes": [{"method": "none"}, {"method": "sorting"}, {"method": "fw"}],
    },
    "try_recon": {
        "center_px": [None, 48],
        "width_px": [8, 9],
        "step_px": [0.5, 0.25],
        "row": [0.5, 0.2],
        "max_size_px": [1024, 64],
        "format": ["stack", "tiff"],
    },
    "predict_cor": {
        "methods": [["ai"], ["classical"], ["classical", "ai"]],
        "min_confidence": [0.5, 0.45, 0.99],
        "max_bad_frames": [0.1, 0.2],
    },
    "fix_cor": {
        "max_delta_px": [1.0, 50.0],
        "protect_manual": [True, False],
        "protect_confident": [0.95, None, 0.5],
    },
    "resolve_cor": {"default_px": [None, 47.0], "on_missing": ["skip", "block"]},
    "full_recon": {
        "algorithm": ["fbp", "sirt"],
        "iterations": [None, 3],
        "filter": ["ramp", "hann"],
        "output": ["h5", "tiff", "zarr"],
        "compression": ["none", "lz4", "gzip"],
        "dtype": ["float32", "float16", "uint16", "uint8"],
        "value_range": ["auto", [-0.1, 0.1]],
        "unit": ["per_pixel", "per_cm"],
        "binning": [1, 2],
    },
    "export_star": {
        "enabled": [True, False],
        "pixel_size_um": [None, 3.0],
        "binning": [1, 2],
        "max_tilts": ["all", 20],
        "hand": [-1, 1],
    },
    "storage": {
        "keep_stacks": [True, False],
        "keep_try": [None, True, False],
        "sidecars": ["beside", "results/sidecars"],
    },
    "campaign": {"name": [None, "x"]},
    "report": {"enabled": [True, False]},
}
# of scans that are not stitched: those have overlaps of a few rows, and fixed sizes
SIZES = {
    "input": OPTIONS["input"] | {"columns": ["all", [0, 90]]},
    "full_recon": OPTIONS["full_recon"]
    | {"rows": ["all", [0, 0]], "crop_x": ["all", [10, 49]], "crop_y": ["all", [5, 60]]},
}
OVERRIDES = [
    {},
    {"full_recon": {"filter": "hann"}},
    {"preprocess": {"stripes": {"method": "sorting"}}},
    {"try_recon": {"width_px": 7}},
]
STITCH = {
    "direction": ["auto", "down"],
    "overlap_rows": [None, 10.5],
    "match_intensity": [True, False],
    "stacks": [{}, {"bone": ["a_*"]}, {"bone": ["a_*"], "glass": ["b_1", "b_2"]}],
}


class Editor:
    """Edits of one campaign, drawn at random."""

    def __init__(self, campaign: Path, seed: int, stacks: bool) -> None:
        self.campaign, self.draw, self.stacks = campaign, random.Random(seed), stacks
        self.options = OPTIONS | ({"stitch": STITCH} if stacks else SIZES)
        self.rows: dict[str, tuple[str, str]] = {}  # select and COR of the campaign table

    def edit(self) -> str:
        """Make one edit, and say which."""
        kinds = [self.option] * 4 + [self.cor, self.raw, self.result] * 2
        kinds += [self.select, self.override, self.clean, self.move, self.flats, self.killed]
        kinds += [self.folder]
        return self.draw.choice(kinds)()

    @property
    def scans(self) -> list[Path]:
        return sorted((self.campaign / "raw").glob("*.h5"))

    def option(self) -> str:
        block = self.draw.choice(sorted(self.options))
        key = self.draw.choice(sorted(self.options[block]))
        value = self.draw.choice(self.options[block][key])
        path = self.campaign / "config.yaml"
        before = path.read_text()
        configure(self.campaign, block, **{key: value})
        try:
            load_campaign(self.campaign)
        except TomopipeError:  # does not go with another option
            path.write_text(before)
            return f"not {block}.{key}: {value}"
        return f"{block}.{key}: {value}"

    def override(self) -> str:
        scan = self.draw.choice(self.scans).stem
        values = self.draw.choice(OVERRIDES)
        self._overrides([{"scans": [scan], **values}] if values else [])
        return f"override of {scan}: {values}"

    def _overrides(self, overrides: list[dict]) -> None:
        path = self.campaign / "config.yaml"
        config = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(config | {"overrides": overrides}))

    def clean(self) -> str:
        configure(self.campaign, "storage", keep_stacks=False, keep_try=False)
        assert CliRunner().invoke(cli, ["clean", str(self.campaign)]).exit_code == 0
        return "clean"

    def move(self) -> str:
        """Rename the campaign with its raw files."""
        moved = self.campaign.with_name(f"moved{self.draw.randrange(10**9)}")
        self.campaign = self.campaign.rename(moved)
        return f"move to {moved.name}"

    def folder(self) -> str:
        """Take scans of a second folder in, one of them with the name of another; or no more."""
        if not self.stacks:
            for name in ("a_1", "d_1"):
                make_scan(self.campaign, name, 48.0, folder="more")
        scans = self.draw.choice([["raw/*.h5"], ["raw/*.h5", "more/*.h5"]])
        configure(self.campaign, "campaign", scans=scans[: 1 if self.stacks else 2])
        return f"scans: {scans}"

    def flats(self) -> str:
        """Take the flats of all scans from a file of their own, which changes, or no more."""
        path = self.campaign / "flats" / "flats.h5"
        path.parent.mkdir(exist_ok=True)
        level = self.draw.choice([0, 50000, 52000])
        if level and not self.stacks:
            write_scan(path, cor_px=48, counts=level, seed=level, **SIZE)
        of_each_scan = self.stacks or not level
        configure(self.campaign, "preprocess", flats=None if of_each_scan else "flats/flats.h5")
        return f"flats: {'of each scan' if of_each_scan else level}"

    def killed(self) -> str:
        """Begin a run and kill all of it."""
        command = [sys.executable, "-m", "tomopipe", "run", "-C", str(self.campaign)]
        with (self.campaign / "killed.out").open("w") as out:
            started = subprocess.Popen(command, stdout=out, stderr=out)
        seconds = self.draw.uniform(2, 12)
        time.sleep(seconds)
        while running := [p for p in psutil.process_iter() if works_in(p, self.campaign)]:
            for process in running:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(running, 5)
        started.wait()
        return f"kill -9 after {seconds:.1f} s"

    def _table(self) -> None:
        lines = [f"{scan}\t{select}\t{cor}" for scan, (select, cor) in self.rows.items()]
        (self.campaign / "scans.tsv").write_text("\n".join(["scan\tselect\tcor_px", *lines, ""]))

    def cor(self) -> str:
        scan = self.draw.choice(self.scans).stem
        cors_px = ["30.25", "33.25"] if self.stacks else ["44.5", "48.5", "49.25", "60", "70.125"]
        cor = self.draw.choice(["", "", *cors_px])
        self.rows[scan] = (self.rows.get(scan, ("auto", ""))[0], cor)
        self._table()
        return f"COR of {scan}: {cor or 'none'}"

    def select(self) -> str:
        scan = self.draw.choice(self.scans).stem
        select = self.draw.choice(["auto", "yes", "no"])
        self.rows[scan] = (select, self.rows.get(scan, ("", ""))[1])
        self._table()
        return f"select {scan}: {select}"

    def raw(self) -> str:
        path = self.draw.choice(self.scans)
        kind = self.draw.choice(["replace", "touch", "noise", "add", "short", "remove", "broken"])
        if self.stacks:  # whose other scans would show nothing of their neighbours
            kind = self.draw.choice(["replace", "touch"])
        if kind == "touch":
            os.utime(path)
        elif kind == "replace" and self.stacks:
            moved_px, seed = self.draw.choice([-0.25, 0.25]), self.draw.randrange(1000)
            write_member(self.campaign, path.stem, moved_px=moved_px, seed=seed)
        elif kind == "replace":
            cor_px = CORS_PX.get(path.stem, 47) + self.draw.choice([-1, 1])
            make_scan(self.campaign, path.stem, cor_px, seed=self.draw.randrange(1000))
        elif kind == "noise":
            with h5py.File(path, "r+") as file:
                data = file["exchange/data"]
                noise = np.random.default_rng(self.draw.randrange(9)).normal(20000, 200, data.shape)
                data[...] = noise.astype(data.dtype)
        elif kind == "remove" and len(self.scans) > 3:
            path.unlink()
            self._overrides([])  # which may name it: an error
        elif kind == "broken":
            path.write_text("not HDF5")
        else:
            name = self.draw.choice(["a_4", "b_4", "c_1", "a_10"])
            make_scan(self.campaign, name, 48.0, **({"n_frames": 9} if kind == "short" else {}))
            return f"{kind} {name}"
        return f"{kind} {path.stem}"

    def result(self) -> str:
        files = [
            path
            for pattern in ("results/**/*", "raw/*.cor.json")
            for path in sorted(self.campaign.glob(pattern))
            if path.is_file() and ".zarr" not in str(path) and ".tomopipe" not in str(path)
        ]
        path = self.draw.choice(files)
        kind = self.draw.choice(["delete", "delete", "cut", "garbage"])
        # of a folder with a manifest only the names are looked at; CENTER is for people to edit
        if (path.parent / MANIFEST).exists() or path.name == CENTER:
            kind = "delete"
        if kind == "delete":
            path.unlink()
        elif kind == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.write_bytes(os.urandom(path.stat().st_size))
        return f"{kind} {path.relative_to(self.campaign)}"

    def plan(self) -> frozenset[str]:
        """Return the jobs planned; a damaged table is deleted, as it is asked for."""
        asked = ["plan", "--json", str(self.campaign)]
        while isinstance(refused := CliRunner().invoke(cli, asked).exception, TomopipeError):
            assert re.search("Delete (it|the file) and run again", str(refused))
            Path(str(refused).partition(": ")[0]).unlink()
        return plan(self.campaign)[1]

    def volumes(self) -> None:
        """Make the volumes of some scans first: jobs that were planned for them, and no others."""
        rows = present_inventory(self.campaign / "results" / "inventory.tsv")
        scans = self.draw.sample(sorted(load_campaign(self.campaign).scans), 2)
        try:
            planned = plan(self.campaign, *scans)[1]
        except AssertionError:  # none of them can have a volume
            return
        searched = any(job.startswith("predict_cor:") for job in planned)
        possible = [s for s in scans if s in rows and (searched or f"full_recon:{s}" in planned)]
        if not possible:
            return
        planned = plan(self.campaign, *possible)[1]
        tables = [f"results/made/{step}/campaign.json" for step in ("inventory", "resolve_cor")]
        is_known = "resolve_cor" not in planned
        receipts = [f"results/made/full_recon/{scan}.json" for scan in possible]
        run = snakemake(self.campaign, "--cores", "2", tables[not is_known], *receipts)
        print("volumes of", possible, run.status, sorted(run.jobs))
        assert run.status == 1 or planned <= run.jobs, (planned - run.jobs, run.text)
        assert beyond(planned, run.jobs) <= {"full_recon", "shared_frames"}, run.text
        assert run.status == 0 or "COR" in run.text, run.text


class ViewsEditor(Editor):
    """Edits of a campaign whose scans are time points of one file and entries of another."""

    def __init__(self, campaign: Path, seed: int) -> None:
        super().__init__(campaign, seed, stacks=False)
        names = ("preprocess", "predict_cor", "full_recon", "storage")
        self.options = {
            **{name: (OPTIONS | SIZES)[name] for name in names},
            "try_recon": OPTIONS["try_recon"] | {"every": [1, 2, 3]},
            "fix_cor": OPTIONS["fix_cor"] | {"over_time": ["none", "constant", "line"]},
            "input": {"pixel_size_um": [1.0, 2.0], "every": [1, 2]},
        }
        self.n_entries = 1

    def edit(self) -> str:
        kinds = [self.option] * 3 + [self.cor, self.raw, self.raw, self.result, self.move]
        return self.draw.choice([*kinds, self.select, self.override, self.windows])()

    @property
    def scans(self) -> list[Path]:
        return [Path(name) for name in sorted(load_campaign(self.campaign).scans)]

    def windows(self) -> str:
        """Take other time points."""
        turns = self.draw.choice([180, 180, {"n_angles": 91}, {"n_angles": 91, "step": 45}])
        scans = [{"glob": "raw/*.h5", "turns": turns}, {"glob": "raw/*.nx", "entries": "all"}]
        configure(self.campaign, "campaign", scans=scans)
        self._overrides([])  # which may name another one
        self.rows = {}
        self._table()
        return f"turns: {turns}"

    def raw(self) -> str:
        kind = self.draw.choice(
            ["turn", "turn", "part", "rewrite", "entry", "rewrite entry", "touch"]
        )
        fast, in_situ = (self.campaign / "raw" / name for name in ("fast.h5", "in_situ.nx"))
        if kind == "touch":
            os.utime(self.draw.choice([fast, in_situ]))
        elif kind in ("turn", "part"):
            part = slice(0, 50) if kind == "part" else slice(None)
            turn(self.campaign, self.draw.randrange(3), part)
        elif kind == "entry" and self.n_entries < 3:
            add(self.campaign, self.n_entries)
            self.n_entries += 1
        elif kind == "rewrite":
            with h5py.File(fast, "a") as file:
                data, start = file["exchange/data"], 91 * self.draw.randrange(2)
                data[start : start + 91] = np.roll(data[start : start + 91], 1, axis=2)
        else:
            with h5py.File(in_situ, "a") as file:
                number = self.draw.randrange(self.n_entries)
                data = file[f"entry{number:04d}/instrument/detector/data"]
                data[6:] = np.roll(data[6:], 1, axis=2)
        return kind


def beyond(planned: frozenset[str], jobs: Collection[str]) -> set[str]:
    """Return the steps of jobs that were not planned, while a prediction is pending or not."""
    result = {job.partition(":")[0] for job in jobs if job not in planned}
    is_pending = any(job.startswith("predict_cor:") for job in planned)
    return result if is_pending else {f"{step}, certain" for step in result - {"report"}}


def works_in(process: psutil.Process, campaign: Path) -> bool:
    with suppress(psutil.Error, OSError):
        inside = Path(process.cwd()) == campaign or str(campaign) in process.cmdline()
        return inside and process.pid != os.getpid()
    return False


def seeds() -> list[int]:
    text = os.environ.get("TOMOPIPE_TEST_SEEDS", "1-2")
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


@pytest.mark.parametrize("seed", seeds())
def test_random_edits(request, tmp_path, seed):
    stacks, views = seed % 3 == 0, seed % 3 == 2
    if views:
        campaign = tmp_path / "campaign"
        for number in (0, 1):
            turn(campaign, number)
        add(campaign, 0)
        scans = [{"glob": "raw/*.h5", "turns": 180}, {"glob": "raw/*.nx", "entries": "all"}]
        new_campaign(campaign, {})
        configure(campaign, "campaign", scans=scans)
    elif stacks:
        campaign = tmp_path / "campaign"
        write_stacks(campaign, {"a": "bone", "b": "glass"})
    else:
        campaign = request.getfixturevalue("campaign")
    configure(campaign, "export_star", enabled=True, binning=1)
    configure(campaign, "input", pixel_size_um=1.0)
    configure(campaign, "resolve_cor", on_missing="skip")
    first = snakemake(campaign)
    assert first.status == 0, first.text
    editor = ViewsEditor(campaign, seed) if views else Editor(campaign, seed, stacks)
    told: list = []
    for _ in range(N_ROUNDS):
        told.append([editor.edit() for _ in range(editor.draw.choice([1, 1, 2, 3]))])
        campaign = editor.campaign
        print(told[-1])
        editor.plan()
        if editor.draw.random() < 0.5:
            editor.volumes()
        planned = editor.plan()
        run = snakemake(campaign)
        if run.status == 1:  # blocked, for want of a COR
            assert "no COR for" in run.text, (told, run.text)
            told.append("blocked")
            configure(campaign, "resolve_cor", on_missing="skip")
            assert snakemake(campaign).status in (0, 3), told
            continue
        assert run.status in (0, 3), (told, run.text)  # 3: a scan has no COR
        cors = json.loads((campaign / "results" / "cor.json").read_text())
        left_out = {job for job in planned if ":" in job and job.partition(":")[2] not in cors}
        missed = planned - run.jobs - (left_out if run.status == 3 else set())
        assert missed == set(), (told, run.text)
        after_cors = {"shared_frames", "full_recon", "stitch"}
        after_cors |= {"sidecar", "export_stack", "export_star"}
        assert beyond(planned, run.jobs) - {"report"} <= after_cors, (told, run.text)
        again = snakemake(campaign)
        assert (again.status, again.jobs) == (0, frozenset()), (told, again.text)
        assert plan(campaign) == (0, frozenset()), told
        assert finished_campaign(campaign, None), told
    if all(select != "no" for select, _ in editor.rows.values()):  # which are donors of COR
        same_as_made_at_once(campaign, tmp_path / "fresh", told)


def same_as_made_at_once(campaign: Path, fresh: Path, told: list) -> None:
    """Compare cor.json, tables, volumes, stacks and stars with those of a new campaign."""
    fresh.mkdir()
    for name in ("config.yaml", "scans.tsv"):
        if (campaign / name).exists():
            shutil.copy2(campaign / name, fresh)
    for folder in ("raw", "more", "flats"):
        if (campaign / folder).exists():
            ignored = shutil.ignore_patterns("*.cor.json")
            shutil.copytree(campaign / folder, fresh / folder, ignore=ignored)
    if (names := campaign / "results" / "views.json").exists():  # an only entry keeps its name
        (fresh / "results").mkdir()
        shutil.copy2(names, fresh / "results")
    run = snakemake(fresh)
    assert run.status in (0, 3), (told, run.text)
    config = yaml.safe_load((campaign / "config.yaml").read_text())
    volumes = ["*_rec.h5", "*_rec/*.tif*", "*_rec.zarr/**/c/*/*/*"]
    patterns = ["cor.json", "fix_cor/*.tsv", *volumes, *(f"stitched/{v}" for v in volumes)]
    if config.get("export_star", {}).get("enabled", True):
        patterns += ["relion/**/*.star"]
        if config.get("storage", {}).get("keep_stacks", True):
            patterns += ["relion/**/*.mrcs"]
    wanted = [path for pattern in patterns for path in (fresh / "results").glob(pattern)]
    assert wanted
    for path in wanted:
        found = campaign / path.relative_to(fresh)
        assert found.exists(), (told, path)
        if path.suffix == ".h5":
            with h5py.File(path) as expected, h5py.File(found) as volume:
                np.testing.assert_array_equal(
                    expected["exchange/data"][:], volume["exchange/data"][:], err_msg=str(told)
                )
        elif path.suffix in (".json", ".tsv", ".star"):
            texts = [
                p.read_text().replace(str(c), "") for p, c in ((path, fresh), (found, campaign))
            ]
            assert texts[0] == texts[1], (told, path)
        else:
            assert path.read_bytes() == found.read_bytes(), (told, path)
