"""A series with one scan whose axis lies elsewhere: its prediction is confident, and right."""

import h5py
import numpy as np

from tests.phantoms import make_phantom, slice_truth
from tests.workflow.conftest import configure, make_scan, snakemake
from tomopipe.campaign.campaign import load_campaign
from tomopipe.commands.next_run import make_plan
from tomopipe.report.collected_records import collect_scans
from tomopipe.reruns.reasons import CHANGED
from tomopipe.review.queue import queue_entries

SIZE = {"n_cols": 128, "n_rows": 2, "n_angles": 181}
CORS_PX = {"a_1": 64.3, "a_2": 64.6, "a_3": 64.9, "a_4": 88.4, "a_5": 65.5, "a_6": 65.8}


def agreement(campaign, scan) -> float:
    """Correlation of a slice with the object, where all projections show it."""
    truth = slice_truth(make_phantom("rock", 128, 2, seed=sum(scan.encode())), 1, 128)
    with h5py.File(campaign / "results" / f"{scan}_rec.h5") as file:
        found = file["exchange/data"][1]
    y_px, x_px = np.indices(truth.shape) - 64
    seen = np.hypot(y_px, x_px) < 36
    return np.corrcoef(truth[seen], found[seen])[0, 1]


def test_a_scan_whose_axis_lies_elsewhere_keeps_its_cor(tmp_path):
    for name, cor_px in CORS_PX.items():
        make_scan(tmp_path, name, cor_px, **SIZE)
    (tmp_path / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\nexport_star: {enabled: false}\n"
    )
    run = snakemake(tmp_path)
    assert run.status == 0, run.text
    campaign = load_campaign(tmp_path)
    records = collect_scans(campaign)
    for scan in records:
        assert abs(scan.cor_px - CORS_PX[scan.name]) < 0.1
    first, *others = queue_entries(records, {}, campaign.scans)
    assert (first["scan"], first["state"]) == ("a_4", "doubtful")
    assert "px from its series; kept" in first["why"]
    assert {entry["state"] for entry in others} == {"ok"}
    right = agreement(tmp_path, "a_4")
    assert right > 0.9
    # TomoGUI's rule; and back, as planned
    configure(tmp_path, "fix_cor", protect_confident=None)
    assert snakemake(tmp_path).status == 0
    replaced = {scan.name: scan for scan in collect_scans(campaign)}
    assert replaced["a_4"].state == "fixed"
    assert abs(replaced["a_4"].cor_px - 65.2) < 0.1
    assert agreement(tmp_path, "a_4") < right - 0.3
    configure(tmp_path, "fix_cor", protect_confident=0.95)
    jobs = {(job.rule, job.scan): job.reason for job in make_plan(load_campaign(tmp_path)).jobs}
    assert jobs["fix_cor", ""] == CHANGED["fix_cor"]
    assert jobs["full_recon", "a_4"].startswith("COR of a_4: 65.")
    assert [scan for rule, scan in jobs if rule == "full_recon"] == ["a_4"]
