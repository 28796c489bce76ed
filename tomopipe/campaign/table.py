"""The campaign table (scans.tsv): read it, check it, edit cells without changing anything else.

Tab-separated UTF-8 text for people and spreadsheets. Comment lines, which begin with #, blank
lines, other columns and any order of columns are allowed. A cell may be in double quotes, as
spreadsheets write them ("" inside is one); a scan whose name begins with # must be.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tomopipe.campaign.files import history_of
from tomopipe.config import Config
from tomopipe.cor.cor_value import NO_TEXT, CorText, shown
from tomopipe.errors import TomopipeError, grouped, on_os_error
from tomopipe.paths import no_pipe
from tomopipe.scans.formats import RAW_ENDINGS
from tomopipe.storage.shared import settled_content, update_file

EMPTY_ROW = {"select": "auto", "cor_px": "", "note": ""}
"""The cells of a scan without a row, by column."""
COLUMNS = ("scan", *EMPTY_ROW)
SELECT = ("auto", "yes", "no")
_BOOLEANS = {"true": "yes", "1": "yes", "false": "no", "0": "no"}  # as of a spreadsheet
Edits = Mapping[str, Mapping[str, str]]
"""Scan to column (`select`, `cor_px`, `note`) to new cell; an empty text clears it."""
_BOM = "\ufeff"
# Editors drop unit separators and the like, and some programs end lines at the last two.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Row:
    """One row of the table; cells as typed, without white space around them."""

    scan: str
    select: str = "auto"
    cor: CorText = NO_TEXT
    note: str = ""
    line: int = 0  # 1-based, in the file
    extra: str = ""
    """The first cell that has no header."""


class Change(NamedTuple):
    """A cell that an edit has changed; an empty `select` counts as auto."""

    scan: str
    column: str
    before: str
    after: str


@dataclass
class _Line:
    """A line of the file: its text and line end; cells if it is a row or the header."""

    text: str
    end: str
    cells: list[str]


class _Table:
    """The lines of a table; errors name its path."""

    def __init__(self, text: str, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._bom = _BOM if text.startswith(_BOM) else ""
        parts = re.split(r"(\r\n|\n|\r)", text.removeprefix(_BOM))
        ends = [*parts[1::2], ""]
        self.lines = [_Line(*line, _cells(line[0])) for line in zip(parts[::2], ends, strict=True)]
        self.header = next((line for line in self.lines if line.cells), None)
        self.names = [_unquoted(cell) for cell in self.header.cells] if self.header else []
        if self.header:
            self._check_header()

    @property
    def text(self) -> str:
        """The whole text."""
        return self._bom + "".join(line.text + line.end for line in self.lines)

    @property
    def at_header(self) -> str:
        """Path and line of the header, for errors."""
        number = next((n for n, line in enumerate(self.lines, 1) if line is self.header), 0)
        return f"{self.path}: line {number}: column"

    def rows(self) -> Iterator[tuple[int, _Line]]:
        """Yield each row with the number of its line, from 1."""
        for number, line in enumerate(self.lines, start=1):
            if line.cells and line is not self.header:
                yield number, line

    def value(self, line: _Line, name: str) -> str:
        """Return a cell of a row; "" if there is none."""
        column = self.names.index(name) if name in self.names else len(line.cells)
        cell = _unquoted(line.cells[column]) if column < len(line.cells) else ""
        return cell if name == "scan" else _readable(cell)  # names are those of files

    def apply(self, edits: Edits) -> list[Change]:
        """Write edits into the lines, adding header, columns and rows; return the changes."""
        end = next((line.end for line in self.lines if line.end), "\n")
        if self.header is None:
            self.names = list(COLUMNS)
            self.header = self._append(list(COLUMNS), end)
        changes: list[Change] = []
        where = grouped((self.value(line, "scan"), number) for number, line in self.rows())
        for scan, cells in edits.items():
            numbers = where.get(scan, [])
            if len(numbers) > 1:
                listed = " and ".join(map(str, numbers))
                raise TomopipeError(f"{self.path}: scan {scan} is on lines {listed}. Keep one.")
            if not numbers and not any(cells.values()):
                continue  # no cell to clear
            new = [name for name, value in cells.items() if value and name not in self.names]
            self.header.cells += new
            self.names += new
            if numbers:
                line = self.lines[numbers[0] - 1]
            else:
                line = self._append([""] * len(self.names), end)
                self._set(line, {"scan": scan, "select": "auto"})
            old = {name: self.value(line, name) or EMPTY_ROW[name] for name in cells}
            self._set(line, cells)
            new_cells = {name: cell or EMPTY_ROW[name] for name, cell in cells.items()}
            changes += [
                Change(scan, name, old[name], cell)
                for name, cell in new_cells.items()
                if cell != old[name]
            ]
        self.header.text = "\t".join(self.header.cells)
        return changes

    def _append(self, cells: list[str], end: str) -> _Line:
        if self.lines and not self.lines[-1].end:
            if self.lines[-1].text:
                self.lines[-1].end = end
            else:
                self.lines.pop()
        self.lines.append(_Line("\t".join(cells), end, cells))
        return self.lines[-1]

    def _set(self, line: _Line, cells: Mapping[str, str]) -> None:
        for name, value in cells.items():
            # A table without `select` needs no column for the auto of a new row.
            if name not in self.names or self.value(line, name) == value:
                continue
            column = self.names.index(name)
            line.cells += [""] * (column + 1 - len(line.cells))
            line.cells[column] = _quoted(value)
        line.text = "\t".join(line.cells)

    def _check_header(self) -> None:
        repeated = [name for name in COLUMNS if self.names.count(name) > 1]
        if "scan" not in self.names or repeated:
            result = f"{', '.join(repeated)} twice" if repeated else shown(", ".join(self.names))
            raise TomopipeError(
                f"{self.path}: expected a header line with the columns {', '.join(COLUMNS)}, "
                f"separated by tabs and each once; got {result}. Correct the first line."
            )
        for name in self.names:
            if "." in name and name.partition(".")[0] in Config.model_fields:
                raise TomopipeError(
                    f"{self.at_header} {name}: an option is no column: write it into config.yaml, "
                    "as in overrides: [{scans: [a_1], full_recon: {filter: hann}}], and remove the "
                    "column."
                )
        misspelt = {name: ours for name in self.names if (ours := _misspelt(name))}
        if misspelt:
            raise TomopipeError(
                "\n".join(
                    f"{self.at_header} {shown(name)} is none of {', '.join(COLUMNS)}; did you mean "
                    f"{ours}? Rename it; a column of your own needs a clearly different name."
                    for name, ours in misspelt.items()
                )
            )


def _cells(line: str) -> list[str]:
    """Return the cells of a line; none of a blank one or a comment."""
    return line.split("\t") if line.strip() and not line.lstrip().startswith("#") else []


def has_table(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is a table; a link to a file that is missing raises TomopipeError."""
    if os.path.islink(path) and not os.path.exists(path):
        raise TomopipeError(
            f"{path}: a link to {os.readlink(path)}, which does not exist; expected the campaign "
            "table. Restore that file, or remove the link."
        )
    return os.path.exists(path)


