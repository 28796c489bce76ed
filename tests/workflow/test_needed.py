"""A run for the volumes of some scans does what they need, and nothing else; `plan` says the same.

Whatever the order of such runs, the results are those of one run of everything.
"""

import json
import shutil
from pathlib import Path

import h5py
import pytest
from typer.testing import CliRunner

from tests.workflow.conftest import (
    CORS_PX,
    configure,
    job_names,
    make_scan,
    new_campaign,
    plan,
    snakemake,
    table,
)
from tests.workflow.test_random_edits import same_as_made_at_once
from tests.workflow.test_reruns import SEARCH, jobs_of
from tests.workflow.test_run import CORES, rows, tomopipe
from tomopipe.cli import cli

BY_HAND = ("a_2\tauto\t50.25\t", "b_1\tauto\t47.00\t")


@pytest.fixture
def new(campaign) -> Path:
    """A campaign of two series that has not run; a_2 and b_1 have a COR by hand."""
    for folder in ("results", "logs", ".snakemake"):
        shutil.rmtree(campaign / folder)
    for path in campaign.glob("raw/*.cor.json"):
        path.unlink()
    table(campaign, *BY_HAND)
    return campaign


def makes(campaign: Path, scans: str, jobs: set[str], *, pending: bool = False) -> str:
    """Compare plan and run for the volumes of scans with the jobs; return what the run says."""
    names = scans.split()
    status, planned = plan(campaign, *names)
    assert planned <= jobs if pending else planned == jobs
    assert status == (2 if jobs else 0)
    before = {*(campaign / "logs" / "run").glob("*.log")}
    status, text = tomopipe(campaign, "run", *names, *CORES)
    assert status == 0, text
    (log,) = {*(campaign / "logs" / "run").glob("*.log")} - before
    assert set(job_names(log.read_text())) == jobs, text
    assert plan(campaign, *names) == (0, frozenset())
    return text


def search(*scans: str) -> set[str]:
    return {f"{step}:{scan}" for step in SEARCH for scan in scans}


def volume_cor_px(campaign: Path, scan: str) -> float:
    with h5py.File(campaign / "results" / f"{scan}_rec.h5") as file:
        return float(file["provenance/cor"].attrs["cor_px"])


@pytest.mark.engine
def test_each_volume_needs_its_own_cor_and_the_rest_comes_later(new, tmp_path):
    makes(new, "a_2", {"inventory", "full_recon:a_2"})
    assert not (new / "results" / "try_center").exists()
    series_b = search("b_2", "b_3") | {"fix_cor:b", "resolve_cor"}
    text = makes(new, "b_1 b_2", {*series_b, *jobs_of("full_recon", ("b_1", "b_2"))}, pending=True)
    assert {path.name for path in new.glob("results/try_center/*")} == {"b_2", "b_3"}
    cors = json.loads((new / "results" / "cor.json").read_text())
    assert {scan: entry["source"] for scan, entry in cors.items()} == {
        "b_1": "manual",
        "b_2": "auto",
    }
    rot_cen = json.loads((new / "results" / "rot_cen.json").read_text())
    assert {Path(path).stem for path in rot_cen} == {"b_1", "b_2"}
    # no state of a scan depends on the order: a_2 has its COR, a_1 is to come
    assert rows(text, "a_2")[0].split()[:4] == ["a_2", "50.25", "by", "hand"]
    assert "next run" not in rows(text, "a_2")[0]
    assert "pending" in rows(text, "a_1")[0]
    assert "no COR, and so" not in tomopipe(new, "status")[1]

    before = {scan: (new / "results" / f"{scan}_rec.h5").stat() for scan in ("a_2", "b_1", "b_2")}
    rest = (
        jobs_of("full_recon", ("a_1", "a_3", "b_3"))
        | jobs_of("export_stack")
        | search("a_1", "a_3")
    )
    rest |= {"fix_cor:a", "resolve_cor", "sidecar", "export_star", "report"}
    assert plan(new)[1] <= rest
    run = snakemake(new)
    assert (run.status, run.jobs) == (0, rest), run.text
    assert plan(new) == (0, frozenset())
    for scan, was in before.items():
        now = (new / "results" / f"{scan}_rec.h5").stat()
        assert (now.st_ino, now.st_mtime_ns) == (was.st_ino, was.st_mtime_ns)
    same_as_made_at_once(new, tmp_path / "fresh", [])


def test_after_edits_only_what_was_asked_is_made(campaign):
    """Stale tables, sweeps and volumes of other scans stay as they are, and are planned."""
    configure(campaign, "try_recon", width_px=9)  # all sweeps are stale
    table(campaign, *BY_HAND)
    text = makes(campaign, "a_2", {"full_recon:a_2"})
    assert rows(text, "a_2")[0].split()[:4] == ["a_2", "50.25", "by", "hand"]
    assert "next run" not in rows(text, "a_2")[0]
    assert "47.00 by hand, applied by the next run" in rows(text, "b_1")[0]
    tables = {"fix_cor:b", "resolve_cor"}
    others = json.loads((campaign / "results" / "cor.json").read_text())
    makes(campaign, "b_2", search("b_2", "b_3") | tables, pending=True)
    now = json.loads((campaign / "results" / "cor.json").read_text())
    assert now == others  # b_2 keeps its COR
    (campaign / "results" / "b_3_rec.h5").unlink()
    makes(campaign, "b_3", {"full_recon:b_3"})
    rest = {*search("a_1", "a_3"), "fix_cor:a", "resolve_cor", "full_recon:b_1"}
    rest |= {"sidecar", "export_star", "report"}
    certain = plan(campaign)[1]
    assert (snakemake(campaign).jobs, certain <= rest) == (rest, True)
    assert volume_cor_px(campaign, "a_2") == 50.25
    assert plan(campaign) == (0, frozenset())


