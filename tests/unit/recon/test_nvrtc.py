"""CUDA source, compiled for the devices there are by the compiler that CuPy calls."""

import ast
import re
from pathlib import Path

import pytest

import tomopipe
from tests.cuda_on_cpu import kernels_of
from tests.nvrtc import compiled
from tomopipe.prep import device_kernels
from tomopipe.recon import cuda

pytestmark = pytest.mark.slow

SOURCES = {"recon": cuda.SOURCE, **device_kernels.SOURCES}
PACKAGE = Path(tomopipe.__file__).parent


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("source", SOURCES)
def test_kernels_compile_without_a_warning(source, arch):
    """No register is spilled, and 64 kB of registers hold at least 16 warps."""
    program, log = compiled(SOURCES[source], arch, ["--ptxas-options=-v"])
    lines = [line for line in log.splitlines() if "warning" in line.lower()]
    assert not lines
    used = {}
    for name, stack, stores, loads, registers in re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers", log, re.DOTALL,
    ):  # fmt: skip
        used[name] = int(registers)
        assert (stack, stores, loads) == ("0", "0", "0"), f"{name} spills"
    assert set(used) == set(kernels_of(SOURCES[source]))
    assert max(used.values()) <= 128
    assert all(name.encode() in program for name in used)


def test_no_kernel_is_left_out():
    """All source of the package is among `SOURCES`, and nothing makes kernels by other means."""
    files = [path.read_text() for path in PACKAGE.rglob("*.cu")]
    calls = {"RawKernel", "ElementwiseKernel", "ReductionKernel", "fuse", "rawkernel"}
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        files += [text] if "__global__" in text else []
        for node in ast.walk(ast.parse(text)) if any(call in text for call in calls) else ():
            assert not (isinstance(node, ast.Attribute) and node.attr in calls), path
    found = {name for text in files for name in kernels_of(text)}
    assert found == {name for source in SOURCES.values() for name in kernels_of(source)}
    assert sum(text.count("__global__") for text in files) == len(found)
