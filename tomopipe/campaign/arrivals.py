"""Detection of complete raw files; incomplete ones are not processed.

A file is complete when it has not changed for a settling time, or its writer's marker is there;
when it opens, which HDF5 refuses while its writer has it open; and when it has as many frames as
angles, if it lists them, all written.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.errors import TomopipeError
from tomopipe.scans.hdf5 import StillWrittenError
from tomopipe.scans.metadata import incomplete
from tomopipe.scans.raw_state import file_state

#: Size, time of change (ns), inode.
State = tuple[int, int, int]
MARKER = ".done"
#: A file that is incomplete and has not changed for so many settling times was aborted: the
#: inventory gets it, and says why it is skipped.
ABORTED = 6


@dataclass(frozen=True)
class Arrival:
    """A raw file that is taken into the run: its state, and the rule by which."""

    path: str  # as the config spells it
    state: State  # size, time of change (ns), inode
    rule: str  # in words
    fault: str = ""  # why it is not complete: it was aborted; "" if it is
    last_byte: float = 0.0  # time of its last change, Unix seconds


@dataclass
class _Seen:
    state: State
    since_s: float
    since: float  # Unix seconds
    fault: str | None = None  # fault of its frames and angles in this state; "" if none
    counted: bool = False  # whether its angles tell how many frames it should have


@dataclass
class Arrivals:
    """The files of a campaign that are not taken yet."""

    directory: Path  # the campaign folder
    settle_s: float  # how long a file must not have changed
    # says why the frames of a file, by its path, are incomplete ("" if they are complete), and
    # whether its angles count them
    frames_of: Callable[[str], tuple[str, bool]]
    # why each file that has settled is not taken
    waiting: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)

    @property
    def pending(self) -> set[str]:
        """The files that exist and are not taken in their present state."""
        return set(self._seen)

    def look(
        self, paths: Iterable[str], occupied: Mapping[str, State], now_s: float
    ) -> list[Arrival]:
        """Return the files to take now, of all that are not taken in their present state.

        `now_s`: monotonic clock.
        """
        arrivals, pending = [], dict[str, _Seen]()
        for path in paths:
            state = file_state(self.directory / path)
            if state is None or occupied.get(path) == state:
                continue
            seen = self._seen.get(path)
            if seen is None or seen.state != state:
                seen = _Seen(state, now_s, _last_byte(state))
            pending[path] = seen
            if result := self._arrival(path, seen, now_s - seen.since_s):
                arrivals.append(result)
                del pending[path]
        self._seen = pending
        self.waiting = {path: why for path, why in self.waiting.items() if path in pending}
        return arrivals

    def _arrival(self, path: str, seen: _Seen, unchanged_s: float) -> Arrival | None:
        marked = os.path.exists(self.directory / f"{path}{MARKER}")
        if unchanged_s < self.settle_s and not marked:
            return None
        if seen.fault is None:
            with suppress(StillWrittenError):  # asked again at the next look
                seen.fault, seen.counted = self.frames_of(path)
        settled = f"unchanged for {self.settle_s:g} s"
        rule = f"marker {os.path.basename(path)}{MARKER}" if marked else settled
        if seen.fault == "":
            if file_state(self.directory / path) != seen.state:
                return None  # it changed while it was read
            rule += ", frames equal angles" * seen.counted
            return Arrival(path, seen.state, rule, last_byte=seen.since)
        self.waiting[path] = seen.fault or "is still written"
        if seen.fault and unchanged_s >= max(1.0, ABORTED * self.settle_s):
            fault = f"not complete after {unchanged_s:.0f} s ({seen.fault}): skipped"
            return Arrival(path, seen.state, rule, fault, last_byte=seen.since)
        return None


def frames_of_scan(campaign: Campaign, scan: str) -> tuple[str, bool]:
    """Say why the frames of a scan are incomplete, "" if they are complete; and if angles tell.

    StillWrittenError if its writer has it open.
    """
    try:
        metadata = campaign.raw_scan(scan).metadata()
        return incomplete(metadata), metadata.theta_deg is not None and not metadata.fits_any
    except StillWrittenError:
        raise
    except (TomopipeError, OSError) as error:
        return str(error).removeprefix(f"{campaign.scans[scan].path}: "), False


def _last_byte(state: State) -> float:
    """Return when a file changed last: its modification time, unless a copy kept an old one."""
    now = time.time()
    file_s = state[1] / 1e9
    return file_s if 0 <= now - file_s < 10 else now
