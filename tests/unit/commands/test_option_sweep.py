"""`tomopipe sweep`: slices as the volume has them, a labelled stack, a page."""

import json
import shutil

import h5py
import numpy as np
import pytest
import tifffile
import yaml
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tests.step_calls import full_recon
from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.commands.option_sweep import cor_px_of, keys_and_values, sweep_option
from tomopipe.errors import TomopipeError

pytestmark = pytest.mark.slow

COR_PX = 41.2
DRY = {"dry_run": True}
PHASE = {"method": "paganin"}
KNOWN = {"distance_mm": 50.0, "energy_kev": 20.0, "pixel_size_um": 1.0}


@pytest.fixture
def campaign(tmp_path):
    (tmp_path / "raw").mkdir()
    write_scan(
        tmp_path / "raw" / "a [x]_1.h5", n_cols=80, n_rows=24, n_angles=90, cor_px=COR_PX,
        counts=3000, beam={"stripes": 4},
    )  # fmt: skip
    _configure(tmp_path)
    return tmp_path


def _configure(folder, **blocks):
    config = {"campaign": {"scans": ["raw/*.h5"]}, "full_recon": {"device": "cpu"}} | blocks
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def _sweep(folder, *words, **options):
    found = load_campaign(folder, folder / "config.yaml")
    values = dict(zip(words[::2], words[1::2], strict=True))
    return sweep_option(found, "a [x]_1", values, **({"cor_px": COR_PX} | options))


def test_slices_equal_those_of_the_volume(campaign):
    """With corrections that need the rows around: nothing depends on what is cut out."""
    _configure(campaign, preprocess={"phase": PHASE, "zingers": {"threshold": 0.3}}, input=KNOWN)
    _, slices = _sweep(campaign, "preprocess.stripes.method", ["none", "sorting"], row=9)
    assert np.abs(slices[0] - slices[1]).max() > 1e-4
    for method, image in zip(("none", "sorting"), slices, strict=True):
        volume = campaign / f"{method}.h5"
        full_recon(
            campaign / "raw" / "a [x]_1.h5", volume, cor_px=COR_PX, device="cpu", known=KNOWN,
            corrections={
                "phase": PHASE, "zingers": {"threshold": 0.3}, "stripes": {"method": method}
            },
        )  # fmt: skip
        with h5py.File(volume) as file:
            # to rounding: the filter of the phase spans other rows around the slice
            np.testing.assert_allclose(image, file["exchange/data"][9], atol=1e-6)


def test_a_binned_slice_is_that_of_the_block_of_rows(campaign):
    _configure(campaign, full_recon={"device": "cpu", "binning": 4, "rows": [2, 20]})
    _, slices = _sweep(campaign, "full_recon.filter", ["hann"], row=11)
    volume = campaign / "rec.h5"
    full_recon(
        campaign / "raw" / "a [x]_1.h5", volume, cor_px=COR_PX, device="cpu",
        filter="hann", binning=4, rows=[2, 20],
    )  # fmt: skip
    with h5py.File(volume) as file:
        np.testing.assert_allclose(slices[0], file["exchange/data"][2], atol=1e-7)


def test_the_middle_row_is_that_of_the_campaign_for_all_values(campaign):
    _configure(campaign, full_recon={"device": "cpu", "rows": [4, 15]})
    page, slices = _sweep(campaign, "full_recon.rows", ["[0, 12]", "all", "[8, 23]"])
    assert "<h1>a [x]_1, row 10, COR" in page.read_text("utf-8")
    _, (expected,) = _sweep(campaign, "full_recon.filter", ["ramp"], row=10)
    for image in slices:
        np.testing.assert_array_equal(image, expected)
    with pytest.raises(TomopipeError, match=r"from 11 to 23, got 10\. Give another with --row"):
        _sweep(campaign, "full_recon.rows", ["[11, 23]"])
    _configure(campaign)
    page, _ = _sweep(campaign, "full_recon.filter", ["ramp"])
    assert "<title>a [x]_1, row 12, COR" in page.read_text("utf-8")


