"""The web application: one page, its JSON, its pictures; queries name scans, paths do not."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tomopipe.campaign.state.signs import signs_css, signs_for_page
from tomopipe.campaign.table import table_sha256
from tomopipe.commands import config_edits
from tomopipe.commands.history import PAGE, last_act, undoing
from tomopipe.commands.status import read_status
from tomopipe.cor.cor_value import CorText, is_valid, off_detector
from tomopipe.errors import TomopipeError
from tomopipe.report.render import script_hash
from tomopipe.review.in_use import slice_in_use
from tomopipe.review.queue import (
    SETS,
    STATES,
    checked_cells,
    decide,
    queue_entries,
    read_cells,
    stamp_now,
)
from tomopipe.review.scan_images import Grey
from tomopipe.review.scan_view import scan_view
from tomopipe.review.security import Guard, Keys
from tomopipe.review.store import FRESH_S, Store
from tomopipe.review.sweep_view import sweep_slice, sweep_views
from tomopipe.review.volume_view import file_below, plane, volume_view, zarr_folder
from tomopipe.storage.atomic import why_not_replaced

# others may write into the results, so reports may run only our own script
_REPORT_HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self' data:; "
    f"style-src 'unsafe-inline'; script-src 'sha256-{script_hash()}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
}
_PICTURE_HEADERS = {"cache-control": "private, max-age=600"}


@dataclass(frozen=True)
class _Decision:
    """A decision of a person about a scan."""

    scan: str
    cells: dict[str, str]
    # cells of the row as the person saw them; of an undo or a note only those it changes
    seen: dict[str, str]
    stamp: bool = False  # whether source and time are added to the note
    undoes: str = ""  # id of the act in the history of the table that this undoes


@dataclass(frozen=True)
class _Options:
    """Options of full_recon that a person wants in the configuration."""

    scan: str
    scope: config_edits.Scope
    options: dict[str, Any]
    seen: str = ""  # SHA-256 of the file of the change that was shown; "": show it


_OPTIONS = TypeAdapter(_Options)
_DECISIONS = TypeAdapter(dict[Literal["decisions"], list[_Decision]])


def make_app(
    store: Store,
    keys: Keys,
    *,
    allow_hosts: Iterable[str] = (),
    allow_origin: str = "",
    prefix: str = "",
    tell: Callable[[str], None] = print,
) -> Starlette:
    """Make the web application of a campaign; arguments as for `serve`, and a person's keys."""

    def aborted(request: Request, _: Exception) -> Response:
        tell(f"A browser disconnected during {request.url.path}; nothing was written.")
        return Response(status_code=400)  # the browser does not read it

    api = _Api(store, keys)
    routes = [
        *(Route(f"/api/{name}", partial(_answer, store, read)) for name, read in _READ.items()),
        *(Route(f"/api/{name}", getattr(api, name)) for name in _OTHERS),
        Route("/zarr/{token}/{name}.zarr/{below:path}", api.zarr),
        Route("/report/{below:path}", api.report),
        Route("/api/decide", api.decide, methods=["POST"]),
        Route("/api/options", api.options, methods=["POST"]),
        Route(
            "/signs.css",
            lambda _: PlainTextResponse(signs_css(dark_first=True), media_type="text/css"),
        ),
        Mount("/", StaticFiles(packages=[("tomopipe.review", "static")], html=True)),
    ]
    guard = Middleware(
        Guard, keys=keys, allow_hosts=tuple(allow_hosts), allow_origin=allow_origin, prefix=prefix
    )
    return Starlette(
        routes=routes,
        middleware=[guard],
        exception_handlers={TomopipeError: _refused, OSError: _refused, ClientDisconnect: aborted},
    )


