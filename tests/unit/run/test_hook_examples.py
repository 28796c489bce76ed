"""The commands of examples/hooks do what they say, with servers that are only pretended."""

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

HOOKS = Path(__file__).parents[3] / "examples" / "hooks"
SCAN = {
    "campaign": "Bones", "at": "2026-11-29T15:00:00+00:00", "event": "volume", "scan": "a_1",
    "path": "raw/a_1.h5", "state": "doubtful", "cor_px": 512.25, "confidence": 0.4,
    "reason": "two candidates", "pixel_size_um": 0.65,
}  # fmt: skip
END = {
    "campaign": "Bones", "status": "failed", "n_volumes": 12, "to_review": ["a_1"],
    "failures": [{"step": "full_recon", "name": "a_2", "error": "no disk"}],
}  # fmt: skip


class Http(BaseHTTPRequestHandler):
    """Keeps the requests that it gets."""

    requests: ClassVar[list[tuple[str, dict, dict]]] = []

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.path, dict(self.headers), content))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Smtp(socketserver.StreamRequestHandler):
    """Takes one message by RFC 5321, and keeps its text."""

    messages: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().strip().upper():
            if line == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.messages.append(b"".join(lines).decode())
            self.wfile.write(b"221 bye\r\n" if line == b"QUIT" else b"250 ok\r\n")


@pytest.fixture(params=[Http])
def server(request) -> Iterator[str]:
    kind = HTTPServer if request.param is Http else socketserver.TCPServer
    with kind(("127.0.0.1", 0), request.param) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{made.server_address[1]}"
        made.shutdown()


def call(name: str, facts: dict, *arguments: str, **environment: str) -> None:
    program = "sh" if name.endswith(".sh") else sys.executable
    subprocess.run(
        [program, str(HOOKS / name), *arguments],
        input=json.dumps(facts).encode(),
        env=os.environ | environment,
        check=True,
        timeout=120,
    )


def test_a_doubtful_scan_is_posted(server):
    call("chat.py", SCAN, f"http://{server}/hook")
    path, _, message = Http.requests.pop()
    assert (path, message) == ("/hook", {"text": "Bones: a_1 is doubtful: two candidates"})


def test_a_volume_is_registered_and_a_cor_is_not(server, tmp_path):
    facts = SCAN | {"volume": str(tmp_path / "a_1_rec.h5")}
    call("scicat.py", facts | {"event": "cor", "volume": None}, f"http://{server}", "ada")
    assert Http.requests == []
    call("scicat.py", facts, f"http://{server}", "ada", SCICAT_TOKEN="secret")
    path, headers, dataset = Http.requests.pop()
    assert (path, headers["Authorization"]) == ("/api/v3/datasets", "Bearer secret")
    assert dataset["sourceFolder"] == str(tmp_path)
    assert dataset["scientificMetadata"]["cor_px"] == 512.25
    assert dataset["inputDatasets"] == ["raw/a_1.h5"]


@pytest.mark.parametrize("server", [Smtp], indirect=True)
def test_the_end_of_a_run_is_mailed(server):
    call("mail.py", END, "ada@beamline.example", server)
    text = Smtp.messages.pop().replace("\r\n", "\n")
    assert "Subject: Bones: run failed, 12 volumes\n" in text
    assert "To review:\na_1\n" in text
    assert "full_recon a_2: no disk" in text


def test_a_volume_is_copied_and_a_cor_is_not(tmp_path):
    """Its rsync is a script that keeps its arguments: names are not read by the shell."""
    (tmp_path / "rsync").write_text('#!/bin/sh\nfor each; do echo "$each"; done >> "$LOG"\n')
    (tmp_path / "rsync").chmod(0o755)
    log, path = tmp_path / "log", f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    volume = str(tmp_path / "a $(touch x); 1_rec.h5")
    call("copy.sh", SCAN | {"event": "cor", "volume": volume}, "host:/to", PATH=path, LOG=str(log))
    assert not log.exists()
    call("copy.sh", SCAN | {"volume": volume}, "host:/to", PATH=path, LOG=str(log))
    assert log.read_text().splitlines() == ["-a", "--", volume, "host:/to/"]
