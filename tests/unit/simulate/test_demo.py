"""What a run ends with, of a campaign whose truth is known; the run is tested on others."""

from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import outcome
from tomopipe.reruns.settle import expected_inventory
from tomopipe.simulate.simulated_campaign import Simulation, simulate_campaign
from tomopipe.storage.atomic import write_json


def test_the_table_has_the_error_of_each_scan(tmp_path, capsys):
    truth = simulate_campaign(
        tmp_path, Simulation(n_series=1, n_scans=2, n_cols=64, n_rows=1, n_angles=24)
    )["scans"]
    found = load_campaign(tmp_path)
    (tmp_path / "results").mkdir()
    expected_inventory(found, tmp_path / "results")
    name = next(iter(truth))
    found_px = round(truth[name]["cor_px"] + 1.25, 2)
    write_json({name: {"cor_px": found_px, "source": "auto"}}, tmp_path / "results" / "cor.json")
    outcome.show(load_campaign(tmp_path), is_whole=True)
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert f"{found_px - truth[name]['cor_px']:+.2f}" in lines[name]
    assert set(truth) <= set(lines)
    aborted = next(scan for scan, entry in truth.items() if "aborted" in entry["special"])
    assert "aborted" in lines[aborted]
    assert "+" not in lines[aborted]
