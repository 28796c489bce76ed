"""`tomopipe init`: a campaign folder and a SLURM profile of this site."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.nxtomo_files import DIAMOND, ESRF, write_nxtomo
from tests.unit.conftest import init
from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.cli.terminal import near
from tomopipe.commands import check
from tomopipe.commands.new_campaign import campaign_and_scans, table, translated
from tomopipe.config import parse_config, read_config
from tomopipe.errors import TomopipeError

NABU = """\
[dataset]
# the scan
location = raw/bone_1.nx  # beside this file
hdf5_entry = entry0000
projections_subsampling = 2
overwrite_metadata = energy = 19 kev; pixel_size = 1.6 um; distance = 0.1 m
[preproc]
flatfield = 1
ccd_filter_enabled = 1
double_flatfield = 1
take_logarithm = 1
sino_rings_correction = munch
sino_rings_options = sigma=2.0 ; levels=4 ; padding=False
[phase]
method = Paganin
unsharp_coeff = 3
unsharp_sigma = 0.8
[reconstruction]
rotation_axis_position = 2.5
fbp_filter_type = hann
enable_halftomo = auto
start_z = 0
end_z = 1
[output]
location = /data/rec
file_format = tiff
[resources]
method = slurm
"""
OF_NABU = {
    "input": {
        "entry": "entry0000", "every": 2, "pixel_size_um": 1.6, "energy_kev": 19.0,
        "distance_mm": 100.0,
    },
    "preprocess": {
        "flat_method": "interpolate",  # nabu's flats, between their sets
        "zingers": {"threshold": 0.04},  # the default of nabu, not ours
        # the first number likewise
        "phase": {
            "method": "paganin", "delta_beta": 100.0, "unsharp_coeff": 3.0, "unsharp_sigma": 0.8,
        },
        "stripes": {"method": "fourier-wavelet", "sigma": 2.0, "level": 4},
    },
    "full_recon": {"filter": "hann", "rows": [0, 1], "output": "tiff"},
}  # fmt: skip
OF_NABU_STRIPES = {"method": "fourier-wavelet"}
OF_NABU_PHASE = {"method": "paganin"}
NOTES_OF_NABU = {
    "preproc.double_flatfield 1",
    "preproc.normalize_srcurrent 1",
    "reconstruction.rotation_axis_position 2.5",
}
HTTOMO = """\
- method: standard_tomo
  module_path: httomo.data.hdf.loaders
  parameters:
    data_path: /entry1/tomo_entry/data/data
    image_key_path: /entry1/tomo_entry/data/image_key
    rotation_angles: {user_defined: {start_angle: 0, stop_angle: 180, angles_total: 6}}
    preview:
      detector_y: {start: 1, stop: 3}
      detector_x: {start: null, stop: null}
    darks: null
- method: dark_flat_field_correction
  module_path: httomolibgpu.prep.normalize
  parameters: {flats_multiplier: 1.0, darks_multiplier: 1.0}
- method: remove_outlier
  module_path: httomolibgpu.misc.corr
  parameters: {kernel_size: 3, dif: 1000}
- method: find_center_vo
  module_path: httomolibgpu.recon.rotation
  parameters: {ind: null, smin: -50, smax: 50}
  id: centering
  side_outputs: {cor: centre_of_rotation}
- method: paganin_filter
  module_path: httomolibgpu.prep.phase
  parameters: {pixel_size: 1.28, distance: 1.0, energy: 53.0, ratio_delta_beta: 250}
- method: remove_all_stripe
  module_path: httomolibgpu.prep.stripe
  parameters: {snr: 3.0, la_size: 61, sm_size: 21, dim: 1}
- method: FBP2d_astra
  module_path: httomolibgpu.recon.algorithm
  parameters:
    center: ${{centering.side_outputs.centre_of_rotation}}
    filter_type: shepp-logan
    recon_mask_radius: 0.95
- method: rescale_to_int
  module_path: httomolib.misc.rescale
  parameters: {bits: 8, perc_range_min: 0.0}
- method: save_to_images
  module_path: httomolib.misc.images
  parameters: {file_format: tif}
