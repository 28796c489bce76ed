"""What lies in folders and beside stacks that cannot be read is named, with the lines to write."""

import numpy as np
import pytest
import tifffile
import yaml

from tests.exchange_files import read_metadata, reason_of
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.folder_hints import kind_of
from tomopipe.scans.metadata import incomplete

N, SIZE = 12, (3, 5)
ANGLES = {"angles": {"start": 0, "stop": 180}}


def frames(n=N, first=0):
    return np.arange(first, first + n, dtype="u2")[:, None, None] + np.zeros(SIZE, "u2")


def write_images(folder, images, name="ct_{:04d}.tif"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        tifffile.imwrite(folder / name.format(number), image)


def write_pages(path, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, images, photometric="minisblack", metadata=None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[(name, "flats") for name in ("ob", "OB", "obx", "xob", "OpenBeam", "beam_on")],
        *[(name, "flats") for name in ("openbeam", "OB_before", "ob_30s", "nff", "xff", "ffx")],
        *[(name, "flats") for name in ("flat_fields", "Flats", "white", "brights", "01_ob", "OB1")],
        *[
            (name, "darks")
            for name in ("dc", "DC", "dcx", "xdc", "ndc", "dark_current", "di", "df")
        ],
        *[(name, "darks") for name in ("DarkCurrent", "darkcurrent", "xdark", "darkx", "ndark")],
        *[(name, "darks") for name in ("Dark_After", "background", "Black", "beam_off")],
        *[(name, None) for name in ("ct", "tomo", "180deg", "object", "disc", "direct", "rec")],
        *[(name, None) for name in ("projections", "dcm", "sample_A", "off", "refined")],
    ],
)
def test_what_names_of_folders_may_mean(name, kind):
    assert kind_of(name) == kind


@pytest.mark.parametrize("where", ["in", "beside", "below"])
@pytest.mark.parametrize(("flats", "darks"), [("ob", "dc"), ("Open_Beam", "dark_current")])
def test_the_lines_for_open_beam_and_dark_current(tmp_path, where, flats, darks):
    """What the reason says to set gives the scan its flats and darks."""
    scan = tmp_path / "psi" / "ct" if where == "beside" else tmp_path / "psi"
    write_images(scan, frames())
    write_images(tmp_path / "psi" / flats, frames(4, 500), "ob_{}.tif")
    write_images(tmp_path / "psi" / darks, frames(2, 7), "dc_{}.tif")
    if where == "in":  # several folders of flats, of which one is after the scan
        write_images(tmp_path / "psi" / f"{flats}_after", frames(3, 600), "ob_{}.tif")
    scan = tmp_path if where == "below" else scan
    reason = reason_of(scan, options=ANGLES)
    text = reason[reason.index("preprocess: {") : reason.index("}; else") + 1]
    lines = yaml.safe_load(text)["preprocess"]
    paths = {
        kind: [str(p).format(scan=scan.name) for p in ([v] if isinstance(v, str) else v)]
        for kind, v in lines.items()
    }
    with open_scan(scan, options=ANGLES, **paths) as opened:
        assert opened.n_flats == (7 if where == "in" else 4)
        assert opened.read_flats(0, 1)[:4, 0, 0].tolist() == [500, 501, 502, 503]
        assert opened.dark[0, 0] == 7.5


@pytest.mark.parametrize("has_list", [True, False])
def test_scans_beside_a_scan_are_not_suggested_as_its_flats(tmp_path, has_list):
    write_images(tmp_path / "scan", frames())
    write_images(tmp_path / "white_paint", frames())
    if has_list:
        (tmp_path / "white_paint" / "angles.txt").touch()
    assert ("white_paint" in reason_of(tmp_path / "scan", options=ANGLES)) != has_list


def test_folders_whose_names_say_nothing_are_named(tmp_path):
    for name in (".", "first", "last"):
        write_images(tmp_path / "scan" / name, frames())
    reason = reason_of(tmp_path / "scan", options=ANGLES)
    line = f'preprocess: {{flats: "{tmp_path}/{{scan}}/first"}}'
    assert f"if they are in first or last, set {line}; else set preprocess" in reason


