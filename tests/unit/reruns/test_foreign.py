"""Whose a file at the path of a result is, and results of which the metadata alone are renewed."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest

from tests.phantoms import write_scan
from tests.step_calls import export_stack, full_recon
from tomopipe.campaign.campaign import campaign_from_data, load_campaign
from tomopipe.campaign.files import VOLUMES, Files
from tomopipe.campaign.results import INVENTORY_COLUMNS
from tomopipe.cor.outliers import FIX_COLUMNS
from tomopipe.reruns.foreign import is_foreign
from tomopipe.reruns.receipts import Receipts, as_text, write_receipt
from tomopipe.reruns.target import Target
from tomopipe.storage.atomic import whole
from tomopipe.volumes.tiff import write_stack
from tomopipe.volumes.volume_read import open_volume, read_mid_planes, read_provenance


def stated(pixel_size_um: float, **more: object) -> dict:
    metadata = {"metadata": {"input.pixel_size_um": pixel_size_um}}
    return {"maker": "tomopipe", "step": "full_recon", "options": {}} | metadata | more


def foreign(campaign, receipts):
    """Name the files of others at the paths of results, as the jobs see them."""
    scans = list(campaign.scans)
    keys = dict.fromkeys(("try_recon", "predict_cor", "full_recon", "export_stack"), scans)
    keys |= {"inventory": ["campaign"], "fix_cor": ["a"], "resolve_cor": ["campaign"]}
    keys |= {"export_star": ["campaign"], "report": ["campaign"]}
    items = []
    for step, of_step in keys.items():
        for key in of_step:
            receipt, paths = receipts.last(step, key), Target(campaign).outputs(step, key)
            paths += [campaign.outputs.in_relion("links")] * (step == "export_star")
            states = {path: receipt.files.get(path) if receipt else None for path in paths}
            items += [
                path
                for path, state in states.items()
                if is_foreign(receipts.path_of(path), receipts.state(path), state)
            ]
    return items


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "a_1.h5"
    write_scan(path, n_rows=6, n_cols=64, n_angles=31)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "compression", "dtype"),
    [
        ("h5", "none", "float32"),
        ("h5", "gzip", "uint16"),
        ("tiff", "none", "uint8"),
        ("zarr", "zstd", "float16"),
    ],
)
def test_a_volume_keeps_its_voxels(raw, tmp_path, output, compression, dtype):
    name = f"a_1{VOLUMES[output]}"
    path, fresh = tmp_path / "one" / name, tmp_path / "two" / name
    options = {"cor_px": 31.5, "output": output, "compression": compression, "dtype": dtype}

    def make(where, pixel_size_um, **more):
        made_from = {"made_from": as_text(stated(pixel_size_um))}
        known = {"pixel_size_um": pixel_size_um}
        full_recon(raw, where, known=known, provenance=made_from, **options, **more)

    make(path, 1.0)
    with open_volume(path) as volume:
        before = [volume.read_stored(row) for row in range(6)]
    planes = read_mid_planes(path)
    make(path, 2.0, voxels_of=path)
    make(fresh, 2.0)
    with open_volume(path) as volume, open_volume(fresh) as wanted:
        assert np.array_equal([volume.read_stored(row) for row in range(6)], before)
        assert volume.attributes == wanted.attributes
        assert volume.attributes["voxel_size_um"] == 2.0
    assert all(np.array_equal(planes[key], read_mid_planes(path)[key]) for key in planes)
    assert read_provenance(path) == read_provenance(fresh)


def test_a_stack_keeps_its_pixels(raw, tmp_path):
    paths = {name: (tmp_path / f"{name}.mrcs", tmp_path / f"{name}.json") for name in "ab"}
    export_stack(raw, *paths["a"], pixel_size_um=1.0, energy_kev=20.0)
    export_stack(raw, *paths["a"], pixel_size_um=2.0, energy_kev=30.0, pixels_of=paths["a"][0])
    export_stack(raw, *paths["b"], pixel_size_um=2.0, energy_kev=30.0)
    assert paths["a"][0].read_bytes()[1024:] == paths["b"][0].read_bytes()[1024:]
    metas = [json.loads(path.read_text()) for _, path in paths.values()]
    old, new = (meta.pop("statistics") for meta in metas)
    assert old == pytest.approx(new, rel=1e-9)  # summed in another order
    assert metas[0] == metas[1]


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def copy(path):
    shutil.copyfile(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def copy_and_cut(path):
    copy(path)
    cut(path)


def others_hdf5(path):
    with h5py.File(path, "w") as file:  # the inode stays
        file["exchange/data"] = np.zeros((2, 3, 3))


def others_file(path):
    path.with_name("others").write_text("1048.25")
    path.with_name("others").replace(path)


def others_short_file(path):
    path.with_name("others").write_text("{}")
    path.with_name("others").replace(path)


def test_what_a_killed_job_left_without_its_statement_is_ours(raw, tmp_path):
    """The first file of a sweep and of a stack, which no receipt names yet."""
    (tmp_path / "config.yaml").write_text("campaign: {scans: [a_1.h5]}\n")
    files = Files(tmp_path / "results")
    stack = files.stack("a_1"), files.stack_meta("a_1")
    export_stack(raw, *stack, pixel_size_um=1.0, energy_kev=20.0)
    files.stack_meta("a_1").unlink()
    page = np.zeros((1, 8, 8), np.uint16)
    files.try_stack("a_1").parent.mkdir(parents=True)
    write_stack(page, ["48.50"], files.try_stack("a_1"), shape=(8, 8))
    campaign = load_campaign(tmp_path)
    assert foreign(campaign, Receipts(tmp_path, campaign.outputs)) == []
    others = (files.stack("a_1"), files.try_stack("a_1"))
    for path in others:
        path.write_bytes(b"of somebody else")
    names = [str(path.relative_to(tmp_path)) for path in others]
    assert sorted(foreign(campaign, Receipts(tmp_path, campaign.outputs))) == sorted(names)


HDF5, JSON = ["a_1_rec.h5", "rows.h5"], ["a_1.json", "prediction.json", "try.json"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "names"),
    [
        (cut, []),
        (lambda path: path.write_text(""), []),
        (copy, []),
        (copy_and_cut, []),
        (others_hdf5, HDF5),
        (others_file, [*HDF5, *JSON, "a_1.mrcs"]),
        (others_short_file, [*HDF5, *JSON, "a_1.mrcs"]),
    ],
)
def test_whose_a_changed_result_is(raw, tmp_path, change, names):
    """Each has a receipt. A stack and a sweep do not hide behind the statement beside them."""
    campaign = tmp_path / "campaign"
    files, here = Files(campaign / "results"), Files("results")
    (campaign / "raw").mkdir(parents=True)
    raw.rename(campaign / "raw" / "a_1.h5")
    (campaign / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    results = {
        "full_recon": [here.volume("a_1", "h5")],
        "try_recon": here.outputs("try_recon", "a_1")[:2],
        "predict_cor": here.outputs("predict_cor", "a_1"),
        "export_stack": here.outputs("export_stack", "a_1"),
    }
    made_from, scan = as_text(stated(1.0)), campaign / "raw" / "a_1.h5"
    options = {"known": {}, "cor_px": 31.5, "provenance": {"made_from": made_from}}
    full_recon(scan, files.volume("a_1", "h5"), **options)
    files.rows("a_1").parent.mkdir(parents=True)
    with h5py.File(files.rows("a_1"), "w") as file:
        file.attrs["made_from"] = made_from
        file["sinograms"] = np.zeros(5000)
    for path in (files.sweep("a_1"), files.prediction("a_1")):
        path.write_text(json.dumps({"made_from": stated(1.0), "cor_px": [31.5] * 50}))
    files.center("a_1").write_text("31.50\n")
    stack = files.stack("a_1"), files.stack_meta("a_1")
    export_stack(scan, *stack, made_from=stated(1.0))
    for step, paths in results.items():
        write_receipt(here.receipt(step, "a_1"), stated(1.0), paths, directory=campaign)

    def of_others():
        loaded = load_campaign(campaign)
        return [path.split("/")[-1] for path in foreign(loaded, Receipts(campaign, here))]

    assert of_others() == []
    for step in results.values():
        for path in step[::-1]:
            if change is not others_hdf5 or path.endswith(".h5"):
                change(campaign / path)
    assert sorted(of_others()) == sorted(names)


COR = '{"a_1": {"cor_px": 48.5, "source": "auto"}, "a_2": {"cor_px": 49, "source": "auto"}}'
STAR = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesName #2\n" + 99 * "a_1\ta_1.mrcs\n"
TABLES = {  # as steps write them
    "inventory.tsv": "\t".join(INVENTORY_COLUMNS) + "\n" + 99 * "a_1\n",
    "fix_cor/a.tsv": "\t".join(FIX_COLUMNS) + "\n" + 99 * "a_1\n",
    "cor.json": COR,
    "rot_cen.json": '{"/old/raw/a_1.h5": "48.50", "/old/raw/a_2.h5": "49.00"}',
    "relion/tomograms.star": STAR,
    "relion/tomograms_relion5.star": STAR,
    "relion/names.tsv": "scan\trlnTomoName\n" + 99 * "a_1\ta_1\n",
    "relion/tilt_series": "a_1.star",
    "relion/links": "",
    "report/index.html": "<html><title>name · tomopipe report</title>" + 99 * "<p>",
}
OTHERS = {
    "rot_cen.json": '{"/old/raw/a_1.h5": "48.75", "/old/raw/a_2.h5": "49.00"}',
    "relion/tomograms.star": f"\n# version 50001\n\n{STAR}",
    "relion/tomograms_relion5.star": f"\n# version 50001\n\n{STAR}",
    "report/index.html": "<html><title>Beamtime</title>",
}
STEPS = {
    "inventory": ["campaign"],
    "fix_cor": ["a"],
    "resolve_cor": ["campaign"],
    "export_star": ["campaign"],
    "report": ["campaign"],
}


@pytest.fixture
def tables(tmp_path):
    """A campaign with its tables and their receipts, and how to ask for those of others."""
    (tmp_path / "raw").mkdir()
    for name in ("a_1", "a_2"):
        (tmp_path / "raw" / f"{name}.h5").touch()
    campaign = campaign_from_data(
        {"campaign": {"scans": ["raw/*.h5"]}, "export_star": {"enabled": True}}, tmp_path
    )
    for name, text in TABLES.items():
        put(tmp_path / "results" / name, text)
    for step, keys in STEPS.items():
        for key in keys:
            receipt = campaign.outputs.receipt(step, key)
            write_receipt(receipt, {}, Target(campaign).outputs(step, key), directory=tmp_path)

    def of_others():
        items = foreign(campaign, Receipts(tmp_path, campaign.outputs))
        return {path.removeprefix("results/") for path in items}

    return tmp_path / "results", of_others


def put(path, text):
    """Write a result; of a folder, a link or a file in it with the manifest of tomopipe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name in ("links", "tilt_series"):
        with whole(path) as folder:
            folder.mkdir()
            if text:
                (folder / text).write_text("data_a_1")
            else:
                (folder / "a.mrcs").symlink_to("../stacks/a_1.mrcs")
    else:
        path.write_text(text)


