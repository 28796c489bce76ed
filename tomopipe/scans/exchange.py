"""Open raw scans of any format: DXchange and NXtomo in HDF5 files, TIFF files in a folder or stack.

The format is recognised from the content. Files are opened read-only and never changed. What makes
a scan unusable raises a ScanError whose message is `path: reason`, in one line; what makes it
incomplete is returned by `tomopipe.scans.metadata.incomplete`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock, PreprocessBlock
from tomopipe.config.blocks import NUMBERS, implausible
from tomopipe.config.spans import first_and_last
from tomopipe.errors import (
    LibraryError,
    ScanError,
    ScanFaultError,
    library_error,
    naming,
    own_error,
)
from tomopipe.scans.angle_lists import UNIT_OF_FILE, other_unit, span_deg
from tomopipe.scans.formats import NOT_SQUARE, Path, format_of
from tomopipe.scans.hdf5 import one_line
from tomopipe.scans.layout import (
    KEYS,
    PIXEL_SIZE_UM,
    SAME_NUMBER,
    Layout,
    Reader,
    corrected,
    refuse_unknown_unit,
)
from tomopipe.scans.metadata import IN_ORDER, NO_ANGLES, Metadata, incomplete, skipping
from tomopipe.scans.pixels import Frames, IndexRange, cut_columns, unsigned
from tomopipe.scans.scan import ABSENT, References, Scan, find_references
from tomopipe.scans.stated_motion import describe_motion

Sources = Path | Sequence[Path] | None

# Angles in single precision, or from a text, miss the end of a range by no more than this.
_ROUNDING_DEG = 1e-4


def open_scan(
    path: Path,
    *,
    flats: Sources = None,
    darks: Sources = None,
    options: InputBlock | Mapping[str, Any] = InputBlock(),
    partial: bool = False,
) -> AbstractContextManager[Scan]:
    """Open a scan to read its pixels.

    Parameters
    ----------
    path : path
        An HDF5 or TIFF file, or a folder of TIFF files.
    flats, darks : path or sequence of paths, optional
        Other files with them, or "none", as `preprocess.flats` and `darks`.
    options : mapping
        Keys of the configuration's block `input`.
    partial : bool
        Accept an incomplete scan, with the leading frames that were written and have an angle.

    Yields
    ------
    Scan
        To be used within the block.

    Raises
    ------
    ScanError
        If the scan cannot be used, or is incomplete without `partial`.
    """
    options = options if isinstance(options, InputBlock) else InputBlock(**options)
    texts: dict[str, str | list[str]] = {}
    for kind, source in (("flats", flats), ("darks", darks)):
        if isinstance(source, str | os.PathLike):
            texts[kind] = os.fspath(source)
        elif source is not None:
            texts[kind] = [os.fspath(entry) for entry in source]
    preprocess = PreprocessBlock().model_copy(update=texts)
    return RawScan(path, options, preprocess, partial=partial).open()


@dataclass(frozen=True)
class RawScan:
    """A raw scan with its configured metadata; only this class adds the path to errors."""

    path: Path  # an HDF5 or TIFF file, or a folder of TIFF files
    input: InputBlock = InputBlock()  # replaces metadata of the file
    # where flats and darks are, and how the projections are corrected
    preprocess: PreprocessBlock = PreprocessBlock()
    name: str = ""  # of the scan in its campaign; by default that of the file without its ending
    # use the frames that were really written, of a scan that has fewer than it claims
    partial: bool = False

    @contextmanager
    def open(self) -> Iterator[Scan]:
        """Open it as `open_scan` does."""
        with ExitStack() as stack:
            metadata, projections, references = self._examine(stack)
            reason = incomplete(metadata)
            if reason and not self.partial:
                says_how = IN_ORDER in reason or "skip_projections" in reason
                hint = "" if says_how else "; `select: yes` uses the frames that are there"
                raise ScanError(f"{self.path}: {reason}{hint}")
            if (theta_deg := metadata.theta_deg) is None:
                raise ScanError(f"{self.path}: {NO_ANGLES}")
            written = metadata.chosen[metadata.chosen < min(metadata.n_written, len(theta_deg))]
            frames = written[np.isfinite(theta_deg[written])]
            if len(frames) == 0:
                remedy = reason or "leave it out (`select: no`)"
                raise ScanError(f"{self.path}: no frame can be used; {remedy}")
            yield Scan(metadata, projections, frames, *references)

    def metadata(self) -> Metadata:
        """Read the metadata, without the pixels; any fault of the scan is a ScanError."""
        with ExitStack() as stack:
            return self._examine(stack)[0]

    def _examine(self, stack: ExitStack) -> "_Parts":
        """Open the scan and check its parts."""
        try:
            with naming(self.path):
                open_reader = format_of(self.path).load().open_reader
                reader: Reader = open_reader(self.path, self.input, stack)
                return _read_parts(reader, self.preprocess, self.input, stack)
        except (ScanError, LibraryError):
            raise
        except Exception as error:
            if fault := library_error(error):
                raise fault from error
            # Broken files raise nearly anything from nearly anywhere.
            fault_text = own_error(error) or f"broken file ({one_line(error)}): copy it again"
            raise ScanError(f"{self.path}: {fault_text}") from error


_Parts = tuple[Metadata, Frames, list[References]]  # with projections; flats and darks


def _read_parts(
    reader: Reader, preprocess: PreprocessBlock, options: InputBlock, stack: ExitStack
) -> _Parts:
    layout = corrected(reader.layout(), options)
    _refuse_implausible(layout)
    warnings = [*layout.warnings, *_check_unit(layout, options)]
    references = [
        find_references(reader, kind, getattr(preprocess, kind), layout, options, stack)
        for kind in KEYS
    ]
    if options.unsigned:
        layout = replace(layout, projections=unsigned(layout.projections))
        references = [part.each(unsigned) for part in references]
    _, dark = references
    pixels = layout.projections.pixels
    n_angles, (n_rows, n_cols) = len(layout.projections.index), pixels.shape[1:]
    if dark.location != ABSENT and not len(dark.positions):
        warnings.append("darks never written: 0 assumed")
    chosen = _choose(layout, options)
    if beyond := [span for span in options.skip_projections if np.min(span) >= n_angles]:
        listed = ", ".join(map(str, beyond))
        last = n_angles - 1
        warnings.append(f"input.skip_projections: {listed}: the scan has projections 0 to {last}")
    first, last = first_and_last("input.columns", options.columns, n_cols, "columns of")
    columns = first, last + 1
    n_written, missing = _count_written(layout, chosen)
    if missing and n_written == n_angles:
        warnings.append(missing)
        missing = ""
    width, ratio = layout.pixel_size_um, 1.0
    if width and width.value and abs(width.ratio - 1) > SAME_NUMBER:
        ratio = width.ratio
        warnings.append(
            f"{NOT_SQUARE}{width.value:.4g} um wide, {ratio * width.value:.4g} um high "
            f"({width.location}): slices are as wide as that and as far apart, and RELION gets no "
            "stack. If they are square, set input.pixel_size_um"
        )
    moves, moves_in_units = describe_motion(
        layout.sample_positions, chosen, width.value if width else None, PIXEL_SIZE_UM.factors
    )
    warnings += [*moves, *moves_in_units]
    numbers = {name: getattr(layout, name) for name in NUMBERS}
    covered_deg = layout.covered_deg
    if layout.theta_deg is not None and not layout.is_spread:
        covered_deg = span_deg(layout.theta_deg)
    metadata = Metadata(
        format=layout.format,
        n_angles=n_angles,
        n_rows=n_rows,
        n_cols=n_cols,
        columns=columns,
        chosen=chosen,
        dtype=str(pixels.dtype),
        theta_deg=layout.theta_deg,
        theta_location=layout.theta_counted or layout.theta_location,
        theta_listed=layout.theta_listed,
        axes=options.axes,
        covered_deg=covered_deg,
        n_written=n_written,
        data_bytes=n_angles * n_rows * n_cols * pixels.dtype.itemsize,
        pixel_ratio=ratio,
        height_mm=layout.height_mm,
        aborted=layout.aborted or missing,
        found=_describe(layout, chosen, columns, references),
        warnings=tuple(warnings),
        stated_motion=moves,
        **{name: number and number.value for name, number in numbers.items()},
    )
    cut = partial(cut_columns, columns=columns)
    return metadata, cut(layout.projections), [part.each(cut) for part in references]


def _check_unit(layout: Layout, options: InputBlock) -> list[str]:
    """Raise where angles cannot be degrees; return a warning where they may not be."""
    refuse_unknown_unit(layout.theta_location, layout.warnings)
    if layout.theta_deg is None or options.angle_unit != "auto":
        return []
    in_rad = any(text.startswith(f"{UNIT_OF_FILE}rad") for text in layout.warnings)
    fault, warning = other_unit(layout.theta_deg, in_rad=in_rad)
    if fault:
        raise ScanFaultError(f"{fault} ({layout.theta_location})")
    return [warning] if warning else []


def _count_written(layout: Layout, chosen: NDArray[np.intp]) -> tuple[int, str]:
    """Count the leading projections written, but for those not in use; name what is missing."""
    written, sources = layout.projections.written, layout.missing_sources
    n, missing = len(written), chosen[~written[chosen]]
    before = np.flatnonzero(written[: missing[0]] if len(missing) else np.ones(n))
    n_leading = int(np.max(before, initial=-1)) + 1
    if sources:
        more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
        n_missing = int(np.count_nonzero(~written))
        frames = f": {n_missing} of {n} frames are missing; copy it there" * (n_missing > 0)
        return n_leading, f"{sources[0]}{more} cannot be opened{frames}"
    # a few among others: an aborted scan has none after the first missing one
    are_few = 0 < 2 * len(missing) < len(chosen)
    if not are_few or not written[chosen[chosen > missing[0]]].any():
        return n_leading, ""
    if len(missing) == 1:
        which, them = f"frame {missing[0]} of {n} was", "it"
    else:
        which, them = f"{len(missing)} of {n} frames were", "them"
    return n_leading, f"{which} not written: {skipping(missing)} leaves {them} out"


def _refuse_implausible(layout: Layout) -> None:
    """Raise if numbers of the file are out of range, each with the key that replaces it."""
    faults = [
        f"{number.label} {fault} ({result.location}); set input.{name}"
        for name, number in NUMBERS.items()
        if (result := getattr(layout, name))
        and result.value
        and (fault := implausible(name, result.value))
    ]
    if faults:
        raise ScanFaultError("; ".join(faults))


def _choose(layout: Layout, options: InputBlock) -> NDArray[np.intp]:
    """Return the projections in use, by number; `skip_angles` count modulo 360."""
    n_angles = len(layout.projections.index)
    in_use = np.arange(n_angles) % options.every == 0
    for span in options.skip_projections:
        first, last = span if isinstance(span, Sequence) else (span, span)
        in_use[first : last + 1] = False
    theta_deg = np.full(n_angles, np.nan)
    if layout.theta_deg is not None:
        angles = layout.theta_deg[:n_angles]
        theta_deg[: len(angles)] = angles
    for first_deg, last_deg in options.skip_angles:
        beyond = np.mod(theta_deg - (first_deg - _ROUNDING_DEG), 360)
        in_use &= ~(beyond <= last_deg - first_deg + 2 * _ROUNDING_DEG)
    if n_angles and not in_use.any():
        raise ScanFaultError(
            f"none of {n_angles} projections is in use: input.every, "
            "input.skip_angles and input.skip_projections skip all of them"
        )
    return np.flatnonzero(in_use)


def _describe(
    layout: Layout,
    chosen: NDArray[np.intp],
    columns: IndexRange,
    references: Sequence[References],
) -> str:
    """Return where each quantity is in one line, without numbers that differ from scan to scan."""
    angles = "none"
    if layout.theta_deg is not None:
        finite = layout.theta_deg[np.isfinite(layout.theta_deg)]
        angles = f"{layout.theta_location}, {np.ptp(finite) if len(finite) else 0:.0f} degrees"
    parts = [layout.format, f"projections {layout.location}", f"angles {angles}"]
    if len(chosen) < (n_angles := len(layout.projections.index)):
        parts.append(f"{len(chosen)} of {n_angles} projections in use")
    if columns != (0, n_cols := layout.projections.pixels.shape[2]):
        parts.append(f"columns {columns[0]} to {columns[1] - 1} of {n_cols} in use")
    for kind, part in zip(KEYS, references, strict=True):
        n_sets = len(np.unique(part.positions)) if kind == "flats" else 1
        sets = f" in {n_sets} sets" if n_sets > 1 else ""
        n = len(part.positions)
        frames = f", {n} frame{'s' * (n != 1)}{sets}" * (part.location != ABSENT)
        parts.append(f"{kind} {part.location}{frames}")
    missing = []
    for name, number in NUMBERS.items():
        if result := getattr(layout, name):
            value = result.fault or f"{result.value:.4g} {number.unit}"
            parts.append(f"{number.label} {value}, {result.location}")
        else:
            missing.append(number.label)
    if missing:
        parts.append(f"not found: {', '.join(missing)}")
    parts += layout.notes
    return "; ".join(parts)