def test_stack_and_page_are_labelled(campaign):
    page, slices = _sweep(campaign, "full_recon.filter", ["ramp", "hann"])
    assert page == campaign / "results" / "sweep" / "a [x]_1" / "full_recon.filter" / "index.html"
    with tifffile.TiffFile(page.with_name("sweep.tif")) as file:
        values = [f"full_recon.filter={name}" for name in ("ramp", "hann")]
        assert file.imagej_metadata["Labels"] == values
        np.testing.assert_array_equal(file.asarray(), np.stack(slices))
    text = page.read_text("utf-8")
    assert text.count("<img ") == 2
    assert "full_recon.filter=hann</figcaption>" in text
    assert "http" not in text


def test_two_options_are_a_grid_of_each_value_with_each(campaign):
    filters, methods = ["ramp", "hann"], ["none", "sorting", "gated"]
    page, slices = _sweep(
        campaign, "full_recon.filter", filters, "preprocess.stripes.method", methods, row=9
    )
    assert page.parent.name == "full_recon.filter+preprocess.stripes.method"
    for number, filter_ in enumerate(filters):
        _configure(campaign, full_recon={"device": "cpu", "filter": filter_})
        _, row = _sweep(campaign, "preprocess.stripes.method", methods, row=9)
        for image, expected in zip(slices[3 * number :], row, strict=False):
            np.testing.assert_array_equal(image, expected)
    with tifffile.TiffFile(page.with_name("sweep.tif")) as file:
        labels = file.imagej_metadata["Labels"]
    assert labels[4] == "full_recon.filter=hann, preprocess.stripes.method=sorting"
    # slices of 80 px are enlarged, and labels wrap below them
    text, width = page.read_text("utf-8"), "min(420px,40vw)"
    assert f"repeat(3,minmax(0,{width}))" in text
    assert f"figure{{margin:0;width:{width};max-width:100%}}" in text
    assert "image-rendering:pixelated" in text
    facts = json.loads(page.with_name("sweep.json").read_text())
    keys = ["full_recon.filter", "preprocess.stripes.method"]
    assert (facts["keys"], facts["values"]) == (keys, [filters, methods])
    assert (facts["shape"], facts["row"], facts["units"]) == ([80, 80], 9, "per_pixel")
    assert facts["window"] == pytest.approx(np.percentile(slices, (0.5, 99.5)))


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("full_recon.filter ramp hann", {"full_recon.filter": ["ramp", "hann"]}),
        ("preprocess.phase.delta_beta 1..9 4 input.mirrored yes no",
         {"preprocess.phase.delta_beta": ["1", "5", "9"], "input.mirrored": ["yes", "no"]}),
        ("preprocess.flats input.h5 x", {"preprocess.flats": ["input.h5", "x"]}),
        ("a.b 1", {"a.b": ["1"]}),
        ("full_recon.rows full_recon.filter ramp", "full_recon.rows: expected values after"),
        ("full_recon.filter ramp full_recon.filter hann", "expected one key, or two different"),
        ("full_recon.rows 1 full_recon.unit 1 full_recon.filter 1", "expected one key, or two"),
    ],
)  # fmt: skip
def test_words_are_keys_with_their_values(words, values):
    if isinstance(values, dict):
        assert list(keys_and_values(words.split()).items()) == list(values.items())
        return
    with pytest.raises(TomopipeError, match=values):
        keys_and_values(words.split())


@pytest.mark.parametrize(
    ("key", "values", "options", "said"),
    [
        ("full_recon.filter", ["box"], {}, r"full_recon\.filter: got 'box'"),
        ("try_recon.row", ["3"], {}, "expected a key of input, preprocess or full_recon"),
        ("full_recon.crop_x", ["[1, 2"], {}, r"crop_x: \[1, 2: cannot be read as YAML"),
        ("full_recon.output", ["zarr"], {}, "output: only changes how a volume is stored"),
        ("full_recon.dtype", ["float32", "uint8"], {}, "all would be equal. Set it in config"),
        ("a [x]_1", ["full_recon.filter"], {}, r"\Aa \[x\]_1: expected a key .* follows --scan"),
        ("full_recon.filter", ["ramp"], {"row": 24}, "expected a row from 0 to 23, got 24"),
        ("full_recon.filter", ["ramp"], DRY | {"row": 24}, "expected a row from 0 to 23, got 24"),
        ("full_recon.filter", ["ramp"], DRY | {"cor_px": -1.0}, "COR -1 px is off the detector"),
        ("full_recon.rows", ["[0, 30]"], DRY, r"rows: \[0, 30\] are not rows of .* \(0 to 23\)"),
        ("full_recon.binning", ["1", "2"], {}, "1: 80 x 80, 2: 40 x 40. Omit"),
    ],
)
def test_what_cannot_be_tried_is_named(campaign, key, values, options, said):
    with pytest.raises(TomopipeError, match=said):
        _sweep(campaign, key, values, **options)


