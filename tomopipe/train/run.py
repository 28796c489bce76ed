"""Stage train: fit a network, calibrate its confidence, and write it with its card."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.errors import TomopipeError
from tomopipe.find.ai.confidence import confidence
from tomopipe.find.ai.fit import Schedule, fit
from tomopipe.find.ai.inputs import Inputs
from tomopipe.find.ai.judgement import Judgement
from tomopipe.find.ai.model import (
    Model,
    copy_of,
    judge,
    load_model,
    new_net,
    save_model,
    take_along,
)
from tomopipe.find.ai.nets import Net
from tomopipe.find.ai.pictures import SEAM_PLANES, WINDOW_PLANES
from tomopipe.train.calibrate import RIGHT_PX, calibrate
from tomopipe.train.data import Example, batches, load
from tomopipe.train.refined import Choice, choices
from tomopipe.train.work import Plan, Progress

_STEP, _BATCH = 24, 64  # scans learned from, and asked about, at once
_LEAST = 6  # scans a split must have
_CALIBRATES = 100  # scans of the validation split that can calibrate anew when training goes on


@dataclass(frozen=True)
class Options:
    """How the stage runs.

    Attributes
    ----------
    net : str
        One of `tomopipe.find.ai.nets.KINDS_OF_NET`.
    device : str
        Of torch.
    cores : int
        Processes and threads.
    start : str
        "" to begin with random weights; else "shipped" or weights to go on from.
    """

    net: str
    device: str = "cpu"
    cores: int = 1
    start: str = ""


def train(work: Path, plan: Plan, options: Options, progress: Progress) -> dict[str, Any]:
    """Train one network from the features of a work folder.

    Parameters
    ----------
    work : path
        The work folder.
    plan : Plan
        Sizes and seed.
    options : Options
        Which network, and where.
    progress : callable
        Told the stage, and how far it is.

    Returns
    -------
    dict
        The card, also written to nets/ in the work folder beside the weights.

    Raises
    ------
    TomopipeError
        If there are too few scans.
    """
    pictures = "".join(letter for letter in "BC" if letter in options.net)
    examples, checks = load(work, "train", pictures), load(work, "validation", pictures)
    for split, some in (("train", examples), ("validation", checks)):
        if len(some) < _LEAST:
            raise TomopipeError(f"{work}: {len(some)} scans in {split}, at least {_LEAST} needed.")
    before = load_model(options.start) if options.start else None
    net, shape = _begin(work, plan, options.net, before, examples[0].inputs)
    schedule = Schedule(
        plan.epochs,
        rate=5e-4 if before else 2e-3,
        seed=plan.seed,
        device=options.device,
        threads=options.cores,
        data=f"{len(examples)} scans, begun with {options.start or 'random weights'}",
    )
    state = work / "nets" / f"{options.net}.state.safetensors"
    fit(
        net,
        lambda rng: batches(examples, _STEP, rng),
        schedule,
        state,
        lambda done, of: progress("train", done, of),
    )
    wide = load(work, "wide", pictures)
    chosen, chosen_wide = (
        choices(work, split, some, judge_all(net, some), options.cores, progress)
        for split, some in (("validation", checks), ("wide", wide))
    )
    if before is not None and len(checks) < _CALIBRATES:
        calibration = before.card["confidence"]
    else:
        every = chosen + chosen_wide
        calibration = calibrate(
            np.array([choice.doubts for choice in every]),
            np.array([choice.error_px <= RIGHT_PX for choice in every]),
        )
    card = {
        "name": f"{options.net} {plan.seed}",
        "net": options.net,
        "shape": shape,
        "confidence": calibration,
        "data": data_of(work, plan, examples, checks)
        | {"wide": len(wide), "start": options.start or "random"},
        "validation": metrics(checks, chosen, calibration),
        "limits": LIMITS,
    }
    if wide:
        card["wide"] = metrics(wide, chosen_wide, calibration)
    return save_model(net, card, work / "nets" / f"{options.net}.safetensors")


LIMITS = (
    "Trained on simulated parallel-beam scans of 192 to 384 columns; wider detectors are binned to "
    "some 320 before the network looks, and only the confidence knows such scans. Blind where no "
    "kind of evidence peaks near the axis. The confidence is calibrated on simulated damage: on a "
    "new instrument compare it with CORs that people accepted, and train on from them."
)


def _begin(
    work: Path, plan: Plan, name: str, before: Model | None, inputs: Inputs
) -> tuple[Net, dict[str, int]]:
    """Return a network to train: on from another one, on top of A, or new."""
    if before is not None:
        if before.card["net"] != name:
            raise TomopipeError(
                f"the network to begin with is {before.card['net']}; {name} was asked for. "
                "Leave --net out."
            )
        return copy_of(before), before.card["shape"]
    shape = {
        "n_channels": inputs.grid.shape[0],
        "n_scalars": inputs.scan.shape[0],
        "n_features": inputs.rival.shape[1],
        "seam_planes": SEAM_PLANES,
        "windows_planes": WINDOW_PLANES,
        "width": plan.width,
    }
    net = new_net(name, shape, plan.seed)
    below = work / "nets" / "A.safetensors"
    if "+" in name and below.is_file():
        take_along(net, load_model(below))
    return net, shape


def judge_all(net: Net, examples: list[Example]) -> list[Judgement]:
    """Ask a network about many scans, those of like length together."""
    order = np.argsort([example.inputs.grid.shape[1] for example in examples], kind="stable")
    said: dict[int, Judgement] = {}
    for first in range(0, len(order), _BATCH):
        some = order[first : first + _BATCH]
        answers = judge(net, [examples[i].inputs for i in some])
        said |= dict(zip(some.tolist(), answers, strict=True))
    return [said[i] for i in range(len(examples))]


def data_of(
    work: Path, plan: Plan, examples: list[Example], checks: list[Example]
) -> dict[str, Any]:
    """Describe what a network was trained on."""
    return {
        "seed": plan.seed,
        "train": len(examples),
        "validation": len(checks),
        "without_answer": sum(one.truth.cor_px is None for one in examples),
        "families": {
            split: sorted({one.truth.family for one in some if one.truth.family})
            for split, some in (("train", examples), ("validation", checks))
        },
        "epochs": plan.epochs,
    }


def metrics(
    examples: list[Example], chosen: list[Choice], calibration: dict[str, Any]
) -> dict[str, Any]:
    """Say how well a network does on a split, at the limit of 0.5."""
    answer = np.array([example.truth.cor_px is not None for example in examples])
    error_px = np.array([choice.error_px for choice in chosen])
    sure = np.array([confidence(calibration, choice.doubts) for choice in chosen])
    accepted = sure >= 0.5
    right = error_px <= RIGHT_PX
    return {
        "n": int(answer.sum()),
        "n_without_answer": int((~answer).sum()),
        "within_1px": _share(right[answer]),
        "within_half_px": _share(error_px[answer] <= 0.5),
        "median_px": float(np.median(error_px[answer])) if answer.any() else None,
        "auroc": auroc(sure, right),
        "accepted": _share(accepted[answer]),
        "accepted_wrong": int((accepted & answer & ~right).sum()),
        "accepted_without_answer": int((accepted & ~answer).sum()),
        "right_rejected": _share(~accepted[right]),
    }


def _share(which: np.ndarray) -> float | None:
    return round(float(np.mean(which)), 4) if which.size else None


def auroc(score: np.ndarray, right: np.ndarray) -> float | None:
    """Probability that a right one has a higher score than a wrong one; None without either."""
    if right.all() or not right.any():
        return None
    high, low = score[right][:, None], score[~right][None]
    return round(float(np.mean((high > low) + 0.5 * (high == low))), 4)


def everything(
    work: Path, plan: Plan, options: Options, progress: Progress, stages: tuple[str, ...]
) -> dict[str, Any] | None:
    """Run the stages asked for, in order.

    Parameters
    ----------
    work : path
        The work folder, begun with `tomopipe.train.work.start`.
    plan : Plan
        Sizes and seed.
    options : Options
        Of the stage train.
    progress : callable
        Told the stage, and how far it is.
    stages : tuple of str
        Some of "simulate", "features", "train".

    Returns
    -------
    dict or None
        The card, if the network was trained.
    """
    from tomopipe.train import stages as made

    steps: dict[str, Callable[[], Any]] = {
        "simulate": lambda: made.simulate(work, plan, options.cores, progress),
        "features": lambda: made.features(work, options.cores, progress),
        "train": lambda: train(work, plan, options, progress),
    }
    card = None
    for stage, step in steps.items():
        if stage in stages:
            card = step()
    return card if "train" in stages else None
