"""Faults on purpose: processes whose k-th call of libc fails, and what is left of their campaign.

Processes are forked from a server that has all packages loaded and the shim (shim.c) before libc:
Snakemake, and its scripts as it starts them or, without it, each in a run of its own. A point is
one call that fails in one way.
"""

import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TextIO

import yaml

from tests import warm
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.state.facts import LOOK_AGAIN
from tomopipe.reruns.settle import Settled
from tomopipe.workflow_steps import SEARCH_STEPS

HOME = Path(__file__).parents[2]
SHIM = Path(__file__).with_name("shim.c")
NEW_RUN = Path(__file__).with_name("new_run.py")
PREAMBLE_END = "######## snakemake preamble end #########"
ACTIONS = ("ENOSPC", "EIO", "KILL")
N_ROWS, N_COLS, N_ANGLES = 20, 64, 31
STEP_ROWS = 9  # between the heights of the scans
SCANS = {"a_1": 33.0, "a_2": 33.5}


@dataclass(frozen=True)
class Point:
    """One call that fails: the n-th of a kind, of a process, on paths that match."""

    who: str
    kind: str
    glob: str
    number: int
    action: str

    def environment(self) -> dict[str, str]:
        """Return what the shim is told."""
        return {
            "FAULT_ONLY": self.who,
            "FAULT_KIND": self.kind,
            "FAULT_GLOB": self.glob,
            "FAULT_AT": str(self.number),
            "FAULT_ACTION": self.action,
        }


def build(folder: Path) -> Path:
    """Compile the shim; return the library."""
    library = folder / "shim.so"
    command = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(SHIM), "-ldl"]
    subprocess.run(command, check=True)
    return library


# ---- the server, which forks -----------------------------------------------------------------


