"""Files of others at the paths of results, which are not overwritten."""

import os
from collections.abc import Callable
from pathlib import Path

from tomopipe.campaign import files
from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import CENTER, ROWS, STACK, TRY_STACK
from tomopipe.campaign.results import read_json
from tomopipe.errors import TomopipeError
from tomopipe.reruns.decisions import statement_in
from tomopipe.reruns.receipts import Receipts, State

_N_NAMED = 10
_EXPECTED = "a result of tomopipe"


def foreign(campaign: Campaign, receipts: Receipts, *, after_cors: bool = False) -> list[str]:
    """Name the existing files at the paths of results that tomopipe did not make.

    A file with a receipt counts as ours, unless another file has taken its place. `after_cors`:
    only of results that a run still makes when it has cor.json.
    """
    made = campaign.outputs
    results = [("resolve_cor", "campaign", [made.cor_table, made.rot_cen])]
    sidecars = [campaign.sidecar(scan) for scan in campaign.scans]
    results.append(("sidecar", "campaign", sidecars))
    for scan in campaign.scans:
        if not after_cors:
            results.append(("try_recon", scan, made.of_try_recon(scan)))
            results.append(("predict_cor", scan, made.of_predict_cor(scan)))
        results += [
            ("full_recon", scan, [campaign.volume(scan)]),
            ("export_stack", scan, made.of_export_stack(scan)),
        ]
    for stack in campaign.config.stitch.stacks:
        results.append(("stitch", stack, campaign.results_of("stitch", stack)))
    items = []
    for step, key, paths in results:
        receipt = receipts.last(step, key) or receipts.of_before(paths)
        for path in paths:
            if receipt and path in receipt.files:
                is_foreign = _is_in_place_of(receipts, receipt.files[path], path)
            elif receipt and step == "resolve_cor":
                is_foreign = False
            else:
                where = receipts.path_of(path)
                is_foreign = os.path.lexists(where) and not is_ours(Path(where))
            items += [path] if is_foreign else []
    return items


def _is_in_place_of(receipts: Receipts, was: State, path: str) -> bool:
    """Tell whether a file of others has taken the place of a result.

    Its inode is another one; that of a whole HDF5 file may be equal, for disks use them again. An
    empty file is nobody's, and everybody may edit center_of_rotation.txt.
    """
    now = receipts.state(path)
    if now is None or now[0] == 0 or now[:2] == was[:2] or path.endswith(CENTER):
        return False
    where = receipts.path_of(path)
    is_other = now[2] != was[2] or _is_whole_hdf5(where)
    return is_other and not is_ours(Path(where), by_itself=True)


def _is_whole_hdf5(path: str) -> bool:
    if not path.endswith(".h5"):
        return False
    import h5py

    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


def refuse_foreign(campaign: Campaign, receipts: Receipts, *, after_cors: bool = False) -> None:
    """Raise if results would overwrite files that others have made (`foreign`); names ten."""
    if not (result := foreign(campaign, receipts, after_cors=after_cors)):
        return
    raise TomopipeError(
        "\n".join(
            [
                f"results would overwrite what was not made by tomopipe ({len(result)}):",
                *(f"  {path}" for path in sorted(result)[:_N_NAMED]),
                *(["  ..."] if len(result) > _N_NAMED else []),
                "Choose another folder (campaign.results, storage.sidecars), or move these away. "
                "`tomopipe cor import` takes CORs over from rot_cen.json, CSV files and sidecars. "
                "Delete what is a damaged copy of a result.",
            ]
        )
    )


def is_ours(path: Path, *, by_itself: bool = False) -> bool:
    """Tell whether tomopipe made a file or folder, by its content, or that of a file beside it."""
    signs = _OWN_SIGNS if by_itself and path.name.endswith(tuple(_OWN_SIGNS)) else _SIGNS
    if signs is _SIGNS and statement_in(path) is not None:
        return True
    ending = next((end for end in signs if path.name.endswith(end)), None)
    try:
        return ending is not None and signs[ending](path)
    except Exception:  # a foreign file may raise anything
        return False


def _is_table(path: Path) -> bool:
    return all({"cor_px", "source"} <= set(entry) for entry in read_json(path, _EXPECTED).values())


def _is_stack(path: Path) -> bool:
    from tomopipe.relion.mrc import LABEL, labels_of

    return LABEL in labels_of(path)


def _is_sweep(path: Path) -> bool:
    from tomopipe.volumes import tiff

    return tiff.is_ours(path)


# of files beside which another one has the statement of both
_OWN_SIGNS: dict[str, Callable[[Path], bool]] = {
    STACK: _is_stack,
    TRY_STACK: _is_sweep,
    ROWS: lambda path: statement_in(path) is not None,
}
# of files that state nothing, nor does one beside them; longer endings first
_SIGNS: dict[str, Callable[[Path], bool]] = {
    files.ROT_CEN: lambda path: is_ours(path.with_name(files.COR_TABLE)),
    files.SIDECAR: lambda path: (
        {"cor_px", "source", "before_px"} <= set(read_json(path, _EXPECTED))
    ),
    files.COR_TABLE: _is_table,
    ROWS: lambda path: is_ours(path.with_name(files.SWEEP)),
}
