"""A SLURM of one machine, for tests: sbatch runs the script at once; answers can be prepared.

Installed as sbatch, squeue, sacct, scancel, sinfo and scontrol. The folder $FAKE_SLURM holds:
`answers.TOOL`, a line of JSON for each call, [exit status, standard error, does it all the same];
`N.state`, the state of job N whatever its script did; `N.again`, why it waits again for squeue;
`N.options`, with which it was submitted; `bare`, if jobs get no variable of the main process;
`earlier`, if sacct knows an earlier job of each number, that has completed, and not the new one;
`broken`, the name of a node without Python (of node1 and node2 the first that is not excluded runs
a job); `N.exit`, the exit code of job N, if not that of its script; `says`, what sbatch prints,
with {number}; `far`, if jobs go to this cluster; `apart`, if jobs do not see the folder of their
logs.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAKE_SLURM"])
RUN = 'sh "$HERE.script"; echo $? > "$HERE.part"; mv "$HERE.part" "$HERE.rc"'


def prepared_answer(tool: str) -> list:
    path = FOLDER / f"answers.{tool}"
    if not path.exists() or not (lines := path.read_text().splitlines()):
        return [0, "", True]
    path.write_text("".join(f"{line}\n" for line in lines[1:]))
    return json.loads(lines[0])


def submit(arguments: list[str]) -> int:
    number = len(list(FOLDER.glob("*.options"))) + 1
    (FOLDER / f"{number}.options").write_text(json.dumps(arguments))
    script, broken = sys.stdin.read(), FOLDER / "broken"
    if broken.exists() and broken.read_text() == node_of(arguments):
        script = "#!/bin/sh\npython9 -m snakemake\n"
    (FOLDER / f"{number}.script").write_text(script)
    log = next(a for a in arguments if a.startswith("--output=")).split("=", 1)[1]
    passed = {name: os.environ[name] for name in ("PATH", "HOME", "FAKE_SLURM")}
    environment = passed if (FOLDER / "bare").exists() else os.environ
    log = log.replace("%j", str(number)).replace("%%", "%")
    with open(os.devnull if (FOLDER / "apart").exists() else log, "w") as stream:
        process = subprocess.Popen(
            ["sh", "-c", RUN],
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**environment, "SLURM_JOB_ID": str(number), "HERE": f"{FOLDER}/{number}"},
        )
    (FOLDER / f"{number}.pid").write_text(str(process.pid))
    return number


def node_of(arguments: list[str]) -> str:
    excluded = [each.split("=")[1].split(",") for each in arguments if "--exclude=" in each]
    return next((n for n in ("node1", "node2") if n not in (excluded or [[]])[-1]), "")


def facts_of(number: str, tool: str) -> str:
    """Return exit code and node of a job, as sacct does; of the exit code squeue says nothing."""
    rc, code = FOLDER / f"{number}.rc", FOLDER / f"{number}.exit"
    exit_code = f"{rc.read_text().strip()}:0" if rc.exists() else "0:0"
    node = node_of(json.loads((FOLDER / f"{number}.options").read_text()))
    exit_code = code.read_text() if code.exists() else exit_code
    return f"{exit_code * (tool == 'sacct')}|{node}"


def state_of(number: str) -> str:
    if (path := FOLDER / f"{number}.state").exists():
        return path.read_text().strip()
    path = FOLDER / f"{number}.rc"
    if not path.exists():
        return "RUNNING"
    return "COMPLETED" if path.read_text().strip() == "0" else "FAILED"


def value_of(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1] if option in arguments else ""


def main() -> int:
    tool, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    with (FOLDER / "calls").open("a") as stream:
        stream.write(json.dumps([tool, *arguments]) + "\n")
    status, error, does_it = prepared_answer(tool)
    if error:
        sys.stderr.buffer.write(os.fsencode(f"{error}\n"))  # also what is not UTF-8
    is_asked_elsewhere = (FOLDER / "far").exists() and "--clusters=far" not in arguments
    if not does_it or (is_asked_elsewhere and tool != "sbatch"):
        return status
    if tool == "sbatch" and not node_of(arguments):
        print("sbatch: error: Requested node configuration is not available", file=sys.stderr)
        return 1
    if tool == "sbatch":
        number = submit(arguments)
        if not status:
            says = FOLDER / "says"
            print((says.read_text() if says.exists() else "{number}").format(number=number))
    elif tool in ("squeue", "sacct"):
        is_earlier = tool == "sacct" and (FOLDER / "earlier").exists()
        any_name = not any(argument.startswith("--name=") for argument in arguments)
        for number in filter(None, value_of(arguments, "--jobs").split(",")):
            if is_earlier:
                print(f"{number}|COMPLETED\n" * any_name, end="")
                continue
            if tool == "squeue" and (path := FOLDER / f"{number}.again").exists():
                print(f"{number}|PENDING {path.read_text()}")
            elif (FOLDER / f"{number}.options").exists() and state_of(number) != "FORGOTTEN":
                print(f"{number}|{state_of(number)}|{facts_of(number, tool)}")
        name = value_of(arguments, "--name")
        for path in FOLDER.glob("*.options") if name else ():
            options = dict(
                option.split("=", 1) for option in json.loads(path.read_text()) if "=" in option
            )
            if options["--job-name"] == name:
                print(path.stem, options["--comment"])
    elif tool == "scancel":
        for number in filter(str.isdigit, arguments):
            if state_of(number) == "RUNNING":
                (FOLDER / f"{number}.state").write_text("CANCELLED by 1000")
                os.killpg(int((FOLDER / f"{number}.pid").read_text()), signal.SIGKILL)
    return status


sys.exit(main())