def test_the_cor_is_what_the_campaign_knows(campaign):
    def known():
        return cor_px_of(load_campaign(campaign, campaign / "config.yaml"), "a [x]_1")

    with pytest.raises(TomopipeError, match="no COR yet"):
        known()
    (campaign / "results").mkdir()
    cors = {"a [x]_1": {"cor_px": 40.6, "source": "ai"}}
    (campaign / "results" / "cor.json").write_text(json.dumps(cors))
    assert known() == 40.6
    (campaign / "scans.tsv").write_text("scan\tcor_px\na [x]_1\t40.70\n")
    assert known() == 40.7


def test_the_command(campaign):
    arguments = ["sweep", "full_recon.filter", "ramp", "--scan", "a [x]_1", "--cor", str(COR_PX)]
    arguments += ["--campaign", str(campaign), "--row", "3"]
    result = CliRunner().invoke(cli, [*arguments, "--dry-run"])
    assert result.output.startswith(f"would make 1 slice of a [x]_1 at {COR_PX:g} px: ")
    assert not (campaign / "results").exists()
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.strip().endswith("index.html")


def test_an_option_that_changes_nothing_is_said(campaign):
    arguments = ["sweep", "preprocess.stripes.level", "2", "3", "--cor", "41", "-C", str(campaign)]
    result = CliRunner().invoke(cli, [*arguments, "--scan", "a [x]_1"])
    said = "with the other options (preprocess.stripes.method is none), preprocess.stripes.level"
    assert f"{said} changes nothing here" in result.output


def test_without_a_scan_the_command_takes_the_first_with_a_cor(campaign):
    def run(*more):
        arguments = ["sweep", "full_recon.filter", "ramp", "--campaign", str(campaign), *more]
        return CliRunner().invoke(cli, arguments)

    for name in ("0", "b_2", "b_3"):
        shutil.copy(campaign / "raw" / "a [x]_1.h5", campaign / "raw" / f"{name}.h5")
    for more in ((), ("--cor", "41.2")):  # a COR of which scan?
        assert "Run the campaign, or give --scan and --cor" in str(run(*more).exception)
    results = campaign / "results"
    results.mkdir()
    cors = {"a [x]_1": {"cor_px": 41.2}, "b_2": {"cor_px": 41}}
    cors = {scan: entry | {"source": "ai"} for scan, entry in cors.items()}
    (results / "cor.json").write_text(json.dumps(cors))
    said = run().output.splitlines()
    assert said[0] == "scan a [x]_1, the first with a COR, at 41.2 px (choose another with --scan)"
    assert said[-1].endswith("index.html")
    (campaign / "scans.tsv").write_text("scan\tselect\na [x]_1\tno\n")
    assert run("--cor", "40").output.startswith("scan b_2, the first with a COR, at 40 px (choose")
    (campaign / "scans.tsv").write_text("scan\tcor_px\nb_3\t40.5\n0\t41.5\n")
    assert run().output.startswith("scan 0, the first with a COR, at 41.5 px (choose")


@pytest.mark.parametrize("name", ["index.html", "sweep.tif"])
def test_a_file_of_somebody_else_is_kept(campaign, name):
    page, _ = _sweep(campaign, "full_recon.filter", ["ramp"], row=9)
    _sweep(campaign, "full_recon.filter", ["ramp"], row=9)  # ours is
    ours, text = {"index.html", "sweep.tif", "sweep.json"}, "<html>of somebody else</html>"
    (page.parent / name).write_text(text)
    _sweep(campaign, "full_recon.filter", ["ramp"], row=9, dry_run=True)
    assert len(list(page.parent.iterdir())) == 3
    _sweep(campaign, "full_recon.filter", ["ramp"], row=9)
    assert {path.name.partition(".before-")[0] for path in page.parent.iterdir()} == ours
    (kept,) = page.parent.glob("*.before-*")
    assert (kept.name.startswith(name), kept.read_text()) == (True, text)
