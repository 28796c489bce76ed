"""Scans in TIFF files: folders of images, files of pages, lists of angles."""

import os
import shutil
import sys

import h5py
import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from tests.exchange_files import read_metadata, reason_of
from tomopipe.config import InputBlock
from tomopipe.errors import ScanError, is_of_the_scan
from tomopipe.scans.angle_lists import TILTS
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.metadata import incomplete
from tomopipe.scans.raw_identity import file_state

N, N_ROWS, N_COLS = 12, 3, 5
ANGLES_DEG = np.linspace(0, 165, N)
FLAT, DARK = 1000, 10


def values(n=N, dtype="u2"):
    return (np.arange(n * N_ROWS * N_COLS).reshape(n, N_ROWS, N_COLS) + 20).astype(dtype)


def write_images(folder, images, name="img_{}.tif", first=0, **options):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=first):
        tifffile.imwrite(folder / name.format(number), image, **options)


def write_folder(path, *, images=None, into="", **options):
    """Write a folder scan with its flats, darks and angles."""
    write_images(path / into, values() if images is None else images, **options)
    write_images(path / "flats", np.full((3, N_ROWS, N_COLS), FLAT, "u2"))
    write_images(path / "darks", np.full((2, N_ROWS, N_COLS), DARK, "u2"))
    write_list(path / "angles.txt")
    return path


def write_list(path, angles=ANGLES_DEG):
    path.write_text("".join(f"{angle}\n" for angle in angles))


@pytest.mark.parametrize("all_go", [False, True])
def test_images_that_go_while_they_are_read_may_come_back_only_together(tmp_path, all_go):
    path = write_folder(tmp_path / "scan_1", into="tomo")
    said = pytest.raises(ScanError, match=r"img_0\.tif: no longer exists")
    with said as found, open_scan(path) as scan:
        for image in (path / "tomo").glob("*" if all_go else "img_0.tif"):
            image.unlink()
        scan.read_frames([0])
    assert is_of_the_scan(found.value) != all_go


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", ">u2"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=["plain", "deflate"])
@pytest.mark.parametrize("into", ["", "tomo"])
def test_a_folder_of_images(tmp_path, dtype, options, into):
    raw = values(dtype=dtype)
    path = write_folder(tmp_path / "scan_1", images=raw, into=into, **options)
    found = read_metadata(path)
    assert found.format == "TIFF"
    assert (found.n_angles, found.n_rows, found.n_cols) == (N, N_ROWS, N_COLS)
    assert found.n_written == N
    assert found.data_bytes == raw.size * raw.itemsize
    files = [file for file in path.rglob("*") if file.is_file()]
    assert file_state(path)[0] == sum(file.stat().st_size for file in files)
    assert found.theta_deg.tolist() == ANGLES_DEG.tolist()
    assert incomplete(found) == ""
    assert found.warnings == ()
    with open_scan(path) as scan:
        assert (scan.n_flats, scan.n_darks) == (3, 2)
        for scan.threads in (1, 2):
            assert np.array_equal(scan.read_rows(1, 3), raw[:, 1:3])
        assert scan.read_rows(0, 1).dtype == scan.dtype == np.dtype(dtype).newbyteorder("=")
        assert np.array_equal(scan.read_block((3, 7), (0, 2)), raw[3:7, :2])
        assert np.array_equal(scan.read_frames([11, 0, 10]), raw[[11, 0, 10]])
        assert (scan.flat == FLAT).all()
        assert (scan.dark == DARK).all()
        assert np.allclose(scan.theta_rad, np.deg2rad(ANGLES_DEG))
        assert (scan.pixel_size_um, scan.energy_kev, scan.distance_mm) == (None, None, None)


STORED = {"compression": "zlib"}, {"contiguous": False}, {"metadata": None}
OF_FILE = {}, {"bigtiff": True}, {"byteorder": ">"}, {"imagej": True}


