"""Runs of TIFF scans whose names hold signed or decimal angles; those of earlier versions."""

import json
import shutil

import h5py
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tests.workflow.conftest import plan, snakemake
from tomopipe.cli import cli

COR_PX, N_COLS, ROW = 44.3, 96, 1
# names, and the angle of the first projection, from which all go over 180 degrees
FORMS = {"signed": ("tilt_{:.0f}", -90), "printed": ("p_{:g}", 0), "plain": ("img_{:05.1f}", 0)}
READING = {"try_recon", "predict_cor", "full_recon"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The campaign after its run, and the true slice of each scan."""
    folder = tmp_path_factory.mktemp("order") / "campaign"
    slices = {}
    for number, (scan, (form, first_deg)) in enumerate(FORMS.items()):
        theta_deg = first_deg + np.linspace(0, 180, 241 if scan == "printed" else 91)
        truth = write_scan(
            tmp_path_factory.mktemp("as_hdf5") / "scan.h5", cor_px=COR_PX, counts=100_000,
            n_rows=3, n_cols=N_COLS, theta_deg=theta_deg, seed=number,
        )  # fmt: skip
        slices[scan] = truth.slice(ROW)
        with h5py.File(truth.path) as file:
            parts = [file[f"exchange/{name}"][()] for name in ("data", "data_white", "data_dark")]
        names = [form.format(angle) for angle in theta_deg]
        for part, images in zip(("", "flats", "darks"), parts, strict=True):
            place = folder / "raw" / scan / part
            place.mkdir(parents=True, exist_ok=True)
            for name, image in zip(names, images, strict=False):
                tifffile.imwrite(place / f"{name}.tif", image)
    (folder / "config.yaml").write_text(
        "campaign: {scans: [raw/*/]}\n"
        "input: {angles: {start: 0, stop: 180}}\n"
        "overrides: [{scans: [signed], input: {angles: {start: -90, stop: 90}}}]\n"
        "try_recon: {width_px: 8, step_px: 1}\n"
        "predict_cor: {methods: [classical]}\n"  # loads no network
        "export_star: {enabled: false}\n"
    )
    assert snakemake(folder).status == 0
    return folder, slices


@pytest.mark.parametrize("scan", FORMS)
def test_volumes_are_right(made, scan):
    folder, slices = made
    cor_px = json.loads((folder / "results" / "cor.json").read_text())[scan]["cor_px"]
    assert cor_px == pytest.approx(COR_PX, abs=0.3)
    with h5py.File(folder / "results" / f"{scan}_rec.h5") as file:
        volume = file["exchange/data"][ROW]
    y, x = np.mgrid[:N_COLS, :N_COLS] - N_COLS / 2
    within = np.hypot(x, y) < 0.36 * N_COLS
    assert np.corrcoef(volume[within], slices[scan][within])[0, 1] > 0.95


def test_scans_of_earlier_versions_whose_order_changes_are_made_again(made):
    folder, _ = made
    assert plan(folder) == (0, frozenset())
    for scan in FORMS:
        state_as_before(folder / "results", scan)
    shutil.rmtree(folder / "results" / "made")
    (folder / "results" / ".settled.json").unlink()
    jobs = plan(folder)[1]
    reading = {job for job in jobs if job.split(":")[0] in READING}
    assert reading == {f"{step}:{scan}" for step in READING for scan in ("signed", "printed")}
    shown = CliRunner().invoke(cli, ["plan", "--json", str(folder)]).stdout
    reasons = {(job["rule"], job["scan"]): job["reason"] for job in json.loads(shown)}
    for scan in ("signed", "printed"):
        assert reasons["try_recon", scan] == "this version orders their images differently"
        assert reasons["full_recon", scan] == "this version orders their images differently"
    assert {f"try_recon:{scan}" for scan in ("signed", "printed")} <= snakemake(folder).jobs
    assert plan(folder) == (0, frozenset())


def state_as_before(results, scan):
    """State nothing of the order, as earlier versions."""
    with h5py.File(results / "try_center" / scan / "rows.h5", "r+") as file:
        file.attrs["made_from"] = without_order(file.attrs["made_from"])
    sweep = results / "try_center" / scan / "try.json"
    record = json.loads(sweep.read_text())
    record["made_from"] = json.loads(without_order(json.dumps(record["made_from"])))
    sweep.write_text(json.dumps(record))
    with h5py.File(results / f"{scan}_rec.h5", "r+") as file:
        record = json.loads(file["provenance/json"][()])
        record["made_from"] = without_order(record["made_from"])
        del file["provenance/json"]
        file["provenance/json"] = json.dumps(record)


def without_order(text):
    return json.dumps({key: value for key, value in json.loads(text).items() if key != "order"})
