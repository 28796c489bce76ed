import numba
import numpy as np
import pytest
from scipy.ndimage import shift

from tests.beads import centroid_px
from tomopipe import geometry

THETA_RAD = np.linspace(0, np.pi, 180, endpoint=False)
COR_PX, VOXEL = 29.7, (40.0, 25.0)


@pytest.fixture
def one_thread():
    """For Algotom's back projection, which loses sums by chance with several."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def column_of_voxel(x, y, theta_rad, cor_px, n_cols):
    """The convention of tomopipe.geometry: the detector column at which a voxel is seen."""
    axis_x, axis_y = geometry.axis_voxel(n_cols)
    return cor_px + (x - axis_x) * np.cos(theta_rad) - (y - axis_y) * np.sin(theta_rad)


def bead_sinogram(n_cols):
    column = column_of_voxel(*VOXEL, THETA_RAD, COR_PX, n_cols)
    return np.exp(-((np.arange(n_cols) - column[:, None]) ** 2) / 8).astype(np.float32)


@pytest.mark.parametrize(("x0", "binning"), [(0, 1), (0, 2), (7, 3), (10, 1)])
def test_bin_cor_is_where_the_axis_is_in_averaged_columns(x0, binning):
    cor_px = 31.3
    n_binned = (64 - x0) // binning
    centres_px = np.arange(x0, x0 + n_binned * binning).reshape(n_binned, binning).mean(axis=1)
    # The axis in binned columns, by interpolation between the centres of the blocks.
    expected_px = np.interp(cor_px, centres_px, np.arange(n_binned))
    binned_px = geometry.bin_cor(cor_px, x0=x0, binning=binning)
    assert binned_px == pytest.approx(expected_px, abs=1e-9)
    assert geometry.unbin_cor(binned_px, x0=x0, binning=binning) == pytest.approx(cor_px, abs=1e-9)


@pytest.mark.parametrize(("n_cols", "axis"), [(100, (50, 49)), (101, (50, 49)), (3, (1, 0))])
def test_the_axis_voxel_is_seen_at_the_cor_at_every_angle(n_cols, axis):
    assert geometry.axis_voxel(n_cols) == axis
    assert column_of_voxel(*axis, THETA_RAD, 47.25, n_cols) == pytest.approx(47.25, abs=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("n_cols", [64, 65])
@pytest.mark.parametrize("program", ["algotom-fbp", "algotom-dfi", "scikit-image"])
def test_other_programs_put_the_bead_where_we_say(program, n_cols):
    from algotom.rec import reconstruction as algotom
    from skimage.transform import iradon

    sinogram = bead_sinogram(n_cols)
    value_px = float(geometry.cor_to(program, COR_PX, n_cols))
    if program == "algotom-fbp":
        image = algotom.fbp_reconstruction(
            sinogram, value_px, angles=THETA_RAD, apply_log=False, gpu=False, ratio=None
        )
    elif program == "algotom-dfi":
        image = algotom.dfi_reconstruction(
            sinogram, value_px, angles=THETA_RAD, apply_log=False, ratio=None
        )
    else:
        moved = shift(sinogram, (0, value_px), order=3)
        image = iradon(moved.T, theta=np.degrees(THETA_RAD), circle=True)
    expected = tuple(map(float, geometry.voxel_in(program, *VOXEL, n_cols)))
    assert centroid_px(image) == pytest.approx(expected, abs=0.1)
    assert geometry.voxel_in("tomopipe", *expected, n_cols, source=program) == VOXEL


@pytest.mark.parametrize("n_cols", [64, 65])
def test_astra_geometry_by_its_documented_vectors(n_cols):
    # parallel_vec: y up, volume and detector centred on the origin, u the step from pixel to pixel;
    # geom_postalignment moves the detector by factor * u.
    centre = (n_cols - 1) / 2
    x, row = geometry.voxel_in("astra", *VOXEL, n_cols)
    u = np.stack([np.cos(THETA_RAD), np.sin(THETA_RAD)])
    detector = geometry.cor_to("astra", COR_PX, n_cols) * u
    point = np.array([[x - centre], [centre - row]])
    column = centre + ((point - detector) * u).sum(axis=0)
    ours = column_of_voxel(*VOXEL, THETA_RAD, COR_PX, n_cols)
    assert column == pytest.approx(ours, abs=1e-9)


@pytest.mark.parametrize("program", geometry.PROGRAMS)
def test_cor_from_undoes_cor_to(program):
    value = geometry.cor_to(program, [12.25, 40.0], 65)
    assert geometry.cor_from(program, value, 65) == pytest.approx([12.25, 40.0], abs=1e-9)


def test_an_unknown_program_is_named():
    with pytest.raises(ValueError, match="scikit-image; got 'octopus'"):
        geometry.axis_voxel(64, "octopus")
    with pytest.raises(ValueError, match="scikit-image; got 'nabu'"):
        geometry.voxel_in("nabu", 1, 1, 64)
    with pytest.raises(ValueError, match="octopus"):
        geometry.cor_to("octopus", 1.0, 64)


@pytest.mark.parametrize(
    ("axis", "x_end", "z_end"),
    [((50, 50), 28.582704, -69.667296), ((50, 49), 28.082704, -68.801270)],
)
def test_relion4_matrix_of_the_worked_example(axis, x_end, z_end):
    (matrix,) = geometry.relion4_matrices(np.radians([30.0]), 47.25, axis)
    expected = [[0.866025, 0, -0.5, x_end], [0, 1, 0, -1], [0.5, 0, 0.866025, z_end], [0, 0, 0, 1]]
    assert matrix == pytest.approx(np.array(expected), abs=1e-6)
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)


def test_relion5_shift_of_the_worked_example():
    tilt_deg, x_shift_px, y_shift_px = geometry.relion5_alignment(
        np.radians([30.0, 90.0]),
        47.25,
        (50, 50),
        image_size=(100, 64),
        tomogram_size=(100, 64, 100),
    )
    assert tilt_deg == pytest.approx([-30, -90])
    assert x_shift_px * 6500 == pytest.approx([-17875, -17875])
    assert y_shift_px.tolist() == [0, 0]


@pytest.mark.parametrize("program", ["tomopy", "tomogui", "algotom-fbp", "nabu", "httomo"])
def test_programs_that_count_columns_as_we_do(program):
    assert geometry.cor_to(program, 12.25, 65) == 12.25
