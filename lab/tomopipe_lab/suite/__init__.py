"""Simulated scans of known COR for training and testing the finders: every kind of damage.

`make_case` gives one scan as the finders get it. The splits train, validation and test draw their
objects from different families and their random numbers from different streams.
"""

from tomopipe_lab.suite.case import (
    CONDITIONS,
    FAMILIES,
    NULLS,
    OUTSIDE_GRID,
    SPLITS,
    Case,
    case_name,
    make_case,
)

__all__ = [
    "CONDITIONS",
    "FAMILIES",
    "NULLS",
    "OUTSIDE_GRID",
    "SPLITS",
    "Case",
    "case_name",
    "make_case",
]
