"""What the tests of this folder share."""

import pytest
from typer.testing import CliRunner

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


def init(*arguments):
    """Type `tomopipe init`."""
    return CliRunner().invoke(cli, ["init", *map(str, arguments)])
