"""What runs after what, and nothing else: the table of the design, row by row, on real runs.

After every change `tomopipe plan` must name the jobs that then run, and a second call must find
nothing to do.
"""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.workflow.conftest import (
    CORS_PX,
    configure,
    make_scan,
    new_campaign,
    package_with,
    plan,
    snakemake,
    succeeds,
    table,
)
from tomopipe.cli import cli
from tomopipe.review.scan_view import scan_view
from tomopipe.review.store import Store

TAIL = {"export_star", "report"}
SEARCH = ("try_recon", "predict_cor")
VOLUME = ("full_recon", "export_stack")


def jobs_of(rule: str, scans=CORS_PX) -> set[str]:
    return {f"{rule}:{scan}" for scan in scans}


def expect(campaign: Path, jobs: set[str], *, pending: bool = False) -> None:
    """Check plan and run against the jobs, and that the next call finds nothing to do."""
    status, planned = plan(campaign)
    assert succeeds(campaign).jobs == jobs
    assert status == (2 if jobs else 0)
    if pending:  # what hangs on a prediction is not certain beforehand
        assert planned <= jobs
    else:
        assert planned == jobs
    again = snakemake(campaign)
    assert (again.status, again.jobs) == (0, frozenset()), again.text


def changed(*scans: str) -> set[str]:
    return jobs_of("full_recon", scans) | {"sidecar"}


def page(campaign: Path) -> str:
    return (campaign / "results" / "report" / "index.html").read_text()


def test_a_row_of_no_scan_is_said_although_nothing_runs(campaign):
    table(campaign, "a_22\tauto\t50.25\t")
    run = snakemake(campaign)
    assert (run.status, run.jobs) == (0, frozenset())
    assert "tomopipe: scans.tsv: line 2: no scan a_22 in the campaign; did you mean" in run.text


def test_no_cor_is_foretold_while_a_prediction_is_pending(campaign):
    (campaign / "results/try_center/a_1/prediction.json").unlink()
    table(campaign, "a_2\tauto\t50.25\t")
    told = json.loads(CliRunner().invoke(cli, ["plan", "--json", str(campaign)]).stdout)
    told = {(job["rule"], job["scan"]): job["reason"] for job in told}
    assert told["predict_cor", "a_1"] == "not there yet"
    assert [scan for rule, scan in told if rule == "full_recon"] == ["a_2"]
    reason = told["full_recon", "a_2"]
    assert reason.startswith("COR of a_2: ")
    assert reason.endswith(" -> 50.25, by hand")
    # a_1 comes out as it was
    follows = {"predict_cor:a_1", "fix_cor:a", "resolve_cor", *changed("a_2"), *TAIL}
    expect(campaign, follows, pending=True)


@pytest.mark.engine
def test_file_still_written_is_looked_at_until_it_settles(campaign):
    make_scan(campaign, "a_4", 50.0)
    with h5py.File(campaign / "raw" / "a_4.h5", "r+"):  # holds HDF5's lock
        first = snakemake(campaign)
        assert (first.status, first.jobs) == (0, {"inventory", "report"}), first.text
        assert "still written" in (campaign / "results" / "inventory.tsv").read_text()
        second = snakemake(campaign)
        assert (second.status, second.jobs) == (0, {"inventory"}), second.text
    assert {"inventory", "try_recon:a_4", "full_recon:a_4", *TAIL} <= succeeds(campaign).jobs
    assert snakemake(campaign).jobs == frozenset()


def test_undersized_or_broken_file_added(campaign):
    make_scan(campaign, "a_4", 50.0, n_frames=60)
    (campaign / "raw" / "b_4.h5").write_text("not HDF5")
    expect(campaign, {"inventory", "report"})
    table(campaign, "a_4\tno\t\t")
    expect(campaign, {"report"})
    table(campaign, "a_4\tyes\t\t")
    chain = {f"{rule}:a_4" for rule in (*SEARCH, "export_stack")}
    expect(campaign, {*chain, "fix_cor:a", "resolve_cor", *changed("a_4"), *TAIL}, pending=True)


