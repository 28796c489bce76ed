"""Scans that drip into a watched campaign as instruments and copies write them, and kills."""

import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import yaml

from tests import warm
from tests.workflow.conftest import HOME, snakemake
from tomopipe.simulate.phantom import KINDS
from tomopipe.simulate.simulated_scan import Beam, ScanFile, simulate_scan

# one for each way to write, and one that is copied under a hidden name as rsync does
SCANS = ("parts", "aborted", "rewritten", "renamed", "rsync")
PARTS = 6
EVERY_S = 0.7  # from scan to scan
LIMIT_S = 400  # after the last scan


class Dripped:
    """A campaign, what was written into it and when, and what was found to come out."""

    def __init__(self, folder: Path) -> None:
        self.random = random.Random(0)
        self.campaign, self.made = folder / "campaign", folder / "made"
        self.log = folder / "watch.log"
        self.whole: dict[str, list[list[int]]] = {}  # states of complete files
        self.verdicts: set[tuple[str, int]] = set()  # that the page had
        self.predictions: dict[str, set[tuple[int, bytes]]] = {}  # inodes and contents
        self.early: list[str] = []
        self.watcher: subprocess.Popen[bytes] | None = None
        self.done = threading.Event()

    def make(self) -> None:
        """Write all scans complete, aside, and the campaign."""
        kinds = self.random.sample(SCANS, len(SCANS))
        self.kinds = {f"s{number % 2}_{number:03d}": kind for number, kind in enumerate(kinds)}
        self.made.mkdir(parents=True)
        for name, kind in self.kinds.items():
            self._simulate(name, self.random.uniform(-3, 3))
            if kind == "rewritten":
                self._simulate(f"{name}.again", self.random.uniform(-3, 3))
        (self.campaign / "raw").mkdir(parents=True)
        config = {
            "campaign": {"scans": ["raw/*.h5"]},
            "watch": {"settle_s": 0.5},
            "predict_cor": {"methods": ["classical"]},
            "try_recon": {"width_px": 8, "step_px": 1},
            "export_star": {"enabled": False},
            "report": {"enabled": False},
        }
        (self.campaign / "config.yaml").write_text(yaml.safe_dump(config))

    def _simulate(self, name: str, off_px: float) -> None:
        n_cols, n_rows = 96, 2
        phantom = KINDS["rock"](n_cols, n_rows, sum(name.encode()))
        simulate_scan(
            self.made / f"{name}.h5",
            phantom,
            np.linspace(0, 180, 91),
            n_cols / 2 + off_px,
            (n_rows, n_cols),
            beam=Beam(counts=50000, n_flats=3, n_darks=3),
            seed=sum(name.encode()),
            file=ScanFile(),
        )

    def _drip(self, name: str) -> None:
        """Write one scan as its kind is written."""
        kind, source = self.kinds[name], self.made / f"{name}.h5"
        final = self.campaign / "raw" / f"{name}.h5"
        pause_s = 0.5 * EVERY_S / PARTS
        if kind in ("parts", "aborted"):
            _append(source, final, pause_s, n_parts=PARTS // 2 if kind == "aborted" else PARTS)
        elif kind in ("rsync", "renamed"):
            aside = f".{name}.h5.Xy12Zq" if kind == "rsync" else f"{name}.h5.part"
            _copy(source, final.with_name(aside), pause_s)
            final.with_name(aside).rename(final)
        else:
            _copy(source, final, pause_s)
        if kind != "aborted":
            self._is_whole(final)
        if kind == "rewritten":
            self._wait(lambda: (name, 0) in self.verdicts)
            _copy(self.made / f"{name}.again.h5", final, pause_s)
            self._is_whole(final)

    def _is_whole(self, path: Path) -> None:
        found = path.stat()
        state = [found.st_size, found.st_mtime_ns, found.st_ino]
        self.whole.setdefault(path.stem, []).append(state)

    def run(self) -> None:
        """Drip everything into the watched campaign, with a kill; stop when all is done."""
        self._start()
        observer = threading.Thread(target=self._observe, daemon=True)
        observer.start()
        kill = threading.Thread(target=self._kill, daemon=True)
        kill.start()
        writers = []
        for name in self.kinds:
            writers.append(threading.Thread(target=self._drip, args=(name,)))
            writers[-1].start()
            time.sleep(EVERY_S)
        for writer in writers:
            writer.join(LIMIT_S)
        kill.join()
        self._wait(self._is_done)
        self.done.set()
        observer.join()
        assert self.watcher
        self.watcher.send_signal(signal.SIGINT)
        self.watcher.wait(120)

    def _start(self) -> None:
        with open(self.log, "ab") as stream:
            self.watcher = subprocess.Popen(
                [warm.python(), "-m", "tomopipe", "run", "--watch", str(self.campaign)],
                env=os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", str(HOME))},
                stdout=stream,
                stderr=stream,
            )

    def _kill(self) -> None:
        """Kill the watcher once, while scans drip in, and start another one."""
        time.sleep(self.random.uniform(0.1, 1) * EVERY_S * len(self.kinds))
        assert self.watcher
        self.watcher.kill()
        self.watcher.wait()
        self._start()

    def _observe(self) -> None:
        """See what the page has, when; and which predictions there are."""
        results = self.campaign / "results"
        while not self.done.wait(0.2):
            for path in results.glob("try_center/*/prediction.json"):
                try:
                    with open(path, "rb") as file:
                        # the inode of a deleted file may be given to the next one
                        content = os.fstat(file.fileno()).st_ino, file.read()
                except OSError:
                    continue
                self.predictions.setdefault(path.parent.name, set()).add(content)
            try:
                taken = json.loads((results / "live/taken.json").read_text())
            except (OSError, ValueError):
                continue
            for entry in taken.values():
                self._see(Path(entry["path"]).stem, entry)

    def _see(self, name: str, entry: dict) -> None:
        if self.kinds[name] == "aborted" or entry["scan_state"] == "skipped":
            return
        states = self.whole.get(name, [])
        if entry["state"] not in states:
            if (text := f"{name}: taken as {entry['state']}, complete is {states}") in self.early:
                return
            self.early.append(text)
        elif entry["has_verdict"]:
            self.verdicts.add((name, states.index(entry["state"])))

    def _is_done(self) -> bool:
        results, wanted = self.campaign / "results", set(self.whole)
        try:
            known = json.loads((results / "cor.json").read_text())
            listed = (results / "inventory.tsv").read_text()
        except (OSError, ValueError):
            return False
        if not all(f"{name}\t" in listed for name in self.kinds):  # aborted ones, too
            return False
        decided = all((name, len(self.whole[name]) - 1) in self.verdicts for name in wanted)
        made = all((results / f"{name}_rec.h5").exists() for name in wanted)
        return decided and made and wanted <= set(known) and not any(results.glob(".runs/*"))

    def _wait(self, is_so) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not is_so() and time.monotonic() < end_s:
            time.sleep(0.2)

    def faults(self) -> list[str]:
        """Say what was lost, taken early or done twice, and what a plain run would still do."""
        results = self.campaign / "results"
        known = json.loads((results / "cor.json").read_text())
        faults = [f"{name}: lost" for name in self.whole if name not in known]
        faults += [f"early: {text}" for text in self.early]
        for name, states in self.whole.items():
            n_made = len(self.predictions.get(name, ()))
            if n_made != len(states):
                faults.append(f"{name}: predicted {n_made} times, written {len(states)} times")
        faults += [f"{name}: aborted, but has a COR" for name in known if name not in self.whole]
        run = snakemake(self.campaign)
        if run.status or "Nothing to be done" not in run.text:
            text = run.text[-3000:]
            faults.append(f"a plain run has status {run.status}, and still does:\n{text}")
        return faults


def _append(source: Path, final: Path, pause_s: float, *, n_parts: int) -> None:
    """Write a scan as a camera does: all angles first, then frames in parts, flushed."""
    with h5py.File(source) as whole, h5py.File(final, "w") as file:
        frames = whole["exchange/data"][()]
        for name in whole["exchange"]:
            if name != "data":
                whole.copy(f"exchange/{name}", file.require_group("exchange"))
        shape = frames.shape[1:]
        data = file.create_dataset(
            "exchange/data", (0, *shape), frames.dtype, maxshape=(None, *shape), chunks=(1, *shape)
        )
        for part in np.array_split(np.arange(len(frames)), PARTS)[:n_parts]:
            data.resize(part[-1] + 1, axis=0)
            data[part[0] :] = frames[part]
            file.flush()
            time.sleep(pause_s)


def _copy(source: Path, final: Path, pause_s: float) -> None:
    """Copy a file in parts."""
    content = source.read_bytes()
    size = -(-len(content) // PARTS)
    with open(final, "wb") as stream:
        for first in range(0, len(content), size):
            stream.write(content[first : first + size])
            stream.flush()
            time.sleep(pause_s)
