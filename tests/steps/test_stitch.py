"""Stitching: a tall phantom, scanned in three overlapping parts, against the tall scan itself."""

import json

import h5py
import numpy as np
import pytest
from scipy import ndimage

from tests.phantoms import make_phantom, write_scan
from tests.step_calls import full_recon, stitch
from tomopipe.config import FullReconBlock
from tomopipe.errors import TomopipeError
from tomopipe.resources.jobs import stitch_mb
from tomopipe.stitching.blending import Placed, Resampled, blended, ramps
from tomopipe.stitching.overlap import Part, block_means, find_shift
from tomopipe.stream.provenance import origin_of
from tomopipe.volumes.encoding import encoding_of
from tomopipe.volumes.volume import new_volume
from tomopipe.volumes.volume_read import open_volume, read_provenance

N_COLS, N_ROWS, N_ANGLES = 64, 40, 101
SCANS = ("bone_1", "bone_2", "bone_3")
# z, y, x of each scan's first voxel in the stitched volume, and its COR
PLACES = {
    "bone_1": ((0.0, 0.0, 0.0), 33.3),
    "bone_2": ((28.4, 0.6, -1.3), 29.8),
    "bone_3": ((55.15, -0.4, 2.2), 32.4),
}
TALL_ROWS = 95  # the rows from 0 to 55.15 + 39


def reconstructed(path, phantom, cor_px, n_rows, *, seed, counts=20000):
    """Write the volume of a scan of the phantom, and return its values."""
    size = {"n_angles": N_ANGLES, "n_cols": N_COLS, "n_rows": n_rows}
    raw = path.with_name(path.name.replace("_rec", ""))
    write_scan(raw, phantom=phantom, cor_px=cor_px, counts=counts, seed=seed, **size)
    full_recon(raw, path, cor_px=cor_px)
    return values_of(path)


