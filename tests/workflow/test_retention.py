"""Try stacks and RELION stacks that are temporary: who loses them when, and what runs again."""

from typer.testing import CliRunner

from tests.step_calls import full_recon
from tests.workflow.conftest import CORS_PX, configure, plan, snakemake, succeeds, table
from tests.workflow.test_reruns import TAIL, changed
from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.run.temporary_files import accepted_scans, removable, remove
from tomopipe.run.unfinished import set_remarks


def try_stacks(campaign):
    return {path.parent.name for path in campaign.glob("results/try_center/*/try.tif")}


def stacks(campaign):
    return {path.stem for path in campaign.glob("results/relion/stacks/*.mrcs")}


def accepted(campaign):
    return {scan.name for scan in accepted_scans(load_campaign(campaign))}


def test_a_run_removes_try_stacks_of_accepted_scans_and_nothing_runs_again(campaign):
    """By default, of predicted scans in the run that made them; of others once a COR is set."""
    assert accepted(campaign) == set(CORS_PX)
    assert (try_stacks(campaign), plan(campaign)) == (set(), (0, frozenset()))
    (campaign / "results/try_center/b_2/try.tif").write_bytes(b"of the sweep")
    table(campaign, "b_2\tauto\t45.9\t")
    assert "b_2" not in accepted(campaign)  # a COR by hand that no run has applied
    assert (succeeds(campaign, "--touch").status, try_stacks(campaign)) == (0, {"b_2"})
    run = succeeds(campaign, "--cores", "2", "results/made/resolve_cor/campaign.json")
    assert run.jobs == {"fix_cor:b", "resolve_cor"}
    assert "removed try stacks" in run.text
    assert try_stacks(campaign) == set()
    assert succeeds(campaign).jobs == {*changed("b_2"), *TAIL}
    assert stacks(campaign) == set(CORS_PX)
    assert plan(campaign) == (0, frozenset())
    assert snakemake(campaign).jobs == frozenset()


def test_stacks_that_were_removed_are_not_made_again_unless_they_are_to_be_kept(campaign):
    configure(campaign, "storage", keep_stacks=False)
    assert snakemake(campaign).jobs == frozenset()
    assert stacks(campaign) == set(CORS_PX)  # RELION has not had them yet
    found = load_campaign(campaign)
    remove(removable(found))
    assert stacks(campaign) == set(CORS_PX) - accepted(campaign) != set(CORS_PX)
    assert plan(campaign) == (0, frozenset())
    assert snakemake(campaign).jobs == frozenset()
    # the set is written anew without them
    gone = sorted(set(CORS_PX) - stacks(campaign))
    configure(campaign, "export_star", hand=1)
    assert snakemake(campaign).jobs == {"export_star"}
    # and they come back when they are wanted
    configure(campaign, "storage", keep_stacks=True)
    wanted = {f"export_stack:{scan}" for scan in gone} | {"export_star"}
    assert plan(campaign)[1] == wanted
    assert snakemake(campaign).jobs == wanted
    assert set_remarks(load_campaign(campaign)) == []


def test_volumes_of_scans_that_were_renamed_or_removed_are_named_and_go(campaign):
    results = campaign / "results"
    full_recon(campaign / "raw" / "a_2.h5", results / "old_rec", cor_px=49.0, output="tiff")
    (results / "notes_rec.h5").write_text("of others")
    for target in ("mrc", "zarr", "h5", "png"):
        done = CliRunner().invoke(cli, ["convert", target, "a_1", "a_2", "-C", str(campaign)])
        assert done.exit_code == 0, done.output
    (results / "old_converted.h5").write_text("of others")
    (campaign / "raw" / "a_2.h5").rename(campaign / "raw" / "c_2.h5")

    def say(*command):
        done = CliRunner().invoke(cli, [*command, str(campaign)])
        assert done.exit_code == 0, done.output
        return done.output

    full_recon(campaign / "raw" / "a_1.h5", results / "a_1_rec", cor_px=47.0, output="tiff")
    gone = {"results/a_1_rec", "results/a_2_rec.h5", "results/old_rec"}
    gone |= {"results/relion/stacks/a_2.mrcs", "results/a_2_rec.mrc"}
    gone |= {"results/a_2_converted.zarr", "results/a_2_converted.h5"}
    assert set(say("clean", "--gone", "-n").splitlines()[:-1]) == gone
    assert all((campaign / path).exists() for path in gone)
    assert "1 RELION stack, 3 converted volumes, 3 volumes, " in say("clean", "--gone")
    assert not any((campaign / path).exists() for path in gone)
    stay = {"notes_rec.h5", "old_converted.h5", "a_1_rec.mrc", "a_1_converted.zarr"}
    assert stay <= {path.name for path in results.iterdir()}
    assert len(list(results.glob("a_2_*.png"))) == 1
    assert len(list(results.glob("*_rec.h5"))) == len(CORS_PX)
    assert snakemake(campaign).status == 0
    # a disk that is away takes nothing with it
    (campaign / "raw").rename(campaign / "away")
    assert CliRunner().invoke(cli, ["clean", "--gone", str(campaign)]).exit_code == 1
