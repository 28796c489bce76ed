"""About the right axis a simple slice explains a short turn of a truncated sample."""

import numpy as np
import pytest
from find_rows import grid, rows_of, scan

from tests.phantoms import make_phantom
from tomopipe.find.ai.closer import look_closer
from tomopipe.find.ai.finder import find_ai
from tomopipe.find.seen import see
from tomopipe.find.variation import COARSE, least_variation, simplest_place
from tomopipe.train.stages import reconstruct

SHORT_DEG = np.linspace(0, 140, 141)


def cut(cor_px, *, n_cols=128, counts=5000, theta_deg=SHORT_DEG, seed=0):
    """Rows of a rock of which the detector sees less than is there."""
    n_wide = 2 * n_cols
    whole = scan(
        cor_px + n_cols / 2, n_cols=n_wide, theta_deg=theta_deg, counts=counts, seed=seed,
        phantom=make_phantom("rock", n_wide, 8, seed),
    )  # fmt: skip
    return rows_of(whole[..., n_cols // 2 : -(n_cols // 2)], theta_deg, pairs=False)


@pytest.mark.parametrize("cor_px", [49.3, 63.5, 80.8])
def test_the_simplest_slice_is_about_the_axis(cor_px):
    seen = see(cut(cor_px))
    assert simplest_place(seen.sinograms[0], seen.turn) == pytest.approx(cor_px, abs=1.5)


def test_the_cost_rises_to_both_sides_and_prefers_no_part_of_a_column():
    seen = see(cut(63.5, counts=None))
    cor_px = 63.5 + np.arange(-12, 13, 3) * 1.1
    cost = least_variation(seen.sinograms[0], seen.turn, cor_px, COARSE)
    assert np.argmin(cost) == 4
    assert (np.diff(cost)[:3] < 0).all()
    assert (np.diff(cost)[5:] > 0).all()


def test_it_is_looked_for_only_where_nothing_else_can_tell():
    def looked(rows):
        return look_closer(rows, 63.5, reconstruct).simplest_px is not None

    assert looked(cut(63.5))
    assert not looked(cut(63.5, theta_deg=np.linspace(0, 180, 181)))
    whole = scan(63.5, n_cols=128, theta_deg=SHORT_DEG)
    assert not looked(rows_of(whole, SHORT_DEG, pairs=False))


def test_the_answer_is_that_of_the_simplest_slice():
    rows = cut(52.2)
    evidence = find_ai(rows, grid(128, 10), reconstruct)
    assert evidence.best_cor_px == look_closer(rows, 64.0, reconstruct).simplest_px
    assert evidence.best_cor_px == pytest.approx(52.2, abs=1.5)
