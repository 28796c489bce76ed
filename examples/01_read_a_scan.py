"""Print what a scan holds, and the transmission of its first projection."""

import sys

import numpy as np

import tomopipe as tp

with tp.open_scan(sys.argv[1]) as scan:
    print(scan)  # format, sizes, angles, pixel size, energy
    print(f"angles {scan.theta_deg[0]:.2f} to {scan.theta_deg[-1]:.2f} degrees")
    row = scan.n_rows // 2
    raw = scan.read_rows(row, row + 1)  # (n_angles, 1, n_cols), as stored
    signal = scan.flat[row] - scan.dark[row]  # (n_cols,), the means of all frames
    transmission = (raw[0, 0] - scan.dark[row]) / signal
    print(f"row {row}: transmission {np.nanmin(transmission):.3f} to {transmission.max():.3f}")