@pytest.mark.parametrize("options", [*OF_FILE, *STORED], ids=str)
def test_a_file_of_pages(tmp_path, options):
    raw = values()
    path = tmp_path / "scan_1.tif"
    of_file, stored = ({}, options) if options in STORED else (options, {})
    with tifffile.TiffWriter(path, **of_file) as file:
        file.write(raw, photometric="minisblack", **stored)
    write_images(tmp_path / "scan_1_flats", [np.full((N_ROWS, N_COLS), FLAT, "u2")])
    write_images(tmp_path / "scan_1_darks", [np.full((N_ROWS, N_COLS), DARK, "u2")])
    write_list(tmp_path / "scan_1.csv")
    assert incomplete(read_metadata(path)) == ""
    with open_scan(path) as scan:
        assert scan.n_angles == N
        assert np.array_equal(scan.read_rows(1, 3), raw[:, 1:3])
        assert np.array_equal(scan.read_block((3, 7), (0, 2)), raw[3:7, :2])
        assert np.array_equal(scan.read_frames([11, 0]), raw[[11, 0]])
        assert (scan.flat == FLAT).all()
        assert (scan.dark == DARK).all()


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("scan/scan.tlt", "{scan}/{scan}.tlt"),
        ("scan/tilts.rawtlt", "{scan}/tilts.rawtlt"),
        ("scan.rawtlt", "{scan}.rawtlt"),
    ],
)
def test_a_list_of_tilts_beside_the_images_is_named(tmp_path, file, pattern):
    """IMOD's lists are not taken by themselves."""
    path = write_folder(tmp_path / "scan")
    (path / "angles.txt").rename(tmp_path / file)
    (warning,) = read_metadata(path).warnings
    named = warning.removeprefix(TILTS).removesuffix(", which lies beside the images")
    assert named == f"{tmp_path}/{pattern}"
    known = {"angles": named.replace("{scan}", "scan")}
    assert read_metadata(path, options=known).theta_deg.tolist() == ANGLES_DEG.tolist()


@pytest.mark.parametrize("step", [1, 500])
@pytest.mark.parametrize("angles", [None, {"stop": 165}, "a list"], ids=str)
def test_images_missing_by_their_numbers_are_refused_until_angles_are_listed(
    tmp_path, step, angles
):
    path = tmp_path / "scan"
    for number, image in enumerate(values()):
        if number not in (3, 4, 8):
            write_images(path, [image], name="img_{:06d}.tif", first=number * step)
    if angles == "a list":
        write_list(path / "angles.txt")
        angles = None
    others = {"flats": "none", "darks": "none"}
    assert reason_of(path, options={"angles": angles}, **others).endswith(
        f"images missing by the numbers in their names: 3 ({3 * step}, {4 * step}, {8 * step}): "
        "set input.angles to a list of the angles of those that are there, or, if none is missing, "
        "input.frames: [9 projections]"
    )
    (path / "angles.txt").unlink(missing_ok=True)
    whole = {"frames": ["9 projections"], "angles": {"start": 0, "stop": 160}}
    theta_deg = read_metadata(path, options=whole, **others).theta_deg
    assert theta_deg == pytest.approx(np.linspace(0, 160, 9))
    there = np.delete(ANGLES_DEG, [3, 4, 8])
    write_list(path / "angles.txt", there)
    assert read_metadata(path, **others).theta_deg == pytest.approx(there)


def test_images_of_several_kinds_are_asked_for(tmp_path):
    path = tmp_path / "rock_2"
    for kind, images in (("dar", values(2)), ("img", values()), ("ref", values(3))):
        write_images(path, images, name=f"rock_2_{kind}_{{:04d}}.tif")
    known = {"angles": {"start": 0, "stop": 165}}
    reason = reason_of(path, flats="none", darks="none", options=known)
    assert "3 kinds of names, rock_#_dar_# (2), rock_#_img_# (12), rock_#_ref_# (3): move" in reason
    (path / "rock_2_img_0005.tif").unlink()
    counted = known | {"frames": ["2 darks", f"{N - 1} projections", "3 flats"]}
    with open_scan(path, options=counted) as scan:
        assert np.rad2deg(scan.theta_rad) == pytest.approx(np.linspace(0, 165, N - 1))
        assert np.array_equal(scan.read_rows(0, N_ROWS), np.delete(values(), 5, axis=0))
        assert (scan.n_flats, scan.n_darks) == (3, 2)


@pytest.mark.parametrize("into", ["scan", "scan/tomo"])
@pytest.mark.parametrize("other", ["average", "flat_1", "dark", "img_3 (copy)", "img_3_old"])
def test_an_image_with_another_kind_of_name_is_refused(tmp_path, into, other):
    write_folder(tmp_path / "scan", into="tomo" if into == "scan/tomo" else "")
    tifffile.imwrite(tmp_path / into / f"{other}.tif", values()[3])
    reason = reason_of(tmp_path / "scan")
    assert reason.startswith(f"{tmp_path / into}: images with 2 kinds of names, ")
    assert reason.endswith("in input.frames, such as [10 darks, 181 projections]")


