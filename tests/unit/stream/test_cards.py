"""One scan on several cards that are none (see pretend_card)."""

import threading

import h5py
import numpy as np
import pytest

from tests.phantoms import write_scan
from tests.pretend_card import OutOfMemoryError, PretendCard, in_place_of_cuda
from tomopipe.errors import TomopipeError
from tomopipe.scans.exchange import Scan
from tomopipe.steps import full_recon
from tomopipe.stream import fit_options as _fit
from tomopipe.stream import stream as _stream
from tomopipe.stream.cards import _Queue
from tomopipe.stream.memory import Blocks, Job, job_bytes

COR_PX = 15.2
CORRECTED = {"corrections": {"zingers": {"threshold": 0.2}, "stripes": {"method": "sorting"}}}


@pytest.fixture
def truth(tmp_path, monkeypatch):
    monkeypatch.setattr(_fit, "choose_blocks", lambda *_, **__: Blocks(4, 8))
    return write_scan(
        tmp_path / "s_1.h5", n_rows=45, n_cols=32, n_angles=31, phantom="rock", cor_px=COR_PX,
        dtype=np.uint16, counts=20000, chunks=False,
    )  # fmt: skip


def _volume(truth, name, monkeypatch, cards, **options):
    with in_place_of_cuda(monkeypatch, full_recon, *cards):
        path = truth.path.with_name(name)
        gpus = len(cards)
        full_recon.full_recon(truth.path, path, cor_px=COR_PX, device="cuda", gpus=gpus, **options)
    with h5py.File(path) as file:
        data = file["exchange/data"]
        return data[:], dict(data.attrs)


def _cards(n):
    return [PretendCard(device=number) for number in range(n)]


def _turns(monkeypatch, n):
    """Let no card begin its second piece before each has begun its first: all have a share."""
    barrier, begun, real = threading.Barrier(n), threading.local(), _stream.slices_of

    def slices_of(work, sinograms):
        samples = threading.current_thread() is threading.main_thread()  # for the range, by one
        if not samples and not getattr(begun, "any", False):
            begun.any = True
            barrier.wait(120)
        return real(work, sinograms)

    monkeypatch.setattr(_stream, "slices_of", slices_of)


@pytest.mark.parametrize(
    "options",
    [{}, {"binning": 2}, {"dtype": "uint16"}, CORRECTED | {"dtype": "uint8"}],
    ids=["plain", "binned", "whole numbers", "corrected"],
)
@pytest.mark.parametrize("n", [2, 3])
def test_the_volume_of_several_cards_is_that_of_one(truth, monkeypatch, caplog, options, n):
    expected, notes = _volume(truth, "one", monkeypatch, _cards(1), **options)
    _turns(monkeypatch, n)
    cards = _cards(n)
    found, found_notes = _volume(truth, "all", monkeypatch, cards, **options)
    np.testing.assert_array_equal(found, expected)
    assert {key: str(value) for key, value in found_notes.items()} == {
        key: str(value) for key, value in notes.items()
    }
    assert all("uploaded" in card.log for card in cards)
    assert "failed" not in caplog.text


def _failing(monkeypatch, fails):
    """Let computing fail where fails(device, piece number on that card) gives an error."""
    real, n_pieces = _stream.sinograms_of, {}

    def sinograms_of(work, raw, rows):
        device = raw.device
        n_pieces[device] = n_pieces.get(device, 0) + 1
        if error := fails(device, n_pieces[device]):
            raise error
        return real(work, raw, rows)

    monkeypatch.setattr(_stream, "sinograms_of", sinograms_of)
    return n_pieces


def test_a_card_that_runs_out_of_memory_goes_on_with_less(truth, monkeypatch, caplog):
    expected, _ = _volume(truth, "one", monkeypatch, _cards(1))
    _turns(monkeypatch, 2)
    _failing(monkeypatch, lambda device, n: OutOfMemoryError() if (device, n) == (1, 2) else None)
    cards = _cards(2)
    found, _ = _volume(truth, "two", monkeypatch, cards)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.ptp(expected))
    assert "out of memory: pieces of 2 slices" in caplog.text
    assert "failed" not in caplog.text
    assert [card.log.count("released") for card in cards] == [0, 1]


@pytest.mark.parametrize("when", [1, 2, 3])
def test_the_others_do_the_rows_of_a_card_that_fails(truth, monkeypatch, caplog, when):
    expected, _ = _volume(truth, "one", monkeypatch, _cards(1))
    if when > 1:
        _turns(monkeypatch, 2)
    error = RuntimeError("cudaErrorECCUncorrectable")
    n_pieces = _failing(monkeypatch, lambda device, n: error if device and n >= when else None)
    found, _ = _volume(truth, "two", monkeypatch, _cards(2))
    np.testing.assert_array_equal(found, expected)
    if n_pieces.get(1, 0) >= when:  # else the other was done before it began
        assert "GPU 1 failed (RuntimeError: cudaErrorECCUncorrectable): others" in caplog.text


def test_without_a_card_left_the_error_is_said(truth, monkeypatch):
    _failing(monkeypatch, lambda device, n: RuntimeError(f"broken {device}"))
    with pytest.raises(TomopipeError, match=r"all 2 GPUs failed, .* broken [01]\..*device: cpu"):
        _volume(truth, "two", monkeypatch, _cards(2))
    assert [path.name for path in truth.path.parent.iterdir()] == ["s_1.h5"]


def test_rows_that_cannot_be_read_are_no_fault_of_a_card(truth, monkeypatch, caplog):
    def broken(self, first, last):
        raise OSError("bad sector")

    monkeypatch.setattr(Scan, "read_rows", broken)
    with pytest.raises(OSError, match=r"^bad sector$"):
        _volume(truth, "two", monkeypatch, _cards(2))
    assert "failed" not in caplog.text


def test_a_slow_writer_holds_the_cards_up():
    """No block is begun that is more than one per card ahead of the slices handed on."""
    queue = _Queue((0, 40), 10, 2)
    assert [queue.take(), queue.take()] == [(0, 10), (10, 20)]
    taken = []
    third = threading.Thread(target=lambda: taken.append(queue.take()), daemon=True)
    third.start()
    queue.put(10, 20, 10, ["b"])
    queue.done()
    third.join(0.1)
    assert taken == []
    queue.put(0, 10, 10, ["a"])
    queue.done()
    slices = queue.in_order()
    assert next(slices) == (10, ["a"])
    third.join(20)
    assert taken == [(20, 30)]
    queue.give_back((20, 30), RuntimeError())
    assert next(slices) == (10, ["b"])
    assert queue.take() == (20, 30)


def test_memory_of_several_cards():
    blocks, one = Blocks(16, 32), Job(3072, 2048, 2048, 2, cards=1)
    two = Job(3072, 2048, 2048, 2, cards=2)
    slices, raw = 32 * 4 * 2048**2, 2 * 32 * 3072 * 2048 * 2
    pinned = 2 * 16 * 3072 * 2048 * 2
    assert job_bytes(two, blocks) - job_bytes(one, blocks) == 2 * slices + raw + pinned
