"""Learning: torch and NumPy say the same, and a stopped training goes on as if it had not been."""

import numpy as np
import pytest
import torch
from ai_scans import COR_PX, inputs_of, rows_with, shape_of
from tomopipe_lab.train.fit import Schedule, fit, loss_of
from tomopipe_lab.train.nets import Scores, collate, new_net, put_weights, weights_of

from tomopipe.cor.ai.network import Inputs, forward, load_model, predict


@pytest.fixture(scope="module")
def inputs():
    return inputs_of(rows_with())


def target_of(inputs):
    return float((COR_PX - inputs.cor_px[0]) / (inputs.cor_px[1] - inputs.cor_px[0]))


def shorter(inputs: Inputs) -> Inputs:
    """The same with a part of the grid cut off, for a batch of two lengths."""
    n = inputs.grid.shape[1] - 40
    return Inputs(inputs.cor_px[:n], inputs.grid[:, :n], inputs.scan)


def test_numpy_and_torch_say_the_same_of_the_shipped_weights(inputs):
    """To 1e-5, of scans of two lengths in one padded batch, and of input that no scan gives."""
    model = load_model()
    random = np.random.default_rng(0).normal(size=inputs.grid.shape).astype(np.float32)
    scans = [inputs, shorter(inputs), Inputs(inputs.cor_px, random, inputs.scan)]
    net = put_weights(new_net(model.card["shape"], 0), model.weights).eval()
    with torch.inference_mode():
        both = net(collate(scans))
    for i, inputs_of_scan in enumerate(scans):
        n = inputs_of_scan.grid.shape[1]
        score, none, offset, log_spread = forward(
            model.weights, inputs_of_scan.grid, inputs_of_scan.scan
        )
        np.testing.assert_allclose(score, both.grid[i, :n], rtol=0, atol=1e-5)
        np.testing.assert_allclose(none, both.none[i], rtol=0, atol=1e-5)
        np.testing.assert_allclose(offset, both.offset[i, :n], rtol=0, atol=1e-5)
        np.testing.assert_allclose(log_spread, both.log_spread[i, :n], rtol=0, atol=1e-5)
        assert (both.grid[i, n:] < -1000).all()


def scores(inputs, index, *, none=0.0):
    """What a network says that is confident of one place."""
    grid = torch.zeros(1, inputs.grid.shape[1])
    if index is not None:
        grid[0, index] = 12.0
    level = torch.zeros_like(grid)
    return Scores(grid, torch.tensor([none]), level, level)


def test_the_right_place_costs_least(inputs):
    batch, right = collate([inputs]), round(target_of(inputs))
    target = torch.tensor([target_of(inputs)])

    def cost(*said, **more):
        return float(loss_of(scores(inputs, *said, **more), batch, target))

    assert cost(right) < cost(right + 9) - 3
    assert cost(right) < cost(right, none=20.0)


def test_without_an_answer_none_costs_least(inputs):
    batch, target = collate([inputs]), torch.tensor([torch.nan])
    confident = loss_of(scores(inputs, round(target_of(inputs))), batch, target)
    none = loss_of(scores(inputs, None, none=20.0), batch, target)
    assert float(none) < 0.01 < float(confident)


def test_a_network_learns_where_one_axis_is_and_goes_on_where_it_stopped(inputs, tmp_path):
    def batches(rng):
        return [([inputs, inputs], [target_of(inputs)] * 2)] * 5

    def train(epochs, state, seed=3):
        network = new_net(shape_of(inputs), seed)
        return fit(network, batches, Schedule(epochs, seed=1), state, lambda done, of: None)

    whole = predict(weights_of(train(10, tmp_path / "whole.safetensors")), inputs)
    assert inputs.cor_px[whole.index] == pytest.approx(COR_PX, abs=1)
    assert whole.score[whole.index] > 0
    # stopped half way: the state of epoch 5 of a training of 10
    part = tmp_path / "part.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(new_net(shape_of(inputs), 3), batches, Schedule(10, seed=1), part, stop_after(5))
    again = predict(weights_of(train(10, part, seed=9)), inputs)
    np.testing.assert_allclose(again.score, whole.score, atol=1e-4)


def stop_after(epochs):
    def progress(done, of):
        if done > epochs:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_few_passes_leave_a_network_that_is_not_empty(inputs, epochs, tmp_path):
    network = new_net(shape_of(inputs), 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit(
        network,
        lambda rng: [([inputs], [target_of(inputs)])],
        Schedule(epochs, rate=1e-5),
        tmp_path / "state.safetensors",
        lambda done, of: None,
    )
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-3, rtol=0)
