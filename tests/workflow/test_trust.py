"""Nothing silently stale, overwritten or made again for nothing, on real runs."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from tests import warm
from tests.waiting import ended, until
from tests.workflow.conftest import (
    CORS_PX,
    HOME,
    command,
    configure,
    failing,
    make_scan,
    new_campaign,
    plan,
    snakemake,
    succeeds,
    table,
)
from tests.workflow.test_reruns import TAIL, expect, jobs_of
from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.commands import run_request
from tomopipe.commands.next_run import make_plan
from tomopipe.errors import TomopipeError
from tomopipe.reruns.receipts import SMALL_BYTES
from tomopipe.resources.jobs import START_S
from tomopipe.storage.processes import is_alive, named

CAMPAIGNS = HOME / "tests" / "campaigns"
DUE = (
    "a finished campaign is due again: every user's would be. `tomopipe plan` in tests/campaigns "
    "says why, CONTRIBUTING.md (What runs again) what to do"
)


def unpacked(name: str, folder: Path, *, new_times: bool) -> Path:
    """Unpack a finished campaign, which knows another folder as its own."""
    with tarfile.open(CAMPAIGNS / f"{name}.tar.xz") as archive:
        # Python before 3.11.4 has no filters
        archive.extractall(
            folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )
    campaign = folder / "campaign"
    if new_times:
        for path in campaign.rglob("*"):
            os.utime(path)
    return campaign


@pytest.mark.parametrize(("name", "new_times"), [("default", False), ("zarr", True)])
def test_later_versions_find_nothing_to_do_in_a_finished_campaign(tmp_path, name, new_times):
    campaign = unpacked(name, tmp_path, new_times=new_times)
    assert plan(campaign) == (0, frozenset()), DUE
    run = snakemake(campaign)
    assert (run.status, run.jobs) == (0, frozenset()), f"{DUE}\n{run.text}"
    # it was moved: the summary for TomoGUI names the paths of here
    (summary,) = campaign.glob("*/rot_cen.json")
    assert all(str(campaign) in path for path in json.loads(summary.read_text()))


def test_a_finished_campaign_follows_an_edit(tmp_path):
    campaign = unpacked("default", tmp_path, new_times=True)
    table(campaign, "a_2\tauto\t33.75\t")
    configure(campaign, "preprocess", stripes={"method": "vo"})
    run = snakemake(campaign)
    others = {"a_1", "a_2", "a_3", "b_1"}  # b_2 has a method of its own, a_2 its COR in the table
    searched = others - {"a_2"}
    made = jobs_of("try_recon", searched) | jobs_of("predict_cor", searched)
    made |= jobs_of("full_recon", others)
    made |= {"fix_cor:a", "fix_cor:b", "resolve_cor", "sidecar", "report"}
    assert (run.status, run.jobs) == (0, made), run.text
    assert snakemake(campaign).jobs == frozenset()


def test_a_plan_names_no_cor_that_a_pending_prediction_may_change(tmp_path):
    campaign = unpacked("default", tmp_path, new_times=False)

    def reason():
        jobs = make_plan(load_campaign(campaign)).jobs
        return next(job.reason for job in jobs if (job.rule, job.series) == ("fix_cor", "a"))

    (center,) = campaign.glob("results/*/a_1/center_of_rotation.txt")
    center.write_text("35.00\n")
    edited = "COR of a_1: 32.49 -> 35.00, by hand"
    assert reason() == edited
    configure(campaign, "try_recon", row=0)
    assert reason() == "2 CORs are not known yet"  # a_2 has its own in the table
    config = yaml.safe_load((campaign / "config.yaml").read_text())
    del config["try_recon"]["row"]
    config["overrides"].append({"scans": ["a_3"], "try_recon": {"row": 0}})
    (campaign / "config.yaml").write_text(yaml.safe_dump(config))
    assert reason() == f"{edited}; 1 COR is not known yet"


def test_raw_files_that_are_not_mounted_change_nothing(campaign):
    assert snakemake(campaign).jobs == frozenset()  # a copy
    results = campaign / "results"
    before = {path: path.read_bytes() for path in (results / "cor.json", results / "inventory.tsv")}
    (campaign / "raw").rename(campaign / "away")
    for mount_point in (False, True):
        if mount_point:
            (campaign / "raw").mkdir()
        run = snakemake(campaign)
        assert run.status == 1
        assert "raw: this folder has no raw files now, but the campaign has 6 scans" in run.text
        assert {path: path.read_bytes() for path in before} == before
    (campaign / "raw").rmdir()
    (campaign / "away").rename(campaign / "raw")
    assert snakemake(campaign).jobs == frozenset()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def edited(path: Path) -> None:
    path.write_text(path.read_text().replace("4", "5"))


@pytest.mark.parametrize(
    "damaged",
    [
        {
            "results/a_1_rec.h5": (emptied, {"full_recon:a_1", "report"}),
            "results/relion/stacks/a_2.mrcs": (cut, {"export_stack:a_2", "export_star"}),
            "raw/a_3.cor.json": (emptied, {"sidecar"}),
            "results/cor.json": (edited, {"resolve_cor"}),
        },
        {
            "results/inventory.tsv": (cut, {"inventory"}),
            "results/fix_cor/a.tsv": (edited, {"fix_cor:a", "resolve_cor"}),
            "results/fix_cor/b.tsv": (emptied, {"fix_cor:b", "resolve_cor"}),
            "results/relion/tomograms.star": (cut, {"export_star"}),
            "results/report/index.html": (emptied, {"report"}),
        },
    ],
)
def test_damaged_results_are_made_again(campaign, damaged):
    assert snakemake(campaign).jobs == frozenset()  # a copy
    whole = {path: (campaign / path).read_bytes() for path in damaged}
    for path, (damage, _) in damaged.items():
        damage(campaign / path)
    jobs = set().union(*(made for _, made in damaged.values()))
    certain = plan(campaign)[1]
    run = snakemake(campaign)
    assert (run.status, run.jobs) == (0, jobs), run.text
    assert certain <= jobs
    for path, content in whole.items():
        assert path in run.text
        if path.endswith(".cor.json"):  # which name the folder of their campaign
            before, after = json.loads(content), json.loads((campaign / path).read_text())
            assert before | {"campaign": str(campaign)} == after
        elif not path.endswith((".h5", ".html")):
            assert (campaign / path).read_bytes() == content
    assert snakemake(campaign).jobs == frozenset()


def test_damaged_sweeps_and_predictions_are_made_again(campaign):
    assert snakemake(campaign).jobs == frozenset()  # a copy
    names = {"a_1": "try.json", "a_2": "rows.h5", "b_1": "prediction.json"}
    damaged = [campaign / "results/try_center" / scan / name for scan, name in names.items()]
    whole = [path.read_bytes() for path in damaged]
    for path in damaged:
        cut(path)
    run = succeeds(campaign)
    assert run.jobs >= {"try_recon:a_1", "try_recon:a_2", *jobs_of("predict_cor", names)}
    assert not run.jobs & (jobs_of("full_recon") | jobs_of("export_stack"))
    assert [path.read_bytes() for path in damaged] == whole


def test_raw_files_swapped_for_others_of_equal_size_and_older_or_equal_time(campaign):
    for scan, older_ns in {"a_3": 10**12, "b_1": 0}.items():
        path = campaign / "raw" / f"{scan}.h5"
        old = path.stat()
        with h5py.File(path, "r+") as file:
            file["exchange/data_white"][...] += 7
        assert path.stat().st_size == old.st_size
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns - older_ns))
    run = succeeds(campaign)
    for rule in ("try_recon", "full_recon", "export_stack"):
        assert run.jobs & jobs_of(rule) == jobs_of(rule, ("a_3", "b_1"))


def test_the_content_of_a_large_raw_file_counts_though_it_was_never_searched(tmp_path):
    """Its COR is in the table, so no job of the search has summed it."""
    campaign = new_campaign(tmp_path / "campaign", {"a_1": 48.5})
    make_scan(campaign, "a_1", 48.5, n_rows=60)
    configure(campaign, "full_recon", rows=[0, 1])
    table(campaign, "a_1\tauto\t48.50\t")
    assert "try_recon:a_1" not in succeeds(campaign).jobs
    path = campaign / "raw" / "a_1.h5"
    before = path.stat()
    assert before.st_size > SMALL_BYTES
    os.utime(path)
    assert succeeds(campaign).jobs == set()
    path.unlink()
    make_scan(campaign, "a_1", 48.5, n_rows=60, seed=7)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert {"full_recon:a_1", "export_stack:a_1"} < succeeds(campaign).jobs


def test_results_and_raw_files_from_the_future(campaign):
    """As a clock that was set back leaves them, or another machine's; what runs left goes."""
    left = campaign / "results" / ".runs" / "19990101-000000-abcdef01"
    (left / "said").mkdir(parents=True)
    (left / ".tmp-0-1.h5").write_bytes(b"half a volume")
    ahead = time.time() + 86400
    for path in campaign.rglob("*"):
        os.utime(path, (ahead, ahead))
    table(campaign, "a_2\tauto\t50.25\t")
    _, expected = plan(campaign)
    run = snakemake(campaign)
    assert (run.status, run.jobs) == (0, expected), run.text
    assert {"resolve_cor", "full_recon:a_2", "report"} <= expected
    assert not (campaign / "results" / ".runs").exists()
    assert not list(campaign.rglob(".tmp-*"))
    assert snakemake(campaign).jobs == frozenset()


