"""Step full_recon: the volume of a scan at its COR, block by block."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.prep.correct import corrections_of
from tomopipe.prep.edge_slopes import measure_falls
from tomopipe.prep.recipe import is_plain, recipe_of
from tomopipe.recon.array import array_module
from tomopipe.recon.cuda_card import claimed_card
from tomopipe.scans.exchange import Sources, open_scan
from tomopipe.steps.revisions import REVISIONS
from tomopipe.storage.atomic import remove_stale
from tomopipe.stream.corrected import CorrectedSource
from tomopipe.stream.fit_options import (
    Options,
    check_options,
    choose_encoding,
    describe,
    fit_blocks,
    fit_work,
    needs_range,
    span_of,
)
from tomopipe.stream.memory import usable_bytes
from tomopipe.stream.provenance import cor_source, first_voxel, geometry, versions
from tomopipe.stream.source import check_scratch, open_source
from tomopipe.stream.stream import Progress, run
from tomopipe.volumes.volume import new_volume
from tomopipe.volumes.volume_read import copy_voxels, open_volume

_MEMORY_BYTES = 3_200_000_000  # where nothing is said: a machine of 4 GB

logger = logging.getLogger(__name__)


def full_recon(
    raw: str | os.PathLike[str],
    volume: str | os.PathLike[str],
    *,
    cor_px: float,
    scan: str | None = None,
    cor_json: str | os.PathLike[str] | None = None,
    algorithm: str = "fbp",
    iterations: int | None = None,
    tv_strength: float = 3e-3,
    filter: str = "ramp",
    rows: str | Sequence[int] = "all",
    crop_x: str | Sequence[int] = "all",
    crop_y: str | Sequence[int] = "all",
    binning: int = 1,
    output: str = "h5",
    compression: str = "none",
    dtype: str = "float32",
    value_range: str | Sequence[float] = "auto",
    unit: str = "per_pixel",
    pixel_size_um: float | None = None,
    device: str = "auto",
    flats: Sources = None,
    darks: Sources = None,
    known: Mapping[str, Any] | None = None,
    minus_log: bool = True,
    corrections: Mapping[str, Any] | None = None,
    half_acquisition: str = "auto",
    partial: bool = False,
    threads: int | None = None,
    memory_bytes: int | None = None,
    scratch: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    voxels_of: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Reconstruct the volume of a scan and write it whole, verified.

    Reading, computing and writing overlap; memory does not depend on the height of the volume.

    Parameters
    ----------
    raw : path-like
        The scan, of any format.
    volume : path-like
        HDF5 file, OME-Zarr folder, or folder of a TIFF series (recon_00000.tiff, numbered by
        detector row, with binning by binned row).
    cor_px : float
        Column of the rotation axis, unbinned detector pixels.
    scan : str, optional
        Name of the scan in `cor_json`; None: the stem of `raw`.
    cor_json : path-like, optional
        cor.json of the campaign, only to note where the COR comes from.
    algorithm : {"fbp", "sirt", "cgls", "tv"}
        Filtered backprojection, or iteration for few angles (`tomopipe.recon.iterative`).
    iterations : int, optional
        None: what suits the algorithm.
    tv_strength : float
        Weight of the total variation, for "tv".
    filter, device
        As for `tomopipe.recon`.
    rows : "all" or sequence of int
        First and last detector row, both included.
    crop_x, crop_y : "all" or sequence of int
        First and last column (row) of the slices, both included, in voxels of the unbinned slice.
    binning : int
        Blocks of `binning` x `binning` detector pixels are averaged first, an incomplete block at
        the edge being dropped; values stay per unbinned pixel.
    output : {"h5", "tiff", "zarr"}
        One file, a series, or OME-Zarr with its smaller versions.
    compression : str
        none, gzip, lz4, zstd or bitshuffle; for TIFF none or gzip.
    dtype : {"float32", "float16", "uint16", "uint8"}
        Number type of the volume; value = offset + scale * stored.
    value_range : "auto" or (float, float)
        Values of the smallest and the largest whole number, in the unit of the volume; auto: from
        slices spread over the volume (`tomopipe.volumes.encoding.robust_range`).
    unit : {"per_pixel", "per_cm"}
        Attenuation per unbinned pixel, or per cm.
    pixel_size_um : float, optional
        Unbinned pixel size in micrometres; None: the file's.
    flats, darks, known, partial
        As for `tomopipe.scans.exchange.open_scan`.
    minus_log : bool
        Take -log of the transmission.
    corrections : mapping, optional
        The other keys of `tomopipe.config.PreprocessBlock`.
    half_acquisition : {"auto", "yes", "no"}
        Slices of twice the detector's width (`tomopipe.prep.half_acquisition`), crops being theirs;
        auto: by fbp, where the angles make a full turn and the COR is in an outer quarter.
    threads : int, optional
        CPU threads; None: the cores this process may use.
    memory_bytes : int, optional
        Memory the job may take; None: 3.2 GB. Exceeded only if the smallest blocks need more.
    scratch : str, optional
        Folder for a large temporary file; None: the system's.
    provenance : mapping, optional
        More to write into the volume.
    voxels_of : path-like, optional
        An earlier volume of the same scan and options, but for the metadata: its voxels are taken
        and none is computed.
    progress : callable, optional
        Called with the number of slices done and of all slices.

    Raises
    ------
    ScanError
        If the scan cannot be read, holds no signal, or does not fit the parameters.
    TomopipeError
        If the volume is not complete and finite.
    OSError
        If it cannot be written.
    """
    from tomopipe.recon.jit import thread_count  # numba: not when the workflow is parsed

    limits = value_range if isinstance(value_range, str) else (value_range[0], value_range[1])
    options = Options(
        float(cor_px), algorithm, iterations, tv_strength, filter, span_of(rows), span_of(crop_x),
        span_of(crop_y), binning, output, compression, dtype, limits, unit, pixel_size_um, device,
        flats, darks, minus_log, partial, half_acquisition,
    )  # fmt: skip
    check_options(options)
    check_scratch(scratch)
    for leftover in remove_stale(volume):
        logger.info("removed %s, left by a killed job", leftover.name)
    name = scan or Path(raw).stem
    cor = {"cor_px": options.cor_px, "source": cor_source(cor_json, name)}
    notes = {"raw": os.path.abspath(raw), "scan": name, "cor": cor}
    with ExitStack() as stack:
        opened = stack.enter_context(
            open_scan(raw, flats=flats, darks=darks, known=known, partial=partial)
        )
        opened.threads = thread_count(threads)
        _ = opened.flat, opened.dark  # averaged before the blocks take their memory
        earlier = stack.enter_context(open_volume(voxels_of)) if voxels_of else None
        xp = array_module("cpu" if earlier or algorithm != "fbp" else device)
        card = None if xp is np else stack.enter_context(claimed_card(xp))
        recipe = recipe_of(flats, darks, minus_log, corrections)
        fit = corrections_of(opened, recipe)
        falls_per_px = measure_falls(opened, fit)
        fitted = None if is_plain(recipe) else fit
        if card and fitted and fitted.recipe.stripes.method == "gated":
            logger.warning(
                "preprocess.stripes.method: gated works out offsets on the CPU, row by row, and "
                "the GPU waits; the other methods stay on it"
            )
        blocks, low_blocks = fit_blocks(
            opened,
            options,
            usable_bytes(memory_bytes or _MEMORY_BYTES),
            on_gpu=card is not None,
            halo=fitted.halo if fitted else None,
        )
        work = fit_work(
            opened,
            options,
            opened.threads,
            blocks.lanes,
            card,
            corrections=fitted,
            falls_per_px=falls_per_px,
        )
        if earlier is None:
            used = (work.first_row, work.last_row)
            used = fitted.span(used) if fitted else used
            source, blocks = stack.enter_context(
                open_source(
                    opened, used, blocks, low_blocks, samples=needs_range(options), scratch=scratch
                )
            )
            if work.corrected and fitted is not None:
                source = CorrectedSource(source, fitted, opened.threads)
            encoding, made_by = choose_encoding(work, source, options), versions(work)
        else:
            encoding, made_by = earlier.encoding, earlier.provenance["versions"]
        parameters = {"known": dict(known or {}), "corrections": dict(corrections or {})}
        notes |= {
            "parameters": asdict(options) | parameters | {"revision": REVISIONS["full_recon"]},
            "geometry": geometry(work),
            "versions": made_by,
        }
        if card:
            work = replace(work, encoding=encoding)
        put = stack.enter_context(
            new_volume(
                volume,
                work.shape,
                output_format=output,
                encoding=encoding,
                compression=compression,
                attributes=describe(work, options),
                provenance=notes | dict(provenance or {}),
                first_number=work.first_row // binning,
                first_voxel=first_voxel(work),
            )
        )
        if earlier is None:
            run(work, source, blocks, put, progress)
        else:
            logger.info("only metadata are new: the voxels are those of the volume there is")
            copy_voxels(earlier, put)
