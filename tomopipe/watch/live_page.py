"""The page of `tomopipe run --watch`: each scan in order of arrival, its COR, and a slice."""

import html
import json
import os
import time
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.campaign.files import Files
from tomopipe.report.strips import slices_around
from tomopipe.report.thumbnails import encode, picture_stem, to_grey
from tomopipe.storage.atomic import whole, write_text

MOST_ROWS = 300
_SIDE_PX, _BYTES = 240, 12_000
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="10"><title>{title}</title><style>{style}
tr.flag, tr.flag:hover {{ background: var(--mark) }} img {{ display: block; width: 240px }}
small {{ color: var(--soft) }}</style>
<header><div class="wide"><h1>{title}</h1>
<p class="sub">{n_rows} taken, {n_flagged} to be looked
at. As of {now}: {since}.{report}</p></div></header>
<main class="wide"><section class="scroll"><table>
<thead><tr><th>slice<th>scan<th>COR (px)<th>confidence<th>why<th>taken by which rule
<th>seconds from<br>the last byte</tr></thead>
<tbody>
{rows}</tbody></table></section></main></html>
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
        name = f"{picture_stem(scan)}.webp"
        with whole(files.live.parent / name) as temporary:
            temporary.write_bytes(data)
    except Exception:  # a damaged stack may raise anything; the page is made without it
        return {}
    return {"picture": name, "picture_cor_px": found.cor_px[found.chosen]}


def write_page(
    files: Files[Path], title: str, taken: Iterable[Mapping[str, Any]], *, has_ended: bool = False
) -> None:
    """Write the page of the scans taken, the latest first.

    Of each are given `path`, `rule`, `at` (Unix seconds), `has_verdict`, `seconds`, a verdict
    (`tomopipe.watch.verdicts.Verdict`), and what `picture` returns.
    """
    rows = sorted(taken, key=lambda entry: -entry["at"])
    page = os.path.relpath(files.report, files.live.parent)
    text = _PAGE.format(
        title=html.escape(title),
        n_rows=len(rows),
        n_flagged=sum(entry["doubtful"] for entry in rows),
        now=time.strftime("%Y-%m-%d %H:%M:%S"),
        since="the watch has ended" if has_ended else "written each minute while scans are watched",
        report=f' <a href="{page}">Report</a>' if files.report.exists() else "",
        style=resources.files("tomopipe.report").joinpath("templates/style.css").read_text("utf-8"),
        rows="\n".join(map(_row, rows[:MOST_ROWS])),
    )
    write_text(text, files.live)


def _row(entry: Mapping[str, Any]) -> str:
    image = f'<img src="{html.escape(entry["picture"])}" alt="">' if entry.get("picture") else ""
    if entry.get("picture_cor_px") is not None:
        image += f"<small>at COR {entry['picture_cor_px']:.2f} px</small>"
    numbers = entry["cor_px"], entry["confidence"]
    why = entry["reason"] or ("" if entry["has_verdict"] else "its COR is being found")
    cells = [image, html.escape(entry["scan"])]
    cells += ["" if number is None else f"{number:.2f}" for number in numbers]
    cells += [html.escape(why), f"<small>{html.escape(entry['rule'])}</small>"]
    cells += ["" if entry["seconds"] is None else f"{entry['seconds']:.0f}"]
    flag = ' class="flag"' if entry["doubtful"] else ""
    return f"<tr{flag}>" + "".join(f"<td>{cell}" for cell in cells) + "</tr>"
