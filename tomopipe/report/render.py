"""Write the report page from records and pictures, by the template, in one file.

Pictures are made again only where a volume, a sweep or a COR has changed.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import PICTURES, PICTURES_MADE
from tomopipe.campaign.state.facts import ACCEPTED, NOT_SELECTED
from tomopipe.campaign.state.signs import SIGNS, State, signs_css, source_label
from tomopipe.cor.cor_value import signed
from tomopipe.cor.series_line import robust_line
from tomopipe.errors import grouped, is_of_the_system
from tomopipe.paths import no_pipe
from tomopipe.report.citations import citations, methods_paragraph, reference_lists
from tomopipe.report.plots import CurvePlot, curve_plot, series_plot
from tomopipe.report.records import (
    CampaignRecord,
    Note,
    ScanRecord,
    StackRecord,
    common_warnings,
    compared_px,
)
from tomopipe.report.thumbnails import (
    LARGE,
    SMALL,
    Source,
    Sweep,
    as_uri,
    make_picture,
    make_strip,
    picture_stem,
    read_pair,
    read_sweep,
)
from tomopipe.storage.atomic import whole, write_text
from tomopipe.volumes.volume_read import read_mid_planes, read_provenance

#: Number of scans above which the pictures go into a folder beside the page.
INLINE_SCANS = 200
#: Number of scans up to which pictures are large enough to be enlarged.
LARGE_SCANS = 40
#: Increase when pictures look different: stored ones are then remade.
REVISION = 5

_STATED = ("geometry", "parameters", "versions")
# file names of `_Maker`: all other pictures in the folder are foreign
_OWN_PICTURE = re.compile(r"[0-9a-f]{16}-(mid_x[yz]|mid_yz|sweep|pair)\.webp")


Compared = tuple[tuple[str, float], ...]
"""Labels and CORs (pixels) that are compared."""


Pictures = dict[str, Any]
"""Of a scan or stack, for template and cache: `planes` and `provenance` of its volume, and strips
of slices, or None: `strip` around its COR, `pair` at the CORs among which a person decides."""


def picture_all(
    scans: Sequence[ScanRecord],
    stacks: Sequence[StackRecord],
    compared: Mapping[str, Compared],
    page_folder: Path,
    own_folder: Path,
) -> tuple[dict[str, Pictures], list[Note]]:
    """Make the pictures of every scan with a volume or sweep, and of stitched stacks.

    Unchanged pictures are reused, from a cache beside the page (or in `own_folder`, for a page
    elsewhere that contains its pictures). Returns them by scan name (stacks by `stack_key`), and
    notes on files that could not be read.
    """
    folder = page_folder / PICTURES if len(scans) > INLINE_SCANS else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    cache = (own_folder if folder is None else page_folder) / PICTURES_MADE
    earlier = _read_cache(cache)
    maker = _Maker(folder, LARGE if len(scans) <= LARGE_SCANS else SMALL, earlier)
    pictures = {
        scan.name: maker.pictures(
            scan.name, scan.volume, scan.try_tif, scan.best_px, compared.get(scan.name, ())
        )
        for scan in scans
        if scan.volume is not None or scan.try_tif is not None
    }
    for stack in stacks:
        key = stack_key(stack.name)
        pictures[key] = maker.pictures(key, stack.volume)
    is_new = maker.made != earlier or not cache.exists()
    if is_new and cache.parent.absolute() == page_folder.absolute():
        # without indent: ten times faster
        write_text(json.dumps(maker.made, sort_keys=True, allow_nan=False), cache)
    _tidy(page_folder / PICTURES, list(pictures.values()))
    return pictures, maker.notes


def stack_key(stack: str) -> str:
    """Return the key of a stack, which no scan name equals."""
    return f"stack/{stack}"


class _Maker:
    """Makes or reuses pictures, in a folder or in the page; notes what cannot be read."""

    def __init__(
        self, folder: Path | None, size: tuple[int, int], earlier: Mapping[str, Any]
    ) -> None:
        self.notes: list[Note] = []
        self.made: dict[str, dict[str, Any]] = {}
        self._folder, self._size, self._earlier = folder, size, earlier
        self._present = set(os.listdir(folder)) if folder else set()

    def pictures(
        self,
        name: str,
        volume: Path | None,
        try_tif: Path | None = None,
        cor_px: float | None = None,
        compared: Compared = (),
    ) -> Pictures:
        """Return the pictures of a scan or stack."""
        of_volume = volume and self._get(name, "volume", volume, self._size[0], self._of_volume)
        pictures: Pictures = {"planes": [], "provenance": {}, "strip": None, "pair": None}
        pictures |= of_volume or {}
        if cor_px is not None:
            make = partial(_of_sweep, read_sweep, cor_px, "sweep")
            pictures["strip"] = self._get(name, "strip", try_tif, cor_px, make)
        if cors_px := [px for _, px in compared]:
            make = partial(_of_sweep, read_pair, cors_px, "pair")
            pictures["pair"] = self._get(name, "pair", try_tif, cors_px, make)
        return pictures

    def _of_volume(self, volume: Path, source: Source) -> dict[str, Any]:
        """Make the mid planes of a volume; return them, and its provenance as on the page."""
        planes = read_mid_planes(volume)
        made = [make_picture(plane, planes[plane], self._size, source) for plane in planes]
        try:
            result = read_provenance(volume)
            stated = {key: dict(result[key]) for key in _STATED}
        except Exception as error:
            if is_of_the_system(error):
                raise
            stated = {}  # a volume of another program
        return {"planes": made, "provenance": stated}

    def _get(
        self,
        name: str,
        kind: str,
        path: Path | None,
        made_for: float | list[float],
        make: Callable[[Path, Source], dict[str, Any] | None],
    ) -> Any:
        """Return the pictures of a file, new or reused (only reused without a path), or None."""
        stamp = [REVISION, self._folder is None, made_for]
        try:
            if path is not None:
                status = path.stat()
                stamp += [status.st_size, status.st_mtime_ns]
            entry = self._reusable(name, kind, stamp)
            if entry is None and path is not None:
                entry = {"stamp": stamp, "made": make(path, self._source(name))}
        except Exception as error:  # a broken file must not stop the report
            file = f"{path.parent.name}/{path.name}" if path else kind
            self.notes.append(Note(file, f"no pictures: {error}", is_of_the_system(error)))
            return None
        if entry is None:
            return None
        self.made.setdefault(name, {})[kind] = entry
        return entry["made"]

    def _reusable(self, name: str, kind: str, stamp: list[Any]) -> dict[str, Any] | None:
        """Return the earlier entry of an unchanged file, if its pictures still exist."""
        try:
            entry: dict[str, Any] = self._earlier[name][kind]
            made = entry["made"]
            parts = made["planes"] if kind == "volume" else [made["picture"]]
            names = [os.path.basename(part["src"]) for part in parts]
            is_same = entry["stamp"][: len(stamp)] == stamp
        except (TypeError, KeyError):
            return None
        exist = self._folder is None or self._present.issuperset(names)
        return entry if is_same and exist else None

    def _source(self, name: str) -> Source:
        """Return the function that gives the pictures of a scan their addresses."""
        folder = self._folder
        if folder is None:
            return as_uri

        def put(plane: str, data: bytes) -> str:
            path = folder / f"{picture_stem(name)}-{plane}.webp"
            with whole(path) as temporary:
                temporary.write_bytes(data)
            return f"{folder.name}/{path.name}"

        return put


def _of_sweep(
    read: Callable[[Path, Any], Sweep | None], cor_px: Any, name: str, try_tif: Path, source: Source
) -> dict[str, Any] | None:
    sweep = read(try_tif, cor_px)
    return make_strip(sweep, source, name) if sweep else None


def _read_cache(path: Path) -> Mapping[str, Any]:
    try:
        cache = json.loads(no_pipe(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if is_of_the_system(error):
            raise  # writing it again would lose the strips of removed try stacks
        return {}
    return cache if isinstance(cache, dict) else {}


def _tidy(folder: Path, pictures: Sequence[Pictures]) -> None:
    """Remove our picture files that the page no longer shows."""
    if not folder.is_dir():
        return
    shown = [picture for made in pictures for picture in made["planes"]]
    strips = (made[kind] for made in pictures for kind in ("strip", "pair"))
    shown += [strip["picture"] for strip in strips if strip]
    names = {os.path.basename(picture["src"]) for picture in shown}
    unused = [p for p in folder.iterdir() if _OWN_PICTURE.fullmatch(p.name) and p.name not in names]
    for path in unused:
        path.unlink()
    if unused and not any(folder.iterdir()):
        folder.rmdir()


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
    write_text(render(campaign, pictures), page)
    return campaign.notes


def render(campaign: CampaignRecord, pictures: Mapping[str, Pictures]) -> str:
    """Make the HTML of a report, which loads no other resources; `pictures` by scan."""
    plots = [(series, series_plot(series)) for series in campaign.series]
    marks = [mark for _, plot in plots if plot for mark in plot.marks + plot.missing]
    html = (
        templates()
        .get_template("page.html.j2")
        .render(
            c=campaign,
            signs={state: SIGNS[state] for state in State},
            pictures=pictures,
            plots=plots,
            marked={mark.state for mark in marks},
            any_replaced=any(mark.before_y is not None for mark in marks),
            curves=(curves := _curves(campaign)),
            compared=_compared(campaign),
            with_card={*pictures, *curves},
            common=common_warnings(campaign.scans),
            progress=_progress(campaign),
            ids={id(scan): f"s{number}" for number, scan in enumerate(campaign.scans)},
            names={scan.name: f"s{number}" for number, scan in enumerate(campaign.scans)},
            worst={state: number for number, state in enumerate(reversed(State))},
            open_alerts=OPEN_ALERTS,
            references=reference_lists(campaign.citations),
            methods=methods_paragraph(campaign, _provenances(pictures)),
            config_text=_config_text(campaign.config),
            style=signs_css(dark_first=False) + _file("style.css"),
            script=_file("page.js"),
            script_hash=script_hash(),
        )
    )
    # File names may contain bytes that are not UTF-8; the page must be UTF-8.
    return html.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


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
        "source_label": source_label,
    }
    return environment


def _utc(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "invalid time"


def _curves(campaign: CampaignRecord) -> dict[str, CurvePlot]:
    return {
        scan.name: plot
        for scan in campaign.scans
        if scan.prediction and (plot := curve_plot(scan.prediction.curves, scan.shown[0]))
    }


def _compared(campaign: CampaignRecord) -> dict[str, Compared]:
    """Return the CORs that are compared, of each scan that needs a decision."""
    result: dict[str, Compared] = {}
    for series in campaign.series:
        trusted = grouped(
            (scan.layout, (scan.index, cor_px))
            for scan in series.scans
            if scan.state in ACCEPTED
            if (cor_px := scan.shown[0]) is not None
        )
        lines = {layout: robust_line(*zip(*s, strict=True)) for layout, s in trusted.items()}
        result |= {s.name: compared_px(s, lines.get(s.layout)) for s in series.scans}
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