def test_tables_with_and_without_receipts_are_ours(tables):
    results, of_others = tables
    assert of_others() == set()
    shutil.rmtree(results / "made")  # as in a run that was killed before its receipts
    assert of_others() == set()


def written_by_a_killed_run(path):
    path.with_name("new").write_text(path.read_text().replace("48.5", "47.5"))
    path.with_name("new").replace(path)


@pytest.mark.parametrize(
    "change", [copy, cut, lambda path: path.write_text(""), written_by_a_killed_run]
)
def test_tables_that_were_changed_are_ours(tables, change):
    results, of_others = tables
    for name in TABLES:
        if (results / name).is_file():
            change(results / name)
    assert of_others() == set()


@pytest.mark.parametrize("has_receipts", [True, False])
def test_what_was_put_in_the_place_of_a_table_is_of_others(tables, has_receipts):
    """A file moved there, a folder without manifest; not what a result of ours could say."""
    results, of_others = tables
    for name in TABLES:
        path = results / name
        other = path.with_name("other")  # made before the old one goes: its inode is another one
        if path.is_dir():
            other.mkdir()
            (other / "notes.txt").write_text("of others")
            shutil.rmtree(path)
        else:
            other.write_text(OTHERS.get(name, "name\tvalue\n"))
        other.replace(path)
    if not has_receipts:
        shutil.rmtree(results / "made")
    assert of_others() == set(TABLES)


def test_what_was_copied_onto_a_table_keeps_its_inode_and_is_of_others(tables):
    results, of_others = tables
    for name, text in OTHERS.items():
        (results / name).write_text(text)
    assert of_others() == set(OTHERS)
