"""Failures by injection: one broken scan is reported, all others finish, nothing half is kept."""

import json
import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.rights import HEEDING, heeding
from tests.waiting import until
from tests.workflow.conftest import (
    CORS_PX,
    HOME,
    command,
    configure,
    failing,
    make_scan,
    new_campaign,
    package_with,
    plan,
    snakemake,
    succeeds,
    table,
)
from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.cli.outcome import show
from tomopipe.commands.next_run import make_plan
from tomopipe.commands.status import read_status
from tomopipe.review.store import Store
from tomopipe.run.progress import VARIABLE
from tomopipe.storage import run_folder

KILL = "os.kill(os.getpid(), 9)"
RAISE = "raise RuntimeError('injected')"
SPOILT = (
    "import tomopipe.errors as e, tomopipe.steps.export_stack as s; "
    "s.export_stack = lambda *a, **k: (_ for _ in ()).throw(e.ScanError('spoilt'))"
)


def volumes(campaign: Path) -> set[str]:
    return {path.name.removesuffix("_rec.h5") for path in campaign.glob("results/*_rec.h5")}


def remove(campaign: Path, *patterns: str) -> None:
    """Take results of a finished campaign away."""
    for pattern in patterns:
        found = list(campaign.glob(pattern))
        assert found
        for path in found:
            path.unlink()


def resolved(campaign: Path) -> dict:
    return json.loads((campaign / "results" / "cor.json").read_text())


def test_error_in_try_or_prediction_is_a_result(campaign, tmp_path):
    broken = {
        "a_2": ("steps/try_recon.py", "rows = collect_rows(", "raw"),
        "b_1": ("steps/predict_cor.py", "candidates_px = _candidates(", "rows_h5"),
    }
    for scan, (module, line, path) in broken.items():
        remove(campaign, f"results/try_center/{scan}/*", f"results/{scan}_rec.h5")
        text = (HOME / "tomopipe" / module).read_text()
        indent = re.search(rf"^( +){re.escape(line)}", text, re.M)[1]
        injected = f"if {scan!r} in str({path}): {RAISE}\n{indent}"
        raising = package_with(tmp_path, module, line, injected + line)
    succeeds(campaign, environment=raising)
    for scan in broken:
        results = campaign / "results" / "try_center" / scan
        prediction = json.loads((results / "prediction.json").read_text())
        assert prediction["verdict"] == "failed"
        assert "injected" in prediction["reason"]
        assert (results / "center_of_rotation.txt").read_text() == ""
        assert resolved(campaign)[scan]["source"] in ("neighbours", "series-mean")
    assert volumes(campaign) == set(CORS_PX)
    assert plan(campaign) == (1, frozenset())
    hint = "once files or options of its scan change, else with `tomopipe retry SCAN`: 2 scans ("
    assert hint in make_plan(load_campaign(campaign)).retry
    config = (campaign / "config.yaml").read_text()
    other = "\noverrides:\n- {scans: [a_2], preprocess: {air_px: 1}}\n"
    (campaign / "config.yaml").write_text(config + other)
    assert make_plan(load_campaign(campaign)).retry.endswith("retry SCAN`: b_1.")
    (campaign / "config.yaml").write_text(config)
    assert CliRunner().invoke(cli, ["retry", *broken, "-C", str(campaign)]).exit_code == 0
    assert snakemake(campaign).status == 0
    assert {resolved(campaign)[scan]["source"] for scan in broken} == {"auto"}
    assert plan(campaign) == (0, frozenset())


def test_job_killed_for_good(campaign, tmp_path):
    """A retry makes its record void, and so does another raw file."""
    killed = {"a_2": "try_recon", "b_1": "predict_cor"}
    for scan, step in killed.items():
        remove(campaign, f"results/try_center/{scan}/*", f"results/{scan}_rec.h5")
        killing = failing(tmp_path, step, scan, KILL)
    (campaign / "results/try_center/b_2/try.tif").write_bytes(b"of an accepted scan")
    assert snakemake(campaign, environment=killing).status == 1
    kept = {path.parent.name for path in campaign.glob("results/try_center/*/try.tif")}
    assert kept == {"b_1"}  # without a prediction
    records = {path: json.loads(path.read_text()) for path in campaign.glob("results/failed/*/*")}
    assert {(path.stem, path.parent.name) for path in records} == set(killed.items())
    assert all("killed" in record["reason"] for record in records.values())
    assert "a_2" in (campaign / "results/report/index.html").read_text()
    assert volumes(campaign) == CORS_PX.keys() - killed.keys()

    second = succeeds(campaign, environment=killing)
    assert not second.jobs & {"try_recon:a_2", "predict_cor:b_1"}
    assert volumes(campaign) == set(CORS_PX)
    assert resolved(campaign)["a_2"]["source"] == "neighbours"
    assert plan(campaign) == (1, frozenset())
    assert snakemake(campaign).jobs == frozenset()

    assert CliRunner().invoke(cli, ["retry", "a_2", "-C", str(campaign)]).exit_code == 0
    make_scan(campaign, "b_1", CORS_PX["b_1"], seed=3)
    assert {"try_recon:a_2", "try_recon:b_1"} <= succeeds(campaign).jobs
    assert {resolved(campaign)[scan]["source"] for scan in killed} == {"auto"}
    assert plan(campaign) == (0, frozenset())


