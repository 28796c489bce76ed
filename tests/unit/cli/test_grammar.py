"""One grammar: the campaign, --dry-run and help are the same in every command."""

import io
import os
import re
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tests import warm
from tomopipe.cli import cli
from tomopipe.cli.options import campaign_after
from tomopipe.cli.terminal import bar, near

ROOT = get_command(cli)
CONTEXT = ROOT.make_context("tomopipe", ["status"], resilient_parsing=True)
HUGE = "10000000"
NO_CAMPAIGN = {"init", "lab", "cor"}


def commands():
    for name in ROOT.list_commands(CONTEXT):
        command = ROOT.get_command(CONTEXT, name)
        inner = getattr(command, "commands", {}) if name == "cor" else {name: command}
        for part, command in inner.items():
            yield f"{name} {part}" if name == "cor" else name, command


COMMANDS = dict(commands())


def help_of(*names):
    return CliRunner().invoke(cli, [*names, "--help"], env={"COLUMNS": "200"}).output


def test_the_first_page_has_all_commands_in_four_groups_and_imports_none():
    code = (
        "import sys; from tomopipe.cli import cli; cli(['--help'], standalone_mode=False); "
        "sys.exit(not {'numpy', 'pydantic', 'tomopipe.campaign.campaign'}.isdisjoint(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    groups = ["Options", "Daily", "CORs", "Data", "Laboratory"]
    lines = [line.strip("│ ") for line in done.stdout.splitlines()]
    assert [line.split()[1] for line in lines if line.startswith("╭")] == groups
    assert {line.split()[0] for line in lines if line} >= set(ROOT.list_commands(CONTEXT))


def every_help(command, *names):
    yield names
    for name in getattr(command, "commands", ()):
        yield from every_help(command.get_command(CONTEXT, name), *names, name)


@pytest.mark.parametrize("names", list(every_help(ROOT)), ids=" ".join)
def test_each_help_begins_with_an_example_and_flags_have_no_type(names):
    text = help_of(*names)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    assert lines[1].startswith(("Example: ", "Examples: ")), text
    assert " ".join(["tomopipe", *names]) in lines[1] + lines[2]
    assert "bool" not in text
    assert not re.search(r"│ \w+ +Example", text)  # of a command of a group what it does


def test_a_mistyped_command_is_guessed():
    said = CliRunner().invoke(cli, ["chekc"], env={"COLUMNS": "200"}).output
    assert "No such command 'chekc'. Did you mean 'check'?" in said


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in NO_CAMPAIGN])
def test_every_command_takes_the_campaign_the_same_way_and_has_an_example(name, tmp_path):
    text = help_of(*name.split())
    assert "-C" in text
    assert "Example" in text
    for spelt in (["-C", tmp_path], [f"--campaign={tmp_path}"]):
        given = {
            "retry": ["x"],
            "view": ["x"],
            "convert": ["mrc"],
            "sweep": ["a.b", "1"],
            "cor set": ["x", "1"],
        }.get(name, [])
        given = given or (["x"] if name in ("cor import", "cor export") else [])
        words = [*name.split(), *given]
        for typed in ([*words, *spelt], [*spelt, *words]):
            done = CliRunner().invoke(cli, list(map(str, typed)))
            # it looks for the campaign there, and there is none
            assert done.exit_code == 1, done.output
            assert str(tmp_path) in str(done.exception), done.output


def test_what_follows_two_dashes_stays_there_with_a_campaign_before_the_command():
    typed = ["-C", "X", "run", "-n", "--", "--cores", "8"]
    assert campaign_after(typed) == ["run", "-n", "-C", "X", "--", "--cores", "8"]
    assert "Daily" in help_of("-C", "X")


