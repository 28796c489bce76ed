"""The configuration: one block per step, every key with its type, unit, range, default, meaning.

The defaults live here and nowhere else. `config/config.yaml` and `config/README.md` are made from
this module (``python -m tomopipe.config``) and a test holds the three together.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tomopipe.errors import TomopipeError

METHODS = ("pairs", "wedge", "mass", "slices", "sum")
CHECKPOINT_METHODS = ("dinov2",)
"""Finders that need a file that the user has."""
FILTERS = ("ramp", "shepp-logan", "cosine", "hann", "hamming", "parzen", "butterworth")
Fraction = Annotated[float, Field(ge=0, le=1)]
RowNumber = Annotated[int, Field(ge=0)]
RowRange = Annotated[list[RowNumber], Field(min_length=2, max_length=2)]
ValueRange = Annotated[list[float], Field(min_length=2, max_length=2)]


class Block(BaseModel):
    """A block of the configuration: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ScanGlob(Block):
    """Scans of one folder, with a prefix that keeps equal file names of several folders apart."""

    glob: str = Field(min_length=1, description="File name pattern, relative to the campaign.")
    prefix: str = Field("", description="Put before the file stem to make the scan's name.")


class CampaignBlock(Block):
    """Which scans, and where things go."""

    scans: list[str | ScanGlob] = Field(
        min_length=1,
        description="Files, folders of TIFF files (tiff/*/), or patterns, or `{glob: day1/*.h5, "
        "prefix: day1_}`; relative to the campaign folder. Required.",
    )
    table: str | None = Field(
        None, description="The campaign table; null: scans.tsv if it is there."
    )
    results: str = Field("results", min_length=1, description="Folder of all results.")
    name: str | None = Field(None, description="Title of the report; null: the folder's name.")

    @field_validator("results")
    @classmethod
    def _a_subfolder(cls, value: str) -> str:
        plain = value.rstrip("/")
        if plain.startswith(("/", "~")) or set(plain.split("/")) & {"", ".", ".."}:
            raise ValueError("must be a folder inside the campaign folder, such as results")
        if re.search(r"[{},]", plain):
            raise ValueError("must not contain { } or a comma")
        return plain


class StorageBlock(Block):
    """Where side files and temporary files go."""

    sidecars: str = Field(
        "beside",
        min_length=1,
        description="Folder of the sidecars `<scan>.cor.json`; beside: next to each HDF5 file "
        "(results/sidecars where that folder is read-only).",
    )
    scratch: str | None = Field(
        None, description="Folder for large temporary files; null: the system's."
    )


class InputBlock(Block):
    """What raw files do not say, or say wrongly."""

    entry: str | None = Field(
        None,
        min_length=1,
        description="NXtomo entry to read (its path) where a file has several; null: the only one.",
    )
    angles: str | None = Field(
        None,
        min_length=1,
        description="Text or CSV file with the angle of each projection (degrees); null: the "
        "scan's own.",
    )
    pixel_size_um: float | None = Field(
        None, gt=0, description="Pixel size in the sample (micrometres); null: the file's."
    )
    energy_kev: float | None = Field(
        None, gt=0, description="Photon energy (keV); null: the file's."
    )
    distance_mm: float | None = Field(
        None, gt=0, description="Sample to detector (mm); null: the file's."
    )


class InventoryBlock(Block):
    """Which scans are sound, and which belong together."""

    series_pattern: str = Field(
        r"^(.*?)[._-]*(\d+)$",
        description="Regular expression on the scan's name: group 1 the series, group 2 the index.",
    )
    min_fraction: Fraction = Field(
        0.5, description="A scan smaller than this share of its series' usual size is skipped."
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


class BadPixelsBlock(Block):
    """Hot and dead pixels, found in flats and darks, interpolated along their row."""

    threshold: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Bad where flat or dark differ from their surroundings by more than this share "
        "of the flat (0.3 is usual); null: off.",
    )


class ZingersBlock(Block):
    """Bright spots of single projections, replaced by the median around them."""

    threshold: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Brighter than the median by more than this share of it (0.2 is usual); "
        "null: off.",
    )
    size_px: Literal[3, 5, 7] = Field(3, description="Side of the median's square (pixels).")


