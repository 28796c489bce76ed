"""The sidecar says what is known of a scan's COR, and nothing that changes by itself."""

import json
import os
from dataclasses import replace

import pytest

from tomopipe.cor.outliers import EDITED, EMPTIED, Fix
from tomopipe.reruns.sidecars import sidecar_content
from tomopipe.steps.sidecar import is_campaign, owner, sidecar

FIX = Fix(
    *("a_3", 3, 1100.0, 1003.0, "outlier", True),
    *("97.00 px from the median", 10.0, ("a_2", "a_4")),
)
PREDICTION = {
    "method": "pairs",
    "confidence": 0.83,
    "verdict": "resolved",
    "best_cor_px": 1100.0,
    "cor_px": 1100.0,
    "methods": {"pairs": {"curve": {"cor_px": [1, 2], "score": [0, 1]}}},
}
COR = {"cor_px": 1003.0, "source": "outlier"}
PARAMETERS = {"fix_cor": {"max_delta_px": 50.0}}


def test_content_has_value_source_and_trace():
    assert sidecar_content("a_3", COR, FIX, PREDICTION) == {
        "scan": "a_3",
        "cor_px": 1003.0,
        "source": "outlier",
        "method": "pairs",
        "confidence": 0.83,
        "verdict": "resolved",
        "predicted_px": 1100.0,
        "before_px": 1100.0,
        "flagged": True,
        "limit_px": 10.0,
        "neighbours": ["a_2", "a_4"],
        "reason": "97.00 px from the median",
    }


@pytest.mark.parametrize("reason", [EDITED, f"{EDITED}; 97 px from the median", EMPTIED])
def test_an_edited_file_has_neither_method_nor_confidence(reason):
    cor = {"cor_px": 1003.0, "source": "manual"}
    content = sidecar_content("a_3", cor, replace(FIX, reason=reason), PREDICTION)
    assert (content["source"], content["method"], content["confidence"]) == ("manual", None, None)
    assert content["predicted_px"] == 1100.0


def test_limit_of_the_series_is_told_only_where_it_was_applied():
    kept = replace(FIX, flagged=False, source="auto", after_px=1100.0)
    assert sidecar_content("a_3", COR, kept, PREDICTION)["limit_px"] is None


def test_content_without_prediction_or_row_has_nulls():
    content = sidecar_content("a_3", {"cor_px": 5.0, "source": "default"}, None, None)
    assert (content["cor_px"], content["source"]) == (5.0, "default")
    assert content["method"] is content["confidence"] is content["before_px"] is None
    assert (content["flagged"], content["neighbours"]) == (False, [])


def test_one_in_the_results_of_when_the_data_were_read_only_is_removed(tmp_path):
    content = json.dumps(sidecar_content("a_3", COR, FIX, PREDICTION))
    beside, in_results = tmp_path / "raw" / "a_3.cor.json", tmp_path / "sidecars" / "a_3.cor.json"
    sidecar(in_results, content=content, parameters={}, in_results=in_results)
    assert in_results.exists()
    sidecar(beside, content=content, parameters={}, in_results=in_results)
    assert (beside.exists(), list(in_results.parent.iterdir())) == (True, [])
    sidecar(beside, content=content, parameters={}, in_results=in_results)
    (tmp_path / "link").symlink_to("raw")  # the same file by another name
    sidecar(beside, content=content, parameters={}, in_results=tmp_path / "link" / "a_3.cor.json")
    assert beside.exists()


@pytest.mark.parametrize("name", ["none", "\0", ""])
def test_a_sidecar_that_names_no_folder_is_not_of_a_campaign(tmp_path, name):
    (tmp_path / "a.cor.json").write_text(json.dumps({"campaign": name}))
    assert not is_campaign(owner(tmp_path / "a.cor.json"), tmp_path)


def test_file_holds_the_content_and_only_depends_on_it(tmp_path):
    content = sidecar_content("größe 1", COR, FIX, PREDICTION)
    for name in ("first", "second"):
        order = content if name == "first" else dict(reversed(content.items()))
        path = tmp_path / name
        sidecar(path, content=json.dumps(order), parameters=PARAMETERS, in_results=path)
    about = {"parameters": PARAMETERS, "campaign": os.getcwd()}
    assert json.loads((tmp_path / "first").read_text()) == content | about
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
