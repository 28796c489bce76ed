"""Flats whose pattern of pixels is not that of the projections: of another region, or mirrored.

Right flats take the pattern of scintillator and camera out of the projections. Of others it remains
in their mean, where it looks like a sample that does not rotate: slices have rings.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.arrays import NORMAL_PER_MAD, evenly_spread
from tomopipe.cor.collected_rows import Rows

_WIDTH = 9  # columns; what is wider may be the beam or the sample
_CLIP = 4.0  # standard deviations: spots of dust must not decide
# Least size of a pattern (root mean square of the logarithm), by itself and by its noise.
_SIZE, _OVER_NOISE = 0.002, 3.0
# Least share of the pattern that remains, and its correlation with the mean projection. Right flats
# leave -0.2 to 0.1, also one flat alone and those of the tooth; moved by a pixel or mirrored ones
# 0.7 to 1, at a correlation of 0.6.
_REMAINS, _ALIKE = 0.5, 0.4
_N_PAIRS = 64  # of neighbouring projections, which show the noise
_OF_NORMAL = NORMAL_PER_MAD**-2  # median of the square of a normal variable


def warn_of_other_flats(rows: Rows) -> list[str]:
    """Return warnings, at most one, that the flats do not fit to the projections."""
    share = remaining_pattern(rows)
    if share < _REMAINS:
        return []
    return [
        f"the flats do not fit the projections: {min(share, 1):.0%} of the pattern of their pixels "
        "is left in these, so slices have rings: are they of another region of the camera, of "
        "another camera, or mirrored (preprocess: {flats: ANOTHER_SCAN}), or does a pattern of the "
        "beam move (preprocess.flat_method: pca)?"
    ]


def remaining_pattern(rows: Rows) -> float:
    """Return the share of the flats' pattern that is left in the projections; 0 if uncertain."""
    if rows.flat_lines is None or not rows.minus_log or min(rows.sinograms.shape) < 2:
        return 0.0
    n_flats = 1 if rows.flat_levels is None else max(1, len(rows.flat_levels))
    lit = (rows.flat_lines > 0).all(axis=1)
    if not lit.any():
        return 0.0
    lines = rows.sinograms[lit]
    pattern = _pattern(np.log(rows.flat_lines[lit].astype(np.float64)))
    mean = _pattern(lines.mean(axis=1, dtype=np.float64))
    before = evenly_spread(lines.shape[1] - 1, _N_PAIRS)
    steps = lines[:, before + 1] - lines[:, before]
    noise = np.median(steps * steps, axis=(1, 2)) / (2 * _OF_NORMAL * n_flats)
    of_noise = float(noise.mean())
    size, of_mean, both = (
        float(np.mean(a * b)) for a, b in ((pattern, pattern), (mean, mean), (pattern, mean))
    )
    alike = both / max(np.sqrt(size * of_mean), np.finfo(float).tiny)
    if size < max(_SIZE**2, _OVER_NOISE * of_noise) or alike < _ALIKE:
        return 0.0
    return (both - of_noise) / (size - of_noise)


def _pattern(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what is narrow in lines (n_rows, n_cols), the largest values limited."""
    narrow = lines - ndimage.median_filter(lines, (1, _WIDTH), mode="nearest")
    most = _CLIP * np.sqrt(np.median(narrow**2, axis=1, keepdims=True) / _OF_NORMAL)
    return np.clip(narrow, -most, most)
