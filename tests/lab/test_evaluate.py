"""Evaluation: what is asked, what is kept, and the figures that come of it."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from find_rows import THETA_180_DEG, grid, rows_of, scan
from tomopipe_lab.evaluate.answers import Answer, append, read_answers
from tomopipe_lab.evaluate.run import ANSWERS, ask, evaluate
from tomopipe_lab.evaluate.suites import SUITES
from tomopipe_lab.evaluate.summary import by_family, summarise, to_plain
from tomopipe_lab.evaluate.tables import markdown
from tomopipe_lab.suite import NULLS, Case
from typer.testing import CliRunner

from tomopipe.cli import cli
from tomopipe.cor.collected_rows import write_rows
from tomopipe.errors import TomopipeError
from tomopipe.steps.resolve_cor import rot_cen
from tomopipe.storage.atomic import write_json

COR_PX = 82.4
OPTIONS = {"methods": ["classical", "ai"], "min_confidence": 0.5}
QUICK = OPTIONS | {"methods": ["classical"]}  # where a second method may be the decision
RUNNER = CliRunner()


def case(name="one", truth_px=COR_PX):
    rows = rows_of(scan(COR_PX, n_cols=160), THETA_180_DEG)
    return Case(name, "rock", ("clean",), rows, truth_px, grid(160))


@dataclass
class Item:
    """A case that counts how often it was looked at."""

    name: str
    loads: int = 0

    def load(self):
        self.loads += 1
        return case(self.name)


def answer(**changes):
    plain = Answer(
        scan="a", family="rock", conditions=("clean",), truth_px=100.0, grid_px=(50.0, 150.0),
        method="ai", best_cor_px=100.2, cor_px=100.2, confidence=0.9, verdict="resolved",
        reason="", seconds=1.0,
    )  # fmt: skip
    return replace(plain, **changes)


def test_every_method_and_the_decision_are_asked_as_predict_cor_would():
    names = ["classical", "ai", "decision"]
    classical, ai, decision = answers = ask(case(), names, OPTIONS)
    assert [answer.method for answer in answers] == names
    for answer in answers:
        assert answer.error_px < 0.25
        assert answer.accepted
        assert answer.in_grid
        assert answer.seconds > 0
    # the first confident one of the options
    assert decision.best_cor_px == classical.best_cor_px != ai.best_cor_px


def test_a_method_that_fails_is_a_miss():
    broken = case()
    rows = replace(broken.rows, sinograms=np.full_like(broken.rows.sinograms, np.nan))
    (answer,) = ask(replace(broken, rows=rows), ["classical"], OPTIONS)
    assert answer.best_cor_px is None
    assert answer.error_px == np.inf
    assert not answer.accepted


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    items = [Item("one"), Item("two")]
    first = evaluate(items[:1], ["classical"], QUICK, folder=tmp_path)
    with open(tmp_path / ANSWERS, "a") as file:
        file.write('{"scan": "two", "fam')  # killed while it wrote
    progress_calls = []
    options = {"folder": tmp_path, "progress": lambda *args: progress_calls.append(args)}
    both = evaluate(items, ["classical"], QUICK, **options)
    assert [item.loads for item in items] == [1, 1]
    assert both[0] == first[0]
    assert progress_calls == [(1, 2, ""), (2, 2, "two")]
    more = evaluate(items, ["classical", "decision"], QUICK, folder=tmp_path)
    assert [(answer.scan, answer.method) for answer in more] == [
        ("one", "classical"), ("one", "decision"), ("two", "classical"), ("two", "decision"),
    ]  # fmt: skip
    assert len(read_answers(tmp_path / ANSWERS)) == 4
    with pytest.raises(TomopipeError, match="new folder"):
        evaluate(items, ["classical"], {**QUICK, "min_confidence": 0.9}, folder=tmp_path)


def test_answers_come_back_as_written(tmp_path):
    kept = [answer(), answer(truth_px=None, best_cor_px=None, cor_px=None, reason="ä\n\tb")]
    append(kept, tmp_path / "answers.jsonl")
    assert read_answers(tmp_path / "answers.jsonl") == kept
    assert read_answers(tmp_path / "none.jsonl") == []
    (tmp_path / "bad.jsonl").write_text('{"scan": 1}\n')
    with pytest.raises(TomopipeError, match="line 1"):
        read_answers(tmp_path / "bad.jsonl")


def test_figures_of_known_answers():
    errors_px = [0.1, 0.4, 0.6, 0.9, 1.4, 3.0, None, None]
    accepted = [True, True, True, True, True, False, False, False]
    answers = [
        answer(
            scan=str(index),
            best_cor_px=None if error is None else 100 - error,
            cor_px=100 - error if taken else None,
            confidence=0.9 if taken else 0.1,
            seconds=float(index),
            verdict="failed" if error is None else "resolved",
            reason="torn" if error is None else "",
        )
        for index, (error, taken) in enumerate(zip(errors_px, accepted, strict=True))
    ]
    nulls = [answer(scan=f"n{i}", truth_px=None, family="", conditions=("only noise",),
                    cor_px=100.0 if i == 0 else None) for i in range(4)]  # fmt: skip
    summary = summarise(answers + nulls)
    figures = summary["accuracy"]["clean"]["ai"]
    assert [share.hits for share in figures.within] == [2, 4, 5]
    assert {share.n for share in figures.within} == {8}
    # sorted errors: 0.1 0.4 0.6 0.9 1.4 3 inf inf
    assert figures.median_px == pytest.approx(1.4)
    assert figures.p95_px == np.inf
    assert (figures.accepted.hits, figures.wrong.hits, figures.wrong.n) == (5, 1, 5)
    assert figures.accepted_in_grid == 5
    assert figures.seconds == 3.5
    assert summary["accuracy"]["all"]["ai"] == figures
    assert summary["nulls"]["only noise"]["ai"].accepted.hits == 1
    trust = summary["trust"]["ai"]
    # right: 4 with 0.9; wrong: 1 with 0.9, 3 with 0.1
    assert trust.auroc == pytest.approx((3 + 0.5) / 4)
    assert trust.risk[0] == pytest.approx(1 / 5)
    assert summary["failed"] == {"ai": ["torn", "torn"]}
    assert set(summarise(answers, by_family)["accuracy"]) == {"all", "rock"}
    assert json.loads(json.dumps(to_plain(summary)))["accuracy"]["all"]["ai"]["p95_px"] is None
    text = markdown(summary)
    assert "| all" in text
    assert "1 of 5" in text
    assert "ai failed on 2 scans; the first: torn" in text


def test_a_value_inside_a_grid_that_misses_the_answer_is_counted():
    astray = answer(truth_px=200.0, best_cor_px=120.0, cor_px=120.0)
    widened = answer(truth_px=200.0, best_cor_px=200.1, cor_px=200.1)
    figures = summarise([astray, widened])["accuracy"]["all"]["ai"]
    assert not astray.in_grid
    assert (figures.accepted.hits, figures.accepted_in_grid, figures.wrong.hits) == (2, 1, 1)


def test_suites_name_each_case_once():
    for name, make in SUITES.items():
        items = make("test", 3, 20, None)
        assert len({item.name for item in items}) == len(items), name
    nulls = SUITES["nulls"]("test", 0, 2 * len(NULLS), None)
    assert [item.condition for item in nulls] == [*NULLS, *NULLS]
    assert SUITES["mixed"]("validation", 3, 1, 128)[0].load().cor_px is not None


@pytest.fixture
def campaign(tmp_path):
    """Two scans that try_recon has looked at, a third that it has not; CORs of all set by hand."""
    (tmp_path / "raw").mkdir()
    rows = rows_of(scan(COR_PX, n_cols=160), THETA_180_DEG)
    for name in ("a_1", "a_2", "a_3"):
        (tmp_path / "raw" / f"{name}.h5").touch()
        folder = tmp_path / "results" / "try_center" / name
        folder.mkdir(parents=True)
        if name != "a_3":
            write_rows(rows, folder / "rows.h5")
            write_json({"cor_px": grid(160).tolist()}, folder / "try.json")
    config = "campaign: {scans: [raw/*.h5]}\npredict_cor: {methods: [classical]}\n"
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "scans.tsv").write_text(f"scan\tcor_px\na_1\t{COR_PX}\na_2\t70\na_3\t80\n")
    return tmp_path


def test_a_labelled_campaign(campaign):
    arguments = ["lab", "evaluate", str(campaign), "--method", "classical", "--jobs", "1"]
    done = RUNNER.invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)["accuracy"]["all"]["classical"]
    assert (figures["n"], figures["within"][0]["hits"]) == (2, 1)  # a_2 was set wrong
    assert figures["wrong"]["hits"] == 1
    done = RUNNER.invoke(cli, arguments)
    assert "a_3" in done.stdout
    assert "| all" in done.stdout
    write_json(rot_cen({str(campaign / "raw" / "a_2.h5"): COR_PX}), campaign / "rot_cen.json")
    done = RUNNER.invoke(cli, [*arguments, "--json", "--truth", str(campaign / "rot_cen.json")])
    figures = json.loads(done.stdout)["accuracy"]["all"]["classical"]
    assert (figures["n"], figures["within"][0]["hits"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "rain"], "--suite: expected one of mixed"),
        (["--split", "rain"], "--split: expected one of train"),
        (["--method", "rain"], "--method: expected one of"),
        (["--by", "rain"], "--by: expected one of condition"),
        (["--truth", "rot_cen.json"], "CAMPAIGN"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    done = RUNNER.invoke(cli, ["lab", "evaluate", *arguments])
    assert isinstance(done.exception, TomopipeError)
    assert message in str(done.exception)


def test_a_campaign_without_known_cors_is_refused(campaign):
    (campaign / "scans.tsv").write_text("scan\tcor_px\na_3\t80\n")
    done = RUNNER.invoke(cli, ["lab", "evaluate", str(campaign)])
    assert isinstance(done.exception, TomopipeError)
    assert "1 CORs, 1 of them of scans without rows.h5" in str(done.exception)


def test_a_simulated_suite_from_the_command_line(tmp_path):
    kept = tmp_path / "kept"
    arguments = ["lab", "evaluate", "--suite", "nulls", "--n", "2", "--cols", "96", "--jobs", "1"]
    arguments += ["--method", "classical", "--keep"]
    done = RUNNER.invoke(cli, [*arguments, str(kept)])
    assert done.exit_code == 0, done.output
    assert "0 of 2" in done.stdout
    assert len(read_answers(kept / ANSWERS)) == 2
