"""CORs as text and number."""

import math

import pytest

from tomopipe.cor.cor_value import (
    CorText,
    format_confidence,
    format_cor,
    is_valid,
    off_detector,
    typed_cor,
)

NUMBERS = {"1024.50": 1024.5, " 1024 \n": 1024.0, "\ufeff1024.5": 1024.5, "1.0245e3": 1024.5}
JUNK = ["", "  ", "1024,5", "1,024.5", "nan", "inf", "-Infinity", "1e999", "1_024", "0x400"]
JUNK += ["１０２４", "1024.5 px", "1024.5\n1025.5", "middle"]


def test_a_cor_is_read_of_numbers_and_refuses_junk():
    for text, cor_px in {**NUMBERS, "-3.5": -3.5, ".5": 0.5}.items():
        assert CorText(text).px == cor_px
    assert [text for text in JUNK if CorText(text).px is not None] == []


def test_a_person_may_type_a_comma_before_one_or_two_decimals():
    texts = {"64,2": 64.2, " 1024,25 ": 1024.25, "64.2": 64.2, "-3,5": -3.5}
    assert {text: typed_cor(text).px for text in texts} == texts
    assert [text for text in ("1,024", "1,024.5", ",5", "64,", "6,4,2") if typed_cor(text).px] == []


def test_format_cor_has_two_decimals_and_nothing_for_none():
    cases = [1024.5, 1024.504, -0.0, None, math.nan]
    assert [format_cor(value) for value in cases] == ["1024.50", "1024.50", "0.00", "", ""]


@pytest.mark.parametrize(
    ("confidence", "limit", "shown"),
    [
        (0.9, 0.5, "0.90"),
        (0.5, 0.5, "0.50"),
        (0.499, 0.5, "0.499"),
        (0.9996, 1.0, "0.9996"),
        (0.996, 0.5, "0.996"),
        (1.0, 0.5, "1.00"),
        (0.994, 0.9935, "0.994"),
        (1 - 1e-12, 1.0, "0.999999999999"),
    ],
)
def test_a_confidence_is_not_rounded_over_its_limit(confidence, limit, shown):
    assert format_confidence(confidence, limit) == shown


def test_is_valid_covers_first_to_last_pixel_centre():
    values_px = [0.0, 99.0, -0.01, 99.01, math.nan, math.inf, None]
    assert [value_px for value_px in values_px if is_valid(value_px, 100)] == [0.0, 99.0]


@pytest.mark.parametrize(
    ("cor_px", "text"),
    [(99.004, "99.004"), (-0.001, "-0.001"), (99.006, "99.01"), (250.0, "250.00")],
)
def test_a_cor_off_the_detector_is_not_rounded_onto_it(cor_px, text):
    assert off_detector(cor_px, 100) == f"{text} is off the detector (0 to 99)"