def test_run_says_where_options_of_snakemake_belong():
    done = CliRunner().invoke(cli, ["run", "--cores", "4"], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "--cores is not an option" in done.output
    assert "run -- --cores 8" in done.output
    done = CliRunner().invoke(cli, ["run", "-cmine.yaml", "-j8"], env={"COLUMNS": "200"})
    assert "-j8 is not an option" in done.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("convert", "tif"), ("tif", "'tiff'")),
        (("convert", "tiff", "--range", "0,001"), ("--range", "0,001", "LOW HIGH", "0.001")),
        (("convert", "--range", "0,001", "0,2", "tiff"), ("--range", "0,001", "0.001")),
        (("convert", "tiff", "--range", "low", "high"), ("--range", "low", "number")),
        (("sweep", "full_recon.filter", "hann", "--cor", "85,5"), ("--cor", "85,5", "85.5")),
        (("convert", "h5", "--dtype", "int8"), ("--dtype", "int8", "'uint8'")),
        (("cor", "set", "a", "5", "--nope"), ("No such option: --nope",)),
        (("retry",), ("name the scans to try again, or give --all",)),
        (("status", "-C"), ("-C requires the campaign folder",)),
        (("cor", "list", "--campaign"), ("--campaign requires the campaign folder",)),
    ],
)
def test_a_wrong_value_is_shown_with_what_is_expected(words, expected):
    done = CliRunner().invoke(cli, words, env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert all(text in done.output for text in expected), done.output
    assert "Value error" not in done.output


@pytest.mark.parametrize("words", [("check", "-C"), ("check",), ("status",), ("cor", "list", "-C")])
def test_a_folder_that_does_not_exist_is_named_without_other_advice(words, tmp_path):
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "typo")])
    assert done.exit_code == 1
    assert f"{tmp_path / 'typo'}: no such folder." in str(done.exception)
    assert "SCAN" not in str(done.exception)


@pytest.mark.parametrize("words", [("check",), ("plan",), ("plan", "-C"), ("cor", "list")])
def test_a_configuration_is_no_campaign_and_no_scan(words, tmp_path):
    (tmp_path / "mine.yaml").touch()
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "mine.yaml")])
    assert done.exit_code == 1
    assert f"mine.yaml is a file: name the campaign folder, such as {tmp_path}; -c names" in str(
        done.exception
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("report", "-o", "scans.tsv/new/x.html"), "scans.tsv: cannot be read or written ("),
        (("lab", "simulate", "scans.tsv/new"), "scans.tsv: cannot be read or written ("),
        (("init", "-C", "ab" * 200), "config.yaml: cannot be read or written (File name too long)"),
        (("run",), "logs/run.lock: cannot be read or written (Is a directory)"),
        (("init", "new", "--from", "raw.h5"), "raw.h5: cannot be read as a nabu.conf"),
        (("status", "-c", "mine.yaml"), "mine.yaml: no such configuration file."),
        (("lab", "simulate", "new", "--cols", HUGE, "--rows", HUGE), "not enough memory."),
        (("lab", "simulate", "new", "--counts", "1e30"), "expected counts of 1 to 1e15 photons"),
    ],
)
def test_a_path_that_cannot_be_written_is_named_without_a_traceback(words, expected, tmp_path):
    (tmp_path / "scans.tsv").write_text("scan\n")
    (tmp_path / "logs/run.lock").mkdir(parents=True)
    (tmp_path / "raw.h5").write_bytes(b"\x89HDF")
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    command = [warm.python(), "-m", "tomopipe", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, expected in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "redirected", "status"),
    [
        ("cor list", ">&-", 0),
        ("init new -n", "<&-", 0),
        ("status", ">/dev/full", 1),
        ("cor list --json", ">/dev/full", 1),
    ],
)
def test_streams_that_are_closed_or_full_end_in_no_traceback(words, redirected, status, tmp_path):
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    command = f"{sys.executable} -m tomopipe {words} {redirected}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    expected = "tomopipe: the output cannot be written (No space left on device).\n"
    assert done.stderr == expected * status


@pytest.mark.parametrize("encoding", ["ascii", "ascii:surrogateescape"])
def test_names_beyond_the_encoding_of_the_output_end_no_command(tmp_path, encoding):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "Zähne_1.h5").touch()
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    code = "from tomopipe.cli import app; app()"
    command = [sys.executable, "-c", code, "-C", tmp_path, "cor", "list"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Z?hne_1" in done.stdout


@pytest.mark.parametrize(("encoding", "drawn"), [("utf-8", "━╌"), ("latin-1", "#-")])
def test_a_bar_is_drawn_with_what_the_output_has(monkeypatch, encoding, drawn):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    assert bar(1, 2, 2) == drawn


@pytest.mark.parametrize("words", [["-C", "-lead"], ["-C=-lead"], ["--campaign=-lead"]])
@pytest.mark.parametrize("command", ["check", "plan"])  # of which one takes it as an argument
def test_a_campaign_may_begin_with_a_dash(tmp_path, monkeypatch, command, words):
    (tmp_path / "-lead").mkdir()
    (tmp_path / "-lead" / "config.yaml").write_text("campaign: {scans: [none/*.h5]}\n")
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(cli, [command, *words])
    assert "No such option" not in said.output
    assert "none/*.h5" in f"{said.output}{said.exception}"


def test_a_path_that_a_command_shows_is_no_option_of_the_next_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (near(tmp_path / "-lead"), near(tmp_path / "a")) == ("./-lead", "a")
