"""Slices of several packages side by side: how far apart, and where each puts the axis."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tomopipe_lab.bench import agreement
from tomopipe_lab.bench.agreement_page import page
from tomopipe_lab.bench.engines import ENGINES, OURS
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tomopipe.cli import cli
from tomopipe.errors import TomopipeError

HERE = [engine for engine in ENGINES if not engine.missing()]


@pytest.mark.parametrize("engine", HERE, ids=lambda engine: engine.name)
def test_each_package_puts_the_axis_where_its_convention_says(engine):
    on_px, off_px = agreement.offsets_px(engine)
    assert on_px < 0.01
    assert off_px < (0.5 if engine.name == "algotom dfi" else 0.01)  # its angles are off a little


def test_rows_are_moved_without_a_loss():
    """For packages without a COR of their own."""
    columns, by_px = np.arange(128), -7.35
    for centre_px in (40.0, 63.3):
        row = np.exp(-(((columns - centre_px) / 3) ** 2))[None].astype(np.float32)
        expected = np.exp(-(((columns - centre_px + by_px) / 3) ** 2))
        assert np.abs(agreement.moved(row, by_px)[0] - expected).max() < 1e-4
    level = np.linspace(2, 3, 128, dtype=np.float32)[None]
    assert (
        np.abs(agreement.moved(level, 0.5)[0, 20:-20] - level[0, 20:-20] - 0.5 / 127).max() < 2e-3
    )
    assert agreement.psnr_db(1.0) == pytest.approx(40)


def test_an_axis_stated_wrongly_shows():
    wrong = replace(OURS, axis=lambda n_cols: (n_cols // 2, n_cols // 2))
    assert agreement.offsets_px(wrong) == pytest.approx((1, 1), abs=0.01)


def test_what_is_added_is_what_they_differ_by():
    """A hundredth of what is 1 in the phantom, whatever gain and offset."""
    amplitude = 0.01

    def worse(theta_rad, n_cols):
        run = OURS.make(theta_rad, n_cols)
        checks = np.where(np.indices((n_cols, n_cols)).sum(axis=0) % 2, 1.0, -1.0)

        def spoilt(sinograms, cor_px):
            return 3 * (run(sinograms, cor_px) + amplitude * checks) + 7

        return spoilt

    engines = [OURS, replace(OURS, name="worse", make=worse)]
    found = agreement.compare(agreement.phantom(), engines)
    ours = found.images["tomopipe"][agreement._inside(len(found.images["tomopipe"]))]
    percent = 100 * amplitude / np.ptp(np.percentile(ours, agreement.RANGE_PERCENT))
    assert found.between[1, 0] == pytest.approx(percent, rel=0.02)
    assert found.to_others["worse"] == pytest.approx(found.between[1, 0])
    truth = found.to_truth
    assert truth["tomopipe"] < 1.5
    assert truth["worse"] == pytest.approx(np.hypot(truth["tomopipe"], percent), rel=0.02)


def test_the_page_has_the_slices_of_a_scan(tmp_path):
    scan, html = tmp_path / "bead & 1.h5", tmp_path / "agree.html"
    write_scan(scan, cor_px=49.0, n_rows=2, n_cols=96, n_angles=91, counts=1e5)
    options = ["--against", "finu", "--cor", "49", "-o", str(html)]
    result = CliRunner().invoke(cli, ["lab", "agree", str(scan), *options])
    assert result.exit_code == 0, result.output
    text = html.read_text()
    assert "<h2>bead &amp; 1.h5, row 1, COR 49.00 px</h2>" in text
    assert text.count("<img ") == 8  # two data sets, two packages, their differences
    assert re.search(r"<th>finufft</th><td>0\.00\d\d</td>", text)
    assert Image.open(html.with_suffix(".png")).size == (640, 1280)


def test_the_page_says_why_dfi_is_off_the_axis_where_it_is_compared():
    others = {"tomopipe": (0.0, 0.0), "algotom fbp": (0.0009, 0.0003)}
    why = "<p>algotom dfi turns what is off the axis a little"
    assert why in page([], others | {"algotom dfi": (0.0001, 0.39)}, {}, "here")
    assert "algotom dfi" not in page([], others, {}, "here")


def test_nothing_to_compare_with_is_said(tmp_path):
    result = CliRunner().invoke(cli, ["lab", "agree", "--against", "abacus"])
    assert isinstance(result.exception, TomopipeError)
    assert "nothing to compare with" in str(result.exception)
