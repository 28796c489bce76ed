"""The memory of a GPU that corrections take."""

from tomopipe.prep.correct import GPU_BATCH_BYTES
from tomopipe.prep.recipe import stripe_bytes

_COPIES = 10  # of a batch of projections, that are held at most


def gpu_correct_bytes(n_angles: int, n_read: int, n_cols: int) -> int:
    """Return what corrections take at a time: a batch of projections, or one row's stripes.

    A batch needs `n_read` rows.
    """
    frame = 4 * n_read * n_cols
    batch = max(frame, min(GPU_BATCH_BYTES, n_angles * frame))
    return max(_COPIES * batch, 3 * stripe_bytes(n_angles, n_cols))
