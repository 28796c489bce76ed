"""Every file that tomopipe keeps in a campaign folder: no other module spells such a path."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

CONFIG, TABLE, TRUTH = "config.yaml", "scans.tsv", "truth.json"
COR_TABLE, ROT_CEN = "cor.json", "rot_cen.json"

# in the folder of a scan
TRY_CENTER = "try_center"
ROWS, SWEEP, TRY_STACK = "rows.h5", "try.json", "try.tif"
PREDICTION, CENTER = "prediction.json", "center_of_rotation.txt"

SIDECAR, SIDECARS = ".cor.json", "sidecars"
VOLUMES = {"h5": "_rec.h5", "tiff": "_rec", "zarr": "_rec.zarr"}
MRC_VOLUME, STACK = "_rec.mrc", ".mrcs"

# in the folder for RELION
BINNING, STAR, NAMES = "binning.json", "tomograms.star", "names.tsv"
TILT_SERIES, LINKS = "tilt_series", "links"

# beside the page of the report
PICTURES, PICTURES_MADE = "pictures", "pictures.json"

P = TypeVar("P", str, Path)


@dataclass(frozen=True)
class _Folder(Generic[P]):
    """A folder; as a text it gives texts, as rules need them, as a Path it gives Paths."""

    folder: P

    def _at(self, *parts: str) -> P:
        """Return a path below the folder."""
        return type(self.folder)("/".join((str(self.folder).rstrip("/"), *parts)))


@dataclass(frozen=True)
class Files(_Folder[P]):
    """The results folder of a campaign, or one with the same files."""

    @property
    def inventory(self) -> P:
        """Table of all raw files."""
        return self._at("inventory.tsv")

    @property
    def cor_table(self) -> P:
        """Resolved COR of every scan."""
        return self._at(COR_TABLE)

    @property
    def rot_cen(self) -> P:
        """The same for TomoGUI."""
        return self._at(ROT_CEN)

    @property
    def record(self) -> P:
        """What was read and made."""
        return self._at("products.tsv")

    @property
    def compared(self) -> P:
        """What differs of files whose time alone changed."""
        return self._at("compared.tsv")

    @property
    def report(self) -> P:
        """Page of the report."""
        return self._at("report", "index.html")

    def failure(self, step: str, scan: str) -> P:
        """Record of a job that died for good."""
        return self._at("failed", step, f"{scan}.json")

    def fix_table(self, series: str) -> P:
        """CORs of an (encoded) series before and after fixing."""
        return self._at("fix_cor", f"{series}.tsv")

    # ---- of a scan ---------------------------------------------------------------------------

    @property
    def try_center(self) -> P:
        """Folder with a folder for each scan."""
        return self._at(TRY_CENTER)

    def of_scan(self, scan: str) -> P:
        """Folder of what leads to the COR of a scan."""
        return self._at(TRY_CENTER, scan)

    def rows(self, scan: str) -> P:
        """Rows that later looking needs."""
        return self._at(TRY_CENTER, scan, ROWS)

    def sweep(self, scan: str) -> P:
        """Grid of candidate CORs of the try slices."""
        return self._at(TRY_CENTER, scan, SWEEP)

    def try_stack(self, scan: str) -> P:
        """Slices over the candidate CORs."""
        return self._at(TRY_CENTER, scan, TRY_STACK)

    def prediction(self, scan: str) -> P:
        """What the methods say of the COR."""
        return self._at(TRY_CENTER, scan, PREDICTION)

    def center(self, scan: str) -> P:
        """Accepted COR; people may edit it."""
        return self._at(TRY_CENTER, scan, CENTER)

    def of_try_recon(self, scan: str) -> list[P]:
        """Results of try_recon; those after the first two may be removed in time."""
        return [self.rows(scan), self.sweep(scan), self.try_stack(scan)]

    def of_predict_cor(self, scan: str) -> list[P]:
        """Results of predict_cor."""
        return [self.prediction(scan), self.center(scan)]

    def volume(self, scan: str, output: str) -> P:
        """Volume of a scan in the form `full_recon.output`."""
        return self._at(scan + VOLUMES[output])

    def sidecar(self, scan: str) -> P:
        """Sidecar of a scan where it does not lie beside the data."""
        return self._at(SIDECARS, scan + SIDECAR)

    def option_sweep(self, scan: str, key: str) -> tuple[P, P]:
        """Page and slices of `tomopipe sweep` over an option."""
        return self._at("sweep", scan, key, "index.html"), self._at("sweep", scan, key, "sweep.tif")

    # ---- of stitching and RELION -------------------------------------------------------------

    def stitched(self, stack: str, output: str) -> P:
        """Volume of scans at several heights."""
        return self._at("stitched", stack + VOLUMES[output])

    def shifts(self, stack: str) -> P:
        """What was found when they were joined."""
        return self._at("stitched", f"{stack}.json")

    def in_relion(self, name: str) -> P:
        """Path of a file of the set for RELION."""
        return self._at("relion", name)

    def stack(self, scan: str) -> P:
        """Projections of a scan for RELION."""
        return self._at("relion", "stacks", scan + STACK)

    def stack_meta(self, scan: str) -> P:
        """What the stack says of itself."""
        return self._at("relion", "stacks", f"{scan}.json")

    def of_export_stack(self, scan: str) -> list[P]:
        """Results of export_stack; the stack itself may be removed in time."""
        return [self.stack_meta(scan), self.stack(scan)]


@dataclass(frozen=True)
class Logs(_Folder[P]):
    """The folder of logs of a campaign."""

    @property
    def status_folder(self) -> P:
        """Folder with <step>/<key>.json of every job."""
        return self._at("status")

    @property
    def review_run(self) -> P:
        """Log of a run that the review page started."""
        return self._at("review_run.log")

    def log(self, step: str, key: str = "campaign") -> P:
        """Log of a job."""
        return self._at(step, f"{key}.log")

    def status(self, step: str, key: str) -> P:
        """State of a job."""
        return self._at("status", step, f"{key}.json")


LOGS = Logs("logs")
