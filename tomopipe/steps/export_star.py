"""Write the campaign as a RELION tomogram set: one that RELION 4 and RELION 5 both read.

`tomograms.star` holds the table `global` and, for RELION 4, the projection matrices of each
tomogram; RELION 5 follows `rlnTomoTiltSeriesStarFile` to the angles in `tilt_series/`.

The tomogram is the volume that full_recon makes of the same rows and the same binning, with its
first two axes swapped (x = column, y = detector row counted from the first row exported, z = row of
the slice), without an odd last x and z. So the matrices carry the axis of that volume, odd or not:
voxel (N//2, N//2 - 1) with N the columns after binning.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.errors import TomopipeError
from tomopipe.geometry import (
    Floats,
    StackGeometry,
    axis_voxel,
    bin_cor,
    relion4_matrices,
    relion5_alignment,
)
from tomopipe.io.atomic import whole
from tomopipe.io.mrc import check_stack
from tomopipe.io.results import read_cor_json, read_json
from tomopipe.io.star import matrix_rows_text, number_text, tomo_names, write_star
from tomopipe.io.tables import write_tsv

REVISION = 1  # bump when results change

COLUMNS = ("scan", "rlnTomoName")
_ANGSTROM_PER_UM = 1e4
Table = dict[str, list[str]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tomogram:
    """One scan of the set, as RELION is to see it.

    Attributes
    ----------
    name, stack, tilt_series : str
        rlnTomoName, and the files of the images and of the angles as RELION opens them.
    geometry : StackGeometry
        How the stack was cut out of the detector.
    theta_rad : ndarray, shape (n_images,)
        Angle of each image.
    cor_px : float
        Column of the rotation axis in the stack.
    pixel_angstrom, energy_kev : float
        Size of a pixel of the stack, photon energy.
    """

    name: str
    stack: str
    tilt_series: str
    geometry: StackGeometry
    theta_rad: Floats
    cor_px: float
    pixel_angstrom: float
    energy_kev: float

    @property
    def axis_xz(self) -> tuple[float, float]:
        """Voxel of the rotation axis: x and z."""
        return axis_voxel(self.geometry.volume_cols)


def export_star(
    metas: Mapping[str, str | os.PathLike[str]],
    stacks: Mapping[str, str | os.PathLike[str]],
    cor: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    hand: int = -1,
) -> None:
    """Write tomograms.star, tilt_series/ and names.tsv for the stacks of a campaign.

    Parameters
    ----------
    metas : mapping of str to path-like
        JSON file of export_stack of each scan.
    stacks : mapping of str to path-like
        Stack of each scan, relative to the working directory, which must be the folder RELION will
        run in: RELION opens the paths in a star file from there.
    cor : path-like
        cor.json of resolve_cor.
    output : path-like
        Folder of the set, relative to the same. A scan whose name RELION does not take is read
        through a link in `output`/links. `tilt_series` and `links` are replaced as a whole, so
        that nothing stays of scans that left.
    hand : int
        rlnTomoHand, -1 or +1: whether defocus grows with depth. It mirrors nothing.

    Raises
    ------
    TomopipeError
        If a scan has no COR, or a stack is not the one its JSON file describes.
    """
    output = Path(output)
    cor_px = {scan: entry["cor_px"] for scan, entry in read_cor_json(cor).items()}
    if missing := [scan for scan in metas if scan not in cor_px]:
        raise TomopipeError(
            f"{cor}: expected a COR of each scan exported; none of {', '.join(missing)}. "
            "Delete the file and run again."
        )
    names = tomo_names(sorted(metas))
    links = {scan: output / "links" / f"{name}.mrcs" for scan, name in names.items()}
    links = {scan: link for scan, link in links.items() if scan != names[scan]}
    tomograms = []
    for scan, name in names.items():
        meta = read_json(metas[scan], "what export_stack says of its stack")
        if os.path.lexists(stacks[scan]):
            check_stack(stacks[scan], meta["stack_shape"])
        else:  # declared temporary: RELION has had it
            log.warning("%s is in the set, but its stack was removed: %s", scan, stacks[scan])
        stack = Path(links.get(scan, stacks[scan])).as_posix()
        tilt_series = (output / "tilt_series" / f"{name}.star").as_posix()
        tomograms.append(_tomogram(meta, cor_px[scan], name, stack, tilt_series))
    _write_links({link: Path(stacks[scan]) for scan, link in links.items()}, output / "links")
    with whole(output / "tilt_series") as folder:
        folder.mkdir()
        for tomogram in tomograms:
            table = angle_table(tomogram)
            write_star([(tomogram.name, table)], folder / Path(tomogram.tilt_series).name)
    named = ({"scan": scan, "rlnTomoName": name} for scan, name in names.items())
    write_tsv(named, COLUMNS, output / "names.tsv")
    write_star(_set_tables(tomograms, hand), output / "tomograms.star")
    log.info("%d tomograms in %s", len(tomograms), output / "tomograms.star")


def global_table(tomograms: list[Tomogram], hand: int) -> Table:
    """Make the table `global`: one row per tomogram."""
    sizes = [tomogram.geometry.tomogram_size for tomogram in tomograms]
    constant = len(tomograms)
    return {
        "rlnTomoName": [t.name for t in tomograms],
        "rlnTomoTiltSeriesName": [t.stack for t in tomograms],
        "rlnTomoTiltSeriesStarFile": [t.tilt_series for t in tomograms],
        "rlnTomoFrameCount": [str(t.theta_rad.size) for t in tomograms],
        "rlnTomoSizeX": [str(size[0]) for size in sizes],
        "rlnTomoSizeY": [str(size[1]) for size in sizes],
        "rlnTomoSizeZ": [str(size[2]) for size in sizes],
        "rlnTomoHand": [str(hand)] * constant,
        "rlnTomoTiltSeriesPixelSize": [number_text(t.pixel_angstrom) for t in tomograms],
        "rlnVoltage": [number_text(t.energy_kev) for t in tomograms],
        "rlnSphericalAberration": ["0"] * constant,
        # With amplitude contrast 1 the CTF is 1 at every frequency: applying it does no harm.
        "rlnAmplitudeContrast": ["1"] * constant,
        "rlnTomoImportFractionalDose": ["0"] * constant,
    }


def matrix_table(tomogram: Tomogram) -> Table:
    """Make the tilt table of RELION 4: a projection matrix per image, world = voxel + 1."""
    matrices = relion4_matrices(tomogram.theta_rad, tomogram.cor_px, tomogram.axis_xz)
    projections = {
        f"rlnTomoProj{axis}": matrix_rows_text(matrices[:, row]) for row, axis in enumerate("XYZW")
    }
    return projections | _no_ctf(tomogram)


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
        tomogram_size=geometry.tomogram_size,
    )
    zero = ["0"] * tomogram.theta_rad.size
    angles = {
        "rlnTomoXTilt": zero,
        "rlnTomoYTilt": _texts(y_tilt_deg),
        "rlnTomoZRot": zero,
        "rlnTomoXShiftAngst": _texts(x_shift_px * tomogram.pixel_angstrom),
        "rlnTomoYShiftAngst": _texts(y_shift_px * tomogram.pixel_angstrom),
        "rlnTomoNominalStageTiltAngle": _texts(np.degrees(tomogram.theta_rad)),
    }
    return angles | _no_ctf(tomogram)


def _no_ctf(tomogram: Tomogram) -> Table:
    """Columns that switch off what light optics does not have: defocus, dose, fading."""
    n_images = tomogram.theta_rad.size
    zero = ["0"] * n_images
    return {
        "rlnDefocusU": zero,
        "rlnDefocusV": zero,
        "rlnDefocusAngle": zero,
        "rlnCtfScalefactor": ["1"] * n_images,
        "rlnMicrographPreExposure": zero,
    }


def _set_tables(tomograms: list[Tomogram], hand: int) -> Iterator[tuple[str, Table]]:
    """Yield the tables of tomograms.star in the order RELION 4 counts on."""
    yield "global", global_table(tomograms, hand)
    for tomogram in tomograms:
        yield tomogram.name, matrix_table(tomogram)


def _tomogram(
    meta: dict[str, Any], cor_px: float, name: str, stack: str, tilt_series: str
) -> Tomogram:
    geometry = StackGeometry(meta["n_cols"], meta["n_rows"], meta["binning"])
    return Tomogram(
        name=name,
        stack=stack,
        tilt_series=tilt_series,
        geometry=geometry,
        theta_rad=np.radians(meta["theta_deg"]),
        # stacks made before columns could be selected do not name the first one
        cor_px=float(bin_cor(cor_px, x0=meta.get("first_col", 0), binning=geometry.binning)),
        pixel_angstrom=meta["pixel_size_um"]["value"] * geometry.binning * _ANGSTROM_PER_UM,
        energy_kev=meta["energy_kev"]["value"],
    )


def _write_links(links: Mapping[Path, Path], folder: Path) -> None:
    """Make the links anew; no folder where there are none."""
    if not links and not folder.exists():
        return
    with whole(folder) as temporary:
        temporary.mkdir()
        for link, stack in links.items():
            # Relative, so that the campaign can be moved.
            (temporary / link.name).symlink_to(os.path.relpath(stack, folder))


def _texts(values: Floats) -> list[str]:
    return [number_text(value) for value in values]