def test_a_protected_prediction_needs_no_other_scan(campaign):
    """One of the confidence that is never replaced; others wait for all of their series."""
    configure(campaign, "fix_cor", protect_confident=0.9)
    assert snakemake(campaign).status == 0
    for scan in ("a_1", "b_1"):
        (campaign / "results" / f"{scan}_rec.h5").unlink()
    for name in ("a_4", "b_4"):
        make_scan(campaign, name, 47.0)
    makes(campaign, "a_1", {"inventory", "full_recon:a_1"})
    configure(campaign, "fix_cor", protect_confident=None)
    needed = {*search("b_4"), "fix_cor:b", "resolve_cor", "full_recon:b_1"}
    makes(campaign, "b_1", needed, pending=True)


def test_a_cor_by_hand_that_may_be_replaced_needs_its_series(new):
    configure(new, "fix_cor", protect_manual=False)
    needed = {"inventory", *search("a_1", "a_3"), "fix_cor:a", "resolve_cor", "full_recon:a_2"}
    makes(new, "a_2", needed, pending=True)


def test_without_methods_no_volume_needs_a_sweep(new, tmp_path):
    """By hand, by the series or by default; a run of everything makes the sweeps to look at."""
    configure(new, "predict_cor", methods=[])
    text = makes(new, "a_1 a_2", {"inventory", "full_recon:a_1", "full_recon:a_2"})
    assert volume_cor_px(new, "a_1") == 50.25  # the only COR of its series
    assert rows(text, "a_1")[0].split()[:6] == ["a_1", "50.25", "series", "mean", "!", "doubtful"]
    table(new, BY_HAND[1])
    result = CliRunner().invoke(cli, ["run", "-C", str(new), "a_3"])
    assert "a_3 has no COR, and so no volume. Type: tomopipe cor set a_3" in str(result.exception)
    configure(new, "resolve_cor", default_px=49.0)
    makes(new, "a_3 b_2", {"full_recon:a_3", "full_recon:b_2"})
    assert (volume_cor_px(new, "a_3"), volume_cor_px(new, "b_2")) == (49.0, 49.0)
    assert not (new / "results" / "try_center").exists()
    assert plan(new)[1] >= search(*CORS_PX.keys() - {"b_1"})
    assert snakemake(new).jobs >= search(*CORS_PX.keys() - {"b_1"})
    assert (volume_cor_px(new, "a_1"), volume_cor_px(new, "a_3")) == (49.0, 49.0)
    assert plan(new) == (0, frozenset())
    same_as_made_at_once(new, tmp_path / "fresh", [])


def test_volumes_as_targets_of_snakemake_need_no_more(new):
    """Beside the tables, which are named with them; other targets mean a run of everything."""
    receipt = "results/made/full_recon/{}.json"
    run = snakemake(new, "--cores", "2", receipt.format("a_2"))
    assert (run.status, run.jobs) == (0, {"inventory", "full_recon:a_2"}), run.text
    of_b = {*search("b_2", "b_3"), "fix_cor:b", "resolve_cor"}
    tables = "results/made/resolve_cor/campaign.json"
    run = snakemake(new, "--cores", "2", tables, receipt.format("b_2"))
    assert (run.status, run.jobs) == (0, {*of_b, "full_recon:b_2"}), run.text
    run = snakemake(new, "--cores", "2", tables)
    assert (run.status, run.jobs) == (0, {*search("a_1", "a_3"), "fix_cor:a", "resolve_cor"})
    assert json.loads((new / "results" / "cor.json").read_text()).keys() == CORS_PX.keys()


def test_three_of_three_hundred(tmp_path):
    """Series of a hundred: those asked for by hand cost three volumes, one by its series that."""
    names = [f"{series}_{number:03d}" for series in "abc" for number in range(100)]
    make_scan(tmp_path, names[0], 48.0, n_rows=1, n_cols=32, n_angles=31)
    for name in names[1:]:
        shutil.copy(tmp_path / "raw" / f"{names[0]}.h5", tmp_path / "raw" / f"{name}.h5")
    new_campaign(tmp_path, {})
    assert snakemake(tmp_path, "--cores", "2", "results/made/inventory/campaign.json").status == 0
    scans = ("a_005", "b_050", "c_099")
    table(tmp_path, *(f"{scan}\tauto\t15.50\t" for scan in scans))
    volumes = jobs_of("full_recon", scans)
    assert plan(tmp_path, *scans)[1] == volumes
    table(tmp_path, *(f"{scan}\tauto\t15.50\t" for scan in scans[:2]))
    series = search(*(name for name in names if name.startswith("c_")))
    planned = plan(tmp_path, *scans)[1]
    assert planned == {*volumes, *series, "fix_cor:c", "resolve_cor"} - {"full_recon:c_099"}
    assert len(plan(tmp_path)[1]) > 600
