"""The page of `tomopipe lab agree`: slices side by side, their differences, and tables."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tomopipe_lab.bench.agreement import RANGE_PERCENT, Agreement, psnr_db

_SIDE_PX = 320
_DIFFERENCE = 0.1  # of the range: black to white of differences
_REMARKS = {
    "algotom dfi": "turns what is off the axis a little, as it takes the last angle, 180 degrees, "
    "for included"
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 90rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b2733; background: #fff; }
figure { display: inline-block; margin: 0 .6rem .6rem 0; } figcaption { font-size: .9rem; }
img { display: block; width: 200px; image-rendering: auto; background: #777; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .15rem .7rem;
  text-align: right; border-bottom: 1px solid #ddd; } th:first-child { text-align: left; }
@media (prefers-color-scheme: dark) { body { color: #dfe6ee; background: #14191f; }
  th, td { border-color: #394350; } }
"""


def page(
    agreements: Sequence[Agreement],
    offsets_px: Mapping[str, tuple[float, float]],
    missing: Mapping[str, str],
    machine: str,
) -> str:
    """Return the page as HTML without any other file.

    Parameters
    ----------
    agreements : sequence of Agreement
        One for each data set.
    offsets_px : mapping of str to (float, float)
        Largest offset of a small object on the axis and off it, by engine.
    missing : mapping of str to str
        Why other engines are not on the page.
    machine : str
        Date, processor and versions.
    """
    parts = [
        "<h1>The same projections, reconstructed by several packages</h1>",
        f"<p>{escape(machine)}. Each as simply called as its manual shows, ramp filter; gain and "
        "offset fitted to the first. RMS is inside the circle, in percent of the range of values "
        f"({RANGE_PERCENT[0]:g} to {RANGE_PERCENT[1]:g} %).</p>",
        "".join(f"<p>{escape(name)}: {escape(why)}</p>" for name, why in missing.items()),
        "<h2>Where the axis lies</h2><p>Largest distance of small objects from where the stated "
        "convention of the centre puts them: on and off the axis, odd and even widths, CORs on and "
        "between pixels.</p>",
        _table(
            ["package", "on the axis, px", "off the axis, px"],
            [[name, f"{on:.4f}", f"{off:.4f}"] for name, (on, off) in offsets_px.items()],
        ),
        *(f"<p>{name} {text}.</p>" for name, text in _REMARKS.items() if name in offsets_px),
    ]
    for each in agreements:
        parts += [f"<h2>{escape(each.data.name)}</h2>", _figures(each), agreement_table(each)]
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>tomopipe lab agree</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>{body}</html>\n'
    )


def agreement_table(agreement: Agreement) -> str:
    """Return the table of one data set as HTML."""
    return _table(*agreement_rows(agreement))


def agreement_rows(agreement: Agreement) -> tuple[list[str], list[list[str]]]:
    """Return head and rows: RMS to the median of the others, to the truth, and between any two."""
    names = list(agreement.images)
    truth = ["to the truth, %", "PSNR, dB"] if agreement.to_truth else []
    others = "to the median of the others, %", "PSNR, dB"
    head = ["package", *truth, *others, *(f"to {name}" for name in names)]
    rows = []
    for name, between in zip(names, agreement.between, strict=True):
        figures = [agreement.to_truth[name]] if truth else []
        figures.append(agreement.to_others[name])
        cells = [text for each in figures for text in (f"{each:.2f}", f"{psnr_db(each):.1f}")]
        apart = {other: f"{value:.2f}" for other, value in zip(names, between, strict=True)}
        rows.append([name, *cells, *(apart | {name: "-"}).values()])
    return head, rows


def montage(agreements: Sequence[Agreement]) -> Image.Image:
    """Return all slices as one picture, a row for each data set and its differences."""
    rows: list[list[NDArray[np.uint8]]] = []
    for each in agreements:
        rows += [[*_greys(each)], [*_differences(each)]]
    width = max(map(len, rows)) * _SIDE_PX
    picture = Image.new("L", (width, len(rows) * _SIDE_PX), 255)
    for y, row in enumerate(rows):
        for x, grey in enumerate(row):
            tile = Image.fromarray(grey).resize((_SIDE_PX - 4, _SIDE_PX - 4), Image.Resampling.BOX)
            picture.paste(tile, (x * _SIDE_PX, y * _SIDE_PX))
    draw = ImageDraw.Draw(picture)
    for x, name in enumerate(agreements[0].images):
        draw.text((x * _SIDE_PX + 8, 4), name, fill=255, font_size=22)
    return picture


def _figures(agreement: Agreement) -> str:
    texts = []
    pictures = (_greys(agreement), _differences(agreement))
    about = "", "<p>Less the median of all, at ten times the contrast:</p>"
    for title, greys in zip(about, pictures, strict=True):
        texts.append(f"{title}<div>")
        for name, grey in zip(agreement.images, greys, strict=True):
            caption = escape(name)
            texts.append(
                f'<figure><img alt="{caption}" src="{_png(grey)}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
        texts.append("</div>")
    return "".join(texts)


def _greys(agreement: Agreement) -> Iterable[NDArray[np.uint8]]:
    low, high = _range(agreement)
    return (_grey(image, low, high) for image in agreement.images.values())


def _differences(agreement: Agreement) -> Iterable[NDArray[np.uint8]]:
    low, high = _range(agreement)
    middle, half = _median(agreement), _DIFFERENCE / 2 * (high - low)
    return (_grey(image - middle, -half, half) for image in agreement.images.values())


def _range(agreement: Agreement) -> tuple[float, float]:
    low, high = np.percentile(_median(agreement), RANGE_PERCENT)
    return float(low), float(high)


def _median(agreement: Agreement) -> NDArray[np.float64]:
    return np.asarray(np.median([*agreement.images.values()], axis=0))


def _grey(image: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    return np.asarray(np.clip(255 * (image - low) / (high - low), 0, 255), np.uint8)


def _png(grey: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = [
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    ]
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"
