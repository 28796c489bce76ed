"""The report step on whole, broken, empty and large campaigns."""

import json
import os
import re

import h5py
import numpy as np
import pytest

from tests import report_campaign
from tests.report_campaign import break_files, every_state, large
from tomopipe.report import fragments, render
from tomopipe.steps.report import report
from tomopipe.volumes.volume import new_volume

MAX_BYTES_PER_SCAN = 25_000
MAX_CODE_BYTES = 300_000
UNREADABLE = "/proc/self/mem"  # there is nothing at address 0: reading it is an I/O error


def reported(made):
    """Write the page and return it."""
    report(made.page, made.campaign())
    return made.page.read_text(encoding="utf-8")


def test_size_of_a_scan_among_many(tmp_path):
    made = every_state(tmp_path, plane_px=400)
    for index in range(40):
        made.scan(f"more_{index}", series="more", index=index)
    rng = np.random.default_rng(0)
    with h5py.File(made.results / "bone_001_rec.h5", "a") as file:
        for plane in file["exchange"].values():
            plane[...] = rng.normal(size=plane.shape)  # pure noise compresses worst
    made.sweep("bone_001", 511.65, n=1024, contrast=60_000)
    html = reported(made.write())
    entry = json.loads((made.page.parent / "pictures.json").read_text())["bone_001"]
    parts = [*entry["volume"]["made"]["planes"], entry["strip"]["made"]["picture"]]
    assert len(parts) == 4
    assert sum(len(p["src"]) for p in parts) < MAX_BYTES_PER_SCAN - 5_000
    row = next(part for part in html.split("<tr id=")[1:] if ">bone_001<" in part)
    card = next(part for part in html.split("<article ")[1:] if ">bone_001<" in part)
    assert 'class="strip"' in card
    n_bytes = len(row.split("</tr>")[0]) + len(card.split("</article>")[0])
    assert n_bytes < MAX_BYTES_PER_SCAN
    assert len(re.search("<script>.*?</script>", html, re.S)[0]) < MAX_CODE_BYTES
    assert not (made.page.parent / "pictures").exists()


def test_a_broken_campaign_is_still_reported(tmp_path, caplog):
    made = every_state(tmp_path).write()
    n_broken = break_files(tmp_path)
    html = reported(made)
    for word in ("results/cor.json", "is damaged", "bone_001_rec.h5"):
        assert word in html
    assert html.count('<tr id="') == 13
    assert html.count("<img ") == 0
    assert len(caplog.records) >= n_broken - 8  # volumes are in the page


def test_a_page_names_what_the_disk_did_not_give_and_not_what_is_damaged(tmp_path):
    made = every_state(tmp_path).write()
    break_files(tmp_path)
    assert report(made.page, made.campaign()) == []
    volume = made.results / "bone_002_rec.h5"
    volume.unlink()
    volume.symlink_to(UNREADABLE)
    assert report(made.page, made.campaign()) == ["results/bone_002_rec.h5"]
    # pictures of sweeps that were removed are nowhere else
    cache = made.page.parent / "pictures.json"
    cache.unlink()
    cache.symlink_to(UNREADABLE)
    with pytest.raises(OSError, match="Input/output"):
        report(made.page, made.campaign())
    assert cache.is_symlink()


def test_nothing_at_all(tmp_path):
    html = reported(report_campaign.Made(tmp_path))
    assert "No scans." in html
    assert "<b>0</b> of 0 predicted" in html


def test_bytes_that_are_no_text_make_a_valid_page(tmp_path):
    made = report_campaign.Made(tmp_path)
    name = os.fsdecode(b"gr\xfc\xdfe_1")
    made.scan(name, series="x")
    assert "gr��e_1" in reported(made)


