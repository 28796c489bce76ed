"""HDF5 files of any layout, read as `input.paths` names their datasets."""

import re
from itertools import groupby, permutations

import h5py
import numpy as np
import pytest
import tifffile

from tests.exchange_files import read_metadata, reason_of
from tests.nxtomo_files import frames_of, write_nxtomo
from tests.phantoms import write_scan
from tomopipe.config import read_config
from tomopipe.errors import ScanError, TomopipeError
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.metadata import incomplete

N_ANGLES, SHAPE = 31, {"n_angles": 31, "n_rows": 3, "n_cols": 32}
TOMO = "/entry1/tomo_entry"
HTTOMO = {
    "data": f"{TOMO}/data/data",
    "image_key": f"{TOMO}/instrument/detector/image_key",
    "angles": f"{TOMO}/data/rotation_angle",
}
SAVU = {"data": "entry/final_result_tomo/data", "angles": "entry/final_result_tomo/rotation_angle"}
APART = {
    "data": "/entry/data/data",
    "flats": "/entry/flat",
    "darks": "/entry/dark",
    "angles": "/entry/stage/position",
}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """Frames of a phantom, and the file that has them as DXchange."""
    path = tmp_path_factory.mktemp("raw") / "a_1.h5"
    write_scan(path, counts=10000, dtype="u2", **SHAPE)
    with h5py.File(path) as file:
        parts = ("data", "data_white", "data_dark", "theta")
        return path, *(file["exchange"][name][()] for name in parts)


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def httomo(path, phantom):
    """Darks, flats, projections, flats, a frame without beam: no group has a class."""
    _, data, flats, darks, theta = phantom
    keys = np.repeat([2, 1, 0, 1, 3], [len(darks), 2, N_ANGLES, len(flats) - 2, 1])
    angles = np.zeros(len(keys))
    angles[keys == 0] = theta
    frames = np.concatenate([darks, flats[:2], data, flats[2:], data[:1] * 0])
    values = dict(zip(("data", "image_key", "angles"), (frames, keys, angles), strict=True))
    return write(path, **{HTTOMO[key]: values[key] for key in HTTOMO})


def apart(path, phantom):
    values = dict(zip(("data", "flats", "darks", "angles"), phantom[1:], strict=True))
    return write(path, **{APART[key]: values[key] for key in APART})


@pytest.mark.parametrize(("layout", "paths"), [(httomo, HTTOMO), (apart, APART)])
def test_each_layout_reads_as_the_usual_one(tmp_path, phantom, layout, paths):
    path = layout(tmp_path / "b_1.nxs", phantom)
    known = {"paths": paths}
    found = read_metadata(path, options=known)
    assert (found.format, incomplete(found)) == ("HDF5", "")
    assert ("2 sets" in found.found) == (layout is httomo)
    with open_scan(phantom[0]) as usual, open_scan(path, options=known) as scan:
        np.testing.assert_allclose(scan.theta_rad, usual.theta_rad)
        for expected, found in zip(all_of(usual), all_of(scan), strict=True):
            np.testing.assert_array_equal(found, expected)


def all_of(scan):
    n_rows = SHAPE["n_rows"]
    return scan.read_frames(range(N_ANGLES)), scan.read_flats(0, n_rows), scan.dark


def test_corrected_projections_have_no_flats(tmp_path, phantom):
    """As Savu writes them: transmission, angles beside it."""
    _, data, flats, darks, theta = phantom
    dark = darks.mean(0)
    corrected = ((data - dark) / (flats.mean(0) - dark)).astype("f4")
    path = write(tmp_path / "c_1.h5", **dict(zip(SAVU.values(), (corrected, theta), strict=True)))
    known = {"paths": SAVU}
    assert re.search(r"no flats are named; the file has .*prep", reason_of(path, options=known))
    with open_scan(path, flats="none", darks="none", options=known) as scan:
        np.testing.assert_array_equal(scan.read_rows(0, 3), corrected)
        np.testing.assert_allclose(scan.theta_rad, np.deg2rad(theta))


def test_frames_without_keys_are_counted(tmp_path, phantom):
    keyed = httomo(tmp_path / "b_1.nxs", phantom)
    keys = {"paths": HTTOMO}
    with h5py.File(keyed) as file:
        kinds = np.array(["projections", "flats", "darks", "invalid"])[file[HTTOMO["image_key"]][:]]
    runs = [f"{len(list(run))} {kind}" for kind, run in groupby(kinds)]
    counted = {"paths": {**HTTOMO, "image_key": None}, "frames": runs}
    with open_scan(keyed, options=keys) as expected, open_scan(keyed, options=counted) as scan:
        np.testing.assert_array_equal(scan.theta_rad, expected.theta_rad)
        assert scan.flat_positions.tolist() == expected.flat_positions.tolist()
        for values, expected_values in zip(all_of(scan), all_of(expected), strict=True):
            np.testing.assert_array_equal(values, expected_values)
    one = counted | {"frames": ["1 projections"]}
    assert "input.frames counts 1: correct it" in reason_of(keyed, options=one)
    more = read_metadata(keyed, options=counted | {"frames": [*runs, "1 flat"]})
    assert "aborted: " in incomplete(more)


