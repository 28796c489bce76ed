"""`tomopipe report` on a campaign folder."""

import json
import sys

import pytest
import yaml
from typer.testing import CliRunner

from tests.report_campaign import every_state
from tomopipe.cli import cli
from tomopipe.cli.terminal import near
from tomopipe.reruns.products import Record, read_products
from tomopipe.storage.atomic import write_json

pytestmark = pytest.mark.slow


def campaign_folder(folder):
    made = every_state(folder, plane_px=48).write()
    (folder / "config.yaml").write_text(yaml.safe_dump({"campaign": {"scans": ["raw/*.h5"]}}))
    (folder / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\nbone_010\tno\t\t\n")
    raw = folder / "raw"
    raw.mkdir()
    for scan in made.scans:
        (raw / f"{scan}.h5").write_bytes(b"not HDF5: the report does not look")
    return made


def test_report_writes_the_page_and_says_where(tmp_path):
    made = campaign_folder(tmp_path)
    result = CliRunner().invoke(cli, ["report", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.output.replace("\n", "") == near(made.page)
    html = made.page.read_text(encoding="utf-8")
    assert html.count('<tr id="') == 13
    assert '<span class="n" id="n-unselected">1</span>' in html  # from the campaign table
    assert f"<h1>{tmp_path.name}</h1>" in html


def test_report_goes_where_it_is_told(tmp_path):
    campaign_folder(tmp_path)
    page = tmp_path / "elsewhere" / "page.html"
    result = CliRunner().invoke(cli, ["report", str(tmp_path), "-o", str(page)])
    assert result.exit_code == 0, result.output
    assert page.read_text(encoding="utf-8").count("<img ") == 3 * 8 + 5


def test_the_next_run_makes_a_page_that_names_failures_but_not_one_of_finished_results(
    tmp_path, monkeypatch
):
    made = campaign_folder(tmp_path)
    file, page = tmp_path / "results" / "products.tsv", "results/report/index.html"
    for path in (tmp_path / "logs" / "status").glob("*/*.json"):
        job = json.loads(path.read_text())
        path.write_text(json.dumps(job | {"state": "done", "end": job.get("end", job["start"])}))
    CliRunner().invoke(cli, ["report", str(tmp_path)])
    assert read_products(file)[page].statement == ""  # no run has made it yet
    record = Record(file, tmp_path)
    record.rewritten(page, "as wanted")
    record.save()
    CliRunner().invoke(cli, ["report", str(tmp_path)])
    assert read_products(file)[page].statement == ""  # it has much to do
    record.rewritten(page, "as wanted")
    record.save()
    monkeypatch.setattr(sys.modules["tomopipe.cli.report"], "has_ended", lambda campaign: True)
    made.page.write_text("another")
    CliRunner().invoke(cli, ["report", str(tmp_path)])
    again = Record(file, tmp_path)
    assert (again.products[page].statement, again.damage(page)) == ("as wanted", "")
    write_json({"state": "running", "start": 1.0}, tmp_path / "logs/status/export_stack/a_1.json")
    CliRunner().invoke(cli, ["report", str(tmp_path)])
    assert read_products(file)[page].statement == ""


def test_report_of_a_broken_config_is_an_error(tmp_path):
    (tmp_path / "config.yaml").write_text("campaign: {}\n")
    result = CliRunner().invoke(cli, ["report", str(tmp_path)])
    assert result.exit_code != 0
