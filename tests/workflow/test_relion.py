"""The binning of RELION's set in real runs."""

import json

from typer.testing import CliRunner

from tests.workflow.conftest import configure, failing, make_scan, plan, snakemake, succeeds
from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.cli.outcome import show
from tomopipe.run.unfinished import set_remarks

META = "results/relion/stacks/{}.json"


def test_one_binning_is_decided_and_handed_to_later_stacks(campaign):
    path = campaign / "results" / "relion" / "binning.json"
    stated = json.loads(path.read_text())
    assert (stated["binning"], stated["scans"]) == (1, 6)
    # as if the scans of the first run had needed more
    path.write_text(json.dumps(stated | {"binning": 2}))
    (campaign / META.format("a_1")).with_suffix(".mrcs").unlink()
    run = succeeds(campaign)
    assert {job for job in run.jobs if job.startswith("export")} == {
        "export_stack:a_1",
        "export_star",
    }
    binnings = {
        scan: json.loads((campaign / META.format(scan)).read_text())["binning"]
        for scan in ("a_1", "a_2")
    }
    assert binnings == {"a_1": 2, "a_2": 1}
    text = (campaign / "results" / "relion" / "tomograms.star").read_text()
    assert text.count("px20000A") == 1
    (said,) = [line for line in run.text.splitlines() if "tomopipe: 2 optics groups" in line]
    assert said.endswith("; see logs/export_star/campaign.log")


def test_missing_emptied_or_wrong_files_of_a_scan_are_made_again(campaign):
    make_scan(campaign, "b+3", 46.0)
    assert snakemake(campaign).status == 0
    relion = campaign / "results" / "relion"
    (link,) = (relion / "links").glob("*.mrcs")
    emptied = relion / "tilt_series" / "a_2.star"
    for path in (relion / "tilt_series" / "a_1.star", link, emptied):
        assert plan(campaign) == (0, frozenset())
        before = path.read_bytes()
        path.unlink()
        if path == emptied:
            path.touch()
        assert plan(campaign) == (2, {"export_star"})
        run = snakemake(campaign)
        assert (run.status, run.jobs) == (0, {"export_star"}), run.text
        assert path.read_bytes() == before
    assert "results/relion/tilt_series: other content: a_2.star: made again" in run.text
    link.unlink()
    link.symlink_to("../stacks/b_1.mrcs")  # as long as its own
    assert plan(campaign) == (2, {"export_star"})
    assert snakemake(campaign).status == 0
    assert link.readlink().name == "b+3.mrcs"
    assert plan(campaign) == (0, frozenset())


def test_a_set_of_earlier_stacks_is_not_offered_as_that_of_now(campaign, tmp_path, capsys):
    assert set_remarks(load_campaign(campaign)) == []
    (campaign / META.format("a_1")).unlink()
    assert snakemake(campaign).status == 0  # an equal stack: the set is as it was
    assert set_remarks(load_campaign(campaign)) == []
    configure(campaign, "export_star", max_tilts=60)
    fails = failing(tmp_path, "export_stack", "a_2", "raise MemoryError('none left')")
    run = snakemake(campaign, "--keep-going", environment=fails)
    assert run.status == 1, run.text
    show(load_campaign(campaign), is_whole=False)
    said = "of earlier stacks; `tomopipe run` makes it once all 6 scans have stacks: missing a_2"
    assert f"relion/tomograms.star ({said})" in capsys.readouterr().out
    assert f"for RELION: {said}" in CliRunner().invoke(cli, ["status", str(campaign)]).stdout
    star = campaign / "results/relion/tomograms.star"
    before = star.read_bytes()
    star.unlink()  # as in a first run
    show(load_campaign(campaign), is_whole=False)
    assert f"({said.replace('of earlier stacks', 'not made yet')})" in capsys.readouterr().out
    star.write_bytes(before)
    assert snakemake(campaign).status == 0
    assert set_remarks(load_campaign(campaign)) == []