def test_two_images_of_one_number_are_refused(tmp_path):
    path = write_folder(tmp_path / "scan")
    tifffile.imwrite(path / "img_03.tif", values()[3])
    assert "two images of one number, img_03 and img_3: " in reason_of(path)
    invalid = {"frames": ["4 projections", "1 invalid", f"{N - 4} projections"]}
    assert read_metadata(path, options=invalid).n_angles == N
    (path / "img_03.tif").rename(path / "flats" / "preview.tif")
    reason = reason_of(path)
    assert reason.startswith(f"{path}/flats: images with 2 kinds of names, img_# (3), preview (1)")
    assert reason.endswith("no flats away, or name a folder of each in preprocess.flats")


def test_images_beside_a_folder_of_more_are_asked_for(tmp_path):
    """Loose flats, say."""
    path = write_folder(tmp_path / "scan", images=values(3), name="flat_{}.tif")
    write_images(path / "tomo", values())
    reason = reason_of(path)
    assert f"images here (flat_0.tif, 3 in all) and more of them in tomo/ ({N}): move" in reason
    assert reason.endswith("input.frames: [3 projections]")
    write_list(path / "angles.txt", ANGLES_DEG[:3])
    assert read_metadata(path, options={"frames": ["3 projections"]}).n_angles == 3
    for image in path.glob("flat_*.tif"):
        image.rename(path / "flats" / image.name.replace("flat_", "img_9"))
    write_list(path / "angles.txt")
    assert read_metadata(path).n_angles == N


@pytest.mark.parametrize(("angles", "step_deg"), [(None, 15), ({"start": 0, "stop": 330}, 30)])
def test_fewer_images_than_angles_in_the_list(tmp_path, angles, step_deg):
    path = write_folder(tmp_path / "a", images=values()[:5])  # as angles.txt begins
    options = {"angles": angles}
    reason = incomplete(read_metadata(path, options=options))
    assert reason.startswith("angles.txt has 12 angles for 5 frames, expected one for each: ")
    with open_scan(path, partial=True, options=options) as scan:
        assert np.allclose(np.rad2deg(scan.theta_rad), step_deg * np.arange(5))


def test_frames_counted_by_input_frames_have_the_first_of_the_angles_of_a_range(tmp_path):
    path = tmp_path / "scan"
    write_images(path, one_series()[:10], name="sample_{:04d}.tif", first=1)
    known = {"frames": ORDER, "angles": {"start": 0, "stop": 165}}
    found = read_metadata(path, options=known)
    assert incomplete(found).startswith("aborted: 10 frames for 18 in input.frames")
    assert found.theta_deg == pytest.approx(ANGLES_DEG[: found.n_angles])


@pytest.mark.parametrize("n_bytes", [0, 150])
def test_an_image_cut_short_is_not_written(tmp_path, n_bytes):
    path = write_folder(tmp_path / "scan", images=values(dtype="f8"))
    os.truncate(path / "img_7.tif", n_bytes)
    found = read_metadata(path)
    assert found.present.tolist() == [*range(7), *range(8, 12)]
    assert incomplete(found).startswith("frame 7 of 12 was not written: ")


def test_pages_cut_short(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, values(), photometric="minisblack", truncate=True)  # data come last
    os.truncate(path, os.path.getsize(path) - 2 * N_ROWS * N_COLS * 2 - 1)
    found = read_metadata(path, flats="none", darks="none")
    assert found.n_written == 9
    known = {"angles": {"start": 0, "step": 15}}
    with open_scan(path, flats="none", darks="none", partial=True, options=known) as scan:
        assert np.array_equal(scan.read_rows(0, 3), values()[: found.n_written])
        assert np.rad2deg(scan.theta_rad[-1]) == pytest.approx(120)


