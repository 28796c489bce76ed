"""The demonstration: simulate a campaign and run the whole workflow; the true CORs are known.

``python -m tomopipe.simulate.demo demo --cores 2``, or ``make demo``. A second call runs the
workflow again, which then only does what was edited since.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from tomopipe.campaign.files import TRUTH
from tomopipe.simulate.simulated_campaign import load_truth, simulate_campaign


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration; return the exit status of the workflow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="campaign folder to make, or to run again")
    parser.add_argument("--cores", default="1")
    options = parser.parse_args(arguments)
    folder: Path = options.folder.absolute()
    console = Console()
    if not (folder / TRUTH).exists():
        console.print(f"Simulating a campaign in {folder} ...")
        simulate_campaign(folder)
    command = [sys.executable, "-m", "tomopipe", "run", str(folder), "--", "--cores", options.cores]
    console.print("Running", " ".join(command), soft_wrap=True, markup=False)
    status = subprocess.run(command, check=False).returncode
    console.print(_what_next(folder, options.cores), markup=False, highlight=False)
    return status


def _what_next(folder: Path, cores: str) -> str:
    scans = load_truth(folder)["scans"]
    scan = min(scans, key=lambda name: "fixed pattern" not in scans[name]["special"])
    folder = Path(os.path.relpath(folder))
    command = os.path.relpath(Path(sys.executable).parent / "tomopipe")
    return "\n".join(
        [
            "",
            "Edit one COR, see what depends on it, and have just that redone:",
            f"  {command} cor set {scan} {scans[scan]['cor_px']:.2f} -C {folder}",
            f"  {command} plan {folder}",
            f"  make demo CORES={cores}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
