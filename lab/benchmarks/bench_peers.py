"""Corrections beside those of nabu, HTTomo's library and Algotom: the same data, a known truth.

    pip install nabu nxtomo httomolib algotom scikit-image   (where tomopipe is installed)
    python lab/benchmarks/bench_peers.py [--only paganin]

Prints tables of rms errors; what differs and why is in lab/results/corrections.md. Half
acquisition: bench_half.py.
"""

import argparse
import logging
import warnings

import numpy as np
from algotom.prep import filtering, removal
from httomolib.prep.phase import paganin_filter
from nabu.estimation.tilt import CameraTilt
from nabu.preproc.ccd import CCDFilter
from nabu.preproc.double_flatfield import DoubleFlatField
from nabu.preproc.flatfield import (
    FlatFieldArrays,
    PCAFlatsDecomposer,
    PCAFlatsNormalizer,
)
from nabu.preproc.phase import PaganinPhaseRetrieval
from nabu.reconstruction.rings import MunchDeringer, SinoMeanDeringer, VoDeringer
from scipy.ndimage import gaussian_filter

from tomopipe.config.preprocess import StripesBlock
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.roll import measure_roll
from tomopipe.cor.rows_file import Rows
from tomopipe.prep import stripes
from tomopipe.prep.bad_pixels import remove_zingers
from tomopipe.prep.dynamic_flats import look_for_air, principal_shapes, relative_changes
from tomopipe.prep.flats import Beam, hat_weights
from tomopipe.prep.normalise import normalise
from tomopipe.prep.phase import filter_strength, retrieve_phase
from tomopipe.prep.warp import Warp, apply_warp
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.simulate.objects import KINDS
from tomopipe.simulate.phantom import project

DARK = 100.0


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=float))))


def table(header, rows):
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for row in rows:
        cells = [cell if isinstance(cell, str) else f"{cell:.3g}" for cell in row]
        print("| " + " | ".join(cells) + " |", flush=True)


def beams(n, shape, random):
    """Flats without noise of a beam that drifts, and of two that flicker in two patterns each."""
    # bands as of a multilayer: sharp along the rows, as those of beamlines are
    first, second = (gaussian_filter(random.normal(0, 1, shape), (1, 20)) for _ in range(2))
    base = 20000 * (1 + 0.3 * first / first.std() * 0.3)
    steady = base * (1 + np.linspace(0, 0.1, n)[:, None, None] * second / second.std())
    weight = random.normal(0, 0.03, (n, 2))
    patterns = np.stack([first / first.std(), second / second.std()])
    bands = base * (1 + np.tensordot(weight, patterns, 1))
    y, x = np.mgrid[: shape[0], : shape[1]] / shape[1]
    patterns = np.stack([np.cos(2 * np.pi * x), np.sin(2 * np.pi * (x + y))])
    return steady, bands, base * (1 + np.tensordot(random.normal(0, 0.05, (n, 2)), patterns, 1))


def flats():
    """Projections of a rock between 3 sets of 8 flats; the beam drifts by a tenth, or flickers."""
    random = np.random.default_rng(0)
    n, shape = 120, (64, 96)
    frames = np.arange(n + 24)
    is_flat = (frames % 68) < 8
    true = np.exp(-project(KINDS["rock"](96, 64, 3), np.linspace(0, 3, n), 47.0, 64, 96))
    taken = [np.flatnonzero(is_flat)[8 * k : 8 * k + 8] for k in range(3)]
    rows = []
    for kind, beam in zip(
        ("drift", "bands flicker", "smooth flicker"), beams(n + 24, shape, random), strict=True
    ):
        through = np.ones((n + 24, *shape))
        through[~is_flat] = true
        raw = (random.poisson(beam * through) + DARK).astype(np.float32)
        dark = np.full(shape, DARK, np.float32)
        means = np.stack([raw[flats].mean(0) for flats in taken])
        plain = normalise(raw[~is_flat], raw[is_flat].mean(0), dark, minus_log=False)
        theirs = FlatFieldArrays(
            (n, *shape),
            {int(flats.mean()): mean for flats, mean in zip(taken, means, strict=True)},
            {0: dark},
            radios_indices=frames[~is_flat],
        ).normalize_radios(raw[~is_flat].copy())
        ours = normalise(raw[~is_flat], means[0], dark, minus_log=False)
        weights = hat_weights(n, np.array([0.0, 60.0, 120.0]))[:, 1:]
        shapes = relative_changes(means[0], means[1:], dark)
        Beam(means[0], dark, shapes, weights).divide(ours, (0, n), (0, shape[0]))
        noise = rms(np.sqrt(true / beam[~is_flat]))
        rows.append((kind, "mean", rms(plain - true), "", noise))
        rows.append((kind, "interpolated", rms(ours - true), rms(theirs - true), noise))
        pca = (
            rms(dynamic(raw, is_flat, dark) - true),
            rms(dynamic_nabu(raw, is_flat, true > 0.99) - true),
        )
        rows.append((kind, "principal components", *pca, noise))
    table(("beam", "flats", "tomopipe", "nabu", "photon noise"), rows)


