import contextlib
import errno
import logging
import os
import threading
from types import SimpleNamespace

import pytest

from tomopipe.recon import gpu
from tomopipe.recon.gpu import claimed_gpu


def _cupy(names):
    used = []

    class Device:
        def __init__(self, number):
            self.number = number

        def use(self):
            used.append(self.number)

    runtime = SimpleNamespace(
        getDeviceCount=lambda: len(names),
        deviceGetPCIBusId=lambda number: names[number],
        getDeviceProperties=lambda number: {"uuid": names[number].encode()},
        runtimeGetVersion=lambda: 12090,
        memGetInfo=lambda: (2**30, 2**30),
    )
    cuda = SimpleNamespace(Device=Device, runtime=runtime)
    pool = SimpleNamespace(free_bytes=lambda: 0)
    return SimpleNamespace(cuda=cuda, used=used, get_default_memory_pool=lambda: pool)


def test_each_job_gets_a_gpu_of_its_own(tmp_path, monkeypatch, caplog):
    """Whatever the numbers are by which a job knows them, as CUDA_VISIBLE_DEVICES makes them."""
    monkeypatch.setattr(gpu, "POLL_S", 0.01)
    both, swapped = _cupy(["a", "b"]), _cupy(["b", "a"])
    got = []

    def third():
        with claimed_gpu(both, tmp_path):
            got.append(both.used[-1])

    with claimed_gpu(both, tmp_path):
        with claimed_gpu(swapped, tmp_path):
            assert both.used[-1] == 0
            assert swapped.used[-1] == 0
            waiting = threading.Thread(target=third)
            waiting.start()
            waiting.join(0.1)
            assert waiting.is_alive()
            assert "hold all 2" in caplog.text
        waiting.join(60)
    assert got == [1]  # the one that was given back first


def _names(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())


def test_locks_are_named_by_host_and_gpu(tmp_path, monkeypatch):
    """Hosts may share the folder, and the instances of a card have one bus address."""
    with contextlib.ExitStack() as stack:

        def claim(host, uuid):
            monkeypatch.setattr("socket.gethostname", lambda: host)
            cupy = _cupy(["0000:01:00.0"])
            cupy.cuda.runtime.getDeviceProperties = lambda _: {"uuid": uuid}
            stack.enter_context(claimed_gpu(cupy, tmp_path, wait=False))

        for uuid in (b"\x01\x02", b"\x01\x03", bytes(range(1, 21))):
            claim("node/1", uuid)
        claim("node2", b"\x01\x02")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-5c/1/0")
        claim("node2", b"\x01\x02")
    assert _names(tmp_path) == [
        "tomopipe-gpu-node-1-0102.lock",
        "tomopipe-gpu-node-1-0102030405060708090a0b0c0d0e0f10.lock",
        "tomopipe-gpu-node-1-0103.lock",
        "tomopipe-gpu-node2-0102-MIG-GPU-5c-1-0.lock",
        "tomopipe-gpu-node2-0102.lock",
    ]


def test_a_planted_link_is_not_followed(tmp_path):
    with claimed_gpu(_cupy(["a"]), tmp_path):
        (lock,) = tmp_path.iterdir()
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"gpu-.*\.lock"), claimed_gpu(_cupy(["a"]), tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("where", ["fcntl.flock", "os.open"])
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EROFS])
def test_without_locks_a_job_goes_on(tmp_path, monkeypatch, caplog, where, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(where, fail)
    gpu._warn_of_no_locks.cache_clear()
    taken = []
    for pid in (40, 41, 42):  # of three jobs not all take the same
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        cupy = _cupy(["a", "b"])
        with claimed_gpu(cupy, tmp_path) as claimed:
            taken.append(claimed.name)
        assert cupy.used[-1] == pid % 2
    assert taken == ["GPU a", "GPU b", "GPU a"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert os.strerror(number) in record.getMessage()
    assert "TMPDIR" in record.getMessage()
