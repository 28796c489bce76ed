"""The corrections of a recipe, fitted to a scan, and what they need: rows around, memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar

from tomopipe.config import PreprocessBlock
from tomopipe.config.preprocess import CORRECTIONS, Correction
from tomopipe.prep.site import SiteStep, site_step

if TYPE_CHECKING:
    from tomopipe.prep.flats import Beam
    from tomopipe.scans.scan import Scan

# Typical micro-tomography values, to estimate the memory of a scan whose file is not open.
USUAL = {"energy_kev": 25.0, "distance_mm": 50.0, "pixel_size_um": 1.0}

IndexRange = tuple[int, int]

GPU_BATCH_BYTES = 128 * 2**20  # of float32 projections being corrected on a GPU
STRIPE_BYTES = 512 * 2**20  # memory of stripe filters, unless one row needs more
MOVED_SHAPES = 14  # changes of a beam that moves: 12 components, its brightness and its fall
USUAL_SHAPES = 3  # of another one
_STRIPE_COPIES = 6  # largest number of copies of a float32 sinogram in a filter
_GPU_STRIPES = 3  # the same on a GPU, where a sinogram takes at least the next number
_GPU_COLUMN_BYTES = 18_000  # for each column: the blocks of angles of `stripes_gated`
_GPU_STRIPE_BYTES = 2**31  # memory of stripe filters on a GPU


def geometry_only(recipe: PreprocessBlock) -> PreprocessBlock:
    """Return the recipe for COR finding: flat, dark, logarithm, and what moves pixels."""
    moves = {key for key, entry in CORRECTIONS.items() if entry.moves}
    moves |= {correction.key for correction in recipe.of_sites() if correction.entry.moves}
    keep = {"flats", "darks", "minus_log", "shifts_scale"} | moves
    keep |= {key for key in PreprocessBlock.model_fields if key.startswith("flat_")}
    return PreprocessBlock(**{key: getattr(recipe, key) for key in keep})


def most_shapes(recipe: PreprocessBlock) -> int:
    """Return how many changes of the beam, frames of float32, the memory is estimated for."""
    most = {
        "interpolate": recipe.flat_sets - 1,
        "pca": recipe.flat_components,
        "register": MOVED_SHAPES,
    }
    return max(USUAL_SHAPES, most.get(recipe.flat_method, 0))


def stripe_bytes(n_angles: int, n_cols: int) -> int:
    """Return the memory (bytes) that removing the stripes of one sinogram needs."""
    return 4 * _STRIPE_COPIES * n_angles * n_cols


def stripe_rows(n_angles: int, n_cols: int) -> int:
    """Return the number of rows whose stripes a GPU removes at a time where memory is short."""
    return max(1, _GPU_STRIPE_BYTES // _gpu_stripe_bytes(n_angles, n_cols))


def _gpu_stripe_bytes(n_angles: int, n_cols: int) -> int:
    return max(_GPU_STRIPES * stripe_bytes(n_angles, n_cols), _GPU_COLUMN_BYTES * n_cols)


def gpu_correct_bytes(
    n_angles: int, n_rows: int, n_cols: int, halo: int, *, stripes_together: bool = False
) -> int:
    """Return the GPU memory (bytes) of corrections: of some projections, or the stripes of rows.

    A batch of `n_rows` rows needs `halo` more on either side; its stripes are removed in one call
    (`stripes_together`) or by `stripe_rows`.
    """
    frame = 4 * (n_rows + 2 * halo) * n_cols
    batch = max(frame, min(GPU_BATCH_BYTES, n_angles * frame))
    if not stripes_together:
        n_rows = min(n_rows, stripe_rows(n_angles, n_cols))
    copies = max(entry.gpu_copies for entry in CORRECTIONS.values())
    return max(copies * batch, n_rows * _gpu_stripe_bytes(n_angles, n_cols))


@dataclass(frozen=True)
class Part:
    """The part of a scan that a correction gets; ranges without their end."""

    frames: IndexRange  # numbers of the projections
    rows: IndexRange  # of the detector, that are given
    target: IndexRange  # and those that are wanted, fewer where it needs rows around them
    fit: Any  # what `Correction.fit` returned for the scan

    @property
    def inner(self) -> slice:
        """The target among the rows that are given."""
        return slice(self.target[0] - self.rows[0], self.target[1] - self.rows[0])


@dataclass(frozen=True)
class Step:
    """A correction that is on, fitted to a scan."""

    entry: Correction
    value: Any  # of its key
    fit: Any

    def rows_needed(self, rows: IndexRange) -> IndexRange:
        """Return the rows that it needs, the last excluded; some may be outside the detector."""
        if not self.entry.rows_around:
            return rows
        needed: IndexRange = resolve_name(self.entry.rows_around)(rows, self.value, self.fit)
        return needed

    def __call__(self, projections: Any, part: Part) -> Any:
        """Apply it to projections (n_frames, n_rows, n_cols)."""
        return resolve_name(self.entry.function)(projections, self.value, part)


@dataclass(frozen=True)
class Detector:
    """The numbers of a scan that is not open, as far as corrections need them."""

    n_rows: int
    n_cols: int
    first_col: ClassVar[int] = 0
    detector_cols: ClassVar[int] = 0
    theta_rad: ClassVar[Any] = ()
    energy_kev: float | None = None
    distance_mm: float | None = None
    pixel_size_um: float | None = None


def steps_of(
    recipe: PreprocessBlock, scan: "Scan | Detector", beam: "Beam | None" = None
) -> tuple[Step | SiteStep, ...]:
    """Return the corrections that are on, in their order; without a beam those of several rows."""
    switched_on = recipe.switched_on
    of_sites = {correction.key: correction for correction in recipe.of_sites()}
    steps: list[Step | SiteStep] = []
    for key in recipe.order:
        value = getattr(recipe, key)
        if correction := of_sites.get(key):
            steps.append(site_step(correction, value, scan))
            continue
        entry = CORRECTIONS[key]
        is_on = entry.function and switched_on & {key, *entry.together}
        if is_on and (beam is not None or entry.rows_around):
            fit = resolve_name(entry.fit)(recipe, scan, beam) if entry.fit else None
            steps.append(Step(entry, value, fit))
    return tuple(steps)


def halo_of(steps: Sequence[Step | SiteStep], n_rows: int) -> int:
    """Return the largest number of further rows read on either side of rows of the detector."""
    return sum(
        max(
            max(row - first, last - row - 1)
            for row in {0, n_rows // 2, n_rows - 1}
            for first, last in [step.rows_needed((row, row + 1))]
        )
        for step in steps
    )


def expected_halo(
    recipe: PreprocessBlock, n_rows: int, n_cols: int, metadata: Mapping[str, Any]
) -> int | None:
    """Return the halo of a scan that has not been opened; None: there is nothing to correct.

    `metadata` are energy_kev, distance_mm and pixel_size_um as far as the config gives them;
    `USUAL` stands for the others.
    """
    if recipe.is_plain:
        return None
    numbers = {key: metadata.get(key) or usual for key, usual in USUAL.items()}
    return halo_of(steps_of(recipe, Detector(n_rows, n_cols, **numbers)), n_rows)
