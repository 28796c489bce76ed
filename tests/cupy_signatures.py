"""The calls of CuPy that the tests pretend, recorded with its signatures; no CuPy is needed.

`cupy_signatures.txt` has a line for each: a new one is written there as its name alone, and then

    PYTHONPATH=FOLDER python tests/cupy_signatures.py

fills in all signatures, from the wheels of CuPy (14 or newer) and cuda-pathfinder, unpacked in
FOLDER. CuPy's own names stop it if they are missing. Values of defaults are left out.
"""

import importlib
import inspect
import re
from pathlib import Path

FILE = Path(__file__).with_suffix(".txt")


def recorded():
    """Return the signature of each name; None where it is no function."""
    lines = [line.partition("(") for line in FILE.read_text().splitlines()]
    return {
        name: inspect.signature(eval(f"lambda {rest[:-1]}: None")) if rest else None
        for name, _, rest in lines
    }


def _real(name):
    """Return what has a dotted name."""
    parts = name.split(".")
    found = importlib.import_module(parts[0])
    for n, part in enumerate(parts[1:], 2):
        if not hasattr(found, part) and inspect.ismodule(found):
            importlib.import_module(".".join(parts[:n]))
        found = getattr(found, part)
    return found


def _parameters(function):
    """Return the parameters of a function, in brackets; "" of a property or a type of arrays."""
    if not callable(function) or hasattr(function, "nbytes"):
        return ""
    try:
        text = str(inspect.signature(function))
    except ValueError:  # compiled: the first line of its docstring
        text = function.__doc__.splitlines()[0].replace("\\", "")
        if "(" not in text:  # a class, of whose maker it is that of its own docstring
            text = function.__init__.__doc__.splitlines()[0].replace("(self, ", "(")
    text = re.search(r"\((.*)\)", text.partition(" -> ")[0])[1]
    text = re.sub(r": '[^']*'", "", text)
    text = re.sub(r" ?= ?(\([^)]*\)|[^,]*)", "=...", text)
    return f"({', '.join(part.split()[-1] for part in text.split(', ') if part)})"


if __name__ == "__main__":
    names = sorted(line.partition("(")[0] for line in FILE.read_text().splitlines())
    FILE.write_text("".join(f"{name}{_parameters(_real(name))}\n" for name in names))