def dynamic(raw, is_flat, dark):
    flat = raw[is_flat].mean(0)
    n_rows = len(dark)

    def read(first, last):
        return raw[is_flat, first:last]

    shapes = principal_shapes(read, [(0, n_rows)], flat, dark, 2)
    done = normalise(raw[~is_flat], flat, dark, minus_log=False)
    flats = normalise(raw[is_flat], flat, dark, minus_log=False)
    fit = look_for_air(done[::3], flats, shapes, np.ones(dark.shape, bool), flat - dark)
    weights = fit.weights(done).astype(np.float32)
    Beam(flat, dark, shapes, weights).divide(done, (0, len(done)), (0, n_rows))
    return done


def dynamic_nabu(raw, is_flat, air):
    """Its fit is given which pixels of each projection are air."""
    dark = np.full(raw.shape[1:], DARK, np.float32)
    parts = PCAFlatsDecomposer(raw[is_flat] - dark, dark * 0)
    projections = raw[~is_flat].copy()
    fit = PCAFlatsNormalizer(parts.components, dark, parts.mean)
    for projection, mask in zip(projections, air, strict=True):
        fit.normalize_radios(projection[None], mask=mask)
    return projections


def paganin():
    """-log of the filtered projection of a rock; 25 keV, 1 um, 50 mm, delta/beta 100 and 1000."""
    random = np.random.default_rng(1)
    shape = (200, 256)
    line = project(KINDS["rock"](256, 200, 3), np.zeros(1), 127.0, *shape)[0]
    image = (random.poisson(2e4 * np.exp(-line)) / 2e4).astype(np.float32)
    rows = []
    for ratio in (100, 1000):
        alpha = filter_strength(energy_kev=25, distance_mm=50, pixel_size_um=1, delta_beta=ratio)
        ours = -np.log(retrieve_phase(image[None], alpha_px2=alpha, rows=(0, shape[0]))[0])
        nabu = PaganinPhaseRetrieval(
            shape, distance=0.05, energy=25, delta_beta=ratio, pixel_size=1e-6
        )
        algotom = filtering.fresnel_filter(
            image, 4 * np.pi**2 * alpha, dim=2, pad=200, apply_log=False
        )
        padded = filtering.fresnel_filter(
            np.pad(image, 200, mode="edge"), 4 * np.pi**2 * alpha, dim=2, pad=0, apply_log=False
        )[200:-200, 200:-200]
        # micrometres and millimetres to centimetres; its alpha is not delta/beta
        known = {"pixel_size": 1e-4, "dist": 5, "energy": 25}
        httomo, again = (paganin_filter(image[None], alpha=a / ratio, **known)[0] for a in (1, 4))
        for name, other in [
            ("nabu", -np.log(nabu.retrieve_phase(image))),
            ("Algotom", -np.log(algotom)),
            ("Algotom, padded before", -np.log(padded)),
            ("httomolib, alpha = beta/delta", httomo),
            ("httomolib, alpha = 4 beta/delta", again),
        ]:
            error = rms(other - ours) / np.ptp(ours)
            rows.append((str(ratio), f"{alpha:.1f}", name, 100 * error))
    table(("delta/beta", "alpha, px2", "peer", "rms difference, % of the range"), rows)


def rings():
    """A rock's sinogram with stripes of one column; what is left of them, and of the rock."""
    random = np.random.default_rng(2)
    theta = np.linspace(0, np.pi, 720, endpoint=False)
    clean = project(KINDS["rock"](512, 5, 3), theta, 256.0, 5, 512)[:, 2]
    stripe = np.zeros(512)
    stripe[random.choice(512, 24, replace=False)] = random.normal(0, 0.05, 24)
    sino = (clean + random.normal(0, 0.005, clean.shape) + stripe).astype(np.float32)
    plan = make_plan(theta, 512)

    def change(before, after):
        slices = reconstruct(np.stack([before, after]).astype(np.float32), plan, 256.0)
        return rms(slices[1] - slices[0])

    def peer(made):
        def remove(sinogram):
            done = np.array(sinogram[None])
            made.remove_rings(done)  # in place
            return done[0]

        return remove

    filters = {
        "fourier-wavelet, 5 levels": lambda s: stripes.remove_by_wavelets(s, StripesBlock(level=5)),
        "nabu MunchDeringer, db9, 5 levels, padded": peer(
            MunchDeringer(clean.shape, 1.0, levels=5, wname="db9", padding=True)
        ),
        "Algotom wavelet-fft, db9, 5 levels": removal.remove_stripe_based_wavelet_fft,
        "vo 51, 21": lambda s: stripes.remove_by_combination(
            s, StripesBlock(large_px=51, size_px=21)
        ),
        "nabu VoDeringer": peer(VoDeringer(clean.shape)),
        "sorting 21": lambda s: stripes.remove_by_sorting(s, StripesBlock(size_px=21)),
        "Algotom sorting 21": lambda s: removal.remove_stripe_based_sorting(s, 21),
        "nabu SinoMeanDeringer, (0, 30)": peer(
            SinoMeanDeringer(clean.shape, filter_cutoff=(0, 30))
        ),
        "nabu DoubleFlatField, sigma 10": double_flat,
    }
    base, spread = change(sino, sino - stripe), np.std(reconstruct(clean[None], plan, 256.0))
    rows = []
    for name, remove in filters.items():
        left = change(remove(sino.copy()), remove((sino - stripe).astype(np.float32)))
        rows.append((name, 100 * left / base, 100 * change(clean, remove(clean.copy())) / spread))
    table(("filter", "rings left, %", "detail lost, %"), rows)


