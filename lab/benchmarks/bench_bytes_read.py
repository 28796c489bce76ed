"""Bytes that a whole run of one scan reads from its raw file, over the size of the file (strace).

python lab/benchmarks/bench_bytes_read.py [--rows 64 160 512] [--angles 600] [--cols 1024]

Sweep, volume and stack for RELION: for frames that lie one after the other, for one
chunk per frame, and for compressed ones.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tomopipe.simulate.detector import Beam
from tomopipe.simulate.dxchange_writer import simulate_scan
from tomopipe.simulate.exposure import ScanFile
from tomopipe.simulate.objects import KINDS

HOME = Path(__file__).parents[2]
CONFIG = "campaign: {scans: [raw/*.h5]}\npredict_cor: {methods: [registration]}\n"
CALLS = "read,readv,pread64,preadv,preadv2"


def write(path: Path, shape: tuple[int, int, int], kind: str) -> None:
    n_angles, n_rows, n_cols = shape
    path.parent.mkdir(parents=True)
    simulate_scan(
        path,
        KINDS["rock"](n_cols, n_rows, 0),
        [180 * i / (n_angles - 1) for i in range(n_angles)],
        n_cols / 2 - 3,
        (n_rows, n_cols),
        beam=Beam(counts=5e3, n_flats=3, n_darks=3),
        seed=0,
        file=ScanFile(
            chunks=kind != "contiguous" and (1, n_rows, n_cols),
            compression="gzip" if kind == "gzip" else None,
        ),
    )


def bytes_read(campaign: Path, raw: Path) -> int:
    """Run the campaign and sum what every thread of every process read."""
    (campaign / "config.yaml").write_text(CONFIG)
    traces = campaign / "traces"
    traces.mkdir()
    command = ["strace", "-ff", "-y", "-e", f"trace={CALLS}", "-o", str(traces / "of")]
    command += [sys.executable, "-m", "snakemake", "--snakefile", str(HOME / "Snakefile")]
    command += ["--configfile", "config.yaml", "--cores", "2"]
    environment = os.environ | {"PYTHONPATH": str(HOME)}
    done = subprocess.run(
        command, cwd=campaign, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"ended with {done.returncode}:\n{done.stderr[-3000:]}")
    line = re.compile(rf"<{re.escape(str(raw))}>.* = (\d+)$")
    texts = (trace.read_text(errors="replace") for trace in traces.iterdir())
    return sum(
        int(n) for text in texts for text_line in text.split("\n") for n in line.findall(text_line)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 160, 512])
    parser.add_argument("--angles", type=int, default=600)
    parser.add_argument("--cols", type=int, default=1024)
    options = parser.parse_args()
    kinds = ("contiguous", "frames", "gzip")
    print("| rows | " + " | ".join(kinds) + " |\n" + "|---" * (len(kinds) + 1) + "|")
    for n_rows in options.rows:
        cells = []
        for kind in kinds:
            with tempfile.TemporaryDirectory(prefix="tomopipe-bench-") as folder:
                raw = Path(folder).resolve() / "raw" / "a_1.h5"
                write(raw, (options.angles, n_rows, options.cols), kind)
                found = bytes_read(Path(folder), raw) / raw.stat().st_size
            cells.append(f"{found:.2f}")
        print(f"| {n_rows} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
