"""The bundle: it installs and runs the demo where there is nothing else, and no network."""

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.tutorials import TUTORIALS, is_as_shown, not_printed, rows, shown
from tests.waiting import ended
from tests.workflow.conftest import HOME
from tomopipe.recon.jit import cache_folder

PYTHON = Path(sys.base_prefix, "bin", "python3")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """What `make bundle` makes of the files of a checkout."""
    folder = tmp_path_factory.mktemp("bundle") / "clone"
    plugins = [f"snakemake_{kind}_plugin_tomopipe" for kind in ("executor", "logger")]
    for name in ("docs", "install", "profiles", "tomopipe", "workflow", *plugins):
        shutil.copytree(HOME / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "Snakefile", "pyproject.toml", "constraints.txt", "LICENSE"):
        shutil.copy(HOME / name, folder)
    shutil.copy(HOME / "README.md", folder)
    # with pip of the environment of the tests, which is not changed
    arguments = [f"VENV={sys.prefix}", f"--old-file={sys.prefix}/.installed"]
    status, text = ended("make", "bundle", *arguments, cwd=folder)
    assert status == 0, text
    (archive,) = folder.glob("dist/*.tar")
    return archive


@pytest.fixture(scope="module")
def unpacked(bundle, tmp_path_factory) -> Path:
    """What is in it, unpacked once: 300 MB; the demo adds its folders to it."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["tar", "-xf", bundle, "-C", folder], check=True)
    return folder / "tomopipe-bundle"


def without_anything(*command: str, cwd: Path, path: str, home: Path) -> tuple[int, str]:
    """Run a command with neither network nor environment variables."""
    variables = [f"PATH={path}", f"HOME={home}", "PIP_CONFIG_FILE=/dev/null"]
    return ended("unshare", "-rnm", "env", "-i", *variables, *command, cwd=cwd)


def lend_compiled(site: Path, home: Path) -> None:
    """Give an installation the code that was compiled for this checkout, which takes it 40 s.

    It is found by the times of files, numba's also by the path of a module's folder; what is not
    found is compiled.
    """
    mine = Path(cache_folder())
    kept = home / ".cache" / "tomopipe" / mine.name
    kept.mkdir(parents=True)
    for path in mine.glob("*.o"):
        shutil.copy(path, kept)
    for folder in {path.parent for path in (HOME / "tomopipe").rglob("*.py")}:
        copy = site / folder.relative_to(HOME)
        names = [f"{at.name}_{hashlib.sha1(bytes(at)).hexdigest()}" for at in (folder, copy)]
        if (mine / names[0]).exists():
            shutil.copytree(mine / names[0], kept / names[1])
        for path in folder.glob("*.py"):
            shutil.copystat(path, copy / path.name)


@pytest.mark.namespaces
def test_the_demo_runs_from_the_wheels_of_the_bundle_without_a_network(bundle, unpacked):
    assert bundle.stat().st_size <= 400e6
    options = {"cwd": unpacked, "path": "/usr/bin:/bin", "home": unpacked.parent}
    site = unpacked / ".venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    few = ("lab", "simulate", "demo", "--series", "1", "--scans", "2")
    install = "make", ".venv/.installed", f"PYTHON={PYTHON}", "PIP_FLAGS=--no-compile"
    status, text = without_anything(*install, **options)
    assert status == 0, text
    lend_compiled(site, unpacked.parent)
    for command in (
        (".venv/bin/tomopipe", *few),  # a smaller demo than that of `make demo`
        ("make", "demo", f"PYTHON={PYTHON}", "CORES=2"),
    ):
        status, text = without_anything(*command, **options)
        assert status == 0, text
    printed, own = rows(text), rows("\n".join(shown("own-data.md", "tomopipe run")))
    assert printed.keys() == own.keys()
    for scan, cells in own.items():
        differing = {name for name in cells if not is_as_shown(cells[name], printed[scan][name])}
        assert not differing, f"docs/tutorial/own-data.md: {scan}: {differing}"
    of_demo = rows((TUTORIALS / "demo.md").read_text("utf-8"))
    assert {*of_demo["rock_003"]} == {*printed["rock_002"]}
    assert len(list(unpacked.glob("demo/results/*_rec.h5"))) >= 2
    where = "import tomopipe, tomopipe.paths as p; print(p.workflow_folder())"
    found = without_anything(".venv/bin/python", "-c", where, **options)[1]
    assert found.strip() == f"{site}/tomopipe/_workflow"
    # and in its folder, which has a Snakefile as after `tomopipe init`
    options["path"] = f"{unpacked}/.venv/bin:/usr/bin:/bin"
    for again in ("snakemake -n", "snakemake --cores all"):
        _, text = without_anything("sh", "-c", f"cd demo && {again}", **options)
        assert ("Nothing to be done" in text, "metadata" in text) == (True, False), text
    for page, command, typed in AS_IN_TUTORIALS:
        text = without_anything("sh", "-c", typed, **options)[1].replace(str(unpacked), "/data")
        assert not_printed(shown(page, command), text) == [], f"docs/tutorial/{page}: {text}"


# in their order: the page, what it types, and the same with the scans of this demonstration
AS_IN_TUTORIALS = (
    (
        "own-data.md",
        "tomopipe init mycampaign /data/2026-11/*.h5 --no-slurm",
        "cp -r demo/raw 2026-11; tomopipe init mycampaign $PWD/2026-11/*.h5 --no-slurm",
    ),
    ("own-data.md", "tomopipe check", "tomopipe check mycampaign"),
    (
        "demo.md",
        'tomopipe cor set rock_003 89.45 --note "by eye" -C demo',
        'tomopipe cor set rock_002 87.51 --note "by eye" -C demo',
    ),
    ("demo.md", "tomopipe plan demo", "tomopipe plan demo"),
    ("demo.md", "tomopipe run demo", "tomopipe run demo 2>&1"),
    (
        "own-data.md",
        "tomopipe sweep preprocess.stripes.method none sorting gated --scan rock_002",
        "cd demo; tomopipe sweep preprocess.stripes.method none sorting gated --scan rock_002",
    ),
)


def container_lines(bundle: Path) -> list[str]:
    """The commands of the Containerfile's RUN lines, which see the bundle in /bundle."""
    text = (bundle / "Containerfile").read_text()
    runs = re.findall(r"^RUN (.*)$", text, re.MULTILINE)
    return [re.sub(r"--mount=type=bind,target=/bundle ", "", run) for run in runs]


