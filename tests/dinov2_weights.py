"""Random checkpoints of the DINOv2 family in Meta's names, and the ViT by a second library.

The second one is `torch.nn.TransformerEncoderLayer`: it has no layer scale, which is multiplied
into the weights before it.
"""

import math

import numpy as np
import torch
from torch import nn


def shapes(width, depth, grid, *, pooled):
    """Shapes of the weights by Meta's names; `grid` patches on a side of the training's windows."""
    yield "model.cls_token", (1, 1, width)
    yield "model.pos_embed", (1, 1 + grid**2, width)
    yield "model.mask_token", (1, width)
    yield "model.patch_embed.proj.weight", (width, 3, 14, 14)
    yield "model.patch_embed.proj.bias", (width,)
    linear = {"head": (2, width)}
    for norm in (
        "model.norm",
        *(f"model.blocks.{i}.norm{j}" for i in range(depth) for j in (1, 2)),
    ):
        yield from ((f"{norm}.weight", (width,)), (f"{norm}.bias", (width,)))
    for block in (f"model.blocks.{number}" for number in range(depth)):
        yield from ((f"{block}.ls{j}.gamma", (width,)) for j in (1, 2))
        linear |= {
            f"{block}.attn.qkv": (3 * width, width),
            f"{block}.attn.proj": (width, width),
            f"{block}.mlp.fc1": (4 * width, width),
            f"{block}.mlp.fc2": (width, 4 * width),
        }
    if pooled:
        linear |= {"attention.0": (width, width), "gate.0": (width, width), "fc": (1, width)}
    for name, shape in linear.items():
        yield from ((f"{name}.weight", shape), (f"{name}.bias", shape[:1]))


def random_state(width=384, depth=2, *, grid=37, pooled=True, seed=0):
    """Weights of sizes that let each of them matter."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes(width, depth, grid, pooled=pooled):
        value = torch.randn(shape, generator=random)
        if len(shape) == 1:
            value = 0.2 * value + (0.6 if "norm" in key or "gamma" in key else 0.0)
        elif "token" not in key and "pos_embed" not in key:
            value /= math.sqrt(math.prod(shape[1:]))
        state[key] = value
    return state


def save(path, state, *, prefix="", **args):
    torch.save({"state_dict": {prefix + k: v for k, v in state.items()}, "args": args}, path)
    return path


def reference_features(state, windows):
    """The class token of the last layer, of windows (n, size, size) of grey values."""
    size = windows.shape[-1] // 14
    n = len(windows)
    width = state["model.cls_token"].shape[-1]
    patches = windows.reshape(n, size, 14, size, 14).swapaxes(2, 3).reshape(n, size**2, 196)
    # Grey three times: the weights of the colours add up.
    kernel = state["model.patch_embed.proj.weight"].sum(dim=1).reshape(width, 196)
    tokens = torch.as_tensor(patches) @ kernel.T + state["model.patch_embed.proj.bias"]
    tokens = torch.cat([state["model.cls_token"].expand(n, 1, width), tokens], dim=1)
    tokens = tokens + reference_positions(state["model.pos_embed"], size)
    for number in range(sum(key.endswith("norm1.weight") for key in state)):
        tokens = _layer(state, f"model.blocks.{number}.", width)(tokens)
    last = {"weight": state["model.norm.weight"], "bias": state["model.norm.bias"]}
    return nn.functional.layer_norm(tokens[:, 0], (width,), **last, eps=1e-6)


def _layer(state, block, width):
    layer = nn.TransformerEncoderLayer(
        width, width // 64, 4 * width, dropout=0.0, activation="gelu", layer_norm_eps=1e-6,
        batch_first=True, norm_first=True,
    )  # fmt: skip
    names = {
        "self_attn.in_proj_": "attn.qkv.",
        "linear1.": "mlp.fc1.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    weights = {
        a + w.strip("."): state[block + b + w] for a, b in names.items() for w in ("weight", "bias")
    }
    for a, b, gamma in (
        ("self_attn.out_proj.", "attn.proj.", "ls1"),
        ("linear2.", "mlp.fc2.", "ls2"),
    ):
        scale = state[f"{block}{gamma}.gamma"]
        weights[a + "weight"] = scale[:, None] * state[block + b + "weight"]
        weights[a + "bias"] = scale * state[block + b + "bias"]
    layer.load_state_dict(weights)
    return layer.eval()


def reference_positions(positions, size):
    """Bicubic interpolation (a = -0.75) by matrices, the grid stretched by Meta's 0.1 patches."""
    n = round((positions.shape[1] - 1) ** 0.5)
    if n == size:
        return positions
    weights = np.zeros((size, n))
    for i in range(size):
        place = (i + 0.5) * n / (size + 0.1) - 0.5
        for j in range(math.floor(place) - 1, math.floor(place) + 3):
            x = abs(place - j)
            near = 1.25 * x**3 - 2.25 * x**2 + 1
            far = -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            weights[i, min(max(j, 0), n - 1)] += near if x <= 1 else far
    grid = positions[0, 1:].numpy().reshape(n, n, -1)
    grid = np.einsum("iy,jx,yxc->ijc", weights, weights, grid, optimize=True)
    grid = torch.as_tensor(grid.reshape(1, size**2, -1).astype(np.float32))
    return torch.cat([positions[:, :1], grid], dim=1)
