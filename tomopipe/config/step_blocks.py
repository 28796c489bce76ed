"""The blocks of the steps after the inventory: keys, types, ranges, defaults, meanings."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from tomopipe.config.base import (
    Block,
    Text,
    TwoNumbers,
    endless_tail,
    not_carried,
    option,
)
from tomopipe.config.blocks import Fraction, RowNumber, RowRange, ScanNumbers
from tomopipe.cor_methods import METHODS, method_named, of_packages
from tomopipe.errors import TomopipeError
from tomopipe.volume_formats import ALL_COMPRESSIONS, COMPRESSIONS, OUTPUTS

FILTERS = ("ramp", "shepp-logan", "cosine", "hann", "hamming", "parzen", "butterworth")
Rows = Annotated[
    Literal["all"] | RowRange, Field(description="all, or [first, last], both included.")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    Field(
        description="auto: a GPU with room for 4 slices, else the CPU; cuda: a GPU, else an error.",
        json_schema_extra={"only": False},
    ),
]

_MOST_CANDIDATES = 10_000_000  # of a sweep, before those off the detector are left out


class TryReconBlock(Block):
    """The sweep of trial reconstructions over candidate CORs."""

    center_px: float | None = option(None, "Middle of the sweep (pixels); null: (n_cols - 1)/2.")
    width_px: float = option(50, "Sweep this far to each side (pixels).", ge=0)
    step_px: float = option(0.5, "Distance between candidates (pixels).", gt=0)
    row: Fraction | RowNumber | Annotated[list[Fraction | RowNumber], Field(min_length=1)] = option(
        0.5,
        "Detector row: a fraction of the height, a row number, or a list of them "
        "(the first is the one shown).",
        typed=True,
    )
    max_size_px: int = option(1024, "Slices wider than this are binned in try.tif (pixels).", ge=16)
    format: Literal["stack", "tiff"] = option(
        "stack", "stack: one try.tif; tiff: also full-size float32 TIFFs with TomoGUI's names."
    )
    device: Device = "auto"
    every: int = option(
        1,
        "Views of a file (`FILE@0003`) only: each n-th gets a sweep and a prediction, from the "
        "first one. The others take their COR from these, by fix_cor.",
        ge=1,
        only=False,
    )

    @model_validator(mode="after")
    def _fits_memory(self) -> "TryReconBlock":
        if (n_steps := 2 * self.width_px / self.step_px) > _MOST_CANDIDATES:
            raise ValueError(
                f"width_px {self.width_px:g} in steps of step_px {self.step_px:g} are "
                f"{n_steps:.2g} candidates; expected at most {_MOST_CANDIDATES:,}: set a smaller "
                "width_px or a larger step_px"
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> "TryReconBlock":
        if self.format == "tiff" and self.step_px < 0.01:
            raise ValueError("format: tiff names slices to 0.01 px: step_px must be 0.01 or more")
        return self


def _method(name: str) -> str:
    try:
        method_named(name)
    except TomopipeError as error:
        raise ValueError(str(error)) from error
    return name


Method = Annotated[str, AfterValidator(_method)]


class PredictCorBlock(Block):
    """The prediction of the COR."""

    when: Literal["missing", "always"] = option(
        "missing",
        "missing: no sweep and no prediction of a scan whose COR is in the campaign table; always: "
        "of every scan.",
        only=False,
    )
    methods: list[Method] = option(
        ["ai"],
        "Methods in order: the first confident one wins, unless another contradicts "
        "it. []: none, CORs are set by hand or resolve_cor: default_px. "
        f"{', '.join(METHODS)}, dinov2, or one of a package of your site "
        "(docs/how-to/own-correction.md).",
    )
    min_confidence: Fraction = option(0.5, "A prediction below this confidence is not accepted.")
    max_bad_frames: Fraction = option(
        0.1,
        "Reject the COR if more than this share of the projections is saturated, dark, "
        "constant or repeated; 1: never.",
    )
    model: Text = option(
        "shipped",
        "Network of the method ai: shipped, or weights of `tomopipe lab train` (lab/train.md).",
    )
    dinov2_checkpoint: Text | None = option(
        None,
        "Classifier of tomo-center or TomoCuPy that the method dinov2 runs; null: none "
        "(docs/how-to/dinov2.md).",
    )

    @property
    def own_networks(self) -> list[str]:
        """Network files of the configured methods."""
        weights = [] if self.model == "shipped" or "ai" not in self.methods else [self.model]
        dinov2 = self.dinov2_checkpoint if "dinov2" in self.methods else None
        return [*weights, dinov2] if dinov2 else weights

    def in_effect(self) -> Self:
        """Return the block without duplicates of methods."""
        return self.model_copy(update={"methods": list(dict.fromkeys(self.methods))})

    def stated_besides(self) -> dict[str, Any]:
        """Return what predictions state of methods of other packages."""
        stated = of_packages(self.methods)
        return {"packages": stated} if stated else {}

    @model_validator(mode="after")
    def _a_checkpoint_for_dinov2(self) -> "PredictCorBlock":
        if "dinov2" in self.methods and self.dinov2_checkpoint is None:
            raise ValueError(
                "the method dinov2 needs dinov2_checkpoint: the path of its classifier"
            )
        return self


class FixCorBlock(Block):
    """Outliers and gaps in the CORs of a series."""

    max_delta_px: float = option(
        50,
        "Upper bound of the limit max(10, 5 MAD): a COR farther than the limit from its series' "
        "median is an outlier (pixels).",
        gt=0,
    )
    protect_manual: bool = option(True, "Never replace a COR set by hand.")
    protect_confident: Annotated[float, Field(gt=0, le=1)] | None = option(
        0.95,
        "Never replace a prediction of at least this confidence: outside the limit it is doubtful, "
        "no neighbour and no donor. The default holds for the shipped network of ai alone, another "
        "number for every method and network; null: all are replaced.",
    )

    fill: Literal["best", "series"] = option(
        "best",
        "COR of a scan without one. series: by its neighbours, else the mean of its series. best: "
        "that, the line of the series, or scans at the same place, whichever errs least when CORs "
        "are left out; outliers are replaced only by something better.",
    )
    max_fill_error_px: float | None = option(
        None,
        "A scan stays without COR if the error of a filled one is larger (pixels); null: all are "
        "filled.",
        gt=0,
        only={"fill": ["best"]},
    )
    over_time: Literal["none", "constant", "line"] = option(
        "none",
        "Series of which all scans are views of one file (`FILE@0003`) only: constant or line over "
        "their numbers, robust, through the CORs of the file. Outliers are judged by their "
        "distance from it, and scans without a COR take it.",
        only={"fill": ["best"]},
    )

    @property
    def is_measured(self) -> bool:
        """Whether protect_confident is the default, which is measured for one network."""
        return self.protect_confident == FixCorBlock.model_fields["protect_confident"].default


class ResolveCorBlock(Block):
    """The COR that each scan is reconstructed with."""

    default_px: float | None = option(None, "COR of scans without one (pixels); null: none.", ge=0)
    on_missing: Literal["block", "skip"] = option(
        "skip",
        "A scan without a COR: skip leaves it out, and the exit status is 3; "
        "block stops the run before any volume.",
        only=False,
    )


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
