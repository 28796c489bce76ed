"""Write a file whole or not at all: temporary name in the same folder, then rename."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends without an error.

    The temporary file (or folder) lies in the folder of `path`, which is made if need be; on an
    error it is removed and `path` is left as it was.

    Parameters
    ----------
    path : path-like
        The final name. An existing file is replaced in one step; an existing folder is moved
        aside first.

    Yields
    ------
    Path
        Where to write. Keeps the suffix of `path`, since some writers look at it.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    # Long names leave no room for a prefix (255 bytes at most): the temporary name is short.
    temporary = final.with_name(f".tmp-{secrets.token_hex(6)}{final.suffix[:16]}")
    try:
        yield temporary
        if temporary.is_dir():
            _replace_folder(temporary, final)
        else:
            _sync(temporary)
            temporary.replace(final)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write UTF-8 text whole, with LF line ends; undecodable file names keep their bytes."""
    with whole(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))


def write_json(data: Any, path: str | os.PathLike[str]) -> None:
    """Write `data` as sorted JSON, so that equal data give equal files."""
    write_text(json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n", path)


def _sync(path: Path) -> None:
    """Flush to disk before the rename: after a power cut there is the old file or the new one."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def _replace_folder(temporary: Path, final: Path) -> None:
    if final.exists():
        aside = temporary.with_name(temporary.name + "-old")
        final.rename(aside)
        temporary.rename(final)
        shutil.rmtree(aside)
    else:
        temporary.rename(final)
