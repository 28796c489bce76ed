"""Angles that are in no file: derived from the projections, for the steps that follow."""

import logging
from dataclasses import replace

from tomopipe.config import InputBlock
from tomopipe.cor.collected_rows import collect_sinograms, spread_rows
from tomopipe.errors import ScanError
from tomopipe.prep.recipe import geometry_only
from tomopipe.scans.exchange import NO_ANGLES
from tomopipe.scans.raw_scan import RawScan

_ROWS = 32
_VALUES = 24_000_000  # of the rows that are used: 100 MB
_SELECTION = ("every", "skip_angles", "skip_projections")

logger = logging.getLogger(__name__)


def prove_angles(raw: RawScan, threads: int) -> dict[str, float] | None:
    """Prove the angles of a scan that has none.

    Returns `input.angles` that say the same; None where the angles are known. A ScanError says that
    they are not known and cannot be proven.
    """
    usual = {key: InputBlock.model_fields[key].default for key in _SELECTION}
    everything = replace(raw, input=raw.input.model_copy(update=usual))
    with everything.open(without_angles=True) as scan:
        if not scan.theta_missing:
            return None
        from tomopipe.cor.angular_range import prove_range  # slow to load

        n_rows = min(_ROWS, max(1, _VALUES // (scan.n_angles * scan.n_cols)))
        rows = sorted(spread_rows([(scan.n_rows - 1) // 2], scan.n_rows, n_rows))
        logger.info("no angles: looking at %d rows for what they prove", len(rows))
        recipe = geometry_only(raw.preprocess)
        sinograms = collect_sinograms(scan, rows, recipe, threads=threads)
        n_planned = scan.n_planned
    proof = prove_range(sinograms, n_planned)
    if proof.reason:
        raise ScanError(f"{raw.path}: {NO_ANGLES}; they cannot be proven: {proof.reason}")
    stop_deg = proof.range_deg if proof.endpoint else proof.range_deg * (1 - 1 / n_planned)
    logger.warning(
        "no angles: %g degrees, the last projection %s, are proven from the projections (the range "
        "ends %.2f +- %.2f angular steps after the last one). The direction of rotation cannot be: "
        "if it is the other one, the volume is mirrored; then set input.angles",
        proof.range_deg, "at their end" if proof.endpoint else "one step before their end",
        proof.beyond, proof.beyond_error,
    )  # fmt: skip
    return {"start": 0.0, "stop": stop_deg}
