"""Shifts of projections: known ones are undone, once, wherever projections are used."""

import h5py
import numpy as np
import pytest

from tests.corrections import EVERYTHING, KNOWN
from tests.phantoms import make_phantom, slice_truth, write_scan
from tests.pretend_device import in_place_of_cuda
from tests.step_calls import try_in, volume_of
from tomopipe.arrays import on_host
from tomopipe.config import PreprocessBlock
from tomopipe.cor.collected_rows import read_rows
from tomopipe.cor.row_profiles import RowProfiles, still
from tomopipe.errors import ScanError
from tomopipe.prep.correct import corrections_of
from tomopipe.prep.recipe import expected_halo
from tomopipe.scans.exchange import open_scan
from tomopipe.simulate.phantom import Phantom, project
from tomopipe.simulate.simulated_scan import Beam, Detector
from tomopipe.steps import full_recon

N_ROWS, N_COLS, N_ANGLES, COR_PX = 24, 96, 121, 48.9
THETA = np.linspace(0, np.pi, N_ANGLES)
INNER = slice(5, 19)  # rows that all projections see
JITTER = np.random.default_rng(3).uniform(-2, 2, (N_ANGLES, 2))
ROLL, STRIPES = {"roll_deg": 1e-9}, {"stripes": {"method": "sorting"}}


def frames_of(phantom, shifts_px, beam):
    """Projections of a sample whose image is shifted, flats and darks, as counted."""
    detector = Detector(beam, N_ROWS, N_COLS, seed=1)
    lines = [
        project(phantom.moved(rows=dy), [theta], COR_PX + dx, N_ROWS, N_COLS)[0]
        for theta, (dx, dy) in zip(THETA, shifts_px, strict=True)
    ]
    return detector.frames(np.exp(-np.array(lines))), detector.flats(), detector.darks()


def write(path, shifts_px, counts=2e4):
    """A DXchange scan with these shifts, and beside it the file of them."""
    phantom = make_phantom("rock", N_COLS, N_ROWS)
    data = frames_of(phantom, shifts_px, Beam(counts=counts, n_flats=10, n_darks=4))
    with h5py.File(path, "w") as file:
        for name, frames in zip(("data", "data_white", "data_dark"), data, strict=True):
            file[f"exchange/{name}"] = frames.astype(np.float32)
        file["exchange/theta"] = np.rad2deg(THETA)
    table = path.with_suffix(".txt")
    np.savetxt(table, shifts_px, header="dx_px dy_px")
    return path, str(table)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shifts")
    write(folder / "still.h5", np.zeros_like(JITTER))
    write(folder / "shaken.h5", JITTER)
    return folder


@pytest.fixture
def shaken(folder):
    with open_scan(folder / "shaken.h5", options=KNOWN) as scan:
        yield scan


def table_of(folder):
    return str(folder / "shaken.txt")


def psnr(volume):
    phantom = make_phantom("rock", N_COLS, N_ROWS)
    truth = np.stack([slice_truth(phantom, row, N_COLS) for row in range(N_ROWS)])[INNER]
    error = np.sqrt(np.mean((np.asarray(volume)[INNER] - truth) ** 2))
    return 20 * np.log10(np.ptp(truth) / error)


def volume(folder, name, corrections=None, **options):
    path = folder / f"{name}.h5"
    options |= {"cor_px": COR_PX, "known": KNOWN, "corrections": corrections}
    return volume_of(path, folder / f"{name}_v.h5", **({"device": "cpu"} | options))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"algorithm": "sirt", "iterations": 20}], ids=str)
def test_a_jitter_of_2_px_costs_less_than_1_db(folder, options):
    still_db = psnr(volume(folder, "still", **options))
    shaken_db = psnr(volume(folder, "shaken", **options))
    undone_db = psnr(volume(folder, "shaken", {"shifts": table_of(folder)}, **options))
    assert shaken_db < still_db - 3
    assert undone_db > still_db - 1


