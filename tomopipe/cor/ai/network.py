"""The network along the COR axis in NumPy: its inputs, and its 20 000 weights.

It is loaded with its model card, checked, and run on one scan. `tomopipe_lab.train.nets` is the
same in torch, to be trained; a test holds both together.

A shipped network is only right for input made exactly as in its training. Its card holds the hash
of the recipe and loading checks it. Whoever changes a constant of the recipe, or what
`tomopipe.cor.curves` and this module make, bumps `version` and trains again: a test holds the input
of a fixed scan against numbers of this version. Nothing of a campaign's configuration goes in.
"""

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from tomopipe.cor.ai.model_card import card_path, read_card, weights_path
from tomopipe.cor.curves import KINDS, Curves, CurveSet
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe

TOTAL_VARIATION = "variation"
"""Name of the curve of minimum total variation, which only the network uses: it takes seconds."""


@dataclass(frozen=True)
class Recipe:
    """Constants of the input; lengths in samples of the grid or in binned pixels."""

    version: int = 9  # bumped with every change of the input
    kinds: tuple[str, ...] = (*KINDS, TOTAL_VARIATION)  # of evidence, one set of curves each
    # name in `Curves.scan`, "linear" or "log", and the values that become 0 and 1 (clipped)
    scalars: tuple[tuple[str, str, float, float], ...] = (
        ("half_turn", "linear", 0.0, 1.0),
        ("full_turn", "linear", 0.0, 1.0),
        ("short_turn", "linear", 0.0, 1.0),
        ("gap_deg", "linear", 0.0, 90.0),
        ("step_deg", "log", 0.3, 10.0),
        ("n_angles", "log", 25.0, 500.0),
        ("n_rows", "log", 1.0, 8.0),
        ("n_pairs", "linear", 0.0, 2.0),
        ("pair_motion_px", "linear", 0.0, 4.0),
        ("contrast", "log", 1.0, 1000.0),
        ("turning", "linear", 0.0, 1.0),
        ("air", "linear", 0.0, 1.0),
        ("theta_missing", "linear", 0.0, 1.0),
        ("minus_log", "linear", 0.0, 1.0),
    )
    # registration: these and the single ones are added (the hash holds the name)
    seam: tuple[str, ...] = ("pairs", "rows", "difference", "moving")
    slices: tuple[str, ...] = ("entropy", "edges")  # of these the highest counts
    single: tuple[str, ...] = ("wedge", "mass", TOTAL_VARIATION)
    clip_sigmas: float = 6.0  # standardised raw curves end there
    apart: int = 5  # least distance of two peaks, samples


RECIPE = Recipe()
_GONE = {
    "n_rivals": 5, "near": 2, "seam_lines": 32, "seam_cols": 96, "seam_long": 1 / 16,
    "slice_cols": 128, "slice_step": 2.0, "window": 40,
}  # fmt: skip
"""Removed inputs of version 9, hashed as before so that its weights still load."""


