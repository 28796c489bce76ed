"""The blocks of the steps after the CORs, and of a run: keys, types, ranges, defaults, meanings."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tomopipe.config.base import (
    Block,
    Text,
    TwoNumbers,
    endless_tail,
    not_carried,
    option,
)
from tomopipe.config.blocks import Device, RowRange, ScanNumbers
from tomopipe.volume_formats import ALL_COMPRESSIONS, COMPRESSIONS, OUTPUTS

FILTERS = ("ramp", "shepp-logan", "cosine", "hann", "hamming", "parzen", "butterworth")
Rows = Annotated[
    Literal["all"] | RowRange, Field(description="all, or [first, last], both included.")
]
ITERATIONS = {"sirt": 100, "cgls": 15, "tv": 100}  # suitable for most scans


class FullReconBlock(Block):
    """The volumes."""

    algorithm: Literal["fbp", "sirt", "cgls", "tv"] = option(
        "fbp",
        "Filtered back-projection; sirt, cgls and tv iterate: for tens of projections, "
        "on the CPU, slow.",
    )
    iterations: Annotated[int, Field(ge=1)] | None = option(
        None,
        f"null: the default of the algorithm ({', '.join(map(str, ITERATIONS.values()))}).",
        only={"algorithm": ["sirt", "cgls", "tv"]},
    )
    tv_strength: float = option(
        3e-3,
        "Weight of the total variation: more for noisier data.",
        gt=0,
        only={"algorithm": ["tv"]},
    )
    filter: Literal[FILTERS] = option(  # type: ignore[valid-type]
        "ramp", "Filter of the back-projection (fbp).", only={"algorithm": ["fbp"]}
    )
    rows: Rows = "all"
    crop_x: Literal["all"] | RowRange = option(
        "all",
        "Columns of the slices: all, or [first, last], both included (voxels of the "
        "unbinned slice).",
    )
    crop_y: Literal["all"] | RowRange = option(
        "all", "Rows of the slices (not of the detector): like crop_x."
    )
    binning: int = option(1, "Average blocks of n x n pixels first.", ge=1)
    output: Literal[OUTPUTS] = option(  # type: ignore[valid-type]
        "h5", "HDF5 file, TIFF series, or OME-Zarr (needs tomopipe[zarr])."
    )
    zarr_version: Literal[3, 2] = option(
        3,
        "3: OME-Zarr 0.5. 2: OME-Zarr 0.4, for older programs; a file for each chunk. Also of "
        "volumes in time.",
        only={"output": ["zarr"]},
    )
    compression: Literal[ALL_COMPRESSIONS] = option(  # type: ignore[valid-type]
        "none",
        "Lossless. Worthwhile for uint8 and uint16; TIFF: none or gzip. lz4, zstd and "
        "bitshuffle in HDF5 need hdf5plugin to be read.",
    )
    dtype: Literal["float32", "float16", "uint16", "uint8"] = option(
        "float32",
        "Number type of the volume, which is computed in float32; value = offset + scale * stored, "
        "both recorded.",
    )
    value_range: Literal["auto", "campaign"] | TwoNumbers = option(
        "auto",
        "Values of the smallest and the largest uint8 or uint16, in `unit`: [low, "
        "high]; auto: of each volume, from 8 slices; campaign: one for all, from the sweeps that "
        "exist when the first volume is made.",
        only={"dtype": ["uint16", "uint8"]},
    )
    unit: Literal["per_pixel", "per_cm"] = option(
        "per_pixel", "Attenuation per unbinned pixel, or per cm (needs the pixel size)."
    )

    device: Device = "auto"

    @property
    def stored_format(self) -> str:
        """One of `FORMATS`."""
        return "zarr2" if (self.output, self.zarr_version) == ("zarr", 2) else self.output

    def half_acquisition(self, mode: str) -> str:
        """Return the mode of half acquisition, auto, yes or no, of volumes by this algorithm."""
        # other algorithms keep the detector's width
        return mode if self.algorithm == "fbp" else "no"

    @field_validator("compression")
    @classmethod
    def _of_the_format(cls, value: str, info: ValidationInfo) -> str:
        output = info.data.get("output", "h5")
        if value not in COMPRESSIONS[output]:
            one = " or ".join(COMPRESSIONS[output])
            raise ValueError(f"must be {one} for output: {output}")
        return value

    @field_validator("value_range")
    @classmethod
    def _low_below_high(cls, value: str | list[float]) -> str | list[float]:
        if not isinstance(value, str) and not value[0] < value[1]:
            raise ValueError("must be [low, high] with low < high")
        return value


class StitchBlock(Block):
    """Scans as one volume: of one sample at several heights (stitched), or in time."""

    stacks: dict[str, list[str]] = option(
        {},
        "Name of each stack and its scans in order of height, upwards or downwards: "
        "names, or patterns such as bone_* (in order of their numbers). Neighbours overlap.",
    )
    time: dict[str, Annotated[str | list[str], Field(union_mode="left_to_right")]] = option(
        {},
        "Name of each volume in time, and its scans in order of time: a series (of a file with "
        "many entries or time points its name), or names and patterns as in stacks.",
    )
    direction: Literal["auto", "down", "up"] = option(
        "auto",
        "Whether each scan continues the one before it towards higher detector rows "
        "(down) or lower ones (up); auto: measured.",
    )
    overlap_rows: float | None = option(
        None, "Detector rows that neighbours share, to 10 rows or a tenth; null: measured.", gt=0
    )
    match_intensity: bool = option(
        False, "Fit gain and offset of each scan to those before it, in the overlap."
    )

    @property
    def names(self) -> tuple[str, ...]:
        """All that are made: stacks, and volumes in time."""
        return (*self.stacks, *self.time)

    @model_validator(mode="after")
    def _apart(self) -> "StitchBlock":
        if both := sorted({*self.stacks} & {*self.time}):
            raise ValueError(
                f"{both[0]} is in stacks and in time: give one of them another name, as both are "
                "files of one folder"
            )
        return self

    @field_validator("stacks", "time")
    @classmethod
    def _names_of_files(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            bad = re.search(r"[/\x00-\x1f\x7f]", name) or not_carried(name) or endless_tail(name)
            if not name.strip() or name.startswith(".") or bad:
                raise ValueError(
                    f"the name of stack {name!r} becomes a file's: it must not be empty, begin "
                    "with a dot, contain / , { } <word> or control characters, or end in one text "
                    "20 times"
                )
        return value


ASSUMED = {"pixel_size_um": 1.0, "energy_kev": 20.0}
"""Values in RELION's set for numbers that neither file nor configuration has."""


