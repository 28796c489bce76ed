"""Scans for training in memory: batches of like lengths, augmented."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.ai.network import RECIPE, Inputs, add_up, mirrored
from tomopipe_lab.train.stages import read_features, truths
from tomopipe_lab.train.work import Truth

MIRROR_SHARE, DEAF_SHARE = 0.5, 0.15


@dataclass(frozen=True, eq=False)
class Example:
    """The input of one scan and its truth; `target` is the COR in samples of the grid, or NaN."""

    inputs: Inputs
    truth: Truth
    target: float


def load(work: Path, split: str) -> list[Example]:
    """Read all examples of a split."""
    examples = []
    for truth in truths(work, split):
        inputs = read_features(work / "features" / split / f"{truth.name}.npz")
        examples.append(Example(inputs, truth, target_of(inputs, truth.cor_px)))
    return examples


def target_of(inputs: Inputs, cor_px: float | None) -> float:
    """Return the COR in samples of the grid, NaN where there is none."""
    if cor_px is None:
        return float("nan")
    return float((cor_px - inputs.cor_px[0]) / (inputs.cor_px[1] - inputs.cor_px[0]))


def batches(
    examples: list[Example], size: int, rng: np.random.Generator
) -> Iterator[tuple[list[Inputs], list[float]]]:
    """Yield shuffled batches of scans with grids of like length, augmented, and their targets."""
    order = rng.permutation(len(examples))
    # sorted by length within large groups, so that little is padded
    group = 16 * size
    chunks: list[NDArray[np.intp]] = []
    for first in range(0, len(order), group):
        group_indices = order[first : first + group]
        group_indices = group_indices[
            np.argsort([examples[i].inputs.grid.shape[1] for i in group_indices], kind="stable")
        ]
        chunks += [group_indices[i : i + size] for i in range(0, len(group_indices), size)]
    for i in rng.permutation(len(chunks)):
        shown = [augmented(examples[j], rng) for j in chunks[i]]
        yield [example.inputs for example in shown], [example.target for example in shown]


def augmented(example: Example, rng: np.random.Generator) -> Example:
    """Show a scan in a mirror, or without one kind of its evidence."""
    inputs, target = example.inputs, example.target
    if rng.random() < MIRROR_SHARE:
        inputs = mirrored(inputs)
        target = inputs.grid.shape[1] - 1 - target
    if rng.random() < DEAF_SHARE:
        inputs = deaf(inputs, int(rng.integers(len(RECIPE.kinds))))
    return replace(example, inputs=inputs, target=target)


def deaf(inputs: Inputs, kind: int) -> Inputs:
    """Return the input as if one kind of evidence had no signal."""
    n_kinds = len(RECIPE.kinds)
    grid, scan = inputs.grid.copy(), inputs.scan.copy()
    grid[5 * kind : 5 * kind + 5] = 0.0
    scan[kind - n_kinds] = 0.0
    grid[-5] = add_up(grid[1 : 5 * n_kinds : 5])
    return replace(inputs, grid=grid, scan=scan)
