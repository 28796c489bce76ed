"""Checkpoints of the APS family of DINOv2 classifiers, read strictly.

A checkpoint is a dict with `state_dict` (keys in Meta's names under ``model.``, then the pooling
and the head) and `args`, the options of its training. Nothing of it is executed: tensors are read
with torch's weights-only reader, and what else `args` names stays unread.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tomopipe.cor.ai.dinov2_windows import N_WINDOWS
from tomopipe.errors import TomopipeError

WINDOW_PX = 518
PATCH_PX = 14
HEAD_WIDTH = 64  # of one attention head, in all of Meta's sizes
DEPTHS = {384: 12, 768: 12, 1024: 24}
"""Blocks of ViT-S, ViT-B and ViT-L by width."""
_VECTORS = "norm1.weight", "norm1.bias", "ls1.gamma", "norm2.weight", "norm2.bias", "ls2.gamma"

State = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A classifier that is complete and of known shape."""

    state: State  # in Meta's names, without the prefix of parallel training
    width: int  # of the backbone, as is depth
    depth: int
    window_px: int  # rows and columns of the windows it was trained on
    n_windows: int  # of a slice: 3, or 1 for a classifier without pooling


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a classifier on the CPU, as float32, and check each of its keys.

    It is a ``.pt`` file of ``tomo-center train`` or of TomoCuPy's ``--infer-model-path``.
    """
    content = _load(path)
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or not state:
        raise TomopipeError(f"{path}: expected a dict with state_dict; got keys {list(content)!r}.")
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise TomopipeError(f"{path}: {key}: expected a tensor, got {type(value).__name__}.")
    state = {key.removeprefix("module."): value.float() for key, value in state.items()}
    _refuse_range_classifier(state, path)
    args = content.get("args")
    args = args if isinstance(args, Mapping) else getattr(args, "__dict__", {})
    n_windows = 1 if args.get("num_windows") == 1 else N_WINDOWS
    width, depth, n_patches = _size(state, path)
    _check(state, expected_shapes(width, depth, n_patches, pooled=n_windows > 1), path)
    window_px = args.get("window_size", WINDOW_PX)
    if not isinstance(window_px, int) or window_px < PATCH_PX or window_px % PATCH_PX:
        raise TomopipeError(
            f"{path}: args: window_size: expected a multiple of {PATCH_PX}, got {window_px!r}."
        )
    return Checkpoint(state, width, depth, window_px, n_windows)


def expected_shapes(
    width: int, depth: int, n_patches: int, *, pooled: bool
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights of a classifier, by key.

    `n_patches` counts the positions of the position embedding, without that of the class token;
    `pooled`: with the attention pooling of several windows.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "model.cls_token": (1, 1, width),
        "model.pos_embed": (1, 1 + n_patches, width),
        "model.mask_token": (1, width),
        "model.patch_embed.proj.weight": (width, 3, PATCH_PX, PATCH_PX),
        "model.patch_embed.proj.bias": (width,),
        "model.norm.weight": (width,),
        "model.norm.bias": (width,),
    }
    linear = {"head": (2, width)}
    for number in range(depth):
        block = f"model.blocks.{number}"
        for name in _VECTORS:
            shapes[f"{block}.{name}"] = (width,)
        linear |= {
            f"{block}.attn.qkv": (3 * width, width),
            f"{block}.attn.proj": (width, width),
            f"{block}.mlp.fc1": (4 * width, width),
            f"{block}.mlp.fc2": (width, 4 * width),
        }
    if pooled:
        linear |= {"attention.0": (width, width), "gate.0": (width, width), "fc": (1, width)}
    for name, (n_out, n_in) in linear.items():
        shapes |= {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}
    return shapes


def _load(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read the file; classes that `args` names (paths, functions) become `_Unread`."""
    if not Path(path).is_file():
        raise TomopipeError(f"{path}: no such file. Correct predict_cor.dinov2_checkpoint.")
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        stand_ins: list[Any] = [(type("Unread", (_Unread,), {}), name) for name in foreign]
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a foreign file
        raise TomopipeError(
            f"{path}: expected a checkpoint written by torch.save; "
            f"got {' '.join(str(error).split())[:200]}"
        ) from error
    if not isinstance(content, Mapping):
        raise TomopipeError(f"{path}: expected a dict; got {type(content).__name__}.")
    return content


class _Unread:
    """Stands in for any class or function that a checkpoint names: takes all, does nothing."""

    def __init__(self, *args: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _refuse_range_classifier(state: State, path: str | os.PathLike[str]) -> None:
    if any(key.startswith("aggregator.") for key in state):
        raise TomopipeError(
            f"{path}: expected a parameter classifier, which scores one slice; got a range "
            "classifier (keys aggregator.*, --bin-infer-model-path), which tomopipe does not run. "
            "Give the checkpoint of --model-path or --infer-model-path."
        )


def _size(state: State, path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Width, depth and number of patches, from the position embedding."""
    position = state.get("model.pos_embed")
    if position is None:
        raise TomopipeError(f"{path}: missing key model.pos_embed: no DINOv2 classifier.")
    width = position.shape[-1]
    n_patches = position.shape[1] - 1 if position.ndim == 3 else 0
    if width not in DEPTHS or n_patches < 1 or round(n_patches**0.5) ** 2 != n_patches:
        raise TomopipeError(
            f"{path}: model.pos_embed: expected shape (1, 1 + a square, one of "
            f"{', '.join(map(str, DEPTHS))}), got {tuple(position.shape)}."
        )
    return width, DEPTHS[width], n_patches


def _check(
    state: State, expected: dict[str, tuple[int, ...]], path: str | os.PathLike[str]
) -> None:
    """Raise if a key is missing, unknown or misshapen, naming the first few."""
    wrong = list(_wrong(state, expected))
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise TomopipeError(
            f"{path}: {'; '.join(wrong[:5])}{more}. It is no checkpoint that tomopipe can run."
        )


def _wrong(state: State, expected: dict[str, tuple[int, ...]]) -> Iterator[str]:
    for key, shape in expected.items():
        if key not in state:
            yield f"missing key {key}"
        elif tuple(state[key].shape) != shape:
            yield f"{key}: expected shape {shape}, got {tuple(state[key].shape)}"
        elif not torch.isfinite(state[key]).all():
            yield f"{key}: values that are no number"
    yield from (f"unknown key {key}" for key in state if key not in expected)
