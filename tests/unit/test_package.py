"""The package that `pip install .` makes: it brings the workflow along."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.waiting import ended

HOME = Path(__file__).parents[2]
PLUGINS = ("executor", "logger")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=HOME,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_wheel_has_the_workflow_the_pages_and_the_license(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    rules = {path.name for path in (HOME / "workflow" / "rules").glob("*.smk")}
    assert {f"tomopipe/_workflow/workflow/rules/{name}" for name in rules} <= names
    assert "tomopipe/_workflow/Snakefile" in names
    assert "tomopipe/_workflow/profiles/slurm/profile.yaml" in names
    assert {f"snakemake_{kind}_plugin_tomopipe/__init__.py" for kind in PLUGINS} <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert any(name.startswith("tomopipe/report/templates/") for name in names)


def test_installed_package_finds_its_workflow(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code, env = "from tomopipe.paths import *; print(workflow_folder())", {"PYTHONPATH": "site"}
    _, text = ended(sys.executable, "-c", code, cwd=tmp_path, env=env)
    assert text.strip() == str(tmp_path / "site" / "tomopipe" / "_workflow")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((HOME / "pyproject.toml").read_text("utf-8"))["project"]


def imported(folder: Path) -> set[str]:
    """The first names of all that the files of a folder import."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module))
    return {name.partition(".")[0] for name in names}


@pytest.mark.slow
def test_what_everybody_installs_is_what_the_package_imports(project):
    """No dependency without an import; no import without a dependency, or an extra."""
    provided: dict[str, set[str]] = {}
    for name, distributions in packages_distributions().items():
        for distribution in distributions:
            provided.setdefault(distribution.lower(), set()).add(name)
    used = imported(HOME / "tomopipe") - set(sys.stdlib_module_names) - {"tomopipe"}
    used |= {"snakemake"}  # which is started, and never imported
    needed = [Requirement(text).name for text in project["dependencies"]]
    assert [name for name in needed if not provided[name] & used] == []
    extras = project["optional-dependencies"].values()
    more = [Requirement(text).name for extra in extras for text in extra]
    known = set().union(*(provided.get(name, {name}) for name in needed + more))
    # numba brings llvmlite; tifffile wants imagecodecs for rare files and says so; CuPy is named
    # after a version of CUDA
    assert used - known <= {"llvmlite", "imagecodecs", "cupy", "cupyx"}


def test_torch_is_an_extra_and_nothing_is_pinned(project):
    wanted = [Requirement(text) for text in project["dependencies"]]
    assert not {"torch", "transformers"} & {requirement.name for requirement in wanted}
    assert not [requirement.name for requirement in wanted if "==" in str(requirement.specifier)]
    extras = project["optional-dependencies"]
    assert {Requirement(text).name for text in extras["torch"]} == {"torch", "transformers"}
    assert extras["dinov2"] == ["tomopipe[torch]"]


def test_the_oldest_versions_are_those_that_ci_tests(project):
    """h5py before 3.16 reads chunks in threads without its lock, and crashes."""
    lines = (HOME / "tests" / "oldest.txt").read_text().splitlines()
    tested = {Requirement(line).name: Version(line.split("==")[1]) for line in lines[1:]}
    for text in [*project["dependencies"], *project["optional-dependencies"]["zarr"]]:
        (oldest,) = (s.version for s in Requirement(text).specifier if s.operator == ">=")
        assert tested[Requirement(text).name] == Version(oldest), text


@pytest.mark.parametrize("cuda", ["12", "13"])
def test_the_extras_of_a_gpu_bring_the_compiler_and_the_transforms(project, cuda):
    """Without `ctk` CuPy finds neither NVRTC nor cuFFT unless the machine has them."""
    (text,) = project["optional-dependencies"][f"gpu-cuda{cuda}"]
    needed = Requirement(text)
    assert (needed.name, needed.extras) == (f"cupy-cuda{cuda}x", {"ctk"})
    assert "13.6" not in needed.specifier  # it has no such extra
    assert "14.0" in needed.specifier


def test_names_of_modules_are_unique():
    """But of commands, which have the name of what they show (decision 14)."""
    paths = (HOME / "tomopipe").rglob("*.py")
    names = [path.stem for path in paths if path.parent.name != "cli" and path.stem[0] != "_"]
    assert sorted(set(names)) == sorted(names)


def test_functions_that_other_rooms_share_state_what_they_take_and_return():
    """Of the rooms of arrays: each that three modules of other rooms import."""
    rooms = {"scans", "prep", "cor", "recon", "volumes", "stream", "stitching", "relion"}
    functions, users = {}, Counter()
    for path in (HOME / "tomopipe").rglob("*.py"):
        module = ".".join(path.relative_to(HOME).with_suffix("").parts)
        others = {f"tomopipe.{room}." for room in rooms - {module.split(".")[1]}}
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                functions[module, node.name] = node
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith((*others,)):
                users.update((node.module, alias.name) for alias in node.names)
    shared = {key: functions[key] for key, n in users.items() if n >= 3 and key in functions}
    assert len(shared) >= 20
    for (module, name), node in shared.items():
        sections = {"Parameters": node.args.args or node.args.kwonlyargs}
        sections["(Returns|Yields)"] = ast.unparse(node.returns) != "None"
        text = ast.get_docstring(node)
        lacking = [s for s, has in sections.items() if has and not re.search(f"{s}\n---", text)]
        assert not lacking, f"{module}.{name}: {lacking}"


@pytest.mark.parametrize("kind", PLUGINS)
def test_a_plugin_needs_the_interface_of_snakemake_alone(kind):
    name = f"snakemake_{kind}_plugin_tomopipe"
    names = imported(HOME / name) - set(sys.stdlib_module_names) - {name, "tomopipe"}
    assert names == {f"snakemake_interface_{kind}_plugins"}
