"""The page of a run: of what it was decided."""

import re

from typer.testing import CliRunner

from tests.workflow.conftest import failing, plan, snakemake, table
from tests.workflow.test_reruns import expect
from tomopipe.cli import cli


def manual(campaign):
    page = (campaign / "results" / "report" / "index.html").read_text(encoding="utf-8")
    tile = re.search(r'id="n-manual">(\d+)', page)  # none for none
    return int(tile[1]) if tile else 0


def test_an_edit_that_a_page_by_hand_shows_and_is_undone_is_not_on_the_next_page(campaign):
    table(campaign, "a_2\tauto\t50\t")
    assert CliRunner().invoke(cli, ["report", str(campaign)]).exit_code == 0
    assert manual(campaign) == 1
    table(campaign)
    expect(campaign, {"report"})
    assert manual(campaign) == 0


def test_an_edit_during_a_run_is_not_on_its_page(campaign, tmp_path):
    (campaign / "results" / "a_1_rec.h5").unlink()
    edit = "Path('scans.tsv').write_text('scan\\tselect\\tcor_px\\na_2\\tauto\\t50\\n')"
    run = snakemake(campaign, environment=failing(tmp_path, "full_recon", "a_1", edit))
    assert (run.status, manual(campaign)) == (0, 0), run.text  # as the run was decided
    table(campaign)
    assert plan(campaign) == (0, frozenset())
