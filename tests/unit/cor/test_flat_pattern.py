"""Flats of other pixels leave their pattern in the projections; right ones do not."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import rows_of, scan

from tomopipe.cor.flat_pattern import remaining_pattern, warn_of_other_flats

N_ROWS, N_COLS, COUNTS, N_FLATS = 5, 200, 20000, 10
THETA_DEG = np.linspace(0, 180, 121)
ROCK = scan(100.3, n_cols=N_COLS, n_rows=N_ROWS, theta_deg=THETA_DEG)
ROCK *= 1.5 / ROCK.max()
PIXELS = 1 + 0.03 * np.random.default_rng(5).normal(size=(N_ROWS + 2, N_COLS + 20))
HERE = np.s_[1:-1, 10:-10]


def rows_with(flat_pattern, n_flats=N_FLATS, pattern=PIXELS[HERE], counts=COUNTS):
    """Rows of projections whose pixels have a pattern, corrected by flats of another one."""
    rng = np.random.default_rng(7)
    flats = rng.poisson(np.broadcast_to(counts * flat_pattern, (n_flats, N_ROWS, N_COLS)))
    flat = flats.mean(axis=0).astype(np.float32)
    light = rng.poisson(counts * pattern * np.exp(-ROCK)) / flat
    rows = rows_of(-np.log(np.maximum(light, 1e-5)), THETA_DEG, n_kept=N_ROWS)
    assert rows.sinograms.shape[0] == N_ROWS
    return replace(rows, flat_lines=flat[rows.row_index], flat_levels=np.ones(n_flats))


OTHERS = {
    "by a column": PIXELS[1:-1, 11:-9],
    "by 8 columns": PIXELS[1:-1, 2:-18],
    "by a row": PIXELS[2:, 10:-10],
    "columns mirrored": PIXELS[HERE][:, ::-1],
    "rows mirrored": np.roll(PIXELS[HERE][::-1], 1, axis=0),
}


@pytest.mark.parametrize("flat_pattern", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("n_flats", [1, N_FLATS])
def test_flats_of_other_pixels_are_named(flat_pattern, n_flats):
    rows = rows_with(flat_pattern, n_flats)
    assert 0.6 < remaining_pattern(rows) < 1.2
    (text,) = warn_of_other_flats(rows)
    assert text.startswith("the flats do not fit the projections: ")


@pytest.mark.parametrize("n_flats", [1, N_FLATS])
@pytest.mark.parametrize("counts", [300, COUNTS])
def test_the_noise_of_right_flats_is_no_pattern(n_flats, counts):
    for pattern in (PIXELS[HERE], np.ones((N_ROWS, N_COLS))):
        rows = rows_with(pattern, n_flats, pattern, counts)
        assert abs(remaining_pattern(rows)) < 0.25
        assert warn_of_other_flats(rows) == []


def test_a_beam_that_changes_its_shape_leaves_no_pattern():
    slope = 1 + 0.3 * np.linspace(-1, 1, N_COLS) + 0.1 * np.sin(np.arange(N_COLS) / 9)
    assert warn_of_other_flats(rows_with(PIXELS[HERE] * slope)) == []


def test_without_flats_or_the_logarithm_nothing_is_known():
    rows = rows_with(OTHERS["by a column"])
    for other in (replace(rows, flat_lines=None), replace(rows, minus_log=False)):
        assert remaining_pattern(other) == 0
    dark = replace(rows, flat_lines=np.zeros_like(rows.flat_lines))
    assert remaining_pattern(dark) == 0
