"""Everything that relies on private parts of Snakemake, tested with the version in constraints."""

import functools
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tomopipe.campaign.failures import failed_on_data
from tomopipe.campaign.files import CENTER, SNAKEMAKE
from tomopipe.campaign.log import status_path
from tomopipe.campaign.slurm import (
    await_controller,
    cancel,
    failed_on,
    node_mb,
    time_limit_min,
)
from tomopipe.reruns.stated import is_kept
from tomopipe.run import progress, warm_start
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import take_away, write_text
from tomopipe.storage.json_files import json_or
from tomopipe.storage.rights import why_not_replaced

_SENT, _CONFIG = "sent", "config.json"  # in the folder of a run, for its nodes
MOST_READY = 500  # jobs that the scheduler chooses among at a time
# what is said of a submission that failed, by the numbers of its jobs: for those that did not begin
_SAID: dict[int, dict[str, str]] = {}


def _decide_ourselves(workflow: Any) -> None:
    """Make a run follow our decisions, also without our profile; when it is parsed, it cannot."""
    from snakemake.settings.enums import RerunTrigger

    workflow.dag_settings.rerun_triggers = frozenset([RerunTrigger.MTIME])
    workflow.dag.ignore_incomplete = True  # results are whole, and state what they are made from
    if workflow.execution_settings is not None:
        workflow.execution_settings.keep_incomplete = True
        # a file for each result, which is never read here
        workflow.execution_settings.keep_metadata = False
        workflow.execution_settings.keep_going = True


def force(workflow: Any, outputs: Iterable[str], *, run: bool) -> None:
    """Make the job of these files run, or not, regardless of their times."""
    _decide_ourselves(workflow)
    forced = workflow.dag.forcefiles
    (forced.update if run else forced.difference_update)(list(outputs))


def is_forced(workflow: Any, path: str) -> bool:
    """Tell whether the job of a file was made to run."""
    return path in workflow.dag.forcefiles


def outputs_of(checkpoints: Any) -> set[str]:
    """Return the outputs of the checkpoints that have ended well, to be changed in place."""
    outputs: set[str] = checkpoints.created_output
    return outputs


