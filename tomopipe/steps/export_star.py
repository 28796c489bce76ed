"""Write the campaign as a RELION tomogram set that RELION 4 and RELION 5 both read.

`tomograms.star` holds the table `global` and, for RELION 4, the projection matrices of each
tomogram; RELION 5 follows `rlnTomoTiltSeriesStarFile` to the angles in `tilt_series/`.
`tomograms_relion5.star` holds the table `global` alone, as RELION 5 writes a set: starfile.read
returns one table.

The tomogram is the volume that full_recon makes of the same rows and the same binning, with its
first two axes swapped (x = column, y = detector row counted from the first row exported, z = row of
the slice), without an odd last x and z. So the axis of the matrices is that of the volume, odd or
not: voxel (N//2, N//2 - 1), N being its number of columns: that of the binned detector, or twice
as many for a half acquisition.
"""

import logging
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from tomopipe.campaign.files import (
    LINKS,
    MRC_VOLUME,
    NAMES,
    NAMES_COLUMNS,
    STACK,
    STAR,
    STAR5,
    TABLES,
    TILT_SERIES,
)
from tomopipe.campaign.results import read_cor_json, read_json, write_tsv
from tomopipe.errors import TomopipeError, grouped, some_of
from tomopipe.geometry import (
    ANGSTROM_PER_UM,
    Floats,
    axis_voxel,
    bin_cor,
    relion4_matrices,
    relion5_alignment,
)
from tomopipe.paths import no_pipe
from tomopipe.prep.half_acquisition import FACTOR, is_half_acquisition
from tomopipe.relion.mrc import check_stack, read_volume_size
from tomopipe.relion.star import (
    Table,
    matrix_rows_text,
    number_text,
    table_places,
    table_text,
    tomo_names,
    zeroed,
)
from tomopipe.storage.atomic import whole, write_json, write_text
from tomopipe.storage.checksums import finish, remember, written
from tomopipe.storage.json_files import json_or
from tomopipe.volumes.output_size import StackGeometry

