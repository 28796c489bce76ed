"""Volumes in other formats: values, places of voxels, ranges; what is there is not overwritten."""

import json
import os

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import yaml
from typer.testing import CliRunner

from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.commands.conversion import convert_volume, find_volumes, plan_conversions
from tomopipe.errors import TomopipeError
from tomopipe.relion.mrc import labels_of, read_volume_size
from tomopipe.relion.mrc_volumes import source_of
from tomopipe.reruns.foreign import is_foreign
from tomopipe.reruns.receipts import state_of
from tomopipe.run.unfinished import outdated_conversions
from tomopipe.volumes.encoding import encoding_of
from tomopipe.volumes.volume import new_volume
from tomopipe.volumes.volume_read import open_volume, read_mid_planes, read_provenance

pytestmark = pytest.mark.slow

SHAPE = (5, 6, 7)
GEOMETRY = {
    "half_acquisition": False, "n_cols": 14, "rows": [4, 13],
    "axis_voxel_xy": [2, 2], "first_voxel_xy": [1, 3],
}  # fmt: skip
PROVENANCE = {"made_from": '{"step": "full_recon"}', "geometry": GEOMETRY}
ABOUT = {"units": "1/px", "binning": 2, "voxel_size_um": 1.3}


def values(seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=SHAPE)).astype(np.float32)


@pytest.fixture
def campaign(tmp_path):
    """Of three scans in two series; two have a volume."""
    (tmp_path / "raw").mkdir()
    for name in ("a_1", "a_2", "b_1"):
        (tmp_path / f"raw/{name}.h5").write_bytes(b"not read")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"campaign": {"scans": ["raw/*.h5"]}}))
    write(tmp_path / "results/a_1_rec.h5", values(0))
    write(tmp_path / "results/a_2_rec.h5", values(1, scale=3))
    return load_campaign(tmp_path)


def write(path, data, **options):
    with new_volume(path, data.shape, attributes=ABOUT, provenance=PROVENANCE, **options) as put:
        put(0, data)


def converted(campaign, output_format, names=("a_1",), **options):
    """Convert, and return the files."""
    plan = plan_conversions(campaign, find_volumes(campaign, names), output_format, **options)
    for planned in plan:
        if not planned.is_current:
            convert_volume(planned)
    return [planned.target for planned in plan]


def read(path):
    with open_volume(path) as volume:
        return np.stack([volume.read_slice(row) for row in range(volume.shape[0])]), volume


def test_mrc_has_the_voxels_where_relion_looks_for_them(campaign):
    (path,) = converted(campaign, "mrc")
    assert path.name == "a_1_rec.mrc"
    with mrcfile.open(path) as mrc:
        assert mrc.is_volume()
        np.testing.assert_array_equal(mrc.data, values().swapaxes(0, 1))  # [z, y, x]
        assert mrc.data[3, 1, 5] == values()[1, 3, 5]
        assert mrc.header.dmax == values().max()
    assert mrcfile.validate(path)
    size, voxel_angstrom = read_volume_size(path)
    assert size == (7, 5, 6)
    assert voxel_angstrom == pytest.approx(13000)
    assert labels_of(path)[1] == "from results/a_1_rec.h5"


@pytest.mark.parametrize("output_format", ["tiff", "zarr", "h5"])
def test_the_voxels_are_those_of_the_volume_and_it_is_named(campaign, output_format):
    (path,) = converted(campaign, output_format)
    found, volume = read(path)
    np.testing.assert_array_equal(found, values())
    assert {key: volume.attributes[key] for key in ABOUT} == ABOUT
    about = volume.provenance["converted"]
    assert about["volume"] == "results/a_1_rec.h5"
    assert about["source"] == PROVENANCE
    planes = read_mid_planes(campaign.files.volume("a_1", "h5"))
    np.testing.assert_array_equal(read_mid_planes(path)["mid_xz"], planes["mid_xz"])
    if output_format == "tiff":
        assert (path / "recon_00002.tiff").exists()  # detector row 4, binned by 2
    if output_format == "zarr":
        ome = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
        _, shift = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        # axis at (7, 6) of the whole, (2, 2) here; rows 4 and 5 are 4.5 unbinned
        places = [1.3 * 4.5 / 2, 1.3 * (6 / 2 - 2), 1.3 * (7 / 2 - 2)]
        np.testing.assert_allclose(shift["translation"], places)


def test_zarr_of_another_version_replaces_ours(campaign):
    for output_format, mark in (("zarr2", ".zattrs"), ("zarr", "zarr.json"), ("zarr2", ".zattrs")):
        (path,) = converted(campaign, output_format)
        assert path.name == "a_1_converted.zarr"
        marks = [name for name in (".zattrs", "zarr.json") if (path / name).exists()]
        assert marks == [mark]
        np.testing.assert_array_equal(read(path)[0], values())
    (planned,) = plan_conversions(campaign, find_volumes(campaign, ["a_1"]), "zarr2")
    assert planned.is_current


