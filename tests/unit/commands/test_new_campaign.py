"""`tomopipe init`: a campaign folder and a SLURM profile of this site."""

import os
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from tests.unit.conftest import init
from tomopipe.cli import cli
from tomopipe.cli.terminal import near
from tomopipe.config import read_config
from tomopipe.errors import TomopipeError


def test_campaign_folder_is_complete_and_kept(site):
    folder = site / "campaign"
    done = init(folder, "/data/größe/*.h5", "--no-slurm")
    assert done.exit_code == 0
    assert "no file is there yet (campaign.scans in config.yaml)\n" in done.output
    assert f"next: tomopipe run --watch {near(folder)}" in done.output.replace("\n", "")
    assert read_config(folder / "config.yaml").campaign.scans == ["/data/größe/*.h5"]
    (folder / "scans.tsv").write_text("mine")
    assert init(folder, "--no-slurm").exit_code == 0
    assert (folder / "scans.tsv").read_text() == "mine"
    assert not (folder / "slurm").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sweeps", [False, True], ids=["volumes on GPUs", "sweeps too"])
def test_profile_has_the_names_of_the_site_in_both_places(site, sweeps):
    folder = site / "campaign"
    folder.mkdir()
    config = {"campaign": {"scans": ["raw/*.h5"]}, "try_recon": {"device": "cuda"}}
    if sweeps:
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    done = init(folder, "--partition", "short", "--account", "me", "--gpu-partition", "gpu")
    assert done.exit_code == 0, done.output
    target = {"slurm_partition": "gpu", "gpu": 1}
    steps = ["full_recon", *(["try_recon"] if sweeps else [])]
    for path in (folder / "slurm", site / "home" / "snakemake" / "slurm"):
        profile = yaml.safe_load((path / "profile.yaml").read_text())
        assert profile["default-resources"]["slurm_partition"] == "short"
        assert profile["default-resources"]["slurm_account"] == "me"
        assert profile["set-resources"] == dict.fromkeys(steps, target)
        assert profile["executor"] == "tomopipe"


@pytest.mark.slow
def test_files_and_folders_need_no_quotes(site, monkeypatch):
    for name in ("raw/a_1.h5", "raw/a_2.h5", "raw/b_1.h5", "t/s_1/0.tif", "t/s_2/0.tif"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).touch()
    monkeypatch.chdir(site)
    a, everything = ["raw/a_1.h5", "raw/a_2.h5"], ["raw/a_1.h5", "raw/a_2.h5", "raw/b_1.h5"]
    typed = {
        ("c", *everything): [f"{site}/raw/*.h5"],  # as the shell expands c raw/*.h5
        ("-C", "c", *everything): [f"{site}/raw/*.h5"],
        ("c", *a): [f"{site}/{name}" for name in a],
        ("c", "raw/a_*.h5"): [f"{site}/raw/a_*.h5"],
        ("c", "raw/a_1.h5", "raw/a_1.h5"): [f"{site}/raw/a_1.h5"],
        ("c", "t/s_1/", "t/s_2"): [f"{site}/t/*/"],
        ("c", "t/s_1", "raw/a_1.h5"): [f"{site}/t/s_1/", f"{site}/raw/a_1.h5"],
        ("c", "raw/*_1.h5", "none/*.h5"): [f"{site}/raw/*_1.h5", "none/*.h5"],
        ("-C", ".", *everything): ["raw/*.h5"],
        ("c",): ["raw/*.h5"],
        (): ["raw/*.h5"],
    }
    for arguments, scans in typed.items():
        done = init(*arguments, "--no-slurm")
        config = next(f / "config.yaml" for f in (site / "c", site) if (f / "config.yaml").exists())
        assert (done.exit_code, read_config(config).campaign.scans) == (0, scans), arguments
        os.remove(config)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["c", "d", "raw/a_1.h5"], "d: no scans are there (the campaign folder would be "),
        (["c", "raw/a_1.h5", "other"], "other: no scans are there (the campaign folder would be "),
        (["raw/a_1.h5"], "raw/a_1.h5: this means scans. Name the campaign folder before it"),
    ],
    ids=["two new names", "another campaign", "file"],
)
def test_what_cannot_mean_scans_or_a_campaign_is_refused(site, monkeypatch, arguments, wrong):
    for name in ("raw/a_1.h5", "other/config.yaml"):
        (site / name).parent.mkdir()
        (site / name).touch()
    monkeypatch.chdir(site)
    assert str(init(*arguments).exception).startswith(wrong)
    assert not [*site.glob("c/*"), *site.glob("*.yaml"), *site.glob("raw/*.yaml")]


