"""What the tutorials show below their commands, and whether commands print it."""

import re
from itertools import pairwise
from pathlib import Path

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorial"
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_FRAME = str.maketrans("│┃━─┏┳┓┡╇┩└┴┘", " " * 13)


def shown(page: str, command: str) -> list[str]:
    """Return the lines that a tutorial shows below a command."""
    text = (TUTORIALS / page).read_text("utf-8")
    found = re.search(rf"^\$ {re.escape(command)}\n(.*?)^(?:\$ |```)", text, flags=re.M | re.S)
    assert found, f"{page} has no command {command}"
    return found[1].splitlines()


def not_printed(lines: list[str], printed: str) -> list[str]:
    """Return the lines that a command did not print in this order, whatever their numbers.

    Others may be left out only at a line "...".
    """
    rest = [text for line in printed.splitlines() if (text := _words(line))]
    lacking, may_skip = [], False
    for line in filter(str.strip, lines):
        text = _words(line)
        if text != "..." and text in (rest if may_skip else rest[:1]):
            rest = rest[rest.index(text) + 1 :]
        elif text != "...":
            lacking.append(line)
        may_skip = text == "..."
    return lacking


def _words(line: str) -> str:
    """Return a line without its numbers, and without frames and blanks of tables."""
    return " ".join(_NUMBER.sub("#", line.translate(_FRAME)).split())


def rows(text: str) -> dict[str, dict[str, str]]:
    """Return the table of CORs in a text: by scan, the cells by the heads of their columns."""
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if line.split()[:2] == ["scan", "COR"])
    heads = re.split(r"\s{2,}", lines[first].strip())
    places = [*(lines[first].index(name) for name in heads), None]
    table: dict[str, dict[str, str]] = {}
    for line in filter(_words, lines[first + 1 :]):
        if line.strip().startswith(("1 scan needs", "```")):
            break
        cells = [line[start:end].strip() for start, end in pairwise(places)]
        if cells[0]:
            table[cells[0]] = dict(zip(heads, cells, strict=True))
        else:  # more of the last remark
            list(table.values())[-1]["remark"] += f" {cells[-1]}"
    return table


def is_as_shown(cell: str, printed: str) -> bool:
    """Tell whether a cell has the words, up to "...", and to 0.05 the numbers that are shown."""
    text, is_cut, _ = cell.partition("...")
    there = printed[: len(text)] if is_cut else printed
    numbers = zip(_NUMBER.findall(text), _NUMBER.findall(there), strict=False)
    is_near = all(abs(float(a) - float(b)) <= 0.05 for a, b in numbers)
    return is_near and _words(text) == _words(there)
