"""What jobs ask for, and what of it, and of their parameters, a node finds in the run's folder."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.phantoms import write_scan
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.failures import record_failures
from tomopipe.errors import RunEndedError
from tomopipe.reruns.parameters import parameters
from tomopipe.reruns.reasons import METADATA_ALONE
from tomopipe.reruns.settle import PlannedJob, Settled, expected_inventory
from tomopipe.resources.jobs import START_S
from tomopipe.run.job_resources import (
    cpu_ms,
    number,
    param,
    planned_work,
    request,
    runtime_min,
    sent,
)
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import write_json
from tomopipe.workflow_steps import STEPS

LARGE = {"n_angles": "3000", "n_rows": "2048", "n_cols": "2048"}


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """A campaign of two scans with a COR, whose jobs go to SLURM."""
    for scan in ("a_1", "a_2"):
        write_scan(tmp_path / "raw" / f"{scan}.h5", n_rows=2, n_cols=64, n_angles=31)
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (tmp_path / "scans.tsv").write_text("scan\tcor_px\na_1\t32\na_2\t32\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["snakemake", "--executor", "tomopipe", "--retries", "2"])
    monkeypatch.setenv(run_folder.VARIABLE, "")
    return tmp_path


def settled(folder: Path, config: str = "", **row: str) -> Settled:
    """Decide on a campaign in which a_2 has another size."""
    (folder / "config.yaml").write_text(f"campaign: {{scans: [raw/*.h5]}}\n{config}\n")
    found = Settled(load_campaign(folder))
    found.target.rows = {**found.rows, "a_2": found.rows["a_2"] | row}
    return found


def test_time_is_thrice_the_estimate_and_at_least_ten_minutes(campaign, monkeypatch):
    found = settled(campaign, **LARGE)
    for step in ("try_recon", "predict_cor", "full_recon", "export_stack"):
        assert runtime_min(found, step, "a_1", threads=1) == 10
    # 2048 slices of 0.07 CPU s, and 34 GB to write at 0.1 GB a second
    assert runtime_min(found, "full_recon", "a_2", threads=1) == pytest.approx(24, abs=2)
    assert runtime_min(found, "full_recon", "a_2", threads=16) == pytest.approx(18, abs=2)
    # 2048 slices of 100 iterations of 0.7 CPU s on 16 cores, at 50 angles
    few = settled(campaign, "full_recon: {algorithm: sirt}", **LARGE | {"n_angles": "50"})
    assert runtime_min(few, "full_recon", "a_2", threads=16) == pytest.approx(210, rel=0.3)
    sys.argv[1:] = ["--cores", "4"]
    assert runtime_min(found, "full_recon", "a_2", threads=1) == 10


@pytest.mark.parametrize("step", ["predict_cor", "full_recon"])
def test_who_was_killed_in_the_last_run_has_a_submission_of_its_own(campaign, step):
    """The end of that run has recorded it, if one job alone is to blame."""
    found, status = settled(campaign), campaign / f"logs/status/{step}/a_1.json"
    grouped_ms = cpu_ms(found, step, "a_1")
    assert 0 < grouped_ms < 10**6
    for state, error, alone in (("running", "", True), ("failed", "MemoryError", False)):
        write_json({"state": state, "start": 5.0, "error": error}, status)
        record_failures(found.campaign, since=0.0)
        assert cpu_ms(found, step, "a_1") == (10**9 if alone else grouped_ms)


def test_all_steps_are_planned_from_the_start_as_far_as_tables_allow(campaign):
    (campaign / "scans.tsv").write_text("scan\tselect\tcor_px\na_2\tno\t\n")

    def plan(**options):
        found = planned_work(Settled(load_campaign(campaign), **options))
        return {step: [*jobs] for step, jobs in found["planned"].items()}, found

    keys, found = plan(looks_ahead=False)  # as a run begins: nothing is read yet
    per_scan = ("try_recon", "predict_cor", "full_recon")
    assert keys == {"inventory": ["campaign"], **{key: ["a_1"] for key in per_scan}} | {
        "sidecar": ["campaign"],
        "report": ["campaign"],
    }
    assert found["about"] == [*per_scan, "sidecar", "report"]
    assert found["planned"]["full_recon"] == {"a_1": (None, 1)}
    cut = planned_work(Settled(load_campaign(campaign), looks_ahead=False), "predict_cor")
    assert [*cut["planned"]] == ["inventory", *cut["about"]] == ["inventory", *per_scan[:2]]
    seen, _ = plan()  # as `tomopipe plan` looks ahead
    assert seen["full_recon"] == ["a_1"]
    expected_inventory(load_campaign(campaign), campaign / "results")
    settled = Settled(load_campaign(campaign))
    receipts, statement = settled.receipts, settled.target.statement("inventory")
    receipts.write("inventory", "campaign", statement, [settled.out.inventory])
    receipts.save()
    keys, found = plan(looks_ahead=False)  # after the inventory
    assert keys["try_recon"] == keys["full_recon"] == ["a_1"]
    assert found["about"] == ["full_recon", "sidecar", "report"]
    (made := campaign / settled.out.receipt("full_recon", "a_1")).parent.mkdir(parents=True)
    made.touch()  # its COR may change all the same
    assert plan(looks_ahead=False)[0]["full_recon"] == ["a_1"]
    seconds, cores = found["planned"]["full_recon"]["a_1"]
    assert (2.0 < seconds < 3.0, cores) == (True, 1)  # its start, and two slices of 64 pixels
    (campaign / "scans.tsv").write_text("scan\tselect\tcor_px\na_1\t\t32\na_2\tno\t\n")
    keys, found = plan(volumes_of=["a_1"])
    assert (keys, found["about"]) == ({"full_recon": ["a_1"]}, [])
    settled.jobs[:] = [PlannedJob("full_recon", "a_1", "", METADATA_ALONE)]
    settled.open_scans.clear()
    assert planned_work(settled)["planned"] == {"full_recon": {"a_1": (START_S, 1)}}


def test_a_node_finds_what_the_main_process_asked_for_and_the_parameters(campaign, monkeypatch):
    found = settled(campaign)
    assert request(found, "full_recon", "a_1", 1)["threads"] == 1
    assert not (campaign / "results" / ".runs").exists()
    monkeypatch.setenv(run_folder.VARIABLE, str(run_folder.begin(Path("results"))))
    first, second = (request(settled(campaign), "full_recon", "a_1", n) for n in (1, 2))
    assert second["mem_mb"] == 2 * first["mem_mb"] > 0
    assert (first["attempts_left"], second["attempts_left"]) == (2, 1)
    (campaign / "scans.tsv").write_text("scan\tcor_px\na_1\t30\n")  # of no concern to a node
    receipt = "results/made/full_recon/a_1.json"
    assert param(None, receipt, "cor") == param(found, receipt, "cor")
    assert param(None, receipt, "raw") == "raw/a_1.h5"
    assert number(None, "full_recon", "a_1", 1, "mem_mb") == second["mem_mb"]
    assert sent("full_recon", "a_1") == second | {"job": parameters(found, "full_recon", "a_1")}
    assert number(None, "full_recon", "a_2", 1, "mem_mb") == 0  # on that node
    assert param(None, receipt.replace("a_1", "a_2"), "provenance") is None


@pytest.mark.parametrize(
    ("source", "config", "sweep", "is_tried"),
    [
        ("series-mean", "", {}, False),
        ("default", "", {}, False),
        ("manual", "", {}, True),
        ("series-mean", "full_recon: {rows: [0, 0]}", {}, True),  # which may be readable
        ("series-mean", "", {"unreadable": False}, True),  # failed for a reason of its own
        ("series-mean", "", {"made_from": {"raw": ["of a file that was repaired"]}}, True),
    ],
)
def test_pixels_that_a_sweep_could_not_read_fail_the_volume_at_once(
    campaign, source, config, sweep, is_tried
):
    found = settled(campaign, config)
    found.cors["a_1"] = {"cor_px": 32.0, "source": source}
    failed = {"failed": "frames 3 to 4 cannot be read", "unreadable": True}
    failed["made_from"] = found.target.statement("try_recon", "a_1")
    path = Path(found.campaign.paths.sweep("a_1"))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(failed | sweep))
    provenance = parameters(found, "full_recon", "a_1")["provenance"]
    assert provenance.get("fault") == (None if is_tried else failed["failed"])
    assert "made_from" in provenance


def test_the_params_of_a_rule_are_those_that_are_computed(campaign):
    stacks = "stitch: {stacks: {tall: [a_*]}}\nexport_star: {enabled: true}"
    result, rules = settled(campaign, stacks), Path(__file__).parents[3] / "workflow/rules"
    scans = dict.fromkeys(("try_recon", "predict_cor", "full_recon", "export_stack"), "a_1")
    keys = dict.fromkeys(STEPS, "campaign") | scans | {"fix_cor": "a", "stitch": "tall"}
    for step, key in keys.items():
        named = re.findall(r'(\w+)=param\("(\w+)"\)', (rules / f"{step}.smk").read_text())
        assert all(name == text for name, text in named), step
        assert {name for name, _ in named} == parameters(result, step, key).keys(), step


@pytest.mark.parametrize("folder", ["results", "results/.runs/1"])
def test_a_folder_that_is_no_run_of_the_campaign_does_not_count(campaign, monkeypatch, folder):
    os.makedirs("results/.runs/2")
    monkeypatch.setenv(run_folder.VARIABLE, folder)
    with pytest.raises(RunEndedError, match=r"the run of this job has ended"):
        run_folder.current()
    monkeypatch.setenv(run_folder.VARIABLE, "results/.runs/2")
    assert run_folder.current() == Path("results/.runs/2")


@pytest.mark.parametrize(
    ("words", "threads"),
    [
        ("--cores 64 --resources gpu=4", 16),
        ("--cores 64 --resources mem_mb=9000 gpu=8", 8),
        ("--cores 12 --resources=gpu=4 --retries 2", 3),
        ("--cores 2 --resources gpu=4", 1),
        ("--cores 64 --resources gpu=1", 16),
        ("--cores 12 --resources mem_mb=9000", 6),  # no limit: all GPUs
        ("--cores 4 --executor tomopipe", 16),  # of a node
    ],
)
def test_gpus_of_a_machine_share_its_cores(campaign, monkeypatch, words, threads):
    monkeypatch.setattr(sys, "argv", ["snakemake", *words.split()])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    found = settled(campaign, "full_recon: {device: cuda}", **LARGE)
    assert number(found, "full_recon", "a_2", 1, "threads") == threads
    assert number(found, "full_recon", "a_2", 1, "gpu") == 1
    assert planned_work(found)["planned"]["full_recon"]["a_2"][1] == threads
    plain = settled(campaign, **LARGE)
    assert number(plain, "full_recon", "a_2", 1, "threads") == 16  # of CPUs
