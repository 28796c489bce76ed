"""full_recon on a GPU, pretended and real: the lines that CuPy runs."""

import json
import time
import weakref
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from tests import pretend_cupy
from tests.corrections import EVERYTHING, KNOWN
from tests.phantoms import write_scan
from tests.pretend_device import PretendDevice, cupy_is, in_place_of_cuda
from tests.step_calls import full_recon as step_of
from tests.step_calls import volume_of
from tomopipe.config.stripe_filters import STRIPE_FILTERS
from tomopipe.prep import correct, recipe
from tomopipe.recon import device
from tomopipe.recon import gpu as of_gpu
from tomopipe.recon.gpu import out_of_memory
from tomopipe.resources.memory import (
    MemoryInputs,
    batches_pinned_bytes,
    gpu_bytes,
)
from tomopipe.steps import full_recon
from tomopipe.stream.fit_options import GPU_SHARE, gpu_batch
from tomopipe.volumes.volume_read import read_mid_planes

pytestmark = pytest.mark.slow

N_ROWS, N_COLS, N_ANGLES, COR_PX = 21, 32, 31, 15.2


@pytest.fixture
def truth(tmp_path):
    return write_scan(
        tmp_path / "s_1.h5", n_rows=N_ROWS, n_cols=N_COLS, n_angles=N_ANGLES, phantom="rock",
        cor_px=COR_PX, dtype=np.uint16, counts=20000,
    )  # fmt: skip


def _volume(truth, name, device="cpu", **options):
    options |= {"cor_px": COR_PX, "device": device}
    return volume_of(truth.path, truth.path.with_name(name), **options)


OPTIONS = {
    "plain": {},
    "binned": {"binning": 2},
    "cropped": {"crop_x": [7, 25], "rows": [3, 19]},
    "whole numbers": {"dtype": "uint16"},
    "bytes of a range": {"dtype": "uint8", "value_range": [-0.001, 0.004]},
    "half precision": {"dtype": "float16", "compression": "gzip", "binning": 2},
    "zarr": {"output": "zarr"},
    "zarr of whole numbers": {"output": "zarr", "dtype": "uint16", "crop_y": [3, 30]},
    "tiff": {"output": "tiff", "dtype": "uint8"},
}