class RingCurrentBlock(Block):
    """The beam's changes, from a monitor that the file has."""

    dataset: str | None = Field(
        None, min_length=1, description="HDF5 path of one number per projection; null: off."
    )
    flats_mean: Annotated[float, Field(gt=0)] | None = Field(
        None, description="The monitor while the flats were taken; null: the projections' mean."
    )


class DistortionBlock(Block):
    """Radial distortion of the lens: a pixel at r comes from r * (k0 + k1 r + k2 r^2 + ...)."""

    coefficients: list[float] = Field(
        [], description="k0, k1, ... in pixels (as Discorpy's backward model); []: off."
    )
    center_px: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        None, description="[column, row] of its centre (pixels); null: the detector's middle."
    )


class PhaseBlock(Block):
    """Paganin's phase retrieval, of a homogeneous object at one distance."""

    method: Literal["none", "paganin", "generalised"] = Field(
        "none",
        description="none, paganin (2002), or generalised (2020: sharper). Energy, distance and "
        "pixel size are those of the file, or of `input`.",
    )
    delta_beta: float = Field(
        1000, gt=0, description="delta / beta of the material: larger smooths more."
    )


class StripesBlock(Block):
    """Stripes of sinograms, which are rings of slices."""

    method: Literal["none", "sorting", "fourier-wavelet", "titarenko", "vo"] = Field(
        "none",
        description="sorting: small stripes; vo: dead, large and small ones; fourier-wavelet; "
        "titarenko: one offset per column.",
    )
    size_px: int = Field(21, ge=3, description="Median of sorting and vo (pixels).")
    large_px: int = Field(51, ge=3, description="Median for large stripes of vo (pixels).")
    snr: float = Field(3.0, gt=1, description="vo: larger finds fewer large and dead stripes.")
    sigma: float = Field(1.0, gt=0, description="fourier-wavelet: larger removes more.")
    level: int = Field(5, ge=1, description="fourier-wavelet: more for wide stripes.")
    wavelet: str = Field("db9", min_length=1, description="fourier-wavelet: name of the wavelet.")
    alpha: float = Field(5e-4, gt=0, description="titarenko: smaller removes more.")


class PreprocessBlock(Block):
    """Corrections, the same for the try sweep and the volume, in the order of the keys."""

    flats: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="Where the flats are: another scan, a TIFF file or a folder of TIFF files; a "
        "list: taken at even distances, the first before the scan, the last after it; null: each "
        "scan's own; none: there are none.",
    )
    darks: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="Where the darks are: like flats."
    )
    flat_method: Literal["mean", "median", "interpolate", "pca"] = Field(
        "mean",
        description="Of all flats the mean or the median; interpolate: between the means of "
        "sets of flats, projection by projection; pca: their principal components, weighed for "
        "each projection (reads the whole scan once more).",
    )
    flat_components: int = Field(3, ge=1, description="pca: how many components.")
    flat_sets: int = Field(
        2,
        ge=2,
        description="interpolate, of files that do not tell when flats were taken: so many equal "
        "sets in the order of the file, evenly spread from before the scan to after it.",
    )
    bad_pixels: BadPixelsBlock = Field(
        BadPixelsBlock(), description="Hot and dead pixels, interpolated along their row."
    )
    ring_current: RingCurrentBlock = Field(
        RingCurrentBlock(), description="The beam's changes, from a monitor in the file."
    )
    zingers: ZingersBlock = Field(
        ZingersBlock(), description="Bright spots of single projections, replaced by the median."
    )
    air_px: int = Field(
        0,
        ge=0,
        description="Columns of air at each side, which become 1 in each row of each projection; "
        "0: off.",
    )
    distortion: DistortionBlock = Field(
        DistortionBlock(),
        description="Radial distortion of the lens: r comes from r (k0 + k1 r + ...).",
    )
    roll_deg: float = Field(
        0.0,
        gt=-45,
        lt=45,
        description="Roll of the detector (degrees): atan(roll_px_per_100_rows / 100) of "
        "prediction.json.",
    )
    phase: PhaseBlock = Field(PhaseBlock(), description="Phase retrieval by Paganin's method.")
    minus_log: bool = Field(
        True, description="Take -log of the transmission; false for data that are line integrals."
    )
    hardening: list[float] = Field(
        [],
        description="Beam hardening: c1, c2, ... of c1 p + c2 p^2 + ... of the line integral p; "
        "[]: off.",
    )
    stripes: StripesBlock = Field(
        StripesBlock(), description="Stripes of sinograms, which are rings of slices."
    )

    half_acquisition: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="Full turns with the axis near an edge give slices of twice the detector's "
        "width; auto: where the axis (in the sweep its middle) is in an outer quarter.",
    )

    @model_validator(mode="after")
    def _of_transmission(self) -> "PreprocessBlock":
        if not self.minus_log and self.phase.method != "none":
            raise ValueError("phase.method must be none where minus_log is false")
        if not self.minus_log and self.air_px:
            raise ValueError("air_px must be 0 where minus_log is false")
        return self


