"""A simulated campaign: its files, its special scans, and the truth beside them."""

import json
import re

import h5py
import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from tests.exchange_files import read_metadata
from tests.unit.simulate.test_simulated_scan import attenuation
from tomopipe.cli.laboratory import simulate
from tomopipe.errors import TomopipeError
from tomopipe.simulate.phantom import Ellipsoid, Phantom, project
from tomopipe.simulate.simulated_campaign import Simulation, plan_scans, simulate_campaign

SMALL = {"n_cols": 96, "n_rows": 6, "n_angles": 61}


def load_truth(folder):
    return json.loads((folder / "truth.json").read_text())


def phantom_of(scan):
    kind, parts = scan["phantom"]["kind"], scan["phantom"]["ellipsoids"]
    return Phantom(kind, tuple(Ellipsoid(**part) for part in parts))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    simulate_campaign(folder, Simulation(**SMALL))
    return folder


@pytest.fixture(scope="module")
def scans(campaign):
    return load_truth(campaign)["scans"]


def special(scans, what):
    (found,) = [scan for scan in scans.values() if what in scan["special"]]
    return found


@pytest.mark.slow
def test_files(campaign, scans):
    assert sorted(path.name for path in campaign.iterdir()) == ["config.yaml", "raw", "truth.json"]
    raw = sorted(f"raw/{path.name}" for path in (campaign / "raw").iterdir())
    assert raw == sorted(scan["path"] for scan in scans.values())
    assert len(raw) == 2 * 4 + 1
    config = yaml.safe_load((campaign / "config.yaml").read_text())
    assert config == {"campaign": {"scans": ["raw/*.h5"]}, "try_recon": {"width_px": 20}}
    for scan in scans.values():
        assert abs(scan["cor_px"] - 47.5) < 20
        assert abs((scan["beam"]["fixed_dust_px"] or scan["cor_px"]) - 47.5) < 20


def test_the_phantom_in_the_truth_is_the_one_seen(campaign, scans):
    scan = scans["foam_002"]
    expected = project(phantom_of(scan), np.linspace(0, np.pi, 61), scan["cor_px"], 6, 96)
    off = attenuation(campaign / scan["path"]) - expected
    # 20000 photons, transmission above 0.25, 10 flats: at most 0.015 each.
    assert off.std() < 0.015
    assert abs(off.mean()) < 0.001


def test_the_axis_follows_the_stage_and_comes_back_with_it(campaign, scans):
    cors_px, heights_mm = {}, {}
    for series in ("rock", "foam"):
        own = [scan for scan in scans.values() if scan["series"] == series][:4]
        cors_px[series] = np.array([scan["cor_px"] for scan in own])
        heights_mm[series] = [read_metadata(campaign / scan["path"]).height_mm for scan in own]
    assert heights_mm["rock"] == pytest.approx([0, 1.5, 3, 4.5]) == heights_mm["foam"]
    assert np.abs(cors_px["rock"] - cors_px["foam"]).max() < 0.8
    assert np.abs(np.diff(cors_px["rock"])).max() > 1.5


@pytest.mark.slow
def test_in_a_long_series_an_outlier_stands_out():
    sizes = {"n_cols": 96, "n_rows": 1, "n_angles": 20}
    plans = plan_scans(Simulation(n_series=1, n_scans=60, counts=None, seed=4, **sizes))
    assert np.ptp([scan.cor_px for scan in plans]) < 7


def test_the_aborted_scan_is_short(campaign, scans):
    scan = special(scans, "aborted")
    with h5py.File(campaign / scan["path"]) as file:
        assert file["/exchange/data"].shape[0] == scan["n_frames"] == 10
        assert file["/exchange/theta"].shape == (61,)
    sizes = [(campaign / other["path"]).stat().st_size for other in scans.values()]
    assert (campaign / scan["path"]).stat().st_size < 0.5 * np.median(sizes)
    assert scan["index"] == 5


def likeness(view, opposing, cor_px):
    """Correlation of two opposing views, one mirrored about a column."""
    column = np.arange(view.shape[1])
    mirrored = 2 * cor_px - column
    both = (mirrored >= 0) & (mirrored <= column[-1])
    rows = [np.interp(mirrored[both], column, row) for row in opposing]
    return np.corrcoef(view[:, both].ravel(), np.ravel(rows))[0, 1]


def test_the_misleading_scan_misleads_and_the_others_do_not(campaign, scans):
    for scan in scans.values():
        if "aborted" in scan["special"]:
            continue
        first, last = attenuation(campaign / scan["path"])[[0, -1]]
        true = likeness(first, last, scan["cor_px"])
        if "fixed pattern" in scan["special"]:
            wrong_px = scan["beam"]["fixed_dust_px"]
            assert abs(wrong_px - scan["cor_px"]) > 10
            assert likeness(first, last, wrong_px) > true + 0.3
            assert (scan["series"], scan["index"]) == ("rock", 3)
        else:
            assert true > 0.98