def _read(path, output):
    """Return all levels of a volume, its mid planes, and the notes on its values."""
    if output == "zarr":
        group = zarr.open_group(path, mode="r")
        levels = [group[name][:] for name in sorted(group.array_keys())]
        notes = group.attrs["tomopipe"]["attributes"]
    elif output == "tiff":
        levels = [np.stack([tifffile.imread(file) for file in sorted(path.glob("*.tiff"))])]
        notes = json.loads((path / "provenance.json").read_text())["attributes"]
    else:
        with h5py.File(path) as file:
            levels, notes = [file["exchange/data"][:]], dict(file["exchange/data"].attrs)
    return levels, read_mid_planes(path), notes


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_gpu_gives_the_volume_of_the_cpu(truth, monkeypatch, divide, options, gpu):
    """Values agree to 1e-4 of the range, stored numbers to that and one count."""
    divide(4, 8)
    output = options.get("output", "h5")

    def volume(name, device):
        path = truth.path.with_name(name)
        step_of(truth.path, path, cor_px=COR_PX, device=device, **options)
        return _read(path, output)

    expected, planes, notes = volume("cpu", "cpu")
    with in_place_of_cuda(monkeypatch, full_recon, gpu):
        found, found_planes, found_notes = volume("gpu", "cuda")
    dtype = np.dtype(options.get("dtype", "float32"))
    assert len(found) == len(expected)
    for level, other in zip(found, expected, strict=True):
        assert level.dtype == other.dtype == dtype
        step = 1 if dtype.kind == "u" else np.spacing(other.max())
        values = other.astype(float)
        np.testing.assert_allclose(level, values, atol=1e-4 * np.ptp(values) + step)
    span = notes["max"] - notes["min"]
    for name, plane in planes.items():
        np.testing.assert_allclose(found_planes[name], plane, atol=1e-4 * span)
    assert found_notes["min"] == pytest.approx(notes["min"], abs=1e-4 * span)
    assert found_notes["max"] == pytest.approx(notes["max"], abs=1e-4 * span)
    clipped = notes.get("clipped", 0)
    assert abs(found_notes.get("clipped", 0) - clipped) <= 0.02 * clipped + 2
    assert not options.get("value_range") or clipped > 100
    assert gpu.log.count("uploaded") == -(-len(expected[0]) // 4)
    planes_bytes = sum(plane.nbytes for plane in planes.values())
    n_small = 8 * len(expected[0]) + 8 * -(-len(expected[0]) // 4)
    assert gpu.n_downloaded == expected[0].nbytes + planes_bytes + n_small


def test_without_room_for_one_slice_the_error_is_raised(truth, monkeypatch, gpu):
    gpu.limit(100)
    short = pytest.raises(Exception, match="bytes")
    with in_place_of_cuda(monkeypatch, full_recon, gpu), short as caught:
        _volume(truth, "gpu", "cuda")
    assert out_of_memory(caught.value)
    assert [path.name for path in truth.path.parent.iterdir()] == ["s_1.h5"]


@pytest.mark.parametrize(("share", "on_gpu"), [(0.99, False), (1.01, True)])
def test_auto_takes_the_cpu_where_fewer_than_4_slices_fit(
    truth, monkeypatch, caplog, share, on_gpu, gpu
):
    """A GPU that is asked for goes on with what fits."""
    expected = _volume(truth, "cpu")
    inputs = MemoryInputs(N_ANGLES, N_ROWS, N_COLS, itemsize=2)
    free = int(share * gpu_bytes(inputs, 4) / 0.8)
    gpu.free_bytes = lambda: free
    with in_place_of_cuda(monkeypatch, full_recon, gpu):
        found = _volume(truth, "auto", "auto")
        n_uploaded = gpu.log.count("uploaded")
        assert gpu.log[-1] == "released"
        _volume(truth, "cuda", "cuda")
    assert n_uploaded == (6 if on_gpu else 0)
    assert gpu.log.count("uploaded") - n_uploaded == (6 if on_gpu else 11)  # by 4, or by 2
    if not on_gpu:
        assert (found == expected).all()
    lines = [record.getMessage() for record in caplog.records if "auto uses" in record.msg]
    assert len(lines) == (not on_gpu)
    if lines:
        assert f"{free / 1e9:.3g} GB of {gpu.name} are free, and 4 slices take" in lines[0]


@pytest.mark.parametrize(("spare", "expected"), [(1, [16, 5]), (-1, 21 * [1])])
def test_stripes_of_a_batch_go_in_one_call_where_there_is_memory(
    truth, monkeypatch, gpu, spare, expected
):
    remove, calls = correct.resolve_name(STRIPE_FILTERS["vo"].function), []

    def note(sinograms, options):
        calls.append(len(sinograms))
        return remove(sinograms, options)

    for module in (correct, recipe):
        monkeypatch.setattr(module, "stripe_rows", lambda n_angles, n_cols: 1)
    monkeypatch.setattr(correct, "resolve_name", lambda _: note)
    inputs = MemoryInputs(N_ANGLES, N_ROWS, N_COLS, itemsize=2, halo=0)
    free = int(gpu_bytes(inputs, 16, stripes_together=True) / GPU_SHARE) + spare
    gpu.free_bytes = lambda: free
    with in_place_of_cuda(monkeypatch, full_recon, gpu):
        _volume(truth, "gpu", "cuda", corrections={"stripes": {"method": "vo"}})
    assert calls == expected


@pytest.mark.parametrize("size", [512, 2048, 4096])
def test_batches_of_common_devices(size):
    """How many an 8 GB GPU takes at a time; one of 141 GB takes 16 of any size."""
    inputs = MemoryInputs(3 * size // 2, size, size, itemsize=2)
    expected = {512: 16, 2048: 16, 4096: 4}
    assert gpu_batch(inputs, 8 * 10**9) == expected[size]
    assert gpu_batch(inputs, 140 * 10**9) == 16
    assert gpu_batch(inputs, 0) == 1


class PinnedPool:
    """Counts pinned memory as CuPy's pool has it: by powers of two, kept for the same size."""

    def __init__(self):
        self.n_bytes, self._free = 0, []

    def take(self, shape, dtype):
        array = np.empty(shape, dtype)
        size = 1 << max(array.nbytes - 1, 511).bit_length()
        for _ in range(20):  # a thread that is done drops its array a moment later
            if size not in self._free:
                time.sleep(0.002)
        if size in self._free:
            self._free.remove(size)
        else:
            self.n_bytes += size
        weakref.finalize(array, self._free.append, size)
        return array


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([0, 20], {}),  # a last batch of one, of 4
        ([0, 18], {"dtype": "uint16"}),  # of three
        ([4, 20], {"corrections": EVERYTHING, "known": KNOWN}),
        ([0, 20], {"binning": 2, "output": "tiff", "dtype": "uint8"}),
    ],
)
def test_pinned_memory_is_what_the_formula_says(truth, monkeypatch, divide, rows, options):
    blocks, pool = divide(4, 8, behind=2), PinnedPool()
    monkeypatch.setattr(pretend_cupy.MODULES["cupyx"], "empty_pinned", pool.take)
    path = truth.path.with_name("gpu")
    with in_place_of_cuda(monkeypatch, full_recon, PretendDevice()):
        step_of(truth.path, path, cor_px=COR_PX, device="cuda", rows=rows, **options)
    formula = batches_pinned_bytes(divide.inputs[0], blocks)
    assert 0.4 * formula < pool.n_bytes <= formula


@pytest.mark.parametrize("follow", [True, False])
def test_volumes_that_follow_each_other_share_the_test_slice_and_pinned_memory(
    truth, monkeypatch, divide, follow
):
    """And nothing else: the second one is that of the first."""
    divide(4, 8)
    monkeypatch.setattr(of_gpu, "volumes_follow", follow)
    monkeypatch.setattr(of_gpu, "_before", [])
    tests, take, pool = [], device._fault_of_slice, PinnedPool()
    pool.free_all_blocks = pool._free.clear
    with cupy_is(monkeypatch, pretend_cupy.XP):
        monkeypatch.setattr(pretend_cupy.MODULES["cupyx"], "empty_pinned", pool.take)
        monkeypatch.setattr(pretend_cupy.XP, "get_default_pinned_memory_pool", lambda: pool)
        monkeypatch.setattr(device, "_fault_of_slice", lambda xp: [tests.append(xp), take(xp)][1])
        first, n_bytes = _volume(truth, "gpu", "cuda"), pool.n_bytes
        np.testing.assert_array_equal(_volume(truth, "gpu", "cuda"), first)
    assert len(tests) == 1
    assert n_bytes > 0
    assert (pool.n_bytes == n_bytes) == follow


def test_pinned_memory_of_sample_slices_is_given_back(truth, monkeypatch):
    """CuPy keeps it in sizes that the volume does not take."""
    with in_place_of_cuda(monkeypatch, full_recon, PretendDevice()) as gpu:
        pool = SimpleNamespace(free_all_blocks=lambda: gpu.log.append("pinned memory freed"))
        monkeypatch.setattr(gpu.xp, "get_default_pinned_memory_pool", lambda: pool)
        _volume(truth, "gpu", "cuda", dtype="uint16")
    assert gpu.log[0] == "pinned memory freed"
    assert gpu.log[1] == "uploaded"


@pytest.mark.parametrize(
    "options", [{}, {"binning": 2, "dtype": "uint16"}, {"rows": [5, 17]}], ids=str
)
def test_a_gpu_corrects_rows_that_are_sent_once(truth, monkeypatch, divide, options, caplog, gpu):
    """Values to 1e-4 of the range; raw rows of two bytes are uploaded, each once."""
    options = options | {"corrections": EVERYTHING, "known": KNOWN}
    expected = _volume(truth, "cpu", **options).astype(float)
    plain = _volume(truth, "plain", **{k: v for k, v in options.items() if k != "corrections"})
    divide(4, 8)
    uploaded = []
    with in_place_of_cuda(monkeypatch, full_recon, gpu):
        upload = gpu.upload
        gpu.upload = lambda host, there: [uploaded.append(host), upload(host, there)]
        found = _volume(truth, "gpu", "cuda", **options).astype(float)
    step = 1 if options.get("dtype") else 0
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected) + step)
    assert np.abs(plain - expected).max() > 0.05 * np.ptp(expected)
    assert {host.dtype for host in uploaded} == {np.dtype(np.uint16)}
    n_used = sum(host.shape[1] for host in uploaded)
    assert n_used <= N_ROWS  # but for those that the range of whole numbers is taken from
    assert "CPU" not in caplog.text


