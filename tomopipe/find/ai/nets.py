"""The networks: a judge along the COR axis, and small ones for pictures around each rival.

Everything works on a batch of scans, padded to the longest grid. Scores are logits; those of a scan
and its "none of these" compete in one softmax.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS_OF_NET = ("logistic", "A", "A+B", "A+C", "A+B+C")
"""Names of the architectures, the simplest first."""
Net = nn.Module
"""Any of them: from `Batch` to `Scores`."""
_MASKED = -1e4


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of several scans (`tomopipe.find.ai.inputs.Inputs`), padded.

    Attributes
    ----------
    grid : Tensor, shape (n_scans, n_channels, n_grid)
        Curves along the COR axis.
    mask : Tensor of bool, shape (n_scans, n_grid)
        True where the grid of the scan is.
    scan : Tensor, shape (n_scans, n_scalars)
        What is known of the scan as a whole.
    rival_index : Tensor of int64, shape (n_scans, n_rivals)
        Places of the rivals on the grid, -1 where there are fewer.
    rival : Tensor, shape (n_scans, n_rivals, n_features)
        Evidence at each rival.
    seam, windows : Tensor or None, shape (n_scans, n_rivals, n_planes, height, width)
        Pictures around each rival.
    """

    grid: Tensor
    mask: Tensor
    scan: Tensor
    rival_index: Tensor
    rival: Tensor
    seam: Tensor | None
    windows: Tensor | None


@dataclass(frozen=True, eq=False)
class Scores:
    """What a network says of a batch.

    Attributes
    ----------
    grid : Tensor, shape (n_scans, n_grid)
        Logit of each place; those of the rivals hold all that the network knows.
    rival : Tensor, shape (n_scans, n_rivals)
        Logit of each rival.
    none : Tensor, shape (n_scans,)
        Logit of "none of these".
    offset, log_spread : Tensor, shape (n_scans, n_grid)
        From each place to the COR, in samples of the grid, and the log of how far off that is.
    rivals_only : bool
        Only rivals were judged: all other places are out.
    """

    grid: Tensor
    rival: Tensor
    none: Tensor
    offset: Tensor
    log_spread: Tensor
    rivals_only: bool


