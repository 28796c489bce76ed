"""Step full_recon: the volume of a scan at its COR, block by block."""

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from tomopipe.config import FullReconBlock
from tomopipe.prep.correct import corrections_of, measure_edge_slopes
from tomopipe.recon.jit import thread_count
from tomopipe.resources.memory import Resources
from tomopipe.scans.exchange import RawScan
from tomopipe.storage.atomic import remove_stale
from tomopipe.stream.fit_options import VolumeOptions, check_options, fit_task
from tomopipe.stream.provenance import describe, notes_of, origin_of
from tomopipe.stream.source import source_of
from tomopipe.stream.stream import choose_encoding, run
from tomopipe.volumes.output_size import volume_bytes
from tomopipe.volumes.volume import make_room, new_volume
from tomopipe.volumes.volume_read import clipped_text, copy_voxels, open_volume
from tomopipe.workflow_steps import STEPS

_MEMORY_BYTES = 3_200_000_000  # by default: a machine of 4 GB

logger = logging.getLogger(__name__)


def full_recon(
    raw: RawScan,
    volume: str | os.PathLike[str],
    cor: Mapping[str, Any],
    options: FullReconBlock,
    *,
    pixel_size_um: float | None,
    resources: Resources,
    provenance: Mapping[str, Any] | None,
    voxels_of: str | os.PathLike[str] | None,
) -> str:
    """Reconstruct the volume of a scan and write it whole, verified.

    Reading, computing and writing overlap; memory does not depend on the height of the volume.

    `volume`: HDF5 file, OME-Zarr folder, or folder of a TIFF series (recon_00000.tiff, numbered by
    detector row, with binning by binned row). `cor` has `cor_px`, column of the rotation axis in
    unbinned detector pixels, and its `source`. `pixel_size_um` is of an unbinned pixel, for
    attenuation per cm; None: the file's. `provenance`: further attributes of the volume.
    `voxels_of` is an earlier volume of the same scan and options, except metadata: its voxels are
    copied. Returns a warning, or "".

    A ScanError if the scan cannot be read, holds no signal, or does not fit the parameters; a
    TomopipeError if the volume is not complete and finite; an OSError if it cannot be written.
    """
    target = VolumeOptions(float(cor["cor_px"]), options, raw.preprocess, pixel_size_um)
    check_options(target, resources.scratch)
    for leftover in remove_stale(volume):
        logger.info("removed %s, left by a killed job", leftover.name)
    with ExitStack() as stack:
        scan = stack.enter_context(raw.open())
        scan.threads = thread_count(resources.threads)
        _ = scan.flat, scan.dark  # averaged before memory is allocated for blocks
        earlier = stack.enter_context(open_volume(voxels_of)) if voxels_of else None
        corrections = corrections_of(scan, raw.preprocess)
        task, both_blocks = fit_task(
            scan,
            target,
            corrections,
            measure_edge_slopes(scan, corrections),
            device="cpu" if earlier else options.device,
            memory_bytes=resources.memory_bytes or _MEMORY_BYTES,
            stack=stack,
        )
        versions = None  # of this process
        if earlier is None:
            samples, scratch = target.needs_range, resources.scratch
            source, blocks = source_of(
                task, both_blocks, samples=samples, scratch=scratch, stack=stack
            )
            encoding = choose_encoding(task, source, target)
        else:
            encoding, versions = earlier.encoding, earlier.provenance["versions"]
        revision = STEPS["full_recon"].revision
        notes = notes_of(raw, target, task, cor.get("source"), revision=revision, versions=versions)
        if earlier is None:
            make_room(volume, volume_bytes(task.shape, encoding.dtype, options.output))
        put = stack.enter_context(
            new_volume(
                volume,
                task.shape,
                output_format=options.stored_format,
                encoding=encoding,
                compression=options.compression,
                attributes=describe(task, target),
                provenance=notes | dict(provenance or {}),
                origin=origin_of(notes, options.binning),
            )
        )
        if earlier is None:
            run(replace(task, encoding=encoding) if task.transfer else task, source, blocks, put)
        else:
            logger.info("only metadata changed: the voxels of the existing volume are copied")
            copy_voxels(earlier, put)
    warnings = [corrections.beam.warning] if corrections.beam.warning else []
    # only integers have a range, beyond which values are clipped
    if encoding.is_whole and (clipped := clipped_text(volume)):
        warnings.append(f"volume: {clipped} (full_recon.value_range)")
        logger.warning(warnings[-1])
    return "; ".join(warnings)