def test_flats_of_another_file_stand_where_the_paths_say(tmp_path, phantom):
    _, data, flats, darks, theta = phantom
    path = write(tmp_path / "d_1.h5", entry__data__data=data, entry__theta=theta)
    other = write(tmp_path / "flats.h5", entry__white=flats)
    known = {"paths": {"data": "/entry/data/data", "flats": "/entry/white"}}
    found = read_metadata(path, flats=other, darks="none", options=known)
    assert found.warnings == ("angles of /entry/theta, by its name and length",)
    # darks: of a file that is recognised
    with open_scan(path, flats=other, darks=phantom[0], options=known) as scan:
        np.testing.assert_array_equal(scan.read_flats(0, 3), flats)
        np.testing.assert_allclose(scan.dark, darks.mean(axis=0))
    keyed = httomo(tmp_path / "k.nxs", phantom)
    with open_scan(keyed, flats=keyed, options={"paths": HTTOMO}) as scan:
        np.testing.assert_array_equal(scan.read_flats(0, 3), flats)


def test_flats_in_a_scan_of_their_own_that_keys_mark_as_projections(tmp_path):
    path = write_nxtomo(tmp_path / "s_1.nx")
    flats = write_nxtomo(tmp_path / "s_2.nx", keys=np.zeros(4, int), angles=np.zeros(4))
    place = "/entry0000/data/data"
    hint = rf"or, if its frames are flats, input\.paths\.flats to {place}"
    with pytest.raises(ScanError, match=hint), open_scan(path, flats=flats):
        pass
    with open_scan(path, flats=flats, options={"paths": {"flats": place}}) as scan:
        np.testing.assert_array_equal(scan.read_flats(0, 3), frames_of(np.zeros(4)))


def test_of_a_file_of_unknown_layout_the_only_stack_is_taken(tmp_path, phantom):
    # as HTTomo's tests have their flats and darks: what another program has written
    path, _, flats, darks, _ = phantom
    name = "1-NoProcessPlugin-tomo__data"
    other = {
        "flats": write(tmp_path / "flat_field.h5", **{name: flats, "tomo__energy": np.ones(4)}),
        "darks": write(tmp_path / "dark_field.h5", **{name: darks}),
    }
    found = read_metadata(path, **other)
    assert f"{other['flats']}: /1-NoProcessPlugin-tomo/data" in found.found
    with open_scan(path, **other) as scan:
        np.testing.assert_array_equal(scan.read_flats(0, 3), flats)
        np.testing.assert_allclose(scan.dark, darks.mean(axis=0))
    with h5py.File(other["flats"], "r+") as file:
        file["second"] = flats[:1]
    reason = r"which dataset has the flats\? It has /1-NoPro.* name it in input\.paths\.flats"
    assert re.search(reason, reason_of(path, **other))
    # in a DXchange file they could be projections
    alone = write(tmp_path / "white.h5", exchange__data=flats)
    reason = reason_of(path, flats=alone, darks="none")
    assert re.search(r"white.h5: which .* input\.paths\.flats$", reason)
    for paths in ({"flats": "/exchange/data"}, dict.fromkeys(("data", "flats"), "/exchange/data")):
        with open_scan(path, flats=alone, darks="none", options={"paths": paths}) as scan:
            np.testing.assert_array_equal(scan.read_flats(0, 3), flats)
    reason = reason_of(path, options={"paths": {"flats": "/exchange/data"}})
    assert re.search(r"paths\.flats: /exchange/data .* set preprocess\.flats", reason)
    # not the axes that the projections have
    with h5py.File(other["flats"], "r+") as file:
        del file["second"], file["1-NoProcessPlugin-tomo"]
        file["turned"] = flats.transpose(0, 2, 1)
    assert "turned has frames of (32, 3); expected (3, 32)" in reason_of(path, **other)


def _reduced(path, kind, images):
    """Write means as nabu does: by the number of the first frame they are of."""
    with h5py.File(path, "w") as file:
        for number, image in images.items():
            file[f"entry0000/{kind}/{number}"] = image.astype("f4")
        file[f"entry0000/{kind}/count_time"] = np.ones(len(images))
    return path


