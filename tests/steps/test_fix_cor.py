"""fix_cor from files to table: what is read, how it is written, and that it settles."""

import json
import random
from pathlib import Path

import pytest

from tomopipe.campaign.results import read_tsv
from tomopipe.config import FixCorBlock, ResolveCorBlock
from tomopipe.cor.ai.model_card import shipped_sha256
from tomopipe.cor.cor_value import format_cor
from tomopipe.cor.outliers import EDITED, EMPTIED, FIX_COLUMNS, FIX_TABLE, JUDGED_BY_FEW, NOT_ASKED
from tomopipe.errors import TomopipeError
from tomopipe.steps import resolve_cor
from tomopipe.steps.fix_cor import compute, compute_protected, fix_cor

OPTIONS = FixCorBlock(fill="series")


def member(scan, index, manual="", **more):
    return {"scan": scan, "index": index, "n_cols": 2048, "manual": manual, "select": "in"} | more


def rows_of(predicted, members, options):
    return [fix.cells() for fix in compute(predicted, members, options).values()]


@pytest.fixture
def campaign(tmp_path):
    """Return a function that writes predictions and gives what the step takes."""

    def make(*cells, methods=()):
        predicted, members = {}, []
        for number, (text, manual) in enumerate(cells, start=1):
            scan = f"größe {number:03d}"
            members.append(member(scan, number, manual))
            if text is None:
                continue
            folder = tmp_path / scan
            folder.mkdir(exist_ok=True)
            files = folder / "center_of_rotation.txt", folder / "prediction.json"
            files[0].write_text(text, encoding="utf-8")
            method = methods[number - 1] if methods else "pairs"
            files[1].write_text(json.dumps({"method": method}))
            predicted[scan] = tuple(map(str, files))
        return predicted, members

    return make


def test_the_table_holds_every_rule_with_two_decimals(campaign, tmp_path):
    texts = ["1000.00", "", "1006.02\n", "1100", "1003.25", ""]
    methods = ["ai", None, "pairs", "pairs", "ai", None]
    cells = zip(texts, ["", "", "", "", "1004", ""], strict=True)
    predicted, members = campaign(*cells, methods=methods)
    output = tmp_path / "größe.tsv"
    fix_cor(predicted, output, members, OPTIONS)
    rows = read_tsv(output, FIX_COLUMNS)
    assert output.read_text(encoding="utf-8").splitlines()[0] == "\t".join(FIX_TABLE)
    # The means of 1000 and 1006.02; of 1006.02 and 1004; of 1000, 1006.02, 1005.01 and 1004.
    assert [(row["before_px"], row["after_px"], row["source"]) for row in rows] == [
        ("1000.00", "1000.00", "ai"),
        ("", "1003.01", "neighbours"),
        ("1006.02", "1006.02", "auto"),
        ("1100.00", "1005.01", "outlier"),
        ("1004.00", "1004.00", "manual"),
        ("", "1003.76", "series-mean"),
    ]
    assert [row["flagged"] for row in rows] == ["false"] * 3 + ["true"] + ["false"] * 2
    assert rows[3]["neighbours"] == "größe 003;größe 005"
    # Of 1000, 1006.02, 1100, 1004 the median is 1005.01 and the MAD 3.01.
    assert {row["limit_px"] for row in rows} == {"15.05"}


@pytest.mark.parametrize("junk", ["1024,5", "nan", "inf", "1000.0\n1001.0", "½", "\udcff1\0"])
def test_junk_in_a_prediction_counts_as_absent_and_is_reported(campaign, junk):
    predicted, members = campaign(("1000", ""), ("1002.00", ""))
    Path(predicted["größe 001"][0]).write_text(junk, "utf-8", "surrogateescape")
    row = rows_of(predicted, members, OPTIONS)[0]
    assert (row["before_px"], row["after_px"], row["source"]) == ("", "1002.00", "series-mean")
    assert row["reason"].startswith("center_of_rotation.txt holds ")
    assert "not a number, ignored" in row["reason"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-7", "center_of_rotation.txt: -7.00 is off the detector (0 to 2047), ignored"),
        ("see log", "center_of_rotation.txt holds 'see log', not a number, ignored"),
    ],
)
def test_what_is_no_cor_in_its_file_hides_no_accepted_prediction(campaign, text, reason):
    predicted, members = campaign((text, ""), ("1002.00", ""))
    accepted = {"method": "ai", "cor_px": 1001.5}
    Path(predicted["größe 001"][1]).write_text(json.dumps(accepted))
    row = rows_of(predicted, members, OPTIONS)[0]
    assert (row["after_px"], row["source"], row["reason"]) == ("1001.50", "ai", reason)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"method": null}', "\x00", "[" * 20000])