def test_the_last_row_is_not_the_second_one(tmp_path):
    make_scan(tmp_path, "a_1", 48.5, n_rows=9)
    made = new_campaign(tmp_path, {})
    configure(made, "export_star", enabled=False)
    configure(made, "try_recon", row=1.0)
    assert snakemake(made).status == 0
    sweep = made / "results" / "try_center" / "a_1" / "try.json"
    assert json.loads(sweep.read_text())["rows"] == [8]
    configure(made, "try_recon", row=1)
    assert {"try_recon:a_1", "predict_cor:a_1"} <= plan(made)[1]


def test_mrc_volume_beside_the_set(campaign):
    """The set names it while it is of the COR, and the report says where it is not."""
    star, report = "results/relion/tomograms.star", "results/report/index.html"
    named = "results/a_2_rec.mrc"

    def shown():
        return named in (campaign / star).read_text(), f"{named} is not" in (
            campaign / report
        ).read_text()

    for cor_px, jobs in ((50.25, changed("a_2")), (50.5, changed("a_2"))):
        table(campaign, f"a_2\tauto\t{cor_px}\t")
        expect(campaign, {"fix_cor:a", "resolve_cor", *jobs, *TAIL})
        assert shown() == (False, cor_px == 50.5)
        done = CliRunner().invoke(cli, ["convert", "mrc", "a_2", "-C", str(campaign)])
        assert done.exit_code == 0, done.output
        expect(campaign, TAIL)
        assert shown() == (True, False)
    (campaign / named).unlink()
    expect(campaign, TAIL)
    assert shown() == (False, False)


def test_revision_bumped_and_touched_code(campaign, tmp_path):
    """The package of a new version: one step has a new revision, another module a new line."""
    with (campaign / "config.yaml").open("a") as stream:
        stream.write("# a comment\n")
    package_with(tmp_path, "steps/fix_cor.py", "log = logging", "NEW_NAME = 1\nlog = logging")
    new = package_with(
        tmp_path, "workflow_steps.py", '"star5"), revision=', '"star5"), revision=10 + '
    )
    home, site = Path(__file__).parents[2], tmp_path / "site"
    # Snakemake looks for packages beside the Snakefile first
    shutil.copy(home / "Snakefile", site)
    for name in ("workflow", "profiles"):
        shutil.copytree(home / name, site / name)
    run = snakemake(campaign, "--snakefile", str(site / "Snakefile"), environment=new)
    assert (run.status, run.jobs) == (0, {"export_star"}), run.text


def test_cor_of_a_series_mean_moves_with_its_donor(campaign):
    """A scan filled from the series hangs on the edit of another one."""
    path = campaign / "raw" / "b_1.h5"
    with h5py.File(path, "r+") as file:
        data = file["exchange/data"]  # noise: no COR can be found in it
        data[...] = np.random.default_rng(0).normal(20000, 200, data.shape).astype(data.dtype)
    succeeds(campaign)
    table(campaign, "b_2\tauto\t44.5\t")
    expect(campaign, {"fix_cor:b", "resolve_cor", *changed("b_1", "b_2"), *TAIL})


