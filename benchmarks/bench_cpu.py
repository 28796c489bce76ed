"""CPU time per slice of the engine against finufft, one thread each, and the images' quality.

    python benchmarks/bench_cpu.py --n 512 1024 --rounds 15 --sweep

finufft is called simply (eps 1e-3, upsampling 1.25, two real slices in one complex one) on rows
padded to twice their length and transformed by SciPy. It gets the thinned-out samples of the
design notes, 1.25 N per ray of both signs, where the engine spreads 2 N: fewer, hence cheaper.
In each round every candidate runs once, in rotating order; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import time
from collections import deque

import finufft
import numpy as np
import scipy.fft

from tomopipe.recon.angles import angle_weights
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.filters import filter_response
from tomopipe.recon.plan import fast_even_size, image_positions, make_plan
from tomopipe.recon.staged import least_variation, staged_sweep
from tomopipe.recon.sweep import sweep_batches

N_SLICES = 16
N_CORS = 100
# centre x, y and radii in units of n, value; sharp ellipses
ELLIPSES = [
    (0.0, 0.0, 0.40, 0.44, 1.0),
    (0.10, -0.15, 0.08, 0.12, -0.4),
    (-0.16, 0.08, 0.06, 0.05, 0.6),
    (0.05, 0.25, 0.04, 0.03, 0.8),
    (-0.2, -0.2, 0.02, 0.05, -0.5),
]
# centre, 1 / e radius in units of n, value; smooth blobs
BLOBS = [(0.0, 0.0, 0.12, 1.0), (0.12, -0.16, 0.04, -0.5), (-0.15, 0.1, 0.03, 0.7)]


def sharp(n: int, theta_rad, cor_px: float):
    """Return sinogram and pixel-averaged image of ellipses."""
    fine = (np.arange(4) + 0.5) / 4 - 0.5
    column = np.arange(n)[None, :, None] + fine
    x, y = (p[:, None] + fine for p in image_positions(n))
    sinogram, image = np.zeros((len(theta_rad), n)), np.zeros((n, n))
    for cx, cy, rx, ry, value in np.array(ELLIPSES) * [n, n, n, n, 1]:
        axis = cor_px + cx * np.cos(theta_rad) - cy * np.sin(theta_rad)
        width2 = (rx * np.cos(theta_rad)) ** 2 + (ry * np.sin(theta_rad)) ** 2
        s2 = (column - axis[:, None, None]) ** 2
        chord = np.sqrt(np.clip(width2[:, None, None] - s2, 0, None)).mean(-1)
        sinogram += value * 2 * rx * ry * chord / width2[:, None]
        for v in range(4):
            for u in range(4):
                inside = ((x[:, u] - cx) / rx) ** 2 + (((y[:, v] - cy) / ry) ** 2)[:, None] < 1
                image += value / 16 * inside
    return sinogram.astype(np.float32), image


def smooth(n: int, theta_rad, cor_px: float):
    """Return sinogram and image of Gaussian blobs."""
    x, y = image_positions(n)
    sinogram, image = np.zeros((len(theta_rad), n)), np.zeros((n, n))
    for cx, cy, radius, value in np.array(BLOBS) * [n, n, n, 1]:
        axis = cor_px + cx * np.cos(theta_rad) - cy * np.sin(theta_rad)
        s2 = (np.arange(n)[None, :] - axis[:, None]) ** 2
        sinogram += value * radius * np.sqrt(np.pi) * np.exp(-s2 / radius**2)
        image += value * np.exp(-((x - cx) ** 2 + ((y - cy) ** 2)[:, None]) / radius**2)
    return sinogram.astype(np.float32), image


class WithFinufft:
    """The same sum by finufft."""

    def __init__(self, theta_rad, n: int) -> None:
        self.n, self.n_padded = n, fast_even_size(2 * n)
        k = np.arange(-self.n_padded // 2 + 1, self.n_padded // 2)
        fade = np.clip(2 - abs(k) / (self.n_padded / 16), 0, 1)
        gain = np.where(k % 2 == 0, 2 - fade, fade)
        self.k, gain = k[gain > 0], gain[gain > 0]
        response = filter_response("ramp", self.n_padded)[abs(self.k)]
        self.gain = gain * response / self.n_padded
        self.weight = angle_weights(theta_rad)
        turn = 2 * np.pi * self.k / self.n_padded
        self.x = (np.cos(theta_rad)[:, None] * turn).ravel().astype(np.float32)
        self.y = (-np.sin(theta_rad)[:, None] * turn).ravel().astype(np.float32)

    def __call__(self, sinograms, cor_px: float):
        """Reconstruct pairs of slices."""
        n, n_padded = self.n, self.n_padded
        n_right = (n_padded - n) // 2
        phase = np.exp(2j * np.pi * self.k * cor_px / n_padded) * self.gain
        factor = (self.weight[:, None] * phase).astype(np.complex64)
        samples = np.empty((len(sinograms) // 2, len(self.x)), np.complex64)
        padded = np.empty((2, len(factor), n_padded), np.float32)
        negative = self.k < 0
        for i in range(len(samples)):
            pair = sinograms[2 * i : 2 * i + 2]
            padded[..., :n] = pair
            padded[..., n : n + n_right] = pair[..., -1:]
            padded[..., n + n_right :] = pair[..., :1]
            spectra = scipy.fft.rfft(padded)[..., abs(self.k)]
            spectra[..., negative] = spectra[..., negative].conj()
            samples[i] = ((spectra[0] + 1j * spectra[1]) * factor).ravel()
        images = finufft.nufft2d1(
            self.y, self.x, samples, (n + 1, n + 1),
            eps=1e-3, isign=1, upsampfac=1.25, nthreads=1,
        )  # fmt: skip
        first = (n + 1) // 2 - (n // 2 - 1), (n + 1) // 2 - n // 2
        images = images[:, first[0] : first[0] + n, first[1] : first[1] + n]
        return np.stack([images.real, images.imag], axis=1).reshape(-1, n, n)


def psnr_db(image, truth) -> float:
    """Return the PSNR inside 0.45 n, nothing fitted."""
    x, y = image_positions(len(truth))
    inside = x**2 + (y**2)[:, None] < (0.45 * len(truth)) ** 2
    error = (image - truth)[inside]
    return float(20 * np.log10(np.ptp(truth) / np.sqrt((error**2).mean())))


def interval(values) -> tuple[float, float, float]:
    """Return the median and its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).choice(values, (4000, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def rotate(candidates, n_rounds: int) -> dict[str, np.ndarray]:
    """Return the CPU seconds of each candidate in each round; the order rotates."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(n_rounds):
        names = list(candidates)
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            started = time.process_time()
            candidates[name]()
            seconds[name].append(time.process_time() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def compare(n: int, n_rounds: int) -> None:
    """Print one row of the table of full reconstruction."""
    theta_rad = np.linspace(0, np.pi, 3 * n // 2, endpoint=False)
    cor_px = n / 2 + 3.3
    rng = np.random.default_rng(0)
    sinogram, truth = sharp(n, theta_rad, cor_px)
    sinograms = np.stack([sinogram] * N_SLICES)
    sinograms[1:] += rng.normal(0, 0.01, (N_SLICES - 1, 1, n)).astype(np.float32)
    images = np.zeros((N_SLICES, n, n), np.float32)
    started = time.process_time()
    plan = make_plan(theta_rad, n)
    reconstruct(sinograms, plan, cor_px, threads=1, out=images)
    first_s = time.process_time() - started
    rival = WithFinufft(theta_rad, n)
    candidates = {
        "ours": lambda: reconstruct(sinograms, plan, cor_px, threads=1, out=images),
        "finufft": lambda: rival(sinograms, cor_px),
    }
    quality = {name: psnr_db(run()[0], truth) for name, run in candidates.items()}
    blobs, blob_truth = smooth(n, theta_rad, cor_px)
    quality["smooth"] = psnr_db(reconstruct(blobs[None], plan, cor_px)[0], blob_truth)
    seconds = rotate(candidates, n_rounds)
    ratio = interval(seconds["ours"] / seconds["finufft"])
    ours, theirs = (1e3 * np.median(seconds[name]) / N_SLICES for name in candidates)
    print(
        f"{n:6d} {len(theta_rad):6d} {ours:8.2f} {theirs:8.2f} "
        f"{ratio[0]:7.3f} ({ratio[1]:.3f} to {ratio[2]:.3f}) "
        f"{quality['ours']:6.1f} {quality['finufft']:6.1f} {quality['smooth']:6.1f} "
        f"{first_s - np.median(seconds['ours']):8.2f}",
        flush=True,
    )


def compare_sweep(n: int, n_rounds: int) -> None:
    """Print one row of the table of sweeps: times of N_CORS slices by finufft."""
    theta_rad = np.linspace(0, np.pi, 3 * n // 2, endpoint=False)
    sinogram, _ = sharp(n, theta_rad, n / 2 + 3.3)
    sinograms = np.stack([sinogram] * N_SLICES)
    cor_px = n / 2 + np.linspace(-25, 24.5, N_CORS)
    plan, rival = make_plan(theta_rad, n), WithFinufft(theta_rad, n)
    candidates = {
        "full": lambda: deque(sweep_batches(sinogram, plan, cor_px, threads=1), maxlen=0),
        "staged": lambda: staged_sweep(sinogram, plan, cor_px, least_variation, threads=1),
        "finufft": lambda: rival(sinograms, n / 2 + 3.3),
    }
    for run in candidates.values():
        run()
    seconds = rotate(candidates, n_rounds)
    theirs = seconds["finufft"] * N_CORS / N_SLICES
    for name in ("full", "staged"):
        speed = interval(theirs / seconds[name])
        print(
            f"{n:6d} {name:>8} {np.median(seconds[name]):8.3f} "
            f"{speed[0]:7.1f} ({speed[1]:.1f} to {speed[2]:.1f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[512, 1024], help="detector columns")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sweep", action="store_true", help=f"also {N_CORS} CORs of one sinogram")
    options = parser.parse_args()
    reconstruct(np.zeros((N_SLICES, 4, 64), np.float32), make_plan(np.arange(4), 64), 31.5)
    print(
        "     n angles  ours ms finufft  ratio (95 % interval)    sharp dB: ours, finufft; "
        "smooth dB; plan s"
    )
    for n in options.n:
        compare(n, options.rounds)
    if options.sweep:
        print(f"     n    sweep    CPU s   times faster than {N_CORS} slices by finufft")
        for n in options.n:
            compare_sweep(n, options.rounds)


if __name__ == "__main__":
    main()
