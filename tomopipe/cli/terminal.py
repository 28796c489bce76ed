"""Progress of a run in the terminal: a line for each step."""

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from typing import Any

from tomopipe.campaign.files import job_name
from tomopipe.campaign.state.signs import SIGNS
from tomopipe.errors import grouped, scans_named, some_of
from tomopipe.reruns.reasons import is_news
from tomopipe.run.forecast import Forecast, duration, forecast
from tomopipe.run.progress import Progress, Step

WIDTH = 160  # width of tables in a pipe or a file
# options of a console that shows names such as a[b] and a:b: as they are
AS_WRITTEN: dict[str, Any] = {"markup": False, "emoji": False}
MOST_ROWS = 40  # scans in a table
# between two looks where there is no terminal; of long runs a hundredth of the time they have taken
_PLAIN_S = 10.0
_PLAIN_PART = 0.01
_QUIET = 6  # of that time, after which the time alone is printed
_REMARK_S = 600.0  # between two equal remarks below the time
_TIMES_S = 1.0  # between two forecasts in a terminal: of 5000 scans one takes 0.1 s
_MOST_REASONS = 20
_N_NAMED = 3  # jobs in a line
_GAP = "  "  # between columns
_CUT = " ..."  # after a text that is cut
_LEAST_COLUMNS = 12  # width to which a column may be folded, and of a remark
_LONG = 40  # width of a column up to which it is as wide as its longest cell
_MOST_RESTS = 20  # texts below a table
_FAILED = {"failed": "failed", "again": "tried again"}


class Screen:
    """One line for each step: redrawn in a terminal, else printed periodically if changed."""

    def __init__(self) -> None:
        self._is_live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._shown: dict[str, str] = {}
        self._n_drawn, self._start_s, self._plain_at_s = 0, time.monotonic(), -_PLAIN_S
        self._times, self._timed_at_s = list[str](), -_TIMES_S
        self._remark, self._remark_at_s = list[str](), -_REMARK_S
        self._told: set[str] = set()  # reasons, and their parts: of a series those of its scans
        self._n_reasons = 0
        self._failed: set[tuple[str, str, str]] = set()  # what, job, reason

    def show(self, progress: Progress, *, at_end: bool = False) -> None:
        """Show news and the progress of each step."""
        news = list(self._news(progress))
        width = 20 * self._is_live
        lines = {name: step_line(name, step, width) for name, step in progress.steps.items()}
        now_s = time.monotonic()
        if self._is_live:
            if at_end or now_s - self._timed_at_s > _TIMES_S:
                self._times = time_lines(forecast(progress), at_end=at_end)
                self._timed_at_s = now_s
            lines |= {f"time {n}": line for n, line in enumerate(self._times)}
            if news or lines != self._shown:
                self._draw(news, list(lines.values()))
                self._shown = lines
            return
        for line in news:
            say(line)
        changed = [line for name, line in lines.items() if line != self._shown.get(name)]
        pause_s = max(_PLAIN_S, _PLAIN_PART * (now_s - self._start_s))
        quiet_s = now_s - self._plain_at_s
        if not (at_end or quiet_s > (pause_s if changed else _QUIET * pause_s)):
            return
        self._shown, self._plain_at_s = lines, now_s
        times = time_lines(forecast(progress), at_end=at_end)
        times, remark = times[:1], times[1:]
        if remark and (remark != self._remark or now_s - self._remark_at_s >= _REMARK_S):
            times += remark
            self._remark, self._remark_at_s = remark, now_s
        for line in (*changed, *times):
            say(f"{time.strftime('%H:%M:%S')} {line}")

    def _news(self, progress: Progress) -> Iterator[str]:
        """Yield which jobs failed, and why others run, each once."""
        again = {(step, name) for what, step, name, _ in progress.news if what == "again"}
        final = {
            (step, name): progress.log_of(step, name)
            for what, step, name, _ in progress.news
            if what == "failed" and (step, name) not in again
        }
        failed = grouped(  # all jobs of a submission at once; the log is that of the last attempt
            ((what, reason, final.get((step, name))), (job, step, name))
            for what, step, name, reason in progress.news
            if what in _FAILED
            if (what, job := f"{step} {job_name(step, name)}".rstrip(), reason) not in self._failed
        )
        for (what, reason, log), attempts in failed.items():
            jobs = list(dict.fromkeys(job for job, *_ in attempts))
            self._failed.update((what, job, reason) for job in jobs)
            is_single = what == "failed" and len(jobs) == 1
            its_log = progress.log_of(*attempts[0][1:]) if is_single else log
            see = f", see {near(its_log)}" if its_log else ""
            shown = f"{len(jobs)} jobs, " * (len(jobs) > 1) + some_of(jobs, _N_NAMED)
            yield f"{_FAILED[what]}: {shown}{f': {reason}' if reason else ''}{see}"
        for what, step, key, reason in progress.news:
            name = job_name(step, key)
            if what == "says":
                yield f"tomopipe: {reason}"
            elif what == "began" and name and is_news(reason) and reason not in self._told:
                self._told |= {reason, *reason.split("; ")}
                self._n_reasons += 1
                if self._n_reasons <= _MOST_REASONS:
                    yield reason if name in reason else f"{name}: {reason}"
        progress.news.clear()

    def _draw(self, news: list[str], lines: list[str]) -> None:
        size = shutil.get_terminal_size()
        # move to the first of the old lines, and clear all below
        up = f"\x1b[{self._n_drawn}F\x1b[J" if self._n_drawn else ""
        shown = [line[: size.columns - 1] for line in lines][-(size.lines - 1) :]
        say(up + "".join(f"{line}\n" for line in (*news, *shown)), end="")
        self._n_drawn = len(shown)


