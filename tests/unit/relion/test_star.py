import pytest
import starfile

from tomopipe.errors import TomopipeError
from tomopipe.relion import star

NAMES = ["sample_001", "0042", "S-1.5", "my_data_1", "Global", "x" * 200]


@pytest.mark.parametrize(
    ("scan", "stem"),
    [
        *zip(NAMES, NAMES, strict=True),  # as RELION takes them
        ("two words", "two_words_"),
        ("Zähne", "Zahne_"),
        ("歯", "scan_"),
        ("global", "global_"),
        ("data_1", "scan_data_1_"),
        ("_x", "scan_x_"),
        ("-x", "scan_x_"),
        ("a/b@c;d'e\"f$g", "a_b_c_d_e_f_g_"),
        ("bad\udcffbyte", "bad_byte_"),
        ("ä" * 240, "a" * 100),
    ],
)
def test_a_name_that_relion_does_not_take_is_mapped_to_one(scan, stem):
    name = star.tomo_names([scan])[scan]
    assert name.startswith(stem)
    assert star.is_tomo_name(name)
    assert (name == scan) == (scan in NAMES)


def test_names_are_unique_and_hang_on_no_other_scan_but_one_of_that_name():
    alone = star.tomo_names(["a b"])["a b"]
    names = star.tomo_names(["a?b", "a b", "a_b", "a!b"])
    assert names["a b"] == alone
    assert names["a_b"] == "a_b"
    assert len(set(names.values())) == 4
    names = star.tomo_names(["a b", alone])
    assert names[alone] == alone
    assert names["a b"] != alone
    assert names["a b"].startswith(alone)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (6e-17, "0"), (1.0, "1"), (-2 / 3, "-0.6666666667"), (1e4, "10000")],
)
def test_numbers_have_ten_digits(value, text):
    assert star.number_text(value) == text


def test_a_table_without_rows_keeps_its_labels(tmp_path):
    path = tmp_path / "set.star"
    path.write_text(star.table_text("global", {"rlnTomoName": [], "rlnTomoHand": []}, path))
    table = starfile.read(path)
    assert (len(table), list(table)) == (0, ["rlnTomoName", "rlnTomoHand"])


@pytest.mark.parametrize("value", ["it's", 'a"b', "a#b", "a\tb", "a\nb", "a\udcffb"])
def test_what_a_star_file_cannot_carry_is_refused(value):
    with pytest.raises(TomopipeError, match=r"set.star: .*Choose another folder"):
        star.table_text("global", {"a": [value, "b"], "n": 1.0}, "set.star")


def test_the_text_is_as_relion_reads_it():
    """No time stamp or comment, an empty line after the rows; fields with blanks are quoted."""
    text = star.table_text("x", {"a": ["b c", ""], "n": star.zeroed([1 / 3, 1e-17]), "k": -1}, "")
    assert text == (
        'data_x\n\nloop_\n_a #1\n_n #2\n_k #3\n"b c"\t0.3333333333\t-1\n""\t0\t-1\n\n\n'
    )


def test_tables_are_where_they_are_stated_to_be():
    texts = {name: star.table_text(name, {"a": ["data_x", "y"]}, "") for name in ("global", "0042")}
    content = "".join(texts.values()).encode()
    places = star.table_places(content)
    assert {name: content[place].decode() for name, place in places.items()} == texts
    assert star.table_places(b"") == {}
    damaged = content.replace(b"0042", b"\xff\xfe42")
    assert "global" in star.table_places(damaged)
