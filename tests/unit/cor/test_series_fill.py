"""`fix_cor.fill: best`: which outliers are replaced, which scans are filled, and what is said."""

import numpy as np
import pytest

from tomopipe.config import FixCorBlock
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.fill import Point
from tomopipe.cor.outliers import JUDGED_BY_FEW, Member, fix_series
from tomopipe.cor.series_fill import fix_best, layouts_of

N_COLS = 2048
LIMITS = {"max_delta_px": 50, "protect_manual": True}


def members(*cors_px, confidence=0.8, **more):
    """Return the scans of a series, predicted with a confidence that protects none."""
    return [
        Member(
            f"s_{n:03d}",
            n,
            N_COLS,
            predicted_px=cor_px,
            confidence=confidence,
            position=n,
            length=len(cors_px),
            **more,
        )
        for n, cor_px in enumerate(cors_px, start=1)
    ]


def best(scans, around=(), **options):
    return fix_best(scans, around, FixCorBlock(**options))


def rules(scans):
    return fix_series(scans, **LIMITS, protect_confident=0.95)


def test_right_cors_of_a_series_that_steps_stay_and_are_doubtful():
    """The stage moved by 20 px after eight scans of twelve: the rules take the four for wrong."""
    rng = np.random.default_rng(5)
    truth_px = np.r_[np.full(8, 1000.0), np.full(4, 1020.0)] + rng.normal(0, 0.1, 12)
    scans = members(*truth_px.round(2).tolist())
    assert [row.source for row in rules(scans)][8:] == ["outlier"] * 4
    rows = best(scans)
    assert [row.after_px for row in rows] == [row.before_px for row in rows]
    assert [row.flagged for row in rows] == [False] * 8 + [True] * 4
    for row in rows[8:]:
        assert row.fill_error_px > abs(row.before_px - row.fill_px) / 3
        assert "of its series is no better" in row.reason
    # they serve as neighbours of a gap between them
    filled = best([*scans[:9], Member("s_010", 10, N_COLS), *scans[10:]])[9]
    assert abs(filled.after_px - 1020) < 0.5
    assert (filled.source, filled.neighbours) == ("neighbours", ("s_009", "s_011"))


@pytest.mark.parametrize("at", [0, 1, 5, 11])
def test_a_wrong_cor_of_a_still_series_is_replaced_and_at_an_end_may_be_a_step(at):
    rng = np.random.default_rng(6)
    cors_px = (1000 + rng.normal(0, 0.1, 12)).round(2).tolist()
    rows = best(members(*cors_px[:at], 1030.0, *cors_px[at + 1 :]))
    assert [n for n, row in enumerate(rows) if row.source != "auto"] == [at]
    wrong = rows[at]
    assert wrong.source == "outlier"
    assert abs(wrong.after_px - 1000) < 0.3
    assert abs(wrong.after_px - 1000) <= wrong.fill_error_px < 0.5
    assert wrong.error_px == wrong.fill_error_px
    assert ("; at an end of the series, where the" in wrong.reason) == (at in (0, 11))


@pytest.mark.parametrize("last_px", [[1030.0, 1030.4], [1030.0, 1041.0]])
def test_two_outliers_side_by_side_that_agree_are_a_step(last_px):
    """And what they agree on fills the scan between them."""
    rng = np.random.default_rng(6)
    cors_px = (1000 + rng.normal(0, 0.1, 30)).round(2).tolist()
    *_, before, gap, after = best(members(*cors_px, last_px[0], None, last_px[1]))
    is_step = last_px[1] - last_px[0] < 1
    assert [before.source, after.source] == ["auto" if is_step else "outlier"] * 2
    assert [before.flagged, after.flagged] == [True, True]  # kept ones are doubtful
    assert ("kept: s_033 beside it agrees" in before.reason) == is_step
    assert gap.after_px == pytest.approx(1030.2 if is_step else 1000.0, abs=0.1)