@pytest.mark.parametrize("options", [{}, {"corrections": EVERYTHING, "known": KNOWN}], ids=str)
def test_rows_that_need_no_decoding_are_read_into_pinned_memory(
    tmp_path, monkeypatch, divide, reads, options, gpu
):
    """Those of a batch, each row once; values are those of the CPU to 1e-4 of the range."""
    truth = write_scan(
        tmp_path / "s_1.h5", n_rows=N_ROWS, n_cols=N_COLS, n_angles=N_ANGLES, phantom="rock",
        cor_px=COR_PX, dtype=np.uint16, counts=20000, chunks=False,
    )  # fmt: skip
    expected = _volume(truth, "cpu", **options)
    divide(4, 8)
    pinned = []
    new_pinned = gpu.pinned
    gpu.pinned = lambda *args: pinned.append(new_pinned(*args)) or pinned[-1]
    reads.clear()
    with in_place_of_cuda(monkeypatch, full_recon, gpu):
        found = _volume(truth, "gpu", "cuda", **options)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))
    # but for those few that the edge slopes are measured in
    n_read = [n_rows for n_rows, out in reads if out is not None]
    assert all(out is None or any(out is memory for memory in pinned) for _, out in reads)
    assert sum(n_read) == N_ROWS
    assert options or n_read == [4, 4, 4, 4, 4, 1]


