"""The network of `tomopipe.cor.ai.network` in torch, to be trained: scans in padded batches.

Scores are logits; those of the CORs of a scan and its "none of these" compete in one softmax.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tomopipe.cor.ai.network import DILATIONS, LEVEL_EPSILON, LOG_SPREAD, Inputs, Weights

SHAPE = "n_channels", "n_scalars", "width"
"""Of a network, in its card: curves along the COR axis, numbers of a scan, channels within."""
_MASKED = -1e4


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of several scans (`tomopipe.cor.ai.network.Inputs`), padded.

    Attributes
    ----------
    grid : Tensor, shape (n_scans, n_channels, n_grid)
        Curves along the COR axis.
    mask : Tensor of bool, shape (n_scans, n_grid)
        True where the grid of the scan is.
    scan : Tensor, shape (n_scans, n_scalars)
        What is known of the scan as a whole.
    """

    grid: Tensor
    mask: Tensor
    scan: Tensor


@dataclass(frozen=True, eq=False)
class Scores:
    """What the network says of a batch.

    Attributes
    ----------
    grid : Tensor, shape (n_scans, n_grid)
        Logit of each COR.
    none : Tensor, shape (n_scans,)
        Logit of "none of these".
    offset, log_spread : Tensor, shape (n_scans, n_grid)
        From each position to the COR, in samples of the grid, and the log of how far off that is.
    """

    grid: Tensor
    none: Tensor
    offset: Tensor
    log_spread: Tensor


class Along(nn.Module):
    """A fully convolutional network along the COR axis over the curves of all evidence."""

    def __init__(self, n_channels: int, n_scalars: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(n_channels, width, 1)
        self.tell = nn.Linear(n_scalars, width)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 5, dilation=d, padding=2 * d) for d in DILATIONS
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width, LEVEL_EPSILON) for _ in DILATIONS)
        self.share = nn.Linear(2 * width, width)
        self.leave = nn.Conv1d(width, 3, 1)
        self.refuse = nn.Sequential(
            nn.Linear(3 * width, width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, 1)
        )

    def forward(self, batch: Batch) -> Scores:
        """Score every COR of a batch."""
        inside = batch.mask[:, None].to(batch.grid.dtype)
        of_scan = self.tell(batch.scan)
        hidden = (self.enter(batch.grid) + of_scan[..., None]) * inside
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            # over the channels of each position: padding must not change the scores of a scan
            level = norm(layer(hidden).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + functional.gelu(level) * inside
            if i == len(self.layers) // 2:
                hidden = (hidden + self.share(_pooled(hidden, batch.mask))[..., None]) * inside
        pooled = _pooled(hidden, batch.mask)
        score, offset, log_spread = self.leave(hidden).unbind(dim=1)
        grid = score.masked_fill(~batch.mask, _MASKED)
        none = self.refuse(torch.cat([pooled, of_scan], dim=1))[:, 0]
        return Scores(grid, none, offset, log_spread.clamp(*LOG_SPREAD))


def _pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean and maximum over the grid, shape (n_scans, 2 * width)."""
    inside = mask[:, None].to(hidden.dtype)
    mean = (hidden * inside).sum(dim=2) / inside.sum(dim=2)
    return torch.cat([mean, hidden.masked_fill(~mask[:, None], _MASKED).amax(dim=2)], dim=1)


def new_net(shape: Mapping[str, int], seed: int) -> nn.Module:
    """Make a network, from `Batch` to `Scores`, with random weights; `shape` is that of a card."""
    torch.manual_seed(seed)
    return nn.Sequential(OrderedDict(along=Along(*(shape[name] for name in SHAPE))))


def put_weights(net: nn.Module, weights: Weights) -> nn.Module:
    """Give a network the weights of a file."""
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return net


def weights_of(net: nn.Module) -> Weights:
    """Return the weights of a network for its file."""
    return {name: value.detach().cpu().numpy() for name, value in net.state_dict().items()}


def collate(inputs: Sequence[Inputs], device: str = "cpu") -> Batch:
    """Pad the inputs of several scans to one length, on a device of torch."""
    n_grid = max(scan_inputs.grid.shape[1] for scan_inputs in inputs)
    grid = np.zeros((len(inputs), inputs[0].grid.shape[0], n_grid), np.float32)
    mask = np.zeros((len(inputs), n_grid), bool)
    for i, scan_inputs in enumerate(inputs):
        grid[i, :, : scan_inputs.grid.shape[1]] = scan_inputs.grid
        mask[i, : scan_inputs.grid.shape[1]] = True
    scan = np.stack([scan_inputs.scan for scan_inputs in inputs])
    return Batch(*(torch.from_numpy(array).to(device) for array in (grid, mask, scan)))
