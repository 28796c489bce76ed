"""The laws of `tests.laws`, asked of each engine and each correction."""

import numpy as np
import pytest

from tests import laws, pretend_cupy
from tests.corrections import EVERYTHING, KNOWN
from tomopipe import api
from tomopipe.recon import cuda, fbp, portable
from tomopipe.recon.iterative import make_projector
from tomopipe.recon.plan import make_plan

pytestmark = pytest.mark.slow
N_COLS, COR_PX = 40, 18.3
HALF = np.linspace(0, np.pi, 30)
FULL = np.linspace(0, 2 * np.pi, 45, endpoint=False)
ENGINES = ["compiled", "portable", "cuda", "cuda without own kernels"]


def lines(n_rows=3, n_angles=30, seed=0):
    """Rows of noise, 0 at both edges."""
    values = np.random.default_rng(seed).normal(size=(n_rows, n_angles, N_COLS))
    values[..., [0, 1, -2, -1]] = 0
    return values.astype(np.float32)


def of_blobs(theta_rad):
    """The row of a sample within the field: over 360 degrees opposing projections must agree."""
    column = np.arange(N_COLS)
    row = np.zeros((1, len(theta_rad), N_COLS), np.float32)
    for x, y, width in ((5, 0, 2), (-3, 4, 1.5), (0, -6, 2.5)):
        at = COR_PX + x * np.cos(theta_rad) - y * np.sin(theta_rad)
        row += np.exp(-(((column - at[:, None]) / width) ** 2) / 2)
    row[..., [0, 1, -2, -1]] = 0
    return row


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch):
    """Reconstruct (sinograms, cor_px) of some angles by an engine."""

    def made(theta_rad):
        if request.param.startswith("cuda"):
            pretend_cupy.install(monkeypatch)
            xp = pretend_cupy.XP
            monkeypatch.setattr(cuda, "is_plain", request.param != "cuda")
            plan = make_plan(theta_rad, N_COLS, xp=xp)
            return lambda rows, cor_px=COR_PX: fbp.reconstruct(xp.asarray(rows), plan, cor_px).get()
        plan = make_plan(theta_rad, N_COLS)
        if request.param == "compiled":
            return lambda rows, cor_px=COR_PX: fbp.reconstruct(rows, plan, cor_px)

        def plainly(rows, cor_px=COR_PX):
            images = np.empty((len(rows), N_COLS, N_COLS), np.float32)
            portable.reconstruct_batch(rows, plan, np.full(len(rows), cor_px), images)
            return images

        return plainly

    return made


@pytest.mark.parametrize("theta_rad", [HALF, FULL], ids=["180 degrees", "360 degrees"])
def test_of_each_engine(engine, theta_rad):
    reconstruct, rows = engine(theta_rad), lines(n_angles=len(theta_rad))
    laws.is_linear(reconstruct, rows, lines(n_angles=len(theta_rad), seed=1), 1e-5)
    laws.takes_rows_apart(reconstruct, rows, 1e-5)
    laws.moves_with_its_axis(reconstruct, of_blobs(theta_rad), COR_PX, 1e-4)


@pytest.mark.parametrize("theta_rad", [HALF, FULL], ids=["180 degrees", "360 degrees"])
def test_of_projection(theta_rad):
    projector = make_projector(theta_rad, N_COLS, COR_PX)
    image = np.random.default_rng(2).normal(size=(1, N_COLS, N_COLS)).astype(np.float32)
    rows = lines(1, len(theta_rad))
    laws.is_adjoint(projector.project, projector.back_project, image, rows, 1e-6)
    laws.is_linear(projector.project, image, image[:, ::-1], 1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, *({key: value} for key, value in EVERYTHING.items() if key != "flat_method")],
    ids=lambda options: "+".join(options) or "flat and dark",
)
def test_of_each_correction(options):
    random = np.random.default_rng(3)
    dark = random.uniform(90, 110, (8, N_COLS)).astype(np.float32)
    flat = dark + random.uniform(900, 1100, dark.shape).astype(np.float32)
    through = np.exp(-lines(8, 30).transpose(1, 0, 2) / 4 - 0.5)
    raw = (dark + (flat - dark) * through).astype(np.float32)
    laws.does_not_know_the_exposure(
        lambda *counts: api.correct(*counts, **KNOWN, **options), raw, flat, dark
    )
