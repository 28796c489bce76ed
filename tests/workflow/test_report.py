"""`snakemake --report`: its file holds our page."""

import base64
import json
import re

from typer.testing import CliRunner

from tests.workflow.conftest import configure, failing, snakemake, table
from tests.workflow.test_reruns import expect
from tomopipe.cli import cli


def test_the_report_of_snakemake_holds_the_page(campaign, tmp_path):
    made = tmp_path / "snakemake.html"
    run = snakemake(campaign, "--report", str(made))
    assert run.status == 0, run.text
    html = made.read_text(encoding="utf-8")
    pages = [
        base64.b64decode(text)
        for text in re.findall(r"data:text/html;[^,]*base64,([\w+/=]+)", html)
    ]
    assert (campaign / "results" / "report" / "index.html").read_bytes() in pages
    assert "what needs attention first" in html  # the caption


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


def test_an_edit_during_a_run_that_is_undone_is_not_on_the_next_page(campaign, tmp_path):
    configure(campaign, "full_recon", filter="hann")
    edit = "Path('scans.tsv').write_text('scan\\tselect\\tcor_px\\na_2\\tauto\\t50\\n')"
    run = snakemake(campaign, environment=failing(tmp_path, "full_recon", "a_1", edit))
    assert (run.status, manual(campaign)) == (0, 1), run.text
    table(campaign)
    expect(campaign, {"report"})
    assert manual(campaign) == 0


def test_corrections_of_some_scans_are_cited(campaign):
    stripes = {"series": ["b"], "preprocess": {"stripes": {"method": "vo"}}}
    path = campaign / "config.yaml"
    path.write_text(f"{path.read_text()}overrides: [{json.dumps(stripes)}]\n")
    assert snakemake(campaign).status == 0
    page = (campaign / "results" / "report" / "index.html").read_text(encoding="utf-8")
    assert "Superior techniques" in page