def test_projections_beside_open_beam_and_dark_current(tmp_path):
    for name, n in (("ct", N), ("ob", 8), ("dc", 8)):
        write_images(tmp_path / "psi" / name, frames(n))
    reason = reason_of(tmp_path / "psi")
    assert f"projections seem to be in ct ({N} images): give {tmp_path}/psi/ct/ in" in reason
    lines = f'preprocess: {{flats: "{tmp_path}/psi/ob", darks: "{tmp_path}/psi/dc"}}'
    assert reason.endswith(lines)


@pytest.mark.parametrize("ending", [".edf", ".fits", ".img", ".raw", ".PNG", ".jpg", ".edf.gz"])
@pytest.mark.parametrize("below", ["", "images/"])
def test_images_of_other_kinds_are_named_with_their_number(tmp_path, ending, below):
    folder = tmp_path / "scan" / below
    folder.mkdir(parents=True)
    for number in range(20):
        (folder / f"a_{number}{ending}").write_bytes(b"0")
    (tmp_path / "scan" / "notes.txt").write_text("remarks")
    reason = reason_of(tmp_path / "scan")
    assert f"it has {ending.lower()}: 20 files, which are not read" in reason
    assert reason.endswith("images must be TIFF or HDF5: convert them")


def test_a_folder_of_mixed_kinds(tmp_path):
    for ending, n in ((".log", 9), (".edf", 2), ("", 1)):
        for number in range(n):
            (tmp_path / f"a_{number}{ending}").touch()
    assert "it has .edf: 2 files, .log: 9 files, 1 file without an ending, which" in reason_of(
        tmp_path
    )


@pytest.mark.parametrize("n", [1, 5, 6, 20])
def test_images_beside_tiff_images_that_are_not_read_are_a_warning(tmp_path, n):
    """Single previews are not; as many as half of the images are."""
    write_images(tmp_path, frames())
    for number in range(n):
        (tmp_path / f"a_{number}.edf").touch()
    metadata = read_metadata(tmp_path, options=ANGLES, flats="none", darks="none")
    told = [text for text in metadata.warnings if f".edf: {n} files, which are not read" in text]
    assert len(told) == (n >= 6)
    assert metadata.n_angles == N


def split(folder, names, lengths=(5, 5, 2)):
    first = 0
    for name, n in zip(names, lengths, strict=True):
        write_pages(folder / name, frames(n, first))
        first += n


NUMBERED = ["scan_0001.tif", "scan_0002.tif", "scan_0003.tif"]


@pytest.mark.parametrize(
    ("names", "lengths", "is_told"),
    [
        (NUMBERED, (50, 50, 20), True),
        (["scan.tif", "scan_1.tif", "scan_2.tif"], (50, 50, 50), True),
        (["scan.tif", "scan@0001.tif", "scan@0002.tif"], (50, 50, 50), True),
        (["scan.tif", "scan_X2.tif", "scan_X3.tif"], (50, 50, 50), True),
        (NUMBERED, (50, 50, 50), False),
        (NUMBERED, (50, 20, 50), False),
    ],
    ids=[
        "the last is shorter",
        "the first has no number",
        "of PCO",
        "of Andor",
        "alike",
        "another is shorter",
    ],
)
def test_parts_of_a_stack_that_are_given_as_scans(tmp_path, names, lengths, is_told):
    """Each is read alone, with a warning where they look like parts."""
    split(tmp_path / "raw", names, lengths)
    path = tmp_path / "raw" / names[0]
    metadata = read_metadata(path, options=ANGLES, flats="none", darks="none")
    remedy = f"if {', '.join(names)} are parts of one stack: parts are joined only in a folder of"
    assert metadata.n_angles == 50
    assert any(text.startswith(remedy) for text in metadata.warnings) == is_told
    assert f"{remedy} their own" in reason_of(path, options=ANGLES)  # without flats
    (tmp_path / "raw" / path.stem).with_suffix(".txt").write_text("1\n" * 50)  # scans of their own
    metadata = read_metadata(path, options=ANGLES, flats="none", darks="none")
    assert metadata.warnings == ()


