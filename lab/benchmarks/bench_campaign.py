"""A campaign of many tiny scans, run for real: what the workflow costs beside its steps.

    python lab/benchmarks/bench_campaign.py --scans 1000 [--folder /scratch/bench]

Scans of 64 columns, 4 rows and 90 angles take no time, so what is left is starting Python, reading
and writing files, and Snakemake. Prints the table of lab/results/benchmarks.md. CPU seconds say
more than seconds where the machine has other work. Needs psutil.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.files import CONFIG
from tomopipe.campaign.results import read_cor_json
from tomopipe.run.launch import run_command
from tomopipe.simulate.simulated_campaign import Simulation, load_truth, simulate_campaign

SCANS_IN_A_SERIES = 20


def make(folder: Path, n_scans: int) -> None:
    """Write the scans, and a config that asks one method that loads no network."""
    n_series = max(1, n_scans // SCANS_IN_A_SERIES)
    sizes = {"n_cols": 64, "n_rows": 4, "n_angles": 90}
    simulate_campaign(folder, Simulation(n_series=n_series, n_scans=n_scans // n_series, **sizes))
    path = folder / CONFIG
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config |= {
        "predict_cor": {"methods": ["registration"]},
        "resolve_cor": {"on_missing": "skip"},
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


def timed(command: list[str], log: Path) -> tuple[float, float, float]:
    """Run a command; return its seconds, the CPU seconds of itself, and of what it started."""
    started, own_s, below_s = time.monotonic(), 0.0, 0.0
    with log.open("a") as stream, psutil.Popen(command, stdout=stream, stderr=stream) as process:
        while True:
            try:
                used = process.cpu_times()
                own_s = used.user + used.system
                below_s = used.children_user + used.children_system
                process.wait(0.1)
            except psutil.TimeoutExpired:
                continue
            except psutil.NoSuchProcess:
                pass
            break
    if process.returncode not in (0, 2):  # 2: `tomopipe plan` has found work
        sys.exit(f"{' '.join(command)} ended with {process.returncode}: see {log}")
    return time.monotonic() - started, own_s, below_s


def jobs_s(folder: Path) -> list[float]:
    """Return how long each job took, its Python started already."""
    status = load_campaign(folder).logs.status_folder
    records = [json.loads(path.read_text()) for path in status.glob("*/*.json")]
    return [record["end"] - record["start"] for record in records]


def errors_px(folder: Path) -> list[float]:
    """Return the errors of the CORs that were resolved."""
    truth = load_truth(folder)["scans"]
    found = read_cor_json(load_campaign(folder).files.cor_table)
    return sorted(abs(found[scan]["cor_px"] - truth[scan]["cor_px"]) for scan in found)


def measure(folder: Path, n_scans: int, cores: int) -> None:
    """Simulate, plan, run, run again, and print what each took."""
    started = time.monotonic()
    make(folder, n_scans)
    print(f"{n_scans} scans, simulated in {time.monotonic() - started:.0f} s\n")
    log = folder / "bench.log"
    run = run_command(folder, None, "workstation", ["--cores", str(cores), "--retries", "0"])
    print("| | s | s per scan | CPU s of Snakemake | CPU s of its jobs |")
    print("|---|---|---|---|---|")
    for name, command in [
        *((f"`tomopipe {verb}`, before", tomopipe(verb, folder)) for verb in ("check", "plan")),
        ("the run", run),
        ("a second call, nothing to do", run),
        *((f"`tomopipe {verb}`", tomopipe(verb, folder)) for verb in ("plan", "status", "report")),
    ]:
        total_s, own_s, below_s = timed(command, log)
        # what `tomopipe` does in processes that it does not wait for would be missing
        cpu = f"{own_s:.1f} | {below_s:.1f}" if command is run else "|"
        print(f"| {name} | {total_s:.1f} | {total_s / n_scans:.3f} | {cpu} |", flush=True)
        if name == "the run":
            seconds, run_cpu = jobs_s(folder), own_s + below_s
            share = own_s / run_cpu
    errors = errors_px(folder)
    print(
        f"\n{len(seconds)} jobs, {sum(seconds):.0f} s inside of them; Snakemake itself took "
        f"{share:.0%} of the CPU time. {len(errors)} CORs, median error "
        f"{errors[len(errors) // 2]:.2f} px, 95 % within {errors[int(0.95 * len(errors))]:.2f} px."
    )


def tomopipe(verb: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "tomopipe", verb, str(folder)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="new; kept (default: a temporary one)")
    options = parser.parse_args()
    if options.folder:
        measure(options.folder.absolute(), options.scans, options.cores)
    else:
        with tempfile.TemporaryDirectory(prefix="tomopipe-bench-") as name:
            measure(Path(name), options.scans, options.cores)


if __name__ == "__main__":
    main()
