"""Memory: what jobs, sweeps and the engine take is what the formulas say, whatever the height."""

import json
import os
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tomopipe.config import FullReconBlock
from tomopipe.prep.half_acquisition import HalfAcquisition, plan_of
from tomopipe.prep.recipe import stripe_rows
from tomopipe.recon.angular_sampling import unpaired
from tomopipe.recon.fbp import reconstruct, sweep_batches
from tomopipe.recon.gpu import pinned_bytes
from tomopipe.recon.plan import angles_at_once, make_plan
from tomopipe.resources.jobs import (
    export_stack_mb,
    full_recon_mb,
    predict_cor_mb,
    try_recon_mb,
)
from tomopipe.resources.memory import (
    BASE_BYTES,
    Blocks,
    MemoryInputs,
    batches_pinned_bytes,
    bytes_to_use,
    engine_bytes,
    job_buffers,
    job_bytes,
    standard_blocks,
)
from tomopipe.stream.fit_options import are_stripes_together, choose_blocks, gpu_batch, usable_bytes
from tomopipe.stream.try_sweep import sweep_bytes, sweep_slices
from tomopipe.volumes.encoding import encoding_of
from tomopipe.volumes.volume import new_volume

SCAN = MemoryInputs(3072, 2048, 2048, itemsize=2, full_rotation=False, decode_bytes=0)
USUAL = (3072, 2048, 2048)
# the worst case, of a full rotation
LARGE = MemoryInputs(6144, 4096, 4096, itemsize=2, full_rotation=True, decode_bytes=0)


@pytest.mark.parametrize("inputs", [SCAN, LARGE], ids=["2048", "4096"])
@pytest.mark.parametrize("memory_gb", [0.1, 1.2, 1.5, 2, 3.2, 20, 40, 60])
@pytest.mark.parametrize("chunk_rows", [1, 24, 96, 100, 2048])
def test_blocks_fit_the_memory(inputs, memory_gb, chunk_rows):
    """Of whole batches, and of whole chunks where memory allows it."""
    blocks = choose_blocks(inputs, int(memory_gb * 1e9), chunk_rows=chunk_rows)
    assert blocks.height % blocks.batch_size == 0
    fits = job_bytes(inputs, blocks) <= memory_gb * 1e9
    assert fits or (blocks.batch_size, blocks.ahead) == (4, 0)
    assert fits or memory_gb < 3.2
    if memory_gb == 60 and inputs is SCAN:
        assert blocks.height % chunk_rows == 0
    assert choose_blocks(inputs, int(memory_gb * 1e9), chunk_rows=2048, n_rows=40).height <= 48


@pytest.mark.parametrize("memory_gb", [2, 3, 5, 8, 12, 20])
def test_tall_chunks_get_the_tallest_blocks_that_fit(memory_gb):
    memory = int(memory_gb * 1e9)
    blocks = choose_blocks(SCAN, memory, chunk_rows=2048)
    assert job_bytes(SCAN, blocks) <= memory
    taller = replace(blocks, height=blocks.height + blocks.batch_size)
    assert job_bytes(SCAN, taller) > memory
    assert blocks.ahead == 0  # a second block would make both lower


@pytest.mark.parametrize(
    ("threads", "memory_gb", "workers"),
    [(1, 60, 1), (2, 20, 2), (16, 60, 16), (16, 14, 15), (16, 9, 8), (16, 5.5, 4), (16, 3, 1)],
)
def test_threads_work_side_by_side_as_far_as_memory_goes(threads, memory_gb, workers):
    """At least three quarters of the threads are used: 16 are not cut into 9 times one."""
    inputs = replace(SCAN, threads=threads)
    blocks = choose_blocks(inputs, int(memory_gb * 1e9))
    assert (blocks.workers, blocks.batch_size) == (workers, 16)
    assert job_bytes(inputs, blocks) <= memory_gb * 1e9
    assert choose_blocks(inputs, int(memory_gb * 1e9), n_rows=40).workers <= 3
    for other in (replace(inputs, on_gpu=True), replace(inputs, iterative=True)):
        assert choose_blocks(other, int(memory_gb * 1e9)).workers == 1


