"""A small campaign to review: pictures of a bead for two scans, everything else fabricated."""

import numpy as np
from starlette.testclient import TestClient

from tests.report_campaign import every_state, write_json
from tomopipe.cor.collected_rows import Rows, write_rows
from tomopipe.review.app import make_app
from tomopipe.review.security import CSRF_HEADER, Keys
from tomopipe.review.store import Store
from tomopipe.volumes.tiff import write_try_stack

N_COLS = 1024
BEAD_PX = (180.0, -90.0)  # from the axis
TRUE_COR_PX = 511.65  # of bone_001, as every_state predicts it
GRID_PX = [507.0 + number for number in range(11)]
TABLE = (
    "# of the beamtime\nscan\tselect\tcor_px\tnote\toperator\n"
    "bone_007\tauto\t513.65\tby eye\tAda\nbone_010\tno\t\t\tBob\n"
)


def bead_sinogram(theta_rad, cor_px, radius_px=12.0):
    """Line integrals of a bead of value 0.01 per pixel."""
    x, y = BEAD_PX
    middle = cor_px + x * np.cos(theta_rad) - y * np.sin(theta_rad)
    off = np.arange(N_COLS) - middle[:, None]
    return np.float32(0.02 * np.sqrt(np.clip(radius_px**2 - off**2, 0, None)))


def write_pictures(folder, name, cor_px, radius_px=12.0):
    """Write try.tif, try.json and rows.h5 of one scan."""
    place = folder / "results" / "try_center" / name
    place.mkdir(parents=True, exist_ok=True)
    theta_rad = np.linspace(0, np.pi, 90, endpoint=False)
    sinogram = bead_sinogram(theta_rad, cor_px, radius_px)
    pair_rad = np.array([[0.3, 0.3 + np.pi]])
    pair = bead_sinogram(pair_rad[0], cor_px)
    rows = Rows(
        sinograms=np.stack([sinogram, 2 * sinogram]),
        row_index=np.array([256, 40]),
        theta_rad=theta_rad,
        pairs=np.repeat(pair[None, :, None, :], 8, axis=2),
        pair_theta_rad=pair_rad,
        n_rows=512,
        theta_missing=False,
        minus_log=True,
        failed="",
    )
    write_rows(rows, place / "rows.h5")
    pages = (np.full((64, 64), 5000 * number, np.uint16) for number in range(len(GRID_PX)))
    write_try_stack(pages, GRID_PX, place / "try.tif", shape=(64, 64))
    grid = {"cor_px": GRID_PX, "row": 256, "rows": [256], "binning": 16, "window": [-0.002, 0.012]}
    write_json(grid | {"made_from": {}}, place / "try.json")


UNTOUCHED = {"select": "auto", "cor_px": "", "note": ""}  # a row that nobody has written


def decide(client, cors_px, **more):
    """Send the texts of CORs of untouched scans as the page does; return the answer."""
    decisions = [
        {"scan": scan, "cells": {"cor_px": cor_px}, "seen": UNTOUCHED, **more}
        for scan, cor_px in cors_px.items()
    ]
    return client.post("/api/decide", json={"decisions": decisions})


def make_campaign(folder):
    """Write the campaign, as after a run that nobody has looked at."""
    made = every_state(folder, plane_px=0).write()
    (folder / "raw").mkdir()
    for scan in made.scans.values():
        (folder / scan.path).touch()
    (folder / "config.yaml").write_text("campaign: {scans: [raw/*.h5], name: Beamtime}\n")
    (folder / "scans.tsv").write_text(TABLE)
    for name, cor_px in (("bone_001", TRUE_COR_PX), ("wood_1", 510.0)):
        write_pictures(folder, name, cor_px)
    return folder


def client_of(folder, *, signed_in=True, host="localhost:8765", **options):
    """Return a client of a server of its own, with the key for writes set."""
    keys = Keys()
    store = Store(folder, folder / "config.yaml")
    app = make_app(store, keys, **options)
    return sign_in(app, keys, host) if signed_in else browser(app, host)


def browser(app, host="localhost:8765"):
    return TestClient(app, base_url=f"http://{host}", follow_redirects=False)


def sign_in(app, keys, host="localhost:8765"):
    """Follow the link of a server; a browser sends the origin with every write."""
    client = browser(app, host)
    answer = client.get(f"/?token={keys.token}")
    assert answer.status_code == 303, answer.text
    client.headers["origin"] = f"http://{host}"
    client.headers[CSRF_HEADER] = client.get("/api/queue").json()["csrf"]
    return client
