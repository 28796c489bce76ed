"""Stage train: fit a network, calibrate its confidence, and write it with its card."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from tomopipe.cor.ai.finder import calibrated_confidence
from tomopipe.cor.ai.model_card import card_path
from tomopipe.cor.ai.network import NET, RECIPE, Weights, load_model, predict, recipe_hash
from tomopipe.errors import TomopipeError
from tomopipe.storage.atomic import whole, write_json
from tomopipe_lab.scores import auroc
from tomopipe_lab.train.calibrate import RIGHT_PX, calibrate
from tomopipe_lab.train.data import Example, batches, load
from tomopipe_lab.train.refined import Choice, choices
from tomopipe_lab.train.work import Plan, Progress

_STEP = 24  # scans learned from at once
_LEAST = 6  # scans a split must have
_CALIBRATES = 100  # scans of the validation split that can calibrate anew when training goes on


@dataclass(frozen=True)
class Options:
    """How the stage runs.

    Attributes
    ----------
    device : str
        Of torch.
    cores : int
        Processes and threads.
    start : str
        "" to begin with random weights; else "shipped" or weights to go on from.
    """

    device: str = "cpu"
    cores: int = 1
    start: str = ""


def train(work: Path, plan: Plan, options: Options, progress: Progress) -> dict[str, Any]:
    """Train the network from the features of a work folder.

    Parameters
    ----------
    work : path
        The work folder.
    plan : Plan
        Sizes and seed.
    options : Options
        Where, and from which weights.
    progress : callable
        Told the stage, and how far it is.

    Returns
    -------
    dict
        The card, also written to nets/ in the work folder beside the weights.

    Raises
    ------
    TomopipeError
        If there are too few scans, or torch is missing.
    """
    need_torch()
    from tomopipe_lab.train.fit import Schedule, fit
    from tomopipe_lab.train.nets import SHAPE, new_net, put_weights, weights_of

    examples, checks = load(work, "train"), load(work, "validation")
    for split, scans in (("train", examples), ("validation", checks)):
        if len(scans) < _LEAST:
            raise TomopipeError(f"{work}: {len(scans)} scans in {split}, at least {_LEAST} needed.")
    before = load_model(options.start) if options.start else None
    sizes = len(examples[0].inputs.grid), len(examples[0].inputs.scan), plan.width
    shape = before.card["shape"] if before else dict(zip(SHAPE, sizes, strict=True))
    net = new_net(shape, plan.seed)
    if before:
        put_weights(net, before.weights)
    schedule = Schedule(
        plan.epochs,
        rate=5e-4 if before else 2e-3,
        seed=plan.seed,
        device=options.device,
        threads=options.cores,
        data=f"{len(examples)} scans, begun with {options.start or 'random weights'}",
    )
    state = work / "nets" / f"{NET}.state.safetensors"
    fit(
        net,
        lambda rng: batches(examples, _STEP, rng),
        schedule,
        state,
        lambda done, of: progress("train", done, of),
    )
    weights, wide = weights_of(net), load(work, "wide")
    chosen, chosen_wide = (
        choices(
            work,
            split,
            scans,
            [predict(weights, example.inputs) for example in scans],
            options.cores,
            progress,
        )
        for split, scans in (("validation", checks), ("wide", wide))
    )
    if before is not None and len(checks) < _CALIBRATES:
        calibration = before.card["confidence"]
    else:
        every = chosen + chosen_wide
        calibration = calibrate(
            np.array([choice.confidence_features for choice in every]),
            np.array([choice.error_px <= RIGHT_PX for choice in every]),
        )
    card = {
        "name": f"{NET} {plan.seed}",
        "shape": shape,
        "confidence": calibration,
        "data": data_of(work, plan, examples, checks)
        | {"wide": len(wide), "start": options.start or "random"},
        "validation": metrics(checks, chosen, calibration),
        "limits": LIMITS,
    }
    if wide:
        card["wide"] = metrics(wide, chosen_wide, calibration)
    return save_model(weights, card, work / "nets" / f"{NET}.safetensors")


def save_model(weights: Weights, card: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write weights (.safetensors) and, named alike, their card; return the card as written.

    It has `shape` and `confidence`; kind, recipe and hash of the weights are added.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_bytes(save(weights))
    card = card | {
        "net": NET,
        "recipe": recipe_hash(RECIPE),
        "recipe_version": RECIPE.version,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    write_json(card, card_path(path))
    return card


LIMITS = (
    "Trained on simulated parallel-beam scans of 192 to 384 columns; wider detectors are binned to "
    "some 320 before the network looks, and only the confidence knows such scans. Blind where no "
    "kind of evidence peaks near the axis. The confidence is calibrated on simulated damage: on a "
    "new instrument compare it with CORs that people accepted, and train on from them."
)


def need_torch() -> None:
    """Raise TomopipeError, which says what to install, where torch is missing."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise TomopipeError(
            f"train: the last stage needs torch, which cannot be imported ({error}). Install it: "
            "pip install 'tomopipe[torch]', or ask for --stage simulate --stage features alone."
        ) from error


def data_of(
    work: Path, plan: Plan, examples: list[Example], checks: list[Example]
) -> dict[str, Any]:
    """Describe what a network was trained on."""
    return {
        "seed": plan.seed,
        "train": len(examples),
        "validation": len(checks),
        "without_answer": sum(example.truth.cor_px is None for example in examples),
        "families": {
            split: sorted({example.truth.family for example in scans if example.truth.family})
            for split, scans in (("train", examples), ("validation", checks))
        },
        "epochs": plan.epochs,
    }


def metrics(
    examples: list[Example], chosen: list[Choice], calibration: dict[str, Any]
) -> dict[str, Any]:
    """Say how well a network does on a split, at the limit of 0.5."""
    answer = np.array([example.truth.cor_px is not None for example in examples])
    error_px = np.array([choice.error_px for choice in chosen])
    confidence = np.array(
        [calibrated_confidence(calibration, choice.confidence_features) for choice in chosen]
    )
    accepted = confidence >= 0.5
    right = error_px <= RIGHT_PX
    ranked = auroc(confidence, right)
    return {
        "n": int(answer.sum()),
        "n_without_answer": int((~answer).sum()),
        "within_1px": _share(right[answer]),
        "within_half_px": _share(error_px[answer] <= 0.5),
        "median_px": float(np.median(error_px[answer])) if answer.any() else None,
        "auroc": None if math.isnan(ranked) else round(ranked, 4),
        "accepted": _share(accepted[answer]),
        "accepted_wrong": int((accepted & answer & ~right).sum()),
        "accepted_without_answer": int((accepted & ~answer).sum()),
        "right_rejected": _share(~accepted[right]),
    }


def _share(which: np.ndarray) -> float | None:
    return round(float(np.mean(which)), 4) if which.size else None


def everything(
    work: Path, plan: Plan, options: Options, progress: Progress, stages: tuple[str, ...]
) -> dict[str, Any] | None:
    """Run the stages asked for, in order.

    Parameters
    ----------
    work : path
        The work folder, begun with `tomopipe_lab.train.work.start`.
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
    from tomopipe_lab.train import stages as made

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