def if_known(asked: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a parameter that is unknown while the job waits for a checkpoint.

    Snakemake asks for parameters before the job's inputs have named all of its checkpoints.
    """
    from snakemake.common.tbdstring import TBDString
    from snakemake.exceptions import IncompleteCheckpointException

    def parameter(wildcards: Any) -> Any:
        try:
            return asked(wildcards)
        except IncompleteCheckpointException:
            return TBDString()

    return parameter


def has_finished(workflow: Any, path: str) -> bool:
    """Tell whether the job of a file has ended well in this run; the job is a checkpoint."""
    return any(job.is_checkpoint and path in job.output for job in workflow.dag._finished)


def is_main(workflow: Any) -> bool:
    """Tell whether this is the main process, which decides on jobs, not one of a job."""
    return bool(workflow.is_main_process)


def attempts_left(workflow: Any, attempt: int) -> int:
    """Count the attempts of a job that may follow on one: none on a node that was not sent it."""
    return int(workflow.execution_settings.retries) + 1 - attempt


def is_dry(workflow: Any) -> bool:
    """Tell whether nothing will be executed."""
    return bool(workflow.dryrun)


def is_lint() -> bool:
    """Tell whether this call only checks the style of the rules."""
    return "--lint" in sys.argv


def schedule_greedily(workflow: Any) -> None:
    """Choose jobs by Snakemake's greedy scheduler instead of its default, ilp, which is slow.

    As the default profile does, which is loaded only with the Snakefile beside it. Call it when a
    run begins. One that the command line names stays.

    Of very many that are ready it is given some, by chance: to look at 15,000 took 0.1 s a job.
    """
    workflow.scheduler.subsample = workflow.scheduler.subsample or MOST_READY
    if not any(argument.startswith("--scheduler") for argument in sys.argv):
        workflow.scheduling_settings.scheduler = "greedy"  # of nodes
        workflow.scheduler._job_selector = workflow.scheduler.job_selector_greedy


def start_without_timers(workflow: Any) -> None:
    """Lift Snakemake's default limit of 100 jobs a second; one that the user sets is kept.

    It starts a timer in each round of scheduling, and the timer another round: every finished job
    adds one a second, permanently, until they use a whole core.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def default_target(workflow: Any, rule: str) -> None:
    """Make a rule the default target, also if its Snakefile is only included.

    Snakemake forgets the default targets of included files, and takes the first rule that follows.
    A rule before the include takes precedence, and one with `default_target: True`.
    """
    name, state = workflow.modifier.modify_rulename(rule), vars(workflow)
    names = (*getattr(workflow, "_our_targets", ()), name)  # a module is included again

    class WithTarget(type(workflow)):  # type: ignore[misc]
        _our_targets = names

        @property
        def default_target(self) -> str | None:
            return state["default_target"] or next(filter(self.is_rule, names), None)

        @default_target.setter
        def default_target(self, rule: str | None) -> None:
            state["default_target"] = rule

    workflow.__class__ = WithTarget


def call_hooks_of_module(workflow: Any, names: dict[str, Any]) -> None:
    """Make a run that uses the Snakefile as a module call its hooks, after the user's.

    Snakemake calls only those of the main Snakefile. `names` are the Snakefile's globals; call it
    when all Snakefiles have been read.
    """
    for event in ("onstart", "onsuccess", "onerror"):
        hook, users = names[event].func, getattr(workflow, f"_{event}")
        if users is not hook:
            setattr(workflow, f"_{event}", functools.partial(_both, users, hook))


def _both(first: Callable[[Any], None], second: Callable[[Any], None], log: Any) -> None:
    try:
        first(log)
    finally:
        second(log)


class _SizesOfBatches(dict[str, int]):
    """`group-components` by kind of batch: try=20 holds for try1, try2, ... without their own."""

    def get(self, batch: str, default: Any = 1) -> Any:
        return super().get(batch, super().get(batch.rstrip("0123456789"), default))


def batch_size(workflow: Any, kind: str) -> int:
    """Return how many scans a batch may hold, from `group-components`; else one."""
    sizes = workflow.group_settings.group_components
    if not isinstance(sizes, _SizesOfBatches):
        sizes = workflow.group_settings.group_components = _SizesOfBatches(sizes)
    return int(sizes.get(kind))


def asks_for(workflow: Any, rule: str, resource: str) -> bool:
    """Tell whether a profile, or the command line, sets a resource of a rule (`set-resources`)."""
    settings = workflow.resource_settings
    return bool(settings and resource in settings.overwrite_resources.get(rule, {}))


def _replace_once(owner: Any, name: str, call: Callable[..., Any]) -> None:
    """Make a function `call(it, *arguments)`, unless already done, or it is not there."""
    plain = getattr(owner, name, None)
    if plain is not None and not hasattr(plain, "__wrapped__"):
        made = functools.wraps(plain)(lambda *given, **more: call(plain, *given, **more))
        setattr(owner, name, made)


def _slurm_plugin() -> Any:
    """Return the executor plugin, if it is loaded and not too old for what is changed in it."""
    plugin = sys.modules.get("snakemake_executor_plugin_slurm")
    return plugin if hasattr(plugin, "query_job_status") else None


def too_old(workflow: Any) -> str:
    """Say that jobs go to SLURM by a plugin that is too old; "" if not."""
    if workflow.executor_plugin.name != "slurm" or _slurm_plugin() is not None:
        return ""
    name, oldest = "snakemake-executor-plugin-slurm", "2.5"
    return f"{name} {version(name)} is too old: pip install '{name}>={oldest}'"


def no_job_fits(workflow: Any) -> str:
    """Say that no job may ever run, for which Snakemake would wait for ever; "" if some may."""
    remote = is_remote(workflow)
    option, n_most = ("jobs", workflow.nodes) if remote else ("cores", workflow._cores)
    if n_most is None or n_most >= 1:
        return ""
    return f"--{option} {n_most}: expected at least 1, else no job can run."


def one_start_per_submission() -> None:
    """Make the Snakemake that SLURM starts run all jobs of a batch itself, on all of its cores.

    The plugin would make it start another Snakemake by srun for each job, one after the other. A
    failed job does not stop the others.
    """

    def with_cores(plain: Any, executor: Any, job: Any) -> str:
        memory = _memory_mb(job)
        limit = f" --resources mem_mb={memory}" if memory else ""
        return f"{plain(executor, job)} --cores {job.threads}{limit}"  # the last --cores counts

    executor = getattr(_slurm_plugin(), "Executor", None)
    _replace_once(executor, "get_job_args", with_cores)
    _replace_once(executor, "additional_general_args", lambda *_: "--keep-going")


def ask_for_cores_used(cores_of: Callable[[Iterable[Any]], int]) -> None:
    """Limit the cores of a submission of several jobs to those that they use: `cores_of` them.

    Snakemake asks for the cores of all, up to the profile's. Fewer run side by side then, so that
    less memory is needed; the time stays, since it is limited where the jobs are short.
    """
    from snakemake.jobs import GroupJob
    from snakemake.resources import Resource, Resources

    def limited(group: Any) -> Any:
        if group._resources is not None or group.dag.workflow.local_exec:
            return plain(group)
        found = plain(group)
        n_cores = max(cores_of(group.jobs), *(job.threads for job in group.jobs))
        if n_cores >= found["_cores"]:
            return found
        given, runtime = group.global_resources, found.get("runtime")
        group.global_resources = Resources(dict(given) | {"_cores": Resource("_cores", n_cores)})
        group._resources = None
        plain(group)
        group.global_resources = given
        if runtime is not None:
            group._resources["runtime"] = runtime
        return plain(group)

    plain = GroupJob.resources.fget
    if plain.__name__ != "limited":
        GroupJob.resources = property(limited)


def keep_what_is_made(
    is_made: Callable[[Any], bool],
    is_final: Callable[[Any], bool],
    was_killed: Callable[[Any], bool],
) -> None:
    """Take what a failed submission has made, and try again what lacks, but no error of the data.

    Snakemake fails a submission as a whole: what follows on its finished jobs would wait for
    another run, and a further attempt would ask for the memory of all. What was at work when it was
    killed is tried again each in a submission of its own, which shows whose fault it was.
    """
    from snakemake.jobs import GroupJob, Job
    from snakemake.logging import logger
    from snakemake.scheduling.job_scheduler import JobScheduler

    def reported(plain: Any, job: Any, *arguments: Any, **options: Any) -> None:
        if not (options.get("indent") and is_made(job)):  # of a batch
            if not options.get("indent"):
                _note_failure([job], *arguments, **options)
            plain(job, *arguments, **options)

    def with_reason(plain: Any, group: Any, msg: str | None = None, **options: Any) -> None:
        _note_failure(group.jobs, msg, **options)
        plain(group, msg=msg, **options)

    def handled(plain: Any, scheduler: Any, job: Any, postprocess_job: bool = True) -> None:
        members = job if job.is_group() else [job]
        lacking = [member for member in members if not is_made(member)]
        again = [member for member in lacking if not is_final(member)]
        dag = scheduler.workflow.dag
        parts = _submissions(again, dag.dependencies, was_killed)
        if not (lacking and postprocess_job) or (len(again) == len(job) and len(parts) == 1):
            return plain(scheduler, job, postprocess_job)
        scheduler.workflow.async_run(job.postprocess(error=True))
        scheduler.get_executor(job).handle_job_error(job)
        scheduler.running.remove(job)
        scheduler._free_resources(job)
        for member in job if job.is_group() else ():
            if member not in lacking:
                _finish(scheduler, member)
        may_return = job.restart_times > job.attempt - 1
        doomed = [member for member in lacking if member not in again or not may_return]
        for part in parts if may_return else ():
            rest = GroupJob(job.groupid, part, job.global_resources)
            rest.finalize()
            rest.attempt = job.attempt + 1
            dag._group |= dict.fromkeys(part, rest)
            dag._ready_jobs.add(rest)
            logger.info(f"Trying {len(part)} of {len(job)} jobs again.")
        if doomed:
            scheduler._errors = True
            scheduler.failed.update(doomed)

    _replace_once(Job, "log_error", reported)
    _replace_once(GroupJob, "log_error", with_reason)
    _replace_once(JobScheduler, "_handle_error", handled)


def _submissions(
    jobs: Iterable[Any], needs: Mapping[Any, Mapping[Any, Any]], was_killed: Callable[[Any], bool]
) -> list[frozenset[Any]]:
    """Share jobs, each after those that it `needs`, out to submissions: who was killed is alone.

    Alone with what follows on it, and what it follows on.
    """
    parts: list[frozenset[Any]] = []
    for job in jobs:
        near = [part for part in parts if part & needs[job].keys()]
        parts = [part for part in parts if part not in near]
        parts.append(frozenset([job]).union(*near))
    alone = [part for part in parts if any(map(was_killed, part))]
    rest = frozenset().union(*(part for part in parts if part not in alone))
    return [*alone, rest] if rest else alone


def _note_failure(jobs: Iterable[Any], msg: str | None = None, **options: Any) -> None:
    """Keep, and log, why a submission failed: what sbatch said, or how SLURM ended it."""
    from snakemake.logging import logger

    logs = [log for log in options.get("aux_logs") or () if log]
    why = _blind_node(logs) or _plain(" ".join((msg or "").split()))
    if written := [os.path.relpath(log) for log in logs if os.path.exists(log)]:
        why += f"; see {written[0]}"
    said = {"error": why, "slurm_job": str(options.get("external_jobid") or "")}
    _SAID.update((job.jobid, said) for job in jobs)
    if why:
        names = ", ".join(sorted({job.rule.name for job in jobs}))
        logger.error(f"a submission of {names} failed: {why}")


def _plain(msg: str) -> str:
    """Shorten a message of the plugin, which is a screen long, to what SLURM said."""
    if ended := re.search(r"SLURM-job '(\d+)' failed.*status is: '(\w+)'", msg):
        return f"SLURM job {ended[1]}: {ended[2]}"
    told = re.split(" ?(?:sbatch call: |For further error details)", msg)[0]
    refused = re.search(r"The error message was '(.*)'", told)
    return refused[1].replace(" sbatch: error: ", "; ") if refused else told


def not_begun(workflow: Any) -> list[tuple[str, dict[str, str]]]:
    """Return the logs of the jobs that failed finally without a status of this run, and why.

    Without those that only follow on another of them in the same submission. Call it before the run
    is ended.
    """
    jobs = {job for found in workflow.scheduler.failed for job in getattr(found, "jobs", [found])}
    needs = workflow.dag.dependencies
    told_in = next(map(os.path.relpath, workflow.logger_manager.get_logfile()), "Snakemake's log")
    unknown = {"error": f"it ended before it began; see {told_in}"}
    run = os.environ.get(run_folder.VARIABLE, "")
    return [
        (str(job.log[0]), unknown | {k: v for k, v in _SAID.get(job.jobid, {}).items() if v})
        for job in jobs
        if job.log
        and json_or(status_path(job.log[0]), {}).get("run") != run
        and not needs[job].keys() & jobs
    ]


def _blind_node(logs: Sequence[str]) -> str:
    """Say that a node could not even write the log of its job; "" if it could, or none began."""
    log = next(iter(logs), None)
    if log is None or os.path.exists(log) or not (node := failed_on(Path(log).stem)):
        return ""
    folder = Path.cwd() if Path(log).is_relative_to(Path.cwd()) else Path(log).parent
    return f"{node} cannot write {folder}: it must be there, under this path, on all nodes"


def _finish(scheduler: Any, job: Any) -> None:
    """Tell Snakemake that a job of a failed submission has ended well."""
    from snakemake.logging import LogEvent, logger

    dag = scheduler.workflow.dag
    scheduler.finished_jobs += 1
    logger.info(
        f"Finished jobid: {job.jobid} (Rule: {job.rule.name})",
        extra={"event": LogEvent.JOB_FINISHED, "job_id": job.jobid},
    )
    dag._running.add(job)
    scheduler.workflow.async_run(dag.finish(job, update_checkpoint_dependencies=False))


def _memory_mb(job: Any) -> int | None:
    """Return the memory that a submission asks for: at most a node's, for fewer jobs at a time."""
    asked = job.resources.get("mem_mb")
    if not isinstance(asked, int):
        return None
    return min(asked, node_mb(_partition(job)) or asked)


def _partition(job: Any) -> str:
    return str(job.resources.get("slurm_partition") or "")


def at_submission(config: Mapping[str, Any]) -> None:
    """Send config and inputs of its jobs with each submission; limit its time to the partition's.

    And its memory to a node's: SLURM would refuse more. It waits for a controller that is down:
    each submission that fails is an attempt of its jobs. Nodes that failed are excluded by the
    plugin; that of a job which SLURM has requeued is "None assigned", which sbatch does not take.
    """
    from snakemake.logging import logger

    def say(text: str) -> None:
        logger.warning(f"tomopipe: {text}")
        progress.tell(says=text)

    def limited(plain: Any, job: Any, *arguments: Any, **options: Any) -> str:
        await_controller(say)
        nodes = {node for node in options.get("failed_nodes") or () if " " not in node}
        call = str(plain(job, *arguments, **options | {"failed_nodes": nodes}))
        _send(job, config)
        if memory := _memory_mb(job):
            call = re.sub(r" --mem '?\d+'?", f" --mem {memory}", call)
        limit_min = time_limit_min(_partition(job))
        if limit_min is None:
            return call
        return re.sub(r" -t '?(\d+)'?", lambda asked: f" -t {min(int(asked[1]), limit_min)}", call)

    _replace_once(_slurm_plugin(), "get_submit_command", limited)


def keep_configfiles(workflow: Any) -> None:
    """Give nodes the files of --configfile as a run began with them: they may be edited meanwhile.

    Snakemake reads them there before the rules, although the config is sent, too. Named by their
    content, they outlive the run: a job of a dead one reads them before it sees that it has ended.
    """
    settings, kept = workflow.config_settings, []
    if run_folder.current() is None or not (settings.configfiles and is_remote(workflow)):
        return
    for path in settings.configfiles:
        content = path.read_text(encoding="utf-8")
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
        kept.append(Path(SNAKEMAKE, "configfiles", f"{name}-{path.name}").absolute())
        kept[-1].parent.mkdir(parents=True, exist_ok=True)
        write_text(content, kept[-1])
    settings.configfiles = kept


def _send(job: Any, config: Mapping[str, Any]) -> None:
    """Write for a node the config, and, if all are jobs of scans, the inputs of each."""
    from snakemake.common.tbdstring import TBDString

    run, sent = run_folder.current(), {}
    jobs = getattr(job, "jobs", [job])
    if run is None:
        return
    (run / _SENT).mkdir(exist_ok=True)
    if not (path := run / _SENT / _CONFIG).exists():
        path.write_text(json.dumps(config), "utf-8")
    if not all("scan" in each.wildcards_dict for each in jobs):
        return
    for member in jobs:
        known = {k: v for k, v in member.resources.items() if not isinstance(v, TBDString)}
        if memory := _memory_mb(member):
            known["mem_mb"] = memory
        # the node computes what depends on files of earlier jobs of the submission
        whole = len(known) >= len(member.resources.keys() - {"tmpdir"})
        facts = {"params": dict(member.params.items()), "resources": known if whole else None}
        sent[_as_text(member.rule.name, member.wildcards_dict)] = facts
    _sent_file(run, _targets(job)).write_text(json.dumps(sent), "utf-8")


def take_config(config: dict[str, Any]) -> bool:
    """On a node, take the config as the run began with it; tell whether it was sent."""
    run = run_folder.current()
    sent = json_or(run / _SENT / _CONFIG, {}) if run else {}
    if sent:
        config.clear()
        config.update(sent)
    return bool(sent)


def take_sent() -> bool:
    """On a node, give jobs what the main process decided; tell whether it was sent.

    The node reads only the files of its jobs: otherwise the time of each start, and its load on the
    file server, would grow with the campaign.
    """
    run, arguments = run_folder.current(), sys.argv[1:]
    if run is None or "--target-jobs" not in arguments:
        return False
    after = arguments[arguments.index("--target-jobs") + 1 :]
    specs = list(itertools.takewhile(lambda argument: not argument.startswith("--"), after))
    if not (sent := json_or(_sent_file(run, specs), {})):
        return False  # another executor: computed here
    from snakemake.rules import Params, ResourceList, Rule

    # another job of a scan, whose results are there, does not run, but is asked all the same
    idle: dict[str, dict[str, Any]] = {"params": {}, "resources": {"_cores": 1, "_nodes": 1}}

    def replace(name: str, kind: str, made_of: Callable[[Any], Any]) -> None:
        def expand(plain: Any, rule: Any, wildcards: Any, *rest: Any, **options: Any) -> Any:
            others = idle if "scan" in wildcards else {}
            facts = sent.get(_as_text(rule.name, wildcards), others).get(kind)
            return plain(rule, wildcards, *rest, **options) if facts is None else made_of(facts)

        _replace_once(Rule, name, expand)

    tmpdir = {"tmpdir": tempfile.gettempdir()}
    replace("expand_params", "params", lambda found: (Params(fromdict=found), [*found.values()]))
    replace("expand_resources", "resources", lambda found: ResourceList(fromdict=tmpdir | found))
    return True


def _as_text(rule: str, wildcards: Mapping[str, str]) -> str:
    """Name a job as the node's command line does; scans have no comma in their name."""
    return f"{rule}:{','.join(f'{key}={value}' for key, value in wildcards.items())}"


def _targets(job: Any) -> list[str]:
    return [_as_text(target.rulename, target.wildcards_dict) for target in job.get_target_spec()]


def _sent_file(run: Path, specs: Iterable[str]) -> Path:
    name = hashlib.sha256("\n".join(sorted(specs)).encode()).hexdigest()[:24]
    return run / _SENT / f"{name}.json"


def before_deciding(
    workflow: Any, do: Callable[[], None], *, although_locked: bool = False
) -> None:
    """Call `do` before the first decision of a run that executes jobs.

    Not in a dry run, and not while the folder is locked (another run is active, or was killed and
    Snakemake will report it), unless the run ignores locks.
    """
    build = workflow._build_dag

    @functools.wraps(build)
    def after_do() -> None:
        executes = workflow.executor_plugin is not None and not workflow.dryrun
        locked = any(True for _ in workflow.persistence._read_locks())
        if executes and (although_locked or not locked):
            do()
        spare_what_no_rule_uses(workflow)
        build()

    workflow._build_dag = after_do


def spare_what_no_rule_uses(workflow: Any) -> None:
    """Save the search for pipes among all inputs, and the parameters of all jobs for conda.

    For report and star file of 5,000 scans the former takes twice as long as the rest of a run.
    """
    from snakemake.io import is_flagged
    from snakemake.jobs import Job

    outputs = [path for rule in workflow.rules for path in rule.output]
    if not any(is_flagged(path, kind) for path in outputs for kind in ("pipe", "service")):
        Job.is_pipe_or_service_input = lambda self, path: False
    if not any(rule.conda_env for rule in workflow.rules):
        Job.conda_env_spec = property(lambda self: None)


def tell_events(
    workflow: Any,
    words: Callable[[Mapping[str, Any]], str],
    warnings: Callable[[], Iterable[str]],
    *,
    refuses: bool,
) -> None:
    """Make a run say in our words why its jobs run, and report its progress (`progress.tell`).

    `words` makes them from Snakemake's information about a job; `warnings` is called once, if the
    run makes all that is missing, when its inventory is there: before the next jobs start, which
    do not if there is a warning and the run `refuses`. Call it when a run begins.
    """
    from snakemake.logging import logger

    n_known, warned, is_refused = 0, False, False  # jobs whose sums have been reported
    began_s: dict[int, list[float]] = {}  # of each attempt of a job

    def is_reported(record: Any) -> bool:
        nonlocal n_known, warned, is_refused
        info, event = vars(record), str(getattr(record, "event", ""))
        if event == "job_info":
            record.reason = words(info)
            began_s.setdefault(info["jobid"], []).append(time.time())
            progress.tell(
                began=info["jobid"],
                step=info["rule_name"],
                name=name_of(info["wildcards"] or {}),
                reason=record.reason,
                local=bool(info["local"]),
            )
        elif event == "job_finished":
            progress.tell(ended=info["job_id"])
        elif event == "job_error":
            attempts_s = began_s.get(info["jobid"], [0.0])
            progress.tell(failed=info["jobid"], **_failure(workflow, info, attempts_s))
        elif event in ("run_info", "job_started") and len(workflow.dag) != n_known:
            n_known = len(workflow.dag)  # a checkpoint has added some
            done = set(workflow.dag.finished_jobs)
            left = set(workflow.dag.needrun_jobs()) - done
            progress.tell(totals=Counter(job.rule.name for job in left | done))
            makes_all = not warned and "all" in targets(workflow)
            if makes_all and not any(job.rule.name.endswith("inventory") for job in left):
                warned = True
                for line in warnings():
                    is_refused = refuses
                    print(f"tomopipe: {line}", file=sys.stderr)
                    progress.tell(says=line)
        if event == "job_started" and is_refused:
            progress.tell(refused=True)
            raise SystemExit  # the scheduler, which is about to start jobs, starts none
        return True

    logger.addFilter(is_reported)


def _failure(workflow: Any, info: Mapping[str, Any], attempts_s: Sequence[float]) -> dict[str, Any]:
    """Return the error of a job whose attempts began then, and whether it is tried again."""
    # at once: another attempt overwrites the error
    rule, log = info["rule_name"], Path(next(iter(info["log"]), ""))
    may_return = workflow.get_rule(rule).restart_times >= len(attempts_s)
    return {
        "error": progress.error_of(log, rule, attempts_s[-1])
        or _SAID.get(info["jobid"], {}).get("error", ""),
        "again": may_return and not failed_on_data(log, since=attempts_s[-1]),
    }


def name_of(wildcards: Mapping[str, Any]) -> str:
    """Return the scan, stack or series of a job; "" for the campaign."""
    return str(
        next((wildcards[key] for key in ("scan", "stack", "series") if key in wildcards), "")
    )


def is_remote(workflow: Any) -> bool:
    """Tell whether jobs are submitted to a cluster."""
    return not workflow.local_exec


def targets(workflow: Any) -> set[str]:
    """Return the targets of this call; "all" stands for everything."""
    settings = workflow.dag_settings
    return set(settings.targets if settings and settings.targets else {"all"})


def fork_scripts(workflow: Any) -> None:
    """Start the scripts of the rules beside the calling file as forks (`warm_start`).

    Not scripts of other workflows that use this one, nor of rules with their own environment. What
    a submission has made before SLURM queued it again is not made twice.
    """
    from snakemake.script import PythonScript

    rules = workflow.current_basedir.get_path_or_uri(secret_free=True)
    scripts = os.path.realpath(os.path.join(rules, "..", "scripts"))

    def forked(plain: Any, script: Any, path: str, edit: bool = False) -> None:
        source = os.path.realpath(script.path.get_path_or_uri(secret_free=True))
        folder, name = os.path.split(source)
        apart = script.container_img or script.conda_env or script.env_modules
        apart = apart or script.bench_record or folder != scripts
        if not apart and _has_made(script.log, script.output):
            return
        if apart or not warm_start.is_worth_it(name.removesuffix(".py")):
            return plain(script, path, edit)
        tmpdir = str(script.resources.get("tmpdir") or tempfile.gettempdir())
        cores = dict.fromkeys(warm_start.THREADS, str(script.threads))  # for what is not loaded
        try:
            status = warm_start.run_script(path, {**cores, "TMPDIR": tmpdir})
        except OSError:  # no process, or no room for its socket
            return plain(script, path, edit)
        if status:
            raise subprocess.CalledProcessError(status, [sys.executable, path])

    _replace_once(PythonScript, "execute_script", forked)


def _has_made(logs: Sequence[str], outputs: Iterable[str]) -> bool:
    """Tell whether this SLURM job has made results in this run, before it was queued again."""
    if not (logs and os.environ.get("SLURM_RESTART_COUNT")):
        return False
    said = json_or(status_path(logs[0]), {})
    ours = {
        "state": "done",
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "run": os.environ.get(run_folder.VARIABLE),
    }
    return said.items() >= ours.items() and all(map(os.path.exists, outputs))


def remove_only_in_run() -> None:
    """Make Snakemake remove results before each job only while the run is active.

    A job of an ended run on another node could otherwise remove results of a newer run. A job with
    the parameter `replaces` does so itself, once the new result is whole.
    """
    from snakemake.jobs import Job

    async def in_run(plain: Any, job: Any) -> None:
        if run_folder.current() is None:
            return await plain(job)
        if _has_made(job.log, job.output):
            return
        decides = job.params.get("replaces") or any(path.endswith(CENTER) for path in job.output)
        closed = any(map(why_not_replaced, job.output))  # it will fail
        if not (decides or closed or is_kept(job.output[0], job.params)):
            for path in job.output:
                take_away(path)
        for path in job.log:
            await path.remove(remove_non_empty_dir=False)

    _replace_once(Job, "remove_existing_output", in_run)


def leave_protected_to_jobs() -> None:
    """Let the job of a write-protected result fail (`campaign.log.job`), not the whole run."""
    from snakemake.jobs import Job

    async def nothing(*_: Any) -> None:
        pass

    _replace_once(Job, "check_protected_output", nothing)


def ignore_times() -> None:
    """Let a result be older than what it was made from: clocks differ, and archives keep times."""
    from snakemake.dag import DAG

    async def nothing(*_: Any) -> None:
        pass

    _replace_once(DAG, "check_output_mtime", nothing)


def see_cancelled_jobs() -> None:
    """Make the SLURM plugin recognise jobs that were cancelled, or preempted finally.

    sacct says "CANCELLED by 1000", and the plugin waits for "CANCELLED" (all versions to 2.8.0);
    for PREEMPTED it waits forever. A preempted job that SLURM queues again is PENDING.
    """

    async def first_word(plain: Any, *arguments: Any) -> Any:
        states, seconds = await plain(*arguments)
        if states is not None:
            words = {number: state.split(" ")[0] for number, state in states.items()}
            states = {n: "CANCELLED" if w == "PREEMPTED" else w for n, w in words.items()}
        return states, seconds

    _replace_once(_slurm_plugin(), "query_job_status", first_word)


def cancel_jobs() -> None:
    """Make the SLURM plugin cancel jobs that it takes for failed, and say what it cannot cancel.

    After a node failure, or a preemption, SLURM may have queued the job again: it would start
    beside the one that replaces it, and take away what that has made. A run that is stopped cancels
    also those whose states the plugin asks for, which it takes off its list meanwhile.
    """

    def cancelled(_: Any, executor: Any, jobs: Iterable[Any]) -> None:
        numbers = list(dict.fromkeys(str(j.external_jobid) for j in jobs if j.external_jobid))
        several = ["--clusters=all"] if executor._submitted_job_clusters else []
        if left := cancel(numbers, *several):
            print(f"tomopipe: {left}", file=sys.stderr)

    def reported(plain: Any, executor: Any, job: Any, *arguments: Any, **options: Any) -> None:
        executor.cancel_jobs([job])
        plain(executor, job, *arguments, **options)

    def asked(plain: Any, executor: Any, jobs: list[Any]) -> Any:
        executor._last_asked_for = jobs
        return plain(executor, jobs)

    def stopped(_: Any, executor: Any) -> None:
        with executor.lock:
            jobs = [*getattr(executor, "_last_asked_for", ()), *executor.active_jobs]
        executor.cancel_jobs(jobs)
        executor.shutdown()

    executor = getattr(_slurm_plugin(), "Executor", None)
    _replace_once(executor, "check_active_jobs", asked)
    _replace_once(executor, "cancel", stopped)
    _replace_once(executor, "cancel_jobs", cancelled)
    _replace_once(executor, "report_job_error", reported)
