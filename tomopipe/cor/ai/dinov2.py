"""Method `dinov2`: run the DINOv2 checkpoints of the APS family on the slices of the try grid.

The classifier scores each slice alone; the COR is the candidate of the highest score. A slice is
scaled to 0..1 by its own smallest and largest value and quantised to 8 bits. Its windows lie about
points drawn evenly from the inscribed circle with NumPy's legacy generator [1]_, the same for all
slices. On a CPU one slice takes seconds, so that without a GPU only the best candidates of the
classical evidence are scored, and the reason says so.

The classifier of one slice: ViT backbone, gated attention pooling [2]_, two classes. A checkpoint
is a dict with `state_dict` (keys in Meta's names under ``model.``, then the pooling and the head)
and `args`, the options of its training. Nothing of it is executed: tensors are read with torch's
weights-only reader. The backbone is that of `transformers`, which has other names.

References
----------
.. [1] X. Tang et al., tomo-center (github.com/xray-imaging/tomo-center), `tomo-center find`; the
   same in TomoCuPy's ``--rotation-axis-method ai``.
.. [2] M. Ilse, J. Tomczak, M. Welling, "Attention-based deep multiple instance learning",
   ICML (2018).
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from tomopipe.cor.answer import AMBIGUOUS_BELOW, Answer, nothing
from tomopipe.cor.curves import Curves, CurveSet
from tomopipe.cor.slices import repeating_edges
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
    """Read a classifier (.pt of `tomo-center train` or TomoCuPy) on the CPU, as float32."""
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
    """Placeholder for any class or function that a checkpoint names: it does nothing."""

    def __init__(self, *args: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class Classifier(nn.Module):
    """Classifies whether a slice has the right COR, by windows of `window_px`, a multiple of 14."""

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
            with torch.device("meta"):  # without random weights, which would be replaced
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
        """Return the probability, 0 to 1, that a slice of such `cut_windows` has the right COR."""
        device = self.head.weight.device
        logits = self(torch.from_numpy(windows).to(device))
        return float(torch.softmax(logits.double(), dim=0)[1])


def _renamed(state: State, n_patches: int) -> State:
    """Weights by the names of transformers; the joint ones of query, key and value become three."""
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
    """Interpolate a position embedding (1, 1 + n * n, width), class token first, to a grid."""
    n = round((positions.shape[1] - 1) ** 0.5)
    if n == n_patches:
        return positions
    grid = positions[:, 1:].reshape(1, n, n, -1).permute(0, 3, 1, 2)
    scale = (n_patches + _GRID_OFFSET) / n
    grid = nn.functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    grid = grid.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([positions[:, :1], grid], dim=1)


METHOD = "dinov2"
N_SHORTLIST = 15
MIN_WINDOW_PX = 224
SEED = 10
_APART_PX = 2.0  # least distance of the second peak
_BATCH = 16  # slices held at a time

Image = NDArray[np.float32]

logger = logging.getLogger(__name__)


def find_dinov2(
    curves: Curves,
    candidates_px: NDArray[np.float64],
    checkpoint: Checkpoint | str | os.PathLike[str],
) -> Answer:
    """Score the slices of the first sinogram; the curve has the candidates that were scored."""
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = read_checkpoint(checkpoint)
    n = curves.prepared.n_cols
    window_px = min(checkpoint.window_px, (n - 1) // PATCH_PX * PATCH_PX)
    if window_px < min(MIN_WINDOW_PX, checkpoint.window_px):
        reason = f"slices of {n} px are too small: {MIN_WINDOW_PX + 1} px are needed"
        return nothing(METHOD, "flat", reason, candidates_px)
    if why := curves.prepared.no_signal:
        return nothing(METHOD, "flat", why, candidates_px)
    gpu = torch.cuda.is_available()
    network = Classifier(checkpoint, window_px).to("cuda" if gpu else "cpu")
    chosen = np.arange(len(candidates_px))
    if not gpu and len(chosen) > N_SHORTLIST:
        chosen = shortlist(curves.measures, candidates_px)
        logger.info("dinov2: no GPU, %d of %d candidates", len(chosen), len(candidates_px))
    rows = curves.prepared.rows
    corners = window_corners(n, window_px, checkpoint.n_windows)
    slices_at = repeating_edges(rows.sinograms[0], rows.theta_rad, max(4, n // 4))
    score = [
        network.score(cut_windows(image, corners, window_px))
        for start in range(0, len(chosen), _BATCH)
        for image in slices_at(candidates_px[chosen[start : start + _BATCH]])
    ]
    return decide(chosen, np.array(score), candidates_px)


def shortlist(curves: CurveSet, candidates_px: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices, ascending, of the `N_SHORTLIST` candidates that the curves together find best."""
    total = np.interp(candidates_px, curves.cor_px, curves.prominence[curves.valid].sum(axis=0))
    return np.sort(np.argsort(-total, kind="stable")[:N_SHORTLIST])


