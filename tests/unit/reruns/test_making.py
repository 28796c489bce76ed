"""The frame of every job: results whole, and last the receipt."""

import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from tomopipe.errors import TomopipeError
from tomopipe.reruns.making import making
from tomopipe.reruns.receipts import digest
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import write_json, write_text

READ = {"raw_files": ["a.h5"], "unsummed": ["a.h5"]}
STATEMENT = {"step": "full_recon", "cor_px": 31.5}


def begin(monkeypatch) -> None:
    """Begin a run: in one, a job that failed on its data is not tried again."""
    monkeypatch.setenv(run_folder.VARIABLE, str(run_folder.begin(Path("results"))))


@pytest.fixture
def campaign(tmp_path, monkeypatch) -> Path:
    """The folder of a campaign with a run under way."""
    monkeypatch.chdir(tmp_path)
    Path("a.h5").write_text("frames")
    begin(monkeypatch)
    return tmp_path


def job(step: str, *products: str, **more) -> SimpleNamespace:
    """Return what Snakemake hands to a script."""
    provenance = {"products": list(products), "made_from": json.dumps(STATEMENT)} | more
    return SimpleNamespace(
        params=SimpleNamespace(provenance=provenance),
        log=[f"logs/{step}/a.log"],
        output=[f"results/made/{step}/a.json"],
    )


def receipt_of(step: str) -> dict:
    return json.loads(Path(f"results/made/{step}/a.json").read_text())


def test_a_receipt_states_what_was_made_and_read(campaign):
    with making(job("try_recon", "results/rows.h5", **READ)):
        write_text("rows", "results/rows.h5")
    receipt = receipt_of("try_recon")
    assert receipt["made_from"] == STATEMENT
    assert receipt["files"]["results/rows.h5"][0] == 4
    state, content = receipt["raw"]["a.h5"]
    assert state[0] == 6
    assert content.startswith("xxh3:6:")


@pytest.mark.parametrize(
    "case", ["again", "product gone", "product changed", "a newer run", "another"]
)
def test_what_a_job_made_in_this_run_is_not_made_twice(campaign, monkeypatch, case):
    """SLURM queued it again, or the main process did not see its receipt in time."""
    snakemake, n_made = job("full_recon", "results/a_rec.h5", **READ), 0
    for _ in range(2):
        with suppress(SystemExit), making(snakemake):
            n_made += 1
            write_text(f"volume {n_made}", "results/a_rec.h5")
        receipt = receipt_of("full_recon")
        Path(snakemake.output[0]).unlink()  # as Snakemake does before a job
        if case == "product gone":
            Path("results/a_rec.h5").unlink()
        elif case == "product changed":
            Path("results/a_rec.h5").write_text("half")
        elif case == "a newer run":
            begin(monkeypatch)
        elif case == "another":
            snakemake.params.provenance["made_from"] = json.dumps(STATEMENT | {"cor_px": 32.5})
    if case != "again":
        assert n_made == 2
        return
    assert n_made == 1
    assert receipt["raw"]["a.h5"][1].startswith("xxh3:6:")
    assert json.loads(Path("logs/status/full_recon/a.json").read_text())["state"] == "done"


def test_a_raw_file_replaced_while_it_is_read_has_no_content(campaign):
    with making(job("try_recon", "results/rows.h5", **READ)):
        write_text("rows", "results/rows.h5")
        Path("other.h5").write_text("FRAMES")
        Path("other.h5").replace("a.h5")
    assert receipt_of("try_recon")["raw"]["a.h5"][1] == ""


def test_a_sweep_that_the_disk_did_not_give_is_not_what_was_wanted(campaign):
    with making(job("try_recon", "results/try.json")):
        write_json({"made_from": STATEMENT | {"not_read": "EIO"}}, "results/try.json")
    assert digest(receipt_of("try_recon")["made_from"]) != digest(STATEMENT)


def test_a_page_that_lacks_what_the_disk_did_not_give_is_not_what_was_wanted(campaign):
    with making(job("report", "results/index.html")) as made:
        write_text("page", "results/index.html")
        made.stated["not_read"] = ["results/cor.json"]
    assert digest(receipt_of("report")["made_from"]) != digest(STATEMENT)


def full_recon(change) -> None:
    with making(job("full_recon", "results/a_rec.h5", raw_files=["a.h5"])):
        change(Path("a.h5"))
        write_text("volume", "results/a_rec.h5")


def test_a_volume_of_a_raw_file_that_changes_meanwhile_is_not_written(campaign, monkeypatch):
    with pytest.raises(TomopipeError, match=r"a\.h5: changed while it was read"):
        full_recon(lambda path: path.write_text("other frames"))
    assert not Path("results/a_rec.h5").exists()
    assert not Path("results/made/full_recon/a.json").exists()
    begin(monkeypatch)
    full_recon(Path.unlink)  # after it was read
    assert Path("results/a_rec.h5").exists()


def test_a_job_that_fails_leaves_the_earlier_result_and_no_receipt(campaign, monkeypatch):
    full_recon(lambda path: None)
    begin(monkeypatch)
    Path("results/made/full_recon/a.json").unlink()  # settled: it is to be made again
    before = Path("results/a_rec.h5").stat()

    def broken(path: Path) -> None:
        raise TomopipeError("broken")

    with pytest.raises(TomopipeError, match="broken"):
        full_recon(broken)
    assert Path("results/a_rec.h5").stat().st_ino == before.st_ino
    assert not Path("results/made/full_recon/a.json").exists()


def test_a_job_that_was_not_sent_changes_nothing(campaign):
    snakemake = job("full_recon", "results/a_rec.h5")
    snakemake.params.provenance = None
    with pytest.raises(TomopipeError, match="this job belongs to no run"), making(snakemake):
        write_text("volume", "results/a_rec.h5")
    assert not Path("results").joinpath("a_rec.h5").exists()


@pytest.mark.parametrize("run", ["", "results/.runs/gone"])
def test_a_job_of_no_run_changes_nothing(campaign, monkeypatch, run):
    monkeypatch.setenv(run_folder.VARIABLE, run)
    with pytest.raises(TomopipeError, match="run"):
        full_recon(lambda path: None)
    assert not Path("results/a_rec.h5").exists()
    assert not Path("results/made").exists()
