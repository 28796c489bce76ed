"""Previews of volumes that are small enough for a test."""

import numpy as np
import pytest

from tomopipe.volumes import preview


@pytest.fixture
def small(monkeypatch):
    """Small volumes have a preview, too; of short chunks."""
    for name, value in {"_SMALLEST_BYTES": 1, "_SHARE": 0.1, "_CHUNK": (3, 16, 16)}.items():
        monkeypatch.setattr(preview, name, value)


def averaged(data, factor):
    """Means of blocks of what is there, along each axis but those of one voxel, in double."""
    for axis in range(3):
        if data.shape[axis] > 1:
            starts = np.arange(0, data.shape[axis], factor)
            sums = np.add.reduceat(data.astype(float), starts, axis=axis)
            counts = np.diff([*starts, data.shape[axis]])
            data = sums / counts.reshape([-1 if i == axis else 1 for i in range(3)])
    return data
