"""Slices of volumes as PNG with a scale bar, for `tomopipe convert png`: for slides and papers."""

import math
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import VOLUMES
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.reruns.receipts import digest
from tomopipe.storage.atomic import remove_stale, whole
from tomopipe.storage.shared import locked
from tomopipe.volumes.volume_read import (
    HEIGHT,
    PLANES,
    Slices,
    Volume,
    open_volume,
    read_mid_planes,
)

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

PNG = "png"
PERCENTILES = (0.2, 99.8)
_REVISION = 2  # increase when pictures look different
_NOTE = "tomopipe convert"  # text of our pictures, which holds the digest
_SLICE = re.compile(r"(x[yz]|yz)(?::(\d+))?", re.ASCII)
_BAR_SHARE = 0.25  # longest bar / width of the picture
_TEXT_SHARE = 0.035  # height of the text / shorter side
_UNITS = (("mm", 1e3), ("µm", 1.0), ("nm", 1e-3))


class Look(NamedTuple):
    """How slices are drawn."""

    # grey window: values of black and white, else these percentiles of each picture
    value_range: tuple[float, float] | None = None
    percentiles: tuple[float, float] = PERCENTILES
    bar_um: float | None = None  # length of the bar; None: a round one, 0: no bar


@dataclass(frozen=True)
class SlicePicture:
    """A slice of a volume to be drawn."""

    source: Path
    target: Path
    plane: str  # xy, xz or yz
    index: int  # of the voxel at which it cuts the volume
    look: Look
    stated: str  # digest of what it is made from
    is_current: bool  # whether an up-to-date picture exists


def plan_pictures(
    campaign: Campaign, volumes: Mapping[str, Path], slices: Iterable[str], look: Look
) -> list[SlicePicture]:
    """Return the pictures of slices "PLANE" (the middle) or "PLANE:INDEX" of each volume.

    Foreign files are refused.
    """
    low, high = look.value_range or (0, 1)
    if not -np.inf < low < high < np.inf:
        raise TomopipeError(f"--range: expected LOW < HIGH, got {low} {high}")
    first, last = look.percentiles
    if not 0 <= first < last <= 100:
        raise TomopipeError(f"--percentiles: expected 0 <= LOW < HIGH <= 100, got {first} {last}")
    if look.bar_um is not None and not 0 <= look.bar_um < np.inf:
        raise TomopipeError(f"--bar: expected a length in micrometres, or 0, got {look.bar_um}")
    names = [_parsed(text) for text in slices or ("xy",)]
    return [
        _plan(campaign, source, plane, index, look)
        for source in volumes.values()
        for plane, index in dict.fromkeys(names)
    ]


def write_picture(picture: SlicePicture) -> str:
    """Draw a slice, atomically; return its grey window and bar in words.

    Pixels are voxels, 8 bits; where voxels are not square, rows are stretched.
    """
    from PIL import Image, PngImagePlugin

    with locked(picture.target):
        remove_stale(picture.target)
        with open_volume(picture.source) as volume:
            values = _read(volume, picture)
            size_um = float(volume.attributes.get("voxel_size_um", 0))
            ratio = float(volume.attributes.get(HEIGHT, size_um)) / size_um if size_um else 1.0
            units = str(volume.attributes.get("units", "")).replace("_", " ")
        low, high = window = _window(values, picture)
        grey = (np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)
        image = Image.fromarray(grey)
        if picture.plane != "xy" and ratio != 1:
            height = max(1, round(image.height * ratio))
            image = image.resize((image.width, height), Image.Resampling.BICUBIC)
        bar = _bar_um(picture, image.width, size_um)
        if bar:
            _draw_bar(image, bar / size_um, length_text(bar))
        notes = PngImagePlugin.PngInfo()
        notes.add_text(_NOTE, picture.stated)
        with whole(picture.target) as temporary:
            image.save(temporary, "PNG", pnginfo=notes)
    bar_text = f"bar {length_text(bar)}" if bar else "no bar"
    if not size_um:
        bar_text += ", as the pixel size is not known (set input.pixel_size_um)"
    return f"{window[0]:.4g} to {window[1]:.4g} {units}".rstrip() + f", {bar_text}"


def round_length_um(longest_um: float) -> float:
    """Return the largest length 1, 2 or 5 times a power of ten that is no longer."""
    power = 10.0 ** math.floor(math.log10(longest_um) + 1e-9)
    step = max(step for step in (1, 2, 5) if step == 1 or step * power <= longest_um * (1 + 1e-9))
    return float(f"{step * power:.12g}")


def length_text(length_um: float) -> str:
    """Return a length with the largest unit of which it is at least one."""
    unit, size_um = next((u for u in _UNITS if length_um >= u[1] * (1 - 1e-9)), _UNITS[-1])
    return f"{length_um / size_um:.6g} {unit}"


def _parsed(text: str) -> tuple[str, int | None]:
    if not (parts := _SLICE.fullmatch(text)):
        raise TomopipeError(
            f"--slice {text}: expected xy, xz or yz, alone (the middle) or with a voxel, xy:700"
        )
    return parts[1], int(parts[2]) if parts[2] else None