def values_of(path):
    with open_volume(path) as volume:
        return np.stack([volume.read_slice(row) for row in range(volume.shape[0])])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The volumes of three scans, and what one scan of the whole height shows."""
    folder = tmp_path_factory.mktemp("stack")
    tall = make_phantom("rock", N_COLS, TALL_ROWS, seed=5)
    volumes = []
    for seed, scan in enumerate(SCANS):
        (z, y, x), cor_px = PLACES[scan]
        volumes.append(folder / f"{scan}_rec.h5")
        reconstructed(volumes[-1], tall.moved(-x, -y, -z), cor_px, N_ROWS, seed=seed)
    whole = reconstructed(folder / "tall_rec.h5", tall, 31.9, TALL_ROWS, seed=9)
    clean = reconstructed(folder / "clean_rec.h5", tall, 31.9, TALL_ROWS, seed=9, counts=None)
    return folder, volumes, whole, clean


@pytest.fixture(scope="module")
def stitched(made):
    folder, volumes, _, _ = made
    found = stitch(volumes, folder / "bone.h5", folder / "bone.json", stack="bone", scans=SCANS)
    return folder / "bone.h5", found


def inside(volume):
    """Voxels well within the field of view of all scans."""
    y, x = np.mgrid[:N_COLS, :N_COLS] - (N_COLS - 1) / 2
    return volume[:, np.hypot(y, x) < 0.42 * N_COLS]


def first_rows(found):
    return [scan["first_row"] for scan in found["scans"]]


def test_shifts_are_those_of_the_stage(stitched):
    _, found = stitched
    for pair, before, after in zip(found["pairs"], SCANS, SCANS[1:], strict=False):
        truth = np.subtract(PLACES[after][0], PLACES[before][0])
        assert [pair[key] for key in ("z_px", "y_px", "x_px")] == pytest.approx(truth, abs=0.05)
        assert pair["overlap_rows"] == pytest.approx(N_ROWS - truth[0], abs=0.05)
        assert pair["correlation"] > 0.9
    assert first_rows(found) == pytest.approx([0, 28.4, 55.15], abs=0.1)


def test_stitched_volume_is_the_tall_one(made, stitched):
    _, _, whole, clean = made
    got = values_of(stitched[0])
    assert got.shape == whole.shape
    error, noise = inside(got - clean), inside(whole - clean)
    # no row is worse than in a scan of the whole height, and no row has another mean
    share = error.std(axis=1) / noise.std(axis=1)
    assert share.max() < 1.5
    assert share.mean() < 1.1
    assert np.abs(error.mean(axis=1)).max() < 0.1 * np.std(noise)
    # half of each of two scans: less noise
    assert share[33:35].mean() < 0.9 * share[5:25].mean()


def test_no_seam(made, stitched):
    _, _, whole, clean = made
    error, noise = inside(values_of(stitched[0]) - clean), np.std(inside(whole - clean))
    borders = [27, 28, 39, 40, 55, 67, 68]  # before which an overlap begins or ends
    steps = np.diff(error, axis=0)[borders]
    assert np.abs(steps.mean(axis=1)).max() < 0.2 * noise
    assert steps.std(axis=1).max() < 1.1 * np.sqrt(2) * noise  # that of two rows of one scan


def test_order_and_direction_are_found(made):
    """Listed from the lowest upwards: on the grid of the lowest scan, whose rows are first."""
    folder, volumes, whole, clean = made
    outputs = folder / "up.h5", folder / "up.json"
    found = stitch(volumes[::-1], *outputs, stack="up", scans=SCANS[::-1])
    assert first_rows(found) == pytest.approx([55, 28.25, -0.15], abs=0.1)
    assert json.loads(outputs[1].read_text()) == found
    # that grid lies 0.15 rows lower than the tall one, and aside as the lowest scan does
    expected = ndimage.shift(clean, (-0.15, 0.4, -2.2), order=3, mode="nearest")
    error = inside(values_of(outputs[0])[:TALL_ROWS] - expected)
    assert np.std(error) < 1.1 * np.std(inside(whole - clean))


def test_provenance_names_scans_cors_and_shifts(made, stitched):
    noted = read_provenance(stitched[0])
    assert [scan["cor_px"] for scan in noted["scans"]] == [PLACES[scan][1] for scan in SCANS]
    assert noted["pairs"] == stitched[1]["pairs"]
    assert noted["made_of"]["bone_2"]["cor"]["cor_px"] == PLACES["bone_2"][1]
    with h5py.File(stitched[0]) as file:
        assert file["exchange/data"].attrs["units"] == "1/pixel"


def test_voxels_of_cropped_volumes_are_where_they_were(made, tmp_path):
    """On the grid of the first volume, whichever it is; what is converted from it as well."""
    folder, _, _, _ = made
    crop = {"rows": [2, 39], "crop_x": [10, 55], "crop_y": [8, 53]}
    volumes = [tmp_path / f"{scan}_rec.h5" for scan in SCANS[:2]]
    for scan, volume in zip(SCANS, volumes, strict=False):
        full_recon(folder / f"{scan}.h5", volume, cor_px=PLACES[scan][1], **crop)
    for step in (1, -1):
        outputs = tmp_path / "bone.h5", tmp_path / "bone.json"
        result = stitch(volumes[::step], *outputs, stack="bone", scans=SCANS[:2][::step])
        above = result["scans"][0]["first_row"]
        with h5py.File(outputs[0]) as file:
            first = [file[f"entry/data/{axis}"][0] for axis in "zyx"]
        assert first == [2 - above, 8, 10]
        assert origin_of(read_provenance(outputs[0]), 1).voxel == tuple(first)
    assert above == pytest.approx(28.4, abs=1)


@pytest.mark.parametrize(
    ("used", "options", "message"),
    [
        ([0, 2], {}, "bone_1 and bone_3: found no overlap"),
        ([0, 1, 2], {"overlap_rows": 26}, "bone_1 and bone_2.*rows, near 26 of the volume"),
    ],
)
def test_scans_that_share_nothing_or_less_than_told_are_an_error(made, used, options, message):
    folder, volumes, *_ = made
    outputs = folder / "no.h5", folder / "no.json"
    scans = [SCANS[number] for number in used]
    with pytest.raises(TomopipeError, match=message):
        stitch([volumes[n] for n in used], *outputs, stack="no", scans=scans, **options)
    assert not any(path.exists() for path in outputs)


# ---- volumes of another origin: smooth random fields, sampled where we like -------------------


def field(seed=0, shape=(120, 40, 40)):
    """Sines in all directions of at least 5 voxels a period: known at every point."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(-0.7, 0.7, (60, 3))
    phases = rng.uniform(0, 2 * np.pi, 60)

    def sampled(z, y, x, n_rows):
        places = [
            np.arange(n) + first for n, first in zip((n_rows, *shape[1:]), (z, y, x), strict=True)
        ]
        in_z, in_y, in_x = (
            np.exp(1j * np.outer(w, p)) for w, p in zip(waves.T, places, strict=True)
        )
        in_plane = (in_y[:, :, None] * in_x[:, None, :]).reshape(len(waves), -1)
        total = (in_z.T * np.exp(1j * phases)) @ in_plane
        return np.float32(total.real).reshape(n_rows, *shape[1:])

    return sampled


