"""The DINOv2 classifier, against a second implementation with the same random weights.

Checkpoints are read strictly, executed never.
"""

import argparse
import os
import pickle
import sys
from pathlib import Path, PosixPath

import numpy as np
import pytest
import torch
from dinov2_weights import random_state, reference_features, save

from tomopipe.cor.ai.dinov2_network import Checkpoint, Classifier, read_checkpoint
from tomopipe.errors import TomopipeError

pytestmark = pytest.mark.slow


def windows_of(size_px, n=1):
    grey = np.random.default_rng(0).integers(0, 256, (n, size_px, size_px)).astype(np.float32)
    return grey / np.float32(255)


@pytest.fixture(scope="module")
def short():
    """The width of ViT-B, two blocks."""
    return Checkpoint("a.pt", random_state(768), 518, 3)


@torch.inference_mode()
def assert_agrees(checkpoint, window_px, n=1):
    windows = windows_of(window_px, n)
    images = torch.from_numpy(windows)[:, None].expand(-1, 3, -1, -1)
    features = (
        Classifier(checkpoint, window_px).backbone(pixel_values=images).last_hidden_state[:, 0]
    )
    expected = reference_features(checkpoint.state, windows)
    assert expected.std() > 0.3
    assert features.numpy() == pytest.approx(expected.numpy(), abs=1e-4)


@pytest.mark.parametrize("window_px", [518, 224])
def test_two_blocks_agree_to_1e_4(short, window_px):
    assert_agrees(short, window_px)


def test_the_whole_of_vit_s_agrees_to_1e_4():
    assert_agrees(Checkpoint("a.pt", random_state(384, 12), 518, 3), 224)


@torch.inference_mode()
def test_windows_are_pooled_by_gated_attention(short):
    windows = windows_of(56, 3)
    state = short.state
    features = reference_features(state, windows).double().numpy()
    layer = {
        name: features @ state[f"{name}.0.weight"].double().numpy().T
        + state[f"{name}.0.bias"].double().numpy()
        for name in ("attention", "gate")
    }
    gated = np.tanh(layer["attention"]) / (1 + np.exp(-layer["gate"]))
    raw = gated @ state["fc.weight"][0].double().numpy()
    share = np.exp(raw) / np.exp(raw).sum()
    logits = state["head.weight"].double().numpy() @ (share @ features)
    logits += state["head.bias"].double().numpy()
    network = Classifier(short, 56)
    assert network(torch.from_numpy(windows)).numpy() == pytest.approx(logits, abs=1e-4)
    right = 1 / (1 + np.exp(logits[0] - logits[1]))
    assert network.score(windows) == pytest.approx(right, abs=1e-4)


def test_a_single_window_goes_to_the_head_alone():
    state = random_state(768, pooled=False)
    network = Classifier(Checkpoint("a.pt", state, 518, 1), 56)
    windows = windows_of(56)
    with torch.inference_mode():
        features = reference_features(state, windows)[0]
        logits = state["head.weight"] @ features + state["head.bias"]
        assert network(torch.from_numpy(windows)).numpy() == pytest.approx(logits.numpy(), abs=1e-4)


def test_without_transformers_the_error_says_what_to_install(short, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TomopipeError, match=r"pip install 'tomopipe\[torch\]'"):
        Classifier(short, 56)


@pytest.fixture
def state():
    return random_state(64, grid=4)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_complete_checkpoint_is_read(tmp_path, state, prefix):
    checkpoint = read_checkpoint(save(tmp_path / "a.pt", state, prefix=prefix, num_windows=24))
    assert set(checkpoint.state) == set(state)
    assert all(torch.equal(checkpoint.state[key], value) for key, value in state.items())
    assert (checkpoint.window_px, checkpoint.n_windows) == (518, 3)
    path = save(tmp_path / "a.pt", state, num_windows=1, window_size=224)
    single = read_checkpoint(path)
    assert (single.window_px, single.n_windows) == (224, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("model.blocks.1.ls1.gamma"), r"Missing .*1\.layer_scale1\.lambda1"),
        (lambda s: s.pop("gate.0.bias"), r"Missing .*gate\.0\.bias"),
        (lambda s: s.pop("model.pos_embed"), r"Missing .*position_embeddings"),
        (lambda s: s.pop("model.norm.weight"), r"layernorm\.weight"),
        (lambda s: s.update({"other": torch.ones(1)}), r"Unexpected .*other"),
        (lambda s: s.update({"head.weight": torch.ones(3, 64)}), r"head\.weight: .*\[3, 64\]"),
        (lambda s: s.update({"model.pos_embed": torch.ones(1, 18, 64)}), "must match"),
        (lambda s: s.update({"head.bias": "text"}), "'str' object"),
        (lambda s: s.update({"aggregator.x": torch.ones(1)}), "got a range classifier"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, state, change, said):
    change(state)
    with pytest.raises(TomopipeError, match=said) as error:
        Classifier(read_checkpoint(save(tmp_path / "a.pt", state)), 224)
    assert "a.pt" in str(error.value)


@pytest.mark.parametrize("window_size", [500, "518"])
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
    with pytest.raises(TomopipeError, match=r"b\.pt: no such file"):
        read_checkpoint(tmp_path / "b.pt")
