"""The cost of the next run: of scans of two sizes, half of which have run."""

import json

import numpy as np
import pytest

from tests.phantoms import write_scan
from tomopipe.campaign.campaign import load_campaign
from tomopipe.run.cost import ENOUGH, costs, total

SIZES = {"small": (180, 64, 256), "large": (900, 512, 1024)}
# seconds of a job: reading, and in volumes the slices
SECONDS = {
    "try_recon": lambda a, r, c: 2.0 + 1e-8 * a * r * c,
    "predict_cor": lambda a, r, c: 3.0 + 1e-7 * c * (a + c),
    "full_recon": lambda a, r, c: 2.0 + 6e-8 * r * c * (a + c),
    "export_stack": lambda a, r, c: 1.5 + 1e-8 * a * r * c,
}


@pytest.fixture
def campaign(tmp_path):
    write_scan(tmp_path / "raw" / "small_0.h5", n_rows=2, n_cols=64, n_angles=9)
    for scan in (f"{size}_{i}" for size in SIZES for i in range(20)):
        if scan != "small_0":
            (tmp_path / "raw" / f"{scan}.h5").hardlink_to(tmp_path / "raw" / "small_0.h5")
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    return load_campaign(tmp_path)


def row(scan: str) -> dict[str, str]:
    shape = zip(("n_angles", "n_rows", "n_cols"), SIZES[scan.partition("_")[0]], strict=True)
    return {"scan": scan, "bytes": "0"} | {key: str(value) for key, value in shape}


def end(campaign, scans, *, seed=1):
    """Leave the records of jobs that have ended, of seconds that vary by a fifth."""
    noise = np.random.default_rng(seed)
    sums = dict.fromkeys(SECONDS, 0.0)
    for scan in scans:
        for step, seconds in SECONDS.items():
            path = campaign.logs.status_folder / step / f"{scan}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            cores = 4 if step == "full_recon" and scan.startswith("large") else 1
            spent = seconds(*SIZES[scan.partition("_")[0]]) * noise.uniform(0.8, 1.2)
            asked = {"cores": cores, "gpus": int(step == "full_recon"), "mem_mb": 500}
            record = {"state": "done", "start": 5.0, "end": 5.0 + spent, "asked": asked}
            path.write_text(json.dumps(record))
            sums[step] += spent * cores / 3600
    return sums


def expected(campaign, scans):
    rows = {scan: row(scan) for scan in scans}
    asked = [(step, scan) for step in SECONDS for scan in scans]
    return {cost.step: cost for cost in costs(campaign, asked, rows)}


def test_unknown_before_five_have_ended(campaign):
    scans = [f"small_{i}" for i in range(10)]
    end(campaign, scans[: ENOUGH - 1])
    found = expected(campaign, scans[5:])
    assert found["try_recon"].core_h is None
    assert total(list(found.values())).core_h is None
    end(campaign, scans[:ENOUGH])
    assert expected(campaign, scans[5:])["try_recon"].core_h is not None


@pytest.mark.parametrize("n_known", [(3, 2), (5, 0), (10, 10)])
def test_half_of_two_sizes_tells_the_other(campaign, n_known):
    """Within 25 % of the sum, from five scans on; of the other size too, by their work."""
    known = [f"{size}_{i}" for size, n in zip(SIZES, n_known, strict=True) for i in range(n)]
    other = [f"{size}_{i}" for size in SIZES for i in range(10, 20)]
    if n_known[1] == 0:
        other = [scan for scan in other if scan.startswith("small")]
    rows = {scan: row(scan) for scan in (*known, *other)}
    end(campaign, known)
    asked = [(step, scan) for step in SECONDS for scan in other]
    found = {cost.step: cost for cost in costs(campaign, asked, rows)}
    truth = end(campaign, other, seed=2)
    assert total(list(found.values())).core_h == pytest.approx(sum(truth.values()), rel=0.25)
    for step, cost in found.items():
        assert cost.core_h == pytest.approx(truth[step], rel=0.25), step
    assert found["full_recon"].gpu_h > 0 == found["try_recon"].gpu_h


def test_another_size_is_scaled_by_its_work(campaign):
    known, other = [f"large_{i}" for i in range(5)], [f"small_{i}" for i in range(5)]
    rows = {scan: row(scan) for scan in (*known, *other)}
    end(campaign, known)
    (found,) = costs(campaign, [("export_stack", scan) for scan in other], rows)
    truth = sum(SECONDS["export_stack"](*SIZES["small"]) for _ in other) / 3600
    assert found.core_h == pytest.approx(truth, rel=0.5)
