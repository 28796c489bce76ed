"""`snakemake --report`: its file holds our page."""

import base64
import re

from tests.workflow.conftest import snakemake


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
