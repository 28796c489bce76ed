"""The losses, and the loop that fits a network; it goes on where it stopped."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from tomopipe.cor.ai.network import Inputs
from tomopipe.storage.atomic import whole, write_json
from tomopipe_lab.train.nets import Batch, Scores, collate

Batches = Callable[[np.random.Generator], Iterable[tuple[list[Inputs], list[float]]]]
"""Makes the batches of one pass: scans and their CORs in samples of the grid, NaN for none."""

_SIGMA = 1.2  # samples; how soft the target is along the grid
_RIGHT = 4.0  # samples within which an offset from the COR is learnt: what refinement bridges
_EVERY = 5  # epochs between two states on disk


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Attributes
    ----------
    epochs : int
        Passes over the scans.
    rate : float
        Highest learning rate, in the middle of a rise and a long fall.
    decay : float
        Weight decay.
    seed : int
        Of order and augmentation.
    device : str
        Of torch.
    threads : int
        Of torch on the CPU.
    data : str
        What is learned from and begun with; a state of other data is not gone on from.
    """

    epochs: int
    rate: float = 2e-3
    decay: float = 0.02
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    data: str = ""

    @property
    def run(self) -> str:
        """What a state belongs to."""
        return f"{self.epochs} {self.rate} {self.decay} {self.seed} {self.data}"


def loss_of(scores: Scores, batch: Batch, target: Tensor) -> Tensor:
    """Loss of a batch.

    Parameters
    ----------
    scores : Scores
        What the network says.
    batch : Batch
        Of what.
    target : Tensor, shape (n_scans,)
        COR in samples of the grid, NaN for scans that have none.

    Returns
    -------
    Tensor
        A scalar: cross-entropy of the positions and of "none"; and the likelihood of offset and
        spread.
    """
    answer = torch.isfinite(target)
    position = torch.where(answer, target, 0.0)
    main = _grid_loss(scores, batch, position, answer)
    return main + 0.2 * _offset_loss(scores, batch, position, answer)


def _grid_loss(scores: Scores, batch: Batch, position: Tensor, answer: Tensor) -> Tensor:
    away = torch.arange(scores.grid.shape[1], device=position.device) - position[:, None]
    soft = torch.exp(-0.5 * (away / _SIGMA) ** 2) * batch.mask * answer[:, None]
    soft = soft / soft.sum(dim=1, keepdim=True).clamp(min=1e-9)
    none = (~answer).to(soft.dtype)
    logits = functional.log_softmax(torch.cat([scores.grid, scores.none[:, None]], dim=1), dim=1)
    wanted = torch.cat([soft, none[:, None]], dim=1)
    return -(wanted * logits).sum(dim=1).mean()


def _offset_loss(scores: Scores, batch: Batch, position: Tensor, answer: Tensor) -> Tensor:
    """Laplace likelihood of the COR, at the positions next to it."""
    index = torch.arange(scores.grid.shape[1], device=position.device)
    way = position[:, None] - index
    near = (way.abs() <= _RIGHT) & batch.mask & answer[:, None]
    off = (way - scores.offset).abs()
    each = off * torch.exp(-scores.log_spread) + scores.log_spread
    return (each * near).sum() / near.sum().clamp(min=1)


def fit(
    net: torch.nn.Module,
    batches: Batches,
    schedule: Schedule,
    state: Path,
    progress: Callable[[int, int], None],
) -> torch.nn.Module:
    """Fit a network.

    Parameters
    ----------
    net : Module
        To be trained, in place.
    batches : callable
        Makes the batches of one pass.
    schedule : Schedule
        How.
    state : path
        Where the state is kept every few epochs; a state that is there is gone on from.
    progress : callable
        Told epochs done and epochs in all.

    Returns
    -------
    Module
        `net` on the CPU, in evaluation mode, its weights averaged over the last fifth of the
        epochs.
    """
    torch.set_num_threads(schedule.threads)
    net.to(schedule.device).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
    average = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    first, n_averaged = _resume(net, optimiser, average, state, schedule.run)
    for epoch in range(first, schedule.epochs):
        rng = np.random.default_rng((schedule.seed, epoch))
        torch.manual_seed(int(rng.integers(2**31)))
        drawn = list(batches(rng))
        for i, (inputs, targets) in enumerate(drawn):
            pace = _pace((epoch + i / len(drawn)) / schedule.epochs)
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate * pace
            batch = collate(inputs, schedule.device)
            target = torch.tensor(targets, dtype=torch.float32, device=schedule.device)
            loss = loss_of(net(batch), batch, target)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
        if epoch + 1 > 0.8 * schedule.epochs:
            n_averaged += 1
            for name, value in net.state_dict().items():
                average[name] += (value - average[name]) / n_averaged
        progress(epoch + 1, schedule.epochs)
        if (epoch + 1) % _EVERY == 0 or epoch + 1 == schedule.epochs:
            done: dict[str, int | str] = {
                "epoch": epoch + 1,
                "averaged": n_averaged,
                "run": schedule.run,
            }
            _keep(net, optimiser, average, state, done)
    net.load_state_dict(average)
    return net.to("cpu").eval()


def _pace(done: float) -> float:
    """Share of the highest learning rate: up in a tenth of the time, then down like a cosine."""
    if done < 0.1:
        return done / 0.1 + 1e-3
    return float(0.5 + 0.5 * np.cos(np.pi * (done - 0.1) / 0.9)) + 1e-3


def _keep(
    net: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    average: dict[str, Tensor],
    state: Path,
    done: dict[str, int | str],
) -> None:
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for i, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{name}": value for name, value in moments.items()}
    with whole(state) as path:
        save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    write_json(done, state.with_suffix(".json"))


def _resume(
    net: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    average: dict[str, Tensor],
    state: Path,
    run: str,
) -> tuple[int, int]:
    """Load a state of this run that is there; return the epochs done and averaged."""
    if not state.with_suffix(".json").is_file():
        return 0, 0
    stored = json.loads(state.with_suffix(".json").read_text("utf-8"))
    if stored["run"] != run:
        return 0, 0
    tensors = load_file(state)
    net.load_state_dict(
        {name.removeprefix("net."): v for name, v in tensors.items() if name.startswith("net.")}
    )
    for name, value in average.items():
        value.copy_(tensors[f"average.{name}"])
    kept = optimiser.state_dict()
    kept["state"] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, i, moment = name.split(".")
            kept["state"].setdefault(int(i), {})[moment] = value
    optimiser.load_state_dict(kept)
    return int(stored["epoch"]), int(stored["averaged"])