def test_scans_of_known_cor_get_their_volume_alone(tmp_path):
    """All CORs are imported before the first run; then one is taken away, then all are searched."""
    campaign = new_campaign(tmp_path, {"a_1": 48.5, "a_2": 49.0})
    scans = {"a_1": 49.5, "a_2": 50.0}  # not what is predicted
    cors = {str(campaign / f"raw/{scan}.h5"): f"{cor_px:.2f}" for scan, cor_px in scans.items()}
    (tmp_path / "rot_cen.json").write_text(json.dumps(cors))
    where = ["-C", str(campaign)]
    done = CliRunner().invoke(cli, ["cor", "import", str(tmp_path / "rot_cen.json"), *where])
    assert done.exit_code == 0, done.output
    examined = CliRunner().invoke(cli, ["check", *where])
    assert "volumes" in examined.output
    assert "try stacks" not in examined.output
    follows = {"fix_cor:a", "resolve_cor", *TAIL}
    volumes = {job for rule in VOLUME for job in jobs_of(rule, scans)}
    expect(campaign, {"inventory", "sidecar", *follows, *volumes})
    assert not (campaign / "results" / "try_center").exists()
    for scan, cor_px in scans.items():
        with h5py.File(campaign / f"results/{scan}_rec.h5") as file:
            assert file["provenance/cor"].attrs["cor_px"] == cor_px
    assert "2 CORs set by hand without a prediction" in page(campaign)

    table(campaign, "a_2\tauto\t50.00\t")
    search = {f"{rule}:a_1" for rule in SEARCH}
    expect(campaign, {*search, *follows, *changed("a_1")}, pending=True)
    assert "1 COR set by hand without a prediction" in page(campaign)
    configure(campaign, "predict_cor", when="always")
    jobs = {f"{rule}:a_2" for rule in SEARCH}
    expect(campaign, {*jobs, "sidecar", *follows} - {"export_star"}, pending=True)
    assert "without a prediction to" not in page(campaign)


def test_a_sidecar_of_a_cor_by_hand_is_not_certain_while_its_series_is_open(campaign):
    """What the table says of an outlier depends on the others: of which one is made again."""
    table(campaign, "a_3\tauto\t60\t")
    succeeds(campaign)
    row = (campaign / "results/fix_cor/a.tsv").read_text().splitlines()[3]
    assert row.split("\t")[2:6] == ["60.00", "60.00", "manual", "true"]
    (campaign / "results/try_center/b_3/try.json").unlink()
    assert "sidecar" not in plan(campaign)[1]
    searched = {f"{rule}:b_3" for rule in SEARCH}
    expect(campaign, {*searched, "fix_cor:a", "fix_cor:b", "resolve_cor"}, pending=True)


def test_what_a_search_has_made_stays_when_the_cor_is_known(campaign):
    made = list((campaign / "results/try_center/a_2").iterdir())
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in made}
    table(campaign, "a_2\tauto\t50.25\t")
    expect(campaign, {"fix_cor:a", "resolve_cor", *changed("a_2"), *TAIL})
    configure(campaign, "try_recon", width_px=9)
    others = [scan for scan in CORS_PX if scan != "a_2"]
    run = succeeds(campaign)
    searched = {job for job in run.jobs if job.partition(":")[0] in SEARCH}
    assert searched == jobs_of("try_recon", others) | jobs_of("predict_cor", others)
    assert snakemake(campaign).jobs == plan(campaign)[1] == frozenset()
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in made}
    view = scan_view(Store(campaign, campaign / "config.yaml"), "a_2")
    assert "sweep of earlier options or files (width_px 8 -> 9)" in view["warnings"]
    assert view["grid"]["cor_px"]  # its slices are made from rows.h5
    # and comes up to date when it is not
    table(campaign)
    follows = {"fix_cor:a", "resolve_cor", *changed("a_2"), *TAIL}
    expect(campaign, {"try_recon:a_2", "predict_cor:a_2", *follows}, pending=True)
    sweep = json.loads((campaign / "results/try_center/a_2/try.json").read_text())
    assert sweep["cor_px"][-1] - sweep["cor_px"][0] == 18


def test_sweeps_of_known_cors_that_are_gone_stay_so(campaign):
    table(campaign, "b_1\tauto\t45.00\t")
    assert snakemake(campaign).status == 0
    shutil.rmtree(campaign / "results/try_center/b_1")
    expect(campaign, {"fix_cor:b", "resolve_cor", "sidecar", "report"})
