"""Options of volumes together: each does what it does alone, in any set of them."""

import os
from itertools import combinations

import numpy as np
import pytest

from tests.blobs import CLASHES, OPTIONS, error_of, scene_of

pytestmark = pytest.mark.slow

EACH = [(kind, name) for kind, names in OPTIONS.items() for name in names]
# rms errors, of the largest value, that interpolation, medians and iterations make of blobs
ALONE = {"roll": 4e-3, "stripes": 2e-2, "sirt": 4e-3, "distortion": 1e-3, "average": 3e-4}
ALONE["3"] = 4e-3  # binned pixels are as wide as blobs
USUAL, N_SETS, SEED = 2e-4, 24, int(os.environ.get("TOMOPIPE_TEST_SEED", "3"))


def fits(*options):
    """Whether a scan can have these together."""
    named = [f"{kind} {name}" for kind, name in options]
    is_one_of_each = len({kind for kind, _ in options}) == len(options)
    return is_one_of_each and not any(
        a in one and b in other for a, b in CLASHES for one in named for other in named
    )


def sets():
    """Sets of three to six options; with TOMOPIPE_TEST_PAIRS all pairs."""
    if "TOMOPIPE_TEST_PAIRS" in os.environ:
        return [pair for pair in combinations(EACH, 2) if fits(*pair)]
    rng, results = np.random.default_rng(SEED), []
    for size in rng.integers(3, 7, N_SETS):
        options = []
        for number in rng.permutation(len(EACH)):
            if len(options) < size and fits(*options, EACH[number]):
                options.append(EACH[number])
        results.append(options)
    return results


def least(*options):
    return np.sqrt(sum(ALONE.get(name, USUAL) ** 2 for _, name in options))


@pytest.mark.parametrize("option", EACH, ids=" ".join)
def test_an_option_alone_gives_the_sample(tmp_path, option):
    assert error_of(scene_of(option), tmp_path) < least(option)


@pytest.mark.parametrize("options", sets(), ids=str)
def test_options_together_give_the_sample(tmp_path, options):
    assert error_of(scene_of(*options), tmp_path) < 2 * least(*options) + 1e-3
