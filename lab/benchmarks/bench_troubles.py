"""COR of scans with a trouble, and of their sound twins, from a generator outside of the project.

    python lab/benchmarks/bench_troubles.py GENERATOR.py --kind double_speed --scans 8 --seed 5

`make(kind, i, seed)` of the generator returns two mappings, of the scan with the trouble and of its
twin: data (n_angles, n_rows, n_cols), flats, darks, theta_deg, and lo and hi, the interval of right
CORs (px). Printed are, of each kind and of all twins, how many CORs were accepted, how many of
these have a doubt, are more than 1 px off, and are so without a doubt.
"""

import argparse
import importlib
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import h5py

from tomopipe.config import InputBlock, PredictCorBlock, PreprocessBlock, TryReconBlock
from tomopipe.resources.memory import Resources
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.predict_cor import predict_cor
from tomopipe.steps.try_recon import TryFiles, try_recon

COUNTS = ("scans", "accepted", "doubtful", "wrong", "wrong without a doubt")


def write(scan, raw):
    """Write a scan of a generator as DXchange."""
    with h5py.File(raw, "w") as file:
        names = {"data": "data", "data_white": "flats", "data_dark": "darks", "theta": "theta_deg"}
        for name, key in names.items():
            file[f"exchange/{name}"] = scan[key]


def predict(scan, folder):
    """Write a scan, and return the prediction of its COR."""
    raw, rows, sweep = folder / "scan.h5", folder / "rows.h5", folder / "try.json"
    write(scan, raw)
    files = TryFiles(folder / "try.tif", sweep, rows)
    scan_of = RawScan(raw, InputBlock(), PreprocessBlock(), name="scan")
    try_recon(
        scan_of,
        files,
        TryReconBlock(),
        resources=Resources(threads=1, memory_bytes=None),
        made_from=None,
    )
    return predict_cor(
        rows,
        sweep,
        folder / "prediction.json",
        folder / "center.txt",
        PredictCorBlock(),
        used=None,
        made_from=None,
        is_rewritten=lambda path: False,
    )


def count(scan, prediction):
    """Return which of `COUNTS` a prediction adds to."""
    cor_px, doubts = prediction["cor_px"], bool(prediction.get("doubts"))
    accepted = cor_px is not None
    wrong = accepted and not scan["lo"] - 1 <= cor_px <= scan["hi"] + 1
    return tuple(map(int, (1, accepted, accepted and doubts, wrong, wrong and not doubts)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generator", type=Path)
    parser.add_argument("--kind", action="append", help="default: all of KINDS")
    parser.add_argument("--scans", type=int, default=8, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.generator.resolve().parent))
    generator = importlib.import_module(arguments.generator.stem)
    table = defaultdict(Counter)
    for kind in arguments.kind or generator.KINDS:
        for i in range(arguments.scans):
            pair = generator.make(kind, i, arguments.seed)
            for name, scan in zip((kind, "twins"), pair, strict=True):
                with tempfile.TemporaryDirectory() as folder:
                    prediction = predict(scan, Path(folder))
                table[name].update(dict(zip(COUNTS, count(scan, prediction), strict=True)))
    print(f"| kind | {' | '.join(COUNTS)} |")
    print("|---" * (len(COUNTS) + 1) + "|")
    for kind, counts in table.items():
        print(f"| {kind} | {' | '.join(str(counts[name]) for name in COUNTS)} |")


if __name__ == "__main__":
    main()
