"""The plain install has no torch: what needs it says so, and nothing else loads it."""

import json
import sys

import pytest
from ai_scans import COR_PX, rows_with
from find_rows import grid
from typer.testing import CliRunner

from tests.waiting import ended
from tomopipe.cli import cli
from tomopipe.cor.collected_rows import write_rows
from tomopipe.errors import TomopipeError
from tomopipe.storage.atomic import write_json

NEED_TORCH = {"tomopipe.cor.ai.dinov2"}
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without_torch(code, *arguments):
    """Run code in a Python that has no torch."""
    status, text = ended(sys.executable, "-c", BLOCKED + code, *arguments)
    assert status == 0, text
    return text


@pytest.mark.slow
def test_method_ai_runs_without_torch(tmp_path):
    write_rows(rows_with(), tmp_path / "rows.h5")
    write_json({"cor_px": grid(128).tolist()}, tmp_path / "try.json")
    names = ("rows.h5", "try.json", "prediction.json", "center.txt")
    code = (
        "from tests.step_calls import predict_cor\n"
        "predict_cor(*sys.argv[1:], methods=['ai'], min_confidence=0.5)\n"
    )
    without_torch(code, *(tmp_path / name for name in names))
    prediction = json.loads((tmp_path / "prediction.json").read_text())
    assert prediction["cor_px"] == pytest.approx(COR_PX, abs=0.25)


@pytest.mark.slow
def test_only_dinov2_imports_torch():
    code = (
        "import importlib, pkgutil, tomopipe\n"
        "for module in pkgutil.walk_packages(tomopipe.__path__, 'tomopipe.'):\n"
        "    try:\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        print(module.name, error.name)\n"
    )
    missing = dict(line.split() for line in without_torch(code).splitlines())
    assert {name for name, of in missing.items() if of.startswith("torch")} == NEED_TORCH


def test_training_says_what_to_install_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    said = CliRunner().invoke(cli, ["lab", "train", str(tmp_path / "work")])
    assert isinstance(said.exception, TomopipeError)
    assert "pip install 'tomopipe[torch]'" in str(said.exception)
    assert not (tmp_path / "work").exists()
