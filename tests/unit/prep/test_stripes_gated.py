"""The gated stripe filter: known stripes go, everything else stays, also what is round."""

import numpy as np
import pytest
from tomopipe_lab.suite import rasters, solids
from tomopipe_lab.suite._kernels import ELLIPSE
from tomopipe_lab.suite.sample import Solid, View
from tomopipe_lab.suite.solids import Body

from tomopipe.config.stripe_filters import StripesBlock
from tomopipe.prep.stripes_gated import remove_proven
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan

N_ANGLES, N_COLS, COR_PX = 400, 256, 128.8
THETA_RAD = np.linspace(0, np.pi, N_ANGLES, endpoint=False)
PLAN = make_plan(THETA_RAD, N_COLS)


def round_tubes(body, rng):
    """Shells around the axis, off by a third of a pixel: the same at all angles, as stripes are."""
    del rng
    shells = [(1.0, 1.0), (0.93, -0.8), (0.6, 0.5), (0.3, 0.6)]
    radii_px = [(share * body.radius_px, mu) for share, mu in shells]
    table = np.array([[ELLIPSE, 0.3, 0.15, radius, radius, 0.0, mu] for radius, mu in radii_px])
    return Solid(lambda height_px: table)


OBJECTS = [solids.grains, rasters.foam, rasters.felt, solids.laminate, solids.plain, round_tubes]


def sinogram_of(family, seed=1):
    """Line integrals up to 1.8."""
    body = Body(3.0, -4.0, 0.4 * N_COLS, 1.0)
    column = np.ones((N_ANGLES, 1))
    view = View(THETA_RAD, COR_PX * column, column[:, 0], np.zeros(1), N_COLS)
    lines = family(body, np.random.default_rng(seed)).project(view)[:, 0]
    return (lines * (1.8 / lines.max())).astype(np.float32)


def with_noise(lines, photons, seed=2):
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-lines.astype(float)))
    return -np.log(counts.clip(1) / photons).astype(np.float32)


def slice_of(sinogram):
    return reconstruct(np.ascontiguousarray(sinogram[None]), PLAN, COR_PX, threads=1)[0]


