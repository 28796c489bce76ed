"""What a run that begins, or has nothing to do, loads: nothing that takes a tenth of a second."""

import subprocess
import sys

import pytest

FOR_NUMBERS_OR_RAW_FILES = "numpy scipy numba h5py tifffile jinja2 PIL"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "packages"),
    [
        ("tomopipe.reruns.settle", FOR_NUMBERS_OR_RAW_FILES),
        ("tomopipe.run.ending", FOR_NUMBERS_OR_RAW_FILES),
        ("tomopipe.cli.run", "numba pydantic"),  # which its end needs
        ("tomopipe.steps.full_recon, tomopipe.recon.compiled", "numba scipy"),
        ("tomopipe.steps.fix_cor, tomopipe.reruns.making", "numpy pydantic yaml"),
        ("tomopipe.steps.resolve_cor, tomopipe.reruns.making", "numpy pydantic yaml"),
    ],
)
def test_to_begin_to_decide_and_to_make_tables_loads_no_heavy_package(modules, packages):
    program = f"import sys, {modules}; print(*(set({packages.split()}) & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
