"""The campaign's record: what was made, what has become of it, and which raw file is which."""

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.campaign.files import Files
from tomopipe.errors import TomopipeError
from tomopipe.reruns import decisions, products
from tomopipe.reruns.compare import compare
from tomopipe.reruns.decisions import Decisions
from tomopipe.reruns.products import (
    Product,
    Record,
    digest,
    made_state_of,
    making,
    read_products,
)
from tomopipe.scans.fingerprint import fingerprint
from tomopipe.storage import checksums
from tomopipe.storage import run_folder as runs
from tomopipe.storage.atomic import whole, write_json, write_text
from tomopipe.storage.checksums import quick_state
from tomopipe.storage.tables import read_tsv

STATEMENT = {"step": "full_recon", "cor_px": 31.5}


@pytest.fixture
def record(tmp_path):
    (tmp_path / "results").mkdir()
    return Record(tmp_path / "results" / "products.tsv", tmp_path)


def home(record: Record) -> Path:
    """The campaign folder."""
    return Path(record.path_of(""))


def put(record: Record, path: str, text: str = "a result") -> Path:
    where = home(record) / path
    write_text(text, where)
    record.put(Product(path, quick_state(where), "made", checksums.checksum_of(where)))
    return where


def again(record: Record) -> Record:
    """Read the record as the next run does."""
    record.save()
    return Record(record.file, home(record))


def test_a_record_without_a_byte_is_none(record):
    record.file.write_bytes(b"")
    assert again(record).products == {}


def test_the_record_reads_back_as_it_was_written(record):
    put(record, "results/größe 1_rec.h5")
    assert again(record).products == record.products


def test_a_record_that_is_none_of_ours_says_what_to_do(tmp_path):
    path = tmp_path / "products.tsv"
    path.write_text("path\tsize\n")
    with pytest.raises(TomopipeError, match="Delete it and run again"):
        read_products(path)


def test_what_has_become_of_a_result(record):
    where = put(record, "results/a.json")
    assert record.damage("results/a.json") == ""
    os.utime(where, (1, 1))
    assert record.damage("results/a.json") == ""  # compared at once
    assert again(record).products["results/a.json"].mtime_ns == 10**9
    where.write_text("A result")
    assert record.damage("results/a.json") == "its content differs"
    where.write_text("")
    assert record.damage("results/a.json").startswith("0 bytes")
    where.unlink()
    assert record.damage("results/a.json") == "missing"


def test_large_files_wait_for_a_job_that_compares_them(record, monkeypatch):
    monkeypatch.setattr(products, "SMALL_BYTES", 4)
    where = put(record, "results/a_rec.h5")
    assert record.suspects() == []
    where.write_text("A result")
    assert record.damage("results/a_rec.h5") == ""
    assert record.suspects() == ["results/a_rec.h5"]
    record.compared("results/a_rec.h5", "its content differs", quick_state(where))
    assert record.damage("results/a_rec.h5") == "its content differs"
    where.write_text("a result")
    record.different.clear()
    record.compared("results/a_rec.h5", "", quick_state(where))
    assert record.suspects() == []


TILT_SERIES = "results/relion/tilt_series"


def put_tilt_series(record: Record) -> Path:
    where = home(record) / TILT_SERIES
    with whole(where) as folder:
        folder.mkdir()
        for scan in "ab":
            (folder / f"{scan}.star").write_text(f"angles of {scan}")
    state, checksum = made_state_of(where), checksums.made()[where]
    record.put(Product(TILT_SERIES, state, "made", checksum))
    return where


def _emptied(folder: Path) -> None:
    (folder / "a.star").write_text("")


def _edited(folder: Path) -> None:
    before = (folder / "a.star").stat()
    (folder / "a.star").write_text("angles of c")
    os.utime(folder / "a.star", ns=(before.st_atime_ns, before.st_mtime_ns))


def _exchanged(folder: Path) -> None:
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        (folder / f"{old}.star").rename(folder / f"{new}.star")


