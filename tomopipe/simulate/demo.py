"""The demonstration: simulate a campaign, run the whole workflow, compare with the truth.

``python -m tomopipe.simulate.demo demo --cores 2``, or ``make demo``. A second call runs the
workflow again, which then only does what was edited since.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tomopipe.campaign.campaign import Campaign, load_campaign, read_inventory
from tomopipe.campaign.files import CONFIG, STAR, TRUTH, Files
from tomopipe.campaign.results import read_cor_json
from tomopipe.paths import workflow_folder
from tomopipe.simulate.simulated_campaign import load_truth, simulate_campaign
from tomopipe.storage.tables import read_tsv


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
    command = snakemake_command(folder, options.cores)
    console.print("Running", " ".join(command), soft_wrap=True, markup=False)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    status = subprocess.run(command, env=environment, check=False).returncode
    campaign = load_campaign(folder)
    if campaign.files.inventory.exists():
        console.print(comparison(campaign))
    console.print(_what_next(campaign, options.cores), markup=False, highlight=False)
    return status


def snakemake_command(folder: Path, cores: str) -> list[str]:
    """Return the command that runs the campaign in `folder` on this machine."""
    home = workflow_folder()
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(home / "Snakefile")),
        *("--profile", str(home / "profiles" / "workstation")),
        *("--directory", str(folder), "--configfile", str(folder / CONFIG)),
        *("--cores", cores, "--quiet", "rules"),
    ]


def comparison(campaign: Campaign) -> Table:
    """Return a table of found against true COR, scan by scan."""
    truth = load_truth(campaign.directory)["scans"]
    rows = read_inventory(campaign.files.inventory)
    path = campaign.files.cor_table
    resolved = read_cor_json(path) if path.exists() else {}
    fixed = {
        row["scan"]: row
        for table in sorted(campaign.files.fix_table("").parent.glob("*.tsv"))
        for row in read_tsv(table, ("scan", "before_px"))
    }
    heads = ("scan", "true px", "predicted", "final px", "error", "source", "remark")
    table = Table(*heads, box=SIMPLE)
    for scan, row in rows.items():
        true_px = truth[scan]["cor_px"]
        found = resolved.get(scan)
        remark = ", ".join(truth[scan]["special"]) or row["reason"]
        table.add_row(
            scan,
            f"{true_px:.2f}",
            fixed.get(scan, {}).get("before_px") or "-",
            f"{found['cor_px']:.2f}" if found else "-",
            f"{found['cor_px'] - true_px:+.2f}" if found else "-",
            found["source"] if found else "-",
            remark,
        )
    return table


def _what_next(campaign: Campaign, cores: str) -> str:
    folder = os.path.relpath(campaign.directory)
    command = os.path.relpath(Path(sys.executable).parent / "tomopipe")
    scan = next(iter(campaign.scans))
    made = Files(f"{folder}/{campaign.outputs.folder}")
    return "\n".join(
        [
            "",
            f"report      {made.report}",
            f"volumes     {made.volume('<scan>', 'h5')}",
            f"for RELION  {made.in_relion(STAR)}",
            f"CORs        {made.cor_table}",
            "",
            "Edit one COR, see what hangs on it, and have just that redone:",
            f"  {command} cor set {scan} 81.5 -d {folder}",
            f"  {command} plan {folder}",
            f"  make demo CORES={cores}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
