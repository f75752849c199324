"""The page says what the study says, whatever the state of the sweep; nothing is hidden, nothing is fetched."""

import math
import re
import tempfile
from pathlib import Path

import optuna
import pytest
from plotly.offline import get_plotlyjs

from cluster.errors import RunError
from cluster.run_folder import RunFolder
from tune.report.page import write_report

from ...cluster.report.test_page import Page
from ...s3.server import BUCKET
from .by_hand import EVERY, HOSTILE, KID, STEPS, VARIED, begin, drive, figures, folder_of, sweep_of

SECTIONS = ["history", "learning", "importances", "slices", "contours", "lines"]


def page_of(sweep, driven, confirm=None):
    """The page of a sweep, parsed; also where there is no best trial."""
    folder = folder_of(sweep)
    try:
        write_report(folder, sweep, driven.optuna, confirm)
    except RunError:
        assert not any(t.state == optuna.trial.TrialState.COMPLETE for t in driven.optuna.trials)
    return Page((folder.root / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(one):
    return Page(write_report(*one.arguments)[0].read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page_of_two(two):
    return Page(write_report(*two.arguments)[0].read_text(encoding="utf-8"))


def test_every_section_is_there(page, page_of_two):
    ends = ["trials", "failures", "next"]
    assert page.sections == ["best", "confirmation", "previews", *SECTIONS, *ends]
    assert page_of_two.sections == ["best", "previews", "front", *SECTIONS, *ends]


def test_the_head_says_how_it_went(page, page_of_two, one, two):
    counts = dict.fromkeys(optuna.trial.TrialState, 0)
    for trial in one.study.trials:
        counts[trial.state] += 1
    for words, state in (("complete", "COMPLETE"), ("ended early", "PRUNED"), ("failed", "FAIL")):
        assert f"{words} {counts[optuna.trial.TrialState[state]]} " in page.text
    assert "by-hand not at its end 38 of 40 trials" in page.text
    assert "by-hand finished 24 of 24 trials" in page_of_two.text
    assert "wall time 19 min" in page.text
    best, base = one.study.best_value, one.study.trials[0].value
    assert f"best kid {best:.4g}" in page.text
    assert f"kid of the base {base:.4g} best: {base - best:.3g} lower, which is better" in page.text


def test_the_confirmation_shows_means_spreads_and_verdicts(page, one):
    assert "the base 3 0.08644 ± 0.0032" in page.text
    assert (
        page.text.count("better by more than the seed spread") == 3
    )  # in words, and of two trials in the table
    assert "not shown to be better" not in page.text


def test_curves_hold_every_figure(page, one):
    curves = next(chart for chart in page.charts if any(d["name"] == "ended early" for d in chart["data"]))
    shown = {}
    for trace in curves["data"]:
        if "customdata" in trace:
            for number, step, value in zip(trace["customdata"], trace["x"], trace["y"], strict=True):
                if number is not None:
                    shown[number, step] = value
    expected = {(t.number, s): v for t in one.study.trials for s, v in t.intermediate_values.items()}
    assert shown.keys() == expected.keys()
    assert all(value == pytest.approx(expected[key], rel=1e-5) for key, value in shown.items())
    crosses = curves["data"][-1]
    assert len(crosses["x"]) == len(one.study.get_trials(states=(optuna.trial.TrialState.PRUNED,)))


def test_curves_of_several_objectives_come_from_the_rows(page_of_two, two):
    for metric in ("kid", "diversity"):
        curves = next(
            c
            for c in page_of_two.charts
            if c["layout"].get("yaxis", {}).get("title", {}).get("text") == metric
            and any(d["name"] == "failed" for d in c["data"])
        )
        base = next(d for d in curves["data"] if d["name"] == "the base")
        expected = [figures(two.study.trials[0].params, step)[metric] for step in base["x"][:-1]]
        assert base["x"][:-1] == list(range(EVERY, STEPS + 1, EVERY))
        assert base["y"][:-1] == pytest.approx(expected, rel=1e-5)


def test_the_front_is_marked(page_of_two, two):
    chart = page_of_two.charts[0]
    marked = {
        n
        for d in chart["data"]
        if d["name"] in ("Pareto front", "best sum of ranks")
        for n in d["customdata"]
    }
    assert marked == {t.number for t in two.study.best_trials}


def test_charts_use_short_names(page):
    words = str(page.charts)
    assert "learning_rate" in words
    assert "model.optimizer.learning_rate" not in words


def test_previews_are_of_the_base_and_the_best(page, one):
    text = page.text.partition("Previews The last")[2].partition("Best so far")[0]
    numbers = [int(n) for n in re.findall(r"trial (\d+),", text)]
    order = sorted(one.complete, key=lambda t: t.value)
    assert numbers == [0, *[t.number for t in order if t.number != 0][:3]]


def test_texts_cannot_become_markup(page, one):
    assert page.scripts == 2
    assert page.text.count(HOSTILE) >= 2
    assert "<script>alert(1)" not in (one.folder.root / "report.html").read_text(encoding="utf-8")


def test_nothing_is_fetched_and_the_size_is_bounded(page, two, one):
    for made in (one, two):
        text = (made.folder.root / "report.html").read_text(encoding="utf-8")
        assert len(text.encode()) < 6_000_000
        assert "default-src 'none'" in text
        assert text.count(get_plotlyjs()[:2000]) == 1
        rest = re.sub(r"base64,[^\"]*", "", text.replace(get_plotlyjs(), ""))
        assert not re.findall(r"https?://|url\(|@import", rest)
    assert all(link.startswith(("data:", "#")) for link in page.links)


@pytest.mark.parametrize(
    "objectives", [(KID,), (KID, VARIED), (KID, VARIED, {"metric": "cycle", "goal": "min"})]
)
@pytest.mark.parametrize("trials", [0, 1, 2, 3])
def test_a_young_sweep_has_a_page(tmp_path, objectives, trials):
    """Charts that need more trials say so."""
    sweep = sweep_of(tmp_path, *objectives)
    driven = begin(sweep)
    drive(driven, folder_of(sweep), trials, figures=lambda v, s: figures(v, s) | {"cycle": 0.5})
    page = page_of(sweep, driven)
    assert f"{trials} of 24 trials" in page.text
    said = page.text.partition("What matters")[2]
    assert ("fANOVA needs 10 complete trials" in said) == (trials > 0)
    assert ("kid: needs 4 complete trials" in said) == (trials > 0)
    assert ("kid: no trial has completed." in said) == (trials == 0)
    assert ("kid: needs 2 complete trials." in said) == (trials == 1)
    assert ("waiting 1" in page.text) == (trials == 0)


def test_a_sweep_of_failures_tells_why(tmp_path):
    sweep = sweep_of(tmp_path, trials=4)
    driven = begin(sweep)
    drive(driven, folder_of(sweep), 4, failing=range(4))
    page = page_of(sweep, driven)
    assert "No trial has completed; see Failures." in page.text
    assert "The base's own settings did not come to their end" in page.text
    assert "4 of 4 trials failed; see Failures." in page.text
    assert f"trials why 0, 2 loss is NaN 1, 3 {HOSTILE}" in page.text
    assert "fresh seeds" not in page.text.partition("How to go on")[2]


def test_a_running_trial_shows_its_last_figures(tmp_path):
    sweep = sweep_of(tmp_path)
    folder, driven = folder_of(sweep), begin(sweep)
    drive(driven, folder, 3)
    number = driven.next().number
    driven.report(number, EVERY, {"kid": 0.0625})
    page = page_of(sweep, driven)
    assert f"{number} running 0.0625" in page.text
    assert "by-hand not at its end" in page.text
    root = folder.root / "trials" / f"by-hand-{number:04}"
    root.mkdir(parents=True)
    (root / "metrics.jsonl").write_text('{"step": 100, "held_out/kid": 0.0625}\n')
    assert "by-hand running 3 of 24" in page_of(sweep, driven).text


def test_values_that_are_not_finite_are_left_out(tmp_path):
    sweep = sweep_of(tmp_path)
    folder, driven = folder_of(sweep), begin(sweep)
    drive(
        driven, folder, 12, figures=lambda v, s: {"kid": math.nan if s < 3 * EVERY else figures(v, s)["kid"]}
    )
    number = driven.next().number
    driven.report(number, EVERY, {"kid": math.inf})
    driven.optuna.tell(number, math.inf)
    page = page_of(sweep, driven)
    assert "NaN" not in "".join(map(str, page.charts))
    assert (
        "Infinity"
        not in (folder.root / "report.html").read_text().partition("<main>")[2].partition("plotly.js")[0]
    )


def test_equal_values_have_a_page(tmp_path):
    sweep = sweep_of(tmp_path, KID, VARIED)
    driven = begin(sweep)
    drive(driven, folder_of(sweep), 12, figures=lambda v, s: {"kid": 0.5, "diversity": 0.0})
    page = page_of(sweep, driven)
    assert "Nothing beat the base's own settings." in page.text
    assert "Their values must differ." in page.text


def test_a_trial_without_a_folder_has_no_picture(one, tmp_path):
    sweep = sweep_of(tmp_path)
    driven = begin(sweep)
    for value in (0.2, 0.1):
        number = driven.next().number
        driven.report(number, STEPS, {"kid": value})
        driven.complete(number, 1.0)
    assert "previews" not in page_of(sweep, driven).sections


def test_a_sweep_in_a_bucket_is_read_and_written_there(s3, tmp_path, monkeypatch):
    """On a machine that has none of its files: rows, pictures and the base come from the bucket."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    here = sweep_of(tmp_path / "made", KID, VARIED)
    driven = begin(here)
    drive(driven, folder_of(here), 4)
    settings = here.sweep.model_copy(
        update={"storage": f"s3://{BUCKET}/sweeps", "study": "sqlite:///unused.db"}
    )
    sweep = here.model_copy(update={"sweep": settings})
    folder = RunFolder(sweep.sweep.storage, sweep.sweep.name)
    for path in Path(here.folder).rglob("*"):
        if path.is_file():
            folder.store.put(path.relative_to(here.folder).as_posix(), path)
    page, _, best = write_report(folder, sweep, driven.optuna)
    text = Page(page.read_text(encoding="utf-8"))
    assert "previews" in text.sections
    assert any(d["name"] == "the base" and d["x"][0] == EVERY for c in text.charts for d in c["data"])
    assert f"python -m tune report {folder.uri} --confirm" in text.text
    assert folder.store.read("report.html") == page.read_bytes()
    assert folder.store.read("best.yaml") == best.read_bytes()
    assert not list(folder.root.rglob("step-000100.png")), "only the last pictures are fetched"