class TryReconBlock(Block):
    """The sweep of trial reconstructions over candidate CORs."""

    center_px: float | None = Field(
        None, description="Middle of the sweep (pixels); null: (n_cols - 1)/2."
    )
    width_px: float = Field(50, ge=0, description="Sweep this far to each side (pixels).")
    step_px: float = Field(0.5, gt=0, description="Distance of two candidates (pixels).")
    row: Fraction | RowNumber | Annotated[list[Fraction | RowNumber], Field(min_length=1)] = Field(
        0.5,
        description="Detector row: a fraction of the height, a row number, or a list of them "
        "(the first is the one shown).",
    )
    max_size_px: int = Field(
        1024, ge=16, description="Slices wider than this are binned in try.tif (pixels)."
    )
    format: Literal["stack", "tiff"] = Field(
        "stack",
        description="stack: one try.tif; tiff: also full-size float32 TIFFs with TomoGUI's names.",
    )


class PredictCorBlock(Block):
    """The prediction of the COR."""

    methods: list[Literal[(*METHODS, *CHECKPOINT_METHODS)]] = Field(  # type: ignore[valid-type]
        list(METHODS), min_length=1, description="Finders in order: the first confident one wins."
    )
    min_confidence: Fraction = Field(
        0.5, description="A prediction below this confidence is not accepted."
    )
    dinov2_checkpoint: str | None = Field(
        None,
        min_length=1,
        description="Classifier of tomo-center or TomoCuPy that the method dinov2 runs; null: none "
        "(docs/dinov2.md).",
    )

    @model_validator(mode="after")
    def _a_checkpoint_for_dinov2(self) -> "PredictCorBlock":
        if "dinov2" in self.methods and self.dinov2_checkpoint is None:
            raise ValueError(
                "the method dinov2 needs dinov2_checkpoint: the path of its classifier"
            )
        return self


class FixCorBlock(Block):
    """Outliers and gaps of a series."""

    max_delta_px: float = Field(
        50, gt=0, description="Largest distance from the series' median ever kept (pixels)."
    )
    protect_manual: bool = Field(True, description="Never replace a COR set by hand.")


class ResolveCorBlock(Block):
    """The COR that each scan ends with."""

    default_px: float | None = Field(
        None, ge=0, description="COR of scans that have none (pixels); null: they have none."
    )
    on_missing: Literal["block", "skip"] = Field(
        "block",
        description="A scan without a COR: block stops before any volume, skip leaves it out.",
    )


