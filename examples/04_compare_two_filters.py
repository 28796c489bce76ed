"""Reconstruct one row of a scan with two filters; print their noise, write both side by side."""

import sys

import numpy as np

import tomopipe as tp

path, picture = sys.argv[1:]
with tp.open_scan(path) as scan:
    row, theta_deg = scan.n_rows // 2, scan.theta_deg
    raw = scan.read_rows(row, row + 1)
    sinograms = tp.correct(raw, scan.flat[row : row + 1], scan.dark[row : row + 1])

cor = tp.find_cor(sinograms, theta_deg)
slices = [tp.reconstruct(sinograms, theta_deg, cor, filter=name)[0] for name in ("ramp", "hann")]
for name, image in zip(("ramp", "hann"), slices, strict=True):
    # noise of neighbouring pixels, where edges are few
    noise = 1.4826 * np.median(np.abs(np.diff(image, axis=1))) / np.sqrt(2)
    print(f"{name}: noise {noise:.2g} per pixel")
tp.show(slices).save(picture)
