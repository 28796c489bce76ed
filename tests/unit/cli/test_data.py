"""`tomopipe verify`: what differs from the record is named, by size and time, or by content."""

import json
import os
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.commands.verify import recorded
from tomopipe.reruns.receipts import write_receipt
from tomopipe.storage.atomic import whole, write_json
from tomopipe.storage.checksums import made
from tomopipe.volumes.volume import new_volume

pytestmark = pytest.mark.slow

READ, BY_TIME = "read and compared", "compared by size and time (TIFF and OME-Zarr by size)"
VOLUME = np.random.default_rng(0).random((4, 260, 260), np.float32)  # above 1 MB


@pytest.fixture
def campaign(tmp_path):
    """Three volumes and a table, with receipts; the campaign has moved since."""
    old = tmp_path / "old"
    for folder in ("results", "raw"):
        (old / folder).mkdir(parents=True)
    for scan in "abc":
        (old / "raw" / f"{scan}.h5").touch()
    (old / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    for name, output_format in [("a_rec.h5", "h5"), ("b_rec", "tiff"), ("c_rec.zarr", "zarr")]:
        with new_volume(old / "results" / name, VOLUME.shape, output_format=output_format) as put:
            put(0, VOLUME)
    write_json({"a": 1}, old / "results" / "cor.json")
    report = old / "results" / "report" / "index.html"
    write_json({}, report)
    for path in [*old.glob("results/*"), report]:
        if made(path):
            key = path.name[0] if "_rec" in path.name else "campaign"
            step = {"cor": "resolve_cor", "index": "report"}.get(path.stem, "full_recon")
            receipt, name = f"results/made/{step}/{key}.json", str(path.relative_to(old))
            write_receipt(receipt, {}, [name], directory=old)
    report.write_text("made anew by `tomopipe report`")
    old.rename(tmp_path / "new")
    return tmp_path / "new"


def _verify(campaign, *options):
    done = CliRunner().invoke(cli, ["verify", str(campaign), *options])
    assert done.exit_code in (0, 1), done.output
    return done.exit_code, done.stdout


@pytest.mark.parametrize("options", [[], ["--deep", "--threads", "1"]])
def test_all_as_it_was_made(campaign, options):
    status, said = _verify(campaign, *options)
    assert status == 0
    assert said.startswith("4 results, ")
    assert said.endswith(": 0 differ\n")


def _flip(path, offset):
    """Change one bit and leave size and time."""
    state = os.stat(path)
    with open(path, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_damage_that_leaves_size_and_time_takes_a_deep_look(campaign):
    _flip(campaign / "results/a_rec.h5", 9000)
    _flip(campaign / "results/b_rec/recon_00002.tiff", 900)
    _flip(next((campaign / "results/c_rec.zarr/0").rglob("c/0/0/0")), 5000)
    assert _verify(campaign)[0] == 0
    status, said = _verify(campaign, "--deep")
    assert status == 1
    assert said.splitlines()[:-1] == [
        "results/a_rec.h5: its content differs",
        "results/b_rec: other content: recon_00002.tiff",
        "results/c_rec.zarr: other content: 0/c/0/0/0",
        "Delete what differs: the next `tomopipe run` makes it again",
    ]
    assert said.endswith(": 3 differ\n")


def test_of_results_with_another_time_the_content_counts(campaign):
    """As after `touch`, or a copy, whether a run makes them or not."""
    (campaign / "raw/a.h5").unlink()
    others = ("cor.json", "a_rec.h5", "b_rec/.tomopipe-manifest")
    for name in others:
        os.utime(campaign / "results" / name, ns=(1, 1))
    assert _verify(campaign) == (0, _verify(campaign, "--deep")[1].replace(READ, BY_TIME))
    for name, offset in (("cor.json", 3), ("a_rec.h5", 9000)):
        _flip(campaign / "results" / name, offset)
    _flip(campaign / "results/b_rec/recon_00002.tiff", 900)
    assert _verify(campaign)[1].splitlines()[:3] == [
        "results/a_rec.h5: its content differs",
        "results/b_rec: other content: recon_00002.tiff",
        "results/cor.json: its content differs",
    ]


def test_without_a_checksum_another_time_is_not_the_same(campaign):
    receipt = campaign / "results/made/full_recon/a.json"
    receipt.write_text(json.dumps(json.loads(receipt.read_text()) | {"sums": {}}))
    os.utime(campaign / "results/a_rec.h5", ns=(1, 1))
    status, output = _verify(campaign)
    assert status == 1
    assert "results/a_rec.h5: modified at another time than recorded" in output
    assert output.endswith(": 0 differ, 1 have another time\n")


def test_an_edit_in_tilt_series_takes_no_deep_look(campaign):
    name = "results/relion/tilt_series"
    folder = campaign / name
    with whole(folder) as temporary:
        temporary.mkdir()
        (temporary / "a.star").write_text("angles")
    receipt = "results/made/export_star/campaign.json"
    write_receipt(receipt, {}, [name], sums={name: made(folder)}, directory=campaign)
    assert _verify(campaign)[0] == 0
    os.utime(folder / "a.star", (1, 1))
    assert _verify(campaign)[0] == 0
    _flip(folder / "a.star", 2)
    assert _verify(campaign)[1].startswith("results/relion/tilt_series: other content: a.star\n")


@pytest.mark.parametrize("options", [[], ["--deep"]])
def test_what_is_missing_or_cut_short_is_named(campaign, options):
    os.truncate(campaign / "results/a_rec.h5", 1000)
    (campaign / "results/cor.json").unlink()
    next((campaign / "results/c_rec.zarr/0").rglob("c/0/0/0")).unlink()
    status, said = _verify(campaign, *options)
    assert status == 1
    lines = said.splitlines()
    assert lines[0].startswith("results/a_rec.h5: 1000 bytes, ")
    assert lines[1:3] == ["results/c_rec.zarr: missing: 0/c/0/0/0", "results/cor.json: missing"]


def test_results_without_a_checksum_are_counted(campaign):
    assert len({product.checksum for product in recorded(load_campaign(campaign))}) == 4
    for path in (campaign / "results/made").glob("*/*.json"):
        receipt = json.loads(path.read_text())
        path.write_text(json.dumps(receipt | {"sums": {}}))
    _flip(campaign / "results/a_rec.h5", 9000)
    status, said = _verify(campaign, "--deep")
    assert status == 0
    assert "4 have no recorded checksum: only their sizes were compared" in said


def test_without_a_record_there_is_nothing_to_compare(campaign):
    shutil.rmtree(campaign / "results/made")
    status, said = _verify(campaign)
    assert status == 0
    assert said.startswith("No results are recorded in ")