@pytest.mark.parametrize("change", [_emptied, _edited, _exchanged])
def test_a_change_of_a_file_of_tilt_series_is_noticed(record, change):
    folder = put_tilt_series(record)
    assert record.damage(TILT_SERIES) == ""
    change(folder)
    assert "a.star" in record.damage(TILT_SERIES)


def test_what_changes_no_file_of_tilt_series_is_no_damage(record):
    folder = put_tilt_series(record)
    os.utime(folder / "a.star", (1, 1))
    (folder / "notes.txt").write_text("mine")
    assert record.damage(TILT_SERIES) == ""
    assert again(record).products[TILT_SERIES].state == made_state_of(folder)


def test_many_tilt_series_wait_for_the_job_that_compares(record, monkeypatch):
    monkeypatch.setattr(products, "SMALL_BYTES", 4)
    folder = put_tilt_series(record)
    assert record.suspects() == []
    _edited(folder)
    assert (record.damage(TILT_SERIES), record.suspects()) == ("", [TILT_SERIES])
    _emptied(folder)  # sizes are compared at once
    assert record.damage(TILT_SERIES) == "another size: a.star"


def campaign_of(record: Record) -> SimpleNamespace:
    return SimpleNamespace(files=Files(record.file.parent), directory=home(record))


@pytest.mark.parametrize("path", ["a.h5", "results/a_rec.h5"])
def test_a_file_that_changes_after_it_was_compared_is_compared_again(record, monkeypatch, path):
    monkeypatch.setattr(products, "SMALL_BYTES", 4)
    where, found = home(record) / path, home(record) / "compared.tsv"
    put(record, path)
    if path == "a.h5":
        record.put(products.replace(record.products[path], statement="raw 8:1"))
    os.utime(where, (1, 1))
    record.save()
    compare(campaign_of(record), found)
    where.write_text("A result")  # while the others are compared
    record.compared(path, "", tuple(json.loads(read_tsv(found, ("state",))[0]["state"])))
    assert again(record).suspects() == [path]
    compare(campaign_of(record), found)
    assert read_tsv(found, ("difference",))[0]["difference"]


def test_a_file_that_changes_while_it_is_compared_is_left_to_the_next_run(record, monkeypatch):
    monkeypatch.setattr(products, "SMALL_BYTES", 4)
    where, found = put(record, "results/a_rec.h5"), home(record) / "compared.tsv"
    os.utime(where, (1, 1))
    record.save()
    plain = checksums.matches

    def meanwhile(*arguments, **options):
        same = plain(*arguments, **options)
        where.write_text("A result")
        return same

    monkeypatch.setattr(checksums, "matches", meanwhile)
    compare(campaign_of(record), found)
    assert read_tsv(found, ("path",)) == []


def test_a_raw_file_keeps_its_name_while_its_content_is_the_same(record):
    where = home(record) / "a.h5"
    where.write_text("frames")
    name = record.raw("a.h5")
    os.utime(where, (1, 1))
    assert again(record).raw("a.h5") == name
    os.utime(where, (2, 2))
    where.write_text("FRAMES")
    assert again(record).raw("a.h5") != name


