"""The frozen recipe: every constant that forms the network's input, with a version and a hash.

A shipped network is only right for input made exactly as in its training. Its card holds the hash
of the recipe and loading checks it. Whoever changes a constant here, or what `tomopipe.cor.curves`
and `tomopipe.cor.ai.inputs` make, bumps `version` and trains again: a test holds the input of
a fixed scan against numbers of this version. Nothing of a campaign's configuration goes in.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

from tomopipe.cor.curves import KINDS

TOTAL_VARIATION = "variation"
"""Name of the curve of minimum total variation, which only the network uses: it takes seconds."""


@dataclass(frozen=True)
class Recipe:
    """Constants of the input; lengths in samples of the grid or in binned pixels."""

    version: int = 9  # bumped with every change of the input
    kinds: tuple[str, ...] = (*KINDS, TOTAL_VARIATION)  # of evidence, one set of curves each
    # name in `Curves.scan`, "linear" or "log", and the values that become 0 and 1 (clipped)
    scalars: tuple[tuple[str, str, float, float], ...] = (
        ("half_turn", "linear", 0.0, 1.0),
        ("full_turn", "linear", 0.0, 1.0),
        ("short_turn", "linear", 0.0, 1.0),
        ("gap_deg", "linear", 0.0, 90.0),
        ("step_deg", "log", 0.3, 10.0),
        ("n_angles", "log", 25.0, 500.0),
        ("n_rows", "log", 1.0, 8.0),
        ("n_pairs", "linear", 0.0, 2.0),
        ("pair_motion_px", "linear", 0.0, 4.0),
        ("contrast", "log", 1.0, 1000.0),
        ("turning", "linear", 0.0, 1.0),
        ("air", "linear", 0.0, 1.0),
        ("theta_missing", "linear", 0.0, 1.0),
        ("minus_log", "linear", 0.0, 1.0),
    )
    # registration: these and the single ones are added (the hash holds the name)
    seam: tuple[str, ...] = ("pairs", "rows", "difference", "moving")
    slices: tuple[str, ...] = ("entropy", "edges")  # of these the highest counts
    single: tuple[str, ...] = ("wedge", "mass", TOTAL_VARIATION)
    clip_sigmas: float = 6.0  # standardised raw curves end there
    apart: int = 5  # least distance of two peaks, samples


RECIPE = Recipe()
_GONE = {
    "n_rivals": 5, "near": 2, "seam_lines": 32, "seam_cols": 96, "seam_long": 1 / 16,
    "slice_cols": 128, "slice_step": 2.0, "window": 40,
}  # fmt: skip
"""Removed inputs of version 9, hashed as before so that its weights still load."""


def recipe_hash(recipe: Recipe) -> str:
    """Return the sha256 of a recipe's canonical JSON, version included."""
    text = json.dumps(asdict(recipe) | _GONE, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
