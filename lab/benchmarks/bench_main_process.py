"""What the main process costs: whole campaigns through Snakemake, with steps that cost nothing.

    python lab/benchmarks/bench_main_process.py --scans 1000 [--against CHECKOUT]

One scan is processed for real; in the campaign its raw file and its results stand for those of all
scans, copied inside the main process where a job would be started. What is measured is Snakemake
and the Snakefile: the first run, three calls with nothing to do. Then, with all processes and jobs:
`tomopipe plan` and `tomopipe run`, with nothing to do and with one COR edited, `tomopipe cor list`
and `tomopipe check`. In alternation the same jobs with rules that do nothing (`trivial/`), which is
what Snakemake itself costs, and with `--against` another version, each on a campaign of its own.
`--finished` leaves out the first run: the results of all scans are copied, as a folder that was
moved, and `tomopipe` alone is measured.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

HOME = Path(__file__).resolve().parents[2]
TRIVIAL = Path(__file__).resolve().parent / "trivial"
IN_SERIES = 20
TEMPLATE = "t_0"
IN_JOBS: list[float] = []  # CPU time of what jobs do: no part of the main process
COPIED = ("try_recon", "predict_cor", "full_recon", "export_stack")


def make(folder: Path, names: list[str], raw: Path | None, home: Path) -> None:
    """Write a campaign for a version; all scans are copies of one file, its time included."""
    (folder / "raw").mkdir(parents=True)
    config = "campaign: {scans: [raw/*.h5]}\nexport_star: {enabled: true}\n"
    # the method without a network, which had another name
    places = (home / "tomopipe" / name for name in ("cor_methods.py", "config/blocks.py"))
    is_known = any('"classical"' in path.read_text() for path in places if path.exists())
    method = "classical" if is_known else "sum"
    config += f"predict_cor: {{methods: [{method}], when: always}}\n"
    (folder / "config.yaml").write_text(config)
    edit(folder, dict.fromkeys(names, 33.0))
    for name in names:
        path = folder / "raw" / f"{name}.h5"
        if raw:
            shutil.copy2(raw, path)
        else:
            _simulate(path)


def _simulate(path: Path) -> None:
    from tomopipe.simulate.simulated_campaign import Simulation, simulate_campaign

    with tempfile.TemporaryDirectory() as folder:
        simulate_campaign(
            Path(folder),
            Simulation(n_series=1, n_scans=3, n_cols=64, n_rows=4, n_angles=90, seed=1),
        )
        whole = max(Path(folder).rglob("*.h5"), key=lambda file: file.stat().st_size)
        shutil.copy(whole, path)


def finish(folder: Path, names: list[str], template: Path) -> None:
    """Copy the results of the scan of the template for all scans, without receipts."""
    results = (path for path in (template / "results").rglob(f"*{TEMPLATE}*") if path.is_file())
    within = (template / "results" / "try_center" / TEMPLATE).iterdir()
    # receipts and star files are made anew; star files without tomograms.star are somebody else's
    sources = [p for p in [*results, *within] if "made" not in p.parts and p.suffix != ".star"]
    for source in sources:
        for name in names:
            path = folder / str(source.relative_to(template)).replace(TEMPLATE, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)


# ---- in a process of the version that is measured ---------------------------------------------


def run_here(home: Path, folder: Path, template: Path | None) -> None:
    """Run Snakemake in this process; jobs of `COPIED` steps copy the results of the template."""
    os.chdir(folder)
    if template:
        _copy_instead(template)
    from snakemake.cli import main

    IN_JOBS.clear()
    arguments = ["--snakefile", str(home / "Snakefile"), "--configfile", "config.yaml"]
    arguments += ["--cores", "1", "--quiet", "all", "--keep-going"]
    profile = home / "profiles" / "workstation"
    # as `tomopipe run` does; trivial rules have no profile
    arguments += ["--profile", str(profile)] if profile.exists() else ["--scheduler", "greedy"]
    try:
        main(arguments)
    except SystemExit as ended:
        status = ended.code
    used = resource.getrusage(resource.RUSAGE_SELF)
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "status": status,
        "cpu_s": used.ru_utime + used.ru_stime + below.ru_utime + below.ru_stime - sum(IN_JOBS),
        "in_jobs_s": sum(IN_JOBS),
        "peak_mb": used.ru_maxrss / 1024,
    }
    print("BENCH " + json.dumps(found), flush=True)


def _copy_instead(template: Path) -> None:
    """Run scripts in this process, and copy what the costly steps would make."""
    import importlib

    import snakemake.cli
    import snakemake.script

    now = {}
    clock = time.pthread_getcpuclockid(threading.get_ident())

    def beside_main() -> float:  # jobs have threads, too; one job runs at a time
        return time.process_time() - time.clock_gettime(clock)

    def copy(*_: object, **__: object) -> dict:
        job = now["snakemake"]
        scan, products = job.wildcards.scan, getattr(job.params, "provenance", {}).get("products")
        for path in map(str, products or job.output):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(template / path.replace(scan, TEMPLATE), path)
        return {"verdict": ""}  # scripts look for a failure in it

    for step in COPIED:
        setattr(importlib.import_module(f"tomopipe.steps.{step}"), step, copy)

    class Job:
        pass

    def script(path, basedir, *rest, **_):
        names = ("input", "output", "params", "wildcards", "threads", "resources", "log", "config")
        job = Job()
        job.__dict__.update(zip(names, rest, strict=False))
        now["snakemake"] = job
        source = Path(os.path.normpath(Path(str(basedir).removeprefix("file://")) / path))
        code = compile(source.read_text(), str(source), "exec")
        started = beside_main()
        exec(code, {"snakemake": job, "__name__": "__main__"})
        IN_JOBS.append(beside_main() - started)

    plain = snakemake.script.script
    for module in list(sys.modules.values()):
        if getattr(module, "script", None) is plain:
            module.script = script


# ---- the measurement ------------------------------------------------------------------------


def _environment(home: Path) -> dict[str, str]:
    """Return the variables of a version, whose modules are compiled once, as if installed."""
    rest = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return rest | {"PYTHONPATH": str(home)}


def call(home: Path, folder: Path, template: Path | None) -> dict:
    """Run Snakemake of a version once; return seconds, CPU seconds, peak memory."""
    environment = _environment(home) | {"NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--here", str(home), "--folder", str(folder)]
    command += ["--template", str(template)] if template else []
    started = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    found = re.search(r"BENCH (.*)", done.stdout)
    if not found:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    result = json.loads(found[1]) | {"s": seconds}
    if result["status"]:
        sys.exit(f"{' '.join(command)}: {result}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return result


def call_tomopipe(home: Path, folder: Path, command: str) -> dict:
    """Call `tomopipe` of a version once; return the seconds and CPU seconds of all processes."""
    python = home / ".venv" / "bin" / "python"
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(python if python.exists() else sys.executable), "-m", "tomopipe", *command.split()],
        env=_environment(home),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 2):
        sys.exit(
            f"tomopipe {command}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu_s, "s": time.monotonic() - started, "peak_mb": 0}


def edit(folder: Path, cors_px: dict[str, float]) -> None:
    lines = [f"{name}\tauto\t{cor_px}\t" for name, cor_px in cors_px.items()]
    (folder / "scans.tsv").write_text("\n".join(["scan\tselect\tcor_px\tnote", *lines]) + "\n")


def measure(n_scans: int, homes: dict[str, Path], folder: Path, *, is_finished: bool) -> None:
    names = [f"s{i // IN_SERIES:02d}_{i % IN_SERIES:02d}" for i in range(n_scans)]
    raw = folder / "raw.h5"
    _simulate(raw)
    campaigns, templates = {}, {}
    for version, home in homes.items():
        templates[version] = folder / f"{version}-template"
        make(templates[version], [TEMPLATE], raw, home)
        call(home, templates[version], None)
        campaigns[version] = folder / version
        make(campaigns[version], names, raw, home)
        if is_finished:
            finish(campaigns[version], names, templates[version])
            call(home, campaigns[version], templates[version])
    parts = [] if is_finished else ["first run", *["snakemake, nothing to do"] * 3]
    n_rounds = 3 if is_finished else 1
    parts += ["tomopipe run, nothing to do", "tomopipe plan, nothing to do"] * n_rounds
    parts += ["tomopipe cor list, nothing to do", "tomopipe check, nothing to do"] * n_rounds
    parts += ["tomopipe plan, one COR edited", "tomopipe run, one COR edited"] * n_rounds
    results: dict[tuple[str, str], list[dict]] = {}
    for number, part in enumerate(parts):
        for version, home in homes.items():
            if part == "tomopipe plan, one COR edited":
                edit(campaigns[version], dict.fromkeys(names, 33.0) | {names[0]: 30 + number / 10})
            if part.startswith("tomopipe"):
                if home == TRIVIAL:
                    continue
                command = part.split(",")[0].removeprefix("tomopipe ")
                found = call_tomopipe(home, campaigns[version], command)
            else:
                found = call(home, campaigns[version], templates[version])
            results.setdefault((part, version), []).append(found)
            print(f"{part}, {version}: {found}", file=sys.stderr, flush=True)
    print(f"{n_scans} scans\n\n| | " + " | ".join(f"{v}: CPU s, s, MB" for v in homes) + " |")
    print("|---" * (len(homes) + 1) + "|")
    for part in dict.fromkeys(parts):
        cells = []
        for version in homes:
            rows = results.get((part, version), [])
            if not rows:
                cells.append("")
                continue
            cpu, s, mb = (
                np.median([row[key] for row in rows]) for key in ("cpu_s", "s", "peak_mb")
            )
            cells.append(f"{cpu:.2f}, {s:.2f}, {mb:.0f}")
        print(f"| {part} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--against", type=Path, help="a checkout of another version")
    parser.add_argument("--no-trivial", action="store_true", help="leave out the plain rules")
    parser.add_argument("--finished", action="store_true", help="without the first run")
    parser.add_argument("--folder", type=Path, help="kept (default: a temporary one)")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--template", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_here(options.here, options.folder, options.template)
        return
    is_alone = options.no_trivial or options.finished
    homes = {"this": HOME} | ({} if is_alone else {"trivial rules": TRIVIAL})
    homes |= {"other": options.against.resolve()} if options.against else {}
    with tempfile.TemporaryDirectory(prefix="tomopipe-bench-") as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(exist_ok=True)
        measure(options.scans, homes, folder, is_finished=options.finished)


if __name__ == "__main__":
    main()
