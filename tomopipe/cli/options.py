"""Options common to all commands: the campaign, `--config`, `--dry-run`.

To add an option to a command: an argument of its function (`run` in run.py; the function of each
command is in `_GROUPS` of __init__.py), `Annotated` with typer.Option and its help; `make docs`
writes it into docs/reference/cli.md. Options of several commands are defined below.
"""

import itertools
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from tomopipe.campaign.files import CONFIG, find_campaign
from tomopipe.errors import TomopipeError

_CAMPAIGN = ("-C", "--campaign")
_REST = "tomopipe.rest"


class _Plain:
    """Shows flags without a type in the help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; flags without `<bool>`."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class Group(_Plain, TyperGroup):
    """Several commands."""


class Command(_Plain, TyperCommand):
    """A command whose help begins with the examples, which end its docstring."""

    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:
        paragraphs = (help or "").split("\n\n")
        options["short_help"] = paragraphs[0]
        in_order = sorted(paragraphs, key=lambda text: not text.startswith("Example"))
        super().__init__(*args, help="\n\n".join(in_order), **options)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments; errors show the value, and the decimal point that a number needs."""
        for parameter in self.params:
            values = _values_at_end(parameter.opts[0], args) if parameter.nargs == 2 else None
            if values is not None:
                text = f"got {' '.join(values) or 'nothing'}; expected {parameter.metavar}"
                raise typer.BadParameter(f"{text}{_point(values)}", param_hint=parameter.opts)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            cause: Any = error.__cause__
            if hasattr(cause, "errors"):  # of pydantic
                fault = cause.errors()[0]
                text = fault["msg"].removeprefix("Value error, ").rstrip(".")
                error.message = f"got {fault['input']}. {text}{_point([str(fault['input'])])}"
            raise


def _values_at_end(option: str, args: Sequence[str]) -> Sequence[str] | None:
    """Return the values of an option that needs two, if the arguments end before the second."""
    return next((args[i + 1 :] for i in range(len(args))[-2:] if args[i] == option), None)


def _point(values: Sequence[str]) -> str:
    """Suggest a decimal point for numbers with a decimal comma."""
    points = [v.replace(",", ".") for v in values if re.fullmatch(r"[-+]?\d+,\d+", v)]
    return f"; write a decimal point: {' '.join(points)}" if points else ""


class CampaignCommand(Command):
    """A command on a campaign, which `-C CAMPAIGN` names, as in git.

    If it takes no other names, the campaign may also be its argument. Arguments after `--` are
    names, or are passed to another program.
    """

    keeps_rest = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Convert all ways to name the campaign to one."""
        start = args.index("--") if "--" in args else len(args)
        ctx.meta[_REST] = args[start + 1 :]
        end = start if self.keeps_rest else len(args)
        bare = any(
            parameter.name == "directory" and not parameter.opts[0].startswith("-")
            for parameter in self.params
        )
        return super().parse_args(ctx, list(_one_way(args[:end], bare=bare)))


class CommandWithRest(CampaignCommand):
    """A command that passes what follows `--` to Snakemake."""

    keeps_rest = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments; an unknown option gets a hint that Snakemake's options follow `--`."""
        ours = {*_CAMPAIGN, *ctx.help_option_names}
        ours |= {name for parameter in self.params for name in parameter.opts}
        for arg in itertools.takewhile(lambda arg: arg != "--", args):
            name = arg.partition("=")[0] if arg.startswith("--") else arg[:2]
            if name.startswith("-") and name not in ours:
                raise typer.BadParameter(
                    f"{arg} is not an option of {ctx.command_path}. Snakemake's options follow --, "
                    f"such as: {ctx.command_path} -- --cores 8; a scan of this name: by its file"
                )
        return super().parse_args(ctx, args)


