"""Flats that show the sample among others that do not, and sound ones of a beam that changes."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import rows_of, scan

from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.sample_in_flats import sample_in_flats, warn_of_sample_in_some_flats
from tomopipe.scans.block_means import block_means, column_means

N_ROWS, N_COLS, COUNTS, N_FLATS = 8, 160, 3000, 12
THETA_DEG = np.linspace(0, 180, 91)
COLUMN, TIME = np.linspace(-1, 1, N_COLS), np.linspace(0, 1, N_FLATS)[:, None, None]
ROCK = scan(80.3, n_cols=N_COLS, n_rows=N_ROWS, theta_deg=THETA_DEG)
ROCK *= 1.5 / ROCK.max()
IN_SETS = np.repeat([0.0, 45.0, 91.0], 4)
RNG = np.random.default_rng(3)
TEXTURE = 1 + 0.1 * RNG.normal(size=(N_ROWS, N_COLS + 10)).cumsum(axis=1) / 8


def rows_with(flats, positions=IN_SETS, lines=ROCK):
    """Rows of projections by a steady beam, with flats (n_flats, n_rows, n_cols) of other ones."""
    steady = np.clip(TEXTURE[:, 5:-5], 0.3, None)
    flats = RNG.poisson(COUNTS * steady * flats) / COUNTS
    light = RNG.poisson(COUNTS * steady * np.exp(-lines)) / COUNTS / flats.mean(axis=0)
    return replace(
        rows_of(-np.log(np.maximum(light, 1e-3)), THETA_DEG, n_kept=N_ROWS),
        flat_parts=np.array([block_means(flat) for flat in flats], np.float32),
        flat_positions=np.broadcast_to(positions, len(flats)).astype(float),
        image_parts=column_means(light[::4]).astype(np.float32),
    )


def flats_of(numbers, frames, lines=ROCK):
    """Flats of which some show projections."""
    flats = np.ones((N_FLATS, N_ROWS, N_COLS))
    flats[numbers] = np.exp(-lines[frames])
    return flats


@pytest.mark.parametrize("positions", [IN_SETS, 0, np.nan], ids=["dated", "before", "undated"])
@pytest.mark.parametrize("frames", [[0, 0, 0, 0], [40, 41, 42, 43]], ids=["still", "turning"])
@pytest.mark.parametrize("first", [0, 4, 8])
def test_a_set_of_flats_that_shows_the_sample_is_named(positions, frames, first):
    numbers = np.arange(first, first + 4)
    decay = 1 - 0.2 * TIME
    rows = rows_with(decay * flats_of(numbers, frames), positions)
    assert np.flatnonzero(sample_in_flats(rows)).tolist() == numbers.tolist()
    (text,) = warn_of_sample_in_some_flats(rows)
    assert text.startswith(f"4 of 12 flats show the sample (number {first + 1} to {first + 4}), so")
    assert "(input.frames, `4 invalid`;" in text


def test_two_sets_before_and_after_are_named_by_the_one_between():
    flats = flats_of([0, 1, 2, 3, 8, 9, 10, 11], [0, 1, 2, 3, 87, 88, 89, 90])
    (text,) = warn_of_sample_in_some_flats(rows_with(flats))
    assert text.startswith("8 of 12 flats show the sample (number 1 to 4, 9 to 12)")


def _dust(depth):
    flats = np.ones((N_FLATS, N_ROWS, N_COLS))
    for column in RNG.integers(10, 150, 6):
        flats[8:, :, column - 4 : column + 4] *= 1 - depth
    return flats


SOUND = {
    "equal": np.ones((N_FLATS, N_ROWS, N_COLS)),
    "decay": np.ones((N_FLATS, N_ROWS, N_COLS)) * (1 - 0.3 * TIME),
    "slope": 1 + 0.2 * TIME * COLUMN * np.ones((N_ROWS, 1)),
    "wider": 1 - 0.1 * TIME * COLUMN**2 * np.ones((N_ROWS, 1)),
    "stripes": 1 + 0.1 * np.sin(np.arange(N_ROWS)[:, None] + 5 * TIME) * np.ones(N_COLS),
    "dust": _dust(0.3),
    "moved": np.stack(
        [TEXTURE[:, s : s + N_COLS] / TEXTURE[:, 5:-5] for s in np.repeat([5, 8, 2], 4)]
    ),
}


@pytest.mark.parametrize("positions", [IN_SETS, np.nan], ids=["dated", "undated"])
@pytest.mark.parametrize("lines", [ROCK, ROCK[..., 40:120].repeat(2, axis=2)], ids=["in", "wide"])
@pytest.mark.parametrize("flats", SOUND.values(), ids=SOUND)
def test_flats_of_a_beam_that_changes_are_sound(flats, lines, positions):
    assert warn_of_sample_in_some_flats(rows_with(flats, positions, lines)) == []


def test_where_there_is_nothing_to_compare_there_is_no_warning():
    one = rows_with(np.ones((1, N_ROWS, N_COLS)), [0])
    everywhere = rows_with(flats_of(np.arange(12), np.zeros(12, int)))
    of_old_version = replace(one, flat_parts=None)
    dark = replace(one, flat_parts=0 * one.flat_parts)
    few: Rows = replace(
        one, flat_parts=one.flat_parts[..., :3], image_parts=one.image_parts[..., :3]
    )
    for rows in (one, everywhere, of_old_version, dark, few):
        assert warn_of_sample_in_some_flats(rows) == []
