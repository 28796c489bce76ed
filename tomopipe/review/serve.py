"""Serve the page on this machine only: a port of localhost, or a Unix socket."""

import asyncio
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import uvicorn

from tomopipe.errors import TomopipeError
from tomopipe.review.app import make_app
from tomopipe.review.security import Keys, clean_prefix
from tomopipe.review.store import Store


def serve(
    store: Store,
    *,
    port: int = 0,
    socket_path: Path | None = None,
    allow_hosts: Iterable[str] = (),
    allow_origin: str = "",
    prefix: str = "",
    volume: str = "",
    tell: Callable[[str], None] = print,
) -> None:
    """Serve until interrupted, on a port of localhost, or on a Unix socket of its owner.

    Port 0 takes a free one. The link leads to the volume of the scan or stack `volume`, if given.
    `allow_hosts`, `allow_origin` and `prefix` are as for `Guard`. `tell` prints lines; the token is
    in no other output. Raises TomopipeError if the port or the socket is not available.
    """
    # a plan changes the working directory of the process briefly
    socket_path = socket_path.absolute() if socket_path else None
    listening = _socket(socket_path) if socket_path else _port(port)
    listening.listen()  # before the link is printed, so that it works at once
    shown_port = port or 8765 if socket_path else listening.getsockname()[1]
    address = f"http://localhost:{shown_port}{clean_prefix(prefix)}/"

    def link(token: str) -> str:
        page, anchor = ("volume.html", f"#{quote(volume, safe='')}") if volume else ("", "")
        return f"{address}{page}?token={token}{anchor}"

    keys = Keys(lambda token: tell(f"\nFor another browser: {link(token)}"))
    title = f"Volume of {volume} in" if volume else "Review of"
    tell(f"{title} {store.directory}\n\n  {link(keys.token)}\n")
    end = socket_path if socket_path else f"localhost:{shown_port}"
    tell(f"From another machine first: ssh -L {shown_port}:{end} {socket.gethostname()}")
    tell("The link works once. Stop with Ctrl-C.")
    app = make_app(
        store, keys, allow_hosts=allow_hosts, allow_origin=allow_origin, prefix=prefix, tell=tell,
    )  # fmt: skip
    config = uvicorn.Config(
        app,
        # addresses of requests may contain the token: they are not logged
        access_log=False,
        log_level="warning",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=2,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_end)
    # uvicorn raises again the signal that ended it: clean up then, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
    except SystemExit as end:
        if end.code:
            raise
    finally:
        listening.close()
        if socket_path:
            socket_path.unlink(missing_ok=True)
    sys.stdout.flush()
    # a thread that reads a file holds the lock of HDF5, for which a normal exit would wait
    os._exit(0)


def _is_no_end(record: logging.LogRecord) -> bool:
    """Tell whether a log line is more than a request dropped as the server ended."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _port(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        fault = os.strerror(error.errno or 0)
        raise TomopipeError(
            f"port {port} of localhost: {fault}. Give another --port, or omit it."
        ) from error


def _socket(path: Path) -> socket.socket:
    """Bind a Unix socket that only its owner may open, from the beginning."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise TomopipeError(f"{path}: exists and is not a socket. Give another path.")
        path.unlink()  # left by a review that was killed
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise TomopipeError(
            f"{path}: {error.strerror or error}. Give a short path in your own folder."
        ) from error
    finally:
        os.umask(before)
    return listening