_OF_STACK = "the description of a stack by export_stack"
_NO_FILE = "None"  # RELION's word
_N_NAMED = 4  # scans in a warning
_SAME_PX = 0.01
# columns that switch off effects of electron microscopy: defocus, dose, fading
_NO_CTF = {
    "rlnDefocusU": 0,
    "rlnDefocusV": 0,
    "rlnDefocusAngle": 0,
    "rlnCtfScalefactor": 1,
    "rlnMicrographPreExposure": 0,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tomogram:
    """One scan of the set, as described to RELION; `repr` has what its own tables show."""

    # rlnTomoName, and the files of the images and of the angles as RELION opens them
    name: str
    stack: str = field(repr=False)
    tilt_series: str
    geometry: StackGeometry  # how the stack was cut out of the detector
    theta_rad: Floats = field(repr=False)  # (n_images,): angle of each image
    cor_px: float  # column of the rotation axis in the stack
    # size of a pixel of the stack, photon energy
    pixel_angstrom: float
    energy_kev: float
    # whether the volume is of half acquisition, twice as wide as the detector
    is_half: bool
    # the scan's volume as RELION opens it, or empty; pixels of the stack in one of its voxels
    volume: str = field(default="", repr=False)
    volume_binning: float = field(default=1.0, repr=False)

    @property
    def axis_xz(self) -> tuple[float, float]:
        """Voxel of the rotation axis: x and z."""
        return axis_voxel(_volume_cols(self.geometry, is_half=self.is_half))

    @property
    def size(self) -> tuple[int, int, int]:
        """Width, height and depth: those of the volume without an odd last x and last z."""
        width = _volume_cols(self.geometry, is_half=self.is_half) // 2 * 2
        return width, self.geometry.rows, width

    @property
    def optics_group(self) -> str:
        """Name of the group of all tomograms with this pixel size and energy."""
        return f"px{number_text(self.pixel_angstrom)}A_{number_text(self.energy_kev)}keV"


def export_star(
    metas: Mapping[str, str | os.PathLike[str]],
    stacks: Mapping[str, str | os.PathLike[str]],
    cor: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    hand: int,
    half_acquisition: Mapping[str, str],
    volumes: Mapping[str, str | os.PathLike[str]],
    other_rows: Collection[str],
) -> str:
    """Write the stars, tilt_series/ and names.tsv for the stacks of a campaign.

    Paths by scan: `metas`, the JSON of export_stack; `stacks`; and `volumes`, MRC volumes, if they
    exist. They are relative to the working directory, which must be the folder that RELION will run
    in: it resolves paths in star files from there. `cor` is cor.json.

    `output` is the folder of the set. A scan whose name RELION refuses is read through a link in
    `output`/links. `tilt_series` and `links` are replaced as a whole, without former scans.

    `hand`, -1 or +1: rlnTomoHand, whether defocus grows with depth; it mirrors nothing.
    `half_acquisition`: that of preprocess, of scans where it is not auto; "no" also for scans whose
    volume is not made by fbp. `other_rows`: scans whose volume has other detector rows than their
    stack, and is not in the set.

    A scan whose JSON has `failed` is skipped.

    Returns a warning about volumes that are not in the set, or are by a fraction of a voxel off it,
    and about several optics groups; or "".

    A TomopipeError if a scan has no COR, or a stack is not the one that its JSON describes.
    """
    output = Path(output)
    cor_px = {scan: entry["cor_px"] for scan, entry in read_cor_json(cor).items()}
    if missing := [scan for scan in metas if scan not in cor_px]:
        raise TomopipeError(
            f"{cor}: expected a COR of each exported scan; missing: {', '.join(missing)}. "
            "Delete the file and run again."
        )
    import pydantic  # noqa: F401 (its parser of JSON is faster, and `read_json` uses it)

    stated = {scan: read_json(path, _OF_STACK) for scan, path in metas.items()}
    for scan, meta in stated.items():
        if "failed" in meta:
            log.warning("%s is not in the set: %s", scan, meta["failed"])
    names = tomo_names(sorted(scan for scan, meta in stated.items() if "failed" not in meta))
    links = {s: output / LINKS / f"{name}{STACK}" for s, name in names.items() if s != name}
    tomograms: list[Tomogram] = []
    linked: dict[Path, Path] = {}
    warnings: list[str] = []
    for scan, name in names.items():
        meta = stated[scan]
        if os.path.lexists(stacks[scan]):
            check_stack(stacks[scan], meta["stack_shape"])
        else:  # temporary, and RELION has already used it
            log.warning("%s is in the set, but its stack was removed: %s", scan, stacks[scan])
        stack = os.fspath(links.get(scan, stacks[scan]))
        tilt_series = f"{output}/{TILT_SERIES}/{name}.star"
        mode = half_acquisition.get(scan, "auto")
        tomogram = _tomogram(meta, cor_px[scan], name, stack, tilt_series, mode)
        volume = Path(volumes[scan]) if scan in volumes else None
        is_there = volume is not None and volume.is_file()
        if volume and is_there and scan not in other_rows:
            link = output / LINKS / f"{name}{MRC_VOLUME}"
            shown = link if scan in links else volume
            tomogram = _with_volume(tomogram, volume, shown.as_posix(), warnings.append)
            if tomogram.volume == link.as_posix():
                linked[link] = volume
        elif is_there:
            warnings.append(f"{volume} has other rows than the stack: it is not in the set")
        tomograms.append(tomogram)
    warnings += _several_groups(tomograms)
    for warning in warnings:
        log.warning(warning)
    linked |= {link: Path(stacks[scan]) for scan, link in links.items()}
    _write_links(linked, output / LINKS)
    overview = table_text("global", global_table(tomograms, hand), output / STAR)
    digests = _write_tables(overview, tomograms, output)
    write_text(overview, output / STAR5)
    write_json(digests, output / TABLES)
    named = (dict(zip(NAMES_COLUMNS, pair, strict=True)) for pair in names.items())
    write_tsv(named, NAMES_COLUMNS, output / NAMES)
    log.info("%d tomograms in %s", len(tomograms), output / STAR)
    more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
    return warnings[0] + more if warnings else ""


def global_table(tomograms: list[Tomogram], hand: int) -> Table:
    """Make the table `global`: one row per tomogram."""
    sizes = [tomogram.size for tomogram in tomograms]
    constant = len(tomograms)
    table = {
        "rlnTomoName": [t.name for t in tomograms],
        "rlnTomoTiltSeriesName": [t.stack for t in tomograms],
        "rlnTomoTiltSeriesStarFile": [t.tilt_series for t in tomograms],
        "rlnTomoFrameCount": [t.theta_rad.size for t in tomograms],
        "rlnTomoSizeX": [size[0] for size in sizes],
        "rlnTomoSizeY": [size[1] for size in sizes],
        "rlnTomoSizeZ": [size[2] for size in sizes],
        "rlnTomoHand": [hand] * constant,
        # Without it RELION gives all particles the pixel size and voltage of the first tomogram.
        "rlnOpticsGroupName": [t.optics_group for t in tomograms],
        "rlnTomoTiltSeriesPixelSize": [t.pixel_angstrom for t in tomograms],
        "rlnMicrographOriginalPixelSize": [
            t.pixel_angstrom / t.geometry.binning for t in tomograms
        ],
        "rlnTomoTomogramBinning": [t.volume_binning for t in tomograms],
        "rlnVoltage": [t.energy_kev for t in tomograms],
        "rlnSphericalAberration": [0] * constant,
        # With amplitude contrast 1 the CTF is 1 at every frequency, so applying it has no effect.
        "rlnAmplitudeContrast": [1] * constant,
        "rlnTomoImportFractionalDose": [0] * constant,
    }
    if any(t.volume for t in tomograms):
        table["rlnTomoReconstructedTomogram"] = [t.volume or _NO_FILE for t in tomograms]
    return table


def matrix_table(tomogram: Tomogram) -> Table:
    """Make the tilt table of RELION 4: a projection matrix per image, world = voxel + 1."""
    matrices = relion4_matrices(tomogram.theta_rad, tomogram.cor_px, tomogram.axis_xz)
    projections = {
        f"rlnTomoProj{axis}": matrix_rows_text(matrices[:, row]) for row, axis in enumerate("XYZW")
    }
    return projections | _NO_CTF


def angle_table(tomogram: Tomogram) -> Table:
    """Make the tilt table of RELION 5: angles and shifts, world = voxel.

    The shifts hold for tomograms of the size in `global` (--w --h --d of the program).
    """
    geometry = tomogram.geometry
    y_tilt_deg, x_shift_px, y_shift_px = relion5_alignment(
        tomogram.theta_rad,
        tomogram.cor_px,
        tomogram.axis_xz,
        image_size=(geometry.cols, geometry.rows),
        tomogram_size=tomogram.size,
    )
    angles = {
        "rlnTomoXTilt": 0,
        "rlnTomoYTilt": zeroed(y_tilt_deg),
        "rlnTomoZRot": 0,
        "rlnTomoXShiftAngst": zeroed(x_shift_px * tomogram.pixel_angstrom),
        "rlnTomoYShiftAngst": zeroed(y_shift_px * tomogram.pixel_angstrom),
        "rlnTomoNominalStageTiltAngle": zeroed(np.degrees(tomogram.theta_rad)),
    }
    return angles | _NO_CTF


def _volume_cols(geometry: StackGeometry, *, is_half: bool) -> int:
    return (FACTOR if is_half else 1) * geometry.volume_cols


def _tomogram(
    meta: dict[str, Any],
    cor_px: float,
    name: str,
    stack: str,
    tilt_series: str,
    mode: str,
) -> Tomogram:
    geometry = StackGeometry(meta["n_cols"], meta["n_rows"], meta["binning"])
    first_col = meta["first_col"]
    is_half = meta["full_turn"] and is_half_acquisition(
        mode,
        full_rotation=True,
        cor_px=cor_px,
        n_cols=geometry.n_cols,
        first_col=first_col,
    )
    return Tomogram(
        name=name,
        stack=stack,
        tilt_series=tilt_series,
        geometry=geometry,
        theta_rad=np.radians(meta["theta_deg"]),
        cor_px=float(bin_cor(cor_px, x0=first_col, binning=geometry.binning)),
        pixel_angstrom=meta["pixel_size_um"]["value"] * geometry.binning * ANGSTROM_PER_UM,
        energy_kev=meta["energy_kev"]["value"],
        is_half=is_half,
    )


def _with_volume(
    tomogram: Tomogram, path: Path, shown: str, warn: Callable[[str], None]
) -> Tomogram:
    """Add the volume to the set if it belongs to the stack; else warn why not."""
    try:
        size, voxel_angstrom = read_volume_size(path)
    except TomopipeError as error:
        warn(f"{error}; it is not in the set")
        return tomogram
    stack = tomogram.geometry
    ratio = voxel_angstrom / tomogram.pixel_angstrom if voxel_angstrom > 0 else 1.0
    binning = max(1, round(ratio * stack.binning))
    geometry = StackGeometry(stack.n_cols, stack.n_rows, binning)
    cols = _volume_cols(geometry, is_half=tomogram.is_half)
    expected = (cols, geometry.rows, cols)
    if size != expected or abs(ratio * stack.binning / binning - 1) > 1e-3:
        voxel_angstrom = binning * tomogram.pixel_angstrom / stack.binning
        warn(
            f"{path}: expected the size (x, y, z) {expected} of the whole volume at voxels of "
            f"{voxel_angstrom:g} A, got {size}: it is not in the set"
        )
        return tomogram
    ratio = binning / stack.binning
    # RELION identifies voxel i of the volume with i * ratio of the set
    axis, set_axis = axis_voxel(cols), tomogram.axis_xz
    off_px = [set_axis[i] - ratio * axis[i] for i in range(2)] + [(ratio - 1) / 2]
    if max(map(abs, off_px)) > _SAME_PX:
        shift = ", ".join(f"{each:.3g}" for each in off_px)
        warn(
            f"{path}: a voxel has {ratio:g} pixels of the stack; positions picked in it are off by "
            f"(x, z, y) {shift} pixels of the stack. Equal export_star.binning and "
            "full_recon.binning avoid this shift."
        )
    return replace(tomogram, volume=shown, volume_binning=ratio)


def _several_groups(tomograms: list[Tomogram]) -> list[str]:
    """Return a warning that names the optics groups; [] if there is one."""
    groups = grouped((tomogram.optics_group, tomogram.name) for tomogram in tomograms)
    if len(groups) < 2:
        return []
    named = "; ".join(f"{group}: {some_of(names, _N_NAMED)}" for group, names in groups.items())
    return [
        f"{len(groups)} optics groups, one for each pixel size and energy: {named}. If these "
        "differ only by rounding, set export_star.pixel_size_um and energy_kev for all."
    ]


def _write_tables(overview: str, tomograms: list[Tomogram], output: Path) -> dict[str, str]:
    """Write tomograms.star and tilt_series; return a digest for each tomogram, by name.

    The digest is of what its tables are made from and of their text. Tables of the last set that
    still have it are used again, since starfile needs milliseconds for each.
    """
    last_digests, digests = json_or(output / TABLES, {}), {}
    with (
        ExitStack() as stack,
        whole(output / TILT_SERIES) as folder,
        whole(output / STAR) as temporary,
        open(temporary, "wb") as stream,
    ):
        folder.mkdir()
        matrices = _mapped(output / STAR, stack)
        places = table_places(matrices)
        stream.write(overview.encode())
        for tomogram in tomograms:  # in the order of `overview`, as RELION 4 expects
            name, last = tomogram.name, tomogram.tilt_series
            angles, matrix = _content(last), matrices[places.get(name, slice(0))]
            digest = _digest(tomogram, angles, matrix)
            is_last = digest == last_digests.get(name)
            if not is_last:
                angles = table_text(name, angle_table(tomogram), last).encode()
                matrix = table_text(name, matrix_table(tomogram), output / STAR).encode()
                digest = _digest(tomogram, angles, matrix)
            digests[name] = digest
            stream.write(matrix)
            path = f"{folder}/{os.path.basename(last)}"
            _write_or_link(angles, path, last if is_last else "")
            written(path, 0, angles)  # not read again
            remember(path, finish(path))
    return digests


def _digest(tomogram: Tomogram, *texts: bytes) -> str:
    """Return a digest of what the tables of a tomogram are made from, and of their text."""
    made_from = repr(tomogram).encode(), tomogram.theta_rad.tobytes()
    return xxhash.xxh3_128_hexdigest(b"".join([*made_from, *texts]))


def _content(path: str) -> bytes:
    """Return the content of a file of the last set; empty if it cannot be read, or is a link."""
    with suppress(OSError):
        if not os.path.islink(path):
            with open(no_pipe(path), "rb") as stream:
                return stream.read()
    return b""


def _mapped(path: Path, stack: ExitStack) -> Any:
    """Open a star file of the last set as bytes; empty if it cannot be read."""
    with suppress(OSError, ValueError):  # ValueError: it is empty
        stream = stack.enter_context(no_pipe(path).open("rb"))
        return stack.enter_context(mmap(stream.fileno(), 0, access=ACCESS_READ))
    return b""


def _write_or_link(content: bytes, path: str, last: str) -> None:
    """Write a file, or link that of the last set, if there is one."""
    with suppress(OSError):  # no hard links on this file system
        if last:
            os.link(last, path)
            return
    Path(path).write_bytes(content)


def _write_links(links: Mapping[Path, Path], folder: Path) -> None:
    """Make the links again; without links there is no folder."""
    if not links and not folder.exists():
        return
    with whole(folder) as temporary:
        temporary.mkdir()
        for link, stack in links.items():
            # Relative, so that the campaign can be moved.
            (temporary / link.name).symlink_to(os.path.relpath(stack, folder))