class _Json(JSONResponse):
    """An answer in ASCII, as names of files may not be valid text."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class _MalformedError(TomopipeError):
    """A request that the page does not send."""


class _Api:
    """Answers requests; slow ones are plain functions, which run in threads."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self.store = store
        self.keys = keys
        self._status: dict[str, Any] | None = None  # cached briefly, for many browsers
        self._status_at = 0.0
        self._reading_status = threading.Lock()

    def queue(self, request: Request) -> Response:
        """Return all scans, worst first, and the constant data of the page."""
        store, sha256 = self.store, table_sha256(self.store.campaign.table_path)
        record, cells = store.record(), store.cells()
        session = request.cookies.get(self.keys.cookie, "")
        return _Json(
            {
                "campaign": record.name,
                "csrf": self.keys.csrf_of(session),
                "states": dict(STATES),
                "signs": signs_for_page(),
                "sets": SETS,
                "scans": queue_entries(record.scans, cells, store.campaign.scans),
                "fix_cor": store.campaign.config.fix_cor.model_dump(),
                "report": store.campaign.files.report.is_file(),
                "notes": [f"{note.path}: {note.problem}" for note in record.notes],
                "problem": store.table_problem or store.problem,
                "closed": _closed(store.campaign.table_path),
                "table_sha256": sha256,
                "read": store.read_number,
            }
        )

    def changes(self, _: Request) -> Response:
        """Return values of which one changes when the queue must be loaded again."""
        self.store.record(wait=True)
        table, read = self.store.campaign.table_path, self.store.read_number
        marks = {"table_sha256": table_sha256(table), "read": read, "closed": _closed(table)}
        return _Json(marks)

    def volume(self, request: Request) -> Response:
        """Return the facts of a volume, and its address for other programs."""
        name = _query(request, "scan")
        facts = volume_view(self.store.campaign, name)
        if facts["zarr"]:  # napari needs the ending
            facts["address"] = f"zarr/{self.keys.data_token}/{quote(name, safe='')}.zarr/"
        session = request.cookies.get(self.keys.cookie, "")
        return _Json(facts | {"csrf": self.keys.csrf_of(session)})

    def zarr(self, request: Request) -> Response:
        """Return a file of an OME-Zarr; the guard has checked the token."""
        folder = zarr_folder(self.store.campaign, request.path_params["name"])
        path = file_below(folder, request.path_params["below"]) if folder else None
        if path is None:  # a chunk of zeros, or a foreign path
            return Response(status_code=404)
        return FileResponse(path, media_type="application/octet-stream")

    def report(self, request: Request) -> Response:
        """Return the report, its links to the volumes shown; or one of its pictures."""
        page, below = self.store.campaign.files.report, request.path_params["below"]
        path = file_below(page.parent, below or page.name)
        if path is None:
            return PlainTextResponse("404: no such file; tomopipe report writes the page\n", 404)
        if below:
            return FileResponse(path, headers=_REPORT_HEADERS)
        html = path.read_bytes().replace(b"<html ", b"<html data-review ", 1)
        return Response(html, media_type="text/html", headers=_REPORT_HEADERS)

    def status(self, _: Request) -> Response:
        """Return the jobs; finished ones only as a number."""
        with self._reading_status:
            age_s = time.monotonic() - self._status_at
            if self._status is None or age_s > FRESH_S / 2:
                result = asdict(read_status(self.store.campaign))
                result["jobs"] = [job for job in result["jobs"] if job["state"] != "done"]
                self._status, self._status_at = result, time.monotonic()
            return _Json(self._status)

    def undo(self, request: Request) -> Response:
        """Return the last act of this user on the page that can be undone, without `skip`."""
        table, skip = self.store.table_now(), _query(request, "skip").split()
        act = last_act(table, read_cells(table), by=(PAGE,), skip=skip)
        rows = [
            {"scan": scan, "cells": cells, "seen": seen}
            for scan, (cells, seen) in undoing(act).items()
            if scan in self.store.campaign.scans
        ]
        return _Json({"act": act[0].act if act else "", "rows": rows})

    async def decide(self, request: Request) -> Response:
        """Write decisions into the campaign table, except for rows that have changed meanwhile."""
        try:
            content = _DECISIONS.validate_json(await request.body(), strict=True)
            decisions = content["decisions"]
        except (ValueError, KeyError) as error:
            raise _MalformedError("expected JSON, decisions with scan, cells and seen.") from error
        return await run_in_threadpool(self._decide, decisions)

    def _decide(self, decisions: list[_Decision]) -> Response:
        problems: list[str] = []
        outcomes = decide(
            self.store.table_now(),
            self._checked(decisions),
            by=PAGE,
            tell=problems.append,
            stamp=stamp_now() if any(decision.stamp for decision in decisions) else "",
            undoes=next((decision.undoes for decision in decisions), ""),
        )
        rows = {scan: asdict(outcome) for scan, outcome in outcomes.items()}
        return _Json({"rows": rows, "problem": "".join(problems)})

    async def options(self, request: Request) -> Response:
        """Return the change of the configuration that sets options; with `seen`, write it."""
        try:
            wish = _OPTIONS.validate_json(await request.body(), strict=True)
        except ValueError as error:
            raise _MalformedError("expected JSON with scan, scope, options and seen.") from error
        return await run_in_threadpool(self._set_options, wish)

    def _set_options(self, wish: _Options) -> Response:
        campaign, path = self.store.campaign, self.store.config
        what = campaign, path, wish.scan, wish.scope, wish.options
        if wish.seen:
            made = config_edits.write(*what, seen=wish.seen)
        else:
            made = config_edits.propose(*what)
        facts = {name: getattr(made, name) for name in ("diff", "seen", "remarks")}
        return _Json(facts | {"path": str(path)})

    def _checked(
        self, decisions: Sequence[_Decision]
    ) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
        """Return the cells for the table, and those seen, by scan; raises if any is invalid."""
        checked, faults = {}, []
        for decision in decisions:
            scan, undo = decision.scan, bool(decision.undoes)
            try:
                shape = self.store.scan(scan).shape
                cells = checked_cells(scan, decision.cells, shape[2] if shape else None, undo=undo)
                checked[scan] = cells, decision.seen
            except TomopipeError as error:
                faults.append(str(error))
        if faults:
            sentences = faults[:3]
            if len(faults) > 3:
                sentences.append(f"{len(faults) - 3} more errors.")
            if len(decisions) > 1:
                sentences.append(f"None of the {len(decisions)} decisions was written.")
            raise TomopipeError(" ".join(sentences))
        return checked


