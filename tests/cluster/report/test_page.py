"""The page says what the files say: its figures are theirs, nothing is hidden, nothing is fetched."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import yaml
from typer.testing import CliRunner

from cluster.__main__ import app
from cluster.report.page import render, write_report
from cluster.report.read import read_run

from .by_hand import (
    EVERY,
    HOSTILE,
    LOST,
    NOT_FINITE,
    RESUMED,
    SPIKE,
    STEPS,
    event,
    row,
    settings,
    write_lines,
)

ROWS = {step: row(step) for step in range(EVERY, STEPS * EVERY + 1, EVERY)}


class Page(HTMLParser):
    """The page, parsed: texts by section, charts by title, attributes that could fetch something."""

    def __init__(self, text):
        super().__init__()
        self.charts, self.links, self.words, self.sections, self.scripts = [], [], [], [], 0
        self._tags = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in ("meta", "link", "img", "input"):
            self._tags.append((tag, attributes))
        if tag == "section":
            self.sections.append(attributes.get("id"))
        if tag == "script" and "type" not in attributes:
            self.scripts += 1
        self.links += [attributes[name] for name in ("src", "href", "data", "srcset") if name in attributes]

    def handle_endtag(self, tag):
        while self._tags and self._tags.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, attributes = self._tags[-1] if self._tags else ("", {})
        if tag == "script" and attributes.get("type") == "application/json":
            self.charts.append(json.loads(data))
        elif tag not in ("script", "style"):
            self.words.append(data)

    def curve(self, name):
        """{step: value} of the first curve of this name."""
        return next(
            dict(zip(series["x"], series["y"], strict=True))
            for chart in self.charts
            for series in chart["series"]
            if series["name"] == name
        )


@pytest.fixture(scope="module")
def page(full):
    return Page(write_report(full).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["reconstruction", "discriminator", "kl", "own_term", "temperature"])
def test_the_figures_of_a_curve_are_those_of_the_rows(page, name):
    curve = page.curve(name)
    assert 500 < len(curve) <= 1000
    assert {min(curve), max(curve)} == {EVERY, STEPS * EVERY}
    for step, value in curve.items():
        expected = ROWS[step][name]
        assert value == (None if expected is None else pytest.approx(expected, rel=1e-6)), step


def test_spikes_and_what_was_not_finite_survive(page):
    assert page.curve("discriminator")[SPIKE] > 40
    assert page.curve("kl")[NOT_FINITE] is None
    assert f"kl was not finite in 1 row, first at step {NOT_FINITE:,}." in page.text


def test_held_out_rates_workers_and_shares_are_there(page):
    held_out = page.curve("held out")
    assert held_out == {
        s: pytest.approx(ROWS[s]["held_out/reconstruction"], rel=1e-6) for s in range(500, 25_001, 500)
    }
    assert page.curve("translator")[EVERY] == 1e-4
    assert page.curve("worker 1")[EVERY] == 901
    stacks = [chart for chart in page.charts if chart["stacked"]]
    assert [[series["y"][-1] for series in stack["series"]] for stack in stacks] == [
        [50, 30, 20],
        [70, 29, 1],
    ]
    assert "night: component 2 hardly used." in page.text


def test_the_head_and_the_tables_say_how_it_went(page):
    assert "by-hand finished" in page.text
    assert "step 25,000 of 25,000" in page.text
    assert f"lost {LOST:,} 1 {HOSTILE}" in page.text
    assert f"resume {RESUMED:,} 2 from step 8950" in page.text
    assert "label kept 0.876 ± 0.012 - 60" in page.text
    assert "FID - 123.5 60 / 70" in page.text
    assert "components 3 default 2" in page.text


def test_every_section_is_there(page):
    assert page.sections == [
        "previews",
        "held-out",
        "losses",
        "components",
        "schedules",
        "throughput",
        "events",
        "evaluation",
        "configuration",
        "environment",
    ]


def test_texts_of_a_run_cannot_become_markup(page, full):
    assert page.scripts == 1
    assert "<script>alert(1)" not in (full / "report.html").read_text(encoding="utf-8")
    assert page.text.count(HOSTILE) == 3


def test_nothing_is_fetched_and_the_size_is_bounded(page, full):
    text = (full / "report.html").read_text(encoding="utf-8")
    rest = re.sub(r"base64,[^\"]*", "", text).replace(
        "http://www.w3.org/2000/svg", ""
    )  # a name, not an address
    assert not re.findall(r"https?://|url\(|@import", rest)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert len(text) < 5_000_000


def test_previews_are_evenly_chosen_with_both_ends(page):
    previews = page.text.partition("Held-out values")[0]
    steps = [int(word.replace(",", "")) for word in re.findall(r"after step ([\d,]+)", previews)]
    assert len(steps) == 12
    assert (steps[0], steps[-1]) == (1000, 25_000)
    gaps = [b - a for a, b in pairwise(steps)]
    assert max(gaps) - min(gaps) <= 1000


def test_a_run_of_an_older_version_makes_a_page(small):
    page = Page(write_report(small).read_text())
    assert page.sections == ["losses", "schedules", "throughput", "configuration"]
    assert page.curve("reconstruction").keys() == {10, 20, 30}


def test_an_export_names_the_domains_that_a_configuration_leaves_open(small):
    open_settings = settings("small", 30)
    del open_settings["data"]["domains"]
    (small / "config.yaml").write_text(yaml.safe_dump(open_settings))
    write_lines(small / "metrics.jsonl", [row(10)])
    assert "domain 1: component 2 hardly used." in Page(write_report(small).read_text()).text
    (small / "export").mkdir()
    (small / "export" / "config.yaml").write_text("domains: [dawn, dusk]\n")
    assert "dusk: component 2 hardly used." in Page(write_report(small).read_text()).text


def test_a_cut_line_costs_itself_only_and_is_told(small):
    with (small / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "recon')
    page = Page(write_report(small).read_text())
    assert page.curve("reconstruction").keys() == {10, 20, 30}
    assert "1 unreadable line left out of the figures." in page.text


def test_a_cut_preview_is_left_out(full, tmp_path):
    whole = (full / "previews" / "step-001000.png").read_bytes()
    (tmp_path / "previews").mkdir()
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "previews" / "step-000010.png").write_bytes(whole[:1000])
    (tmp_path / "previews" / "step-000020.png").write_bytes(whole)
    text = Page(write_report(tmp_path).read_text()).text
    assert "after step 20" in text
    assert "after step 10" not in text


def test_a_run_before_its_first_row_makes_a_page(small):
    (small / "metrics.jsonl").unlink()
    assert "No rows of metrics yet." in Page(write_report(small).read_text()).text


def test_a_configuration_of_another_version_is_shown_as_it_is(small):
    (small / "config.yaml").write_text(yaml.safe_dump({**settings(), "no_such_section": {"a": 1}}))
    assert "no_such_section:" in Page(write_report(small).read_text()).text


@pytest.mark.parametrize(
    ("kinds", "age", "state"),
    [
        (["start"], 60, "running"),
        (["start"], 3600, "silent"),
        (["start", "finish"], 3600, "finished"),
        (["start", "stop"], 60, "stopped"),
        (["start", "stop", "resume"], 60, "running"),
        (["start", "lost", "resume", "error"], 60, "failed"),
        (["start", "finish", "warning"], 60, "finished"),
    ],
)
def test_the_state_follows_from_the_events(small, kinds, age, state):
    write_lines(small / "events.jsonl", [event(kind, 30, f"why: {kind}") for kind in kinds])
    (small / "metrics.jsonl").write_text(json.dumps(row(30)) + "\n")
    run = read_run(small)
    assert run.state(run.last_sign + age) == state
    head = Page(render(run, run.last_sign + age)).text.partition("Losses")[0]
    assert (f"why: {kinds[-1]}" in head) == (state in ("failed", "stopped"))


def test_rows_trained_again_count_once(small):
    write_lines(small / "metrics.jsonl", [{**row(s), "kl": float(i)} for i, s in enumerate((10, 20, 30, 20))])
    assert Page(write_report(small).read_text()).curve("kl") == {10: 0, 20: 3, 30: 2}


def test_the_command_prints_the_path_or_one_line_of_error(small, tmp_path):
    run = CliRunner().invoke
    done = run(app, ["report", str(small)])
    assert (done.exit_code, done.stdout.strip()) == (0, str(small / "report.html"))
    done = run(app, ["report", str(small), "--out", str(tmp_path / "elsewhere.html")])
    assert (tmp_path / "elsewhere.html").read_text().startswith("<!doctype html>")
    refused = run(app, ["report", str(tmp_path)])
    assert refused.exit_code == 1
    assert refused.stderr == (
        f"error: {tmp_path}: not the folder of a run (neither config.yaml nor metrics.jsonl in it)\n"
    )
    refused = run(app, ["report", str(small), "--out", str(tmp_path / "none" / "page.html")])
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
