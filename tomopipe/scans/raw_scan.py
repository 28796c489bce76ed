"""A raw scan for the steps: where it is, and how it is read and corrected."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tomopipe.config import InputBlock, PreprocessBlock, StepOptions
from tomopipe.scans.exchange import open_scan, read_metadata
from tomopipe.scans.metadata import Metadata
from tomopipe.scans.scan import Scan


@dataclass(frozen=True)
class RawScan:
    """A raw scan, and what the configuration says of it."""

    path: str | os.PathLike[str]  # an HDF5 or TIFF file, or a folder of TIFF files
    input: InputBlock = InputBlock()  # what the file does not say, or says wrongly
    # where flats and darks are, and how the projections are corrected
    preprocess: PreprocessBlock = PreprocessBlock()
    name: str = ""  # of the scan in its campaign; by default that of the file without its ending
    # use the frames that were really written, of a scan that has fewer than it claims
    partial: bool = False

    def open(self) -> AbstractContextManager[Scan]:
        """Open it as `open_scan` does."""
        return open_scan(
            self.path,
            flats=self.preprocess.flats,
            darks=self.preprocess.darks,
            options=self.input,
            partial=self.partial,
        )

    def metadata(self) -> Metadata:
        """Read all that there is to know but the pixels, as `read_metadata` does."""
        flats, darks = self.preprocess.flats, self.preprocess.darks
        return read_metadata(self.path, flats=flats, darks=darks, options=self.input)


def raw_scan(path: str | os.PathLike[str], options: StepOptions, **more: Any) -> RawScan:
    """Return a scan with the options of a step; `more` are other fields of `RawScan`."""
    return RawScan(path, options.input, options.preprocess, **more)
