"""Half acquisition beside nabu and Algotom on a phantom, and on a real scan that is cut.

    pip install nabu nxtomo httomolib algotom scikit-image   (where tomopipe is installed)
    python lab/benchmarks/bench_half.py [--full-rotation scan.h5]

What differs and why is in lab/results/half-acquisition.md.
"""

import argparse
import logging

import numpy as np
from algotom.prep import conversion
from bench_peers import rms, table
from nabu.reconstruction.sinogram import SinoBuilder, prepare_half_tomo_sinogram
from scipy.ndimage import gaussian_filter, shift

from tomopipe.config.preprocess import StripesBlock
from tomopipe.prep import stripes
from tomopipe.prep.half_acquisition import HalfAcquisition
from tomopipe.prep.normalise import normalise
from tomopipe.recon.angular_sampling import unpaired
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import image_positions, make_plan
from tomopipe.scans.exchange import open_scan

BODY = [(0.0, 0.0, 190.0, 0.01)] + [
    (150 * np.cos(k) * (k / 12), 150 * np.sin(k) * (k / 12), 9.0, 0.02) for k in range(1, 13)
]


def disks(theta, cor_px, n_cols):
    column = np.arange(n_cols)[None, :, None] + np.linspace(-0.5, 0.5, 9)
    sinogram = np.zeros((len(theta), n_cols))
    for x, y, radius, value in BODY:
        centre = (cor_px + x * np.cos(theta) - y * np.sin(theta))[:, None, None]
        sinogram += 2 * value * np.sqrt((radius**2 - (column - centre) ** 2).clip(0)).mean(-1)
    return sinogram.astype(np.float32)


def half():
    """Half acquisition of a disk of 380 px with beads: against the slice of a detector that wide.

    Its pixels lie where those of the narrow one do, and every sinogram goes through the same
    backprojection. The ring is the rms of the mean around the
    axis of the error, within 12 px of where the overlap ends.
    """
    rows = []
    for n_cols, cor_px in [(256, 216.0), (256, 216.3), (257, 39.25), (256, 243.5), (257, 20.4)]:
        theta = np.linspace(0, 2 * np.pi, 900, endpoint=False)
        made, wide = HalfAcquisition(n_cols, cor_px, unpaired(theta)), 2 * n_cols
        axis_px = made.wide_cor_px
        sinograms = disks(theta, axis_px, wide)[None]
        expected = reconstruct(sinograms, make_plan(theta, wide), axis_px)[0]
        sinogram = disks(theta, cor_px, n_cols)
        slices = {
            "tomopipe": reconstruct(
                made.widen(sinogram[None]),
                make_plan(theta, wide, one_sided=True),
                made.wide_cor_px,
            )[0]
        }
        builder = SinoBuilder(sinos_shape=(1, *sinogram.shape), rot_center=cor_px, halftomo=True)
        stitched = builder.get_sino(sinogram[:, None].copy(), 0)
        slices["nabu, stitched"] = placed(stitched, theta[:450], (stitched.shape[1] - 1) / 2, wide)
        padded = 2 * prepare_half_tomo_sinogram(sinogram.copy(), cor_px)
        left = padded.shape[1] - n_cols if cor_px < n_cols / 2 else 0
        slices["nabu, padded"] = placed(padded, theta, cor_px + left, wide)
        extended, axis_px = conversion.extend_sinogram(sinogram.copy(), cor_px, apply_log=False)
        slices["Algotom, extended"] = placed(extended.astype(np.float32), theta, axis_px, wide)
        again = np.vstack([sinogram, sinogram[:1]])  # it wants 0 and 360 degrees
        joined, axis_px = conversion.convert_sinogram_360_to_180(again, cor_px, norm=False)
        ends = np.linspace(0, np.pi, len(joined))
        slices["Algotom, stitched"] = placed(joined.astype(np.float32), ends, axis_px, wide)
        for name, image in slices.items():
            rows.append(
                (str(n_cols), f"{cor_px:g}", name, *errors(image - expected, n_cols, cor_px))
            )
    table(("columns", "COR", "by", "rms error, % of the body", "ring, %"), rows)


