"""Values of a sweep: spans are written out, and long lists are written as spans."""

import pytest

from tomopipe.config.spans import as_span, with_spans
from tomopipe.errors import TomopipeError


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("none gated", "none gated"),
        ("10..150 20", "10 30 50 70 90 110 130 150"),
        ("1..9 3 none", "1 4 7 none"),  # 10 is beyond the end
        ("0.1..0.5 0.1", "0.1 0.2 0.3 0.4 0.5"),  # no rounding errors
        ("5..-5 -5", "5 0 -5"),
        ("raw..old 3", "raw..old 3"),
    ],
)
def test_spans_are_written_out(words, values):
    assert with_spans(words.split()) == values.split()


@pytest.mark.parametrize("words", ["1..9", "1..9 none", "1..9 0", "9..1 2", "0..1 0.0001"])
def test_a_span_without_a_step_that_leads_to_its_end_is_refused(words):
    with pytest.raises(TomopipeError, match=r"\d\.\.\d.*: expected "):
        with_spans(words.split())


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (range(10, 160, 20), "10..150 20"),
        ([0.1 * n for n in range(1, 8)], "0.1..0.7 0.1"),
        ([1, 2, 4, 8, 16], "1 2 4 8 16"),
        ([75, 80, 85], "75 80 85"),
        (["none", "sorting", "vo", "gated", "all"], "none sorting vo gated all"),
        ([3, 3, 3, 3, 3], "3 3 3 3 3"),
    ],
)
def test_long_lists_at_equal_steps_are_spans(values, text):
    values = list(values)
    assert as_span(values) == text
    assert len(with_spans(text.split())) == len(values)