@pytest.mark.parametrize("statement", [RAISE, KILL])
def test_volume_or_stack_that_fails(campaign, tmp_path, statement):
    stacks = campaign / "results/relion/stacks"
    remove(campaign, "results/a_[12]_rec.h5", "results/relion/stacks/b_?.mrcs", "results/report/*")
    failing(tmp_path, "full_recon", "a_2", statement)
    first = snakemake(campaign, environment=failing(tmp_path, "export_stack", "b_1", statement))
    assert first.status == 1
    assert volumes(campaign) == CORS_PX.keys() - {"a_2"}
    assert {path.stem for path in stacks.glob("*.mrcs")} == CORS_PX.keys() - {"b_1"}
    page = (campaign / "results/report/index.html").read_text()
    assert "a_2" in page
    assert "b_1" in page
    status, jobs = plan(campaign)
    assert {"full_recon:a_2", "export_stack:b_1"} <= jobs
    assert status == 1
    assert succeeds(campaign).jobs == jobs
    assert plan(campaign) == (0, frozenset())


def test_a_volume_of_earlier_options_counts_as_failed_until_the_edit_is_taken_back(
    campaign, capsys
):
    config, page = (campaign / name for name in ("config.yaml", "results/report/index.html"))
    hooks = "hooks: {on_scan: cat >> scan, on_failure: cat >> failure, on_end: cat >> end}\n"
    hann = f"{config.read_text()}{hooks}full_recon: {{filter: hann}}\noverrides:\n- scans: [a_2]\n"
    config.write_text(hann + "  full_recon: {rows: [0, 400]}\n")
    assert snakemake(campaign).status == 1
    assert failed_scans(campaign) == {"a_2"}
    made = Counter((facts["scan"], facts["event"]) for facts in announced(campaign, "scan"))
    assert made == {(scan, "volume"): 1 for scan in CORS_PX.keys() - {"a_2"}} | {("a_2", "cor"): 1}
    (failure,), (end,) = announced(campaign, "failure"), announced(campaign, "end")
    assert [(job["step"], job["name"]) for job in failure["failures"]] == [("full_recon", "a_2")]
    assert (end["status"], end["to_review"], end["scans"]) == (
        "failed",
        ["a_2"],
        {"ok": 5, "failed": 1},
    )
    assert plan(campaign) == (1, {"full_recon:a_2", "report"})
    what, why = "earlier options or files", "filter ramp -> hann; rows all -> [0, 400]"
    text = page.read_text()
    assert "<b>5</b> of 6 reconstructed" in text
    assert f"volume of {what} ({why}), made again".replace(">", "&gt;") in text
    show(load_campaign(campaign), is_whole=False)
    assert f"failed volume of {what} (filter ramp" in " ".join(capsys.readouterr().out.split())

    config.write_text(hann + "  full_recon: {filter: ramp}\n")
    assert failed_scans(campaign) == set()
    assert succeeds(campaign).jobs == {"export_star", "report"}  # the page named it
    assert "<b>6</b> of 6 reconstructed" in page.read_text()
    assert failed_scans(campaign) == set()
    assert CliRunner().invoke(cli, ["report", str(campaign)]).exit_code == 0
    assert plan(campaign) == (0, frozenset())


def announced(campaign: Path, hook: str) -> list[dict]:
    """Return what the command of a hook was given."""
    return [json.loads(line) for line in (campaign / hook).read_text().splitlines()]


def failed_scans(campaign: Path) -> set[str]:
    """Name the scans that have failed: report, review, plan and status must agree."""
    found = load_campaign(campaign)
    record = Store(campaign, campaign / "config.yaml").record()
    listed = {failure.key for failure in record.failures}
    assert {scan.name for scan in record.scans if scan.state == "failed"} == listed
    assert {line.split(":")[0] for line in make_plan(found).failures} == listed
    status = read_status(found)
    assert {job.key for job in status.with_state("failed")} == listed
    n_failed = Counter(failure.step for failure in record.failures)
    assert n_failed == {step.step: step.failed for step in status.steps if step.failed}
    return listed


