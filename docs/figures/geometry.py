"""Draw docs/figures/geometry.svg: where a voxel is seen, and what binning does to the COR.

Run it from anywhere: `python docs/figures/geometry.py`.
"""

from pathlib import Path

import numpy as np

from tomopipe.geometry import axis_voxel, bin_cor

N, THETA_DEG, COR_PX = 8, 30.0, 3.25
VOXEL = (6, 1)
CELL = 34
INK, GREY, AXIS, POINT, BEAM = "#222", "#999", "#c0392b", "#1f6fb2", "#e0a030"


def shifted(at, right, down):
    """Move a point on the page."""
    return np.asarray(at) + np.array([right, down])


def line(start, end, colour=INK, width=1.2, extra=""):
    """Draw a straight line."""
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" {extra}/>'
    )


def text(at, words, colour=INK, anchor="middle", size=13, extra=""):
    """Write some words at a point."""
    x, y = at
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" '
        f'font-size="{size}" {extra}>{words}</text>'
    )


def dot(at, colour, radius=5):
    """Draw a point."""
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius}" fill="{colour}"/>'


def box(x, y, width, height, fill="none", colour=GREY):
    """Draw a rectangle."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" '
        f'stroke="{colour}"/>'
    )


def slice_panel(left, top):
    """The slice as the array lies in memory, and the detector turned against it."""
    axis = axis_voxel(N)

    def canvas(x, y):
        return np.array([left + (x + 0.5) * CELL, top + (y + 0.5) * CELL])

    theta = np.radians(THETA_DEG)
    along, away = (
        np.array([np.cos(theta), -np.sin(theta)]),
        np.array([np.sin(theta), np.cos(theta)]),
    )
    foot = canvas(*axis) + 6.3 * CELL * away  # of the axis, on the detector

    def on_detector(column):
        return foot + (column - COR_PX) * CELL * along

    parts = [box(left + x * CELL, top + y * CELL, CELL, CELL) for x in range(N) for y in range(N)]
    for i in range(N):
        parts.append(text(shifted(canvas(i, -0.85), 0, 5), str(i), GREY, size=11))
        parts.append(text(shifted(canvas(-0.85, i), 0, 4), str(i), GREY, size=11))
    parts.append(text(canvas(N / 2 - 0.5, -1.55), "x (column of the slice)"))
    parts.append(
        text((0, 0), "y (row of the slice)", extra=_turned(canvas(-1.5, N / 2 - 0.5), -90))
    )
    right, down = VOXEL[0] - axis[0], VOXEL[1] - axis[1]
    seen = float(COR_PX + right * np.cos(theta) - down * np.sin(theta))
    for point, column, colour in ((axis, COR_PX, AXIS), (VOXEL, seen, POINT)):
        parts.append(
            line(canvas(*point), on_detector(column), colour, 1.2, 'stroke-dasharray="5 4"')
        )
        parts.append(dot(canvas(*point), colour))
    for column in range(N):
        edge, centre = on_detector(column - 0.5), on_detector(column)
        parts.append(line(edge - 5 * away, edge + 5 * away, INK, 1))
        parts.append(text(shifted(centre + 20 * away, 0, 4), str(column), GREY, size=11))
    parts.append(line(on_detector(-0.5), on_detector(N - 0.5), INK, 2.5))
    parts.append(line(on_detector(N - 0.5) - 5 * away, on_detector(N - 0.5) + 5 * away, INK, 1))
    parts.append(dot(on_detector(COR_PX), AXIS, 4))
    parts.append(dot(on_detector(seen), POINT, 4))
    name = on_detector(N / 2 - 0.5) + 42 * away
    parts.append(text((0, 0), "detector column", extra=_turned(name, -THETA_DEG)))
    parts.append(text(on_detector(COR_PX) - 12 * away - 26 * along, "cor", AXIS))
    parts.append(
        text(shifted(canvas(*axis), -8, 18), f"axis ({axis[0]}, {axis[1]})", AXIS, "end", 12)
    )
    parts.append(text(shifted(canvas(*VOXEL), 10, -8), f"voxel {VOXEL}", POINT, "start", 12))
    parts += _angle(canvas(*axis), along)
    parts += _beam(shifted(canvas(-1.2, -0.4), -16, -50), away)
    return parts


def _turned(at, angle_deg):
    return f'transform="translate({at[0]:.1f} {at[1]:.1f}) rotate({angle_deg:g})"'


def _angle(centre, along):
    """The angle theta at the axis, from x to the direction of the columns."""
    radius = 1.6 * CELL
    end = centre + radius * along
    arc = f"M {centre[0] + radius:.1f} {centre[1]:.1f} A {radius:.1f} {radius:.1f} 0 0 0 "
    middle = np.radians(THETA_DEG / 2)
    name = centre + (radius + 11) * np.array([np.cos(middle), -np.sin(middle)])
    return [
        line(centre, shifted(centre, radius + 14, 0), INK, 0.8),
        line(centre, centre + (radius + 14) * along, INK, 0.8),
        f'<path d="{arc}{end[0]:.1f} {end[1]:.1f}" fill="none" stroke="{INK}"/>',
        text(shifted(name, 0, 5), "θ", INK, size=15),
    ]


def _beam(start, away):
    end = start + 60 * away
    return [
        line(start, end, BEAM, 3, 'marker-end="url(#beam)"'),
        text(shifted(start, -4, -6), "beam", BEAM, "middle", 12),
    ]


def binning_panel(left, top):
    """Ten columns, the first cut off, the rest averaged in threes."""
    cor_px, x0, binning = 5.75, 1, 3
    wide, high = 38, 26

    def pixels(y, count, width, first, name):
        parts = [text((left, y - 8), name, anchor="start")]
        for i in range(count):
            x = first + i * width
            parts.append(box(x, y, width, high))
            parts.append(text((x + width / 2, y + 17), str(i), GREY, size=11))
        return parts

    parts = pixels(top, 10, wide, left, "detector columns, cor = 5.75")
    parts += pixels(
        top + 75, 3, wide * binning, left + x0 * wide, "cut at x0 = 1, averaged by b = 3"
    )
    x = left + (cor_px + 0.5) * wide
    parts.append(line((x, top - 4), (x, top + 118), AXIS, 1.5, 'stroke-dasharray="5 4"'))
    binned = float(bin_cor(cor_px, x0=x0, binning=binning))
    formula = f"cor' = (cor − x0 − (b − 1)/2) / b = {binned:.4g}"
    parts.append(text((left, top + 140), formula, AXIS, "start"))
    return parts


def matrix_panel(left, top):
    """How the volume becomes RELION's tomogram: a cube with its axes."""
    corner, size, skew = np.array([left + 120.0, top + 85.0]), 110, np.array([62.0, -42.0])
    right, down = np.array([size, 0]), np.array([0, size])
    corners = [corner, corner + right, corner + right + down, corner + down]
    parts = [line(a, b, GREY) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    parts += [line(c, c + skew, GREY) for c in corners[:3]]
    parts += [line(corner + skew, corner + skew + right, GREY)]
    parts += [line(corner + skew + right, corner + skew + right + down, GREY)]
    front, axis = corner, AXIS
    parts.append(line(front, front + right, INK, 2.2, 'marker-end="url(#ink)"'))
    parts.append(line(front, front + down, INK, 2.2, 'marker-end="url(#ink)"'))
    parts.append(line(front, front + skew, INK, 2.2, 'marker-end="url(#ink)"'))
    parts.append(text(shifted(front + right, 14, 22), "x = X", anchor="start"))
    parts.append(text(shifted(front + down, -6, 20), "detector row = Y", anchor="middle"))
    parts.append(text(shifted(front + skew, -6, -10), "y of the slice = Z"))
    middle = corner + right / 2 + skew / 2
    parts.append(
        line(
            shifted(middle, 0, -20),
            shifted(middle + down, 0, 20),
            axis,
            1.8,
            'stroke-dasharray="5 4"',
        )
    )
    parts.append(text(shifted(middle + down, 6, 36), "rotation axis", AXIS, "start", 12))
    parts.append(text((left, top), "The same volume in RELION: (X, Y, Z)", anchor="start"))
    return parts


def marker(name, colour):
    """Define the head of an arrow."""
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="5" '
        f'markerHeight="5" orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{colour}"/></marker>'
    )


def main():
    """Write the figure beside this file."""
    width, height = 930, 520
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="Helvetica, Arial, sans-serif">',
        f"<defs>{marker('beam', BEAM)}{marker('ink', INK)}</defs>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *slice_panel(90, 90),
        *binning_panel(510, 70),
        *matrix_panel(510, 265),
        "</svg>",
    ]
    Path(__file__).with_suffix(".svg").write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
