"""Results of which the metadata alone are out of date keep their voxels, bit for bit."""

import json

import numpy as np
import pytest

from tests.phantoms import write_scan
from tests.step_calls import export_stack, full_recon
from tomopipe.campaign.files import VOLUMES
from tomopipe.reruns.made_from import as_text
from tomopipe.reruns.stated import only_metadata_differ
from tomopipe.volumes.volume_read import open_volume, read_mid_planes, read_provenance


def stated(pixel_size_um: float, **more: object) -> dict:
    metadata = {"metadata": {"input.pixel_size_um": pixel_size_um}}
    return {"maker": "tomopipe", "step": "full_recon", "options": {}} | metadata | more


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "a_1.h5"
    write_scan(path, n_rows=6, n_cols=64, n_angles=31)
    return path


def test_only_metadata_differ():
    assert only_metadata_differ(stated(1.0), stated(2.0))
    assert not only_metadata_differ(stated(1.0), stated(1.0))
    assert not only_metadata_differ(stated(1.0), stated(2.0, cor_px=3.0))
    assert not only_metadata_differ(None, stated(2.0))


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