@pytest.mark.slow
@pytest.mark.parametrize("more", [ROLL, STRIPES, ROLL | STRIPES], ids=str)
def test_other_ways_through_the_corrections_undo_them_as_well(folder, more):
    """Once: within a roll, linearly; else after stripes, which belong to the detector."""
    plain = volume(folder, "still", more)
    undone = volume(folder, "shaken", {"shifts": table_of(folder)} | more)
    assert psnr(undone) > psnr(plain) - 1


def test_shifts_without_noise_are_undone_exactly(tmp_path):
    """Smooth objects: projections are those of the still sample, to a hundredth of the largest."""
    data = frames_of(Phantom("none", ()), JITTER, Beam(counts=None, dust=0))
    y, x = np.mgrid[:N_ROWS, :N_COLS].astype(float)

    def image(dx, dy):
        blob = 2 * np.exp(-(((x - 50 - dx) / 12) ** 2) - ((y - 11 - dy) / 5) ** 2)
        return blob.astype(np.float32)

    path, table = write(tmp_path / "a.h5", JITTER, counts=None)
    with h5py.File(path, "r+") as file:
        lines = np.array([image(*shift) for shift in JITTER])
        file["exchange/data"][...] = data[2][0] + (data[0] - data[2][0]) * np.exp(-lines)
        file["exchange/data_white"][...] = data[1][0]
        file["exchange/data_dark"][...] = data[2][0]
    with open_scan(path) as scan:
        corrections = corrections_of(scan, PreprocessBlock(shifts=table))
        got = corrections.sinograms(scan.read_rows(0, N_ROWS), (0, N_ROWS))
    assert np.abs(got[INNER] - image(0, 0)[INNER, None]).max() < 0.01
    assert np.abs(lines - image(0, 0)).max() > 0.2


@pytest.mark.parametrize("rows", [(0, 4), (11, 12), (19, 24)])
@pytest.mark.parametrize("more", [{}, STRIPES, EVERYTHING], ids=["alone", "stripes", "all"])
def test_any_rows_equal_the_whole(folder, shaken, more, rows):
    corrections = corrections_of(shaken, PreprocessBlock(shifts=table_of(folder), **more))
    whole = corrections.sinograms(shaken.read_rows(0, N_ROWS), (0, N_ROWS))
    raw = shaken.read_rows(*corrections.rows_needed(rows))
    assert np.isfinite(whole).all()
    assert np.allclose(corrections.sinograms(raw, rows, threads=2), whole[slice(*rows)], atol=1e-5)


@pytest.mark.parametrize("more", [{}, STRIPES, {"roll_deg": 1.0}], ids=str)
def test_a_gpu_gives_the_same(folder, shaken, xp, more):
    corrections = corrections_of(shaken, PreprocessBlock(shifts=table_of(folder), **more))
    rows = (8, 12)
    raw = shaken.read_rows(*corrections.rows_needed(rows))
    host, device = corrections.sinograms(raw, rows), corrections.sinograms(xp.asarray(raw), rows)
    assert np.allclose(on_host(device), host, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"roll_deg": 1.0}, STRIPES], ids=str)
def test_a_volume_of_a_gpu_is_that_of_the_cpu(folder, monkeypatch, gpu, more):
    corrections = {"shifts": table_of(folder)} | more
    expected = volume(folder, "shaken", corrections, binning=2)
    with in_place_of_cuda(monkeypatch, full_recon, gpu):
        got = volume(folder, "shaken", corrections, binning=2, device="cuda")
    assert np.abs(got - expected).max() < 1e-4 * np.ptp(expected)