def mirror(entry):
    entry["instrument/detector/x_flipped"] = True


@pytest.mark.parametrize("change", [mirror, None])
def test_reduced_flats_stand_where_their_numbers_say(tmp_path, change):
    path = write_nxtomo(tmp_path / "s_1.nx", change=change)  # flats: 2, 3; 7; 12, 13
    frames = frames_of()
    sets = {first: frames[first : first + n].mean(0) for first, n in ((12, 2), (2, 2), (7, 1))}
    flats = _reduced(tmp_path / "s_1_flats.hdf5", "flats", sets)
    darks = _reduced(tmp_path / "s_1_darks.hdf5", "darks", {0: frames[:2].mean(axis=0)})
    found = read_metadata(path, flats=flats, darks=darks)
    assert f"flats {flats}: /entry0000/flats/, 3 frames in 3 sets" in found.found
    assert found.energy_kev == 25
    with open_scan(path) as usual, open_scan(path, flats=flats, darks=darks) as scan:
        assert scan.flat_positions.tolist() == [0, 3, 6]
        for a, b in zip(scan.flat_sets, usual.flat_sets, strict=True):
            assert a.position == b.position
            np.testing.assert_allclose(a.mean, b.mean)
        np.testing.assert_allclose(scan.dark, usual.dark)
        np.testing.assert_array_equal(scan.read_rows(0, 3), usual.read_rows(0, 3))


def test_flats_of_a_file_that_states_no_mirror_lie_as_the_frames_of_the_scan(tmp_path):
    path = write_nxtomo(tmp_path / "s_1.nx", change=mirror)
    frames = frames_of()
    (tmp_path / "flats").mkdir()
    for number, frame in enumerate(frames[2:4]):
        tifffile.imwrite(tmp_path / "flats" / f"flat_{number}.tif", frame)
    stack = write(tmp_path / "flats.h5", any__name=frames[2:4])
    image = write(tmp_path / "flat.h5", white=frames[2:4].mean(axis=0))
    named = {"paths": {"flats": "/any/name"}}
    stated = write_nxtomo(tmp_path / "s_2.nx", change=mirror)
    with open_scan(path) as usual:
        expected = usual.flat_sets[0].mean
    for flats, known in ((stack, {}), (stack, named), (image, {}), (tmp_path / "flats", {})):
        with open_scan(path, flats=flats, options=known) as scan:
            np.testing.assert_allclose(scan.flat, expected, err_msg=str(flats))
    for known in ({}, {"mirrored": "no"}):  # mirrored once, or not at all
        with open_scan(path, options=known) as own:
            expected = own.read_flats(0, frames.shape[1])
        with open_scan(path, flats=stated, options=known) as scan:
            np.testing.assert_array_equal(scan.read_flats(0, frames.shape[1]), expected)


def test_the_only_image_of_a_file_is_a_flat(tmp_path, phantom):
    path, _, flats, darks, _ = phantom
    both = write(tmp_path / "both.h5", a__flats__0=flats[0], a__darks__0=darks[0])
    only = write(tmp_path / "only.h5", white=flats[1], exposure=np.ones(5))
    for flat, image in ((both, flats[0]), (only, flats[1])):
        with open_scan(path, flats=flat, darks=both) as scan:
            np.testing.assert_array_equal(scan.read_flats(0, 3), image[None])
            np.testing.assert_array_equal(scan.dark, darks[0])
    with open_scan(path, flats=[both, both], darks=both) as scan:
        assert scan.flat_positions.tolist() == [0, N_ANGLES]
    with h5py.File(only, "r+") as file:
        file["other"] = flats[0]
    assert reason_of(path, flats=only).endswith("input.paths.flats")
    known = {"paths": {"flats": "/other"}}
    with open_scan(path, flats=only, darks="none", options=known) as scan:
        np.testing.assert_array_equal(scan.read_flats(0, 3), flats[:1])


