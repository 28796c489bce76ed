"""The cost of the next run: of scans of two sizes, half of which have run."""

import json

import numpy as np
import pytest

from tests.phantoms import write_scan
from tomopipe.campaign.campaign import load_campaign
from tomopipe.cost.cost import ENOUGH, costs, total

SIZES = {"small": (180, 64, 256), "large": (900, 512, 1024)}
ALL_SIZES = SIZES | {"middle": (600, 300, 800), "alike": (840, 512, 1024)}
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
    for scan in (f"{size}_{i}" for size in ALL_SIZES for i in range(20)):
        if scan != "small_0":
            (tmp_path / "raw" / f"{scan}.h5").hardlink_to(tmp_path / "raw" / "small_0.h5")
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    return load_campaign(tmp_path)


def row(scan: str) -> dict[str, str]:
    shape = zip(("n_angles", "n_rows", "n_cols"), ALL_SIZES[scan.partition("_")[0]], strict=True)
    return {"scan": scan, "bytes": "0"} | {key: str(value) for key, value in shape}


def end(campaign, scans, *, seed=1, **more):
    """Leave the records of jobs that have ended, of seconds that vary by a fifth."""
    noise = np.random.default_rng(seed)
    sums = dict.fromkeys(SECONDS, 0.0)
    for scan in scans:
        for step, seconds in SECONDS.items():
            path = campaign.logs.status_folder / step / f"{scan}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            cores = 4 if step == "full_recon" and scan.startswith("large") else 1
            spent = seconds(*ALL_SIZES[scan.partition("_")[0]]) * noise.uniform(0.8, 1.2)
            asked = {"cores": cores, "gpus": int(step == "full_recon"), "mem_mb": 500}
            record = {"state": "done", "start": 5.0, "end": 5.0 + spent, "asked": asked}
            record |= more
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


def sum_of(step, scans):
    return sum(SECONDS[step](*ALL_SIZES[scan.partition("_")[0]]) for scan in scans) / 3600


@pytest.mark.parametrize(("known", "other"), [("large", "small"), ("small", "large")])
def test_a_size_far_from_the_only_known_one_is_unknown(campaign, known, other):
    """predict_cor takes a few rows of any scan: nearly the same for all."""
    known, other = [f"{known}_{i}" for i in range(5)], [f"{other}_{i}" for i in range(5)]
    rows = {scan: row(scan) for scan in (*known, *other)}
    end(campaign, known)
    found = {
        cost.step: cost for cost in costs(campaign, [(s, n) for s in SECONDS for n in other], rows)
    }
    assert {step for step, cost in found.items() if cost.core_h is not None} == {"predict_cor"}
    usual_h = sum_of("predict_cor", known)
    assert found["predict_cor"].core_h == pytest.approx(usual_h, rel=0.25)


def test_one_scan_of_another_size_does_not_make_the_sum_of_many_unknown(campaign):
    known, other = [f"large_{i}" for i in range(5)], ["small_0"]
    end(campaign, known)
    rows = {scan: row(scan) for scan in (*known, *other)}
    (few,) = costs(campaign, [("export_stack", scan) for scan in (*known, *other)], rows)
    assert few.core_h == pytest.approx(sum_of("export_stack", (*known, *other)), rel=0.25)


@pytest.mark.parametrize(("n_small", "size"), [(0, "alike"), (3, "middle")])
def test_another_size_between_two_known_ones_or_near_one(campaign, n_small, size):
    known = [f"small_{i}" for i in range(n_small)] + [f"large_{i}" for i in range(5)]
    other = [f"{size}_{i}" for i in range(5)]
    rows = {scan: row(scan) for scan in (*known, *other)}
    end(campaign, known)
    (found,) = costs(campaign, [("export_stack", scan) for scan in other], rows)
    assert found.core_h == pytest.approx(sum_of("export_stack", other), rel=0.25)


@pytest.mark.parametrize("wrote_only", ["metadata", "failure"])
def test_jobs_that_wrote_metadata_or_a_failure_tell_nothing(campaign, wrote_only):
    scans = [f"small_{i}" for i in range(10)]
    usual = {"start": 5.0, "end": 5.0 + 60.0, "asked": {"cores": 2}}
    end(campaign, scans[:5], wrote_only=wrote_only)
    assert expected(campaign, scans[5:])["full_recon"].core_h is None
    end(campaign, scans[:5], wrote_only=wrote_only, usual=usual)
    assert expected(campaign, scans[5:])["full_recon"].core_h == pytest.approx(5 * 120 / 3600)


def test_jobs_that_write_metadata_are_not_computed(campaign):
    scans = [f"large_{i}" for i in range(5)]
    rows = {scan: row(scan) for scan in scans}
    jobs = [("full_recon", scan) for scan in scans]
    end(campaign, scans)
    (computed,), (copied,) = (costs(campaign, jobs, rows, metadata) for metadata in ((), jobs))
    assert copied.n_bytes == computed.n_bytes > 0
    assert 0 < copied.core_h < 0.5 * computed.core_h
    (both,) = costs(campaign, jobs, rows, jobs[:1])
    assert both.core_h == pytest.approx(0.2 * copied.core_h + 0.8 * computed.core_h)
