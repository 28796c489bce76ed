"""What a card's pieces wait for, with a card that is none (see pretend_card)."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from tests.pretend_card import PretendCard
from tomopipe.recon import cuda_card
from tomopipe.recon.carry import Carried, InPlace
from tomopipe.recon.cuda_card import claimed_card


def _pieces(n=6):
    return [np.full((3, 2 if k < n - 1 else 1, 4), k, np.uint16) for k in range(n)]


@pytest.mark.parametrize("carrier", [InPlace(), Carried(PretendCard())], ids=["host", "card"])
def test_every_piece_comes_back_computed(carrier):
    """Copies are late: reading a buffer too early, or filling it too early, would be seen."""
    homes, pieces = [], _pieces()
    sent = [carrier.send(pieces[0])]
    for k in range(len(pieces)):
        if k + 1 < len(pieces):
            sent.append(carrier.send(pieces[k + 1]))
        with carrier.computing(sent.pop(0)) as there:
            result = there * np.float32(2)
        homes.append(carrier.bring(result))
        del result
    for home, piece in zip(homes, pieces, strict=True):
        np.testing.assert_array_equal(home(), 2 * piece)


class _Manual:
    """A stream whose work is done when the test says so."""

    def __init__(self):
        self.events = []

    def record(self):
        done = threading.Event()
        self.events.append(done)
        return SimpleNamespace(synchronize=lambda: done.wait(20), done=done)

    def wait_event(self, event):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def test_a_buffer_is_filled_again_only_when_its_piece_has_been_computed():
    streams = [_Manual() for _ in range(3)]
    card = PretendCard()
    made = iter(streams)
    card.stream = lambda: next(made)
    card.upload = lambda host, there: None
    carrier = Carried(card)
    first = carrier.send(np.zeros((1, 1, 4), np.uint16))
    with carrier.computing(first):
        pass
    second = carrier.send(np.ones((1, 1, 4), np.uint16))  # the other buffer: at once
    assert second is not first
    third = threading.Thread(target=carrier.send, args=[np.full((1, 1, 4), 2, np.uint16)])
    third.start()
    third.join(0.05)
    assert third.is_alive()
    assert (first.host == 0).all()
    streams[1].events[0].set()  # the card has computed the first piece
    third.join(20)
    assert (first.host == 2).all()


def test_settling_forgets_buffers_and_gives_memory_back():
    card = PretendCard()
    carrier = Carried(card)
    for piece in _pieces(3):
        carrier.send(piece)
    carrier.settle()
    assert card.log.count("uploaded") == 3
    assert card.log[-1] == "released"
    with carrier.computing(carrier.send(_pieces()[1])) as there:
        assert (there == 1).all()


def _cupy(names):
    used = []

    class Device:
        def __init__(self, number):
            self.number = number

        def use(self):
            used.append(self.number)

    runtime = SimpleNamespace(
        getDeviceCount=lambda: len(names), deviceGetPCIBusId=lambda number: names[number]
    )
    cuda = SimpleNamespace(Device=Device, runtime=runtime)
    return SimpleNamespace(cuda=cuda, used=used)


def test_each_job_gets_a_gpu_of_its_own(tmp_path, monkeypatch, caplog):
    """Whatever the numbers are by which a job knows them, as CUDA_VISIBLE_DEVICES makes them."""
    monkeypatch.setattr(cuda_card, "POLL_S", 0.01)
    both, swapped = _cupy(["0000:01:00.0", "0000:02:00.0"]), _cupy(["0000:02:00.0", "0000:01:00.0"])
    got = []

    def third():
        with claimed_card(both, tmp_path):
            got.append(both.used[-1])

    with claimed_card(both, tmp_path):
        with claimed_card(swapped, tmp_path):
            assert both.used == [0]
            assert swapped.used == [0]
            waiting = threading.Thread(target=third)
            waiting.start()
            waiting.join(0.1)
            assert waiting.is_alive()
            assert "hold all 2" in caplog.text
        waiting.join(20)
    assert got == [1]  # the one that was given back first
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tomopipe-gpu-0000-01-00.0.lock",
        "tomopipe-gpu-0000-02-00.0.lock",
    ]


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "tomopipe-gpu-a.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"gpu-a\.lock"), claimed_card(_cupy(["a"]), tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()