def part_of(volume):
    return Part(volume.shape, volume.__getitem__, np.stack([block_means(s) for s in volume]))


@pytest.mark.parametrize("overlap", [10.4, 14.0, 31.7])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_shift_to_parts_of_a_voxel(overlap, noise):
    rng = np.random.default_rng(3)
    sampled, z = field(), 40 - overlap
    volumes = [sampled(0, 0, 0, 40), sampled(z, 1.3, -2.45, 36)]
    scale = noise * np.std(volumes[0])
    first, second = (part_of(v + rng.normal(0, scale, v.shape).astype(np.float32)) for v in volumes)
    shift = find_shift(first, second, names=("a", "b"))
    limit_px = 0.1 if noise else 0.03
    assert (shift.z_px, shift.y_px, shift.x_px) == pytest.approx((z, 1.3, -2.45), abs=limit_px)
    back = find_shift(second, first, names=("b", "a"), overlap_rows=36, tolerance_rows=36)
    assert (back.z_px, back.y_px, back.x_px) == pytest.approx((-z, -1.3, 2.45), abs=limit_px)


@pytest.mark.parametrize("strength", [0.4, 1.3])
def test_rings_of_the_detector_are_no_overlap(strength):
    """The same rows of the detector show the same rings in both: that says nothing of heights."""
    sampled, rings = field(), strength * field(9)(0, 0, 0, 40)
    parts = [part_of(sampled(z, 0, 0, 40) + rings) for z in (0, 25)]
    if strength < 1:
        assert find_shift(*parts, names=("a", "b")).z_px == pytest.approx(25, abs=0.2)
    else:  # mostly rings: no stitch, and none at the height where the rings match
        with pytest.raises(TomopipeError, match="a and b: found no overlap"):
            find_shift(*parts, names=("a", "b"))


def test_a_sample_that_changed_much_is_an_error():
    sampled, change = field(), {0: field(9), 20: field(10)}
    parts = [part_of(sampled(z, 0, 0, 40) + 1.2 * change[z](z, 0, 0, 40)) for z in change]
    with pytest.raises(TomopipeError, match=r"the best correlation is 0\.[34]"):
        find_shift(*parts, names=("a", "b"))


def test_a_volume_of_one_row_is_an_error_that_names_the_option():
    part = part_of(np.ones((1, 64, 64), np.float32))
    with pytest.raises(TomopipeError, match=r"a: its volume has one row, .*full_recon\.rows"):
        find_shift(part, part, names=("a", "b"))


@pytest.mark.parametrize(
    ("n_rows", "shared", "options", "says"),
    [
        (8, 6, {}, "at least 8 rows, and at most nine tenths of 8, which the smaller volume has."),
        (40, 20, {"overlap_rows": 60}, r"tenths of 40, .* near 60 of .*\(stitch\.overlap_rows\)"),
        (40, 4, {}, "no overlap of 8 to 36 rows in which .*, expected at least 0.5. If they share"),
    ],
)
def test_too_few_common_rows_name_the_rule_and_the_options(n_rows, shared, options, says):
    parts = [part_of(field()(z, 0, 0, n_rows)) for z in (0, n_rows - shared)]
    with pytest.raises(TomopipeError, match=rf"a and b: .*{says}.*\(full_recon\.rows, binning\)"):
        find_shift(*parts, names=("a", "b"), tolerance_rows=6.0, **options)


