"""Changes of the sample between turns of one scan."""

import numpy as np
import pytest
from find_rows import rows_of

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.turn_changes import warn_of_turns

N_COLS, COR_PX, COUNTS = 160, 81.3, 4000
# x, y, radius, line integral through the middle
SAMPLE = [
    (0, 0, 55, 0.8), (20, 15, 12, 0.4), (-25, 10, 8, 0.5), (5, -30, 10, -0.2), (-8, -5, 4, 0.3),
]  # fmt: skip
ONCE = np.arange(180.0)
SAME = [SAMPLE] * 3
MOVED = [SAMPLE, SAMPLE, [*SAMPLE[:2], (-21, 12, 8, 0.5), *SAMPLE[3:]]]
GREW = [SAMPLE, [*SAMPLE[:3], (5, -30, 12, -0.24), SAMPLE[4]], SAMPLE]
DENSER = [SAMPLE, SAMPLE, [*SAMPLE, (12, 15, 18, 0.05 * 0.8 * 36 / 110)]]
SHIFTED = [SAMPLE, SAMPLE, [(x + 2, y, *more) for x, y, *more in SAMPLE]]


def prepared(turns, theta_deg, *, drift=0.03, wobble_px=0.05, seed=0):
    """Rows of turns at angles; the beam changes and the axis trembles."""
    rng, n_turns = np.random.default_rng(seed), len(turns)
    theta_deg = np.asarray(theta_deg)
    at = np.arange(len(theta_deg))
    cor_px = COR_PX + wobble_px * rng.standard_normal(len(at))
    theta, column = np.deg2rad(theta_deg)[:, None], np.arange(N_COLS) - cor_px[:, None]
    lines = np.zeros((len(at), N_COLS))
    for turn, rods in enumerate(turns):
        inside = at * n_turns // len(at) == turn
        for x, y, radius, value in rods:
            away = column - (x * np.cos(theta) - y * np.sin(theta))
            shadow = value * np.sqrt(np.clip(1 - (away / radius) ** 2, 0, None))
            lines[inside] += shadow[inside]
    tilt = np.linspace(-0.5, 0.5, N_COLS)
    beam = COUNTS * (1 + drift * np.linspace(0, 1, len(at))[:, None] * (1 + tilt))
    light = rng.poisson(np.exp(-lines)[:, None] * beam[:, None], (len(at), 3, N_COLS))
    return Prepared(rows_of(-np.log(np.maximum(light, 0.5) / COUNTS), theta_deg, pairs=False))


ORDERS = {
    "again": np.tile(ONCE, 3),
    "back and forth": np.r_[ONCE, ONCE[::-1], ONCE],
    "on and on": np.arange(0, 1080, 1.5),
    "between": np.linspace(0, 1080, 720),  # angles of later turns between those of the first one
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_turns_of_a_still_sample_do_not_differ(order, seed):
    assert warn_of_turns(prepared(SAME, ORDERS[order], seed=seed), COR_PX) == ""


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("turns", "turn"),
    [(MOVED, 3), (GREW, 2), (DENSER, 3), (SHIFTED, 3)],
    ids=["a particle moves by 4 px", "a pore grows by 2 px", "5 % denser", "2 px aside"],
)
def test_a_change_between_turns_names_the_turn(order, turns, turn):
    text = warn_of_turns(prepared(turns, ORDERS[order]), COR_PX)
    assert f"turn {turn} differs from the first one by more than noise" in text
    first = len(ORDERS[order]) // 3
    assert f"{{skip_projections: [[{first}, {3 * first - 1}]]}} uses the first turn only" in text


@pytest.mark.parametrize(("turns", "is_told"), [(SAME, False), (MOVED, True), (SHIFTED, True)])
def test_of_540_degrees_the_last_180_are_compared_with_the_first(turns, is_told):
    changed = prepared(turns, np.arange(540.0))
    for cor_px, first in ((COR_PX, 180), (N_COLS - 20, 360)):  # with half acquisition a whole turn
        text = warn_of_turns(changed, cor_px)
        assert ("3 turns of 180 degrees in one file: turn 3 differs" in text) == is_told
        assert (f"{{skip_projections: [[{first}, 539]]}} uses the first" in text) == is_told


def test_a_scan_of_one_turn_has_nothing_to_compare():
    assert warn_of_turns(prepared([SAMPLE, MOVED[2]], np.linspace(0, 360, 361)), COR_PX) == ""
