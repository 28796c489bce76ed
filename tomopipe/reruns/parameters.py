"""Parameters of jobs: one mapping for each job, computed in the main process."""

from collections.abc import Callable
from typing import Any

from tomopipe.campaign.reading import inventory_entries
from tomopipe.campaign.relion_set import campaign_binning
from tomopipe.campaign.series import to_resolve
from tomopipe.campaign.state.sentences import why_not_selected
from tomopipe.campaign.step_files import volume_of
from tomopipe.reruns.reasons import METADATA_ALONE
from tomopipe.reruns.receipts import as_text
from tomopipe.reruns.settle import Settled
from tomopipe.reruns.target import STEPS, table_shown


def parameters(settled: Settled, step: str, key: str) -> dict[str, Any]:
    """Return the parameters of a job; `key` is its scan, series or stack, else "campaign".

    The mapping always has `products`, the files to make (the first contains the statement of all),
    and `made_from`, that statement as JSON. It is empty as long as a table that it depends on is
    missing: Snakemake asks for parameters before it knows all inputs of a job. It has only `fault`
    if the tables say that there is no such result.
    """
    if not is_open(settled, step, key):
        fault = why_none(settled, step, key)
        return {"fault": fault} if fault else {}
    result: dict[str, Any] = {
        "products": settled.target.outputs(step, key),
        "recorded": settled.recorded(step, key),
        "made_from": as_text(settled.target.statement(step, key)),
    }
    if step in ("full_recon", "stitch", "export_stack"):
        # the result is unchanged on disk, and only its metadata are to change
        result["metadata_alone"] = METADATA_ALONE in settled.reasons.get((step, key), "")
    return result | _OWN[step](settled, key)


def is_open(settled: Settled, step: str, key: str) -> bool:
    """Tell whether all tables that a job depends on exist, and whether it has its COR."""
    if (settled.pending == "inventory" and step != "inventory") or why_none(settled, step, key):
        return False
    if step not in _AFTER_CORS:
        return True
    cors = settled.cors
    keys = settled.target.stacks() if STEPS[step].key == "stack" else cors
    return not settled.pending and (key == "campaign" or key in keys)


def why_none(settled: Settled, step: str, key: str) -> str:
    """Say why no run makes a result of a scan, series or stack; "" if a run may."""
    campaign, rows, fault = settled.campaign, settled.rows, ""
    if settled.pending == "inventory":
        return ""
    if step == "fix_cor" and key not in settled.target.series():
        fault = f"series {key}: no scan is selected"
    elif step == "stitch" and not settled.pending:
        stacks = settled.target.declared()
        problems = {stack.name: stack.problem for stack in stacks}
        fault = f"stack {key} is not stitched: {problems[key]}" if problems.get(key) else ""
    elif step in _OF_SCAN and (why := why_not_selected(campaign.scans[key].select, rows.get(key))):
        remedy = f"`select: yes` in {campaign.table_name} selects it."
        fault = f"{key}: it is not selected ({why}). {remedy}"
    elif step in _OF_SCAN and step in _AFTER_CORS and key in settled.without_cor:
        fault = f"{key} has no COR, and so no volume. Type: tomopipe cor set {key} VALUE"
    return fault


_OF_SCAN = [name for name, step in STEPS.items() if step.key == "scan"]
_AFTER_CORS = [*STEPS][[*STEPS].index("resolve_cor") + 1 :]


def _inventory(settled: Settled, _: str) -> dict[str, Any]:
    campaign = settled.campaign
    return {
        "entries": inventory_entries(campaign),
        "options": campaign.config.as_json("inventory", "input", "preprocess"),
    }


def _reading(settled: Settled, scan: str, *blocks: str) -> dict[str, Any]:
    """Return the raw file, the options of a step that reads a scan, and its raw files."""
    config = settled.campaign.for_scan(scan).config
    return {
        "raw": settled.campaign.scans[scan].path,
        "raw_files": settled.target.raw_files(scan),
        "options": config.as_json("input", "preprocess", *blocks),
    }


def _summing(settled: Settled, scan: str, *blocks: str) -> dict[str, Any]:
    """Return the parameters of a step that also sums the raw files whose content is not known."""
    result, receipts = _reading(settled, scan, *blocks), settled.receipts
    receipts.of("try_recon", scan)  # which may have the sums
    unsummed = [path for path in result["raw_files"] if not receipts.raw.has_content(path)]
    return result | {"unsummed": unsummed}


def _predict_cor(settled: Settled, scan: str) -> dict[str, Any]:
    config, out = settled.campaign.for_scan(scan).config, settled.out
    last = settled.receipts.last("predict_cor", scan)
    return {
        "rows": out.of_try_recon(scan)[:2],
        "options": config.as_json("predict_cor", "preprocess", "full_recon"),
        "center_sum": last.sums.get(out.center(scan), "") if last else "",
    }


def _fix_cor(settled: Settled, series: str) -> dict[str, Any]:
    target, out, options = settled.target, settled.out, settled.campaign.config.fix_cor
    return {
        "members": target.members(series),
        "around": target.members_around(series),
        "stated_around": target.stated_around(series) if options.fill == "best" else "",
        "options": options.model_dump() | {"is_measured": options.is_measured},
        "predictions": {
            scan: [out.center(scan), out.prediction(scan)]
            for scan in target.to_search([*target.series()[series], *target.scans_around(series)])
        },
    }


def _resolve_cor(settled: Settled, _: str) -> dict[str, Any]:
    campaign, out, others = settled.campaign, settled.out, settled.others
    needed = {*others, *settled.needed.scans}
    scans = to_resolve(campaign, settled.rows).items()
    return {
        "tables": list(map(out.fix_table, settled.needed.series)),
        "scans": {scan: entry for scan, entry in scans if scan in needed},
        "options": campaign.config.resolve_cor.model_dump(),
        "others": others,
    }


def _full_recon(settled: Settled, scan: str) -> dict[str, Any]:
    return {**_summing(settled, scan, "full_recon", "export_star"), **settled.cors[scan]}


def _stitch(settled: Settled, name: str) -> dict[str, Any]:
    scans = settled.target.stacks()[name].scans
    return {
        "volumes": {scan: volume_of(settled.campaign, scan) for scan in scans},
        "options": settled.campaign.config.as_json("stitch", "full_recon"),
    }


def _export_stack(settled: Settled, scan: str) -> dict[str, Any]:
    return {
        **_reading(settled, scan, "export_star"),
        # decided once from all scans; the job stores it
        "binning": campaign_binning(settled.campaign),
    }


def _export_star(settled: Settled, _: str) -> dict[str, Any]:
    return {
        "cor": settled.out.cor_table,
        "metas": {scan: settled.out.stack_meta(scan) for scan in settled.cors},
        "options": settled.target.star_options(),
    }


_OWN: dict[str, Callable[[Settled, str], dict[str, Any]]] = {
    "inventory": _inventory,
    "try_recon": lambda settled, scan: _summing(settled, scan, "try_recon"),
    "predict_cor": _predict_cor,
    "fix_cor": _fix_cor,
    "resolve_cor": _resolve_cor,
    "full_recon": _full_recon,
    "stitch": _stitch,
    "sidecar": lambda *_: {},
    "export_stack": _export_stack,
    "export_star": _export_star,
    "report": lambda settled, _: {"table": table_shown(settled.campaign)},
}
