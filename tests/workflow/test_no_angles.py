"""Scans whose files have no angles: proven, told, or skipped."""

import json

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tests.workflow.conftest import plan, plan_all, snakemake, table
from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.commands.option_sweep import known_cor_px, sweep_option

COR_PX = 44.3
SIZE = {"n_rows": 4, "n_cols": 96, "cor_px": COR_PX, "counts": 50000}
TURN_DEG = np.linspace(0, 360, 180, endpoint=False)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """A campaign after its run, and the run."""
    folder = tmp_path_factory.mktemp("no_angles")
    for name, theta_deg in (
        ("turn_1", TURN_DEG),
        ("told_1", np.linspace(0, 140, 100)),
        ("short_1", np.linspace(0, 140, 100)),
    ):
        write_scan(folder / f"raw/{name}.h5", theta_deg=theta_deg, write_theta=False, **SIZE)
    write_scan(folder / "raw/with_1.h5", theta_deg=TURN_DEG, **SIZE)
    (folder / "config.yaml").write_text(
        "campaign: {scans: ['raw/*.h5']}\n"
        "try_recon: {width_px: 6, step_px: 1}\n"
        "predict_cor: {methods: [sum]}\n"
        "resolve_cor: {on_missing: skip}\n"
        "overrides: [{scans: [told_1], input: {angles: {start: 0, stop: 140}}}]\n"
    )
    table(folder, f"short_1\tauto\t{COR_PX}\t", f"told_1\tauto\t{COR_PX}\t")
    return folder, snakemake(folder)


def _json(folder, scan, name):
    return json.loads((folder / "results/try_center" / scan / name).read_text())


def test_a_proven_turn_makes_the_volume_of_the_scan_with_its_angles(campaign):
    folder, _ = campaign
    geometry = _json(folder, "turn_1", "try.json")["geometry"]
    assert geometry["angles_proven"] == {"start": 0.0, "stop": pytest.approx(358)}
    assert not geometry["theta_missing"]
    assert "angles_proven" not in _json(folder, "with_1", "try.json")["geometry"]
    volumes = []
    for scan in ("turn_1", "with_1"):
        with h5py.File(folder / f"results/{scan}_rec.h5") as file:
            volumes.append(file["exchange/data"][...])
    # the same sample and axis; the noise is drawn alike
    np.testing.assert_allclose(volumes[0], volumes[1], atol=2e-3)
    meta = json.loads((folder / "results/relion/stacks/turn_1.json").read_text())
    assert meta["theta_deg"] == pytest.approx(TURN_DEG.tolist())
    page = (folder / "results/report/index.html").read_text()
    assert "angles proven from the projections, 0 to 358°" in page
    assert "(the angles of 1 scan found from the projections)" in page


def test_without_a_proof_there_is_no_volume_even_with_a_cor_and_the_others_run(campaign):
    folder, run = campaign
    prediction = _json(folder, "short_1", "prediction.json")
    assert prediction["verdict"] == "failed"
    assert "set input.angles, such as {start: 0, stop: 180}" in prediction["reason"]
    assert not (folder / "results/short_1_rec.h5").exists()
    assert not (folder / "results/relion/stacks/short_1.mrcs").exists()
    for scan in ("turn_1", "told_1", "with_1"):
        assert (folder / f"results/{scan}_rec.h5").exists(), run.text


def test_run_and_plan_say_what_is_to_be_told(campaign):
    folder, run = campaign
    line = "no angles, and so no volume: short_1. If the projections do not prove them, set input"
    assert line in run.text
    assert line in CliRunner().invoke(cli, ["plan", str(folder)]).output


def test_slices_of_a_scan_with_proven_angles_are_those_of_its_volume(campaign):
    folder, _ = campaign
    found = load_campaign(folder)
    cor_px = known_cor_px(found, "turn_1")
    _, (image,) = sweep_option(found, "turn_1", "full_recon.filter", ["ramp"], cor_px=cor_px)
    with h5py.File(folder / "results/turn_1_rec.h5") as file:
        np.testing.assert_allclose(image, file["exchange/data"][1], atol=1e-6)


def test_what_is_told_later_is_done_then_and_nothing_else(campaign):
    folder, _ = campaign
    assert plan(folder)[1] == frozenset()
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("[told_1]", "[told_1, short_1]"))
    jobs = plan_all(folder)[1]
    assert jobs["full_recon:short_1"]
    assert not {"try_recon:short_1", "predict_cor:short_1"} & set(jobs)  # its COR is known
    assert not any(name in job for job in jobs for name in ("turn_1", "with_1", "told_1"))