def test_the_cor_is_sought_in_the_corrected_rows(folder, tmp_path):
    corrections = {"shifts": table_of(folder), "hardening": [1.0, 0.01]}
    options = {"width_px": 1, "step_px": 1, "row": 11, "device": "cpu", "corrections": corrections}
    try_in(tmp_path, folder / "shaken.h5", **options)
    rows = read_rows(tmp_path / "rows.h5")
    options["corrections"] = {"hardening": [1.0, 0.01]}
    try_in(tmp_path, folder / "still.h5", **options)
    of_still = read_rows(tmp_path / "rows.h5")
    for name in ("sinograms", "plain_sinograms", "pairs"):
        got, expected = (getattr(each, name) for each in (rows, of_still))
        kept = np.flatnonzero((rows.row_index > 5) & (rows.row_index < 19))
        if name == "pairs":
            got, expected, kept = got[:, :, INNER], expected[:, :, INNER], slice(None)
        assert np.corrcoef(got[kept].ravel(), expected[kept].ravel())[0, 1] > 0.999


def test_profiles_of_rows_are_moved_back():
    rows, dy_px = np.arange(40.0), np.array([0.0, 2.5, -4.0])
    values = np.array([np.sin((rows - dy) / 5) for dy in dy_px], np.float32)
    profiles = RowProfiles(values, np.array([0, 1, 2]), rows, np.zeros(40, np.float32))
    moved = still(profiles, dy_px)
    assert np.abs(moved.values - np.sin(moved.rows / 5)).max() < 0.01
    assert (moved.rows[0], moved.rows[-1]) == (4.0, 36.0)
    assert still(profiles, dy_px * 8) is None
    assert still(None, dy_px) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 2\n" * 5, "5 lines of shifts; expected 121, one for each projection"),
        ("1 nan\n" * N_ANGLES, "line 1: expected two finite numbers, dx_px and dy_px; got '1 nan'"),
        ("dx dy\n1 2\n1 two\n", "line 3: expected two finite numbers"),
        ("1 2 3\n", "line 1: expected two finite numbers"),
        ("0 0\n" * 7 + "0 24.5\n" + "0 0\n" * 113, "dy_px is 24.5 at projection 7, out of view"),
        ("-96,0\n" + "0,0\n" * 120, "dx_px is -96 at projection 0, out of view; expected less tha"),
        (b"\xff\xfe\x00", "it is no text"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_file_is_named_with_what_it_has(shaken, tmp_path, text, fault):
    path = tmp_path / "shifts.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ScanError) as error:
        corrections_of(shaken, PreprocessBlock(shifts=str(path)))
    assert str(error.value).startswith(f"{path}: ")
    assert fault in str(error.value)


def test_commas_headings_and_the_other_sign(shaken, tmp_path):
    path = tmp_path / "shifts.csv"
    lines = [f"{dx},{-dy}" for dx, dy in JITTER * 2]
    path.write_text("\n".join(["dx_px,dy_px", "# by hand", *lines, ""]))
    block = PreprocessBlock(shifts=str(path), shifts_scale=[0.5, -0.5])
    (fit,) = (step.fit for step in corrections_of(shaken, block).steps if step.entry.rows_around)
    assert np.allclose(np.stack([fit.dx_px, fit.dy_px], axis=1), JITTER)


def test_projections_that_are_skipped_have_their_lines(folder):
    options = KNOWN | {"skip_projections": [[0, 9]]}
    with open_scan(folder / "shaken.h5", options=options) as scan:
        (fit,) = (
            step.fit
            for step in corrections_of(scan, PreprocessBlock(shifts=table_of(folder))).steps
            if step.entry.rows_around
        )
    assert np.allclose(fit.dx_px, JITTER[10:, 0])


def test_the_memory_of_a_scan_that_is_not_open_is_estimated():
    halo = expected_halo(PreprocessBlock(shifts="a.txt"), 100, 100, {})
    assert 8 <= halo <= 16


def test_shifts_of_a_file_without_any_are_refused(tmp_path):
    path = write_scan(tmp_path / "a.h5").path
    with (
        open_scan(path) as scan,
        pytest.raises(ScanError, match=r"a.h5: preprocess.shifts: stated: expected x_translation"),
    ):
        corrections_of(scan, PreprocessBlock(shifts="stated"))
