"""CORs of the views of one file over time: `fix_cor.over_time`, with a true COR at each time."""

from dataclasses import replace

import numpy as np
import pytest

from tomopipe.config import FixCorBlock
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.fill import Point
from tomopipe.cor.outliers import JUDGED_BY_FEW, NOT_SWEPT, Member
from tomopipe.cor.over_time import OverTime, model_of
from tomopipe.cor.series_fill import fix_best

N_COLS = 2048
NOISE_PX = 0.05


def views(cors_px, **more):
    """Return the views of a file, with the CORs that were predicted for them (None: none)."""
    return [
        Member(f"f@{n:04d}", n, N_COLS, predicted_px=cor_px, confidence=0.8, file="f.nx", **more)
        for n, cor_px in enumerate(cors_px)
    ]


def fixed(scans, over_time="line", **options):
    return fix_best(scans, (), FixCorBlock(over_time=over_time, **options))


def drift(rng, n, start_px=1000.0, slope_px=0.2):
    """Return true CORs that drift, and measured ones."""
    truth_px = start_px + slope_px * np.arange(n)
    return truth_px, (truth_px + rng.normal(0, NOISE_PX, n)).round(2).tolist()


def test_a_drift_is_no_outlier_and_its_gaps_are_filled_from_the_line():
    """Over 60 views the axis moves by 72 px; two CORs are wrong, and three are missing."""
    truth_px, cors_px = drift(np.random.default_rng(1), 60, slope_px=1.2)
    cors_px[20], cors_px[40] = truth_px[20] + 15, truth_px[40] - 12
    for gap in (0, 30, 59):
        cors_px[gap] = None
    rows = fixed(views(cors_px))
    assert [n for n, row in enumerate(rows) if row.source == "outlier"] == [20, 40]
    assert [n for n, row in enumerate(rows) if row.source == "time"] == [0, 30, 59]
    changed = [0, 20, 30, 40, 59]
    assert [rows[n].after_px for n in changed] == pytest.approx(truth_px[changed], abs=0.1)
    for n in changed:
        assert abs(rows[n].after_px - truth_px[n]) <= rows[n].fill_error_px < 0.3
    away_px, _, text = rows[20].reason.partition(" px from ")
    assert float(away_px) == pytest.approx(15, abs=0.1)
    assert text.endswith("of the line over time of f.nx, limit 10.00")
    assert rows[30].reason == "no COR, from the line over time of f.nx"
    assert not rows[30].fill_doubt
    others = [row for n, row in enumerate(rows) if n not in changed]
    assert all(row.after_px == row.before_px and not row.flagged for row in others)


def test_a_constant_is_robust_and_takes_a_drift_for_error():
    cors_px = (1000 + np.random.default_rng(2).normal(0, NOISE_PX, 20)).round(2).tolist()
    row = fixed(views([*cors_px[:12], 1030.0, None, *cors_px[14:]]), "constant")[13]
    assert row.after_px == pytest.approx(1000, abs=0.05)
    assert row.reason == "no COR, from the constant over time of f.nx"
    assert row.fill_error_px < 0.2
    _, drifting = drift(np.random.default_rng(3), 20)
    row = fixed(views([*drifting[:10], None, *drifting[11:]]), "constant")[10]
    assert 1.5 < row.fill_error_px < 3  # half of the drift of 4 px
    assert row.fill_doubt.startswith("filled with 1002")


def test_views_without_a_sweep_have_the_cor_of_the_line_and_say_so():
    truth_px, cors_px = drift(np.random.default_rng(10), 50)
    why = f"{NOT_SWEPT}10)"
    scans = [
        member if n % 10 == 0 else replace(member, predicted_px=None, no_cor_reason=why)
        for n, member in enumerate(views(cors_px))
    ]
    rows = fixed(scans)
    assert [row.after_px for row in rows] == pytest.approx(truth_px, abs=0.15)
    unswept = [row for row in rows if row.is_unswept]
    assert len(unswept) == 45
    assert {row.reason for row in unswept} == {f"{why}; from the line over time of f.nx"}
    assert all(row.fill_error_px < 0.6 and not row.fill_doubt for row in unswept)
    row = fixed([replace(member, predicted_px=None) for member in scans])[1]
    assert row.reason == f"no COR ({why}), and none in the series to fill it from"
    assert not row.is_unswept


@pytest.mark.parametrize("n", [1, 2, 3])
def test_what_few_cors_judge_is_doubtful(n):
    row = fixed(views([None, *[1000.0, 1000.1, 1000.2][:n]]))[0]
    assert row.source == "time"
    assert (JUDGED_BY_FEW in row.reason) == (n < 3)
    assert row.fill_doubt  # of three CORs a line is not known well beyond them
    row = fixed(views([1000.0, None, *[1000.1, 1000.2][: n - 1]]))[1]
    assert bool(row.fill_doubt) == (n < 3)


