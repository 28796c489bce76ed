import io
import sys

import numpy as np
import pytest
from rich.console import Console
from tomopipe_lab.bench import fourierrec, gpu, gpu_passes, gpu_ways, tables

from tests import cuda_on_cpu, nvrtc, pretend_cupy
from tests.pretend_device import BOTH_ORDERS
from tomopipe.recon import cuda
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan


def _text(table):
    out = io.StringIO()
    Console(width=200, file=out).print(table)
    return out.getvalue()


@pytest.fixture
def device(gpu):
    return gpu


def test_blocks_come_back_as_slices_of_the_raw_counts(device):
    scan = gpu_ways.simulated(90, 48)
    plan = make_plan(scan.theta_rad, 48)
    there = make_plan(scan.theta_rad, 48, xp=device.xp)
    shapes = []

    def compute(rows):
        shapes.append(rows.shape)
        return reconstruct(rows, there, scan.cor_px)

    slices = gpu.stream_blocks(device, scan, gpu_ways.Way(compute, gpu_ways.normalised(3)), 7, 3)
    assert shapes == 3 * [(3, 90, 48)]
    attenuation = -np.log(scan.raw / 40000.0).astype(np.float32)
    expected = reconstruct(attenuation[None], plan, scan.cor_px)[0]
    np.testing.assert_allclose(slices, np.stack(3 * [expected]), atol=1e-4 * np.ptp(expected))


def test_the_comparison_of_a_gpu(device, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomocupy", None)
    results = gpu.compare(device, gpu_ways.simulated(192, 128), 4, 2, 2)
    ours, encoded, corrected, peer, rewritten, *staged = results
    assert rewritten.sharp_db == pytest.approx(ours.sharp_db, abs=1.5)
    assert [result.name for result in staged][:1] == ["tomopipe, staged by 1 thread"]
    assert all(result.seconds.low > 0 for result in staged)
    assert ours.sharp_db > 35
    assert encoded.sharp_db == pytest.approx(ours.sharp_db, abs=0.1)
    assert encoded.stored_itemsize == 2
    assert 10 < corrected.sharp_db < ours.sharp_db - 1  # it blurs
    assert "zingers, air_px, phase, stripes" in corrected.name
    assert all(result.seconds.low > 0 for result in (ours, encoded, corrected))
    if device.xp is pretend_cupy.XP:  # bytes that came back
        assert encoded.device_bytes < 0.6 * ours.device_bytes
    assert (peer.name, peer.missing) == ("TomoCuPy fourierrec", "not installed")
    copies = gpu.Copies(to_device=50e9, to_host=25e9)
    work_s = {"memory": 1e9, "FFT": 0.1}
    text = _text(tables.gpu_table((192, 4, 128), copies, work_s, results))
    assert "(memory)" in text
    assert "not installed" in text
    assert "50.0 GB/s to the device" in text


@BOTH_ORDERS
def test_fourierrec_written_anew_gives_our_slices(xp):
    """Within the circle: its rows repeat beyond the detector."""
    scan = gpu_ways.simulated(120, 64)
    lines = -np.log(scan.raw / 40000.0) * np.array([1, 0.5, 0.2])[:, None, None]
    lines = lines.astype(np.float32)
    expected = reconstruct(lines, make_plan(scan.theta_rad, 64), scan.cor_px)
    compute = fourierrec.fourierrec(xp, scan.theta_rad, 64, scan.cor_px)
    found = compute(xp.asarray(lines)).get()
    y, x = np.ogrid[:64, :64]
    inside = (x - 32) ** 2 + (y - 31) ** 2 < 27**2
    for image, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(image[inside], other[inside], atol=0.05 * np.ptp(other))
        assert np.corrcoef(image[inside], other[inside])[0, 1] > 0.998


def test_nvidias_compiler_takes_fourierrec_written_anew():
    assert "warning" not in nvrtc.compiled(fourierrec.SOURCE, "sm_90")[1]


def test_every_pass_is_timed(device):
    scan = gpu_ways.simulated(90, 48)
    passes = gpu_passes.measure_passes(device, scan, 3)
    assert {step.name for step in passes} > set(cuda_on_cpu.kernels_of(cuda.SOURCE))
    assert all(step.seconds > 0 for step in passes)
    assert "centre" in _text(tables.passes_table(3, passes, 4e12, "n = 48"))
    bounds_s = gpu_passes.bounds_s(passes, 1e9, 2)
    assert bounds_s["memory"] == 2 * sum(step.n_bytes for step in passes) / 1e9
    fft_s = [step.seconds for step in passes if step.name in ("rfft", "irfft2")]
    assert bounds_s["FFT"] == pytest.approx(2 * sum(fft_s))


def test_traffic_of_16_slices_of_2048():
    """By hand: 9 GB for the engine, of which transforms 3."""
    plan = make_plan(np.linspace(0, np.pi, 3072, endpoint=False), 2048)
    by_name = {step.name: step for step in gpu_passes.passes_of(plan, 16)}
    assert by_name["rfft"].n_bytes == pytest.approx(2 * 16 * 3072 * 4096 * 4, rel=1e-3)
    engine = set(by_name) - {"transmission", "range"}
    assert sum(by_name[name].n_bytes for name in engine) == pytest.approx(9.2e9, rel=0.05)


def test_the_bound_is_the_slower_way():
    shape = (3072, 2048, 2048)
    in_s, out_s = 3072 * 2048 * 2048 * 2 / 50e9, 2048**3 * 4 / 50e9
    assert gpu.Copies(50e9, 50e9).bound_s(*shape) == pytest.approx(out_s)
    assert gpu.Copies(10e9, 50e9).bound_s(*shape) == pytest.approx(5 * in_s)
    assert gpu.Copies(50e9, 50e9).bound_s(*shape, 2) == pytest.approx(in_s)
