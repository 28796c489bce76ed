"""Foreign files, not written by tomopipe, at the paths of results: they are not overwritten."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tomopipe.campaign import files
from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.cor_files import is_rot_cen_of
from tomopipe.campaign.files import CENTER, LINKS, ROWS, STACK, TRY_STACK
from tomopipe.campaign.raw_files import encode_series
from tomopipe.campaign.results import INVENTORY_COLUMNS, read_cor_json, read_json
from tomopipe.campaign.step_files import results_of
from tomopipe.cor.outliers import FIX_COLUMNS
from tomopipe.errors import TomopipeError, some_of
from tomopipe.paths import no_pipe, what_is_no_file
from tomopipe.reruns.receipts import Receipt, Receipts
from tomopipe.reruns.staleness import statement_in
from tomopipe.scans.formats import HDF5
from tomopipe.storage.checksums import MANIFEST, matches
from tomopipe.storage.json_files import json_or

_N_NAMED = 10
_EXPECTED = "a result of tomopipe"
_HEAD = 16_384  # characters of a text that are examined
_NAMES, _TITLE = ("scan", "rlnTomoName"), "tomopipe report</title>"
# RELION writes a line with its version before this
_STAR = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesName #2\n"


def foreign(campaign: Campaign, receipts: Receipts, *, after_cors: bool = False) -> list[str]:
    """Name the existing files at the paths of results that tomopipe did not make.

    A file with a receipt counts as ours, unless another file has replaced it. `after_cors`: only
    the results that a run makes after cor.json.
    """
    scans, config = list(campaign.scans), campaign.config
    to_cors: dict[str, Iterable[str]] = {
        "inventory": ["campaign"],
        "try_recon": scans,
        "predict_cor": scans,
        "fix_cor": sorted({encode_series(scan.series) for scan in campaign.scans.values()}),
    }
    keys: dict[str, Iterable[str]] = {
        **({} if after_cors else to_cors),
        "resolve_cor": ["campaign"],
        "full_recon": scans,
        "stitch": config.stitch.stacks,
        "sidecar": ["campaign"],
        "export_stack": scans,
        "export_star": ["campaign"] if campaign.makes_star else [],
        "report": ["campaign"] if config.report.enabled else [],
    }
    items = []
    for step, of_step in keys.items():
        for key in of_step:
            paths = results_of(campaign, step, key)
            receipt = receipts.last(step, key)
            items += [path for path in paths if _is_foreign(receipts, receipt, path)]
    links = campaign.outputs.in_relion(LINKS)
    return items + [links] * (campaign.makes_star and _is_foreign(receipts, None, links))


def _is_foreign(receipts: Receipts, receipt: Receipt | None, path: str) -> bool:
    where = receipts.path_of(path)
    if receipt and path in receipt.files:
        return _is_in_place_of(receipts, receipt, path)
    return os.path.lexists(where) and not is_ours(Path(where))


def _is_in_place_of(receipts: Receipts, receipt: Receipt, path: str) -> bool:
    """Tell whether a foreign file has replaced a result.

    It has another inode, or is a complete file of another kind (file systems reuse inodes, and
    copying onto a file keeps the inode), a pipe, or a dangling link. Empty files are not foreign,
    nor those that end too early to be read, as in a copy of the campaign, nor
    center_of_rotation.txt, which everybody may edit.
    """
    was, now, where = receipt.files[path], receipts.state(path), receipts.path_of(path)
    if now is None:
        return os.path.islink(where)  # its disk is not mounted, where the result may be complete
    if now[0] == 0:
        return bool(what_is_no_file(where))
    if now[:2] == was[:2] or path.endswith(CENTER):
        return False
    if now[0] < was[0] and _is_cut(Path(where)):
        return False
    is_replaced = now[2] != was[2] or _has_sign(Path(where), _WHOLE)
    if not is_replaced or is_ours(Path(where), by_itself=True):
        return False
    content = receipt.sums.get(path)
    return not content or bool(matches(where, content))


def _has_sign(path: Path, signs: Mapping[str, Callable[[Path], bool]]) -> bool:
    """Tell whether a file or folder begins like its kind, which the end of its name gives."""
    ending = next((end for end in signs if path.name.endswith(end)), None)
    try:
        return ending is not None and signs[ending](path)
    except Exception:  # a damaged or foreign file may raise anything
        return False


def _opens(path: Path) -> bool:
    import h5py

    with h5py.File(no_pipe(path), "r"):
        return True


def _is_cut(path: Path) -> bool:
    """Tell whether a file begins as HDF5 or a JSON object does, and ends too early to be read."""
    with suppress(OSError), no_pipe(path).open("rb") as file:
        if path.suffix == ".h5":
            return file.read(8) == HDF5.begins[0] and not _has_sign(path, _WHOLE)
        return path.suffix == ".json" and file.read(1) == b"{" and json_or(path, None) is None
    return False


def refuse_foreign(campaign: Campaign, receipts: Receipts, *, after_cors: bool = False) -> None:
    """Raise if results would overwrite foreign files (`foreign`); names at most ten."""
    if not (result := foreign(campaign, receipts, after_cors=after_cors)):
        return
    where = (Path(receipts.path_of(path)) for path in sorted(result))
    if away := [path for path in where if path.is_symlink() and not path.exists()]:
        raise TomopipeError(
            f"{some_of([str(path) for path in away], 3)}: a link to {os.readlink(away[0])}, which "
            "does not exist: mount its disk, or remove the link to have the result made again."
        )
    kinds = {path: what_is_no_file(receipts.path_of(path)) for path in sorted(result)[:_N_NAMED]}
    lines = [
        f"results would overwrite files that tomopipe did not write ({len(result)}):",
        *(f"  {path}{f': {kind}' if kind else ''}" for path, kind in kinds.items()),
        *(["  ..."] if len(result) > _N_NAMED else []),
        "Choose another folder (campaign.results, storage.sidecars), or move these away. "
        "`tomopipe cor import` imports CORs from rot_cen.json, CSV files and sidecars. "
        "Delete damaged copies of results.",
    ]
    raise TomopipeError("\n".join(lines))


def refuse_foreign_page(campaign: Campaign, page: Path) -> None:
    """Raise if the page of a report would overwrite a file that tomopipe did not make.

    The campaign's own page is judged as in a run; elsewhere an empty file may be overwritten.
    """
    receipts, own = Receipts(campaign.directory, campaign.outputs), campaign.outputs.report
    if page == campaign.files.report:
        is_foreign = _is_foreign(receipts, receipts.last("report", "campaign"), own)
    else:
        is_foreign = _is_of_others(page, lambda path: _TITLE in _head(path))
    if is_foreign:
        raise TomopipeError(_no_page(page, "report", "name another page with -o"))


def refuse_foreign_sweep(page: Path, stack: Path) -> None:
    """Raise if `tomopipe sweep` would overwrite a file that it did not make."""
    signs = {page: lambda path: stack.name in _head(path), stack: _is_sweep}
    for path, is_made_here in signs.items():
        if _is_of_others(path, is_made_here):
            raise TomopipeError(_no_page(path, "sweep", "set another campaign.results"))


def refuse_foreign_live(page: Path, record: Path) -> None:
    """Raise if `tomopipe run --watch`, which keeps a record beside it, did not write the page."""
    if _is_of_others(page, lambda _: record.exists()):
        raise TomopipeError(_no_page(page, "run --watch", "set another campaign.results"))


def _no_page(path: Path, command: str, remedy: str) -> str:
    return (
        f"{path}: expected a file that `tomopipe {command}` wrote, or none; it is another one, and "
        f"would be overwritten. Move it away, or {remedy}."
    )


def _is_of_others(path: Path, is_made_here: Callable[[Path], bool]) -> bool:
    """Tell whether a file or folder exists that does not show to be ours."""
    is_own = path.is_file() and (path.stat().st_size == 0 or is_made_here(path))
    return path.exists() and not is_own


def is_ours(path: Path, *, by_itself: bool = False) -> bool:
    """Tell whether tomopipe made a file or folder, by its content or that of a file beside it."""
    is_alone = by_itself and path.name.endswith(tuple(_OWN_SIGNS))
    is_stated = not is_alone and (statement_in(path) is not None or _has_sign(path, _SIGNS))
    return is_stated or _has_sign(path, _OWN_SIGNS)  # a killed job may have left one alone


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
    return any(cells.issuperset(columns) for columns in (INVENTORY_COLUMNS, FIX_COLUMNS, _NAMES))


def _is_folder(path: Path) -> bool:
    """Tell whether a folder has its manifest, is empty, or contains only links."""
    return (path / MANIFEST).exists() or all(each.is_symlink() for each in path.iterdir())


# files whose statement is in another file beside them
_OWN_SIGNS: dict[str, Callable[[Path], bool]] = {
    STACK: _is_stack,
    TRY_STACK: _is_sweep,
    ROWS: lambda path: statement_in(path) is not None,
}
# files without a statement, also beside them; longer endings first
_SIGNS: dict[str, Callable[[Path], bool]] = {
    files.ROT_CEN: lambda path: is_rot_cen_of(
        read_cor_json(path.with_name(files.COR_TABLE)), read_json(path, _EXPECTED)
    ),
    files.SIDECAR: lambda path: (
        {"cor_px", "source", "before_px"} <= set(read_json(path, _EXPECTED))
    ),
    files.COR_TABLE: lambda path: all(
        {"cor_px", "source"} <= set(entry) for entry in read_json(path, _EXPECTED).values()
    ),
    ROWS: lambda path: is_ours(path.with_name(files.SWEEP)),
    ".tsv": _has_columns,
    ".star": lambda path: _head(path).startswith(_STAR),
    files.TILT_SERIES: _is_folder,
    LINKS: _is_folder,
    ".html": lambda path: _TITLE in _head(path),
}
# shown by a complete foreign file written onto ours, and not by a damaged one
_WHOLE: dict[str, Callable[[Path], bool]] = {
    ".h5": _opens,
    files.ROT_CEN: lambda path: bool(read_json(path, _EXPECTED)),
    ".star": lambda path: "data_" in (text := _head(path)) and "\nloop_" in text,
    ".html": lambda path: "<html" in _head(path).lower(),
}