def put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(content)
    return path


def test_what_others_put_in_the_places_of_results_is_kept_and_the_run_goes_on(campaign):
    """A results folder of TomoGUI without anything that tomopipe has made; a pipe, a folder."""
    results, sidecar = campaign / "raw_rec", campaign / "raw" / "a_1.cor.json"
    names = "cor.json rot_cen.json inventory.tsv fix_cor/a.tsv a_2_rec.h5 report/index.html"
    names += " relion/tomograms.star relion/tilt_series/a.star relion/stacks/a_3.mrcs"
    in_scan = ("center_of_rotation.txt", "rows.h5", "try.json", "try.tif", "prediction.json")
    names += "".join(f" try_center/a_1/{name}" for name in in_scan)
    theirs = {results / name: f"77.77 {name}" for name in names.split()} | {sidecar: "77.77"}
    for path, text in theirs.items():
        put(path, text)
    os.mkfifo(results / "b_1_rec.h5")
    configure(campaign, "campaign", results="raw_rec")
    configure(campaign, "export_star", enabled=True)
    planned = CliRunner().invoke(cli, ["plan", str(campaign)], env={"COLUMNS": "300"}).output
    name = "center_of_rotation.txt"
    assert f"raw_rec/try_center/a_1/{name} is not tomopipe's: kept as {name}.before-D" in planned
    assert "and 1 more, kept in the same way" in planned
    assert all(path.read_text() == text for path, text in theirs.items())
    run = succeeds(campaign)
    for path, text in theirs.items():
        folder = path.parent if path.parent.name == "tilt_series" else path
        (kept,) = folder.parent.glob(f"{folder.name}.before-*")
        assert (kept / path.name if kept.is_dir() else kept).read_text() == text
        shown = folder.relative_to(campaign)
        assert f"tomopipe: {shown} is not tomopipe's: kept as {kept.name}" in run.text
    (kept,) = results.glob("b_1_rec.h5.before-*")
    assert kept.is_fifo()
    assert (results / "b_1_rec.h5").is_file()
    assert snakemake(campaign).jobs == frozenset()
    assert "before-" not in CliRunner().invoke(cli, ["clean", str(campaign), "--dry-run"]).output


