"""The DINOv2 classifier of one slice: ViT backbone, gated attention pooling [1]_, two classes.

A checkpoint is a dict with `state_dict` (keys in Meta's names under ``model.``, then the pooling
and the head) and `args`, the options of its training. Nothing of it is executed: tensors are read
with torch's weights-only reader. The backbone is that of `transformers`, which has other names.

References
----------
.. [1] M. Ilse, J. Tomczak, M. Welling, "Attention-based deep multiple instance learning",
   ICML (2018).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tomopipe.errors import TomopipeError

WINDOW_PX = 518
N_WINDOWS = 3
PATCH_PX = 14
_HEAD_WIDTH = 64  # of one attention head, in all of Meta's sizes
_RENAMED = {
    "model.blocks.": "backbone.encoder.layer.",
    "model.patch_embed.proj": "backbone.embeddings.patch_embeddings.projection",
    "model.pos_embed": "backbone.embeddings.position_embeddings",
    "model.cls_token": "backbone.embeddings.cls_token",
    "model.mask_token": "backbone.embeddings.mask_token",
    "model.norm.": "backbone.layernorm.",
    ".attn.proj.": ".attention.o_proj.",
    ".ls1.gamma": ".layer_scale1.lambda1",
    ".ls2.gamma": ".layer_scale2.lambda1",
}
"""Parts of names: those of Meta, and those of transformers."""
_QKV = ".attn.qkv."
# Meta's models add this to the number of patches before they scale the position embedding; weights
# were trained with it.
_GRID_OFFSET = 0.1

State = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The weights of a classifier, and the windows of its training."""

    path: str
    state: State  # in Meta's names, without the prefix of parallel training
    window_px: int  # rows and columns of a window
    n_windows: int  # of a slice: 3, or 1 for a classifier without pooling


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a classifier on the CPU, as float32; `Classifier` checks its keys and shapes.

    It is a ``.pt`` file of ``tomo-center train`` or of TomoCuPy's ``--infer-model-path``.
    """
    if not Path(path).is_file():
        raise TomopipeError(f"{path}: no such file. Correct predict_cor.dinov2_checkpoint.")
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        stand_ins: list[Any] = [(type("Unread", (_Unread,), {}), name) for name in foreign]
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
        args = content.get("args")
        weights = content["state_dict"].items()
        state = {key.removeprefix("module."): value.float() for key, value in weights}
    except Exception as error:  # torch raises many kinds for a foreign file
        raise TomopipeError(
            f"{path}: expected a checkpoint written by torch.save, with the tensors of state_dict; "
            f"got {' '.join(str(error).split())[:200]}"
        ) from error
    if any(key.startswith("aggregator.") for key in state):
        raise TomopipeError(
            f"{path}: expected a parameter classifier, which scores one slice; got a range "
            "classifier (keys aggregator.*, --bin-infer-model-path), which tomopipe does not run. "
            "Give the checkpoint of --model-path or --infer-model-path."
        )
    args = args if isinstance(args, Mapping) else getattr(args, "__dict__", {})
    window_px = args.get("window_size", WINDOW_PX)
    if not isinstance(window_px, int) or window_px < PATCH_PX or window_px % PATCH_PX:
        raise TomopipeError(
            f"{path}: args: window_size: expected a multiple of {PATCH_PX}, got {window_px!r}."
        )
    return Checkpoint(
        str(path), state, window_px, n_windows=1 if args.get("num_windows") == 1 else N_WINDOWS
    )


class _Unread:
    """Stands in for any class or function that a checkpoint names: takes all, does nothing."""

    def __init__(self, *args: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class Classifier(nn.Module):
    """Classifies whether a slice was reconstructed with the right COR.

    `window_px` is the rows and columns of the windows it will get, a multiple of 14. A
    TomopipeError names keys that are missing, unknown or misshapen.
    """

    def __init__(self, checkpoint: Checkpoint, window_px: int) -> None:
        super().__init__()
        try:
            from transformers import Dinov2Config, Dinov2Model
        except ImportError as error:
            raise TomopipeError(
                "predict_cor.methods: dinov2 needs transformers and torch: "
                "pip install 'tomopipe[torch]'"
            ) from error
        self.pooled = checkpoint.n_windows > 1
        try:
            state = _renamed(checkpoint.state, window_px // PATCH_PX)
            width = state["backbone.layernorm.weight"].shape[0]
            config = Dinov2Config(
                hidden_size=width,
                num_hidden_layers=sum(key.endswith("norm1.weight") for key in state),
                num_attention_heads=width // _HEAD_WIDTH,
                image_size=window_px,
                patch_size=PATCH_PX,
            )
            with torch.device("meta"):  # no random weights only to be replaced
                self.backbone = Dinov2Model(config)
                self.head = nn.Linear(width, 2)
                if self.pooled:
                    self.attention = nn.Sequential(nn.Linear(width, width), nn.Tanh())
                    self.gate = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
                    self.fc = nn.Linear(width, 1)
            self.load_state_dict(state, strict=True, assign=True)
        except (KeyError, RuntimeError, ValueError, ZeroDivisionError) as error:
            raise TomopipeError(
                f"{checkpoint.path}: expected the weights of a DINOv2 classifier (ViT-S, B or L); "
                f"got {' '.join(str(error).split())[:400]}"
            ) from error
        self.eval()

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the logits (wrong, right) of one slice.

        Its windows (n_windows, window_px, window_px) have grey values from 0 to 1.
        """
        grey = windows[:, None].expand(-1, 3, -1, -1)
        features = self.backbone(pixel_values=grey).last_hidden_state[:, 0]
        if not self.pooled:
            return self.head(features[0])
        weight = torch.softmax(self.fc(self.attention(features) * self.gate(features)), dim=0)
        return self.head((weight * features).sum(dim=0))

    @torch.inference_mode()
    def score(self, windows: NDArray[np.float32]) -> float:
        """Return the probability, 0 to 1, that a slice has the right COR.

        Windows (n_windows, window_px, window_px) are from `tomopipe.cor.ai.dinov2.cut_windows`.
        """
        device = self.head.weight.device
        logits = self(torch.from_numpy(windows).to(device))
        return float(torch.softmax(logits.double(), dim=0)[1])


def _renamed(state: State, n_patches: int) -> State:
    """Weights by the names of transformers, for a side of so many patches.

    The joint weights of query, key and value become three.
    """
    renamed: State = {}
    for key, value in state.items():
        name = key
        for old, new in _RENAMED.items():
            name = name.replace(old, new)
        if _QKV in name:
            for part, part_value in zip("qkv", value.chunk(3), strict=True):
                renamed[name.replace(_QKV, f".attention.{part}_proj.")] = part_value
        else:
            scaled = _scale_positions(value, n_patches) if key == "model.pos_embed" else value
            renamed[name] = scaled
    return renamed


def _scale_positions(positions: torch.Tensor, n_patches: int) -> torch.Tensor:
    """Interpolate a position embedding (1, 1 + n * n, width) to another grid, as Meta's models do.

    The class token's position comes first. Returns the same tensor if the grid is.
    """
    n = round((positions.shape[1] - 1) ** 0.5)
    if n == n_patches:
        return positions
    grid = positions[:, 1:].reshape(1, n, n, -1).permute(0, 3, 1, 2)
    scale = (n_patches + _GRID_OFFSET) / n
    grid = nn.functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    grid = grid.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([positions[:, :1], grid], dim=1)
