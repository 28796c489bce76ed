"""What a campaign of tiny scans costs on a SLURM cluster: starts, CPU time, calls of its commands.

Run on a login node. With --against, a checkout of another version does the same in alternation:

    python lab/benchmarks/bench_slurm.py --scans 40 --against ../tomopipe-old
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tomopipe.simulate.simulated_campaign import Simulation, simulate_campaign

HOME = Path(__file__).parents[2]
COUNTED = ("sbatch", "srun", "scontrol", "sacctmgr", "squeue", "sacct", "sinfo")
KINDS = ("full_recon", "volume", "try_recon", "try", "stack")  # in the comment of a submission
# each Python process on a node writes down what it was and what it took
NOTE = """
import atexit, json, os, sys, time
if os.environ.get("SLURM_JOB_ID"):
    def note():
        line = {"argv": sys.orig_argv[1:4], "cpu_s": time.process_time()}
        line["job"] = os.environ["SLURM_JOB_ID"]
        with open(os.environ["BENCH_SLURM"], "a") as log:
            log.write(json.dumps(line) + "\\n")
    atexit.register(note)
"""
SHIM = '#!/bin/sh\necho {name} >> "$BENCH_SLURM.calls"\nexec {path} "$@"\n'


def prepare(folder: Path, n_scans: int, size: dict[str, int]) -> None:
    """Write a campaign."""
    n_series = max(1, n_scans // 20)
    simulate_campaign(folder, Simulation(n_series=n_series, n_scans=n_scans // n_series, **size))


def run(checkout: Path, folder: Path, options: argparse.Namespace) -> tuple[dict, dict]:
    """Run the campaign with one version; return what it took, and how much of what it held."""
    tools, log = folder / "tools", folder / "log"
    tools.mkdir()
    log.touch()
    (tools / "sitecustomize.py").write_text(NOTE)
    for name in COUNTED:
        if path := shutil.which(name):
            (tools / name).write_text(SHIM.format(name=name, path=path))
            (tools / name).chmod(0o755)
    environment = os.environ | {
        "PYTHONPATH": f"{tools}:{checkout}",
        "PATH": f"{tools}:{os.environ['PATH']}",
        "BENCH_SLURM": str(log),
        "HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "home" / ".config"),
    }
    start = [sys.executable, "-m", "tomopipe", "init", str(folder)]
    start += ["--partition", options.partition, "--account", ""]
    subprocess.run(start, env=environment, check=True, capture_output=True)
    profile = folder / "slurm" / "profile.yaml"
    text = profile.read_text().replace("status-checks: 20", "status-checks: 3")
    profile.write_text(text.replace("latency-wait: 60", "latency-wait: 5"))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(checkout / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(folder / "config.yaml")]
    command += ["--profile", str(folder / "slurm")]
    if options.set_threads:
        command += ["--set-threads", *options.set_threads]
    if options.cores:
        ours = (checkout / "snakemake_executor_plugin_tomopipe").exists()
        one_at_a_time = "--tomopipe-submissions" if ours else "--jobs"
        command += ["--cores", str(options.cores), one_at_a_time, "1"]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    (folder / "snakemake.out").write_text(done.stdout + done.stderr)
    if done.returncode not in (0, 3):
        sys.exit(f"{folder}/snakemake.out: exit {done.returncode}\n{done.stderr[-3000:]}")
    processes = [json.loads(line) for line in log.read_text().splitlines()]
    calls = Counter(Path(f"{log}.calls").read_text().split())
    starts = [process for process in processes if process["argv"][:2] == ["-m", "snakemake"]]
    per_scan = {
        "starts of Snakemake on nodes": len(starts),
        "CPU s of all processes on nodes": sum(process["cpu_s"] for process in processes),
        "CPU s of Snakemake there": sum(process["cpu_s"] for process in starts),
        "submissions": calls["sbatch"],
        "scontrol and sacctmgr calls": calls["scontrol"] + calls["sacctmgr"],
    }
    return per_scan, shares_used(processes)


def shares_used(processes: list[dict]) -> dict[str, float]:
    """Return the CPU time used over that held, of each kind of submission, by the accounting."""
    used = Counter()
    for process in processes:
        used[process["job"]] += process["cpu_s"]
    if not shutil.which("sacct"):
        return {}
    asked = ["sacct", "-X", "-n", "-P", "-j", ",".join(used)]
    asked += ["-o", "JobIDRaw,AllocCPUS,ElapsedRaw,Comment"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    held_s, used_s = Counter(), Counter()
    for job, n_cpus, seconds, comment in (line.split("|") for line in lines):
        kind = next((kind_name for kind_name in KINDS if kind_name in comment), comment)
        held_s[kind] += int(n_cpus) * int(seconds)
        used_s[kind] += used[job]
    return {f"CPU used / held, {kind}": used_s[kind] / held_s[kind] for kind in held_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument(
        "--size", type=int, nargs=3, default=[90, 4, 64], help="angles rows columns"
    )
    parser.add_argument("--partition", default="cpu")
    parser.add_argument("--set-threads", nargs="*", default=[])
    parser.add_argument("--cores", type=int, help="of a submission, one at a time: those there are")
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    size = dict(zip(("n_angles", "n_rows", "n_cols"), options.size, strict=True))
    with tempfile.TemporaryDirectory(prefix="bench-slurm-", dir=Path.cwd()) as where:
        prepare(Path(where, "made"), options.scans, size)
        n_scans = len(list(Path(where, "made", "raw").iterdir()))
        print(f"| of {n_scans} scans | per scan | all |\n|---|---|---|")
        for checkout in filter(None, [HOME, options.against]):
            folder = Path(where, checkout.resolve().name + "-run")
            shutil.copytree(Path(where, "made"), folder)
            found = run(checkout.resolve(), folder, options)
            for name, value in found[0].items():
                print(
                    f"| {name} ({checkout.name}) | {value / n_scans:.2f} | {value:.0f} |",
                    flush=True,
                )
            for name, value in found[1].items():
                print(f"| {name} ({checkout.name}) | {value:.2f} | |", flush=True)


if __name__ == "__main__":
    main()
