"""The page of a run: of what it was decided, and what it cites."""

import json
import re

from typer.testing import CliRunner

from tests.workflow.conftest import configure, failing, plan, snakemake, table
from tests.workflow.test_reruns import expect
from tomopipe.cli import cli


def manual(campaign):
    page = (campaign / "results" / "report" / "index.html").read_text(encoding="utf-8")
    return int(re.search(r'id="n-manual">(\d+)', page)[1])


def test_an_edit_that_a_page_by_hand_shows_and_is_undone_is_not_on_the_next_page(campaign):
    table(campaign, "a_2\tauto\t50\t")
    assert CliRunner().invoke(cli, ["report", str(campaign)]).exit_code == 0
    assert manual(campaign) == 1
    table(campaign)
    expect(campaign, {"report"})
    assert manual(campaign) == 0


def test_an_edit_during_a_run_is_not_on_its_page(campaign, tmp_path):
    configure(campaign, "full_recon", filter="hann")
    edit = "Path('scans.tsv').write_text('scan\\tselect\\tcor_px\\na_2\\tauto\\t50\\n')"
    run = snakemake(campaign, environment=failing(tmp_path, "full_recon", "a_1", edit))
    assert (run.status, manual(campaign)) == (0, 0), run.text  # as the run was decided
    table(campaign)
    assert plan(campaign) == (0, frozenset())


def test_corrections_of_some_scans_are_cited(campaign):
    stripes = {"series": ["b"], "preprocess": {"stripes": {"method": "vo"}}}
    path = campaign / "config.yaml"
    path.write_text(f"{path.read_text()}overrides: [{json.dumps(stripes)}]\n")
    assert snakemake(campaign).status == 0
    page = (campaign / "results" / "report" / "index.html").read_text(encoding="utf-8")
    assert "doi:10.1364/OE.26.028396" in page
