"""Write the report page from records and pictures, by the template, in one file.

Rows and cards are made again only where something on them has changed.
"""

import base64
import hashlib
import json
import os
from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import xxhash

from tomopipe.campaign.files import FRAGMENTS, SHOWN
from tomopipe.campaign.state.facts import NOT_SELECTED
from tomopipe.campaign.state.signs import SIGNS, State, signs_css, source_named
from tomopipe.cor.cor_value import signed
from tomopipe.report.changes import NO_CHANGES, Changes, changes_since
from tomopipe.report.citations import (
    citations,
    cited_in_text,
    methods_paragraph,
    reference_lists,
)
from tomopipe.report.fragments import Fragments, as_utf8
from tomopipe.report.pictures import INLINE_SCANS, Compared, Pictures, picture_all, stack_key
from tomopipe.report.plots import (
    CurvePlot,
    curve_plot,
    curve_range,
    residual_plot,
    series_plot,
)
from tomopipe.report.records import (
    CampaignRecord,
    Note,
    ScanRecord,
    common_warnings,
    compared_px,
)
from tomopipe.storage.atomic import write_text

#: Number of lines of a group of alerts that are shown unfolded.
OPEN_ALERTS = 8


def write_page(
    campaign: CampaignRecord, output: str | os.PathLike[str], own_folder: Path
) -> tuple[Note, ...]:
    """Write the report of a campaign; return the files that could not be read.

    Above 200 scans the pictures lie in a folder `pictures` beside it. `own_folder` is that of the
    campaign's own report.
    """
    page = Path(output).absolute()
    compared = _compared(campaign)
    pictures, notes = picture_all(
        campaign.scans, campaign.stacks, compared, page.parent, own_folder
    )
    cited = citations(campaign.scans, campaign.config, _provenances(pictures))
    campaign = replace(campaign, notes=(*campaign.notes, *notes), citations=cited)
    campaign = replace(campaign, citations=cited_in_text(campaign, _provenances(pictures)))
    path = page.parent / FRAGMENTS
    is_large = len(campaign.scans) > INLINE_SCANS
    fragments = Fragments(path if is_large else None)
    is_own = page.parent == own_folder
    changes = changes_since(campaign, own_folder / SHOWN, is_own=is_own)
    write_text(render(campaign, pictures, fragments, changes), page)
    if is_large:
        fragments.save()
    elif is_own:
        path.unlink(missing_ok=True)
    return campaign.notes


def render(
    campaign: CampaignRecord,
    pictures: Mapping[str, Pictures],
    fragments: Fragments | None = None,
    changes: Changes = NO_CHANGES,
) -> str:
    """Make the HTML of a report, which loads no other resources; `pictures` by scan.

    Rows and cards of scans that are in `fragments` are not made again.
    """
    fragments, compared = fragments or Fragments(), _compared(campaign)
    plots = [
        (series, plot, plot and residual_plot(series))
        for series in campaign.series
        for plot in [series_plot(series)]
    ]
    marks = [mark for _, plot, _ in plots if plot for mark in plot.marks + plot.missing]
    with_curves = {
        scan.name: scan
        for scan in campaign.scans
        if scan.prediction and curve_range(scan.prediction.curves)
    }
    with_card = {*pictures, *with_curves}
    # digests of all that is recorded, except points of curves
    texts = [xxhash.xxh3_128_hexdigest(repr(scan).encode()) for scan in campaign.scans]
    html = (
        templates()
        .get_template("page.html.j2")
        .render(
            c=campaign,
            changes=changes,
            signs={state: SIGNS[state] for state in State},
            pictures=pictures,
            plots=plots,
            marked={mark.state for mark in marks},
            any_replaced=any(mark.before_y is not None for mark in marks),
            rows=list(_rows(campaign, texts, with_card, fragments)),
            cards=list(_cards(campaign, texts, pictures, with_curves, fragments)),
            compared=compared,
            with_card=with_card,
            progress=_progress(campaign),
            ids={id(scan): f"s{number}" for number, scan in enumerate(campaign.scans)},
            names={scan.name: f"s{number}" for number, scan in enumerate(campaign.scans)},
            open_alerts=OPEN_ALERTS,
            references=reference_lists(campaign.citations),
            methods=methods_paragraph(campaign, _provenances(pictures)),
            config_text=_config_text(campaign.config),
            style=signs_css(dark_first=False) + _file("style.css"),
            script=_file("page.js"),
            script_hash=script_hash(),
        )
    )
    return as_utf8(html)