@pytest.mark.parametrize(("output_format", "end"), [("h5", ".h5"), ("tiff", "")])
def test_real_volumes_show_their_mid_planes(tmp_path, output_format, end):
    made = report_campaign.Made(tmp_path)
    made.scan("a_1", series="a")
    made.resolve("a_1", 10.0, "auto")
    values = np.random.default_rng(0).normal(size=(4, 20, 20)).astype(np.float32)
    path = made.write().results / f"a_1_rec{end}"
    with new_volume(path, values.shape, output_format=output_format) as put:
        put(0, values)
    assert reported(made).count("<img ") == 3


def test_raw_data_are_never_opened(tmp_path):
    made = report_campaign.Made(tmp_path)
    made.scan("a_1", series="a")
    made.write()
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    (tmp_path / "raw").mkdir()
    os.symlink(tmp_path / "pipe", tmp_path / "raw" / "a_1.h5")
    failed = made.results / "failed" / "try_recon" / "a_1.json"
    report_campaign.write_json({"bytes": 0, "mtime_ns": 0, "reason": "killed"}, failed)
    assert "a_1" in reported(made)


def mark(made):
    """Mark the pictures that the report remembers; those made again are without a mark."""
    cache = made.page.parent / "pictures.json"
    kept = json.loads(cache.read_text())
    for name, of_scan in kept.items():
        of_scan["volume"]["made"]["planes"][0]["src"] = f"volume of {name}"
        if "strip" in of_scan:
            of_scan["strip"]["made"]["picture"]["src"] = f"strip of {name}"
    cache.write_text(json.dumps(kept))


def marked(html):
    return set(re.findall(r'src="((?:volume|strip) of [^"]*)"', html))


def test_pictures_are_made_again_only_where_a_volume_or_a_cor_changed(tmp_path):
    made = every_state(tmp_path).write()
    n_pictures = reported(made).count("<img ")
    mark(made)
    before = marked(reported(made))
    assert len(before) == 8 + 5
    made.volume("bone_002", seed=99)
    made.resolve("bone_003", 513.05, "manual")
    again = marked(reported(made.write()))
    assert before - again == {"volume of bone_002", "strip of bone_003"}
    for rubbish in (
        "{",
        "[]",
        "[" * 200_000,
        json.dumps({"bone_001": 1, "bone_002": {"stamp": None}}),
    ):
        (made.page.parent / "pictures.json").write_text(rubbish)
        html = reported(made)
        assert (html.count("<img "), marked(html)) == (n_pictures, set())


def test_the_strip_of_a_try_stack_that_was_removed_stays_while_its_cor_does(tmp_path):
    made = every_state(tmp_path, plane_px=0).write()
    strips = reported(made).count('class="strip"')
    (made.results / "try_center" / "bone_002" / "try.tif").unlink()
    for _ in range(2):  # what is kept is kept again
        assert reported(made).count('class="strip"') == strips
    made.resolve("bone_002", 513.05, "manual")
    assert reported(made.write()).count('class="strip"') == strips - 1


def test_a_sweep_that_cannot_be_read_is_noted(tmp_path):
    made = every_state(tmp_path, plane_px=0).write()
    (made.results / "try_center" / "bone_002" / "try.tif").write_bytes(b"II*\0")
    html = reported(made)
    assert html.count('class="strip"') == 4
    assert "bone_002/try.tif" in html


def test_many_scans_have_their_pictures_beside_the_page(tmp_path):
    made = large(tmp_path, n_scans=201, n_volumes=3).write()
    html = reported(made)
    folder = made.page.parent / "pictures"
    names = {f"pictures/{path.name}" for path in folder.iterdir()}
    assert len(names) == 3 * 3
    assert names == set(re.findall(r'src="(pictures/[^"]*)"', html))
    assert "data:image" not in html
    (made.results / "run0_0001_rec.h5").unlink()
    report(made.page, made.campaign())
    assert len(list(folder.iterdir())) == 3 * 2  # what is not shown does not stay
    name, _ = made.scans.popitem()
    made.inventory = [row for row in made.inventory if row["scan"] != name]
    assert made.page.with_name("rows.txt").exists()
    assert reported(made.write()).count("data:image/webp") == 3 * 2
    assert not folder.exists()
    assert not made.page.with_name("rows.txt").exists()