class Server:
    """A process with all packages loaded and the shim before libc, which forks others.

    Parameters
    ----------
    folder : Path
        For the library, the socket and what the processes print; its path is short.
    """

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.write_bytes(bytes(16))
        self.environment = {"LD_PRELOAD": str(build(folder)), warm.FIRST: "tests.faults.arm"}
        warm.start(folder, [*warm.MODULES, "tests.faults.arm"], self.environment)
        self._address = str(folder / "warm.socket")

    def start(
        self,
        arguments: Sequence[str],
        directory: Path,
        *,
        out: Path,
        roots: Sequence[Path] = (),
        log: Path | None = None,
        point: Point | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "Forked":
        """Run what Python is to run with these arguments, and what that starts, with faults."""
        self.state.write_bytes(bytes(16))
        faults = {
            "FAULT_ROOTS": ":".join(str(root) for root in roots),
            "FAULT_LOG": str(log or ""),
            "FAULT_STATE": str(self.state),
            "FAULT_AT": "0",
        }
        faults |= point.environment() if point else {}
        variables = os.environ | self.environment | faults | dict(environment or {})
        with out.open("ab") as stream:
            standard = [0, stream.fileno(), stream.fileno()]
            return Forked(warm.ask(self._address, arguments, str(directory), variables, standard))

    def run(self, *arguments, seconds: float = 300, **options) -> int:
        """Start it and return its status; negative for a signal."""
        return self.start(*arguments, **options).wait(seconds)

    def has_fired(self) -> bool:
        """Tell whether the call that was to fail was made."""
        return self.state.read_bytes()[8:] != bytes(8)


class Forked:
    """A process that the server has forked."""

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self.pid = int(answers.readline())

    def wait(self, seconds: float = 300) -> int:
        """Return the status; TimeoutError if there is none in time, and the process is killed."""
        with self._answers:  # as it is closed the process is killed
            if not select.select([self._answers], [], [], seconds)[0]:
                raise TimeoutError(f"process {self.pid} is not ready after {seconds} s")
            return os.waitstatus_to_exitcode(int(self._answers.readline()))


# ---- campaigns -------------------------------------------------------------------------------


def new_campaign(folder: Path) -> Path:
    """Write a campaign of two tiny scans at two heights, which are stitched."""
    from tests.phantoms import make_phantom, write_scan

    tall = make_phantom("foam", N_COLS, N_ROWS + STEP_ROWS, seed=5)
    for seed, (scan, cor_px) in enumerate(SCANS.items()):
        write_scan(
            folder / "raw" / f"{scan}.h5", phantom=tall.moved(rows=-STEP_ROWS * seed), counts=50000,
            cor_px=cor_px, n_rows=N_ROWS, n_cols=N_COLS, n_angles=N_ANGLES, seed=seed,
        )  # fmt: skip
        # of files written within the last minute the inventory waits for more
        os.utime(folder / "raw" / f"{scan}.h5", (time.time() - 3600,) * 2)
    config = {
        "campaign": {"scans": ["raw/*.h5"]},
        # else receipts of sweeps differ by when their try stack was removed
        "storage": {"keep_try": True},
        "try_recon": {"width_px": 4, "step_px": 1},
        "predict_cor": {"methods": ["classical"]},
        "export_star": {"enabled": True},
        "stitch": {
            "stacks": {"tall": ["a_*"]},
            "direction": "down",
            "overlap_rows": N_ROWS - STEP_ROWS,
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def snakemake_arguments(campaign: Path, *more: str) -> list[str]:
    """Return the command line of a run of a campaign."""
    return [
        *("-m", "snakemake", "--snakefile", str(HOME / "Snakefile")),
        *("--directory", str(campaign)),
        *("--configfile", str(campaign / "config.yaml"), "--cores", "2", *more),
    ]


def tree(campaign: Path, place: Path | None = None) -> dict[str, str]:
    """Return digests of all results and raw files, by path: of what does not tell time or place.

    The place is that where the campaign was when the results were written.
    """
    files = [path for path in (campaign / "results").rglob("*") if path.is_file()]
    files += (campaign / "raw").glob("*")
    left_out = [campaign / "results" / name for name in (".settled.json",)]
    return {
        str(path.relative_to(campaign)): _digest(path, place or campaign)
        for path in files
        if path not in left_out and path.name != ".snakemake_timestamp"
    }


_digests: dict[tuple[str, int, int, int], str] = {}


def _digest(path: Path, place: Path) -> str:
    status = path.stat()
    key = str(path), status.st_ino, status.st_mtime_ns, status.st_size
    if key not in _digests:
        content = _content(path).replace(os.fsencode(place), b"@")
        _digests[key] = hashlib.sha256(content).hexdigest()[:16]
    return _digests[key]


def _content(path: Path) -> bytes:
    if path.suffix == ".h5":
        with suppress(OSError, RuntimeError):  # a half one is compared byte by byte
            return "\n".join(sorted(_in_hdf5(path))).encode()
    content = path.read_bytes()
    if path.suffix == ".html":  # who took how long, when, by which state of the checkout
        content = re.sub(rb"; last job ended[^<]*", b"", content)
        for section in (b"times", b"provenance", b"changes"):  # the last: since the faulty run
            content = re.sub(
                b'<section id="%s".*?</section>\n?' % section, b"", content, flags=re.S
            )
        content = re.sub(rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?", b"", content)
    if path.parent.parent.name == "made":  # a receipt, with times of files
        with suppress(ValueError):
            receipt = json.loads(content)
            made_from = {**receipt["made_from"], "maker": ""}  # which only its job notes
            content = f"{sorted(made_from.items())} {sorted(receipt['files'])}".encode()
    if path.name == "shown.json":  # with what the report of the faulty run has shown
        content = json.dumps(json.loads(content)["now"]["scans"]).encode()
    if path.name == "pictures.json":  # with the times of what they show
        content = re.sub(rb'"stamp": \[.*?\]', b"", content, flags=re.DOTALL)
    return content


def _in_hdf5(path: Path) -> Iterator[str]:
    """Yield all that a file holds: HDF5 notes times of its own."""
    import h5py

    with h5py.File(path) as file:
        items: list[tuple[str, object]] = [("", file)]
        file.visititems(lambda name, item: items.append((name, item)))
        for name, item in items:
            yield f"{name} {sorted((key, str(value)) for key, value in item.attrs.items())}"
            if isinstance(item, h5py.Dataset):
                value = item[()]
                yield f"{name} {value if isinstance(value, bytes) else value.tobytes().hex()}"


def difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Name what is missing, too much or of another content."""
    lines = [f"{path}: missing" for path in sorted(wanted.keys() - found.keys())]
    lines += [f"{path}: too much" for path in sorted(found.keys() - wanted.keys())]
    both = sorted(wanted.keys() & found.keys())
    return lines + [f"{path}: other content" for path in both if found[path] != wanted[path]]


# ---- faults ----------------------------------------------------------------------------------


class Bench:
    """A finished campaign, the scripts of its jobs, and a server to break them with.

    Parameters
    ----------
    folder : Path
        For all of it; its path is short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder)
        self.campaign = new_campaign(folder / "campaign")
        self.finished = folder / "finished"
        self.scripts = folder / "scripts"
        self.scripts.mkdir()
        self._mended: set[tuple[object, ...]] = set()
        self.out = folder / "out"
        status = self.snakemake(environment={"FAULT_STASH": str(self.scripts)})
        assert status == 0, self.said()
        self.target = tree(self.campaign)
        self.campaign.rename(self.finished)
        self.restore()  # in a copy large files have other inodes
        environment = {"FAULT_STASH": str(self.scripts)}
        assert self.snakemake(environment=environment) == 0, self.said()

    def said(self) -> str:
        """Return the end of what processes have printed since `restore`."""
        return self.out.read_text(errors="replace")[-5000:]

    def rules(self) -> list[str]:
        """Name the rules that have a script, one job of each."""
        return sorted(path.name for path in self.scripts.iterdir())

    def outputs(self, rule: str) -> list[str]:
        """Return the results of the kept job of a rule, and their receipt."""
        return _outputs(self.scripts / rule / f"{rule}.py", self.finished)

    def restore(self, *missing: str, linked: bool = False) -> None:
        """Make the campaign anew from the finished one, without some of its results.

        Linked is faster, where only whole new files replace those that are there.
        """
        shutil.rmtree(self.campaign, ignore_errors=True)
        shutil.copytree(
            self.finished,
            self.campaign,
            symlinks=True,
            copy_function=os.link if linked else shutil.copy2,
            ignore=shutil.ignore_patterns("logs", ".snakemake") if linked else None,
        )
        self.out.write_bytes(b"")
        for name in missing:
            if (self.campaign / name).is_dir():
                shutil.rmtree(self.campaign / name)
            else:
                (self.campaign / name).unlink(missing_ok=True)

    def snakemake(self, *arguments: str, **options) -> int:
        """Run the workflow and return its status."""
        command = snakemake_arguments(self.campaign, *arguments)
        return self.server.run(command, self.campaign, out=self.out, **options)

    def start(self, *arguments: str) -> Forked:
        """Start the workflow."""
        command = snakemake_arguments(self.campaign, *arguments)
        return self.server.start(command, self.campaign, out=self.out)

    def script(self, rule: str, **options) -> int:
        """Run the script of a rule in a run of its own and return its status."""
        words = [str(NEW_RUN), str(self.scripts / rule / f"{rule}.py")]
        return self.server.run(words, self.campaign, out=self.out, roots=[self.campaign], **options)

    def n_calls(self, rule: str) -> int:
        """Count the calls of a rule's script that may fail."""
        log = self.folder / "log"
        log.write_bytes(b"")
        self.restore(*self.outputs(rule), linked=True)
        assert self.script(rule, log=log) == 0, self.said()
        return len(log.read_text().splitlines())

    def wrong_after_fault_in_script(
        self, rule: str, number: int, action: str, *, always: bool = True
    ) -> list[str]:
        """Let a call of a rule's script fail, run it again; say what is not as it should be.

        Unless `always`, it is run again once for each state in which it leaves the campaign.
        """
        outputs = self.outputs(rule)
        self.restore(*outputs, linked=True)
        status = self.script(rule, point=Point("", "", "", number, action))
        if not self.server.has_fired():
            return ["no call has failed"]
        found = tree(self.campaign)
        wrong = [
            f"{path}: half or other"
            for path, content in found.items()
            if path in self.target and content != self.target[path] and not self._is_told(path)
        ]
        if status == 0:
            wrong += [
                f"{path}: missing, though the job ended well"
                for path in self.target.keys() - found.keys()
            ]
        state = self._state(rule, found)
        if always or wrong or state not in self._mended:
            if again := self.script(rule):
                wrong.append(f"stuck: {again}")
            wrong += difference(tree(self.campaign), self.target)
        if not wrong:
            self._mended.add(state)
        return wrong

    def _state(self, rule: str, found: Mapping[str, str]) -> tuple[object, ...]:
        """Return all that a rule's next job may see: of the run's folder, which goes, the names."""
        content = {name: value for name, value in found.items() if "/.runs/" not in name}
        names = {_without_chance(str(path)) for path in self.campaign.rglob("*")}
        return rule, *sorted(content.items()), *sorted(names)

    def _is_told(self, path: str) -> bool:
        """Tell whether the job itself says that a result is not the one wanted."""
        if path.endswith("inventory.tsv"):
            return LOOK_AGAIN in (self.campaign / path).read_text()
        settled = Settled(load_campaign(self.campaign), looks_ahead=False)
        jobs = [(job.rule, job.key) for job in settled.jobs]
        receipt = settled.out.receipt
        return any(path in (*settled.target.outputs(*job), receipt(*job)) for job in jobs)

    # ---- through Snakemake

    def calls(self, *missing: str) -> "list[Call]":
        """List the calls of a run that makes some results anew, in all its processes."""
        log = self.folder / "log"
        log.write_bytes(b"")
        self.restore(*missing)
        options = {"log": log, "roots": [self.campaign]}
        assert self.snakemake(**options) == 0, self.said()
        lines = log.read_text(errors="replace").splitlines()
        return [Call(*line.split("\t")) for line in lines]

    def wrong_after_fault(self, point: Point, *missing: str) -> list[str]:
        """Let a call of a run fail, run again; say what is not as it should be."""
        self.restore(*missing)
        options = {"roots": [self.campaign]}
        try:
            # one that is killed for good leaves its scan out, until `tomopipe retry`
            is_retried = point.action == "KILL" and point.who in SEARCH_STEPS
            self.snakemake(*["--retries", "1"] * is_retried, point=point, **options)
        except TimeoutError:
            return ["stuck: the run with the fault does not end"]
        return self.wrong_after_clean_run()

    def wrong_after_clean_run(self) -> list[str]:
        """Run again, as people do; say what is not as it was without any fault."""
        try:
            if status := self.snakemake():
                return [f"stuck: {status}"]
        except TimeoutError:
            return ["stuck: the run does not end"]
        return difference(tree(self.campaign), self.target)

    def work_left(self) -> list[str]:
        """Say so if a run would still have something to do."""
        self.out.write_bytes(b"")
        self.snakemake("--dry-run")
        return [] if "Nothing to be done" in self.said() else ["the next run has work left"]


@cache
def _outputs(script: Path, campaign: Path) -> list[str]:
    """Return what a script that was kept makes, as its first lines, which Snakemake wrote, say."""
    preamble, _, _ = script.read_text().partition(PREAMBLE_END)
    made = "[*snakemake.params.provenance['products'], *snakemake.output]"
    says = f"import json; print(json.dumps({made}))"
    asks = script.with_name("outputs")
    asks.write_text(f"{preamble}\n{says}")
    done = subprocess.run([sys.executable, asks], cwd=campaign, stdout=subprocess.PIPE, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


@dataclass(frozen=True)
class Call:
    """A call of libc, as the shim has written it down."""

    who: str
    kind: str
    path: str

    @property
    def glob(self) -> str:
        """A pattern of this path that is the same in another run."""
        return _without_chance(self.path)


# names that differ in each run: temporary files, the folder of a run, scripts and logs of Snakemake
_VARYING = [
    (re.compile(r"[*?[]"), "?"),
    (re.compile(r"/results/\.runs/[^/]+"), "/results/.runs/*"),
    (re.compile(r"/\.tmp-([0-9a-f]{16})-[0-9a-f]{8}"), r"/.tmp-\1-*"),
    (re.compile(r"/\.tmp-[0-9]+-"), "/.tmp-*-"),
    (re.compile(r"(/said/.*)\.[0-9]+$"), r"\1.*"),
    (re.compile(r"/\.snakemake/(scripts|log|auxiliary|locks|tmp\.[^/]*)/.*"), r"/.snakemake/\1/*"),
    (re.compile(r"\.[0-9]+\.tmp$"), ".*.tmp"),
]


def _without_chance(path: str) -> str:
    for pattern, wildcard in _VARYING:
        path = pattern.sub(wildcard, path)
    return path