def apptainer_lines(bundle: Path) -> list[str]:
    """The commands of the definition's %post, which sees the wheels in /bundle."""
    text = (bundle / "tomopipe.def").read_text()
    assert "\n%files\n    wheels /bundle/wheels\n" in text
    post = text.partition("%post\n")[2].partition("\n%")[0]
    return [line.strip() for line in post.splitlines() if line.strip()]


IN_CLEAN_ROOT = """
for path in {system}; do
    mkdir -p {root}$path
    mount --rbind $path {root}$path
done
for path in bin sbin lib lib64; do
    if [ -L /$path ]; then cp -P /$path {root}/; else
        mkdir -p {root}/$path && mount --rbind /$path {root}/$path; fi
done
mkdir -p {root}/bundle/wheels {root}/tmp {root}/root
mount --bind {bundle}/wheels {root}/bundle/wheels
chroot {root} /bin/sh -exc {lines}
"""


@pytest.mark.namespaces
def test_the_lines_of_the_images_find_all_that_they_install_in_a_clean_root(unpacked, tmp_path):
    """A root with the system's /usr and Python; no home, no network, nothing of ours.

    That the wheels are complete, and that what is installed from them runs, the demo shows, which
    installs them with the same options; the image is not tested.
    """
    root = tmp_path / "root"
    root.mkdir()
    lines = container_lines(unpacked)
    assert apptainer_lines(unpacked) == [*lines, "rm -r /bundle"]
    system = {"/usr", "/etc/alternatives", "/dev", "/proc"}
    if not PYTHON.is_relative_to("/usr"):
        system.add(sys.base_prefix)
    script = IN_CLEAN_ROOT.format(
        system=" ".join(sorted(path for path in system if Path(path).exists())),
        root=root,
        bundle=unpacked,
        lines=shlex.quote("\n".join([*lines[:-1], f"{lines[-1]} --dry-run --no-deps"])),
    )
    path = f"{PYTHON.parent}:/usr/sbin:/usr/bin:/bin"
    status, text = without_anything("sh", "-ec", script, cwd=root, path=path, home=Path("/root"))
    assert status == 0, text
    (found,) = (line for line in text.splitlines() if line.startswith("Would install "))
    assert found.split()[2].rpartition("-")[0] == "tomopipe"
    makefile = (unpacked / "Makefile").read_text()
    installs = "--no-index --find-links {}wheels tomopipe"
    assert installs.format("") in makefile
    assert lines[-1].endswith(installs.format("/bundle/"))


def test_the_images_are_of_the_python_of_the_wheels(unpacked):
    image = f"python:3.{sys.version_info.minor}-slim"
    assert image in (unpacked / "Containerfile").read_text()
    assert image in (unpacked / "tomopipe.def").read_text()
    compiled = {path.name.split("-")[2] for path in unpacked.glob("wheels/numpy-*.whl")}
    assert compiled == {f"cp3{sys.version_info.minor}"}


def test_the_conda_recipe_asks_for_what_pip_asks_for():
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    recipe = yaml.safe_load((HOME / "install" / "recipe.yaml").read_text())
    assert recipe["context"]["version"] == project["version"]
    scripts = [f"{name} = {function}" for name, function in project["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    renamed = {"xxhash": "python-xxhash"}
    asked = map(Requirement, project["dependencies"])
    wanted = {f"{renamed.get(r.name, r.name)} {r.specifier}" for r in asked}
    wanted.add(f"python {project['requires-python']}")
    assert set(recipe["requirements"]["run"]) == wanted
