"""Reconstruct the middle rows of a scan, and write them as a picture."""

import sys

import tomopipe as tp

path, picture = sys.argv[1:]
with tp.open_scan(path) as scan:
    first = max(0, scan.n_rows // 2 - 2)
    last = min(first + 4, scan.n_rows)
    raw = scan.read_rows(first, last)
    sinograms = tp.correct(raw, scan.flat[first:last], scan.dark[first:last])
    theta_deg = scan.theta_deg

cor = tp.find_cor(sinograms, theta_deg)  # refused below if none was accepted: pass a number then
slices = tp.reconstruct(sinograms, theta_deg, cor)  # (n_rows, n_y, n_x), attenuation per pixel
print(f"{slices.shape}: mean {slices.mean():.3g} per pixel, COR {cor.cor_px:.2f} px")
tp.show(slices).save(picture)
