"""How well `tomopipe plan` tells the cost of the other half of a campaign of two sizes of scans.

    python lab/benchmarks/bench_cost.py --scans 12

Half of the scans of each size run, plan is asked, the others run: core hours planned and needed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import h5py

from tomopipe.campaign.campaign import load_campaign, read_inventory
from tomopipe.commands.next_run import make_plan
from tomopipe.cost.cost import STEPS, costs
from tomopipe.simulate.simulated_campaign import Simulation, simulate_campaign

HOME = Path(__file__).resolve().parents[2]
SIZES = {"small": (180, 32, 256), "large": (400, 64, 512)}


def make(folder: Path, n_scans: int) -> list[str]:
    """Write the raw files of both sizes; return the names of every second scan."""
    (folder / "raw").mkdir(parents=True)
    for name, (n_angles, n_rows, n_cols) in SIZES.items():
        size = {"n_angles": n_angles, "n_rows": n_rows, "n_cols": n_cols}
        simulate_campaign(folder / name, Simulation(n_series=1, n_scans=n_scans, seed=3, **size))
        paths = sorted(path for path in (folder / name).rglob("*.h5") if is_whole(path, n_angles))
        for number, path in enumerate(paths):
            path.rename(folder / "raw" / f"{name}_{number:03d}.h5")
    (folder / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    return sorted(path.stem for path in (folder / "raw").iterdir())[1::2]


def is_whole(path: Path, n_angles: int) -> bool:
    with h5py.File(path, "r") as file:
        return "exchange/theta" in file and len(file["exchange/data"]) == n_angles


def run(folder: Path, cores: int) -> None:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(HOME / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(folder / "config.yaml")]
    done = subprocess.run([*command, "--cores", str(cores)], capture_output=True, check=False)
    if done.returncode not in (0, 3):
        sys.exit(done.stderr.decode()[-3000:])


def needed(folder: Path, scans: list[str]) -> dict[str, float]:
    """Sum the core hours of the jobs of scans."""
    found: dict[str, float] = defaultdict(float)
    for path in (folder / "logs" / "status").glob("*/*.json"):
        record = json.loads(path.read_text())
        if path.stem in scans and record["state"] == "done":
            seconds = record["end"] - record["start"]
            found[path.parent.name] += seconds * record["asked"]["cores"] / 3600
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=12, help="of each size")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tomopipe-bench-") as name:
        folder = Path(name)
        later = make(folder, options.scans)
        rows = "".join(f"{scan}\tno\t\t\n" for scan in later)
        (folder / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\n" + rows)
        run(folder, options.cores)
        (folder / "scans.tsv").unlink()
        campaign = load_campaign(folder)
        plan = make_plan(campaign)
        # the scans that ran before, and may run again because of a neighbour, are skipped
        jobs = [(job.rule, job.scan) for job in plan.jobs if job.scan in later]
        inventory = read_inventory(campaign.files.inventory)
        planned = {cost.step: cost.core_h for cost in costs(campaign, jobs, inventory)}
        run(folder, options.cores)
        found = needed(folder, later)
        print("| step | planned, core s | needed | ratio |\n|---|---|---|---|")
        for step in [step for step in STEPS if planned.get(step)]:
            planned_s, took = 3600 * planned[step], 3600 * found[step]
            print(f"| {step} | {planned_s:.1f} | {took:.1f} | {planned_s / took:.2f} |")
        planned_s, took = 3600 * sum(planned.values()), 3600 * sum(found[s] for s in planned)
        print(f"| all | {planned_s:.1f} | {took:.1f} | {planned_s / took:.2f} |")


if __name__ == "__main__":
    main()
