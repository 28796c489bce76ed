"""Options, files and packages that do not fit a scan, as runs and check say them."""

import sys
from types import SimpleNamespace

import pytest

from tests.phantoms import write_scan
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.needed_files import missing_files, refuse_missing_files
from tomopipe.campaign.option_fit import option_faults, refuse_option_faults
from tomopipe.commands.check import examine
from tomopipe.errors import TomopipeError
from tomopipe.reruns.needed import expected_inventory
from tomopipe.run.beginning import missing_gpu
from tomopipe.run.unfinished import unused_cors


@pytest.fixture
def campaign(tmp_path):
    for name, n_rows in {"a_1": 4, "a_2": 6}.items():
        write_scan(tmp_path / "raw" / f"{name}.h5", n_rows=n_rows, n_cols=64, n_angles=31)
    return tmp_path


def loaded(folder, options):
    (folder / "config.yaml").write_text(f"campaign: {{scans: [raw/*.h5]}}\n{options}\n")
    found = load_campaign(folder)
    return found, expected_inventory(found, folder)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("full_recon: {rows: [0, 9]}", "full_recon.rows: [0, 9] are not rows of this scan (0 to"),
        ("full_recon: {crop_x: [0, 64]}", "full_recon.crop_x: [0, 64] are not within the slices"),
        ("full_recon: {unit: per_cm}", "the pixel size"),
        ("preprocess: {half_acquisition: yes}", "half_acquisition: yes needs angles over 360"),
        ("try_recon: {row: 6}", "try_recon.row: 6 is not a row of this scan"),
        ("preprocess: {phase: {method: paganin}}", "phase retrieval needs energy_kev"),
    ],
)
def test_an_option_that_fits_no_scan_is_an_error_of_check_and_refused(campaign, options, reason):
    found, rows = loaded(campaign, options)
    assert any(reason in line for line in option_faults(found, rows))
    assert any(reason in line for line in examine(found).errors)
    with pytest.raises(TomopipeError, match=r"This applies to all scans, so nothing is run"):
        refuse_option_faults(found, rows)


@pytest.mark.slow
def test_a_gpu_is_missed_before_a_volume_needs_it_but_on_nodes(campaign, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found, _ = loaded(campaign, "overrides: [{scans: [a_2], full_recon: {device: cuda}}]")
    assert missing_gpu(found, ["a_1"]) == ""
    assert missing_gpu(found, ["a_1", "a_2"]).startswith("device: cuda: no GPU can be used")
    assert [line[:12] for line in examine(found).errors] == ["device: cuda"]
    (campaign / "slurm").mkdir()
    (campaign / "slurm" / "profile.yaml").touch()
    assert examine(found).errors == []
    volume = found.volume("a_2")
    volume.parent.mkdir(exist_ok=True)
    volume.touch()
    assert missing_gpu(found, ["a_1", "a_2"]) == ""


@pytest.mark.parametrize(
    "options",
    [
        "full_recon: {rows: [0, 3], crop_x: [0, 63], binning: 64}",
        "try_recon: {row: [0.0, 1.0, 3], center_px: -49.5}",
    ],
)
def test_what_fits_is_not_mentioned(campaign, options):
    found, rows = loaded(campaign, options)
    assert option_faults(found, rows) == []
    refuse_option_faults(found, rows)


def test_an_option_that_fits_some_scans_is_for_the_jobs_of_the_others(campaign):
    found, rows = loaded(campaign, "full_recon: {rows: [0, 5]}")
    (line,) = option_faults(found, rows)
    assert line == "a_1: full_recon.rows: [0, 5] are not rows of this scan (0 to 3)"
    refuse_option_faults(found, rows)


def test_cors_off_the_detector_are_named(campaign):
    (campaign / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\na_1\tauto\t640.5\t\n")
    found, rows = loaded(campaign, "resolve_cor: {default_px: 63.5}")
    assert unused_cors(found, rows) == [
        "scans.tsv: line 2: cor_px of a_1: 640.50 is off the detector (0 to 63) and is not used",
        "resolve_cor.default_px: 63.50 is off the detector (0 to 63) and is not used for 2 scans "
        "(a_1, a_2)",
    ]


def test_a_missing_file_of_flats_is_refused_where_all_scans_need_it(campaign):
    found, _ = loaded(campaign, "preprocess: {flats: nowhere.h5}")
    with pytest.raises(TomopipeError, match=r"nowhere.h5: no such file; .* \(a_1, a_2\)"):
        refuse_missing_files(found)
    (line,) = missing_files(loaded(campaign, "preprocess: {flats: 'raw/*_flats.h5'}")[0])
    assert "raw/*_flats.h5: no such file, and patterns are not allowed: list the files; " in line
    overrides = "overrides: [{scans: [a_1], preprocess: {flats: nowhere.h5}}]"
    refuse_missing_files(loaded(campaign, overrides)[0])


def test_files_of_flats_among_the_scans_need_none_themselves(campaign):
    """Nor does a scan that is not selected."""
    raw = campaign / "raw"
    for name in ("a_1_flats", "a_2_flats"):
        write_scan(raw / f"{name}.h5", n_rows=4, n_cols=64, n_angles=3)
    found, _ = loaded(campaign, f"preprocess: {{flats: '{raw}/{{scan}}_flats.h5'}}")
    assert missing_files(found) == []
    (raw / "a_2_flats.h5").unlink()
    (line,) = missing_files(load_campaign(campaign))
    assert line.startswith(f"{raw}/a_2_flats.h5: no such file; ")
    assert line.endswith(" names it for a_2")
    refuse_missing_files(load_campaign(campaign))  # a_1 has its own
    (campaign / "scans.tsv").write_text("scan\tselect\na_2\tno\n")
    assert missing_files(load_campaign(campaign)) == []


@pytest.mark.parametrize(
    "options", ["model: nets/own", "methods: [dinov2], dinov2_checkpoint: nets/own"]
)
def test_a_missing_network_and_what_is_none_are_refused(campaign, options, monkeypatch):
    """Each COR would be found by another method, without a word."""
    for package in ("torch", "torchvision"):  # as if they were there
        monkeypatch.setitem(sys.modules, package, SimpleNamespace(__spec__=package))
    found, _ = loaded(campaign, f"predict_cor: {{{options}}}")
    with pytest.raises(TomopipeError, match=r"nets/own: no such file; predict_cor.model or "):
        refuse_missing_files(found)
    (campaign / "nets").mkdir()
    (campaign / "nets/own").touch()
    if "model" not in options:
        return refuse_missing_files(found)  # its job fails without it
    card = campaign / "nets/own.json"
    for text, said in ((None, "no such file; method ai"), ("{}", "expected net, .*; got no net")):
        if text is not None:
            card.write_text(text)
        with pytest.raises(TomopipeError, match=rf"predict_cor.model: {card}: {said}.*Set predict"):
            refuse_missing_files(found)
        assert len(missing_files(found)) == 1


def test_a_missing_package_is_refused_before_every_volume_fails(campaign, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    refuse_missing_files(loaded(campaign, "full_recon: {output: tiff}")[0])
    found, _ = loaded(campaign, "full_recon: {output: zarr}")
    words = r"full_recon.output: zarr needs the package zarr, .* pip install 'tomopipe\[zarr\]'"
    with pytest.raises(TomopipeError, match=words):
        refuse_missing_files(found)
    assert len(missing_files(found)) == 1
