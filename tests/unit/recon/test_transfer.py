"""Uploads and downloads wait for what they must, on a pretended GPU and a real one."""

import weakref
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from tests import pretend_cupy
from tests.pretend_device import PretendDevice
from tomopipe.recon.transfer import DeviceTransfer


def _blocks(n=6):
    return [np.full((3, 2 if k < n - 1 else 1, 4), k, np.uint16) for k in range(n)]


@pytest.mark.parametrize("in_parts", [False, True])
def test_every_block_comes_back_computed(gpu, in_parts):
    """Copies are late: reading a buffer too early, or filling it too early, would be seen."""
    of_one_frame = {"part_bytes": 1} if in_parts else {}  # by two threads
    transfer = DeviceTransfer(gpu, threads=2, **of_one_frame)
    downloads, blocks = [], _blocks()
    uploaded = [transfer.upload(blocks[0])]
    for k in range(len(blocks)):
        if k + 1 < len(blocks):
            uploaded.append(transfer.upload(blocks[k + 1]))
        with transfer.computing(uploaded.pop(0)) as there:
            result = there * np.float32(2)
        downloads.append(transfer.download([result]))
        del result
    for download, block in zip(downloads, blocks, strict=True):
        np.testing.assert_array_equal(download()[0], 2 * block)
    assert gpu.log.count("uploaded") == len(blocks) * (3 if in_parts else 1)


class _Logged:
    """A stream that logs its calls."""

    def __init__(self, name, log):
        self.name, self.log, self.n = name, log, 0

    def record(self, event):
        assert event.block
        self.n += 1
        event = f"{self.name}{self.n}"
        return SimpleNamespace(name=event, synchronize=lambda: self.log.append(f"host: {event}"))

    def wait_event(self, event):
        self.log.append(f"{self.name}: {event.name}")

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize("way", ["staged", "read", "in place"])
def test_buffers_are_filled_again_only_when_their_block_has_been_read(monkeypatch, way):
    """Of two buffers the third block takes the first, on the GPU and, if filled, on the host."""
    pretend_cupy.install(monkeypatch)
    log, gpu = [], PretendDevice()
    names = iter(["in", "work", "out"])
    gpu.stream = lambda: _Logged(next(names), log)
    gpu.upload = lambda host, there: log.append(f"upload {host[0, 0, 0]}")
    gpu.download = lambda there, host: None
    transfer = DeviceTransfer(gpu, staged=way != "in place")

    def read(out, number):
        log.append(f"read {number}")
        out[...] = number

    for number in range(3):
        if way == "read":
            uploaded = transfer.upload_read((1, 1, 4), np.uint16, partial(read, number=number))
        else:
            uploaded = transfer.upload(np.full((1, 1, 4), number, np.uint16))
        with transfer.computing(uploaded):
            log.append(f"compute {number}")
        transfer.download([gpu.xp.zeros((1, 4, 4), np.float32)])()
    third = log[log.index("compute 1") + 1 : log.index("compute 2")]
    waits = ["in: work1"] if way == "in place" else ["in: work1", "host: in1"]
    waits += ["read 2"] if way == "read" else []
    assert [line for line in third if not line.startswith(("out:", "host: out"))] == [
        *waits, "upload 2", "work: in3",
    ]  # fmt: skip
    assert log.count("host: in1") == (way != "in place")


def test_pinned_memory_is_let_go_before_more_is_taken(gpu):
    taken = []
    pinned = gpu.pinned

    def take(shape, dtype):
        taken.append(weakref.ref(memory := pinned(shape, dtype)))
        assert sum(array() is not None for array in taken) <= 2
        return memory

    gpu.pinned = take
    transfer = DeviceTransfer(gpu)
    for n in (5, 3, 3, 1):  # rows: the first batch has more
        with transfer.computing(transfer.upload(np.zeros((2, n, 4), np.uint16))):
            pass
    assert len(taken) == 4


def test_synchronizing_forgets_buffers_and_frees_memory(gpu):
    transfer = DeviceTransfer(gpu)
    for block in _blocks(3):
        transfer.upload(block)
    transfer.synchronize()
    assert gpu.log.count("uploaded") == 3
    assert gpu.log[-1] == "released"
    with transfer.computing(transfer.upload(_blocks()[1])) as there:
        assert (there == 1).all()
