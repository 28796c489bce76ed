"""The COR rules on any members: what order may not change, and what a second run finds."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.cor.test_outliers import N_COLS, after, fix, same
from tomopipe.cor.cor_value import CorText, format_cor, is_valid
from tomopipe.cor.outliers import Member

pytestmark = pytest.mark.slow

hundredths = st.integers(95000, 106000).map(lambda value: value / 100)
cells = st.one_of(
    hundredths.map(lambda value: (CorText(), value)),
    hundredths.map(lambda value: (CorText(f"{value:.2f}"), None)),
    st.sampled_from([("", None), ("1024,5", 1000.0), ("9999", None), ("", math.inf)]).map(
        lambda cell: (CorText(cell[0]), cell[1])
    ),
)


@st.composite
def campaigns(draw):
    return [
        Member(f"s{i}", draw(st.integers(0, 4)), N_COLS, *draw(cells), selected=draw(st.booleans()))
        for i in range(draw(st.integers(0, 9)))
    ]


limits = st.sampled_from([3.0, 10.0, 50.0, 1000.0])


@settings(deadline=None, max_examples=150)
@given(campaigns(), limits, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_the_members_does_not_matter(members, max_delta_px, protect, random):
    rows = fix(members, max_delta_px=max_delta_px, protect_manual=protect)
    shuffled = random.sample(members, len(members))
    assert same(rows, fix(shuffled, max_delta_px=max_delta_px, protect_manual=protect))


@settings(deadline=None, max_examples=150)
@given(campaigns(), limits, st.booleans())
def test_fixing_again_from_its_own_rows_changes_nothing(members, max_delta_px, protect):
    """The rows keep what was there before, which is all that a second run starts from."""
    rows = fix(members, max_delta_px=max_delta_px, protect_manual=protect)
    assert [row.scan for row in rows] == [
        m.scan for m in sorted(members, key=lambda m: (m.index, m.scan)) if m.selected
    ]
    manual = {m.scan for m in members if m.manual.px_on(m.n_cols) is not None}
    again = [
        Member(row.scan, row.index, N_COLS, predicted_px=row.before_px)
        if row.scan not in manual
        else Member(row.scan, row.index, N_COLS, manual=CorText(f"{row.before_px:.2f}"))
        for row in rows
    ]
    again += [m for m in members if not m.selected]
    second = fix(again, max_delta_px=max_delta_px, protect_manual=protect)
    assert repr(after(second)) == repr(after(rows))
    assert [row.source for row in second] == [row.source for row in rows]


@settings(deadline=None, max_examples=150)
@given(campaigns(), limits)
def test_adopting_fixed_values_by_hand_changes_nothing_more(members, max_delta_px):
    """`cor export`, then `cor import`: every value is manual, hence kept."""
    rows = fix(members, max_delta_px=max_delta_px)
    texts = [CorText(format_cor(row.after_px)) for row in rows]
    adopted = [
        Member(row.scan, row.index, N_COLS, manual=text)
        for row, text in zip(rows, texts, strict=True)
    ]
    adopted += [m for m in members if not m.selected]
    second = fix(adopted, max_delta_px=max_delta_px)
    assert [format_cor(r.after_px) for r in second] == [format_cor(r.after_px) for r in rows]


@settings(deadline=None, max_examples=150)
@given(campaigns(), limits, st.booleans())
def test_every_change_is_on_the_detector_and_has_a_trace(members, max_delta_px, protect):
    rows = fix(members, max_delta_px=max_delta_px, protect_manual=protect)
    for row in rows:
        if row.after_px is None:
            assert (row.source, bool(row.reason)) == ("", True)
            continue
        assert is_valid(row.after_px, N_COLS)
        changed = row.after_px != row.before_px
        if changed:
            assert row.source in ("outlier", "neighbours", "series-mean")
            assert row.reason
        if protect and row.source == "manual":
            assert not changed
