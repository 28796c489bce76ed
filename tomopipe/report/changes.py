"""What has changed in a campaign since its last report that showed something else."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import SHOWN
from tomopipe.errors import grouped
from tomopipe.report.records import CampaignRecord, ScanRecord, common_warnings, own_warnings
from tomopipe.storage.atomic import write_json
from tomopipe.storage.checksums import quick_state
from tomopipe.storage.json_files import json_or, number, part, texts


class Changes(NamedTuple):
    """Changes, each with its scans; `since_s`: the last job of the report before (Unix time)."""

    since_s: float | None = None
    lines: tuple[tuple[str, tuple[str, ...]], ...] = ()


NO_CHANGES = Changes()
_MADE = "volume made"


def changes_since(campaign: CampaignRecord, path: Path, *, is_own: bool) -> Changes:
    """Return what differs from the last report that showed something else; none in the first one.

    `path` has what the last two of them showed, so that the same results give the same page. It is
    written if `is_own`: a page elsewhere changes nothing in the campaign.
    """
    data = json_or(path, {})
    shown: dict[str, Any] = {scan.name: _shown(scan) for scan in campaign.scans}
    common = common_warnings(campaign.scans)
    remarked = [s.name for s in campaign.scans if s.for_next_run or own_warnings(s, common)]
    now, before = part(data, "now"), part(data, "before")
    if part(now, "scans") != shown:
        before, now = now, {"last_job_end_s": campaign.last_job_end, "scans": shown}
    content = {"now": {**now, "remarked": remarked}, "before": before}
    if is_own and content != data:
        write_json(content, path)
    if "scans" not in before:
        return NO_CHANGES
    lines = _differences(part(before, "scans"), shown)
    return Changes(number(before.get("last_job_end_s")), tuple(lines))


class OnPage(NamedTuple):
    """What the page of a campaign shows."""

    states: Mapping[str, str]  # by scan
    remarked: frozenset[str]  # scans with a remark beside their state
    with_volume: tuple[str, ...]


def on_page(campaign: Campaign) -> OnPage | None:
    """Return what the page shows; None if it is not of the present results and campaign table."""
    page, table = campaign.files.report, quick_state(campaign.table_path)
    state, recorded = quick_state(page), json_or(campaign.files.receipt("report"), {})
    if state is None or [*state[:3], 0] not in part(recorded, "files").values():
        return None
    if table is not None and table[1] >= state[1]:
        return None
    now = part(json_or(page.with_name(SHOWN), {}), "now")
    cells = {name: texts(each) for name, each in part(now, "scans").items()}
    is_whole = cells.keys() >= campaign.scans.keys() and all(map(len, cells.values()))
    if not is_whole or "remarked" not in now:
        return None
    with_volume = tuple(name for name, each in cells.items() if each[-1] == _MADE)
    states = {name: each[0] for name, each in cells.items()}
    return OnPage(states, frozenset(texts(now["remarked"])), with_volume)


def _shown(scan: ScanRecord) -> list[str]:
    made = "" if scan.volume is None or scan.volume_of else _MADE
    return [str(scan.state), scan.shown_text, made]


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Yield each change with its scans, those of many scans last."""
    gone = ((name, "no longer in the campaign") for name in before if name not in now)
    words = [(name, _change(before.get(name), cells)) for name, cells in now.items()]
    groups = grouped((text, name) for name, text in [*words, *gone] if text)
    for text, names in sorted(groups.items(), key=lambda group: len(group[1])):
        yield text, tuple(names)


def _change(before: Any, now: list[str]) -> str:
    """Word the change of a scan; "" if there is none."""
    state, cor, made = now
    if not (isinstance(before, list) and len(before) == len(now)):
        return f"new, {state}"
    was, old, _ = before
    parts = [f"{was} → {state}" if was != state else ""]
    parts.append(f"COR {old} → {cor or 'none'} px" if old and old != cor else "")
    parts.append(made if made and made not in before else "")
    return ", ".join(filter(None, parts))