def test_a_damaged_prediction_json_costs_only_the_word_ai_and_is_said(campaign, text):
    predicted, members = campaign(("1000", ""), methods=["ai"])
    Path(predicted["größe 001"][1]).write_text(text)
    row = rows_of(predicted, members, OPTIONS)[0]
    assert (row["after_px"], row["source"]) == ("1000.00", "auto")
    assert row["reason"] == "prediction.json is damaged: delete it and run again"


@pytest.mark.parametrize(
    ("which", "message"),
    [(1, r"prediction\.json: cannot"), (0, r"_rotation\.txt: cannot be read.*Run predict")],
)
def test_a_file_that_the_disk_does_not_give_stops_the_step(campaign, which, message):
    """Its table would lack what was edited by hand, and nothing would make it again."""
    predicted, members = campaign(("1000", ""))
    path = Path(predicted["größe 001"][which])
    path.unlink()
    path.mkdir()  # reading it is an error of the system
    with pytest.raises(TomopipeError, match=message):
        rows_of(predicted, members, OPTIONS)


@pytest.fixture
def accepted(campaign, tmp_path):
    """Return a function that writes what the network accepted, and what the file holds now."""

    def make(*cells):
        predicted, members = campaign(*[(text, manual) for _, text, manual in cells])
        for member, (cor_px, _, _) in zip(members, cells, strict=True):
            record = {"method": "ai", "cor_px": cor_px, "confidence": 0.9996, "reason": "fine"}
            Path(predicted[member["scan"]][1]).write_text(json.dumps(record))
        return predicted, members

    return make


def test_a_file_edited_by_hand_is_manual(accepted):
    predicted, members = accepted(
        (1000.0, "1000.00\n", ""), (1000.2, "1003\n", ""), (None, "1001", ""), (1000.0, "1100", "")
    )
    rows = rows_of(predicted, members, OPTIONS)
    assert [row["source"] for row in rows] == ["ai", "manual", "manual", "manual"]
    assert [row["after_px"] for row in rows] == ["1000.00", "1003.00", "1001.00", "1100.00"]
    assert [row["reason"] for row in rows[:3]] == ["", EDITED, EDITED]
    assert rows[3]["reason"].startswith(f"{EDITED}; 98.00 px from the median")
    assert rows[3]["reason"].endswith("manual, kept")
    unprotected = rows_of(predicted, members, FixCorBlock(protect_manual=False))
    assert (unprotected[3]["source"], unprotected[3]["after_px"]) == ("outlier", "1001.00")
    assert unprotected[3]["reason"].startswith(EDITED)


def test_the_table_wins_over_an_edited_file(accepted):
    predicted, members = accepted((1000.0, "1003", "1005"))
    (row,) = rows_of(predicted, members, OPTIONS)
    assert (row["after_px"], row["source"], row["reason"]) == ("1005.00", "manual", "")


def test_an_emptied_file_is_no_cor_and_is_said(accepted):
    predicted, members = accepted((1000.0, "\n", ""), (1002.0, "1002.00", ""), (None, "", ""))
    rows = rows_of(predicted, members, OPTIONS)
    assert [row["source"] for row in rows] == ["series-mean", "ai", "series-mean"]
    assert rows[0]["reason"] == f"{EMPTIED}; no COR, mean of 1 of the series"
    assert rows[2]["reason"] == "no COR, mean of 1 of the series"


@pytest.mark.parametrize("cor_px", [1000.005, 1000.0051, 999.995, 0.0, 2047.0, 1e-9, 1234.5678])
def test_what_predict_cor_wrote_is_not_edited(accepted, cor_px):
    """The number in the file is that of the prediction, rounded to 0.01 px."""
    predicted, members = accepted((cor_px, f"{format_cor(cor_px)}\n", ""))
    (row,) = rows_of(predicted, members, OPTIONS)
    assert (row["source"], row["reason"]) == ("ai", "")


