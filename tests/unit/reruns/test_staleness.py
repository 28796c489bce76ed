"""Whether results are stale by what they, or their receipts, state, and the reasons that are given.

Of whole campaigns: tests/workflow/test_reruns.py.
"""

import os
from pathlib import Path

import pytest

from tomopipe.campaign.campaign import Campaign, campaign_from_data
from tomopipe.reruns.receipts import write_receipt
from tomopipe.reruns.staleness import Staleness
from tomopipe.storage.atomic import write_json, write_text

STEP = "predict_cor"


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path


def campaign_of(home: Path, pattern: str) -> Campaign:
    return campaign_from_data({"campaign": {"scans": [pattern]}}, home)


def put_prediction(campaign: Campaign, made_from: dict) -> None:
    """Write a prediction as its job does, without a receipt."""
    write_json({"made_from": made_from}, campaign.files.prediction("a"))
    write_text("31.50\n", campaign.files.center("a"))


@pytest.mark.parametrize("has_receipt", [True, False])
@pytest.mark.parametrize(
    ("stated", "is_current"), [({}, True), ({"methods": ["ai"]}, True), ({"methods": ["a"]}, False)]
)
def test_a_prediction_of_ai_is_that_of_the_default(home, has_receipt, stated, is_current):
    """It stated [ai] as long as the default was [ai, sum]."""
    (home / "a.h5").write_text("frames")
    campaign = campaign_of(home, "a.h5")
    target = {"step": STEP, "rows": "x", "options": {STEP: {"model": "m"}}}
    made_from = target | {"options": {STEP: {"model": "m", **stated}}}
    put_prediction(campaign, made_from)
    if has_receipt:
        receipt, products = campaign.outputs.receipt(STEP, "a"), campaign.results_of(STEP, "a")
        write_receipt(receipt, made_from, products, directory=home)
    assert (Staleness(campaign).why_stale(target, "a") == "") == is_current


def test_results_of_another_raw_file_say_which_it_was(home):
    for day in ("day1", "day2"):
        (home / day).mkdir()
        (home / day / "a.h5").write_text(f"frames of {day}")

    def reason(pattern: str) -> str:
        """Return the reason as the next run does."""
        staleness = Staleness(campaign_of(home, pattern))
        why = staleness.why_stale({"step": STEP, "raw": staleness.raw("a")}, "a")
        staleness.receipts.save()
        return why

    first = campaign_of(home, "day1/*.h5")
    put_prediction(first, {"step": STEP, "raw": Staleness(first).raw("a")})
    assert reason("day1/*.h5") == ""
    os.utime(home / "day2/a.h5", (1, 1))
    assert reason("day2/*.h5") == "raw file is another one: day2/a.h5, was day1/a.h5"
    (home / "day1/a.h5").write_text("again")
    assert reason(f"{home}/day1/*.h5") == "raw file replaced"
    assert reason("day1/*.h5") == "raw file replaced"
