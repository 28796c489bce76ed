"""Files of others in the places of results: kept as NAME.before-DATE before a result is written."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tomopipe.campaign import files
from tomopipe.campaign.files import CENTER, NAMES_COLUMNS, STACK
from tomopipe.campaign.results import INVENTORY_COLUMNS, read_cor_json, read_json
from tomopipe.cor.outliers import FIX_COLUMNS
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe, what_is_no_file
from tomopipe.reruns.receipts import Receipts, State, state_of, statement_in
from tomopipe.scans.formats import HDF5
from tomopipe.steps.resolve_cor import is_rot_cen_of
from tomopipe.storage.atomic import keep_aside
from tomopipe.storage.checksums import MANIFEST
from tomopipe.storage.json_files import json_or

_EXPECTED = "a result of tomopipe"
_KEPT = "is not tomopipe's: kept as"
_N_NAMED = 10
_HEAD = 16_384  # characters of a text that are examined
_TITLE = "tomopipe report</title>"
# RELION writes a line with its version before this
_STAR = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesName #2\n"


def is_foreign(
    path: str | os.PathLike[str], now: State | None, recorded: Sequence[int] | None = None
) -> bool:
    """Tell whether a file or folder, or a pipe, that tomopipe did not make is at a path.

    `now` is its state, None if there is nothing, or a link to nothing. Ours state what they were
    made from, or have the form of a table that states nothing; so have those that end too early.
    `recorded` is the state of the result by its last receipt: then one of this size and time is
    ours, and so is one that was cut so short that it cannot be read. Empty ones are of nobody;
    center_of_rotation.txt may be edited by everybody.
    """
    where = Path(path)
    if now is None:
        return False
    if what_is_no_file(where):
        return True
    if now[0] == 0 and not where.is_dir():
        return False
    if recorded and (now[:2] == tuple(recorded[:2]) or where.name == CENTER):
        return False
    return not (is_ours(where) or (recorded and now[0] < recorded[0] and _is_cut(where)))


def keep_others(
    path: str | os.PathLike[str],
    recorded: Sequence[int] | None = None,
    is_made_here: Callable[[Path], bool] | None = None,
) -> str:
    """Rename what others put at a path, and say so on standard error; return the line, or "".

    `is_made_here` recognises ours, if not `is_ours`.
    """
    if not is_foreign(path, state_of(path), recorded) or (
        is_made_here and is_made_here(Path(path))
    ):
        return ""
    line = f"{path} {_KEPT} {keep_aside(path).name}"
    print(f"tomopipe: {line}", file=sys.stderr)
    return line


def others_in_place(
    receipts: Receipts, places: Iterable[Mapping[str, Sequence[int] | None]]
) -> list[str]:
    """Return the files of others among those that jobs replace; raise for a link to nothing."""
    result = []
    for path, state in (item for place in places for item in place.items()):
        where, now = receipts.path_of(path), receipts.state(path)
        if now is None and os.path.islink(where):
            raise TomopipeError(
                f"{where}: a link to {os.readlink(where)}, which does not exist: mount its disk, "
                "or remove the link to have the result made again."
            )
        if now not in (None, state) and is_foreign(where, now, state):
            result.append(path)
    return result


def to_keep(paths: Sequence[str]) -> list[str]:
    """Say that jobs will keep files of others, a line each; names at most ten."""
    lines = [f"{path} {_KEPT} {os.path.basename(path)}.before-DATE" for path in paths[:_N_NAMED]]
    more = len(paths) - len(lines)
    return lines + [f"and {more} more, kept in the same way"] * (more > 0)


def is_ours(path: Path) -> bool:
    """Tell whether tomopipe made a file or folder, by what it states, or by its form."""
    sign = next((sign for end, sign in _SIGNS.items() if path.name.endswith(end)), None)
    with suppress(Exception):  # a damaged or foreign file may raise anything
        if sign in (_is_stack, _is_sweep):  # what is beside them may be ours
            return sign(path)
        is_folder = path.is_dir() and ((path / MANIFEST).exists() or not any(path.iterdir()))
        return is_folder or statement_in(path) is not None or (sign is not None and sign(path))
    return False


def _is_cut(path: Path) -> bool:
    """Tell whether a file begins as HDF5 or a JSON object does, and ends too early to be read."""
    import h5py

    with no_pipe(path).open("rb") as file:
        begin = file.read(8)
    if path.suffix == ".json":
        return begin[:1] == b"{" and json_or(path, None) is None
    with suppress(OSError), h5py.File(no_pipe(path)):
        return False
    return begin == HDF5.begins[0]


def _is_stack(path: Path) -> bool:
    from tomopipe.relion.mrc import LABEL, labels_of

    return LABEL in labels_of(path)


def _is_sweep(path: Path) -> bool:
    from tomopipe.volumes import tiff

    return tiff.is_ours(path)


def _head(path: Path) -> str:
    with no_pipe(path).open(encoding="utf-8", errors="replace") as file:
        return file.read(_HEAD)


def _has_columns(path: Path) -> bool:
    cells = set(_head(path).partition("\n")[0].split("\t"))
    return any(
        cells.issuperset(columns) for columns in (INVENTORY_COLUMNS, FIX_COLUMNS, NAMES_COLUMNS)
    )


# files without a statement; longer endings first
_SIGNS: Mapping[str, Callable[[Path], bool]] = {
    files.ROT_CEN: lambda path: is_rot_cen_of(
        read_cor_json(path.with_name(files.COR_TABLE)), read_json(path, _EXPECTED)
    ),
    files.SIDECAR: lambda path: (
        {"cor_px", "source", "before_px"} <= set(read_json(path, _EXPECTED))
    ),
    files.COR_TABLE: lambda path: all(
        {"cor_px", "source"} <= set(entry) for entry in read_json(path, _EXPECTED).values()
    ),
    STACK: _is_stack,
    ".tif": _is_sweep,
    ".tsv": _has_columns,
    ".star": lambda path: _head(path).startswith(_STAR),
    ".html": lambda path: _TITLE in _head(path),
}
