"""`tomopipe lab train`: train the learned finder from simulated scans."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomopipe.errors import TomopipeError

if TYPE_CHECKING:
    from tomopipe_lab.train.work import Plan, Progress


class Stage(StrEnum):
    """Stages, in order."""

    simulate = "simulate"
    features = "features"
    train = "train"


def train(
    work: Annotated[
        Path | None, typer.Argument(help="Folder of the training; one begun there is continued.")
    ] = None,
    *,
    stage: Annotated[
        list[Stage] | None,
        typer.Option(help="Only this stage; may be repeated."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small training, of minutes.")] = False,
    start: Annotated[
        str, typer.Option(help="Weights to begin with: shipped, or a path; default: random.")
    ] = "",
    scans: Annotated[int | None, typer.Option(min=16, help="Simulated scans to train on.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the scans.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of scans, order and weights.")] = 1,
    cores: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="all")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda for the last stage.")] = "cpu",
    card: Annotated[
        str | None,
        typer.Option(help="Show the model card of a network (shipped, or a path) and exit."),
    ] = None,
) -> None:
    """Train the network of method `ai`, in stages that continue where they stopped.

    `simulate` draws scans of known COR, `features` makes the network's input,
    `train` fits the network and calibrates its confidence. The result is WORK/nets/A.safetensors
    with its card: set `predict_cor.model` to it.

    Examples: `tomopipe lab train work`, `tomopipe lab train work --quick`,
    `tomopipe lab train work --start shipped`, `tomopipe lab train --card shipped`
    """
    if card is not None:
        show_card(card)
        return
    if work is None:
        raise TomopipeError("no folder given: `tomopipe lab train WORK`.")
    from tomopipe_lab.train import run
    from tomopipe_lab.train.work import start as begin

    plan = _plan(quick, seed, scans, epochs)
    wanted = [stage_name.value for stage_name in stage or Stage]
    if Stage.train in wanted:
        run.need_torch()  # before the hours that the other stages take
    begin(work, plan)
    options = run.Options(device, cores or len(os.sched_getaffinity(0)), start)
    with _progress() as tell:
        done = run.everything(work, plan, options, tell, tuple(wanted))
    if done is not None:
        _print_card(work / "nets" / "A.safetensors", done)


def _plan(quick: bool, seed: int, scans: int | None, epochs: int | None) -> "Plan":
    """Return what to train on, for how long: the usual or the quick plan, with what was asked."""
    from tomopipe_lab.train.work import QUICK, Plan

    plan = QUICK if quick else Plan()
    return replace(
        plan,
        seed=seed,
        n_train=plan.n_train if scans is None else scans,
        epochs=epochs or plan.epochs,
    )


def show_card(name: str) -> None:
    """Print the model card of a network, its calibration aside."""
    from tomopipe.cor.ai.model_card import read_card, weights_path

    shown = read_card(weights_path(name))
    shown.pop("confidence")
    typer.echo(json.dumps(shown, indent=2, sort_keys=True))


def _print_card(path: Path, card: dict[str, Any]) -> None:
    typer.echo(f"wrote {path}")
    for key, value in card["validation"].items():
        typer.echo(f"  {key}: {value}")


@contextmanager
def _progress() -> "Iterator[Progress]":
    """Show each stage as a bar."""
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    tasks: dict[str, TaskID] = {}
    with Bars(console=Console(stderr=True)) as bars:

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield tell