class FullReconBlock(Block):
    """The volumes."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU where there is one."
    )
    algorithm: Literal["fbp", "sirt", "cgls", "tv"] = Field(
        "fbp",
        description="Filtered back-projection; sirt, cgls and tv iterate: for tens of projections, "
        "on the CPU, slow.",
    )
    iterations: Annotated[int, Field(ge=1)] | None = Field(
        None, description="null: what suits the algorithm (100, 15, 100)."
    )
    tv_strength: float = Field(
        3e-3, gt=0, description="Weight of the total variation: more for noisier data."
    )
    filter: Literal[FILTERS] = Field(  # type: ignore[valid-type]
        "ramp", description="Filter of the back-projection (fbp)."
    )
    rows: Literal["all"] | RowRange = Field(
        "all", description="all, or [first, last], both included."
    )
    binning: int = Field(1, ge=1, description="Average blocks of n x n pixels first.")
    crop_x: Literal["all"] | RowRange = Field(
        "all",
        description="Columns of the slices: all, or [first, last], both included (voxels of the "
        "unbinned slice).",
    )
    crop_y: Literal["all"] | RowRange = Field(
        "all", description="Rows of the slices (not of the detector): like crop_x."
    )
    output: Literal["h5", "tiff", "zarr"] = Field(
        "h5", description="HDF5 file, TIFF series, or OME-Zarr (needs tomopipe[zarr])."
    )
    compression: Literal["none", "gzip", "lz4", "zstd", "bitshuffle"] = Field(
        "none",
        description="Without loss. Pays for uint8 and uint16; TIFF: none or gzip. lz4, zstd and "
        "bitshuffle in HDF5 need hdf5plugin to be read.",
    )
    dtype: Literal["float32", "float16", "uint16", "uint8"] = Field(
        "float32",
        description="Number type of the volume; value = offset + scale * stored, both recorded.",
    )
    value_range: Literal["auto"] | ValueRange = Field(
        "auto",
        description="Values of the smallest and the largest uint8 or uint16, in `unit`: [low, "
        "high], or auto: from 8 slices.",
    )
    unit: Literal["per_pixel", "per_cm"] = Field(
        "per_pixel",
        description="Attenuation per unbinned pixel, or per cm (needs the pixel size).",
    )

    @field_validator("compression")
    @classmethod
    def _of_the_format(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("output") == "tiff" and value not in ("none", "gzip"):
            raise ValueError("must be none or gzip for output: tiff")
        return value

    @field_validator("value_range")
    @classmethod
    def _ascending(cls, value: str | list[float]) -> str | list[float]:
        if not isinstance(value, str) and not value[0] < value[1]:
            raise ValueError("must be [low, high] with low < high")
        return value

    @field_validator("rows", "crop_x", "crop_y")
    @classmethod
    def _first_then_last(cls, value: str | list[int]) -> str | list[int]:
        if not isinstance(value, str) and value[0] > value[1]:
            raise ValueError("must be [first, last] with first <= last")
        return value


class ExportStarBlock(Block):
    """The export for RELION."""

    enabled: bool = Field(True, description="Write results/relion/.")
    pixel_size_um: float | None = Field(
        None, gt=0, description="Pixel size (micrometres); null: the file's, else 1 with a warning."
    )
    energy_kev: float | None = Field(
        None, gt=0, description="Photon energy (keV); null: the file's, else 20 with a warning."
    )
    binning: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="auto: the smallest that keeps a stack under max_stack_gb."
    )
    max_stack_gb: float = Field(4, gt=0, description="Largest stack (10^9 bytes).")
    rows: Literal["all"] | RowRange = Field(
        "all", description="all, or [first, last], both included."
    )
    max_tilts: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        "all", description="Largest number of projections in a stack, evenly chosen."
    )
    hand: Literal[-1, 1] = Field(-1, description="rlnTomoHand.")


class ReportBlock(Block):
    """The report."""

    enabled: bool = Field(True, description="Write results/report/index.html.")


class OverrideBlock(Block):
    """Other preprocess and full_recon options for some scans; where several apply the last wins."""

    scans: list[str] = Field([], description="Names of scans, or patterns such as tooth_*.")
    series: list[str] = Field([], description="Series, or patterns; with scans: any of both.")
    preprocess: dict[str, Any] = Field(
        {}, description="Keys of preprocess that differ, blocks within it included."
    )
    full_recon: dict[str, Any] = Field(
        {}, description="Keys of full_recon that differ; all but output."
    )

    @model_validator(mode="after")
    def _of_some_scans(self) -> "OverrideBlock":
        if not (self.scans or self.series):
            raise ValueError("needs scans or series")
        if "output" in self.full_recon:
            raise ValueError("full_recon.output is the same for all scans of a campaign")
        return self

    def applies(self, scan: str, series: str) -> bool:
        """Tell whether a scan is among those meant."""
        named = ((scan, self.scans), (series, self.series))
        return any(fnmatchcase(name, pattern) for name, some in named for pattern in some)


class Config(Block):
    """The whole configuration; only `campaign.scans` is required."""

    campaign: CampaignBlock
    input: InputBlock = InputBlock()
    storage: StorageBlock = StorageBlock()
    inventory: InventoryBlock = InventoryBlock()
    preprocess: PreprocessBlock = PreprocessBlock()
    try_recon: TryReconBlock = TryReconBlock()
    predict_cor: PredictCorBlock = PredictCorBlock()
    fix_cor: FixCorBlock = FixCorBlock()
    resolve_cor: ResolveCorBlock = ResolveCorBlock()
    full_recon: FullReconBlock = FullReconBlock()
    export_star: ExportStarBlock = ExportStarBlock()
    report: ReportBlock = ReportBlock()
    overrides: list[OverrideBlock] = Field(
        [],
        description="Other preprocess and full_recon options for some scans.",
    )

    @model_validator(mode="after")
    def _overrides_fit(self) -> "Config":
        for number, override in enumerate(self.overrides):
            for block in OVERRIDABLE:
                try:
                    _changed(getattr(self, block), getattr(override, block))
                except ValidationError as error:
                    first = error.errors()[0]
                    key = ".".join(map(str, (block, *first["loc"])))
                    got = f"got {first['input']!r}; " if first["loc"] else ""
                    raise ValueError(f"overrides {number + 1}: {key}: {got}{first['msg']}") from None
        return self

    def for_scan(self, scan: str, series: str) -> "Config":
        """Return the configuration of one scan: with the overrides that apply to it."""
        blocks = {block: getattr(self, block) for block in OVERRIDABLE}
        for override in self.overrides:
            if override.applies(scan, series):
                for block, own in blocks.items():
                    blocks[block] = _changed(own, getattr(override, block))
        return self.model_copy(update=blocks)


OVERRIDABLE = ("preprocess", "full_recon")


def _changed(block: Block, changes: Mapping[str, Any]) -> Block:
    """Return a block with some keys changed, those of blocks within it one by one."""
    if not changes:
        return block
    values = block.model_dump()
    for key, value in changes.items():
        inner = getattr(block, key, None)
        merge = isinstance(inner, Block) and isinstance(value, Mapping)
        values[key] = {**values[key], **value} if merge else value
    return type(block).model_validate(values)


def parse_config(data: Mapping[str, Any], *, source: str = "config") -> Config:
    """Check a configuration and fill in the defaults.

    Parameters
    ----------
    data : mapping
        The blocks, as read from YAML. A block left empty (None) has its defaults.
    source : str
        Named in the errors, normally the file.

    Raises
    ------
    TomopipeError
        One line per problem: key, value, what is allowed, nearest match.
    """
    if not isinstance(data, Mapping):
        raise TomopipeError(f"{source}: expected blocks of keys such as campaign:, got {data!r}")
    try:
        return Config.model_validate(
            {k: ([] if k == "overrides" else {}) if v is None else v for k, v in data.items()}
        )
    except ValidationError as error:
        lines = list(dict.fromkeys(f"{source}: {line}" for line in _problems(error)))
        raise TomopipeError("\n".join(lines)) from None


def read_config(path: Path) -> Config:
    """Read and check a YAML configuration file."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TomopipeError(
            f"{path}: no such file. Start a campaign with `tomopipe init`, or name the file."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TomopipeError(f"{path}: cannot be read as YAML: {error}") from None
    return parse_config(data if data is not None else {}, source=str(path))