@pytest.mark.slow
def test_init_says_how_it_reads_what_was_typed_and_can_be_tried(site, monkeypatch):
    (site / "raw").mkdir()
    (site / "raw" / "a_1.h5").touch()
    monkeypatch.chdir(site)
    read = f"campaign folder c, scans {site}/raw/a_1.h5\n"
    tried = init("c", "raw/a_1.h5", "-n", "--partition", "cpu", "--account", "")
    assert read in tried.output
    assert "would write c/config.yaml\n" in tried.output
    assert "would write c/slurm/profile.yaml\n" in tried.output
    assert [path.name for path in site.iterdir()] == ["raw"]
    assert read in init("c", "raw/a_1.h5").output


def test_a_configuration_is_kept_and_what_it_lacks_is_shown(site):
    init(site, "raw/*.h5")
    kept = init(site, "--no-relion")
    assert "config.yaml; what you typed is not in it:\nexport_star:\n  enabled: f" in kept.output
    assert "config.yaml\nnext: tomopipe check " in init(site, "raw/*.h5").output
    os.remove(site / "config.yaml")
    init(site, "--no-relion", "--no-try-stacks", "--binning", 2)
    config = read_config(site / "config.yaml")
    assert (config.export_star.enabled, config.storage.keep_try) == (False, False)
    assert config.full_recon.binning == 2
    for options, is_made in (("--relion",), True), ((), "auto"):
        os.remove(site / "config.yaml")
        init(site, *options)
        assert read_config(site / "config.yaml").export_star.enabled == is_made


def test_a_folder_in_a_campaign_means_the_campaign(site, monkeypatch):
    (site / "c" / "inner").mkdir(parents=True)
    monkeypatch.chdir(site / "c")
    assert init(".").exit_code == 0
    assert "kept config.yaml: inner lies in this campaign\n" in init("inner").output
    assert "kept config.yaml\n" in init("../c").output


def test_a_campaign_folder_that_cannot_be_made_is_named(site):
    (site / "file").touch()
    done = init("-C", site / "file" / "c")
    assert isinstance(done.exception, TomopipeError)
    assert f"{site / 'file' / 'c'}: the campaign folder cannot be made (" in str(done.exception)


@pytest.mark.slow
def test_names_are_asked_for_at_a_terminal_alone(site):
    done = CliRunner().invoke(cli, ["init", str(site / "quiet")])
    assert (done.exit_code, "?" in done.output) == (0, False)
    done = CliRunner().invoke(cli, ["init", str(site / "p"), "--partition", "short"])
    assert (done.exit_code, "Account" in done.output) == (0, False)
    keyboard, terminal = os.openpty()
    os.write(keyboard, b"y\nlong\n\n")
    command = [sys.executable, "-m", "tomopipe", "init", str(site / "c")]
    done = subprocess.run(command, stdin=terminal, capture_output=True, check=False, timeout=60)
    os.close(keyboard)
    os.close(terminal)
    assert done.returncode == 0, done
    profile = yaml.safe_load((site / "c" / "slurm" / "profile.yaml").read_text())
    assert profile["default-resources"]["slurm_partition"] == "long"
    assert "slurm_account" not in profile["default-resources"]


@pytest.mark.slow
def test_profile_that_exists_is_kept_unless_forced(site):
    mine = site / "home" / "snakemake" / "slurm" / "config.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("jobs: 1\n")
    done = init(site / "c", "--partition", "p", "--account", "")
    assert "kept" in done.output
    assert not (mine.parent / "profile.yaml").exists()
    init(site / "c", "--partition", "p", "--account", "", "--force")
    assert (mine.parent / "profile.yaml").exists()
