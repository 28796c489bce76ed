"""The block of corrections, with the blocks inside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, create_model, model_validator

from tomopipe.config.base import Block, FilePattern, Text, TwoNumbers, effective, option
from tomopipe.config.site_corrections import COUNTS, OfSite, fields_of_sites, of_site, placed
from tomopipe.config.stripe_filters import StripesBlock


@dataclass(frozen=True)
class Correction:
    """Everything about a correction of projections except its function; it stands on its key.

    Corrections are applied in the order of the keys of `PreprocessBlock`.
    """

    # module:name of its function: from projections (n_frames, n_rows, n_cols), float32 of NumPy or
    # CuPy, which it may change, the value of the key, and a `Part` of the scan (`prep.recipe`), to
    # the new ones; "": that of another key, which names this one in `together`
    function: str
    methods: str  # for the Methods paragraph; {0.key} is a value of the block
    example: Any  # a value that has an effect, for the tests
    # what is looked up once for each scan, module:name, (recipe, scan, beam) -> `Part.fit`
    fit: str = ""
    # rows that it needs, if these are more: module:name, (rows, value, fit) -> rows
    rows_around: str = ""
    gpu_copies: int = 10  # of a batch of projections that it holds on a GPU, at most
    papers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by title, ": method" last
    together: tuple[str, ...] = ()
    moves: bool = False  # whether it moves pixels: finding the COR needs it, too


class BadPixelsBlock(Block):
    """Hot and dead pixels, found in flats and darks, interpolated along their row."""

    threshold: Annotated[float, Field(gt=0)] | None = option(
        None,
        "Bad if flat or dark differ from their surroundings by more than this share "
        "of the flat (0.3 is usual); null: off.",
    )


class ZingersBlock(Block):
    """Bright spots of single projections, replaced by the median around them."""

    threshold: Annotated[float, Field(gt=0, lt=1)] | None = option(
        None, "Brighter than the median by more than this share of it (0.2 is usual); null: off."
    )
    size_px: Literal[3, 5, 7] = option(
        3, "Side of the median's square (pixels).", only={"threshold": {"not": None}}
    )


class RingCurrentBlock(Block):
    """Changes of the beam, from a monitor in the file."""

    dataset: Text | None = option(None, "HDF5 path of one number per projection; null: off.")
    flats_mean: Annotated[float, Field(gt=0)] | None = option(
        None,
        "Mean of the monitor during the flats; null: of the dataset, else that of projections.",
        only={"dataset": {"not": None}},
    )


class DistortionBlock(Block):
    """Radial distortion of the lens: a pixel at r comes from r * (k0 + k1 r + k2 r^2 + ...)."""

    coefficients: list[float] = option(
        [], "k0, k1, ... in pixels (as Discorpy's backward model); []: off."
    )
    center_px: TwoNumbers | None = option(
        None,
        "[column, row] of its centre (pixels); null: the detector's middle.",
        only={"coefficients": {"not": []}},
    )


class PhaseBlock(Block):
    """Paganin's phase retrieval, of a homogeneous object at one distance."""

    method: Literal["none", "paganin", "generalised"] = option(
        "none",
        "none, paganin (2002), or generalised (2020: sharper). Energy, distance and "
        "pixel size are those of the file, or of `input`.",
    )
    delta_beta: float = option(
        1000,
        "delta / beta of the material: larger smooths more.",
        gt=0,
        only={"method": ["paganin", "generalised"]},
    )
    unsharp_coeff: float = option(
        0.0,
        "Unsharp mask of the result: (1 + c) image - c (image blurred by unsharp_sigma); 0: none.",
        ge=0,
        le=100,
        only={"method": ["paganin", "generalised"]},
    )
    unsharp_sigma: float = option(
        1.0,
        "Sigma of the blurred image of the mask (pixels).",
        gt=0,
        le=100,
        only={"method": ["paganin", "generalised"], "unsharp_coeff": {"not": 0.0}},
    )

    @property
    def sharpened(self) -> str:
        """The unsharp mask, for the Methods paragraph; "" without one."""
        coeff, sigma_px = self.unsharp_coeff, self.unsharp_sigma
        return f", unsharp mask {coeff:g} of sigma {sigma_px:g} px" if coeff else ""


_PAGANIN = "D. Paganin et al., J. Microsc. 206, 33 (2002), doi:10.1046/j.1365-2818.2002.01010.x"