def test_a_doubtful_prediction_does_not_judge():
    trusted = views([1000.0, 1000.1, None])
    doubtful = views([1000.0] * 6, is_trusted=False)[3:]
    row = fixed([*trusted, *doubtful])[2]
    assert JUDGED_BY_FEW in row.reason
    assert row.fill_doubt


def test_nothing_by_hand_and_no_confident_outlier_moves():
    _, cors_px = drift(np.random.default_rng(4), 30, slope_px=0.0)
    scans = views(cors_px)
    scans[7] = Member("f@0007", 7, N_COLS, CorText("1040"), file="f.nx")
    scans[9] = Member("f@0009", 9, N_COLS, predicted_px=960.0, confidence=0.99, file="f.nx")
    rows = fixed(scans)
    assert (rows[7].after_px, rows[9].after_px) == (1040.0, 960.0)
    assert (rows[7].flagged, rows[9].flagged) == (True, True)
    assert rows[7].reason.endswith("manual, kept")
    assert "40 px from its series; kept (confidence 0.99)" in rows[9].reason
    assert fixed(scans, protect_manual=False)[7].after_px == pytest.approx(1000, abs=0.1)


def test_two_outliers_that_agree_are_a_step_of_the_stage():
    _, cors_px = drift(np.random.default_rng(5), 30, slope_px=0.0)
    rows = fixed(views([*cors_px[:28], 1030.0, 1030.2]))
    assert [row.after_px for row in rows[28:]] == [1030.0, 1030.2]
    assert "beside it agrees" in rows[28].reason


def test_a_limit_of_the_error_and_a_file_without_cors():
    _, cors_px = drift(np.random.default_rng(6), 12)
    row = fixed(views([*cors_px, None]), max_fill_error_px=0.01)[-1]
    assert (row.after_px, row.source) == (None, "")
    assert "above fix_cor.max_fill_error_px (0.01)" in row.reason
    assert [row.after_px for row in fixed(views([None, None]))] == [None, None]


def test_series_of_files_stay_as_they_are():
    _, cors_px = drift(np.random.default_rng(7), 12)
    scans = [
        Member(f"s_{n}", n, N_COLS, predicted_px=cor_px, confidence=0.8, position=n, length=12)
        for n, cor_px in enumerate([*cors_px[:5], None, *cors_px[6:11], 1040.0], start=1)
    ]
    assert fixed(scans) == fixed(scans, "none")


@pytest.mark.parametrize("kind", ["constant", "line"])
@pytest.mark.parametrize(("n", "every"), [(40, 10), (60, 4), (31, 1)])
def test_the_stated_error_covers_the_truth_in_nine_of_ten(kind, n, every):
    """Also of views beyond the last COR, and with one wrong COR of ten."""
    covered = total = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, n, every])
        truth_px, cors_px = drift(rng, n, slope_px=0.1 if kind == "line" else 0.0)
        points = [
            Point(f"f@{k:04d}", k, cor_px=cors_px[k] + 8 * (rng.random() < 0.1))
            for k in range(0, n - every, every)
        ]
        model = OverTime(points, kind)
        for k in {*range(n)} - {point.index for point in points}:
            fill = model.fill(Point("f@gap", k))
            covered += abs(fill.cor_px - truth_px[k]) <= fill.error_px
            total += 1
    assert covered / total >= 0.88


def test_a_line_is_less_certain_far_beyond_its_cors():
    """Five views have a COR: at the hundredth the slope of the line is not known well enough."""
    inside, far = [], []
    for seed in range(40):
        truth_px, cors_px = drift(np.random.default_rng([9, seed]), 101)
        model = OverTime([Point(f"f@{k}", k, cor_px=cors_px[k]) for k in range(5)], "line")
        fill = model.fill(Point("f@100", 100))
        far.append(abs(fill.cor_px - truth_px[100]) <= fill.error_px)
        inside.append(fill.error_px / model.fill(Point("f@gap", 2)).error_px)
    assert np.mean(far) >= 0.88
    assert min(inside) > 20


def test_the_model_is_that_of_the_true_course_with_its_scatter():
    truth_px, cors_px = drift(np.random.default_rng(12), 80)
    cors_px[30] += 20
    rows = fixed(views(cors_px))
    line = model_of(rows, "line").line()
    assert line.start_px + line.slope_px * np.arange(80) == pytest.approx(truth_px, abs=0.05)
    assert line.spread_px == pytest.approx(NOISE_PX, rel=0.3)
    constant = model_of(rows, "constant").line()
    assert (constant.start_px, constant.slope_px) == (np.median(cors_px), 0.0)
    assert model_of(rows[:3], "line").line().spread_px is None
    assert model_of([], "line").line() is None


def test_many_views_are_modelled_in_little_work():
    truth_px, cors_px = drift(np.random.default_rng(8), 20_000, slope_px=0.001)
    model = OverTime([Point(f"f@{k:05d}", k, cor_px=px) for k, px in enumerate(cors_px)], "line")
    fill = model.fill(Point("f@gap", 10_000))
    assert fill.cor_px == pytest.approx(truth_px[10_000], abs=0.05)
    assert (fill.n_judges, fill.n_mean) == (200, 20_000)
