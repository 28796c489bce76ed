"""Parameters of jobs, and the inputs of fix_cor, computed in the main process."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.overlaps import SHARING, Overlap, shared_overlaps
from tomopipe.campaign.reading import inventory_entries
from tomopipe.campaign.results import UNREADABLE
from tomopipe.campaign.series import to_resolve
from tomopipe.campaign.state.facts import not_selected
from tomopipe.campaign.state.sentences import why_not_selected
from tomopipe.cor.outliers import FILLS
from tomopipe.errors import scan_word
from tomopipe.relion.relion_set import campaign_binning
from tomopipe.reruns import sidecars
from tomopipe.reruns.reasons import METADATA_ALONE
from tomopipe.reruns.receipts import as_text, digest
from tomopipe.reruns.settle import Settled
from tomopipe.storage.json_files import in_file, json_or, part, text
from tomopipe.storage.run_folder import shared_file
from tomopipe.workflow_steps import STEPS, SUMMING_STEPS


def parameters(settled: Settled, step: str, key: str) -> dict[str, Any]:
    """Return the parameters of a job; `key` is its scan, series or stack, else "campaign".

    They are the params of its rule, of the same names, that are more than a path.
    """
    names = ("provenance", *STEPS[step].params)
    return {name: parameter(settled, step, key, name) for name in names}


def parameter(settled: Settled, step: str, key: str, name: str) -> Any:
    """Return a parameter of a job.

    `provenance` is for its receipt: `products`, the files to make, of which the first contains the
    statement of all; `recorded` (`Settled.recorded`), without which a file there may be somebody
    else's, and is kept aside; `made_from`, that statement as JSON; `raw_files`, which the job
    reads, and `unsummed`, those whose content is not known yet. It has a `fault`, at which the
    job fails at once, if the sweep could not read what the job needs; and that alone if the tables
    say that there is no such result.

    A parameter is None as long as a table that the job depends on is missing: Snakemake asks for
    parameters before it knows all inputs of a job.
    """
    if is_open(settled, step, key):
        return _PARAMETERS[name](settled, step, key)
    fault = why_none(settled, step, key) if name == "provenance" else ""
    return {"fault": fault} if fault else None


def is_open(settled: Settled, step: str, key: str) -> bool:
    """Tell whether all tables that a job depends on exist, and whether it has its COR."""
    inputs = STEPS[step].inputs
    if (settled.pending == "inventory" and inputs) or why_none(settled, step, key):
        return False
    if not STEPS[step].is_after_cors:
        return True
    cors = settled.cors
    keys = settled.target.stacks() if STEPS[step].key == "stack" else cors
    return not settled.pending and (key == "campaign" or key in keys)


def why_none(settled: Settled, step: str, key: str) -> str:
    """Say why no run makes a result of a scan, series or stack; "" if a run may."""
    campaign, rows, fault = settled.campaign, settled.rows, ""
    kind, is_after_cors = STEPS[step].key, STEPS[step].is_after_cors
    if settled.pending == "inventory":
        return ""
    if kind == "series" and key not in settled.target.selected.series:
        fault = f"series {key}: no scan is selected"
    elif kind == "stack" and not settled.pending:
        stacks = settled.target.declared()
        problems = {stack.name: stack.problem for stack in stacks}
        fault = f"stack {key} is not stitched: {problems[key]}" if problems.get(key) else ""
    elif kind == "scan" and (why := why_not_selected(campaign.scans[key].select, rows.get(key))):
        fault = f"{key}: it is not selected ({why})."
        if not not_selected("yes", rows.get(key)):
            fault += f" `select: yes` in {campaign.table_name} selects it."
    elif kind == "scan" and is_after_cors and key in settled.without_cor:
        fault = f"{key} has no COR, and so no volume. Type: tomopipe cor set {scan_word(key)} VALUE"
    return fault


def _provenance(settled: Settled, step: str, key: str) -> dict[str, Any]:
    receipts, statement = settled.receipts, settled.target.statement(step, key)
    result: dict[str, Any] = {
        "products": settled.target.outputs(step, key),
        "recorded": settled.recorded(step, key),
        "made_from": as_text(statement),
    }
    if STEPS[step].reads_scan:
        entry, files = settled.campaign.scans[key], settled.target.raw_files(key)
        # a file of several scans may grow meanwhile
        result["raw_files"] = files[1:] if entry.view else files
    if STEPS[step].sums_raw:
        for earlier in SUMMING_STEPS:
            receipts.of(earlier, key)  # which may have the sums
        raw_files = result["raw_files"]
        result["unsummed"] = [path for path in raw_files if not receipts.raw.has_content(path)]
    if step == "full_recon" and (fault := _unreadable(settled, key)):
        result["fault"] = fault
    return result


def _unreadable(settled: Settled, scan: str) -> str:
    """Return why the sweep of a scan failed if its volume, at a COR of others, would fail alike.

    That is, if pixels cannot be read, of a file and by options that are still the same.
    """
    path = settled.campaign.paths.sweep(scan)
    if settled.cors[scan]["source"] not in (*FILLS, "default") or not in_file(path, UNREADABLE):
        return ""
    sweep, target = json_or(path, {}), settled.target.statement("try_recon", scan)
    is_of_all = settled.campaign.for_scan(scan).config.full_recon.rows == "all"
    is_present = digest(part(sweep, "made_from")) == digest(target)
    return text(sweep.get("failed")) if is_of_all and is_present else ""


def _metadata_alone(settled: Settled, step: str, key: str) -> bool:
    """Tell whether the result is unchanged on disk, and only its metadata are to change."""
    return METADATA_ALONE in settled.reasons.get((step, key), "")


@lru_cache(maxsize=4)  # for all scans of a decision
def _shared_by(settled: Settled, step: str) -> dict[str, dict[str, Any]]:
    """Return the file that jobs of windows that overlap share; of the first one also all spans."""
    result: dict[str, dict[str, Any]] = {}
    for scans, spans in sharing(settled, step):
        file = shared_file(SHARING[step], scans[0])
        result |= {scan: {"file": file} for scan in scans}
        result[scans[0]]["windows"] = spans
    return result


def sharing(settled: Settled, step: str) -> list[Overlap]:
    """Return the windows that overlap among the scans of which a step has jobs to compute."""
    due = settled.reasons.items()
    scans = [key for (name, key), why in due if name == step and METADATA_ALONE not in why]
    return shared_overlaps(settled.campaign, step, scans)


def _options(settled: Settled, step: str, key: str) -> str:
    """Return the options of a job as JSON, those of its scan if it has one."""
    of_scan = STEPS[step].key == "scan"
    config = (settled.campaign.for_scan(key) if of_scan else settled.campaign).config
    if of_scan and STEPS[step].is_after_cors:
        config = config.with_roll(settled.target.measured_roll_deg(key))
    return config.as_json(*STEPS[step].job_blocks)


def _last_center_checksum(settled: Settled, step: str, scan: str) -> str:
    last = settled.receipts.last(step, scan)
    return last.sums.get(settled.out.center(scan), "") if last else ""


def _predictions(settled: Settled, _: str, series: str) -> dict[str, list[str]]:
    out, scans = settled.out, settled.target.selected.searched(series)
    return {scan: [out.center(scan), out.prediction(scan)] for scan in scans}


def _stated_around(settled: Settled, _: str, series: str) -> str:
    is_best = settled.campaign.config.fix_cor.fill == "best"
    return settled.target.stated_around(series) if is_best else ""


def _fix_options(settled: Settled, *_: str) -> dict[str, Any]:
    options = settled.campaign.config.fix_cor
    return options.model_dump() | {"is_measured": options.is_measured}


def _others(settled: Settled, *_: str) -> dict[str, Any]:
    """Return the entries of cor.json that a run for some volumes does not resolve: as they are."""
    if settled.needed.is_whole:
        return {}
    before = json_or(settled.campaign.files.cor_table, {})
    scans = {*settled.campaign.selected_scans(settled.rows)} - {*settled.needed.scans}
    return {scan: before[scan] for scan in scans if scan in before} | settled.needed.cors


def _scans_to_resolve(settled: Settled, *_: str) -> dict[str, Any]:
    needed = {*_others(settled), *settled.needed.scans}
    scans = to_resolve(settled.campaign, settled.rows).items()
    return {scan: entry for scan, entry in scans if scan in needed}


def _volumes(settled: Settled, _: str, name: str) -> dict[str, str | None]:
    stack, outputs = settled.target.stacks()[name], settled.target.outputs
    return {s: None if s in stack.gaps else outputs("full_recon", s)[0] for s in stack.scans}


def _times_s(settled: Settled, _: str, name: str) -> dict[str, float] | None:
    """Return the times of the scans of a volume in time; None if it is none."""
    stack = settled.target.stacks()[name]
    return {**stack.times_s} if stack.is_time else None


def _sidecars(settled: Settled, *result: str) -> dict[str, dict[str, Any]]:
    due = settled.with_sidecar if result in settled.reasons else None
    return sidecars.to_write(settled.target, due)


def scans_of_fix(settled: Settled, series: str) -> list[str]:
    """Return the scans whose predictions fix_cor of a series waits for.

    A table that stays, and has no estimated CORs, does not follow other series. A run for some
    volumes takes the other series as they are.
    """
    selected = settled.target.selected
    own = selected.series.get(series, [])
    if not (("fix_cor", series) in settled.reasons or selected.uses_around(series)):
        return own
    in_run = {scan for scans in settled.needed.series.values() for scan in scans}
    return [*own, *(scan for scan in selected.around(series) if scan in in_run)]


def table_shown(campaign: Campaign) -> str:
    """Return a digest of the cells of the campaign table that the report shows."""
    rows = [(row.scan, row.select, row.cor.text) for row in campaign.table_rows]
    return digest({"rows": [row for row in rows if row[1:] != ("auto", "")]})


_PARAMETERS: dict[str, Callable[[Settled, str, str], Any]] = {
    "provenance": _provenance,
    "raw": lambda settled, _, scan: settled.campaign.scans[scan].path,
    "options": _options,
    "shared": lambda settled, step, scan: _shared_by(settled, step).get(scan),
    "metadata_alone": _metadata_alone,
    "entries": lambda settled, *_: inventory_entries(settled.campaign),
    "last_center_checksum": _last_center_checksum,
    "predictions": _predictions,
    "members": lambda settled, _, series: settled.target.selected.members(series),
    "around": lambda settled, _, series: settled.target.selected.members_around(series),
    "stated_around": _stated_around,
    "fix_options": _fix_options,
    "tables": lambda settled, *_: [*map(settled.out.fix_table, settled.needed.series)],
    "scans": _scans_to_resolve,
    "others": _others,
    "resolve_options": lambda settled, *_: settled.campaign.config.resolve_cor.model_dump(),
    "cor": lambda settled, _, scan: settled.cors[scan],
    "volumes": _volumes,
    "times_s": _times_s,
    # decided once from all scans; the job stores it
    "binning": lambda settled, *_: campaign_binning(settled.campaign),
    "sidecars": _sidecars,
    "stacks": lambda settled, *_: {scan: settled.out.stack_meta(scan) for scan in settled.cors},
    "star_options": lambda settled, *_: settled.target.star_options(),
    "table": lambda settled, *_: table_shown(settled.campaign),
}
"""A parameter by its name, from the decision, the step and its key."""