"""
OF_HTTOMO = {
    "input": {
        "paths": {
            "data": "/entry1/tomo_entry/data/data", "image_key": "/entry1/tomo_entry/data/image_key"
        },
        "angles": {"stop": 180.0},  # start: 0 is the default
        "pixel_size_um": 1.28, "energy_kev": 53.0, "distance_mm": 1000.0,
    },
    "preprocess": {
        "phase": {"method": "paganin", "delta_beta": 250.0},
        "stripes": {"method": "vo", "large_px": 61, "size_px": 21},
    },
    "full_recon": {
        "rows": [1, 2],  # HTTomo's stop is left out, our last row is not
        "filter": "shepp-logan", "dtype": "uint8", "output": "tiff",
    },
}  # fmt: skip
NOTES_OF_HTTOMO = {"remove_outlier", "FBP2d_astra.recon_mask_radius 0.95"}


@pytest.mark.parametrize(
    ("old", "new", "key", "value", "note"),
    [
        ("sino_rings_correction = munch", "", "stripes", {"method": "double-flat"}, ""),
        ("double_flatfield = 1", "double_flatfield = 0", "stripes", OF_NABU_STRIPES, ""),
        ("unsharp_sigma = 0.8", "unsharp_method = log", "phase", OF_NABU_PHASE, "unsharp_coeff 3"),
    ],
)
def test_ring_filter_and_mask_of_nabu(tmp_path, old, new, key, value, note):
    (tmp_path / "nabu.conf").write_text(NABU.replace(old, new))
    found = translated(tmp_path / "nabu.conf")
    assert value.items() <= found.options["preprocess"][key].items()
    assert "unsharp_coeff" in found.options["preprocess"]["phase"] or note
    notes = [n for n in found.notes if "double_flatfield" in n or "unsharp" in n]
    both = ["preproc.double_flatfield 1: no second filter beside fourier-wavelet"]
    assert notes[key == "phase" :] == (both if key == "phase" else [])
    assert note in "".join(notes)


def test_a_pattern_of_a_missing_folder_names_the_folder(site):
    done = init(site / "c", "typo/*.h5", "--no-slurm")
    assert done.exit_code == 0
    text = done.output.replace("\n", "")
    assert "typo/*.h5" in text
    assert f"there is no folder {site / 'c' / 'typo'}" in text


def test_campaign_folder_is_complete_and_kept(site):
    folder = site / "campaign"
    done = init(folder, "/data/größe/*.h5", "--no-slurm")
    assert done.exit_code == 0
    assert "no file matches" in done.output
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
def test_each_entry_of_a_file_that_has_several_is_a_scan(site):
    raw = [site / "one" / "in_situ.nx", site / "other" / "bone.nx"]
    for path, entries in zip(raw, (["/entry0000", "/entry0001"], ["/entry0000"]), strict=True):
        path.parent.mkdir()
        for entry in entries:
            write_nxtomo(path, entry=entry)
    assert init(site / "c", *raw).exit_code == 0
    several, single = read_config(site / "c" / "config.yaml").campaign.scans
    assert (several.glob, several.entries, single) == (str(raw[0]), "all", str(raw[1]))
    assert [*load_campaign(site / "c").scans] == ["in_situ@0000", "in_situ@0001", "bone"]


def test_files_and_folders_need_no_quotes(site, monkeypatch):
    for name in ("raw/a_1.h5", "raw/a_2.h5", "raw/b_1.h5", "t/s_1/0.tif", "t/s_2/0.tif"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).touch()
    for folder in ("to_come", "c/mine"):
        (site / folder).mkdir(parents=True)
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
        ("c", "to_come/*.h5"): [f"{site}/to_come/*.h5"],
        ("c", "c/mine/*.h5"): ["mine/*.h5"],
        ("-C", ".", *everything): ["raw/*.h5"],
        ("-C", "./c", "c", *everything): [f"{site}/raw/*.h5"],
        ("c",): ["raw/*.h5"],
        (): ["raw/*.h5"],
    }
    for arguments, scans in typed.items():
        done = init(*arguments, "--no-slurm")
        config = next(f / "config.yaml" for f in (site / "c", site) if (f / "config.yaml").exists())
        assert (done.exit_code, read_config(config).campaign.scans) == (0, scans), arguments
        n_files = {f"{site}/raw/*.h5": 3, "raw/*.h5": 3}.get(scans[0], 2)
        is_pattern = f"{scans[0]} is a pattern: {n_files} files match now" in done.output
        has_files = {*arguments} - {"c", "to_come/*.h5", "c/mine/*.h5"} or not arguments
        assert is_pattern == ("*" in scans[0] and bool(has_files)), done.output
        os.remove(config)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["c", "d", "raw/a_1.h5"], "d: no scans found (campaign folder: "),
        (["c", "raw/a_1.h5", "other"], "other: a campaign folder, not scans, and /"),
        (["other", "raw/a_1.h5", "-C", "c"], "other: a campaign folder, not scans, and /"),
        (["raw/a_1.h5"], "raw/a_1.h5: these are scans. Name the campaign folder first"),
    ],
    ids=["two new names", "another campaign", "two campaigns", "file"],
)
def test_what_cannot_mean_scans_or_a_campaign_is_refused(site, monkeypatch, arguments, wrong):
    for name in ("raw/a_1.h5", "other/config.yaml"):
        (site / name).parent.mkdir()
        (site / name).touch()
    monkeypatch.chdir(site)
    assert str(init(*arguments).exception).startswith(wrong)
    assert not [*site.glob("c/*"), *site.glob("*.yaml"), *site.glob("raw/*.yaml")]


def test_a_folder_with_scans_is_the_campaign_if_it_is_the_present_one(tmp_path, monkeypatch):
    (tmp_path / "a_1.nx").touch()
    monkeypatch.chdir(tmp_path)
    assert campaign_and_scans([".", "*.nx"]) == (Path("."), ["*.nx"])
    for arguments in (["."], [str(tmp_path), "*.nx"]):
        with pytest.raises(TomopipeError, match="these are scans"):
            campaign_and_scans(arguments)


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
    assert "config.yaml; these options are not in it:\nexport_star:\n  enabled: f" in kept.output
    assert "config.yaml\nnext: tomopipe check " in init(site, "raw/*.h5").output
    os.remove(site / "config.yaml")
    init(site, "--no-relion", "--try-stacks", "--binning", 2)
    config = read_config(site / "config.yaml")
    assert (config.export_star.enabled, config.storage.keep_try) == (False, True)
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
    assert f"{site / 'file' / 'c'}: the campaign folder cannot be created (" in str(done.exception)


@pytest.mark.slow
def test_names_are_asked_for_at_a_terminal_alone(site):
    done = CliRunner().invoke(cli, ["init", str(site / "quiet")])
    assert (done.exit_code, "?" in done.output) == (0, False)
    done = CliRunner().invoke(cli, ["init", str(site / "p"), "--partition", "short"])
    assert (done.exit_code, "Account" in done.output) == (0, False)
    keyboard, terminal = os.openpty()
    os.write(keyboard, b"y\nlong\n\n")
    program = (
        "from tomopipe.cli import cli; from tomopipe.commands import compilation\n"
        "compilation.compile_once = lambda *_: None; cli()"
    )
    command = [sys.executable, "-c", program, "init", str(site / "c")]
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
    assert "kept" in init(site / "c", "--partition", "p", "--account", "").output
    assert not (mine.parent / "profile.yaml").exists()
    init(site / "c", "--partition", "p", "--account", "", "--force")
    assert (mine.parent / "profile.yaml").exists()
    said = init(site / "c", "--partition", "other", "--account", "").output
    assert said.count("profile.yaml, which does not name other (--force replaces it)") == 2


def read(folder, name, text):
    (folder / name).write_text(text)
    return translated(folder / name)


@pytest.mark.parametrize(
    ("name", "text", "options", "notes", "entry"),
    [
        ("nabu.conf", NABU, OF_NABU, NOTES_OF_NABU, ESRF),
        ("httomo.yaml", HTTOMO, OF_HTTOMO, NOTES_OF_HTTOMO, DIAMOND),
    ],
    ids=["nabu", "HTTomo"],
)
def test_a_campaign_from_the_file_of_another_program_passes_check(
    site, name, text, options, notes, entry
):
    (site / "raw").mkdir()
    scan = write_nxtomo(site / "raw" / "bone_1.nx", entry=entry)
    result = read(site, name, text)
    assert result.options == options
    assert {note.split(":")[0] for note in result.notes} == notes
    words = [] if result.scans else [scan]  # HTTomo is given its scan on the command line
    done = init("-C", site / "c", *words, "--from", site / name, "--binning", 2)
    assert done.exit_code == 0, done.output
    assert all(f"not translated: {note}\n" in done.output for note in result.notes)
    config = (site / "c" / "config.yaml").read_text()
    assert all(f"# not translated: {note}\n" in config for note in result.notes)
    assert yaml.safe_load(config)["full_recon"] == options["full_recon"] | {"binning": 2}
    assert read_config(site / "c" / "config.yaml").campaign.scans == [str(scan)]
    found = check.examine(load_campaign(site / "c"))
    assert (found.errors, sum(series.n_selected for series in found.series)) == ([], 1)


@pytest.mark.parametrize(
    ("old", "new", "options", "note"),
    [
        ("flatfield = 1", "flatfield = pca", {"flat_method": "pca"}, ""),
        ("method = Paganin", "method = CTF", {}, "phase.method CTF: no equivalent"),
        ("take_logarithm = 1", "take_logarithm = 0", {}, "no logarithm after phase retrieval"),
        ("take_logarithm = 1\n", "take_logarithm = 0\n[phase]\nmethod = none\n[x]\n",
         {"minus_log": False}, ""),
        ("take_logarithm = 1", "", {},  # the default
         "preproc.normalize_srcurrent 1: preprocess.ring_current.dataset: /ENTRY/control/data"),
        ("halftomo = auto", "halftomo = 1", {"half_acquisition": "yes"}, ""),
        ("ling = 2", "ling = 2:1", {}, "dataset.projections_subsampling 2:1: every begins"),
        ("end_z = 1", "end_z = -1\nstart_x = 3", {}, "reconstruction.start_x, end_x: full_recon"),
        ("filter_type = hann", "filter_type = none", {},
         "reconstruction.fbp_filter_type none: no equivalent, ramp instead"),
        ("1.6 um", "1.6 inch", {}, "dataset.overwrite_metadata pixel_size = 1.6 inch: see input"),
        ("take_logarithm = 1", "tilt_correction = 0.5", {"roll_deg": -0.5}, ""),
        ("take_logarithm = 1", "tilt_correction = fft-polar", {},
         "preproc.tilt_correction fft-polar: preprocess.roll_deg: auto measures it"),
        ("start_z = 0", "translation_movements_file = /data/moves.txt",
         {"shifts": "/data/moves.txt"}, ""),
        ("start_z = 0", "translation_movements_file = a.h5?path=/t", {},
         "reconstruction.translation_movements_file a.h5?path=/t: preprocess.shifts is a text"),
    ],
)  # fmt: skip
def test_what_nabu_has_and_we_have_not_is_said(tmp_path, old, new, options, note):
    assert old in NABU
    text = NABU.replace(old, new)
    if "[x]" in text:  # without the rest
        text = text[: text.index("[x]")]
    result = read(tmp_path, "nabu.conf", text)
    assert result.options["preprocess"].items() >= options.items()
    assert not note or [line for line in result.notes if line.startswith(note)], result.notes


@pytest.mark.parametrize(
    ("old", "new", "options", "note"),
    [
        ("_delta_beta: 250", "_delta_beta: !Sweep [10, 150]", {"method": "paganin"},
         "paganin_filter.ratio_delta_beta: tomopipe sweep preprocess.phase.delta_beta 10 150"),
        ("_delta_beta: 250", "_delta_beta: !SweepRange {start: 10, stop: 160, step: 20}", {},
         "paganin_filter.ratio_delta_beta: tomopipe sweep preprocess.phase.delta_beta 10..150 20"),
        ("paganin_filter\n", "paganin_filter_savu_legacy\n", {"delta_beta": 62.5}, ""),
        ("ratio_delta_beta: 250", "alpha: 0.001", None, "paganin_filter: docs/how-to/phase.md"),
        ("${{centering.side_outputs.centre_of_rotation}}", "81.5", {}, "FBP2d_astra.center 81.5"),
        ("filter_type: shepp-logan", "filter_type: none", {}, "FBP2d_astra.filter_type none: no "),
        ("start: 1, stop: 3", "start: mid, stop: end", {}, "preview.detector_y {'start': 'mid'"),
        ("${{centering.side_outputs.centre_of_rotation}}",
         "!SweepRange {start: 75, stop: 90, step: 5}", {}, "FBP2d_astra.center 75 80 85: "),
    ],
)  # fmt: skip
def test_what_httomo_has_and_we_have_not_is_said(tmp_path, old, new, options, note):
    assert old in HTTOMO
    result = read(tmp_path, "list.yaml", HTTOMO.replace(old, new))
    phase = result.options["preprocess"].get("phase")
    assert phase is None if options is None else phase.items() >= options.items()
    assert not note or [line for line in result.notes if line.startswith(note)], result.notes


def test_defaults_of_nabu_are_not_listed(tmp_path):
    """Those that nabu-config of nabu 2026.1.2 writes, and that change nothing."""
    parts = {
        "[phase]": "flat_distortion_correction_enabled = 0\nflat_distortion_params = tile_size=100",
        "start_z": "hbp_reduction_steps = 2\nhbp_legs = 4\nregularization_weight = 0\n"
        "expand_support_factor = 1",
    }
    text = NABU
    for before, lines in parts.items():
        text = text.replace(before, f"{lines}\n{before}")
    assert read(tmp_path, "nabu.conf", text) == read(tmp_path, "nabu.conf", NABU)
    (note,) = set(
        read(tmp_path, "nabu.conf", text.replace("hbp_legs = 4", "hbp_legs = 8")).notes
    ) - {*read(tmp_path, "nabu.conf", NABU).notes}
    assert note == "reconstruction.hbp_legs 8: no equivalent"


@pytest.mark.parametrize(
    ("old", "new"),
    [("flatfield = 1", "normalize_srcurrent = 0"), ("flatfield = 1\nccd", "flatfield = pca\nccd")],
)
def test_nabu_that_divides_by_no_current_has_no_note_on_it(tmp_path, old, new):
    notes = read(tmp_path, "nabu.conf", NABU.replace(old, new, 1)).notes
    assert not [note for note in notes if "srcurrent" in note]


def mirrored(*sides):
    """Return a change of an entry whose detector mirrors columns (x) or rows (y)."""
    return lambda entry: entry["instrument/detector"].update(
        {f"{side}_flipped": True for side in sides}
    )


@pytest.mark.parametrize(
    ("sides", "rows", "crop_x", "scale", "roll_deg"),
    [
        ("", [0, 1], [0, 2], None, -0.5),
        ("x", [0, 1], [2, 4], [-1, 1], 0.5),
        ("y", [1, 2], [0, 2], [1, -1], 0.5),
        ("xy", [1, 2], [2, 4], [-1, -1], -0.5),
    ],
)
def test_options_of_nabu_are_those_of_frames_that_are_mirrored_back(
    site, sides, rows, crop_x, scale, roll_deg
):
    (site / "raw").mkdir()
    write_nxtomo(site / "raw" / "bone_1.nx", change=mirrored(*sides))
    shifts = "start_z = 0\ntranslation_movements_file = a.txt\nstart_x = 0\nend_x = 2"
    text = NABU.replace("start_z = 0", shifts).replace("[phase]", "tilt_correction = 0.5\n[phase]")
    (site / "nabu.conf").write_text(text)
    done = init("-C", site / "c", "--from", site / "nabu.conf")
    config = yaml.safe_load((site / "c" / "config.yaml").read_text())
    assert (config["full_recon"]["rows"], config["full_recon"]["crop_x"]) == (rows, crop_x)
    prepared = config["preprocess"]
    assert (prepared.get("shifts_scale"), prepared["roll_deg"]) == (scale, roll_deg)
    assert ("frames as in bone_1.nx are mirrored back here; converted" in done.output) == bool(
        sides
    )
    assert bool(sides) == ("# frames as in bone" in (site / "c" / "config.yaml").read_text())


def test_where_some_scans_are_mirrored_a_note_has_their_options(site):
    (site / "raw").mkdir()
    write_nxtomo(site / "raw" / "bone_1.nx")
    write_nxtomo(site / "raw" / "bone_2.nx", change=mirrored("y"))
    (site / "nabu.conf").write_text(NABU)
    done = init("-C", site / "c", *sorted((site / "raw").iterdir()), "--from", site / "nabu.conf")
    note = "frames of bone_2.nx are mirrored back here; in overrides, it needs {full_recon: {rows: "
    assert f"{note}[1, 2]}}}}" in done.output
    config = yaml.safe_load((site / "c" / "config.yaml").read_text())
    assert config["full_recon"]["rows"] == [0, 1]
    without = init("-C", site / "d", "later/*.nx", "--from", site / "nabu.conf")
    assert "full_recon.rows: counted as recorded; convert where frames are" in without.output


def test_two_sweeps_of_httomo_are_one_grid(tmp_path):
    text = HTTOMO.replace("_delta_beta: 250", "_delta_beta: !Sweep [10, 90]")
    text = text.replace("snr: 3.0", "snr: !SweepRange {start: 1, stop: 11, step: 2}")
    notes = read(tmp_path, "list.yaml", text).notes
    assert [note for note in notes if "tomopipe sweep" in note] == [
        "paganin_filter.ratio_delta_beta, remove_all_stripe.snr: tomopipe sweep "
        "preprocess.phase.delta_beta 10 90 preprocess.stripes.snr 1..9 2"
    ]


def test_darks_and_flats_of_other_files_and_none(tmp_path):
    text = HTTOMO.replace("darks: null", "darks: ignore\n    flats: {file: f.nxs, data_path: /f}")
    options = read(tmp_path, "list.yaml", text).options
    assert options["input"]["paths"]["flats"] == "/f"
    assert (options["preprocess"]["flats"], options["preprocess"]["darks"]) == ("f.nxs", "none")


def test_projections_without_logarithm_stay_without(tmp_path):
    text = HTTOMO.replace("- method: paganin_filter\n", "- method: data_checker\n")
    assert read(tmp_path, "list.yaml", text).options["preprocess"]["minus_log"] is False
    for flag in (True, False):  # FBP3d_tomobar and the others can take it
        other = text.replace("    filter_type:", f"    neglog: {flag}\n    filter_type:")
        result = read(tmp_path, "list.yaml", other)
        assert result.options["preprocess"].get("minus_log", True) is flag
        assert not [note for note in result.notes if "neglog" in note]


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("nabu.conf", "location = a\n", "nabu.conf: cannot be read as a nabu.conf (MissingSection"),
        ("nabu.conf", "[dataset]\n", "cannot be read as a nabu.conf (KeyError: 'dataset.location"),
        ("list.yaml", "a: {", "list.yaml: cannot be read as a process list of HTTomo, a list of "),
        ("list.yaml", "{}", "list.yaml: cannot be read as a process list of HTTomo, a list of "),
        ("list.yaml", "[]", "list.yaml: cannot be read as a process list of HTTomo, a list of "),
        ("list.yaml", "a: 1", "list.yaml: cannot be read as a process list of HTTomo, a list of "),
        ("list.yaml", HTTOMO.replace("start: 1,", "start: 5,"), "full_recon.rows: got [5, 2]"),
    ],
)
def test_a_file_that_is_neither_and_a_value_that_is_wrong_are_named(tmp_path, name, text, wrong):
    with pytest.raises(TomopipeError) as raised:
        read(tmp_path, name, text)
    assert wrong in str(raised.value)


def test_each_line_of_the_table_names_a_key_and_values_of_ours():
    for row in table().values():
        *blocks, key = row["here"].split(".")
        for part in (row["values"] if "=" in row["values"] else "").split() if key else ():
            value = {"true": True, "false": False}.get(word := part.split("=")[1], word)
            config = {key: value}
            for block in reversed(blocks):
                config = {block: config}
            parse_config({"campaign": {"scans": ["raw"]}} | config)
    assert {row["here"].split(".")[0] for row in table().values()} == {
        *("", "input", "preprocess", "full_recon")
    }
