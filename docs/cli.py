"""Write docs/reference/cli.md, the commands and their options: python docs/cli.py."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import typer

from tomopipe.cli import cli

PAGE = Path(__file__).parent / "reference" / "cli.md"
HEAD = """# The command line

Every command works on the campaign of this folder, or of the nearest folder above it that has one;
`-C CAMPAIGN` selects another, and `-c FILE` another file than its config.yaml. `CAMPAIGN SCAN` is
the campaign folder, which may be omitted, and scans (names or 'patterns'), by default all (`retry`:
`--all`). `-h` shows the help of a command, `-n` (`--dry-run`) what would be done; `--json` prints
JSON. `tomopipe lab train`, `evaluate`, `bench` and `agree` come with
[tomopipe-lab](../../lab/README.md).
"""
OF_ALL = ("directory", "config", "help", "dry_run", "as_json")
UNSAID = re.compile(
    r" <list.*>| range(?=>)|  \[(required|default: \(this folder.*?\))\]"
)  # in HEAD, usage
SHOWN = {"dry_run": "[-n]", "as_json": "[--json]"}  # in the usage alone
OF_THE_LAB = ("train", "evaluate", "bench")


def page() -> str:
    """Return the page."""
    return HEAD + "".join(_sections(typer.main.get_command(cli), None, "tomopipe"))


def _sections(command, parent, name: str) -> Iterator[str]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    context.terminal_width = 10_000
    if not hasattr(command, "commands"):
        usage = " ".join(command.collect_usage_pieces(context)).replace("[OPTIONS]", "").strip()
        names = [parameter.name for parameter in command.params]
        usage = " ".join(filter(None, [usage, *(SHOWN[name] for name in SHOWN if name in names)]))
        yield f"\n## {context.command_path}\n\n`{context.command_path} {usage}`".replace(" `", "`")
        paragraphs = re.split(r"\n{2,}", (command.help or "").strip())
        yield "\n\n" + "\n\n".join(_filled(text) for text in paragraphs) + "\n"
        records = [
            parameter.get_help_record(context)
            for parameter in command.params
            if parameter.name not in OF_ALL
            and (parameter.required or parameter.metavar != "CAMPAIGN SCAN")  # in HEAD
        ]
        options = [
            _filled(f"- `{UNSAID.sub('', name)}`: {UNSAID.sub('', text)}", "  ")
            for name, text in filter(None, records)
        ]
        yield "\n" * bool(options) + "".join(f"{option}\n" for option in options)
    else:
        for inner in command.list_commands(context):
            if name != "lab" or inner not in OF_THE_LAB:
                yield from _sections(command.get_command(context, inner), context, inner)


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