class PreprocessBlock(Block):
    """Corrections, the same for sweep and volume, in the order of the keys; and your site's own."""

    model_config = ConfigDict(extra="allow")

    flats: FilePattern | Annotated[list[FilePattern], Field(min_length=1)] | None = option(
        None,
        "Where the flats are: another scan, a TIFF file or a folder of TIFF files; a "
        "list: sets at equal intervals, the first before the scan, the last after it; null: each "
        "scan's own; none: no flats. {scan} and {series} are placeholders.",
    )
    darks: FilePattern | Annotated[list[FilePattern], Field(min_length=1)] | None = option(
        None, "Where the darks are; values as for flats."
    )
    flat_method: Literal["mean", "median", "interpolate", "pca", "register"] = option(
        "mean",
        "mean or median of all flats; interpolate: between the means of sets of flats, "
        "for each projection; pca: their principal components, weighted for each projection by "
        "its air; register: their mean, moved up or down with the horizontal stripes of the beam, "
        "as the air of each projection shows (pca and register read the whole scan twice).",
    )
    flat_components: int = option(
        3, "pca: largest number of components.", ge=1, only={"flat_method": ["pca"]}
    )
    flat_shift_px: float = option(
        5.0,
        "register: how far the beam moves up or down at most (pixels), from the middle of the "
        "flats.",
        ge=1,
        le=20,
        only={"flat_method": ["register"]},
    )
    flat_sets: int = option(
        2,
        "interpolate, if the file has no times of its flats: number of equal sets in the "
        "order of the file, evenly spread from before the scan to after it.",
        ge=2,
        only={"flat_method": ["interpolate"]},
    )
    bad_pixels: Annotated[
        BadPixelsBlock,
        Correction(
            "tomopipe.prep.bad_pixels:fill_bad_pixels",
            "bad detector pixels replaced by their neighbours",
            example={"threshold": 0.5},
            fit="tomopipe.prep.bad_pixels:repair_of",
        ),
    ] = option(BadPixelsBlock(), "Hot and dead pixels, interpolated along their row.")
    ring_current: Annotated[
        RingCurrentBlock,
        Correction(
            "tomopipe.prep.normalise:scale_by_monitor",
            "scaled by the ring current",
            example={"dataset": "/monitor/current"},
            fit="tomopipe.prep.normalise:monitor_of",
        ),
    ] = option(RingCurrentBlock(), "Changes of the beam, from a monitor in the file.")
    zingers: Annotated[
        ZingersBlock,
        Correction(
            "tomopipe.prep.bad_pixels:replace_zingers",
            "zingers brighter by {0.zingers.threshold:g} than the median of "
            "{0.zingers.size_px} × {0.zingers.size_px} pixels removed",
            example={"threshold": 0.2, "size_px": 5},
            rows_around="tomopipe.prep.bad_pixels:rows_of_zingers",
        ),
    ] = option(ZingersBlock(), "Bright spots of single projections, replaced by the median.")
    air_px: Annotated[
        int,
        Correction(
            "tomopipe.prep.normalise:scale_by_air",
            "normalised by {0.air_px} columns of air at both edges",
            example=2,
        ),
    ] = option(
        0,
        "Columns of air at each side, which become 1 in each row of each projection; 0: off.",
        ge=0,
    )
    distortion: Annotated[
        DistortionBlock,
        Correction(
            "tomopipe.prep.warp:straighten",
            "distortion of the lens corrected",
            example={"coefficients": [1.0, 5e-4]},
            fit="tomopipe.prep.warp:warp_of",
            rows_around="tomopipe.prep.warp:rows_of_warp",
            papers={
                "Distortion of the lens": (
                    "N. T. Vo et al., Opt. Express 23, 32859 (2015), doi:10.1364/OE.23.032859",
                )
            },
            together=("roll_deg",),
            moves=True,
        ),
    ] = option(
        DistortionBlock(), "Radial distortion of the lens: r comes from r (k0 + k1 r + ...)."
    )
    roll_deg: Annotated[
        Annotated[float, Field(gt=-45, lt=45)] | Literal["auto"],
        Correction("", "rotated by {0.roll_deg:.2g}° about the beam", example=1.0, moves=True),
    ] = option(
        0.0,
        "Roll of the detector (degrees): atan(roll_px_per_100_rows / 100) of prediction.json; "
        "auto: of each scan as try_recon measures it, where it shows.",
    )
    phase: Annotated[
        PhaseBlock,
        Correction(
            "tomopipe.prep.phase:filter_projections",
            "phase retrieved ({0.phase.method} filter of Paganin, delta/beta "
            "{0.phase.delta_beta:g}{0.phase.sharpened})",
            example={"method": "paganin", "delta_beta": 100.0, "unsharp_coeff": 1.0},
            fit="tomopipe.prep.phase:strength_of",
            rows_around="tomopipe.prep.phase:rows_of_phase",
            papers={
                "Phase retrieval: paganin": (_PAGANIN,),
                "Phase retrieval: generalised": (
                    _PAGANIN,
                    "D. M. Paganin et al., J. Opt. 22, 115607 (2020), doi:10.1088/2040-8986/abbab9",
                ),
            },
        ),
    ] = option(PhaseBlock(), "Phase retrieval by Paganin's method.")
    minus_log: Annotated[
        bool,
        Correction("tomopipe.prep.normalise:take_log", "negative logarithm taken", example=True),
    ] = option(True, "Take -log of the transmission; false for data that are line integrals.")
    hardening: Annotated[
        list[float],
        Correction(
            "tomopipe.prep.normalise:correct_hardening",
            "beam hardening corrected by a polynomial",
            example=[1.0, 0.1],
        ),
    ] = option(
        [], "Beam hardening: c1, c2, ... of c1 p + c2 p^2 + ... of the line integral p; []: off."
    )
    shifts: Annotated[
        FilePattern | None,
        Correction(
            "tomopipe.prep.shifts:undo_shifts",
            "shifts of the projections undone as given by {0.source_of_shifts}",
            example="shifts.txt",
            fit="tomopipe.prep.shifts:shifts_of",
            rows_around="tomopipe.prep.shifts:rows_of_shifts",
            moves=True,
        ),
    ] = option(
        None,
        "Text file of dx_px and dy_px of each projection: how far its image is shifted to the "
        "right and down; {scan} and {series} are placeholders. stated: x_translation and "
        "-z_translation of the file; null: off.",
    )
    shifts_scale: TwoNumbers = option(
        [1.0, 1.0],
        "Factors of dx and dy: -1 for the other sign, or pixels in the unit of the file.",
        only={"shifts": {"not": None}},
    )
    stripes: StripesBlock = option(
        StripesBlock(), "Stripes of sinograms, which are rings of slices."
    )
    half_acquisition: Literal["auto", "yes", "no"] = option(
        "auto",
        "360-degree scans with the axis near an edge give slices of twice the "
        "detector's width; auto: where the axis (in the sweep its middle) is in an outer quarter.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _corrections_of_sites(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        others = data.keys() - cls.model_fields if type(data) is dict else ()
        if not others or cls is not PreprocessBlock:
            return handler(data)
        checked = _with_keys(frozenset(others)).model_validate(data)
        values = {key: getattr(checked, key) for key in others if data[key] is not None}
        return handler({key: value for key, value in data.items() if key not in others} | values)

    @model_validator(mode="after")
    def _of_transmission(self) -> "PreprocessBlock":
        if not self.minus_log and self.phase.method != "none":
            raise ValueError("phase.method must be none where minus_log is false")
        if not self.minus_log and self.air_px:
            raise ValueError("air_px must be 0 where minus_log is false")
        for correction in self.of_sites() if self.model_extra else ():
            if correction.entry.before == COUNTS and self.flat_method not in ("mean", "median"):
                raise ValueError(
                    f"{correction.key} of {correction.package} corrects counts, which needs "
                    f"flat_method mean or median; got {self.flat_method}"
                )
        return self

    def with_roll(self, measured_deg: float) -> Self:
        """Return the block with a measured roll in place of auto."""
        is_auto = self.roll_deg == "auto"
        return self.model_copy(update={"roll_deg": measured_deg}) if is_auto else self

    @property
    def reference_files(self) -> list[str]:
        """The files of flats and darks as configured, with patterns."""
        sources = [*_listed(self.flats), *_listed(self.darks)]
        return [path for path in sources if path != "none"]

    def of_sites(self) -> list[OfSite]:
        """Return the corrections of sites that are on; their options are attributes."""
        return [correction for key in self.model_extra or {} if (correction := of_site(key))]

    def stated_besides(self) -> dict[str, Any]:
        """Return what results state of the corrections of sites."""
        return {c.key: c.stated() | effective(getattr(self, c.key)) for c in self.of_sites()}

    @property
    def order(self) -> list[str]:
        """The keys of all corrections in their order, of sites those that are on."""
        return placed(CORRECTIONS, {c.key: c.entry.before for c in self.of_sites()})

    @property
    def source_of_shifts(self) -> str:
        """Where the shifts come from, for the Methods paragraph."""
        is_stated = self.shifts == "stated"
        return "positions recorded with the scan" if is_stated else str(self.shifts)

    @property
    def shift_files(self) -> list[str]:
        """The file of shifts as configured, if there is one."""
        return [self.shifts] if self.shifts not in (None, "stated") else []

    @property
    def is_plain(self) -> bool:
        """Whether there are no corrections beyond flat, dark and logarithm."""
        return not self.corrections()

    def corrections(self) -> dict[str, Any]:
        """Return the non-default keys, except flat, dark, logarithm and width."""
        # a key that corrects nothing belongs here: else jobs take memory for corrections
        others = {"flats", "darks", "minus_log", "half_acquisition"}
        return self.model_dump(exclude=others, exclude_defaults=True)

    @property
    def switched_on(self) -> set[str]:
        """The keys of `CORRECTIONS` that are on."""
        values = {key: getattr(self, key) for key in CORRECTIONS}
        stated = {key for key in effective(self) if values.get(key) is not False}
        return stated & set(values) | {key for key, value in values.items() if value is True}


CORRECTIONS: Mapping[str, Correction] = {
    key: entry
    for key, info in PreprocessBlock.model_fields.items()
    for entry in info.metadata
    if isinstance(entry, Correction)
}
"""The corrections of projections, by key, in their order."""


class _Strict(PreprocessBlock):
    model_config = ConfigDict(extra="forbid")


@cache
def _with_keys(keys: frozenset[str]) -> type[PreprocessBlock]:
    """Return the block whose fields are ours and, of these keys, those of sites."""
    return create_model("Preprocess", __base__=_Strict, **fields_of_sites(keys, PreprocessBlock))


def _listed(source: str | list[str] | None) -> list[str]:
    return source if isinstance(source, list) else [source] if source else []
