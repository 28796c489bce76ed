"""Networks and their files: checked at loading, blind to padding, even-handed in a mirror."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ai_scans import inputs_of, rows_with, shape_of, write_model

from tomopipe.errors import TomopipeError
from tomopipe.find.ai.batch import collate
from tomopipe.find.ai.card import card_path, model_record, read_card
from tomopipe.find.ai.inputs import Inputs, mirrored
from tomopipe.find.ai.model import copy_of, judge, load_model, new_net, take_along
from tomopipe.find.ai.nets import KINDS_OF_NET, build
from tomopipe.find.ai.recipe import RECIPE

N_KINDS = len(RECIPE.kinds)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return inputs_of(rows_with())


def shorter(inputs: Inputs) -> Inputs:
    """The same with a part of the grid cut off, for a batch of two lengths."""
    n = inputs.grid.shape[1] - 40
    index = np.where(inputs.rival_index < n, inputs.rival_index, -1)
    return replace(inputs, cor_px=inputs.cor_px[:n], grid=inputs.grid[:, :n], rival_index=index)


@pytest.mark.parametrize("net", KINDS_OF_NET)
def test_what_is_said_of_a_scan_does_not_depend_on_its_batch(inputs, net):
    network = new_net(net, shape_of(inputs), 0).eval()
    short = shorter(inputs)
    with torch.inference_mode():
        alone, both = network(collate([short])), network(collate([inputs, short]))
    n = short.grid.shape[1]
    torch.testing.assert_close(both.grid[1:, :n], alone.grid, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both.none[1:], alone.none, atol=1e-4, rtol=1e-4)
    assert (both.grid[1, n:] < -1000).all()


@pytest.mark.parametrize("net", KINDS_OF_NET)
def test_a_mirrored_scan_is_judged_alike(inputs, net):
    network = new_net(net, shape_of(inputs), 1)
    here, there = judge(network, [inputs]), judge(network, [mirrored(inputs, N_KINDS)])
    np.testing.assert_allclose(here[0].score, there[0].score[::-1], atol=1e-4)
    assert here[0].offset_px == pytest.approx(-there[0].offset_px, abs=1e-4)
    assert here[0].share.sum() + here[0].none == pytest.approx(1)


@pytest.mark.parametrize("net", ["logistic", "A+B", "A+C", "A+B+C"])
def test_networks_that_know_rivals_only_choose_a_rival(inputs, net):
    said = judge(new_net(net, shape_of(inputs), 2), [inputs])[0]
    assert said.index in inputs.rival_index


@pytest.mark.parametrize("net", KINDS_OF_NET)
def test_a_network_read_back_says_the_same(inputs, net, tmp_path):
    path = tmp_path / "net.safetensors"
    card = write_model(path, inputs, net)
    model = load_model(path)
    expected = judge(new_net(net, shape_of(inputs), 0), [inputs])[0]
    np.testing.assert_array_equal(model.judge(inputs).score, expected.score)
    assert model.pictures == "".join(letter for letter in "BC" if letter in net)
    assert model_record(path) == {"name": "test", "sha256": card["sha256"]}
    np.testing.assert_array_equal(judge(copy_of(model), [inputs])[0].score, expected.score)


def test_weights_that_are_not_those_of_the_card_are_refused(inputs, tmp_path):
    path, other = tmp_path / "net.safetensors", tmp_path / "other.safetensors"
    write_model(path, inputs, "A")
    write_model(other, inputs, "A+B")
    path.write_bytes(other.read_bytes())
    with pytest.raises(TomopipeError, match="do not belong together"):
        load_model(path)


def test_weights_of_another_shape_are_refused(inputs, tmp_path):
    path = tmp_path / "net.safetensors"
    card = write_model(path, inputs)
    card["shape"]["width"] = 4
    card_path(path).write_text(json.dumps(card))
    with pytest.raises(TomopipeError, match=r"net\.safetensors: expected the weights of its card"):
        load_model(path)


def test_weights_for_another_recipe_are_refused(inputs, tmp_path):
    path = tmp_path / "net.safetensors"
    card = write_model(path, inputs)
    card_path(path).write_text(json.dumps(card | {"recipe": "0" * 64, "recipe_version": 7}))
    with pytest.raises(TomopipeError, match="recipe version 7"):
        load_model(path)


@pytest.mark.parametrize("missing", ["weights", "card"])
def test_a_missing_file_is_named_with_what_to_do(inputs, tmp_path, missing):
    path = tmp_path / "net.safetensors"
    write_model(path, inputs)
    gone = path if missing == "weights" else card_path(path)
    gone.unlink()
    with pytest.raises(TomopipeError, match=rf"{gone.name}: no such file.*predict_cor\.methods"):
        load_model(path)


@pytest.mark.parametrize("text", ["{", '{"net": "A"}', "[]"])
def test_a_damaged_card_is_refused(inputs, tmp_path, text):
    path = tmp_path / "net.safetensors"
    write_model(path, inputs)
    card_path(path).write_text(text)
    with pytest.raises(TomopipeError, match=r"net\.json: expected"):
        read_card(path)


def test_pictures_are_learned_on_top_of_the_curves(inputs, tmp_path):
    path = tmp_path / "A.safetensors"
    write_model(path, inputs, "A")
    net = new_net("A+B", shape_of(inputs), 5)
    take_along(net, load_model(path))
    known = load_model(path).net.state_dict()
    for name, value in net.state_dict().items():
        if name.startswith("along."):
            torch.testing.assert_close(value, known[name])


def test_an_unknown_network_is_refused(inputs):
    with pytest.raises(ValueError, match="got 'B'"):
        build("B", shape_of(inputs))