def _closed(table: Path) -> str:
    """Say that decisions cannot be written, and what to type; "" if they can."""
    why = why_not_replaced(os.path.realpath(table))
    return why and f"Nothing can be accepted: {why}"


def _refused(_: Request, error: Exception) -> Response:
    """Send an error to the page; errors of the file system name only files of the campaign."""
    status_code = 400 if isinstance(error, _MalformedError) else 422
    return _Json({"error": str(error)}, status_code=status_code)


def _query(request: Request, name: str) -> str:
    return request.query_params.get(name, "")


def _scan(request: Request, store: Store) -> str:
    return store.scan(_query(request, "scan")).name


def _whole(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise TomopipeError(f"{name}: expected a whole number, got {text[:40]!r}.")
    return int(text)


def _scan_and_any_cor(request: Request, store: Store) -> tuple[str, float]:
    """Read a scan, and a COR that may be off its detector."""
    scan, cor = _scan(request, store), CorText(_query(request, "cor"))
    if cor.px is None:
        raise TomopipeError(f"{scan}: expected a COR such as 1024.50, got {cor.text[:40]!r}.")
    return scan, cor.px


def _scan_and_cor(request: Request, store: Store) -> tuple[str, float]:
    """Read a scan, and a COR that is on its detector."""
    scan, cor_px = _scan_and_any_cor(request, store)
    if shape := store.scan(scan).shape:
        n_cols = shape[2]
    else:  # a new scan of a watched campaign is not in the inventory yet
        details = store.pictures.details(scan)
        n_cols = int(details["first_col"] + details["n_cols"])
    if not is_valid(cor_px, n_cols):
        raise TomopipeError(f"{scan}: COR {off_detector(cor_px, n_cols)}.")
    return scan, cor_px


def _strip(request: Request, store: Store) -> Grey:
    scan, cor_px = _scan_and_cor(request, store)
    step_px, row = CorText(_query(request, "step")).px, _whole(request, "row")
    if step_px is None or step_px <= 0:
        raise TomopipeError(f"{scan}: expected a step above 0 px.")
    is_given = "y" in request.query_params
    centre = (_whole(request, "y"), _whole(request, "x")) if is_given else None
    return store.pictures.strip(scan, cor_px, row, step_px=step_px, centre=centre)


def _plane(request: Request, store: Store) -> Grey:
    """Read rows of a plane of a scan or stack."""
    index, factor = _whole(request, "at"), _whole(request, "factor")
    part = slice(_whole(request, "first"), _whole(request, "last"))
    name, which = _query(request, "scan"), _query(request, "plane")
    return plane(store.campaign, name, which, index, factor, part)


def _trial(request: Request, store: Store) -> dict[str, Any]:
    max_delta = CorText(_query(request, "max_delta_px"))
    if max_delta.px is None:
        raise TomopipeError(f"max_delta_px: expected a number, got {max_delta.text!r}.")
    protect_manual = _query(request, "protect_manual") == "true"
    key = _query(request, "series")
    return store.trial(key, max_delta_px=max_delta.px, protect_manual=protect_manual)


_Read = Callable[[Request, Store], Grey | bytes | dict[str, Any]]
# data at /api/<name>: pictures with a grey window set in the browser, PNG, or JSON
_READ: dict[str, _Read] = {
    # of one scan: everything, and its pictures
    "scan": lambda request, store: scan_view(store, _scan(request, store)),
    "page": lambda request, store: store.pictures.page(
        _scan(request, store), _whole(request, "page")
    ),
    "thumbnail": lambda request, store: store.pictures.thumbnail(
        *_scan_and_any_cor(request, store)
    ),
    "slice": lambda request, store: store.pictures.slice(
        *_scan_and_cor(request, store), _whole(request, "row")
    ),
    "strip": _strip,
    "overlay": lambda request, store: store.pictures.overlay(
        *_scan_and_cor(request, store), _whole(request, "pair")
    ),
    "difference": lambda request, store: store.pictures.difference(
        *_scan_and_cor(request, store), _whole(request, "pair")
    ),
    "sinogram": lambda request, store: store.pictures.sinogram(
        _scan(request, store), _whole(request, "row")
    ),
    "plane": _plane,  # of a volume
    "in-use": lambda request, store: slice_in_use(
        store,
        _scan(request, store),
        _whole(request, "row") if "row" in request.query_params else None,
    ),
    # of sweeps over options
    "sweeps": lambda _, store: {"sweeps": sweep_views(store.campaign)},
    "sweep": lambda request, store: sweep_slice(
        store.campaign,
        _scan(request, store),
        _query(request, "name"),
        _whole(request, "number"),
        max(1, _whole(request, "factor")),
    ),
    # of a series: its plot, the line through its trusted scans, fix_cor with other options
    "series": lambda request, store: {"scans": store.series(_query(request, "series"))},
    "line": lambda request, store: store.line(_query(request, "series")),
    "trial": _trial,
    "plan": lambda _, store: store.plan(),  # what the next run will redo
}
_OTHERS = ("queue", "changes", "volume", "status", "undo")  # methods of `_Api`


def _answer(store: Store, read: _Read, request: Request) -> Response:
    """Answer a request for data; runs in a thread."""
    result = read(request, store)
    if isinstance(result, Grey):
        # the raw numbers, little-endian; the header describes them
        facts = {"x-grey": json.dumps(result.facts(), allow_nan=False)}
        little = result.values.astype(result.values.dtype.newbyteorder("<"), copy=False)
        kind, headers = "application/octet-stream", _PICTURE_HEADERS | facts
        return Response(little.tobytes(), media_type=kind, headers=headers)
    if isinstance(result, bytes):
        return Response(result, media_type="image/png", headers=_PICTURE_HEADERS)
    return _Json(result)