def test_flats_and_darks_of_other_scans(tmp_path):
    folder = write_folder(tmp_path / "scan")
    (folder / "flats" / "img_0.tif").unlink()
    other = write_folder(tmp_path / "other")
    write_images(tmp_path / "after", np.full((4, N_ROWS, N_COLS), FLAT + 8, "u2"))
    with open_scan(folder, flats=str(other / "flats"), darks="none") as scan:
        assert (scan.n_flats, scan.n_darks) == (3, 0)
    with open_scan(folder, flats=[str(other / "flats"), str(tmp_path / "after")]) as scan:
        sets = [(flats.position, flats.mean[0, 0]) for flats in scan.flat_sets]
        assert sets == [(0, FLAT), (12, FLAT + 8)]
        assert scan.flat[0, 0] == pytest.approx((3 * FLAT + 4 * (FLAT + 8)) / 7)


def test_unusable_folders_say_why(tmp_path):
    (tmp_path / "empty").mkdir()
    assert reason_of(tmp_path / "empty").endswith("; copy its images there, or remove it")
    days = tmp_path / "days"
    (days / "1").mkdir(parents=True)
    (days / "1" / "a.nxs").touch()
    assert reason_of(days).endswith(f"; for its HDF5 files give {days}/*/*.nxs")
    two = tmp_path / "two"
    for name in ("a", "b"):
        write_images(two / name, values())
    assert "a folder without TIFF files (a, b with any)" in reason_of(two)
    colour = write_folder(tmp_path / "colour", images=np.zeros((2, 4, 6, 3), "u1"))
    assert "image of shape (4, 6, 3)" in reason_of(colour)
    bare = write_folder(tmp_path / "bare")
    for name in os.listdir(bare / "flats"):
        os.unlink(bare / "flats" / name)
    assert reason_of(bare).endswith(
        "; set preprocess.flats to a file that has them, or to none if "
        "the projections are corrected already"
    )
    write_images(bare / "flats" / "white", np.full((4, N_ROWS, N_COLS), FLAT, "u2"))
    with open_scan(bare) as scan:
        assert scan.n_flats == 4
    write_images(bare / "flats" / "after", np.full((4, N_ROWS, N_COLS), FLAT, "u2"))
    lines = f'preprocess: {{flats: ["{bare}/flats/white", "{bare}/flats/after"]}}'
    assert reason_of(bare).endswith(f"; name them in the order of time: {lines}")
    shutil.rmtree(bare / "flats")
    assert "no folder flats beside the projections; set preprocess.flats" in reason_of(bare)
    larger = write_folder(tmp_path / "larger", images=np.zeros((2, 4, 6), "u2"))
    assert "has frames of (3, 5); expected (4, 6)" in reason_of(larger)
    tifffile.imwrite(larger / "flats" / "img_3.tif", np.zeros((60, 80), "u1"))
    assert "img_3.tif: an image of (60, 80), uint8; expected (3, 5), " in reason_of(larger)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.tif").write_text("no image")
    assert ": copy it again" in reason_of(tmp_path / "text")
    (tmp_path / "broken.tif").write_bytes(b"II*\0" + b"\xff" * 50)
    assert "the TIFF image cannot be read" in reason_of(tmp_path / "broken.tif")
    image = colour / "flats" / "img_0.tif"
    assert "img_0.tif: one image, no scan: " in reason_of(image)
    assert reason_of(image).endswith(f"give their folder in campaign.scans, {image.parent}/")
    as_sinogram = {"options": {"axes": ["row", "angle", "col"]}, "flats": "none", "darks": "none"}
    assert read_metadata(image, **as_sinogram).n_angles == N_ROWS
    tifffile.imwrite(tmp_path / "pages.tif", values(), photometric="minisblack")
    reason = reason_of(tmp_path / "pages.tif")
    assert "pages.tif: no folder <scan>_flats beside the projections" in reason


def test_an_image_of_another_size_is_an_error_when_read(tmp_path):
    path = write_folder(tmp_path / "scan", compression="zlib")
    tifffile.imwrite(path / "img_5.tif", np.zeros((N_ROWS + 4, N_COLS), "u2"))
    with open_scan(path) as scan, pytest.raises(ScanError, match=r"img_5\.tif: image of \(7, 5\)"):
        scan.read_rows(0, 1)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=["plain", "deflate"])
