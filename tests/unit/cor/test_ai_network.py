"""The network and its files: as torch scores, checked at loading, even-handed in a mirror."""

import hashlib
import json

import numpy as np
import pytest
from ai_scans import inputs_of, random_weights, rows_with, write_model

from tomopipe.cor.ai.inputs import Inputs, mirrored
from tomopipe.cor.ai.model_card import card_path, model_record, read_card
from tomopipe.cor.ai.network import load_model, predict
from tomopipe.errors import TomopipeError

pytestmark = pytest.mark.slow

# Of the shipped weights on `drawn(n)`, as torch computed them: every tenth score, the
# probability of none, the best position and its spread.
EXPECTED = {
    60: ([-1.338101, -3.144553, -1.615857, 0.598809, 3.140653, 0.51745],
         0.00327168, 36, 0.329396),
    151: ([-10.894545, -12.910874, -12.03324, -10.890777, -11.652362, -8.979228, -10.166019,
           -11.471328, -11.620022, -11.104951, -10.706172, -8.571521, -4.653184, -3.914956,
           -4.06228, -6.746363],
          0.74141838, 142, 1.487704),
}  # fmt: skip


def drawn(n):
    """Curves that wander, of a scan that nobody took."""
    rng = np.random.default_rng(n)
    grid = np.cumsum(rng.normal(0, 0.2, (55, n)), axis=1).astype(np.float32)
    return Inputs(np.arange(n) / 2.0, grid, rng.uniform(size=24).astype(np.float32))


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return inputs_of(rows_with())


@pytest.mark.parametrize("n", EXPECTED)
def test_the_shipped_network_says_what_it_said_in_torch(n):
    score, none, index, spread_px = EXPECTED[n]
    output = predict(load_model().weights, drawn(n))
    np.testing.assert_allclose(output.score[::10], score, atol=1e-5)
    assert output.none == pytest.approx(none, abs=1e-5)
    assert output.index == index
    assert output.spread_px == pytest.approx(spread_px, abs=1e-5)


def test_a_mirrored_scan_gives_the_mirrored_output(inputs):
    weights = random_weights(inputs, 1)
    direct, reflected = predict(weights, inputs), predict(weights, mirrored(inputs))
    np.testing.assert_allclose(direct.score, reflected.score[::-1], atol=1e-4)
    assert direct.share.sum() + direct.none == pytest.approx(1)


def test_a_network_read_back_says_the_same(inputs, tmp_path):
    path = tmp_path / "net.safetensors"
    card = write_model(path, inputs)
    expected = predict(random_weights(inputs), inputs)
    np.testing.assert_array_equal(predict(load_model(path).weights, inputs).score, expected.score)
    assert model_record(path) == {"name": "test", "sha256": card["sha256"]}


def test_weights_that_are_not_those_of_the_card_are_refused(inputs, tmp_path):
    path, other = tmp_path / "net.safetensors", tmp_path / "other.safetensors"
    write_model(path, inputs)
    write_model(other, inputs, seed=1)
    path.write_bytes(other.read_bytes())
    with pytest.raises(TomopipeError, match="do not belong together"):
        load_model(path)


def change_card(path, inputs, **changes):
    card = write_model(path, inputs)
    card_path(path).write_text(json.dumps(card | changes))


def test_a_file_of_anything_else_is_refused(inputs, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"no weights")
    sha256 = hashlib.sha256(b"no weights").hexdigest()
    card = write_model(tmp_path / "other.safetensors", inputs)
    card_path(path).write_text(json.dumps(card | {"sha256": sha256}))
    with pytest.raises(TomopipeError, match=r"net\.safetensors: expected the weights of its card"):
        load_model(path)


def test_weights_for_another_recipe_are_refused(inputs, tmp_path):
    path = tmp_path / "net.safetensors"
    change_card(path, inputs, recipe="0" * 64, recipe_version=7)
    with pytest.raises(TomopipeError, match="recipe version 7"):
        load_model(path)


def test_a_network_of_another_kind_is_refused(inputs, tmp_path):
    path = tmp_path / "net.safetensors"
    change_card(path, inputs, net="A+B")
    with pytest.raises(TomopipeError, match=r"net\.json: expected a network A; got A\+B.*Train it"):
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
