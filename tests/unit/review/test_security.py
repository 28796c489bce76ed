"""Nobody but the person with the link gets in, and no other page can act in their name."""

import os
import socket
import stat
import subprocess
import sys
import time

import httpx2
import pytest
from typer.testing import CliRunner

from tests.review_campaign import UNTOUCHED, browser, client_of, make_campaign, sign_in
from tomopipe.cli import cli
from tomopipe.errors import TomopipeError
from tomopipe.report.render import script_hash
from tomopipe.review.app import make_app
from tomopipe.review.security import CSRF_HEADER, Keys
from tomopipe.review.store import Store

PATHS = (
    *("/", "/app.js", "/style.css", "/nothing", "/api/nothing", "/api/queue", "/api/status"),
    *("/api/scan?scan=bone_001", "/api/page?scan=bone_001&page=0", "/api/plan"),
)
DECISION = {"decisions": [{"scan": "bone_001", "cells": {"cor_px": "512"}, "seen": UNTOUCHED}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_campaign(tmp_path_factory.mktemp("review"))


@pytest.fixture(scope="module")
def server(folder):
    """One server that nothing here changes: its application and its keys."""
    keys = Keys()
    return make_app(Store(folder, folder / "config.yaml"), keys), keys


def in_it(server, **headers):
    client = sign_in(*server)
    client.headers.update(headers)
    return client


@pytest.mark.parametrize("path", PATHS)
def test_403_without_the_cookie(server, path):
    assert browser(server[0]).get(path).status_code == 403
    assert browser(server[0]).get(path, headers={"cookie": "x=y"}).status_code == 403


def test_of_the_report_only_our_own_script_runs(folder, server):
    (folder / "results/report").mkdir(exist_ok=True)
    (folder / "results/report/index.html").write_text("<html lang='en'><script>x</script>")
    client = in_it(server)
    assert browser(server[0]).get("/report/").status_code == 403
    answer = client.get("/report/")
    assert answer.text.startswith("<html data-review ")
    policy = answer.headers["content-security-policy"]
    scripts = [part for part in policy.split("; ") if part.startswith("script-src")]
    assert scripts == [f"script-src 'sha256-{script_hash()}'"]
    (folder / "results/report/other.html").write_text("<script src='other.js'></script>")
    for path in ("/report/index.html", "/report/other.html"):
        assert client.get(path).headers["content-security-policy"] == policy
    for path in ("/report/..%2Finventory.tsv", "/report/nothing.webp"):
        assert client.get(path).status_code == 404


def test_a_wrong_token_opens_nothing(server):
    for token in ("", "x", server[1].token[:-1], server[1].token + "x", "\udcff"):
        answer = browser(server[0]).get("/", params={"token": token.encode("utf-8", "replace")})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_the_token_becomes_a_cookie_once_and_leaves_the_address(server):
    app, keys = server
    token = keys.token
    client = browser(app)
    answer = client.get(f"/?token={token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token.lower() not in cookie
    assert client.get("/").status_code == 200
    assert client.get(f"/?token={token}").status_code == 303  # the same browser again
    assert browser(app).get(f"/?token={token}").status_code == 403
    answer = browser(app).get(f"/volume.html?token={keys.token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "./volume.html")


@pytest.mark.parametrize("host", ["localhost.evil.example:80", "10.0.0.7", "", "[x"])
def test_403_with_a_foreign_host(server, host):
    """As after DNS rebinding: name and origin agree, and the browser has no idea."""
    client = in_it(server, host=host, origin=f"http://{host}")
    assert client.get("/api/queue").status_code == 403
    del client.headers["origin"]
    assert client.get("/api/queue").status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9999", "[::1]:8765"])
def test_this_machine_at_any_port(server, host):
    assert in_it(server, host=host, origin=f"http://{host}").get("/api/queue").status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://localhost.evil.example", "null", "http://localhost:1", "http://[::1"]
)
def test_403_with_a_foreign_origin(server, origin):
    client = in_it(server, origin=origin)
    assert client.get("/api/queue").status_code == 403
    assert client.post("/api/decide", json=DECISION).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_403_for_what_another_page_asks(server, site):
    client = in_it(server)
    asked = {"sec-fetch-site": site}
    assert client.get("/api/queue", headers=asked).status_code == 403
    assert client.get("/", headers=asked | {"sec-fetch-mode": "navigate"}).is_success


def test_403_for_a_write_without_origin_or_key(server, folder):
    before = (folder / "scans.tsv").read_bytes()
    client = in_it(server)
    for name in ("origin", CSRF_HEADER):
        kept = client.headers.pop(name)
        assert client.post("/api/decide", json=DECISION).status_code == 403
        client.headers[name] = kept
    client.headers[CSRF_HEADER] = in_it(server).headers[CSRF_HEADER]  # of another session
    assert client.post("/api/decide", json=DECISION).status_code == 403
    assert client.put("/api/decide", json=DECISION).status_code == 403
    assert (folder / "scans.tsv").read_bytes() == before


def test_a_long_or_endless_body_is_not_read(server):
    client = in_it(server)
    assert client.post("/api/decide", content=b"x" * 1_000_001).status_code == 413
    assert client.post("/api/decide", content=iter([b"x"])).status_code == 413


def test_every_answer_carries_the_policy(server):
    client = in_it(server)
    for answer in (client.get("/"), client.get("/api/queue"), browser(server[0]).get("/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    page = client.get("/").text
    assert "style=" not in page
    assert "<style" not in page
    assert page.count("<script") == page.count('<script type="module" src="app.js"></script>') == 1
    assert "http" not in page  # nothing from elsewhere


@pytest.mark.parametrize(
    "path",
    [
        *("/../config.yaml", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd"),
        *("/static/../app.py", "//etc/passwd", "/app.py", "/__init__.py"),
    ],
)
def test_a_path_that_climbs_finds_nothing(server, path):
    answer = in_it(server).get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text


@pytest.mark.parametrize("scan", ["../../../etc", "", "/etc/passwd", "bone_001/../wood_1"])
def test_a_scan_that_climbs_is_no_scan(server, scan):
    client = in_it(server)
    pictures = ("page", "slice", "strip", "overlay", "difference", "sinogram", "thumbnail")
    for what in ("scan", *pictures):
        answer = client.get(f"/api/{what}", params={"scan": scan, "cor": "512", "step": "1"})
        assert answer.status_code == 422
        assert "no scan" in answer.json()["error"]


def test_a_link_out_of_the_campaign_is_not_followed(tmp_path):
    folder = make_campaign(tmp_path / "campaign")
    secret = tmp_path / "secret"
    (folder / "results/try_center/wood_1").rename(secret)
    (folder / "results/try_center/wood_1").symlink_to(secret)
    answer = client_of(folder).get("/api/page", params={"scan": "wood_1", "page": 0})
    assert answer.status_code == 422
    assert "outside the campaign" in answer.json()["error"]


def test_a_proxy_needs_allow_host_and_may_keep_or_take_off_its_prefix(folder):
    keys = Keys()
    store = Store(folder, folder / "config.yaml")
    app = make_app(store, keys, allow_hosts=["Hub.Example.org"], prefix="user/ada/proxy/8765/")
    client = browser(app, "hub.example.org")
    answer = client.get(
        f"/user/ada/proxy/8765/?token={keys.token}", headers={"x-forwarded-proto": "https"}
    )
    assert answer.headers["location"] == "./"
    assert "Path=/user/ada/proxy/8765;" in answer.headers["set-cookie"] + ";"
    assert "Secure" in answer.headers["set-cookie"]
    name, value = answer.headers["set-cookie"].split(";")[0].split("=")
    headers = {"cookie": f"{name}={value}"}
    for path in ("/user/ada/proxy/8765/api/queue", "/api/queue"):
        assert client.get(path, headers=headers).status_code == 200
    bare = client.get("/user/ada/proxy/8765?a=b", headers=headers)
    assert (bare.status_code, bare.headers["location"]) == (307, "8765/?a=b")
    # behind the proxy Host is another than in the browser's address
    csrf = client.get("/api/queue", headers=headers).json()["csrf"]
    answer = client.post(
        "/api/decide",
        json={"decisions": [{"scan": "bone_001", "cells": {}, "seen": UNTOUCHED}]},
        headers=headers
        | {"origin": "https://hub.example.org", "host": "localhost:8765", CSRF_HEADER: csrf},
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("prefix", ["/user/jörg b/pr;1/", "user/j%C3%B6rg%20b/pr%3B1"])
@pytest.mark.parametrize("host", ["hub.example.org:443", "https://Hub.Example.org/"])
def test_a_prefix_may_be_encoded_and_a_host_may_be_an_address(folder, prefix, host):
    keys, place = Keys(), "/user/j%C3%B6rg%20b/pr%3B1"
    store = Store(folder, folder / "config.yaml")
    app = make_app(store, keys, allow_hosts=[host, ""], prefix=prefix)
    client = browser(app, "hub.example.org")
    answer = client.get(f"{place}/?token={keys.token}")
    assert f"Path={place};" in answer.headers["set-cookie"] + ";"
    cookie = {"cookie": answer.headers["set-cookie"].split(";")[0]}
    assert client.get(f"{place}/api/queue", headers=cookie).status_code == 200
    assert client.get(place, headers=cookie).headers["location"] == "pr%3B1/"
    assert client.get("/api/queue", headers=cookie | {"host": "[x"}).status_code == 403


def test_a_place_that_is_taken_is_refused(folder, tmp_path):
    taken = tmp_path / "table.tsv"
    taken.write_text("precious")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for option, says in (
            (["--port", port], "Give another --port"),
            (["--socket", str(taken)], "is not a socket"),
        ):
            said = CliRunner().invoke(cli, ["review", str(folder), *option])
            assert isinstance(said.exception, TomopipeError)
            assert says in str(said.exception)
    assert taken.read_text() == "precious"


@pytest.mark.slow
@pytest.mark.parametrize("over", ["port", "socket"])
def test_the_command_serves_and_keeps_its_token_to_itself(folder, tmp_path, over):
    path = tmp_path / "review.sock"
    options = ["--socket", str(path)] if over == "socket" else []
    if over == "socket":  # one that was left behind
        socket.socket(socket.AF_UNIX).bind(str(path))
    command = [sys.executable, "-m", "tomopipe", "review", str(folder), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env=os.environ | {"PYTHONUNBUFFERED": "1"})  # fmt: skip
    try:
        link = next(line.strip() for line in process.stdout if "token=" in line)
        token = link.split("token=")[1]
        assert over != "socket" or stat.S_IMODE(path.stat().st_mode) == 0o600
        transport = httpx2.HTTPTransport(uds=str(path)) if over == "socket" else None
        with httpx2.Client(transport=transport, follow_redirects=True) as client:
            answer = _until_up(client, link)
            assert answer.status_code == 200
            assert "token" not in str(answer.url)
            assert client.get(str(answer.url) + "api/queue").json()["campaign"] == "Beamtime"
            assert "server" not in answer.headers
        with open(f"/proc/{process.pid}/cmdline") as arguments:
            assert token not in arguments.read()
    finally:
        process.terminate()
        rest = process.communicate(timeout=60)[0]
    assert token not in rest
    assert "GET" not in rest
    assert not path.exists()


def _until_up(client, link):
    for _ in range(100):
        try:
            return client.get(link)
        except httpx2.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server did not answer")