def test_of_several_scans_those_without_a_volume_are_left_out(campaign):
    (campaign.directory / "results/a_2_rec.h5").unlink()

    def said(*words):
        return CliRunner().invoke(cli, ["convert", "mrc", str(campaign.directory), *words, "-n"])

    text = said("a_*").output
    assert "left out: a_2 has no volume yet\n" in text
    assert "a_1_rec.mrc" in text
    assert "no volume yet" in str(said("a_2", "b_1").exception)
    (campaign.directory / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\na_2\tno\t\t\n")
    assert "a_2_rec.h5: no volume, as it is not selected: " in str(said("a_2").exception)


def test_whole_numbers_are_right_to_half_a_step(campaign):
    (path,) = converted(campaign, "tiff", dtype="uint16", value_range=(-5, 5))
    found, volume = read(path)
    assert volume.encoding == encoding_of("uint16", (-5, 5))
    np.testing.assert_allclose(found, values(), atol=0.51 * 10 / 65535)


def test_what_is_there_is_kept_until_the_volume_is_another(campaign):
    (path,) = converted(campaign, "mrc")
    before = os.stat(path).st_ino
    assert os.stat(converted(campaign, "mrc")[0]).st_ino == before
    source = campaign.files.volume("a_1", "h5")
    source.unlink()
    with new_volume(source, SHAPE, provenance=PROVENANCE | {"cor": 3}) as put:
        put(0, values(7))
    converted(campaign, "mrc")
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data, values(7).swapaxes(0, 1))


def test_a_run_names_what_was_converted_from_an_earlier_volume(campaign):
    for output_format in ("mrc", "zarr", "tiff"):
        converted(campaign, output_format)
    assert not [*outdated_conversions(campaign, ["a_1", "a_2"])]
    volume, other = campaign.results / "a_1_rec.h5", PROVENANCE | {"made_from": '{"cor": 9.5}'}
    with new_volume(volume, SHAPE, attributes=ABOUT, provenance=other) as put:
        put(0, values(2))
    (line,) = outdated_conversions(campaign, ["a_1", "a_2"])
    assert all(name in line for name in ("a_1_rec.mrc", "a_1_converted.zarr", "a_1_converted,"))
    converted(campaign, "tiff")
    assert "a_1_converted," not in next(outdated_conversions(campaign, ["a_1"]))


def test_a_cut_mrc_volume_is_no_volume_and_is_written_again(campaign):
    (path,) = converted(campaign, "mrc")
    content, source = path.read_bytes(), source_of(path)
    assert source
    os.truncate(path, len(content) - 1)
    assert source_of(path) == ""  # the set for RELION does not name it
    converted(campaign, "mrc")
    assert path.read_bytes() == content
    assert source_of(path) == source


@pytest.mark.parametrize(("output_format", "part"), [("tiff", "*.tiff"), ("zarr", "0/c/*/*/*")])
def test_a_folder_that_lacks_a_slice_or_chunk_is_written_again(campaign, output_format, part):
    (path,) = converted(campaign, output_format)
    next(path.glob(part)).unlink()
    converted(campaign, output_format)
    np.testing.assert_array_equal(read(path)[0], values())


def test_files_of_other_makers_are_not_overwritten(campaign):
    for output_format, name in (("mrc", "a_1_rec.mrc"), ("h5", "a_1_converted.h5")):
        path = campaign.results / name
        path.write_bytes(b"mine")
        with pytest.raises(TomopipeError, match=f"{name}: exists, but .* Move it away"):
            converted(campaign, output_format)
        assert path.read_bytes() == b"mine"


def test_a_volume_that_changes_meanwhile_leaves_nothing(campaign):
    source = campaign.files.volume("a_1", "h5")
    (planned,) = plan_conversions(campaign, {"a_1": source}, "mrc")
    with pytest.raises(TomopipeError, match="changed while it was read"):
        convert_volume(planned, lambda _: os.utime(source, ns=(1, 1)))
    assert sorted(os.listdir(campaign.results)) == ["a_1_rec.h5", "a_2_rec.h5"]


def test_two_conversions_at_once_do_not_remove_what_the_other_writes(campaign, at_once):
    (planned,) = plan_conversions(campaign, find_volumes(campaign, ["a_1"]), "zarr")

    def convert_again(_):
        with pytest.raises(TomopipeError, match=f"{planned.target}: is being changed by .*process"):
            convert_volume(planned)

    convert_volume(planned, convert_again)
    np.testing.assert_array_equal(read(planned.target)[0], values())
    assert len(os.listdir(campaign.results)) == 3  # two volumes, and no lock