def test_a_failed_prediction_is_a_scan_without_cor(campaign):
    predicted, members = campaign((None, ""), ("1002.00", ""), (None, "1004"))
    rows = rows_of(predicted, members, OPTIONS)
    assert [row["source"] for row in rows] == ["series-mean", "auto", "manual"]
    assert rows[0]["after_px"] == "1003.00"
    assert rows[0]["reason"].startswith("the prediction failed; no COR")
    assert rows[2]["reason"] == ""  # it was not searched


def test_donors_fill_and_have_no_row(campaign):
    predicted, members = campaign(("", ""))
    donors = [
        member("d1", 1, select="donor", donor_px=900),
        member("d2", 2, "910", select="donor"),
        member("d3", 3, select="donor", donor_px=None, n_cols=9),
    ]
    (row,) = rows_of(predicted, members + donors, OPTIONS)
    assert (row["scan"], row["after_px"], row["source"]) == ("größe 001", "905.00", "series-mean")


SHIPPED = {"method": "ai", "model": {"name": "ai", "sha256": shipped_sha256()}}
OWN = {"method": "ai", "model": {"name": "own", "sha256": "0" * 64}}


@pytest.mark.parametrize(
    ("prediction", "options", "is_kept"),
    [
        (SHIPPED, {}, True),
        (SHIPPED | {"confidence": 0.9}, {}, False),
        (SHIPPED, {"protect_confident": None}, False),
        (OWN, {}, False),
        (OWN, {"protect_confident": 0.9}, True),
        ({"method": "classical"}, {}, False),
        ({"method": "classical"}, {"protect_confident": 0.9}, True),
        (SHIPPED | {"cor_px": 1000.5}, {"protect_manual": False}, False),  # by hand
    ],
)
def test_the_default_protects_what_the_shipped_network_predicts(
    campaign, prediction, options, is_kept
):
    predicted, members = campaign(("1000", ""), ("1100", ""), ("1002", ""))
    content = {"cor_px": 1100.0, "confidence": 0.99} | prediction
    Path(predicted["größe 002"][1]).write_text(json.dumps(content), encoding="utf-8")
    row = rows_of(predicted, members, FixCorBlock(**options))[1]
    assert row["after_px"] == ("1100.00" if is_kept else "1001.00")
    assert row["flagged"] == "true"


def test_a_scan_without_any_cor_tells_why_it_was_not_predicted(campaign):
    predicted, members = campaign(("", ""), ("", ""))
    doubt = {"method": "ai", "reason": "ai: the pictures are empty"}
    Path(predicted["größe 002"][1]).write_text(json.dumps(doubt), encoding="utf-8")
    rows = rows_of(predicted, members, OPTIONS)
    assert [row["reason"] for row in rows] == [
        "no COR, and none in the series to fill it from",
        "no COR (prediction: ai: the pictures are empty), and none in the series to fill it from",
    ]
    Path(predicted["größe 001"][0]).write_text("1000")
    rows = rows_of(predicted, members, OPTIONS)
    assert rows[1]["reason"] == "no COR, mean of 1 of the series"
    # what stops a run tells it too
    last = members[1:]
    scans = {member["scan"]: member for member in last}
    _, missing = resolve_cor.compute(compute(predicted, last, OPTIONS), scans, ResolveCorBlock())
    assert "(prediction: ai: the pictures are empty)" in missing["größe 002"]


def test_a_protected_cor_is_what_it_is_in_any_series(campaign):
    """By hand, in the edited file, and of a high confidence; others are unknown."""
    chance, n_known = random.Random(0), 0
    for _ in range(60):
        n = chance.randint(1, 9)
        cors_px = [
            chance.choice([1000, 1003, 1004.5, 1060, 1500]) + chance.random() for _ in range(n)
        ]
        manual = [
            f"{chance.uniform(900, 1100):.2f}" if chance.random() < 0.3 else "" for _ in cors_px
        ]
        texts = [f"{px:.2f}" if chance.random() < 0.8 else "" for px in cors_px]
        predicted, members = campaign(*zip(texts, manual, strict=True))
        for text, (_, path) in zip(texts, predicted.values(), strict=True):
            confidence = chance.choice([0.5, 0.89, 0.9, 0.99])
            known_px = chance.choice([float(text), 1010.0]) if text else None
            content = {"method": "ai", "cor_px": known_px, "confidence": confidence}
            Path(path).write_text(json.dumps(content))
        options = FixCorBlock(
            protect_manual=chance.random() < 0.7,
            protect_confident=chance.choice([None, 0.9]),
            max_delta_px=chance.choice([1.0, 50.0]),
            fill=chance.choice(["best", "series"]),
        )
        fixes = compute(predicted, members, options)
        for entry in members:
            if known := compute_protected(predicted[entry["scan"]], entry, options):
                fix, n_known = fixes[entry["scan"]], n_known + 1
                assert (known.after_px, known.source) == (fix.after_px, fix.source)
    assert n_known > 60