def test_a_stack_that_its_scan_spoils_holds_up_no_other(campaign, tmp_path):
    remove(campaign, "results/relion/stacks/*", "results/relion/tomograms.star")
    bad = failing(tmp_path, "export_stack", "a_2", SPOILT)
    first = snakemake(campaign, environment=bad)
    assert first.status == 3, first.text
    star, page = (campaign / "results" / name for name in ("relion/names.tsv", "report/index.html"))
    in_set = sorted(set(CORS_PX) - {"a_2"})
    assert [line.split("\t")[0] for line in star.read_text().splitlines()[1:]] == in_set
    assert f"has {len(in_set)} of {len(CORS_PX)} tomograms, not a_2: spoilt" in first.text
    assert "spoilt" in page.read_text()
    assert plan(campaign) == (1, frozenset())
    assert snakemake(campaign).jobs == frozenset()

    assert CliRunner().invoke(cli, ["retry", "a_2", "-C", str(campaign)]).exit_code == 0
    assert {"export_stack:a_2", "export_star"} <= snakemake(campaign).jobs
    assert "spoilt" not in page.read_text()
    assert plan(campaign) == (0, frozenset())


def test_missing_cor_blocks_before_any_volume_and_names_every_scan(tmp_path):
    campaign = new_campaign(tmp_path / "campaign", {"a_1": 48.0, "c_1": 47.0, "d_1": 47.0})
    with h5py.File(campaign / "raw" / "c_1.h5", "r+") as file:
        data = file["exchange/data"]  # noise: no COR can be found in it
        data[...] = np.random.default_rng(0).normal(20000, 200, data.shape).astype(data.dtype)
    with h5py.File(campaign / "raw" / "d_1.h5", "r+") as file:
        file["exchange/data"][...] = 0  # as if never written
    configure(campaign, "resolve_cor", on_missing="block")
    events = tmp_path / "events"
    run = snakemake(
        campaign, *("--retries", "2", "--logger", "tomopipe"), environment={VARIABLE: str(events)}
    )
    assert run.status == 1
    told = [event for line in events.open() if {"failed", "again"} & {*(event := json.loads(line))}]
    assert len(told) == 1  # once, and it is not tried again
    first, *scans, last = told[0]["error"].splitlines()
    assert first == "2 scans have no centre of rotation; nothing is reconstructed:"
    assert [line.split(":")[0] for line in scans] == ["  c_1", "  d_1"]
    assert "tomopipe cor set" in last
    assert volumes(campaign) == set()
    log = (campaign / "logs/resolve_cor/campaign.log").read_text()
    assert "c_1" in log
    assert "d_1" in log
    assert "tomopipe cor set" in log
    assert (campaign / "results/inventory.tsv").exists()
    assert (campaign / "results/report/index.html").exists()
    assert len(list(campaign.glob("results/try_center/*/prediction.json"))) == 3
    assert plan(campaign)[0] == 1

    configure(campaign, "resolve_cor", on_missing="skip")
    run = snakemake(campaign)
    assert run.status == 3, run.text
    assert "no COR, and so no volume: 2 scans (c_1, d_1)" in run.text
    assert volumes(campaign) == {"a_1"}
    assert snakemake(campaign).status == 0  # nothing to do
    assert "c_1" in (campaign / "results/report/index.html").read_text()

    # and by CORs by hand a run that would be blocked goes on
    configure(campaign, "resolve_cor", on_missing="block")
    table(campaign, "c_1\tauto\t47.25\t", "d_1\tno\t\t")
    run = succeeds(campaign)
    assert volumes(campaign) == {"a_1", "c_1"}
    assert resolved(campaign)["c_1"] == {"cor_px": 47.25, "source": "manual"}


def test_a_scan_that_loses_its_cor_as_its_neighbour_breaks_holds_up_no_other(tmp_path):
    campaign = new_campaign(tmp_path / "campaign", {"a_1": 48.0, "a_2": 48.0, "b_1": 47.0})
    with h5py.File(campaign / "raw" / "a_2.h5", "r+") as file:
        data = file["exchange/data"]  # noise: its COR is that of a_1
        data[...] = np.random.default_rng(0).normal(20000, 200, data.shape).astype(data.dtype)
    assert snakemake(campaign).status == 0
    assert volumes(campaign) == {"a_1", "a_2", "b_1"}
    os.truncate(campaign / "raw" / "a_1.h5", 20_000)
    table(campaign, "b_1\tauto\t47.25\t")
    run = snakemake(campaign)
    assert run.status == 3, run.text
    assert "no COR, and so no volume: a_2" in run.text
    assert "KeyError" not in run.text
    assert resolved(campaign) == {"b_1": {"cor_px": 47.25, "source": "manual"}}
    with h5py.File(campaign / "results" / "b_1_rec.h5") as file:
        assert file["provenance/cor"].attrs["cor_px"] == 47.25
    # the volumes of scans that are skipped are there, and cost nothing to plan
    (campaign / "results" / "b_1_rec.h5").unlink()
    planned = CliRunner().invoke(cli, ["plan", str(campaign)])
    assert planned.exit_code == 2, planned.output
    assert "full_recon" in planned.stdout


