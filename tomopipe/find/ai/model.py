"""A trained network with its card: loading, checking, and asking it about one scan."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from tomopipe.errors import TomopipeError
from tomopipe.find.ai.batch import collate
from tomopipe.find.ai.card import card_path, read_card, weights_path
from tomopipe.find.ai.inputs import Inputs, mirrored
from tomopipe.find.ai.judgement import Judgement
from tomopipe.find.ai.nets import Judge, Net, Scores, build
from tomopipe.find.ai.recipe import RECIPE, recipe_hash


@dataclass(frozen=True, eq=False)
class Model:
    """A network and its card."""

    net: Net
    card: dict[str, Any]

    @property
    def pictures(self) -> str:
        """The letters of the pictures it looks at: "", "B", "C" or "BC"."""
        return "".join(letter for letter in "BC" if letter in self.card["net"])

    def judge(self, inputs: Inputs) -> Judgement:
        """Ask about one scan, seen directly and in a mirror.

        Parameters
        ----------
        inputs : Inputs
            With the pictures in `pictures`.

        Returns
        -------
        Judgement
            The mean of both.
        """
        # Some milliseconds for one thread: a job takes no more than its share of the machine.
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return judge(self.net, [inputs])[0]
        finally:
            torch.set_num_threads(before)


def new_net(net: str, shape: dict[str, int], seed: int) -> Net:
    """Make a network with random weights; parameters as of `tomopipe.find.ai.nets.build`."""
    torch.manual_seed(seed)
    return build(net, shape)


def copy_of(model: Model) -> Net:
    """Return a network with the weights of a loaded one, to be trained on."""
    net = build(model.card["net"], model.card["shape"])
    net.load_state_dict(model.net.state_dict())
    return net


def take_along(net: Net, model: Model) -> None:
    """Give a network that looks at pictures what one without them knows of the curves."""
    if isinstance(net, Judge) and isinstance(model.net, Judge):
        net.along.load_state_dict(model.net.along.state_dict())


def judge(net: Net, inputs: list[Inputs]) -> list[Judgement]:
    """Ask a network about several scans; parameters and result as of `Model.judge`."""
    net.eval()
    sides = []
    with torch.inference_mode():
        for some in (inputs, [mirrored(one, len(RECIPE.kinds)) for one in inputs]):
            scores: Scores = net(collate(some))
            sides.append(
                [
                    tensor.numpy().astype(np.float64)
                    for tensor in (scores.grid, scores.none, scores.offset, scores.log_spread)
                ]
            )
    return [
        _judgement(one, *(_side(side, i, one, back=bool(j)) for j, side in enumerate(sides)))
        for i, one in enumerate(inputs)
    ]


def _side(
    side: list[NDArray[np.float64]], i: int, inputs: Inputs, *, back: bool
) -> list[NDArray[np.float64]]:
    """Scores of one scan of a batch, turned back if it was seen in a mirror."""
    grid, none, offset, log_spread = side
    n = inputs.grid.shape[1]
    turn = slice(None, None, -1) if back else slice(None)
    sign = -1.0 if back else 1.0
    return [grid[i, :n][turn], none[i], sign * offset[i, :n][turn], log_spread[i, :n][turn]]


def _judgement(
    inputs: Inputs, first: list[NDArray[np.float64]], second: list[NDArray[np.float64]]
) -> Judgement:
    grid, none, offset, log_spread = (0.5 * (a + b) for a, b in zip(first, second, strict=True))
    score = grid - none
    top = max(0.0, float(score.max()))
    weight = np.exp(score - top)
    total = float(weight.sum() + np.exp(-top))
    index = int(np.argmax(score))
    step_px = float(inputs.cor_px[1] - inputs.cor_px[0])
    return Judgement(
        score=score,
        share=weight / total,
        none=float(np.exp(-top)) / total,
        index=index,
        offset_px=float(offset[index]) * step_px,
        spread_px=float(np.exp(log_spread[index])) * step_px,
    )


def save_model(net: Net, card: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write weights and card side by side.

    Parameters
    ----------
    net : Module
        Trained.
    card : dict
        With `net`, `shape` and `confidence`; recipe and hash of the weights are added.
    path : path
        Of the weights, ending in .safetensors; the card is named alike.

    Returns
    -------
    dict
        The card as written.
    """
    from tomopipe.io.atomic import whole, write_json

    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_bytes(save(weights))
    card = card | {
        "recipe": recipe_hash(),
        "recipe_version": RECIPE.version,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    write_json(card, card_path(path))
    return card


def load_model(name: str | os.PathLike[str] = "shipped") -> Model:
    """Load a network, having checked that it belongs to its card and to this recipe.

    Parameters
    ----------
    name : str or path-like
        "shipped", or the path of weights with their card beside them.

    Returns
    -------
    Model
        Ready to judge.

    Raises
    ------
    TomopipeError
        If a file is missing or damaged, or the card is of other weights or another recipe.
    """
    path = weights_path(name)
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=2)
def _load(path: Path, mtime_ns: int) -> Model:
    card = read_card(path)
    if card["recipe"] != recipe_hash():
        raise TomopipeError(
            f"{card_path(path)}: made for input of recipe version {card.get('recipe_version')}, "
            f"this tomopipe makes version {RECIPE.version}. Train it anew with `tomopipe train`."
        )
    try:
        net = build(card["net"], card["shape"])
        net.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise TomopipeError(
            f"{path}: expected the weights of its card; got {reason}. Train it anew."
        ) from error
    net.eval()
    return Model(net, card)
