"""The blocks of the configuration, one per step: keys, types, ranges, defaults, meanings."""

import re
from itertools import groupby
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from tomopipe.config.base import (
    Block,
    FilePattern,
    Text,
    TwoNumbers,
    endless_tail,
    not_carried,
    option,
)
from tomopipe.cor_methods import COR_METHODS
from tomopipe.volume_formats import ALL_COMPRESSIONS, COMPRESSIONS, FORMATS

FILTERS = ("ramp", "shepp-logan", "cosine", "hann", "hamming", "parzen", "butterworth")


def _ascending(span: list[Any]) -> list[Any]:
    if span[0] > span[1]:
        raise ValueError("must be [first, last] with first <= last")
    return span


_ASCENDING = AfterValidator(_ascending)
Fraction = Annotated[float, Field(ge=0, le=1)]
RowNumber = Annotated[int, Field(ge=0)]
RowRange = Annotated[list[RowNumber], Field(min_length=2, max_length=2), _ASCENDING]
AngleSpan = Annotated[TwoNumbers, _ASCENDING]
Axes = Annotated[list[Literal["angle", "row", "col"]], Field(min_length=3, max_length=3)]
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
FrameRun = Annotated[str, Field(pattern=r"^[1-9]\d{0,6} +(projections?|flats?|darks?|invalid)$")]


class Number(NamedTuple):
    """A number of a scan: its name and unit, plausible range, and other likely units."""

    label: str
    unit: str
    least: float
    most: float
    others: dict[str, float]  # with the factor that converts to `unit`


NUMBERS = {
    "pixel_size_um": Number("pixel size", "um", 0.005, 200, {"nm": 1e-3, "mm": 1e3, "m": 1e6}),
    "energy_kev": Number("energy", "keV", 0.1, 10_000, {"eV": 1e-3, "MeV": 1e3}),
    "distance_mm": Number("distance", "mm", 0.5, 200_000, {"um": 1e-3, "m": 1e3}),
}
"""Keys of `input` that phase retrieval uses; attenuation per cm uses the first. No other voxels
depend on them."""
_NEUTRONS_KEV = 1e-3


def implausible(name: str, value: float) -> str:
    """Describe an implausible value of `NUMBERS`, with its likely unit; "" if it is plausible."""
    _, unit, least, most, others = NUMBERS[name]
    is_of_neutrons = name == "energy_kev" and value <= _NEUTRONS_KEV
    if least <= value <= most or is_of_neutrons:
        return ""
    units = (other for other, factor in others.items() if least <= value * factor <= most)
    hint = "".join(f"; is it in {other}?" for other in [*units][:1])
    return f"{value:.6g} {unit} is implausible (expected {least:g} to {most:g}){hint}"


