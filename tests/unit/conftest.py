"""What the tests of this folder share."""

import resource
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tomopipe.cli import cli


@pytest.fixture(autouse=True, scope="module")
def no_pause_of_the_inventory():
    """It looks twice at files that are as new as those of a test; tests/steps waits for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomopipe.steps.inventory._BETWEEN_LOOKS_S", 0.0)
        yield


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A cluster without accounting, and a home of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path


def configure(folder, options=""):
    """Write the configuration of a campaign of raw/*.h5, with more blocks of it as YAML."""
    (folder / "config.yaml").write_text(f"campaign: {{scans: [raw/*.h5]}}\n{options}\n")


def small_campaign(folder, *scans, options="", **size):
    """Write small scans, and the configuration."""
    for scan in scans or ("a_1",):
        write_scan(folder / "raw" / f"{scan}.h5", **{"n_rows": 2, "n_cols": 32} | size)
    configure(folder, options)


def init(*arguments):
    """Type `tomopipe init`."""
    return CliRunner().invoke(cli, ["init", *map(str, arguments)])


@contextmanager
def limited(n_bytes):
    """Let files of this process have so many bytes, for a moment: pytest writes to some."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
