"""What a run that begins, or has nothing to do, loads: nothing that takes a tenth of a second."""

import subprocess
import sys

import pytest

FOR_NUMBERS_OR_RAW_FILES = ("numpy", "scipy", "numba", "h5py", "tifffile", "jinja2", "PIL")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("tomopipe.reruns.settle", FOR_NUMBERS_OR_RAW_FILES),
        ("tomopipe.run.ending", FOR_NUMBERS_OR_RAW_FILES),
        ("tomopipe.cli.run", ("numba", "pydantic")),  # which its end needs
    ],
)
def test_to_begin_and_to_decide_loads_no_heavy_package(module, heavy):
    program = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
