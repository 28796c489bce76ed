"""Steps as benchmarks call them: nothing but the raw file and what a job may use."""

from __future__ import annotations

from pathlib import Path

from tomopipe.config import FullReconBlock
from tomopipe.resources.memory import Resources
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.full_recon import full_recon


def volume_job(
    raw: RawScan, volume: Path, cor_px: float, options: FullReconBlock, resources: Resources
) -> None:
    """Reconstruct the volume of a scan."""
    full_recon(
        raw,
        volume,
        {"cor_px": cor_px},
        options,
        pixel_size_um=None,
        resources=resources,
        provenance=None,
        voxels_of=None,
    )
