"""The block of corrections, with the blocks inside it."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tomopipe.config.base import Block, FilePattern, Text


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
    size_px: Literal[3, 5, 7] = Field(
        3,
        description="Side of the median's square (pixels).",
        json_schema_extra={"only": {"threshold": {"not": None}}},
    )


class RingCurrentBlock(Block):
    """The beam's changes, from a monitor that the file has."""

    dataset: Text | None = Field(
        None, description="HDF5 path of one number per projection; null: off."
    )
    flats_mean: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="The monitor while the flats were taken; null: the projections' mean.",
        json_schema_extra={"only": {"dataset": {"not": None}}},
    )


class DistortionBlock(Block):
    """Radial distortion of the lens: a pixel at r comes from r * (k0 + k1 r + k2 r^2 + ...)."""

    coefficients: list[float] = Field(
        [], description="k0, k1, ... in pixels (as Discorpy's backward model); []: off."
    )
    center_px: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        None,
        description="[column, row] of its centre (pixels); null: the detector's middle.",
        json_schema_extra={"only": {"coefficients": {"not": []}}},
    )


class PhaseBlock(Block):
    """Paganin's phase retrieval, of a homogeneous object at one distance."""

    method: Literal["none", "paganin", "generalised"] = Field(
        "none",
        description="none, paganin (2002), or generalised (2020: sharper). Energy, distance and "
        "pixel size are those of the file, or of `input`.",
    )
    delta_beta: float = Field(
        1000,
        gt=0,
        description="delta / beta of the material: larger smooths more.",
        json_schema_extra={"only": {"method": ["paganin", "generalised"]}},
    )


GATED_SIZE_PX = 21
"""What `preprocess.stripes.size_px: null` stands for with the method gated."""


class StripesBlock(Block):
    """Stripes of sinograms, which are rings of slices."""

    method: Literal["none", "gated", "sorting", "fourier-wavelet", "titarenko", "vo"] = Field(
        "none",
        description="gated: only what stands out of its own error; sorting: small stripes; vo: "
        "dead, large and small ones; fourier-wavelet; titarenko: one offset per column.",
    )
    threshold: float = Field(
        5.0,
        gt=0,
        description="gated: standard errors of an offset; larger finds fewer.",
        json_schema_extra={"only": {"method": ["gated"]}},
    )
    size_px: Annotated[int, Field(ge=3)] | None = Field(
        None,
        description="Median of gated, sorting and vo (pixels): stripes up to half of it go; null: "
        "gated 21, the others a 40th of the columns, 3 to 21.",
        json_schema_extra={"only": {"method": ["gated", "sorting", "vo"]}, "baseline": 21},
    )
    large_px: Annotated[int, Field(ge=3)] | None = Field(
        None,
        description="Median for dead and large stripes of vo (pixels); null: 9 for dead ones, for "
        "large ones a 40th of the columns, 3 to 51.",
        json_schema_extra={"only": {"method": ["vo"]}, "baseline": 51},
    )
    snr: float = Field(
        3.0,
        gt=1,
        description="vo: larger finds fewer large and dead stripes.",
        json_schema_extra={"only": {"method": ["vo"]}},
    )
    sigma: float = Field(
        1.0,
        gt=0,
        description="fourier-wavelet: larger removes more.",
        json_schema_extra={"only": {"method": ["fourier-wavelet"]}},
    )
    level: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="fourier-wavelet: more for wide stripes; null: log2(columns / 64), 1 to 5.",
        json_schema_extra={"only": {"method": ["fourier-wavelet"]}, "baseline": 5},
    )
    wavelet: Text = Field(
        "db9",
        description="fourier-wavelet: name of the wavelet.",
        json_schema_extra={"only": {"method": ["fourier-wavelet"]}},
    )
    alpha: float = Field(
        0.5,
        gt=0,
        description="titarenko, of line integrals: smaller removes more, of the sample too; 0.05 "
        "takes less than 1 % of it from 1000 columns on.",
        json_schema_extra={"only": {"method": ["titarenko"]}, "baseline": 5e-4},
    )

    def in_effect(self) -> Self:
        """Return the block with null replaced, unless the value depends on the columns."""
        if self.method == "gated" and self.size_px is None:
            return self.model_copy(update={"size_px": GATED_SIZE_PX})
        return self


class PreprocessBlock(Block):
    """Corrections, the same for the try sweep and the volume, in the order of the keys."""

    flats: FilePattern | Annotated[list[FilePattern], Field(min_length=1)] | None = Field(
        None,
        description="Where the flats are: another scan, a TIFF file or a folder of TIFF files; a "
        "list: taken at even distances, the first before the scan, the last after it; null: each "
        "scan's own; none: there are none. {scan} and {series} stand for those of each scan.",
    )
    darks: FilePattern | Annotated[list[FilePattern], Field(min_length=1)] | None = Field(
        None, description="Where the darks are: like flats."
    )
    flat_method: Literal["mean", "median", "interpolate", "pca"] = Field(
        "mean",
        description="Of all flats the mean or the median; interpolate: between the means of "
        "sets of flats, projection by projection; pca: their principal components, weighed for "
        "each projection by its air (reads the whole scan once more).",
        json_schema_extra={"remade": {"pca": 2}},
    )
    flat_components: int = Field(
        3,
        ge=1,
        description="pca: how many components, at most.",
        json_schema_extra={"only": {"flat_method": ["pca"]}},
    )
    flat_sets: int = Field(
        2,
        ge=2,
        description="interpolate, of files that do not tell when flats were taken: so many equal "
        "sets in the order of the file, evenly spread from before the scan to after it.",
        json_schema_extra={"only": {"flat_method": ["interpolate"]}},
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
        description="360-degree scans with the axis near an edge give slices of twice the "
        "detector's width; auto: where the axis (in the sweep its middle) is in an outer quarter.",
    )

    @field_validator("half_acquisition", mode="before")
    @classmethod
    def _words_of_yaml(cls, value: object) -> object:
        return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _of_transmission(self) -> "PreprocessBlock":
        if not self.minus_log and self.phase.method != "none":
            raise ValueError("phase.method must be none where minus_log is false")
        if not self.minus_log and self.air_px:
            raise ValueError("air_px must be 0 where minus_log is false")
        return self

    @property
    def reference_files(self) -> list[str]:
        """The files of flats and darks as configured, with patterns."""
        named = [*_listed(self.flats), *_listed(self.darks)]
        return [path for path in named if path != "none"]

    @property
    def is_plain(self) -> bool:
        """Whether there are no corrections beyond flat, dark and logarithm."""
        return not self.corrections()

    def corrections(self) -> dict[str, Any]:
        """Return the non-default keys, except flat, dark, logarithm and width."""
        others = {"flats", "darks", "minus_log", "half_acquisition"}
        return self.model_dump(exclude=others, exclude_defaults=True)


def _listed(source: str | list[str] | None) -> list[str]:
    return source if isinstance(source, list) else [source] if source else []
