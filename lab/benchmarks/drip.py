"""Drip scans into a watched campaign as instruments and copies do, kill the watcher, and check.

    python lab/benchmarks/drip.py FOLDER --scans 100 --every 90 --aborted 5 --rewritten 3 \
        --renamed 3 --kills 10
    python lab/benchmarks/drip.py FOLDER --scans 12 --every 1 --settle 0.5 --small --no-batch

Scans are written frame by frame in parts, copied in place in parts, copied under a hidden name
as rsync does, or renamed at the end; some are aborted, some written anew later. The end: none lost,
none taken early, none done twice, and the results byte for byte those of one batch run.
"""

import argparse
import filecmp
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import yaml

from tomopipe.simulate.detector import Beam
from tomopipe.simulate.objects import KINDS
from tomopipe.simulate.simulated_scan import ScanFile, simulate_scan

HOME = Path(__file__).parents[2]
PARTS = 6
RESULTS = ("cor.json", "*_rec.h5", "relion/stacks/*.mrcs", "relion/tomograms.star")


def main() -> int:
    options = _options()
    shutil.rmtree(options.folder, ignore_errors=True)
    dripped = Dripped(options)
    dripped.make()
    dripped.run()
    faults = dripped.faults()
    if options.batch:
        faults += dripped.against_batch()
    print(dripped.table())
    print("\n".join(faults) or "0 lost, 0 early, 0 twice")
    return bool(faults)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for name, default in (("scans", 100), ("aborted", 5), ("rewritten", 3), ("renamed", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--every", type=float, default=90.0, help="seconds from scan to scan")
    parser.add_argument("--settle", type=float, default=10.0)
    parser.add_argument("--tail", type=float, default=5.0, help="watch.every, minutes")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds after the last scan")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="96 columns, one method, no star")
    parser.add_argument("--no-batch", dest="batch", action="store_false")
    return parser.parse_args()


class Dripped:
    """A campaign, what was written into it and when, and what was found to come out."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.random = options, random.Random(options.seed)
        self.campaign = options.folder / "campaign"
        self.made = options.folder / "made"
        self.whole: dict[str, list[tuple[list[int], float]]] = {}  # states of complete files
        self.verdicts: dict[tuple[str, int], float] = {}  # when the page had them
        self.predictions: dict[str, set[tuple[int, bytes]]] = {}  # inodes and contents
        self.early: list[str] = []
        self.watcher: subprocess.Popen[bytes] | None = None
        self.done = threading.Event()

    # ---- write -------------------------------------------------------------------------------

    def make(self) -> None:
        """Write all scans complete, aside, and the campaign."""
        names = [f"s{number % 2}_{number:03d}" for number in range(self.options.scans)]
        kinds = ["aborted"] * self.options.aborted + ["rewritten"] * self.options.rewritten
        kinds += ["renamed"] * self.options.renamed
        kinds += [
            self.random.choice(("parts", "rsync", "in place"))
            for _ in range(len(names) - len(kinds))
        ]
        self.random.shuffle(kinds)
        self.kinds = dict(zip(names, kinds, strict=True))
        self.made.mkdir(parents=True)
        for name, kind in self.kinds.items():
            self._simulate(name, self.random.uniform(-3, 3))
            if kind == "rewritten":
                self._simulate(f"{name}.again", self.random.uniform(-3, 3))
        (self.campaign / "raw").mkdir(parents=True)
        config = {
            "campaign": {"scans": ["raw/*.h5"]},
            "watch": {"settle_s": self.options.settle, "every": self.options.tail},
            "export_star": {"binning": 2},
        }
        if self.options.small:
            config |= {
                "predict_cor": {"methods": ["classical"]},
                "try_recon": {"width_px": 8, "step_px": 1},
                "export_star": {"enabled": False},
                "report": {"enabled": False},
            }
        (self.campaign / "config.yaml").write_text(yaml.safe_dump(config))

    def _simulate(self, name: str, off_px: float) -> None:
        n_cols, n_rows, n_angles = 512, 8, self.random.randint(181, 900)
        if self.options.small:
            n_cols, n_rows, n_angles = 96, 2, 91
        phantom = KINDS["rock"](n_cols, n_rows, sum(name.encode()))
        simulate_scan(
            self.made / f"{name}.h5",
            phantom,
            np.linspace(0, 180, n_angles),
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
        pause_s = 0.5 * self.options.every / PARTS
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
        self.whole.setdefault(path.stem, []).append((state, time.time()))

    # ---- watch -------------------------------------------------------------------------------

    def run(self) -> None:
        """Drip everything into the watched campaign, with kills; stop when all is done."""
        self._start()
        observer = threading.Thread(target=self._observe, daemon=True)
        observer.start()
        span_s = self.options.every * self.options.scans
        kills = threading.Thread(target=self._kill_at_times, args=(span_s,), daemon=True)
        kills.start()
        writers = []
        for name in self.kinds:
            writers.append(threading.Thread(target=self._drip, args=(name,)))
            writers[-1].start()
            time.sleep(self.options.every)
        for writer in writers:
            writer.join(self.options.limit)
        kills.join()
        self._wait(self._is_done)
        self.done.set()
        observer.join()
        assert self.watcher
        self.watcher.send_signal(signal.SIGINT)
        self.watcher.wait(120)

    def _start(self) -> None:
        with open(self.options.folder / "watch.log", "ab") as stream:
            self.watcher = subprocess.Popen(
                [sys.executable, "-m", "tomopipe", "run", "--watch", str(self.campaign)],
                env=os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", str(HOME))},
                stdout=stream,
                stderr=stream,
            )

    def _kill_at_times(self, span_s: float) -> None:
        began_s = time.monotonic()
        for at_s in sorted(self.random.uniform(0.1, 1) * span_s for _ in range(self.options.kills)):
            time.sleep(max(0.0, began_s + at_s - time.monotonic()))
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
        states = [state for state, _ in self.whole.get(name, [])]
        if entry["state"] not in states:
            if (text := f"{name}: taken as {entry['state']}, complete is {states}") in self.early:
                return
            self.early.append(text)
        elif entry["has_verdict"]:
            self.verdicts.setdefault((name, states.index(entry["state"])), time.time())

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
        return decided and made and wanted <= set(known) and not _at_work(results)

    def _wait(self, is_so) -> None:
        end_s = time.monotonic() + self.options.limit
        while not is_so() and time.monotonic() < end_s:
            time.sleep(0.2)

    # ---- check -------------------------------------------------------------------------------

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
        status, text = _run(self.campaign, "--cores", "2")
        if status or "Nothing to be done" not in text:
            faults.append(f"a plain run has status {status}, and still does:\n{text[-3000:]}")
        return faults

    def against_batch(self) -> list[str]:
        """Run the same files at once, and name the results that differ."""
        watched = self.options.folder / "watched"
        (self.campaign / "results").rename(watched)
        for path in (self.campaign / "raw").glob("*.cor.json"):
            path.unlink()
        shutil.rmtree(self.campaign / ".snakemake")
        # in the same folder: volumes name their raw file in full
        status, text = _run(self.campaign, "--cores", "2")
        faults = [f"batch: status {status}\n{text[-3000:]}"] if status not in (0, 3) else []
        n_equal, results = 0, self.campaign / "results"
        for pattern in RESULTS:
            for path in results.glob(pattern):
                name = path.relative_to(results)
                same = (watched / name).exists() and filecmp.cmp(path, watched / name, False)
                n_equal += same
                faults += [] if same else [f"{name}: not as in the batch run"]
        print(f"{n_equal} results byte for byte those of one batch run")
        return faults

    def table(self) -> str:
        """Return the latencies as a row of a table: from the last byte to the page, in seconds."""
        found_s = [
            end_s - self.whole[name][version][1] for (name, version), end_s in self.verdicts.items()
        ]
        cells = (len(found_s), *np.percentile(found_s, (50, 95, 100)).round(1))
        load = os.getloadavg()[1]
        return (
            "| verdicts | median (s) | 95th (s) | longest (s) | load of the machine |\n"
            "|---|---|---|---|---|\n| " + " | ".join(map(str, cells)) + f" | {load:.1f} |"
        )


def _at_work(results: Path) -> bool:
    return any(results.glob(".runs/*"))


def _run(campaign: Path, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(HOME / "Snakefile")),
            *("--directory", str(campaign), *options),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=campaign,
    )
    return done.returncode, done.stdout + done.stderr


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


if __name__ == "__main__":
    sys.exit(main())