class Logistic(nn.Module):
    """A weighted sum of the evidence at each rival."""

    def __init__(self, n_features: int, n_scalars: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(n_features, 1)
        self.refuse = nn.Linear(n_features + n_scalars, 1)

    def forward(self, batch: Batch) -> Scores:
        """Score the rivals of a batch; all other places are out."""
        rival = self.weigh(batch.rival)[..., 0]
        here = batch.rival_index >= 0
        rival = rival.masked_fill(~here, _MASKED)
        # a scan without anything has low evidence at its best rival
        strongest = batch.rival.masked_fill(~here[..., None], 0.0).amax(dim=1)
        none = self.refuse(torch.cat([strongest, batch.scan], dim=1))[:, 0]
        grid = _to_grid(rival, batch)
        level = torch.zeros_like(grid)
        return Scores(grid, rival, none, level, level, rivals_only=True)


class Along(nn.Module):
    """A: a fully convolutional network along the COR axis over the curves of all evidence."""

    def __init__(self, n_channels: int, n_scalars: int, width: int, dilations: list[int]) -> None:
        super().__init__()
        self.enter = nn.Conv1d(n_channels, width, 1)
        self.tell = nn.Linear(n_scalars, width)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 5, dilation=d, padding=2 * d) for d in dilations
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in dilations)
        self.share = nn.Linear(2 * width, width)
        self.leave = nn.Conv1d(width, 3, 1)
        self.refuse = nn.Sequential(
            nn.Linear(3 * width, width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, 1)
        )

    def forward(self, batch: Batch) -> Scores:
        """Score every place of a batch."""
        inside = batch.mask[:, None].to(batch.grid.dtype)
        told = self.tell(batch.scan)
        hidden = (self.enter(batch.grid) + told[..., None]) * inside
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            # over the channels of each place: padding must not change what is said of a scan
            level = norm(layer(hidden).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + functional.gelu(level) * inside
            if i == len(self.layers) // 2:
                hidden = (hidden + self.share(_pooled(hidden, batch.mask))[..., None]) * inside
        pooled = _pooled(hidden, batch.mask)
        score, offset, log_spread = self.leave(hidden).unbind(dim=1)
        grid = score.masked_fill(~batch.mask, _MASKED)
        none = self.refuse(torch.cat([pooled, told], dim=1))[:, 0]
        rival, log_spread = _at_rivals(grid, batch), log_spread.clamp(-3.0, 4.0)
        return Scores(grid, rival, none, offset, log_spread, rivals_only=False)


class Looking(nn.Module):
    """B or C: one small network that looks at the pictures around every rival alike."""

    def __init__(self, n_planes: int, width: int) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(n_planes, width, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self.judge = nn.Sequential(nn.Linear(4 * width, 16), nn.GELU(), nn.Linear(16, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logit of each rival, shape (n_scans, n_rivals)."""
        n_scans, n_rivals = pictures.shape[:2]
        seen = self.see(pictures.flatten(0, 1))
        pooled = torch.cat([seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3))], dim=1)
        score: Tensor = self.judge(pooled)[:, 0]
        return score.reshape(n_scans, n_rivals)


class Judge(nn.Module):
    """A with B, C or both: what the pictures say is added to the score of each rival."""

    def __init__(self, along: Along, seam: Looking | None, windows: Looking | None) -> None:
        super().__init__()
        self.along, self.seam, self.windows = along, seam, windows

    def forward(self, batch: Batch) -> Scores:
        """Score every place of a batch."""
        scores: Scores = self.along(batch)
        if self.seam is None and self.windows is None:
            return scores
        rival = scores.rival
        for net, pictures in ((self.seam, batch.seam), (self.windows, batch.windows)):
            if net is not None:
                assert pictures is not None
                rival = rival + net(pictures)
        rival = rival.masked_fill(batch.rival_index < 0, _MASKED)
        grid = _to_grid(rival, batch)
        return replace(scores, grid=grid, rival=rival, rivals_only=True)


def _pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean and maximum over the grid, shape (n_scans, 2 * width)."""
    inside = mask[:, None].to(hidden.dtype)
    mean = (hidden * inside).sum(dim=2) / inside.sum(dim=2)
    return torch.cat([mean, hidden.masked_fill(~mask[:, None], _MASKED).amax(dim=2)], dim=1)


def _at_rivals(grid: Tensor, batch: Batch) -> Tensor:
    """The best logit next to each rival, shape (n_scans, n_rivals)."""
    wide = functional.max_pool1d(grid[:, None], 5, stride=1, padding=2)[:, 0]
    rival = torch.gather(wide, 1, batch.rival_index.clamp(min=0))
    return rival.masked_fill(batch.rival_index < 0, _MASKED)


def _to_grid(rival: Tensor, batch: Batch) -> Tensor:
    """Put the rivals' logits on the grid; all other places are out."""
    # one place more takes what stands for no rival
    n_grid = batch.mask.shape[1]
    wide = rival.new_full((len(rival), n_grid + 1), _MASKED)
    where = torch.where(batch.rival_index < 0, n_grid, batch.rival_index)
    return wide.scatter(1, where, rival)[:, :n_grid]


def build(net: str, shape: dict[str, int]) -> nn.Module:
    """Make an untrained network.

    Parameters
    ----------
    net : str
        One of `KINDS_OF_NET`.
    shape : dict
        n_channels, n_scalars, n_features, seam_planes, windows_planes and width.

    Returns
    -------
    Module
        From `Batch` to `Scores`.

    Raises
    ------
    ValueError
        If `net` is unknown.
    """
    if net not in KINDS_OF_NET:
        raise ValueError(f"net: expected one of {', '.join(KINDS_OF_NET)}; got {net!r}")
    if net == "logistic":
        return Logistic(shape["n_features"], shape["n_scalars"])
    along = Along(shape["n_channels"], shape["n_scalars"], shape["width"], [1, 2, 4, 8, 16])
    seam = Looking(shape["seam_planes"], 8) if "B" in net else None
    windows = Looking(shape["windows_planes"], 8) if "C" in net else None
    return Judge(along, seam, windows)
