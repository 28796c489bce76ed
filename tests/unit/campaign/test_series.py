"""Which series of a campaign are compared with each other."""

from tomopipe.campaign.series import series_around


def test_series_are_compared_with_the_nearest_of_their_length():
    kinds = {f"s{n}": [3 if n % 2 else 1] for n in range(1, 24)}
    around = series_around(kinds)
    assert around["s11"] == [
        *((-8, "s3"), (-6, "s5"), (-4, "s7"), (-2, "s9")),
        *((2, "s13"), (4, "s15"), (6, "s17"), (8, "s19")),
    ]
    assert around["s1"] == [(2, "s3"), (4, "s5"), (6, "s7"), (8, "s9")]


def test_recorded_heights_bring_series_of_other_lengths_together():
    around = series_around({"a": [3, "height"], "b": [2], "c": [4, "height"], "d": [5]})
    assert around == {"a": [(2, "c")], "b": [], "c": [(-2, "a")], "d": []}
