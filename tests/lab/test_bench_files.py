"""The comparison of a volume from file to file with a plain copy, at a small size."""

import sys
from pathlib import Path

import pytest

from tests.waiting import ended

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("device", [[], ["--cpu"]], ids=["device", "cpu"])
def test_each_format_is_compared(tmp_path, device):
    small = ["--shape", "40x32x64", "--rounds", "1", "--folder", str(tmp_path)]
    call = (sys.executable, ROOT / "lab/benchmarks/bench_files.py", *small, *device)
    status, text = ended(*call, "--outputs", "h5", "tiff", env={"PYTHONPATH": str(ROOT)})
    assert status == 0, text
    rows = [line.split("|")[1].strip() for line in text.splitlines()[2:]]
    assert rows == ["uint16 h5", "uint16 tiff", "float32 h5", "float32 tiff"]
    assert list(tmp_path.iterdir()) == []
