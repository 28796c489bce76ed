"""The plan on the review page, made in the background."""

import threading
from dataclasses import asdict
from typing import Any

from tomopipe.campaign.campaign import load_campaign
from tomopipe.errors import TomopipeError
from tomopipe.review.store import Store
from tomopipe.run.cost import total
from tomopipe.run.expected import expected_jobs
from tomopipe.run.next_run import as_records, folded, make_plan

_ATTEMPTS = 5  # repetitions if somebody decides while a plan is made


class Planner:
    """Makes the plan of the next run in a thread, by a dry run."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {"state": "none"}
        self._looking = threading.Lock()
        self._expected: tuple[tuple[str, int], list[dict[str, str]]] | None = None

    def state(self) -> dict[str, Any]:
        """Return the last plan, or state that one is being made."""
        with self._lock:
            return dict(self._state)

    def expected(self) -> dict[str, Any]:
        """Return what the next run will redo, as far as quickly known."""
        store = self._store
        with self._looking:  # once for many browsers
            seen = store.table_sha256(), store.read_number
            if self._expected is None or self._expected[0] != seen:
                self._expected = seen, _expected(store)
            return {"jobs": self._expected[1], "table_sha256": seen[0]}

    def start(self) -> None:
        """Make a plan, unless one is being made."""
        with self._lock:
            if self._state["state"] == "working":
                return
            self._state = {"state": "working"}
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        for _ in range(_ATTEMPTS):
            sha256 = self._store.table_sha256()
            found = self._plan() | {"table_sha256": sha256}
            if self._store.table_sha256() == sha256:
                break  # otherwise somebody decided meanwhile, and the plan is out of date
        with self._lock:
            self._state = found

    def _plan(self) -> dict[str, Any]:
        try:
            self._store.read()
            plan = make_plan(self._store.campaign, self._store.config)
        except Exception as error:  # any error: the person waits for an answer
            return {"state": "failed", "error": str(error) or type(error).__name__}
        core_h = total(plan.costs).core_h if plan.costs else None
        return {
            "state": "done",
            "jobs": as_records(plan),
            "rows": [asdict(row) for row in folded(plan.jobs)],
            "failures": list(plan.failures),
            "blocked": plan.blocked,
            "seconds": core_h and 3600 * core_h,
            "bytes": plan.n_bytes,
        }


def _expected(store: Store) -> list[dict[str, str]]:
    try:
        found = expected_jobs(load_campaign(store.directory, store.config))
    except TomopipeError:
        raise
    except Exception as error:  # errors in the results; the plan reports them
        raise TomopipeError(f"Not known at once: {error}") from error
    return [{"rule": rule, "scan": key} for rule, key in found]
