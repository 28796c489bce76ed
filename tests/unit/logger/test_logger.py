"""The logger plugin: what a run of Snakemake tells, in text and as events."""

import json
from logging import LogRecord
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

from snakemake_logger_plugin_tomopipe import LogHandler
from tests import warm
from tests.waiting import ended
from tomopipe.campaign.files import Logs
from tomopipe.run.progress import VARIABLE, Progress, tell
from tomopipe.storage import run_folder

SNAKEFILE = """
from tomopipe.reruns.settle import REASONS

rule all:
    input: "out/end"
    localrule: True

checkpoint scans:
    output: "out/scans"
    shell: "echo a b c d > {output}"

def volumes(wildcards):
    with open(checkpoints.scans.get().output[0]) as names:
        REASONS["volume", "a"] = "COR of a: 4 -> 5"
        return [f"out/{scan}" for scan in names.read().split()]

rule volume:
    output: "out/{scan}"
    log: "logs/volume/{scan}.log"
    retries: 1
    wildcard_constraints: scan="."
    shell: "sh ./job {wildcards.scan} {output}"

rule end:
    input: volumes
    output: "out/end"
    shell: "touch {output}"
"""
# d makes no output at first; as the steps do, c says beside its log why it failed
JOB = """
[ $1 = b ] && [ ! -e first ] && touch first && exit 1
[ $1 = d ] && [ ! -e second ] && touch second && exit
[ $1 != c ] && touch $2 && exit
mkdir -p logs/status/volume
printf '{"state": "failed", "start": %s, "end": %s, "error": "volume: no room"}' \
  $(date +%s) $(date +%s) > logs/status/volume/c.json
exit 1
"""


class TestInterface(TestLogHandlerBase):
    """The tests that come with the interface."""

    __test__ = True

    def get_log_handler_cls(self):
        return LogHandler

    def get_log_handler_settings(self):
        return LogHandlerSettingsBase()


def run(folder: Path, *options: str) -> tuple[str, Progress]:
    """Run the workflow, of which the volume of c fails; return its text and what is read of it."""
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "job").write_text(JOB)
    command = (warm.python(), "-m", "snakemake", "--logger", "tomopipe", "--cores", "1")
    env = {VARIABLE: str(folder / "events"), "HOME": str(folder)}
    command += ("--keep-going", "--latency-wait", "0")
    status, text = ended(*command, *options, cwd=folder, env=env)
    assert status == 1, text
    return text, Progress(folder / "events", Logs(folder / "logs"))


@pytest.mark.slow
def test_a_run_tells_reasons_failures_and_how_far_it_is(tmp_path):
    text, progress = run(tmp_path)
    progress.read()
    assert {name: (step.done, step.total) for name, step in progress.steps.items()} == {
        "scans": (1, 1),
        "volume": (3, 4),
        "end": (0, 1),
    }
    volume = progress.steps["volume"]
    states = {job.name: job.state for job in volume.jobs.values()}
    assert states == {"a": "done", "b": "done", "c": "failed", "d": "done"}
    began = {name: reason for what, _, name, reason in progress.news if what == "began"}
    assert began == dict.fromkeys(["", "b", "c", "d"], "not there yet") | {"a": "COR of a: 4 -> 5"}
    errors = [(what, name, said) for what, _, name, said in progress.news if what != "began"]
    assert sorted(set(errors)) == [
        *(("again", name, "") for name in "bcd"),
        ("failed", "b", ""),
        ("failed", "c", "no room"),
        ("failed", "d", "out/d: missing, though its job ended without an error"),
    ]
    assert text.count("reason: COR of a: 4 -> 5\n") == 1
    assert text.count("Error in rule volume:") == 3
    assert "None\n" not in text.replace("message: None\n", "")
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)


@pytest.mark.slow
def test_events_are_written_whatever_the_text_hides(tmp_path):
    text, progress = run(tmp_path, "--quiet", "rules")
    progress.read()
    assert "rule volume:" not in text
    assert progress.steps["volume"].done == 3


def record_of(event: LogEvent | None, message: str = "", **fields) -> LogRecord:
    record = LogRecord("snakemake", 20, "x.py", 1, message, (), None)
    vars(record).update(fields, **({"event": event} if event else {}))
    return record


FAILED = {
    "jobid": 1,
    "rule_name": "full_recon",
    "rule_msg": "SLURM job 12: CANCELLED",
    "input": ["results/cor.json"],
    "output": ["results/a_rec.h5"],
    "log": ["logs/full_recon/a.log"],
    "aux": {"external_jobid": "12"},
}


TOLD = ("failed", "again", "began")


@pytest.fixture
def handler(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events"))
    return LogHandler(MockOutputSettings(), None)


def test_what_is_said_of_a_job_that_did_not_begin_is_its_error(handler, tmp_path):
    handler.handle(record_of(LogEvent.JOB_ERROR, **FAILED))
    event = json.loads((tmp_path / "events").read_text())
    assert (event["failed"], event["error"]) == (1, "SLURM job 12: CANCELLED")


def test_a_disk_without_room_does_not_end_the_log(handler, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "/dev/full")
    handler.handle(record_of(LogEvent.JOB_FINISHED, "Finished jobid: 1", job_id=1))
    assert capsys.readouterr().err == "Finished jobid: 1\n"


def test_a_line_that_a_full_disk_has_cut_costs_itself_and_the_next(handler, tmp_path):
    progress = Progress(tmp_path / "events", Logs(tmp_path))
    for number, text in enumerate(["", '{"at": 1.0, "says": "a li', ""]):
        with open(tmp_path / "events", "a") as stream:
            stream.write(text)
        for says in ("first", "second"):
            tell(says=f"{says} of {number}")
        progress.read()
    expected = ["first of 0", "second of 0", "second of 1", "first of 2", "second of 2"]
    assert progress.facts["said"] == expected


@pytest.mark.parametrize(("kind", "attempts"), [("ScanError", []), ("OSError", [1])])
def test_only_an_attempt_that_computes_again_is_reported(
    handler, tmp_path, monkeypatch, kind, attempts
):
    monkeypatch.setenv(run_folder.VARIABLE, "results/.runs/1")
    (status := Logs(tmp_path / "logs").status("full_recon", "a")).parent.mkdir(parents=True)
    of_job = {"state": "failed", "start": 1.0, "end": 2.0, "type": kind, "error": "no angles"}
    status.write_text(json.dumps(of_job | {"run": "results/.runs/1"}))
    handler.handle(record_of(LogEvent.JOB_ERROR, **FAILED))
    handler.handle(record_of(None, "Trying to restart job 1."))
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert events[0]["failed"] == 1
    assert [event["again"] for event in events[1:]] == attempts


def test_jobs_of_a_group_are_tried_again_when_they_begin(handler, tmp_path):
    """Snakemake names the group by a hexadecimal number, which may begin with that of a job."""
    for number in (1, 2):
        handler.handle(record_of(LogEvent.JOB_ERROR, **FAILED | {"jobid": number}))
    handler.handle(record_of(None, "Trying to restart job 1a37a015-1368-573e-b8a1-989d54e755d8."))
    job = {"rule_name": "full_recon", "wildcards": {"scan": "a"}, "reason": "", "threads": 1}
    for _ in range(2):
        handler.handle(record_of(LogEvent.JOB_INFO, jobid=2, **job))
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    written = [(kind, event[kind]) for event in events for kind in event if kind in TOLD]
    assert written == [("failed", 1), ("failed", 2), ("again", 2), ("began", 2), ("began", 2)]
