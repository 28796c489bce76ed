"""Simulated cases: their shadows, their truth, their noise, and that they repeat."""

import numpy as np
import pytest
from tomopipe_lab.suite import CONDITIONS, FAMILIES, NULLS, SPLITS, make_case
from tomopipe_lab.suite._kernels import ELLIPSE, RECTANGLE
from tomopipe_lab.suite.case import is_answerable
from tomopipe_lab.suite.damage import Instrument, Part, fringes
from tomopipe_lab.suite.sample import Raster, Solid, View
from tomopipe_lab.suite.settings import Settings
from tomopipe_lab.suite.solids import Body

from tomopipe.cor.collected_rows import read_rows, write_rows
from tomopipe.simulate.phantom import Ellipsoid, Phantom, project

COR_PX, N_COLS = 52.37, 101
THETA_RAD = np.deg2rad([0.0, 10, 45, 77, 90, 133, 180])


def view(theta_rad=THETA_RAD, *, cor_px=COR_PX, swell=1.0, n_cols=N_COLS, height_px=0.0):
    n = len(theta_rad)
    return View(
        np.asarray(theta_rad), np.full((n, 1), cor_px), np.full(n, swell), np.array([height_px]),
        n_cols,
    )  # fmt: skip


def solid(kind):
    return Solid(lambda _: np.array([[kind, 5.0, -8.0, 20.0, 9.0, 0.4, 0.7]]))


def raster(kind, h_px=0.05):
    """The same shape, drawn."""
    axis = (np.arange(1024) + 0.5 - 512) * h_px
    x, y = np.meshgrid(axis, axis)
    along, across = x * np.cos(0.4) + y * np.sin(0.4), y * np.cos(0.4) - x * np.sin(0.4)
    if kind == ELLIPSE:
        inside = (along / 20) ** 2 + (across / 9) ** 2 < 1
    else:
        inside = (np.abs(along) < 20) & (np.abs(across) < 9)
    image = np.float32(0.7) * inside.astype(np.float32)
    return Raster(lambda _: image, h_px, 5.0, -8.0)


def test_an_ellipse_equals_the_other_projector():
    phantom = Phantom("one", (Ellipsoid(5, -8, 0, 20, 9, 1e6, 0.4, 0.7),))
    expected = project(phantom, THETA_RAD, COR_PX, 1, N_COLS)
    np.testing.assert_allclose(solid(ELLIPSE).project(view()), expected, atol=1e-4)


@pytest.mark.parametrize("swell", [1.0, 1.02])
@pytest.mark.parametrize("kind", [ELLIPSE, RECTANGLE])
def test_drawn_and_exact_shapes_cast_the_same_shadow(kind, swell):
    exact = solid(kind).project(view(swell=swell))
    drawn = raster(kind).project(view(swell=swell))
    # chords of some 30; the drawn border is rough by its voxels of 0.05 px
    np.testing.assert_allclose(drawn, exact, atol=0.1)
    area = 0.7 * swell**2 * 20 * 9 * (np.pi if kind == ELLIPSE else 4)
    np.testing.assert_allclose(exact.sum(axis=(1, 2)), area, rtol=1e-5)


@pytest.mark.parametrize("split", SPLITS)
def test_the_centre_of_mass_of_every_family_turns_about_the_axis(split):
    theta_rad = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for number, family in enumerate(FAMILIES[split]):
        rng = np.random.default_rng([7, number])
        cor_px = 80 + rng.uniform(-3, 3)
        sample = family(Body(6.0, -4.0, 50.0, 10.0), rng)
        line = sample.project(view(theta_rad, cor_px=cor_px, n_cols=161, height_px=2.5))[:, 0]
        line = line.astype(float)
        assert line.max() > 0, family.__name__
        mass = (line @ np.arange(161)) / line.sum(axis=1)
        # the mean over a pixel moves a centre of mass a little, by where it falls in the pixel
        assert mass.mean() == pytest.approx(cor_px, abs=2e-3), family.__name__
        first = 2 * np.mean((mass - cor_px) * np.exp(1j * theta_rad))
        expected = cor_px + (first * np.exp(-1j * theta_rad)).real
        np.testing.assert_allclose(mass, expected, atol=5e-3, err_msg=family.__name__)