@pytest.mark.slow
def test_same_seed_same_files(tmp_path):
    found = []
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        made = tmp_path / name
        simulate_campaign(made, Simulation(n_scans=1, n_cols=64, n_rows=1, n_angles=20, seed=seed))
        files = [path for path in made.rglob("*") if path.is_file()]
        found.append({str(path.relative_to(made)): path.read_bytes() for path in files})
    first, again, other = found
    assert first == again
    assert [name for name in first if first[name] == other[name]] == ["config.yaml"]


@pytest.mark.parametrize(("n_series", "n_scans"), [(1, 1), (1, 2), (5, 1), (7, 2)])
def test_every_shape_has_all_special_scans_and_names_that_tell_the_series(n_series, n_scans):
    sizes = {"n_cols": 64, "n_rows": 1, "n_angles": 20}
    plans = plan_scans(Simulation(n_series=n_series, n_scans=n_scans, counts=1e4, seed=0, **sizes))
    assert len({plan.name for plan in plans}) == len(plans) == n_series * n_scans + 1
    for plan in plans:
        series, index = re.fullmatch(r"(.*?)[._-]*(\d+)", plan.name).groups()
        assert (series, int(index)) == (plan.series, plan.index)
        assert (plan.n_frames < 20) == ("aborted" in plan.special)
        assert (plan.beam.fixed_dust_px is not None) == ("fixed pattern" in plan.special)
    kinds = [name for plan in plans for name in plan.special]
    assert sorted(kinds) == ["aborted", "fixed pattern"]


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TomopipeError, match=r"new or empty folder, found notes\.txt"):
        simulate_campaign(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(TomopipeError, match="expected a folder, found a file"):
        simulate_campaign(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_cols": 63}, "n_cols of at least 64, got 63"),
        ({"n_scans": 0}, "n_scans of at least 1"),
        ({"counts": 0.0}, "counts of 1 to 1e15 photons"),
        ({"counts": float("nan")}, "counts of 1 to 1e15 photons"),
        ({"seed": -1}, "seed of 0 or more"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path, wrong, message):
    with pytest.raises(TomopipeError, match=message):
        simulate_campaign(tmp_path / "new", Simulation(**wrong))
    assert not (tmp_path / "new").exists()


def test_command(tmp_path):
    app = typer.Typer()
    app.command()(simulate)
    sizes = ["--series", "1", "--scans", "2", "--cols", "64", "--rows", "2", "--angles", "20"]
    done = CliRunner().invoke(app, [str(tmp_path / "demo"), *sizes, "--seed", "5"])
    assert done.exit_code == 0, done.output
    assert "3 scans" in done.stdout
    assert {path.name for path in (tmp_path / "demo").iterdir()} >= {"Snakefile", "profiles"}
    assert yaml.safe_load((tmp_path / "demo/config.yaml").read_text())["campaign"]["scans"]
    truth = load_truth(tmp_path / "demo")
    assert (truth["seed"], truth["sizes"]["n_rows"], truth["sizes"]["n_angles"]) == (5, 2, 20)
    again = CliRunner().invoke(app, [str(tmp_path / "demo")])
    assert isinstance(again.exception, TomopipeError)
    assert "tomopipe lab simulate demo" in CliRunner().invoke(app, ["--help"]).stdout


def test_scans_at_several_heights_show_the_same_object_lower_down(tmp_path):
    sizes = {"n_cols": 64, "n_rows": 20, "n_angles": 21, "n_series": 1, "n_scans": 1}
    simulate_campaign(tmp_path, Simulation(**sizes, n_heights=3, counts=None))
    truth = load_truth(tmp_path)
    assert truth["heights"] == {"tall_001": 0.0, "tall_002": 10.4, "tall_003": 20.8}
    paths = [tmp_path / truth["scans"][name]["path"] for name in truth["heights"]]
    recorded = [attenuation(path)[0] for path in paths]
    # 0.4 rows apart, and at another COR: nearly the same in each row
    shared = np.stack([recorded[0][11:].sum(axis=1), recorded[1][1:10].sum(axis=1)])
    assert shared[0] == pytest.approx(shared[1], rel=0.03)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["stitch"] == {"stacks": {"tall": ["tall_*"]}}
    with pytest.raises(TomopipeError, match="n_rows of at least 20"):
        simulate_campaign(tmp_path / "flat", Simulation(**(sizes | {"n_rows": 4}), n_heights=2))
