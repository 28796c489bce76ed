"""The formats of volumes: one row for each, and the module that the row names."""

from importlib import import_module
from typing import Any, Literal, NamedTuple

from tomopipe.errors import TomopipeError


class VolumeFormat(NamedTuple):
    """A format of volumes."""

    # module of tomopipe.volumes with `store`, `read`, `read_planes` and `read_provenance`
    module: str
    # endings of the names of volumes, and of those made by `tomopipe convert`
    ending: str
    converted: str
    compressions: tuple[str, ...]
    mark: str = ""  # file by which a folder is recognised; "" of HDF5, the only one that is a file
    has_levels: bool = False  # has smaller levels, instead of averages for the preview
    deflates: bool = False  # whether gzip compresses many slices at once
    package: str = ""  # further package needed, an extra of this name
    zarr_version: Literal[2, 3] = 3

    def load(self) -> Any:
        """Import the module."""
        return import_module(f"tomopipe.volumes.{self.module}")

    def check_package(self, key: str = "full_recon.output") -> None:
        """Raise a TomopipeError, on an option, if the package cannot be imported."""
        try:
            if self.package:
                import_module(self.package)
        except ImportError as error:
            raise TomopipeError(
                f"{key}: the package {self.package} cannot be imported: {error}. "
                f"pip install 'tomopipe[{self.package}]', or leave the option out."
            ) from error


ALL_COMPRESSIONS = ("none", "gzip", "lz4", "zstd", "bitshuffle")
FORMATS = {
    "h5": VolumeFormat(
        "volume_h5", "_rec.h5", "_converted.h5", ALL_COMPRESSIONS, deflates=True
    ),
    "tiff": VolumeFormat(
        "tiff", "_rec", "_converted", ("none", "gzip"), "provenance.json"
    ),
    "zarr": VolumeFormat(
        "volume_zarr", "_rec.zarr", "_converted.zarr", ALL_COMPRESSIONS, "zarr.json",
        has_levels=True, package="zarr",
    ),
}  # fmt: skip
OUTPUTS = (*FORMATS,)
"""Values of `full_recon.output`."""
# with full_recon.zarr_version: 2, under the same names
FORMATS["zarr2"] = FORMATS["zarr"]._replace(mark=".zattrs", zarr_version=2)
IN_TIME = "zarr"
"""The format of volumes in time."""
COMPRESSIONS = {name: each.compressions for name, each in FORMATS.items()}