def _problems(error: ValidationError) -> Iterator[str]:
    """One line per key: the branches of a union that all refused a value are one problem."""
    refused: dict[str, tuple[list[str], Any, list[str]]] = {}
    for problem in error.errors():
        keys = _keys(problem["loc"])
        key = ".".join(keys)
        if problem["type"] == "extra_forbidden":
            names = list(_fields_at(keys[:-1]))
            hint = _nearest(str(problem["loc"][-1]), names)
            yield f"{key}: unknown key; {hint}allowed here: {', '.join(names)}"
        elif problem["type"] == "missing":
            yield f"{key}: is required"
        elif not keys:  # of several blocks at once
            yield problem["msg"].removeprefix("Value error, ")
        else:
            refused.setdefault(key, (keys, problem["input"], []))[2].append(
                problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
            )
    for key, (keys, value, messages) in refused.items():
        message = ", or ".join(dict.fromkeys(messages))
        hint = _nearest(str(value), re.findall(r"'([^']+)'", message))
        yield f"{key}: got {value!r}; {message}; {hint}{_meaning(keys)}"


def _nearest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {close[0]}? " if close else ""


def _keys(location: tuple[int | str, ...]) -> list[str]:
    keys: list[str] = []
    model: type[BaseModel] | None = Config
    for part in location:
        if model is None or not isinstance(part, str):
            break
        keys.append(part)
        if part not in model.model_fields:
            break
        annotation = model.model_fields[part].annotation
        model = (
            annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel)
            else None
        )
    return keys