def test_equal_arguments_give_equal_cases_and_others_do_not():
    first, again, other = make_case("test", 5), make_case("test", 5), make_case("test", 6)
    assert first.name == again.name != other.name
    assert first.cor_px == again.cor_px != other.cor_px
    np.testing.assert_array_equal(first.rows.sinograms, again.rows.sinograms)
    np.testing.assert_array_equal(first.rows.pairs, again.rows.pairs)
    cors = {split: make_case(split, 5, n_cols=192).cor_px for split in SPLITS}
    assert len(set(cors.values())) == 3


def test_no_family_is_in_two_splits():
    names = [family.__name__ for split in SPLITS for family in FAMILIES[split]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_condition_is_a_scan_with_an_answer(condition, tmp_path):
    case = make_case("train", 1, condition=condition, n_cols=128)
    write_rows(case.rows, tmp_path / "rows.h5")  # refuses shapes that do not fit
    rows = read_rows(tmp_path / "rows.h5")
    assert np.isfinite(rows.sinograms).all()
    assert np.isfinite(rows.pairs).all()
    assert 1 <= len(rows.sinograms) <= 5
    assert 0 <= case.cor_px <= 127
    grid_px = case.candidates_px
    assert (grid_px[0] < case.cor_px < grid_px[-1]) == (condition != "grid misses")
    if len(rows.pairs):
        turn_rad = np.abs(np.diff(rows.pair_theta_rad, axis=1))
        assert np.abs(turn_rad - np.pi).max() < 0.2
        # the middle row of a pair is that of the sinogram, exposure for exposure
        frame = int(np.argmin(np.abs(rows.theta_rad - rows.pair_theta_rad[0, 0])))
        np.testing.assert_array_equal(rows.pairs[0, 0, rows.row_index[0]], rows.sinograms[0, frame])


@pytest.mark.parametrize("kind", NULLS)
def test_nothing_turns_where_there_is_no_answer(kind):
    case = make_case("test", 0, condition=kind, n_cols=128)
    assert (case.cor_px, case.family, case.conditions) == (None, "", (kind,))
    assert np.isfinite(case.rows.sinograms).all()
    assert np.isfinite(case.rows.pairs).all()


@pytest.mark.parametrize("counts", [60.0, 4000.0])  # photons are drawn, or normal deviates
def test_the_noise_of_line_integrals_is_that_of_the_photons(counts):
    settings = Settings(n_cols=200, counts=counts, jitter_px=0)
    part = Part(np.arange(300), np.arange(1))
    instrument = Instrument(settings, 300, np.random.default_rng(0))
    instrument.open[:] = 1.0
    integral = 0.5
    raw = instrument.counts(np.full((300, 1, 200), integral, np.float32), part)
    lines = instrument.corrected(raw, part, *instrument.flat_and_dark())
    # Poisson: the variance of a line integral is 1 / (photons that arrive)
    assert lines.std(axis=0).mean() == pytest.approx((counts * np.exp(-integral)) ** -0.5, rel=0.03)
    assert lines.mean() == pytest.approx(integral, abs=0.02)


def test_fringes_move_nothing():
    u = np.arange(200) - 99.3
    line = np.exp(-(u**2) / 4).astype(np.float32)[None, None]
    fringed = fringes(line, 3.0)[0, 0].astype(float)
    assert np.ptp(fringed - line[0, 0]) > 0.05
    assert fringed.sum() == pytest.approx(line.sum(), rel=1e-3)
    assert (fringed * u).sum() / fringed.sum() == pytest.approx(0, abs=0.01)


def test_signal_under_the_noise_is_refused():
    theta_rad = np.linspace(0, np.pi, 60)
    lines = solid(ELLIPSE).project(view(theta_rad)) / 20
    assert is_answerable(lines, 1000, theta_rad)
    assert not is_answerable(lines, 0.1, theta_rad)
    still = np.repeat(lines[:1], 60, axis=0)  # sharp, and does not rotate
    assert not is_answerable(still, 1e6, theta_rad)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="split"):
        make_case("tests", 0)
    with pytest.raises(ValueError, match="condition"):
        make_case("test", 0, condition="rain")
