"""Corrections in the steps: what is judged in the sweep is what is in the volume."""

from dataclasses import replace

import h5py
import mrcfile
import numpy as np
import pytest

from tests.corrections import EVERYTHING, KNOWN
from tests.phantoms import write_scan
from tests.step_calls import export_stack, try_in, volume_of
from tomopipe.config import FullReconBlock, PreprocessBlock
from tomopipe.cor import collected_rows
from tomopipe.cor.collected_rows import collect_rows, read_rows
from tomopipe.prep.correct import corrections_of
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.resources.jobs import full_recon_mb
from tomopipe.resources.memory import (
    MemoryInputs,
    bytes_to_use,
    job_bytes,
    standard_blocks,
)
from tomopipe.scans.exchange import open_scan
from tomopipe.steps.export_stack import choose_tilts
from tomopipe.stream.fit_options import choose_blocks

N_ROWS, N_COLS, N_ANGLES = 40, 48, 61
COR_PX = 24.7
CHUNKS = [False, (1, N_ROWS, N_COLS), (8, 4, N_COLS)]


def make_scan(tmp_path, chunks=False):
    size = {"n_rows": N_ROWS, "n_cols": N_COLS, "n_angles": N_ANGLES}
    return write_scan(tmp_path / "a.h5", cor_px=COR_PX, counts=2e4, chunks=chunks, **size).path


def try_rows(path, tmp_path, corrections):
    options = {"device": "cpu", "known": KNOWN, "corrections": corrections}
    assert "failed" not in try_in(tmp_path, path, width_px=1, step_px=1, row=17, **options)
    return read_rows(tmp_path / "rows.h5")


def volume(path, tmp_path, corrections, name="v.h5", **options):
    options |= {"device": "cpu", "known": KNOWN, "corrections": corrections}
    return volume_of(path, tmp_path / name, cor_px=COR_PX, **options)


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_the_try_slice_is_that_of_the_volume(tmp_path, chunks):
    path = make_scan(tmp_path, chunks)
    rows = try_rows(path, tmp_path, EVERYTHING)
    slices = volume(path, tmp_path, EVERYTHING)
    plan = make_plan(rows.theta_rad, N_COLS)
    for sinogram, row in zip(rows.sinograms, rows.row_index.tolist(), strict=True):
        image = reconstruct(sinogram[None], plan, COR_PX)[0]
        assert np.abs(image - slices[row]).max() < 3e-5 * np.ptp(slices)


