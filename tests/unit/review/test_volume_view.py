"""A volume over HTTP: planes for the page, files of OME-Zarr for whoever has the token."""

import json

import numpy as np
import pytest
import zarr

from tests.review_campaign import browser, make_campaign, sign_in
from tomopipe.review.app import make_app
from tomopipe.review.security import Keys
from tomopipe.review.store import Store
from tomopipe.review.volume_view import file_below
from tomopipe.volumes import preview
from tomopipe.volumes.encoding import encoding_of
from tomopipe.volumes.volume import new_volume

pytestmark = pytest.mark.slow

DATA = np.random.default_rng(0).normal(1, 0.2, (21, 40, 52)).astype(np.float32)
PAGE = "https://viewer.example"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A signed-in browser, one without anything, and the server's keys; wood_1 has volumes."""
    folder = make_campaign(tmp_path_factory.mktemp("campaign"))
    about = {"voxel_size_um": 1.5, "units": "1/cm"}
    patch = pytest.MonkeyPatch()
    patch.setattr(preview, "_SMALLEST_BYTES", 1)
    patch.setattr(preview, "_SHARE", 1)
    for name, output_format in (("wood_1_rec.h5", "h5"), ("wood_1_converted.zarr", "zarr")):
        path = folder / "results" / name
        path.unlink(missing_ok=True)
        with new_volume(
            path, DATA.shape, output_format=output_format, attributes=about,
            encoding=encoding_of("uint16", (0, 2)),
        ) as put:  # fmt: skip
            put(0, DATA)
    patch.undo()
    keys = Keys()
    app = make_app(Store(folder, folder / "config.yaml"), keys, allow_origin=PAGE)
    return sign_in(app, keys), browser(app), keys


def plane(client, **query):
    answer = client.get("/api/plane", params={"scan": "wood_1", **query})
    assert answer.status_code == 200, answer.text
    facts = json.loads(answer.headers["x-grey"])
    stored = np.frombuffer(answer.content, "<u2").reshape(facts["n_y"], facts["n_x"])
    return facts["low"] + stored * (facts["high"] - facts["low"]) / 65535


def test_the_page_gets_parts_of_planes_in_one_range(served):
    client, _, _ = served
    facts = client.get("/api/volume", params={"scan": "wood_1"}).json()
    assert facts["shape"] == [21, 40, 52]
    assert facts["levels"] == {"1": [21, 40, 52], "4": [6, 10, 13], "8": [3, 5, 7]}
    assert facts["voxel_size_um"] == 1.5
    found = plane(client, plane="xz", at=9, factor=1, first=3, last=8)
    np.testing.assert_allclose(found, DATA[3:8, 9], atol=1e-4)
    found = plane(client, plane="yz", at=9, factor=4, first=0, last=99)
    np.testing.assert_allclose(found[0, 0], DATA[:4, :4, 8:12].mean(), atol=1e-4)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"plane": "zz", "factor": 1}, "expected a plane xy, xz or yz"),
        ({"plane": "xy", "factor": 3}, "at a factor of 1, 4, 8"),
        ({"plane": "xy", "factor": 1, "at": 21}, "beyond the volume"),
        ({"plane": "xy", "factor": 1, "first": 40, "last": 50}, "has no rows"),
        ({"scan": "nobody"}, "no scan nobody in"),
    ],
)
def test_what_is_not_there_is_said(served, query, message):
    answer = served[0].get("/api/plane", params={"scan": "wood_1"} | query)
    assert answer.status_code == 422
    assert message in answer.json()["error"]


def test_zarr_is_read_with_the_token_alone_and_by_ranges(served):
    client, stranger, keys = served
    facts = client.get("/api/volume", params={"scan": "wood_1"}).json()
    place = f"/{facts['address']}"
    assert ".zarr" in place  # without it napari takes no address
    metadata = stranger.get(f"{place}0/zarr.json")
    assert metadata.json()["shape"] == [21, 40, 52]
    tail = stranger.get(f"{place}0/c/0/0/0", headers={"range": "bytes=-20"})
    assert tail.status_code == 206
    assert len(tail.content) == 20
    assert stranger.get(f"{place}0/c/9/9/9").status_code == 404
    store = zarr.storage.MemoryStore()
    for name in ("zarr.json", "c/0/0/0", "c/1/0/0"):
        content = stranger.get(f"{place}0/{name}").content
        store._store_dict[name] = zarr.core.buffer.cpu.Buffer.from_bytes(content)
    found = 2 / 65535 * zarr.open_array(store, mode="r")[:]
    np.testing.assert_allclose(found, DATA, atol=2e-5)
    for wrong in (place.replace(keys.data_token, "x"), place.replace(keys.data_token, "")):
        assert stranger.get(f"{wrong}zarr.json").status_code == 403
    assert stranger.get("/api/volume", params={"scan": "wood_1"}).status_code == 403


@pytest.mark.parametrize(
    "below", ["../../config.yaml", "%2e%2e/%2e%2e/config.yaml", "0/%2e%2e/zarr.json", ""]
)
def test_zarr_gives_no_other_file(served, below):
    _, stranger, keys = served
    answer = stranger.get(f"/zarr/{keys.data_token}/wood_1.zarr/{below}")
    assert answer.status_code in (403, 404)


def test_a_link_leads_nowhere_outside(tmp_path):
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "x.zarr/link").symlink_to(tmp_path / "secret")
    (tmp_path / "x.zarr/zarr.json").write_text("{}")
    assert file_below(tmp_path / "x.zarr", "link") is None
    assert file_below(tmp_path / "x.zarr", "zarr.json") == tmp_path / "x.zarr/zarr.json"


def test_one_other_page_may_read_volumes_and_nothing_else(served):
    _, stranger, keys = served
    place = f"/zarr/{keys.data_token}/wood_1.zarr/zarr.json"
    answer = stranger.get(place, headers={"origin": PAGE, "sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    asked = stranger.options(place, headers={"origin": PAGE})
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-headers"] == "range"
    other = stranger.get(place, headers={"origin": "https://other.example"})
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers
    assert stranger.get("/api/queue", headers={"origin": PAGE}).status_code == 403
    assert stranger.post(place, headers={"origin": PAGE}).status_code == 403
    assert stranger.get(place, headers={"host": "evil.example"}).status_code == 403
