"""What a run that has nothing to do loads: nothing that takes a tenth of a second."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("module", ["tomopipe.reruns.settle", "tomopipe.run.ending"])
def test_to_decide_loads_no_package_for_numbers_or_raw_files(module):
    heavy = ("numpy", "scipy", "numba", "h5py", "tifffile", "jinja2", "PIL")
    program = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