def test_a_rod_that_is_the_same_everywhere_is_an_error():
    rng = np.random.default_rng(2)
    rod = field()(0, 0, 0, 1)
    parts = [part_of(rod + rng.normal(0, 0.1, (40, 40, 40)).astype(np.float32)) for _ in range(2)]
    with pytest.raises(TomopipeError, match="a and b: found no overlap"):
        find_shift(*parts, names=("a", "b"))


def test_a_sample_that_repeats_itself_needs_to_be_told():
    period = field(4)(0, 0, 0, 12)
    tall = np.concatenate([period] * 6)
    parts = [part_of(tall[:40]), part_of(tall[24:64])]
    with pytest.raises(TomopipeError, match=r"fit with an overlap of .* and of"):
        find_shift(*parts, names=("a", "b"))
    options = {"overlap_rows": 15, "tolerance_rows": 3}
    for direction, z_px in [("down", 24), ("up", -24)]:
        shift = find_shift(*parts, names=("a", "b"), direction=direction, **options)
        assert shift.z_px == pytest.approx(z_px, abs=0.05)


def placed_at(sampled, z, y, x, n_rows, **options):
    return Placed(n_rows, sampled(z, y, x, n_rows).__getitem__, z, y, x, **options)


def test_resampled_rows_are_those_of_the_sample():
    sampled = field()
    truth = sampled(0, 0, 0, 40)
    moved_part = Resampled(placed_at(sampled, -3.4, 0.7, -1.3, 60))
    for start in (5, 13, 21):
        got = moved_part.rows(range(start, start + 8))
        error = (got - truth[start : start + 8])[:, 4:-4, 4:-4]
        assert np.std(error) < 0.005 * np.std(truth)


def test_slices_are_read_once():
    sampled, asked = field(), []
    volume = sampled(0.5, 0, 0, 60)

    def read(row):
        asked.append(row)
        return volume[row]

    part = Resampled(Placed(60, read, 0.5))
    for start in range(1, 57, 8):
        part.rows(range(start, min(start + 8, 59)))
    assert sorted(asked) == list(range(60))


def test_ramps_of_three_scans_that_overlap_add_up_without_a_step():
    crowded = ramps([Placed(20, None, z) for z in (0, 8, 16)], range(36))
    assert crowded.sum(axis=0) == pytest.approx(np.ones(36))
    assert (crowded >= 0).all()
    assert np.abs(np.diff(crowded)).max() < 0.2  # no step


@pytest.mark.parametrize("z", [43.997, 44.003, -43.997, -44.003, 43.96])
def test_no_row_is_lost_to_the_last_digits_of_a_height(z):
    """Two scans 44 rows apart give 104 rows, whatever was found within the accuracy of heights."""
    sampled = field()
    low = min(0, round(z))
    parts = [placed_at(sampled, 0, 0, 0, 60), placed_at(sampled, z, 0, 0, 60)]
    rows = range(min(p.rows.start for p in parts), max(p.rows.stop for p in parts))
    assert rows == range(low, low + 104)
    truth = sampled(low, 0, 0, 104)
    for end in (slice(0, 8), slice(96, 104)):
        block = range(rows.start + end.start, rows.start + end.stop)
        error = blended([Resampled(p) for p in parts], block) - truth[end]
        assert np.std(error[:, 4:-4, 4:-4]) < 0.05 * np.std(truth)


def test_a_row_that_no_scan_shows_is_not_made_up():
    assert Placed(60, None, 43.9).rows == range(44, 103)
    assert Placed(60, None, 44.1).rows == range(45, 104)


FORMS = {"h5": ".h5", "tiff": "", "zarr": ".zarr"}