def campaign_after(args: Sequence[str]) -> list[str]:
    """Move a `-C CAMPAIGN` that stands before the command, as in git, behind its arguments."""
    first: list[str] = []
    rest = list(args)
    while rest and rest[0].partition("=")[0] in _CAMPAIGN:
        n_parts = 1 if "=" in rest[0] else 2
        first, rest = [*first, *rest[:n_parts]], rest[n_parts:]
    if all(arg.startswith("-") for arg in rest):
        return rest  # no command, such as --help
    end = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:end], *first, *rest[end:]]


def rest_of(context: typer.Context) -> Sequence[str]:
    """Return what followed `--`."""
    result: Sequence[str] = context.meta.get(_REST, ())
    return result


def _one_way(args: Sequence[str], *, bare: bool) -> list[str]:
    """Convert every spelling of `-C CAMPAIGN` to the option, or to the argument."""
    if args and args[-1] in _CAMPAIGN:
        raise typer.BadParameter(f"{args[-1]} requires the campaign folder")
    results, rest = list[str](), iter(args)
    for arg in rest:
        name, equals, value = arg.partition("=")
        if name not in _CAMPAIGN:
            results.append(arg)
            continue
        value = value if equals else next(rest)
        # an argument, it must not look like an option
        is_option = bare and value.startswith("-")
        results += [] if bare else [_CAMPAIGN[0]]
        results.append(f"./{value}" if is_option else value)
    return results


def campaign_and_scans(
    context: typer.Context, words: Sequence[str], directory: Path, config: Path | None
) -> tuple[Path, list[str]]:
    """Separate the campaign folder, which may come first unless -C names it, from scans."""
    for word in words:
        if word.endswith((".yaml", ".yml")):
            _campaign_of(Path(word))  # a configuration is no scan
    source = context.get_parameter_source("directory")
    if not words or (source is not None and source.name == "COMMANDLINE"):
        return directory, list(words)
    folder = Path(words[0])
    is_campaign, is_here = ((place / CONFIG).is_file() for place in (folder, directory))
    if is_campaign and is_here and _is_scan(words[0], directory, config):
        command, shown = context.command_path, shlex.quote(words[0])
        raise TomopipeError(
            f"{words[0]} is a scan of {directory}, and the folder of another campaign. For the "
            f"scan type: {command} -C . {shown}; for the campaign: {command} -C {shown}"
        )
    if not (is_here or config or folder.is_dir()):
        raise TomopipeError(
            f"{folder.absolute()}: no such folder. If it is a scan, name its campaign first: "
            f"{context.command_path} CAMPAIGN {shlex.join([folder.name, *words[1:]])}"
        )
    if is_campaign or not (is_here or (config and not folder.is_dir())):
        return find_campaign(folder), list(words[1:])
    return directory, list(words)


def _is_scan(word: str, directory: Path, config: Path | None) -> bool:
    from tomopipe.campaign.campaign import load_campaign  # slow to load

    with suppress(TomopipeError):  # a damaged campaign here is no reason to refuse another one
        return word in load_campaign(directory, config, needs_raw=False).scans
    return False


def _campaign_of(path: Path) -> Path:
    if path.is_file():
        raise TomopipeError(
            f"{path} is a file: name the campaign folder, such as {path.absolute().parent}; -c "
            "names another configuration file."
        )
    return find_campaign(path)


_ABOUT = "The campaign folder, or one in it"
Directory = Annotated[
    Path,
    typer.Argument(
        help=f"{_ABOUT}; -C CAMPAIGN is equivalent.",
        show_default="this folder",
        metavar="CAMPAIGN",
        callback=_campaign_of,
    ),
]
VolumesOf = Annotated[
    list[str] | None,
    typer.Argument(
        help="Campaign folder, scans (names or 'patterns') to limit it to their volumes.",
        metavar="CAMPAIGN SCAN",
        show_default="this folder, all scans",
    ),
]
CampaignOption = Annotated[
    Path,
    typer.Option(
        _CAMPAIGN[1],
        _CAMPAIGN[0],
        help=f"{_ABOUT}.",
        show_default="this folder",
        metavar="CAMPAIGN",
        callback=_campaign_of,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file.", show_default="CAMPAIGN/config.yaml"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would be done.")]
