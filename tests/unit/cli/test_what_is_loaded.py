"""What a run that has nothing to do loads: nothing that takes a tenth of a second."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("module", ["tomopipe.reruns.settle", "tomopipe.run.ending"])
def test_to_decide_loads_no_package_for_numbers_or_raw_files(module):
    assert loaded(module, "numpy scipy numba h5py tifffile jinja2 PIL") == []


@pytest.mark.slow
@pytest.mark.parametrize("step", ["fix_cor", "resolve_cor"])
def test_a_table_of_a_series_is_made_without_the_packages_of_volumes_and_of_the_config(step):
    modules = f"tomopipe.steps.{step}, tomopipe.reruns.making"
    assert loaded(modules, "numpy pydantic yaml") == []


def loaded(modules: str, packages: str) -> list[str]:
    """Return those of the packages that importing modules loads."""
    program = f"import sys, {modules}; print(*(set({packages.split()}) & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()
