"""From the inputs of several scans to one padded batch of tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tomopipe.find.ai.inputs import Inputs
from tomopipe.find.ai.nets import Batch


def collate(inputs: Sequence[Inputs], device: str = "cpu") -> Batch:
    """Pad the inputs of several scans to one length.

    Parameters
    ----------
    inputs : sequence of Inputs
        All with the same pictures.
    device : str
        Of torch.

    Returns
    -------
    Batch
        Float32 tensors.
    """
    n_grid = max(one.grid.shape[1] for one in inputs)
    grid = np.zeros((len(inputs), inputs[0].grid.shape[0], n_grid), np.float32)
    mask = np.zeros((len(inputs), n_grid), bool)
    for i, one in enumerate(inputs):
        grid[i, :, : one.grid.shape[1]] = one.grid
        mask[i, : one.grid.shape[1]] = True

    def tensor(array: NDArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    def stacked(name: str) -> Tensor | None:
        arrays = [getattr(one, name) for one in inputs]
        return None if arrays[0] is None else tensor(np.stack(arrays).astype(np.float32))

    return Batch(
        grid=tensor(grid),
        mask=tensor(mask),
        scan=tensor(np.stack([one.scan for one in inputs])),
        rival_index=tensor(np.stack([one.rival_index for one in inputs]).astype(np.int64)),
        rival=tensor(np.stack([one.rival for one in inputs])),
        seam=stacked("seam"),
        windows=stacked("windows"),
    )