def decide(
    index: NDArray[np.intp], score: NDArray[np.float64], candidates_px: NDArray[np.float64]
) -> Answer:
    """Make an answer from the scores, 0 to 1, of some candidates; `index` (n_scored,) names them.

    The COR is the best candidate, or the middle of equally good neighbours. The confidence is its
    score times (1 - the best score more than 2 px away); it is not a calibrated probability.
    """
    cor_px = candidates_px[index]
    top = score == score.max()
    tied = index[top & (cor_px <= cor_px[np.argmax(top)] + _APART_PX)]
    best_px = float(candidates_px[tied].mean())
    away = np.abs(cor_px - best_px) > _APART_PX
    second = float(score[away].max()) if away.any() else 0.0
    confidence = float(score.max()) * (1.0 - second)
    reason = ""
    verdict = "resolved"
    if tied[0] == 0 or tied[-1] == len(candidates_px) - 1:
        verdict, confidence = "edge", 0.0
        reason = f"the best match, {best_px:.1f} px, is at the border of the candidates: widen "
        reason += "try_recon.width_px or move center_px"
    elif confidence < AMBIGUOUS_BELOW:
        verdict = "ambiguous"
        reason = f"score {score.max():.2f}, elsewhere {second:.2f}"
    if len(index) < len(candidates_px):
        part = f"only {len(index)} of {len(candidates_px)} candidates scored, for lack of a GPU"
        reason = f"{reason}; {part}" if reason else part
    return Answer(METHOD, best_px, confidence, verdict, reason, cor_px, score)


def window_corners(size_px: int, window_px: int, n_windows: int) -> NDArray[np.int64]:
    """Draw upper left corners (n_windows, 2) within the slice; a single one in the middle."""
    if n_windows == 1:
        return np.full((1, 2), size_px // 2 - window_px // 2)
    offset = np.arange(size_px) - (size_px - 1) / 2
    inside = offset**2 + offset[:, None] ** 2 <= ((size_px - 1) / 2) ** 2
    share = (inside / inside.sum()).ravel()
    # Normalised twice and drawn one by one, so that the random numbers are those of the original.
    share /= share.sum()
    random = np.random.RandomState(SEED)
    drawn = [int(np.argmax(random.multinomial(1, share))) for _ in range(n_windows)]
    corners = np.stack(np.unravel_index(drawn, inside.shape), axis=1) - window_px // 2
    # The last corner that fits is never used: the original stops one short of it.
    return np.asarray(np.clip(corners, 0, size_px - window_px - 1), dtype=np.int64)


def cut_windows(image: ArrayLike, corners: NDArray[np.int64], window_px: int) -> Image:
    """Scale a slice to 0..1, quantise it to 8 bits and cut its windows; a constant one gives 0."""
    image = np.asarray(image, dtype=np.float32)
    low, high = image.min(), image.max()
    scaled = (image - low) / (high - low + np.float32(1e-8))
    grey = (scaled * np.float32(255)).astype(np.uint8).astype(np.float32) / np.float32(255)
    return np.stack([grey[y : y + window_px, x : x + window_px] for y, x in corners])
