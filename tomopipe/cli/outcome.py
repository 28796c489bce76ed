"""The outcome of a run: CORs, doubtful ones first, and the paths of the results."""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import STAR, TRUTH
from tomopipe.campaign.raw_files import CampaignScan
from tomopipe.campaign.state.facts import TO_REVIEW
from tomopipe.campaign.state.signs import SIGNS, State, source_named
from tomopipe.cli.terminal import MOST_ROWS, console, near, print_columns, say, state_text
from tomopipe.cor.cor_value import signed
from tomopipe.errors import grouped, scans_named
from tomopipe.report.changes import OnPage, on_page
from tomopipe.report.collected_records import collect_scans
from tomopipe.report.records import ScanRecord, common_warnings
from tomopipe.reruns.failed_results import why_again
from tomopipe.review.queue import queue_entries
from tomopipe.run.unfinished import set_remarks
from tomopipe.storage.json_files import json_or, number, part

_EYES = (*TO_REVIEW, State.FAILED)


def show(campaign: Campaign, *, is_whole: bool, has_cors: bool = False) -> None:
    """Print the table of a run, and the paths of results.

    `is_whole`: it made all of a campaign; `has_cors`: or at least all its CORs.
    """
    screen, page = console(), None
    if is_whole and len(campaign.scans) > MOST_ROWS:
        page = on_page(campaign)
    of = replace(campaign, scans=_to_show(campaign, page)) if page else campaign
    records = {
        scan.name: scan for scan in collect_scans(of, volumes=not is_whole, why=why_again(campaign))
    }
    cells = {
        scan.name: {"select": scan.select, "cor_px": scan.manual.text, "note": scan.note}
        for scan in of.scans.values()
    }
    entries = queue_entries(records.values(), cells, campaign.scans)
    eyes = [entry for entry in entries if entry["state"] in _EYES]
    rest = [entry for entry in entries if entry["state"] not in _EYES]
    remarked = [e for e in rest if e["warnings"] or records[e["scan"]].for_next_run]
    n_all = len(page.states if page else entries)
    shown = entries if n_all <= MOST_ROWS else (eyes + remarked)[:MOST_ROWS]
    if shown:
        _print_table(shown, records, _truth(campaign.directory))
        for line in sorted(common_warnings(records.values())):
            say(f"most scans: {line}")
        say("")
    if more := n_all - len(shown):
        screen.print(f"{more} more scan{'s' * (more > 1)}: tomopipe cor list")
    if eyes:
        verb = "scan needs" if len(eyes) == 1 else "scans need"
        folder = near(campaign.directory)
        command = "tomopipe review" + f" {shlex.quote(folder)}" * (folder != ".")
        screen.print(
            f"{len(eyes)} {verb} review: {command}",
            style=SIGNS[State.DOUBTFUL].style,
            soft_wrap=True,
        )
    with_cor = [scan.name for scan in records.values() if scan.cor_px is not None]
    with_cor += page.with_volume if page else ()
    remarks = [] if is_whole else set_remarks(campaign)
    screen.print(
        _places(campaign, with_cor, remarks, has_cors=is_whole or has_cors),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _to_show(campaign: Campaign, page: OnPage) -> dict[str, CampaignScan]:
    """Return the scans of series in which one needs eyes or has a remark, and of one other."""
    due = page.remarked | {name for name, state in page.states.items() if state in _EYES}
    scans = campaign.scans
    series = {scans[name].series for name in due & scans.keys()}
    # advice on angles depends on whether all scans need it
    series.add(next((each.series for each in scans.values() if each.series not in series), ""))
    return {name: scan for name, scan in scans.items() if scan.series in series}


def _truth(directory: Path) -> Mapping[str, Any]:
    """Return what is known of each scan of a simulated campaign; a foreign file tells nothing."""
    scans = part(json_or(directory / TRUTH, {}), "scans")
    parts = {name: part(scans, name) for name in scans}
    return {name: each for name, each in parts.items() if number(each.get("cor_px")) is not None}


def _print_table(
    entries: list[dict[str, Any]], records: Mapping[str, ScanRecord], truth: Mapping[str, Any]
) -> None:
    heads = ["scan", "COR", "source", "confidence", "state"]
    heads += ["true COR", "error"] if truth else []
    rows = []  # the style and the cells of a scan, and its name, in both where nothing is remarked
    for entry in entries:
        scan, confidence, needs_eyes = entry["scan"], entry["confidence"], entry["state"] in _EYES
        (cor_px, source), true = records[scan].shown, truth.get(scan)
        warnings = entry["warnings"]
        texts = (*records[scan].for_next_run, entry["why"], *warnings, entry["note"])
        remark = " ".join("; ".join(filter(None, texts)).split())
        cells = (
            records[scan].shown_text,
            source_named(source).short if cor_px is not None else "",
            "" if confidence is None else f"{confidence:.2f}",
            state_text(entry["state"]) + " (warning)" * bool(warnings and not needs_eyes),
            *(_error(cor_px, true) if truth else ()),
            remark,
        )
        style = SIGNS[entry["state"]].style if needs_eyes else ""
        rows.append(((style, "" if remark else scan, cells), scan))
    groups = grouped(rows)
    table = [[scans_named(scans), *cells] for (_, _, cells), scans in groups.items()]
    styles = [style for style, *_ in groups]
    print_columns(
        [*heads, "remark"], table, styles, optional=("confidence", "remark"), remark="remark"
    )


def _error(cor_px: float | None, truth: Mapping[str, Any] | None) -> tuple[str, str]:
    if truth is None:
        return "", ""
    true_px = float(truth["cor_px"])
    return f"{true_px:.2f}", "" if cor_px is None else signed(cor_px - true_px)


def _places(
    campaign: Campaign, scans: Collection[str], remarks: Sequence[str], *, has_cors: bool
) -> str:
    """Name the results that are there; volumes if one of these scans has one."""
    files, output = campaign.files, campaign.config.full_recon.output
    has_volume = any(campaign.volume(scan).exists() for scan in scans)
    places = {
        "report": files.report,
        "volumes": files.volume("<scan>", output),
        "stitched": files.stitched("<stack>", output),
        "for RELION": files.in_relion(STAR),
        "CORs": files.cor_table,
    }
    is_old = campaign.config.report.enabled and not files.receipt("report").exists()
    notes = {
        "report": "older than this run; `tomopipe report` renews it" * is_old,
        "CORs": "as of the last run of all scans" * (not has_cors),
        "for RELION": "; ".join(remarks),
    }
    lines = (
        f"{what:12}{near(path)}" + (f" ({note})" if (note := notes.get(what)) else "")
        for what, path in places.items()
        if (
            has_volume
            if what == "volumes"
            else any(path.parent.glob(re.sub("<.*>", "*", path.name)))
        )
        or (what == "for RELION" and remarks)
    )
    return "\n".join(lines)
