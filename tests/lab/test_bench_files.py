"""The comparison of a volume from file to file with a plain copy, at a small size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("device", [[], ["--cpu"]], ids=["device", "cpu"])
def test_each_format_is_compared(tmp_path, device):
    small = ["--shape", "40x32x64", "--rounds", "1", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, ROOT / "lab/benchmarks/bench_files.py", *small, *device,
         "--outputs", "h5", "tiff"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines()[2:]]
    assert rows == ["uint16 h5", "uint16 tiff", "float32 h5", "float32 tiff"]
    assert list(tmp_path.iterdir()) == []
