"""Receipts: what a result has become since, and which raw file is which."""

import json
import os
from pathlib import Path

import pytest

from tomopipe.campaign.files import Files
from tomopipe.reruns.receipts import Receipts, Result, digest, state_of, write_receipt
from tomopipe.run import upkeep
from tomopipe.scans.raw_identity import raw_state
from tomopipe.storage import checksums
from tomopipe.storage.atomic import whole, write_text
from tomopipe.workflow_steps import STEPS

STATEMENT = {"step": "full_recon", "cor_px": 31.5}
KEY = "full_recon", "a"
LARGE = "values of a volume " * 60_000  # 1.1 MB
TILT_SERIES = "results/relion/tilt_series"


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path


def receipts_of(home: Path) -> Receipts:
    """Read receipts and index as the next run does."""
    return Receipts(home, Files("results"))


def put(home: Path, path: str, text: str = "a result") -> Path:
    """Write a result, and its receipt as its job does."""
    write_text(text, home / path)
    write_receipt("results/made/full_recon/a.json", STATEMENT, [path], directory=home)
    return home / path


def damage(home: Path, path: str) -> str | None:
    receipts = receipts_of(home)
    return receipts.damage(receipts.of(*KEY), path)


def raw(home: Path, path: str) -> str:
    """Name the content of a raw file, as the next run does."""
    receipts = receipts_of(home)
    name = receipts.raw.name(path)
    receipts.save()
    return name


def test_receipts_that_jobs_write_are_read_at_the_next_look(home):
    receipts = receipts_of(home)
    assert receipts.of(*KEY) is None
    put(home, "results/a.h5")
    assert receipts.of(*KEY) is None  # as it was decided on
    with receipts.looking():
        assert receipts.of(*KEY).digest == digest(STATEMENT)
    receipts.withdraw(*KEY)
    put(home, "results/a.h5", "another result")
    upkeep.at_exit(None, receipts)
    (home / "results/made/full_recon/a.json").unlink()
    assert receipts_of(home).last(*KEY).files == {"results/a.h5": state_of(home / "results/a.h5")}


def test_the_page_of_a_forced_job_is_known_though_its_receipt_is_removed(home):
    """It has the time of day, so another page is no damage."""
    page, of_page = "results/report/index.html", ("report", "campaign")
    receipt = "results/made/report/campaign.json"
    for text in ("page of 23:59", "page of 00:00"):
        receipts = receipts_of(home)
        before = receipts.of(*of_page)  # nothing withdraws it
        (home / page).parent.mkdir(exist_ok=True)
        write_text(text, home / page)
        write_receipt(receipt, STATEMENT, [page], directory=home)
        upkeep.at_exit(None, receipts)
    assert before is not None
    (home / receipt).unlink()
    assert receipts_of(home).last(*of_page).files == {page: state_of(home / page)}


def test_a_temporary_file_that_was_removed_needs_no_new_receipt(home):
    paths = [f"results/try_center/a/{name}" for name in ("rows.h5", "try.json", "try.tif")]
    (home / paths[0]).parent.mkdir(parents=True)
    for path in paths:
        write_text(path, home / path)
    write_receipt("results/made/try_recon/a.json", STATEMENT, paths, directory=home)
    result = Result(STEPS["try_recon"], "a", STATEMENT, paths, 2)
    assert receipts_of(home).made(result).is_confirmed
    (home / paths[2]).unlink()
    assert receipts_of(home).made(result).is_confirmed
    assert receipts_of(home).made(result._replace(lasting=None)).is_missing
    write_text("of somebody else", home / paths[2])
    assert not receipts_of(home).made(result).is_confirmed


def test_what_has_become_of_a_result(home):
    where = put(home, "results/größe 1.json")
    path = str(where.relative_to(home))
    assert damage(home, path) == ""
    os.utime(where, (1, 1))
    assert damage(home, path) == ""  # small: its content counts
    where.write_text("A result")
    assert damage(home, path) == "its content differs"
    where.write_text("")
    assert damage(home, path) == "0 bytes, expected 8"
    where.unlink()
    assert damage(home, path) == "missing"