def read_table(path: str | os.PathLike[str]) -> list[Row]:
    """Read the rows of the campaign table, in the order of the file, repeated scans included.

    A column that is missing counts as empty; an empty `select` is `auto`.

    Raises TomopipeError if the file cannot be read, is empty or not UTF-8 text, or its header lacks
    `scan`, repeats one of our columns, or has one that is nearly ours or a key of the
    configuration; and for invalid cells of `select`. The message names the cell.
    """
    with on_os_error(f"{path}: the campaign table cannot be read"):
        content = settled_content(path)
    return _rows(_decoded(content, path), path)


def _rows(text: str, path: str | os.PathLike[str]) -> list[Row]:
    table = _Table(text, path)
    rows, faults = [], []
    for number, line in table.rows():
        cell = {name: table.value(line, name) for name in COLUMNS}
        cell["select"] = cell["select"] or "auto"
        if cell["select"] not in SELECT:
            word = cell["select"].lower()
            faults.append(
                f"{path}: line {number}: select of {cell['scan']} is {shown(cell['select'])}; "
                f"expected auto, yes or no{did_you_mean(_BOOLEANS.get(word, word), SELECT)}"
            )
        extra = next(filter(None, map(_unquoted, line.cells[len(table.names) :])), "")
        cor = CorText(cell.pop("cor_px"))
        rows.append(Row(**cell, cor=cor, line=number, extra=extra))
    if faults:
        raise TomopipeError("\n".join(faults))
    return rows


