"""The demonstration's comparison with the truth; the run itself is tested on other campaigns."""

import io

from rich.console import Console

from tomopipe.campaign.campaign import load_campaign
from tomopipe.run.next_run import foresee_inventory
from tomopipe.simulate.demo import comparison, snakemake_command
from tomopipe.simulate.simulated_campaign import Simulation, simulate_campaign
from tomopipe.storage.atomic import write_json
from tomopipe.storage.tables import write_tsv


def shown(folder):
    stream = io.StringIO()
    Console(file=stream, width=100).print(comparison(load_campaign(folder)))
    return stream.getvalue()


def test_comparison_has_the_error_of_each_scan(tmp_path):
    truth = simulate_campaign(
        tmp_path, Simulation(n_series=1, n_scans=2, n_cols=64, n_rows=1, n_angles=24)
    )["scans"]
    found = load_campaign(tmp_path)
    (tmp_path / "results").mkdir()
    foresee_inventory(found, tmp_path / "results")
    name = next(iter(truth))
    found_px = round(truth[name]["cor_px"] + 1.25, 2)
    write_json({name: {"cor_px": found_px, "source": "auto"}}, tmp_path / "results" / "cor.json")
    row = {"scan": name, "before_px": f"{found_px:.2f}"}
    write_tsv([row], ("scan", "before_px"), tmp_path / "results" / "fix_cor" / "s.tsv")
    lines = {line.split()[0]: line for line in shown(tmp_path).splitlines() if line.strip()}
    assert f"{found_px - truth[name]['cor_px']:+.2f}" in lines[name]
    assert set(truth) <= set(lines)
    aborted = next(scan for scan, entry in truth.items() if "aborted" in entry["special"])
    assert "aborted" in lines[aborted]
    assert "+" not in lines[aborted]


def test_command_is_the_one_of_the_readme(tmp_path):
    command = snakemake_command(tmp_path, "2")
    assert command[1:3] == ["-m", "snakemake"]
    for option in ("--snakefile", "--directory", "--configfile", "--profile"):
        assert option in command
