"""Pieces of the page, made again only where something that they are made from has changed.

They lie beside the page by their content: the key of a piece is the digest of all that it is made
from, so that none can be outdated. A file that is missing, cut or of other code counts as empty.
"""

import json
from collections.abc import Callable
from functools import cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import xxhash

from tomopipe.paths import no_pipe
from tomopipe.storage.atomic import write_text

_SOURCES = (".py", ".j2")


class Fragments:
    """HTML by what it is made from; with a path, that of the last page is used again."""

    def __init__(self, path: Path | None = None) -> None:
        self.n_made = 0
        self._path, self._now = path, dict[str, str]()
        self._before = _read(path) if path else {}

    def html(self, made_from: Any, make: Callable[[], str]) -> str:
        """Return a piece of the page; `make` is called if there is none of the same content.

        The `repr` of `made_from` must have everything that `make` depends on, except code.
        """
        key = xxhash.xxh3_128_hexdigest(repr(made_from).encode())
        html = self._before.get(key)
        if html is None:
            html = as_utf8(make())
            self.n_made += 1
        self._now[key] = html
        return html

    def save(self) -> None:
        """Write the pieces of this page for the next one, if they are others."""
        if self._path and self._now.keys() != self._before.keys():
            sizes = json.dumps({key: len(html) for key, html in self._now.items()})
            content = "".join([sizes, "\n", *self._now.values()])
            write_text(f"{_seal(content)}\n{content}", self._path)


def as_utf8(html: str) -> str:
    """Return HTML that can be written; file names may contain bytes that are not UTF-8."""
    return html.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read(path: Path) -> dict[str, str]:
    try:
        seal, _, content = no_pipe(path).read_bytes().decode().partition("\n")
    except (OSError, ValueError):
        return {}
    if seal != _seal(content):
        return {}
    sizes, _, html = content.partition("\n")
    result, start = {}, 0
    for key, size in json.loads(sizes).items():
        result[key] = html[start : start + size]
        start += size
    return result


def _seal(content: str) -> str:
    """Return a digest of pieces and of the code that makes them."""
    digest = xxhash.xxh3_128(_code())
    digest.update(content.encode())
    return digest.hexdigest()


@cache
def _code() -> bytes:
    """Return a digest of the package, and of the one that fills its templates."""
    digest = xxhash.xxh3_128(metadata.version("jinja2").encode())
    for source in _sources(resources.files("tomopipe")):
        digest.update(source.read_bytes())
    return digest.digest()


def _sources(folder: Traversable) -> list[Traversable]:
    parts = sorted(folder.iterdir(), key=lambda part: part.name)
    below = [source for part in parts if part.is_dir() for source in _sources(part)]
    return [part for part in parts if part.name.endswith(_SOURCES)] + below
