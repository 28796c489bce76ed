"""Batches: what one submission to a cluster holds."""

from collections import Counter

from tomopipe.config import FullReconBlock
from tomopipe.cost.batches import (
    MOST_CORES,
    Batches,
    batch_cores,
    is_large,
    job_s,
    try_cores,
    volume_cores,
    volume_s,
)

MB = 1_000_000


def ask(batches, names, *, kind="try", n_bytes=MB, size=20, when=1):
    return [batches.batch_of(kind, name, n_bytes, size=size, when=when) for name in names]


def test_no_batch_holds_more_than_its_size_and_each_scan_keeps_its_own():
    batches, names = Batches(), [f"s_{n}" for n in range(45)]
    first = ask(batches, names)
    assert sorted(Counter(first).values()) == [5, 20, 20]
    assert ask(batches, reversed(names), when=2) == first[::-1]


def test_what_comes_later_joins_no_batch_that_may_run():
    batches = Batches()
    before = ask(batches, ["a"])
    assert ask(batches, ["b", "c"], when=2) == 2 * [ask(batches, ["c"])[0]]
    assert before[0] not in ask(batches, ["b", "c"])


def test_kinds_have_batches_of_their_own_and_many_bytes_close_one():
    batches = Batches()
    assert ask(batches, "a") != ask(batches, "a", kind="stack")
    assert len(set(ask(batches, "bcdefgh", n_bytes=900 * MB))) == 2
    assert is_large(1000 * MB)
    assert not is_large(999 * MB)


def test_cores_are_those_that_a_step_can_use():
    assert (try_cores(118 * MB), try_cores(900 * MB)) == (1, 2)
    small, large = (900, 64, 1024), (3000, 2048, 2048)
    assert volume_cores(small, FullReconBlock()) == 1
    assert volume_cores(large, FullReconBlock()) == MOST_CORES
    assert volume_cores(large, FullReconBlock(binning=4)) < 4
    assert volume_cores(small, FullReconBlock(algorithm="tv")) == MOST_CORES


def test_a_submission_keeps_six_tenths_of_its_cores_busy():
    start_s = 3.0
    for cpu_s in (0.0, 1.0, 2.0, 8.0, 30.0, 1000.0):
        n_cores = batch_cores(cpu_s)
        shares = [(start_s + cpu_s) / (n * start_s + cpu_s) for n in (n_cores, n_cores + 1)]
        assert shares[0] >= 0.6 > shares[1]
    assert batch_cores(6 * volume_s((900, 64, 1024), FullReconBlock())) == 3
    assert batch_cores(6 * job_s("export_stack", 118 * MB)) == 2
    assert batch_cores(20 * (job_s("try_recon", MB) + job_s("predict_cor", MB))) >= 4
    assert batch_cores(volume_s((900, 64, 1024), FullReconBlock(algorithm="tv"))) > MOST_CORES