def test_an_aborted_scan_has_fewer_frames_than_keys(tmp_path, phantom):
    path = httomo(tmp_path / "b_1.nxs", phantom)
    with h5py.File(path, "r+") as file:
        frames = file.pop(HTTOMO["data"])[:20]
        file[HTTOMO["data"]] = frames
    known = {"paths": HTTOMO}
    assert incomplete(read_metadata(path, options=known)).startswith("aborted: 15 frames for 31")
    with open_scan(path, options=known, partial=True) as scan:
        np.testing.assert_allclose(scan.theta_rad, np.deg2rad(phantom[4][:15]))
    for paths in (HTTOMO, {**HTTOMO, "angles": None}, {**HTTOMO, "angles": "/nowhere"}):
        ranged = {"paths": paths, "angles": {"start": 0, "stop": 180}}
        assert incomplete(read_metadata(path, options=ranged)).startswith("aborted: ")
        with open_scan(path, options=ranged, partial=True) as scan:
            assert np.rad2deg(scan.theta_rad) == pytest.approx(np.linspace(0, 180, 31)[:15])


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        ({"data": "/entry/frames"}, r"no /entry/frames; the file has /entry/data/data \(31, 3, 32"),
        ({"data": "/entry/flat2"}, r"/entry/flat2 has shape \(3, 32\); expected 3-D"),
        ({"data": "/entry/data"}, "is a group"),
        ({"angles": "/nowhere"}, r"no /nowhere; .* correct input\.paths\.angles, .* overrides"),
        ({"image_key": "/entry/key"}, "has 5 keys for 31 frames"),
        ({"image_key": "/entry/flat"}, "expected 1-D"),
        ({"darks": None}, r"no darks are named; .* set input\.paths\.darks"),
    ],
)
def test_what_is_wrong_with_a_path(tmp_path, phantom, paths, reason):
    path = apart(tmp_path / "b_1.h5", phantom)
    with h5py.File(path, "r+") as file:
        file["entry/flat2"], file["entry/key"] = phantom[2][0], np.zeros(5, int)
    assert re.search(reason, reason_of(path, options={"paths": APART | paths}))


def test_paths_need_the_frames(tmp_path):
    (tmp_path / "config.yaml").write_text("campaign: {scans: [a]}\ninput: {paths: {angles: /f}}\n")
    with pytest.raises(TomopipeError, match=r"input\.paths.*needs data"):
        read_config(tmp_path / "config.yaml")


def test_a_file_that_is_not_recognised_shows_its_datasets(tmp_path, phantom):
    path = apart(tmp_path / "b_1.h5", phantom)
    assert re.search(r"input\.paths .* it has /entry/data/data \(31, 3, 32\), ", reason_of(path))


