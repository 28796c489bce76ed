"""A trained network with its model card: loading, checking, and running it on one scan."""

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.cor.ai.input_recipe import RECIPE, recipe_hash
from tomopipe.cor.ai.inputs import Inputs, NetworkOutput, mirrored
from tomopipe.cor.ai.model_card import card_path, read_card, weights_path
from tomopipe.cor.ai.network import Weights, forward, weight_shapes
from tomopipe.errors import TomopipeError

NET = "A"
"""Name of the network along the COR axis in its card; others were tried (decision 11)."""
SHAPE = "n_channels", "n_scalars", "width"


@dataclass(frozen=True, eq=False)
class Model:
    """The weights of a network and its card."""

    weights: Weights
    card: dict[str, Any]


def predict(weights: Weights, inputs: Inputs) -> NetworkOutput:
    """Run a network on the input of one scan and on its mirror image; return the mean of both."""
    back = mirrored(inputs)
    score, none, offset, log_spread = forward(weights, inputs.grid, inputs.scan)
    other, other_none, other_offset, other_spread = forward(weights, back.grid, back.scan)
    score = 0.5 * (score + other[::-1]) - 0.5 * (none + other_none)
    offset = 0.5 * (offset - other_offset[::-1])
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
        offset_px=float(offset[index]) * step_px,
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
        weights = _read_weights(path)
        expected = weight_shapes(*(int(card["shape"][name]) for name in SHAPE))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TomopipeError(
            f"{path}: expected the weights of its card; got {error!r}. Train it again."
        ) from error
    result = {name: array.shape for name, array in weights.items()}
    wrong = [name for name in expected | result if expected.get(name) != result.get(name)]
    if wrong:
        raise TomopipeError(
            f"{path}: expected the weights of its card, {wrong[0]} of shape "
            f"{expected.get(wrong[0])}; got {result.get(wrong[0])}. Train it again."
        )
    return Model(weights, card)


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
