"""Flats that show the sample, which others of the same scan do not: the stage had not moved out.

A set of flats is divided by another one. The beam changes this ratio as a whole, or along a slope;
dust, stripes and a beam that moves leave structure that is not the sample's. A sample leaves its
shadow, which some projection, or the mean of all (flats of a stage that turns), divided by the
other set shows, too.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.collected_rows import Rows
from tomopipe.prep.normalise import listed_numbers

_MOST_SETS, _PARTS = 12, 6  # sets that are compared; parts of flats of one set
_LEAST_PARTS = 4  # of columns
_LIT = 0.05  # least share of the median signal
_LEAST = 1e-3  # of a flat, in the logarithm
# Size (root mean square of the line integrals), correlation with the sample, and its share of the
# whole, with what is smooth. No simulated sound scan of 1222 is beyond all of them (beams that
# drift and move, dust between sets, 64 to 1536 columns); with a sample in one set 94 % are
# (lab/benchmarks/bench_flats.py).
_SIZE, _ALIKE, _SHARE = 0.05, 0.9, (0.5, 2.5)


def warn_of_sample_in_some_flats(rows: Rows) -> list[str]:
    """Return warnings, at most one, that some of the flats show the sample."""
    odd = sample_in_flats(rows)
    if not odd.any():
        return []
    return [
        f"{odd.sum()} of {len(odd)} flats {'shows' if odd.sum() == 1 else 'show'} the sample "
        f"(number {listed_numbers(odd)}), so the volume is wrong: leave them out (input.frames, "
        f"`{odd.sum()} invalid`; of HDF5 files with input.paths.data), or give other flats "
        "(preprocess: {flats: ANOTHER_SCAN}), or measure again"
    ]


def sample_in_flats(rows: Rows) -> NDArray[np.bool_]:
    """Return which flats show the sample, (n_flats,); none of all, or of flats that are alone."""
    if rows.flat_parts is None or rows.flat_positions is None or rows.image_parts is None:
        return np.zeros(0, bool)
    parts, images = rows.flat_parts.astype(np.float64), rows.image_parts.astype(np.float64)
    odd, mean = np.zeros(len(parts), bool), parts.mean(axis=0)
    lit = mean > _LIT * np.median(mean)
    in_light = lit.mean(axis=1) > 0.5  # rows
    columns = lit[in_light].all(axis=0)
    if columns.sum() < _LEAST_PARTS or not in_light.any():
        return odd
    mean, parts, images = (a[..., in_light, :][..., columns] for a in (mean, parts, images))
    images = _logarithm(np.concatenate([images.mean(axis=0, keepdims=True), images]))
    flats = _logarithm(parts / mean)
    sets = _sets(rows.flat_positions)
    of_sets = np.stack([flats[part].mean(axis=0) for part in sets])
    best = 0.0
    for other in of_sets:
        shadows, samples = other - of_sets, other - images
        alike, n = _likeness(shadows, samples)
        if alike.sum() > best:
            best, odd = float(alike.sum()), np.zeros(len(parts), bool)
            for number in np.flatnonzero(alike):
                sample = _without_slope(samples[n[number]])
                shares = _products(_without_slope(other - flats), sample)
                odd |= shares > shares[sets[number]].mean() / 2
    return odd


def _likeness(
    shadows: NDArray[np.float64], samples: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the correlation of each shadow with a sample, 0 where it is none; and with which.

    Both are line integrals (n, n_rows, n_parts).
    """
    steep_shadows, steep_samples = _without_slope(shadows), _without_slope(samples)
    size = np.sqrt(np.mean(steep_shadows**2, axis=(1, 2)))
    of_samples = np.sqrt(np.mean(steep_samples**2, axis=(1, 2)))
    products = np.stack([_products(steep_shadows, sample) for sample in steep_samples], axis=1)
    products /= shadows[0].size * np.maximum(size[:, None] * of_samples, 1e-12)
    n = products.argmax(axis=1)
    alike = products[np.arange(len(n)), n]
    share = [
        (shadow * sample).sum() / max((sample**2).sum(), 1e-12)
        for shadow, sample in zip(shadows, samples[n], strict=True)
    ]
    is_sample = (size > _SIZE) & (alike > _ALIKE)
    is_sample &= (np.array(share) > _SHARE[0]) & (np.array(share) < _SHARE[1])
    return np.where(is_sample, alike, 0.0), n


def _sets(positions: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Return the numbers of flats that were taken together; parts of them where this is one set."""
    numbers = np.arange(len(positions))
    changes = np.flatnonzero(np.diff(np.nan_to_num(positions, nan=-1.0)) != 0) + 1
    if 0 < len(changes) < _MOST_SETS:
        return [numbers[slice(*ends)] for ends in pairwise([0, *changes, len(positions)])]
    n_parts = _MOST_SETS if len(changes) else _PARTS
    return np.array_split(numbers, min(n_parts, len(positions)))


def _logarithm(light: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(np.nan_to_num(light), _LEAST))


def _products(images: NDArray[np.float64], image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of products of images with another one."""
    return np.asarray(np.tensordot(images, image, axes=2))


def _without_slope(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract from each row of images (..., n_rows, n_parts) the line that fits best."""
    x = np.linspace(-1, 1, lines.shape[-1])
    slope = lines @ x / (x @ x)
    return lines - lines.mean(axis=-1, keepdims=True) - slope[..., None] * x
