"""Print the centre of rotation of a scan, its confidence, and what two methods say."""

import sys

import tomopipe as tp

with tp.open_scan(sys.argv[1]) as scan:
    first = max(0, scan.n_rows // 2 - 8)  # some rows are enough
    raw = scan.read_rows(first, min(first + 16, scan.n_rows))
    rows = slice(first, first + raw.shape[1])
    sinograms = tp.correct(raw, scan.flat[rows], scan.dark[rows])
    theta_deg = scan.theta_deg

answer = tp.find_cor(sinograms, theta_deg)
print(f"COR {answer.best_cor_px:.2f} px, confidence {answer.confidence:.2f}: {answer.verdict}")
for method in ("ai", "classical"):
    other = tp.find_cor(sinograms, theta_deg, methods=[method])
    print(f"{method}: {other.best_cor_px:.2f} px, confidence {other.confidence:.2f}")
