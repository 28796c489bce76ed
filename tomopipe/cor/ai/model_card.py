"""Model cards: what a network was trained on, how well it does, and which weights it belongs to."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe

SHIPPED = Path(__file__).parent / "weights" / "shipped.safetensors"
_ADVICE = (
    "Set predict_cor.model to weights that `tomopipe lab train` has made, or to shipped (install "
    "tomopipe again where those are missing), or leave ai out of predict_cor.methods."
)
_NEEDED = ("net", "shape", "confidence", "recipe", "sha256")


def weights_path(name: str | os.PathLike[str]) -> Path:
    """Return the file of a network: "shipped" is that of the package."""
    return SHIPPED if name == "shipped" else Path(name).absolute()


def card_path(weights: Path) -> Path:
    """Return the path of the model card beside weights."""
    return weights.with_suffix(".json")


def read_card(weights: Path) -> dict[str, Any]:
    """Read the model card of weights (safetensors) and check that it is theirs, by the hash."""
    path = card_path(weights)
    for file in (weights, path):
        if not file.is_file():
            raise TomopipeError(
                f"{file}: no such file; method ai needs weights (.safetensors) with their model "
                f"card (.json) beside them. {_ADVICE}"
            )
    try:
        card = json.loads(no_pipe(path).read_text("utf-8"))
        missing = [key for key in _NEEDED if key not in card]
    except (ValueError, TypeError) as error:
        raise TomopipeError(f"{path}: expected a model card; got {error}. {_ADVICE}") from error
    if missing:
        raise TomopipeError(
            f"{path}: expected {', '.join(_NEEDED)}; got no {', '.join(missing)}. {_ADVICE}"
        )
    result = hashlib.sha256(no_pipe(weights).read_bytes()).hexdigest()
    if result != card["sha256"]:
        raise TomopipeError(
            f"{weights}: its sha256 is {result[:12]}..., its card names {card['sha256'][:12]}...: "
            "weights and card do not belong together. Take both from one training."
        )
    return dict(card)


@cache
def shipped_sha256() -> str:
    """Return the hash of the network of the package."""
    return str(read_card(SHIPPED)["sha256"])


def model_record(name: str | os.PathLike[str]) -> dict[str, str]:
    """Return the record of a network in prediction.json: its name and hash."""
    path = weights_path(name)
    card = read_card(path)
    return {"name": str(card.get("name", path.stem)), "sha256": card["sha256"]}
