"""Compiled parts of the search: means, zingers, double wedge, sharpness of slices."""

import math
from functools import partial
from typing import Any

import numpy as np

from tomopipe.recon.jit import kernel


@partial(kernel, fastmath={"reassoc", "contract"})
def mean_lines(raw: Any, gain: Any, offset: Any, width: int, least: Any, out: Any) -> None:
    """Fill `out` (n, n_rows) from raw frames (n, n_rows, n_cols), averaged over `width` columns.

    The transmission of a block of columns is the sum of raw * gain, less its offset; blocks whose
    offset is not finite do not count.
    """
    n_frames, n_rows, n_cols = raw.shape
    for row in range(n_rows):
        gains = gain[row]
        for frame in range(n_frames):
            values, total, n_blocks = raw[frame, row], 0.0, 0
            for block in range(offset.shape[1]):
                if not math.isfinite(offset[row, block]):
                    continue
                first = block * width
                value = -offset[row, block]
                for col in range(first, min(first + width, n_cols)):
                    value += np.float32(values[col]) * gains[col]
                total -= math.log(max(value, least))
                n_blocks += 1
            out[frame, row] = total / max(n_blocks, 1)


@kernel
def mark_unlike(lines: Any, limit: float, marks: Any) -> None:
    """Mark by 1 what differs by more than a limit from the median of three lines (n > 2, n_cols).

    The lines are its own and those before and after; at an end the neighbour counts twice.
    """
    n, n_cols = lines.shape
    for i in range(n):
        before, current, after = lines[abs(i - 1)], lines[i], lines[n - 1 - abs(n - 2 - i)]
        for c in range(n_cols):
            a, b, d = before[c], current[c], after[c]
            median = max(min(a, b), min(max(a, b), d))
            marks[i, c] = 1 if abs(b - median) > limit else 0


@kernel
def average_columns(lines: Any, width: int, means: Any) -> None:
    """Fill means (n, n_blocks) of blocks of columns of lines (n, n_cols)."""
    for i in range(len(means)):
        for block in range(means.shape[1]):
            total = lines[i, block * width]
            for c in range(block * width + 1, block * width + width):
                total += lines[i, c]
            means[i, block] = total / np.float32(width)


@kernel
def average_around(values: Any, n_rows: int, n_cols: int, sums: Any, means: Any) -> None:
    """Fill the means of values (n, n_values) in windows of so many rows and columns around each.

    Windows of an even size begin half of it before; edge values are repeated beyond the edges.
    `sums`: scratch (n_values,).
    """
    n, n_values = values.shape
    above, before = n_rows // 2, n_cols // 2
    sums[:] = 0
    for row in range(-above, n_rows - above):
        for c in range(n_values):
            sums[c] += values[min(max(row, 0), n - 1), c]
    for i in range(n):
        total = 0.0
        for col in range(-before, n_cols - before):
            total += sums[min(max(col, 0), n_values - 1)]
        old, new = max(i - above, 0), min(i - above + n_rows, n - 1)
        for c in range(n_values):
            means[i, c] = total / (n_rows * n_cols)
            total += sums[min(c - before + n_cols, n_values - 1)] - sums[max(c - before, 0)]
        for c in range(n_values):
            sums[c] += values[new, c] - values[old, c]


@partial(kernel, fastmath={"reassoc", "contract"})
def add_up(
    constant: Any,
    phase: Any,
    wave: Any,
    sign: Any,
    back: Any,
    weight: Any,
    first: Any,
    last: Any,
    spectrum: Any,
    column: Any,
    change: Any,
    part: Any,
    metric: Any,
) -> None:
    """Fill metric (n_shifts,) by the weighted sum of |F|, first ... last - 1 of each v.

    W is `part`, which changes by `change` times a column of `spectrum`. `constant`, `phase`, `wave`
    and `part` are planes (2, ...), the real parts and the imaginary ones.
    """
    constant_re, constant_im = constant[0], constant[1]
    phase_re, phase_im = phase[0], phase[1]
    wave_re, wave_im = wave[0], wave[1]
    part_re, part_im = part[0], part[1]
    for i in range(len(metric)):
        metric[i], c = 0.0, column[i]
        for v in range(len(part_re)):
            moved, turned = change[i] * spectrum[v, c], back[v]
            total = np.float32(0)
            for k in range(first[v], last[v]):
                re = part_re[v, k] + moved.real * wave_re[c, k] - moved.imag * wave_im[c, k]
                im = part_im[v, k] + moved.real * wave_im[c, k] + moved.imag * wave_re[c, k]
                part_re[v, k], part_im[v, k] = re, im
                x = sign[v] * (phase_re[i, k] * re - phase_im[i, k] * im)
                y = sign[v] * (phase_re[i, k] * im + phase_im[i, k] * re)
                x += constant_re[v, k] - turned.real * re - turned.imag * im
                y += constant_im[v, k] - turned.imag * re + turned.real * im
                total += weight[v, k] * np.sqrt(x * x + y * y)
            metric[i] += total


LEVELS = 64  # grey values of the entropy


@kernel
def _blur(image: Any, taps: Any, wide: Any, across: Any, out: Any) -> None:
    """Gaussian smoothing along both axes; edge values are repeated beyond the slice."""
    n = image.shape[0]
    reach = len(taps) - 1
    for y in range(n):
        for x in range(len(wide)):
            wide[x] = image[y, min(max(x - reach, 0), n - 1)]
        for x in range(n):
            across[y, x] = taps[0] * wide[x + reach]
        for k in range(1, reach + 1):
            for x in range(n):
                across[y, x] += taps[k] * (wide[x + reach - k] + wide[x + reach + k])
    for y in range(n):
        for x in range(n):
            out[y, x] = taps[0] * across[y, x]
        for k in range(1, reach + 1):
            above, below = max(0, y - k), min(n - 1, y + k)
            for x in range(n):
                out[y, x] += taps[k] * (across[above, x] + across[below, x])


@kernel
def measure(
    slices: Any,
    taps: Any,
    first: Any,
    last: Any,
    low: Any,
    scale: Any,
    wide: Any,
    work: Any,
    count: Any,
    measures: Any,
) -> None:
    """Fill measures (n_cor, 3) slice by slice; `wide`, `work` and `count` are scratch."""
    n = slices.shape[1]
    across, smooth = work[0], work[1]
    for i in range(len(slices)):
        _blur(slices[i], taps, wide, across, smooth)
        count[:] = 0
        norm1, norm2, total, negative, n_inside = 0.0, 0.0, 0.0, 0.0, 0
        for y in range(n):
            for x in range(first[y], last[y] + 1):
                value = smooth[y, x]
                right = smooth[y, min(x + 1, n - 1)] - value
                down = smooth[min(y + 1, n - 1), x] - value
                square = right * right + down * down
                norm1 += np.sqrt(square)
                norm2 += square
                total += abs(value)
                negative += max(-value, np.float32(0))
                level = int((value - low) * scale)
                count[min(max(level, 0), LEVELS - 1)] += 1
                n_inside += 1
        entropy = 0.0
        for level in range(LEVELS):
            if count[level] > 0:
                entropy += count[level] / n_inside * np.log(count[level] / n_inside)
        measures[i, 0] = entropy
        measures[i, 1] = -norm1 / max(np.sqrt(norm2 * n_inside), 1e-30)
        measures[i, 2] = -negative / max(total, 1e-30)