@pytest.mark.parametrize(
    ("stored", "n_all"), [({"chunks": False}, 0), ({}, 0), ({"compression": "gzip"}, 1)], ids=str
)
def test_what_is_read_into_pinned_memory_is_counted_there_alone(
    tmp_path, monkeypatch, divide, reads, stored, n_all
):
    """All rows are one batch: read into other memory once where chunks are to be decoded."""
    truth = write_scan(tmp_path / "s_1.h5", n_rows=16, n_cols=N_COLS, n_angles=N_ANGLES, **stored)
    divide(16, 32, behind=2)
    with in_place_of_cuda(monkeypatch, full_recon, PretendDevice()):
        _volume(truth, "gpu", "cuda")
    assert {of.in_place for of in divide.inputs} == {n_all == 0}
    assert sum(n_rows == 16 and out is None for n_rows, out in reads) == n_all
    reads.clear()
    _volume(truth, "cpu")
    assert divide.inputs[-1].in_place is False


@pytest.mark.gpu
def test_a_job_takes_a_real_gpu_for_itself(truth):
    options = {"dtype": "uint16", "binning": 2, "corrections": EVERYTHING, "known": KNOWN}
    expected = _volume(truth, "cpu", **options).astype(float)
    found = _volume(truth, "gpu", "cuda", **options).astype(float)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected) + 1)
