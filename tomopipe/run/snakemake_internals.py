"""Everything that relies on private parts of Snakemake, tested with the version in constraints."""

import functools
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import CENTER, SNAKEMAKE
from tomopipe.campaign.log import status_path
from tomopipe.campaign.slurm import node_mb
from tomopipe.reruns.stated import is_kept
from tomopipe.run import warm_start
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import take_away, write_text
from tomopipe.storage.json_files import json_or
from tomopipe.storage.rights import why_not_replaced

_SENT, _CONFIG = "sent", "config.json"  # in the folder of a run, for its nodes
MOST_READY = 500  # jobs that the scheduler chooses among at a time


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


def other_executor(workflow: Any) -> str:
    """Say that jobs go to SLURM by a plugin that waits for ever in some cases; "" if not."""
    if workflow.executor_plugin.name != "slurm":
        return ""
    return (
        "executor: slurm in the profile, or --executor slurm: write executor: tomopipe, the plugin "
        "for SLURM that tomopipe brings (tomopipe init --force writes a new profile)."
    )


def no_job_fits(workflow: Any) -> str:
    """Say that no job may ever run, for which Snakemake would wait for ever; "" if some may."""
    remote = is_remote(workflow)
    option, n_most = ("jobs", workflow.nodes) if remote else ("cores", workflow._cores)
    if n_most is None or n_most >= 1:
        return ""
    return f"--{option} {n_most}: expected at least 1, else no job can run."


def try_no_more(is_final: Callable[[Any], bool]) -> None:
    """Make another attempt of no job that failed on its data: it would fail likewise."""
    from snakemake.scheduling.job_scheduler import JobScheduler

    def handled(plain: Any, scheduler: Any, job: Any, postprocess_job: bool = True) -> None:
        if any(map(is_final, job if job.is_group() else [job])):
            job.attempt = job.restart_times + 1
        plain(scheduler, job, postprocess_job)

    _replace_once(JobScheduler, "_handle_error", handled)


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


def send_config(workflow: Any, config: Mapping[str, Any]) -> None:
    """Write the config as the run began with it, for nodes."""
    run = run_folder.current()
    if run is not None and is_remote(workflow):
        (run / _SENT).mkdir(exist_ok=True)
        (run / _SENT / _CONFIG).write_text(json.dumps(config), "utf-8")


def send(jobs: Sequence[Any]) -> None:
    """Write for a node the inputs of its jobs, if all are jobs of scans."""
    from snakemake.common.tbdstring import TBDString

    run, sent = run_folder.current(), {}
    if run is None or not all("scan" in job.wildcards_dict for job in jobs):
        return
    for job in jobs:
        known = {k: v for k, v in job.resources.items() if not isinstance(v, TBDString)}
        if memory := known.get("mem_mb"):  # at most a node's
            known["mem_mb"] = min(memory, node_mb(known.get("slurm_partition", "")) or memory)
        # the node computes what depends on files of earlier jobs of the submission
        whole = len(known) >= len(job.resources.keys() - {"tmpdir"})
        facts = {"params": dict(job.params.items()), "resources": known if whole else None}
        sent[_as_text(job.rule.name, job.wildcards_dict)] = facts
    (run / _SENT).mkdir(exist_ok=True)
    _sent_file(run, sent).write_text(json.dumps(sent), "utf-8")


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


def _sent_file(run: Path, specs: Iterable[str]) -> Path:
    name = hashlib.sha256("\n".join(sorted(specs)).encode()).hexdigest()[:24]
    return run / _SENT / f"{name}.json"


def before_deciding(workflow: Any, do: Callable[[], None]) -> None:
    """Call `do` before the first decision of a run that executes jobs.

    Not in a dry run, and not while the folder is locked (another run is active, or was killed and
    Snakemake will report it), unless the run ignores locks.
    """
    build = workflow._build_dag

    @functools.wraps(build)
    def after_do() -> None:
        executes = workflow.executor_plugin is not None and not workflow.dryrun
        locked = any(True for _ in workflow.persistence._read_locks())
        if executes and not locked:
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