def test_a_raw_file_changed_with_equal_size_and_time_is_another_one(record):
    where = home(record) / "a.h5"
    where.write_text("frames")
    name, old = record.raw("a.h5"), where.stat()
    where.write_text("FRAMES")
    os.utime(where, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert again(record).raw("a.h5") != name


def test_no_content_of_a_raw_file_has_the_name_of_an_earlier_one(record):
    """Results of the first may still be there, where later ones made none."""
    where, names = home(record) / "a.h5", []
    times_s = {"frames": 5, "FRAMES": 5, "Frames": 5, "fRAMES": 7, "frAMES": 5, "FRames": 7}
    for text, time_s in times_s.items():
        where.write_text(text)
        os.utime(where, (time_s, time_s))
        record = again(record)
        names.append(record.raw("a.h5"))
        assert again(record).raw("a.h5") == names[-1]
    assert len(set(names)) == len(times_s)


def test_a_raw_file_that_the_disk_does_not_give_is_not_another_one(record, monkeypatch):
    """Else all of its scan would be made again; the next run compares it."""
    plain = checksums._of_file

    def broken(path, *arguments, **options):
        if Path(path).name == "a.h5":
            raise OSError(errno.EIO, "Input/output error")
        return plain(path, *arguments, **options)

    where, found = home(record) / "a.h5", home(record) / "compared.tsv"
    where.write_text("frames")
    name = record.raw("a.h5")
    os.utime(where, (1, 1))
    with monkeypatch.context() as bad_disk:
        bad_disk.setattr(checksums, "_of_file", broken)
        assert again(record).raw("a.h5") == name
        bad_disk.setattr(products, "SMALL_BYTES", 4)
        compare(campaign_of(record), found)
        assert read_tsv(found, ("path",)) == []
    where.write_text("FRAMES")
    os.utime(where, (1, 1))
    assert again(record).raw("a.h5") != name


def test_a_result_that_the_disk_does_not_give_is_not_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.h5").write_text("frames")
    write_json({"made_from": STATEMENT}, "results/a.json")
    campaign = campaign_from_data({"campaign": {"scans": ["a.h5"]}}, tmp_path)
    wanted = STATEMENT | {"cor_px": 32.5}
    asked = ("full_recon", "a", ["results/a.json"], wanted)
    assert Decisions(campaign).reason(*asked) == "COR of a: 31.50 -> 32.50"
    plain, calls = Path.read_text, []

    def once_broken(path, **options):
        calls.append(path)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return plain(path, **options)

    monkeypatch.setattr(Path, "read_text", once_broken)
    assert Decisions(campaign).reason(*asked)


def test_results_of_another_raw_file_say_which_it_was(tmp_path):
    for day in ("day1", "day2"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "a.h5").write_text(f"frames of {day}")

    def reason(pattern):
        campaign = campaign_from_data({"campaign": {"scans": [pattern]}}, tmp_path)
        found = Decisions(campaign)
        wanted = STATEMENT | {"raw": found.raw("a")}
        why = found.reason("full_recon", "a", ["results/a.json"], wanted)
        found.save()
        return why, wanted

    write_json({"made_from": reason("day1/*.h5")[1]}, tmp_path / "results/a.json")
    assert reason("day1/*.h5")[0] == ""
    os.utime(tmp_path / "day2/a.h5", (1, 1))
    assert reason("day2/*.h5")[0] == "raw file is another one: day2/a.h5, was day1/a.h5"
    (tmp_path / "day1/a.h5").write_text("again")
    assert reason(f"{tmp_path}/day1/*.h5")[0].startswith("raw file replaced ")
    assert reason("day1/*.h5")[0].startswith("raw file replaced ")


def test_exchanged_large_results_are_told_by_what_they_state(tmp_path, monkeypatch):
    """Of results that were there before the record nobody has a checksum."""
    for module in (products, decisions):
        monkeypatch.setattr(module, "SMALL_BYTES", 4)
    monkeypatch.chdir(tmp_path)
    Path("a.h5").write_text("frames")
    write_json({"made_from": STATEMENT}, "results/a.json")
    campaign = campaign_from_data({"campaign": {"scans": ["a.h5"]}}, tmp_path)
    asked = ("full_recon", "a", ["results/a.json"], STATEMENT)

    def reason():
        found = Decisions(campaign)
        why = found.reason(*asked)
        found.save()
        return why

    assert reason() == ""
    os.utime("results/a.json", (1, 1))
    assert reason() == ""
    write_json({"made_from": STATEMENT | {"cor_px": 32.5}}, "results/a.json")
    assert reason() == "COR of a: 32.50 -> 31.50"


def test_a_raw_file_keeps_its_name_where_its_path_is_spelled_otherwise(record):
    (home(record) / "a.h5").write_text("frames")
    name = record.raw("a.h5")
    os.utime(home(record) / "a.h5", (1, 1))
    assert record.raw("a.h5") == name
    assert again(record).raw(str(home(record) / "a.h5")) == name


def test_images_replaced_by_others_of_equal_size_and_time(record, monkeypatch):
    monkeypatch.setattr(products, "SMALL_BYTES", 4)
    image, found = home(record) / "a" / "im_1.tif", home(record) / "compared.tsv"
    image.parent.mkdir()
    image.write_text("pixels")
    old, name = image.stat(), record.raw("a")
    record.put(products.replace(record.products["a"], checksum=fingerprint(image.parent)))
    image.unlink()
    image.write_text("PIXELS")
    os.utime(image, ns=(old.st_atime_ns, old.st_mtime_ns))
    now = again(record)
    assert (now.raw("a"), now.suspects()) == (name, ["a"])
    compare(campaign_of(record), found)
    (row,) = read_tsv(found, ("state", "difference"))
    now.compared("a", row["difference"], tuple(json.loads(row["state"])))
    assert (now.raw("a") != name, now.suspects()) == (True, [])


def test_a_large_raw_file_without_a_checksum_is_told_by_its_time(record, monkeypatch):
    monkeypatch.setattr(products, "SMALL_BYTES", 4)
    where = home(record) / "a.h5"
    where.write_text("frames")
    name = record.raw("a.h5")
    where.chmod(0o600)
    assert again(record).raw("a.h5") == name
    os.utime(where, (1, 1))
    assert again(record).raw("a.h5") != name
    assert record.raw("none.h5") == "raw none"


def test_a_record_of_another_user_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    file = tmp_path / "products.tsv"
    file.write_text("")

    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(TomopipeError, match=rf"cannot be read .* Its owner, {file.owner()}, may"):
        read_products(file)


def test_jobs_tell_what_they_have_made_and_read(record, monkeypatch):
    monkeypatch.chdir(home(record))
    (home(record) / "a.h5").write_text("frames")
    name = record.raw("a.h5")
    monkeypatch.setenv(runs.VARIABLE, str(runs.begin(Path("results"))))
    params = SimpleNamespace(made_from=json.dumps(STATEMENT), raw_files='["a.h5"]')
    with making("logs/try_recon/a.log", ["results/rows.h5"], params):
        write_text("rows", "results/rows.h5")
    os.utime("results/rows.h5")  # as Snakemake does when a job has ended
    (said,) = runs.job_records(Path("results"))
    record.take(
        [Product(**product | {"state": tuple(product["state"])}) for product in said["products"]]
    )
    record.take_raw(said["raw"])
    assert record.damage("results/rows.h5") == ""
    assert record.products["results/rows.h5"].statement == digest(STATEMENT)
    assert record.raw("a.h5") == name


def read_by_a_job(record: Record, monkeypatch, meanwhile) -> None:
    """Let a job of try_recon read a.h5, and take what it tells."""
    monkeypatch.chdir(home(record))
    monkeypatch.setenv(runs.VARIABLE, str(runs.begin(Path("results"))))
    with making("logs/try_recon/a.log", [], SimpleNamespace(raw_files='["a.h5"]')):
        meanwhile()
    (said,) = runs.job_records(Path("results"))
    record.take_raw(said["raw"])


def test_a_raw_file_replaced_while_it_is_read_is_another_one(record, monkeypatch):
    monkeypatch.setattr(products, "SMALL_BYTES", 4)
    where, other = home(record) / "a.h5", home(record) / "other.h5"
    where.write_text("frames")
    other.write_text("FRAMES")
    os.utime(other, (1, 1))
    name = record.raw("a.h5")
    read_by_a_job(record, monkeypatch, lambda: other.replace(where))
    assert record.products["a.h5"].checksum == ""
    assert again(record).raw("a.h5") != name


def test_a_file_of_several_scans_is_compared_with_what_the_first_has_read(record, monkeypatch):
    monkeypatch.setattr(products, "SMALL_BYTES", 4)
    where = home(record) / "a.h5"
    where.write_text("frames")
    name = record.raw("a.h5")
    record.put(products.replace(record.products["a.h5"], checksum=checksums.checksum_of(where)))
    read_by_a_job(record, monkeypatch, lambda: os.utime(where, (1, 1)))
    assert again(record).suspects() == ["a.h5"]
    assert record.raw("a.h5") == name


def test_a_sweep_that_the_disk_did_not_give_is_not_what_was_wanted(record, monkeypatch):
    monkeypatch.chdir(home(record))
    monkeypatch.setenv(runs.VARIABLE, str(runs.begin(Path("results"))))
    params = SimpleNamespace(made_from=json.dumps(STATEMENT))
    with making("logs/try_recon/a.log", ["results/try.json"], params):
        write_json({"made_from": STATEMENT | {"not_read": "EIO"}}, "results/try.json")
    (said,) = runs.job_records(Path("results"))
    assert said["products"][0]["statement"] != digest(STATEMENT)


def test_a_page_that_lacks_what_the_disk_did_not_give_is_not_what_was_wanted(record, monkeypatch):
    monkeypatch.chdir(home(record))
    monkeypatch.setenv(runs.VARIABLE, str(runs.begin(Path("results"))))
    params = SimpleNamespace(made_from=json.dumps(STATEMENT))
    with making("logs/report/campaign.log", ["results/index.html"], params) as more:
        write_text("page", "results/index.html")
        more["not_read"] = ["results/cor.json"]
    (said,) = runs.job_records(Path("results"))
    assert said["products"][0]["statement"] != digest(STATEMENT)


def test_a_volume_of_a_raw_file_that_changes_meanwhile_is_not_written(record, monkeypatch):
    monkeypatch.chdir(home(record))
    Path("a.h5").write_text("frames")
    params = SimpleNamespace(made_from=json.dumps(STATEMENT), raw_files='["a.h5"]')

    def full_recon():
        with making("logs/full_recon/a.log", ["results/a_rec.h5"], params):
            Path("a.h5").write_text("other frames")
            write_text("volume", "results/a_rec.h5")

    with pytest.raises(TomopipeError, match=r"a\.h5: changed while it was read"):
        full_recon()
    assert not Path("results/a_rec.h5").exists()

    with making("logs/full_recon/a.log", ["results/a_rec.h5"], params):
        Path("a.h5").unlink()  # after it was read
        write_text("volume", "results/a_rec.h5")
    assert Path("results/a_rec.h5").exists()


def test_a_raw_file_is_compared_with_what_was_taken_of_it_then(tmp_path, monkeypatch):
    monkeypatch.setattr(products, "SUMMED_BYTES", 1000)
    frames, path = np.zeros((20, 300, 200), np.uint16), tmp_path / "raw.h5"  # 2.4 MB
    contents = set()
    for value in (0, 1):  # of one pixel, which lies between the pieces that are taken
        frames[3, 7, 11] = value
        with h5py.File(path, "w") as file:
            file["exchange/data"] = frames
        contents |= {
            checksums.checksum_of(path),
            fingerprint(path, "v1"),
            products.raw_content(path),
        }
    found = {content: products.raw_differs(path, content) for content in contents}
    assert sorted(found.values()) == [False, False, False, True, True]
    assert found[fingerprint(path)] is False
    assert fingerprint(path).startswith(f"sample:{path.stat().st_size}:v2:")
    path.unlink()
    assert {products.raw_differs(path, content) for content in contents} == {None}


def test_a_raw_file_that_was_written_anew_is_not_the_one_that_was_told(record):
    raw = home(record) / "a_1.h5"
    raw.write_bytes(b"before")
    before = record.raw("a_1.h5")
    product = record.products["a_1.h5"]
    with raw.open("r+b") as stream:  # the same size and inode
        stream.write(b"afters")
    os.utime(raw, ns=(product.mtime_ns + 1, product.mtime_ns + 1))
    newer = Record(record.file, home(record))
    newer.take([product])
    assert newer.raw("a_1.h5") != before
