"""Scans, inputs and small networks for the tests of the learned finder."""

import numpy as np
from find_rows import HALF_TURN_DEG, rows_of, scan

from tomopipe.find.ai.confidence import DOUBTS
from tomopipe.find.ai.curves import all_curves
from tomopipe.find.ai.inputs import Inputs, make_inputs, with_pictures
from tomopipe.find.ai.model import new_net, save_model
from tomopipe.find.ai.recipe import RECIPE
from tomopipe.io.rows import Rows
from tomopipe.train.calibrate import calibrate
from tomopipe.train.stages import reconstruct

COR_PX = 60.25
N_COLS = 128


def rows_with(cor_px: float = COR_PX, *, seed: int = 0, counts: float = 5000) -> Rows:
    """A sound scan of half a turn."""
    projections = scan(cor_px, n_cols=N_COLS, counts=counts, seed=seed)
    return rows_of(projections, HALF_TURN_DEG)


def inputs_of(rows: Rows, pictures: str = "BC") -> Inputs:
    """What the networks see of it."""
    curves = all_curves(rows, reconstruct)
    inputs = make_inputs(curves, RECIPE)
    return with_pictures(inputs, rows, curves.binning, reconstruct, RECIPE, pictures)


def shape_of(inputs: Inputs) -> dict[str, int]:
    """The shape of a small network for such inputs."""
    return {
        "n_channels": inputs.grid.shape[0],
        "n_scalars": len(inputs.scan),
        "n_features": inputs.rival.shape[1],
        "seam_planes": 2,
        "windows_planes": 3,
        "width": 8,
    }


def calibration() -> dict:
    """A calibration that trusts a clear margin."""
    values = np.zeros((40, len(DOUBTS)))
    values[:, 1] = np.linspace(-10, 10, 40)
    return calibrate(values, values[:, 1] > 0)


def write_model(path, inputs: Inputs, net: str = "A", **changes) -> dict:
    """An untrained network with its card."""
    shape = shape_of(inputs)
    card = {"name": "test", "net": net, "shape": shape, "confidence": calibration(), **changes}
    return save_model(new_net(net, shape, 0), card, path)
