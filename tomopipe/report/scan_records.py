"""Read the records of the scans from the small files of a campaign.

A broken file gives a note, never an exception.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import OF_SCANS, Why, present_jobs
from tomopipe.campaign.files import VOLUMES, encode_series
from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.prediction_json import parse_prediction
from tomopipe.campaign.raw_files import CampaignScan
from tomopipe.campaign.results import Prediction, read_json, read_tsv, volume_cor, volume_cor_px
from tomopipe.campaign.selection import SKIPS, advice_on_skipping, warnings_in_row
from tomopipe.campaign.state import sentences
from tomopipe.campaign.state.facts import ACCEPTED
from tomopipe.campaign.state.sentences import IS_HALF, earlier_options
from tomopipe.campaign.state.signs import State
from tomopipe.config import for_one_scan
from tomopipe.cor.cor_value import same_cor
from tomopipe.cor.outliers import FILLS, FIX_COLUMNS, Fix, parse_fixes
from tomopipe.errors import TomopipeError, grouped, is_of_the_system, scan_word
from tomopipe.report.records import Note, ScanRecord
from tomopipe.storage.checksums import quick_state
from tomopipe.storage.json_files import json_or, number, part, text, texts
from tomopipe.workflow_steps import SEARCH_STEPS, STEPS

_INVENTORY = ("scan", "path", "series", "index", "n_angles", "n_rows", "n_cols", "keep", "reason")
_SET_ANGLES = ("set input.angles: {", "(input.angles)")  # advice of predict_cor
T = TypeVar("T")


class Reader:
    """Reads files below one folder and notes those that could not be used."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.notes: list[Note] = []

    def note(self, path: str | Path, problem: str, error: BaseException | None = None) -> None:
        """Note that `path` could not be used."""
        relative = os.path.relpath(path, self.base)
        self.notes.append(Note(relative, problem, is_of_the_system(error)))

    def json(self, path: str | Path) -> dict[str, Any] | None:
        """Read a JSON object; None if the file is absent or (noted) broken."""
        return self._read(path, partial(read_json, path, "a result of tomopipe"))

    def tsv(self, path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
        """Read the rows of a table; none if it is absent or (noted) broken."""
        return self._read(path, partial(read_tsv, path, columns)) or []

    def _read(self, path: str | Path, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (OSError, TomopipeError) as error:
            if not isinstance(error.__cause__ or error, FileNotFoundError | NotADirectoryError):
                self.note(path, str(error).removeprefix(f"{path}: "), error)
            return None


def jobs_on_page(campaign: Campaign, why: Why, reader: Reader) -> list[JobStatus]:
    """Return the jobs of a campaign by their present results, all but that of the page."""
    return [job for job in present_jobs(campaign, why, reader.json) if job.step != "report"]


class ScanReader:
    """Reads everything about the scans of a campaign; `reader` notes the files that are broken."""

    def __init__(
        self,
        campaign: Campaign,
        reader: Reader,
        why: Why,
        *,
        volumes: bool,
        points: bool = False,
        notes: Mapping[str, Container[str]] | None = None,
    ) -> None:
        """Read the tables and job statuses; arguments as for `collect` and `collect_scans`."""
        self._campaign, self._files, self._reader = campaign, campaign.files, reader
        self._paths = campaign.paths
        self._why, self._notes, self._points, self._volumes = why, notes or {}, points, volumes
        rows = reader.tsv(campaign.files.inventory, _INVENTORY)
        self._rows = {(row["scan"], row["path"]): row for row in rows}
        self._cors = reader.json(campaign.files.cor_table)
        # Only tables of existing series: those of renamed series may still exist.
        tables = {encode_series(scan.series) for scan in campaign.scans.values()}
        self._fixes = parse_fixes(
            row
            for table in sorted(tables)
            for row in reader.tsv(campaign.files.fix_table(table), FIX_COLUMNS)
        )
        self._jobs: dict[str, dict[str, JobStatus]] = defaultdict(dict)
        self.jobs = jobs_on_page(campaign, why, reader)
        for job in self.jobs:
            self._jobs[job.key][job.step] = job

    def records(self) -> list[ScanRecord]:
        """Return the records of all scans, by series and index, refused ones included."""
        records = [self._record(scan) for scan in self._campaign.scans.values()]
        records += self._refused()
        records.sort(key=lambda s: (s.series, s.index, s.name, s.path))
        return _checked_in_series(_with_angles_of_one(self._with_own_skips(records)))

    def _with_own_skips(self, records: list[ScanRecord]) -> list[ScanRecord]:
        """Complete the advice on projections to skip, for the scan alone if others lack it."""
        texts = [{*s.warnings, *_reasons_of(s), (s.row or {}).get("reason", "")} for s in records]
        n_scans = Counter(text for each in texts for text in each if SKIPS in text)
        if not n_scans:
            return records
        shared = {text for text, n in n_scans.items() if n > len(records) / 2}

        def complete(text: str, scan: str) -> str:
            return advice_on_skipping(self._campaign, scan, text, is_shared=text in shared)

        return [_with_texts(_with_reason(s, complete), complete) for s in records]

    def _record(self, scan: CampaignScan) -> ScanRecord:
        name, paths, config = scan.name, self._paths, self._campaign.config
        row = self._rows.get((name, scan.path))
        data = self._reader.json(paths.prediction(name))
        prediction = None if data is None else parse_prediction(data, points=self._points)
        fix = self._fixes.get(name)
        if prediction is not None and fix is not None and fix.is_by_file:
            prediction = replace(prediction, method="", confidence=None)  # made at another COR
        if fix is not None and fix.is_unswept:
            prediction = None  # of before `try_recon.every`: it does not count
        cor = part(self._cors or {}, name)
        cor_px = number(cor.get("cor_px"))
        # in the configured format, or in that of an earlier run
        outputs = (config.full_recon.output, *VOLUMES)
        volumes = (paths.volume(name, output) for output in outputs)
        volume = next((Path(volume) for volume in volumes if os.path.exists(volume)), None)
        source = text(cor.get("source"))
        if volume and self._is_applied(scan, volume, cor_px):
            cor_px, source = scan.manual.px, "manual"
        elif volume and cor_px is None and fix is None:
            cor_px, source = self._filled_in(name, volume)
            if cor_px is not None and source in FILLS:
                fix = Fix(name, scan.index, None, cor_px, source, False, "", None, fill_px=cor_px)
        volume_of = "" if volume is None else self._other_origin(name, volume, cor_px)
        grid = self._reader.json(paths.sweep(name)) or {}
        try_tif = paths.try_stack(name)
        has_slices = os.path.exists(try_tif) or os.path.exists(paths.rows(name))
        record = ScanRecord(
            name=name,
            path=scan.path,
            series=scan.series,
            index=scan.index,
            select=scan.select,
            manual=scan.manual,
            row=row,
            shape=_shape(row),
            cor_px=cor_px,
            source=source,
            decided=self._cors is not None,
            has_default=config.resolve_cor.default_px is not None,
            min_confidence=config.predict_cor.min_confidence,
            protect_manual=config.fix_cor.protect_manual,
            prediction=prediction,
            fix=fix,
            failures=self._failures(name, prediction),
            volume=volume,
            volume_of=volume_of,
            prediction_of=self._other_search(scan) if prediction else "",
            try_tif=Path(try_tif) if has_slices else None,
            swept="failed" not in grid and has_slices,
        )
        job = self._jobs[name].get("full_recon")
        warnings = (
            *(warnings_in_row(self._campaign, row) if row else ()),
            *([although] if (although := record.selected_although) else []),
            *texts(grid.get("notes")),
            *([IS_HALF] if grid.get("half_acquisition") is True else []),
            *self._of_earlier_file(scan, grid),
            *record.warnings_beside,
            *((job.warning,) if job and job.warning and volume else ()),
            *(note for note, scans in self._notes.items() if name in scans),
        )
        return replace(record, warnings=warnings, reached=self._reached(record))

    def _is_applied(self, scan: CampaignScan, volume: Path, cor_px: float | None) -> bool:
        """Tell whether a volume was made at a COR by hand that cor.json does not have yet."""
        by_hand_px, receipt = scan.manual.px, self._paths.receipt("full_recon", scan.name)
        if by_hand_px is None or same_cor(by_hand_px, cor_px):  # nearly always
            return False
        return same_cor(made_cor_px(volume, receipt), by_hand_px)

    def _filled_in(self, name: str, volume: Path) -> tuple[float | None, str]:
        """Return COR and source of a volume that a run of some scans made at a filled COR."""
        if os.path.exists(self._paths.receipt("full_recon", name)):
            cor_px, source = volume_cor(volume)
            if source in (*FILLS, "default"):
                return cor_px, source
        return None, ""

    def _other_origin(self, name: str, volume: Path, cor_px: float | None) -> str:
        """Describe from what a stale volume was made; "" if it is not stale, or this is unknown."""
        if self._volumes:
            receipt = self._paths.receipt("full_recon", name)
            other_px = other_cor_px(volume, cor_px, self._files.cor_table, receipt)
            if other_px is not None:
                return f"COR {other_px:.2f}"
        job = self._jobs[name].get("full_recon")
        has_failed = job is not None and job.state in ("failed", "lost")
        why = self._why("full_recon", name) if has_failed else self._why_due("full_recon", name)
        return earlier_options(why) if why else ""

    def _other_search(self, scan: CampaignScan) -> str:
        """Describe from what a stale prediction was made; "" if none is to be made."""
        if scan.manual.px is not None:
            return ""
        why = next(filter(None, (self._why_due(step, scan.name) for step in SEARCH_STEPS)), "")
        return earlier_options(why) if why else ""

    def _of_earlier_file(self, scan: CampaignScan, sweep: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the warning of a COR by hand that may be of an earlier raw file, swept before."""
        if scan.manual.px is None or not sweep:
            return ()
        receipt = json_or(self._paths.receipt("full_recon", scan.name), {})
        swept, of_volume = (part(made, "made_from").get("raw") for made in (sweep, receipt))
        if not (swept and of_volume) or swept[0] == of_volume[0]:
            return ()
        measure = f"tomopipe run --predict {scan_word(scan.name)}"
        return (
            f"the raw file was replaced after its sweep: is COR {scan.manual.text} by hand of the "
            f"new one? `{measure}` measures it",
        )

    def _why_due(self, step: str, name: str) -> str:
        """Say why a result is stale whose receipt a run withdrew that ended before its job."""
        if os.path.exists(self._paths.receipt(step, name)):
            return ""
        outputs = self._paths.outputs(step, name, self._campaign.config.full_recon.output)
        is_there = all(map(os.path.exists, outputs[: STEPS[step].n_lasting]))
        return self._why(step, name) if is_there else ""

    def _failures(self, name: str, prediction: Prediction | None) -> tuple[JobStatus, ...]:
        """Return the failed jobs of a scan, without a prediction whose verdict is failed."""
        omitted = "predict_cor" if prediction and prediction.verdict == "failed" else ""
        jobs = (self._jobs[name].get(step) for step in OF_SCANS if step != omitted)
        return tuple(job for job in jobs if job and job.state == "failed")

    def _reached(self, scan: ScanRecord) -> str:
        """Return the last step that a scan has completed."""
        # stacks for RELION are written at the same time as the report of a run
        omitted = {failure.step for failure in scan.failures} | {"export_stack"}
        for step, job in self._jobs[scan.name].items():
            if job.state == "running" and step in OF_SCANS and step not in omitted:
                return f"running {step}"
        if scan.volume is not None and not scan.volume_of:
            return "volume"
        if scan.cor_px is not None:
            return "COR"
        if scan.prediction is not None:
            return "prediction"
        return "try" if os.path.exists(self._paths.rows(scan.name)) else ""

    def _refused(self) -> Iterable[ScanRecord]:
        """Yield the files that are not scans of the campaign: invalid or repeated names."""
        in_campaign = {(scan.name, scan.path) for scan in self._campaign.scans.values()}
        config = self._campaign.config
        for (name, path), row in self._rows.items():
            if (name, path) not in in_campaign and row["keep"] != "true":
                yield ScanRecord(
                    name=name,
                    path=path,
                    series=row["series"],
                    index=int(number(row["index"]) or 0),
                    row=row,
                    shape=_shape(row),
                    warnings=warnings_in_row(self._campaign, row),
                    min_confidence=config.predict_cor.min_confidence,
                    protect_manual=config.fix_cor.protect_manual,
                )


def _with_angles_of_one(records: list[ScanRecord]) -> list[ScanRecord]:
    """Name the scan in the advice to set angles, where other scans agree with their angles."""
    if any(scan.row and scan.row["keep"] == "true" for scan in records):
        records = [
            _with_reason(s, for_one_scan) if s.state is State.SKIPPED else s for s in records
        ]
    accepted = [s for s in records if s.prediction and s.prediction.cor_px is not None]
    if all(map(_needs_angles, accepted)):
        return records
    return [_with_texts(scan, for_one_scan) if _needs_angles(scan) else scan for scan in records]


def _with_reason(scan: ScanRecord, change: Callable[[str, str], str]) -> ScanRecord:
    row = scan.row and {**scan.row, "reason": change(scan.row["reason"], scan.name)}
    return replace(scan, row=row)


def _reasons_of(scan: ScanRecord) -> tuple[str, ...]:
    prediction = scan.prediction
    return (prediction.reason, *prediction.doubts) if prediction else ()


def _needs_angles(scan: ScanRecord) -> bool:
    return any(advice in text for text in _reasons_of(scan) for advice in _SET_ANGLES)


def _with_texts(scan: ScanRecord, change: Callable[[str, str], str]) -> ScanRecord:
    """Change the texts of a scan, except its reason in the inventory."""

    def changed(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(change(text, scan.name) for text in texts)

    prediction = scan.prediction and replace(
        scan.prediction,
        reason=change(scan.prediction.reason, scan.name),
        doubts=changed(scan.prediction.doubts),
        warnings=changed(scan.prediction.warnings),
    )
    fix = scan.fix
    if fix and scan.prediction and prediction:  # whose reason it may contain
        fix = replace(fix, reason=fix.reason.replace(scan.prediction.reason, prediction.reason))
    return replace(scan, prediction=prediction, fix=fix, warnings=changed(scan.warnings))


def _checked_in_series(records: list[ScanRecord]) -> list[ScanRecord]:
    """Mark predictions that the other trusted CORs of their series contradict."""
    from tomopipe.cor.off_line import off_line  # with NumPy, which runs that begin do not need

    trusted = [
        ((scan.series, scan.layout), (scan.index, cor_px, scan.height_mm, position))
        for position, scan in enumerate(records)
        if scan.state in ACCEPTED and not (scan.fix and scan.fix.flagged)
        for cor_px in [scan.shown[0] if scan.manual_px is None else scan.manual_px]
        if cor_px is not None
    ]
    for points in grouped(trusted).values():
        index, cors_px, heights_mm, positions = zip(*points, strict=True)
        for point, off in off_line(index, cors_px, heights_mm).items():
            position, remark = positions[point], sentences.off_line(off.off_px, off.spread_px)
            records[position] = replace(records[position], off_series=remark)
    return records


def _shape(row: Mapping[str, str] | None) -> tuple[int, int, int] | None:
    """Read (n_angles, n_rows, n_cols) of an inventory row; None if the file could not be read."""
    sizes = [number((row or {}).get(key)) for key in ("n_angles", "n_rows", "n_cols")]
    results = [int(size) for size in sizes if size]
    return (results[0], results[1], results[2]) if len(results) == 3 else None


def other_cor_px(
    volume: Path,
    cor_px: float | None,
    cor_table: str | os.PathLike[str],
    receipt: str | os.PathLike[str],
) -> float | None:
    """Return the COR that a volume was made at, if it differs from `cor_px`, that of its scan.

    None also if it is unknown. Only volumes older than cor.json are examined, and only those that
    differ from their receipt are opened.
    """
    with suppress(OSError):
        if cor_px is not None and os.path.getmtime(volume) < os.path.getmtime(cor_table):
            made_px = made_cor_px(volume, receipt)
            return None if same_cor(made_px, cor_px) else made_px
    return None


def made_cor_px(volume: Path, receipt: str | os.PathLike[str]) -> float | None:
    """Return the COR that a volume was made at, by its receipt if that is of it; None: unknown."""
    content, state = json_or(receipt, {}), quick_state(volume)
    # 0 for all but tilt series
    is_of_it = state is not None and [*state[:3], 0] in part(content, "files").values()
    stated_px = number(part(content, "made_from").get("cor_px")) if is_of_it else None
    return stated_px or volume_cor_px(volume)