def script_hash() -> str:
    """Return the SHA-256 of the page's script, in the form of a content security policy."""
    return base64.b64encode(hashlib.sha256(_file("page.js").encode()).digest()).decode()


def _provenances(pictures: Mapping[str, Pictures]) -> dict[str, Mapping[str, Any]]:
    return {n: shown["provenance"] for n, shown in pictures.items() if shown["provenance"]}


def _file(name: str) -> str:
    return resources.files("tomopipe.report").joinpath("templates", name).read_text("utf-8")


@cache
def templates() -> Any:
    """Return the templates of the page, compiled once."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tomopipe.report"),
        autoescape=True,  # names of scans may contain anything
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "px": lambda value: "" if value is None else f"{value:.2f}",
        "utc": _utc,
        "key": id,
        "stack_key": stack_key,
        "signed": lambda value: "" if value is None else signed(value),
        "plane": lambda name: name.removeprefix("mid_"),
        "sortable": lambda value: "" if value is None else value,
        "short_label": lambda source: source_named(source).short,
    }
    environment.globals["State"] = State
    return environment


def _utc(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "invalid time"


def _rows(
    campaign: CampaignRecord,
    texts: Iterable[str],
    with_card: Container[str],
    fragments: Fragments,
) -> Iterator[str]:
    """Yield the row of each scan in the table."""
    row = templates().get_template("scan_table.html.j2").module.scan_row
    worst = {state: rank for rank, state in enumerate(reversed(State))}
    common = common_warnings(campaign.scans)
    for number, (scan, stated) in enumerate(zip(campaign.scans, texts, strict=True)):
        warnings = [text for text in scan.warnings if text not in common]
        shown = (number, worst[scan.state], scan.name in with_card, warnings)
        yield fragments.html(("row", stated, shown), partial(row, scan, *shown))


def _cards(
    campaign: CampaignRecord,
    texts: Iterable[str],
    pictures: Mapping[str, Pictures],
    with_curves: Mapping[str, ScanRecord],
    fragments: Fragments,
) -> Iterator[str]:
    """Yield the card of each scan that has pictures or curves."""
    card = templates().get_template("parts.html.j2").module.card
    for number, (scan, stated) in enumerate(zip(campaign.scans, texts, strict=True)):
        if scan.name not in pictures and scan.name not in with_curves:
            continue
        shown = pictures.get(scan.name, {})
        parts = (number, shown.get("planes"), shown.get("strip"))
        of_curves = with_curves.get(scan.name)  # a file of a repeated name shows them, too
        curves = of_curves.prediction.curves if of_curves and of_curves.prediction else ()
        points = [xxhash.xxh3_128_hexdigest(array("d", c.cor_px + c.score)) for c in curves]
        cor_px = of_curves.shown[0] if of_curves else None
        made_from = ("card", stated, parts, curves, points, cor_px)
        plot = partial(curve_plot, curves, cor_px)
        yield fragments.html(made_from, partial(_card, card, scan, parts, plot))


def _card(card: Any, scan: ScanRecord, parts: Any, plot: Callable[[], CurvePlot | None]) -> str:
    return str(card(scan, *parts, plot()))


def _compared(campaign: CampaignRecord) -> dict[str, Compared]:
    """Return the CORs that are compared, of each scan that needs a decision."""
    result: dict[str, Compared] = {}
    for series in campaign.series:
        result |= {s.name: compared_px(s, series.lines.get(s.layout)) for s in series.scans}
    return {name: cors for name, cors in result.items() if cors}


def _progress(campaign: CampaignRecord) -> list[tuple[str, int, int]]:
    """Count the selected scans by the stage they have reached."""
    selected = [s for s in campaign.scans if s.state not in NOT_SELECTED]
    stages: dict[str, list[object]] = {
        "predicted": [s.prediction and s.prediction.best_cor_px for s in selected],
        "COR resolved": [s.cor_px for s in selected],
        "reconstructed": [None if s.volume_of else s.volume for s in selected],
    }
    n = len(selected)
    return [(title, n - values.count(None), n) for title, values in stages.items()]


def _config_text(config: Mapping[str, Any]) -> str:
    import yaml

    plain = json.loads(json.dumps(config, default=str))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
