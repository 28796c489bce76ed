"""Word, meaning, shape and colour of each state, for page, report, terminal and docs.

The word is also the name of the state: in JSON, as a CSS class, in pages and tests, so it is one
word, and another one is replaced everywhere. All shapes differ; colours can be distinguished with
any colour vision, which tests/unit/campaign/test_signs.py simulates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Every state of a scan, by its word; those that need a person come last."""

    OK = "ok"
    MANUAL = "manual"
    UNSELECTED = "unselected"
    SKIPPED = "skipped"
    PENDING = "pending"
    UNSWEPT = "unswept"
    FIXED = "fixed"
    FILLED = "filled"
    DOUBTFUL = "doubtful"
    UNRESOLVED = "unresolved"
    FAILED = "failed"


@dataclass(frozen=True)
class Colour:
    """A colour on a light and on a dark background, and that of a terminal."""

    light: str
    dark: str
    terminal: str


COLOURS: Mapping[str, Colour] = {
    "ok": Colour("#297544", "#72c88c", "green"),
    "manual": Colour("#0b625b", "#5ed1d1", "cyan"),
    "fixed": Colour("#7c209a", "#c699de", "magenta"),
    "filled": Colour("#2764c1", "#63a4fb", "blue"),
    "eyes": Colour("#905c00", "#efaf3e", "yellow"),
    "failed": Colour("#a61a25", "#eb7769", "red"),
    "none": Colour("#707b87", "#7a848d", "bright_black"),
}


@dataclass(frozen=True)
class Sign:
    """Sign of a state: an SVG path about (0, 0), a character, a key of COLOURS."""

    meaning: str
    path: str
    character: str
    colour: str

    @property
    def style(self) -> str:
        """Its colour in a terminal."""
        return COLOURS[self.colour].terminal


SIGNS: Mapping[str, Sign] = {
    State.OK: Sign(
        "predicted COR accepted", "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z", "●", "ok"
    ),
    State.MANUAL: Sign("COR set by hand", "M0-6.5 6.5 0 0 6.5-6.5 0z", "◆", "manual"),
    State.UNSELECTED: Sign(
        "select: no",
        "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0zM-4 0a4 4 0 1 1 8 0a4 4 0 1 1-8 0z",
        "○",
        "none",
    ),
    State.SKIPPED: Sign("skipped by the inventory", "M-5.5-1.3h11v2.6h-11z", "–", "none"),
    State.PENDING: Sign(
        "not yet predicted",
        "M-6.5-1.4h2.8v2.8h-2.8zM-1.4-1.4h2.8v2.8h-2.8zM3.7-1.4h2.8v2.8h-2.8z",
        "…",
        "none",
    ),
    State.UNSWEPT: Sign(
        "view without a sweep (try_recon.every): COR from the others of its file",
        "M-5.2-4.2h10.4v3h-10.4zM-5.2 1.2h10.4v3h-10.4z",
        "=",
        "filled",
    ),
    State.FIXED: Sign("outlying COR replaced from its neighbours", "M0-6 6 5H-6z", "▲", "fixed"),
    State.FILLED: Sign(
        "no COR of its own: from neighbours, series, scans at the same place, views of its file, "
        "or default",
        "M-5-5H5V5H-5z",
        "■",
        "filled",
    ),
    State.DOUBTFUL: Sign(
        "low confidence, data in doubt, methods or series that disagree, a kept outlier, or filled "
        "with an error above 1 px",
        "M-1.6-6h3.2v7.4h-3.2zM-1.6 3h3.2v3h-3.2z",
        "!",
        "eyes",
    ),
    State.UNRESOLVED: Sign(
        "no COR at all",
        "M-4.2-2.2v-1.6L-2.2-6.2H2.2L4.2-4.2v2.6L1.5.8v1.2h-3v-2.4L1.4-2.8v-.8H-1.4v1.4z"
        "M-1.5 3.2h3v3h-3z",
        "?",
        "eyes",
    ),
    State.FAILED: Sign(
        "a step failed",
        "M-5.3-3.2-3.2-5.3 0-2.1 3.2-5.3 5.3-3.2 2.1 0 5.3 3.2 3.2 5.3 0 2.1-3.2 5.3-5.3 3.2-2 0z",
        "×",
        "failed",
    ),
    # only of jobs
    "running": Sign("running", "M-4-6 6 0-4 6z", "▶", "manual"),
    "lost": Sign("ended without a report", "M-5-5v10H5V-5zM-3.4-3.4H3.4V3.4H-3.4z", "□", "failed"),
}


@dataclass(frozen=True)
class Source:
    """A source of CORs: its label, the state of a scan with such a COR, the label in tables."""

    label: str
    state: State
    short: str


#: By their names in cor.json.
SOURCES: Mapping[str, Source] = {
    "auto": Source("predicted", State.OK, "predicted"),
    "ai": Source("predicted (AI)", State.OK, "predicted"),
    "manual": Source("by hand", State.MANUAL, "by hand"),
    "outlier": Source("replaced outlier", State.FIXED, "replaced"),
    "neighbours": Source("from its neighbours", State.FILLED, "neighbours"),
    "series-mean": Source("mean of the series", State.FILLED, "series mean"),
    "line": Source("line of the series", State.FILLED, "series line"),
    "place": Source("scans at the same place", State.FILLED, "same place"),
    "time": Source("model over time", State.FILLED, "over time"),
    "default": Source("default", State.FILLED, "default"),
}


def source_named(name: str) -> Source:
    """Return a source of CORs; of an unknown name one that is labelled so."""
    return SOURCES.get(name, Source(name, State.OK, name))


def signs_css(*, dark_first: bool) -> str:
    """Return the colours as a style sheet: `--ok` and so on, and the class of each state.

    `dark_first`: dark unless data-theme of the page is light; else as set in the browser.
    """
    light, dark = (
        " ".join(f"--{name}: {getattr(colour, theme)};" for name, colour in COLOURS.items())
        for theme in ("light", "dark")
    )
    if dark_first:
        themes = f':root {{ {dark} }}\n:root[data-theme="light"] {{ {light} }}\n'
    else:
        themes = f":root {{ {light} }}\n"
        themes += f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    states = (f".st-{state} {{ color: var(--{sign.colour}); }}\n" for state, sign in SIGNS.items())
    return themes + "".join(states)


#: The states of points in a plot of a series: those with a COR, and those that lack one.
IN_SERIES = tuple(
    state
    for state in State
    if state not in (State.UNSELECTED, State.SKIPPED, State.PENDING, State.FAILED)
)


def signs_for_page() -> dict[str, Any]:
    """Return shapes of states and labels of sources for the review page."""
    return {
        "in_series": IN_SERIES,
        "paths": {state: sign.path for state, sign in SIGNS.items()},
        "sources": {name: source.label for name, source in SOURCES.items()},
        "short": {name: source.short for name, source in SOURCES.items()},  # in tables
    }
