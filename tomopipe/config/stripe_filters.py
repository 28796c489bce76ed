"""Filters of stripes in sinograms, a row for each, and the block of their options."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field

from tomopipe.config.base import Block, Text, option

GATED_SIZE_PX = 21
"""Value of `preprocess.stripes.size_px: null` with the method gated."""
_VO = "N. T. Vo et al., Opt. Express 26, 28396 (2018), doi:10.1364/OE.26.028396"
_TITARENKO = "S. Titarenko et al., Appl. Math. Lett. 23, 1489 (2010), doi:10.1016/j.aml.2010.08.022"


@dataclass(frozen=True)
class StripeFilter:
    """Everything about a stripe filter except its function."""

    # module:name of its function: from a float32 sinogram (n_angles, n_cols), on a GPU several
    # (n_rows, n_angles, n_cols), and the `StripesBlock` to new ones; it must not change its input
    function: str
    meaning: str  # for the documentation of the key
    methods: str  # for the Methods paragraph
    papers: tuple[str, ...]  # to cite
    keys: tuple[str, ...] = ()  # keys of the `StripesBlock` that it reads


STRIPE_FILTERS: Mapping[str, StripeFilter] = {
    "gated": StripeFilter(
        "tomopipe.prep.stripes_gated:remove_proven",
        "only significant offsets",
        "stripes of the sinograms removed where a test finds them significant",
        (_VO, _TITARENKO),
        ("threshold", "size_px"),
    ),
    "sorting": StripeFilter(
        "tomopipe.prep.stripes:remove_by_sorting",
        "small stripes",
        "stripes of the sinograms removed by sorting",
        (_VO,),
        ("size_px",),
    ),
    "vo": StripeFilter(
        "tomopipe.prep.stripes:remove_by_combination",
        "dead, large and small ones",
        "stripes of the sinograms removed by the combined method of Vo et al.",
        (_VO,),
        ("size_px", "large_px", "snr"),
    ),
    "fourier-wavelet": StripeFilter(
        "tomopipe.prep.stripes:remove_by_wavelets",
        "Munch's",
        "stripes of the sinograms removed by combined wavelet and Fourier filtering",
        ("B. Münch et al., Opt. Express 17, 8567 (2009), doi:10.1364/OE.17.008567",),
        ("sigma", "level", "wavelet"),
    ),
    "double-flat": StripeFilter(
        "tomopipe.prep.stripes:remove_by_double_flat",
        "what the mean over all angles has more than its median (double flat field)",
        "stripes of the sinograms removed by a double flat field",
        ("C. Jailin et al., J. Synchrotron Rad. 24, 220 (2017), doi:10.1107/S1600577516015812",),
        ("size_px", "limit"),
    ),
}


def _with_filters_of(key: str) -> dict[str, list[str]]:
    return {"method": [name for name, entry in STRIPE_FILTERS.items() if key in entry.keys]}


class StripesBlock(Block):
    """Stripes of sinograms, which are rings of slices."""

    method: Literal[("none", *STRIPE_FILTERS)] = option(  # type: ignore[valid-type]
        "none",
        "; ".join(f"{name}: {entry.meaning}" for name, entry in STRIPE_FILTERS.items()) + ".",
    )
    threshold: float = option(
        5.0,
        "gated: standard errors of an offset; larger finds fewer.",
        gt=0,
        only=_with_filters_of("threshold"),
    )
    size_px: Annotated[int, Field(ge=3)] | None = option(
        None,
        "Median of gated, sorting, vo and double-flat (pixels): stripes up to half of it go; "
        "null: gated 21, double-flat 5, the others a 40th of the columns, 3 to 21.",
        only=_with_filters_of("size_px"),
    )
    limit: float = option(
        0.2,
        "double-flat: larger offsets of a column stay, as they are the object's (line integral; "
        "0.2: 20 % of the beam).",
        gt=0,
        only=_with_filters_of("limit"),
    )
    large_px: Annotated[int, Field(ge=3)] | None = option(
        None,
        "Median for dead and large stripes of vo (pixels); null: 9 for dead ones, for "
        "large ones a 40th of the columns, 3 to 51.",
        only=_with_filters_of("large_px"),
    )
    snr: float = option(
        3.0, "vo: larger finds fewer large and dead stripes.", gt=1, only=_with_filters_of("snr")
    )
    sigma: float = option(
        1.0, "fourier-wavelet: larger removes more.", gt=0, only=_with_filters_of("sigma")
    )
    level: Annotated[int, Field(ge=1)] | None = option(
        None,
        "fourier-wavelet: more for wide stripes; null: log2(columns / 64), 1 to 5.",
        only=_with_filters_of("level"),
    )
    wavelet: Text = option(
        "db9", "fourier-wavelet: name of the wavelet.", only=_with_filters_of("wavelet")
    )

    def in_effect(self) -> Self:
        """Return the block with null for the size that it stands for."""
        if self.method == "gated" and self.size_px == GATED_SIZE_PX:
            return self.model_copy(update={"size_px": None})
        return self