def test_what_somebody_writes_onto_results_of_a_run_is_kept(campaign, tmp_path):
    """With receipts of ours; one is written while the run goes on, one twice in a minute."""
    volume, star = campaign / "results" / "a_1_rec.h5", campaign / "results" / "rot_cen.json"
    for path in (volume, campaign / "results" / "cor.json"):
        path.unlink()
    star.write_text('{"/somewhere/a_1.h5": "12.25"}')
    mine = f"Path({str(volume)!r}).write_text('mine')"
    run = snakemake(campaign, environment=failing(tmp_path, "resolve_cor", "campaign", mine))
    assert run.status == 0, run.text
    for path, text in {volume: "mine", star: '{"/somewhere/a_1.h5": "12.25"}'}.items():
        (kept,) = path.parent.glob(f"{path.name}.before-*")
        assert kept.read_text() == text
    assert plan(campaign) == (0, frozenset())


def test_a_result_on_a_disk_that_is_not_mounted_is_not_made_again(campaign, tmp_path):
    volume, disk = campaign / "results" / "a_1_rec.h5", tmp_path / "disk"
    disk.mkdir()
    volume.rename(disk / "a_1.h5")
    volume.symlink_to(disk / "a_1.h5")
    assert plan(campaign) == (0, frozenset())
    assert snakemake(campaign).status == 0
    disk.rename(tmp_path / "elsewhere")
    run = snakemake(campaign)
    assert (run.status, run.jobs, volume.is_symlink()) == (1, set(), True), run.text
    assert (
        f"{volume}: a link to {disk / 'a_1.h5'}, which does not exist: mount its disk" in run.text
    )
    (tmp_path / "elsewhere").rename(disk)
    assert plan(campaign) == (0, frozenset())
    sweeps = campaign / "results" / "try_center"
    shutil.rmtree(sweeps)
    sweeps.symlink_to(tmp_path / "elsewhere")  # a folder of results, too
    run = snakemake(campaign)
    assert (run.status, run.jobs, plan(campaign)[0]) == (1, set(), 1), run.text
    assert f"{sweeps}: a link to {tmp_path / 'elsewhere'}, which does not exist: mo" in run.text