def test_frames_in_several_datasets_are_one_scan_as_a_virtual_one(tmp_path, phantom):
    """As an Eiger, and 8.3.2 of the ALS, write them."""
    path, data, _, _, theta = phantom
    parts = {f"entry/data/data_{n:06d}": data[16 * n :][:16] for n in range(2)}
    master = tmp_path / "master.h5"
    with h5py.File(master, "w") as file:
        for name, part in parts.items():
            file[name] = part
    hint = r"; frames of \(3, 32\) are in 2 datasets /entry/data/data_#: a virtual dataset "
    assert re.search(hint, reason_of(master))
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    for number, (name, part) in enumerate(parts.items()):
        begin = 16 * number
        layout[begin : begin + len(part)] = h5py.VirtualSource(master, name, part.shape)
    with h5py.File(tmp_path / "s_1.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
        file["angles"] = theta
    options = {"paths": {"data": "/data", "angles": "/angles"}}
    with open_scan(tmp_path / "s_1.h5", flats=path, darks=path, options=options) as scan:
        np.testing.assert_array_equal(scan.read_rows(0, 3), data)


def test_options_that_are_not_of_a_layout_are_refused(tmp_path, phantom):
    sinograms = {"axes": ["row", "angle", "col"]}
    reason = reason_of(phantom[0], options={"frames": ["900 projections"]})
    assert "input.frames is for TIFF files, or datasets" in reason
    reason = incomplete(read_metadata(phantom[0], options=sinograms, flats="none", darks="none"))
    assert "is input.axes: [row, angle, col] right?" in reason
    reason = reason_of(write_nxtomo(tmp_path / "a.nxs"), options=sinograms)
    assert re.search(r"input\.axes: row, angle, col .* set input\.paths\.data", reason)


@pytest.mark.parametrize("axes", [*permutations(("angle", "row", "col"))])
def test_axes_in_another_order_give_the_same_frames(tmp_path, phantom, axes):
    path, data, flats, darks, theta = phantom
    order = [("angle", "row", "col").index(axis) for axis in axes]
    with h5py.File(tmp_path / "s_1.h5", "w") as file:
        file.create_dataset("a/data", data=data.transpose(order), chunks=(2, 2, 2))
        file["a/flats"], file["a/angle"] = flats.transpose(order), theta
        file["a/darks"] = darks[0].T if order.index(2) < order.index(1) else darks[0]
    paths = {"data": "/a/data", "flats": "/a/flats", "darks": "/a/darks"}
    known = {"paths": paths, "axes": list(axes)}
    with open_scan(path) as usual, open_scan(tmp_path / "s_1.h5", options=known) as scan:
        for span in ((0, 3), (1, 2)):
            np.testing.assert_array_equal(scan.read_rows(*span), usual.read_rows(*span))
        np.testing.assert_array_equal(scan.read_block((3, 9), (0, 2)), data[3:9, :2])
        np.testing.assert_array_equal(scan.read_flats(0, 3), flats)
        np.testing.assert_array_equal(scan.dark, darks[0])


def test_flats_of_sinograms_may_be_images(tmp_path, phantom):
    _, data, flats, darks, theta = phantom
    flats, darks = flats[:2], darks[:1]  # as many as rows would be taken as sinograms
    write(tmp_path / "s_1.h5", data=data.swapaxes(0, 1), angle=theta, flats=flats, darks=darks)
    paths = {"data": "/data", "flats": "/flats", "darks": "/darks"}
    known = {"paths": paths, "axes": ["row", "angle", "col"]}
    with open_scan(tmp_path / "s_1.h5", options=known) as scan:
        np.testing.assert_array_equal(scan.read_flats(0, 3), flats)
        np.testing.assert_array_equal(scan.dark, darks[0])
        np.testing.assert_array_equal(scan.read_rows(0, 3), data)
    reason = reason_of(tmp_path / "s_1.h5", options={"paths": paths})
    assert "are the projections sinograms? Set input.axes: " in reason


@pytest.mark.parametrize("with_flats", [True, False])
def test_sinograms_in_a_dxchange_file_need_their_axes_alone(tmp_path, phantom, with_flats):
    path, data, flats, darks, theta = phantom
    with h5py.File(tmp_path / "s_1.h5", "w") as file:
        file["exchange/data"], file["exchange/theta"] = data.transpose(1, 0, 2), theta
        if with_flats:
            file["exchange/data_white_post"] = flats.transpose(1, 0, 2)
            file["exchange/data_dark"] = darks.transpose(1, 0, 2)
    others = {} if with_flats else {"flats": path, "darks": path}
    known = {"axes": ["row", "angle", "col"]}
    with open_scan(path) as usual, open_scan(tmp_path / "s_1.h5", options=known, **others) as scan:
        np.testing.assert_array_equal(scan.read_rows(0, 3), data)
        np.testing.assert_array_equal(scan.read_flats(0, 3), usual.read_flats(0, 3))
        np.testing.assert_array_equal(scan.theta_rad, usual.theta_rad)
    found = read_metadata(tmp_path / "s_1.h5", options=known, **others)
    assert found.format == "DXchange"
    others = {} if with_flats else {"flats": "none", "darks": "none"}
    hint = r"are the projections sinograms\? Set input\.axes: \[row, angle, col\]"
    with pytest.raises(ScanError, match=hint), open_scan(tmp_path / "s_1.h5", **others):
        pass


def test_axes_in_the_order_of_matlab_are_asked_for(tmp_path, phantom):
    _, data, flats, darks, theta = phantom
    stacks = {"data": data, "data_white": flats, "data_dark": darks}
    with h5py.File(tmp_path / "m_1.h5", "w") as file:
        for name, stack in stacks.items():
            file[f"exchange/{name}"] = stack.transpose(2, 1, 0)
        file["exchange/theta"] = theta
    hint = r"is the last axis that of the angles\? Set input\.axes: \[col, row, angle\]"
    with pytest.raises(ScanError, match=hint), open_scan(tmp_path / "m_1.h5"):
        pass
    with open_scan(tmp_path / "m_1.h5", options={"axes": ["col", "row", "angle"]}) as scan:
        np.testing.assert_array_equal(scan.read_rows(0, 3), data)


def test_sinogram_images_one_file_per_row(tmp_path, phantom):
    _, data, flats, _, theta = phantom
    folder = tmp_path / "s_1"
    (folder / "flats").mkdir(parents=True)
    for row in range(3):
        tifffile.imwrite(folder / f"sino_{row}.tif", data[:, row])
    for number, flat in enumerate(flats):
        tifffile.imwrite(folder / "flats" / f"{number}.tif", flat)
    np.savetxt(folder / "angles.txt", theta)
    known = {"axes": ["row", "angle", "col"]}
    assert incomplete(read_metadata(folder, darks="none", options=known)) == ""
    with open_scan(folder, darks="none", options=known) as scan:
        np.testing.assert_array_equal(scan.read_rows(0, 3), data)
        np.testing.assert_array_equal(scan.read_flats(0, 3), flats)
    (folder / "sino_1.tif").write_bytes(b"")
    assert "the first 0 of 31" in incomplete(read_metadata(folder, darks="none", options=known))
