"""Whether results are stale by what they, or their receipts, state, and the reasons that are given.

Of whole campaigns: tests/workflow/test_reruns.py.
"""

import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tomopipe.campaign.campaign import Campaign, campaign_from_data
from tomopipe.campaign.results import write_tsv
from tomopipe.relion.mrc import StackFile
from tomopipe.reruns.receipts import SMALL_BYTES, Result, write_receipt
from tomopipe.reruns.staleness import Staleness
from tomopipe.reruns.target import Target
from tomopipe.steps.inventory import COLUMNS
from tomopipe.storage.atomic import write_json, write_text
from tomopipe.workflow_steps import STEPS

STEP = "predict_cor"


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path


def campaign_of(home: Path, pattern: str) -> Campaign:
    return campaign_from_data({"campaign": {"scans": [pattern]}}, home)


def why_stale(staleness: Staleness, target: dict, scan: str) -> str:
    """Return why the present result of a scan does not agree with a statement."""
    step = STEPS[target["step"]]
    outputs = staleness.target.outputs(step.name, scan)
    lasting = step.lasting(staleness.campaign)
    return staleness.why_stale(Result(step, scan, target, outputs, lasting))


def put_prediction(campaign: Campaign, made_from: dict) -> None:
    """Write a prediction as its job does, without a receipt."""
    write_json({"made_from": made_from}, campaign.files.prediction("a"))
    write_text("31.50\n", campaign.files.center("a"))


@pytest.mark.parametrize("has_receipt", [True, False])
@pytest.mark.parametrize(("stated", "is_current"), [({}, True), ({"methods": ["a"]}, False)])
def test_a_prediction_of_other_methods_is_stale(home, has_receipt, stated, is_current):
    (home / "a.h5").write_text("frames")
    campaign = campaign_of(home, "a.h5")
    target = {"step": STEP, "rows": "x", "options": {STEP: {"model": "m"}}}
    made_from = target | {"options": {STEP: {"model": "m", **stated}}}
    put_prediction(campaign, made_from)
    if has_receipt:
        receipt, products = campaign.outputs.receipt(STEP, "a"), Target(campaign).outputs(STEP, "a")
        write_receipt(receipt, made_from, products, directory=home)
    assert (why_stale(Staleness(Target(campaign)), target, "a") == "") == is_current


def put_stack(campaign: Campaign, scan: str, made_from: dict, value: float) -> Path:
    """Write a stack and what its job writes beside it, and their receipt."""
    path, step = campaign.files.stack(scan), "export_stack"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = StackFile(path, (2, 300, 500), 1.0)
    file.write(np.full((2, 300, 500), value, np.float32), 0, 0)
    file.finish()
    meta = {"statistics": file.statistics, "made_from": made_from}
    write_json(meta, campaign.files.stack_meta(scan))
    receipt, products = campaign.outputs.receipt(step, scan), Target(campaign).outputs(step, scan)
    write_receipt(receipt, made_from, products, directory=campaign.directory)
    return path


@pytest.mark.parametrize("has_receipts", [True, False])
def test_a_large_stack_of_another_job_is_made_again(home, has_receipts):
    """The statement is in the file beside it: exchanged, or of an earlier time."""
    for scan in "ab":
        (home / f"{scan}.h5").write_text("frames")
    campaign = campaign_of(home, "*.h5")
    targets = {scan: {"step": "export_stack", "scan": scan} for scan in "ab"}
    a, b = (put_stack(campaign, scan, targets[scan], ord(scan)) for scan in "ab")
    assert a.stat().st_size == b.stat().st_size > SMALL_BYTES
    if not has_receipts:
        shutil.rmtree(home / "results" / "made")

    def reasons() -> list[str]:
        return [why_stale(Staleness(Target(campaign)), targets[scan], scan) for scan in "ab"]

    os.utime(a, (1, 1))
    assert reasons() == ["", ""]
    a.rename(home / "aside")
    b.rename(a)
    (home / "aside").rename(b)
    beside = "results/relion/stacks/{0}.mrcs: was not made with results/relion/stacks/{0}.json"
    assert reasons() == [beside.format("a"), beside.format("b")]
    a.write_bytes(b.read_bytes())  # back
    assert reasons() == ["", beside.format("b")]
    os.truncate(b, 1000)
    assert reasons()[1]


def reason_of_a(home: Path, pattern: str) -> str:
    """Return the reason for the prediction of a as the next run does."""
    staleness = Staleness(Target(campaign_of(home, pattern)))
    why = why_stale(staleness, {"step": STEP, "raw": staleness.target.raw("a")}, "a")
    staleness.receipts.save()
    return why


