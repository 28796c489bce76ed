"""`tomopipe report` on a campaign folder."""

import json
import os

import pytest
import yaml
from typer.testing import CliRunner

from tests.report_campaign import every_state
from tomopipe.campaign.files import Files
from tomopipe.cli import cli
from tomopipe.cli.terminal import near
from tomopipe.reruns.receipts import Receipts, digest

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
    assert html.count("<img ") == 3 * 8 + 5 + 1


@pytest.mark.parametrize("where", ["results/report/index.html", "notes.html"])
def test_a_page_of_somebody_else_is_kept(tmp_path, where):
    campaign_folder(tmp_path)
    page = tmp_path / where
    page.parent.mkdir(exist_ok=True)
    page.write_text("<html><title>Notes</title>Do not lose me.</html>\n")
    for _ in range(2):  # ours is replaced
        result = CliRunner().invoke(cli, ["report", str(tmp_path), "-o", str(page)])
        assert result.exit_code == 0, result.output
    os.truncate(page, 5000)  # damaged, and ours all the same
    CliRunner().invoke(cli, ["report", str(tmp_path), "-o", str(page)])
    (kept,) = page.parent.glob(f"{page.name}.before-*")
    assert kept.read_text() == "<html><title>Notes</title>Do not lose me.</html>\n"
    assert page.stat().st_size > 5000


def test_the_next_run_makes_a_page_of_unfinished_results(tmp_path):
    campaign_folder(tmp_path)
    page = "results/report/index.html"

    def receipts() -> Receipts:
        return Receipts(tmp_path, Files("results"))

    def statement() -> str:
        return receipts().of("report", "campaign").digest

    wanted = {"step": "report", "name": "as wanted"}
    for path in (tmp_path / "logs" / "status").glob("*/*.json"):
        job = json.loads(path.read_text())
        path.write_text(json.dumps(job | {"state": "done", "end": job.get("end", job["start"])}))
    CliRunner().invoke(cli, ["report", str(tmp_path)])
    assert statement() == digest({"step": "report"})  # no run has made it yet
    receipts().write("report", "campaign", wanted, [page])
    CliRunner().invoke(cli, ["report", str(tmp_path)])
    assert statement() == digest({"step": "report"})  # it has much to do


@pytest.mark.parametrize("name", ["raw", "report.txt"])
def test_a_folder_or_another_kind_of_file_is_no_page(tmp_path, name):
    campaign_folder(tmp_path)
    result = CliRunner().invoke(cli, ["report", str(tmp_path), "-o", str(tmp_path / name)])
    assert result.exit_code == 1
    assert f"{tmp_path / name}: expected an HTML file" in str(result.exception)
    assert f"{name}/index.html" in str(result.exception)