def ring_energy(image):
    """Energy of the mean around the axis, at each radius."""
    y, x = np.indices(image.shape)
    radius = np.hypot(x - N_COLS // 2, y - (N_COLS // 2 - 1)).astype(int)
    count, total = np.bincount(radius.ravel()), np.bincount(radius.ravel(), image.ravel())
    return float(np.sum(total**2 / count))


@pytest.mark.slow
@pytest.mark.parametrize("photons", [None, 20000, 2000])
@pytest.mark.parametrize("family", OBJECTS, ids=lambda family: family.__name__)
def test_slices_without_rings_change_by_less_than_a_hundredth(family, photons):
    lines = sinogram_of(family)
    noisy = lines if photons is None else with_noise(lines, photons)
    change = slice_of(remove_proven(noisy) - noisy)
    assert change.std() < 0.01 * slice_of(lines).std()


@pytest.mark.parametrize(
    ("kind", "least"),
    [("thin", 0.97), ("wide", 0.9), ("partial", 0.9), ("drifting", 0.95), ("many", 0.85)],
)
def test_rings_go(kind, least):
    random = np.random.default_rng(4)
    rings = np.zeros((N_ANGLES, N_COLS), np.float32)
    columns = random.choice(np.arange(20, 236), 12, replace=False)
    offset = random.normal(0, 0.05, 12)
    if kind == "wide":
        for first, value in zip([30, 75, 140, 200], offset, strict=False):
            rings[:, first : first + 7] = value
    elif kind == "many":
        rings[:] = random.normal(0, 0.015, N_COLS)
    else:
        rings[:, columns] = offset
        rings[: N_ANGLES // 3] *= kind != "partial"
        rings *= np.linspace(0, 2, N_ANGLES)[:, None] if kind == "drifting" else 1
    noisy = with_noise(sinogram_of(solids.grains), 20000)
    left = ring_energy(slice_of(remove_proven(noisy + rings) - noisy))
    assert left < (1 - least) * ring_energy(slice_of(rings))


def test_known_offsets_come_off_within_their_standard_errors():
    """Noise alone: the error of a median step is 1.25 times that of a mean, of two columns."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.02, (N_ANGLES, N_COLS)).astype(np.float32)
    columns = np.arange(15, 245, 10)
    offset = random.choice([-1, 1], len(columns)) * random.uniform(0.02, 0.1, len(columns))
    rings = np.zeros(N_COLS, np.float32)
    rings[columns] = offset
    taken = (noise + rings) - remove_proven(noise + rings)
    error = 1.2533 * np.sqrt(2) * 0.02 / np.sqrt(N_ANGLES)
    deviation = (taken.mean(axis=0)[columns] - offset) / error
    assert np.sqrt(np.mean(deviation**2)) < 1.3
    assert np.abs(deviation).max() < 3.5
    assert np.count_nonzero(taken.any(axis=0)) == len(columns)


def noise(seed, sigma=0.02, shape=(N_ANGLES, N_COLS)):
    return np.random.default_rng(seed).normal(0, sigma, shape).astype(np.float32)


def test_what_is_below_the_threshold_stays():
    """Standard error of the step about 0.0018; the same stripe is proven to a lower threshold."""
    sinogram = noise(1)
    sinogram[:, 100] += 0.02
    assert np.array_equal(remove_proven(sinogram, StripesBlock(threshold=30)), sinogram)
    changed = (remove_proven(sinogram, StripesBlock(threshold=5)) != sinogram).any(axis=0)
    assert np.flatnonzero(changed).tolist() == [100]


@pytest.mark.parametrize(("rise", "goes"), [(2.5, False), (8.0, True)])
def test_a_ridge_needs_two_proven_sides(rise, goes):
    """An edge that all angles share is no ridge, even with a step beside that chance may make."""
    error = 1.065 * np.sqrt(2) * 0.02 / np.sqrt(N_ANGLES)  # of a step, a trimmed mean
    sinogram = noise(0)
    sinogram[:, 121:128] += rise * error
    sinogram[:, 128:] -= 15 * error
    changed = (remove_proven(sinogram) != sinogram).any(axis=0)
    assert np.flatnonzero(changed).tolist() == (list(range(121, 128)) if goes else [])


@pytest.mark.slow
def test_few_angles_prove_no_more_than_many():
    """Noise alone: of 200 sinograms with 20 angles each none has a step that counts."""
    for sinogram in noise(3, shape=(200, 20, 200)):
        assert np.array_equal(remove_proven(sinogram), sinogram)


def test_a_foil_along_the_beam_is_no_useless_column():
    sinogram = with_noise(sinogram_of(solids.plain), 200000)[::10]
    sinogram[17:19, 140:142] += 3.0
    assert np.array_equal(remove_proven(sinogram), sinogram)


def test_stripes_wider_than_half_the_median_stay():
    sinogram = noise(1, 0.01)
    sinogram[:, 100:108] += 0.1
    assert np.array_equal(remove_proven(sinogram, StripesBlock(size_px=9)), sinogram)
    left = remove_proven(sinogram, StripesBlock(size_px=21))[:, 100:108].mean()
    assert abs(left) < 0.005


def test_useless_columns_become_the_line_between_their_neighbours():
    """Dead ones, one beside another, and one that leaps."""
    undamaged = with_noise(sinogram_of(solids.grains), 20000)
    damaged = undamaged.copy()
    damaged[:, [60, 130, 131]] = 0.4
    damaged[:, 180] = np.random.default_rng(0).normal(1, 1, N_ANGLES)
    left = remove_proven(damaged)
    useless = [(60, 59, 61), (130, 129, 132), (131, 129, 132), (180, 179, 181)]
    for column, before, after in useless:
        part = (column - before) / (after - before)
        line = undamaged[:, before] * (1 - part) + undamaged[:, after] * part
        assert np.abs(left[:, column] - line).max() < 1e-5
    others = np.setdiff1d(np.arange(N_COLS), [column for column, _, _ in useless])
    assert np.array_equal(left[:, others], undamaged[:, others])


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (30, 3), (200, 5), (17, 300)])
def test_sinograms_of_any_size_pass(shape):
    sinogram = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = sinogram.copy()
    left = remove_proven(sinogram)
    assert left.shape == shape
    assert left.dtype == np.float32
    assert left is not sinogram
    assert np.array_equal(sinogram, before)


def thin_tubes(body, rng):
    """Tubes with walls of 1 px about the axis, as far off it as a stage leaves them."""
    shells = []
    for outer_px in (90.0, 60.0, 30.0):
        x, y = rng.normal(0, 0.2, 2)
        for radius_px, mu in ((outer_px, 1), (outer_px - 1, -1)):
            shells.append([ELLIPSE, x, y, radius_px, radius_px, 0, mu])
    table = np.array(shells)
    return Solid(lambda height_px: table)


@pytest.mark.parametrize("seed", range(5))
def test_walls_about_the_axis_stay_and_stripes_between_them_go(seed):
    """A tube has two walls, one on each side of the axis; a stripe has no such image."""
    lines = sinogram_of(thin_tubes, seed)
    noisy = with_noise(lines, 2000, seed)
    change = slice_of(remove_proven(noisy) - noisy)
    assert change.std() < 0.01 * slice_of(lines).std()
    stripes = np.zeros(N_COLS, np.float32)
    stripes[[20, 85, 143, 246]] = 0.1, -0.08, 0.12, 0.1
    left = slice_of(remove_proven(noisy + stripes) - noisy)
    assert ring_energy(left) < 0.05 * ring_energy(slice_of(np.tile(stripes, (N_ANGLES, 1))))


def test_two_stripes_alike_give_no_axis():
    """Each would be the image of the other about the column between them."""
    sinogram = noise(5)
    sinogram[:, [70, 180]] += 0.1
    taken = (sinogram - remove_proven(sinogram)).mean(axis=0)
    assert np.flatnonzero(taken).tolist() == [70, 180]
