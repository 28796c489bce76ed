"""How many GPUs there are, counted without CUDA."""

import pytest

from tomopipe.resources import gpus
from tomopipe.run.launch import chosen_profile, run_command


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """What the driver shows of a machine with four GPUs."""
    for number in range(4):
        (tmp_path / "gpus" / f"0000:0{number}:00.0").mkdir(parents=True)
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "gpus")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "gpus"


@pytest.mark.parametrize(
    ("visible", "number"),
    [(None, 4), ("", 0), ("2", 1), ("1, 3", 2), ("0,-1,2", 1), ("0,1,9,2", 2),
     ("GPU-8932f937,GPU-b", 2), ("MIG-GPU-8932/1/0,MIG-GPU-8932/2/0", 1)],
)  # fmt: skip
def test_gpus_that_are_allotted_count(driver, monkeypatch, visible, number):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.gpu_count() == number


def test_a_run_uses_all_gpus_unless_somebody_says_otherwise(driver, tmp_path, monkeypatch):
    (tmp_path / "config.yaml").touch()

    def resources(*options):
        command = run_command(tmp_path, None, chosen_profile(tmp_path), options)
        return [command[n + 1] for n, word in enumerate(command) if word == "--resources"]

    assert resources() == ["gpu=4"]
    assert resources("--resources", "gpu=2") == ["gpu=2"]
    assert resources("--profile", "mine") == []
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "none")
    assert resources("--cores", "2") == ["gpu=1"]
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "profile.yaml").touch()
    assert resources() == []