@pytest.mark.parametrize("binning", [1, 2])
def test_volumes_do_not_depend_on_the_blocks(tmp_path, monkeypatch, divide, binning):
    path = make_scan(tmp_path, CHUNKS[1])
    whole = volume(path, tmp_path, EVERYTHING, binning=binning)
    divide(4, 4 * binning, ahead=1)
    pieces = volume(path, tmp_path, EVERYTHING, "p.h5", binning=binning, threads=2)
    assert np.abs(pieces - whole).max() < 3e-5 * np.ptp(whole)
    alone = {"stripes": {"method": "vo", "size_px": 5, "large_px": 11}}
    volume_of_ranks = volume(path, tmp_path, alone, "r.h5", binning=binning, threads=1)
    monkeypatch.undo()
    assert np.array_equal(volume(path, tmp_path, alone, "t.h5", binning=binning), volume_of_ranks)
    part = volume(path, tmp_path, EVERYTHING, "s.h5", binning=binning, rows=[8, 15])
    assert np.abs(part - whole[8 // binning : 16 // binning]).max() < 3e-5 * np.ptp(whole)


def test_whole_numbers_are_ranged_by_corrected_slices(tmp_path):
    path = make_scan(tmp_path)
    volume(path, tmp_path, {"hardening": [3.0]}, dtype="uint8")
    volume(path, tmp_path, None, "plain.h5", dtype="uint8")
    high = []
    for name in ("v.h5", "plain.h5"):
        with h5py.File(tmp_path / name) as file:
            data = file["exchange/data"]
            high.append(data.attrs["scale"] * 255 + data.attrs["offset"])
    assert high[0] == pytest.approx(3 * high[1], rel=0.02)


def test_finders_get_plain_rows_of_the_right_geometry(tmp_path):
    path = make_scan(tmp_path)
    rows = try_rows(path, tmp_path, EVERYTHING)
    plain = try_rows(path, tmp_path, None)
    keys = ("roll_deg", "distortion", "flat_method")
    moved = try_rows(path, tmp_path, {key: EVERYTHING[key] for key in keys})
    assert plain.plain_sinograms is None
    assert moved.plain_sinograms is None
    assert np.array_equal(rows.plain().sinograms, moved.sinograms)
    assert np.array_equal(rows.pairs, moved.pairs)
    assert np.abs(rows.plain().sinograms - rows.sinograms).max() > 0.01
    assert np.abs(moved.sinograms - plain.sinograms).max() > 0.01
    only_values = try_rows(path, tmp_path, {"stripes": {"method": "sorting"}})
    assert np.array_equal(only_values.plain().sinograms, plain.sinograms)
    assert np.array_equal(only_values.pairs, plain.pairs)


def test_a_scan_that_does_not_tell_its_energy_fails_with_the_key(tmp_path):
    path = make_scan(tmp_path)
    record = try_in(tmp_path, path, device="cpu", corrections={"phase": {"method": "paganin"}})
    assert "set input.energy_kev" in record["failed"]


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize(("n_angles", "n_cols"), [(900, 1024), (1801, 2048), (3601, 4096)])
def test_a_halo_of_a_quarter_of_the_block_does_not_double_the_peak(n_angles, n_cols, itemsize):
    plain = MemoryInputs(n_angles, n_cols, n_cols, itemsize)
    for threads in (1, 16):
        plain = replace(plain, threads=threads)
        blocks = standard_blocks(plain)
        corrected = replace(plain, halo=blocks.height // 4)
        assert job_bytes(corrected, blocks) < 2 * job_bytes(plain, blocks)


@pytest.mark.parametrize(
    ("halo", "binning", "height"),
    [(0, 1, 32), (8, 1, 32), (33, 1, 48), (71, 1, 80), (71, 2, 96), (400, 1, 128)],
)
def test_memory_is_asked_for_blocks_as_tall_as_the_rows_around_them(halo, binning, height):
    """Up to 128 rows: what is read and filtered is three times the rows, not five."""
    inputs = MemoryInputs(1801, 2048, 2048, binning=binning, halo=halo, full_rotation=True)
    asked = full_recon_mb((1801, 2048, 2048), FullReconBlock(binning=binning), halo=halo)
    chosen = choose_blocks(inputs, bytes_to_use(asked))
    assert chosen.height == standard_blocks(inputs).height == height


def test_corrected_rows_of_wide_spans_are_read_in_batches(tmp_path, monkeypatch):
    path = make_scan(tmp_path, CHUNKS[2])
    recipe = PreprocessBlock(**EVERYTHING)
    with open_scan(path, options=KNOWN) as scan:
        whole = collect_rows(scan, [17], recipe)
        monkeypatch.setattr(collected_rows, "READ_BYTES", 1)
        small = collect_rows(scan, [17], recipe, threads=2)
    assert np.allclose(small.sinograms, whole.sinograms, atol=1e-6)


def test_stacks_are_corrected_as_volumes_are(tmp_path, in_pieces):
    path = make_scan(tmp_path)
    in_pieces(7 * N_ANGLES * N_COLS * 16)
    options = {"known": KNOWN, "corrections": EVERYTHING, "rows": [5, 30], "max_tilts": 9}
    meta = export_stack(path, tmp_path / "a.mrcs", tmp_path / "a.json", binning=1, **options)
    assert meta["roll_deg"] == EVERYTHING["roll_deg"]
    with open_scan(path, options=KNOWN) as scan:
        corrections = corrections_of(scan, PreprocessBlock(**EVERYTHING))
        expected = corrections.sinograms(scan.read_rows(0, N_ROWS), (0, N_ROWS))
        frames = choose_tilts(scan.theta_rad, 9)
    with mrcfile.open(tmp_path / "a.mrcs", permissive=True) as file:
        assert np.allclose(file.data, expected[5:31, frames].transpose(1, 0, 2), atol=2e-5)
