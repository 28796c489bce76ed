"""The steps of the workflow: one row for each, in the order of the work.

What a step's results should be made from, `Target.of_<step>` of `tomopipe/reruns/target.py` states.
Its rule, script and module have its name, too; what a job takes is in `tomopipe/resources/jobs.py`.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal


@dataclass(frozen=True)
class Step:
    """A step: what its results are, and what they are made from."""

    name: str
    key: Literal["scan", "series", "stack", "campaign"]  # of what each result is
    inputs: tuple[str, ...]  # the steps whose results it reads
    outputs: tuple[str, ...]  # names of files (`Files`); the first contains the statement
    revision: int  # raised when its results change in every campaign; 0: they do not state it
    # the runs that need it: all; those for which not all CORs are known; those of everything
    of_runs: Literal["all", "cors", "volumes", "whole"]
    params: tuple[str, ...] = ()  # of its rule, computed by `tomopipe.reruns.parameters`
    job_blocks: tuple[str, ...] = ()  # of the configuration, which its jobs get as `options`
    # of a step that reads scans: the block of its options, and keys that are only metadata
    block: str = ""
    metadata: tuple[str, ...] = ()
    # reason of a result that contains no statement: to make it again is cheap
    changed: str = ""
    last: str = ""  # the output that tells that it was made, of jobs that later failed
    # values of the campaign: whether the results are made; whether no output is ever removed: else
    # those after the first `n_lasting` may be
    made_if: str = ""
    kept_if: str = ""
    n_lasting: int | None = None  # None: all
    refuses_changes: bool = False  # whether nothing is written if a raw file changes meanwhile
    sums_raw: bool = False  # whether its jobs read raw files whole, and so know their checksums
    shows_tables: bool = False  # whether it follows the content of all tables
    replaces: tuple[str, ...] = ()  # what a job replaces besides its outputs

    def is_enabled(self, campaign: Any) -> bool:
        """Tell whether a campaign has such results."""
        return not self.made_if or attrgetter(self.made_if)(campaign)

    def lasting(self, campaign: Any) -> int | None:
        """Return how many of the outputs must be there; None: all."""
        is_kept = bool(self.kept_if) and attrgetter(self.kept_if)(campaign)
        return None if is_kept else self.n_lasting

    @property
    def reads_scan(self) -> bool:
        """Whether its jobs read raw files of a scan."""
        return bool(self.block)

    @property
    def is_after_cors(self) -> bool:
        """Whether it follows cor.json."""
        return self.of_runs in ("volumes", "whole")


_STEPS = (
    Step(
        "inventory", "campaign", (), ("inventory",), revision=8, of_runs="all",
        params=("entries", "options"), job_blocks=("inventory", "input", "preprocess"),
        changed="files or options of the campaign changed", last="inventory",
    ),
    Step(
        "try_recon", "scan", ("inventory",), ("rows", "sweep", "try_stack"), revision=9,
        of_runs="cors", params=("raw", "options", "shared"),
        job_blocks=("input", "preprocess", "try_recon"),
        block="try_recon", last="sweep", n_lasting=2, sums_raw=True,
    ),
    Step(
        "predict_cor", "scan", ("try_recon",), ("prediction", "center"), revision=23,
        of_runs="cors", params=("options", "last_center_checksum"),
        job_blocks=("predict_cor", "preprocess", "full_recon"), last="prediction",
    ),
    Step(
        "fix_cor", "series", ("predict_cor",), ("fix_table",), revision=3, of_runs="cors",
        params=("predictions", "members", "around", "stated_around", "fix_options"),
        changed="a prediction, a COR or an option of the series, or a COR beside it, changed",
    ),
    Step(
        "resolve_cor", "campaign", ("fix_cor",), ("cor_table", "rot_cen"), revision=1,
        of_runs="cors", params=("tables", "scans", "others", "resolve_options"),
        changed="options of resolve_cor changed",
    ),
    Step(
        "full_recon", "scan", ("resolve_cor",), ("volume",), revision=6, of_runs="volumes",
        params=("raw", "cor", "options", "metadata_alone", "shared"),
        job_blocks=("input", "preprocess", "full_recon", "export_star"),
        block="full_recon", metadata=("pixel_size_um",), last="volume", refuses_changes=True,
        sums_raw=True,
    ),
    Step(
        "stitch", "stack", ("full_recon",), ("shifts", "stitched"), revision=1, of_runs="whole",
        params=("volumes", "options", "times_s", "metadata_alone"),
        job_blocks=("stitch", "full_recon"),
        last="stitched",
    ),
    Step(
        "sidecar", "campaign", ("resolve_cor",), (), revision=0, of_runs="whole",
        params=("sidecars",),
    ),
    Step(
        "export_stack", "scan", ("resolve_cor",), ("stack_meta", "stack"), revision=5,
        of_runs="whole", params=("raw", "options", "binning", "metadata_alone"),
        job_blocks=("input", "preprocess", "export_star"), block="export_star",
        metadata=("pixel_size_um", "energy_kev"), last="stack", refuses_changes=True,
        made_if="makes_star", n_lasting=1, kept_if="config.storage.keep_stacks",
    ),
    Step(
        "export_star", "campaign", ("export_stack",),
        ("star", "tomogram_names", "tilt_series", "star5"), revision=2, of_runs="whole",
        params=("stacks", "star_options"), changed="follows CORs, stacks, MRC volumes and options",
        made_if="makes_star", replaces=("links",),
    ),
    Step(
        "report", "campaign", ("full_recon", "stitch", "predict_cor"), ("report",), revision=1,
        of_runs="whole", params=("table",), changed="follows the results shown",
        made_if="config.report.enabled", shows_tables=True,
    ),
)  # fmt: skip
STEPS = {step.name: step for step in _STEPS}
"""The steps by name, in the order of the work."""
SEARCH_STEPS = tuple(step.name for step in _STEPS if (step.of_runs, step.key) == ("cors", "scan"))
"""The steps that search for the COR of a scan."""
READING_STEPS = tuple(step.name for step in _STEPS if step.reads_scan)
SUMMING_STEPS = tuple(step.name for step in _STEPS if step.sums_raw)
TABLES = {
    name for step in _STEPS if step.key == "scan" for name in step.inputs
    if STEPS[name].key == "campaign"
}  # fmt: skip
"""The tables of all scans, of which a job of one scan uses a row: it follows that row alone."""
