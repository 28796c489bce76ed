"""The page of `tomopipe run --watch`: each scan in order of arrival, its COR, and a slice."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Template

from tomopipe.campaign.files import Files
from tomopipe.report.thumbnails import encode, picture_stem, slices_around, to_grey
from tomopipe.storage.atomic import whole, write_text

MOST_ROWS = 300
_SIDE_PX, _BYTES = 240, 12_000
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="10"><title>{{ title }}</title><style>{{ style|safe }}
tr.flag, tr.flag:hover { background: var(--mark) }
img { display: block; width: clamp(80px, 20vw, 240px) }
small { color: var(--soft) } thead th { white-space: normal } tbody th { min-width: 9em }
tbody th small { display: block; font-weight: 400; overflow-wrap: normal }
.why { min-width: 12em; color: inherit; overflow-wrap: anywhere }</style>
<header><div class="wide"><h1>{{ title }}</h1>
<p class="sub">{{ rows|length }} taken, {{ rows|selectattr("doubtful")|list|length }} to be looked
at. As of {{ now }}: {{ since }}.
{%- if report %} <a href="{{ report }}">Report</a>{% endif %}</p></div></header>
<main class="wide"><section class="scroll"><table>
<thead><tr><th>slice<th>scan, taken by which rule<th>COR (px)<th>confidence<th>why
<th>seconds from the last byte</tr></thead>
<tbody>
{%- for row in rows[:n_most] %}
<tr{% if row.doubtful %} class="flag"{% endif %}><td>
{%- if row.picture %}<img src="{{ row.picture }}" alt="">{% endif %}
{%- if row.picture_cor_px is number -%}
<small>at COR {{ "%.2f"|format(row.picture_cor_px) }} px
{%- if row.best_cor_px is number and (row.best_cor_px - row.picture_cor_px)|abs >= 0.005 %} ≈
{{ "%.2f"|format(row.best_cor_px) }}{% endif %}</small>
{%- endif -%}
<th>{{ row.scan }}<small>{{ row.rule }}</small>
{%- for value in (row.cor_px, row.confidence) -%}
<td>{{ "%.2f"|format(value) if value is number }}
{%- endfor -%}
<td class="why">{{ row.reason or ("" if row.has_verdict else waits) -}}
<td>{{ "%.0f"|format(row.seconds) if row.seconds is number }}</tr>
{%- endfor %}</tbody></table></section></main></html>
"""


def picture(files: Files[Path], scan: str, cor_px: float | None) -> dict[str, Any]:
    """Write the try slice at a COR, by default the middle one, beside the page.

    Returns the entries `picture`, its name, and `picture_cor_px`; nothing if there is no slice.
    """
    try:
        if cor_px is None:
            grid_px = json.loads(files.sweep(scan).read_bytes())["cor_px"]
            cor_px = float(grid_px[len(grid_px) // 2])
        result = slices_around(files.try_stack(scan), cor_px, max_size_px=2 * _SIDE_PX)
        if result is None:
            return {}
        image = result.images[result.chosen].astype(np.float32)
        data = encode(to_grey(image, max_px=_SIDE_PX), max_bytes=_BYTES)
        name = f"{picture_stem(scan)}.webp"
        with whole(files.live.parent / name) as temporary:
            temporary.write_bytes(data)
    except Exception:  # a damaged stack may raise anything; the page is made without it
        return {}
    return {"picture": name, "picture_cor_px": result.cor_px[result.chosen]}


@cache
def _template() -> Template:
    return Template(_PAGE, autoescape=True, keep_trailing_newline=True)


def write_page(
    files: Files[Path],
    title: str,
    occupied: Iterable[Mapping[str, Any]],
    *,
    has_ended: bool = False,
) -> None:
    """Write the page of the scans taken, the latest first.

    Of each are given `path`, `rule`, `at` (Unix seconds), `has_verdict`, `seconds`, a verdict
    (`tomopipe.watch.watched_scans.Verdict`), and what `picture` returns.
    """
    page = os.path.relpath(files.report, files.live.parent)
    text = _template().render(
        title=title,
        now=time.strftime("%Y-%m-%d %H:%M:%S"),
        since="the watch has ended" if has_ended else "written each minute while scans are watched",
        waits="the watch ended before its COR was found" if has_ended else "its COR is being found",
        report=page if files.report.exists() else "",
        style=resources.files("tomopipe.report").joinpath("templates/style.css").read_text("utf-8"),
        rows=sorted(occupied, key=lambda entry: -entry["at"]),
        n_most=MOST_ROWS,
    )
    write_text(text, files.live)
