"""CPU time of the job processes of tiny scans, step by step, beside another version's.

python lab/benchmarks/bench_steps.py [--scans 3] [--against ../tomopipe-old] [--rounds 3]

Each version runs the same campaign on one core, in alternation; each process of a script writes
down what it took. The first round, which also compiles, is not counted.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tomopipe.simulate.simulated_campaign import Simulation, simulate_campaign

HOME = Path(__file__).parents[2]
NOTE = """
import atexit, json, os, sys
def note():
    used = os.times()
    with open(os.environ["BENCH_STEPS"], "a") as log:
        log.write(json.dumps([sys.orig_argv, sys.argv, used.user + used.system]) + "\\n")
atexit.register(note)
"""


def run(checkout: Path, folder: Path, n_scans: int, size: dict[str, int]) -> Counter:
    """Run a campaign with one version; return the CPU seconds of each step's scripts."""
    simulate_campaign(folder, Simulation(n_series=1, n_scans=n_scans, **size))
    (folder / "sitecustomize.py").write_text(NOTE)
    environment = os.environ | {
        "PYTHONPATH": f"{folder}:{checkout}",
        "BENCH_STEPS": str(folder / "log"),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(checkout / "Snakefile")]
    command += ["--configfile", "config.yaml", "--cores", "1", "--keep-going"]
    done = subprocess.run(
        command, check=False, env=environment, cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{checkout}: ended with {done.returncode}:\n{done.stderr[-3000:]}")
    spent: Counter = Counter()
    for line in (folder / "log").read_text().splitlines():
        started_as, argv, cpu_s = json.loads(line)
        if script := re.search(r"/scripts/[^ ]*\.(\w+)\.py", " ".join(argv)):
            spent[script[1]] += cpu_s
        elif re.search(r"multiprocessing\.forkserver|run\.workers", " ".join(started_as)):
            spent["loading for all"] += cpu_s
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="a checkout of another version")
    parser.add_argument("--shape", default="90x4x64", help="angles x rows x columns")
    args = parser.parse_args()
    size = dict(zip(("n_angles", "n_rows", "n_cols"), map(int, args.shape.split("x")), strict=True))
    homes = {"now": HOME} | ({"before": args.against.resolve()} if args.against else {})
    spent: dict[str, list[Counter]] = {name: [] for name in homes}
    for k in range(args.rounds + 1):
        for name, home in homes.items():
            with tempfile.TemporaryDirectory() as folder:
                found = run(home, Path(folder), args.scans, size)
            if k:
                spent[name].append(found)
    print("| step | " + " | ".join(f"{name}, CPU s" for name in homes) + " |")
    print("|---" * (len(homes) + 1) + "|")
    steps = dict.fromkeys(s for rounds in spent.values() for count in rounds for s in count)
    for step in [*steps, ""]:
        row = [
            sum(count[step] if step else count.total() for count in rounds) / len(rounds)
            for rounds in spent.values()
        ]
        print(f"| {step or 'all'} | " + " | ".join(f"{value:.2f}" for value in row) + " |")


if __name__ == "__main__":
    main()
