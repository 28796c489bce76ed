"""Scans, inputs and small networks for the tests of the learned finder."""

import numpy as np
from find_rows import THETA_180_DEG, curves_of, rows_of, scan
from tomopipe_lab.train.calibrate import calibrate
from tomopipe_lab.train.nets import SHAPE, new_net, weights_of
from tomopipe_lab.train.run import save_model

from tomopipe.cor.ai.finder import FEATURES
from tomopipe.cor.ai.network import Inputs, NetworkOutput, Weights, make_inputs
from tomopipe.cor.collected_rows import Rows

COR_PX = 60.25
N_COLS = 128


def rows_with(cor_px: float = COR_PX, *, seed: int = 0, counts: float = 5000) -> Rows:
    """A scan over 180 degrees without damage."""
    return rows_of(scan(cor_px, n_cols=N_COLS, counts=counts, seed=seed), THETA_180_DEG)


def inputs_of(rows: Rows) -> Inputs:
    """What the network sees of it."""
    return make_inputs(curves_of(rows))


def shape_of(inputs: Inputs) -> dict[str, int]:
    """The shape of a small network for such inputs."""
    return dict(zip(SHAPE, (len(inputs.grid), len(inputs.scan), 8), strict=True))


def random_weights(inputs: Inputs, seed: int = 0) -> Weights:
    """Weights of an untrained network."""
    return weights_of(new_net(shape_of(inputs), seed))


def calibration() -> dict:
    """A calibration that trusts a clear margin."""
    values = np.zeros((40, len(FEATURES)))
    values[:, 1] = np.linspace(-10, 10, 40)
    return calibrate(values, values[:, 1] > 0)


def write_model(path, inputs: Inputs, seed: int = 0) -> dict:
    """An untrained network with its card."""
    card = {"name": "test", "shape": shape_of(inputs), "confidence": calibration()}
    return save_model(random_weights(inputs, seed), card, path)


def output_with_peak(inputs, margin=8.0, none=0.01):
    """Output of a network with a clear peak at the axis and a second one far from it."""
    score, index = np.full(inputs.grid.shape[1], -10.0), int(np.argmax(inputs.grid[-5]))
    score[index], score[index + 60] = 10.0, 10.0 - margin
    share = np.exp(score - 10) / np.exp(score - 10).sum() * (1 - none)
    return NetworkOutput(score, share, none, index, 0.2)