@pytest.mark.parametrize(
    "other", [np.zeros((60, 80), "u1"), np.zeros((1, 2), "u2"), np.zeros((N_ROWS, N_COLS), "f8")]
)
def test_an_image_of_another_size_is_named_before_a_run(tmp_path, options, other):
    path = write_folder(tmp_path / "scan", **options)
    tifffile.imwrite(path / "preview.tif", other)
    reason = reason_of(path, options=ANY_ANGLES | {"frames": ["13 projections"]})
    assert f"preview.tif: an image of {other.shape}, {other.dtype}; expected (3, 5)" in reason
    assert reason.endswith("beside projections, count it as invalid in input.frames")
    (path / "preview.tif").unlink()
    invalid = ANY_ANGLES | {"frames": ["5 projections", "1 invalid", "6 projections"]}
    tifffile.imwrite(path / "img_5.tif", other)
    with open_scan(path, options=invalid, partial=True) as scan:
        assert np.array_equal(scan.read_rows(0, 3), np.delete(values(), 5, axis=0))


def test_sizes_that_differ_by_their_headers_are_no_other_images(tmp_path):
    path = write_folder(tmp_path / "scan")
    for number, image in enumerate(values()):
        tifffile.imwrite(path / f"img_{number}.tif", image, description="x" * 40 * number)
    assert incomplete(read_metadata(path)) == ""


def test_a_compression_that_cannot_be_decoded_is_named(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "scan", compression="zlib")
    deflate, lzw = (b"\x03\1\3\0\1\0\0\0" + code for code in (b"\x08\0", b"\x05\0"))
    for image in path.glob("*.tif"):
        image.write_bytes(image.read_bytes().replace(deflate, lzw))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert "install imagecodecs to read it" in reason_of(path)


@pytest.mark.parametrize(
    ("flats", "darks"),
    [("flat", "dark"), ("Flats", "DARK"), ("ref", "darkfield"), ("whites", "df")],
)
def test_folders_of_flats_and_darks_by_another_name(tmp_path, flats, darks):
    path = write_folder(tmp_path / "scan_1", into="tomo")
    (path / "flats").rename(path / flats)
    (path / "darks").rename(path / darks)
    with open_scan(path) as scan:
        assert (scan.n_flats, scan.n_darks, scan.n_angles) == (3, 2, N)
        assert (scan.flat == FLAT).all()
        assert (scan.dark == DARK).all()


ANY_ANGLES = {"angles": {"start": 0, "stop": 180}}
ORDER = ["2 darks", "3 flats", f"{N} projections", "1 flats"]


def one_series():
    """Images as SLS writes them: darks, flats, projections and flats."""
    kinds = [np.full((2, N_ROWS, N_COLS), DARK), np.full((3, N_ROWS, N_COLS), FLAT)]
    return np.concatenate([*kinds, values(), np.full((1, N_ROWS, N_COLS), 3 * FLAT)]).astype("u2")


@pytest.mark.parametrize("pages", [False, True], ids=["folder", "pages"])
@pytest.mark.parametrize("listed", [N, N + 6], ids=["of projections", "of all"])
def test_darks_flats_and_projections_in_one_series(tmp_path, pages, listed):
    path = tmp_path / ("scan.tif" if pages else "scan")
    angles_deg = ANGLES_DEG if listed == N else [*[7] * 5, *ANGLES_DEG, 7]
    if pages:
        tifffile.imwrite(path, one_series(), photometric="minisblack")
        write_list(path.with_suffix(".txt"), angles_deg)
    else:
        write_images(path, one_series(), name="sample_{:04d}.tif", first=1)
        write_list(path / "angles.txt", angles_deg)
    found = read_metadata(path, options={"frames": ORDER})
    assert incomplete(found) == ""
    assert found.theta_deg.tolist() == ANGLES_DEG.tolist()
    if not pages:
        reason = reason_of(path, options={"frames": ORDER[1:]})
        assert "18 frames, input.frames counts 16: correct it" in reason
        reason = reason_of(path, options={"frames": ["2 darks", "16 projections"]})
        assert "say in input.frames which of the images" in reason
    with open_scan(path, options={"frames": ORDER}) as scan:
        assert (scan.n_angles, scan.n_flats, scan.n_darks) == (N, 4, 2)
        assert np.array_equal(scan.read_rows(0, N_ROWS), values())
        assert (scan.dark == DARK).all()
        assert scan.flat_positions.tolist() == [0, 0, 0, N]
        assert scan.read_flats(0, 1)[:, 0, 0].tolist() == [FLAT] * 3 + [3 * FLAT]