def test_run_stopped_by_hand_blames_nobody(campaign, tmp_path):
    remove(campaign, "results/try_center/a_2/*", "logs/status/try_recon/a_2.json")
    environment = failing(tmp_path, "try_recon", "a_2", "time.sleep(60)")
    process = subprocess.Popen(
        command(campaign, "--cores", "2"),
        env=os.environ | environment,
        cwd=campaign,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # a shell that runs the tests in the background lets its children ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    until((campaign / "logs/status/try_recon/a_2.json").exists)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) != 0
    assert list(campaign.glob("results/failed/*/*")) == []
    succeeds(campaign, "--rerun-incomplete")


def test_a_write_protected_volume_stays_and_only_its_job_fails(campaign):
    """Snakemake would stop before any job, and say it with a traceback."""
    volume, folder = campaign / "results/a_2_rec.h5", campaign / "results/try_center/b_1"
    before = volume.read_bytes()
    volume.chmod(0o444)
    folder.chmod(0o555)
    options = {"full_recon": {"filter": "hann"}, "try_recon": {"width_px": 9}}
    with (campaign / "config.yaml").open("a") as file:
        file.write(f"overrides: [{json.dumps({'scans': ['a_2', 'b_1']} | options)}]\n")
    run = snakemake(campaign, environment={}, by=HEEDING)
    assert (run.status, "Traceback" in run.text) == (1, False), run.text
    for path, log in ((folder, "try_recon/b_1"), (volume, "full_recon/a_2")):
        assert failed_scans(campaign) == {log[-3:]}
        text = (campaign / f"logs/{log}.log").read_text()
        assert f"`chmod u+rwX {path}`" in text
        assert "Traceback" not in text
        folder.chmod(0o755)
        run = snakemake(campaign, environment={}, by=HEEDING)
    assert run.status == 1
    assert volume.read_bytes() == before
    assert is_of_hann(campaign, "b_1")
    volume.chmod(0o644)
    run = succeeds(campaign)
    assert is_of_hann(campaign, "a_2")


def is_of_hann(campaign, name):
    with h5py.File(campaign / f"results/{name}_rec.h5") as file:
        return "hann" in file["provenance"].attrs["made_from"]


def test_a_closed_folder_is_named_before_any_job(campaign):
    before = (campaign / "results/a_1_rec.h5").read_bytes()
    (campaign / "results").chmod(0o555)
    configure(campaign, "full_recon", filter="hann")
    run = snakemake(campaign, environment={}, by=HEEDING)
    assert run.status == 1
    (said,) = (line for line in run.text.splitlines() if line.startswith("tomopipe: "))
    assert said.startswith(f"tomopipe: {campaign}/results: cannot be written, and a run")
    assert f"`chmod u+rwX {campaign}/results`" in said
    assert "Traceback" not in run.text
    assert (campaign / "results/a_1_rec.h5").read_bytes() == before
    (campaign / "results").chmod(0o755)
    for name in ("logs", "results/made/export_star", "logs/status/full_recon"):
        (campaign / name).chmod(0o555)
        status, _, said = heeding("run", campaign)
        assert status == 1
        assert said.startswith(f"tomopipe: {campaign}/{name}: cannot be written, and a run"), said
        assert f"`chmod u+rwX {campaign}/{name}`" in said
        (campaign / name).chmod(0o755)
    (run_folder.of(campaign / "results", "") / "killed").mkdir(parents=True)
    (campaign / "results" / ".runs").chmod(0o555)
    status, said, errors = heeding("run", campaign)
    assert (status, "Traceback" in said, errors) == (1, False, "")
    assert f"{campaign}/results/.runs: left by another user's run that was killed" in said
    (campaign / "results" / ".runs").chmod(0o755)
    for name in (".snakemake", ".snakemake/iocache"):
        (campaign / name).chmod(0o555)
    run = snakemake(campaign, "-n", environment={}, by=HEEDING)
    assert run.status == 1
    assert run.text.endswith("as a dry run of Snakemake requires. Type: tomopipe plan\n")
    for name in (".snakemake", ".snakemake/iocache"):
        (campaign / name).chmod(0o755)
    assert snakemake(campaign).status == 0
