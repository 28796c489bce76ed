"""The package that `pip install .` makes: it brings the workflow along."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]


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
    assert any(name.endswith("LICENSE") for name in names)
    assert any(name.startswith("tomopipe/report/templates/") for name in names)


def test_installed_package_finds_its_workflow(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", "from tomopipe.paths import workflow_folder as w; print(w())"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "site" / "tomopipe" / "_workflow")
