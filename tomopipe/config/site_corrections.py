"""Corrections of a site: what its package states of each, by the entry point `CORRECTIONS`."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator

from tomopipe.config.base import Block
from tomopipe.entry_points import TIME_LIMIT_S, Package, load
from tomopipe.errors import TomopipeError

CORRECTIONS_OF_SITES = "tomopipe.corrections"
"""The group of entry points, each the name of a key and a `SiteCorrection`."""
COUNTS, SINOGRAMS = "flats", "slices"
"""Values of `SiteCorrection.before` besides keys of `preprocess`."""


class Region(NamedTuple):
    """Which part of the scan a correction of a site gets; ranges without their end."""

    frames: tuple[int, int]  # numbers of the projections
    rows: tuple[int, int]  # of the detector
    cols: tuple[int, int]
    theta_rad: Any  # angles of the projections, (n_frames,)


@dataclass(frozen=True)
class SiteCorrection:
    """A correction of a site, as its package states it by the entry point `tomopipe.corrections`.

    The name of the entry point is its key in `preprocess`; it is on where that key is in the
    configuration.

    Attributes
    ----------
    function : callable, or "module:name" of one
        From a float32 array (n_frames, n_rows, n_cols), which it may change, its options, and a
        `Region`, to a float32 array of the same shape.
    options : type of Block
        Its keys, each with type, range, default and meaning (`option`).
    before : str
        The key of `preprocess` before which it is applied; "flats": to counts, also those of flats
        and darks, each as one frame; "stripes": after all corrections of projections; "slices":
        after the stripes, to one row of all projections.
    revision : int
        Raised when results change with equal options: they are then made again.
    rows_around : int or callable
        Rows that it needs on either side, or a function of its options that returns them.
    moves : bool
        Whether it moves pixels: finding the COR then needs it, too.
    on_gpu : bool
        Whether it takes arrays of CuPy as well; others are copied to the host and back.
    methods : str
        For the Methods paragraph; {0.key} is a value of its options.
    papers : tuple of str
        To be cited.
    time_limit_s : float
        For one call; not on a GPU.
    """

    function: Callable[[Any, Any, Region], Any] | str
    options: type[Block] = Block
    before: str = "minus_log"
    revision: int = 1
    rows_around: int | Callable[[Any], int] = 0
    moves: bool = False
    on_gpu: bool = False
    methods: str = ""
    papers: tuple[str, ...] = ()
    time_limit_s: float = TIME_LIMIT_S


class OfSite(NamedTuple):
    """A correction of a site, and its package."""

    key: str
    entry: SiteCorrection
    package: Package

    def stated(self) -> dict[str, Any]:
        """Return what results state of it, besides its options."""
        return {"package": self.package.stated(self.entry.revision)}

    def described(self, options: Block) -> dict[str, Any]:
        """Return what a volume states of it, from which a report is made without its package."""
        text = self.entry.methods or f"corrected by {self.key}"
        try:
            words = text.format(options)
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise TomopipeError(f"methods: {text!r}: {type(error).__name__}: {error}") from error
        return {
            "package": str(self.package),
            "revision": self.entry.revision,
            "before": self.entry.before,
            "options": options.model_dump(),
            "methods": words,
            "papers": [*self.entry.papers],
        }


@cache
def of_site(key: str) -> OfSite | None:
    """Return the correction of a site by its key; None if no package has it.

    A TomopipeError without the key says that its package cannot be used, and why.
    """
    result = load(CORRECTIONS_OF_SITES, key, "the correction")
    if result is None:
        return None
    entry, package = result
    if fault := _fault(entry):
        raise TomopipeError(f"the correction of {package}: {fault}; its package must be repaired")
    return OfSite(key, entry, package)


def _fault(entry: Any) -> str:
    """Say what is wrong with an entry; "" if nothing is."""
    if not isinstance(entry, SiteCorrection):
        return f"expected a tomopipe.config.SiteCorrection, got {type(entry).__name__}"
    if not (inspect.isclass(entry.options) and issubclass(entry.options, Block)):
        return f"options: expected a subclass of tomopipe.config.Block, got {entry.options!r}"
    fields = entry.options.model_fields
    places = (COUNTS, *_keys_of_ours(), "stripes", SINOGRAMS)
    required = [key for key, field in fields.items() if field.is_required()]
    faults = {
        "options: package is taken; expected another name": "package" in fields,
        f"options: {', '.join(required)}: expected a default": bool(required),
        f"function: expected a function or module:name, got {entry.function!r}": not (
            callable(entry.function) or isinstance(entry.function, str)
        ),
        f"before: expected one of {', '.join(places)}; got {entry.before!r}": (
            entry.before not in places
        ),
        f"papers: expected a tuple of texts, got {entry.papers!r}": isinstance(entry.papers, str),
        "rows_around: expected 0 before slices, where rows come one by one": bool(
            entry.before == SINOGRAMS and entry.rows_around
        ),
        f"moves: expected false before {entry.before}": (
            entry.moves and entry.before in (COUNTS, SINOGRAMS)
        ),
    }
    return next((text for text, is_so in faults.items() if is_so), "")


def _keys_of_ours() -> list[str]:
    from tomopipe.config.preprocess import CORRECTIONS  # which imports this module

    return [key for key, entry in CORRECTIONS.items() if entry.function]


def fields_of_sites(keys: Iterable[str], block: type[Block]) -> dict[str, Any]:
    """Return type and default of those keys that packages have, as pydantic takes them.

    A package that cannot be used refuses every value, and says why. A key that cannot be a field of
    a subclass of `block` is a ValueError.
    """
    fields: dict[str, Any] = {}
    for key in keys:
        try:
            if correction := of_site(key):
                if key.startswith("_") or hasattr(block, key):
                    raise ValueError(
                        f"{key} of {correction.package} cannot be a key: its package must give it "
                        "another name, which begins with a letter"
                    )
                fields[key] = correction.entry.options | None, None
        except TomopipeError as error:
            fields[key] = Annotated[Any, BeforeValidator(partial(_refuse, str(error)))], None
    return fields


def _refuse(text: str, value: Any) -> Any:
    raise ValueError(text)


def placed(ours: Collection[str], of_sites: Mapping[str, str]) -> list[str]:
    """Return the keys of our corrections and, each in its place, of sites: before which each is."""
    order: list[str] = []
    for place in dict.fromkeys((COUNTS, *ours, "stripes", SINOGRAMS)):
        order += sorted(key for key, before in of_sites.items() if before == place)
        order += [place] if place in ours else []
    return order
