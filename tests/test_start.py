"""`tomopipe init`: a campaign folder and a SLURM profile of this site; `tomopipe check`."""

import pytest
import yaml
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tomopipe import start
from tomopipe.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.config import read_config


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A cluster without accounting, and a home of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(start, "has_accounting", lambda: False)
    return tmp_path


def init(*arguments):
    return CliRunner().invoke(cli, ["init", *map(str, arguments)])


def test_campaign_folder_is_complete_and_kept(site):
    folder = site / "campaign"
    done = init(folder, "--scans", "/data/größe/*.h5", "--no-slurm")
    assert done.exit_code == 0
    assert "Snakefile --directory" in done.output.replace("\n", " ")
    assert read_config(folder / "config.yaml").campaign.scans == ["/data/größe/*.h5"]
    (folder / "scans.tsv").write_text("mine")
    assert init(folder, "--no-slurm").exit_code == 0
    assert (folder / "scans.tsv").read_text() == "mine"
    assert not (folder / "slurm").exists()


def test_profile_has_the_names_of_the_site_in_both_places(site):
    folder = site / "campaign"
    done = init(folder, "--partition", "short", "--account", "me", "--gpu-partition", "gpu")
    assert done.exit_code == 0, done.output
    for path in (folder / "slurm", site / "home" / "snakemake" / "slurm"):
        profile = yaml.safe_load((path / "profile.yaml").read_text())
        assert profile["default-resources"]["slurm_partition"] == "short"
        assert profile["default-resources"]["slurm_account"] == "me"
        assert profile["set-resources"]["full_recon"] == {"slurm_partition": "gpu", "gpu": 1}
        assert profile["slurm-status-command"] == "squeue"
        assert profile["retries"] == 2


def test_names_are_asked_for(site):
    done = CliRunner().invoke(cli, ["init", str(site / "c")], input="y\nlong\n\n")
    assert done.exit_code == 0, done.output
    profile = yaml.safe_load((site / "c" / "slurm" / "profile.yaml").read_text())
    assert profile["default-resources"]["slurm_partition"] == "long"
    assert "slurm_account" not in profile["default-resources"]


def test_profile_that_exists_is_kept_unless_forced(site):
    mine = site / "home" / "snakemake" / "slurm" / "config.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("jobs: 1\n")
    done = init(site / "c", "--partition", "p", "--account", "")
    assert "kept" in done.output
    assert not (mine.parent / "profile.yaml").exists()
    init(site / "c", "--partition", "p", "--account", "", "--force")
    assert (mine.parent / "profile.yaml").exists()


def test_check_says_once_what_was_found_where(tmp_path):
    size = {"n_angles": 31, "n_rows": 2, "n_cols": 32}
    for name in ("a_1", "a_2", "a_3", "a_4"):
        write_scan(tmp_path / "raw" / f"{name}.h5", **size, energy_kev=25)
    write_scan(tmp_path / "raw" / "b_1.h5", format="nxtomo", **size)
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    groups = start.examine(load_campaign(tmp_path)).formats
    assert [group.scans for group in groups] == [("a_1", "a_2", "a_3", "a_4"), ("b_1",)]
    done = CliRunner().invoke(cli, ["check", str(tmp_path)])
    assert done.exit_code == 0
    shown = " ".join(done.output.split())
    assert "DXchange: 4 scans (a_1, a_2, a_3, ...)" in shown
    assert "energy 25 keV, /measurement/instrument/monochromator/energy" in shown
    assert "NXtomo: 1 scan (b_1)" in shown
    assert "angles /entry0000/sample/rotation_angle, 180 degrees" in shown


def test_check_misses_files_that_the_config_names(tmp_path):
    write_scan(tmp_path / "raw" / "a_1.h5", n_angles=31, n_rows=2, n_cols=32)
    (tmp_path / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\npreprocess: {flats: [raw/a_1.h5, gone]}\n"
        "input: {angles: gone.txt}\n"
    )
    errors = start.examine(load_campaign(tmp_path)).errors
    assert [error.partition(":")[0] for error in errors] == ["gone", "gone.txt"]


def test_check_tells_which_scans_lack_the_pixel_size_for_values_per_cm(tmp_path):
    size = {"n_angles": 31, "n_rows": 2, "n_cols": 32}
    write_scan(tmp_path / "raw" / "a_1.h5", **size, pixel_size_um=1.3)
    write_scan(tmp_path / "raw" / "a_2.h5", **size)
    config = "campaign: {scans: [raw/*.h5]}\nfull_recon: {unit: per_cm}\n"
    (tmp_path / "config.yaml").write_text(config)
    errors = start.examine(load_campaign(tmp_path)).errors
    assert errors == [
        "a_2: full_recon.unit: per_cm needs the pixel size, which the file does not tell: "
        "set input.pixel_size_um"
    ]
    (tmp_path / "config.yaml").write_text(config + "input: {pixel_size_um: 2}\n")
    assert not start.examine(load_campaign(tmp_path)).errors


def test_check_tells_of_which_scans_phase_retrieval_lacks_a_number(tmp_path):
    size = {"n_angles": 31, "n_rows": 2, "n_cols": 32}
    for name in ("a_1", "a_2", "b_1"):
        write_scan(tmp_path / "raw" / f"{name}.h5", **size, energy_kev=25, pixel_size_um=1)
    config = "campaign: {scans: [raw/*.h5]}\noverrides:\n"
    phase = "- {series: [a], preprocess: {phase: {method: paganin}}}\n"
    (tmp_path / "config.yaml").write_text(config + phase)
    errors = start.examine(load_campaign(tmp_path)).errors
    assert errors == [
        "a_1, a_2: phase retrieval needs distance_mm, which the file does not tell: "
        "set input.distance_mm"
    ]
    write_scan(tmp_path / "raw" / "a_2.h5", **size)
    known = "- {scans: [a_1], input: {distance_mm: 50}}\n"
    (tmp_path / "config.yaml").write_text(config + phase + known)
    errors = start.examine(load_campaign(tmp_path)).errors
    assert errors == [
        "a_2: phase retrieval needs energy_kev, distance_mm, pixel_size_um, which the file does "
        "not tell: set input.energy_kev, input.distance_mm, input.pixel_size_um"
    ]
    done = CliRunner().invoke(cli, ["check", str(tmp_path)])
    assert done.exit_code == 1
    assert "set input.energy_kev, input.distance_mm" in " ".join(done.output.split())