@pytest.mark.parametrize(("number", "listed"), [(1, False), (8, True), (18, True)])
def test_where_an_image_of_one_series_is_missing_no_kind_is_certain(tmp_path, number, listed):
    """Counted on, a flat would be a dark."""
    path = tmp_path / "scan"
    write_images(path, one_series(), name="sample_{:04d}.tif", first=1)
    (path / f"sample_{number:04d}.tif").unlink()
    if listed:
        write_list(path / "angles.txt")
    found = read_metadata(path, options=({} if listed else ANY_ANGLES) | {"frames": ORDER})
    assert incomplete(found).startswith("aborted: 17 frames for 18 in input.frames")


def test_an_order_of_frames_counts():
    for run in ("ten darks", "0 darks", "10", "10 whites", "-1 flats"):
        with pytest.raises(ValidationError, match="frames"):
            InputBlock(frames=[run])


TURNED = {"axes": ["angle", "col", "row"]}


def turned_folder(path):
    """A camera turned by 90 degrees: square images, so that only their content tells the axes."""
    image = np.arange(25).reshape(5, 5)
    raw = (np.arange(N)[:, None, None] + image.T).astype("u2")
    write_images(path, raw)
    for kind, n in (("flats", 2), ("darks", 1)):
        write_images(path / kind, np.array([image.T + 100 * n] * n, "u2"))
    write_list(path / "angles.txt")
    return image


def test_flats_and_darks_are_turned_as_the_projections_are(tmp_path):
    image = turned_folder(tmp_path / "scan")
    with open_scan(tmp_path / "scan", options=TURNED) as scan:
        assert np.array_equal(scan.read_frames([3])[0], image + 3)
        assert np.array_equal(scan.read_flats(0, 5)[0], image + 200)
        assert np.array_equal(scan.dark, image + 100)
    (tmp_path / "scan/flats").rename(tmp_path / "apart")
    with h5py.File(tmp_path / "flats.h5", "w") as file:
        file["exchange/data_white"] = np.array([image.T + 200] * 2, "u2")
    for flats in (tmp_path / "apart", tmp_path / "flats.h5"):
        with open_scan(tmp_path / "scan", flats=flats, options=TURNED) as scan:
            assert np.array_equal(scan.read_flats(0, 5)[1], image + 200)


def test_notes_beside_the_images_are_no_list_of_angles(tmp_path):
    path = write_folder(tmp_path / "scan")
    (path / "angles.txt").rename(path / "notes.txt")
    (path / "notes.txt").write_text("a nice sample\n")
    found = read_metadata(path)
    assert found.theta_deg is None
    assert "no list of angles: " in found.warnings[0]
    assert "notes.txt" in found.warnings[0]
    given = {"angles": {"stop": 165}}
    assert np.allclose(read_metadata(path, options=given).theta_deg, ANGLES_DEG)
    write_list(path / "angles.txt")
    assert read_metadata(path).theta_deg.tolist() == ANGLES_DEG.tolist()
    write_list(path / "theta.csv")
    assert "which is the list of angles? angles.txt, theta.csv" in reason_of(path)
    (path / "theta.csv").unlink()
    (path / "log.csv").write_text("a\n")
    assert read_metadata(path, options=given).n_angles == N
    (path / "notes.txt").rename(path / "angles.txt")
    assert "angles.txt: expected one column" in reason_of(path)
    assert np.allclose(read_metadata(path, options=given).theta_deg, ANGLES_DEG)


@pytest.mark.parametrize("into", ["", "tomo"])
def test_hidden_files_count_for_nothing(tmp_path, into):
    path = write_folder(tmp_path / "scan", into=into)
    for shown in [*path.rglob("*")]:
        if shown.is_file():
            shown.with_name(f"._{shown.name}").write_bytes(b"of macOS")
    write_images(path / ".tomo", values())
    write_images(path / ".flats", values())
    assert read_metadata(path).theta_deg.tolist() == ANGLES_DEG.tolist()
    with open_scan(path) as scan:
        assert (scan.n_angles, scan.n_flats, scan.n_darks) == (N, 3, 2)
        assert np.array_equal(scan.read_rows(0, N_ROWS), values())
    (path / "angles.txt").rename(path / "._a.tlt")
    assert read_metadata(path).warnings == ()