def write_volume(path, values, *, dtype="float32", limits=None, **attributes):
    (form,) = (form for form, suffix in FORMS.items() if suffix == path.suffix)
    options = {"output_format": form, "encoding": encoding_of(dtype, limits)}
    attributes = {"units": "1/pixel", "binning": 1} | attributes
    with new_volume(path, values.shape, attributes=attributes, **options) as put:
        put(0, values)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_format_and_whole_numbers(tmp_path, form):
    sampled = field()
    limits = {"s_0": (-40.0, 30.0), "s_1": (-30.0, 45.0)}
    options = {"dtype": "uint16", "voxel_size_um": 2.0}
    volumes = [tmp_path / f"{scan}{FORMS[form]}" for scan in limits]
    for path, z, scan in zip(volumes, (0, 15), limits, strict=True):
        write_volume(path, sampled(z, 0, 0, 30), limits=limits[scan], **options)
    tall = tmp_path / f"tall{FORMS[form]}"
    options = {"stack": "t", "scans": list(limits), "dtype": "uint16", "output": form}
    assert stitch(volumes, tall, tmp_path / "t.json", **options)["shape"] == [45, 40, 40]
    with open_volume(tall) as volume:
        assert volume.encoding.limits == pytest.approx((-40, 45))
        assert volume.attributes["voxel_size_um"] == 2.0
    assert values_of(tall) == pytest.approx(sampled(0, 0, 0, 45), abs=0.05)


@pytest.mark.parametrize("match", [True, False])
def test_gain_and_offset_are_matched_only_if_wanted(tmp_path, match):
    sampled, rng = field(), np.random.default_rng(0)
    truth = 3 + sampled(0, 0, 0, 75)
    volumes = []
    for k, (gain, offset) in enumerate([(1, 0), (1.25, 0.5), (0.8, -0.3)]):
        noisy = truth[20 * k : 20 * k + 35] + rng.normal(0, 1, (35, 40, 40)).astype(np.float32)
        volumes.append(write_volume(tmp_path / f"s_{k}.h5", np.float32(gain) * noisy + offset))
    outputs = tmp_path / "tall.h5", tmp_path / "tall.json"
    found = stitch(volumes, *outputs, stack="t", scans=["s_0", "s_1", "s_2"], match_intensity=match)
    gains = [scan["gain"] for scan in found["scans"]]
    assert gains == pytest.approx([1, 1 / 1.25, 1 / 0.8] if match else [1, 1, 1], rel=0.01)
    error = values_of(outputs[0])[:, 4:-4, 4:-4] - truth[:, 4:-4, 4:-4]
    assert (np.abs(error.mean(axis=(1, 2))).max() < 0.1) == match


def test_equal_scans_that_lie_aside_have_a_gain_of_one(made, tmp_path):
    _, volumes, *_ = made
    outputs = tmp_path / "tall.h5", tmp_path / "tall.json"
    found = stitch(volumes, *outputs, stack="bone", scans=SCANS, match_intensity=True)
    assert [scan["gain"] for scan in found["scans"]] == pytest.approx([1, 1, 1], abs=0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"binning": 2}, "same binning, got 1 and 2"),
        ({"units": "1/cm"}, "same units"),
        ({"voxel_size_um": 3.0}, "same voxel_size_um, got 2.0 and 3.0"),
        ({}, "same width"),
    ],
)
def test_volumes_that_do_not_belong_together(tmp_path, change, words):
    values = field()(0, 0, 0, 20)
    other = values if change else values[:, :36]
    volumes = [
        write_volume(tmp_path / "s_0.h5", values, voxel_size_um=2.0),
        write_volume(tmp_path / "s_1.h5", other, **({"voxel_size_um": 2.0} | change)),
    ]
    with pytest.raises(TomopipeError, match=f"s_0 and s_1: expected volumes of the {words}"):
        stitch(volumes, tmp_path / "t.h5", tmp_path / "t.json", stack="t", scans=["s_0", "s_1"])


def test_memory_grows_with_the_width_alone():
    small, large = stitch_mb(2048), stitch_mb(4096)
    slice_mb = 4 * 4096**2 / 1e6
    assert large - small == pytest.approx(1.2 * 0.75 * 86 * slice_mb, rel=0.01)
    assert stitch_mb(1024, is_half=True) == small
    assert stitch_mb(8192, FullReconBlock(binning=4)) == small