def cut_scan(path):
    """A real scan, cut so that its axis is near an edge, against the slice of all of it.

    The middle row; stripes are removed, which one half sees and the other does not, and both
    slices smoothed over 2 px, as half of the rays are noisier.
    """
    with open_scan(path) as scan:
        row = scan.n_rows // 2
        raw = scan.read_rows(row, row + 1)
        sinogram = normalise(raw, *(a[scan.n_rows // 2][None] for a in (scan.flat, scan.dark)))[
            :, 0
        ]
        theta = scan.theta_rad
    n_cols = sinogram.shape[1]
    sinogram = stripes.remove_by_sorting(sinogram, StripesBlock(size_px=21))
    first_half, second_half = np.array_split(sinogram[: len(theta) // 2 * 2], 2)
    cor_px = axis_of(first_half, second_half[:, ::-1])
    whole = reconstruct(sinogram[None], make_plan(theta, n_cols), cor_px)[0]
    rows = []
    for kept in (n_cols * 3 // 5, n_cols * 3 // 4):
        for first in (0, n_cols - kept):
            made = HalfAcquisition(kept, cor_px - first, unpaired(theta))
            part = np.ascontiguousarray(sinogram[:, first : first + kept])
            plan = make_plan(theta, 2 * kept, one_sided=True)
            image = reconstruct(made.widen(part[None]), plan, made.wide_cor_px)[0]
            margin = kept - n_cols // 2
            image = image[margin : margin + n_cols, margin : margin + n_cols]
            columns, lines = image_positions(n_cols)
            radius_px = min(max(made.cor_px, kept - 1 - made.cor_px), n_cols // 2) - 6
            inside = np.hypot(columns[None, :], lines[:, None]) < radius_px
            smooth, all_of_it = (gaussian_filter(each, 2)[inside] for each in (image, whole))
            difference = 100 * np.std(smooth - all_of_it) / np.std(all_of_it)
            ratio = smooth.mean() / all_of_it.mean()
            rows.append((f"{first} to {first + kept}", made.cor_px, difference, f"{ratio:.3f}"))
    table(("columns", "COR in them", "rms difference, % of the spread", "ratio of means"), rows)


def axis_of(first_half, second_half):
    """COR at which sinograms 180 degrees apart agree best, to a quarter of a pixel."""
    n_cols = first_half.shape[1]
    middle, tries = (n_cols - 1) / 2, {}
    for cor_px in np.arange(middle - 20, middle + 20, 0.25):
        moved = shift(second_half, (0, 2 * (cor_px - middle)), order=1, mode="nearest")
        tries[np.mean((first_half - moved)[:, 45:-45] ** 2)] = float(cor_px)
    return tries[min(tries)]


def placed(sinogram, theta, cor_px, wide):
    """Reconstruct, and cut or fill to the voxels of the wide slice, axis on axis."""
    n = sinogram.shape[1]
    image = reconstruct(sinogram[None].astype(np.float32), make_plan(theta, n), cor_px)[0]
    out = np.zeros((wide, wide), np.float32)
    # voxel (n // 2 - 1, n // 2) is the axis
    margin = wide // 2 - n // 2
    low, high = max(margin, 0), min(margin + n, wide)
    out[low:high, low:high] = image[low - margin : high - margin, low - margin : high - margin]
    return out


def errors(error, n_cols, cor_px):
    columns, rows = image_positions(2 * n_cols)
    radius = np.hypot(columns[None, :], rows[:, None])
    overlap = min(cor_px, n_cols - 1 - cor_px)
    rings_px = np.arange(max(overlap - 12, 2), overlap + 12)
    ring = [error[np.abs(radius - r) < 0.5].mean() for r in rings_px]
    return 100 * rms(error[radius < 185]) / 0.01, 100 * rms(ring) / 0.01


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--full-rotation", help="a scan of a full rotation, axis near the middle: cut it"
    )
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.full_rotation:
        cut_scan(options.full_rotation)
    else:
        half()


if __name__ == "__main__":
    main()
