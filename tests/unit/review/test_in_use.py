"""Slices for scrubbing through a series: of the volume at the COR in use, else of the sweep."""

import json

import numpy as np
import pytest

from tests.review_campaign import TRUE_COR_PX, client_of, decide, make_campaign
from tomopipe.volumes.encoding import encoding_of
from tomopipe.volumes.volume import new_volume

pytestmark = pytest.mark.slow
VOLUME = np.add.outer(np.arange(20.0), np.arange(30 * 40.0).reshape(30, 40) / 4000)  # row + ...


@pytest.fixture
def folder(tmp_path):
    return make_campaign(tmp_path)


def picture(client, name="in-use", **query):
    """Return the values and the facts of a picture of bone_001."""
    answer = client.get(f"/api/{name}", params={"scan": "bone_001", **query})
    assert answer.status_code == 200, answer.text
    facts = json.loads(answer.headers["x-grey"])
    stored = np.frombuffer(answer.content, "<u2").reshape(facts["n_y"], facts["n_x"])
    return facts["low"] + stored * (facts["high"] - facts["low"]) / 65535, facts


def write_volume(folder, binning=1):
    path = folder / "results" / "bone_001_rec.h5"
    path.unlink(missing_ok=True)
    about = {"binning": binning}
    encoding = encoding_of("float32", "auto")
    with new_volume(path, VOLUME.shape, attributes=about, encoding=encoding) as put:
        put(0, VOLUME.astype(np.float32))


def test_without_a_volume_it_is_of_the_nearest_row_of_the_sweep(folder):
    (folder / "results" / "bone_001_rec.h5").unlink(missing_ok=True)
    client = client_of(folder)
    for row, kept, number in ((None, 256, 0), (60, 40, 1), (400, 256, 0)):
        values, facts = picture(client, **({} if row is None else {"row": row}))
        assert (facts["row"], facts["n_rows"], facts["of"]) == (kept, 512, "its sweep")
        expected, _ = picture(client, "slice", cor=f"{TRUE_COR_PX}", row=number)
        assert np.array_equal(values, expected)
    decide(client, {"bone_001": "505"})  # counts at once
    by_hand, _ = picture(client)
    assert np.array_equal(by_hand, picture(client, "slice", cor="505", row=0)[0])


@pytest.mark.parametrize("binning", [1, 2])
def test_it_is_the_same_row_of_the_volume_that_was_made_at_the_cor_in_use(folder, binning):
    write_volume(folder, binning)
    client = client_of(folder)
    values, facts = picture(client, row=10)
    assert (facts["row"], facts["of"]) == (10, "its volume")
    assert values == pytest.approx(VOLUME[10 // binning], abs=0.001)
    assert facts["pixel_px"] == binning
    values, facts = picture(client, row=511)  # beyond the rows of the volume: its last
    assert values == pytest.approx(VOLUME[-1], abs=0.001)
    decide(client, {"bone_001": "505"})  # the volume is of another COR from now on
    assert picture(client, row=10)[1]["of"] == "its sweep"


def test_rows_are_counted_from_the_first_of_the_volume(folder):
    write_volume(folder)
    config = folder / "config.yaml"
    config.write_text(f"{config.read_text()}\nfull_recon: {{rows: [100, 119]}}\n")
    values, facts = picture(client_of(folder), row=107)
    assert facts["row"] == 107
    assert values == pytest.approx(VOLUME[7], abs=0.001)


def test_what_has_neither_says_what_makes_it(folder):
    (folder / "results" / "bone_002_rec.h5").unlink(missing_ok=True)
    for path in (folder / "results" / "try_center" / "bone_002").glob("try*"):
        path.unlink()
    answer = client_of(folder).get("/api/in-use", params={"scan": "bone_002"})
    assert answer.status_code == 422
    assert "no sweep. `tomopipe run` makes its volume" in answer.text


def test_a_scan_without_a_sweep_says_whether_there_is_a_slice(folder):
    write_volume(folder)
    for path in (folder / "results" / "try_center" / "bone_001").glob("try*"):
        path.unlink()
    client = client_of(folder)

    def is_there():
        data = client.get("/api/scan", params={"scan": "bone_001"}).json()
        assert data["volume"]
        assert data["grid"] is None
        status = client.get("/api/in-use", params={"scan": "bone_001"}).status_code
        assert data["has_slice"] == (status == 200)
        return data["has_slice"]

    assert is_there()
    decide(client, {"bone_001": "505"})  # the volume is of another COR from now on
    assert not is_there()