def test_results_of_another_raw_file_say_which_it_was(home):
    reason = partial(reason_of_a, home)
    for day in ("day1", "day2"):
        (home / day).mkdir()
        (home / day / "a.h5").write_text(f"frames of {day}")
    first = campaign_of(home, "day1/*.h5")
    put_prediction(first, {"step": STEP, "raw": Target(first).raw("a")})
    assert reason("day1/*.h5") == ""
    os.utime(home / "day2/a.h5", (1, 1))
    assert reason("day2/*.h5") == "raw file is another one: day2/a.h5, was day1/a.h5"
    (home / "day1/a.h5").write_text("again")
    assert reason(f"{home}/day1/*.h5") == "raw file replaced"
    assert reason("day1/*.h5") == "raw file replaced"


def test_results_stay_where_a_raw_file_is_copied_to_another_folder_with_another_time(home):
    (home / "disk1").mkdir()
    (home / "disk1/a.h5").write_text("frames")
    first = campaign_of(home, "disk1/*.h5")
    put_prediction(first, {"step": STEP, "raw": Target(first).raw("a")})
    assert reason_of_a(home, "disk1/*.h5") == ""
    (home / "disk1").rename(home / "disk0")
    (home / "disk2").mkdir()
    shutil.copyfile(home / "disk0/a.h5", home / "disk2/a.h5")
    os.utime(home / "disk2/a.h5", (1, 1))
    assert reason_of_a(home, "disk2/*.h5") == ""


def table_of(home: Path, **blocks) -> Staleness:
    """Return the staleness of a campaign with these options, and two scans."""
    (home / "flats").mkdir(exist_ok=True)
    for path in ("a_1.h5", "a_2.h5", "flats/f.h5"):
        if not (home / path).exists():
            (home / path).write_text(path)
            os.utime(home / path, (1, 1))
    return Staleness(Target(campaign_from_data({"campaign": {"scans": ["*.h5"]}, **blocks}, home)))


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ({}, ""),
        ({"input": {"pixel_size_um": 1.2}}, "pixel_size_um default -> 1.2"),
        (
            {"inventory": {"series_pattern": r"^(?P<a>.*)_\d()$"}},
            r"series_pattern ^(.*?)[._-]*(\d+)(?:_0000)?$ -> ^(?P<a>.*)_\d()$; "
            "index of 2 scans (a_1, a_2) changed",
        ),
        (
            {"overrides": [{"scans": ["a_2"], "input": {"every": 2}}]},
            "a_2: every 1 -> 2",
        ),
        (
            {
                "input": {"every": 2},
                "overrides": [{"scans": ["a_2"], "preprocess": {"flats": "none"}}],
            },
            "every 1 -> 2; a_2: flats default -> none",
        ),
        ({"inventory": {"min_fraction": 0.7}}, "min_fraction 0.5 -> 0.7"),
    ],
)
def test_the_inventory_is_made_for_what_its_receipt_states_otherwise(home, blocks, reason):
    before = table_of(home)
    cells = dict.fromkeys(COLUMNS, "") | {"keep": "true", "full_turn": "false"}
    rows = [cells | {"scan": s, "path": f"{s}.h5", "series": "a", "index": "1"} for s in
            ("a_1", "a_2")]  # fmt: skip
    write_tsv(rows, COLUMNS, before.campaign.files.inventory)
    target = before.target.result("inventory", "campaign")
    before.receipts.write("inventory", "campaign", target.target, target.outputs)
    assert table_of(home, **blocks).why("inventory") == reason


def test_raw_files_that_were_replaced_are_named_whatever_their_time(home):
    before = table_of(home)
    write_tsv([], COLUMNS, before.campaign.files.inventory)
    target = before.target.result("inventory", "campaign")
    before.receipts.write("inventory", "campaign", target.target, target.outputs)
    (home / "a_2.h5").write_text("another one")
    os.utime(home / "a_2.h5", (2, 2))  # as it was copied from elsewhere, with its time
    assert "raw file replaced: a_2" in table_of(home).why("inventory")


def test_a_flat_that_was_replaced_is_named(home):
    blocks = {"preprocess": {"flats": "flats/f.h5"}}
    before = table_of(home, **blocks)
    write_tsv([], COLUMNS, before.campaign.files.inventory)
    target = before.target.result("inventory", "campaign")
    before.receipts.write("inventory", "campaign", target.target, target.outputs)
    (home / "flats" / "f.h5").write_text("another one")
    assert f"{home}/flats/f.h5 replaced" in table_of(home, **blocks).why("inventory")


def test_cor_json_is_made_for_the_options_that_changed(home):
    before = table_of(home)
    result = before.target.result("resolve_cor", "campaign")
    for path in result.outputs:
        write_json({}, home / path)
    before.receipts.write("resolve_cor", "campaign", result.target, result.outputs)
    assert table_of(home).why("resolve_cor") == ""
    after = table_of(home, resolve_cor={"default_px": 48.5})
    assert after.why("resolve_cor") == "default_px default -> 48.5"