def test_of_a_large_result_with_another_time_the_receipt_says_nothing(home):
    where = put(home, "results/a_rec.h5", LARGE)
    assert damage(home, "results/a_rec.h5") == ""
    os.utime(where, (1, 1))
    assert damage(home, "results/a_rec.h5") is None
    where.write_text("A result, cut")
    assert damage(home, "results/a_rec.h5") == f"13 bytes, expected {len(LARGE)}"


def test_a_withdrawn_receipt_is_remembered(home):
    put(home, "results/a.json")
    receipts = receipts_of(home)
    receipts.withdraw(*KEY)
    receipts.save()
    assert not (home / "results/made/full_recon/a.json").exists()
    again = receipts_of(home)
    assert again.of(*KEY) is None
    assert again.last(*KEY).digest == digest(STATEMENT)
    again.write(*KEY, STATEMENT, ["results/a.json"])
    assert receipts_of(home).of(*KEY).files == again.last(*KEY).files


DAMAGED = '{"made_from": {}, "files": {"results/a.json": %s}, "sums": {"results/a.json": %s}}'


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"made_from": 3}', "[" * 200_000),
        *(DAMAGED % ('["8", "1", "2", "0"]', '""'), DAMAGED % ("[8, 1, 2, 0]", '"xxh3:8"')),
    ],
)
def test_a_damaged_receipt_is_none(home, text):
    put(home, "results/a.json")
    (home / "results/made/full_recon/a.json").write_text(text)
    assert receipts_of(home).of(*KEY) is None


@pytest.mark.parametrize("part", ["receipts", "raw", "sums"])
def test_an_index_with_values_of_other_types_is_none(home, part):
    put(home, "results/a.json")
    (home / "raw.h5").write_text("raw")
    receipts = receipts_of(home)
    receipts.raw.name("raw.h5")
    assert receipts.of(*KEY)
    assert receipts.content("results/a.json")
    receipts.save()
    index = home / "results/.settled.json"
    content = json.loads(index.read_text())
    content[part] = {
        path: [entry[0], *([7] * (len(entry) - 1))] for path, entry in content[part].items()
    }
    index.write_text(json.dumps(content))
    again = receipts_of(home)
    assert again.of(*KEY).sums
    os.utime(home / "raw.h5", (1, 1))
    assert again.raw.name("raw.h5")
    assert again.content("results/a.json") == checksums.checksum_of(home / "results/a.json")


def put_tilt_series(home: Path, monkeypatch) -> Path:
    monkeypatch.chdir(home)
    with whole(TILT_SERIES) as folder:
        folder.mkdir()
        for scan in "ab":
            (folder / f"{scan}.star").write_text(f"angles of {scan}")
    write_receipt("results/made/full_recon/a.json", STATEMENT, [TILT_SERIES])
    return home / TILT_SERIES


def _edited(folder: Path) -> None:
    before = (folder / "a.star").stat()
    (folder / "a.star").write_text("angles of c")
    os.utime(folder / "a.star", ns=(before.st_atime_ns, before.st_mtime_ns))


def _exchanged(folder: Path) -> None:
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        (folder / f"{old}.star").rename(folder / f"{new}.star")


@pytest.mark.parametrize("change", [_edited, _exchanged])
def test_a_change_of_a_file_of_tilt_series_is_noticed(home, monkeypatch, change):
    folder = put_tilt_series(home, monkeypatch)
    os.utime(folder / "a.star", (1, 1))
    (folder / "notes.txt").write_text("mine")
    assert damage(home, TILT_SERIES) == ""
    change(folder)
    assert damage(home, TILT_SERIES)


