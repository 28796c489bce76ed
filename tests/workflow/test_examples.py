"""The scripts of examples/ print what is right."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.phantoms import write_scan
from tomopipe.campaign.results import read_cor_json
from tomopipe.geometry import relion4_matrices

EXAMPLES = Path(__file__).parents[2] / "examples"
COR_PX = 66.3


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "a_001.h5"
    write_scan(path, cor_px=COR_PX, n_rows=6, n_cols=128, n_angles=181, counts=1e4)
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    def run(name: str, *arguments: object) -> str:
        (script,) = EXAMPLES.glob(f"{name}_*.py")
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_each_is_short_and_listed():
    listed = re.findall(r"^\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text(), flags=re.M)
    assert listed == sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert all(len((EXAMPLES / name).read_text().splitlines()) <= 30 for name in listed)


def test_a_scan_is_read(run, scan):
    text = run("01", scan)
    assert "angles 0.00 to 180.00 degrees" in text
    least, most = map(float, re.findall(r"transmission (\S+) to (\S+)", text)[0])
    assert 0 < least < most < 1.1  # noise of 1e4 counts is 0.01


def test_both_methods_agree_on_the_cor(run, scan):
    found_px = [float(px) for px in re.findall(r"(\S+) px", run("02", scan))]
    assert len(found_px) == 3
    assert np.abs(np.array(found_px) - COR_PX).max() < 0.3


def test_slices_are_shown(run, scan, tmp_path):
    text = run("03", scan, tmp_path / "slices.png")
    assert float(re.search(r"COR (\S+) px", text)[1]) == pytest.approx(COR_PX, abs=0.3)
    assert Image.open(tmp_path / "slices.png").size == (256, 256)  # four slices of 128 pixels


def test_the_smoother_filter_has_less_noise(run, scan, tmp_path):
    noise = dict(re.findall(r"(\w+): noise (\S+)", run("04", scan, tmp_path / "two.png")))
    assert float(noise["hann"]) < 0.7 * float(noise["ramp"])
    assert Image.open(tmp_path / "two.png").size == (256, 128)


def test_a_campaign_and_its_set_are_listed(run, campaign):
    cors_px = {
        scan: entry["cor_px"]
        for scan, entry in read_cor_json(campaign / "results/cor.json").items()
    }
    text = run("05", campaign)
    assert {
        name: float(px) for name, px in re.findall(r"^(\S+)\t(\S+) px\tmean", text, flags=re.M)
    } == pytest.approx(cors_px, abs=0.006)
    matrices = re.findall(r"^(\S+): (\d+) images.*\n\[(.*)\]", run("06", campaign), flags=re.M)
    assert {name for name, *_ in matrices} == {*cors_px}
    for name, _, row in matrices:
        # at 0 degrees voxel x is seen at its column, counted from the axis
        first = relion4_matrices(np.zeros(1), cors_px[name], (0.0, 0.0))[0, 0]
        assert [float(x) for x in row.split(",")][:3] == pytest.approx(first[:3].tolist())
