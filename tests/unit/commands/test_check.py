"""`tomopipe init`: a campaign folder and a SLURM profile of this site; `tomopipe check`."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tifffile
import yaml
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tomopipe.campaign import lock
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.results import INVENTORY_COLUMNS
from tomopipe.campaign.slurm import sinfo, time_limit_min
from tomopipe.cli import cli
from tomopipe.cli.terminal import near
from tomopipe.commands import check
from tomopipe.commands.next_run import make_plan
from tomopipe.config import read_config
from tomopipe.errors import TomopipeError
from tomopipe.reruns.receipts import write_receipt
from tomopipe.run import launch
from tomopipe.storage.processes import named
from tomopipe.storage.tables import write_tsv


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A cluster without accounting, and a home of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path


class Terminal:
    def isatty(self):
        return True


def init(*arguments):
    return CliRunner().invoke(cli, ["init", *map(str, arguments)])


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
def test_profile_has_the_names_of_the_site_in_both_places(site):
    folder = site / "campaign"
    done = init(folder, "--partition", "short", "--account", "me", "--gpu-partition", "gpu")
    assert done.exit_code == 0, done.output
    for path in (folder / "slurm", site / "home" / "snakemake" / "slurm"):
        profile = yaml.safe_load((path / "profile.yaml").read_text())
        assert profile["default-resources"]["slurm_partition"] == "short"
        assert profile["default-resources"]["slurm_account"] == "me"
        assert profile["set-resources"] == {"full_recon": {"slurm_partition": "gpu", "gpu": 1}}
        assert profile["executor"] == "tomopipe"
        assert profile["retries"] == 2


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
        (["-C", "c", "d"], "d: no scans are there (the campaign folder would be "),
        (["raw/a_1.h5"], "raw/a_1.h5: this means scans. Name the campaign folder before it"),
        (["raw"], "raw: this means scans. Name the campaign folder before it"),
        (["raw/*.nx", "c"], "raw/*.nx: this means scans. Name the campaign folder before it"),
    ],
    ids=["two new names", "another campaign", "no name of a file", "file", "folder", "pattern"],
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


def test_check_shows_the_datasets_of_a_file_that_is_not_recognised_and_the_key(site):
    with h5py.File(site / "odd_1.h5", "w") as file:
        file["entry/frames"] = np.zeros((5, 3, 4), "u2")
        file["entry/angle"] = np.arange(5.0)
        file["entry/raw"] = h5py.ExternalLink("gone.h5", "/data")
    assert init(site / "c", site / "odd_1.h5").exit_code == 0
    status, shown = run_check(site / "c")
    assert status == 1
    assert "or input.paths to name its datasets (data, angles, and image_key or flats and" in shown
    assert "it has /entry/frames (5, 3, 4), /entry/angle (5,); /entry/raw is a link to" in shown
    config = (site / "c" / "config.yaml").read_text()
    keys = "input: {paths: {data: /entry/frames, angles: /entry/angle}}\n"
    (site / "c" / "config.yaml").write_text(
        config + keys + "preprocess: {flats: none, darks: none}\n"
    )
    assert not check.examine(load_campaign(site / "c")).errors


TOMO = "entry1/tomo_entry"
HTTOMO = {"data": f"{TOMO}/data/data", "angles": f"{TOMO}/data/rotation_angle"}
KEY = f"{TOMO}/instrument/detector/image_key"
SAVU = {"data": "entry/data/data", "angles": "entry/data/rotation_angle"}
NO_REFERENCES = {"flats": "none", "darks": "none"}


@pytest.mark.parametrize(
    ("kinds", "paths", "preprocess"),
    [
        ([2, 1, 1, 0, 0, 0, 0, 0, 0, 1], HTTOMO | {"image_key": KEY}, {}),
        ([0] * 6, HTTOMO, {"flats": "away.h5", "darks": "away.h5"}),
        ([0] * 6, SAVU, NO_REFERENCES),
    ],
    ids=["HTTomo with keys", "HTTomo with flats elsewhere", "Savu"],
)
def test_check_lists_what_httomo_and_savu_write_and_reads_it_by_its_paths(
    site, kinds, paths, preprocess
):
    frames = np.full((len(kinds), 3, 8), 100, "u2")
    frames[np.array(kinds) == 2] = 1
    angles = np.zeros(len(kinds))
    angles[np.array(kinds) == 0] = np.linspace(0, 180, 6)
    with h5py.File(site / "a_1.nxs", "w") as file:
        file[paths["data"]], file[paths["angles"]] = frames, angles
        if "image_key" in paths:
            file[KEY] = kinds
    with h5py.File(site / "away.h5", "w") as file:
        file["exchange/data_white"], file["exchange/data_dark"] = frames[-1:], frames[:1] // 50
    init(site / "c", site / "a_1.nxs")
    _, shown = run_check(site / "c")
    for name in paths.values():
        assert f"/{name} ({len(kinds)}," in shown
    config = site / "c" / "config.yaml"
    sources = {key: name.replace("away", str(site / "away")) for key, name in preprocess.items()}
    keys = {"input": {"paths": paths}, "preprocess": sources}
    config.write_text(config.read_text() + yaml.safe_dump(keys))
    status, shown = run_check(site / "c")
    assert (status, "HDF5: 1 scan (a_1)" in shown) == (0, True), shown
    assert "6 x 3 x 8" in shown


@pytest.fixture
def small_queue(site, monkeypatch):
    """A cluster that ends each job after ten minutes."""
    tools = {"sacctmgr": "#!/bin/sh\n", "sinfo": "#!/bin/sh\necho 'short*|10:00'\n"}
    for name, text in tools.items():
        (site / name).write_text(text)
        (site / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(site), prepend=os.pathsep)
    sinfo.cache_clear()
    yield site
    sinfo.cache_clear()


def test_a_partition_that_ends_jobs_early_is_noted(small_queue):
    folder = small_queue / "campaign"
    init(folder, "--partition", "short", "--account", "")
    write_scan(folder / "raw" / "a_1.h5", n_rows=2, n_cols=64, n_angles=31)
    (folder / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    tool, asked = small_queue / "sinfo", small_queue / "asked"
    tool.write_text(f'{tool.read_text()}echo "$@" >> {asked}\n')
    findings = check.examine(load_campaign(folder))
    assert len(asked.read_text().splitlines()) == 1  # question
    assert "partition short ends jobs after 10 min" in " ".join(findings.notes)


def test_partitions_of_rules_and_lists_of_them_are_looked_at(small_queue):
    (small_queue / "sinfo").write_text("#!/bin/sh\nprintf 'a|3:00:00\\nb*|infinite\\nc|20:00\\n'\n")
    folder = small_queue / "campaign"
    init(folder, "--partition", "a,b", "--account", "", "--gpu-partition", "b,c")
    write_scan(folder / "raw" / "a_1.h5", n_rows=2, n_cols=64, n_angles=31)
    (folder / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    findings = check.examine(load_campaign(folder))
    assert findings.errors == []
    notes = [line for line in findings.notes if line.startswith("partition")]
    assert [line.split(":")[0] for line in notes] == ["partition b,c ends jobs after 20 min"]
    assert time_limit_min("a,b,c") == 20


@pytest.mark.slow
def test_a_folder_for_scratch_files_that_is_not_there_is_an_error(site):
    write_scan(site / "raw" / "a_1.h5", n_rows=2, n_cols=64, n_angles=31)
    text = "campaign: {scans: [raw/*.h5]}\nstorage: {scratch: none/here}\n"
    (site / "config.yaml").write_text(text)
    assert "none/here is no folder" in " ".join(check.examine(load_campaign(site)).errors)
    (site / "slurm").mkdir()
    (site / "slurm" / "profile.yaml").write_text("jobs: 1\n")
    found = check.examine(load_campaign(site))  # nodes may have it
    assert found.errors == []
    assert "perhaps not on nodes: storage.scratch: none/here" in " ".join(found.warnings)


def test_files_may_come_later(site):
    done = CliRunner().invoke(cli, ["init", str(site / "c"), str(site / "nothere.h5")])
    assert done.exit_code == 0  # a beamtime may begin later
    assert "no file is there yet (campaign.scans in config.yaml)\n" in done.output
    assert "next: tomopipe run --watch" in done.output


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


def test_what_slurm_does_not_have_is_refused_before_a_run_waits_for_it(small_queue, monkeypatch):
    sacctmgr = "#!/bin/sh\n[ $4 = assoc ] && printf 'mine|me\\nours|me\\n'\n"
    (small_queue / "sacctmgr").write_text(sacctmgr)
    folder = small_queue / "campaign"
    init(folder, "--partition", "long", "--account", "theirs", "--gpu-partition", "short")
    write_scan(folder / "raw" / "a_1.h5", n_rows=2, n_cols=64, n_angles=31)
    (folder / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    text = " ".join(check.examine(load_campaign(folder)).errors)
    assert "SLURM has no partition long; it has short." in text
    assert "SLURM has no account theirs for " in text
    assert "it has mine, ours." in text
    with pytest.raises(TomopipeError, match="no partition long"):
        launch.run_command(folder, None, launch.chosen_profile(folder))
    assert launch.run_command(folder, None, "workstation")
    path = folder / "slurm" / "profile.yaml"
    path.write_text(path.read_text().replace("long", "short").replace("theirs", "ours"))
    assert launch.run_command(folder, None, launch.chosen_profile(folder))
    assert check.examine(load_campaign(folder)).errors == []


@pytest.mark.slow
def test_a_run_waits_seconds_at_most_for_a_controller_that_is_down(small_queue):
    folder = small_queue / "campaign"
    init(folder, "--partition", "short", "--account", "", "--gpu-partition", "long")
    (folder / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (small_queue / "sinfo").write_text(f"#!/bin/sh\ntouch {small_queue}/asked\nexec sleep 60\n")
    (small_queue / "sacctmgr").write_text("#!/bin/sh\nexec sleep 60\n")
    began_s = time.monotonic()
    profile = launch.chosen_profile(folder)
    assert launch.run_command(folder, None, profile, ["--profile", "workstation"])
    assert not (small_queue / "asked").exists()
    assert launch.run_command(folder, None, profile)
    assert (small_queue / "asked").exists()
    assert time.monotonic() - began_s < 6


@pytest.mark.slow
def test_sweeps_go_to_the_gpu_partition_where_the_configuration_says_so(site):
    folder = site / "campaign"
    folder.mkdir()
    config = {"campaign": {"scans": ["raw/*.h5"]}, "try_recon": {"device": "cuda"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    init(folder, "--partition", "short", "--account", "me", "--gpu-partition", "gpu")
    profile = yaml.safe_load((folder / "slurm" / "profile.yaml").read_text())
    asked = {"slurm_partition": "gpu", "gpu": 1}
    assert profile["set-resources"] == {"full_recon": asked, "try_recon": asked}


@pytest.mark.slow
def test_names_are_asked_for_at_a_terminal_alone(site, monkeypatch):
    done = CliRunner().invoke(cli, ["init", str(site / "quiet")])
    assert (done.exit_code, "?" in done.output) == (0, False)
    done = CliRunner().invoke(cli, ["init", str(site / "p"), "--partition", "short"])
    assert (done.exit_code, "Account" in done.output) == (0, False)
    monkeypatch.setattr("tomopipe.cli.start.sys", SimpleNamespace(stdin=Terminal()))
    done = CliRunner().invoke(cli, ["init", str(site / "c")], input="y\nlong\n\n")
    assert done.exit_code == 0, done.output
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


def test_check_says_once_what_was_found_where(tmp_path):
    size = {"n_angles": 31, "n_rows": 2, "n_cols": 32}
    for name in ("a_1", "a_2", "a_3", "a_4"):
        write_scan(tmp_path / "raw" / f"{name}.h5", **size, energy_kev=25)
    write_scan(tmp_path / "raw" / "b_1.h5", format="nxtomo", **size)
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    groups = check.examine(load_campaign(tmp_path)).formats
    assert [scans for _, scans in groups] == [["a_1", "a_2", "a_3", "a_4"], ["b_1"]]
    done = CliRunner().invoke(cli, ["check", str(tmp_path)])
    assert done.exit_code == 0
    shown = " ".join(done.output.split())
    assert "DXchange: 4 scans (a_1, a_2, a_3, ...)" in shown
    assert "energy 25 keV, /measurement/instrument/monochromator/energy" in shown
    assert "NXtomo: 1 scan (b_1)" in shown
    assert "angles /entry0000/sample/rotation_angle, 180 degrees" in shown


def test_scans_that_differ_in_their_cor_hint_were_recorded_alike(tmp_path):
    size = {"n_angles": 31, "n_rows": 2, "n_cols": 32}
    for name, hint_px in {"a_1": 2.5, "a_2": -1.25, "a_3": 812.0}.items():
        write_scan(tmp_path / "raw" / f"{name}.h5", format="nxtomo", **size)
        with h5py.File(tmp_path / "raw" / f"{name}.h5", "r+") as file:
            file["entry0000/instrument/detector/estimated_cor_from_motor"] = hint_px
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    ((text, scans),) = check.examine(load_campaign(tmp_path)).formats
    assert scans == ["a_1", "a_2", "a_3"]
    assert "; COR hint -1.2 to 812.0 px (not used), /entry0000/" in text
    (tmp_path / "raw" / "a_2.h5").unlink()
    (tmp_path / "raw" / "a_3.h5").unlink()
    ((text, _),) = check.examine(load_campaign(tmp_path)).formats
    assert "; COR hint 2.5 px (column 18.0 if from the middle, as nabu) (not used), " in text


def test_images_of_one_scan_that_are_named_as_scans_are_one_warning(tmp_path):
    (tmp_path / "raw").mkdir()
    for number in range(6):
        tifffile.imwrite(tmp_path / "raw" / f"img_{number}.tif", np.ones((3, 5), "u2"))
    config = "campaign: {scans: [raw/*.tif]}\npreprocess: {flats: none, darks: none}\n"
    (tmp_path / "config.yaml").write_text(config)
    found = check.examine(load_campaign(tmp_path))
    (images,) = found.warnings
    assert images.startswith("6 scans (img_0, img_1, img_2, ...): skipped: one image, no scan: ")
    assert images.endswith("give their folder in campaign.scans, raw/")
    assert found.errors[0].startswith("none of 6 scans can be used (0 have select: no); the first")


def run_check(folder):
    done = CliRunner().invoke(cli, ["check", str(folder)])
    return done.exit_code, " ".join(done.output.split())


def test_check_warns_of_angles_in_another_unit_as_a_run_skips_them_and_names_the_key(tmp_path):
    size = {"n_rows": 2, "n_cols": 32}
    for name, factor in (("a_1", 1), ("a_2", np.pi / 180), ("a_3", np.pi / 180), ("b_1", 1000)):
        write_scan(tmp_path / "raw" / f"{name}.h5", **size, theta_deg=np.arange(0, 180) * factor)
    config = "campaign: {scans: [raw/*.h5]}\n"
    (tmp_path / "config.yaml").write_text(config)
    first, second = [w for w in check.examine(load_campaign(tmp_path)).warnings if "cover" in w]
    assert first.startswith(
        "2 scans (a_2, a_3): skipped: angles that cannot be degrees: they cover 3.12414,"
    )
    assert "about 180 degrees in rad; set input.angle_unit to rad" in first
    assert second.startswith("b_1: skipped: angles that cannot be degrees: they cover 179000, ")
    assert "about 180 degrees in mdeg; set input.angle_unit to mdeg" in second
    assert run_check(tmp_path)[0] == 0
    (tmp_path / "scans.tsv").write_text("scan\tselect\na_1\tno\n")
    status, shown = run_check(tmp_path)
    assert (status, "Ready" in shown) == (1, False)
    assert "none of 4 scans can be used (1 have select: no); the first reason: angles" in shown
    (tmp_path / "scans.tsv").write_text("scan\tselect\na_3\tno\n")
    overrides = (
        "overrides:\n- {scans: [a_2], input: {angle_unit: rad}}\n"
        "- {scans: [b_1], input: {angle_unit: mdeg}}\n"
    )
    (tmp_path / "config.yaml").write_text(config + overrides)
    findings = check.examine(load_campaign(tmp_path))
    assert not [line for line in (*findings.errors, *findings.warnings) if "cover" in line]


@pytest.mark.parametrize(
    ("theta_deg", "said"),
    [
        (np.linspace(0, 180, 61), "mirrors the first one: {start: 0, stop: 180} is likely"),
        (np.linspace(0, 360, 60, endpoint=False), "like the first one: {start: 0, stop: 360} is"),
        (np.linspace(0, 140, 61), ""),
    ],
    ids=["half", "full", "neither"],
)
def test_check_says_which_angles_are_likely_where_there_are_none(tmp_path, theta_deg, said):
    more = {"n_rows": 8, "n_cols": 96, "cor_px": 44.3, "counts": 50000}
    write_scan(tmp_path / "raw" / "a_1.h5", **more, theta_deg=theta_deg, write_theta=False)
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (line,) = [w for w in check.examine(load_campaign(tmp_path)).warnings if "angles" in w]
    assert line.startswith("a_1: skipped: no angles: set input.angles: {start: 0, stop: 180}")
    assert said in line
    assert ("likely" in line) == bool(said)


def test_rows_and_overrides_may_be_written_before_their_scans_come(tmp_path):
    write_scan(tmp_path / "raw" / "a_1.h5", n_angles=31, n_rows=2, n_cols=32)
    config = "campaign: {scans: [raw/*.h5]}\n"
    (tmp_path / "config.yaml").write_text(config)
    rows = ("a_2\t20.5", "a_01\t20.5", "b_1\t20.5")  # the next, a slip, another series
    (tmp_path / "scans.tsv").write_text("\n".join(["scan\tcor_px", *rows]))
    found = check.examine(load_campaign(tmp_path))
    assert found.errors == [
        "scans.tsv: line 3: no scan a_01 in the campaign; did you mean a_1?",
        "scans.tsv: line 4: no scan b_1 in the campaign; did you mean a_1?",
    ]
    yet = "scans.tsv: line 2: no scan a_2 in the campaign yet; did you mean a_1?"
    assert yet in found.warnings
    (tmp_path / "config.yaml").write_text(
        config + "overrides: [{scans: [a_3], full_recon: {filter: hann}}]\n"
    )
    with pytest.raises(TomopipeError, match="overrides 1: scans: there is no a_3"):
        load_campaign(tmp_path)
    (tmp_path / "results" / "try_center" / "a_3").mkdir(parents=True)  # it was there
    gone = check.examine(load_campaign(tmp_path))
    assert "overrides 1: scans: a_3 is no longer in the campaign" in gone.warnings
    (tmp_path / "results" / "try_center" / "a_3").rmdir()
    lock.take(tmp_path, lock.new_run(tmp_path, watcher=named(os.getpid())))
    found = check.examine(load_campaign(tmp_path))
    assert found.errors == []
    told = " ".join(found.warnings)
    assert all(f"no scan {name} in the campaign yet" in told for name in ("a_2", "a_01", "b_1"))
    assert "overrides 1: scans: there is no a_3; did you mean a_1?" in told


def test_check_refuses_a_campaign_without_any_usable_scan(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a_1.h5").write_text("not HDF5")
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    status, shown = run_check(tmp_path)
    assert status == 1
    assert "none of 1 scans can be used (0 have select: no); the first reason: not an HDF5" in shown
    assert "Ready" not in shown
    write_scan(tmp_path / "raw" / "a_2.h5", n_angles=31, n_rows=2, n_cols=32)
    assert run_check(tmp_path)[0] == 0
    (tmp_path / "scans.tsv").write_text("scan\tselect\na_2\tno\n")
    assert "none of 2 scans can be used (1 have select: no)" in run_check(tmp_path)[1]


def test_check_names_patterns_without_files_folders_that_are_closed_and_files_named_twice(
    tmp_path, monkeypatch
):
    for name in ("raw/a_1", "raw/a_2", "closed/b_1"):
        write_scan(tmp_path / f"{name}.h5", n_angles=31, n_rows=2, n_cols=32)
    (tmp_path / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5, ./raw/a_1.h5, raw/*.nxs, gone/*.h5, closed/*.h5, "
        "{glob: raw/a_2.h5, prefix: x_}]}\n"
    )
    allowed = os.access
    monkeypatch.setattr(  # as for one who is not root
        os, "access", lambda path, mode: "closed" not in str(path) and allowed(path, mode)
    )
    found = check.examine(load_campaign(tmp_path))
    assert not found.errors
    texts = "\n".join(found.warnings)
    assert f"campaign.scans: no file matches raw/*.nxs in {tmp_path}" in texts
    assert f"no file matches gone/*.h5: there is no folder {tmp_path / 'gone'}" in texts
    assert f"{tmp_path / 'closed'}: this folder cannot be read, and what closed/*.h5 match" in texts
    assert f"{tmp_path / 'raw/a_2.h5'} is 2 scans: a_2, x_a_2; name it once" in texts
    assert "raw/a_1.h5 more than once (raw/*.h5 and ./raw/a_1.h5): taken once" in texts


def test_check_refuses_a_campaign_that_cannot_be_written(tmp_path, monkeypatch):
    write_scan(tmp_path / "raw" / "a_1.h5", n_angles=31, n_rows=2, n_cols=32)
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK | os.X_OK)
    errors = check.examine(load_campaign(tmp_path)).errors
    assert [line.partition(". Give")[0] for line in errors] == [
        f"{tmp_path}, {tmp_path / 'results'}: cannot be written, and a run does"
    ]


def test_check_refuses_folders_below_results_that_a_run_writes(tmp_path, monkeypatch):
    write_scan(tmp_path / "raw" / "a_1.h5", n_angles=31, n_rows=2, n_cols=32)
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    for name in ("results/relion/stacks", "results/stitched", "results/mine", "logs/report"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name).chmod(0o555)
    monkeypatch.setattr(  # as for one who is not root
        os, "access", lambda path, mode: bool(Path(path).stat().st_mode & 0o222)
    )
    (found,) = check.examine(load_campaign(tmp_path)).errors
    names = (f"{tmp_path}/logs/report", f"{tmp_path}/results/relion/stacks")  # none of ours, or off
    assert found == (
        f"{', '.join(names)}: cannot be written, and a run does. Give yourself the right to: "
        f"`chmod u+rwX {' '.join(names)}`; or copy the campaign to a folder of your own"
    )


@pytest.mark.slow
def test_check_and_plan_name_write_protected_results(tmp_path, monkeypatch):
    made = [f"results/try_center/a_{n}/rows.h5" for n in range(1, 6)]
    for n, path in enumerate(made, 1):
        write_scan(tmp_path / f"raw/a_{n}.h5", n_angles=31, n_rows=2, n_cols=32)
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    for n, path in enumerate(made, 1):
        write_receipt(f"results/made/try_recon/a_{n}.json", {}, [path], directory=tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: bool(Path(path).stat().st_mode & 0o222))

    def said():
        campaign = load_campaign(tmp_path)
        lines = (*check.examine(campaign).warnings, *make_plan(campaign).notes)
        return [line for line in lines if "write-protected" in line]

    assert said() == []
    (tmp_path / made[1]).chmod(0o444)
    assert said() == 2 * [
        f"{made[1]}: write-protected, and kept: a job that is to make it again fails, the "
        f"others run. To have it made: `chmod u+rwX {tmp_path / made[1]}`"
    ]
    for path in made:
        (tmp_path / path).chmod(0o444)
    assert all(line.startswith(f"{', '.join(made[:4])}, ... (5): ") for line in said())


def test_check_refuses_a_results_folder_whose_disk_is_not_mounted(tmp_path):
    write_scan(tmp_path / "raw" / "a_1.h5", n_angles=31, n_rows=2, n_cols=32)
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (tmp_path / "results").symlink_to("/mnt/gone/results")
    assert check.examine(load_campaign(tmp_path)).errors == [
        f"{tmp_path / 'results'}: a link to /mnt/gone/results, which is not there: mount its disk, "
        "or remove the link"
    ]


def test_check_refuses_a_campaign_whose_patterns_match_nothing(tmp_path):
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    status, shown = run_check(tmp_path)
    assert status == 1
    assert "error: campaign.scans: no file matches raw/*.h5: there is no folder" in shown


def test_check_says_that_the_volume_of_a_file_now_broken_stays(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a_1.h5").write_text("not HDF5")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a_1_rec.h5").touch()
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    warnings = check.examine(load_campaign(tmp_path)).warnings
    (said,) = (warning for warning in warnings if "_rec" in warning)
    assert said.startswith("a_1: skipped (not an HDF5 file")
    assert said.endswith(
        "results/a_1_rec.h5, made before, stays. Mend the file; if it cannot be, remove volume, "
        "stack and sidecar"
    )


def test_a_fault_of_several_scans_is_one_line_with_their_number(tmp_path):
    for number in range(1, 13):
        path = tmp_path / "raw" / f"a_{number:03}.h5"
        write_scan(path, n_angles=31, n_rows=2, n_cols=32, energy_kev=25)
        with h5py.File(path, "a") as file:
            del file["exchange/data_dark"]
    for number in (1, 2, 3, 4):
        write_scan(tmp_path / "raw" / f"b_{number}.h5", n_angles=31, n_rows=2, n_cols=32)
    (tmp_path / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\nfull_recon: {unit: per_cm}\n"
    )
    findings = check.examine(load_campaign(tmp_path))
    (darks,) = [line for line in findings.warnings if "dark" in line]
    assert darks.startswith(
        "12 scans (a_001, a_002, a_003, ...): skipped: no /exchange/data_dark; "
    )
    assert "set preprocess.darks" in darks
    (pixel_size,) = findings.errors
    assert pixel_size.startswith("4 scans (b_1, b_2, b_3, ...): full_recon.unit: per_cm needs ")


def test_faults_that_name_a_file_of_each_scan_are_one_line(tmp_path):
    for number in (1, 2, 3):
        write_scan(tmp_path / "raw" / f"a_{number}.h5", n_angles=31, n_rows=2, n_cols=32)
    (tmp_path / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\ninput: {angles: 'angles/{scan}.txt'}\n"
    )
    (tmp_path / "angles").mkdir()
    for number in (1, 2):
        (tmp_path / "angles" / f"a_{number}.txt").write_text("0\n180\n")
    (tmp_path / "angles" / "a_3.txt").write_text("zero\n")
    warnings = check.examine(load_campaign(tmp_path)).warnings
    two, one = sorted(line for line in warnings if "skipped" in line)
    assert two.startswith("2 scans (a_1, a_2): skipped: angles/{scan}.txt has 2 angles for 31")
    assert one.startswith("a_3: skipped: angles/a_3.txt: expected one column of angles")


def test_a_scan_selected_in_the_table_is_not_told_to_be_selected(tmp_path):
    few = np.linspace(0, 180, 101)
    write_scan(tmp_path / "raw" / "a_1.h5", n_rows=2, n_cols=32, theta_deg=few, n_frames=100)
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (skipped,) = [w for w in check.examine(load_campaign(tmp_path)).warnings if "abort" in w]
    assert skipped.startswith("a_1: skipped: ")
    assert "`select: yes` in scans.tsv" in skipped
    (tmp_path / "scans.tsv").write_text("scan\tselect\na_1\tyes\n")
    (selected,) = [w for w in check.examine(load_campaign(tmp_path)).warnings if "abort" in w]
    assert selected.startswith("a_1: selected in scans.tsv: aborted: 100 frames for 101 angles")
    assert "select: yes" not in selected


def test_check_warns_of_results_of_other_raw_files(tmp_path):
    size = {"n_angles": 31, "n_rows": 2, "n_cols": 32}
    for day in ("day1", "day2"):
        write_scan(tmp_path / day / "a_1.h5", **size)
    row = dict.fromkeys(INVENTORY_COLUMNS, "") | {"scan": "a_1", "keep": "true"}
    row["path"] = "day1/a_1.h5"
    write_tsv([row], INVENTORY_COLUMNS, tmp_path / "results/inventory.tsv")

    def warned(folder):
        (tmp_path / "config.yaml").write_text(f"campaign: {{scans: [{folder}/*.h5]}}\n")
        warnings = check.examine(load_campaign(tmp_path, needs_raw=False)).warnings
        return [warning for warning in warnings if "other raw files" in warning]

    assert warned("day1") == warned(f"{tmp_path}/day1") == []
    (warning,) = warned("day2")
    assert "a_1: a run replaces " in warning
    assert "(a_1: day2/a_1.h5, was day1/a_1.h5)" in warning
    (tmp_path / "day1").rename(tmp_path / "elsewhere")  # the same files, moved
    assert warned("day2") == []


def test_check_misses_files_that_the_config_names(tmp_path):
    write_scan(tmp_path / "raw" / "a_1.h5", n_angles=31, n_rows=2, n_cols=32)
    (tmp_path / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\npreprocess: {flats: [raw/a_1.h5, gone]}\n"
        "input: {angles: gone.txt}\n"
    )
    errors = check.examine(load_campaign(tmp_path)).errors
    assert [error.partition(":")[0] for error in errors] == ["gone", "gone.txt"]


def test_check_tells_which_scans_lack_the_pixel_size_for_values_per_cm(tmp_path):
    size = {"n_angles": 31, "n_rows": 2, "n_cols": 32}
    write_scan(tmp_path / "raw" / "a_1.h5", **size, pixel_size_um=1.3)
    write_scan(tmp_path / "raw" / "a_2.h5", **size)
    config = "campaign: {scans: [raw/*.h5]}\nfull_recon: {unit: per_cm}\n"
    (tmp_path / "config.yaml").write_text(config)
    errors = check.examine(load_campaign(tmp_path)).errors
    assert errors == [
        "a_2: full_recon.unit: per_cm needs the pixel size, but the file has no usable value: "
        "set input.pixel_size_um"
    ]
    energy = "energy_kev is unknown: 20 assumed for RELION. Set export_star.energy_kev"
    warnings = check.examine(load_campaign(tmp_path)).warnings
    assert f"2 scans (a_1, a_2): {energy}" in warnings
    assert any(line.startswith("a_2: pixel_size_um is unknown: 1 assumed") for line in warnings)
    (tmp_path / "config.yaml").write_text(config + "input: {pixel_size_um: 2, energy_kev: 25}\n")
    findings = check.examine(load_campaign(tmp_path))
    assert not findings.errors
    assert not any("assumed for RELION" in line for line in findings.warnings)


def test_check_tells_of_which_scans_phase_retrieval_lacks_a_number(tmp_path):
    size = {"n_angles": 31, "n_rows": 2, "n_cols": 32}
    for name in ("a_1", "a_2", "b_1"):
        write_scan(tmp_path / "raw" / f"{name}.h5", **size, energy_kev=25, pixel_size_um=1)
    config = "campaign: {scans: [raw/*.h5]}\noverrides:\n"
    phase = "- {series: [a], preprocess: {phase: {method: paganin}}}\n"
    (tmp_path / "config.yaml").write_text(config + phase)
    errors = check.examine(load_campaign(tmp_path)).errors
    assert errors == [
        "2 scans (a_1, a_2): phase retrieval needs distance_mm, but the file has no usable value: "
        "set input.distance_mm"
    ]
    write_scan(tmp_path / "raw" / "a_2.h5", **size)
    known = "- {scans: [a_1], input: {distance_mm: 50}}\n"
    (tmp_path / "config.yaml").write_text(config + phase + known)
    errors = check.examine(load_campaign(tmp_path)).errors
    assert errors == [
        "a_2: phase retrieval needs energy_kev, distance_mm, pixel_size_um, but the file has no "
        "usable value: set input.energy_kev, input.distance_mm, input.pixel_size_um"
    ]
    done = CliRunner().invoke(cli, ["check", str(tmp_path)])
    assert done.exit_code == 1
    assert "set input.energy_kev, input.distance_mm" in " ".join(done.output.split())


def test_small_amounts_that_a_disk_lacks_are_no_zeros(site, monkeypatch):
    write_scan(site / "raw" / "a_1.h5", n_rows=4, n_cols=128, n_angles=31)
    (site / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100_000))
    text = " ".join(check.examine(load_campaign(site)).errors)
    assert "MB needed, 0.1 MB free" in text
    assert "0.0 MB" not in text


@pytest.mark.parametrize(
    ("theta_deg", "angles", "said"),
    [
        (
            np.linspace(0, 360, 31),
            {"start": 0, "stop": 180},
            "a_1: input.angles: 0 to 180 degrees, where the file has 0 to 360 degrees "
            "(/exchange/theta). If the file is right, leave input.angles out",
        ),
        (np.linspace(0, 180, 31), {"start": 0, "stop": 360}, "the file has 0 to 180 degrees"),
        (np.linspace(0, 180, 31), {"start": 0, "stop": 180}, ""),
        (np.linspace(0, 180, 31), {"start": 180, "stop": 0}, ""),
        (np.linspace(0, 180, 31), {"start": -90, "stop": 90}, ""),
        (np.linspace(0, 180, 30, endpoint=False), {"start": 0, "stop": 180}, ""),
        (np.linspace(0, 720, 31) % 360, {"start": 0, "stop": 720}, ""),
        (np.linspace(0, 180, 31), None, ""),
        (np.linspace(0, np.pi, 31), {"start": 0, "stop": 180}, ""),
        (None, {"start": 0, "stop": 180}, ""),
    ],
    ids=[
        "half of it",
        "twice",
        "equal",
        "back",
        "moved",
        "end",
        "turns",
        "none",
        "radians",
        "no theta",
    ],
)
def test_check_warns_of_angles_of_another_range_than_those_of_the_file(
    site, theta_deg, angles, said
):
    options = {"n_angles": 31} if theta_deg is None else {"theta_deg": theta_deg}
    write_scan(site / "raw" / "a_1.h5", n_rows=2, n_cols=32, **options)
    if theta_deg is None:
        with h5py.File(site / "raw" / "a_1.h5", "r+") as file:
            del file["exchange/theta"]
    config = {"campaign": {"scans": ["raw/*.h5"]}, "input": {"angles": angles}}
    (site / "config.yaml").write_text(yaml.safe_dump(config))
    findings = check.examine(load_campaign(site))
    found = [line for line in findings.warnings if "input.angles: " in line]
    assert (len(found), said in "".join(found)) == (bool(said), True)
    assert findings.errors == []