def test_parts_of_a_stack_in_a_folder_are_one_scan(tmp_path):
    split(tmp_path / "scan", NUMBERED)
    options = {"options": ANGLES, "flats": "none", "darks": "none"}
    with open_scan(tmp_path / "scan", **options) as scan:
        assert scan.read_rows(0, 1)[:, 0, 0].tolist() == list(range(N))
    first = tmp_path / "scan" / NUMBERED[0]
    first.rename(first.with_stem("scan"))
    reason = reason_of(tmp_path / "scan", **options)
    assert "rename scan.tif to scan_0000.tif: numbers tell their order" in reason
    first.with_stem("scan").rename(first.with_stem("scan_0000"))
    with open_scan(tmp_path / "scan", **options) as scan:
        assert scan.read_rows(0, 1)[:, 0, 0].tolist() == list(range(N))


def test_a_stack_of_ome_in_two_files(tmp_path):
    """The metadata of each file count the pages of both, as MicroManager writes them."""
    names = ["s_MMStack_Pos0.ome.tif", "s_MMStack_Pos0_1.ome.tif"]
    blocks = "".join(
        f'<TiffData IFD="{ifd}" FirstZ="{6 * part + ifd}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{part}</UUID></TiffData>'
        for part, name in enumerate(names)
        for ifd in range(6)
    )
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="5" SizeY="3"'
        f' SizeZ="{N}" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f"{blocks}</Pixels></Image></OME>"
    )
    for part, name in enumerate(names):
        (tmp_path / "scan").mkdir(exist_ok=True)
        tifffile.imwrite(
            tmp_path / "scan" / name, frames(6, 6 * part), description=text, metadata=None,
            photometric="minisblack",
        )  # fmt: skip
    with tifffile.TiffFile(tmp_path / "scan" / names[0]) as file:
        assert file.series[0].shape == (N, *SIZE)
    options = {"options": ANGLES, "flats": "none", "darks": "none"}
    path = tmp_path / "scan" / names[0]
    part = read_metadata(path, **options)
    assert (part.n_angles, incomplete(part)) == (6, "")
    (warning,) = part.warnings
    assert warning.startswith(f"if {', '.join(names)} are parts of one stack")
    numbered = path.with_name("s_MMStack_Pos0_0.ome.tif")
    assert f"rename {names[0]} to {numbered.name}: " in reason_of(path.parent, **options)
    path.rename(numbered)
    with open_scan(path.parent, **options) as scan:
        assert scan.read_rows(0, 1)[:, 0, 0].tolist() == list(range(N))


@pytest.mark.parametrize(("name", "n_edf"), [("ob", 0), ("ob", 20), ("tif", 20), ("tif", 1)])
def test_a_folder_whose_only_tiff_images_may_be_flats(tmp_path, name, n_edf):
    """Images of another kind are the projections; a single preview is not."""
    write_images(tmp_path / "scan" / name, frames())
    for number in range(n_edf):
        (tmp_path / "scan" / f"ct_{number}.edf").touch()
    if (name, n_edf) == ("tif", 1):
        metadata = read_metadata(tmp_path / "scan", options=ANGLES, flats="none", darks="none")
        assert metadata.n_angles == N
        return
    reason = reason_of(tmp_path / "scan", options=ANGLES, flats="none", darks="none")
    assert f"without TIFF files, but for {N} in {name}/" in reason
    assert (".edf: 20 files, which are not read" in reason) == (n_edf > 0)


def test_flats_beside_projections_that_are_not_read(tmp_path):
    write_images(tmp_path, frames(), "ob_{}.tif")
    for number in range(181):
        (tmp_path / f"ct_{number}.edf").touch()
    assert ".edf: 181 files, which are not read" in reason_of(tmp_path, options=ANGLES)


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "a.edf").write_bytes(b"{ HeaderID" + bytes(3000))
    assert reason_of(tmp_path / "a.edf").endswith("is read: convert it to TIFF or HDF5")