class ExportStarBlock(ScanNumbers):
    """The export for RELION."""

    enabled: bool | Literal["auto"] = option(
        "auto",
        "Write results/relion/; auto: if another key of this block is set, or an earlier run wrote "
        "a set.",
    )
    pixel_size_um: float | None = option(
        None, "Pixel size (micrometres); null: the file's, else 1 with a warning.", gt=0
    )
    energy_kev: float | None = option(
        None, "Photon energy (keV); null: the file's, else 20 with a warning.", gt=0
    )
    binning: Literal["auto"] | Annotated[int, Field(ge=1)] = option(
        "auto",
        "auto: one for all scans, decided with the first stack: the smallest that "
        "keeps each under max_stack_gb; a later scan that needs more gets more.",
    )
    max_stack_gb: float = option(4, "Largest stack (10^9 bytes).", gt=0)
    rows: Rows = "all"
    max_tilts: Literal["all"] | Annotated[int, Field(ge=1)] = option(
        "all", "Largest number of projections in a stack, evenly chosen."
    )
    hand: Literal[-1, 1] = option(-1, "rlnTomoHand.")


class ReportBlock(Block):
    """The report."""

    enabled: bool = option(True, "Write results/report/index.html.")


class WatchBlock(Block):
    """`tomopipe run --watch`: when a file is complete."""

    settle_s: float = option(
        10.0,
        "A file is complete after this time without change (s), or once FILE.done is beside it.",
        ge=0,
    )


class HooksBlock(Block):
    """Shell commands that a run starts in the campaign folder, with JSON on standard input."""

    on_scan: Text | None = option(
        None, "For each scan, once its COR is decided, and once its volume is made."
    )
    on_doubtful: Text | None = option(
        None, "For each scan whose COR is decided and that a person has to check."
    )
    on_failure: Text | None = option(None, "At the end of a run of which jobs have failed.")
    on_end: Text | None = option(None, "At the end of every run that had jobs.")
    time_limit_s: float = option(30.0, "A call that takes longer is killed (s).", gt=0)

    @property
    def commands(self) -> dict[str, str | None]:
        """The command of each hook."""
        names = ("on_scan", "on_doubtful", "on_failure", "on_end")
        return {name: getattr(self, name) for name in names}