@pytest.mark.parametrize(
    ("manual", "confidence", "options", "is_known"),
    [
        ("1000", 0.0, {}, True),
        ("1000", 0.99, {"protect_manual": False, "protect_confident": 0.9}, False),
        ("3000", 0.5, {}, False),  # off the detector
        ("", 0.91, {"protect_confident": 0.9}, True),
        ("", 0.89, {"protect_confident": 0.9}, False),
        ("", 0.99, {"protect_confident": None}, False),
        ("", 0.99, {}, False),  # not of the shipped network
    ],
)
def test_what_protects_a_cor(campaign, manual, confidence, options, is_known):
    predicted, (entry,) = campaign(("1000.00", manual))
    content = {"method": "classical", "cor_px": 1000.0, "confidence": confidence}
    Path(predicted[entry["scan"]][1]).write_text(json.dumps(content))
    known = compute_protected(predicted[entry["scan"]], entry, FixCorBlock(**options))
    assert (known is not None) == is_known
    assert known is None or known.after_px == 1000.0


def test_without_prediction_a_default_wins_over_the_series(campaign):
    """A COR by hand is that of its scan; without a default it still helps its series."""
    cells = [("", "1000"), ("", ""), ("", "1004"), ("", "")]
    predicted, members = campaign(*cells)
    for _, path in predicted.values():
        Path(path).write_text(json.dumps({"verdict": "flat", "cor_px": None, "reason": NOT_ASKED}))
    fixes = compute(predicted, members, OPTIONS)
    rows = fixes.values()
    assert [row.source for row in rows] == ["manual", "neighbours", "manual", "series-mean"]
    assert [NOT_ASKED in row.reason for row in rows] == [False, True, False, True]
    scans = {member["scan"]: member for member in members}
    for default_px, after in [
        (1100.0, [1000.0, 1100.0, 1004.0, 1100.0]),
        (None, [1000.0, 1002.0, 1004.0, 1002.0]),
        (5000.0, [1000.0, 1002.0, 1004.0, 1002.0]),  # off the detector
    ]:
        options = ResolveCorBlock(default_px=default_px)
        table, missing = resolve_cor.compute(fixes, scans, options)
        assert [entry["cor_px"] for entry in table.values()] == after
        assert missing == {}


def test_doubtful_predictions_judge_no_fill(campaign):
    """Of five scans around a gap two are doubtful: one barely accepted, one of bad data."""
    predicted, members = campaign(*[(f"{1000 + n / 10}", "") for n in range(5)], ("", ""))
    for n, (_, path) in enumerate(list(predicted.values())[:5]):
        more = {0: {"confidence": 0.55}, 1: {"doubts": ["the sample moves"]}}.get(n, {})
        content = {"cor_px": 1000 + n / 10, "confidence": 0.9} | more
        Path(path).write_text(json.dumps(content))
    members = [entry | {"min_confidence": 0.5} for entry in members]
    row = compute(predicted, members, FixCorBlock())["größe 006"]
    assert (row.after_px, row.fill_px) == (1000.2, 1000.2)  # of all, as by the rules
    assert JUDGED_BY_FEW not in row.reason
    members = [entry | {"min_confidence": 0.85} for entry in members]
    assert JUDGED_BY_FEW in compute(predicted, members, FixCorBlock())["größe 006"].reason


def test_an_unreadable_scan_of_another_series_costs_itself_alone(campaign, tmp_path):
    predicted, members = campaign(("1000", ""), ("", ""))
    around = [member(f"b_{n}", n, "", order=1) for n in (1, 2, 3)]
    center = tmp_path / "b_1.txt"
    center.mkdir()
    files = str(center), str(tmp_path / "gone.json")
    rows = compute(predicted | {"b_1": files, "b_2": files}, members, FixCorBlock(), around)
    assert rows["größe 002"].after_px == 1000.0
