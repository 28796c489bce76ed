"""Checkpoints of the DINOv2 family: read strictly, executed never."""

import argparse
import math
import os
import pickle
from pathlib import Path, PosixPath

import pytest
import torch
from dinov2_weights import random_state, save

from tomopipe.cor.ai.dinov2_checkpoint import DEPTHS, expected_shapes, read_checkpoint
from tomopipe.errors import TomopipeError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Let there be a backbone of width 64 and 2 blocks: the others take 100 MB."""
    monkeypatch.setitem(DEPTHS, 64, 2)


@pytest.fixture
def state():
    return random_state(64, grid=4)


def test_size_of_vit_b_14_is_the_published_one():
    """86 580 480 weights of the backbone and 1 182 723 of pooling and head."""
    shapes = expected_shapes(768, 12, 37**2, pooled=True)
    backbone = sum(math.prod(s) for k, s in shapes.items() if k.startswith("model."))
    assert backbone == 86_580_480
    assert sum(map(math.prod, shapes.values())) - backbone == 2 * 768 * 769 + 769 + 2 * 769


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_complete_checkpoint_is_read(tmp_path, state, prefix):
    checkpoint = read_checkpoint(save(tmp_path / "a.pt", state, prefix=prefix, num_windows=24))
    assert set(checkpoint.state) == set(state)
    assert all(torch.equal(checkpoint.state[key], value) for key, value in state.items())
    assert (checkpoint.width, checkpoint.depth) == (64, 2)
    assert (checkpoint.window_px, checkpoint.n_windows) == (518, 3)


def test_a_classifier_of_single_windows_has_no_pooling(tmp_path):
    plain = random_state(64, grid=4, pooled=False)
    checkpoint = read_checkpoint(save(tmp_path / "a.pt", plain, num_windows=1, window_size=224))
    assert (checkpoint.window_px, checkpoint.n_windows) == (224, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("model.blocks.1.ls1.gamma"), r"missing key model\.blocks\.1\.ls1\.gamma"),
        (lambda s: s.pop("gate.0.bias"), r"missing key gate\.0\.bias"),
        (
            lambda s: s.update({"model.blocks.2.x": torch.ones(1)}),
            r"unknown key model\.blocks",
        ),
        (
            lambda s: s.update({"head.weight": torch.ones(3, 64)}),
            r"head\.weight: expected shape \(2, 64\), got \(3, 64\)",
        ),
        (lambda s: s["fc.bias"].fill_(torch.nan), r"fc\.bias: values that are no number"),
        (lambda s: s.pop("model.pos_embed"), r"missing key model\.pos_embed"),
        (lambda s: s.update({"model.pos_embed": torch.ones(1, 18, 64)}), r"model\.pos_embed: exp"),
        (lambda s: s.update({"model.pos_embed": torch.ones(1, 17, 512)}), r"model\.pos_embed: exp"),
        (lambda s: s.update({"head.bias": "text"}), r"head\.bias: expected a tensor, got str"),
        (lambda s: s.update({"aggregator.x": torch.ones(1)}), "got a range classifier"),
        (lambda s: s.clear(), "expected a dict with state_dict"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, state, change, said):
    wrong = {key: value.clone() for key, value in state.items()}
    change(wrong)
    with pytest.raises(TomopipeError, match=said) as error:
        read_checkpoint(save(tmp_path / "a.pt", wrong))
    assert "a.pt" in str(error.value)


def test_pooling_that_is_wholly_missing_is_an_error(tmp_path):
    plain = random_state(64, grid=4, pooled=False)
    with pytest.raises(TomopipeError, match=r"missing key attention\.0\.weight"):
        read_checkpoint(save(tmp_path / "a.pt", plain, num_windows=24))


@pytest.mark.parametrize("window_size", [500, 0, "518"])
def test_a_window_that_is_no_multiple_of_a_patch_is_an_error(tmp_path, state, window_size):
    with pytest.raises(TomopipeError, match="window_size: expected a multiple of 14"):
        read_checkpoint(save(tmp_path / "a.pt", state, window_size=window_size))


class Evil:
    """Runs something when it is unpickled."""

    def __init__(self, run, *args):
        self.run, self.args = run, args

    def __reduce__(self):
        return self.run, self.args


def test_options_of_the_training_stay_unread_and_nothing_is_executed(tmp_path, state, monkeypatch):
    """The program saves the paths and the function of its command line with the weights."""
    monkeypatch.chdir(tmp_path)
    evil = Evil(exec, "open('executed', 'w')")
    pickle.loads(pickle.dumps(evil))
    Path("executed").unlink()
    args = {"out": PosixPath("/a"), "func": argparse.ArgumentParser, "evil": evil}
    assert read_checkpoint(save("a.pt", state, num_windows=24, **args)).n_windows == 3
    assert not Path("executed").exists()


def test_what_torch_refuses_is_refused(tmp_path, state, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TomopipeError, match=r"a\.pt: expected a checkpoint"):
        read_checkpoint(save("a.pt", state, evil=Evil(os.mkdir, "executed")))
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"foreign", pickle.dumps({"state_dict": {}})])
def test_a_foreign_file_is_named(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(TomopipeError, match=r"a\.pt: expected a checkpoint written by torch\.save"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_bare_tensor_and_a_missing_file_are_named(tmp_path):
    torch.save(torch.ones(2), tmp_path / "a.pt")
    with pytest.raises(TomopipeError, match=r"a\.pt: expected a dict; got Tensor"):
        read_checkpoint(tmp_path / "a.pt")
    with pytest.raises(TomopipeError, match=r"b\.pt: no such file"):
        read_checkpoint(tmp_path / "b.pt")
