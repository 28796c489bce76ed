"""Foreign files at the paths of results: they are never overwritten."""

import os
from collections.abc import Callable
from pathlib import Path

from tomopipe.campaign import files
from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import read_json
from tomopipe.errors import TomopipeError
from tomopipe.reruns.receipts import Receipts
from tomopipe.reruns.stated import statement_in

_N_NAMED = 10
_EXPECTED = "a result of tomopipe"


def foreign(campaign: Campaign, receipts: Receipts) -> list[str]:
    """Name the existing files at the paths of results that tomopipe did not make."""
    made = campaign.outputs
    results = [("resolve_cor", "campaign", [made.cor_table, made.rot_cen])]
    sidecars = [campaign.sidecar(scan) for scan in campaign.scans]
    results.append(("sidecar", "campaign", sidecars))
    for scan in campaign.scans:
        results += [
            ("try_recon", scan, made.of_try_recon(scan)),
            ("predict_cor", scan, made.of_predict_cor(scan)),
            ("full_recon", scan, [campaign.volume(scan)]),
            ("export_stack", scan, [made.stack(scan)]),
        ]
    items = []
    for step, key, paths in results:
        receipt = receipts.last(step, key) or receipts.of_before(paths)
        ours = receipt.files if receipt and step != "resolve_cor" else paths if receipt else ()
        items += [
            path
            for path in paths
            if path not in ours
            and os.path.lexists(campaign.directory / path)
            and not is_ours(campaign.directory / path)
        ]
    return items


def refuse_foreign(campaign: Campaign, receipts: Receipts) -> None:
    """Raise if results would overwrite files that others have made; names the first ten."""
    if not (result := foreign(campaign, receipts)):
        return
    raise TomopipeError(
        "\n".join(
            [
                f"results would overwrite what was not made by tomopipe ({len(result)}):",
                *(f"  {path}" for path in sorted(result)[:_N_NAMED]),
                *(["  ..."] if len(result) > _N_NAMED else []),
                "Choose another folder (campaign.results, storage.sidecars), or move these away. "
                "`tomopipe cor import` takes CORs over from rot_cen.json, CSV files and sidecars.",
            ]
        )
    )


def is_ours(path: Path) -> bool:
    """Tell whether tomopipe made a file or folder, by its content."""
    if statement_in(path) is not None:
        return True
    ending = next((end for end in _SIGNS if path.name.endswith(end)), None)
    try:
        return ending is not None and _SIGNS[ending](path)
    except Exception:  # a foreign file may raise anything
        return False


def _is_table(path: Path) -> bool:
    return all({"cor_px", "source"} <= set(entry) for entry in read_json(path, _EXPECTED).values())


# of files that state nothing, nor does one beside them; longer endings first
_SIGNS: dict[str, Callable[[Path], bool]] = {
    files.ROT_CEN: lambda path: is_ours(path.with_name(files.COR_TABLE)),
    files.SIDECAR: lambda path: (
        {"cor_px", "source", "before_px"} <= set(read_json(path, _EXPECTED))
    ),
    files.COR_TABLE: _is_table,
    files.ROWS: lambda path: is_ours(path.with_name(files.SWEEP)),
}
