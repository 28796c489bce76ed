"""The COR rules: every row of their table, each trap on both sides."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tomopipe.cor import outliers as cor
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.outliers import Fix, Member

N_COLS = 2048
NONE = None


def series(*values_px, **common):
    """Return one member per predicted COR; text is a manual cell."""
    return [
        Member(f"s_{number:03d}", number, N_COLS, manual=CorText(value), **common)
        if isinstance(value, str)
        else Member(f"s_{number:03d}", number, N_COLS, predicted_px=value, **common)
        for number, value in enumerate(values_px, start=1)
    ]


def fix(members, *, max_delta_px=50.0, protect_manual=True, **options):
    options |= {"max_delta_px": max_delta_px, "protect_manual": protect_manual}
    return cor.fix_series(members, **options)


def flags(*cor_px, **options):
    return [row.flagged for row in fix(series(*cor_px), **options)]


def after(rows):
    return [row.after_px for row in rows]


def same(first: list[Fix], second: list[Fix]) -> bool:
    return list(map(repr, first)) == list(map(repr, second))


@pytest.mark.parametrize(
    ("others_px", "max_delta_px", "limit_px"),
    [
        ([0] * 6, 50, 10),
        ([-4, -4, -4, 0, 4, 4], 50, 20),
        ([-4, -4, -4, 0, 4, 4], 15, 15),
        ([0] * 6, 3, 3),
    ],
    ids=["floor", "5 MAD", "cap", "cap under the floor"],
)
def test_outliers_at_their_limit(others_px, max_delta_px, limit_px):
    for past_px, expected in [(0.0, False), (0.01, True)]:
        cor_px = 1024 + np.array([*others_px, limit_px + past_px])
        assert flags(*cor_px, max_delta_px=max_delta_px) == [False] * 6 + [expected]


def test_limit_is_strict_whatever_the_last_bit_of_a_float():
    # In floats 1024.35 - 1014.35 and its like come out a bit above or below 10.
    for hundredth in range(101400, 101500):
        low_px, high_px = hundredth / 100, (hundredth + 1000) / 100
        assert flags(low_px, low_px, high_px) == [False] * 3


def test_unknown_values_enter_neither_median_nor_mad():
    known_px = [1000.0, 1000.0, 1003.0, 1040.0]
    unknown = [NONE, math.inf, -math.inf, NONE, NONE]
    assert cor.outlier_limit(known_px + unknown, max_delta_px=50) == (1001.5, 10.0)
    assert cor.outlier_limit(unknown, max_delta_px=50) is None


@pytest.mark.parametrize(
    ("before_px", "limit_px", "expected_px"),
    [
        ([1000, 1000, 1100], 10, [1000, 1000, 1000]),
        ([1000, 1000, 1040, 1040], 50, [1000, 1000, 1040, 1040]),
        ([1000, 1040, 1080], 50, [1000, 1040, 1080]),
        ([1000, 1200], 50, [1000, 1200]),
        ([1000, NONE], NONE, [1000, 1000]),
        ([1000, NONE, 1006, 1100], 30, [1000, 1003, 1006, 1006]),
        ([1000, NONE, 1040], 50, [1000, 1020, 1040]),
    ],
)
def test_every_row_of_the_table(before_px, limit_px, expected_px):
    rows = fix(series(*before_px))
    assert after(rows) == expected_px
    assert [row.limit_px for row in rows] == [limit_px] * len(rows)
    assert [row.before_px for row in rows] == before_px


@pytest.mark.parametrize(
    ("cor_px", "expected_px", "neighbours"),
    [
        ([1000, 1002, 1300, 1006, 1008], {3: 1004}, ("s_002", "s_004")),
        ([1000, 1000, 1300, 700, 1004, 1004, 1000], {3: 1002, 4: 1002}, ("s_002", "s_005")),
        ([1300, 1250, 1000, 1002, 1004, 1004, 1000], {1: 1000, 2: 1000}, ("s_003",)),
        ([1000, 1002, NONE, 1300, NONE, 1006, 1008], {4: 1004}, ("s_002", "s_006")),
        ([1000, NONE, 1300, NONE, 1004, 1002], {2: 1002, 4: 1002}, ("s_001", "s_005")),
    ],
    ids=["one", "two in a row", "at an end", "beside missing ones", "gaps beside an outlier"],
)
def test_outliers_and_gaps_take_the_mean_of_their_nearest_good_neighbours(
    cor_px, expected_px, neighbours
):
    rows = fix(series(*cor_px))
    for number, after_px in expected_px.items():
        assert (rows[number - 1].after_px, rows[number - 1].neighbours) == (after_px, neighbours)
    good = [row for row in rows if row.source == "auto"]
    assert all(row.after_px == row.before_px for row in good)


def test_neighbours_are_places_in_the_list_not_numbers():
    members = series(1000, 1002, 1300, 1006, 1008)
    spread = [replace(m, index=m.index**3) for m in members]
    assert after(fix(spread)) == after(fix(members))


def test_outliers_without_a_good_neighbour_are_kept_and_reported():
    rows = fix(series(1000, 1200))
    assert [row.flagged for row in rows] == [True, True]
    assert [row.source for row in rows] == ["auto", "auto"]
    assert all("no good neighbour, kept" in row.reason for row in rows)


@pytest.mark.parametrize(("right_px", "source"), [(1010.0, "neighbours"), (1010.01, "series-mean")])
def test_gap_takes_its_neighbours_when_they_agree_within_10_px(right_px, source):
    # The third good value tells the mean of the pair from the mean of the series.
    rows = fix(series(1000, NONE, right_px, 1009))
    assert rows[1].source == source
    expected_px = (1000 + right_px) / 2 if source == "neighbours" else (2009 + right_px) / 3
    assert rows[1].after_px == pytest.approx(expected_px)


def test_agreement_within_10_px_stays_under_a_smaller_max_delta():
    rows = fix(series(1000, NONE, 1004, 1002, 1002), max_delta_px=3)
    assert rows[1].source == "neighbours"
    assert rows[1].after_px == 1002
    assert {row.limit_px for row in rows} == {3}


def test_fills_do_not_feed_fills():
    # Donors 1000 three times, 1008 and the outlier, by then 1008; not the gap's 1004.
    rows = fix(series(NONE, 1000, 1000, 1000, NONE, 1008, 1300, NONE))
    assert (rows[4].source, rows[4].after_px) == ("neighbours", 1004)
    assert (rows[0].source, rows[0].neighbours) == ("series-mean", ())
    assert rows[6].after_px == 1008
    assert rows[0].after_px == rows[7].after_px == pytest.approx(5016 / 5)


def test_unselected_scans_donate_and_nothing_else():
    donors = [
        Member("t_1", 9, N_COLS, predicted_px=1020, selected=False),
        Member("t_2", 9, N_COLS, manual=CorText("1030"), predicted_px=3, selected=False),
        Member("t_3", 9, N_COLS, manual=CorText("5000"), selected=False),
    ]
    rows = fix([*series(NONE, NONE), *donors])
    assert [row.scan for row in rows] == ["s_001", "s_002"]
    assert after(rows) == [1025, 1025]
    # A donor far away moves neither median nor limit, and is no neighbour.
    far = Member("far", 0, N_COLS, predicted_px=3, selected=False)
    members = series(1000, 1000, 1030, 1000)
    assert same(fix(members), fix([far, *members]))


def test_fills_and_replacements_stay_on_the_detector_of_their_scan():
    narrow = Member("s_002", 2, 600, predicted_px=10)
    rows = fix([*series(1000, NONE, 1000)[::2], narrow])
    assert rows[1].after_px == 10
    assert "mean of neighbours 1000.00 is off the detector (0 to 599), kept" in rows[1].reason
    rows = fix([*series(1000, NONE, 1000)[::2], replace(narrow, predicted_px=NONE)])
    assert rows[1].after_px is None
    assert "mean of the series 1000.00 is off the detector" in rows[1].reason


@pytest.mark.parametrize(
    ("manual", "predicted_px", "expected_px", "source", "reason"),
    [
        ("1010", 1000.0, 1010.0, "manual", ""),
        ("", 1000.0, 1000.0, "ai", ""),
        ("1024,5", 1000.0, 1000.0, "ai", "manual COR '1024,5' is not a number, ignored"),
        ("nan", 1000.0, 1000.0, "ai", "manual COR 'nan' is not a number, ignored"),
        ("2048", 1000.0, 1000.0, "ai", "manual COR 2048.00 is off the detector (0 to 2047)"),
        ("-1", 1000.0, 1000.0, "ai", "manual COR -1.00 is off the detector"),
        ("1010", 9999.0, 1010.0, "manual", ""),
        ("", 9999.0, 1002.0, "series-mean", "predicted COR 9999.00 is off the detector"),
        ("", math.inf, 1002.0, "series-mean", "predicted COR inf is off the detector"),
    ],
)
def test_manual_before_predicted_and_junk_counts_as_absent(
    manual, predicted_px, expected_px, source, reason
):
    scan = Member("x", 0, N_COLS, CorText(manual), predicted_px, "ai")
    row = fix([scan, *series(1002, 1002)])[0]
    assert (row.after_px, row.source) == (expected_px, source)
    assert row.reason.startswith(reason)
    assert bool(row.reason) is bool(reason)


def test_protected_manual_outside_the_limit_is_kept_trusted_and_reported():
    rows = fix(series(1000, 1001, "1100", 1300, 1001, 1000))
    assert rows[2].after_px == 1100
    assert (rows[2].source, rows[2].flagged) == ("manual", True)
    assert rows[2].reason.endswith("manual, kept")
    assert rows[3].neighbours == ("s_003", "s_005")  # the manual one is a good neighbour
    assert rows[3].after_px == pytest.approx(1050.5)


def test_protected_manual_counts_in_median_and_mad_and_donates():
    rows = fix(series("1100", "1100", 1000, NONE))
    assert after(rows)[:3] == [1100, 1100, 1100]  # median 1100: the prediction is the outlier
    assert rows[3].after_px == pytest.approx(1100)


def test_unprotected_manual_is_treated_like_any_other():
    rows = fix(series(1000, 1002, "1100", 1004, 1000), protect_manual=False)
    assert (rows[2].after_px, rows[2].source) == (1003, "outlier")
    assert rows[2].before_px == 1100


def confident(values_px, **confidences):
    """Return a series of predictions, some with a confidence, by number."""
    return [
        replace(member, confidence=confidences.get(f"s{member.index}", 0.5))
        for member in series(*values_px)
    ]


def test_a_confident_outlier_is_kept_reported_and_trusted_by_nobody():
    members = confident([239, 238, 345.55, NONE, 239.24, 240, NONE], s3=1.0)
    kept = fix(members, protect_confident=0.95)
    assert (kept[2].after_px, kept[2].source, kept[2].flagged) == (345.55, "auto", True)
    assert kept[2].reason.startswith("Measured 345.55, 107 px from its series; kept (conf")
    assert "The series gives 238.62 (from s_002 and s_005). Check." in kept[2].reason
    assert kept[3].neighbours == ("s_002", "s_005")
    # no donor: with it, the mean would be 260
    assert kept[6].after_px == pytest.approx((239 + 238 + 239.24 + 240) / 4)
    replaced = fix(members)
    assert (replaced[2].after_px, replaced[2].source) == (pytest.approx(238.62), "outlier")


@pytest.mark.parametrize(("confidence", "after_px"), [(0.95, 1100.0), (0.9499, 1000.0)])
def test_confident_is_at_least_the_limit(confidence, after_px):
    members = confident([1000, 1000, 1100], s3=confidence)
    assert fix(members, protect_confident=0.95)[2].after_px == after_px


def test_confident_outliers_alone_are_kept_and_fill_nothing():
    members = confident([1000, 1200, NONE], s1=1.0, s2=0.99)
    rows = fix(members, protect_confident=0.95)
    assert after(rows) == [1000, 1200, None]
    assert all("The series gives no other COR. Check." in row.reason for row in rows[:2])
    assert after(fix(members)) == [1000, 1200, 1100]


def test_a_confident_cor_within_the_limit_is_like_any_other():
    values_px = [1000, 1009, NONE, 1009, 1100]
    members = confident(values_px, s1=1.0, s2=1.0, s4=1.0)
    assert same(fix(members, protect_confident=0.95), fix(members))