def double_flat(sinogram):
    """Its double flat field of one row."""
    images = np.exp(-sinogram)[:, None, :].astype(np.float32)
    made = DoubleFlatField(
        images.shape,
        input_is_mlog=False,
        output_is_mlog=False,
        average_is_on_log=True,
        sigma_filter=10,
    )
    return -np.log(made.apply_double_flatfield(images))[:, 0]


def zingers():
    """200 zingers of 1 to 4 pixels on a noisy projection: left, and valid pixels changed."""
    random = np.random.default_rng(3)
    line = project(KINDS["rock"](512, 256, 3), np.zeros(1), 255.0, 256, 512)[0]
    image = (random.poisson(2e4 * np.exp(-line)) / 2e4).astype(np.float32)
    spoilt = image.copy()
    for y, x in zip(random.integers(0, 255, 200), random.integers(0, 511, 200), strict=True):
        high, wide = random.integers(1, 3, 2)
        spoilt[y : y + high, x : x + wide] += random.uniform(0.5, 3)
    hit = spoilt != image
    clip = CCDFilter(image.shape, median_clip_thresh=0.2)
    results = {
        "tomopipe, 5 px, 0.2": remove_zingers(spoilt[None], threshold=0.2, size_px=5)[0],
        "tomopipe, 3 px, 0.2": remove_zingers(spoilt[None], threshold=0.2)[0],
        "nabu median clip, 3 px, 0.2": clip.median_clip_correction(spoilt),
        "nabu dezinger, 5 sigma": CCDFilter((1, *image.shape)).dezinger_correction(spoilt[None])[0],
        "Algotom, 0.2": removal.remove_zinger(spoilt, 0.2, size=2),
    }
    rows = [
        (
            name,
            100 * np.mean(np.abs(done - image)[hit] > 0.2),
            100 * np.mean(done[~hit] != image[~hit]),
            100 * rms(done - image),
        )
        for name, done in results.items()
    ]
    table(("filter", "zingers left, %", "valid pixels changed, %", "rms error, %"), rows)


def roll():
    """Projections 180 degrees apart of a rock on a detector that tomopipe's roll corrects."""
    rows = []
    for roll_deg in (-0.6, 0.4):
        warp = Warp(256, 256, -roll_deg)  # the inverse of the correction
        pair = project(KINDS["rock"](256, 256, 3), np.array([0, np.pi]), 127.5, 256, 256)
        pair = apply_warp(pair.astype(np.float32), warp, (0, 256), (0, 256))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, tilt = CameraTilt().compute_angle(pair[0], pair[1][:, ::-1], method="1d-correlation")
        nothing = np.zeros((1, 2, 256), np.float32)
        opposing = Rows(
            sinograms=nothing,
            row_index=np.zeros(1, np.int64),
            theta_rad=np.array([0, np.pi]),
            pairs=pair[None],
            pair_theta_rad=np.array([[0, np.pi]]),
            n_rows=256,
            theta_missing=False,
            minus_log=True,
            failed="",
        )
        measured = measure_roll(Prepared(opposing), 127.5)
        found = np.nan if measured is None else np.degrees(np.arctan(measured[0] / 100))
        rows.append((f"{roll_deg:g}", float(found), float(tilt)))
    table(("roll put in, degrees", "tomopipe roll_deg", "nabu tilt"), rows)


PARTS = {part.__name__: part for part in (flats, paganin, rings, zingers, roll)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one of the comparisons")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for name, part in PARTS.items():
        if options.only in (None, name):
            print(f"\n## {name}\n{part.__doc__.splitlines()[0]}\n")
            part()


if __name__ == "__main__":
    main()
