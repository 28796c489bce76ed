"""Pictures of sweeps on the page, also after their stacks were removed."""

import json
import re
import shutil

import pytest

from tests.review_campaign import TRUE_COR_PX, make_campaign
from tomopipe.campaign.campaign import load_campaign
from tomopipe.report import pictures
from tomopipe.steps.report import report


def test_after_its_stack_was_removed_a_scan_keeps_its_strip_and_gets_one_of_another_cor(
    tmp_path, monkeypatch
):
    folder = make_campaign(tmp_path)

    def strip():
        campaign = load_campaign(folder)
        report(campaign.files.report, campaign)
        text = campaign.files.report.read_text()
        return re.findall(r"crop of \d+ try slices of bone_001, COR (\S+) to (\S+?)\"", text)

    before = strip()
    assert len(before) == 1
    stack = folder / "results/try_center/bone_001/try.tif"
    stack.unlink()
    assert strip() == before
    cors = folder / "results/cor.json"
    entries = json.loads(cors.read_text())
    entries["bone_001"]["cor_px"] += 1.3
    cors.write_text(json.dumps(entries))
    ((low, high),) = after = strip()  # of slices from rows.h5, at the COR itself
    assert (float(low) + float(high)) / 2 == pytest.approx(TRUE_COR_PX + 1.3, abs=0.01)
    assert after != before
    assert strip() == after
    shutil.rmtree(folder / "results/report")
    monkeypatch.setattr(pictures, "MOST_ANEW", 0)
    assert strip() == []  # a page of thousands would take long
    monkeypatch.undo()
    assert strip() == after  # the next one makes more