@pytest.mark.parametrize("source", ["manual", "confident"])
def test_what_is_protected_never_moves(source):
    rng = np.random.default_rng(6)
    scans = members(*(1000 + rng.normal(0, 0.1, 12)).round(2).tolist())
    wrong = Member("s_006", 6, N_COLS, predicted_px=1030.0, confidence=0.99, position=6, length=12)
    if source == "manual":
        wrong = Member("s_006", 6, N_COLS, CorText("1030"), position=6, length=12)
    row = best([*scans[:5], wrong, *scans[6:]])[5]
    assert (row.after_px, row.flagged) == (1030.0, True)
    if source == "confident":
        assert "kept (confidence 0.99). The series gives 1000." in row.reason


@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_a_still_series_without_others_is_filled_as_by_the_rules(n):
    rng = np.random.default_rng(n)
    scans = members(*(1000 + rng.normal(0, 0.05, n)).round(2).tolist(), None)
    row, by_rules = best(scans)[-1], rules(scans)[-1]
    assert (row.after_px, row.source) == (by_rules.after_px, by_rules.source)
    assert (JUDGED_BY_FEW in row.reason) == (n < 3)
    assert bool(row.fill_doubt) == (n < 3)
    assert row.reason.startswith(by_rules.reason)
    assert (row.fill_error_px is None) == (n == 1)


def test_a_large_error_is_doubtful_and_may_leave_a_scan_without():
    scans = members(1212.5, None, 1224.5, 1213.0, 1222.0, 1225.0)
    row = best(scans)[1]
    assert row.fill_error_px > 5
    assert row.fill_doubt.startswith(f"filled with {row.after_px:.1f} ± ")
    without = best(scans, max_fill_error_px=5.0)[1]
    assert (without.after_px, without.source) == (None, "")
    assert without.fill_px == row.after_px
    assert "above fix_cor.max_fill_error_px (5)" in without.reason
    assert f"{row.after_px:.1f} ± " in without.reason
    assert best(scans, max_fill_error_px=50.0)[1].after_px == row.after_px


def test_a_series_without_any_cor_is_filled_from_others():
    """A stack of which no scan shows its sample, between two of equal heights."""
    around = [
        Point(f"{'ac'[k > 0]}_{n}", n, k, n, 2, (N_COLS, ""), cor_px=px + 0.2 * k)
        for k in (-2, -1, 1, 2)
        for n, px in enumerate((1000.0, 1012.0), start=1)
    ]
    rows = best(members(None, None), around)
    assert [round(row.after_px, 2) for row in rows] == [1000.0, 1012.0]
    assert {row.source for row in rows} == {"place"}
    assert "from the same place before and after" in rows[0].reason
    assert {row.source for row in best(members(None, None))} == {""}


def test_scans_of_other_widths_or_pixels_are_not_compared():
    """A camera's region of 96 of 128 columns after the third scan; the fifth shows no sample."""
    wide = [
        Member(f"s_{n}", n, 128, predicted_px=66.0 + 0.3 * n, confidence=1.0) for n in (1, 2, 3)
    ]
    narrow = [
        Member(f"s_{n}", n, 96, predicted_px=px) for n, px in ((4, 42.9), (5, None), (6, 43.5))
    ]
    rows = best([*wide, *narrow])
    assert not any(row.flagged for row in rows)
    assert (rows[4].after_px, rows[4].neighbours) == (pytest.approx(43.2), ("s_4", "s_6"))
    assert "128 columns (3), 96 columns (3): only equal ones are compared" in rows[4].reason
    binned = [Member(f"s_{n}", n, 128, predicted_px=66.0, pixel_um="2") for n in (1, 2)]
    row = best([*binned, Member("s_3", 3, 128, pixel_um="4")])[2]
    assert row.after_px is None
    assert "128 columns of 2 um (2), 128 columns of 4 um (1)" in row.reason
    assert layouts_of([(128, "2"), (128, "2")]) == ""
