import pandas as pd
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


def test_the_text_is_that_of_the_package_starfile(tmp_path):
    tables = {
        "global": {"rlnTomoName": ["a b", "c"], "rlnTomoHand": ["", "-1"]},
        "a b": {"rlnTomoProjX": ["[1,0,0,1]", "[0,0,1,2]"], "rlnDefocusU": ["0", "0"]},
    }
    star.write_star(tables.items(), tmp_path / "set.star")
    frames = {name: pd.DataFrame(columns, dtype=object) for name, columns in tables.items()}
    text = starfile.to_string(frames)
    assert (tmp_path / "set.star").read_text() == text[text.index("data_global") :]


def test_a_table_without_rows_keeps_its_labels(tmp_path):
    path = tmp_path / "set.star"
    star.write_star([("global", {"rlnTomoName": [], "rlnTomoHand": []})], path)
    table = starfile.read(path)
    assert (len(table), list(table)) == (0, ["rlnTomoName", "rlnTomoHand"])


@pytest.mark.parametrize("value", ["it's", 'a"b', "a#b", "a\tb", "a\nb", "a\udcffb"])
def test_what_a_star_file_cannot_carry_is_refused(tmp_path, value):
    with pytest.raises(TomopipeError, match="Choose another folder"):
        star.write_star([("global", {"a": [value]})], tmp_path / "set.star")
    assert list(tmp_path.iterdir()) == []


def test_the_text_is_as_relion_reads_it(tmp_path):
    path = tmp_path / "set.star"
    star.write_star([("global", {"a": ["1"]}), ("x", {"b": ["2", "3"]})], path)
    # No time stamp or comment, LF ends, an empty line after the rows.
    expected = b"data_global\n\nloop_\n_a #1\n1\n\n\ndata_x\n\nloop_\n_b #1\n2\n3\n\n\n"
    assert path.read_bytes() == expected
