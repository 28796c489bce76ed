"""Logger plugin of Snakemake: reasons in tomopipe's words, and the events of a run.

Events are what `tomopipe.run.progress` reads. Every start of Snakemake loads this package, which
therefore imports tomopipe only to log something.
"""

import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

# there are no events of these
_AGAIN = re.compile(r"Trying to restart job (\d+)\.")  # of a group it names another number
_NO_OUTPUT = re.compile(r"Job (\d+) +completed successfully, but .*:\n(.+?)(?: \(|\n|$)")


class LogHandler(LogHandlerBase):
    """Writes Snakemake's text, with our reasons, and an event for each job and each change of it.

    Snakemake calls it in a thread of its own, one record after the other.
    """

    writes_to_stream = True
    writes_to_file = False
    has_filter = has_formatter = False  # the text is as Snakemake writes it, --quiet included
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self._began_s: dict[int, float] = {}  # latest attempt of each job
        self._failed: set[int] = set()  # jobs of which it is not said yet whether they run again
        self._final: set[int] = set()  # jobs that failed on their data: an attempt computes nothing

    def handle(self, record: LogRecord) -> bool:
        """Write the event of a record, also of one that --quiet hides, and then its text."""
        try:
            self._write_event(record)
        except OSError:  # a full disk ends jobs, not the log
            pass
        except Exception:
            self.handleError(record)
        return bool(super().handle(record))

    def emit(self, record: LogRecord) -> None:
        """Write the text of a record."""
        text = self.format(record)
        if text not in ("", "None"):
            with suppress(OSError):  # a full disk, or a closed terminal
                stream = sys.stdout if self.common_settings.stdout else sys.stderr
                print(text, file=stream, flush=True)

    def _write_event(self, record: LogRecord) -> None:
        from tomopipe.run import progress

        fields, at = vars(record), record.created
        match fields.get("event"):
            case LogEvent.RUN_INFO:
                progress.tell(at=at, totals=fields["stats"])
            case LogEvent.JOB_INFO:
                self._began_s[fields["jobid"]] = at
                self._tell_again(fields["jobid"], at)
                fields["reason"] = _reason(fields)
                progress.tell(
                    at=at,
                    began=fields["jobid"],
                    step=fields["rule_name"],
                    name=_name(fields["wildcards"] or {}),
                    reason=fields["reason"],
                    threads=fields.get("threads") or 1,
                )
            case LogEvent.JOB_FINISHED:
                progress.tell(at=at, ended=fields["job_id"])
            case LogEvent.JOB_ERROR:
                progress.tell(at=at, failed=fields["jobid"], error=self._error(fields))
                self._failed.add(fields["jobid"])
            case LogEvent.ERROR:
                if lacking := _NO_OUTPUT.search(record.getMessage()):
                    error = f"{lacking[2]}: missing, though its job ended without an error"
                    progress.tell(at=at, failed=int(lacking[1]), error=error)
                    self._failed.add(int(lacking[1]))
            case None:
                if attempt := _AGAIN.match(record.getMessage()):
                    self._tell_again(int(attempt[1]), at)

    def _tell_again(self, number: int, at: float) -> None:
        """Write that a failed job is tried again, once; not if it failed on its data."""
        from tomopipe.run import progress

        if number in self._failed - self._final:
            progress.tell(at=at, again=number)
        self._failed.discard(number)

    def _error(self, fields: Mapping[str, Any]) -> str:
        """Return why a job failed; at once, as another attempt replaces its status."""
        from tomopipe.campaign.log import data_error
        from tomopipe.run.progress import error_of

        message, log = str(fields["rule_msg"] or ""), next(iter(fields["log"] or ()), "")
        if log and data_error(log):
            self._final.add(fields["jobid"])
        since_s = self._began_s.get(fields["jobid"], 0.0)
        return (log and error_of(Path(log), fields["rule_name"], since_s)) or message


def _reason(fields: Mapping[str, Any]) -> str:
    """Return why a job runs: our reason, else Snakemake's."""
    from tomopipe.reruns.reasons import of_snakemake
    from tomopipe.reruns.settle import REASONS

    key = _name(fields["wildcards"] or {}) or "campaign"
    return REASONS.get((fields["rule_name"], key)) or of_snakemake(str(fields["reason"]))


def _name(wildcards: Mapping[str, Any]) -> str:
    """Return the scan, stack or series of a job; "" for the campaign."""
    kinds = ("scan", "stack", "series")
    return str(next((wildcards[kind] for kind in kinds if kind in wildcards), ""))
