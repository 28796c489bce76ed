"""Step full_recon: the volume of a scan at its COR, block by block."""

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from tomopipe.config import FullReconBlock
from tomopipe.prep.correct import Corrections, corrections_of, measure_edge_slopes
from tomopipe.recon.device import held_gpu
from tomopipe.resources.memory import Blocks, Resources, usable_bytes
from tomopipe.scans.exchange import RawScan
from tomopipe.steps import REVISIONS
from tomopipe.storage.atomic import remove_stale
from tomopipe.stream.fit_options import (
    VolumeOptions,
    check_options,
    choose_encoding,
    describe,
    fit_blocks,
    fit_task,
    least_gpu_bytes,
    needs_range,
)
from tomopipe.stream.provenance import geometry, origin_of, package_versions, parameters
from tomopipe.stream.recon_task import ReconTask
from tomopipe.stream.source import CorrectedSource, Source, check_scratch, open_source
from tomopipe.stream.stream import run
from tomopipe.volumes.volume import make_room, new_volume
from tomopipe.volumes.volume_read import clipped_text, copy_voxels, open_volume

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
    from tomopipe.recon.jit import thread_count  # numba: not when the workflow is parsed

    target = VolumeOptions(float(cor["cor_px"]), options, raw.preprocess, pixel_size_um)
    check_options(target)
    check_scratch(resources.scratch)
    for leftover in remove_stale(volume):
        logger.info("removed %s, left by a killed job", leftover.name)
    notes = {
        "raw": os.path.abspath(raw.path),
        "scan": raw.name or Path(raw.path).stem,
        "cor": {"cor_px": target.cor_px, "source": cor.get("source")},
        "parameters": parameters(target, raw.input, partial=raw.partial)
        | {"revision": REVISIONS["full_recon"]},
    }
    with ExitStack() as stack:
        scan = stack.enter_context(raw.open())
        scan.threads = thread_count(resources.threads)
        _ = scan.flat, scan.dark  # averaged before memory is allocated for blocks
        earlier = stack.enter_context(open_volume(voxels_of)) if voxels_of else None
        fit = corrections_of(scan, raw.preprocess)
        fitted = None if raw.preprocess.is_plain else fit
        halo = fitted.halo if fitted else None
        device = "cpu" if earlier or options.algorithm != "fbp" else options.device
        gpu = stack.enter_context(held_gpu(device, least_gpu_bytes(scan, target, halo)))
        memory_bytes = usable_bytes(resources.memory_bytes or _MEMORY_BYTES)
        both_blocks = fit_blocks(scan, target, memory_bytes, on_gpu=gpu is not None, halo=halo)
        edge_slopes_per_px = measure_edge_slopes(scan, fit)
        batch_size = both_blocks[0].batch_size
        task = fit_task(
            scan, target, batch_size, gpu, corrections=fitted, edge_slopes_per_px=edge_slopes_per_px
        )
        if earlier is None:
            source, blocks = _source(stack, task, fitted, both_blocks, target, resources.scratch)
            encoding = choose_encoding(task, source, target)
            make_room(volume, task.shape, encoding.dtype, options.output)
            made_by = package_versions() | {"array_module": task.plan.xp.__name__}
        else:
            encoding, made_by = earlier.encoding, earlier.provenance["versions"]
        notes |= {"geometry": geometry(task), "versions": made_by}
        put = stack.enter_context(
            new_volume(
                volume,
                task.shape,
                output_format=options.output,
                encoding=encoding,
                compression=options.compression,
                attributes=describe(task, target),
                provenance=notes | dict(provenance or {}),
                origin=origin_of(notes, options.binning),
            )
        )
        if earlier is None:
            run(replace(task, encoding=encoding) if gpu else task, source, blocks, put)
        else:
            logger.info("only metadata changed: the voxels of the existing volume are copied")
            copy_voxels(earlier, put)
    # only integers have a range, beyond which values are clipped
    if not (encoding.is_whole and (clipped := clipped_text(volume))):
        return ""
    warning = f"volume: {clipped} (full_recon.value_range)"
    logger.warning(warning)
    return warning


def _source(
    stack: ExitStack,
    task: ReconTask,
    fitted: Corrections | None,
    both_blocks: tuple[Blocks, Blocks],
    target: VolumeOptions,
    scratch: str | None,
) -> tuple[Source, Blocks]:
    """Return the source of rows, corrected if the host corrects, and its blocks."""
    if task.in_place:
        return task.scan, both_blocks[0]
    used = (task.first_row, task.last_row)
    used = fitted.rows_needed(used) if fitted else used
    samples = needs_range(target)
    opened = open_source(task.scan, used, *both_blocks, samples=samples, scratch=scratch)
    source, blocks = stack.enter_context(opened)
    if task.corrected and fitted is not None:
        source = CorrectedSource(source, fitted, task.scan)
    return source, blocks