class _Numbers(Block):
    """A block with some of `NUMBERS`."""

    @field_validator(*NUMBERS, check_fields=False)
    @classmethod
    def _plausible(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and (fault := implausible(info.field_name or "", value)):
            raise ValueError(fault)
        return value


class ScanGlob(Block):
    """Scans of one folder, with a prefix that keeps equal file names of several folders apart."""

    glob: str = Field(min_length=1, description="File name pattern, relative to the campaign.")
    prefix: str = option("", "Put before the file stem to make the scan's name.")


class CampaignBlock(Block):
    """The scans of the campaign, and its folders."""

    scans: list[str | ScanGlob] = Field(
        min_length=1,
        description="Files, folders of TIFF files (tiff/*/), or patterns, or `{glob: day1/*.h5, "
        "prefix: day1_}`; relative to the campaign folder. Required.",
    )
    table: str | None = option(None, "The campaign table; null: scans.tsv if it exists.")
    results: Text = option("results", "Folder of all results.")
    name: str | None = option(None, "Title of the report; null: the folder's name.")

    @field_validator("results")
    @classmethod
    def _a_subfolder(cls, value: str) -> str:
        plain = value.rstrip("/")
        if plain.startswith(("/", "~")) or set(plain.split("/")) & {"", ".", ".."}:
            raise ValueError("must be a folder inside the campaign folder, such as results")
        if bad := not_carried(plain):
            raise ValueError(f"must not contain {' '.join(bad)}")
        return plain


class StorageBlock(Block):
    """Folders of sidecars and temporary files."""

    sidecars: Text = option(
        "beside",
        "Folder of the sidecars `<scan>.cor.json`; beside: next to each HDF5 file "
        "(results/sidecars where that folder is read-only).",
    )
    scratch: str | None = option(None, "Folder for large temporary files; null: the system's.")
    keep_try: bool = option(
        True,
        "false: the try stack of a scan is removed once the scan is accepted, at the "
        "end of a run or by `tomopipe clean`.",
    )
    keep_stacks: bool = option(
        True, "false: `tomopipe clean` removes the RELION stack of a scan that is accepted."
    )

    @field_validator("sidecars")
    @classmethod
    def _in_a_path(cls, value: str) -> str:
        if bad := not_carried(value.replace(",", "")):  # a comma does no harm here
            raise ValueError(f"must not contain {' '.join(bad)}")
        return value


class AngleRange(Block):
    """Angles at equal steps: start and stop, or start and step."""

    start: float = option(0.0, "Angle of the first projection (degrees).")
    stop: float | None = option(None, "Angle of the last projection (degrees).")
    step: float | None = option(None, "From each projection to the next (degrees).")

    @model_validator(mode="after")
    def _either(self) -> "AngleRange":
        if (self.stop is None) == (self.step is None):
            raise ValueError("needs either stop (angle of the last projection) or step")
        if self.step == 0 or self.stop == self.start:
            raise ValueError("must go from one angle to another")
        return self


_WITH_DATA = {"data": {"not": None}}


class PathsBlock(Block):
    """Locations of the parts of a scan in an HDF5 file whose layout is not recognised."""

    data: Text | None = option(
        None,
        "Dataset of the frames (/entry/data/data); with it the file is read by these "
        "keys alone; null: the layout is recognised.",
    )
    flats: Text | None = option(
        None,
        "Dataset of the flats, of the file that preprocess.flats names; of the scan "
        "where paths.data is set.",
    )
    darks: Text | None = option(None, "Dataset of the darks, likewise.")
    angles: Text | None = option(
        None,
        "Dataset of the angles, one per frame of data or one per projection; null: "
        "found by name, unit and number. input.angles takes precedence.",
        only=_WITH_DATA,
    )
    image_key: Text | None = option(
        None,
        "Dataset of the kind of each frame of data: 0 projection, 1 flat, 2 dark, "
        "3 invalid; null: all are projections.",
        only=_WITH_DATA,
    )

    @field_validator("*")
    @classmethod
    def _from_the_root(cls, value: str | None) -> str | None:
        return value and "/" + value.strip("/")

    @model_validator(mode="after")
    def _with_data(self) -> Self:
        of_the_scan = self.model_dump(exclude_none=True).keys() - {"flats", "darks"}
        if self.data is None and of_the_scan:
            raise ValueError("needs data, the dataset of the frames")
        return self


class InputBlock(_Numbers):
    """Metadata that raw files lack or state wrongly."""

    paths: PathsBlock = option(
        PathsBlock(), "Datasets of HDF5 files whose layout is not recognised."
    )
    axes: Axes = option(
        ["angle", "row", "col"],
        "Order of the axes of a DXchange file, of the datasets that input.paths "
        "names, or of TIFF images: number, rows, columns ([row, angle, col]: sinograms, one "
        "file per row; [angle, col, row]: the axis lies horizontally in the frames).",
    )
    frames: Annotated[list[FrameRun], Field(min_length=1)] | None = option(
        None,
        "Kinds of the frames of a TIFF scan, or of input.paths.data, if one series "
        "has all kinds: [10 darks, 50 flats, 900 projections, 50 flats], in the order of the "
        "frames; invalid ones are skipped. Takes precedence over input.paths.image_key.",
    )
    entry: Text | None = option(
        None,
        "NXtomo entry to read (its path), or the detector in it, if a file has "
        "several; null: the only one.",
    )
    mirrored: Literal["file", "no"] = option(
        "file",
        "file: frames of an NXtomo detector that states that it mirrored them are "
        "mirrored back; no: they are used as recorded.",
    )
    angles: AngleRange | Annotated[FilePattern, Field(min_length=1)] | None = option(
        None,
        "Angles (degrees): {start: 0, stop: 360} (of the first and the last "
        "projection), {start: 0, step: 0.5}, a dataset of the scan's HDF5 file (/entry/my_angles), "
        "or a text or CSV file with one per projection, for all scans or by a pattern such as "
        "angles/{scan}.txt; null: the scan's own.",
    )
    angle_unit: Literal["auto", "deg", "rad", "mrad", "mdeg", "arcmin", "arcsec"] = option(
        "auto",
        "Unit of the angles; auto: the one stated in the file, else degrees. A scan whose "
        "angles cannot be degrees, or have an unknown unit, is skipped until this key is set.",
    )
    unsigned: bool = option(
        False,
        "true: whole numbers of a signed type are those of the unsigned type, as counts above "
        "32767 that were stored as int16.",
    )
    pixel_size_um: float | None = option(
        None, "Pixel size in the sample (micrometres, 0.005 to 200); null: the file's.", gt=0
    )
    energy_kev: float | None = option(
        None, "Photon energy (keV, 0.1 to 10,000); null: the file's.", gt=0
    )
    distance_mm: float | None = option(
        None, "Sample to detector (mm, 0.5 to 200,000); null: the file's.", gt=0
    )
    columns: Literal["all"] | RowRange = option(
        "all",
        "Columns of the detector in use: all, or [first, last], both included; CORs "
        "are still columns of the whole detector (pixels).",
    )
    every: int = option(1, "Use every n-th projection.", ge=1)
    skip_angles: list[AngleSpan] = option(
        [],
        "[[first, last], ...], both included (degrees): projections at these angles "
        "are skipped, in every rotation.",
    )
    skip_projections: list[RowNumber | RowRange] = option(
        [], "Projections to skip: their numbers, the first is 0, or [first, last], both included."
    )

    @field_validator("frames")
    @classmethod
    def _spelled_alike(cls, value: list[str] | None) -> list[str] | None:
        """Normalise the spelling, so that another spelling remakes nothing."""
        runs = [run.split() for run in value or ()]
        spelled = []
        for kind, equal in groupby(runs, lambda run: run[1].removesuffix("s")):
            number = sum(int(number) for number, _ in equal)
            spelled.append(f"{number} {kind}" + "s" * (kind != "invalid"))
        if spelled and not any(run.endswith("projections") for run in spelled):
            raise ValueError("must count projections")
        return spelled or None

    @field_validator("axes")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("must have angle, row and col, in any order")
        return value


#: `_0000` after a number is of the ESRF, in bone_001_0000: scan 1 of bone.
SERIES_PATTERN = r"^(.*?)[._-]*(\d+)(?:_0000)?$"


class InventoryBlock(Block):
    """Which scans are valid, and which belong together."""

    series_pattern: str = option(
        SERIES_PATTERN,
        "Regular expression on the scan's name: group 1 the series, group 2 the index.",
    )
    min_fraction: Fraction = option(
        0.5,
        "A scan with fewer projections than this share of its series' usual number is "
        "skipped, if its angles cover less than 170 degrees or it has none.",
    )

    @field_validator("series_pattern")
    @classmethod
    def _two_groups(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        if groups != 2:
            raise ValueError(f"needs two groups, series and index; has {groups}")
        return value


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


class PredictCorBlock(Block):
    """The prediction of the COR."""

    when: Literal["missing", "always"] = option(
        "missing",
        "missing: no sweep and no prediction of a scan whose COR is in the campaign table; always: "
        "of every scan.",
        only=False,
    )
    methods: list[Literal[(*COR_METHODS,)]] = option(  # type: ignore[valid-type]
        ["ai"],
        "Methods in order: the first confident one wins, unless another contradicts "
        "it. []: none, CORs are set by hand or resolve_cor: default_px.",
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
    output: Literal[(*FORMATS,)] = option(  # type: ignore[valid-type]
        "h5", "HDF5 file, TIFF series, or OME-Zarr (needs tomopipe[zarr])."
    )
    compression: Literal[ALL_COMPRESSIONS] = option(  # type: ignore[valid-type]
        "none",
        "Lossless. Worthwhile for uint8 and uint16; TIFF: none or gzip. lz4, zstd and "
        "bitshuffle in HDF5 need hdf5plugin to be read.",
    )
    dtype: Literal["float32", "float16", "uint16", "uint8"] = option(
        "float32", "Number type of the volume; value = offset + scale * stored, both recorded."
    )
    value_range: Literal["auto"] | TwoNumbers = option(
        "auto",
        "Values of the smallest and the largest uint8 or uint16, in `unit`: [low, "
        "high], or auto: from 8 slices.",
        only={"dtype": ["uint16", "uint8"]},
    )
    unit: Literal["per_pixel", "per_cm"] = option(
        "per_pixel", "Attenuation per unbinned pixel, or per cm (needs the pixel size)."
    )

    device: Device = "auto"

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
    """Vertical stitching: scans of one sample at several heights, one volume for each stack."""

    stacks: dict[str, list[str]] = option(
        {},
        "Name of each stack and its scans in order of height, upwards or downwards: "
        "names, or patterns such as bone_* (in order of their numbers). Neighbours overlap.",
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

    @field_validator("stacks")
    @classmethod
    def _names_of_files(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
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


class ExportStarBlock(_Numbers):
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
    """Commands that are called on events."""

    on_scan: Text | None = option(
        None,
        "Shell command that `tomopipe run --watch` starts in the campaign folder for "
        "each new verdict, with it as JSON on stdin; ended after 30 s.",
    )
