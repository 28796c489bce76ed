"""Two stacks of scans, stitched by the workflow; what runs after a change, and nothing else."""

import json
import shutil

import h5py
import numpy as np
import pytest

from tests.phantoms import make_phantom, write_scan
from tests.workflow.conftest import configure, plan, snakemake, succeeds, table
from tests.workflow.test_reruns import expect

N_COLS, N_ROWS, TALL_ROWS = 64, 20, 30
HEIGHTS = {"a_1": 0.0, "a_2": 9.5, "b_1": 0.0, "b_2": 9.0}
CORS_PX = {"a_1": 33.0, "a_2": 33.5, "b_1": 30.0, "b_2": 30.5}


def write_member(folder, scan, *, moved_px=0.0, seed=None):
    """Write one scan of a stack, its COR moved."""
    tall = make_phantom({"a": "foam", "b": "capillary"}[scan[0]], N_COLS, TALL_ROWS, seed=5)
    write_scan(
        folder / "raw" / f"{scan}.h5", phantom=tall.moved(rows=-HEIGHTS[scan]), counts=50000,
        cor_px=CORS_PX[scan] + moved_px, n_rows=N_ROWS, n_cols=N_COLS, n_angles=61,
        seed=int(scan[2:]) - 1 if seed is None else seed,
    )  # fmt: skip


def write_stacks(folder, stacks):
    """Write the scans of some series, each a stack of a name, and the config."""
    for scan in HEIGHTS:
        if scan[0] in stacks:
            write_member(folder, scan)
    members = {name: [f"{series}_*"] for series, name in stacks.items()}
    (folder / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\n"
        "try_recon: {width_px: 5, step_px: 1}\n"
        "predict_cor: {methods: [classical]}\n"
        "export_star: {enabled: false}\n"
        f"stitch: {{stacks: {json.dumps(members)}}}\n"
    )


@pytest.fixture(scope="module")
def stacked(tmp_path_factory):
    """A campaign of two stacks that ran once: not to be changed."""
    folder = tmp_path_factory.mktemp("stacked") / "campaign"
    write_stacks(folder, {"a": "bone", "b": "glass"})
    assert {"stitch:bone", "stitch:glass"} <= succeeds(folder).jobs
    return folder


@pytest.fixture
def copy(stacked, tmp_path):
    return shutil.copytree(stacked, tmp_path / "campaign", symlinks=True)


def test_heights_are_found_and_a_second_call_does_nothing(stacked):
    found = json.loads((stacked / "results" / "stitched" / "bone.json").read_text())
    assert found["pairs"][0]["z_px"] == pytest.approx(9.5, abs=0.1)
    assert found["shape"] == [29, N_COLS, N_COLS]
    assert 'id="stacks"' in (stacked / "results" / "report" / "index.html").read_text()
    assert plan(stacked) == (0, frozenset())
    again = snakemake(stacked)
    assert (again.status, again.jobs) == (0, frozenset()), again.text


def test_cor_of_a_member_edited(copy):
    table(copy, "a_2\tauto\t33.25\t")
    expect(copy, {"fix_cor:a", "resolve_cor", "full_recon:a_2", "sidecar", "stitch:bone", "report"})


def test_member_loses_its_cor_within_a_run(copy):
    configure(copy, "resolve_cor", on_missing="skip")
    for scan in ("a_1", "a_2"):
        with h5py.File(copy / "raw" / f"{scan}.h5", "r+") as file:
            data = file["exchange/data"]
            noise = np.random.default_rng(0).normal(20000, 200, data.shape)
            data[...] = noise.astype(data.dtype)
    run = snakemake(copy)
    assert run.status == 3, run.text
    assert "stack bone is not stitched: a_1 has no COR" in run.text
    assert "stitch:bone" not in run.jobs


def test_option_of_stitch(copy):
    configure(copy, "stitch", direction="down")
    (copy / "results" / "stitched" / "glass_rec.h5").unlink()
    expect(copy, {"stitch:bone", "stitch:glass", "report"})
    configure(copy, "report", enabled=False)
    (copy / "results" / "stitched" / "bone.json").unlink()
    expect(copy, {"stitch:bone"})


def test_another_pixel_size_writes_the_metadata_alone(copy):
    tall = {name: copy / "results" / "stitched" / f"{name}_rec.h5" for name in ("bone", "glass")}
    before = {name: h5py.File(path)["exchange/data"][()] for name, path in tall.items()}
    configure(copy, "input", pixel_size_um=2.5)
    assert {"stitch:bone", "stitch:glass"} <= succeeds(copy).jobs
    for name, path in tall.items():
        assert "only metadata changed" in (copy / "logs" / "stitch" / f"{name}.log").read_text()
        with h5py.File(path) as file:
            assert file["exchange/data"].attrs["voxel_size_um"] == 2.5
            assert np.array_equal(file["exchange/data"][()], before[name])
    assert snakemake(copy).jobs == frozenset()


def test_what_does_not_fit_leaves_the_earlier_volume(copy):
    paths = [copy / "results" / "stitched" / name for name in ("bone_rec.h5", "bone.json")]
    before = [path.read_bytes() for path in paths]
    configure(copy, "stitch", stacks={"bone": ["a_1", "b_1"], "glass": ["a_2", "b_2"]})
    for _ in range(2):
        assert {"stitch:bone", "stitch:glass"} <= plan(copy)[1]
        assert snakemake(copy).status == 1
        assert [path.read_bytes() for path in paths] == before
    page = (copy / "results" / "report" / "index.html").read_text()
    assert "Not stitched: a_1 and b_1: found no overlap" in page
    assert "the volume shown is an earlier one, of a_1, a_2" in page
    configure(copy, "stitch", stacks={"bone": ["a_*"], "glass": ["b_*"]})
    assert snakemake(copy).jobs <= {"report"}
    assert plan(copy) == (0, frozenset())
    assert "found no overlap" not in (copy / "results/report/index.html").read_text()


def test_a_stack_that_lacks_a_scan_or_does_not_fit_holds_up_no_other(copy):
    table(copy, "b_2\tno\t\t")
    configure(copy, "stitch", stacks={"wrong": ["a_1", "b_1"], "lacking": ["a_2", "b_2"]})
    run = snakemake(copy)
    assert run.status == 1
    assert "stitch:wrong" in run.jobs
    assert "stitch:lacking" not in run.jobs
    assert "a_1 and b_1: found no overlap" in (copy / "logs" / "stitch" / "wrong.log").read_text()
    page = (copy / "results" / "report" / "index.html").read_text()
    assert "b_2 is unselected: select: no" in page
    assert "a_1 and b_1: found no overlap" in page
    assert plan(copy)[0] == 1
    configure(copy, "stitch", stacks={"right": ["a_2", "a_1"], "lacking": ["b_1", "b_2"]})
    run = succeeds(copy)
    assert "stitch:right" in run.jobs
    assert "stack lacking is not stitched: b_2 is unselected" in run.text
    configure(copy, "stitch", stacks={"right": ["a_2", "a_1"], "femur": ["femur_*"]})
    assert plan(copy)[1] == {"report"}  # no result has the names of these
    run = snakemake(copy)
    assert (run.status, run.jobs) == (0, {"report"})
    assert "no scan femur_*" in (copy / "results" / "report" / "index.html").read_text()
    assert plan(copy) == (0, frozenset())