@pytest.mark.parametrize("is_stale", [True, False])
def test_a_run_that_cannot_set_a_receipt_ends_before_what_follows(campaign, is_stale):
    receipt = campaign / "results" / "made" / "full_recon" / "a_1.json"
    receipt.unlink()
    (receipt / "of somebody").mkdir(parents=True)
    table(campaign, f"{'a_1' if is_stale else 'b_1'}\tauto\t46.25\t")
    run = snakemake(campaign)
    assert (run.status, run.jobs & jobs_of("full_recon")) == (1, set()), run.text
    said = "the receipt cannot be written or removed (Is a d" if is_stale else "a folder, expected"
    assert f"full_recon/a_1.json: {said}" in run.text
    assert "Traceback" not in run.text
    shutil.rmtree(receipt)
    assert "full_recon:a_1" in snakemake(campaign).jobs or not is_stale
    assert plan(campaign) == (0, frozenset())


def test_sidecars_beside_shared_raw_files_stay_with_one_campaign_after_copies_and_moves(
    campaign, tmp_path
):
    """The raw files lie in neither folder; no campaign writes over the sidecar of another."""
    raw = (campaign / "raw").rename(tmp_path / "raw")
    for path in raw.glob("*.cor.json"):
        path.unlink()
    configure(campaign, "campaign", scans=[f"{raw}/b_*.h5"])
    assert snakemake(campaign).status == 0
    copy = tmp_path / "copy"
    shutil.copytree(campaign, copy, symlinks=True)
    where = raw / "b_1.cor.json"

    def belongs_to(folder):
        return json.loads(where.read_text())["campaign"] == str(folder)

    assert belongs_to(campaign)
    table(copy, "b_1\tauto\t46.00\t")
    run = snakemake(copy)
    assert "sidecar" in run.jobs
    assert "; ours are written to results/sidecars" in run.text
    assert belongs_to(campaign)
    assert json.loads((copy / "results" / "sidecars" / "b_1.cor.json").read_text())["cor_px"] == 46
    assert CliRunner().invoke(cli, ["verify", str(copy)]).exit_code == 0
    moved = campaign.rename(tmp_path / "moved")
    assert snakemake(copy).jobs == frozenset()  # does not take what seems to be nobody's
    expect(moved, {"sidecar"})
    assert belongs_to(moved)
    assert snakemake(copy).jobs == frozenset()


