"""The parts that are run on a GPU first, at a small size."""

import json
import sys
from pathlib import Path

import pytest

from tests.pretend_device import cupy_is

FOLDER = Path(__file__).parents[2] / "lab/benchmarks"
KEYS = {
    "start": {"name", "cupy", "own_kernels", "ready_s", "next_kernel_s", "taken_MB"},
    "correct": {"64", "whole"},
    "memory": {"32 x 16", "64 x 16", "64 x 4", "128 x 16", "short"},
    "speed": {"block_16_ms", "queue_1_ms", "rfft_ms", "irfft2_ms", "to_device_GB_per_s"},
    "sweep": {"n_cor", "ms"},
    "forked": {"array_module", "to_cpu"},
}


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)  # of the process that is forked, too
    monkeypatch.delitem(sys.modules, "gpu_measure", raising=False)
    import gpu_measure

    return gpu_measure


def _run(measure, folder, *parts):
    status = measure.main([*parts, "--n", "64", "--angles", "40", "--folder", str(folder)])
    return status, json.loads((folder / "measured.json").read_text())


def test_every_part_writes_its_figures(measure, monkeypatch, tmp_path, xp):
    with cupy_is(monkeypatch, xp):
        status, result = _run(measure, tmp_path)
    assert list(result) == list(KEYS)
    for name, part in result.items():
        assert KEYS[name] < set(part), part
    assert status == 0
    assert all(case["to_cpu"] < 1e-4 for case in (result["correct"]["whole"], result["forked"]))
    assert result["memory"]["short"]["difference"] < 1e-5


def test_a_part_goes_on_after_another_one_failed(measure, monkeypatch, tmp_path):
    with cupy_is(monkeypatch, None):
        status, result = _run(measure, tmp_path, "start", "forked")
    assert status == 1
    assert "no GPU can be used" in result["start"]["failed"]
    assert result["forked"]["to_cpu"] < 1e-4