def check_table(
    rows: Sequence[Row], scans: Collection[str], former: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Describe the problems of the rows, one sentence each, in the order of the file.

    `former`: scans that have been in the campaign, and the scan of their file now, or "".
    """
    problems = []
    for row in rows:
        where = f"line {row.line}"
        if not row.scan:
            problems.append(f"{where}: the scan is missing; write its name or remove the row")
        elif row.scan not in scans:
            is_former = row.scan in former
            hint = any_more(former[row.scan]) if is_former else did_you_mean(row.scan, scans)
            problems.append(f"{where}: no scan {row.scan} in the campaign{hint}")
        if row.extra:
            problems.append(f"{where}: {shown(row.extra)} has no column header and is not read")
        if row.cor.text and row.cor.px is None:
            point = row.cor.text.replace(",", ".")
            is_comma = CorText(point).px is not None
            remedy = point if is_comma else "a number with a decimal point, such as 1024.50"
            problems.append(
                f"{where}: cor_px of {row.scan} is {shown(row.cor.text)}, which counts as no COR; "
                f"write {remedy}, or nothing"
            )
    return problems


def any_more(scan: str) -> str:
    """End a sentence on a row whose scan has left the campaign; `scan` has its file now, or ""."""
    name = f"its file is now that of {scan}: write this name"
    return f" any more; {name if scan else 'if its file was renamed, write the new name'}"


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Suggest the choice most similar to a name, as the end of a sentence; "" if none is.

    Names that differ by more than a digit of the last number are not similar: their range is given.
    """
    stem, ending = os.path.splitext(os.path.basename(name))
    target = stem if ending.lower() in RAW_ENDINGS else name
    choices = list(choices)
    if same := [other for other in choices if _same_number(name, other)]:
        return f"; did you mean {same[0]}? Spreadsheets and YAML drop leading zeros"
    form, number = _form_and_number(target)
    parts = {other: _form_and_number(other) for other in choices}
    far = {scan: int(n) for scan, (f, n) in parts.items() if f == form and not _is_near(number, n)}
    alike = [(scan, n) for scan, (f, n) in parts.items() if f == form and n and number]
    equal = [scan for scan, n in alike if int(n) == int(number)]
    others = [c for c in choices if c not in far]
    similar = equal[:1] or difflib.get_close_matches(target, others, n=1)
    if similar and similar[0] != similar[0].strip():  # a blank that nobody sees
        similar[0] = shown(similar[0])
    if similar or not far:
        return f"; did you mean {similar[0]}?" if similar else ""
    first, last = (end(far, key=far.__getitem__) for end in (min, max))
    return f"; there are {first} to {last}" if first != last else f"; there is {first}"


def _form_and_number(name: str) -> tuple[str, str]:
    """Return a name without its last number, and this number; "" if it has none."""
    parts = re.split("([0-9]+)", name)
    return f"{''.join(parts[:-2])}#{parts[-1]}", "".join(parts[-2:-1])


def _is_near(number: str, other: str) -> bool:
    """Tell whether two numbers differ by one digit, leading zeros aside, as in a typing error."""
    number, other = number.lstrip("0"), other.lstrip("0")
    blocks = difflib.SequenceMatcher(None, number, other).get_matching_blocks()
    return max(len(number), len(other)) - sum(block.size for block in blocks) <= 1


def _same_number(name: str, other: str) -> bool:
    """Tell whether two names are one number, as 1 and 001, or 1E+03 and 1e3."""
    try:
        return float(name) == float(other)
    except ValueError:
        return False


def table_sha256(path: str | os.PathLike[str]) -> str:
    """Return the hash of the table's content, of an empty one if there is no file."""
    with on_os_error(f"{path}: the campaign table cannot be read"):
        content = Path(no_pipe(path)).read_bytes() if os.path.exists(path) else b""
    return hashlib.sha256(content).hexdigest()


def edit_table(
    path: str | os.PathLike[str],
    edits: Edits | Callable[[list[Row]], Edits],
    then: Callable[[list[Change]], None] = lambda _: None,
) -> bool:
    """Change cells of the campaign table; every other byte stays as it is.

    Writers wait for each other, and changes that an editor saves meanwhile are merged
    (`update_file`).

    The table is made if it does not exist; missing rows and columns are added at the end. `edits`
    may be a function that returns them from the rows, called while the table is locked, and again
    if an editor saved the table meanwhile. `then` is called with the changes, while the table is
    still locked. Returns whether the file changed.

    Raises TomopipeError if the table cannot be read or written, another writer does not finish, a
    scan has two rows, or a cell contains a control character, such as a tab or a line break; then
    nothing is written.
    """
    changes: list[Change] = []

    def change(before: bytes) -> bytes:
        text = _decoded(before, path)
        target = edits(_rows(text, path)) if callable(edits) else edits
        for scan, cells in target.items():
            _check_edit(scan, cells)
        table = _Table(text, path)
        # no change if an editor has saved ours together with its own
        changes[:] = table.apply(target) or changes
        return table.text.encode("utf-8", "surrogateescape")

    has_table(path)  # refuses a link to nothing
    with on_os_error(f"{path}: cannot be written"):
        return update_file(path, change, lambda: then(changes))


def _check_edit(scan: str, cells: Mapping[str, str]) -> None:
    if unknown := [name for name in cells if name not in EMPTY_ROW]:
        raise TomopipeError(
            f"campaign table: no column {', '.join(unknown)}; expected {', '.join(EMPTY_ROW)}."
        )
    for cell in (scan, *cells.values()):
        if problem := fault_of_cell(cell):
            raise TomopipeError(f"campaign table: {shown(cell)} for {shown(scan)} {problem}.")


def fault_of_cell(text: str) -> str:
    """Return why a text cannot be a cell of the table; "" if it can."""
    if match := _CONTROL.search(text):
        name = {"\t": "a tab", "\r": "a line break", "\n": "a line break"}.get(
            match[0], f"the control character U+{ord(match[0]):04X}"
        )
        return f"contains {name}; a cell cannot"
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "contains half a character; a cell cannot"
    return ""


def _misspelt(name: str) -> str:
    """Return our column of which a name is a misspelling, or ""."""
    ours = {_bare(column): column for column in COLUMNS} | {"cor": "cor_px"}
    return "" if name in COLUMNS else ours.get(_bare(name), "")


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    if len(cell) >= 2 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _quoted(cell: str) -> str:
    """Quote a cell that would otherwise be misread."""
    if cell != cell.strip() or cell.startswith(('"', "#")):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _decoded(content: bytes, path: str | os.PathLike[str]) -> str:
    if b"\0" in content:
        number = len(re.split(rb"\r\n|\n|\r", content[: content.index(b"\0")]))
        raise TomopipeError(
            f"{path}: line {number}: expected UTF-8 text, got a NUL character, as of UTF-16 or a "
            "binary file. Save it as UTF-8."
        )
    if not content.removeprefix(_BOM.encode()).strip() and os.path.exists(path):
        history = history_of(Path(path))
        cells = f"; what the page and commands wrote is in {history}" * history.exists()
        raise TomopipeError(
            f"{path}: is empty, as an editor that crashes may leave it; expected a header line "
            f"with the columns {', '.join(COLUMNS)}. Restore a copy of it; or remove it, and type "
            "`tomopipe cor import raw/*.cor.json` for the manual CORs of the last run, before the "
            f"next one{cells}."
        )
    return content.decode("utf-8", "surrogateescape")


def _readable(cell: str) -> str:
    """Decode a cell that is not UTF-8 as Windows-1252, which spreadsheets write."""
    try:
        cell.encode()
    except UnicodeEncodeError:
        return cell.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return cell