def killed_while_making(campaign: Path, scan: str, go: Path) -> int:
    """Kill the main process once the job of a volume waits for `go`; return the job's process."""
    waits = f"while not Path({str(go)!r}).exists(): time.sleep(0.1)"
    holding = failing(go.parent, "full_recon", scan, waits)
    status = campaign / "logs" / "status" / "full_recon" / f"{scan}.json"
    status.unlink(missing_ok=True)
    log = campaign / "first.out"
    with log.open("w") as out:
        first = subprocess.Popen(
            command(campaign, "--cores", "2", python=warm.python()),
            env=os.environ | holding,
            cwd=campaign,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    until(
        lambda: status.exists() and json.loads(status.read_text())["state"] == "running",
        log.read_text,
    )
    first.kill()
    first.wait()
    return json.loads(status.read_text())["pid"]


def test_a_job_that_outlives_its_run_writes_nothing(campaign, tmp_path):
    """The main process is killed, the edit undone, the recovery run: then the old job goes on."""
    go = tmp_path / "go"
    table(campaign, "a_2\tauto\t50.25\t")
    orphan = killed_while_making(campaign, "a_2", go)
    (campaign / "scans.tsv").unlink()  # the edit is undone
    succeeds(campaign)
    volume = campaign / "results" / "a_2_rec.h5"
    before = volume.read_bytes()
    go.touch()
    until(lambda: not is_alive(named(orphan)))
    assert volume.read_bytes() == before
    assert json.loads((campaign / "results" / "cor.json").read_text())["a_2"]["cor_px"] != 50.25
    assert snakemake(campaign).jobs == frozenset()
    assert plan(campaign) == (0, frozenset())


def test_what_a_job_finishes_after_its_main_process_was_killed_counts(campaign, tmp_path):
    go = tmp_path / "go"
    table(campaign, "a_2\tauto\t50.25\t")
    orphan = killed_while_making(campaign, "a_2", go)
    go.touch()
    until(lambda: not is_alive(named(orphan)))
    assert "full_recon:a_2" not in succeeds(campaign).jobs
    assert snakemake(campaign).jobs == frozenset()


def test_a_job_that_outlives_its_run_writes_nothing_though_nothing_was_to_do(campaign, tmp_path):
    """The option that was changed is set back: what is there is what is wanted."""
    go = tmp_path / "go"
    volume = campaign / "results" / "a_2_rec.h5"
    aside = volume.rename(tmp_path / "aside")
    orphan = killed_while_making(campaign, "a_2", go)
    aside.rename(volume)
    before = volume.stat()
    assert snakemake(campaign).jobs == frozenset()
    go.touch()
    until(lambda: not is_alive(named(orphan)))
    assert os.path.samestat(volume.stat(), before)
    assert snakemake(campaign).jobs == frozenset()


def test_nested_options_on_the_command_line(campaign):
    call = [
        *(warm.python(), "-m", "snakemake", "--snakefile", HOME / "Snakefile"),
        *("--directory", campaign, "--cores", "2", "--config", "full_recon={filter: hann}"),
    ]
    status, text = ended(*call, cwd=campaign)
    assert status == 0, text
    for name in CORS_PX:
        with h5py.File(campaign / "results" / f"{name}_rec.h5") as file:
            text = file["provenance"].attrs["made_from"]
            assert json.loads(text)["options"]["full_recon"] == {"filter": "hann"}
            assert np.isfinite(file["exchange/data"][...]).all()
    status, text = ended(*call, "--configfile", campaign / "config.yaml", cwd=campaign)
    assert (status, "Nothing to be done" in text) == (0, True), text


def test_another_pixel_size_computes_no_voxel(campaign):
    """The metadata of volumes and stacks are written anew; a damaged volume is computed."""
    results = campaign / "results"
    volumes = sorted(results.glob("*_rec.h5"))
    before = {path: h5py.File(path)["exchange/data"][()] for path in volumes}
    with h5py.File(volumes[0]) as file:
        voxels = file["exchange/data"].id.get_chunk_info(0).byte_offset
    with open(volumes[0], "r+b") as file:
        file.seek(voxels)
        file.write(bytes(100))
    configure(campaign, "input", pixel_size_um=2.5)
    plan = make_plan(load_campaign(campaign))
    assert 0 < plan.cpu_s - START_S * len(plan.jobs) < 1  # of the damaged volume
    assert plan.n_bytes
    run = succeeds(campaign)
    steps = jobs_of("full_recon") | jobs_of("export_stack")
    assert run.jobs == {"inventory", *steps, *TAIL}
    for path in volumes:
        with h5py.File(path) as file:
            assert file["exchange/data"].attrs["voxel_size_um"] == 2.5
            assert np.array_equal(file["exchange/data"][()], before[path])
        log = campaign / "logs" / "full_recon" / f"{path.name[:-7]}.log"
        assert ("only metadata changed" in log.read_text()) == (path != volumes[0])
    assert snakemake(campaign).jobs == frozenset()


def test_options_that_fit_no_scan_are_refused_before_anything_is_removed(campaign):
    volumes = {path: path.stat() for path in (campaign / "results").rglob("*_rec.h5")}
    assert len(volumes) == len(CORS_PX)
    for block, options, words in [
        ("full_recon", {"rows": [0, 500]}, "full_recon.rows: [0, 500] are not rows"),
        ("try_recon", {"row": 2}, "try_recon.row: 2 is not a row"),
        ("preprocess", {"flats": "nowhere.h5"}, "nowhere.h5: no such file"),
    ]:
        before = (campaign / "config.yaml").read_text()
        configure(campaign, block, **options)
        run = snakemake(campaign)
        assert (run.status, run.jobs) == (1, frozenset())
        assert f"tomopipe: {'' if block == 'preprocess' else '6 scans (a_1, a_2, a_3'}" in run.text
        assert words in run.text
        with pytest.raises(TomopipeError, match=re.escape(words)):
            make_plan(load_campaign(campaign))
        (campaign / "config.yaml").write_text(before)
    assert {path: path.stat() for path in volumes} == volumes


def test_a_run_that_can_use_no_scan_says_so_and_ends_with_an_error(campaign):
    configure(campaign, "input", columns=[0, 500])
    run = snakemake(campaign)
    assert run.status != 0
    assert "none of 6 scans can be used" in run.text
    assert "input.columns: [0, 500] are not columns of this scan (0 to 95)" in run.text


def test_a_run_that_finds_no_file_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    run = snakemake(tmp_path)
    assert (run.status, run.jobs) == (1, frozenset())
    assert f"no file matches raw/*.h5: there is no folder {tmp_path / 'raw'}" in run.text
    assert not (tmp_path / "results" / "report").exists()


def test_nothing_is_called_damaged_after_a_move_and_a_report_by_hand(campaign, tmp_path):
    renamed = campaign.rename(tmp_path / "renamed")
    assert snakemake(renamed).jobs == frozenset()
    (renamed / "results" / "report" / "index.html").write_text("older")
    assert CliRunner().invoke(cli, ["report", str(renamed)]).exit_code == 0
    assert plan(renamed) == (0, frozenset())
    done = CliRunner().invoke(cli, ["verify", str(renamed), "--deep"])
    assert (done.exit_code, "0 differ" in done.stdout) == (0, True), done.stdout
    # which the run removed, and no run makes again
    assert not list((renamed / "results" / "try_center").glob("*/try.tif"))


def test_an_edit_of_many_scans_is_decided_on_by_snakemake_alone(campaign, monkeypatch):
    def no_decision(*_, **__):
        raise AssertionError("decided")

    monkeypatch.setattr(run_request, "Settled", no_decision)
    monkeypatch.setattr(run_request, "_MANY", 0)
    index = campaign / "results" / ".settled.json"
    os.utime(index, (1e9, 1e9))
    assert run_request.finished_campaign(campaign, None) is None
    os.utime(index)
    with pytest.raises(AssertionError, match="decided"):
        run_request.finished_campaign(campaign, None)
