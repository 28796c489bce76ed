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

from tomopipe.config import InputBlock, PreprocessBlock, with_skipped
from tomopipe.errors import LibraryError, PixelsError, ScanError, library_error, naming, own_error
from tomopipe.scans.formats import Path, format_of
from tomopipe.scans.hdf5 import one_line
from tomopipe.scans.layout import KEYS, Reader
from tomopipe.scans.layout_options import with_options
from tomopipe.scans.metadata import (
    IN_ORDER,
    NO_ANGLES,
    Metadata,
    incomplete,
    metadata_of,
    whole_groups,
)
from tomopipe.scans.pixels import Frames, cut_columns, unsigned
from tomopipe.scans.references import References, find_references, unused_references
from tomopipe.scans.scan import Scan
from tomopipe.scans.shared_frames import Stored, shared_frames

Sources = Path | Sequence[Path] | None


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
    # file with frames that another job has read for this scan and others (`shared_frames`)
    shared: Path | None = None

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
            written = metadata.present[metadata.present < len(theta_deg)]
            frames = whole_groups(written[np.isfinite(theta_deg[written])], self.input)
            if len(frames) == 0:
                remedy = reason or "leave it out (`select: no`)"
                raise ScanError(f"{self.path}: no frame can be used; {remedy}")
            stored = Stored(projections, *references)
            projections, *references = stack.enter_context(shared_frames(self.shared, stored))
            try:
                yield Scan(metadata, projections, frames, *references)
            except PixelsError as error:  # it advises to skip projections
                text = with_skipped(str(error), self.input.skip_projections)
                raise PixelsError(text) from error

    def metadata(self) -> Metadata:
        """Read the metadata, without the pixels; any fault of the scan is a ScanError."""
        with ExitStack() as stack:
            return self._examine(stack)[0]

    def _examine(self, stack: ExitStack) -> tuple[Metadata, Frames, list[References]]:
        """Return the metadata, the projections, flats and darks; `stack` closes their files."""
        options = self.input
        try:
            with naming(self.path):
                reader: Reader = format_of(self.path).load().open_reader(self.path, options, stack)
                layout = reader.layout()
                references = [
                    find_references(
                        reader, kind, getattr(self.preprocess, kind), layout, options, stack
                    )
                    for kind in KEYS
                ]
                unused = unused_references(reader, self.path, self.preprocess)
                layout = replace(layout, notes=(*layout.notes, *unused))
                if options.unsigned:
                    layout = replace(layout, projections=unsigned(layout.projections))
                    references = [part.each(unsigned) for part in references]
                layout = with_options(layout, options)
                references = [part.counted_from(layout.first) for part in references]
                metadata = metadata_of(layout, references, options)
                cut = partial(cut_columns, columns=metadata.columns)
                return metadata, cut(layout.projections), [part.each(cut) for part in references]
        except (ScanError, LibraryError):
            raise
        except Exception as error:
            if fault := library_error(error):
                raise fault from error
            # Broken files raise nearly anything from nearly anywhere.
            fault_text = own_error(error) or f"broken file ({one_line(error)}): copy it again"
            raise ScanError(f"{self.path}: {fault_text}") from error