def test_a_machine_gives_no_more_than_it_has():
    (total,) = re.findall(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    assert usable_bytes(10**8) == 10**8
    assert usable_bytes(10**18) == pytest.approx(0.7 * 1024 * int(total), rel=1e-3)


def test_memory_is_asked_for_no_more_than_so_much_per_worker():
    one_mb, two, many = (full_recon_mb(USUAL, threads=n) for n in (1, 2, 16))
    assert 1000 < two - one_mb < 3.2e3
    assert 15 * 1000 < many - one_mb < 15 * 3.2e3
    large, large_many = (full_recon_mb((6144, 4096, 4096), threads=n) for n in (1, 16))
    assert large_many - large < 15 * 3.2e3
    inputs = MemoryInputs(3072, 2048, 2048, threads=16)
    assert choose_blocks(inputs, bytes_to_use(many)) == standard_blocks(inputs)


@pytest.mark.parametrize("size", [256, 512, 1024, 2048, 4096])
@pytest.mark.parametrize("halo", [None, 20, 70])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_job_on_a_gpu_stays_within_what_it_asked_for(size, halo, device):
    """For `auto`, which asks for what a CPU needs, batches are smaller."""
    shape = 3 * size // 2, size, size
    job_mb = full_recon_mb(shape, FullReconBlock(device=device), halo=halo)
    inputs = MemoryInputs(*shape, itemsize=2, full_rotation=False, on_gpu=True, halo=halo)
    blocks = choose_blocks(inputs, bytes_to_use(job_mb))
    assert job_bytes(inputs, blocks) <= 1e6 * job_mb
    if device == "cuda":
        assert blocks.batch_size == 16
        assert job_bytes(replace(inputs, itemsize=4), standard_blocks(inputs)) < 0.8e6 * job_mb


def test_pinned_memory_is_counted_in_powers_of_two():
    """16 slices of 2048 x 2048 from 3072 projections of 2 bytes: 201 MB of rows take 268."""
    assert [pinned_bytes(n) for n in (0, 1, 513, 2**20, 2**20 + 1)] == [0, 512, 1024, 2**20, 2**21]
    blocks, on_gpu = Blocks(16, 32, behind=2), replace(SCAN, on_gpu=True)
    taller = replace(on_gpu, n_angles=4097)
    assert job_bytes(taller, blocks) - job_bytes(on_gpu, blocks) > 2.5 * 2**28


@pytest.mark.parametrize("halo", [None, 20])
def test_rows_that_are_read_into_pinned_memory_take_no_other(halo):
    """Two blocks of 32 rows, 805 MB, and 20 rows around: memory that larger batches may take."""
    staged = replace(SCAN, on_gpu=True, halo=halo)
    in_place, blocks = replace(staged, in_place=True), Blocks(16, 32, behind=2)
    rows = 2 * 32 + (2 * halo if halo else 0)
    saved = job_bytes(staged, blocks) - job_bytes(in_place, blocks)
    assert saved == rows * 3072 * 2048 * 2
    enough = job_bytes(in_place, replace(blocks, height=16))
    assert choose_blocks(in_place, enough) == replace(blocks, height=16)
    assert choose_blocks(in_place, enough - 1).batch_size == 8
    assert choose_blocks(staged, enough).batch_size < 16


@pytest.mark.parametrize(
    ("size", "gpu_gb", "rows"),
    [(1024, 8, 16), (2048, 8, 4), (2048, 12, 16), (4096, 24, 1), (4096, 48, 16)],
    ids=str,
)
def test_stripes_go_in_as_few_calls_as_leave_a_gpu_its_batches(size, gpu_gb, rows):
    """16 slices of that size from raw values of 2 bytes, corrected."""
    n_angles, free_bytes = 3 * size // 2, gpu_gb * 10**9
    inputs = MemoryInputs(n_angles, size, size, itemsize=2, on_gpu=True, halo=0)
    assert gpu_batch(inputs, free_bytes) == 16
    together = are_stripes_together(inputs, 16, free_bytes)
    assert (16 if together else min(stripe_rows(n_angles, size), 16)) == rows


def test_the_memory_asked_for_is_enough_for_full_blocks():
    asked = bytes_to_use(full_recon_mb(USUAL))
    assert choose_blocks(SCAN, asked) == standard_blocks(SCAN)
    assert full_recon_mb(USUAL, FullReconBlock(binning=2)) < 4 * full_recon_mb(USUAL)
    assert full_recon_mb(USUAL, FullReconBlock(output="zarr")) > full_recon_mb(USUAL)
    assert full_recon_mb(USUAL, FullReconBlock(compression="gzip")) > full_recon_mb(USUAL)
    # the detector's height costs two pictures of it, in MB, and nothing else
    more = full_recon_mb((3072, 6048, 2048)) - full_recon_mb(USUAL)
    assert more == pytest.approx(8 * 4000 * 2048 / bytes_to_use(1), abs=1)


PLAIN = MemoryInputs(1000, 500, 1000, itemsize=2, full_rotation=False, decode_bytes=0)
LINES_MB = 16 * angles_at_once(1000, 1000) * 4e-3  # of the sinograms of 16 slices in work
BEAM_MB, STRIPES_MB, NORMALISED_MB = 5 * 2, 512 * 1.048576, 64 * 1.048576


@pytest.mark.parametrize(
    ("inputs", "blocks", "rows_mb", "lines_mb", "slices_mb", "more_mb"),
    [
        ({}, {}, 64 * 2, LINES_MB, 2 * 64, 0),
        ({"full_rotation": True}, {}, 64 * 2, 2 * LINES_MB, 2 * 64, 0),
        ({}, {"workers": 3}, (64 + 32) * 2, 3 * LINES_MB, 4 * 64, 0),
        (
            {"halo": 10}, {"workers": 3}, (32 + 20) * 2 + (64 + 32) * 4, 3 * LINES_MB, 4 * 64,
            BEAM_MB + STRIPES_MB + 3 * NORMALISED_MB,
        ),
        ({"on_gpu": True}, {"behind": 2}, 64 * 2, 0, 0, 128 * 1.048576 + 6 * 2),
        ({"on_gpu": True, "halo": 10}, {}, 84 * 2, 0, 0, 128 * 1.048576 + 6 * 2 + BEAM_MB),
    ],
    ids=["plain", "full rotation", "3 workers", "corrected", "GPU", "corrected on a GPU"],
)  # fmt: skip
def test_a_job_takes_what_its_buffers_do(inputs, blocks, rows_mb, lines_mb, slices_mb, more_mb):
    """Counted by hand: 1000 frames of 500 x 1000 pixels of 2 bytes, slices of 4 MB, 16 a batch."""
    inputs, blocks = replace(PLAIN, **inputs), Blocks(16, 32, **blocks)
    if inputs.on_gpu:
        computing = batches_pinned_bytes(inputs, blocks)
    else:
        computing = engine_bytes(1000, 1000, 16, groups=blocks.workers)
    always_mb = 400 * 1.048576 + NORMALISED_MB + 2 * 2  # with flat and dark
    encoded_mb = 4 * 4  # one slice and the middle one, both as values and as stored
    total_mb = always_mb + rows_mb + lines_mb + slices_mb + encoded_mb + more_mb
    assert job_bytes(inputs, blocks) == pytest.approx(1e6 * total_mb + computing, abs=1)


def _virtual_scan(folder, n_angles, n_rows, n_cols, n_frames=4, **options):
    """A scan of any size on little disk: a few frames, repeated."""
    rng = np.random.default_rng(0)
    columns = 20000 + 5000 * np.cos(np.linspace(0, 7, n_cols))
    frames = rng.normal(columns, 300, (n_frames, n_rows, n_cols)).astype(np.uint16)
    with h5py.File(folder / "frames.h5", "w") as file:
        file.create_dataset("d", data=frames, **options)
    layout = h5py.VirtualLayout((n_angles, n_rows, n_cols), "u2")
    source = h5py.VirtualSource("frames.h5", "d", frames.shape)
    for first in range(0, n_angles, n_frames):
        n = min(n_frames, n_angles - first)
        layout[first : first + n] = source[:n]
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_virtual_dataset("exchange/data", layout)
        file["exchange/data_white"] = np.full((1, n_rows, n_cols), 30000, np.uint16)
        file["exchange/data_dark"] = np.zeros((1, n_rows, n_cols), np.uint16)
        file["exchange/theta"] = np.linspace(0, 180, n_angles)
    return folder / "scan.h5"


_RUN = """
import json, logging, resource, sys, warnings
from tests.step_calls import full_recon
from tomopipe.stream.stream import logger
from tomopipe.stream import fit_options as _fit
from tomopipe.resources import memory as _memory
path, out, limit_bytes, options = sys.argv[1:]
limit_bytes = int(limit_bytes)
# what is allocated, not what address space is reserved
resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
found = {}
choose = _fit.choose_blocks
def chosen(inputs, memory_bytes, **more):
    blocks = choose(inputs, memory_bytes, **more)
    found["formula_bytes"] = _memory.job_bytes(inputs, blocks)
    found["batch_size"], found["height"] = blocks.batch_size, blocks.height
    found["halo"] = inputs.halo
    return blocks
_fit.choose_blocks = chosen
full_recon(path, out, device="cpu", threads=2, **json.loads(options))
# of this process alone: getrusage() counts what its parent held when it was forked
with open("/proc/self/status") as status:
    found["peak_bytes"] = 1024 * next(int(l.split()[1]) for l in status if l.startswith("VmHWM"))
print(json.dumps(found))
"""


def _run(path, out, limit_bytes, **options):
    result = subprocess.run(
        [sys.executable, "-c", _RUN, str(path), str(out), str(limit_bytes), json.dumps(options)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "compression", "limit"),
    [("h5", "none", 1.1e9), ("h5", "gzip", 1.4e9), ("zarr", "none", 1.9e9)],
)
def test_a_job_stays_below_its_formula_and_below_a_hard_limit(tmp_path, output, compression, limit):
    """3.4 GB of projections in 1.1 to 1.9 GB, by format."""
    path = _virtual_scan(tmp_path, 800, 1024, 2048)
    found = _run(
        path, tmp_path / "out", int(1.1 * limit),
        cor_px=1020.3, rows=[500, 511], memory_bytes=int(limit),
        output=output, compression=compression,
    )  # fmt: skip
    assert found["formula_bytes"] <= limit
    assert found["peak_bytes"] < found["formula_bytes"]
    assert found["peak_bytes"] > 0.4 * found["formula_bytes"]  # nor is it promised for nothing


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height(tmp_path):
    peaks = []
    for n_rows in (48, 432):
        folder = tmp_path / str(n_rows)
        folder.mkdir()
        path = _virtual_scan(folder, 100, n_rows, 256)
        found = _run(path, folder / "out", 2**31, cor_px=127.3, memory_bytes=5 * 10**8)
        peaks.append(found["peak_bytes"])
    detector_bytes = 8 * 384 * 256 * 3  # averages of flats and darks, and their sum
    # 384 rows more are 20 MB raw, 101 MB of slices
    assert peaks[1] - peaks[0] < detector_bytes + 10e6


@pytest.mark.slow
def test_corrections_do_not_double_the_peak(tmp_path):
    """With a quarter of a block around each, below a hard limit of 1 GB all in all."""
    path = _virtual_scan(tmp_path, 2400, 96, 256, n_frames=32)
    options = {
        "cor_px": 127.3,
        "rows": [16, 79],
        "memory_bytes": 3 * 10**9,
        "known": {"energy_kev": 25, "distance_mm": 50, "pixel_size_um": 1},
    }
    plain = _run(path, tmp_path / "plain.h5", 3 * 10**9, **options)
    corrections = {
        "phase": {"method": "paganin", "delta_beta": 6},
        "stripes": {"method": "sorting"},
        "bad_pixels": {"threshold": 0.5},
    }
    found = _run(path, tmp_path / "corrected.h5", 10**9, corrections=corrections, **options)
    assert (found["height"], found["halo"]) == (plain["height"], plain["height"] // 4)
    of_numba = 80e6  # which some corrections load
    assert found["peak_bytes"] < min(found["formula_bytes"], 2 * plain["peak_bytes"] + of_numba)
    assert found["peak_bytes"] > 1.1 * plain["peak_bytes"]  # they were at work


def test_what_is_asked_for_grows_with_what_is_done():
    wide = full_recon_mb((1801, 64, 2048), FullReconBlock(), is_half=True)
    plain = full_recon_mb((1801, 64, 2048))
    assert 1.3 * plain < wide < 4 * plain  # slices of twice the width
    # 11 more changes of the beam, of which a job plans with four fifths
    more_mb = full_recon_mb(USUAL, halo=0, n_shapes=14) - full_recon_mb(USUAL, halo=0)
    assert more_mb == pytest.approx(11 * 4e-6 * USUAL[1] * USUAL[2] / 0.8, abs=1)
    # raw and corrected rows around a block: 8 bytes for each pixel of 100 rows
    assert export_stack_mb(1000, 2000, halo=100) - export_stack_mb(1000, 2000, halo=0) == 1600
    assert export_stack_mb(1000, 2000, halo=0) > export_stack_mb()
    assert try_recon_mb(None, is_corrected=True) > try_recon_mb(None, is_corrected=False)
    assert predict_cor_mb(0.1) < 700 < predict_cor_mb(30)  # four side by side on a node of 4 GB


def peak_of(work):
    work()  # loads what is loaded once
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_writing_takes_what_the_formula_says(tmp_path):
    """Besides the batch: a slice being encoded, and the middle one, as values and as stored."""
    slices = np.linspace(0, 1, 4 * 600**2, dtype=np.float32).reshape(4, 600, 600)

    def work():
        encoding = encoding_of("uint16", (0, 1))
        with new_volume(tmp_path / "v.h5", slices.shape, encoding=encoding) as put:
            put(0, slices)

    buffers = job_buffers(MemoryInputs(0, 0, 600), Blocks(4, 0))
    formula = sum(buffers[name] for name in buffers if re.search("encoded|middle", name))
    assert 0.75 * formula < peak_of(work) < formula


@pytest.mark.parametrize("batch_size", [4, 16])
def test_engine_takes_what_the_formula_says(batch_size):
    n_angles, n_cols = 300, 400
    theta_rad = np.linspace(0, np.pi, n_angles, endpoint=False)
    rows = np.ones((batch_size, n_angles, n_cols), np.float32)
    images_bytes = 4 * batch_size * n_cols**2

    def work():
        reconstruct(rows, make_plan(theta_rad, n_cols), 200.0, threads=2)

    used = peak_of(work) - images_bytes
    assert 0.5 * engine_bytes(n_angles, n_cols, batch_size) < used
    assert used < engine_bytes(n_angles, n_cols, batch_size)


def test_sweep_does_not_grow_with_the_number_of_cors():
    theta_rad = np.linspace(0, np.pi, 100, endpoint=False)
    sinogram = np.ones((100, 200), np.float32)
    plan = make_plan(theta_rad, 200)

    def work(n_cor):
        for _ in sweep_batches(sinogram, plan, np.linspace(90, 110, n_cor), threads=1):
            pass

    few, many = peak_of(lambda: work(16)), peak_of(lambda: work(160))
    assert many < few + 2**20
    assert few < sweep_bytes(100, 200, 16)


def test_a_sweep_of_half_acquisition_widens_a_sinogram_for_each_slice():
    theta_rad = np.deg2rad(np.arange(4000) * 360 / 4000)
    half = HalfAcquisition(32, 28.0, unpaired(theta_rad))

    def work():
        plan = plan_of(theta_rad, half, True)
        sinogram = np.ones((4000, 32), np.float32)
        for _ in sweep_slices(sinogram, plan, np.linspace(24, 30, 20), (0.0, 0.0), threads=1):
            pass

    formula = sweep_bytes(4000, 64, 16, is_half=True) - BASE_BYTES
    assert 0.5 * formula < peak_of(work) < formula
