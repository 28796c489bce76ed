"""What corrections need, before a scan is opened: neighbouring rows, strength, memory."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from tomopipe.config import PreprocessBlock
from tomopipe.errors import ScanError
from tomopipe.prep.phase import filter_strength, kernel_halo
from tomopipe.prep.warp import Warp

# Typical micro-tomography values, to estimate the memory of a scan whose file is not open.
USUAL = {"energy_kev": 25.0, "distance_mm": 50.0, "pixel_size_um": 1.0}

IndexRange = tuple[int, int]
RowsFor = Callable[[IndexRange], IndexRange]

GPU_BATCH_BYTES = 128 * 2**20  # of float32 projections being corrected on a GPU
STRIPE_BYTES = 512 * 2**20  # memory of stripe filters, unless one row needs more
_GPU_COPIES = 10  # largest number of copies of a batch of projections
_STRIPE_COPIES = 6  # largest number of copies of a float32 sinogram in a filter
_GPU_STRIPES = 3  # the same on a GPU, where a sinogram takes at least the next number
_GPU_COLUMN_BYTES = 18_000  # for each column: the blocks of angles of `stripes_gated`
_GPU_STRIPE_BYTES = 2**31  # memory of stripe filters on a GPU


def geometry_only(recipe: PreprocessBlock) -> PreprocessBlock:
    """Return the recipe for COR finding: flat, dark, logarithm, distortion and roll only."""
    keep = {"flats", "darks", "minus_log", "distortion", "roll_deg"}
    return PreprocessBlock(**{key: getattr(recipe, key) for key in keep})


def stripe_bytes(n_angles: int, n_cols: int) -> int:
    """Return the memory (bytes) that removing the stripes of one sinogram needs."""
    return 4 * _STRIPE_COPIES * n_angles * n_cols


def stripe_rows(n_angles: int, n_cols: int) -> int:
    """Return the number of rows whose stripes a GPU removes at a time where memory is short."""
    return max(1, _GPU_STRIPE_BYTES // _gpu_stripe_bytes(n_angles, n_cols))


def _gpu_stripe_bytes(n_angles: int, n_cols: int) -> int:
    return max(_GPU_STRIPES * stripe_bytes(n_angles, n_cols), _GPU_COLUMN_BYTES * n_cols)


def gpu_correct_bytes(
    n_angles: int, n_rows: int, n_cols: int, halo: int, *, stripes_together: bool = False
) -> int:
    """Return the GPU memory (bytes) of corrections: of some projections, or the stripes of rows.

    A batch of `n_rows` rows needs `halo` more on either side; its stripes are removed in one call
    (`stripes_together`) or by `stripe_rows`.
    """
    frame = 4 * (n_rows + 2 * halo) * n_cols
    batch = max(frame, min(GPU_BATCH_BYTES, n_angles * frame))
    if not stripes_together:
        n_rows = min(n_rows, stripe_rows(n_angles, n_cols))
    return max(_GPU_COPIES * batch, n_rows * _gpu_stripe_bytes(n_angles, n_cols))


def rows_around(recipe: PreprocessBlock, warp: Warp | None, alpha_px2: float) -> dict[str, RowsFor]:
    """Return the corrections that need neighbouring rows, by name, in their order.

    Each is a function from a range of rows to the range that it needs (the last row excluded,
    within the detector). What is read, the memory, and what edge slopes skip follow from this.
    """

    def more(n: int) -> RowsFor:
        return lambda rows: (rows[0] - n, rows[1] + n)

    result: dict[str, RowsFor] = {}
    if recipe.zingers.threshold is not None:
        result["zingers"] = more(recipe.zingers.size_px // 2)
    if warp is not None:
        result["warp"] = warp.rows_needed
    if alpha_px2:
        result["phase"] = more(kernel_halo(alpha_px2))
    return result


def halo_of(recipe: PreprocessBlock, n_rows: int, n_cols: int, alpha_px2: float) -> int:
    """Return the largest number of further rows read on either side."""
    around = rows_around(recipe, warp_of(recipe, n_rows, n_cols), alpha_px2)
    return sum(
        max(
            max(row - first, last - row - 1)
            for row in {0, n_rows // 2, n_rows - 1}
            for first, last in [needed((row, row + 1))]
        )
        for needed in around.values()
    )


def warp_of(
    recipe: PreprocessBlock,
    n_rows: int,
    n_cols: int,
    *,
    first_col: int = 0,
    detector_cols: int = 0,
) -> Warp | None:
    """Return distortion and roll of a detector (see `Warp`); None if there is neither."""
    coefficients, center_px = recipe.distortion.coefficients, recipe.distortion.center_px
    if not coefficients and not recipe.roll_deg:
        return None
    centre_px = None if center_px is None else (center_px[0], center_px[1])
    detector = first_col, detector_cols
    return Warp(n_rows, n_cols, recipe.roll_deg, tuple(coefficients), centre_px, *detector)


def phase_strength(recipe: PreprocessBlock, metadata: Mapping[str, float | None]) -> float:
    """Return the strength of phase retrieval (squared pixels), 0 for none.

    A ScanError names the numbers of `USUAL` that it needs and that are unknown.
    """
    if recipe.phase.method == "none":
        return 0.0
    numbers = {
        key: float(value)
        for key in USUAL
        if (value := metadata.get(key)) and math.isfinite(value) and value > 0
    }
    if lacking := [key for key in USUAL if key not in numbers]:
        raise ScanError(
            f"phase retrieval needs {', '.join(lacking)}, but the file has no usable value: "
            f"set {', '.join(f'input.{key}' for key in lacking)}"
        )
    return filter_strength(delta_beta=recipe.phase.delta_beta, **numbers)


def expected_halo(
    recipe: PreprocessBlock, n_rows: int, n_cols: int, metadata: Mapping[str, Any]
) -> int | None:
    """Return the halo of a scan that has not been opened; None: there is nothing to correct.

    `metadata` are energy_kev, distance_mm and pixel_size_um as far as the config gives them;
    `USUAL` stands for the others.
    """
    if recipe.is_plain:
        return None
    numbers = {key: metadata.get(key) or usual for key, usual in USUAL.items()}
    return halo_of(recipe, n_rows, n_cols, phase_strength(recipe, numbers))