def write_pages(path, images, how="shaped"):
    """Write a file of several pages, in one call, page by page, or compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compression = "zlib" if how == "zlib" else None
    with tifffile.TiffWriter(path) as file:
        for part in [images] if how == "shaped" else images:
            file.write(part, photometric="minisblack", compression=compression)


@pytest.mark.parametrize("how", ["shaped", "page by page", "zlib"])
def test_flats_and_darks_in_files_of_several_pages(tmp_path, how):
    path = write_folder(tmp_path / "scan")
    for kind, level, n in (("flats", FLAT, 10), ("darks", DARK, 5)):
        for image in (path / kind).iterdir():
            image.unlink()
        images = np.arange(n)[:, None, None] + np.full((n, N_ROWS, N_COLS), level, "u2")
        write_pages(path / kind / "all.tif", images, how)
    assert "flats flats/, 10 frames; darks darks/, 5 frames" in read_metadata(path).found
    with open_scan(path) as scan:
        assert (scan.n_flats, scan.n_darks) == (10, 5)
        assert scan.read_flats(1, 2)[:, 0, 0].tolist() == [*range(FLAT, FLAT + 10)]
        assert scan.dark == pytest.approx(DARK + 2)


@pytest.mark.parametrize("how", ["shaped", "page by page", "zlib"])
def test_projections_in_several_files_of_pages(tmp_path, how):
    path = write_folder(tmp_path / "scan", images=[])
    for number, pages in enumerate(np.split(values(), [5, 6])):  # one of a single page
        write_pages(path / f"tomo_{number + 9}.tif", pages, how)
    found = read_metadata(path)
    assert incomplete(found) == ""
    assert "projections images, 3 files of pages; angles angles.txt" in found.found
    with open_scan(path) as scan:
        assert np.array_equal(scan.read_rows(1, 3), values()[:, 1:3])
        assert np.array_equal(scan.read_block((4, 8), (0, 2)), values()[4:8, :2])
    write_pages(path / "tomo_12.tif", values()[:, 1:])
    assert "tomo_12.tif: pages of (2, 5), uint16; expected (3, 5), uint16 as in" in reason_of(path)


@pytest.mark.parametrize("how", ["shaped", "page by page", "zlib"])
def test_a_file_of_pages_among_single_images_is_named_before_a_run(tmp_path, how):
    path = write_folder(tmp_path / "scan", **(STORED[0] if how == "zlib" else {}))
    noise = np.random.default_rng(0).integers(0, 9999, (8, N_ROWS, N_COLS), "u2")
    write_pages(path / "img_12.tif", noise, how)
    reason = reason_of(path, options=ANY_ANGLES)
    assert "img_12.tif: an image of (8, 3, 5), uint16; expected (3, 5), " in reason


def test_projections_in_one_of_several_folders_are_named(tmp_path):
    """As IMAT writes."""
    path = tmp_path / "RUN"
    for name, n in (("Tomo", N), ("Flat_After", 2), ("Flat_Before", 2), ("Dark_Before", 1)):
        write_images(path / name, values(n))
    assert read_metadata(path, flats="none").n_angles == N  # Tomo is the only other one
    write_images(path / "180deg", values(1))
    assert reason_of(path).endswith(
        f"the projections seem to be in Tomo ({N} images): give {path}/Tomo/ in campaign.scans and "
        f'preprocess: {{flats: ["{path}/Flat_Before", "{path}/Flat_After"], darks: "{path}/Dark_Bef'
        'ore"}'
    )
    flats = [str(path / "Flat_Before"), str(path / "Flat_After")]
    darks = str(path / "Dark_Before")
    with open_scan(path / "Tomo", flats=flats, darks=darks, options=ANY_ANGLES) as scan:
        assert (scan.n_angles, scan.n_flats, scan.n_darks) == (N, 4, 1)
    write_images(path / "Other", values())
    assert "(Other, Tomo, 180deg with any); if each" in reason_of(path)
    assert reason_of(path).endswith(f"give {path}/*/ in campaign.scans")


def test_folders_of_flats_before_and_after_are_those_of_the_scan(tmp_path):
    path = write_folder(tmp_path / "scan")
    (path / "flats").rename(path / "flat_before")
    with open_scan(path) as scan:
        assert scan.n_flats == 3
    write_images(path / "flat_after", values(1))
    reason = reason_of(path)
    assert "2 folders of flats, flat_before, flat_after: name them in the order" in reason
    assert f'preprocess: {{flats: ["{tmp_path}/{{scan}}/flat_before", "{tmp_path}/{{s' in reason
