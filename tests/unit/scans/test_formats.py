"""What a raw file is: init, readers and flats elsewhere know every format."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from tests.exchange_files import read_metadata
from tests.nxtomo_files import DARK, FLAT, write_nxtomo
from tests.phantoms import write_scan
from tomopipe.commands.new_campaign import scan_entries
from tomopipe.config import InputBlock
from tomopipe.errors import ScanError
from tomopipe.scans.datasets import NOT_RECOGNISED
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.formats import FORMATS, HDF5, TIFF, format_of
from tomopipe.scans.hdf5_scan import LAYOUTS, entries_of

N_ANGLES, N_ROWS, N_COLS = 31, 3, 32
INPUTS = Path(__file__).parents[3] / "docs" / "reference" / "inputs.md"


def _dxchange(path, data, flats, darks, theta_deg):
    with h5py.File(path, "w") as file:
        for name, values in {"data": data, "data_white": flats, "data_dark": darks}.items():
            file[f"exchange/{name}"] = values
        file["exchange/theta"] = theta_deg


def _nxtomo(path, data, flats, darks, theta_deg):
    keys = np.repeat([DARK, FLAT, 0], [len(darks), len(flats), len(data)])
    angles = np.concatenate([np.zeros(len(darks) + len(flats)), theta_deg])
    write_nxtomo(path, keys=keys, angles=angles, data=np.concatenate([darks, flats, data]))


def _tiff(path, data, flats, darks, theta_deg):
    tifffile.imwrite(path, data, photometric="minisblack")
    for kind, frames in {"flats": flats, "darks": darks}.items():
        folder = path.parent / f"{path.stem}_{kind}"
        folder.mkdir()
        for number, frame in enumerate(frames):
            tifffile.imwrite(folder / f"{number}.tif", frame)
    path.with_suffix(".txt").write_text("\n".join(map(str, theta_deg)))


# by layout of HDF5 files, else format: writes a scan of data, flats, darks and angles into one file
EXAMPLES = {"DXchange": _dxchange, "NXtomo": _nxtomo, "TIFF": _tiff}
KINDS = {layout.name: HDF5 for layout in LAYOUTS}
KINDS |= {format_.name: format_ for format_ in FORMATS if format_ is not HDF5}


def write_example(name, path, arrays):
    assert name in EXAMPLES, f"a scan of {name} is missing: EXAMPLES in {__file__}"
    EXAMPLES[name](path, *arrays)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    path = tmp_path_factory.mktemp("known") / "a.h5"
    write_scan(path, n_angles=N_ANGLES, n_rows=N_ROWS, n_cols=N_COLS, counts=1e4)
    with h5py.File(path) as file:
        names = ("data", "data_white", "data_dark", "theta")
        return [file["exchange"][name][()] for name in names]


@pytest.fixture(params=KINDS)
def example(request, tmp_path, arrays):
    """A format, and a scan of it, or of one of its layouts, in raw/ of a campaign."""
    name = request.param
    path = tmp_path / "raw" / f"a_1{KINDS[name].endings[0]}"
    path.parent.mkdir()
    write_example(name, path, arrays)
    return KINDS[name], path


def test_formats_are_told_apart():
    endings = [ending for format_ in FORMATS for ending in format_.endings]
    assert len({*endings}) == len(endings)
    assert all(ending == ending.lower() and ending[0] == "." for ending in endings)
    begins = [first for format_ in FORMATS for first in format_.begins]
    assert not [a for a in begins for b in begins if a is not b and a.startswith(b)]
    assert all(1 <= len(first) <= 8 for first in begins)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_layouts_of_hdf5_files_are_told_apart(layout, arrays, tmp_path):
    """And the keys of its only entry read it."""
    path = tmp_path / "a.h5"
    write_example(layout.name, path, arrays)
    with h5py.File(path) as file:
        assert [each.name for each in LAYOUTS if each.entries(file, InputBlock())] == [layout.name]
    ((_, keys),) = entries_of(path).values()
    for options in ({}, keys):
        assert read_metadata(path, options=options).format == layout.name


def test_init_finds_it_and_its_content_tells_the_format(example):
    format_, path = example
    campaign = path.parents[1]
    other = path.with_name(f"b_1{path.suffix}")
    other.touch()
    entries = [f"raw/{path.name}", f"raw/{other.name}"]
    assert scan_entries(entries, campaign) == [f"raw/*{path.suffix}"]
    assert scan_entries(entries[:1], campaign) == entries[:1]
    assert format_of(path.rename(path.with_name("nameless"))) is format_


def test_it_is_read_as_it_was_written(example, arrays, tmp_path):
    """Also the flats alone, for another scan; of TIFF files all that are there are flats."""
    format_, path = example
    data, flats, darks, theta_deg = arrays
    with open_scan(path) as scan:
        assert np.array_equal(scan.read_rows(0, N_ROWS), data)
        assert np.allclose(scan.flat, flats.mean(axis=0))
        assert np.allclose(scan.dark, darks.mean(axis=0))
        assert np.allclose(np.rad2deg(scan.theta_rad), theta_deg)
    other = tmp_path / "other.h5"
    _dxchange(other, data, flats[:0], darks, theta_deg)
    alone = path.with_name("a_1_flats") if format_ is TIFF else path
    with open_scan(other, flats=alone) as scan:
        assert np.array_equal(scan.read_flats(0, N_ROWS), flats)


def test_angles_of_the_configuration(example, tmp_path):
    """A list, or a dataset where the format has any."""
    format_, path = example
    (tmp_path / "angles.txt").write_text("\n".join(map(str, range(N_ANGLES))))
    metadata = read_metadata(path, options={"angles": str(tmp_path / "angles.txt")})
    assert np.allclose(metadata.theta_deg, range(N_ANGLES))
    if format_ is not TIFF:
        return
    with pytest.raises(ScanError, match="would be a dataset of an HDF5 file"):
        read_metadata(path, options={"angles": "/exchange/theta"})
    with open_scan(path) as scan, pytest.raises(ScanError, match="TIFF files have no /ring; leave"):
        scan.read_monitor("/ring")


REFUSED = [
    {"columns": [0, 99]},
    {"skip_projections": [[0, N_ANGLES - 1]]},
    {"frames": ["3 projections"]},
    {"angles": "/no/such"},
]


@pytest.mark.parametrize("options", REFUSED, ids=lambda options: next(iter(options)))
def test_an_error_names_the_scan_once(example, options):
    _, path = example
    with pytest.raises(ScanError) as caught:
        read_metadata(path, options=options)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).count(str(path)) == 1


def test_the_pages_name_it():
    text = INPUTS.read_text()
    lacking = [
        format_.name
        for format_ in FORMATS
        if format_.name not in text or not any(end in text for end in format_.endings)
    ]
    lacking += [layout.name for layout in LAYOUTS if f"## {layout.name}" not in text]
    assert not lacking, f"docs/reference/inputs.md says nothing of {lacking}"


def test_the_error_names_every_layout():
    lacking = [layout.name for layout in LAYOUTS if layout.name not in NOT_RECOGNISED]
    assert not lacking, f"NOT_RECOGNISED in tomopipe/scans/datasets.py does not name {lacking}"