@pytest.fixture
def n_made(monkeypatch):
    """Give the number of rows and cards that were made since it was last asked."""
    pages = []

    class Counted(fragments.Fragments):
        def __init__(self, path=None):
            super().__init__(path)
            pages.append(self)

    monkeypatch.setattr(render, "Fragments", Counted)
    return lambda: sum(pages.pop().n_made for _ in pages[:])


def test_a_row_and_a_card_are_made_again_only_where_something_on_them_changed(tmp_path, n_made):
    made = large(tmp_path, n_scans=201, n_volumes=1).write()
    prediction = made.results / "try_center" / "run0_0003" / "prediction.json"
    html = reported(made)
    assert n_made() == 2 * 201  # a row and a card each
    assert reported(made) == html
    assert n_made() == 0
    made.resolve("run0_0002", 1234.56, "manual")
    edited = reported(made.write())
    assert (n_made(), "1234.56" in edited) == (2, True)
    content = json.loads(prediction.read_text())
    next(iter(content["methods"].values()))["curve"]["score"][1] += 0.25
    prediction.write_text(json.dumps(content))
    bent = reported(made)
    assert (n_made(), bent != edited) == (1, True)  # the card, which shows the curve
    made.page.with_name("rows.txt").unlink()
    assert reported(made) == bent
    assert n_made() == 2 * 201
    (tmp_path / "elsewhere").mkdir()
    report(tmp_path / "elsewhere" / "index.html", made.campaign())  # it has its own beside it
    assert n_made() == 2 * 201


@pytest.mark.parametrize("damage", ["cut", "changed", "rubbish", "another version"])
def test_rows_of_a_damaged_file_or_another_version_are_made_again(
    damage, tmp_path, n_made, monkeypatch
):
    made = large(tmp_path, n_scans=201, n_volumes=0).write()
    html, rows = reported(made), made.page.with_name("rows.txt")
    n_all, content = n_made(), rows.read_bytes()
    damaged = {
        "cut": content[:-9],
        "changed": content.replace(b"run0_0001", b"run0_9999"),
        "rubbish": b"\xff[" * 9,
        "another version": content,
    }
    rows.write_bytes(damaged[damage])
    if damage == "another version":
        monkeypatch.setattr(fragments, "_code", lambda: b"of another version")
    assert reported(made) == html
    assert n_made() == n_all
    assert reported(made) == html
    assert n_made() == 0


def test_pictures_of_others_in_the_folder_of_pictures_stay(tmp_path):
    made = large(tmp_path, n_scans=201, n_volumes=1).write()
    folder = made.page.parent / "pictures"
    folder.mkdir(parents=True)
    others = {folder / name for name in ("holiday.webp", "0-mid_xy.webp", "notes.txt")}
    for path in others:
        path.write_bytes(b"of somebody else")
    report(made.page, made.campaign())
    assert len(set(folder.iterdir()) - others) == 3
    (made.results / "run0_0001_rec.h5").unlink()
    report(made.page, made.campaign())
    assert set(folder.iterdir()) == others


def test_a_thousand_scans(tmp_path):
    html = reported(large(tmp_path, n_scans=1000, n_volumes=0).write())
    assert len(html.encode()) < 1000 * 8_000
    assert html.count('<tr id="') == 1000
    assert "1000</b> of 1000 COR resolved" in html


def test_a_page_elsewhere_takes_the_pictures_of_the_report_and_leaves_nothing_beside_it(tmp_path):
    made = every_state(tmp_path / "campaign").write()
    n_pictures = reported(made).count("<img ")
    mark(made)
    cache = made.page.with_name("pictures.json")
    before = cache.read_bytes()
    page = tmp_path / "elsewhere" / "index.html"
    page.parent.mkdir()
    report(page, made.campaign())
    assert page.read_text().count("<img ") == n_pictures
    assert len(marked(page.read_text())) == 8 + 5
    assert list(page.parent.iterdir()) == [page]
    assert cache.read_bytes() == before
