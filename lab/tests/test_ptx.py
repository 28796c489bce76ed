"""The kernels as NVIDIA's compiler made them, on the CPU: right, and without faults of memory.

It takes minutes and is no part of `make test`: pytest lab/tests/test_ptx.py
"""

import numpy as np
import pytest
from tomopipe_lab.ptx.kernels import ARCHITECTURES, Kernel, KernelError, compile_to_ptx
from tomopipe_lab.ptx.translate import translated

from tests import cuda_on_cpu, pretend_cupy
from tests.unit.recon.test_cuda import CASES, _difference
from tomopipe.prep import device_kernels
from tomopipe.recon import cuda

TO_GRID = "if (value != 0.0f) atomicAdd(grid + to * record + lane, value);"
BARRIER = "    __syncthreads();\n"
FAULTS = {  # lines of gridding.cu, what takes their place, and what is then found
    "spread without atomics": (
        TO_GRID, TO_GRID.replace("atomicAdd(", "*(").replace(", value)", ") += value"),
        "spread: race:",
    ),
    "centre without its barrier": (BARRIER, "", "shared memory is read before|race:"),
    "a barrier that some threads do not reach": (
        "    const int number =", "    if (!lane) __syncthreads();\n    const int number =",
        "wait at a barrier",
    ),
    "one column too many": ("if (x < n_cols && y < n_cols)\n", "if (x <= n_cols && y < n_cols)\n",
                            "outside of all arrays|race:"),
    "bins beyond the last one": ("if (bin < n_bins) {\n            const long long",
                                 "{\n            const long long", "outside of all arrays|shared"),
    "a tile that is not cleared": (
        "for (int i = 0; i < SIDE * SIDE; ++i) tile[i * record + lane] = 0.0f;", "",
        "shared memory is read before it is written",
    ),
    "a tile that is too small": ("tile[i * record + lane] = 0.0f",
                                 "tile[(i + 1) * record + lane] = 0.0f", "outside of shared"),
    "two threads for each cell of a tile": ("const int lane = threadIdx.x,",
                                            "const int lane = threadIdx.x & ~1,", "race:"),
    "an array that is not aligned": (
        "images[((long long)blockIdx.z * n_cols + y) * n_cols + x] =",
        "*(float*)((char*)images + 1 + 4 * ((blockIdx.z * n_cols + y) * n_cols + x)) =",
        "misaligned",
    ),
}  # fmt: skip


@pytest.fixture
def on_ptx(monkeypatch):
    """Let the pretended CuPy run PTX; call it with an architecture, and a seed of the order."""
    pretend_cupy.install(monkeypatch)
    called = []

    def install(architecture="compute_80", seed=0):
        def get_function(module, name):
            kernel = Kernel(module._code, name, architecture)

            def run(grid, block, args, *, shared_mem=0):
                values = [getattr(each, "values", each) for each in args]
                kernel(grid, block, values, shared_mem, seed)
                called.append(name)

            return run

        monkeypatch.setattr(cuda_on_cpu.RawModule, "get_function", get_function)
        for each in (cuda.kernel, cuda._module):
            each.cache_clear()
        return called

    yield install
    for each in (cuda.kernel, cuda._module):
        each.cache_clear()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_give_the_slices_of_plain_lines(monkeypatch, on_ptx, architecture):
    monkeypatch.setattr(cuda, "GPU_ANGLES", 32)  # chunks, the last one smaller
    monkeypatch.setattr(cuda, "MAX_RUN", 20)
    called = on_ptx(architecture)
    for seed, case in enumerate(CASES.values()):
        called = on_ptx(architecture, seed)
        assert _difference(**case) < 3e-5
    assert set(called) == {"pad", "centre", "spread", "fold", "crop"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", device_kernels.SOURCES)
def test_raw_frames_are_corrected(on_ptx, architecture, dtype):
    on_ptx(architecture)
    rng, shape = np.random.default_rng(1), (3, 2, 300)
    raw = rng.integers(20, 120, shape).astype(dtype)
    dark = np.full(shape[1:], 10, np.float32)
    gain = rng.uniform(0.01, 0.02, shape[1:]).astype(np.float32)
    nearest = np.tile(np.arange(shape[2], dtype=np.int32), (shape[1], 1))
    gain[1, 7], nearest[1, 7] = 0, 8  # a dead pixel
    if raw.dtype.kind == "f":
        raw[1, 0, :2] = np.nan
    on_device = map(pretend_cupy.XP.asarray, (raw, dark, gain, nearest))
    lines = device_kernels.transmission(*on_device, empty=1.0, least=1e-6).get()
    expected = -np.log(np.take_along_axis((raw - dark) * gain, nearest[None], axis=2))
    if raw.dtype.kind == "f":
        expected[1, 0, :2] = expected[1, 0, 2]
    assert np.abs(lines - expected).max() < 2e-6


@pytest.mark.parametrize(("line", "instead", "found"), FAULTS.values(), ids=FAULTS)
def test_planted_faults_are_found(monkeypatch, on_ptx, line, instead, found):
    assert line in cuda.SOURCE
    monkeypatch.setattr(cuda, "SOURCE", cuda.SOURCE.replace(line, instead))
    monkeypatch.setattr(cuda, "MAX_RUN", 20)
    on_ptx()
    with pytest.raises(KernelError, match=found):
        _difference()


def test_an_instruction_that_is_not_known_is_an_error():
    ptx = compile_to_ptx(cuda.SOURCE, "compute_80")
    with pytest.raises(NotImplementedError, match=r"fma\.rz\.sat\.f32|add\.sat"):
        translated(ptx.replace("add.ftz.f32", "add.sat.f32"))