def test_a_volume_that_states_nothing_is_somebody_elses(campaign):
    path = campaign.files.volume("a_1", "h5")
    provenance = {"geometry": GEOMETRY, "versions": {"tomopipe": "0.1.0"}}  # as of `tp.reconstruct`
    with new_volume(path, SHAPE, attributes=ABOUT, provenance=provenance) as put:
        put(0, values())
    assert is_foreign(path, state_of(path))


def test_the_campaign_takes_none_of_them_for_its_own(campaign):
    found = [converted(campaign, name)[0] for name in ("mrc", "tiff", "zarr", "h5")]
    results = {campaign.files.volume("a_1", output) for output in ("h5", "tiff", "zarr")}
    assert not results & set(found)
    assert "made_from" not in read_provenance(found[1])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["mrc", "a_3"], "; did you mean a_"),
        (["tiff", "--dtype", "float16", "--range", "1", "2"], "only uint16 and uint8 have a range"),
        (["tiff", "--range", "2", "1"], "expected LOW < HIGH, got 2.0 1.0"),
    ],
)
def test_what_cannot_be_done_is_said(campaign, args, message):
    done = CliRunner().invoke(cli, ["convert", *args, "-C", str(campaign.directory)])
    assert isinstance(done.exception, TomopipeError)
    assert message in str(done.exception)


def test_the_command_says_what_it_writes(campaign):
    def said(*args):
        done = CliRunner().invoke(cli, ["convert", *args, "-C", str(campaign.directory)])
        assert done.exit_code == 0, done.output
        return done.output

    tried = said("tiff", "--range", "-9", "9", "-n")
    assert tried.count("uint16 of -9 to 9: would be written") == 2
    assert not (campaign.results / "a_1_converted").exists()
    assert said("tiff", "--range", "-9", "9").count(": written") == 2
    assert said("tiff", "--range", "-9", "9").count(": up to date") == 2
    assert "uint16 of" in said("h5", "--dtype", "uint16")


@pytest.mark.parametrize("output_format", ["tiff", "zarr"])
def test_a_volume_that_lacks_a_slice_or_chunk_is_refused_not_read_as_zeros(tmp_path, output_format):
    path = tmp_path / f"a_1_rec.{output_format}"
    write(path, values(), output_format=output_format)
    lost = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    lost.unlink()
    said = pytest.raises(TomopipeError, match=rf"missing: .*{lost.name}. Remove it and run again")
    with said, open_volume(path):
        pass


def test_voxels_outside_the_range_are_told(campaign):
    def said(*options):
        arguments = ["h5", "a_1", *options, "-C", str(campaign.directory)]
        return CliRunner().invoke(cli, ["convert", *arguments]).output

    data = values()
    n_out = np.count_nonzero((data < -1.00002) | (data > 1.00002))
    expected = f"{n_out} of 210 voxels ({n_out / 210:.1%}) lie outside -1 to 1 and were clipped"
    found = f"the volume has {data.min():.4g} to {data.max():.4g} (set another with --range"
    clipping = ("--range", "-1", "1")
    for _ in range(2):  # written, then up to date
        assert expected in said(*clipping)
        assert found in said(*clipping)
    for options in (("--range", "-5", "5"), ("--dtype", "uint16"), ("--dtype", "float16")):
        assert "lie outside" not in said(*options), options
    assert "lie outside" not in said(*clipping, "-n")


@pytest.mark.parametrize("output_format", ["tiff", "zarr", "h5", "mrc"])
def test_slices_that_are_farther_apart_than_voxels_are_wide_stay_so(campaign, output_format):
    """Width 1.3 um, height 2.6 um: as ImageJ, OME-Zarr, HDF5 and MRC state them."""
    path = campaign.directory / "results/b_1_rec.h5"
    about = ABOUT | {"voxel_height_um": 2.6}
    with new_volume(path, SHAPE, attributes=about, provenance=PROVENANCE) as put:
        put(0, values())
    (target,) = converted(campaign, output_format, ("b_1",))
    if output_format == "tiff":
        with tifffile.TiffFile(min(target.glob("*.tiff"))) as file:
            width = 1e4 / (file.pages[0].resolution[0])
            sizes = file.imagej_metadata["spacing"], width
    elif output_format == "zarr":
        image = json.loads((target / "zarr.json").read_text())["attributes"]["ome"]["multiscales"]
        sizes = image[0]["datasets"][0]["coordinateTransformations"][0]["scale"][:2]
    elif output_format == "h5":
        with h5py.File(target) as file:
            sizes = [file["exchange/data"].attrs[f"voxel_{name}_um"] for name in ("height", "size")]
    else:
        with mrcfile.open(target, header_only=True) as file:
            assert file.voxel_size.z == file.voxel_size.x
            sizes = file.voxel_size.y / 1e4, file.voxel_size.x / 1e4
    assert tuple(sizes) == pytest.approx((2.6, 1.3), rel=1e-6)
