"""`tomopipe lab evaluate`: how good the COR finders are on scans of known COR."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomopipe.errors import TomopipeError

if TYPE_CHECKING:
    from tomopipe_lab.evaluate.suites import Item

_QUICK = {"mixed": 12, "conditions": 1, "nulls": 9, "outside-grid": 6}
_USUAL = {"mixed": 180, "conditions": 20, "nulls": 300, "outside-grid": 300}


def evaluate(
    campaign: Annotated[
        Path | None,
        typer.Argument(
            help="Campaign with CORs that are known; without one, simulated scans.",
            show_default=False,
            exists=True,
            file_okay=False,
        ),
    ] = None,
    *,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="The known CORs: rot_cen.json or `Filename,COR`.",
            show_default="those set by hand in the campaign table",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Configuration whose block predict_cor is used.",
            show_default="CAMPAIGN/config.yaml, or the defaults",
        ),
    ] = None,
    suite: Annotated[
        str, typer.Option(help="Simulated scans: mixed, conditions, nulls or outside-grid.")
    ] = "mixed",
    n: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Scans; of each condition in `conditions`.",
            show_default="180, 20, 300, 300",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Number of the first scan.")] = 0,
    split: Annotated[str, typer.Option(help="Objects: train, validation or test.")] = "test",
    cols: Annotated[
        int | None, typer.Option(min=64, help="Detector columns.", show_default="192 to 384")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="A method, or `decision`: what predict_cor makes of those configured; repeat for "
            "more.",
            show_default="all",
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="Rows of the table: condition or family.")] = "condition",
    folder: Annotated[
        Path | None,
        typer.Option("--keep", help="Keep the answers in this folder, and continue from them."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes.", show_default="all cores")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few scans: a minute or two.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as JSON.")] = False,
) -> None:
    """Measure the COR finders: accuracy, acceptance, reliability of the confidence.

    Shares have Wilson intervals of 95 %. A scan without an estimate counts as a miss. Tables are
    Markdown. With --keep a stopped evaluation continues where it was; answers.jsonl in that folder
    has one line per scan and method.

    Examples: `tomopipe lab evaluate --quick`,
    `tomopipe lab evaluate --suite conditions --n 40 --keep eval --method decision`,
    `tomopipe lab evaluate mycampaign --truth rot_cen.json`
    """
    from tomopipe_lab.evaluate import run
    from tomopipe_lab.evaluate.summary import by_condition, by_family, summarise, to_plain
    from tomopipe_lab.evaluate.tables import markdown

    kinds = {"condition": by_condition, "family": by_family}
    _one_of("--by", by, kinds)
    items: Sequence[Item]
    if campaign is not None:
        items, options, note = _campaign(campaign, config, truth)
    elif truth is None:
        items, options = _simulated(suite, n, seed, split, cols, quick), _options(config)
        note = f"{suite}, {split}, seed {seed}"
    else:
        raise TomopipeError("--truth: expected a CAMPAIGN too; name its folder.")
    methods = _methods(method, options["methods"])
    with _bar() as tell:
        answers = run.evaluate(
            items,
            methods,
            options,
            folder=folder,
            jobs=jobs or len(os.sched_getaffinity(0)),
            progress=tell,
        )
    summary = summarise(answers, kinds[by])
    if as_json:
        typer.echo(json.dumps(to_plain(summary), indent=1, sort_keys=True))
    else:
        typer.echo(f"{len(items)} scans ({note})\n\n{markdown(summary)}")


def _simulated(
    suite: str, n: int | None, seed: int, split: str, cols: int | None, quick: bool
) -> Sequence[Item]:
    from tomopipe_lab.evaluate.suites import SUITES
    from tomopipe_lab.suite import SPLITS

    _one_of("--suite", suite, SUITES)
    _one_of("--split", split, SPLITS)
    return SUITES[suite](split, seed, n or (_QUICK if quick else _USUAL)[suite], cols)


def _campaign(
    folder: Path, config: Path | None, truth: Path | None
) -> tuple[Sequence[Item], dict[str, Any], str]:
    from tomopipe.campaign.campaign import load_campaign
    from tomopipe_lab.evaluate.suites import labelled

    campaign = load_campaign(folder, config)
    items, missing = labelled(campaign, truth)
    note = str(truth or campaign.table_path)
    if missing:
        note += f"; skipped, not looked at by try_recon: {', '.join(missing)}"
    options = _from(campaign.directory, campaign.config.predict_cor.in_effect().model_dump())
    return items, options, note


def _options(config: Path | None) -> dict[str, Any]:
    """Return the block predict_cor of a configuration; its defaults without one."""
    from tomopipe.config import PredictCorBlock, read_config

    if config is None:
        return PredictCorBlock().model_dump()
    return _from(config.absolute().parent, read_config(config).predict_cor.in_effect().model_dump())


def _from(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the paths of networks as seen from the campaign."""
    paths = {key: options.get(key) for key in ("model", "dinov2_checkpoint")}
    named = {
        key: str(folder / path) for key, path in paths.items() if path not in (None, "shipped")
    }
    return options | named


def _methods(asked: Sequence[str] | None, configured: Sequence[str]) -> list[str]:
    """Return the methods asked for; by default all that need no file, and those configured."""
    from tomopipe.cor_methods import METHODS
    from tomopipe_lab.evaluate.answers import DECISION

    known = (*METHODS, *configured, DECISION)
    for name in asked or []:
        _one_of("--method", name, known)
    return list(dict.fromkeys(asked or known))


def _one_of(option: str, value: str, known: Sequence[str] | dict[str, Any]) -> None:
    if value not in known:
        raise TomopipeError(f"{option}: expected one of {', '.join(known)}; got {value}.")


@contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    """Show how far it is, on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), "{task.description}", MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("evaluate", total=None)
        yield lambda done, total, name: bar.update(
            task, completed=done, total=total, description=f"evaluate {name}"
        )
