"""Executor plugin of Snakemake for SLURM: jobs of several scans share one submission.

A submission is one sbatch that starts one Snakemake, which runs the jobs side by side. Each job
succeeds or fails by itself: a failed one stops no other and is submitted again alone.
Every start of Snakemake loads this package, which therefore imports slow modules only to submit.
"""

import asyncio
import os
import secrets
import shlex
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_plugin_tomopipe import queue
from snakemake_executor_plugin_tomopipe.batches import (
    Batch,
    by_cluster,
    is_done,
    look_again,
    members,
    missing_outputs,
    pack,
    status_in,
)
from tomopipe.campaign import slurm
from tomopipe.storage import run_folder

_LOGS = Path(".snakemake", "slurm_logs")
_SETTLE_S = 1.0  # jobs that come within this time, or between two checks, share submissions
_TICK_S = 0.25
_MOST_LATE = 4  # times latency-wait that outputs are waited for
_N_UNKNOWN = 3  # answers without a job after which it counts as ended
_CANCEL_S = 40.0  # longest wait of a cancellation for a call of sbatch


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Settings of the executor: --tomopipe-submissions, ..."""

    submissions: int = field(
        default=100, metadata={"help": "Most submissions in SLURM's queue; the others wait."}
    )
    keep_successful_logs: bool = field(
        default=False, metadata={"help": "Keep SLURM's logs of submissions without a failure."}
    )
    qos: str = field(default="", metadata={"help": "QOS of all submissions."})
    reservation: str = field(default="", metadata={"help": "Reservation of SLURM."})

    def __post_init__(self) -> None:
        if self.submissions < 1:
            raise ValueError(f"--tomopipe-submissions {self.submissions}: expected at least 1.")


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
)


class Executor(RemoteExecutor):
    """Packs jobs into submissions, submits them and reports the end of each job."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        # before the thread of the base class starts
        run_id = os.environ.get(run_folder.VARIABLE) or secrets.token_hex(4)
        self._name = run_folder.slurm_name(run_id)  # of all its jobs in SLURM
        self._new: list[Any] = []  # jobs that no batch holds yet
        self._new_s = 0.0
        self._waiting: list[Batch] = []  # waiting for room in the queue
        self._submitted: list[Batch] = []
        self._retry_s = 0.0
        self._ends: Any = None  # what Snakemake does on SIGTERM
        self._is_stopping = self._is_cancelled = False
        self._submitting = threading.Lock()
        self._said: set[str] = set()
        self._avoided: set[str] = set()  # on which jobs could not begin, or load a library
        super().__init__(workflow, logger)
        self.logger.info(f"SLURM run ID: {self._name}")

    def run_jobs(self, jobs: Sequence[Any]) -> None:
        """Take the jobs that the scheduler has chosen; the thread of the base class submits."""
        if self._ends is None:
            from tomopipe.run import launch

            ends = signal.getsignal(signal.SIGTERM)
            self._ends = launch.in_thread(ends) if callable(ends) else ends
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGTERM, self._stop)
        for job in jobs:
            self.run_job_pre(job)
        with self.lock:
            self._new.extend(jobs)
            self._new_s = time.monotonic()

    def _stop(self, *arguments: Any) -> None:
        """Submit no more; Snakemake waits for what is submitted."""
        self._is_stopping = True
        if callable(self._ends):
            self._ends(*arguments)

    def run_job(self, job: Any) -> None:
        """Take one job."""
        self.run_jobs([job])

    async def sleep(self) -> None:
        """Submit new jobs until the next query of SLURM is due."""
        until_s = time.monotonic() + self.next_seconds_between_status_checks
        while self.wait:
            self._submit_waiting()
            await asyncio.sleep(_TICK_S)
            if time.monotonic() >= until_s:
                return

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncIterator[SubmittedJobInfo]:
        """Report the jobs of submissions that have ended."""
        for where, batches in by_cluster(self._submitted):
            self._look_at(batches, where)
        for job_info in active_jobs:
            if job_info.aux["batch"] in self._submitted:
                yield job_info

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all submissions of this run, and none of anybody else."""
        self._is_cancelled = True
        is_free = self._submitting.acquire(timeout=_CANCEL_S)
        try:
            texts = [
                slurm.cancel([batch.number for batch in batches], *where)
                for where, batches in by_cluster(self._submitted)
            ]
            name = self._name if any(batch.may_be_queued for batch in self._waiting) else ""
            of_run = [f"--name={name}", f"--user={os.getuid()}"] if name else []
            for text in filter(None, [*texts, slurm.cancel([], *of_run)]):
                print(f"tomopipe: {text}", file=sys.stderr)
        finally:
            if is_free:
                self._submitting.release()

    def shutdown(self) -> None:
        """End the thread; what an error of the scheduler left in the queue is cancelled."""
        if self._submitted and not self._is_cancelled:
            self.cancel_jobs([])
        super().shutdown()

    def print_job_error(
        self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: Any
    ) -> None:
        """Log the error of the members of a job that lack their results."""
        if job_info.external_jobid:
            kwargs["external_jobid"] = job_info.external_jobid
        for member in job_info.aux["lacking"]:
            member.log_error(msg, **kwargs)

    def _submit_waiting(self) -> None:
        if self._is_stopping:
            self._drop()
        settings = self.workflow.executor_settings
        is_full = len(self._submitted) >= settings.submissions
        settle_s = min(_SETTLE_S, self.next_seconds_between_status_checks)
        if not (self._waiting or is_full) and time.monotonic() - self._new_s >= settle_s:
            with self.lock:
                jobs, self._new = self._new, []
            jobs = [job for job in jobs if not self._has_data_error(job)]
            try:
                n_cores = self.cores if isinstance(self.cores, int) else 1
                self._waiting = pack(jobs, settings, n_cores)
            except Exception as error:
                self._fail(jobs, f"{type(error).__name__}: {error}")
        while self._waiting and len(self._submitted) < settings.submissions:
            if self._is_cancelled or time.monotonic() < self._retry_s:
                return
            self._submit(self._waiting[0])

    def _has_data_error(self, job: Any) -> bool:
        """Fail a job that another attempt cannot help, without submitting it; return whether."""
        from tomopipe.campaign.log import data_error

        with_log = [member for member in members(job) if member.log]
        if errors := {m: str(error) for m in with_log if (error := data_error(m.log[0]))}:
            info = SubmittedJobInfo(job, aux={"lacking": [*errors]})
            self.report_job_error(info, msg="; ".join(errors.values()))
        return bool(errors)

    def _drop(self) -> None:
        """Hand jobs that are not in SLURM back to Snakemake, without an error message for each."""
        with self.lock:
            jobs, self._new = self._new, []
        batches = [batch for batch in self._waiting if not batch.may_be_queued]
        self._waiting = [batch for batch in self._waiting if batch.may_be_queued]
        for job in [*jobs, *(job for batch in batches for job in batch.jobs)]:
            self.report_job_error(SubmittedJobInfo(job, aux={"lacking": []}))

    def _submit(self, batch: Batch) -> None:
        try:
            with self._submitting:
                if self._is_cancelled:
                    return
                log = self._log(batch)
                log.parent.mkdir(parents=True, exist_ok=True)
                options = batch.options(self._name, log, self.workflow.workdir_init, self._avoided)
                batch.number = queue.submit(self._name, options, self._script(batch), batch)
                self._submitted.append(batch)
                logs = (member.log[0] for member in batch.members if member.log)
                run_folder.note_submission(batch.number, logs)
                with suppress(OSError):
                    self._log(batch).touch()  # empty at the end: the node could not write it
        except queue.TemporaryRefusalError as error:
            self._retry_s = time.monotonic() + self.next_seconds_between_status_checks
            self._report_once("submit", f"SLURM takes no submission now, it is sent again: {error}")
        except Exception as error:
            if self._avoided:  # perhaps no other node is left
                self._avoided.clear()
                return
            self._waiting.remove(batch)
            self._fail(batch.jobs, str(error) or type(error).__name__)
        else:
            self._waiting.remove(batch)
            self._said.discard("submit")
            n = f"{len(batch.jobs)} jobs" if len(batch.jobs) > 1 else "1 job"
            self.logger.info(
                f"{n} of {batch.rules} submitted with SLURM jobid {batch.number} "
                f"(log: {self._log(batch)})."
            )
            for job in batch.jobs:
                info = SubmittedJobInfo(job, external_jobid=batch.number, aux={"batch": batch})
                self.report_job_submission(info)

    def _log(self, batch: Batch) -> Path:
        return _LOGS.absolute() / batch.rules / f"{batch.number or '%j'}.log"

    def _script(self, batch: Batch) -> str:
        """Return the script of a submission: one start of Snakemake, which runs all its jobs."""
        # a chain that is tried again may have done its first job
        lacking = [job for job in batch.members if not is_done(job)] or batch.members
        # sites may not pass the environment on
        variables = "".join(
            f"export {name}={shlex.quote(value)}\n" for name, value in self.envvars().items()
        )
        factory = self.workflow.spawned_job_args_factory
        before = factory.precommand(executor_common_settings=self.common_settings)
        general = factory.general_args(executor_common_settings=self.common_settings)
        command = [
            *(self.get_python_executable(), "-m", "snakemake", "--snakefile", self.get_snakefile()),
            *batch.arguments(lacking),
            *shlex.split(general),
            *("--keep-going", "--mode", self.get_exec_mode().item_to_choice()),
        ]
        before = f"{variables}{before and f'{before} && '}"
        return f"#!/bin/sh\n{before}{shlex.join(map(str, command))}\n"

    def _look_at(self, batches: Sequence[Batch], where: Sequence[str]) -> None:
        """Ask a cluster for the states of submissions, and report those that have ended."""
        try:
            states = slurm.states([batch.number for batch in batches], self._name, *where)
        except slurm.NoAnswerError as error:
            self._report_once("ask", f"SLURM does not answer, it is asked again: {error}")
            return
        self._said.discard("ask")
        for batch in batches:
            job_state = states.get(batch.number, slurm.JobState())
            state, why = job_state.state, job_state.why_stays
            # the accounting, which may be late, alone knows the exit code of what has failed
            is_known = state and (state != "FAILED" or job_state.exit_code)
            batch.n_unknown = 0 if is_known else batch.n_unknown + 1
            if why:
                text = f"SLURM job {batch.number} stays in the queue until somebody acts: {why}"
                self._report_once(why, text)
            has_ended = (is_known and state in slurm.ENDED) or batch.n_unknown >= _N_UNKNOWN
            if has_ended and not self._waits_for_outputs(batch, state):
                self._submitted.remove(batch)
                try:
                    self._close(batch, job_state)
                except Exception as error:
                    self._fail(batch.jobs, f"{type(error).__name__}: {error}")

    def _waits_for_outputs(self, batch: Batch, state: str) -> bool:
        """Tell whether outputs of jobs that have succeeded may yet appear on this host."""
        from tomopipe.run import command_line

        is_all = state == "COMPLETED"
        jobs = [job for job in batch.jobs if is_all or all(map(is_done, members(job)))]
        if not (missing := [path for job in jobs for path in missing_outputs(job)]):
            return False
        look_again(missing)
        now_s, latency_s = time.monotonic(), command_line.latency_s()
        batch.completed_s = batch.completed_s or now_s
        if now_s > batch.completed_s + latency_s:
            self._report_once(
                f"late {batch.number}",
                f"SLURM job {batch.number} has ended, and {missing[0]} is not here yet: it is "
                f"waited for up to {_MOST_LATE * latency_s:.0f} s (latency-wait in the profile).",
            )
        return now_s < batch.completed_s + _MOST_LATE * latency_s

    def _close(self, batch: Batch, ended: slurm.JobState) -> None:
        is_complete, log = ended.state == "COMPLETED", self._log(batch)
        if is_complete:
            jobs = [job for job in batch.jobs if missing_outputs(job)]
        else:
            jobs = [job for job in batch.jobs if not all(map(is_done, members(job)))]
            if not self._is_cancelled:
                slurm.cancel([batch.number], *batch.where)  # SLURM may have queued it again
        for job in batch.jobs:
            if job not in jobs:
                self.report_job_success(SubmittedJobInfo(job, external_jobid=batch.number))
        if jobs:
            why = self._not_here(jobs[0], batch) if is_complete else self._why(jobs, batch, ended)
            is_killed = ended.state != "FAILED" or "died with" in why or bool(ended.signal_name)
            self._fail(jobs, why, batch.number, log, is_killed=is_killed)
        elif not self.workflow.executor_settings.keep_successful_logs:
            with suppress(OSError):
                log.unlink()

    def _not_here(self, job: Any, batch: Batch) -> str:
        """Say that the outputs of a job that succeeded have not appeared on this host."""
        from tomopipe.run import command_line

        late_s = _MOST_LATE * command_line.latency_s()
        return (
            f"SLURM job {batch.number}: COMPLETED, but {missing_outputs(job)[0]} is not here "
            f"{late_s:.0f} s later ({_MOST_LATE} times latency-wait): this host must see what "
            "nodes write; if it does so later, raise latency-wait in the profile"
        )

    def _why(self, jobs: Sequence[Any], batch: Batch, ended: slurm.JobState) -> str:
        """Return how SLURM ended a submission; a node at fault gets no more of this run."""
        log = self._log(batch)
        first = [next((m for m in members(job) if not is_done(m)), members(job)[0]) for job in jobs]
        statuses = [status_in(member, batch.number) for member in first]
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        why = f"SLURM job {batch.number}: {ended.described(text, has_begun=all(statuses))}"
        if ended.state == "FAILED" and not log.exists():
            why += f" without a log: {log.parent} was removed meanwhile"
        elif ended.state == "FAILED" and not text:
            why += f" without a log: {Path.cwd()} must be there, under this path, on all nodes"
        of_node = any(not status or status.get("of_machine") for status in statuses)
        of_node &= "SIGKILL" not in why  # by somebody, or for its memory
        if of_node and ended.node and ended.state == "FAILED":
            self._avoided.add(ended.node)
            text = f"{ended.node}: no more jobs of this run go there, while there are other nodes"
            self._report_once(f"node {ended.node}", f"{text} ({why})")
        return why

    def _fail(
        self,
        jobs: Sequence[Any],
        why: str,
        number: str = "",
        log: Path | None = None,
        *,
        is_killed: bool = False,
    ) -> None:
        """Report the failure of jobs, with the reason once for all."""
        from tomopipe.campaign.failures import record_end
        from tomopipe.errors import RunEndedError

        logs = [str(log)] if log and log.exists() and log.stat().st_size else []
        why += "".join(f"; see {os.path.relpath(path)}" for path in logs)
        names = ", ".join(sorted({member.rule.name for job in jobs for member in members(job)}))
        self.logger.error(f"a submission of {names} failed: {why}")
        for job in jobs:
            lacking = [member for member in members(job) if not is_done(member)] or members(job)
            if lacking[0].log and not self._is_cancelled:
                with suppress(OSError, RunEndedError):  # disk full
                    record_end(lacking[0].log[0], why, number, is_killed=is_killed)
            info = SubmittedJobInfo(job, external_jobid=number or None, aux={"lacking": lacking})
            self.report_job_error(info, msg=why, aux_logs=logs)

    def _report_once(self, about: str, text: str) -> None:
        """Report a problem of SLURM, once until it works again."""
        from tomopipe.run import progress

        if about not in self._said:
            self._said.add(about)
            self.logger.warning(f"tomopipe: {text}")
            progress.tell(says=text)
