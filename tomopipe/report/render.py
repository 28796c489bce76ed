"""Write the page: records and pictures through the template into one HTML file."""

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from tomopipe.campaign.state import MEANINGS, NOT_SELECTED, State
from tomopipe.report.alerts import common_warnings
from tomopipe.report.citations import citations, methods_paragraph, reference_lists
from tomopipe.report.pictures import ScanPictures, picture_all, stack_key
from tomopipe.report.plots import CurvePlot, curve_plot, series_plot
from tomopipe.report.records import SOURCES, CampaignRecord, Note
from tomopipe.storage.atomic import write_text

#: Lines of one group of alerts that are open at once.
OPEN_ALERTS = 8
#: Columns of the table of scans: title, whether it holds numbers.
COLUMNS = (
    ("State", False),
    ("Scan", False),
    ("COR px", True),
    ("Source", False),
    ("Confidence", True),
    ("Method", False),
    ("Before px", True),
    ("After px", True),
    ("Reached", False),
    ("Reason", False),
)


def write_page(
    campaign: CampaignRecord, output: str | os.PathLike[str], own_folder: Path
) -> tuple[Note, ...]:
    """Write the report of a campaign; return which files could not be read, also for pictures.

    Above 200 scans the pictures lie in a folder `pictures` beside it. `own_folder` is that of the
    campaign's own report.
    """
    page = Path(output).absolute()
    pictures, notes = picture_all(campaign.scans, campaign.stacks, page.parent, own_folder)
    cited = citations(campaign.scans, campaign.config, _provenances(pictures))
    campaign = replace(campaign, notes=(*campaign.notes, *notes), citations=cited)
    write_text(render(campaign, pictures), page)
    return campaign.notes


def render(campaign: CampaignRecord, pictures: Mapping[str, ScanPictures]) -> str:
    """Make the HTML of a report, which loads no other resources; `pictures` by scan."""
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(
            c=campaign,
            states=MEANINGS,
            sources=SOURCES,
            pictures=pictures,
            plots=[(series, series_plot(series)) for series in campaign.series],
            curves=(curves := _curves(campaign)),
            with_card={*pictures, *curves},
            common=common_warnings(campaign.scans),
            progress=_progress(campaign),
            ids={id(scan): f"s{number}" for number, scan in enumerate(campaign.scans)},
            names={scan.name: f"s{number}" for number, scan in enumerate(campaign.scans)},
            worst={state: number for number, state in enumerate(reversed(State))},
            open_alerts=OPEN_ALERTS,
            columns=COLUMNS,
            references=reference_lists(campaign.citations),
            methods=methods_paragraph(campaign, _provenances(pictures)),
            config_text=_config_text(campaign.config),
            style=_file("style.css"),
            script=_file("page.js"),
            script_hash=script_hash(),
        )
    )
    # A file name may have bytes that are not UTF-8; the page must be UTF-8.
    return html.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def script_hash() -> str:
    """Return the SHA-256 of the page's script, in the form of a content security policy."""
    return base64.b64encode(hashlib.sha256(_file("page.js").encode()).digest()).decode()


def _provenances(pictures: Mapping[str, ScanPictures]) -> dict[str, Mapping[str, Any]]:
    return {name: shown.provenance for name, shown in pictures.items() if shown.provenance}


def _file(name: str) -> str:
    return resources.files("tomopipe.report").joinpath("templates", name).read_text("utf-8")


def _environment() -> Any:
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
        "signed": lambda value: "" if value is None else f"{value:+.2f}",
        "plane": lambda name: name.removeprefix("mid_"),
        "sortable": lambda value: "" if value is None else value,
        "known": lambda source: source if source in SOURCES else "other",
    }
    return environment


def _utc(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "an impossible time"


def _curves(campaign: CampaignRecord) -> dict[str, CurvePlot]:
    plots = {
        scan.name: curve_plot(scan.prediction.curves, scan.shown[0])
        for scan in campaign.scans
        if scan.prediction is not None
    }
    return {name: plot for name, plot in plots.items() if plot is not None}


def _progress(campaign: CampaignRecord) -> list[tuple[str, int, int]]:
    """Count the selected scans by the stage they have reached."""
    inside = [s for s in campaign.scans if s.state not in NOT_SELECTED]

    def count(title: str, values: list[object]) -> tuple[str, int, int]:
        return title, sum(value is not None for value in values), len(inside)

    return [
        count("predicted", [s.prediction and s.prediction.best_cor_px for s in inside]),
        count("COR resolved", [s.cor_px for s in inside]),
        count("reconstructed", [None if s.volume_of else s.volume for s in inside]),
    ]


def _config_text(config: Mapping[str, Any]) -> str:
    import json

    import yaml

    plain = json.loads(json.dumps(config, default=str))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
