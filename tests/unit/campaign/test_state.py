"""What state a scan is in: from the table as it is now and what the last run left."""

from dataclasses import replace

import pytest

from tests.report_campaign import USUAL
from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.results import Curve, Prediction
from tomopipe.campaign.state.sentences import ScanState
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.outliers import EDITED, JUDGED_BY_FEW, NO_SINGLE_COR, NOT_SWEPT, SLICES_MIXED, Fix

ROW = {"n_cols": "1024", "keep": "true", "reason": ""}
BAD = ROW | {"keep": "false", "reason": "120 of 901 frames"}
GOOD = Prediction(512.0, 512.0, 0.9, "resolved", "pairs", "")
FLAT = Prediction(None, None, 0.0, "flat", "", "noise")
BROKEN = Prediction(None, None, 0.0, "failed", "", "constant frames")
NO_COR = Fix("a", 1, None, None, "", False, "no COR", None, ())
TYPED = Fix("a", 1, 500.0, 500.0, "manual", False, "", 10.0, ())
IN_FILE = Fix("a", 1, 500.0, 500.0, "manual", False, EDITED, 10.0, ())
REPLACED = Fix("a", 1, 500.0, 512.0, "outlier", True, "far", 10.0, ("b", "c"))
DEAD_TRY = (JobStatus("try_recon", "a", "failed", error="killed"),)
DEAD_FULL = (JobStatus("full_recon", "a", "failed", error="killed"),)
ESTIMATE = {"fill_px": 512, "fill_error_px": 0.5}
UNSWEPT = replace(NO_COR, after_px=512.0, source="time", reason=f"{NOT_SWEPT}9); from", **ESTIMATE)
USED = {"decided": True, "cor_px": 512.0, "source": "auto", "prediction": GOOD}


def facts(manual="", **given):
    return ScanState(manual=CorText(manual), **USUAL | {"row": ROW} | given)


IN_TIME = {"decided": True, "cor_px": 512.0, "source": "time", "fix": UNSWEPT}
OUTLIER = USED | {"source": "outlier", "fix": REPLACED}


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({}, "pending"),
        ({"row": None}, "pending"),
        ({"decided": True}, "pending"),  # selected since the run
        ({"prediction": GOOD}, "ok"),
        ({"prediction": replace(GOOD, doubts=("3 are dark",))}, "doubtful"),
        ({"prediction": FLAT}, "doubtful"),
        ({"prediction": BROKEN}, "doubtful"),  # its neighbours may yet fill it
        ({"fix": NO_COR, "prediction": FLAT}, "unresolved"),
        ({"fix": NO_COR, "prediction": FLAT, "has_default": True}, "doubtful"),
        ({"fix": NO_COR, "prediction": FLAT, "has_default": True, "decided": True}, "unresolved"),
        ({"fix": NO_COR, "prediction": BROKEN, "decided": True}, "failed"),
        ({"select": "no", "row": BAD}, "unselected"),
        ({"row": BAD} | USED, "skipped"),
        ({"row": BAD, "select": "yes"}, "pending"),
        ({"row": BAD | {"n_cols": ""}, "select": "yes"}, "skipped"),
        ({"row": BAD | {"reason": "still written"}, "select": "yes"}, "skipped"),
        *[(USED | {"source": s}, "filled") for s in ("neighbours", "series-mean", "default")],
        *[(USED | {"source": s}, "ok") for s in ("ai", "auto")],
        # not swept: nothing to review, unless the error is large or few judge it
        (IN_TIME, "unswept"),
        (IN_TIME | {"fix": replace(UNSWEPT, fill_error_px=1.2)}, "doubtful"),
        (
            IN_TIME | {"fix": replace(UNSWEPT, reason=f"{UNSWEPT.reason}; {JUDGED_BY_FEW}")},
            "doubtful",
        ),
        (IN_TIME | {"fix": replace(UNSWEPT, reason="no COR, from")}, "filled"),
        (IN_TIME | {"source": "default"}, "filled"),
        (IN_TIME | {"failures": DEAD_FULL}, "failed"),
        ({"fix": UNSWEPT}, "unswept"),
        ({"fix": replace(NO_COR, reason=f"no COR ({NOT_SWEPT}9)")}, "unresolved"),
        (OUTLIER, "fixed"),
        (USED | {"manual": "512", "source": "manual"}, "manual"),
        ({"failures": DEAD_TRY}, "failed"),
        (USED | {"failures": DEAD_TRY, "source": "series-mean"}, "filled"),
        (USED | {"failures": DEAD_FULL}, "failed"),
        # of a run that ended before cor.json
        ({"prediction": GOOD, "fix": REPLACED}, "fixed"),
        ({"prediction": FLAT, "fix": replace(REPLACED, source="series-mean")}, "filled"),
        ({"prediction": GOOD, "fix": replace(TYPED, source="auto")}, "ok"),
    ],
)
def test_the_state_follows_from_the_files(given, state):
    assert facts(**given).state == state