@contextmanager
def progress_bar(n: int, *columns: Any) -> Iterator[Callable[[int], None]]:
    """Show a bar of `n` on standard error, with more columns; yield what moves it on."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TimeRemainingColumn

    shown, screen = (BarColumn(), *columns, TimeRemainingColumn()), Console(stderr=True)
    # without a terminal it would print an empty line
    with Progress(*shown, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        yield partial(bar.advance, bar.add_task("", total=n))


def console(width: int = WIDTH) -> Any:
    """Return a console; a pipe or a file is as wide as the tables need."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width, **AS_WRITTEN)


def print_columns(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str] = (),
    optional: Collection[str] = (),
    remark: str = "",
) -> None:
    """Print rows in aligned columns, without `optional` ones that are empty.

    `styles` are those of the column `state` of each row. In a terminal the column `remark`, the
    last one, is cut at a word, and its cut texts follow below the table; if the others are too
    wide, the widest is folded. Cells far longer than most in their column do not widen it: in a
    terminal without room for them they are folded, else their row is longer. A table of rich takes
    a millisecond a row, this a tenth.
    """
    in_use = [n for n, head in enumerate(heads) if head not in optional or any(r[n] for r in rows)]
    lines = [[row[n] for n in in_use] for row in (heads, *rows)]
    screen, cut, is_terminal = console(), list[str](), sys.stdout.isatty()
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    if not is_terminal or sum(widths) + len(_GAP) * (len(widths) - 1) > screen.width:
        widths[:-1] = map(_usual_width, list(zip(*lines, strict=True))[:-1])
    if is_terminal:
        room = screen.width - sum(n + len(_GAP) for n in widths[: -1 if remark else None])
        if remark and lines[0][-1] == remark and room < widths[-1]:
            lines, cut = _without_rest(lines, room)
            has_rest = len(lines[0]) == len(widths)
            widths[-1:] = [max(_width(row[-1]) for row in lines)] * has_rest
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - screen.width
    if is_terminal and excess > 0:
        widest = widths.index(max(widths))
        widths[widest] = max(widths[widest] - excess, _LEAST_COLUMNS)
    text, at = list[str](), lines[0].index("state") if "state" in lines[0] else 0
    paint = {style: _paint(screen, style) for style in {*styles, ""}}
    for cells, style in zip_longest(lines, ("", *styles), fillvalue=""):
        limits = widths if is_terminal else map(len, cells)
        folded = [_folded(cell, width) for cell, width in zip(cells, limits, strict=True)]
        for part in zip_longest(*folded, fillvalue=""):
            padded = list(map(_padded, part, widths))
            padded[-1] = part[-1]
            padded[at] = padded[at].join(paint[style])
            text.append(_GAP.join(padded).rstrip())
    say("\n".join(text))
    for line in cut:
        say(textwrap.fill(line, screen.width, subsequent_indent=_GAP, break_on_hyphens=False))


