"""The network along the COR axis in NumPy: 20 000 weights need no other library.

It is loaded with its model card, checked, and run on one scan. `tomopipe_lab.train.nets` is the
same in torch, to be trained; a test holds both together.
"""

import json
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from tomopipe.cor.ai.inputs import RECIPE, Inputs, NetworkOutput, mirrored, recipe_hash
from tomopipe.cor.ai.model_card import card_path, read_card, weights_path
from tomopipe.errors import TomopipeError

Weights = dict[str, NDArray[np.float32]]
"""By their names in the file."""
NET = "A"
"""Name of the network along the COR axis in its card; others were tried (decision 11)."""
DILATIONS = 1, 2, 4, 8, 16
LEVEL_EPSILON = 1e-5
LOG_SPREAD = -3.0, 4.0
"""Least and greatest log of the spread, in samples of the grid."""


@dataclass(frozen=True, eq=False)
class Model:
    """The weights of a network and its card."""

    weights: Weights
    card: dict[str, Any]


def predict(weights: Weights, inputs: Inputs) -> NetworkOutput:
    """Run a network on the input of one scan and on its mirror image; return the mean of both."""
    back = mirrored(inputs)
    score, none, _, log_spread = forward(weights, inputs.grid, inputs.scan)
    other, other_none, _, other_spread = forward(weights, back.grid, back.scan)
    score = 0.5 * (score + other[::-1]) - 0.5 * (none + other_none)
    log_spread = 0.5 * (log_spread + other_spread[::-1])
    top = max(0.0, float(score.max()))
    weight = np.exp(score - top)
    total = float(weight.sum() + np.exp(-top))
    index = int(np.argmax(score))
    step_px = float(inputs.cor_px[1] - inputs.cor_px[0])
    return NetworkOutput(
        score=score,
        share=weight / total,
        none=float(np.exp(-top)) / total,
        index=index,
        spread_px=float(np.exp(log_spread[index])) * step_px,
    )


def load_model(name: str | os.PathLike[str] = "shipped") -> Model:
    """Load a network, having checked that it belongs to its card and to this recipe.

    "shipped", or the path of weights with their card beside them; kept in memory for the next call.
    A TomopipeError says that a file is missing or damaged, or the model card is of other weights,
    another kind of network or another recipe.
    """
    path = weights_path(name)
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=2)
def _load(path: Path, mtime_ns: int) -> Model:
    card = read_card(path)
    if card["net"] != NET:
        raise TomopipeError(
            f"{card_path(path)}: expected a network {NET}; got {card['net']}, a kind that gained "
            "nothing over it and is no longer run. Train it again with `tomopipe lab train`."
        )
    if card["recipe"] != recipe_hash(RECIPE):
        raise TomopipeError(
            f"{card_path(path)}: made for input of recipe version {card.get('recipe_version')}, "
            f"this tomopipe makes version {RECIPE.version}. Train it again: `tomopipe lab train`."
        )
    try:
        return Model(_read_weights(path), card)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TomopipeError(
            f"{path}: expected the weights of its card; got {error!r}. Train it again."
        ) from error


def forward(
    weights: Weights, grid: NDArray[np.float32], scan: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float, NDArray[np.float64], NDArray[np.float64]]:
    """Score every position on the grid of one scan.

    `grid` (n_channels, n_grid) has the curves along the COR axis, `scan` (n_scalars,) what is known
    of the scan as a whole. Returns the logits of the positions (n_grid,) and that of "none of
    these"; and (n_grid,) from each position to the COR, in samples of the grid, and the log of the
    error of that.
    """
    features = _linear(weights, "tell", scan)
    hidden = _linear(weights, "enter", grid) + features[:, None]
    for i, dilation in enumerate(DILATIONS):
        hidden = hidden + _gelu(_normed(weights, i, _convolved(weights, i, dilation, hidden)))
        if i == len(DILATIONS) // 2:
            hidden = hidden + _linear(weights, "share", _pooled(hidden))[:, None]
    score, offset, log_spread = _linear(weights, "leave", hidden).astype(float)
    refused = _gelu(_linear(weights, "refuse.0", np.concatenate([_pooled(hidden), features])))
    none = float(_linear(weights, "refuse.3", refused)[0])
    return score, none, offset, np.clip(log_spread, *LOG_SPREAD)


def _linear(weights: Weights, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weigh the channels, the same at all positions: (n_in,) or (n_in, n_grid)."""
    weight, bias = weights[f"along.{name}.weight"], weights[f"along.{name}.bias"]
    return ((weight.reshape(len(weight), -1) @ x).T + bias).T


def _convolved(
    weights: Weights, i: int, dilation: int, x: NDArray[np.float32]
) -> NDArray[np.float32]:
    weight, bias = weights[f"along.layers.{i}.weight"], weights[f"along.layers.{i}.bias"]
    n_grid, n_taps = x.shape[1], weight.shape[2]
    wide = np.pad(x, ((0, 0), 2 * [dilation * (n_taps // 2)]))
    taps = (wide[:, k * dilation : k * dilation + n_grid] for k in range(n_taps))
    return bias[:, None] + sum(weight[..., k] @ tap for k, tap in enumerate(taps))


def _normed(weights: Weights, i: int, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise the channels of each position, so that the length of the grid does not matter."""
    away = x - x.mean(axis=0)
    unit = np.sqrt(np.mean(away**2, axis=0) + LEVEL_EPSILON)
    weight, bias = weights[f"along.norms.{i}.weight"], weights[f"along.norms.{i}.bias"]
    return away / unit * weight[:, None] + bias[:, None]


def _gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(0.5 * x * (1.0 + erf(x / math.sqrt(2.0))), dtype=np.float32)


def _pooled(hidden: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean and maximum over the grid, shape (2 * width,)."""
    return np.concatenate([hidden.mean(axis=1), hidden.max(axis=1)])


def _read_weights(path: Path) -> Weights:
    """Read the arrays of a safetensors file: bytes of a JSON header, the header, float32 values."""
    content = path.read_bytes()
    first = 8 + int.from_bytes(content[:8], "little")
    body, weights = content[first:], {}
    for name, entry in json.loads(content[8:first]).items():
        if name != "__metadata__":
            (start, stop), shape = entry["data_offsets"], entry["shape"]
            values = np.frombuffer(body[start:stop], {"F32": "<f4"}[entry["dtype"]])
            weights[name] = values.reshape(shape)
    return weights
