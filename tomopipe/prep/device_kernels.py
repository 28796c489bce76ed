"""The functions of `tomopipe.prep.host_kernels` for a GPU, by CuPy.

Wavelets are filtered tap by tap; PyWavelets only provides the taps.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pywt

from tomopipe.arrays import module_of, ndimage_of, on_host
from tomopipe.prep.normalise import normaliser
from tomopipe.recon import cuda

LINES = 2**15  # columns sorted at a time: all of a sinogram, as each operation is a launch
SOURCES = {  # of `transmission`, by the type of raw values
    dtype: f"#define RAW {raw}\n#define WIDE {wide}\n"
    + Path(__file__).with_name("transmission.cu").read_text(encoding="utf-8")
    for dtype, raw, wide in [
        ("uint8", "unsigned char", "float"), ("uint16", "unsigned short", "float"),
        ("int16", "short", "float"), ("uint32", "unsigned int", "double"),
        ("int32", "int", "double"), ("float32", "float", "float"), ("float64", "double", "double"),
    ]
}  # fmt: skip


def transmission(
    raw: Any, dark: Any, gain: Any, nearest: Any, *, empty: float, least: float
) -> Any:
    """Return (raw - dark) gain, or if `least` is above 0 the negative logarithm of at least that.

    `dark`, `gain` and `nearest` are from `normalise.pixel_tables`. Rows come before frames in
    memory.
    """
    xp, (n_frames, n_rows, n_cols) = module_of(raw), raw.shape
    if cuda.is_plain:
        return _plain_transmission(raw, dark, gain, nearest, empty=empty, least=least)
    if raw.dtype.name not in SOURCES:
        raw = raw.astype(np.float64)
    out = xp.empty((n_rows, n_frames, n_cols), np.float32)
    if raw.size:
        cuda.kernel(xp, SOURCES[raw.dtype.name], "transmission")(
            (n_frames, n_rows), (256,),
            (xp.ascontiguousarray(raw), dark, gain, nearest, out,
             np.int32(n_rows), np.int32(n_cols), np.float32(empty), np.float32(least)),
        )  # fmt: skip
    return out.transpose(1, 0, 2)


def _plain_transmission(
    raw: Any, dark: Any, gain: Any, nearest: Any, *, empty: float, least: float
) -> Any:
    """As `transmission`, by plain operations; frames with non-finite values go to the host."""
    xp = module_of(raw)
    out = xp.empty((raw.shape[1], len(raw), raw.shape[2]), np.float32).transpose(1, 0, 2)
    xp.subtract(raw, dark, out=out, casting="unsafe")
    out *= gain
    is_broken = on_host(~xp.isfinite(out).all(axis=(1, 2)))
    rows = xp.arange(raw.shape[1])[:, None]
    out[...] = xp.where(nearest < 0, xp.float32(empty), out[:, rows, xp.maximum(nearest, 0)])
    if least > 0:
        xp.maximum(out, xp.float32(least), out=out)
        xp.log(out, out=out)
        xp.negative(out, out=out)
    if is_broken.any():
        dark, gain = on_host(dark), on_host(gain)
        flat = dark + 1 / np.where(gain > 0, gain, np.float32(np.inf))
        correct = normaliser(flat, dark, minus_log=least > 0, empty=empty)
        for frame in np.flatnonzero(is_broken):
            out[frame] = xp.asarray(correct(on_host(raw[frame : frame + 1]))[0])
    return out


def running_median(values: Any, size: int) -> Any:
    """Return the running median along the last axis, mirrored at the ends; an even size is odd."""
    sizes = (1,) * (values.ndim - 1) + (size // 2 * 2 + 1,)
    return ndimage_of(module_of(values)).median_filter(values, size=sizes)


def over_runs(sign: Any, operation: str, values: list[Any]) -> list[Any]:
    """Return sums ("add") or maxima ("maximum") of float64 over each run of columns of one sign.

    All columns of a run get its value; CuPy rounds maxima to float32. Each column of sign 0 is a
    run of its own: their values are not used, and a GPU adds slowly to one address.
    """
    xp, cupyx = module_of(sign), importlib.import_module("cupyx")
    begins = sign == 0
    begins[..., 0] = True
    begins[..., 1:] |= sign[..., 1:] != sign[..., :-1]
    number = xp.cumsum(begins.ravel(), dtype=np.int64) - 1
    scatter = {"add": cupyx.scatter_add, "maximum": cupyx.scatter_max}[operation]
    result = []
    for value in values:
        total = xp.full(value.size, {"add": 0.0, "maximum": -np.inf}[operation])
        scatter(total, number, value.ravel())
        result.append(total[number].reshape(sign.shape))
    return result


def replace_peaks(images: Any, threshold: float, size: int) -> Any:
    """Replace pixels that exceed the median around them by more than a share of it."""
    xp = module_of(images)
    usual = ndimage_of(xp).median_filter(images, size=(1, size, size), mode="nearest")
    return xp.where(images > usual + np.float32(threshold) * xp.abs(usual), usual, images)


def resample(images: Any, above: Any, left: Any, down: Any, across: Any, out: Any) -> None:
    """Interpolate linearly between the four neighbours of each source; see `prep.warp`."""
    xp = module_of(images)
    below = xp.minimum(above + 1, images.shape[1] - 1)
    right = xp.minimum(left + 1, images.shape[2] - 1)
    out[...] = images[:, above, left] * (1 - across)
    out += images[:, above, right] * across
    out *= 1 - down
    bottom = images[:, below, left] * (1 - across)
    bottom += images[:, below, right] * across
    out += bottom * down


def dwt(values: Any, wavelet: str, axis: int) -> tuple[Any, Any]:
    """Transform one axis by one level: approximation and detail."""
    taps = pywt.Wavelet(wavelet)
    return _decimate(values, taps.dec_lo, axis), _decimate(values, taps.dec_hi, axis)


def idwt(low: Any, high: Any, wavelet: str, axis: int) -> Any:
    """Transform one axis back by one level; None stands for zeros."""
    taps = pywt.Wavelet(wavelet)
    parts = [
        _interleave(part, filter_taps, axis)
        for part, filter_taps in ((low, taps.rec_lo), (high, taps.rec_hi))
        if part is not None
    ]
    return sum(parts[1:], start=parts[0])


def _decimate(values: Any, taps: Any, axis: int) -> Any:
    """Filter, mirrored at the ends, and keep every second value."""
    xp = module_of(values)
    n_taps = len(taps)
    values = xp.moveaxis(values, axis, -1)
    n_out = (values.shape[-1] + n_taps - 1) // 2
    width = ((0, 0),) * (values.ndim - 1) + ((n_taps - 1, n_taps - 1),)
    padded = xp.pad(values, width, mode="symmetric")
    out = xp.zeros((*values.shape[:-1], n_out), np.float32)
    for k, tap in enumerate(taps):
        first = n_taps - k
        out += np.float32(tap) * padded[..., first : first + 2 * n_out - 1 : 2]
    return xp.moveaxis(out, -1, axis)


def _interleave(values: Any, taps: Any, axis: int) -> Any:
    """Put zeros between the values, filter, and keep what the ends do not touch."""
    xp = module_of(values)
    values = xp.moveaxis(values, axis, -1)
    n = values.shape[-1]
    full = xp.zeros((*values.shape[:-1], 2 * n + len(taps) - 1), np.float32)
    for k, tap in enumerate(taps):
        full[..., k : k + 2 * n - 1 : 2] += np.float32(tap) * values
    first = len(taps) - 2
    return xp.moveaxis(full[..., first : 2 * n], -1, axis)
