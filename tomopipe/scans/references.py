"""Flats and darks of a scan: in its own files, or in others that the configuration names."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock, PreprocessBlock
from tomopipe.errors import ScanError, ScanFaultError, naming
from tomopipe.scans.formats import format_of
from tomopipe.scans.layout import (
    KEYS,
    Kind,
    Layout,
    Reader,
    Reference,
    axes_hint,
    how_to_name,
    without_position,
)
from tomopipe.scans.pixels import Frames, MirroredPixels, Pixels, TransposedPixels

ABSENT = "declared absent"
UNUSED = "not used: own "  # a note begins so, then the kind and where they are


@dataclass(frozen=True, eq=False)
class References:
    """Flats or darks of a scan that were really written; none if they are declared absent."""

    frames: tuple[Frames, ...]  # in one or several files, in the order in which they were taken
    # (n_frames in all,): projections taken before each; NaN: unknown
    positions: NDArray[np.float64]
    location: str

    def each(self, view: Callable[[Frames], Frames]) -> "References":
        """Return all frames as seen through a view."""
        return replace(self, frames=tuple(map(view, self.frames)))

    def counted_from(self, first: int) -> "References":
        """Return them with positions counted from a projection, the first of a window."""
        return replace(self, positions=self.positions - first)


def find_references(
    reader: Reader,
    kind: Kind,
    source: str | Sequence[str] | None,
    layout: Layout,
    options: InputBlock,
    stack: ExitStack,
) -> References:
    """Find the flats or darks, in the scan or elsewhere; `stack` closes other files."""
    pixels = layout.projections.pixels
    # frames elsewhere have the path of their file in their location
    fault = ScanFaultError if source is None else ScanError
    if source is None:
        if options.paths.data is None and (name := getattr(options.paths, kind)):
            raise ScanFaultError(
                f"input.paths.{kind}: {name} is of the file that preprocess.{kind} names: "
                f"set preprocess.{kind}; where it is of the scan, input.paths.data"
            )
        parts = reader.references(kind)
    elif source == "none":
        return References((Frames(pixels, np.arange(0)),), np.zeros(0), ABSENT)
    else:
        parts = []
        for path in [source] if isinstance(source, str) else source:
            with naming(path):
                references = format_of(path).load().references_in(path, kind, options, stack)
            parts += [replace(part, location=f"{path}: {part.location}") for part in references]
    expected = pixels.shape[1:]
    parts = [_as_images(_as_the_scan(part, pixels), expected) for part in parts]
    for part in parts:
        shape = part.frames.pixels.shape[1:]
        if shape != expected:
            n_theta = -1 if layout.theta_deg is None else len(layout.theta_deg)
            last = n_theta == expected[1] != pixels.shape[0]
            is_sinogram = pixels.shape[0] in shape or n_theta == expected[0]
            other = f"; set preprocess.{kind} to frames of that size"
            hint = axes_hint(options.axes, last=last) if is_sinogram or last else other
            raise fault(
                f"{part.location} has frames of {shape}; expected {expected} as in "
                f"{pixels.name}{hint}"
            )
    if kind == "flats" and not any(part.frames.written.any() for part in parts):
        unread = " was never written"
        if source is None and layout.missing_sources:
            unread = f": {layout.missing_sources[0]} cannot be opened"
        raise fault(f"{parts[0].location}{unread}; {how_to_name(kind)}")
    if source is not None:
        n_angles, n_parts = len(layout.projections.index), len(parts)
        positions = np.linspace(0, n_angles, n_parts) if n_parts > 1 else np.array([np.nan])
        n_before = [part.n_before for part in parts if part.n_before is not None]
        if isinstance(source, str) and len(n_before) == n_parts > 1:
            positions = np.searchsorted(layout.projections.index, n_before)
        parts = [
            replace(part, positions=np.full(len(part.positions), before, float))
            for part, before in zip(parts, positions, strict=True)
        ]
    return References(
        tuple(Frames(part.frames.pixels, part.frames.index[part.frames.written]) for part in parts),
        np.concatenate([part.positions[part.frames.written] for part in parts]),
        ", ".join(dict.fromkeys(part.location for part in parts)),
    )


def unused_references(
    reader: Reader, scan: str | os.PathLike[str], preprocess: PreprocessBlock
) -> Iterator[str]:
    """Name the flats and darks of a scan that the configuration replaces by those of others."""
    path = Path(scan)
    for kind in KEYS:
        source = getattr(preprocess, kind)
        if source in (None, "none"):
            continue
        own = path, path.with_name(f"{path.with_suffix('').name}_{kind}")
        sources = map(Path, [source] if isinstance(source, str) else source)
        if any(each.is_relative_to(place) for each in sources for place in own):
            continue
        with suppress(Exception):  # what is not used may be damaged
            parts = reader.references(kind)
            if any(part.frames.written.any() for part in parts):
                locations = dict.fromkeys(part.location for part in parts)
                yield f"{UNUSED}{kind} {', '.join(locations)}"


def _as_the_scan(reference: Reference, projections: Pixels) -> Reference:
    """Mirror images as the frames of a scan, unless their own file states the orientation."""
    if reference.states_mirror or not isinstance(projections, MirroredPixels):
        return reference
    frames = reference.frames
    mirrored = MirroredPixels(frames.pixels, projections.sides)
    return replace(reference, frames=replace(frames, pixels=mirrored))


def _as_images(reference: Reference, expected: tuple[int, ...]) -> Reference:
    """Return flats or darks, read like sinograms, as stored if only then they have this shape."""
    pixels = reference.frames.pixels
    if not isinstance(pixels, TransposedPixels) or pixels.shape[1:] == expected:
        return reference
    images = without_position(pixels.as_stored, reference.location)
    return images if images.frames.pixels.shape[1:] == expected else reference
