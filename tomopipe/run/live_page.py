"""The page of `tomopipe run --watch`: each scan in order of arrival, its COR, and a slice."""

import html
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.campaign.files import Files
from tomopipe.report.strips import slices_around
from tomopipe.report.thumbnails import encode, picture_stem, to_grey
from tomopipe.storage.atomic import whole, write_text

_MOST_ROWS = 300
_SIDE_PX, _BYTES = 240, 12_000
_PAGE = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="10">
<title>{title}</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }}
table {{ border-collapse: collapse }} td, th {{ padding: .4em .8em; text-align: left;
vertical-align: top; border-bottom: 1px solid #ddd }} tr.flag td {{ background: #fff3cd }}
img {{ display: block; max-width: 240px }} small {{ color: #666 }}
</style><h1>{title}</h1><p>{n_rows} taken, {n_flagged} to be looked at. As of {now}.</p>
<table><tr><th>slice<th>scan<th>COR (px)<th>confidence<th>why<th>taken by which rule
<th>seconds from the last byte</tr>
{rows}</table>
"""


def picture(files: Files[Path], scan: str, cor_px: float | None) -> dict[str, Any]:
    """Write the try slice at a COR, by default the middle one, beside the page.

    Returns the entries `picture`, its name, and `picture_cor_px`; nothing if there is no slice.
    """
    try:
        if cor_px is None:
            grid_px = json.loads(files.sweep(scan).read_bytes())["cor_px"]
            cor_px = float(grid_px[len(grid_px) // 2])
        found = slices_around(files.try_stack(scan), cor_px, max_size_px=2 * _SIDE_PX)
        if found is None:
            return {}
        image = found.images[found.chosen].astype(np.float32)
        data = encode(to_grey(image, max_px=_SIDE_PX), max_bytes=_BYTES)
    except Exception:  # a damaged stack may raise anything; the page is made without it
        return {}
    name = f"{picture_stem(scan)}.webp"
    with whole(files.live.parent / name) as temporary:
        temporary.write_bytes(data)
    return {"picture": name, "picture_cor_px": found.cor_px[found.chosen]}


def write_page(files: Files[Path], title: str, taken: Iterable[Mapping[str, Any]]) -> None:
    """Write the page of the scans taken, the latest first.

    Parameters
    ----------
    files : Files
        Of the campaign.
    title : str
        Its title.
    taken : iterable of mapping
        `path`, `rule`, `at` (Unix seconds), and once judged `scan`, `cor_px`, `confidence`,
        `doubt`, `seconds`, and what `picture` returns.
    """
    rows = sorted(taken, key=lambda one: -one["at"])
    text = _PAGE.format(
        title=html.escape(title),
        n_rows=len(rows),
        n_flagged=sum(bool(one.get("doubt")) for one in rows),
        now=time.strftime("%Y-%m-%d %H:%M:%S"),
        rows="\n".join(map(_row, rows[:_MOST_ROWS])),
    )
    write_text(text, files.live)


def _row(event: Mapping[str, Any]) -> str:
    name = event.get("scan") or os.path.basename(event["path"])
    image = f'<img src="{html.escape(event["picture"])}" alt="">' if event.get("picture") else ""
    if event.get("picture_cor_px") is not None:
        image += f"<small>at COR {event['picture_cor_px']:.2f} px</small>"
    numbers = (event.get("cor_px"), event.get("confidence"))
    cells = [image, html.escape(name), *("" if n is None else f"{n:.2f}" for n in numbers)]
    why = event.get("doubt") or ("" if event["judged"] else "its COR is being found")
    seconds = "" if event.get("seconds") is None else f"{event['seconds']:.0f}"
    cells += [html.escape(why), f"<small>{html.escape(event['rule'])}</small>", seconds]
    flag = ' class="flag"' if event.get("doubt") else ""
    return f"<tr{flag}>" + "".join(f"<td>{cell}" for cell in cells) + "</tr>"
