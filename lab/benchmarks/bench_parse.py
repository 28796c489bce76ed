"""CPU time of parsing the Snakefile, beside a trivial one and another version's.

python lab/benchmarks/bench_parse.py [--against ../tomopipe-old] [--rounds 9]

Medians of `snakemake --list-rules` in a campaign of three scans, in alternation, less the time in
which Python imports Snakemake.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tomopipe.simulate.simulated_campaign import Simulation, simulate_campaign

HOME = Path(__file__).parents[2]
IMPORTS = ["-c", "import snakemake.cli, snakemake.api, snakemake.workflow"]


def cpu_s(arguments: list[str], folder: Path, checkout: Path = HOME) -> float:
    """Run Python; return the CPU seconds it took."""
    before = os.times()
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True
    )
    after = os.times()
    return after.children_user + after.children_system - before[2] - before[3]


def parsing(snakefile: Path) -> list[str]:
    """Return the arguments that parse a Snakefile and run nothing."""
    configured = ["--configfile", "config.yaml"]
    return ["-m", "snakemake", "--list-rules", "--snakefile", str(snakefile), *configured]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="checkout of another version")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        simulate_campaign(folder, Simulation(n_series=1, n_scans=3, n_cols=64, n_rows=4))
        trivial = folder / "trivial.smk"
        trivial.write_text("rule all:\n    input:\n        'x',\n")
        calls = {
            "imports of Snakemake": (IMPORTS, folder),
            "a rule without anything": (parsing(trivial), folder),
            "this version": (parsing(HOME / "Snakefile"), folder),
        }
        if asked.against:
            other = asked.against.absolute()
            calls["the other version"] = (parsing(other / "Snakefile"), folder, other)
        rounds = [{name: cpu_s(*call) for name, call in calls.items()} for _ in range(asked.rounds)]
    medians = {name: statistics.median(found[name] for found in rounds[1:]) for name in calls}
    imports_s = medians.pop("imports of Snakemake")
    for name, median_s in medians.items():
        print(f"{name}: {median_s - imports_s:.2f} CPU s")
    if asked.against:
        ratio = (medians["this version"] - imports_s) / (medians["the other version"] - imports_s)
        print(f"this / other: {ratio:.2f}")


if __name__ == "__main__":
    main()
