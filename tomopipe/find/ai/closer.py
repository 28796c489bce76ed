"""A closer look at the chosen place, at full size: refinement, and whether anything rotates."""

from dataclasses import dataclass

from tomopipe.find.combine import vote
from tomopipe.find.curves import refine
from tomopipe.find.rotation import rotation_gain
from tomopipe.find.seen import see
from tomopipe.find.slices import Reconstruct
from tomopipe.io.rows import Rows


@dataclass(frozen=True)
class Closer:
    """What full size says of one place.

    Attributes
    ----------
    fine_px : dict
        Refined COR of each kind of evidence that could refine, unbinned px.
    rotation : tuple of float or None
        Of `tomopipe.find.rotation.rotation_gain`.
    """

    fine_px: dict[str, float]
    rotation: tuple[float, float] | None


def look_closer(rows: Rows, near_px: float, reconstruct: Reconstruct) -> Closer:
    """Refine the COR near a place by all kinds of evidence that can.

    Parameters
    ----------
    rows : Rows
        The scan.
    near_px : float
        The place, unbinned px.
    reconstruct : callable
        Makes slices of one sinogram at several CORs.

    Returns
    -------
    Closer
        Without estimates where nothing can refine.
    """
    fine_px = refine(rows, near_px, reconstruct)
    place_px = vote(fine_px)[0] if fine_px else near_px
    return Closer(fine_px, rotation_gain(see(rows), place_px))