@pytest.mark.parametrize(
    ("given", "state", "edited"),
    [
        (USED | {"manual": "1023"}, "manual", True),
        (USED | {"manual": "1024"}, "doubtful", False),  # off the detector: not used
        ({"manual": "500", "fix": NO_COR, "prediction": BROKEN, "decided": True}, "manual", True),
        (USED | {"manual": "500", "failures": DEAD_FULL}, "failed", True),
        (USED | {"source": "manual", "fix": TYPED}, "ok", True),  # taken away since
        (USED | {"source": "manual", "fix": TYPED, "prediction": FLAT}, "doubtful", True),
        (USED | {"source": "manual", "fix": IN_FILE}, "manual", False),
        (USED | {"source": "manual", "cor_px": 500.0, "manual": "500.005"}, "manual", False),
        (USED | {"source": "manual", "cor_px": 500.0, "manual": "500.01"}, "manual", True),
        (OUTLIER | {"manual": "500"}, "manual", True),  # the prediction, taken back
        (OUTLIER | {"manual": "500", "protect_manual": False}, "fixed", False),
    ],
)
def test_a_decision_counts_before_the_next_run(given, state, edited):
    found = facts(**given)
    assert (found.state, found.is_edited) == (state, edited)


def test_a_cor_by_hand_is_not_checked_without_a_prediction():
    used = USED | {"source": "manual", "manual": "512"}
    alone, checked = (facts(**used | {"prediction": each}) for each in (None, GOOD))
    assert (alone.is_unchecked, checked.is_unchecked) == (True, False)
    assert (alone.reason, checked.reason) == ("", "")  # of many such scans it is no news
    by_file = used | {"manual": "", "fix": IN_FILE, "prediction": GOOD}
    assert facts(**by_file).reason == EDITED


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"confidence": 0.59}, "accepted with confidence 0.59, limit 0.5"),
        ({"confidence": 0.61}, ""),
        ({"other_px": 514.1}, "methods disagree: a 512.00, b 514.10"),
        ({"other_px": 513.9}, ""),
    ],
)
def test_what_makes_a_prediction_doubtful(given, words):
    bests = {"a": 512.0, "b": given.get("other_px", 512.0)}
    curves = tuple(Curve(method, px, 0.9, (), ()) for method, px in bests.items())
    sure = given.get("confidence", 0.9)
    prediction = Prediction(512.0, 512.0, sure, "resolved", "a", "", curves)
    found = facts(prediction=prediction, min_confidence=given.get("limit", 0.5))
    assert "; ".join(found.doubts) == words
    assert found.state == ("doubtful" if words else "ok")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ()),
        ({"manual": "514"}, ("514.00 by hand, applied by the next run",)),
        ({"manual": "514", "decided": False, "cor_px": None}, ()),  # a first run
        ({"source": "manual"}, ("removal of the COR by hand, applied by the next run",)),
        ({"volume_of": "COR 500.00"}, ("volume of COR 500.00, made again by the next run",)),
    ],
)
def test_what_waits_for_the_next_run_is_said(given, words):
    assert facts(**USED | given).for_next_run == words


def test_an_outlier_that_was_kept_is_doubtful():
    kept = Fix("a", 1, 540.0, 540.0, "auto", True, "28 px from the median, kept", 10.0, ())
    found = facts(**USED | {"cor_px": 540.0, "fix": kept})
    assert (found.state, found.doubts) == ("doubtful", ("28 px from the median, kept",))


def test_a_cor_off_its_series_is_doubtful_unless_set_by_hand():
    off = USED | {"off_series": "+0.35 px off its series"}
    assert (facts(**off).state, facts(**off).why) == ("doubtful", off["off_series"])
    assert facts(**off | {"manual": "512", "source": "manual"}).state == "manual"


@pytest.mark.parametrize(
    ("reason", "source", "state"),
    [
        ("no COR, mean of 1 of the series", "series-mean", "doubtful"),
        ("no COR, mean of 11 of the series", "series-mean", "filled"),
        ("no COR, mean of 1 of the series", "default", "filled"),  # which took precedence
    ],
)
@pytest.mark.parametrize("decided", [True, False])
def test_a_gap_filled_from_a_single_scan_is_doubtful(reason, source, state, decided):
    if source == "default" and not decided:
        return
    filled = Fix("a", 1, None, 512.0, "series-mean", False, reason, None, ())
    given = {"fix": filled, "prediction": FLAT}
    given |= {"decided": True, "cor_px": 512.0, "source": source} if decided else {}
    found = facts(**given)
    assert found.state == state
    if state == "doubtful":
        assert found.why.startswith("filled from a single other scan; noise; not accepted")


