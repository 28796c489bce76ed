"""The blocks of the steps that find the COR: keys, types, ranges, defaults, meanings."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tomopipe.config.base import Block, Text, option
from tomopipe.config.blocks import Device, Fraction, RowNumber
from tomopipe.cor_methods import METHODS, method_named, of_packages
from tomopipe.errors import TomopipeError

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
        "partial, constant or repeated; 1: never.",
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
