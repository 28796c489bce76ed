"""The DINOv2 classifier of one slice: ViT backbone, gated attention pooling [1]_, two classes.

The backbone is that of `transformers`; its names differ from Meta's, in which checkpoints are.

References
----------
.. [1] M. Ilse, J. Tomczak, M. Welling, "Attention-based deep multiple instance learning",
   ICML (2018).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tomopipe.cor.ai.dinov2_checkpoint import HEAD_WIDTH, PATCH_PX, Checkpoint, State
from tomopipe.errors import TomopipeError

# Meta's name within a block or of the whole: that of transformers.
_OUTER = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_INNER = {
    "norm1": "norm1",
    "attn.proj": "attention.o_proj",
    "ls1.gamma": "layer_scale1.lambda1",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "ls2.gamma": "layer_scale2.lambda1",
}
_QKV = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
# Meta's models add this to the number of patches before they scale the position embedding; weights
# were trained with it.
_GRID_OFFSET = 0.1


class Classifier(nn.Module):
    """Classifies whether a slice was reconstructed with the right COR.

    `window_px` is the rows and columns of the windows it will get, a multiple of 14.
    """

    def __init__(self, checkpoint: Checkpoint, window_px: int) -> None:
        super().__init__()
        self.backbone = make_backbone(checkpoint, window_px)
        width = checkpoint.width
        self.head = nn.Linear(width, 2)
        rest = {k: v for k, v in checkpoint.state.items() if not k.startswith("model.")}
        if checkpoint.n_windows > 1:
            self.attention = nn.Sequential(nn.Linear(width, width), nn.Tanh())
            self.gate = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
            self.fc = nn.Linear(width, 1)
        self.pooled = checkpoint.n_windows > 1
        backbone = {f"backbone.{k}": v for k, v in self.backbone.state_dict().items()}
        self.load_state_dict(backbone | rest, strict=True)
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

        Windows (n_windows, window_px, window_px) are from
        `tomopipe.cor.ai.dinov2_windows.cut_windows`.
        """
        device = self.head.weight.device
        logits = self(torch.from_numpy(windows).to(device))
        return float(torch.softmax(logits.double(), dim=0)[1])


def make_backbone(checkpoint: Checkpoint, window_px: int) -> nn.Module:
    """Return the ViT of a checkpoint for windows of one size, a multiple of 14 px.

    It is a `transformers.Dinov2Model`; the class token of its last layer is the feature.
    """
    try:
        from transformers import Dinov2Config, Dinov2Model
    except ImportError as error:
        raise TomopipeError(
            "predict_cor.methods: dinov2 needs transformers and torch: "
            "pip install 'tomopipe[torch]'"
        ) from error
    state = {
        key.removeprefix("model."): value
        for key, value in checkpoint.state.items()
        if key.startswith("model.")
    }
    state["pos_embed"] = scale_positions(state["pos_embed"], window_px // PATCH_PX)
    config = Dinov2Config(
        hidden_size=checkpoint.width,
        num_hidden_layers=checkpoint.depth,
        num_attention_heads=checkpoint.width // HEAD_WIDTH,
        image_size=window_px,
        patch_size=PATCH_PX,
    )
    with torch.device("meta"):  # no random weights only to be replaced
        backbone = Dinov2Model(config)
    backbone.load_state_dict(rename(state), strict=True, assign=True)
    return backbone.eval()


def scale_positions(positions: torch.Tensor, n_patches: int) -> torch.Tensor:
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


def rename(state: State) -> State:
    """Give the weights of a backbone, in Meta's names, those that transformers has for them.

    The joint weights of query, key and value become three.
    """
    renamed: State = {}
    for key, value in state.items():
        outer, _, inner = key.partition("blocks.")
        if outer or not inner:
            renamed[_renamed(key, _OUTER)] = value
            continue
        number, _, name = inner.partition(".")
        layer = f"encoder.layer.{number}"
        if name.startswith("attn.qkv."):
            for part, part_value in zip(_QKV, value.chunk(3), strict=True):
                renamed[f"{layer}.{part}.{name.rpartition('.')[2]}"] = part_value
        else:
            renamed[f"{layer}.{_renamed(name, _INNER)}"] = value
    return renamed


def _renamed(name: str, table: dict[str, str]) -> str:
    """The other name of a tensor, or of a layer with its weight or bias."""
    if name in table:
        return table[name]
    layer, _, which = name.rpartition(".")
    return f"{table[layer]}.{which}"