def _fields_at(keys: list[str]) -> dict[str, Any]:
    model: type[BaseModel] = Config
    for key in keys:
        model = model.model_fields[key].annotation  # type: ignore[assignment]
    return model.model_fields


def _meaning(keys: list[str]) -> str:
    field = _fields_at(keys[:-1]).get(keys[-1])
    return f"it means: {field.description}" if field is not None and field.description else ""


def documented_defaults() -> str:
    """Return config/config.yaml: every key with its default, and its meaning as a comment."""
    lines = [
        "# Every key with its default. A campaign's own config.yaml holds only what differs;",
        "# `campaign: {scans: [raw/*.h5]}` is a complete one. What each key is for: README.md.",
    ]
    for block, field in Config.model_fields.items():
        if block == "overrides":
            lines += ["", f"# {field.description}", f"{block}: []"]
            continue
        model: type[BaseModel] = field.annotation  # type: ignore[assignment]
        lines += ["", f"# {model.__doc__}", f"{block}:"]
        for key, option in model.model_fields.items():
            default = [r"raw/*.h5"] if option.is_required() else option.default
            if isinstance(default, Block):
                lines.append(f"  {key}:")
                inner = default.model_dump().items()
                lines += [f"    {name}: {_yaml_text(value)}" for name, value in inner]
            else:
                lines.append(f"  {key}: {_yaml_text(default)}")
    return "\n".join(lines) + "\n"


def documented_keys() -> str:
    """Return config/README.md: a table per block with each key's type, default and meaning."""
    lines = [
        "# The configuration",
        "",
        "One block per step; a campaign's `config.yaml` names only what differs from the defaults",
        "(`config.yaml` in this folder shows them all). Unknown keys and values out of range are",
        "errors, and nothing is started. Pixels are unbinned detector pixels. This page is made by",
        "`python -m tomopipe.config`.",
    ]
    for block, field in Config.model_fields.items():
        model: type[BaseModel] = field.annotation  # type: ignore[assignment]
        if block == "overrides":
            model = OverrideBlock
        lines += ["", f"## {block}", "", f"{model.__doc__}", ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        lines += _key_lines(model)
    return "\n".join(lines) + "\n"


def _key_lines(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """One line of the table per key; the keys of a block within a block follow it."""
    schema = model.model_json_schema()
    for key, option in model.model_fields.items():
        kind = _type_text(schema["properties"][key], schema.get("$defs", {}))
        meaning = (option.description or "").replace("|", "\\|")
        if isinstance(option.default, Block):
            yield f"| {key} | {kind} | | {meaning} |"
            yield from _key_lines(type(option.default), f"{key}.")
        else:
            default = "required" if option.is_required() else f"`{_yaml_text(option.default)}`"
            yield f"| {prefix}{key} | {kind} | {default} | {meaning} |"


def _yaml_text(value: Any) -> str:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()


_RANGES = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}


def _type_text(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_text(option, definitions) for option in schema["anyOf"])
    if "$ref" in schema:
        properties = definitions[schema["$ref"].rsplit("/", 1)[1]]["properties"]
        return "{" + ", ".join(properties) + "}"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of ({_type_text(schema['items'], definitions)})"
    ranges = [f"{sign} {schema[key]:g}" for key, sign in _RANGES.items() if key in schema]
    return " ".join([{"string": "text"}.get(schema["type"], schema["type"]), *ranges])


def write_documentation(folder: Path) -> None:
    """Write config.yaml and README.md into `folder`."""
    (folder / "config.yaml").write_text(documented_defaults(), encoding="utf-8")
    (folder / "README.md").write_text(documented_keys(), encoding="utf-8")


if __name__ == "__main__":
    write_documentation(Path(__file__).parents[1] / "config")
