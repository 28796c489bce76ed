"""Draw the figures of docs/explanation from the demonstration campaign.

After `make demo`: `python docs/figures/explanations.py demo`.
"""

import json
import sys
from pathlib import Path

import numpy as np
from geometry import AXIS, GREY, INK, POINT, box, line, marker, text
from PIL import Image, ImageDraw, ImageFont

import tomopipe as tp
from tomopipe.cor.outliers import Member, fix_series

HERE = Path(__file__).parent
SCAN = "foam_001"
FONT = ImageFont.load_default(size=15)
PAPER, RED = (255, 255, 255), (192, 57, 43)
GAP = 12
COLOURS = (
    "#1f6fb2",
    "#8a5a2b",
    "#2e7d4f",
    "#c98a1a",
    "#7a4fa3",
    "#3f8f8f",
    "#777",
    "#5b6f2e",
    "#222",
)


def grey(values, low=None, high=None):
    """Return an array as 8-bit grey; by default all but the outer half per cent of its values."""
    usual = np.percentile(values, (0.5, 99.5))
    low, high = usual[0] if low is None else low, usual[1] if high is None else high
    return (255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)


def panel(image, caption, scale=1, axis=None):
    """Return an image, enlarged, with a caption below and a vertical line at a column."""
    picture = Image.fromarray(image).convert("RGB")
    size = (round(picture.width * scale), round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    if axis is not None:
        x = (axis + 0.5) * scale
        ImageDraw.Draw(picture).line([(x, 0), (x, picture.height)], fill=RED, width=2)
    framed = Image.new("RGB", (picture.width, picture.height + 24), PAPER)
    framed.paste(picture)
    draw = ImageDraw.Draw(framed)
    draw.text((picture.width / 2, picture.height + 3), caption, "#222", FONT, anchor="ma")
    return framed


def beside(*pictures):
    """Put pictures side by side."""
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    whole = Image.new("RGB", (width, max(picture.height for picture in pictures)), PAPER)
    x = 0
    for picture in pictures:
        whole.paste(picture, (x, 0))
        x += picture.width + GAP
    return whole


def below(*pictures):
    """Put pictures below each other."""
    height = sum(picture.height for picture in pictures) + GAP * (len(pictures) - 1)
    whole = Image.new("RGB", (max(picture.width for picture in pictures), height), PAPER)
    y = 0
    for picture in pictures:
        whole.paste(picture, ((whole.width - picture.width) // 2, y))
        y += picture.height + GAP
    return whole


def save(picture, name):
    """Write a picture beside this file, in few colours, which are enough."""
    picture.quantize(128, Image.Quantize.MAXCOVERAGE).save(HERE / name, optimize=True)


def mirrored(values, cor_px):
    """Mirror the last axis at a column."""
    columns = np.arange(values.shape[-1])
    flat = values.reshape(-1, columns.size)
    rows = [np.interp(2 * cor_px - columns, columns, row, 0, 0) for row in flat]
    return np.reshape(rows, values.shape)


def projection_figure(sinograms, cor_px):
    """Two opposing projections, and the sinogram of one row."""
    low, high = np.percentile(sinograms, (0.5, 99.8))
    first, last = (grey(sinograms[:, at], low, high) for at in (0, -1))
    row = grey(sinograms[len(sinograms) // 2], low, high)
    save(
        beside(
            below(
                panel(first, "0 degrees", 3.2, cor_px),
                panel(last, "180 degrees: the mirror image about the axis", 3.2, cor_px),
            ),
            panel(row, "sinogram of one row; angle downwards", 1.8, cor_px),
        ),
        "axis-projections.png",
    )


def wrong_cor_figure(sinogram, theta_deg, cor_px):
    """One slice at CORs around the right one, from 180 and from 360 degrees."""
    whole = np.concatenate([sinogram, mirrored(sinogram[:-1], cor_px)]).astype(np.float32)
    whole_deg = np.concatenate([theta_deg, theta_deg[:-1] + 180])
    offsets_px = (-6, -2, 0, 2, 6)
    right = tp.reconstruct(sinogram[None], theta_deg, cor_px)[0]
    low, high = np.percentile(right, (1, 99.7))
    rows = []
    for name, values, angles in (("180°", sinogram, theta_deg), ("360°", whole, whole_deg)):
        images = tp.sweep(values, angles, cor_px + np.array(offsets_px, float))
        captions = [f"{name}, COR {off:+d} px" if off else f"{name}, right" for off in offsets_px]
        crops = [grey(image[12:148, 12:148], low, high) for image in images]
        rows.append(beside(*(panel(*pair, 1.35) for pair in zip(crops, captions, strict=True))))
    save(below(*rows), "axis-wrong-cor.png")


def opposing_figure(sinograms, cor_px):
    """What is left of a projection less the opposing one, mirrored at three columns."""
    first, last = sinograms[:, 0], sinograms[:, -1]
    shown = []
    for off_px in (-2, 0, 2):
        rest = first - mirrored(last, cor_px + off_px)
        caption = f"mirrored at {off_px:+d} px" if off_px else "mirrored at the axis"
        shown.append(panel(grey(rest[:, 5:-5], -0.4, 0.4), caption, 1.95))
    save(beside(*shown), "axis-opposing.png")


def engine_figure(sinogram, theta_deg, cor_px):
    """From the sinogram by rays in the spectrum to the slice."""
    image = tp.reconstruct(sinogram[None], theta_deg, cor_px)[0]
    spectrum = np.log(np.abs(np.fft.fftshift(np.fft.fft2(image))) + 1e-3)
    side = sinogram.shape[1]
    rays = Image.new("L", (side * 2, side * 2), 255)
    draw, middle = ImageDraw.Draw(rays), side
    for angle in np.deg2rad(np.arange(0, 180, 15)):
        for radius in range(-side + 8, side - 7, 12):
            x, y = middle + radius * np.cos(angle), middle - radius * np.sin(angle)
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=60)
    rays = np.asarray(rays.resize((side, side), Image.Resampling.BOX))
    save(
        beside(
            panel(grey(sinogram)[:160], "1. sinogram", 1.35),
            panel(rays, "2. its transform, on rays", 1.35),
            panel(grey(spectrum), "3. spread on a grid", 1.35),
            panel(grey(image), "4. transformed: the slice", 1.35),
        ),
        "engine.png",
    )


def svg(name, width, height, parts):
    """Write an SVG beside this file."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="Helvetica, Arial, sans-serif">'
        f'<defs>{marker("ink", INK)}</defs><rect width="{width}" height="{height}" fill="white"/>'
    )
    (HERE / name).write_text("\n".join([head, *parts, "</svg>"]) + "\n", encoding="utf-8")


def polyline(points, colour, width=1.6):
    """Draw a line through points."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def measures_figure(prediction, cor_px):
    """The curves that the network reads, each in its own lane, and what it makes of them."""
    evidence = prediction["evidence"]
    lanes = [(name, evidence["cor_px"], score) for name, score in evidence["score"].items()]
    lanes += [("ai", *(prediction["methods"]["ai"]["curve"][key] for key in ("cor_px", "score")))]
    low, high, left, right, lane = lanes[0][1][0], lanes[0][1][-1], 110, 740, 40

    def x(column):
        return left + (column - low) / (high - low) * (right - left)

    bottom = lane * len(lanes) + 14
    parts = [line((x(cor_px), 6), (x(cor_px), bottom), AXIS, 1.2, 'stroke-dasharray="5 4"')]
    for number, (name, columns, score) in enumerate(lanes):
        values = np.asarray(score, float)
        values = (values - values.min()) / (np.ptp(values) or 1)
        base, is_last = lane * (number + 1) + 4, name == "ai"
        points = [
            (x(c), base - 32 * v) for c, v in zip(columns, values, strict=True) if low <= c <= high
        ]
        colour = AXIS if is_last else COLOURS[number % len(COLOURS)]
        parts.append(polyline(points, colour, 2.4 if is_last else 1.6))
        parts.append(text((left - 12, base - 8), name, colour, "end", 14))
    parts.append(line((left, bottom), (right, bottom), GREY, 1))
    for column in range(60, 100, 10):
        parts.append(line((x(column), bottom), (x(column), bottom + 5), GREY, 1))
        parts.append(text((x(column), bottom + 19), str(column), INK, size=12))
    parts.append(text((x(cor_px) + 8, bottom + 38), "true COR", AXIS, "middle", 12))
    parts.append(text((right, bottom + 38), "COR in px", INK, "end", 12))
    svg("cor-measures.svg", 760, bottom + 48, parts)


def series_figure():
    """A series with an outlier and a gap, before and after `fix_cor`."""
    predicted_px = [512.0, 512.4, 512.9, 531.0, 513.6, None, 514.5, 514.9]
    members = [
        Member(f"s_{index}", index, 1024, predicted_px=np.nan if px is None else px)
        for index, px in enumerate(predicted_px, 1)
    ]
    fixed = fix_series(members, max_delta_px=50, protect_manual=True)
    valid = [px for px in predicted_px if px is not None]
    median = float(np.median(valid))

    def at(index, cor_px):
        return 70 + 78 * (index - 1), 250 - (cor_px - 500) / 35 * 230

    (_, top), (_, low) = at(1, median + 10), at(1, median - 10)
    parts = [
        f'<rect x="40" y="{top:.1f}" width="606" height="{low - top:.1f}" fill="#e6ecf1"/>',
        line((40, at(1, median)[1]), (646, at(1, median)[1]), GREY, 1.2, 'stroke-dasharray="5 4"'),
        line((40, 252), (646, 252), INK, 1),
    ]
    for index, (before, after) in enumerate(zip(predicted_px, fixed, strict=True), 1):
        x, y = at(index, after.after_px)
        parts.append(text((x, 270), str(index), INK, size=12))
        if before is None:
            parts.append(box(x - 5, y - 5, 10, 10, POINT, POINT))
            parts.append(text((x, y + 24), f"gap: {after.after_px:.2f}", POINT, size=12))
        elif abs(before - after.after_px) > 0.01:
            old = at(index, before)
            parts.append(
                f'<circle cx="{old[0]}" cy="{old[1]:.1f}" r="5" fill="none" stroke="{AXIS}"/>'
            )
            parts.append(line((x, old[1] + 8), (x, y - 10), AXIS, 1.2, 'marker-end="url(#ink)"'))
            parts.append(
                text((old[0] + 12, old[1] + 4), f"outlier {before:.2f}", AXIS, "start", 12)
            )
            parts.append(box(x - 5, y - 5, 10, 10, AXIS, AXIS))
            parts.append(text((x, y + 24), f"{after.after_px:.2f}", AXIS, size=12))
        else:
            parts.append(f'<circle cx="{x}" cy="{y:.1f}" r="5" fill="#2e7d4f"/>')
    parts.append(text((660, top + 12), "limit", GREY, "start", 12))
    parts.append(text((660, at(1, median)[1] + 4), "median", GREY, "start", 12))
    parts.append(text((343, 290), "scan of the series", INK, size=12))
    svg("series.svg", 720, 300, parts)


def reruns_figure():
    """The steps, and which of them run after one COR was edited."""
    again = {"fix_cor", "resolve_cor", "full_recon", "sidecar", "report", "export_star"}
    places = {
        "inventory": (20, 90), "try_recon": (140, 90), "predict_cor": (260, 90),
        "fix_cor": (380, 90), "resolve_cor": (500, 90), "full_recon": (630, 40),
        "sidecar": (630, 104), "export_stack": (260, 186), "export_star": (760, 186),
        "report": (760, 40),
    }  # fmt: skip
    per = {
        "inventory": "campaign", "try_recon": "scan", "predict_cor": "scan", "fix_cor": "series",
        "resolve_cor": "campaign", "full_recon": "scan", "sidecar": "scan", "export_stack": "scan",
        "export_star": "campaign", "report": "campaign",
    }  # fmt: skip
    links = [
        *(("inventory", "try_recon"), ("try_recon", "predict_cor"), ("predict_cor", "fix_cor")),
        *(("fix_cor", "resolve_cor"), ("resolve_cor", "full_recon"), ("resolve_cor", "sidecar")),
        *(("inventory", "export_stack"), ("full_recon", "report"), ("export_stack", "export_star")),
    ]
    wide, high = 104, 44
    parts = []
    for start, end in links:
        (x1, y1), (x2, y2) = places[start], places[end]
        tip = (x2 - 2, y2 + high / 2)
        parts.append(line((x1 + wide, y1 + high / 2), tip, INK, 1.2, 'marker-end="url(#ink)"'))
    parts.append(line((552, 90 + high), (758, 200), INK, 1.2, 'marker-end="url(#ink)"'))
    for name, (x, y) in places.items():
        fill, colour = ("#fbe3df", AXIS) if name in again else ("#f2f4f6", GREY)
        parts.append(box(x, y, wide, high, fill, colour))
        parts.append(text((x + wide / 2, y + 19), name, INK, size=13))
        parts.append(text((x + wide / 2, y + 35), f"per {per[name]}", GREY, size=11))
    parts.append(
        text((20, 24), "red: what runs after the COR of one scan was edited", AXIS, "start")
    )
    svg("reruns.svg", 880, 240, parts)


def main():
    """Write all figures beside this file."""
    demo = Path(sys.argv[1])
    cor_px = json.loads((demo / "truth.json").read_text())["scans"][SCAN]["cor_px"]
    with tp.open_scan(demo / "raw" / f"{SCAN}.h5") as scan:
        theta_deg = scan.theta_deg
        raw = scan.read_rows(0, scan.n_rows)
        flats, darks = scan.flat, scan.dark
    sinograms = tp.correct(raw, flats, darks)
    middle = sinograms[len(sinograms) // 2]
    projection_figure(sinograms, cor_px)
    wrong_cor_figure(middle, theta_deg, cor_px)
    opposing_figure(sinograms, cor_px)
    engine_figure(middle, theta_deg, cor_px)
    place = demo / "results" / "try_center" / SCAN / "prediction.json"
    measures_figure(json.loads(place.read_text()), cor_px)
    series_figure()
    reruns_figure()


if __name__ == "__main__":
    main()
