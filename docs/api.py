"""Write docs/reference/api.md, the functions for notebooks: python docs/api.py."""

import inspect
import textwrap
from pathlib import Path

import tomopipe as tp
from tomopipe import api, notebook

PAGE = Path(__file__).parent / "reference" / "api.md"
HEAD = """# Functions for notebooks

`import tomopipe as tp`; [how to use them](../how-to/notebook.md). `help(tp.correct)` also lists
the errors.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(_section(name) for name in (*api.__all__, *notebook.__all__))


def _section(name: str) -> str:
    function = getattr(tp, name)
    parameters = inspect.signature(function).parameters.values()
    shown = [_shown(parameter) for parameter in parameters]
    keywords = [parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters]
    if True in keywords:
        shown.insert(keywords.index(True), "*")
    call = textwrap.fill(f"tp.{name}({', '.join(shown)})", 100, subsequent_indent="    ")
    text = (inspect.getdoc(function) or "").partition("\n\nRaises\n")[0]
    return f"\n## tp.{name}\n\n```text\n{call}\n\n{text}\n```\n"


def _shown(parameter: inspect.Parameter) -> str:
    text = str(parameter.replace(annotation=parameter.empty))
    return text if len(text) < 40 else f"{parameter.name}=..."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
