"""The blocks of what a campaign reads: its scans, their files, the inventory; shared types.

Each has keys, types, ranges, defaults and meanings. Those of the steps that find the COR are in
`cor_blocks`, of the others in `step_blocks`.
"""

import re
from itertools import groupby
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from tomopipe.config.base import (
    Block,
    FilePattern,
    Text,
    TwoNumbers,
    is_dataset,
    not_carried,
    option,
)


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
FrameRun = Annotated[str, Field(pattern=r"^[1-9]\d{0,6} +(projections?|flats?|darks?|invalid)$")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    Field(
        description="auto: a GPU with room for 4 slices, else the CPU; cuda: a GPU, else an error.",
        json_schema_extra={"only": False},
    ),
]


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


class ScanNumbers(Block):
    """A block with some of `NUMBERS`."""

    @field_validator(*NUMBERS, check_fields=False)
    @classmethod
    def _plausible(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and (fault := implausible(info.field_name or "", value)):
            raise ValueError(fault)
        return value


class Windows(Block):
    """Time points as numbers of projections: of angles that follow no simple order, or overlap."""

    n_angles: int = Field(ge=2, description="Projections of each time point.")
    step: int | None = option(
        None, "Projections from one to the next; null: n_angles, fewer overlap.", ge=1
    )
    start: int = option(0, "The first projection in use, counted from 0.", ge=0)


Turns = Literal[180, 360] | Windows


class ScanGlob(Block):
    """Scans of one folder, with a prefix that keeps equal file names of several folders apart."""

    glob: str = Field(min_length=1, description="File name pattern, relative to the campaign.")
    prefix: str = option("", "Put before the file stem to make the scan's name.")
    entries: Literal["all"] | Annotated[list[Text], Field(min_length=1)] | None = option(
        None,
        "Entries of each NXtomo file, or groups of DXchange, that are scans of their own, "
        "sample@0003: all, or their names "
        "or patterns; null: a file is one scan.",
    )
    turns: Turns | None = option(
        None,
        "Time points of each HDF5 file that are scans of their own, sample@t0003: every 180 or 360 "
        "degrees that the stage turns, or {n_angles: 200} projections (golden ratio, interlaced), "
        "with step and start if wanted; null: a file is one scan.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.entries and self.turns:
            raise ValueError("entries and turns: set one of them")
        return self


class CampaignBlock(Block):
    """The scans of the campaign, and its folders."""

    scans: list[str | ScanGlob] = Field(
        min_length=1,
        description="Files, folders of TIFF files (tiff/*/), or patterns, or `{glob: day1/*.h5, "
        "prefix: day1_}`, `{glob: in_situ/*.nx, entries: all}`, `{glob: fast/*.h5, turns: 180}`; "
        "relative to the campaign folder. Required.",
    )
    table: str | None = option(None, "The campaign table; null: scans.tsv if it exists.")
    results: Text = option("results", "Folder of all results, inside the campaign folder.")
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
    scratch: Text | None = option(None, "Folder for large temporary files; null: the system's.")
    share_frames: bool = option(
        True,
        "Frames of time points that overlap are read once for all their volumes, and lie in "
        "results/.runs meanwhile, not compressed. false: each volume reads its own.",
    )
    keep_try: bool | None = option(
        None,
        "Keep try stacks (try.tif) and try slices of scans whose COR is accepted or set; else "
        "they are removed at the end of a run or by `tomopipe clean`. null: only where "
        "try_recon.format is tiff.",
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


class InputBlock(ScanNumbers):
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
    window: RowRange | None = option(
        None,
        "[first, last], both included: only these projections are the scan, the first of the file "
        "is 0; `turns` of campaign.scans sets it for each time point.",
    )
    every: int = option(1, "Use every n-th projection.", ge=1)
    average: int = option(
        1,
        "Use the mean of each n neighbouring projections, and of their angles; groups that are not "
        "complete are left out.",
        ge=1,
    )
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

    @property
    def angle_list(self) -> str:
        """The file of angles that `angles` names, "" if none."""
        angles = self.angles
        return angles if isinstance(angles, str) and not is_dataset(angles) else ""


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