def recipe_hash(recipe: Recipe) -> str:
    """Return the sha256 of a recipe's canonical JSON, version included."""
    text = json.dumps(asdict(recipe) | _GONE, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


_PER_KIND = 5  # channels
# of the curve of minimum total variation
_LEAST = 0.003  # added to the excess in the raw curve, so that 0 has a logarithm
_WIDTH, _HEIGHT = 0.01, 10.0  # excess that halves the prominence, about, and its height


@dataclass(frozen=True, eq=False)
class Inputs:
    """The input of one scan."""

    cor_px: NDArray[np.float64]  # (n_grid,): the grid, unbinned px
    # (n_channels, n_grid): of each kind the standardised raw curve, the prominence, nearness and
    # signed distance to its best position and whether it is valid; then the sum of all evidence,
    # overlap, texture, distance from the middle and nearness of the border
    grid: NDArray[np.float32]
    scan: NDArray[np.float32]  # (n_scalars,): what is known of the scan as a whole


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """What the network makes of it: scores of all positions on the grid, and the best one."""

    score: NDArray[np.float64]  # (n_grid,): logit of each position, less that of "none of these"
    share: NDArray[np.float64]  # (n_grid,): probability of each position; with `none` they sum to 1
    none: float  # probability that no position is right
    index: int  # the best position
    spread_px: float  # expected error there, unbinned px


def all_curves(curves: Curves) -> CurveSet:
    """Evaluate all kinds of evidence, total variation last; not valid where they show nothing."""
    measures = curves.measures
    minimum = curves.total_variation if measures.valid.any() else None
    raw = prominence = np.zeros(len(measures.cor_px))
    if minimum is not None:
        excess = np.interp(measures.cor_px, minimum.cor_px, minimum.excess)
        height = _HEIGHT * np.exp(-excess / _WIDTH)
        raw, prominence = -np.log(_LEAST + excess), np.log1p(height**2 / 4)
    return replace(
        measures,
        raw=np.vstack([measures.raw, raw]).astype(np.float32),
        prominence=np.vstack([measures.prominence, prominence]).astype(np.float32),
        valid=np.append(measures.valid, minimum is not None),
    )


def make_inputs(of_scan: Curves) -> Inputs:
    """Make the input of the network from `all_curves` of one scan."""
    curves = all_curves(of_scan)
    valid = curves.valid.astype(np.float32)
    prominence = curves.prominence * valid[:, None]
    total = add_up(prominence)
    best = np.argmax(prominence, axis=1)
    index = np.arange(len(curves.cor_px))
    away = (index - best[:, None]).astype(np.float32)
    per_kind = np.stack(
        [
            _standardised(curves.raw) * valid[:, None],
            prominence,
            np.exp(-0.5 * (away / 4.0) ** 2) * valid[:, None],
            np.sign(away) * np.log1p(np.abs(away)) / 4.0 * valid[:, None],
            np.broadcast_to(valid[:, None], prominence.shape),
        ],
        axis=1,
    )
    middle = 2.0 * index / max(1, len(index) - 1) - 1.0
    border = np.exp(-np.minimum(index, index[::-1]) / 8.0)
    overlap = 1 - np.abs(np.linspace(-1, 1, len(index)))  # share of the columns
    general = np.stack([total, overlap, curves.texture, np.abs(middle), border])
    grid = np.concatenate([per_kind.reshape(-1, len(index)), general]).astype(np.float32)
    return Inputs(curves.cor_px, grid, scan_vector(curves))


def mirrored(inputs: Inputs) -> Inputs:
    """Return the input of the mirrored scan: left and right exchanged."""
    grid = inputs.grid[:, ::-1].copy()
    signed = 3 + _PER_KIND * np.arange(len(RECIPE.kinds))
    grid[signed] *= -1
    last = inputs.cor_px[-1] + inputs.cor_px[0]
    return replace(inputs, cor_px=last - inputs.cor_px[::-1], grid=grid)


def scan_vector(curves: CurveSet) -> NDArray[np.float32]:
    """Return the numbers that describe a scan, from 0 to 1, and which kinds are valid."""
    features = []
    for name, scale, low, high in RECIPE.scalars:
        value, lowest, highest = (
            float(np.log(max(number, 1e-9))) if scale == "log" else number
            for number in (curves.scan[name], low, high)
        )
        features.append(np.clip((value - lowest) / (highest - lowest), 0.0, 1.0))
    return np.array([*features, *curves.valid], dtype=np.float32)


def add_up(prominence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add the evidence of all kinds."""

    def of(kinds: tuple[str, ...]) -> NDArray[np.float32]:
        return prominence[[RECIPE.kinds.index(kind) for kind in kinds]]

    total = of(RECIPE.seam + RECIPE.single).sum(axis=0) + of(RECIPE.slices).max(axis=0)
    return np.asarray(total / 6.0, dtype=np.float32)


def _standardised(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Curves less their median in units of their standard deviation, clipped and scaled."""
    away = raw - np.median(raw, axis=1, keepdims=True)
    unit = np.maximum(away.std(axis=1, keepdims=True), 1e-12)
    most = RECIPE.clip_sigmas
    return np.asarray(np.clip(away / unit, -most, most) / 3.0, dtype=np.float32)


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

    Parameters
    ----------
    name : str or path
        "shipped", or weights with their card beside them.

    Returns
    -------
    Model
        Kept in memory for the next call.
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
    content = no_pipe(path).read_bytes()
    first = 8 + int.from_bytes(content[:8], "little")
    body, weights = content[first:], {}
    for name, entry in json.loads(content[8:first]).items():
        if name != "__metadata__":
            (start, stop), shape = entry["data_offsets"], entry["shape"]
            values = np.frombuffer(body[start:stop], {"F32": "<f4"}[entry["dtype"]])
            weights[name] = values.reshape(shape)
    return weights
