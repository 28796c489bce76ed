"""What is looked at: simulated suites, and the scans of a campaign whose COR is known."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import ROWS, SWEEP
from tomopipe.commands.cor_files import describe_junk, match, read_cors
from tomopipe.cor.collected_rows import read_rows
from tomopipe.errors import TomopipeError
from tomopipe_lab.suite import CONDITIONS, NULLS, OUTSIDE_GRID, Case, case_name, make_case


@dataclass(frozen=True)
class Simulated:
    """One simulated case, still to be made; the arguments of `make_case`."""

    split: str
    seed: int
    condition: str | None
    n_cols: int | None = None

    @property
    def name(self) -> str:
        """Name of the case."""
        return case_name(self.split, self.seed, self.condition, self.n_cols)

    def load(self) -> Case:
        """Simulate it."""
        return make_case(self.split, self.seed, condition=self.condition, n_cols=self.n_cols)


@dataclass(frozen=True)
class Labelled:
    """One scan of a campaign whose COR is known."""

    name: str
    folder: str  # of rows.h5 and try.json
    truth_px: float

    def load(self) -> Case:
        """Read its rows and its try grid."""
        sweep = json.loads(Path(self.folder, SWEEP).read_text("utf-8"))
        rows = read_rows(Path(self.folder, ROWS))
        grid_px: NDArray[np.float64] = np.asarray(sweep.get("cor_px", []), dtype=float)
        if rows.failed or not grid_px.size:
            raise TomopipeError(f"{self.folder}: try_recon failed ({rows.failed}).")
        return Case(self.name, "", (), rows, self.truth_px, grid_px)


Item = Simulated | Labelled


def _each(names: tuple[str, ...]) -> Callable[[str, int, int, int | None], list[Simulated]]:
    def items(split: str, seed: int, n: int, n_cols: int | None) -> list[Simulated]:
        return [Simulated(split, seed + i, name, n_cols) for name in names for i in range(n)]

    return items


def _nulls(split: str, seed: int, n: int, n_cols: int | None) -> list[Simulated]:
    kinds = [NULLS[index % len(NULLS)] for index in range(n)]
    return [
        Simulated(split, seed + index // len(NULLS), kind, n_cols)
        for index, kind in enumerate(kinds)
    ]


def _mixed(split: str, seed: int, n: int, n_cols: int | None) -> list[Simulated]:
    return [Simulated(split, seed + index, None, n_cols) for index in range(n)]


SUITES: dict[str, Callable[[str, int, int, int | None], list[Simulated]]] = {
    "mixed": _mixed,
    "conditions": _each(tuple(name for name in CONDITIONS if name != OUTSIDE_GRID)),
    "nulls": _nulls,
    "outside-grid": _each((OUTSIDE_GRID,)),
}
"""Cases by (split, seed, n, n_cols); n of each kind in "conditions", in all of the others."""


def labelled(campaign: Campaign, truth: Path | None) -> tuple[list[Labelled], list[str]]:
    """Return the scans of a campaign whose COR is known and that try_recon has looked at.

    Parameters
    ----------
    campaign : Campaign
        The campaign.
    truth : path, optional
        TomoGUI's rot_cen.json or batch_cor_values.csv; by default the CORs that the campaign table
        holds, set by hand.

    Returns
    -------
    items : list of Labelled
        In the order of the campaign.
    missing : list of str
        Scans whose COR is known and that have no rows.h5 yet.

    Raises
    ------
    TomopipeError
        If no such scan is left.
    """
    known = _known(campaign, truth)
    items, missing = [], []
    for scan, cor_px in known.items():
        folder = campaign.files.of_scan(scan)
        if (folder / ROWS).is_file() and "failed" not in _sweep(folder):
            items.append(Labelled(scan, str(folder), cor_px))
        else:
            missing.append(scan)
    if not items:
        where = truth or campaign.table_path
        raise TomopipeError(
            f"{where}: expected CORs of scans that try_recon has looked at; got "
            f"{len(known)} CORs, {len(missing)} of them of scans without rows.h5. Set CORs "
            "(`tomopipe cor set`), or run the workflow as far as `predictions`."
        )
    return items, missing


def _known(campaign: Campaign, truth: Path | None) -> Mapping[str, float]:
    if truth is not None:
        cors, junk, _ = read_cors([truth])
        if junk:
            raise TomopipeError(f"{truth}: {describe_junk(junk)}")
        return match(cors, {s.name: s.abspath for s in campaign.scans.values()}).matched
    cells = {scan.name: scan.manual.px for scan in campaign.scans.values()}
    return {name: cor_px for name, cor_px in cells.items() if cor_px is not None}


def _sweep(folder: Path) -> Mapping[str, object]:
    path = folder / SWEEP
    if not path.is_file():
        return {"failed": f"no {SWEEP}"}
    sweep: Mapping[str, object] = json.loads(path.read_text("utf-8"))
    return sweep