def test_a_raw_file_keeps_its_name_while_its_content_is_the_same(home):
    where = home / "a.h5"
    where.write_text("frames")
    name = raw(home, "a.h5")
    os.utime(where, (1, 1))
    assert raw(home, "a.h5") == name
    assert raw(home, str(where)) == name
    os.utime(where, (2, 2))
    where.write_text("FRAMES")
    assert raw(home, "a.h5") != name
    assert raw(home, "none.h5") == "raw none"


def test_no_content_of_a_raw_file_has_the_name_of_an_earlier_one(home):
    """Results of the first may still be there, where later ones made none."""
    where, names = home / "a.h5", []
    times_s = {"frames": 5, "FRAMES": 5, "Frames": 5, "fRAMES": 7, "frAMES": 5, "FRames": 7}
    for text, time_s in times_s.items():
        where.write_text(text)
        os.utime(where, (time_s, time_s))
        names.append(raw(home, "a.h5"))
        assert raw(home, "a.h5") == names[-1]
    assert len(set(names)) == len(times_s)


def test_the_content_of_a_large_raw_file_comes_with_the_receipt_of_its_sweep(home):
    where = home / "a.h5"
    where.write_text(LARGE)
    name, state = raw(home, "a.h5"), raw_state(where)
    read = {"a.h5": [state, checksums.checksum_of(where)]}
    write_receipt("results/made/try_recon/a.json", STATEMENT, [], read, directory=home)
    receipts = receipts_of(home)
    receipts.of("try_recon", "a")
    assert receipts.raw.has_content("a.h5")
    receipts.save()
    os.utime(where, (1, 1))
    assert raw(home, "a.h5") == name
    where.write_text(LARGE.upper())
    assert raw(home, "a.h5") != name


def test_a_result_that_cannot_be_read_once_is_read_again(home, monkeypatch):
    write_text("a table", home / "results" / "inventory.tsv")
    read = checksums.checksum_of

    def fails(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checksums, "checksum_of", fails)
    receipts = receipts_of(home)
    assert receipts.content("results/inventory.tsv") == ""
    receipts.save()
    monkeypatch.setattr(checksums, "checksum_of", read)
    for each in (receipts, receipts_of(home)):
        assert each.content("results/inventory.tsv") == read(home / "results" / "inventory.tsv")


def test_what_a_receipt_stated_outlives_a_run_that_withdrew_it_and_was_killed(home):
    put(home, "results/a.h5")
    receipts_of(home).withdraw(*KEY)  # saved at the end of a run alone, which does not come
    now = receipts_of(home)
    assert now.of(*KEY) is None
    assert now.last(*KEY).digest == digest(STATEMENT)


def test_the_end_of_links_to_receipts_makes_no_other_receipts(home, monkeypatch):
    put(home, "results/a.h5")
    receipt = home / "results/made/full_recon/a.json"
    os.link(receipt, home / "link")
    first = receipts_of(home)
    first.of(*KEY)
    first.save()
    (home / "link").unlink()  # changes the time of the inode
    monkeypatch.setattr(Receipts, "save", lambda *_: pytest.fail("read and saved again"))
    receipts_of(home).withdraw(*KEY)


def test_copies_of_equal_name_and_size_in_other_folders_are_told_apart(home):
    """As the scans of two days, of one name, with a prefix each: restored with new times."""
    days = ("monday", "tuesday")
    for day in days:
        (home / "raw" / day).mkdir(parents=True)
        (home / "raw" / day / "a_1.h5").write_text(f"{day:9}")
    before = [raw(home, f"raw/{day}/a_1.h5") for day in days]
    assert len({*before}) == 2
    for folder in ("restored", "again"):
        for day in days:
            (home / folder / day).mkdir(parents=True)
            (home / folder / day / "a_1.h5").write_text(f"{day:9}")
        assert [raw(home, f"{folder}/{day}/a_1.h5") for day in days] == before