def _width(cell: str) -> int:
    from rich.cells import cell_len

    return len(cell) if cell.isascii() else cell_len(cell)


def _usual_width(cells: Sequence[str]) -> int:
    """Return the width of a column without cells far longer than most."""
    widths = sorted(map(_width, cells))
    return min(widths[-1], max(_LONG, 2 * widths[len(widths) // 2]))


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell))


def _paint(screen: Any, style: str) -> tuple[str, str]:
    """Return what a terminal is sent before and after a text of a style."""
    from rich.text import Text

    with screen.capture() as capture:
        screen.print(Text("|", style), end="")
    before, _, after = capture.get().partition("|")
    return before, after


def _without_rest(lines: list[list[str]], room: int) -> tuple[list[list[str]], list[str]]:
    """Cut the last cells of lines at a word; also return the texts that were cut, by first cell.

    Where there is no room for a few words, the column goes as a whole.
    """
    rest = [(row[-1], row[0]) for row in lines[1:] if len(row[-1]) > max(room, 0)]
    if room < _LEAST_COLUMNS:
        rest = [(row[-1], row[0]) for row in lines[1:] if row[-1]]
        lines = [row[:-1] for row in lines]
    else:
        lines = [[*row[:-1], shortened(row[-1], room)] for row in lines]
    texts = [f"{scans_named(names)}: {text}" for text, names in grouped(rest).items()]
    if (more := len(texts) - _MOST_RESTS) > 0:
        texts[_MOST_RESTS:] = [f"{more} more texts are cut; whole: tomopipe status SCAN"]
    return lines, ["", *texts]


def shortened(text: str, width: int) -> str:
    """Cut a text at a word."""
    if len(text) <= width:
        return text
    room = max(width - len(_CUT), 0)
    return (text[: room + 1].rpartition(" ")[0].rstrip() or text[:room]) + _CUT


def _folded(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) if len(cell) > width else [cell]


def state_text(state: str) -> str:
    """Return a state with its sign, where the output can show it."""
    text = f"{SIGNS[state].character} {state}"
    return text if _is_in_output(text) else state


def _is_in_output(text: str) -> bool:
    """Tell whether the encoding of the output has all characters of a text."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def say(text: str, end: str = "\n") -> None:
    """Print, unless the terminal was closed: the run continues without it."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)


def near(path: str | os.PathLike[str]) -> str:
    """Return the shortest form of a path from the working directory that is no option."""
    relative = os.path.relpath(path)
    is_option = relative.startswith("-")
    return min("./" * is_option + relative, os.path.abspath(path), key=len)


def step_line(name: str, step: Step, width: int = 0) -> str:
    """Return a step's progress: bar of that width, then done, running, failed."""
    shown = {"running": "running", "queued": "in the queue", "failed": "failed"}
    parts = [f"{step.n[state]} {words}" for state, words in shown.items() if step.n[state]]
    drawn = f"{bar(step.done, step.total, width)} " if width else ""
    is_later = step.is_about and {*step.planned} <= {"campaign"}
    n_done = "later" if is_later else f"{step.done} of {'about ' * step.is_about}{step.total}"
    return f"{name:12} {drawn}{', '.join([n_done, *parts])}"


def time_lines(times: Forecast | None, *, at_end: bool = False) -> list[str]:
    """Return the time of a run, and below it why it is longer than planned."""
    if times is None:
        return []
    if at_end:
        return [f"{'time':12} {duration(times.elapsed_s)} in total"]
    return [f"{'time':12} {times.sentence}", *[f"{'':12} {times.remark}"] * bool(times.remark)]


def bar(done: int, total: int, width: int) -> str:
    """Draw a progress bar."""
    full = width * done // total if total else 0
    line, rest = "━╌" if _is_in_output("━╌") else "#-"
    return line * full + rest * (width - full)


def print_left_out(faults: Sequence[str]) -> None:
    """Print why scans are left out; beside a plan as JSON."""
    for fault in faults:
        print(f"left out: {fault}", file=sys.stderr)