def _plan(
    campaign: Campaign, source: Path, plane: str, index: int | None, look: Look
) -> SlicePicture:
    with open_volume(source) as volume:
        n = volume.shape[PLANES[plane]]
        made_by = digest(volume.provenance)
    at = n // 2 if index is None else index
    if at >= n:
        raise TomopipeError(f"{source}: --slice {plane}:{at}: expected a voxel from 0 to {n - 1}")
    stated = digest({
        "volume": os.path.relpath(source, campaign.directory), "provenance": made_by,
        "plane": plane, "index": at, "look": list(look), "revision": _REVISION,
    })  # fmt: skip
    ending = next(end for end in VOLUMES.values() if source.name.endswith(end))
    stem = source.name.removesuffix(ending)
    target = source.with_name(f"{stem}_{plane}_{at:0{len(str(n - 1))}d}.png")
    return SlicePicture(source, target, plane, at, look, stated, _stated(target) == stated)


def _stated(target: Path) -> str | None:
    """Return the digest in an earlier picture; None if there is none."""
    from PIL import Image

    if not os.path.lexists(target):
        return None
    result = None
    # a foreign file may raise anything
    with suppress(Exception), Image.open(no_pipe(target)) as image:
        result = image.info.get(_NOTE)
    if result is None:
        raise TomopipeError(
            f"{target}: exists, but `tomopipe convert` did not write it. Move it away first."
        )
    return str(result)


def _read(volume: Volume, picture: SlicePicture) -> Slices:
    """Read a plane; a middle one as it is stored beside the volume."""
    axis = PLANES[picture.plane]
    if picture.index == volume.shape[axis] // 2:
        return read_mid_planes(volume.path)[f"mid_{picture.plane}"]
    return volume.read_plane(picture.plane, picture.index, 1, slice(None))


def _window(values: Slices, picture: SlicePicture) -> tuple[float, float]:
    look = picture.look
    if look.value_range:
        return look.value_range
    low, high = (float(value) for value in np.percentile(values, look.percentiles))
    if not low < high:
        raise TomopipeError(
            f"{picture.source}: {picture.plane} at {picture.index}: the percentiles "
            f"{look.percentiles[0]:g} and {look.percentiles[1]:g} are equal ({low:g}). "
            "Give --range LOW HIGH."
        )
    return low, high


def _bar_um(picture: SlicePicture, width_px: int, size_um: float) -> float:
    """Return the length of the bar (um), 0 for none."""
    asked_um = picture.look.bar_um
    if not size_um or asked_um == 0:
        return 0.0
    if asked_um is None:
        return round_length_um(_BAR_SHARE * width_px * size_um)
    if asked_um > 0.9 * width_px * size_um:
        raise TomopipeError(
            f"--bar {asked_um:g}: {picture.target.name} is {width_px * size_um:.4g} um wide"
        )
    return asked_um


def _draw_bar(image: "Image.Image", length_px: float, text: str) -> None:
    """Draw a bar with its length at the lower right, white with a dark outline."""
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    side_px = math.sqrt(image.width * image.height)
    margin, thick = max(4, round(0.03 * side_px)), max(2, round(0.01 * side_px))
    font = ImageFont.load_default(max(10, round(_TEXT_SHARE * side_px)))
    assert isinstance(font, ImageFont.FreeTypeFont)
    right, bottom = image.width - margin, image.height - margin
    left = right - max(1, round(length_px))
    ink = Image.new("L", image.size)
    draw = ImageDraw.Draw(ink)
    draw.rectangle((left, bottom - thick, right - 1, bottom - 1), fill=255)  # both ends included
    letters = text.replace("µ", "u")  # the font of Pillow has no µ: a u gets its tail
    width = font.getlength(letters)
    x = max(0, min((left + right - width) / 2, right - width))  # it may be wider than the bar
    y = bottom - thick - max(3, thick)
    y -= font.getmetrics()[1] // 2 if letters != text else 0
    draw.text((x, y), letters, fill=255, font=font, anchor="ls")
    if letters != text:
        _draw_tail(draw, x + font.getlength(text[: text.index("µ")]), y, font)
    edge = max(1, thick // 4)
    left, top, right, bottom = ink.getbbox() or (0, 0, *image.size)
    box = max(0, left - edge), max(0, top - edge), right + edge, bottom + edge
    ink = ink.crop(box)
    image.paste(0, box[:2], ink.filter(ImageFilter.MaxFilter(2 * edge + 1)))
    image.paste(255, box[:2], ink)


def _draw_tail(
    draw: "ImageDraw.ImageDraw", x: float, y: float, font: "ImageFont.FreeTypeFont"
) -> None:
    """Lengthen the left stem of a u, drawn with the left end of its baseline at a position."""
    from PIL import Image, ImageDraw

    size = round(font.getlength("u")) + 4
    letter = Image.new("L", (size, size))
    ImageDraw.Draw(letter).text((x % 1, size), "u", fill=255, font=font, anchor="ls")
    ink = np.asarray(letter)[size - max(3, size // 3)] > 127  # a row with both stems
    first = int(ink.argmax())
    stem = int((~ink[first:]).argmax())
    left = int(x) + first
    draw.rectangle((left, y - size // 4, left + stem - 1, y + font.getmetrics()[1] // 2), fill=255)
