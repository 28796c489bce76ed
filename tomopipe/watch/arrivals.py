"""Detection of complete raw files; incomplete ones are not processed.

A file is complete when it has not changed for a settling time, or its writer's marker is there;
when it opens, which HDF5 refuses while its writer has it open; and when it has as many frames as
angles, if it lists them, all written.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
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


@dataclass
class Arrival:
    """A raw file that is not taken yet in its present state, or is taken now."""

    path: str  # as the config spells it
    state: State
    since_s: float = 0.0  # when it was first seen in this state, monotonic clock
    last_byte: float = 0.0  # time of its last change, Unix seconds
    rule: str = ""  # by which it is taken
    fault: str = ""  # why it is not complete: it was aborted; "" if it is


@dataclass
class Arrivals:
    """The files of a campaign that are not taken yet."""

    directory: Path  # the campaign folder
    settle_s: float  # how long a file must not have changed
    # says why the frames of a file, by its path, are incomplete; "" if they are complete
    fault_of: Callable[[str], str]
    # why each file that has settled is not taken
    waiting: dict[str, str] = field(default_factory=dict)
    # the files that exist and are not taken in their present state
    pending: dict[str, Arrival] = field(default_factory=dict)

    def look(
        self, paths: Iterable[str], states: Mapping[str, State], now_s: float
    ) -> list[Arrival]:
        """Return the files to take now, of all that are not taken in their present state.

        `now_s`: monotonic clock.
        """
        arrivals, before = [], self.pending
        self.pending, self.waiting = {}, {}
        for path in paths:
            state = file_state(self.directory / path)
            if state is None or states.get(path) == state:
                continue
            arrival = before.get(path)
            if arrival is None or arrival.state != state:
                arrival = Arrival(path, state, now_s, _last_byte(state))
            if self._is_due(arrival, now_s - arrival.since_s):
                arrivals.append(arrival)
            else:
                self.pending[path] = arrival
        return arrivals

    def _is_due(self, arrival: Arrival, unchanged_s: float) -> bool:
        path, name = arrival.path, os.path.basename(arrival.path)
        is_marked = os.path.exists(self.directory / f"{path}{MARKER}")
        if unchanged_s < self.settle_s and not is_marked:
            return False
        arrival.rule = (
            f"marker {name}{MARKER}" if is_marked else f"unchanged for {self.settle_s:g} s"
        )
        try:
            fault = self.fault_of(path)
        except StillWrittenError:
            self.waiting[path] = "is still written"
            return False
        if not fault:  # unless it changed while it was read
            return file_state(self.directory / path) == arrival.state
        self.waiting[path] = fault
        if unchanged_s < max(1.0, ABORTED * self.settle_s):
            return False
        arrival.fault = f"not complete after {unchanged_s:.0f} s ({fault}): skipped"
        return True


def fault_of_scan(campaign: Campaign, scan: str) -> str:
    """Say why the frames of a scan are incomplete; "" if they are complete.

    StillWrittenError if its writer has it open.
    """
    try:
        return incomplete(campaign.raw_scan(scan).metadata())
    except StillWrittenError:
        raise
    except (TomopipeError, OSError) as error:
        return str(error).removeprefix(f"{campaign.scans[scan].path}: ")


def _last_byte(state: State) -> float:
    """Return when a file changed last: its modification time, unless a copy kept an old one."""
    now = time.time()
    file_s = state[1] / 1e9
    return file_s if 0 <= now - file_s < 10 else now