@pytest.mark.parametrize(
    ("error_px", "remark", "state", "text", "why"),
    [
        (7.0, "", "doubtful", "512.0 ± 7", "filled with 512.0 ± 7 px"),
        (1.01, "", "doubtful", "512.0 ± 2", "filled with 512.0 ± 2 px"),
        (1.0, "", "filled", "512.0 ± 1", ""),
        (0.24, "", "filled", "512.00 ± 0.3", ""),
        (0.24, JUDGED_BY_FEW, "doubtful", "512.00 ± 0.3", f"± 0.3 px: {JUDGED_BY_FEW}"),
        (None, JUDGED_BY_FEW, "doubtful", "512.00", f"error unknown: {JUDGED_BY_FEW}"),
    ],
)
def test_a_filled_cor_says_how_sure_it_is(error_px, remark, state, text, why):
    reason = f"no COR, mean of 5 of the series; {remark}"
    fix = Fix("a", 1, None, 512.0, "series-mean", False, reason, None, (), 512.0, error_px)
    found = facts(fix=fix, prediction=FLAT, decided=True, cor_px=512.0, source="series-mean")
    assert (found.state, found.shown_text, found.error_px) == (state, text, error_px)
    assert why in found.why
    by_hand = replace(found, manual=CorText("513"))
    assert (by_hand.state, by_hand.doubtful_fill) == ("manual", "")


def test_a_scan_that_is_not_filled_is_shown_at_the_cor_of_its_series():
    fix = Fix("a", 1, None, None, "", False, "no COR, not filled", None, (), 512.0, 7.0)
    found = facts(fix=fix, prediction=FLAT, decided=True)
    assert (found.state, found.shown, found.best_px) == ("unresolved", (None, ""), 512.0)


@pytest.mark.parametrize(
    ("predicted_px", "confidence", "asked"),
    [(500.004, 0.9, True), (500.0, 0.89, False), (501.0, 1.0, False)],  # the last: by hand
)
def test_a_confident_outlier_asks_whether_it_is_one_series(predicted_px, confidence, asked):
    found = replace(GOOD, cor_px=predicted_px, confidence=confidence)
    replaced = facts(**USED | {"source": "outlier", "fix": REPLACED, "prediction": found})
    kept = replace(REPLACED, after_px=500.0, source="auto")
    kept = facts(**USED | {"cor_px": 500.0, "fix": kept, "prediction": found})
    assert ("not one series? (inventory.series_pattern)" in replaced.reason) is asked
    assert ("not one series? (inventory.series_pattern)" in kept.kept_outlier) is asked


@pytest.mark.parametrize(
    ("manual", "prediction", "said"),
    [
        ("507.5", GOOD, "-4.50 px from the prediction, of confidence 0.90"),
        ("512.9", GOOD, ""),
        ("507.5", replace(GOOD, confidence=0.3), ""),
        ("507.5", FLAT, ""),
    ],
)
def test_a_cor_by_hand_far_from_a_confident_prediction_is_remarked(manual, prediction, said):
    given = USED | {"manual": manual, "source": "manual", "cor_px": float(manual)}
    found = facts(**given | {"prediction": prediction})
    assert (found.state, found.reason) == ("manual", said)


def test_of_a_scan_that_moved_the_confidence_of_its_method_and_its_own_advice_are_shown():
    curves = (Curve("ai", 512.0, 0.996, (), ()), Curve("classical", 3.0, 0.1, (), ()))
    moved = Prediction(512.0, None, 0.0, "ambiguous", "ai", f"it moved: {NO_SINGLE_COR}", curves)
    filled = replace(NO_COR, after_px=520.0, source="line")
    found = facts(decided=True, cor_px=520.0, source="line", fix=filled, prediction=moved)
    sure = "not accepted (ambiguous, best 512.00, confidence 0.00, that of ai alone 1.00)"
    assert found.reason.startswith(f"it moved: {NO_SINGLE_COR}; {sure}")
    assert found.to_do.startswith("Measure it again, use the part before or after the movement")
    assert not facts("520", decided=True, cor_px=520.0, source="manual", prediction=moved).to_do
    sinks = replace(GOOD, doubts=(f"the sample moves 4.0 rows down: {SLICES_MIXED}",))
    assert facts(**USED | {"prediction": sinks}).to_do == found.to_do
    unsure = replace(moved, reason="noise", curves=(Curve("ai", 512.0, 0.2, (), ()),))
    other = facts(decided=True, cor_px=520.0, source="line", fix=filled, prediction=unsure)
    assert "(ambiguous, best 512.00, confidence 0.00, that of ai alone 0.20)" in other.reason
    assert other.to_do.startswith("Not measured: look at the slices")


@pytest.mark.parametrize(("near", "text"), [(("b",), "that of b"), (("b", "c"), "mean of b and c")])
def test_the_scans_that_a_cor_is_filled_from_are_named(near, text):
    filled = replace(NO_COR, after_px=512.0, source="place", neighbours=near)
    assert facts(decided=True, cor_px=512.0, source="place", fix=filled).reason.endswith(text)
